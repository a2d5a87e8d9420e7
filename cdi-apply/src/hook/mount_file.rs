//! Mount a file: a file of the container that cannot be written, or must not, gets another one mounted over it. I/O.
//!
//! A file needs a file system to be on: a small one is mounted over the directory for a moment, before the container has
//! started, and goes as soon as its file is mounted over the other. Nothing is written into the root, nor into a volume of
//! it, and every mount goes through a handle.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::file_systems;
use super::paths::HookPath;
use super::place::{Place, Writing, fill};
use super::root::{Root, Seen, mount_id, path_of, reopen};
use cdi_files::limited;

/// What each mount of ours is.
pub(super) const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
/// A handle on a name itself.
pub(super) const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Room for the largest cache of a loader; what is not used costs nothing.
const TMPFS: &std::ffi::CStr = c"size=64m,mode=0755";
/// Hosts with thousands of containers have some MiB.
const MAX_MOUNTINFO: usize = 64 << 20;
/// The extended attribute of an access control list.
const ACL: &str = "system.posix_acl_access";

/// A file that exists, and the directory that it is in. Either may be on another mount: that is only covered.
#[derive(Debug)]
pub struct Target {
    /// The directory above, and the directory's name in it.
    dir: Place,
    /// The directory, under whatever is mounted over it.
    under: OwnedFd,
    name: OsString,
    /// The file itself.
    pub file: OwnedFd,
}

impl Target {
    /// The regular file at a path; neither it nor its directory is a link.
    ///
    /// # Errors
    /// There is none.
    pub fn find(root: &Root, path: &HookPath<'_>) -> io::Result<Self> {
        let (dir, name) = path.parent().zip(path.path().file_name()).ok_or(Errno::ISDIR)?;
        let dir = root.place(&dir)?;
        let under = rustix::fs::openat(&dir.dir, &dir.name, HANDLE | OFlags::DIRECTORY, Mode::empty())?;
        let file = rustix::fs::openat(&under, name, HANDLE, Mode::empty())?;
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("no regular file"));
        }
        Ok(Self { dir, under, name: name.to_owned(), file })
    }

    /// The file, opened, if its text may be copied although it is not the image's: what is mounted over it has no byte that
    /// anybody in the container could not read before. So everybody may read it and go through its directories, by modes
    /// that no access control list changes, on file systems where a mode is all there is to it. (Whether a security
    /// module labels it otherwise is not looked at: such a volume is of no use to the container's loader.)
    ///
    /// # Errors
    /// Somebody may not read it, or nobody knows.
    pub fn open_public(&self, root: &Root) -> io::Result<File> {
        let may = |fd: &OwnedFd, is_open: fn(&Seen) -> bool| {
            let is_ordinary = file_systems::is_ordinary(rustix::fs::fstatfs(fd)?.f_type);
            let has_acl = || rustix::fs::getxattr(path_of(fd), ACL, &mut [0; 0]).is_ok();
            Ok::<_, io::Error>(is_open(&root.look(fd)?) && is_ordinary && !has_acl())
        };
        let is_public = may(&self.dir.dir, Seen::others_enter)?
            && may(&self.under, Seen::others_enter)?
            && may(&self.file, Seen::others_read)?;
        if is_public { Ok(reopen(&self.file)?.0) } else { Err(Errno::ACCESS.into()) }
    }

    /// Mounts a file with what is written over it, read-only.
    ///
    /// # Errors
    /// The mounts are refused, as they are without CAP_SYS_ADMIN.
    pub fn cover(&self, write: Writing<'_>, mode: RawMode) -> io::Result<()> {
        if is_shared(&self.under)? || is_shared(&self.file)? {
            return Err(io::Error::other("what is mounted there would show outside the container"));
        }
        rustix::mount::mount("tmpfs", path_of(&self.under), "tmpfs", SAFE, Some(TMPFS))?;
        let top = self.open_dir();
        let bound = |top| self.bind(top, write, mode);
        let done = top.as_ref().map_err(|error| *error).map_err(io::Error::from).and_then(bound);
        // Whatever happened, the directory's own files must show again.
        let gone = top.and_then(|top| rustix::mount::unmount(path_of(&top), UnmountFlags::DETACH));
        done.and(gone.map_err(io::Error::from))
    }

    /// The directory as the container sees it.
    fn open_dir(&self) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.dir.dir, &self.dir.name, HANDLE | OFlags::DIRECTORY, Mode::empty())
    }

    fn bind(&self, top: &OwnedFd, write: Writing<'_>, mode: RawMode) -> io::Result<()> {
        let name: &OsStr = &self.name;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(top, name, flags, Mode::from_raw_mode(mode))?);
        fill(&file, write)?;
        let source = rustix::fs::openat(top, name, HANDLE, Mode::empty())?;
        rustix::mount::mount_bind(path_of(&source), path_of(&self.file))?;
        // The handle on the file is below the mount; the way through the directory leads to what was mounted.
        let mounted = rustix::fs::openat(&self.under, name, HANDLE, Mode::empty())?;
        rustix::mount::mount_change(path_of(&mounted), MountPropagationFlags::PRIVATE)?;
        Ok(rustix::mount::mount_remount(path_of(&mounted), SAFE | MountFlags::BIND | MountFlags::RDONLY, c"")?)
    }
}

/// Whether mounts on the file system of a handle propagate to other mount namespaces (mount_namespaces(7)).
pub(super) fn is_shared(fd: &impl AsRawFd) -> io::Result<bool> {
    // Optional fields end with a dash.
    Ok(mount_of(fd)?.split(' ').skip(6).take_while(|field| *field != "-").any(|field| field.starts_with("shared:")))
}

/// Whether what is mounted at a handle is a file system as a whole: a bind mount mostly shows a directory of one.
pub(super) fn is_whole(fd: &impl AsRawFd) -> io::Result<bool> {
    Ok(mount_of(fd)?.split(' ').nth(3) == Some("/"))
}

/// The line of the mount that a handle is on (proc_pid_mountinfo(5)).
#[expect(clippy::disallowed_methods, reason = "reads what procfs says of this process")]
fn mount_of(fd: &impl AsRawFd) -> io::Result<String> {
    let id = mount_id(fd)?.to_string();
    let mounts = limited::read(File::open("/proc/thread-self/mountinfo")?, MAX_MOUNTINFO)?;
    let mounts = String::from_utf8_lossy(&mounts);
    let mount = mounts.lines().find(|line| line.split(' ').next() == Some(&id));
    mount.map(str::to_owned).ok_or_else(|| io::Error::other("nobody knows what is mounted there"))
}
