//! IPC endpoints of the driver's daemons: persistence daemon, fabric manager, MPS.

use camino::Utf8Path;
use serde::Serialize;

use crate::capability::Capabilities;
use crate::host::Host;
use crate::tree::{Kind, Located};

/// An endpoint that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SocketFact {
    /// Where the daemon made it.
    #[serde(flatten)]
    pub located: Located,
    /// Which containers want it.
    pub capability: Capabilities,
}

/// What a daemon makes below `/run`, or elsewhere by its full path.
struct Endpoint {
    path: &'static str,
    directory: bool,
    capability: Capabilities,
}

/// Known endpoints, sorted by path. MPS takes a directory (CUDA MPS documentation, `CUDA_MPS_PIPE_DIRECTORY`).
const ENDPOINTS: [Endpoint; 4] = [
    Endpoint {
        path: "/run/nvidia-fabricmanager/fm_sm_ipc.socket",
        directory: false,
        capability: Capabilities::UTILITY,
    },
    Endpoint { path: "/run/nvidia-fabricmanager/socket", directory: false, capability: Capabilities::UTILITY },
    Endpoint { path: "/run/nvidia-persistenced/socket", directory: false, capability: Capabilities::UTILITY },
    Endpoint { path: "/tmp/nvidia-mps", directory: true, capability: Capabilities::COMPUTE },
];

/// Which containers want what lies at a path, if that is an endpoint.
pub fn capability_of(path: &Utf8Path) -> Option<Capabilities> {
    ENDPOINTS.iter().find(|endpoint| endpoint.path == path).map(|endpoint| endpoint.capability)
}

/// Looks for the endpoints in the driver's tree, then in the system's; `/run` first, then a `/var/run` of its own.
pub fn read(host: &Host) -> Vec<SocketFact> {
    ENDPOINTS.iter().filter_map(|endpoint| read_one(host, endpoint)).collect()
}

fn read_one(host: &Host, endpoint: &Endpoint) -> Option<SocketFact> {
    let path = Utf8Path::new(endpoint.path);
    if endpoint.directory {
        // Everybody may make a link or a directory in /tmp; only the system's own is mounted.
        let located = host.system.located(path);
        return host
            .system
            .is_systems_directory(path)
            .then_some(SocketFact { located, capability: endpoint.capability });
    }
    let wanted = |kind| kind == Kind::Socket;
    let located = host.find(path, wanted).or_else(|| {
        let var_run = Utf8Path::new("/var").join(path.strip_prefix("/").ok()?);
        Some(Located { path: path.to_owned(), ..host.find(&var_run, wanted)? })
    })?;
    Some(SocketFact { located, capability: endpoint.capability })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_by_path() {
        assert!(ENDPOINTS.is_sorted_by_key(|endpoint| endpoint.path));
    }
}
