//! Trust: whether others than root may change what root relies on. I/O.
#![expect(clippy::disallowed_methods, reason = "looks at owners and modes")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fd::BorrowedFd;

/// Bits of a mode.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Whose files may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that nobody but root can change.
    RootOnly,
    /// All: the reader gains nothing that the writer has not.
    Everybody,
}

impl Trust {
    /// Root relies on root; a user, and root of a user namespace, act with their own rights only.
    pub fn of_this_process() -> Self {
        if rustix::process::geteuid().is_root() { Self::RootOnly } else { Self::Everybody }
    }
}

/// Who may change an open file or directory, or, where `path` is given, put another in its place there; `None` if it
/// may be relied on.
pub fn why_untrusted(trust: Trust, opened: BorrowedFd<'_>, path: Option<&Path>) -> Option<String> {
    if trust == Trust::Everybody {
        return None;
    }
    let stat = rustix::fs::fstat(opened).ok()?;
    let own = why_writable(stat.st_mode, stat.st_uid, stat.st_gid, false);
    let why = own.map(|why| format!("{why} can change it")).or_else(|| why_replaceable(path?))?;
    // Asked for last: hardly ever is there a reason to.
    (!is_user_namespace()).then_some(why)
}

/// Who may write a file of the host, or put another in its place; `None` if only root may. For a path that cannot be
/// looked at, `None` as well.
pub fn who_may_change(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    let own = why_writable(metadata.mode(), metadata.uid(), metadata.gid(), false);
    own.map(|why| format!("{why} can change it")).or_else(|| why_replaceable(path))
}

/// Whoever may write a directory above the file may put another in its place.
fn why_replaceable(path: &Path) -> Option<String> {
    let real = fs::canonicalize(path).ok()?;
    real.ancestors().skip(1).find_map(|dir| {
        let metadata = fs::metadata(dir).ok()?;
        let why = why_writable(metadata.mode(), metadata.uid(), metadata.gid(), true)?;
        Some(format!("{why} can change {}", dir.display()))
    })
}

/// Who else may write; in a sticky directory the entries of others are safe.
fn why_writable(mode: u32, uid: u32, gid: u32, is_parent: bool) -> Option<String> {
    let guarded = is_parent && mode & STICKY != 0;
    if uid != 0 {
        Some(format!("user {uid}"))
    } else if mode & OTHERS_WRITE != 0 && !guarded {
        Some("everybody".to_owned())
    } else if mode & GROUP_WRITES != 0 && gid != 0 && !guarded {
        Some(format!("group {gid}"))
    } else {
        None
    }
}

/// Whether root is only the root of a user namespace: what belongs to the real one then belongs to somebody unknown.
fn is_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let everybody = ["0", "0", "4294967295"];
    !map.is_empty() && !map.split_ascii_whitespace().eq(everybody)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_write() {
        let cases = [
            (0o644, 0, 0, false, None),
            (0o664, 0, 0, false, None),
            (0o664, 0, 5, false, Some("group 5")),
            (0o666, 0, 0, false, Some("everybody")),
            (0o644, 1000, 0, false, Some("user 1000")),
            (0o1777, 0, 0, true, None),
            (0o1777, 0, 0, false, Some("everybody")),
            (0o1775, 0, 5, true, None),
            (0o777, 0, 0, true, Some("everybody")),
        ];
        for (mode, uid, gid, is_parent, expected) in cases {
            assert_eq!(why_writable(mode, uid, gid, is_parent).as_deref(), expected, "{mode:o} {uid} {gid}");
        }
    }

    #[test]
    fn the_system_is_roots() {
        assert_eq!(who_may_change(Path::new("/etc/passwd")), None);
        assert_eq!(who_may_change(Path::new("/nothing")), None);
    }
}
