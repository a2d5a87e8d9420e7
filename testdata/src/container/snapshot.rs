//! Snapshot: what is below a directory, to be compared with what was there before. I/O.
#![expect(clippy::disallowed_methods, reason = "reads what was laid out")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// All files and directories, by path; times are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What there is.
    pub items: BTreeMap<PathBuf, Item>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is, and what it holds.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

/// What an item is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file with its bytes.
    File(Vec<u8>),
    /// A link with what it says.
    Link(PathBuf),
    /// Anything else with its device number.
    Special(u64),
}

impl Snapshot {
    /// What is below a path, and itself.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut snapshot = Self::default();
        snapshot.add(path)?;
        Ok(snapshot)
    }

    /// The same of several; none counts twice.
    ///
    /// # Errors
    /// As [`Snapshot::of`].
    pub fn of_all(paths: &[PathBuf]) -> io::Result<Self> {
        let mut snapshot = Self::default();
        paths.iter().try_for_each(|path| snapshot.add(path))?;
        Ok(snapshot)
    }

    fn add(&mut self, path: &Path) -> io::Result<()> {
        let mut pending = vec![path.to_owned()];
        while let Some(path) = pending.pop() {
            let metadata = fs::symlink_metadata(&path)?;
            let kind = match metadata.file_type() {
                kind if kind.is_dir() => {
                    pending.extend(entries(&path)?);
                    Kind::Dir
                }
                kind if kind.is_symlink() => Kind::Link(fs::read_link(&path)?),
                kind if kind.is_file() => Kind::File(fs::read(&path)?),
                kind => Kind::Special(if kind.is_fifo() || kind.is_socket() { 0 } else { metadata.rdev() }),
            };
            let item = Item { kind, mode: metadata.mode() & 0o7777, owner: (metadata.uid(), metadata.gid()) };
            self.items.insert(path, item);
        }
        Ok(())
    }

    /// A regular file's bytes.
    pub fn file(&self, path: &Path) -> Option<&[u8]> {
        match &self.items.get(path)?.kind {
            Kind::File(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Which paths hold some bytes: in a file, a link's text or a name.
    pub fn holding(&self, bytes: &[u8]) -> Vec<&Path> {
        let holds = |text: &[u8]| holds(text, bytes);
        let found = self.items.iter().filter(|(path, item)| {
            let in_name = path.file_name().is_some_and(|name| holds(name.as_bytes()));
            in_name
                || match &item.kind {
                    Kind::File(held) => holds(held),
                    Kind::Link(target) => holds(target.as_os_str().as_bytes()),
                    Kind::Dir | Kind::Special(_) => false,
                }
        });
        found.map(|(path, _)| path.as_path()).collect()
    }

    /// What is different in another one, for people to read: a line a path.
    pub fn difference(&self, other: &Self) -> Vec<String> {
        let paths: std::collections::BTreeSet<&PathBuf> = self.items.keys().chain(other.items.keys()).collect();
        let told = paths.into_iter().filter_map(|path| {
            let (before, after) = (self.items.get(path), other.items.get(path));
            (before != after).then(|| format!("{}: {} is now {}", path.display(), shown(before), shown(after)))
        });
        told.collect()
    }
}

/// Whether a part is among some bytes.
pub fn holds(bytes: &[u8], part: &[u8]) -> bool {
    let Some(first) = part.first() else { return true };
    let mut rest = bytes;
    // By its first byte, which is rare: fuzzers watch each comparison.
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        let found = rest.get(at..).unwrap_or_default();
        if found.starts_with(part) {
            return true;
        }
        rest = found.get(1..).unwrap_or_default();
    }
    false
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}

fn shown(item: Option<&Item>) -> String {
    let Some(Item { kind, mode, owner }) = item else { return "nothing".to_owned() };
    let what = match kind {
        Kind::Dir => "a directory".to_owned(),
        Kind::File(bytes) => {
            let start = bytes.get(..bytes.len().min(40)).unwrap_or_default();
            format!("a file of {} bytes {:?}", bytes.len(), String::from_utf8_lossy(start))
        }
        Kind::Link(target) => format!("a link to {}", target.display()),
        Kind::Special(number) => format!("a node {number}"),
    };
    format!("{what}, {mode:o} {owner:?}")
}
