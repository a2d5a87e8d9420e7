//! Walk: a way from the root, name by name, where the kernel does not go it, or must not. I/O.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC};
use rustix::io::Errno;

use super::budget::Cost;
use super::paths::Class;
use super::root::{DIR_MODE, PATH_ONLY, Root};
use cdi_files::path_names::{MAX_LINKS, names};

/// What to do with a directory that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing.
    Refuse,
    /// Make it.
    Make,
}

/// How far the way may lead.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// No other mount is entered.
    pub own_mount: bool,
    /// No link is followed.
    pub no_links: bool,
    /// On other mounts everybody may go through the directories.
    pub public: bool,
}

impl Bounds {
    /// Those of a class.
    pub fn of(class: Class) -> Self {
        Self {
            own_mount: class == Class::Image,
            no_links: matches!(class, Class::Kernel | Class::Device),
            public: false,
        }
    }
}

/// A way from the root.
pub struct Walk<'r> {
    root: &'r Root,
    bounds: Bounds,
    missing: Missing,
    /// The root, the directories below it that lead to where we are, and that.
    way: Vec<OwnedFd>,
    links: usize,
}

impl<'r> Walk<'r> {
    /// At its start.
    ///
    /// # Errors
    /// There are no more handles to be had.
    pub fn new(root: &'r Root, bounds: Bounds, missing: Missing) -> io::Result<Self> {
        let start = rustix::io::fcntl_dupfd_cloexec(root.dir(), 3)?;
        Ok(Self { root, bounds, missing, way: vec![start], links: 0 })
    }

    /// Goes on.
    ///
    /// # Errors
    /// There is nothing, or it is out of bounds.
    pub fn go(mut self, path: &Path) -> io::Result<Self> {
        let mut ahead = names(path);
        while let Some(name) = ahead.pop() {
            self.root.budget().draw(Cost::Calls, 1)?;
            if name == ".." {
                // The root is above itself.
                if self.way.len() > 1 {
                    self.way.pop();
                }
                continue;
            }
            let found = self.enter(&name)?;
            if self.is_link(&found)? {
                let target = self.target(&found)?;
                if target.starts_with(b"/") {
                    self.way.truncate(1);
                }
                ahead.extend(names(Path::new(OsStr::from_bytes(&target))));
            } else {
                self.way.push(found);
            }
        }
        Ok(self)
    }

    /// A handle on a name where we are, itself and not what it links to.
    fn enter(&self, name: &OsStr) -> Result<OwnedFd, Errno> {
        let dir = self.way.last().ok_or(Errno::NOENT)?;
        let open = || rustix::fs::openat(dir, name, PATH_ONLY | OFlags::NOFOLLOW, Mode::empty());
        match open() {
            Err(Errno::NOENT) if self.missing == Missing::Make => {
                match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(DIR_MODE)) {
                    // Somebody else was faster.
                    Ok(()) | Err(Errno::EXIST) => open(),
                    Err(error) => Err(error),
                }
            }
            opened => opened,
        }
    }

    /// Whether it is a link, if it is nothing that is out of bounds.
    fn is_link(&self, found: &OwnedFd) -> io::Result<bool> {
        if !self.bounds.own_mount && !self.bounds.public {
            return Ok(FileType::from_raw_mode(rustix::fs::fstat(found)?.st_mode).is_symlink());
        }
        let seen = self.root.look(found)?;
        let is_foreign = seen.mount != self.root.own_mount()?;
        if is_foreign && self.bounds.own_mount {
            return Err(Errno::XDEV.into());
        }
        if is_foreign && self.bounds.public && seen.kind().is_dir() && !seen.others_enter() {
            return Err(Errno::ACCESS.into());
        }
        Ok(seen.kind().is_symlink())
    }

    fn target(&mut self, link: &OwnedFd) -> io::Result<Vec<u8>> {
        self.links += 1;
        let is_magic = || Ok::<_, Errno>(rustix::fs::fstatfs(link)?.f_type == PROC_SUPER_MAGIC);
        if self.bounds.no_links || self.links > MAX_LINKS || is_magic()? {
            return Err(Errno::LOOP.into());
        }
        Ok(rustix::fs::readlinkat(link, "", Vec::new())?.into_bytes())
    }

    /// Where it has led.
    pub fn into_end(mut self) -> OwnedFd {
        self.way.pop().expect("a way has its root")
    }
}
