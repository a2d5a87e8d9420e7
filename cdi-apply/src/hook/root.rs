//! Root: the container's root directory as a handle, out of which no path leads. I/O.
//!
//! An image, or another container that shares a volume with this one, may put links into the root and exchange them at
//! any moment. No path of the container is therefore ever joined to one of the host: each step is a system call on a
//! handle that was reached from the root's own. Linux 5.6 does that itself (openat2(2), `RESOLVE_IN_ROOT`); where it does
//! not, or a seccomp filter forbids it, we walk name by name. Links of procfs that lead anywhere ("magic links",
//! symlink(7)) are refused by both.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, RawDir, RawMode, RenameFlags, ResolveFlags, Stat,
};
use rustix::io::Errno;

use cdi_files::limited;
use cdi_files::path_names::{MAX_LINKS, names};

/// Directories that are made for what is put into them.
const DIR_MODE: RawMode = 0o755;
/// Bytes that are written at once.
const BUFFER: usize = 32 << 10;
/// Bytes of a directory that are read at once; some 200 names.
const LISTED: usize = 8 << 10;
/// Overlay file systems (linux/magic.h).
const OVERLAY_MAGIC: FsWord = 0x794c_7630;
/// A path, and nothing behind it: no device is set going, no FIFO waited for.
const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// What writes a file.
pub type Writing<'w> = &'w dyn Fn(&mut dyn Write) -> io::Result<()>;

/// Who goes from name to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// openat2(2), and we where it is missing.
    Kernel,
    /// We, always.
    Walk,
}

/// A container's root directory.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    resolver: Resolver,
}

/// A place in the root: a directory, and a name in it that may or may not exist.
#[derive(Debug)]
pub struct Place {
    /// The directory.
    pub dir: OwnedFd,
    /// One name: no `/`, neither `.` nor `..`.
    pub name: OsString,
}

impl Root {
    /// The directory at a path of the host.
    ///
    /// # Errors
    /// There is none.
    pub fn open(path: &Path, resolver: Resolver) -> io::Result<Self> {
        let dir = rustix::fs::openat(CWD, path, PATH_ONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { dir, resolver })
    }

    /// The root itself.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// A handle on what a path leads to, links followed to the last.
    ///
    /// # Errors
    /// There is nothing, a link leads in circles, or to where procfs's magic would lead.
    pub fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        if self.resolver == Resolver::Kernel {
            match self.find_by_kernel(path) {
                // Too old, or kept from it; or a rename that happened meanwhile.
                Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {}
                found => return Ok(found?),
            }
        }
        Ok(Walk::new(self, Missing::Refuse)?.go(path)?.into_dir())
    }

    fn find_by_kernel(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        rustix::fs::openat2(&self.dir, path, PATH_ONLY, Mode::empty(), resolve)
    }

    /// The directory that a path's last name is in, links on the way followed; the last name is not looked at.
    ///
    /// # Errors
    /// As [`Root::find`]; or the path ends in `..` or nowhere.
    pub fn place(&self, path: &Path) -> io::Result<Place> {
        self.place_with(path, Missing::Refuse)
    }

    /// The same; directories on the way that are missing are made.
    ///
    /// # Errors
    /// As [`Root::place`]; or a directory cannot be made.
    pub fn make_place(&self, path: &Path) -> io::Result<Place> {
        self.place_with(path, Missing::Make)
    }

    fn place_with(&self, path: &Path, missing: Missing) -> io::Result<Place> {
        let name = path.file_name().ok_or(Errno::ISDIR)?.to_owned();
        let parent = path.parent().unwrap_or(Path::new(""));
        let dir = match self.find(parent) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound && missing == Missing::Make => {
                self.make_dir(parent)?
            }
            Err(error) => return Err(error),
        };
        if !is(&dir, FileType::Directory)? {
            return Err(Errno::NOTDIR.into());
        }
        Ok(Place { dir, name })
    }

    /// A directory that is not there, made in the one above it.
    fn make_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        if path.file_name().is_some() {
            let Place { dir, name } = self.make_place(path)?;
            match rustix::fs::mkdirat(&dir, &name, Mode::from_raw_mode(DIR_MODE)) {
                Ok(()) => {
                    let flags = PATH_ONLY | OFlags::NOFOLLOW | OFlags::DIRECTORY;
                    return Ok(rustix::fs::openat(&dir, &name, flags, Mode::empty())?);
                }
                // A link to what is missing; or somebody else was faster.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Walk::new(self, Missing::Make)?.go(path)?.into_dir())
    }

    /// Names in a directory, no more than `most` looked at, sorted.
    ///
    /// # Errors
    /// As [`Root::find`]; or it is no directory, or cannot be read.
    pub fn list(&self, path: &Path, most: usize, wanted: impl Fn(&OsStr) -> bool) -> io::Result<Vec<OsString>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.find(path)?, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        let mut buffer = [const { MaybeUninit::uninit() }; LISTED];
        let mut entries = RawDir::new(opened, &mut buffer);
        for _ in 0..most {
            let Some(entry) = entries.next() else { break };
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if !matches!(name.as_bytes(), b"." | b"..") && wanted(name) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// A regular file at a path, opened for reading.
    ///
    /// # Errors
    /// As [`Root::find`]; or it is no regular file.
    pub fn read_file(&self, path: &Path) -> io::Result<File> {
        reopen(&self.find(path)?)
    }
}

impl Place {
    /// What stands there, itself and not what it links to.
    ///
    /// # Errors
    /// There is nothing.
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// What the link there says.
    ///
    /// # Errors
    /// It is no link.
    pub fn read_link(&self) -> io::Result<OsString> {
        let text = rustix::fs::readlinkat(&self.dir, &self.name, Vec::new())?;
        Ok(OsString::from_vec(text.into_bytes()))
    }

    /// A handle on what stands there, itself and not what it links to.
    ///
    /// # Errors
    /// There is nothing.
    pub fn open(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.dir, &self.name, PATH_ONLY | OFlags::NOFOLLOW, Mode::empty())?)
    }

    /// Makes a file there hold these bytes, unless it does: at once if none stands there, which is half the work.
    /// A hook that is killed may then leave one that is too short, until the next start.
    ///
    /// # Errors
    /// The directory cannot be written, or a directory stands there.
    pub fn write(self, bytes: &[u8], mode: RawMode) -> io::Result<()> {
        let write = |out: &mut dyn Write| out.write_all(bytes);
        match self.create(&self.name) {
            Ok(file) => fill(&file, &write)
                .and_then(|()| Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?))
                .inspect_err(|_| self.remove(&self.name)),
            Err(Errno::EXIST) if self.holds(bytes) => Ok(()),
            Err(Errno::EXIST) => self.replace(&write, mode),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a file there hold what is written: beside what stands there, then in its place.
    ///
    /// # Errors
    /// As [`Place::write`].
    pub fn replace(self, write: Writing<'_>, mode: RawMode) -> io::Result<()> {
        let draft = self.draft()?;
        fill(&draft.file, write)?;
        draft.put(mode)
    }

    /// An empty file beside, to be put there.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn draft(self) -> io::Result<Draft> {
        let beside = self.clear_beside();
        let file = self.create(&beside)?;
        Ok(Draft { place: self, beside, file })
    }

    /// The name of what is beside, with nothing there: a hook that was killed may have left something.
    fn clear_beside(&self) -> OsString {
        let mut beside = OsString::from(".");
        beside.push(&self.name);
        beside.push(".cdi-hook");
        self.remove(&beside);
        beside
    }

    fn remove(&self, name: &OsStr) {
        let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
    }

    fn create(&self, name: &OsStr) -> Result<File, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Puts what is beside in its place; what was there is beside then, or gone. Mostly exchanged: a file that is renamed
    /// over another is written to the disk at once by ext4 (`auto_da_alloc`, ext4(5)), which takes longer than all else
    /// here. But in an overlay an exchange copies the image's file first (ovl_rename of the kernel), which a rename does
    /// not.
    fn exchange(&self, beside: &OsStr) -> Result<(), Errno> {
        let exchange = || rustix::fs::renameat_with(&self.dir, beside, &self.dir, &self.name, RenameFlags::EXCHANGE);
        match self.stat() {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => Err(Errno::ISDIR),
            Ok(_) if !self.is_in_overlay() && exchange().is_ok() => Ok(()),
            _ => rustix::fs::renameat(&self.dir, beside, &self.dir, &self.name),
        }
    }

    fn is_in_overlay(&self) -> bool {
        rustix::fs::fstatfs(&self.dir).is_ok_and(|file_system| file_system.f_type == OVERLAY_MAGIC)
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        let Ok(file) = self.open().and_then(|found| reopen(&found)) else { return false };
        limited::read(file, bytes.len()).is_ok_and(|held| held == bytes)
    }

    /// Makes a link there that says `target`, which is not looked at.
    ///
    /// # Errors
    /// The directory cannot be written, or a directory stands there.
    pub fn link(&self, target: &OsStr) -> io::Result<()> {
        match rustix::fs::symlinkat(target, &self.dir, &self.name) {
            Err(Errno::EXIST) if self.read_link().is_ok_and(|known| known == target) => Ok(()),
            Err(Errno::EXIST) => {
                let beside = self.clear_beside();
                let put = rustix::fs::symlinkat(target, &self.dir, &beside).and_then(|()| self.exchange(&beside));
                self.remove(&beside);
                Ok(put?)
            }
            made => Ok(made?),
        }
    }
}

/// A file that comes to its place when it is whole.
#[derive(Debug)]
pub struct Draft {
    place: Place,
    beside: OsString,
    /// The file.
    pub file: File,
}

impl Draft {
    /// Puts the file in its place.
    ///
    /// # Errors
    /// The directory cannot be written, or a directory stands there.
    pub fn put(&self, mode: RawMode) -> io::Result<()> {
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))?;
        Ok(self.place.exchange(&self.beside)?)
    }
}

impl Drop for Draft {
    /// What is beside goes: what the file has replaced, or itself.
    fn drop(&mut self) {
        self.place.remove(&self.beside);
    }
}

/// Has a file written, in few system calls.
pub(super) fn fill(file: &File, write: Writing<'_>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, file);
    write(&mut out)?;
    out.flush()
}

/// Opens a regular file that a handle was found for: nothing can take its place in between, and no device is opened.
///
/// # Errors
/// It is no regular file, or may not be read.
pub fn reopen(found: &OwnedFd) -> io::Result<File> {
    if !is(found, FileType::RegularFile)? {
        return Err(io::Error::other("no regular file"));
    }
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(CWD, path_of(found), flags, Mode::empty())?))
}

/// A path of this process's that leads to what a handle is on, for system calls that take no handle.
pub fn path_of(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn is(fd: &OwnedFd, kind: FileType) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == kind)
}

/// What to do with a directory that is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Refuse,
    Make,
}

/// A way from the root, name by name.
struct Walk {
    /// The root, the directories below it that lead to where we are, and that.
    way: Vec<OwnedFd>,
    links: usize,
    missing: Missing,
}

impl Walk {
    fn new(root: &Root, missing: Missing) -> Result<Self, Errno> {
        Ok(Self { way: vec![rustix::io::fcntl_dupfd_cloexec(&root.dir, 3)?], links: 0, missing })
    }

    fn go(mut self, path: &Path) -> Result<Self, Errno> {
        let mut ahead = names(path);
        while let Some(name) = ahead.pop() {
            if name == ".." {
                // The root is above itself.
                if self.way.len() > 1 {
                    self.way.pop();
                }
                continue;
            }
            let found = self.enter(&name)?;
            if is(&found, FileType::Symlink)? {
                let target = self.target(&found)?;
                if target.starts_with(b"/") {
                    self.way.truncate(1);
                }
                ahead.extend(names(Path::new(OsStr::from_bytes(&target))));
            } else {
                self.way.push(found);
            }
        }
        Ok(self)
    }

    /// A handle on a name where we are, itself and not what it links to.
    fn enter(&self, name: &OsStr) -> Result<OwnedFd, Errno> {
        let dir = self.way.last().ok_or(Errno::NOENT)?;
        let open = || rustix::fs::openat(dir, name, PATH_ONLY | OFlags::NOFOLLOW, Mode::empty());
        match open() {
            Err(Errno::NOENT) if self.missing == Missing::Make => {
                match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(DIR_MODE)) {
                    // Somebody else was faster.
                    Ok(()) | Err(Errno::EXIST) => open(),
                    Err(error) => Err(error),
                }
            }
            opened => opened,
        }
    }

    fn target(&mut self, link: &OwnedFd) -> Result<Vec<u8>, Errno> {
        self.links += 1;
        if self.links > MAX_LINKS || rustix::fs::fstatfs(link)?.f_type == PROC_SUPER_MAGIC {
            return Err(Errno::LOOP);
        }
        Ok(rustix::fs::readlinkat(link, "", Vec::new())?.into_bytes())
    }

    fn into_dir(mut self) -> OwnedFd {
        self.way.pop().expect("a way has its root")
    }
}
