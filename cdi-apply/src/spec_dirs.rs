//! Spec directories: where CDI specs lie, and their texts. I/O.
//!
//! Files directly in a directory count, with names that end in `.json` or `.yaml`; links to files are followed. A later
//! directory has the higher priority. What cannot be read is a [`Problem`] and hides nothing else: the reference gives up
//! on all later directories, whose specs would take precedence.
//!
//! A spec tells a container engine that runs as root which program to run as root. Specs that others may write are
//! therefore refused where the reader is root.
#![expect(clippy::disallowed_methods, reason = "reads spec directories and the variables that name them")]

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cdi_specs::{Format, MAX_TEXT_BYTES};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::problem::Problem;
use cdi_files::limited;
use cdi_files::trust::{Trust, why_untrusted};

/// The directories of the standard (CDI SPEC, "CDI specification files"), the lower priority first.
pub const DEFAULT_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// The text of one spec file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecText {
    /// The file.
    pub path: PathBuf,
    /// The higher one wins where two files define the same device.
    pub priority: usize,
    /// How the file's name says that it is written.
    pub format: Format,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// What spec directories hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecTexts {
    /// The files that could be read.
    pub files: Vec<SpecText>,
    /// The files and directories that could not.
    pub problems: Vec<Problem>,
}

/// Directories that hold CDI specs, the lowest priority first.
#[derive(Clone, Debug)]
pub struct SpecDirs {
    dirs: Vec<PathBuf>,
    trust: Trust,
}

impl SpecDirs {
    /// These directories.
    pub fn new(dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { dirs: dirs.into_iter().collect(), trust: Trust::of_this_process() }
    }

    /// The standard's directories; for a user who is not root also those below `$XDG_CONFIG_HOME` (or `~/.config`) and
    /// `$XDG_RUNTIME_DIR`.
    pub fn of_this_user() -> Self {
        let mut dirs: Vec<PathBuf> = DEFAULT_DIRS.iter().map(PathBuf::from).collect();
        if !rustix::process::geteuid().is_root() {
            let home = || directory("HOME").map(|home| home.join(".config"));
            let of_user = [directory("XDG_CONFIG_HOME").or_else(home), directory("XDG_RUNTIME_DIR")];
            dirs.extend(of_user.into_iter().flatten().map(|dir| dir.join("cdi")));
        }
        Self::new(dirs)
    }

    /// Reads also what others than root may write.
    #[must_use]
    pub fn insecure(self) -> Self {
        Self { trust: Trust::Everybody, ..self }
    }

    /// The directories themselves.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Reads all files.
    pub fn read(&self) -> SpecTexts {
        let mut texts = SpecTexts::default();
        for (priority, dir) in self.dirs.iter().enumerate() {
            match self.open(dir) {
                Ok(Some(opened)) => self.read_dir(&opened, dir, priority, &mut texts),
                Ok(None) => {}
                Err(message) => texts.problems.push(Problem::new(dir, message)),
            }
        }
        texts
    }

    /// The directory; `None` if there is none.
    fn open(&self, dir: &Path) -> Result<Option<OwnedFd>, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, dir, flags, Mode::empty()) {
            Ok(opened) => match why_untrusted(self.trust, opened.as_fd(), Some(dir)) {
                None => Ok(Some(opened)),
                Some(_) if is_gone(CWD, dir, opened.as_fd()) => Ok(None),
                Some(why) => Err(refused(&why)),
            },
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(format!("cannot read the directory: {error}")),
        }
    }

    fn read_dir(&self, opened: &OwnedFd, dir: &Path, priority: usize, texts: &mut SpecTexts) {
        let entries = match Dir::read_from(opened) {
            Ok(entries) => entries,
            Err(error) => return texts.problems.push(cannot_list(dir, error)),
        };
        for entry in entries {
            let name = match &entry {
                Ok(entry) => OsStr::from_bytes(entry.file_name().to_bytes()),
                // A directory that is deleted while it is read has no more entries.
                Err(Errno::NOENT) => return,
                Err(error) => return texts.problems.push(cannot_list(dir, *error)),
            };
            let Some(format) = format_of(name) else { continue };
            let path = dir.join(name);
            match self.read_file(opened.as_fd(), name, &path) {
                Ok(Some(bytes)) => texts.files.push(SpecText { path, priority, format, bytes }),
                Ok(None) => {}
                Err(message) => texts.problems.push(Problem::new(&path, message)),
            }
        }
    }

    /// What a file holds; `None` for a directory, and for a file that is gone by now.
    fn read_file(&self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<Option<Vec<u8>>, String> {
        // Looked at before it is opened: to open a device may set it going.
        let kind = |flags| rustix::fs::statat(dir, name, flags).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let is_link = match kind(AtFlags::SYMLINK_NOFOLLOW) {
            Ok(kind) => kind.is_symlink(),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(cannot_read(error)),
        };
        match kind(AtFlags::empty()) {
            Ok(kind) if kind.is_dir() => return Ok(None),
            Ok(kind) if kind.is_file() => {}
            Ok(_) => return Err(NOT_REGULAR.to_owned()),
            Err(Errno::NOENT) if !is_link => return Ok(None),
            Err(error) => return Err(cannot_read(error)),
        }
        // Not to wait, should a FIFO have taken its place.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(cannot_read(error)),
        };
        // The directory is known to be safe; where a link leads is not.
        match why_untrusted(self.trust, file.as_fd(), is_link.then_some(path)) {
            None => {}
            Some(_) if is_gone(dir, name, file.as_fd()) => return Ok(None),
            Some(why) => return Err(refused(&why)),
        }
        read_limited(&file).map(Some)
    }
}

/// Whether a path leads no longer to what was opened there.
fn is_gone(dir: BorrowedFd<'_>, path: impl rustix::path::Arg, opened: BorrowedFd<'_>) -> bool {
    match rustix::fs::statat(dir, path, AtFlags::empty()) {
        Ok(now) => rustix::fs::fstat(opened).is_ok_and(|then| (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino)),
        Err(error) => error == Errno::NOENT,
    }
}

/// What an absolute path in a variable leads to.
fn directory(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn format_of(name: &OsStr) -> Option<Format> {
    let name = name.as_bytes();
    let extension = name.get(name.iter().rposition(|byte| *byte == b'.')? + 1..)?;
    Format::from_extension(std::str::from_utf8(extension).ok()?)
}

/// What a spec file must not be: a FIFO, a socket, a device.
const NOT_REGULAR: &str = "not a regular file";

fn cannot_read(error: impl Display) -> String {
    format!("cannot read the file: {error}")
}

fn cannot_list(dir: &Path, error: Errno) -> Problem {
    Problem::new(dir, format!("cannot list the directory: {error}"))
}

fn refused(why: &str) -> String {
    format!("{why}; not used, since root must be able to rely on it (--insecure-spec-dirs uses it all the same)")
}

/// The file's bytes, if they are no more than a spec may have; what says that it is longer is not read at all.
fn read_limited(file: &File) -> Result<Vec<u8>, String> {
    let metadata = file.metadata().map_err(cannot_read)?;
    if !metadata.is_file() {
        return Err(NOT_REGULAR.to_owned());
    }
    let too_long = || format!("more than the limit of {MAX_TEXT_BYTES} bytes");
    if usize::try_from(metadata.len()).is_ok_and(|size| size > MAX_TEXT_BYTES) {
        return Err(too_long());
    }
    let bytes = limited::read(file, MAX_TEXT_BYTES).map_err(cannot_read)?;
    if bytes.len() > MAX_TEXT_BYTES { Err(too_long()) } else { Ok(bytes) }
}
