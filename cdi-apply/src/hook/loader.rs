//! Loader: makes the container's dynamic loader find libraries in further directories. I/O.
//!
//! What `ldconfig` would do, without it: no program of the image or the host runs. glibc's cache gets the libraries of the
//! directories; a file in `/etc/ld.so.conf.d`, always the same, names those that are in no configuration of the image, so
//! that an `ldconfig` which runs in the container later comes to the same cache. musl has a list of directories instead.
//! A second start changes nothing, and takes back what is no longer asked for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use cdi_gen::facts::elf::ReadAt;
use rustix::fs::RawMode;

use super::budget;
use super::configuration;
use super::ld_cache::{self, Added, Cache, CacheError, Insertion};
use super::libraries::Libraries;
use super::mount_file::Target;
use super::paths::{CACHE, CONFIGURATION, DROP_IN, HookPath, Known, MUSL};
use super::place::{Writing, narrowed};
use super::root::{Metered, Root};
use cdi_files::limited;

/// What a configuration without a word of its own says.
const INCLUDE_ALL: &str = "include /etc/ld.so.conf.d/*.conf\n";
/// Bytes of musl's list at most.
const MAX_BYTES: usize = 64 << 10;
/// Caches that are read whole, in one call; others in parts.
const SHORT: usize = 128 << 10;
/// Entries that are put into a cache as it stands, each with some look-ups in it; more are sorted in. A driver has some
/// hundred names.
const MAX_INSERTED: usize = 1000;
const FILE_MODE: RawMode = 0o644;
/// What is mounted over a file is read-only.
const COVER_MODE: RawMode = 0o444;
/// Where musl's loader looks without being told.
const MUSL_DIRS: &str = "/lib:/usr/local/lib:/usr/lib";

/// What went wrong with which file of the container.
#[derive(Debug)]
pub struct Trouble {
    /// The file.
    pub path: String,
    /// Why.
    pub error: io::Error,
}

/// Makes the loader find the libraries. Of a directory of the image's own, which alone they are in, it takes what
/// `mount_points` tells of.
pub fn add(root: &Root, libraries: Libraries<'_>, mount_points: impl FnOnce() -> Vec<String>) -> Vec<Trouble> {
    // What is noted of mount points is their own text.
    let points;
    let mut libraries = libraries;
    let mut troubles = Vec::new();
    let mut tell = |path: &str, error: io::Error| troubles.push(Trouble { path: path.to_owned(), error });
    let musl: Vec<Known> =
        MUSL.iter().filter(|(loader, _)| root.find(&loader.path()).is_ok()).map(|(_, list)| *list).collect();
    for list in &musl {
        add_to_musl(root, &list.path(), &libraries.dirs).unwrap_or_else(|error| tell(list.as_str(), error));
    }
    // Without a loader of its own an image of musl has no use for glibc's cache.
    if !musl.is_empty() && root.find_if_there(&CACHE.path()).is_ok_and(|found| found.is_none()) {
        return troubles;
    }
    let before = configuration::dirs_of(root, &DROP_IN.path());
    let (known, all_read) = configuration::known_dirs(root);
    all_read.unwrap_or_else(|error| tell(CONFIGURATION.as_str(), error));
    if libraries.dirs.iter().any(|dir| known.contains(dir)) {
        points = mount_points();
        libraries.note_mounts(&points);
    }
    let unknown: Vec<&String> = libraries.dirs.iter().filter(|dir| !known.contains(dir.as_str())).collect();
    match write_drop_in(root, &unknown) {
        // For an ldconfig that runs in the container, which cannot be where that cannot write, and is not asked to change
        // what is not the image's.
        Err(error) if matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::CrossesDevices) => {}
        written => written.unwrap_or_else(|error| tell(DROP_IN.as_str(), error)),
    }
    let added = root.budget().part(budget::LIBRARIES, || libraries.entries(root, &known, &mut tell));
    let is_ours = |dir: &&String| !known.contains(dir.as_str());
    let gone = before.iter().filter(is_ours).map(String::as_bytes).collect();
    let updated = update_cache(root, added, gone, &unknown);
    updated.unwrap_or_else(|error| tell(CACHE.as_str(), error));
    troubles
}

/// Writes our file, or takes it away where it would say nothing.
fn write_drop_in(root: &Root, dirs: &[&String]) -> io::Result<()> {
    if dirs.is_empty() {
        return root.place(&DROP_IN.path()).map_or(Ok(()), |place| place.take_away());
    }
    let text = dirs.iter().fold(String::new(), |text, dir| text + dir + "\n");
    root.make_place(&DROP_IN.path())?.write(text.as_bytes(), FILE_MODE)?;
    let configuration = root.make_place(&CONFIGURATION.path())?;
    if configuration.stat().is_err() {
        configuration.write(INCLUDE_ALL.as_bytes(), FILE_MODE)?;
    }
    Ok(())
}

// Cache

/// The cache as it stands.
struct Held<'r> {
    root: &'r Root,
    file: Option<Metered<'r>>,
    size: usize,
    /// What the one that takes its place may have at most.
    mode: RawMode,
    /// Where it is not the image's, and another one can only be mounted over it.
    target: Option<Target>,
    /// What is lost of it.
    loss: io::Result<()>,
}

impl<'r> Held<'r> {
    fn find(root: &'r Root) -> io::Result<Self> {
        let none = Self { root, file: None, size: 0, mode: FILE_MODE, target: None, loss: Ok(()) };
        let read = root.place(&CACHE.path()).and_then(|place| match place.read() {
            // What it leads to is not written here; the link is replaced.
            Err(_) if place.read_link().is_ok() => Ok(None),
            read => read.map(Some),
        });
        match read {
            Ok(Some((file, mode))) => none.with(file, mode),
            Ok(None) => Ok(Self { loss: lost(root), ..none }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(none),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let target = Target::find(root, &CACHE.path()).map_err(|_| error)?;
                let file = target.open_public(root).map_err(|_| {
                    io::Error::other("it is not the image's, and not everybody may read it: it is not copied")
                })?;
                Self { target: Some(target), ..none }.with(file, COVER_MODE)
            }
            Err(error) => Err(error),
        }
    }

    fn with(self, file: File, mode: RawMode) -> io::Result<Self> {
        let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        Ok(Self { file: Some(self.root.metered(file)), size, mode: narrowed(FILE_MODE, mode), ..self })
    }

    /// All of it; nothing where there is none.
    fn bytes(&self) -> io::Result<Vec<u8>> {
        self.file.as_ref().map_or_else(|| Ok(Vec::new()), |file| file.all(ld_cache::MAX_BYTES))
    }

    /// Puts another one in its place, or over it.
    fn write(&self, write: Writing<'_>) -> io::Result<()> {
        if let Some(target) = &self.target {
            return target.cover(write, self.mode);
        }
        match self.root.make_place(&CACHE.path()).and_then(|place| place.replace(write, self.mode)) {
            // In a root that is read-only already the loader reads one that is mounted.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                let target = Target::find(self.root, &CACHE.path()).map_err(|_| error)?;
                target.cover(write, self.mode & COVER_MODE)
            }
            written => written,
        }
    }

    /// Puts entries into the cache as it stands; not done where that is not possible.
    fn insert(&self, cache: &(impl ReadAt + ?Sized), size: usize, added: &Added<'_>) -> io::Result<bool> {
        let Some(insertion) = Insertion::new(cache, size, added)? else { return Ok(false) };
        if !insertion.is_empty() {
            self.write(&|out| insertion.write(out))?;
        }
        Ok(true)
    }
}

/// What is lost where a link is replaced: nothing, if it leads to nothing.
fn lost(root: &Root) -> io::Result<()> {
    match root.find_if_there(&CACHE.path()) {
        Ok(None) => Ok(()),
        _ => Err(io::Error::other(
            "it was a symbolic link, which is not read: the cache has the driver's libraries alone",
        )),
    }
}

/// Makes the cache have entries, and none of other files in some directories.
fn update_cache<'d>(root: &Root, added: Added<'_>, mut gone: Vec<&'d [u8]>, ours: &[&'d String]) -> io::Result<()> {
    let held = Held::find(root)?;
    // A root that has not seen us has nothing in our directories.
    let is_new = gone.is_empty() && added.first.len() + added.last.len() <= MAX_INSERTED;
    if let Some(file) = held.file.as_ref().filter(|_| is_new && held.size > SHORT)
        && held.insert(file, held.size, &added)?
    {
        return held.loss;
    }
    let bytes = held.bytes()?;
    if is_new && bytes.len() <= SHORT && held.insert(bytes.as_slice(), bytes.len(), &added)? {
        return held.loss;
    }
    let before = read_cache(&bytes)?;
    let mut cache = before.clone();
    gone.extend(ours.iter().map(|dir| dir.as_bytes()));
    cache.update(added, &gone);
    if cache != before || bytes.is_empty() {
        let updated = cache.to_bytes().ok_or(io::ErrorKind::FileTooLarge)?;
        held.write(&|out| out.write_all(&updated))?;
    }
    held.loss
}

/// A file that is no cache is of no use to the loader either.
fn read_cache(bytes: &[u8]) -> io::Result<Cache<'_>> {
    match Cache::parse(bytes) {
        Err(CacheError::Magic) => Ok(Cache::default()),
        parsed => parsed.map_err(io::Error::other),
    }
}

// musl

/// Appends directories that are not in the list yet. Without a file musl searches what it was built with.
fn add_to_musl(root: &Root, list: &HookPath<'_>, dirs: &[String]) -> io::Result<()> {
    let (held, mode) = match root.place(list).and_then(|place| place.read()) {
        Ok((file, mode)) => (limited::read(file, MAX_BYTES)?, narrowed(FILE_MODE, mode)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (format!("{MUSL_DIRS}\n").into_bytes(), FILE_MODE),
        Err(error) => return Err(error),
    };
    if held.len() > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let text = String::from_utf8_lossy(&held);
    let known: BTreeSet<&str> = text.split([':', '\n']).collect();
    let missing = dirs.iter().filter(|dir| !known.contains(dir.as_str()));
    let more = missing.fold(String::new(), |text, dir| text + dir + "\n");
    if more.is_empty() {
        return Ok(());
    }
    let line_end = if held.ends_with(b"\n") || held.is_empty() { "" } else { "\n" };
    let write = |out: &mut dyn io::Write| {
        out.write_all(&held)?;
        out.write_all(line_end.as_bytes())?;
        out.write_all(more.as_bytes())
    };
    root.make_place(list)?.replace(&write, mode)
}
