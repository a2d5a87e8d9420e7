//! Bundle: `config.json` on disk, read and replaced. I/O.
//!
//! The new file is written beside the old one and takes its place by rename(2), with its owner and mode: at each moment
//! there is the old one or the new one, whole. The directory is locked meanwhile, so that of two who edit the file
//! neither undoes the other's work, and a file that a killed process left behind is taken over by the next.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use crate::document::MAX_BYTES;
use cdi_files::limited;

/// The OCI runtime spec of a bundle.
pub const CONFIG: &str = "config.json";

/// How often the lock is asked for, and how long in between: 5 s in all.
const LOCK_ROUNDS: usize = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What went wrong with which file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}", path = .path.display())]
pub struct BundleError {
    /// `read`, `lock` or `write`.
    pub operation: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// A `config.json` that may be replaced.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    name: OsString,
    /// Holds the lock.
    dir: OwnedFd,
    stat: Stat,
    text: Vec<u8>,
}

impl ConfigFile {
    /// Reads that of a bundle.
    ///
    /// # Errors
    /// As [`ConfigFile::open`].
    pub fn of_bundle(bundle: &Path) -> Result<Self, BundleError> {
        Self::open(&bundle.join(CONFIG))
    }

    /// Reads a file, and keeps others who come through here from it as long as the value lives.
    ///
    /// # Errors
    /// There is none, it is a link or no regular file, it is longer than [`MAX_BYTES`], it is in use.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let failed = |operation| move |source| BundleError { operation, path: path.to_owned(), source };
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory.into()).map_err(failed("read"))?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = open_dir(dir).map_err(failed("read"))?;
        lock(&dir).map_err(failed("lock"))?;
        let (stat, text) = read(&dir, name).map_err(failed("read"))?;
        Ok(Self { path: path.to_owned(), name: name.to_owned(), dir, stat, text })
    }

    /// What it holds.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Replaces it, unless it holds just that; says whether it did.
    ///
    /// # Errors
    /// The new file could not be written. The old one is untouched then.
    pub fn replace(self, text: &[u8]) -> Result<bool, BundleError> {
        self.replace_with(text, |file| rustix::fs::fdatasync(file))
    }

    /// The same without waiting for the disk: for the bundle of a container that starts now, which an engine makes anew
    /// after a loss of power.
    ///
    /// # Errors
    /// As [`ConfigFile::replace`].
    pub fn replace_unsynced(self, text: &[u8]) -> Result<bool, BundleError> {
        self.replace_with(text, |_| Ok(()))
    }

    fn replace_with(self, text: &[u8], sync: impl Fn(&File) -> Result<(), Errno>) -> Result<bool, BundleError> {
        if text == self.text {
            return Ok(false);
        }
        let beside = beside(&self.name);
        let written = self.write(&beside, text, sync).inspect_err(|_| {
            // It may not be there at all; the error to tell is the first.
            let _ = rustix::fs::unlinkat(&self.dir, &beside, AtFlags::empty());
        });
        written.map_err(|source| BundleError { operation: "write", path: self.path, source })?;
        Ok(true)
    }

    fn write(&self, beside: &OsStr, text: &[u8], sync: impl Fn(&File) -> Result<(), Errno>) -> io::Result<()> {
        let mut file = create(&self.dir, beside)?;
        file.write_all(text)?;
        let (uid, gid) = (Uid::from_raw(self.stat.st_uid), Gid::from_raw(self.stat.st_gid));
        let made = rustix::fs::fstat(&file)?;
        if (made.st_uid, made.st_gid) != (self.stat.st_uid, self.stat.st_gid) {
            rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(self.stat.st_mode))?;
        // After a loss of power the name must not lead to an empty file.
        sync(&file)?;
        Ok(rustix::fs::renameat(&self.dir, beside, &self.dir, &self.name)?)
    }
}

fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn lock(dir: &OwnedFd) -> io::Result<()> {
    for _ in 0..LOCK_ROUNDS {
        match rustix::fs::flock(dir, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => sleep(LOCK_PAUSE),
            locked => return Ok(locked?),
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "another process is changing it"))
}

fn read(dir: &OwnedFd, name: &OsStr) -> io::Result<(Stat, Vec<u8>)> {
    // Not to wait where it is a FIFO.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(dir, name, flags, Mode::empty());
    let file = File::from(opened.map_err(|error| match error {
        Errno::LOOP => io::Error::other("it is a link (give the file that it leads to)"),
        error => error.into(),
    })?);
    let stat = rustix::fs::fstat(&file)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok((stat, limited::read(file, MAX_BYTES)?))
}

/// The name of the new file until it takes the old one's: always the same, so that nothing accumulates.
fn beside(name: &OsStr) -> OsString {
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(".cdi-apply");
    beside
}

/// A new file. One of that name was left behind by a process that was killed: whoever lives holds the lock.
fn create(dir: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let create = || rustix::fs::openat(dir.as_fd(), name, flags, Mode::RUSR | Mode::WUSR);
    let created = create().or_else(|error| match error {
        Errno::EXIST => rustix::fs::unlinkat(dir, name, AtFlags::empty()).and_then(|()| create()),
        error => Err(error),
    });
    Ok(File::from(created?))
}
