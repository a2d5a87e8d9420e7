//! Symlink: a link in the container. I/O.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use super::root::Root;

/// Makes `link` say `target`, which is never looked at: what it leads to is for the container to find out.
///
/// # Errors
/// The link's directory is no directory or cannot be written, or a directory stands where the link should.
pub fn create(root: &Root, target: &str, link: &str) -> io::Result<()> {
    root.make_place(Path::new(link))?.link(OsStr::new(target)).map(|_| ())
}
