//! Output: a spec on disk, written once and atomically. I/O.
//!
//! Readers see the old file or the new one, never half ([`cdi_files::atomic`]). What is already there is not written
//! again, so engines that watch the directory are not woken for nothing. The directory is reached and made by handles
//! ([`cdi_files::dir`]): one that belongs to somebody else cannot have anything outside it changed.

use std::ffi::OsStr;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use cdi_files::atomic::{self, Bits};
use cdi_files::dir::{Dir, Missing};
use cdi_files::open;
use rustix::fs::{FileType, Mode, Stat};

use crate::problem::Problem;

/// Everybody may read a spec: rootless engines do.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP).union(Mode::ROTH);

/// What became of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The file has the new text.
    New,
    /// The file had it already.
    Unchanged,
}

/// A spec that could not be written. What stood there before still does.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {operation}")]
pub struct OutputError {
    /// The output path.
    pub path: Utf8PathBuf,
    /// The step that failed.
    pub operation: &'static str,
    /// Why.
    pub source: io::Error,
}

/// Makes the file at `path` hold `text`, for everybody to read. Its directory is made if missing.
///
/// # Errors
/// The path is a directory, a link or a special file; the directory cannot be made or written; the disk is full.
pub fn write(path: &Utf8Path, text: &str) -> Result<Written, OutputError> {
    let fail = |operation| move |source| OutputError { path: path.to_owned(), operation, source };
    let (dir, name) = directory_of(path, Missing::MakeForEverybody)?;
    let present = present(&dir, name).map_err(fail("look at the present file"))?;
    let same = |stat| has_text(&dir, name, &stat, text);
    if present.map_or(Ok(false), same).map_err(fail("look at the present file"))? {
        return Ok(Written::Unchanged);
    }
    replace(path, &dir, name, text, Bits::Exactly(MODE))?;
    Ok(Written::New)
}

/// The same for what is no spec: a report or a captured host, which is for whom the umask says.
///
/// # Errors
/// As [`write()`].
pub fn write_by_umask(path: &Utf8Path, text: &str) -> Result<(), OutputError> {
    let (dir, name) = directory_of(path, Missing::MakeByUmask)?;
    let fail = |source| OutputError { path: path.to_owned(), operation: "look at the present file", source };
    present(&dir, name).map_err(fail)?;
    replace(path, &dir, name, text, Bits::ByUmask(MODE))
}

/// The warning that others than root may change what root writes to a path.
pub fn untrusted(path: &Utf8Path) -> Option<Problem> {
    let dir = Dir::open(parent(path).as_std_path(), Missing::Error).ok()?;
    let who = dir.who_else_writes()?;
    let message = format!("{who}: engines that run as root take no spec from there");
    Some(Problem::warning("untrusted", message).hint("write to /etc/cdi or /var/run/cdi"))
}

/// The directory of a path, and the file's name in it.
fn directory_of(path: &Utf8Path, missing: Missing) -> Result<(Dir, &OsStr), OutputError> {
    let fail = |operation| move |source| OutputError { path: path.to_owned(), operation, source };
    let name = path.file_name().ok_or_else(|| fail("look at the present file")(is_directory()))?;
    let dir = Dir::open(parent(path).as_std_path(), missing).map_err(fail("make the directory"))?;
    Ok((dir, name.as_ref()))
}

fn parent(path: &Utf8Path) -> &Utf8Path {
    path.parent().filter(|dir| !dir.as_str().is_empty()).unwrap_or(".".into())
}

fn replace(path: &Utf8Path, dir: &Dir, name: &OsStr, text: &str, bits: Bits) -> Result<(), OutputError> {
    let fail = |error: atomic::StepError| OutputError {
        path: path.to_owned(),
        operation: error.operation,
        source: error.source,
    };
    atomic::write(dir, name, text.as_bytes(), bits).map_err(fail)
}

/// What the name has now. Only a regular file or nothing may have it.
fn present(dir: &Dir, name: &OsStr) -> io::Result<Option<Stat>> {
    let refuse = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    let Some(stat) = dir.stat(name)? else { return Ok(None) };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Some(stat)),
        FileType::Directory => Err(is_directory()),
        FileType::Symlink => refuse("it is a symbolic link; name its target, or remove it"),
        _ => refuse("it is not a regular file"),
    }
}

fn is_directory() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is a directory; name a file in it")
}

/// Whether a file has this text already, and is one of ours by its owner and mode.
fn has_text(dir: &Dir, name: &OsStr, stat: &Stat, text: &str) -> io::Result<bool> {
    let is_ours = stat.st_uid == rustix::process::geteuid().as_raw() && Mode::from_raw_mode(stat.st_mode) == MODE;
    if !is_ours || u64::try_from(stat.st_size).ok() != u64::try_from(text.len()).ok() {
        return Ok(false);
    }
    Ok(open::all(dir.file(name)?, text.len()).is_ok_and(|bytes| bytes == text.as_bytes()))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "lays out files, and looks at them")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    /// As numbers.
    const BITS: u32 = 0o644;

    fn in_temp_dir(test: impl FnOnce(&Utf8Path)) {
        let dir = tempfile::tempdir().unwrap();
        test(Utf8Path::from_path(dir.path()).unwrap());
    }

    fn names(dir: &Utf8Path) -> Vec<String> {
        let mut names: Vec<_> =
            dir.read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_in_a_new_directory_for_everybody() {
        in_temp_dir(|dir| {
            let path = dir.join("a/b/nvidia.yaml");
            assert_eq!(write(&path, "text").unwrap(), Written::New);
            assert_eq!(fs::read_to_string(&path).unwrap(), "text");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, BITS);
            assert_eq!(names(&dir.join("a/b")), ["nvidia.yaml"]);
        });
    }

    #[test]
    fn the_same_text_is_not_written_again() {
        in_temp_dir(|dir| {
            let path = dir.join("nvidia.yaml");
            write(&path, "text").unwrap();
            let inode = fs::metadata(&path).unwrap().ino();
            assert_eq!(write(&path, "text").unwrap(), Written::Unchanged);
            assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
            assert_eq!(write(&path, "other").unwrap(), Written::New);
            assert_ne!(fs::metadata(&path).unwrap().ino(), inode);
        });
    }

    #[test]
    fn a_wrong_mode_is_mended() {
        in_temp_dir(|dir| {
            let path = dir.join("nvidia.yaml");
            write(&path, "text").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(write(&path, "text").unwrap(), Written::New);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, BITS);
        });
    }

    #[test]
    fn a_directory_and_a_link_are_refused_and_left() {
        in_temp_dir(|dir| {
            fs::create_dir(dir.join("sub")).unwrap();
            fs::write(dir.join("target"), "kept").unwrap();
            symlink("target", dir.join("link")).unwrap();
            assert!(write(&dir.join("sub"), "x").unwrap_err().source.to_string().contains("is a directory"));
            assert!(write(&dir.join("link"), "x").unwrap_err().source.to_string().contains("is a symbolic link"));
            assert_eq!(fs::read_to_string(dir.join("target")).unwrap(), "kept");
            assert_eq!(names(dir), ["link", "sub", "target"]);
        });
    }

    #[test]
    fn spec_atomic_write() {
        in_temp_dir(|dir| {
            let path = dir.join("nvidia.yaml");
            let texts: Vec<String> = (0..8).map(|n| format!("{n}").repeat(100_000)).collect();
            std::thread::scope(|scope| {
                for text in &texts {
                    scope.spawn(|| (0..20).for_each(|_| assert!(write(&path, text).is_ok())));
                }
            });
            assert!(texts.contains(&fs::read_to_string(&path).unwrap()));
            assert_eq!(names(dir), ["nvidia.yaml"]);
        });
    }
}
