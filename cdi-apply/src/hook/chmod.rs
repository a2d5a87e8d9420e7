//! Chmod: permission bits of a device node in the container, or of a directory of some. I/O.

use std::io;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, RawMode};

use super::file_systems;
use super::mount_file::is_whole;
use super::paths::{DEV, HookPath};
use super::root::{Root, Seen, path_of};

/// Permission bits without those that give a program another user's rights.
const PERMISSIONS: RawMode = 0o7777 & !0o6000;

/// Sets the bits of what is at a path; a path that leads nowhere is passed over.
///
/// # Errors
/// They cannot be changed; or it is not the container's own.
pub fn change(root: &Root, path: &str, mode: u32) -> io::Result<()> {
    let Some(found) = root.find_if_there(&HookPath::mode_of(path))? else { return Ok(()) };
    let seen = root.look(&found)?;
    let wanted = mode & PERMISSIONS;
    if seen.mode & 0o7777 == wanted {
        return Ok(());
    }
    if seen.mount != root.own_mount()? && !is_on_own_dev(root, &seen)? {
        return Err(io::Error::new(io::ErrorKind::CrossesDevices, "it is not the container's own"));
    }
    // fchmod(2) takes no handle that is a path only.
    Ok(rustix::fs::chmodat(CWD, path_of(&found), Mode::from_raw_mode(wanted), AtFlags::empty())?)
}

/// Whether it is a device node, or a directory, of the file system that was mounted at `/dev` for this container alone. A
/// node of the host that is mounted there, and the host's own `/dev`, would be changed for everybody.
fn is_on_own_dev(root: &Root, seen: &Seen) -> io::Result<bool> {
    let dev = root.find(&DEV.path())?;
    let is_device = matches!(seen.kind(), FileType::CharacterDevice | FileType::Directory);
    // A directory of the host that is bound there is in memory, too, on many hosts.
    Ok(is_device && root.look(&dev)?.mount == seen.mount && is_tmpfs(&dev)? && !is_hosts(seen) && is_whole(&dev)?)
}

fn is_tmpfs(dev: &OwnedFd) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(dev)?.f_type == file_systems::TMPFS)
}

/// Whether it is on the file system at the host's own `/dev`; if nobody knows, it is taken to be.
fn is_hosts(seen: &Seen) -> bool {
    rustix::fs::statat(CWD, "/dev", AtFlags::empty()).map_or(true, |hosts| hosts.st_dev == seen.file.0)
}
