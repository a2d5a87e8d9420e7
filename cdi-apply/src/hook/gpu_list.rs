//! GPU list: `/proc/driver/nvidia/gpus` shows the container's own GPUs only. I/O.
//!
//! The kernel shows every container all GPUs of its host: models, UUIDs, PCI addresses. A GPU is the container's if the
//! container has its node; the list itself says which minor number each GPU has. Over the list an empty directory is
//! mounted, and into that the container's own part of it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC};
use rustix::mount::{MountFlags, MountPropagationFlags};

use super::application_profile;
use super::mount_file::{HANDLE, SAFE, is_shared};
use super::paths::GPUS;
use super::place::Place;
use super::root::{Root, path_of};

/// The kernel's list.
pub const LIST: &str = GPUS.as_str();
const INFORMATION: &str = "information";
const MINOR: &str = "Device Minor:";
const MAX_BYTES: usize = 64 << 10;
const TMPFS: &std::ffi::CStr = c"size=4k,mode=0555";

/// Hides the others, if there are any.
///
/// # Errors
/// The mounts are refused, as they are without CAP_SYS_ADMIN.
pub fn narrow(root: &Root) -> io::Result<()> {
    let list = GPUS.path();
    let (place, under) = match root.place(&list).and_then(|place| Ok((place.open()?, place))) {
        Err(error) if root.is_absent(&list, &error) => return Ok(()),
        found => found.map(|(under, place)| (place, under))?,
    };
    // An engine that masks it has mounted something else there; an image may have laid a directory in its place.
    if rustix::fs::fstatfs(&under)?.f_type != PROC_SUPER_MAGIC {
        return Ok(());
    }
    let granted = application_profile::minors(root)?;
    let gpus = root.names(&under, |_| true)?;
    let is_own = |gpu: &&OsString| minor(root, gpu).is_some_and(|minor| granted.contains(&minor));
    let own: Vec<&OsString> = gpus.iter().filter(is_own).collect();
    if own.len() == gpus.len() { Ok(()) } else { cover(&place, &under, &own) }
}

/// What the kernel says of a GPU; one that does not answer has none.
fn minor(root: &Root, gpu: &OsStr) -> Option<u32> {
    let text = root.read(&GPUS.join(Path::new(gpu).join(INFORMATION)), MAX_BYTES).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| line.strip_prefix(MINOR))?.trim().parse().ok()
}

/// Mounts a directory over the list that shows these GPUs.
fn cover(place: &Place, under: &OwnedFd, own: &[&OsString]) -> io::Result<()> {
    if is_shared(under)? {
        return Err(io::Error::other("what is mounted there would show outside the container"));
    }
    rustix::mount::mount("tmpfs", path_of(under), "tmpfs", SAFE, Some(TMPFS))?;
    // The handle on the list is below the mount now; the way through its name leads to what was mounted.
    let top = rustix::fs::openat(&place.dir, &place.name, HANDLE | OFlags::DIRECTORY, Mode::empty())?;
    // Whatever fails, the cover stays: part of the container's own list is better than all of the host's.
    let shown = own.iter().try_for_each(|gpu| show(under, &top, gpu));
    seal(&top).and(shown)
}

fn show(under: &OwnedFd, top: &OwnedFd, gpu: &OsStr) -> io::Result<()> {
    let source = rustix::fs::openat(under, gpu, HANDLE | OFlags::DIRECTORY, Mode::empty())?;
    rustix::fs::mkdirat(top, gpu, Mode::from_raw_mode(0o555))?;
    let target = rustix::fs::openat(top, gpu, HANDLE | OFlags::DIRECTORY, Mode::empty())?;
    rustix::mount::mount_bind(path_of(&source), path_of(&target))?;
    seal(&rustix::fs::openat(top, gpu, HANDLE | OFlags::DIRECTORY, Mode::empty())?)
}

/// Makes what is mounted at a handle private and read-only.
fn seal(mounted: &OwnedFd) -> io::Result<()> {
    rustix::mount::mount_change(path_of(mounted), MountPropagationFlags::PRIVATE)?;
    Ok(rustix::mount::mount_remount(path_of(mounted), SAFE | MountFlags::BIND | MountFlags::RDONLY, c"")?)
}
