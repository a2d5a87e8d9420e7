//! Lock: a file that is held by one process at a time. I/O.
//!
//! Who can open a file can lock it (flock(2)), so nobody but its owner may open it. It is made in a directory that others
//! may write at times: a link would have it made elsewhere, and a FIFO would block.

use std::ffi::OsStr;
use std::fs::File;
use std::io;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Bits of a mode by which others can open a file.
const OTHERS: u32 = 0o077;

/// Opens a lock, which is made if missing.
///
/// # Errors
/// What has the name is no lock of this user's: a link, a FIFO, a file of others or for others.
pub fn open(dir: impl AsFd, name: &OsStr) -> io::Result<File> {
    // To open a device or a FIFO may set something going: what is there is looked at first, and once more when it is open.
    match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {}
        stat => judge(&stat?)?,
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    judge(&rustix::fs::fstat(&opened)?)?;
    Ok(opened.into())
}

/// A file with another name is somebody else's file under this one.
fn judge(stat: &Stat) -> io::Result<()> {
    let why = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_uid != rustix::process::geteuid().as_raw() => {
            format!("it belongs to user {}", stat.st_uid)
        }
        FileType::RegularFile if stat.st_mode & OTHERS != 0 => "others can open it, and so hold the lock".to_owned(),
        FileType::RegularFile if stat.st_nlink > 1 => "it has another name too".to_owned(),
        FileType::RegularFile => return Ok(()),
        FileType::Symlink => "it is a symbolic link".to_owned(),
        _ => "it is no regular file".to_owned(),
    };
    Err(io::Error::other(format!("{why} (remove it)")))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "lays out files, and looks at them")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use rustix::fs::{CWD, FlockOperation};

    use super::*;
    use crate::dir::{Dir, Missing};

    #[test]
    fn a_lock_is_made_for_its_owner_and_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let handle = Dir::open(dir.path(), Missing::Error).unwrap();
        let (one, other) = (open(&handle, ".lock".as_ref()).unwrap(), open(&handle, ".lock".as_ref()).unwrap());
        assert_eq!(fs::metadata(dir.path().join(".lock")).unwrap().mode() & 0o7777, 0o600);
        rustix::fs::flock(&one, FlockOperation::NonBlockingLockExclusive).unwrap();
        rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap_err();
        drop(one);
        rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    }

    #[test]
    fn what_is_no_lock_of_ours_is_told_at_once_and_left() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let handle = Dir::open(dir.path(), Missing::Error).unwrap();
        symlink("elsewhere", at("link")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        fs::create_dir(at("dir")).unwrap();
        for name in ["wide", "named", "theirs"] {
            fs::write(at(name), "kept").unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::set_permissions(at("wide"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::hard_link(at("named"), at("other-name")).unwrap();
        let told = |name: &str| open(&handle, name.as_ref()).unwrap_err().to_string();
        assert_eq!(told("link"), "it is a symbolic link (remove it)");
        assert_eq!(told("fifo"), "it is no regular file (remove it)");
        assert_eq!(told("dir"), "it is no regular file (remove it)");
        assert_eq!(told("wide"), "others can open it, and so hold the lock (remove it)");
        assert_eq!(told("named"), "it has another name too (remove it)");
        if rustix::process::geteuid().is_root() {
            chown(at("theirs"), Some(1000), None).unwrap();
            assert_eq!(told("theirs"), "it belongs to user 1000 (remove it)");
        }
        assert!(!at("elsewhere").exists());
        assert_eq!(fs::metadata(at("wide")).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(fs::read(at("theirs")).unwrap(), b"kept");
    }
}
