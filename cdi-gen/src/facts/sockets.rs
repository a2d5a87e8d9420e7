//! IPC endpoints of the driver's daemons: persistence daemon, fabric manager, MPS.

use camino::Utf8Path;
use serde::Serialize;

use super::left_out::LeftOut;
use crate::capability::Capabilities;
use crate::host::Host;
use crate::tree::{Located, Tree};

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

/// Users that distributions run the persistence daemon as, beside root; its directory is theirs.
const DAEMONS: [&str; 2] = ["nvidia", "nvidia-persistenced"];

/// Which containers want what lies at a path, if that is an endpoint.
pub fn capability_of(path: &Utf8Path) -> Option<Capabilities> {
    endpoint(path).map(|endpoint| endpoint.capability)
}

/// Why what lies at a host path is not, or no longer, the endpoint that containers know by `path`: another kind of file,
/// a link, another's. `None` if `path` is no endpoint's, or all is well.
///
/// An endpoint is the one part of the driver that containers may write to, and it lies where daemons make and remove it:
/// a link in its place would have a container engine mount what it leads to.
pub fn why_wrong(tree: &Tree, path: &Utf8Path, host_path: &Utf8Path) -> Option<String> {
    let endpoint = endpoint(path)?;
    let who = if endpoint.directory {
        tree.who_may_change(host_path)
    } else {
        tree.who_may_change_of_daemon(host_path, &DAEMONS)
    };
    who.or_else(|| {
        let kind = if endpoint.directory { "directory of the system's" } else { "socket" };
        (!tree.is_real(host_path, endpoint.directory)).then(|| format!("it is no {kind}"))
    })
}

fn endpoint(path: &Utf8Path) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| endpoint.path == path)
}

/// Looks for the endpoints in the driver's tree, then in the system's; `/run` first, then a `/var/run` of its own.
pub fn read(host: &Host, left_out: &mut LeftOut) -> Vec<SocketFact> {
    ENDPOINTS.iter().filter_map(|endpoint| read_one(host, endpoint, left_out)).collect()
}

fn read_one(host: &Host, endpoint: &Endpoint, left_out: &mut LeftOut) -> Option<SocketFact> {
    let path = Utf8Path::new(endpoint.path);
    let trees: &[&Tree] = if endpoint.directory { &[&host.system] } else { &[&host.driver, &host.system] };
    let var_run = Utf8Path::new("/var").join(path.strip_prefix("/").unwrap_or(path));
    let paths: &[&Utf8Path] = if endpoint.directory { &[path] } else { &[path, &var_run] };
    let mut places = paths.iter().flat_map(|path| trees.iter().filter_map(|tree| tree.locate_name(path)));
    let located = places.find(|located| match why_wrong(&host.system, path, &located.host_path) {
        None => true,
        Some(why) => {
            left_out.add(&located.host_path, why);
            false
        }
    })?;
    Some(SocketFact { located: Located { path: path.to_owned(), ..located }, capability: endpoint.capability })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_by_path() {
        assert!(ENDPOINTS.is_sorted_by_key(|endpoint| endpoint.path));
    }
}
