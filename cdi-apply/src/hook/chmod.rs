//! Chmod: permission bits of a path in the container. I/O.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, RawMode};

use super::root::{Root, path_of};

/// Permission bits without those that give a program another user's rights.
const PERMISSIONS: RawMode = 0o7777 & !0o6000;

/// Sets the bits of what a path leads to; a path that leads nowhere is passed over.
///
/// # Errors
/// They cannot be changed.
pub fn change(root: &Root, path: &str, mode: u32) -> io::Result<()> {
    let found = match root.find(Path::new(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let held = rustix::fs::fstat(&found)?.st_mode & 0o7777;
    let wanted = mode & PERMISSIONS;
    if held == wanted {
        return Ok(());
    }
    // fchmod(2) takes no handle that is a path only.
    Ok(rustix::fs::chmodat(CWD, path_of(&found), Mode::from_raw_mode(wanted), rustix::fs::AtFlags::empty())?)
}
