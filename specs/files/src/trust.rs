//! Trust: whether others than root may change what root relies on. I/O.
//!
//! One rule for all that root takes from the host: spec directories and specs, driver files, sockets, hooks, settings,
//! the configuration of engines. A file may be relied on if nobody but root can write it, and nobody but root can put
//! another in its place:
//!
//! - its owner is root, and so is the owner of each directory and of each link on the way to it;
//! - neither its mode nor its access control list lets anybody else write, nor those of a directory on the way. In a
//!   sticky directory (`/tmp`) the entries of root are safe all the same. A system group that nobody is in is nobody:
//!   Debian's `/usr/local` belongs to `staff`;
//! - no user serves the file system that it lies in (FUSE), which may tell any owner.
//!
//! What the rule does not see: hosts that serve a network file system, members that a directory service adds to a system
//! group, access control lists of NFS version 4, and what is bound over a path by a mount, which stays what it is
//! whoever owns the directory that it came from.
//!
//! The root of a user namespace sees the host's root and every user without a mapping under one number
//! (user_namespaces(7), "Unmapped user and group IDs") and cannot tell them apart. It takes that number for root's where
//! root alone makes files (`is_systems`) and nobody else may write, and for a stranger's everywhere else. What a
//! system's own user (a daemon) has below `/run` counts as root's there.
#![expect(clippy::disallowed_methods, reason = "looks at owners and modes")]

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, FileType, Stat};
use rustix::io::Errno;

use crate::accounts;
use crate::acl::{self, Writer};
use crate::open;
use crate::path_names::{MAX_LINKS, names};

/// Bits of a mode.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
/// What an id without a mapping shows as (`/proc/sys/kernel/overflowuid`).
const OVERFLOW_ID: u32 = 65534;
/// What such an id is in an access control list.
const NO_ID: u32 = u32::MAX;
/// The file system that a user's own process may serve (`linux/magic.h`).
const FUSE: i128 = 0x6573_5546;
/// No file of accounts, and no list of mounts, is longer, in bytes.
const MAX_TEXT_BYTES: usize = 16 << 20;

/// Whose files may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that nobody but root can change.
    RootOnly,
    /// All: the reader gains nothing that the writer has not.
    Everybody,
}

impl Trust {
    /// Root relies on root, that of a user namespace on the host's too; a user acts with their own rights only.
    pub fn of_this_process() -> Self {
        if rustix::process::geteuid().is_root() { Self::RootOnly } else { Self::Everybody }
    }
}

/// Who may change an open file or directory, or, where `path` is given, put another in its place there; `None` if it
/// may be relied on.
pub fn why_untrusted(trust: Trust, opened: BorrowedFd<'_>, path: Option<&Path>) -> Option<String> {
    if trust == Trust::Everybody {
        return None;
    }
    let judge = Judge::of_system();
    let own = match rustix::fs::fstat(opened) {
        Ok(stat) => {
            let list = |bytes: &mut [u8]| rustix::fs::fgetxattr(opened, acl::ACCESS, bytes);
            judge.look(&|| path_of(opened), &stat, false, list).changed_by()
        }
        Err(error) => Some(unknown(error)),
    };
    own.map(|who| can_change_it(&who))
        .or_else(|| on_the_way(judge.walk(path?).as_deref().map_err(|error| *error), path?))
}

/// Where an open file lies, all links followed (proc_pid_fd(5)).
fn path_of(opened: BorrowedFd<'_>) -> Option<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).ok()
}

/// Who may write a file of the host, or put another in its place; `None` if only root may.
pub fn who_may_change(path: &Path) -> Option<String> {
    Judge::of_system().who_may_change(path)
}

/// Judges the paths of one tree, and looks at each directory once.
#[derive(Debug)]
pub struct Judge {
    /// Where the tree's `/` lies on this machine.
    root: PathBuf,
    /// User and group of whoever unpacked the tree: to them all of it belongs anyway.
    owner: (u32, u32),
    /// By their path in the tree.
    directories: RefCell<HashMap<PathBuf, Rc<Step>>>,
    /// Ways to directories, by the path that was asked for: many files lie in few of them.
    ways: RefCell<HashMap<PathBuf, Result<Rc<Known>, Errno>>>,
    accounts: OnceCell<Accounts>,
}

#[derive(Debug, Default)]
struct Accounts {
    passwd: Option<String>,
    group: Option<String>,
}

/// One thing on the way to a file: a directory, a link, or in the end the file.
#[derive(Clone, Debug)]
struct Step {
    /// Its path in the tree, without links before the last name.
    at: PathBuf,
    kind: FileType,
    /// Whose it is, if not root's.
    owner: Option<String>,
    /// Who else may write.
    writers: Option<String>,
    mode: u32,
    uid: u32,
    device: u64,
}

impl Step {
    /// Who but root may change the thing itself. The mode of a link says nothing.
    fn changed_by(&self) -> Option<String> {
        self.owner.clone().or_else(|| self.writers.clone().filter(|_| !self.kind.is_symlink()))
    }

    /// Who but root may put other things in the place of those that are root's in it.
    fn entries_changed_by(&self) -> Option<String> {
        self.owner
            .clone()
            .or_else(|| self.writers.clone().filter(|_| self.mode & STICKY == 0 && !self.kind.is_symlink()))
    }
}

type Way = Vec<Rc<Step>>;

/// The last step of a way, and the way to the directory that it is in.
type Last = (Rc<Known>, Rc<Step>);

/// The way to a directory in which several things are looked at.
#[derive(Debug)]
struct Known {
    way: Way,
    /// Who but root may put other things in the place of those that are root's in it, or of what is on the way.
    who: Option<String>,
}

impl Judge {
    /// For the paths of this machine.
    pub fn of_system() -> Self {
        Self::below(Path::new("/"), (0, 0))
    }

    /// For the paths of a tree that is read as if it were `/`.
    ///
    /// # Errors
    /// There is none.
    pub fn of_tree(root: &Path) -> io::Result<Self> {
        let stat = rustix::fs::stat(root)?;
        // Which user or group stands behind a number that all of those without a mapping have, nobody knows.
        let known = |id| if id == OVERFLOW_ID && is_user_namespace() { 0 } else { id };
        let owner = if root == Path::new("/") { (0, 0) } else { (known(stat.st_uid), known(stat.st_gid)) };
        Ok(Self::below(root, owner))
    }

    fn below(root: &Path, owner: (u32, u32)) -> Self {
        Self {
            root: root.to_owned(),
            owner,
            directories: RefCell::default(),
            ways: RefCell::default(),
            accounts: OnceCell::new(),
        }
    }

    /// Who may write a file of the tree, or put another in its place; `None` if only root may.
    pub fn who_may_change(&self, path: &Path) -> Option<String> {
        self.look_at(path).map_or_else(|error| Some(can_change(&unknown(error), path)), |(_, who)| who)
    }

    /// What stands at a path, all links followed, and who may change it as [`Judge::who_may_change`] says.
    ///
    /// # Errors
    /// Nothing is there.
    pub fn look_at(&self, path: &Path) -> io::Result<(FileType, Option<String>)> {
        let own = |step: &Step| step.changed_by().map(|who| can_change_it(&who));
        if let Some((way, step)) = self.step_in_directory(path)? {
            return Ok((step.kind, own(&step).or_else(|| way.who.clone())));
        }
        let way = self.walk_whole(path)?;
        let Some(last) = way.last() else { return Err(Errno::NOENT.into()) };
        Ok((last.kind, own(last).or_else(|| on_the_way(Ok(&way), path))))
    }

    /// The same for what a daemon makes in a directory of its own, both of which may belong to its user: that of one of
    /// `daemons` in the tree's `/etc/passwd`. To write to a socket is to use it, so its mode does not matter. It is no
    /// link, wherever that leads: daemons make none.
    pub fn who_may_change_of_daemon(&self, path: &Path, daemons: &[&str]) -> Option<String> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return self.who_may_change(path) };
        let way = match self.walk(dir) {
            Ok(way) => way,
            Err(error) => return on_the_way(Err(error), dir),
        };
        let users: Vec<u32> = daemons.iter().filter_map(|name| self.user_id(name)).collect();
        let owner = |step: &Step| step.owner.clone().filter(|_| !users.contains(&step.uid));
        let dir = &Rc::clone(way.last()?);
        let of_dir = || Some(can_change(&owner(dir).or_else(|| dir.writers.clone())?, &dir.at));
        on_the_way(Ok(&way), path).or_else(of_dir).or_else(|| match self.step(&dir.at.join(name), Some(dir)) {
            Ok(step) if step.kind.is_symlink() => Some("it is a symbolic link, which no daemon makes".to_owned()),
            // What is mounted there, as into a container, is root's word.
            Ok(step) if step.device != dir.device => None,
            Ok(step) => owner(&step).map(|who| can_change_it(&who)),
            Err(error) => Some(can_change_it(&unknown(error))),
        })
    }

    /// Who can have made a path lead where it leads, if that is not root: through a link that is theirs, or that lies
    /// where they may put one; or to a thing of theirs in a directory that others may write, too. Where nothing is there
    /// is nothing to say.
    ///
    /// This asks for less than [`Judge::who_may_change`]: a container may well be given what belongs to a user. But a
    /// link is followed with root's rights, and no user can make one's way lead to more than their own things without.
    pub fn who_leads_astray(&self, path: &Path) -> Option<String> {
        let way = self.walk(path).ok()?;
        way.windows(2).find_map(|steps| {
            let [before, step] = steps else { return None };
            if before.kind.is_symlink() {
                return None;
            }
            let shared = || step.owner.clone().filter(|_| before.writers.is_some());
            let link = || before.entries_changed_by().filter(|_| step.kind.is_symlink());
            let who = step.owner.clone().filter(|_| step.kind.is_symlink()).or_else(link).or_else(shared)?;
            let what = if step.kind.is_symlink() { "the link " } else { "" };
            Some(format!("{who} can change {what}{}", step.at.display()))
        })
    }

    /// The number of a user, by the tree's `/etc/passwd`.
    pub fn user_id(&self, name: &str) -> Option<u32> {
        accounts::user_id(self.accounts().passwd.as_deref()?, name)
    }

    /// The way to a path, by that to the directory that it names.
    fn walk(&self, path: &Path) -> Result<Way, Errno> {
        match self.step_in_directory(path)? {
            Some((known, step)) => Ok(known.way.iter().cloned().chain([step]).collect()),
            None => self.walk_whole(path),
        }
    }

    /// The last step to a path, if that is no link, and the way to the directory that it names.
    fn step_in_directory(&self, path: &Path) -> Result<Option<Last>, Errno> {
        let dir = path.parent().filter(|dir| dir.is_absolute());
        let (Some(dir), Some(name)) = (dir, path.file_name()) else { return Ok(None) };
        let known = self.known(dir)?;
        let last = known.way.last().ok_or(Errno::NOENT)?;
        let step = self.step(&last.at.join(name), Some(last))?;
        Ok((!step.kind.is_symlink()).then_some((known, step)))
    }

    fn known(&self, dir: &Path) -> Result<Rc<Known>, Errno> {
        if let Some(known) = self.ways.borrow().get(dir) {
            return known.clone();
        }
        let known = self.walk_whole(dir).map(|way| {
            let who = way.iter().find_map(|step| Some(can_change(&step.entries_changed_by()?, &step.at)));
            Rc::new(Known { way, who })
        });
        self.ways.borrow_mut().insert(dir.to_owned(), known.clone());
        known
    }

    /// Goes the way that the kernel goes, link by link; links lead to paths of the tree.
    fn walk_whole(&self, path: &Path) -> Result<Way, Errno> {
        let absolute =
            std::path::absolute(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
        let mut ahead: Vec<OsString> = names(&absolute);
        let mut way = vec![self.step(Path::new("/"), None)?];
        let (mut at, mut links) = (PathBuf::from("/"), 0);
        while let Some(name) = ahead.pop() {
            if name == ".." {
                at.pop();
                way.push(self.step(&at, None)?);
                continue;
            }
            let next = at.join(&name);
            let step = self.step(&next, way.last().map(Rc::as_ref))?;
            if step.kind.is_symlink() {
                links += 1;
                let target = rustix::fs::readlink(self.on_disk(&next).as_ref(), Vec::new())?.into_bytes();
                let target = PathBuf::from(OsString::from_vec(target));
                at = if target.is_absolute() { "/".into() } else { at };
                ahead.extend(names(&target));
                // What the target's first name lies in comes next.
                way.extend([step, self.step(&at, None)?]);
            } else {
                at = next;
                way.push(step);
            }
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
        }
        Ok(way)
    }

    /// Where a path of the tree is on this machine.
    fn on_disk<'p>(&self, at: &'p Path) -> Cow<'p, Path> {
        if self.root == Path::new("/") { at.into() } else { self.root.join(at.strip_prefix("/").unwrap_or(at)).into() }
    }

    /// What stands at a path, whose parents are directories.
    fn step(&self, at: &Path, parent: Option<&Step>) -> Result<Rc<Step>, Errno> {
        if let Some(known) = self.directories.borrow().get(at) {
            return Ok(Rc::clone(known));
        }
        let on_disk = self.on_disk(at);
        let stat = if at.parent().is_none() {
            rustix::fs::stat(on_disk.as_ref())?
        } else {
            rustix::fs::statat(CWD, on_disk.as_ref(), AtFlags::SYMLINK_NOFOLLOW)?
        };
        let is_shared = parent.is_some_and(|parent| parent.mode & OTHERS_WRITE != 0);
        let list = |bytes: &mut [u8]| rustix::fs::lgetxattr(on_disk.as_ref(), acl::ACCESS, bytes);
        let mut step = Step { at: at.to_owned(), ..self.look(&|| Some(at.to_owned()), &stat, is_shared, list) };
        if parent.is_some_and(|parent| parent.device != step.device) {
            step.owner = step.owner.or_else(|| serving_user(&on_disk, step.device));
        }
        let step = Rc::new(step);
        if step.kind.is_dir() {
            self.directories.borrow_mut().insert(at.to_owned(), Rc::clone(&step));
        }
        Ok(step)
    }

    /// Whose the thing at a path is and who may write it, without the path; `is_shared` if everybody may make things where
    /// it lies.
    fn look(
        &self,
        at: &dyn Fn() -> Option<PathBuf>,
        stat: &Stat,
        is_shared: bool,
        list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    ) -> Step {
        Step {
            at: PathBuf::new(),
            kind: FileType::from_raw_mode(stat.st_mode),
            owner: (!self.is_root(stat.st_uid, at, is_shared)).then(|| format!("user {}", stat.st_uid)),
            writers: self.writers(stat, list),
            mode: stat.st_mode,
            uid: stat.st_uid,
            device: stat.st_dev,
        }
    }

    /// Whether an id is root's, or that of whoever unpacked the tree.
    fn is_root(&self, uid: u32, at: &dyn Fn() -> Option<PathBuf>, is_shared: bool) -> bool {
        let is_unmapped = || uid == OVERFLOW_ID && !is_shared && is_user_namespace();
        uid == 0 || uid == self.owner.0 || (is_unmapped() && at().is_some_and(|at| is_systems(&at)))
    }

    /// Who may write, beside the owner.
    fn writers(&self, stat: &Stat, list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> Option<String> {
        if stat.st_mode & OTHERS_WRITE != 0 {
            return Some("everybody".to_owned());
        }
        // With an access control list these bits are the most that anybody in it has (acl(5)).
        if stat.st_mode & GROUP_WRITES == 0 {
            return None;
        }
        let mut bytes = [0; acl::MAX_BYTES];
        let writers = match list(&mut bytes) {
            Ok(length) => bytes.get(..length).and_then(acl::writers),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Some(vec![Writer::OwnGroup]),
            Err(_) => None,
        };
        let Some(writers) = writers else { return Some("whom its access control list names".to_owned()) };
        writers.into_iter().find_map(|writer| match writer {
            Writer::User(0) => None,
            Writer::User(NO_ID) => Some("a user of another user namespace".to_owned()),
            Writer::User(uid) => (uid != self.owner.0).then(|| format!("user {uid}")),
            Writer::Group(gid) => self.group(gid),
            Writer::OwnGroup => self.group(stat.st_gid),
        })
    }

    /// A group, unless it is root's or nobody's.
    fn group(&self, gid: u32) -> Option<String> {
        let is_harmless = gid == 0 || gid == self.owner.1 || {
            // Where one cannot be read no group is known to be empty.
            let Accounts { group, passwd } = self.accounts();
            group
                .as_deref()
                .zip(passwd.as_deref())
                .is_some_and(|(group, passwd)| accounts::is_empty_group(group, passwd, gid))
        };
        (!is_harmless)
            .then(|| if gid == NO_ID { "a group of another user namespace".into() } else { format!("group {gid}") })
    }

    fn accounts(&self) -> &Accounts {
        self.accounts.get_or_init(|| {
            let text = |path: &str| {
                let bytes = open::read(&self.on_disk(Path::new(path)), MAX_TEXT_BYTES).ok()?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            };
            Accounts { passwd: text("/etc/passwd"), group: text("/etc/group") }
        })
    }
}

/// Whoever may write a directory on the way, or a link, may make the path lead to another file.
fn on_the_way(way: Result<&[Rc<Step>], Errno>, path: &Path) -> Option<String> {
    match way {
        Ok(way) => {
            let before = way.split_last().map_or(way, |(_, before)| before);
            before.iter().find_map(|step| Some(can_change(&step.entries_changed_by()?, &step.at)))
        }
        Err(error) => Some(can_change(&unknown(error), path)),
    }
}

fn can_change_it(who: &str) -> String {
    format!("{who} can change it")
}

fn can_change(who: &str, what: &Path) -> String {
    format!("{who} can change {}", what.display())
}

fn unknown(error: impl Display) -> String {
    format!("nobody knows who ({error})")
}

/// Trees in which, by the file hierarchy standard and by what distributions do, root alone makes files.
const SYSTEMS_TREES: &[&str] = &[
    "/bin",
    "/dev",
    "/etc",
    "/gnu/store",
    "/home/kubernetes/bin/nvidia",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/opt",
    "/proc",
    "/run",
    "/sbin",
    "/snap",
    "/sys",
    "/usr",
    "/var/lib/nvidia",
];
/// Directories of root's on the way to those of others.
const SYSTEMS_DIRS: &[&str] =
    &["/home/kubernetes", "/home/kubernetes/bin", "/run/user", "/var/home", "/var/lib", "/var/tmp"];
/// A tree in one of root's that is not.
const USERS_TREES: &[&str] = &["/run/user"];

/// Whether root alone makes what lies at a path: in a system's own trees, and directly in `/`.
fn is_systems(at: &Path) -> bool {
    let is_first = at.parent().is_none_or(|parent| parent.parent().is_none());
    let is_in = |trees: &[&str]| trees.iter().any(|tree| at.starts_with(tree));
    is_first || SYSTEMS_DIRS.iter().any(|dir| at == Path::new(dir)) || (is_in(SYSTEMS_TREES) && !is_in(USERS_TREES))
}

/// Whether root is only the root of a user namespace. Asked for last: hardly ever is there a reason to.
pub fn is_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let everybody = ["0", "0", "4294967295"];
    !map.is_empty() && !map.split_ascii_whitespace().eq(everybody)
}

/// The user whose process serves the file system in which a path lies, if not root's.
fn serving_user(on_disk: &Path, device: u64) -> Option<String> {
    let is_fuse = rustix::fs::statfs(on_disk).is_ok_and(|stat| i128::from(stat.f_type) == FUSE);
    if !is_fuse {
        return None;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    serving_uid(&mounts, &device)
        .filter(|uid| *uid != "0")
        .map(|uid| format!("user {uid}, who serves its file system,"))
}

/// The user that a FUSE file system's options name (proc_pid_mountinfo(5)). Those of virtual machines name none.
fn serving_uid<'m>(mounts: &'m str, device: &str) -> Option<&'m str> {
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    line.rsplit(' ').next()?.split(',').find_map(|option| option.strip_prefix("user_id="))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use super::*;

    fn judge() -> Judge {
        Judge::below(Path::new("/"), (0, 0))
    }

    fn stat(mode: u32, uid: u32, gid: u32) -> Stat {
        let mut stat = rustix::fs::stat("/").unwrap();
        (stat.st_mode, stat.st_uid, stat.st_gid) = (mode, uid, gid);
        stat
    }

    #[test]
    fn who_may_write() {
        let (file, dir) = (0o100_000, 0o040_000);
        let cases = [
            (file | 0o644, 0, 0, None),
            (file | 0o664, 0, 0, None),
            (file | 0o664, 0, 1234, Some("group 1234")),
            (file | 0o666, 0, 0, Some("everybody")),
            (file | 0o644, 1000, 0, Some("user 1000")),
            (dir | 0o1777, 0, 0, Some("everybody")),
        ];
        for (mode, uid, gid, expected) in cases {
            let step = judge().look(&|| None, &stat(mode, uid, gid), false, |_| Err(Errno::NODATA));
            assert_eq!(step.changed_by().as_deref(), expected, "{mode:o} {uid} {gid}");
        }
        let in_it = |mode, gid| {
            judge().look(&|| None, &stat(dir | mode, 0, gid), false, |_| Err(Errno::NODATA)).entries_changed_by()
        };
        assert_eq!(in_it(0o1777, 0), None);
        assert_eq!(in_it(0o1775, 1234), None);
        assert_eq!(in_it(0o777, 0).as_deref(), Some("everybody"));
    }

    /// The list of a file with `entries`: tag, rights, id.
    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let bytes = |entry: &(u16, u16, u32)| {
            [&entry.0.to_le_bytes()[..], &entry.1.to_le_bytes(), &entry.2.to_le_bytes()].concat()
        };
        [2_u32.to_le_bytes().to_vec(), entries.iter().flat_map(bytes).collect()].concat()
    }

    #[test]
    fn an_access_control_list_counts_by_whom_it_lets_write() {
        let (owner, own_group, mask, others) = ((1, 6, !0), (4, 4, !0), (0x10, 6, !0), (0x20, 4, !0));
        let who = |named: (u16, u16, u32)| {
            let bytes = list(&[owner, named, own_group, mask, others]);
            let read = |buffer: &mut [u8]| {
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            };
            judge().look(&|| None, &stat(0o100_664, 0, 0), false, read).changed_by()
        };
        assert_eq!(who((2, 6, 1000)).as_deref(), Some("user 1000"));
        assert_eq!(who((8, 6, 1234)).as_deref(), Some("group 1234"));
        assert_eq!(who((2, 6, NO_ID)).as_deref(), Some("a user of another user namespace"));
        // A list that lets nobody else write, though its mask would.
        assert_eq!(who((2, 4, 1000)), None);
        assert_eq!(who((2, 6, 0)), None);
        let broken = judge().look(&|| None, &stat(0o100_664, 0, 0), false, |_| Ok(3)).changed_by();
        assert_eq!(broken.as_deref(), Some("whom its access control list names"));
        let unread = judge().look(&|| None, &stat(0o100_664, 0, 0), false, |_| Err(Errno::RANGE)).changed_by();
        assert_eq!(unread.as_deref(), Some("whom its access control list names"));
    }

    #[test]
    fn the_system_is_roots() {
        assert_eq!(who_may_change(Path::new("/etc/passwd")), None);
        assert_eq!(who_may_change(Path::new("/proc/self/../1/../self")).filter(|who| who.contains("everybody")), None);
        assert!(who_may_change(Path::new("/nothing")).is_some_and(|who| who.starts_with("nobody knows")));
    }

    #[test]
    fn where_an_id_without_a_number_is_roots() {
        for path in ["/", "/data", "/etc/cdi", "/usr/lib/x", "/run/cdi/x", "/nix/store/x", "/run/user", "/var/lib"] {
            assert!(is_systems(Path::new(path)), "{path}");
        }
        for path in ["/data/x", "/home/user", "/tmp/x", "/run/user/1000", "/nix/var", "/var/lib/x", "/usrx/y"] {
            assert!(!is_systems(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn who_serves_a_file_system() {
        let mounts = "36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                      37 35 0:52 / /tmp/x rw,nosuid - fuse.sshfs host rw,user_id=1000,group_id=1000,allow_other\n\
                      38 35 0:53 / /srv rw - virtiofs tag rw\n";
        assert_eq!(serving_uid(mounts, "0:52"), Some("1000"));
        assert_eq!(serving_uid(mounts, "0:53"), None);
        assert_eq!(serving_uid(mounts, "0:54"), None);
    }

    /// A tree of root's, with an account for a daemon; and its judge. None where this test may not give files away.
    fn tree() -> Option<(tempfile::TempDir, Judge)> {
        let dir = tempfile::tempdir().unwrap();
        // Modes are said, for the umask is another test's to try.
        for (name, mode) in [(".", 0o755), ("etc", 0o755), ("run", 0o755), ("tmp", 0o1777), ("run/daemon", 0o755)] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let passwd = "root:x:0:0\ndaemon:x:77:77:::\nuser:x:1000:1000:::\n";
        let files = [("etc/passwd", passwd), ("etc/group", "staff:x:50:\nadm:x:51:user\n"), ("run/daemon/socket", "")];
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        chown(dir.path().join("run/daemon"), Some(77), None).ok()?;
        let judge = Judge::of_tree(dir.path()).unwrap();
        Some((dir, judge))
    }

    #[test]
    fn a_daemons_directory_is_its_own_and_nobody_elses() {
        let Some((dir, _)) = tree() else { return };
        let socket = dir.path().join("run/daemon/socket");
        let who = |daemons: &[&str]| {
            Judge::of_tree(dir.path()).unwrap().who_may_change_of_daemon(Path::new("/run/daemon/socket"), daemons)
        };
        assert_eq!(who(&["daemon"]), None);
        assert_eq!(who(&[]).as_deref(), Some("user 77 can change /run/daemon"));
        chown(&socket, Some(1000), None).unwrap();
        assert_eq!(who(&["daemon"]).as_deref(), Some("user 1000 can change it"));
        fs::remove_file(&socket).unwrap();
        symlink("/run/docker.sock", &socket).unwrap();
        assert_eq!(who(&["daemon"]).as_deref(), Some("it is a symbolic link, which no daemon makes"));
        fs::set_permissions(dir.path().join("run/daemon"), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(who(&["daemon"]).as_deref(), Some("everybody can change /run/daemon"));
        chown(dir.path().join("run"), Some(77), None).unwrap();
        assert_eq!(who(&["daemon"]).as_deref(), Some("user 77 can change /run"));
    }

    #[test]
    fn only_links_of_root_lead_root() {
        let Some((dir, _)) = tree() else { return };
        let astray = |path: &str| Judge::of_tree(dir.path()).unwrap().who_leads_astray(Path::new(path));
        let path = |name: &str| dir.path().join(name);
        assert_eq!(astray("/run/daemon/socket"), None, "a user's own things may be given away");
        assert_eq!(astray("/run/daemon/nothing"), None);
        symlink("daemon/socket", path("run/roots-link")).unwrap();
        assert_eq!(astray("/run/roots-link"), None);
        symlink("/etc", path("run/daemon/link")).unwrap();
        let why = "user 77 can change the link /run/daemon/link";
        assert_eq!(astray("/run/daemon/link/passwd").as_deref(), Some(why), "moved there from another place");
        lchown(path("run/daemon/link"), Some(77), None).unwrap();
        assert_eq!(astray("/run/daemon/link").as_deref(), Some(why));
        fs::create_dir(path("tmp/roots")).unwrap();
        symlink("roots", path("tmp/roots-link")).unwrap();
        assert_eq!((astray("/tmp/roots"), astray("/tmp/roots-link")), (None, None));
        fs::create_dir(path("tmp/users")).unwrap();
        chown(path("tmp/users"), Some(1000), None).unwrap();
        assert_eq!(astray("/tmp/users").as_deref(), Some("user 1000 can change /tmp/users"));
    }

    #[test]
    fn a_group_that_nobody_is_in_writes_nothing() {
        let Some((dir, _)) = tree() else { return };
        let who = |gid| {
            let file = dir.path().join("etc/file");
            fs::write(&file, "").unwrap();
            chown(&file, None, Some(gid)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).unwrap();
            Judge::of_tree(dir.path()).unwrap().who_may_change(Path::new("/etc/file"))
        };
        assert_eq!(who(50), None);
        for gid in [51, 52, 1000] {
            assert_eq!(who(gid), Some(format!("group {gid} can change it")));
        }
    }

    #[test]
    fn a_tree_is_whoevers_that_unpacked_it() {
        let Some((dir, _)) = tree() else { return };
        for path in [dir.path().to_owned(), dir.path().join("etc"), dir.path().join("etc/passwd")] {
            chown(path, Some(1234), Some(1234)).unwrap();
        }
        let judge = Judge::of_tree(dir.path()).unwrap();
        assert_eq!(judge.who_may_change(Path::new("/etc/passwd")), None);
        assert_eq!(judge.who_may_change(Path::new("/run/daemon")).as_deref(), Some("user 77 can change it"));
    }
}
