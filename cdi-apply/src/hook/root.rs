//! Root: the container's root directory as a handle, out of which no path leads. I/O.
//!
//! An image, or another container that shares a volume with this one, may put links into the root and exchange them at
//! any moment. No path of the container is therefore ever joined to one of the host: each step is a system call on a
//! handle that was reached from the root's own. Linux 5.6 does that itself (openat2(2), `RESOLVE_IN_ROOT`); where it does
//! not, or a seccomp filter forbids it, we walk name by name. Links of procfs that lead anywhere ("magic links",
//! symlink(7)) are refused by both.
//!
//! Below the root are mounts that are not the image's. Where a path may cross into one is the table's to say
//! ([`paths`](super::paths)); the kernel keeps to it by `RESOLVE_NO_XDEV` and `RESOLVE_NO_SYMLINKS`, and we by the mount ID
//! of each handle.

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cdi_gen::facts::elf::ReadAt;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, RawMode, ResolveFlags, Stat, StatxFlags};
use rustix::io::Errno;

use super::budget::{Budget, Cost};
use super::file_systems;
use super::paths::{Class, HookPath};
use super::place::Place;
use super::walk::{Bounds, Missing, Walk};
use cdi_files::limited;

/// Directories that are made for what is put into them.
pub const DIR_MODE: RawMode = 0o755;
/// Bytes of a directory that are read at once; some 200 names.
const LISTED: usize = 8 << 10;
/// What a name in a list takes beside its bytes.
const OF_NAME: usize = 48;
/// A path, and nothing behind it: no device is set going, no FIFO waited for.
pub const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
/// To read a regular file. Without `O_NONBLOCK` whoever holds a lease on it may have us wait (fcntl(2), "Leases").
const TO_READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
/// Bits of a mode.
const OTHERS_READ: RawMode = 0o004;
const OTHERS_ENTER: RawMode = 0o001;
/// What procfs says of a handle has some hundred bytes.
const MAX_FDINFO: usize = 4096;

/// Who goes from name to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// openat2(2), and we where it is missing.
    Kernel,
    /// We, always; and procfs tells mount IDs, as it does where statx(2) does not (Linux before 5.8).
    Walk,
}

/// A container's root directory, and what a run in it may take.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    resolver: Resolver,
    own_mount: OnceCell<u64>,
    budget: Budget,
}

/// What a handle is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// File type and permissions.
    pub mode: RawMode,
    /// The file system's number, and the file's in it.
    pub file: (u64, u64),
    /// The mount's ID.
    pub mount: u64,
}

impl Seen {
    /// The file type.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether others than owner and group may read it.
    pub fn others_read(&self) -> bool {
        self.mode & OTHERS_READ != 0
    }

    /// Whether others than owner and group may go through it.
    pub fn others_enter(&self) -> bool {
        self.mode & OTHERS_ENTER != 0
    }
}

impl Root {
    /// The directory at a path of the host.
    ///
    /// # Errors
    /// There is none.
    pub fn open(path: &Path, resolver: Resolver) -> io::Result<Self> {
        let dir = rustix::fs::openat(CWD, path, PATH_ONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { dir, resolver, own_mount: OnceCell::new(), budget: Budget::default() })
    }

    /// The same of a container, which is never the host's root, however its path is written: `/..` and `/proc/self/root`
    /// are it too, and so is another mount of it.
    ///
    /// # Errors
    /// There is none, or it is the host's.
    pub fn of_container(path: &Path) -> io::Result<Self> {
        let root = Self::open(path, Resolver::Kernel)?;
        let (own, hosts) = (rustix::fs::fstat(&root.dir)?, rustix::fs::statat(CWD, "/", AtFlags::empty())?);
        if (own.st_dev, own.st_ino) == (hosts.st_dev, hosts.st_ino) {
            return Err(io::Error::other("it is the host's root, and no container's"));
        }
        Ok(root)
    }

    /// The root itself.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// What a run in it may take.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The ID of the mount that the root is on.
    ///
    /// # Errors
    /// Nobody tells.
    pub fn own_mount(&self) -> io::Result<u64> {
        if let Some(known) = self.own_mount.get() {
            return Ok(*known);
        }
        let own = self.look(&self.dir)?.mount;
        Ok(*self.own_mount.get_or_init(|| own))
    }

    /// What a handle is on.
    ///
    /// # Errors
    /// Nobody tells.
    pub fn look(&self, fd: &OwnedFd) -> io::Result<Seen> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        if self.resolver == Resolver::Kernel
            && let Ok(stat) = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, wanted)
            && stat.stx_mask & StatxFlags::MNT_ID.bits() != 0
        {
            let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
            return Ok(Seen { mode: stat.stx_mode.into(), file: (device, stat.stx_ino), mount: stat.stx_mnt_id });
        }
        let stat = rustix::fs::fstat(fd)?;
        Ok(Seen { mode: stat.st_mode, file: (stat.st_dev, stat.st_ino), mount: mount_id(fd)? })
    }

    /// A handle on what a path leads to, links followed to the last where the path's class follows any.
    ///
    /// # Errors
    /// There is nothing, a link leads in circles, or to where procfs's magic would lead; or it is out of bounds.
    pub fn find(&self, path: &HookPath<'_>) -> io::Result<OwnedFd> {
        self.budget.draw(Cost::Calls, 1)?;
        if self.resolver == Resolver::Kernel {
            match self.find_by_kernel(path) {
                // Too old, or kept from it; or a rename that happened meanwhile.
                Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {}
                found => return found.map_err(|error| told(error, path.class())),
            }
        }
        self.walk(path, Bounds::of(path.class()), Missing::Refuse)
    }

    fn find_by_kernel(&self, path: &HookPath<'_>) -> Result<OwnedFd, Errno> {
        let bounds = match path.class() {
            Class::Image => ResolveFlags::NO_XDEV,
            Class::Library => ResolveFlags::empty(),
            Class::Kernel | Class::Device => ResolveFlags::NO_SYMLINKS,
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | bounds;
        let path = if path.path().as_os_str().is_empty() { Path::new(".") } else { path.path() };
        rustix::fs::openat2(&self.dir, path, PATH_ONLY, Mode::empty(), resolve)
    }

    fn walk(&self, path: &HookPath<'_>, bounds: Bounds, missing: Missing) -> io::Result<OwnedFd> {
        let gone = Walk::new(self, bounds, missing)?.go(path.path());
        gone.map(Walk::into_end).map_err(|error| match Errno::from_io_error(&error) {
            Some(errno) => told(errno, path.class()),
            None => error,
        })
    }

    /// The same; `None` if there is nothing, be it behind links that are not followed.
    ///
    /// # Errors
    /// As [`Root::find`].
    pub fn find_if_there(&self, path: &HookPath<'_>) -> io::Result<Option<OwnedFd>> {
        match self.find(path) {
            Ok(found) => Ok(Some(found)),
            Err(error) if self.is_absent(path, &error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether an error says that there is nothing at a path.
    pub fn is_absent(&self, path: &HookPath<'_>, error: &io::Error) -> bool {
        let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let follows_none = matches!(path.class(), Class::Kernel | Class::Device);
        is_missing(error)
            || follows_none && self.find(&HookPath::library(path.path())).is_err_and(|error| is_missing(&error))
    }

    /// A handle on a library, or a directory of some, that its directories let everybody come to who is in the container.
    ///
    /// # Errors
    /// As [`Root::find`]; or a directory of another mount is closed to others than its owner and group.
    pub fn find_public(&self, path: &HookPath<'_>) -> io::Result<OwnedFd> {
        let found = self.find(path)?;
        // What the image has it has shown itself.
        if self.look(&found)?.mount == self.own_mount()? {
            return Ok(found);
        }
        self.walk(path, Bounds { public: true, ..Bounds::of(path.class()) }, Missing::Refuse)
    }

    /// The directory that a path's last name is in, links on the way followed; the last name is not looked at.
    ///
    /// # Errors
    /// As [`Root::find`]; or the path ends in `..` or nowhere.
    pub fn place(&self, path: &HookPath<'_>) -> io::Result<Place> {
        self.place_with(path, Missing::Refuse)
    }

    /// The same; directories on the way that are missing are made.
    ///
    /// # Errors
    /// As [`Root::place`]; or a directory cannot be made.
    pub fn make_place(&self, path: &HookPath<'_>) -> io::Result<Place> {
        self.place_with(path, Missing::Make)
    }

    fn place_with(&self, path: &HookPath<'_>, missing: Missing) -> io::Result<Place> {
        let name = path.path().file_name().ok_or(Errno::ISDIR)?.to_owned();
        let parent = path.parent().unwrap_or_else(|| path.clone());
        let dir = match self.find(&parent) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound && missing == Missing::Make => {
                self.make_dir(&parent)?
            }
            Err(error) => return Err(error),
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&dir)?.st_mode) != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        Ok(Place { dir, name, opener: self.opener(path.class()) })
    }

    fn opener(&self, class: Class) -> Opener {
        Opener { own_mount: class == Class::Image, resolver: self.resolver }
    }

    /// A directory that is not there, made in the one above it.
    fn make_dir(&self, path: &HookPath<'_>) -> io::Result<OwnedFd> {
        if path.path().file_name().is_some() {
            let Place { dir, name, opener } = self.make_place(path)?;
            match rustix::fs::mkdirat(&dir, &name, Mode::from_raw_mode(DIR_MODE)) {
                Ok(()) => {
                    let made = opener.open(&dir, &name)?;
                    let is_dir = FileType::from_raw_mode(rustix::fs::fstat(&made)?.st_mode).is_dir();
                    return if is_dir { Ok(made) } else { Err(Errno::NOTDIR.into()) };
                }
                // A link to what is missing; or somebody else was faster.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.walk(path, Bounds::of(path.class()), Missing::Make)
    }

    /// Names in a directory, sorted.
    ///
    /// # Errors
    /// As [`Root::find`], or of libraries [`Root::find_public`]; or it is no directory, or cannot be read.
    pub fn list(&self, path: &HookPath<'_>, wanted: impl Fn(&OsStr) -> bool) -> io::Result<Vec<OsString>> {
        let found = if path.class() == Class::Library { self.find_public(path)? } else { self.find(path)? };
        if path.class() == Class::Library {
            let seen = self.look(&found)?;
            if seen.mount != self.own_mount()? && !seen.others_read() {
                return Err(Errno::ACCESS.into());
            }
        }
        self.names(&found, wanted)
    }

    /// The same of one that was found.
    ///
    /// # Errors
    /// It is no directory, or cannot be read.
    pub fn names(&self, dir: &OwnedFd, wanted: impl Fn(&OsStr) -> bool) -> io::Result<Vec<OsString>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(dir, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        let mut buffer = [const { MaybeUninit::uninit() }; LISTED];
        let mut entries = RawDir::new(opened, &mut buffer);
        while let Some(entry) = entries.next() {
            self.budget.draw(Cost::Entries, 1)?;
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if !matches!(name.as_bytes(), b"." | b"..") && wanted(name) {
                self.budget.draw(Cost::Memory, name.len() + OF_NAME)?;
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// What a regular file says, no more than one byte over a limit of it.
    ///
    /// # Errors
    /// As [`Root::find`]; or it is no regular file.
    pub fn read(&self, path: &HookPath<'_>, limit: usize) -> io::Result<Vec<u8>> {
        self.read_found(&self.find(path)?, limit)
    }

    /// The same of one that was found.
    ///
    /// # Errors
    /// It is no regular file, or may not be read.
    pub fn read_found(&self, found: &OwnedFd, limit: usize) -> io::Result<Vec<u8>> {
        let (file, _) = reopen(found)?;
        let bytes = limited::read(file, limit)?;
        self.budget.draw(Cost::Bytes, bytes.len())?;
        Ok(bytes)
    }

    /// A library that was found, opened to read its head: if others may read it, and its text is not made up by the kernel.
    ///
    /// # Errors
    /// It is no such file.
    pub fn open_library(&self, found: &OwnedFd, seen: &Seen) -> io::Result<Metered<'_>> {
        if seen.kind() != FileType::RegularFile || !seen.others_read() {
            return Err(Errno::ACCESS.into());
        }
        if seen.mount != self.own_mount()? && file_systems::is_kernels(rustix::fs::fstatfs(found)?.f_type) {
            return Err(Errno::ACCESS.into());
        }
        self.budget.draw(Cost::Calls, 1)?;
        Ok(self.metered(File::from(rustix::fs::openat(CWD, path_of(found), TO_READ, Mode::empty())?)))
    }

    /// A file whose bytes count.
    pub fn metered(&self, file: File) -> Metered<'_> {
        Metered { file, budget: &self.budget }
    }
}

/// A file that is read on the budget.
#[derive(Debug)]
pub struct Metered<'r> {
    file: File,
    budget: &'r Budget,
}

impl Metered<'_> {
    /// All of it, no more than one byte over a limit.
    ///
    /// # Errors
    /// As reading does.
    pub fn all(&self, limit: usize) -> io::Result<Vec<u8>> {
        let bytes = limited::read(&self.file, limit)?;
        self.budget.draw(Cost::Bytes, bytes.len())?;
        Ok(bytes)
    }
}

impl ReadAt for Metered<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.budget.draw(Cost::Calls, 1)?;
        let count = self.file.read_at(buffer, offset)?;
        self.budget.draw(Cost::Bytes, count).map(|()| count)
    }
}

/// Opens a name in a directory.
#[derive(Clone, Copy, Debug)]
pub struct Opener {
    /// Nothing that is mounted at the name.
    own_mount: bool,
    resolver: Resolver,
}

impl Opener {
    /// A handle on what stands there, itself and not what it links to.
    ///
    /// # Errors
    /// There is nothing; or another mount is there.
    pub fn open(self, dir: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
        let flags = PATH_ONLY | OFlags::NOFOLLOW;
        if self.own_mount && self.resolver == Resolver::Kernel {
            let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve) {
                Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {}
                found => return found.map_err(|error| told(error, Class::Image)),
            }
        }
        let found = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        if self.own_mount && mount_id(&found)? != mount_id(dir)? {
            return Err(told(Errno::XDEV, Class::Image));
        }
        Ok(found)
    }
}

/// An error in the words of the table.
fn told(error: Errno, class: Class) -> io::Error {
    match (error, class) {
        (Errno::XDEV, _) => io::Error::new(
            io::ErrorKind::CrossesDevices,
            "something else is mounted there, which is not the image's to be changed or copied",
        ),
        (Errno::LOOP, Class::Kernel | Class::Device) => io::Error::other("a symbolic link is on the way"),
        _ => error.into(),
    }
}

/// Opens a regular file that a handle was found for: nothing can take its place in between, and no device is opened.
///
/// # Errors
/// It is no regular file, or may not be read.
pub fn reopen(found: &OwnedFd) -> io::Result<(File, Stat)> {
    let stat = rustix::fs::fstat(found)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Symlink => return Err(io::Error::other("a symbolic link, which is not followed here")),
        _ => return Err(io::Error::other("no regular file")),
    }
    Ok((File::from(rustix::fs::openat(CWD, path_of(found), TO_READ, Mode::empty())?), stat))
}

/// A path of this process's that leads to what a handle is on, for system calls that take no handle.
pub fn path_of(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The ID of the mount that a handle is on, as mountinfo tells it too (proc_pid_fdinfo(5)).
///
/// # Errors
/// procfs does not tell.
#[expect(clippy::disallowed_methods, reason = "reads what procfs says of this process")]
pub fn mount_id(fd: &impl AsRawFd) -> io::Result<u64> {
    let file = File::open(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let text = String::from_utf8_lossy(&limited::read(file, MAX_FDINFO)?).into_owned();
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:")).and_then(|id| id.trim().parse().ok());
    id.ok_or_else(|| io::Error::other("nobody knows what is mounted there"))
}
