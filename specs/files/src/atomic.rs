//! Atomic: a file that has its new bytes at once, or keeps the old ones. I/O.
//!
//! The bytes go into a new file beside it, with its final mode from the start, are flushed to the disk, and take the
//! name. All by the handle of the directory, so that nothing outside is touched whoever else may write there.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::dir::Dir;

/// Attempts at a file name that nobody else uses.
const ATTEMPTS: u32 = 100;

/// Permission bits of a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    /// These, whatever the umask.
    Exactly(Mode),
    /// As the umask leaves them.
    ByUmask(Mode),
}

/// A file that could not be written. What stood there before still does.
#[derive(Debug, thiserror::Error)]
#[error("{operation}")]
pub struct StepError {
    /// The step that failed.
    pub operation: &'static str,
    /// Why.
    pub source: io::Error,
}

/// Makes the file called `name` hold these bytes.
///
/// # Errors
/// The directory cannot be written; the disk is full; a directory has the name.
pub fn write(dir: &Dir, name: &OsStr, bytes: &[u8], bits: Bits) -> Result<(), StepError> {
    let fail = |operation| move |source| StepError { operation, source };
    let (temporary, file) = create_beside(dir, name, bits).map_err(fail("make a file"))?;
    let rename = || rustix::fs::renameat(dir, &temporary, dir, name).map_err(io::Error::from);
    let written = fill(file, bytes, bits)
        .map_err(fail("write"))
        .and_then(|()| rename().map_err(fail("rename over the present file")));
    if written.is_err() {
        // The first error is the one to tell; a leftover has a name that no engine reads.
        let _ = rustix::fs::unlinkat(dir, &temporary, AtFlags::empty());
    }
    written?;
    dir.sync().map_err(fail("flush the directory"))
}

/// A new file that neither another process nor an engine takes for one of theirs.
fn create_beside(dir: &Dir, name: &OsStr, bits: Bits) -> io::Result<(OsString, File)> {
    let (Bits::Exactly(mode) | Bits::ByUmask(mode)) = bits;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut attempt = 0;
    loop {
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.{attempt}.tmp", std::process::id()));
        match rustix::fs::openat(dir, &temporary, flags, mode) {
            Ok(file) => return Ok((temporary, file.into())),
            Err(Errno::EXIST) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn fill(mut file: File, bytes: &[u8], bits: Bits) -> io::Result<()> {
    if let Bits::Exactly(mode) = bits {
        rustix::fs::fchmod(&file, mode)?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "looks at files")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::dir::Missing;

    const WIDE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP).union(Mode::ROTH);

    #[test]
    fn a_file_is_replaced_as_a_whole_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let handle = Dir::open(dir.path(), Missing::Error).unwrap();
        fs::write(at("target"), "kept").unwrap();
        symlink("target", at("link")).unwrap();
        for name in ["new", "link"] {
            write(&handle, name.as_ref(), b"text", Bits::Exactly(WIDE)).unwrap();
            let metadata = fs::symlink_metadata(at(name)).unwrap();
            assert!(metadata.is_file() && metadata.mode() & 0o7777 == 0o644, "{name}");
            assert_eq!(fs::read(at(name)).unwrap(), b"text");
        }
        assert_eq!(fs::read(at("target")).unwrap(), b"kept");
        fs::create_dir(at("dir")).unwrap();
        let error = write(&handle, "dir".as_ref(), b"", Bits::ByUmask(WIDE)).unwrap_err();
        assert_eq!(error.operation, "rename over the present file");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "no leftovers");
    }
}
