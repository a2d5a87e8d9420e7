//! Node: a character device made in a directory that others may write. I/O.
//!
//! It is made with its mode at once, and its owner changes by a handle of what was seen to be the node: what has its name
//! by then may be a link to any file.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};

use crate::dir::Dir;
use crate::umask;

/// A character device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Bits that a node has a use for: nobody runs it, and it has no id to set.
const USEFUL: u32 = 0o666;

impl Node {
    /// Whether a name stands for the same device.
    pub fn is(&self, found: &Stat) -> bool {
        let numbers = (rustix::fs::major(found.st_rdev), rustix::fs::minor(found.st_rdev));
        FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && numbers == (self.major, self.minor)
    }
}

/// Makes a node, in the place of what has its name.
///
/// # Errors
/// A directory has the name; nobody may; another thing took the name at that moment.
pub fn make(dir: &Dir, name: &OsStr, node: &Node) -> io::Result<()> {
    dir.remove(name)?;
    let device = rustix::fs::makedev(node.major, node.minor);
    let mode = Mode::from_raw_mode(node.mode & USEFUL);
    umask::without(|| rustix::fs::mknodat(dir, name, FileType::CharacterDevice, mode, device))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&made)?;
    if !node.is(&stat) || stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_nlink != 1 {
        return Err(io::Error::other("something else took its place"));
    }
    if (stat.st_uid, stat.st_gid) == (node.uid, node.gid) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    Ok(rustix::fs::chownat(&made, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
}

/// Makes a link, in the place of what has its name.
///
/// # Errors
/// As [`make`].
pub fn link(dir: &Dir, name: &OsStr, target: &Path) -> io::Result<()> {
    dir.remove(name)?;
    Ok(rustix::fs::symlinkat(target, dir, name)?)
}

/// Where the link of a name leads; `None` if it is no link.
pub fn target_of(dir: &Dir, name: &OsStr) -> Option<Vec<u8>> {
    rustix::fs::readlinkat(dir, name, Vec::new()).ok().map(std::ffi::CString::into_bytes)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "lays out files, and looks at them")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::dir::Missing;

    const ZERO: Node = Node { major: 1, minor: 5, mode: 0o6777, uid: 7, gid: 44 };

    #[test]
    fn a_node_has_its_mode_and_owner_and_no_bit_that_it_has_no_use_for() {
        let dir = tempfile::tempdir().unwrap();
        let handle = Dir::open(dir.path(), Missing::Error).unwrap();
        if make(&handle, "zero".as_ref(), &ZERO).is_err() {
            return println!("skipped: nobody lets us make nodes");
        }
        let metadata = fs::symlink_metadata(dir.path().join("zero")).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o666, 7, 44));
        assert!(ZERO.is(&handle.stat("zero".as_ref()).unwrap().unwrap()));
        link(&handle, "zero".as_ref(), Path::new("../x")).unwrap();
        assert_eq!(target_of(&handle, "zero".as_ref()).as_deref(), Some(&b"../x"[..]));
        fs::create_dir(dir.path().join("dir")).unwrap();
        make(&handle, "dir".as_ref(), &ZERO).unwrap_err();
    }

    /// The owner of the directory puts links to root's file in the node's place, as fast as they can.
    #[test]
    fn whoever_races_the_making_of_a_node_changes_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let (theirs, victim) = (dir.path().join("theirs"), dir.path().join("victim"));
        fs::create_dir(&theirs).unwrap();
        fs::write(&victim, "").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        let handle = Dir::open(&theirs, Missing::Error).unwrap();
        if chown(&theirs, Some(1000), Some(1000)).is_err() || make(&handle, "node".as_ref(), &ZERO).is_err() {
            return println!("skipped: nobody lets us make nodes");
        }
        let done = AtomicBool::new(false);
        let mut made = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (own, node) = (theirs.join("own"), theirs.join("node"));
                while !done.load(Ordering::Relaxed) {
                    let _ = symlink(&victim, &own);
                    let _ = fs::rename(&own, &node);
                    let _ = fs::remove_file(&node);
                }
            });
            made = (0..10_000).filter(|_| make(&handle, "node".as_ref(), &ZERO).is_ok()).count();
            done.store(true, Ordering::Relaxed);
        });
        let metadata = fs::metadata(&victim).unwrap();
        let found = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
        assert_eq!(found, (0o600, 0, 0), "{made} of 10000 made");
    }
}
