//! Mount a file: a file of the container that cannot be written, or must not, gets another one mounted over it. I/O.
//!
//! A file needs a file system to be on: a small one is mounted over the directory for a moment, before the container has
//! started, and goes as soon as its file is mounted over the other. Nothing is written into the root, and every mount goes
//! through a handle.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::root::{Place, Root, Writing, fill, path_of, reopen};

/// What each mount of ours is.
pub(super) const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
/// A handle on a name itself.
pub(super) const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Room for the largest cache of a loader; what is not used costs nothing.
const TMPFS: &std::ffi::CStr = c"size=64m,mode=0755";

/// A file that exists, and the directory that it is in.
#[derive(Debug)]
pub struct Target {
    /// The directory above, and the directory's name in it.
    dir: Place,
    /// The directory, under whatever is mounted over it.
    under: OwnedFd,
    name: String,
    /// The file itself.
    pub file: OwnedFd,
}

impl Target {
    /// The regular file `name` in a directory of the container; neither is a link.
    ///
    /// # Errors
    /// There is none.
    pub fn find(root: &Root, dir: &str, name: &str) -> io::Result<Self> {
        let place = root.place(Path::new(dir))?;
        let under = rustix::fs::openat(&place.dir, &place.name, HANDLE | OFlags::DIRECTORY, Mode::empty())?;
        let file = rustix::fs::openat(&under, name, HANDLE, Mode::empty())?;
        // Only to be sure that it is one.
        reopen(&file)?;
        Ok(Self { dir: place, under, name: name.to_owned(), file })
    }

    /// Mounts a file with what is written over it, read-only.
    ///
    /// # Errors
    /// The mounts are refused, as they are without CAP_SYS_ADMIN.
    pub fn cover(&self, write: Writing<'_>) -> io::Result<()> {
        if is_shared(&self.under)? {
            return Err(io::Error::other("what is mounted there would show outside the container"));
        }
        rustix::mount::mount("tmpfs", path_of(&self.under), "tmpfs", SAFE, Some(TMPFS))?;
        let top = self.open_dir();
        let done = top.as_ref().map_err(|error| *error).map_err(io::Error::from).and_then(|top| self.bind(top, write));
        // Whatever happened, the directory's own files must show again.
        let gone = top.and_then(|top| rustix::mount::unmount(path_of(&top), UnmountFlags::DETACH));
        done.and(gone.map_err(io::Error::from))
    }

    /// The directory as the container sees it.
    fn open_dir(&self) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.dir.dir, &self.dir.name, HANDLE | OFlags::DIRECTORY, Mode::empty())
    }

    fn bind(&self, top: &OwnedFd, write: Writing<'_>) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(top, &self.name, flags, Mode::from_raw_mode(0o444))?);
        fill(&file, write)?;
        let source = rustix::fs::openat(top, &self.name, HANDLE, Mode::empty())?;
        rustix::mount::mount_bind(path_of(&source), path_of(&self.file))?;
        // The handle on the file is below the mount; the way through the directory leads to what was mounted.
        let mounted = rustix::fs::openat(&self.under, &self.name, HANDLE, Mode::empty())?;
        rustix::mount::mount_change(path_of(&mounted), MountPropagationFlags::PRIVATE)?;
        Ok(rustix::mount::mount_remount(path_of(&mounted), SAFE | MountFlags::BIND | MountFlags::RDONLY, c"")?)
    }
}

/// Whether mounts on the file system of a handle propagate to other mount namespaces (mount_namespaces(7)).
#[expect(clippy::disallowed_methods, reason = "reads what procfs says of this process")]
pub(super) fn is_shared(fd: &OwnedFd) -> io::Result<bool> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim).unwrap_or_default();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mounts.lines().find(|line| line.split(' ').next() == Some(id));
    let mount = mount.ok_or_else(|| io::Error::other("nobody knows what is mounted there"))?;
    // Optional fields end with a dash.
    Ok(mount.split(' ').skip(6).take_while(|field| *field != "-").any(|field| field.starts_with("shared:")))
}
