//! Tree: a directory tree read as if it were `/`. I/O.
//!
//! Links are resolved inside the tree, as `chroot(2)` would: an absolute link in a driver container points into the
//! container, `..` stops at its root. What is found is [`Located`]: where the driver believes that the file lives, and
//! where it is on the host. Nobody trims prefixes.
//!
//! A tree only reads. A resolved path has no links left in it; the file behind it is opened without following one.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;

use camino::{Utf8Path, Utf8PathBuf};
use cdi_files::trust::{Judge, Trust};
use cdi_specs::device_list::{self, DeviceList};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode, ResolveFlags};
use rustix::io::Errno;
use serde::Serialize;

pub use cdi_specs::device_list::Node;

/// As many links as the kernel follows in one path (`MAXSYMLINKS`, path_resolution(7)).
const MAX_LINKS: usize = 40;

/// A device list of more bytes is none: a host has some thousand nodes at most.
const MAX_DEVICE_LIST: usize = 1 << 20;

/// A file of a tree: the two names that CDI needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Located {
    /// The path inside its own tree, where the driver believes that it lives (CDI `containerPath`).
    pub path: Utf8PathBuf,
    /// The path on the host (CDI `hostPath`).
    pub host_path: Utf8PathBuf,
}

/// What stands at the end of a path, all links followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A character device.
    Char(Node),
    /// A unix socket.
    Socket,
    /// Anything else: FIFO, block device.
    Other,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The name, without its directory.
    pub name: String,
    /// Whether the name is a symbolic link.
    pub is_link: bool,
}

/// What the component walk knows about one path of the host.
#[derive(Clone, Debug)]
enum Step {
    /// Nothing is there.
    Missing,
    /// A symbolic link with this text.
    Link(Utf8PathBuf),
    /// Anything but a link.
    Plain,
}

/// What all subtrees of one tree share.
#[derive(Debug)]
struct Shared {
    /// Where the system tree lies; `/` on a live host.
    root: Utf8PathBuf,
    /// Device numbers that stand in for the nodes themselves.
    nodes: Option<BTreeMap<Utf8PathBuf, Node>>,
    /// Steps of the walk already taken, by host path.
    steps: RefCell<HashMap<String, Step>>,
    /// Host paths that were looked at and exist, and whether their text was read; for `cdi-gen capture`.
    seen: Option<RefCell<BTreeMap<Utf8PathBuf, bool>>>,
}

/// A directory tree read as if it were `/`.
#[derive(Clone, Debug)]
pub struct Tree {
    shared: Rc<Shared>,
    /// The subtree's own root, a link-free host path.
    prefix: Utf8PathBuf,
    /// Who may change what is in it; nobody is asked for a user, who gains nothing that the files' writers have not.
    judge: Option<Rc<Judge>>,
}

impl Tree {
    /// The tree below `root`, which becomes `/`.
    ///
    /// `nodes` gives the numbers of device nodes that the tree cannot hold (an unpacked image, a captured host);
    /// without it nodes are read with stat(2).
    ///
    /// # Errors
    /// `root` does not exist or is not a directory.
    pub fn new(root: &Utf8Path, nodes: Option<DeviceList>) -> io::Result<Self> {
        Self::open(root, nodes, None)
    }

    /// The same tree, keeping a list of all that is looked at.
    ///
    /// # Errors
    /// As [`Tree::new`].
    pub fn recording(root: &Utf8Path, nodes: Option<DeviceList>) -> io::Result<Self> {
        Self::open(root, nodes, Some(RefCell::default()))
    }

    fn open(
        root: &Utf8Path,
        nodes: Option<DeviceList>,
        seen: Option<RefCell<BTreeMap<Utf8PathBuf, bool>>>,
    ) -> io::Result<Self> {
        let nodes = nodes.map(|list| list.into_iter().map(|(path, node)| (path.into(), node)).collect());
        let root = root.canonicalize_utf8()?;
        if !root.is_dir() {
            return Err(Errno::NOTDIR.into());
        }
        let judge = match Trust::of_this_process() {
            Trust::RootOnly => Some(Rc::new(Judge::of_tree(root.as_std_path())?)),
            Trust::Everybody => None,
        };
        Ok(Self { shared: Rc::new(Shared { root, nodes, steps: RefCell::default(), seen }), prefix: "/".into(), judge })
    }

    /// The tree below `path` of this tree, links resolved: a driver container's root, a separate `/dev`.
    ///
    /// # Errors
    /// `path` does not exist or is not a directory.
    pub fn subtree(&self, path: &Utf8Path) -> io::Result<Self> {
        let real = self.resolve(path)?;
        match self.kind(&real)? {
            Kind::Dir => {
                let prefix = self.host_path(&real);
                Ok(Self { shared: Rc::clone(&self.shared), prefix, judge: self.judge.clone() })
            }
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    /// The same tree, with all that is in it relied on whoever may change it.
    #[must_use]
    pub fn insecure(self) -> Self {
        Self { judge: None, ..self }
    }

    /// Who but root may change what stands at a host path, in words; `None` if it may be relied on.
    pub fn who_may_change(&self, host_path: &Utf8Path) -> Option<String> {
        self.judge.as_ref()?.who_may_change(host_path.as_std_path())
    }

    /// The same, where something must be there.
    ///
    /// # Errors
    /// Nothing is.
    pub fn look_at(&self, host_path: &Utf8Path) -> io::Result<Option<String>> {
        match &self.judge {
            Some(judge) if self.shared.nodes.is_none() => judge.look_at(host_path.as_std_path()).map(|(_, who)| who),
            judge => {
                Self { prefix: "/".into(), ..self.clone() }.kind(host_path)?;
                Ok(judge.as_ref().and_then(|judge| judge.who_may_change(host_path.as_std_path())))
            }
        }
    }

    /// The same for what one of these users, by the host's accounts, makes in a directory of its own.
    pub fn who_may_change_of_daemon(&self, host_path: &Utf8Path, daemons: &[&str]) -> Option<String> {
        self.judge.as_ref()?.who_may_change_of_daemon(host_path.as_std_path(), daemons)
    }

    /// Whether this is the running system itself: the kernel that answers `/proc` is the one that containers will use.
    pub fn is_live(&self) -> bool {
        self.shared.root == "/"
    }

    /// The name under which a process of this machine opens a host path.
    pub fn path_on_this_machine(&self, host_path: &Utf8Path) -> Utf8PathBuf {
        self.on_disk(host_path)
    }

    /// Where this tree's root lies on the host.
    pub fn prefix(&self) -> &Utf8Path {
        &self.prefix
    }

    /// Both names of a path of this tree.
    pub fn located(&self, path: &Utf8Path) -> Located {
        Located { path: path.to_owned(), host_path: self.host_path(path) }
    }

    /// The path's name on the host.
    fn host_path(&self, path: &Utf8Path) -> Utf8PathBuf {
        join(self.prefix.as_str(), path.as_str()).into_owned().into()
    }

    /// Where to find a host path on this machine.
    fn on_disk(&self, host_path: &Utf8Path) -> Utf8PathBuf {
        join(self.shared.root.as_str(), host_path.as_str()).into_owned().into()
    }

    /// The path with every link on the way followed, inside the tree.
    ///
    /// # Errors
    /// A part of the path does not exist (`NotFound`), is no directory, or the links form a cycle (`ELOOP`).
    pub fn resolve(&self, path: &Utf8Path) -> io::Result<Utf8PathBuf> {
        let mut pending = Cow::Borrowed(path.as_str());
        let (mut at, mut links) = (0, 0);
        // Without its last slash: the root is the empty text.
        let mut real = String::with_capacity(pending.len());
        while let Some((name, end)) = next_name(&pending, at) {
            at = end;
            let parent = real.len();
            match name {
                "." => continue,
                ".." => {
                    real.truncate(real.rfind('/').unwrap_or_default());
                    continue;
                }
                name => real.extend(["/", name]),
            }
            match self.step(&real)? {
                Step::Missing => return Err(Errno::NOENT.into()),
                Step::Plain => {}
                Step::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    real.truncate(if target.is_absolute() { 0 } else { parent });
                    pending = format!("{target}/{}", pending.get(at..).unwrap_or_default()).into();
                    at = 0;
                }
            }
        }
        Ok(if real.is_empty() { "/".into() } else { real.into() })
    }

    /// One step of the walk.
    fn step(&self, path: &str) -> io::Result<Step> {
        let host_path = join(self.prefix.as_str(), path);
        if let Some(step) = self.shared.steps.borrow().get(host_path.as_ref()) {
            return Ok(step.clone());
        }
        let step = match rustix::fs::readlink(join(self.shared.root.as_str(), &host_path).as_ref(), Vec::new()) {
            Ok(target) => Step::Link(utf8(target.into_bytes())?),
            Err(Errno::INVAL) => Step::Plain,
            Err(Errno::NOENT) if self.is_listed(&host_path) => Step::Plain,
            Err(Errno::NOENT) => Step::Missing,
            Err(error) => return Err(error.into()),
        };
        if !matches!(step, Step::Missing) {
            self.saw(host_path.as_ref().into(), false);
        }
        self.shared.steps.borrow_mut().insert(host_path.into_owned(), step.clone());
        Ok(step)
    }

    /// Whether the device list has a node at or below a host path, though the tree may have nothing there.
    fn is_listed(&self, host_path: &str) -> bool {
        self.shared.nodes.iter().flat_map(BTreeMap::keys).any(|node| {
            let rest = node.as_str().strip_prefix(host_path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// The text of the link at `path`, whose parent directories may be links.
    ///
    /// # Errors
    /// `path` does not exist or is not a link (`InvalidInput`).
    pub fn read_link(&self, path: &Utf8Path) -> io::Result<Utf8PathBuf> {
        let parent = self.resolve(path.parent().unwrap_or(path))?;
        let name = path.file_name().ok_or(Errno::INVAL)?;
        match self.step(parent.join(name).as_str())? {
            Step::Link(target) => Ok(target),
            Step::Plain => Err(Errno::INVAL.into()),
            Step::Missing => Err(Errno::NOENT.into()),
        }
    }

    /// What stands at the end of `path`, all links followed.
    ///
    /// # Errors
    /// As [`Tree::resolve`].
    pub fn kind(&self, path: &Utf8Path) -> io::Result<Kind> {
        let host_path = self.host_path(&self.resolve(path)?);
        if let Some(node) = self.shared.nodes.as_ref().and_then(|nodes| nodes.get(&host_path)) {
            self.saw(&host_path, false);
            return Ok(Kind::Char(*node));
        }
        let stat = rustix::fs::statat(CWD, self.on_disk(&host_path).as_std_path(), AtFlags::SYMLINK_NOFOLLOW)?;
        self.saw(&host_path, false);
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Dir,
            FileType::RegularFile => Kind::File,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::Char(node(&stat)),
            _ => Kind::Other,
        })
    }

    /// Both names of what stands at `path` itself, be it a link: links before the last name alone are followed. `None` if
    /// nothing does.
    pub fn locate_name(&self, path: &Utf8Path) -> Option<Located> {
        let parent = self.resolve(path.parent()?).ok()?;
        let located = self.located(&parent.join(path.file_name()?));
        self.stat(&located.host_path).map(|_| located)
    }

    /// Whether a directory or a socket stands at a host path, without a link anywhere on the way. A directory counts if
    /// the owner of the tree's root has it: root, on a live host.
    pub fn is_real(&self, host_path: &Utf8Path, is_directory: bool) -> bool {
        let is_real =
            Self { prefix: "/".into(), ..self.clone() }.resolve(host_path).is_ok_and(|real| real == host_path);
        let (Some(found), Some(root)) = (self.stat(host_path), self.stat("/".into())) else { return false };
        let kind = FileType::from_raw_mode(found.st_mode);
        let fits = if is_directory { kind.is_dir() && found.st_uid == root.st_uid } else { kind.is_socket() };
        is_real && fits
    }

    /// What stands at a host path itself.
    fn stat(&self, host_path: &Utf8Path) -> Option<rustix::fs::Stat> {
        let stat = rustix::fs::statat(CWD, self.on_disk(host_path).as_std_path(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        self.saw(host_path, false);
        Some(stat)
    }

    /// The names in directory `dir` that `wanted` accepts, sorted. Names that are not UTF-8 are passed over: no spec
    /// can name them.
    ///
    /// # Errors
    /// `dir` does not exist, is no directory or cannot be read.
    pub fn list(&self, dir: &Utf8Path, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Listed>> {
        let host_dir = self.host_path(&self.resolve(dir)?);
        let mut found: Vec<Listed> = self.listed_nodes(&host_dir).filter(|entry| wanted(&entry.name)).collect();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(self.on_disk(&host_dir).as_std_path(), flags, Mode::empty()) {
            Err(Errno::NOENT) if !found.is_empty() => return Ok(found),
            opened => opened?,
        };
        self.saw(&host_dir, false);
        for entry in Dir::new(fd)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if matches!(name, "." | "..") || !wanted(name) {
                continue;
            }
            self.note_listed(&host_dir.join(name), entry.file_type());
            found.push(Listed { name: name.to_owned(), is_link: entry.file_type() == FileType::Symlink });
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The regular files in directory `dir` whose name `wanted` accepts, by that name, all links followed. A directory
    /// that cannot be listed has none.
    pub fn files(&self, dir: &Utf8Path, wanted: impl Fn(&str) -> bool) -> Vec<Located> {
        let listed = self.list(dir, wanted).unwrap_or_default();
        listed.into_iter().filter_map(|entry| self.find(&dir.join(entry.name), |kind| kind == Kind::File)).collect()
    }

    /// What stands at `path`, all links followed, if it is of a kind that `wanted` accepts: the path as given, and where
    /// it leads on the host.
    pub fn find(&self, path: &Utf8Path, wanted: impl Fn(Kind) -> bool) -> Option<Located> {
        let real = self.resolve(path).ok()?;
        wanted(self.kind(&real).ok()?).then(|| Located { path: path.to_owned(), host_path: self.host_path(&real) })
    }

    /// Nodes of the device list that stand in a directory.
    fn listed_nodes(&self, host_dir: &Utf8Path) -> impl Iterator<Item = Listed> {
        let nodes = self.shared.nodes.iter().flat_map(BTreeMap::keys);
        let here = nodes.filter(move |node| node.parent() == Some(host_dir));
        here.filter_map(|node| Some(Listed { name: node.file_name()?.to_owned(), is_link: false }))
    }

    /// What the listing tells about a name spares the walk a system call.
    fn note_listed(&self, host_path: &Utf8Path, file_type: FileType) {
        self.saw(host_path, false);
        if !matches!(file_type, FileType::Symlink | FileType::Unknown) {
            self.shared.steps.borrow_mut().entry(host_path.as_str().to_owned()).or_insert(Step::Plain);
        }
    }

    /// Opens the regular file at `path`. A FIFO or a device is an error, and is not opened to find out.
    ///
    /// A tree may be a container's, which changes while it is read: a link that takes the place of a directory after
    /// the walk is an error too, where the kernel has openat2(2).
    ///
    /// # Errors
    /// As [`Tree::resolve`]; no permission; not a regular file (`InvalidInput`).
    pub fn open_file(&self, path: &Utf8Path) -> io::Result<File> {
        self.open_sized(path).map(|(file, _)| file)
    }

    /// The file, and its size in bytes.
    fn open_sized(&self, path: &Utf8Path) -> io::Result<(File, u64)> {
        let real = self.resolve(path)?;
        let host_path = self.host_path(&real);
        let on_disk = self.on_disk(&host_path);
        let stat = rustix::fs::statat(CWD, on_disk.as_std_path(), AtFlags::SYMLINK_NOFOLLOW)?;
        self.saw(&host_path, false);
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let beneath = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = match rustix::fs::openat2(CWD, on_disk.as_std_path(), flags, Mode::empty(), beneath) {
            Err(Errno::NOSYS | Errno::PERM) => rustix::fs::open(on_disk.as_std_path(), flags, Mode::empty()),
            opened => opened,
        };
        let file = File::from(opened?);
        let metadata = file.metadata()?;
        if metadata.is_file() { Ok((file, metadata.len())) } else { Err(Errno::INVAL.into()) }
    }

    /// The first `limit` bytes of the regular file at `path`.
    ///
    /// # Errors
    /// As [`Tree::open_file`]; a read error.
    pub fn read(&self, path: &Utf8Path, limit: u64) -> io::Result<Vec<u8>> {
        let (file, size) = self.open_sized(path)?;
        // Files of /proc and /sys claim to be empty or a page; one byte more finds the end without another growth.
        let size = size.clamp(4096, limit.max(4096));
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
        file.take(limit).read_to_end(&mut bytes)?;
        if self.shared.seen.is_some() {
            self.saw(&self.host_path(&self.resolve(path)?), true);
        }
        Ok(bytes)
    }

    /// The text of a small file: at most 1 MiB, bytes that are not UTF-8 replaced.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn read_text(&self, path: &Utf8Path) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.read(path, 1 << 20)?).into_owned())
    }

    /// Host paths that were looked at and exist, each with whether its text was read. Empty unless recording.
    pub fn seen(&self) -> BTreeMap<Utf8PathBuf, bool> {
        self.shared.seen.as_ref().map(|seen| seen.borrow().clone()).unwrap_or_default()
    }

    fn saw(&self, host_path: &Utf8Path, read: bool) {
        if let Some(seen) = &self.shared.seen {
            *seen.borrow_mut().entry(host_path.to_owned()).or_default() |= read;
        }
    }
}

/// `path` below `root`, both absolute; no copy where the root is `/`.
fn join<'a>(root: &str, path: &'a str) -> Cow<'a, str> {
    match (root, path) {
        ("/", path) => path.into(),
        (root, "/") => root.to_owned().into(),
        (root, path) => format!("{root}{path}").into(),
    }
}

/// The next name of a path from byte `at` on, and where it ends.
fn next_name(path: &str, at: usize) -> Option<(&str, usize)> {
    let rest = path.get(at..)?;
    let start = at + rest.find(|c| c != '/')?;
    let name = path.get(start..)?.split('/').next()?;
    Some((name, start + name.len()))
}

fn utf8(bytes: Vec<u8>) -> io::Result<Utf8PathBuf> {
    let text = String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(text.into())
}

fn node(stat: &rustix::fs::Stat) -> Node {
    Node {
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
        mode: Mode::from_raw_mode(stat.st_mode as RawMode).bits() & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
    }
}

/// Reads a device list from a file of this machine (not of a tree).
///
/// # Errors
/// The file cannot be read, or a line of it is malformed.
pub fn read_device_list(path: &Utf8Path) -> io::Result<DeviceList> {
    let text = String::from_utf8(cdi_files::open::read(path.as_std_path(), MAX_DEVICE_LIST)?);
    let text = text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    device_list::parse(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree on disk, made by the test.
    fn tree(text: &str, test: impl FnOnce(&Tree)) {
        let dir = tempfile::tempdir().unwrap();
        testdata::HostTree::parse(text).unwrap().lay_out(dir.path()).unwrap();
        test(&Tree::new(Utf8Path::from_path(dir.path()).unwrap(), None).unwrap());
    }

    fn resolved(tree: &Tree, path: &str) -> Result<String, String> {
        tree.resolve(path.into()).map(Into::into).map_err(|error| format!("{:?}", error.kind()))
    }

    #[test]
    fn links_stay_inside() {
        let text = "# m\nfile /usr/lib/libx.so.1 x\nlink /lib usr/lib\nlink /abs /usr/lib/libx.so.1\n\
                    link /up ../../../../usr/lib/libx.so.1\nlink /a /b\nlink /b /a\nlink /gone nothing\n\
                    link /self/self /self\nlink /usr/lib/libx.so libx.so.1\n";
        tree(text, |tree| {
            for path in ["/lib/libx.so", "/abs", "/up", "/../../abs", "//lib/./libx.so.1", "/self/self/self/../abs"] {
                assert_eq!(resolved(tree, path).unwrap(), "/usr/lib/libx.so.1", "{path}");
            }
            assert_eq!(resolved(tree, "/").unwrap(), "/");
            assert_eq!(resolved(tree, "/..").unwrap(), "/");
            assert_eq!(resolved(tree, "/gone").unwrap_err(), "NotFound");
            assert!(resolved(tree, "/a").unwrap_err().contains("FilesystemLoop"));
            assert_eq!(resolved(tree, "/usr/lib/libx.so.1/below").unwrap_err(), "NotADirectory");
        });
    }

    #[test]
    fn a_subtree_is_a_root_of_its_own() {
        let text = "# m\nfile /etc/x host\nfile /run/d/etc/x driver\nlink /run/d/y /etc/x\nlink /d run/d\n";
        tree(text, |tree| {
            let driver = tree.subtree("/d/".into()).unwrap();
            assert_eq!(driver.read_text("/y".into()).unwrap(), "driver");
            let located = driver.located(&driver.resolve("/y".into()).unwrap());
            assert_eq!((located.path.as_str(), located.host_path.as_str()), ("/etc/x", "/run/d/etc/x"));
            assert!(tree.subtree("/etc/x".into()).is_err());
        });
    }

    #[test]
    fn what_is_no_regular_file_is_an_error_and_no_wait() {
        tree("# m\nfifo /fifo\nsocket /socket\ndir /dir\nfile /file text\n", |tree| {
            for path in ["/fifo", "/socket", "/dir"] {
                assert!(tree.open_file(path.into()).is_err(), "{path}");
            }
            assert_eq!(tree.read("/file".into(), 2).unwrap(), b"te");
            assert_eq!(tree.kind("/fifo".into()).unwrap(), Kind::Other);
            assert_eq!(tree.kind("/socket".into()).unwrap(), Kind::Socket);
        });
    }

    #[test]
    fn a_recording_tree_tells_what_was_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let text = "# m\nfile /a/read x\nfile /a/listed x\nfile /b/untouched x\nlink /l a/read\n";
        testdata::HostTree::parse(text).unwrap().lay_out(dir.path()).unwrap();
        let tree = Tree::recording(Utf8Path::from_path(dir.path()).unwrap(), None).unwrap();
        tree.read_text("/l".into()).unwrap();
        tree.list("/a".into(), |name| name == "listed").unwrap();
        let seen: Vec<_> = tree.seen().into_iter().map(|(path, read)| (path.into_string(), read)).collect();
        let expected = [("/a", false), ("/a/listed", false), ("/a/read", true), ("/l", false)];
        assert_eq!(seen, expected.map(|(path, read)| (path.to_owned(), read)));
    }

    #[test]
    fn a_device_list_stands_in_for_nodes_and_for_their_directory() {
        let dir = tempfile::tempdir().unwrap();
        let nodes = device_list::parse("char /dev/nvidia0 195 0 0666\nchar /dev/dri/card0 226 0 0660\n").unwrap();
        let tree = Tree::new(Utf8Path::from_path(dir.path()).unwrap(), Some(nodes)).unwrap();
        let names: Vec<_> = tree.list("/dev".into(), |_| true).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["nvidia0"]);
        assert!(matches!(tree.kind("/dev/dri/card0".into()).unwrap(), Kind::Char(Node { major: 226, .. })));
        assert!(tree.kind("/dev/dri/card1".into()).is_err());
    }

    #[test]
    fn a_real_node_has_its_numbers() {
        let system = Tree::new("/".into(), None).unwrap();
        let Kind::Char(null) = system.kind("/dev/null".into()).unwrap() else { panic!("/dev/null is a device") };
        assert_eq!((null.major, null.minor, null.mode), (1, 3, 0o666));
    }
}
