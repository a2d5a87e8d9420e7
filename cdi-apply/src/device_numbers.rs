//! Device numbers: what this host knows about the nodes that edits name. I/O.
#![expect(clippy::disallowed_methods, reason = "reads /proc/devices")]

use std::collections::BTreeSet;

use cdi_specs::ContainerEdits;
use rustix::fs::{AtFlags, CWD, FileType, Mode, RawMode};

use crate::nodes::{HostNode, HostNodes, parse_drivers};
use cdi_files::limited;

/// More than any kernel has to say in `/proc/devices`.
const MAX_DRIVERS_BYTES: usize = 1 << 20;

/// The nodes that the edits name, and the drivers' major numbers.
pub fn read(edits: &[&ContainerEdits]) -> HostNodes {
    let edits = edits.iter().flat_map(|edits| &edits.device_nodes);
    let paths: BTreeSet<&String> = edits.map(|edit| edit.host_path.as_ref().unwrap_or(&edit.path)).collect();
    if paths.is_empty() {
        return HostNodes::default();
    }
    let nodes = paths.into_iter().filter_map(|path| Some((path.clone(), read_node(path)?)));
    // A host that hides it tells nothing.
    let drivers = std::fs::File::open("/proc/devices")
        .and_then(|file| limited::read(file, MAX_DRIVERS_BYTES))
        .unwrap_or_default();
    let drivers = String::from_utf8_lossy(&drivers);
    HostNodes { nodes: nodes.collect(), drivers: parse_drivers(&drivers) }
}

/// The node at a path; `None` if there is none, or something else. Links are not followed (as the reference does).
pub fn read_node(path: &str) -> Option<HostNode> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => 'b',
        FileType::CharacterDevice => 'c',
        FileType::Fifo => 'p',
        _ => return None,
    };
    Some(HostNode {
        kind,
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
        mode: Mode::from_raw_mode(stat.st_mode as RawMode).bits() & 0o7777,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_a_file_and_nothing() {
        assert_eq!(read_node("/dev/null"), Some(HostNode { kind: 'c', major: 1, minor: 3, mode: 0o666 }));
        assert_eq!(read_node("/proc/self/status"), None);
        assert_eq!(read_node("/proc/self/exe"), None, "a link is no node");
        assert_eq!(read_node("/nothing"), None);
    }
}
