//! Replace: a file of others, read, changed, and put in its place as a whole. I/O.
//!
//! ```text
//! lock ─► read ─► (change) ─► write beside ─► (judge) ─► exchange ─► is it still what was read? ─► remove the old one
//! ```
//!
//! At each moment there is the old file or the new one, whole, with its owner, mode, access control list and extended
//! attributes. Whatever fails, the bytes that were read are in place again. What a killed process leaves behind are a lock
//! that nobody holds and a file beside, always of the same names: the next takes them over.
//!
//! The lock is a file beside that only its owner can open, and is removed with the work done. The directory itself or the
//! file would not do: whoever can read them can hold flock(2) on them for ever. It keeps away those who come through here;
//! an editor does not. So the two files are exchanged (`RENAME_EXCHANGE`), and if what comes out is not what was read, they
//! are exchanged back.
//!
//! The file is replaced under one name: another hard link to the old one still leads there.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::attributes::Attributes;
use crate::open::{Links, regular_at};
use crate::{limited, lock};

/// How often the lock is asked for, and how long in between: 5 s in all.
const LOCK_ROUNDS: usize = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// Behind the hidden name of the file: the new one until it takes the place of the old one, and the lock.
const BESIDE: &str = ".cdi-apply";
const LOCK: &str = ".cdi-apply.lock";
/// A file that was not there is for everybody to read, whatever the umask.
const NEW_MODE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP).union(Mode::ROTH);

/// What went wrong with which file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}", path = .path.display())]
pub struct ReplaceError {
    /// `read`, `lock` or `write`.
    pub operation: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl ReplaceError {
    /// Whether somebody else changed the file in the meantime: what they wrote is in place.
    pub fn is_changed(&self) -> bool {
        self.source.get_ref().and_then(|source| source.downcast_ref::<Changed>()).is_some()
    }
}

#[derive(Debug)]
struct Changed;

impl std::error::Error for Changed {}

impl fmt::Display for Changed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("another program has changed it in the meantime (try again)")
    }
}

pub(crate) fn changed() -> io::Error {
    io::Error::other(Changed)
}

/// What is waited for before a change counts as made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Nothing: after a loss of power the file may be empty.
    Nothing,
    /// The bytes: after a loss of power there is the old file or the new one.
    Bytes,
    /// The name too: there is the new one.
    Name,
}

/// A file as it was read.
#[derive(Debug)]
pub struct Old {
    /// The file itself.
    pub file: File,
    /// What it was then.
    pub stat: Stat,
    /// What it holds, but no more than one byte over the limit.
    pub text: Vec<u8>,
}

/// A file that may be replaced, and is kept from others who come through here as long as the value lives.
#[derive(Debug)]
pub struct Replacing {
    dir: OwnedFd,
    path: PathBuf,
    name: OsString,
    limit: usize,
    old: Option<Old>,
    /// Where no lock can be made no file can be, which matters only if one is to be.
    lock: Result<File, Errno>,
}

impl Drop for Replacing {
    fn drop(&mut self) {
        if self.lock.is_ok() {
            // One that stays is the next one's.
            let _ = rustix::fs::unlinkat(&self.dir, hidden(&self.name, LOCK), AtFlags::empty());
        }
    }
}

impl Replacing {
    /// Locks a file and reads it, or sees that there is none.
    ///
    /// # Errors
    /// Its directory is missing; it is a link or no regular file; it is in use.
    pub fn open(path: &Path, limit: usize) -> Result<Self, ReplaceError> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = rustix::fs::openat(CWD, dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let failed = |source: Errno| ReplaceError { operation: "read", path: path.to_owned(), source: source.into() };
        Self::open_in(dir.map_err(failed)?, path, limit)
    }

    /// The same where the directory is open.
    ///
    /// # Errors
    /// As [`Replacing::open`].
    pub fn open_in(dir: OwnedFd, path: &Path, limit: usize) -> Result<Self, ReplaceError> {
        let failed = |operation| move |source| ReplaceError { operation, path: path.to_owned(), source };
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory.into()).map_err(failed("read"))?;
        let lock = lock(dir.as_fd(), &hidden(name, LOCK)).map_err(failed("lock"))?;
        let mut file = Self { dir, path: path.to_owned(), name: name.to_owned(), limit, old: None, lock };
        file.old = read(file.dir.as_fd(), name, limit).map_err(failed("read"))?;
        Ok(file)
    }

    /// The file, if there is one.
    pub fn old(&self) -> Option<&Old> {
        self.old.as_ref()
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// That of the next file until it takes the place of this one.
    pub(crate) fn name_of_next(&self) -> OsString {
        hidden(&self.name, BESIDE)
    }

    pub(crate) fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> ReplaceError + use<> {
        let path = self.path.clone();
        move |source| ReplaceError { operation, path, source }
    }

    /// Writes the next file beside this one, with the owner, mode, list and attributes of the old one.
    ///
    /// # Errors
    /// It cannot be written, or cannot have one of these.
    pub fn write(&self, text: &[u8], flush: Flush) -> Result<Written<'_>, ReplaceError> {
        self.try_write(text, flush).map_err(self.failed("write"))
    }

    fn try_write(&self, text: &[u8], flush: Flush) -> io::Result<Written<'_>> {
        if let Err(errno) = self.lock {
            return Err(errno.into());
        }
        if self.old.as_ref().is_some_and(|old| old.text.len() > self.limit) {
            return Err(io::Error::other(format!("it is longer than {} bytes", self.limit)));
        }
        let name = self.name_of_next();
        let mut file = create(self.dir.as_fd(), &name)?;
        let inode = rustix::fs::fstat(&file)?.st_ino;
        let written = Written { of: self, name, inode, flush, is_in_place: false };
        file.write_all(text)?;
        match &self.old {
            Some(old) => Attributes::of_stat(&old.file, &old.stat)?.give(&file)?,
            None => rustix::fs::fchmod(&file, NEW_MODE)?,
        }
        match flush {
            Flush::Nothing => {}
            Flush::Bytes => rustix::fs::fdatasync(&file)?,
            Flush::Name => rustix::fs::fsync(&file)?,
        }
        Ok(written)
    }

    /// Has the disk know which name leads where.
    pub(crate) fn flush_names(&self) -> io::Result<()> {
        // A handle of a directory that may not be listed cannot be flushed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = rustix::fs::openat(&self.dir, ".", flags, Mode::empty())?;
        match rustix::fs::fsync(readable) {
            // A file system of which directories cannot be flushed.
            Err(Errno::INVAL) => Ok(()),
            flushed => Ok(flushed?),
        }
    }

    /// Whether a name leads to the file that was read, with the bytes that were read.
    pub(crate) fn leads_to_old(&self, name: &OsStr) -> io::Result<()> {
        let there = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(vanished)?;
        let Some(old) = &self.old else { return Err(changed()) };
        // Asked anew: in an overlay the numbers change with the first change of a file.
        let now = rustix::fs::fstat(&old.file)?;
        if is_one(&now, &there) && is_untouched(&old.stat, &now) { Ok(()) } else { Err(changed()) }
    }

    /// Gives a file another name that nothing has.
    pub(crate) fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let dir = &self.dir;
        match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
            Err(error) if is_no_such_call(error) => {
                rustix::fs::linkat(dir, from, dir, to, AtFlags::empty()).map_err(appeared)?;
                Ok(rustix::fs::unlinkat(dir, from, AtFlags::empty())?)
            }
            renamed => renamed.map_err(appeared),
        }
    }

    /// Exchanges two names, and back if the old file does not come out of its place, or `then` fails.
    pub(crate) fn exchange_with(&self, name: &OsStr, then: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let exchange = || rustix::fs::renameat_with(&self.dir, name, &self.dir, &self.name, RenameFlags::EXCHANGE);
        match exchange() {
            Err(error) if is_no_such_call(error) => {
                self.leads_to_old(&self.name)?;
                rustix::fs::renameat(&self.dir, name, &self.dir, &self.name)?;
                return then();
            }
            exchanged => exchanged.map_err(vanished)?,
        }
        let good = self.leads_to_old(name).and_then(|()| then());
        if good.is_err() {
            exchange()?;
        }
        good
    }
}

/// A file beside that waits to take the place of the old one. It is removed if it does not.
#[derive(Debug)]
pub struct Written<'f> {
    of: &'f Replacing,
    name: OsString,
    inode: u64,
    flush: Flush,
    is_in_place: bool,
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        let Replacing { dir, .. } = self.of;
        let is_ours = || {
            let now = rustix::fs::statat(dir, &self.name, AtFlags::SYMLINK_NOFOLLOW);
            now.is_ok_and(|now| now.st_ino == self.inode)
        };
        if self.is_in_place || is_ours() {
            // One that stays is the next one's; the error to tell is another.
            let _ = rustix::fs::unlinkat(dir, &self.name, AtFlags::empty());
        }
    }
}

impl Written<'_> {
    /// Where it is, for a judge.
    pub fn path(&self) -> PathBuf {
        self.of.path.with_file_name(&self.name)
    }

    /// Puts it in the place of the old one.
    ///
    /// # Errors
    /// It cannot be; or what is there is not what was read. What is there stays.
    pub fn take_place(mut self) -> Result<(), ReplaceError> {
        let taken = if self.of.old.is_some() { self.exchange() } else { self.appear() };
        self.is_in_place = taken.is_ok();
        taken.map_err(self.of.failed("write"))
    }

    fn exchange(&self) -> io::Result<()> {
        self.of.exchange_with(&self.name, || self.flush_name())
    }

    fn appear(&self) -> io::Result<()> {
        let Replacing { dir, name, .. } = self.of;
        self.of.rename_new(&self.name, name)?;
        self.flush_name().inspect_err(|_| _ = rustix::fs::unlinkat(dir, name, AtFlags::empty()))
    }

    fn flush_name(&self) -> io::Result<()> {
        if self.flush == Flush::Name { self.of.flush_names() } else { Ok(()) }
    }
}

/// What older kernels and some file systems say to renameat2(2).
fn is_no_such_call(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

fn vanished(error: Errno) -> io::Error {
    if error == Errno::NOENT { changed() } else { error.into() }
}

fn appeared(error: Errno) -> io::Error {
    if error == Errno::EXIST { changed() } else { error.into() }
}

pub(crate) fn is_one(this: &Stat, other: &Stat) -> bool {
    (this.st_dev, this.st_ino) == (other.st_dev, other.st_ino)
}

/// Whether nobody wrote in between, or let others in or out. The time of the last change of the inode (`ctime`) would say
/// all of that, but a rename sets it too.
fn is_untouched(then: &Stat, now: &Stat) -> bool {
    let bytes = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    let access = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
    bytes(then) == bytes(now) && access(then) == access(now)
}

/// A hidden name beside: always the same, so that nothing accumulates.
fn hidden(name: &OsStr, suffix: &str) -> OsString {
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(suffix);
    hidden
}

/// Holds the lock; the inner error says why none can be made.
fn lock(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Result<File, Errno>> {
    for _ in 0..LOCK_ROUNDS {
        let file = match lock::open(dir, name) {
            Err(error) => return Errno::from_io_error(&error).map(Err).ok_or(error),
            Ok(file) => file,
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => sleep(LOCK_PAUSE),
            locked => {
                locked?;
                // Who held it before has removed it: a third may hold the next one. That is told by the name, since NFS
                // keeps an open file under another one.
                let there = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
                if there.is_ok_and(|there| rustix::fs::fstat(&file).is_ok_and(|held| is_one(&held, &there))) {
                    return Ok(Ok(file));
                }
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "another process is changing it"))
}

/// Reads a file without a lock; `None` if there is none.
///
/// # Errors
/// It is a link or no regular file.
pub fn read(dir: BorrowedFd<'_>, name: &OsStr, limit: usize) -> io::Result<Option<Old>> {
    let file = match regular_at(dir, name.as_ref(), Links::Refuse) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            return Err(io::Error::other("it is no regular file"));
        }
        Err(error) => return Err(link(dir, name).unwrap_or(error)),
    };
    let stat = rustix::fs::fstat(&file)?;
    let text = limited::read(&file, limit)?;
    Ok(Some(Old { file, stat, text }))
}

fn link(dir: BorrowedFd<'_>, name: &OsStr) -> Option<io::Error> {
    let target = rustix::fs::readlinkat(dir, name, Vec::new()).ok()?;
    let target = target.to_string_lossy().escape_debug().to_string();
    Some(io::Error::other(format!("it is a link (give the file that it leads to): {target}")))
}

/// A new file. One of that name was left behind by a process that was killed: whoever lives holds the lock.
fn create(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let create = || rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR);
    let created = create().or_else(|error| match error {
        Errno::EXIST => rustix::fs::unlinkat(dir, name, AtFlags::empty()).and_then(|()| create()),
        error => Err(error),
    });
    Ok(File::from(created?))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "lays out files, and looks at them")]
mod tests {
    use std::fs;
    use std::sync::Barrier;

    use super::*;

    /// Of an editor that holds no lock, each time as the change is made.
    #[test]
    fn whoever_renames_over_the_file_meanwhile_is_never_undone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mine) = (dir.path().join("file"), dir.path().join("mine"));
        let (mut made, mut given_up) = (0, 0);
        for round in 0..3_000 {
            if round % 2 == 0 {
                fs::write(&path, "old").unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            fs::write(&mine, "edited").unwrap();
            let start = Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    // From at once to a little more than the change takes.
                    sleep(Duration::from_micros(round % 100));
                    fs::rename(&mine, &path).unwrap();
                });
                start.wait();
                let file = Replacing::open(&path, 99).unwrap();
                let before = file.old().map(|old| old.text.clone()).unwrap_or_default();
                let written = file.write(&[&before[..], b" and ours"].concat(), Flush::Nothing).unwrap();
                match written.take_place() {
                    Ok(()) => made += 1,
                    Err(error) => {
                        assert!(error.is_changed(), "{error:?}");
                        given_up += 1;
                    }
                }
            });
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("edited"), "round {round}: {text}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "round {round}");
        }
        assert!(made > 0 && given_up > 0, "{made} made, {given_up} given up: the test proves nothing");
    }

    #[test]
    fn a_file_that_was_read_in_part_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "12345").unwrap();
        let file = Replacing::open(&path, 4).unwrap();
        assert_eq!(file.old().unwrap().text, b"12345");
        let error = file.write(b"1", Flush::Name).unwrap_err();
        assert_eq!((error.operation, error.source.to_string().as_str()), ("write", "it is longer than 4 bytes"));
    }

    #[test]
    fn whoever_waits_for_the_lock_has_the_next_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let file = Replacing::open(&path, 999).unwrap();
                        let before = file.old().map(|old| old.text.clone()).unwrap_or_default();
                        file.write(&[&before[..], b"x"].concat(), Flush::Nothing).unwrap().take_place().unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read(&path).unwrap().len(), 200);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
