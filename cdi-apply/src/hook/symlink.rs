//! Symlink: a link in the container. I/O.

use std::ffi::OsStr;
use std::io;

use super::paths::HookPath;
use super::place::Place;
use super::root::Root;

/// Links that are made one after the other, mostly in one directory.
#[derive(Debug)]
pub struct Links<'o> {
    root: &'o Root,
    /// The path of the latest one's directory, and its place.
    latest: Option<(&'o str, Place)>,
}

impl<'o> Links<'o> {
    /// None yet.
    pub fn new(root: &'o Root) -> Self {
        Self { root, latest: None }
    }

    /// Makes `link` say `target`, which is never looked at: what it leads to is for the container to find out.
    ///
    /// # Errors
    /// The link's directory is no directory or cannot be written, or a directory stands where the link should.
    pub fn create(&mut self, target: &str, link: &'o str) -> io::Result<()> {
        let (dir, name) = link.rsplit_once('/').unwrap_or(("", link));
        let place = match (&mut self.latest, name) {
            // A path that ends in a slash or a dot: what stands before that is no directory for others.
            (_, "" | "." | "..") => &self.root.make_place(&HookPath::link(link))?,
            (Some((latest, place)), _) if *latest == dir => {
                OsStr::new(name).clone_into(&mut place.name);
                place
            }
            (latest, _) => &latest.insert((dir, self.root.make_place(&HookPath::link(link))?)).1,
        };
        place.link(OsStr::new(target))
    }
}
