//! Output: a spec on disk, written once and atomically. I/O.
//!
//! Readers see the old file or the new one, never half: the text goes into a new file beside it, with its final mode
//! from the start, is flushed to the disk, and takes the name. What is already there is not written again, so engines
//! that watch the directory are not woken for nothing.
#![expect(clippy::disallowed_methods, reason = "the one place that writes the spec")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

use camino::{Utf8Path, Utf8PathBuf};

/// Everybody may read a spec: rootless engines do.
const MODE: u32 = 0o644;
/// And may look into its directory.
const DIR_MODE: u32 = 0o755;
/// Attempts at a file name that nobody else uses.
const ATTEMPTS: u32 = 100;

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

/// Makes the file at `path` hold `text`. Its directory is made if missing.
///
/// # Errors
/// The path is a directory, a link or a special file; the directory cannot be made or written; the disk is full.
pub fn write(path: &Utf8Path, text: &str) -> Result<Written, OutputError> {
    let fail = |operation| move |source| OutputError { path: path.to_owned(), operation, source };
    if is_same(path, text).map_err(fail("look at the present file"))? {
        return Ok(Written::Unchanged);
    }
    let dir = path.parent().filter(|dir| !dir.as_str().is_empty()).unwrap_or(".".into());
    make_dirs(dir).map_err(fail("make the directory"))?;
    let (temporary, file) = create_beside(dir, path.file_name().unwrap_or_default()).map_err(fail("make a file"))?;
    let written = fill(file, text)
        .map_err(fail("write"))
        .and_then(|()| fs::rename(&temporary, path).map_err(fail("rename over the present file")));
    if written.is_err() {
        // The first error is the one to tell; a leftover has a name that no engine reads.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail("flush the directory"))?;
    Ok(Written::New)
}

/// Makes a directory and those above it that are missing, for everybody to read whatever the umask.
///
/// # Errors
/// One cannot be made.
pub fn make_dirs(dir: &Utf8Path) -> io::Result<()> {
    let missing: Vec<_> = dir.ancestors().take_while(|dir| !dir.as_str().is_empty() && !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        match fs::create_dir(dir) {
            Ok(()) => fs::set_permissions(dir, fs::Permissions::from_mode(DIR_MODE))?,
            // Another run was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the file is there with this text and mode. Only a regular file or nothing may be there.
fn is_same(path: &Utf8Path, text: &str) -> io::Result<bool> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let refuse = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    match metadata.file_type() {
        kind if kind.is_dir() => refuse("it is a directory; name a file in it"),
        kind if kind.is_symlink() => refuse("it is a symbolic link; name its target, or remove it"),
        kind if !kind.is_file() => refuse("it is not a regular file"),
        _ if metadata.len() != text.len() as u64 || metadata.permissions().mode() & 0o7777 != MODE => Ok(false),
        _ => Ok(fs::read(path)? == text.as_bytes()),
    }
}

/// A new file in `dir` that neither another process nor an engine takes for a spec.
fn create_beside(dir: &Utf8Path, name: &str) -> io::Result<(Utf8PathBuf, File)> {
    let mut attempt = 0;
    loop {
        let path = dir.join(format!(".{name}.{}.{attempt}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

fn fill(mut file: File, text: &str) -> io::Result<()> {
    // The umask may have taken bits from the mode.
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
            assert_eq!(names(&dir.join("a/b")), ["nvidia.yaml"]);
        });
    }

    #[test]
    fn the_same_text_is_not_written_again() {
        use std::os::unix::fs::MetadataExt;
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
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
        });
    }

    #[test]
    fn a_directory_and_a_link_are_refused_and_left() {
        in_temp_dir(|dir| {
            fs::create_dir(dir.join("sub")).unwrap();
            fs::write(dir.join("target"), "kept").unwrap();
            std::os::unix::fs::symlink("target", dir.join("link")).unwrap();
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
