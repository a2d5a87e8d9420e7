//! Place: a directory of the container, and a name in it at which something is made, read or replaced. I/O.
//!
//! A directory on the root's own mount can still have another mount at the name: a file that is mounted over
//! `/etc/ld.so.cache` is somebody else's. Nothing here goes into such a one; the kernel refuses to replace it (`EBUSY`).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStringExt;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawMode, RenameFlags, Stat, Uid};
use rustix::io::Errno;

use super::file_systems;
use super::root::{Opener, reopen};
use cdi_files::limited;

/// Bytes that are written at once.
const BUFFER: usize = 32 << 10;
/// Bits of a mode.
const OTHERS_READ: RawMode = 0o004;
const OWNERS: RawMode = 0o700;

/// What writes a file.
pub type Writing<'w> = &'w dyn Fn(&mut dyn Write) -> io::Result<()>;

/// A place in the root: a directory, and a name in it that may or may not exist.
#[derive(Debug)]
pub struct Place {
    /// The directory.
    pub dir: OwnedFd,
    /// One name: no `/`, neither `.` nor `..`.
    pub name: OsString,
    /// Opens the name.
    pub opener: Opener,
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
    /// There is nothing, or it is of another mount than it may be.
    pub fn open(&self) -> io::Result<OwnedFd> {
        self.opener.open(&self.dir, &self.name)
    }

    /// The regular file there, and no link to one, with its permissions: what is written in its place has no more.
    ///
    /// # Errors
    /// There is nothing, or something else.
    pub fn read(&self) -> io::Result<(File, RawMode)> {
        let (file, stat) = reopen(&self.open()?)?;
        Ok((file, stat.st_mode))
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

    /// Makes a file there hold what is written: beside what stands there, then in its place. It gets that one's owner, and
    /// no permission more.
    ///
    /// # Errors
    /// As [`Place::write`].
    pub fn replace(self, write: Writing<'_>, mode: RawMode) -> io::Result<()> {
        let draft = self.draft()?;
        fill(&draft.file, write)?;
        draft.put(mode)
    }

    /// An empty file beside, to be put there.
    fn draft(self) -> io::Result<Draft> {
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
    fn exchange(&self, beside: &OsStr, standing: Option<&Stat>) -> Result<(), Errno> {
        let exchange = || rustix::fs::renameat_with(&self.dir, beside, &self.dir, &self.name, RenameFlags::EXCHANGE);
        match standing {
            Some(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => Err(Errno::ISDIR),
            Some(_) if !self.is_in_overlay() && exchange().is_ok() => Ok(()),
            _ => rustix::fs::renameat(&self.dir, beside, &self.dir, &self.name),
        }
    }

    fn is_in_overlay(&self) -> bool {
        rustix::fs::fstatfs(&self.dir).is_ok_and(|file_system| file_system.f_type == file_systems::OVERLAY)
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        let Ok((file, _)) = self.read() else { return false };
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
                let (beside, standing) = (self.clear_beside(), self.stat().ok());
                let put = rustix::fs::symlinkat(target, &self.dir, &beside)
                    .and_then(|()| self.exchange(&beside, standing.as_ref()));
                self.remove(&beside);
                Ok(put?)
            }
            made => Ok(made?),
        }
    }

    /// Takes away what stands there.
    ///
    /// # Errors
    /// The directory cannot be written, or a directory stands there.
    pub fn take_away(&self) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty()) {
            Err(Errno::NOENT) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A file that comes to its place when it is whole.
struct Draft {
    place: Place,
    beside: OsString,
    file: File,
}

impl Draft {
    fn put(&self, mode: RawMode) -> io::Result<()> {
        let standing = self.place.stat().ok();
        let file = standing.as_ref().filter(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        if let Some(stat) = file {
            self.take_owner(stat)?;
        }
        let mode = file.map_or(mode, |stat| narrowed(mode, stat.st_mode));
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))?;
        Ok(self.place.exchange(&self.beside, standing.as_ref())?)
    }

    /// Gives the file the owner of another. Where that is refused it stays root's: its permissions are such that nobody can
    /// do more with it then.
    fn take_owner(&self, held: &Stat) -> io::Result<()> {
        let own = rustix::fs::fstat(&self.file)?;
        if (own.st_uid, own.st_gid) != (held.st_uid, held.st_gid) {
            let _ = rustix::fs::fchown(&self.file, Some(Uid::from_raw(held.st_uid)), Some(Gid::from_raw(held.st_gid)));
        }
        Ok(())
    }
}

impl Drop for Draft {
    /// What is beside goes: what the file has replaced, or itself.
    fn drop(&mut self) {
        self.place.remove(&self.beside);
    }
}

/// The permissions of a file whose text comes from one that has those `held`. What others may not read its group may not
/// either: the bits of a group may be those of an access control list (acl(5)), which the file does not get.
pub fn narrowed(mode: RawMode, held: RawMode) -> RawMode {
    let kept = mode & held;
    if held & OTHERS_READ == 0 { kept & OWNERS } else { kept }
}

/// Has a file written, in few system calls.
pub fn fill(file: &File, write: Writing<'_>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, file);
    write(&mut out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_kept_or_narrowed() {
        let cases = [
            (0o644, 0o100_644, 0o644),
            (0o644, 0o100_666, 0o644),
            (0o644, 0o100_600, 0o600),
            (0o644, 0o104_755, 0o644),
            (0o644, 0o100_444, 0o444),
            (0o644, 0o100_640, 0o600),
            (0o644, 0o100_604, 0o604),
            (0o444, 0o100_600, 0o400),
            (0o644, 0o100_000, 0o000),
        ];
        for (mode, held, expected) in cases {
            assert_eq!(narrowed(mode, held), expected, "{mode:o} {held:o}");
        }
    }
}
