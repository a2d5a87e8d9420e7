//! Dir: a directory held by a handle, reached name by name, and made where it is missing. I/O.
//!
//! Where root alone may write, the way is the administrator's: links on it are followed as the kernel does it. From the
//! first directory on that others may write, a link is somebody else's word and is refused. What is missing is made with
//! its mode at once, and nothing is changed by its name afterwards: by then another thing may have the name.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::path_names::{MAX_LINKS, names};
use crate::trust::{self, Trust};
use crate::{open, umask};

/// A name in a directory of this mode is safe from all but its owner and the directory's.
const STICKY: u32 = 0o1000;
/// Everybody may look into it, and its owner may change it.
const FOR_EVERYBODY: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP).union(Mode::ROTH).union(Mode::XOTH);

/// What becomes of a directory that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is an error.
    Error,
    /// It is made for everybody to look into, whatever the umask.
    MakeForEverybody,
    /// It is made as the umask has it.
    MakeByUmask,
}

/// A directory.
#[derive(Debug)]
pub struct Dir {
    handle: OwnedFd,
    /// How it was reached, for messages.
    path: PathBuf,
    /// Who but root may change it or the way to it, in words.
    untrusted: Option<String>,
}

/// What stands behind a name on the way.
enum Step {
    Dir(Dir),
    Link(PathBuf),
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Dir {
    /// A directory of the host.
    ///
    /// # Errors
    /// It does not exist and is not to be made, or cannot be; a link on the way that is not to be followed.
    pub fn open(path: &Path, missing: Missing) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(CWD, "/", flags, Mode::empty())?;
        let untrusted = who_writes(handle.as_fd(), Path::new("/"));
        Self { handle, path: "/".into(), untrusted }.within(&std::path::absolute(path)?, missing)
    }

    /// A directory of the tree of which this one is the root: as after chroot(2), links and `..` stay inside.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn within(&self, path: &Path, missing: Missing) -> io::Result<Self> {
        let mut ahead: Vec<OsString> = names(path);
        let (mut way, mut links): (Vec<Self>, usize) = (Vec::new(), 0);
        while let Some(name) = ahead.pop() {
            if name == ".." {
                // By its handle and not by its name: a directory may have been moved meanwhile.
                way.pop();
                continue;
            }
            match way.last().unwrap_or(self).step(&name, missing)? {
                Step::Dir(dir) => way.push(dir),
                Step::Link(_) if links == MAX_LINKS => return Err(Errno::LOOP.into()),
                Step::Link(target) => {
                    links += 1;
                    if target.is_absolute() {
                        way.clear();
                    }
                    ahead.extend(names(&target));
                }
            }
        }
        way.pop().map_or_else(|| self.again(), Ok)
    }

    /// Who but root may change this directory or the way to it: such as `user 1000 can change /home/me`. Nobody, to a
    /// user that acts with their own rights only.
    pub fn who_else_writes(&self) -> Option<&str> {
        self.untrusted.as_deref()
    }

    /// How it was reached.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands behind a name; `None` if nothing does. A link stands for itself.
    ///
    /// # Errors
    /// Nobody may look.
    pub fn stat(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file for reading, and no link to one.
    ///
    /// # Errors
    /// As [`open::regular`].
    pub fn file(&self, name: &OsStr) -> io::Result<File> {
        open::regular_at(self.as_fd(), name.as_ref(), open::Links::Refuse)
    }

    /// Removes a name that is no directory's; `false` if there was none.
    ///
    /// # Errors
    /// It is a directory; nobody may.
    pub fn remove(&self, name: &OsStr) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the disk know of names that were made or removed.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> io::Result<()> {
        // A handle of a directory that may not be listed cannot be flushed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = rustix::fs::openat(&self.handle, ".", flags, Mode::empty())?;
        Ok(rustix::fs::fsync(readable)?)
    }

    fn again(&self) -> io::Result<Self> {
        let handle = self.handle.try_clone()?;
        Ok(Self { handle, path: self.path.clone(), untrusted: self.untrusted.clone() })
    }

    fn step(&self, name: &OsStr, missing: Missing) -> io::Result<Step> {
        match self.enter(name) {
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => return self.link(name).map(Step::Link),
            entered => return Ok(Step::Dir(entered?)),
        }
        let made = match missing {
            Missing::Error => return Err(Errno::NOENT.into()),
            Missing::MakeForEverybody => umask::without(|| rustix::fs::mkdirat(&self.handle, name, FOR_EVERYBODY)),
            Missing::MakeByUmask => rustix::fs::mkdirat(&self.handle, name, FOR_EVERYBODY),
        };
        match made {
            // Another run was faster, or somebody put something else there: what it is is seen now.
            Ok(()) | Err(Errno::EXIST) => Ok(Step::Dir(self.enter(name)?)),
            Err(error) => Err(error.into()),
        }
    }

    fn enter(&self, name: &OsStr) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            // To go through a directory takes less than to list it.
            Err(Errno::ACCESS) => rustix::fs::openat(&self.handle, name, flags | OFlags::PATH, Mode::empty())?,
            opened => opened?,
        };
        let path = self.path.join(name);
        let untrusted = self.untrusted.clone().or_else(|| who_writes(handle.as_fd(), &path));
        Ok(Self { handle, path, untrusted })
    }

    /// Where a link leads that may be followed.
    fn link(&self, name: &OsStr) -> io::Result<PathBuf> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = rustix::fs::openat(&self.handle, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&link)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Err(Errno::NOTDIR.into());
        }
        if let Some(who) = self.whose_link(&stat)? {
            let words = format!("{} is a symbolic link, and {who}", self.path.join(name).display());
            return Err(io::Error::other(words));
        }
        let target = rustix::fs::readlinkat(&link, c"", Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// Who but root may have put a link here.
    fn whose_link(&self, link: &Stat) -> io::Result<Option<String>> {
        if Trust::of_this_process() == Trust::Everybody {
            return Ok(None);
        }
        let sticky = rustix::fs::fstat(&self.handle)?.st_mode & STICKY != 0;
        let theirs = sticky && link.st_uid != 0;
        Ok(self.untrusted.clone().or_else(|| theirs.then(|| format!("user {} can change it", link.st_uid))))
    }
}

/// Who but root may put things into a directory in the place of others' there.
fn who_writes(dir: BorrowedFd<'_>, path: &Path) -> Option<String> {
    // In a sticky directory of root's the names of others are safe (unlink(2), EPERM).
    let guarded = |stat: Stat| stat.st_mode & STICKY != 0 && stat.st_uid == 0;
    if rustix::fs::fstat(dir).is_ok_and(guarded) {
        return None;
    }
    let why = trust::why_untrusted(Trust::of_this_process(), dir, None)?;
    Some(match why.strip_suffix(" it") {
        Some(who) => format!("{who} {}", path.display()),
        None => why,
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "lays out files, and looks at them")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const USER: u32 = 1000;

    /// A directory of root's with one in it that a user owns; `None` where we are no root.
    fn of_two() -> Option<tempfile::TempDir> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("theirs")).unwrap();
        rustix::process::geteuid().is_root().then(|| {
            chown(dir.path().join("theirs"), Some(USER), Some(USER)).unwrap();
            dir
        })
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_is_missing_or_no_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(Dir::open(&at("none"), Missing::Error).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(at("file"), "").unwrap();
        for path in ["file", "file/a"] {
            let error = Dir::open(&at(path), Missing::MakeForEverybody).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotADirectory, "{path}");
        }
    }

    #[test]
    fn links_of_the_administrator_are_followed_and_stay_in_a_root() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("root/a/b")).unwrap();
        fs::create_dir(at("a")).unwrap();
        symlink("/a", at("root/absolute")).unwrap();
        symlink("../../../a", at("root/a/up")).unwrap();
        symlink("self", at("root/self")).unwrap();
        symlink(at("root"), at("link")).unwrap();
        let inode = |dir: &Dir| rustix::fs::fstat(dir).unwrap().st_ino;
        let inside = fs::metadata(at("root/a")).unwrap().ino();
        let root = Dir::open(&at("link"), Missing::Error).unwrap();
        for path in ["/absolute", "a/up", "/absolute/b/..", "../../a/./"] {
            assert_eq!(inode(&root.within(path.as_ref(), Missing::Error).unwrap()), inside, "{path}");
        }
        assert_eq!(inode(&root.within("/..".as_ref(), Missing::Error).unwrap()), inode(&root));
        let error = root.within("self".as_ref(), Missing::Error).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn a_link_in_a_directory_of_others_is_refused_with_a_line_that_names_both() {
        let Some(dir) = of_two() else { return println!("skipped: only root gives directories away") };
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("victim")).unwrap();
        fs::create_dir(at("theirs/own")).unwrap();
        symlink(at("victim"), at("theirs/link")).unwrap();
        symlink("own", at("theirs/own-link")).unwrap();
        for link in ["link", "link/sub", "own-link"] {
            let error = Dir::open(&at("theirs").join(link), Missing::MakeForEverybody).unwrap_err().to_string();
            let expected = format!("is a symbolic link, and user {USER} can change {}", at("theirs").display());
            assert!(error.contains(&expected), "{error}");
        }
        assert_eq!(fs::read_dir(at("victim")).unwrap().count(), 0);
        let below = Dir::open(&at("theirs/own"), Missing::Error).unwrap();
        assert!(below.who_else_writes().is_some_and(|who| who.starts_with("user 1000 can change /")));
        assert_eq!(Dir::open(dir.path(), Missing::Error).unwrap().who_else_writes(), None);
        // In a sticky directory a link is its owner's.
        fs::create_dir(at("sticky")).unwrap();
        fs::set_permissions(at("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
        symlink(at("victim"), at("sticky/roots")).unwrap();
        symlink(at("victim"), at("sticky/theirs")).unwrap();
        std::os::unix::fs::lchown(at("sticky/theirs"), Some(USER), None).unwrap();
        Dir::open(&at("sticky/roots"), Missing::Error).unwrap();
        let error = Dir::open(&at("sticky/theirs"), Missing::Error).unwrap_err().to_string();
        assert!(error.ends_with("and user 1000 can change it"), "{error}");
    }

    /// The owner of a directory exchanges what root makes in it for links, as fast as they can.
    #[test]
    fn whoever_races_the_making_of_directories_changes_nothing_elsewhere() {
        let Some(dir) = of_two() else { return println!("skipped: only root gives directories away") };
        let (sub, victim) = (dir.path().join("theirs/sub"), dir.path().join("victim"));
        fs::create_dir(&victim).unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o700)).unwrap();
        let done = AtomicBool::new(false);
        let (mut made, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = fs::remove_dir_all(&sub);
                    let _ = symlink(&victim, &sub);
                    let _ = fs::remove_file(&sub);
                }
            });
            for _ in 0..10_000 {
                match Dir::open(&sub.join("deep"), Missing::MakeForEverybody) {
                    Ok(_) => made += 1,
                    Err(_) => refused += 1,
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(
            (mode(&victim), fs::read_dir(&victim).unwrap().count()),
            (0o700, 0),
            "{made} made, {refused} refused"
        );
    }
}
