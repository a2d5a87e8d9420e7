//! Symlink: a link in the container. I/O.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::root::{Place, Root};

/// Links that are made one after the other, mostly in one directory.
#[derive(Debug)]
pub struct Links<'r> {
    root: &'r Root,
    /// The latest one's place, and the path of its directory.
    latest: Option<(PathBuf, Place)>,
}

impl<'r> Links<'r> {
    /// None yet.
    pub fn new(root: &'r Root) -> Self {
        Self { root, latest: None }
    }

    /// Makes `link` say `target`, which is never looked at: what it leads to is for the container to find out.
    ///
    /// # Errors
    /// The link's directory is no directory or cannot be written, or a directory stands where the link should.
    pub fn create(&mut self, target: &str, link: &str) -> io::Result<()> {
        let link = Path::new(link);
        let place = match (&mut self.latest, link.parent(), link.file_name()) {
            (Some((dir, place)), Some(parent), Some(name)) if dir == parent => {
                name.clone_into(&mut place.name);
                place
            }
            (latest, parent, _) => {
                let place = self.root.make_place(link)?;
                &latest.insert((parent.unwrap_or(Path::new("/")).to_owned(), place)).1
            }
        };
        place.link(OsStr::new(target))
    }
}
