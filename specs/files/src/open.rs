//! Open: a regular file of the host, and nothing that waits, moves a tape or never ends. I/O.
//!
//! A FIFO in a file's place would block the open, a device might be set going by it, `/dev/zero` has no end, and a sparse
//! file has more bytes than the memory. So the open never blocks, what was opened is looked at before it is read, and no
//! more is read than the caller says.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::limited;

/// Whether a link in the last name of a path is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// As open(2) does.
    Follow,
    /// A link is an error that says so.
    Refuse,
}

/// Opens a regular file for reading.
///
/// # Errors
/// There is none; it is a link that is not to be followed; it is no regular file.
pub fn regular(path: &Path, links: Links) -> io::Result<File> {
    regular_at(CWD, path, links)
}

/// The same for a path that begins in a directory.
///
/// # Errors
/// As [`regular`].
pub fn regular_at(dir: BorrowedFd<'_>, path: &Path, links: Links) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = if links == Links::Refuse { flags | OFlags::NOFOLLOW } else { flags };
    // To open a device may set it going: what is there is looked at first, and once more when it is open.
    let is_regular = |mode| FileType::from_raw_mode(mode) == FileType::RegularFile;
    let look = if links == Links::Refuse { AtFlags::SYMLINK_NOFOLLOW } else { AtFlags::empty() };
    match rustix::fs::statat(dir, path, look) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {}
        Ok(stat) if !is_regular(stat.st_mode) => return Err(not_regular(stat.st_mode)),
        _ => {}
    }
    let opened = rustix::fs::openat(dir, path, flags, Mode::empty()).map_err(|error| match error {
        Errno::LOOP if links == Links::Refuse => {
            io::Error::other("it is a symbolic link (name the file that it leads to)")
        }
        error => error.into(),
    })?;
    let mode = rustix::fs::fstat(&opened)?.st_mode;
    if is_regular(mode) { Ok(File::from(opened)) } else { Err(not_regular(mode)) }
}

/// All of a regular file, links followed.
///
/// # Errors
/// As [`regular`]; or it has more bytes than `limit`.
pub fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    all(regular(path, Links::Follow)?, limit)
}

/// All of an open file.
///
/// # Errors
/// It has more bytes than `limit`.
pub fn all(file: File, limit: usize) -> io::Result<Vec<u8>> {
    let bytes = limited::read(file, limit)?;
    if bytes.len() > limit { Err(io::Error::other(format!("it is longer than {limit} bytes"))) } else { Ok(bytes) }
}

fn not_regular(mode: rustix::fs::RawMode) -> io::Error {
    match FileType::from_raw_mode(mode) {
        FileType::Directory => io::ErrorKind::IsADirectory.into(),
        _ => io::Error::other("it is no regular file"),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "lays out files")]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_regular_files_is_opened_and_none_is_read_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        std::fs::write(path("file"), "12345").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        std::os::unix::fs::symlink("fifo", path("to-fifo")).unwrap();
        for name in ["fifo", "to-fifo", "socket"] {
            assert_eq!(read(&path(name), 9).unwrap_err().to_string(), "it is no regular file", "{name}");
        }
        assert_eq!(read(Path::new("/dev/zero"), 9).unwrap_err().to_string(), "it is no regular file");
        assert_eq!(read(dir.path(), 9).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(read(&path("nothing"), 9).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(read(&path("link"), 5).unwrap(), b"12345");
        assert_eq!(read(&path("link"), 4).unwrap_err().to_string(), "it is longer than 4 bytes");
        let refused = regular(&path("link"), Links::Refuse).unwrap_err().to_string();
        assert!(refused.starts_with("it is a symbolic link"), "{refused}");
    }
}
