//! Trust: whether others than root may change what root relies on. I/O.
#![expect(clippy::disallowed_methods, reason = "looks at owners and modes")]

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fd::BorrowedFd;

use crate::path_names::{MAX_LINKS, names};

/// Bits of a mode.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
/// What an id without a mapping shows as (`/proc/sys/kernel/overflowuid`).
const OVERFLOW_ID: u32 = 65534;
/// The extended attribute of an access control list.
const ACL: &str = "system.posix_acl_access";

/// Whose files may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that nobody but root can change.
    RootOnly,
    /// All: the reader gains nothing that the writer has not.
    Everybody,
}

impl Trust {
    /// Root relies on root, that of a user namespace on the host's too; a user acts with their own rights only.
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
    let own = match rustix::fs::fstat(opened) {
        Ok(stat) => {
            let has_acl = || rustix::fs::fgetxattr(opened, ACL, &mut [0; 0]).is_ok();
            who_writes(stat.st_mode, stat.st_uid, stat.st_gid, false, has_acl)
        }
        Err(error) => Some(unknown(error)),
    };
    own.map(|who| format!("{who} can change it")).or_else(|| why_replaceable(path?))
}

/// Who may write a file of the host, or put another in its place; `None` if only root may.
pub fn who_may_change(path: &Path) -> Option<String> {
    let own = match fs::metadata(path) {
        Ok(metadata) => who_writes_path(path, &metadata, false),
        Err(error) => Some(unknown(error)),
    };
    own.map(|who| format!("{who} can change it")).or_else(|| why_replaceable(path))
}

/// Whoever may write a directory on the way, or a link, may make the path lead to another file.
fn why_replaceable(path: &Path) -> Option<String> {
    on_the_way(path).unwrap_or_else(|error| Some(format!("{} can change {}", unknown(error), path.display())))
}

/// Goes the way that the kernel goes, link by link.
fn on_the_way(path: &Path) -> io::Result<Option<String>> {
    let absolute = std::path::absolute(path)?;
    let mut ahead: Vec<OsString> = names(&absolute);
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    loop {
        let metadata = fs::symlink_metadata(&at)?;
        if metadata.is_symlink() {
            links += 1;
            if !is_root(metadata.uid()) {
                return Ok(Some(format!("user {} can change {}", metadata.uid(), at.display())));
            }
            let target = fs::read_link(&at)?;
            at = if target.is_absolute() { "/".into() } else { at.parent().unwrap_or(Path::new("/")).to_owned() };
            ahead.extend(names(&target));
        } else if let Some(who) = who_writes_path(&at, &metadata, true).filter(|_| metadata.is_dir()) {
            return Ok(Some(format!("{who} can change {}", at.display())));
        }
        match ahead.pop() {
            None => return Ok(None),
            Some(_) if links > MAX_LINKS => return Err(rustix::io::Errno::LOOP.into()),
            Some(name) if name == ".." => _ = at.pop(),
            Some(name) => at.push(name),
        }
    }
}

fn who_writes_path(path: &Path, metadata: &Metadata, is_parent: bool) -> Option<String> {
    let has_acl = || rustix::fs::getxattr(path, ACL, &mut [0; 0]).is_ok();
    who_writes(metadata.mode(), metadata.uid(), metadata.gid(), is_parent, has_acl)
}

/// Who else may write; in a sticky directory the entries of others are safe.
fn who_writes(mode: u32, uid: u32, gid: u32, is_parent: bool, has_acl: impl Fn() -> bool) -> Option<String> {
    let guarded = is_parent && mode & STICKY != 0;
    if !is_root(uid) {
        Some(format!("user {uid}"))
    } else if mode & OTHERS_WRITE != 0 && !guarded {
        Some("everybody".to_owned())
    } else if mode & GROUP_WRITES != 0 && !guarded {
        // With an access control list these bits are the most that anybody in it has (acl(5)).
        if gid != 0 {
            Some(format!("group {gid}"))
        } else {
            has_acl().then(|| "whom its access control list names".into())
        }
    } else {
        None
    }
}

/// Whether an id is root's: of this user namespace, or, in one, of the host, whose ids have no number here
/// (user_namespaces(7), "Unmapped user and group IDs"). Asked for last: hardly ever is there a reason to.
fn is_root(id: u32) -> bool {
    id == 0 || (id == OVERFLOW_ID && is_user_namespace())
}

fn unknown(error: impl Display) -> String {
    format!("nobody knows who ({error})")
}

/// Whether root is only the root of a user namespace.
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
            let who = who_writes(mode, uid, gid, is_parent, || false);
            assert_eq!(who.as_deref(), expected, "{mode:o} {uid} {gid}");
        }
        assert_eq!(who_writes(0o644, 0, 0, false, || true), None);
        assert!(who_writes(0o664, 0, 0, false, || true).is_some());
    }

    #[test]
    fn the_system_is_roots() {
        assert_eq!(who_may_change(Path::new("/etc/passwd")), None);
        assert_eq!(who_may_change(Path::new("/proc/self/../1/../self")).filter(|who| who.contains("everybody")), None);
        assert!(who_may_change(Path::new("/nothing")).is_some_and(|who| who.starts_with("nobody knows")));
    }
}
