//! Spec files: the texts of the spec directories, if they are no more than a start may read. I/O.
//!
//! They are counted before the first is read.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cdi_specs::{Format, MAX_TEXT_BYTES};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};

use super::budget::{self, OverBudget};
use crate::spec_dirs::{SpecDirs, SpecTexts};

/// A longer file is no spec.
const LONGEST: u64 = MAX_TEXT_BYTES as u64;

/// What all directories hold.
///
/// # Errors
/// More files, or longer ones, than a start may read.
pub fn read(dirs: &SpecDirs) -> Result<SpecTexts, OverBudget> {
    const WHO: &str = "the spec directories hold";
    let (mut files, mut bytes) = (0, 0_u64);
    for length in dirs.dirs().iter().flat_map(|dir| lengths(dir)) {
        files += 1;
        bytes = bytes.saturating_add(length);
        if files > budget::SPEC_FILES {
            return Err(OverBudget::new(WHO, "files", budget::SPEC_FILES));
        }
        if bytes > budget::SPEC_BYTES {
            return Err(OverBudget::new(WHO, "bytes of specs", budget::SPEC_BYTES));
        }
    }
    Ok(dirs.read())
}

/// How long each spec file of a directory is. What cannot be looked at, and what is longer than any spec, costs its own
/// devices only: the reader tells of it.
fn lengths(dir: &Path) -> impl Iterator<Item = u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, dir, flags, Mode::empty()).ok();
    let entries = opened.as_ref().and_then(|opened| Dir::read_from(opened).ok());
    let named =
        entries.into_iter().flatten().map_while(Result::ok).filter(|entry| is_spec(entry.file_name().to_bytes()));
    named.filter_map(move |entry| {
        let stat = rustix::fs::statat(opened.as_ref()?, entry.file_name(), AtFlags::empty()).ok()?;
        u64::try_from(stat.st_size).ok().filter(|length| *length <= LONGEST)
    })
}

fn is_spec(name: &[u8]) -> bool {
    let extension = Path::new(std::ffi::OsStr::from_bytes(name)).extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| Format::from_extension(extension).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "makes spec files")]
    fn spec_files_are_counted_before_one_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let read = || read(&SpecDirs::new([dir.path().to_owned(), "/nothing".into()]).insecure());
        let write = |name: &str, length| {
            std::fs::File::create(dir.path().join(name)).unwrap().set_len(length).unwrap();
        };
        write("a.yaml", 10);
        write("b.txt", 1 << 40);
        assert_eq!(read().unwrap().files.len(), 1);
        // One that is too long by itself hides no other.
        write("c.json", 3 << 30);
        assert_eq!((read().unwrap().files.len(), read().unwrap().problems.len()), (1, 1));
        let _ = ["c.json", "d.json", "e.json"].map(|name| write(name, LONGEST));
        assert!(read().unwrap_err().to_string().contains("hold more than 8388608 bytes of specs"));
        let _ = ["c.json", "d.json", "e.json"].map(|name| write(name, 0));
        (0..budget::SPEC_FILES).for_each(|number| write(&format!("{number}.json"), 0));
        assert!(read().unwrap_err().to_string().contains("hold more than 2048 files"));
    }
}
