//! Device nodes of the host: what an edit leaves open is read from the node itself. I/O.

use std::collections::BTreeMap;

use rustix::fs::{AtFlags, CWD, FileType, Mode, RawMode};

/// Type, numbers and permissions of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostNode {
    /// `b`, `c` or `p`.
    pub kind: char,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
}

/// The node at a path; `None` if there is none, or something else. Links are not followed (as the reference does).
pub fn read(path: &str) -> Option<HostNode> {
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

/// Nodes from lines `char PATH MAJOR MINOR MODE [UID GID]`, for a host that this machine is not. Other lines are
/// passed over.
pub fn parse_list(text: &str) -> BTreeMap<String, HostNode> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<(String, HostNode)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let ["char", path, major, minor, mode, ..] = *fields.as_slice() else { return None };
    let mode = u32::from_str_radix(mode, 8).ok()?;
    Some((path.to_owned(), HostNode { kind: 'c', major: major.parse().ok()?, minor: minor.parse().ok()?, mode }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_a_file_and_nothing() {
        assert_eq!(read("/dev/null"), Some(HostNode { kind: 'c', major: 1, minor: 3, mode: 0o666 }));
        assert_eq!(read("/proc/self/status"), None);
        assert_eq!(read("/nothing"), None);
    }
}
