//! Loader: makes the container's dynamic loader find libraries in further directories. I/O.
//!
//! What `ldconfig` would do, without it: no program of the image or the host runs. glibc's cache gets the libraries of the
//! directories; a file in `/etc/ld.so.conf.d`, always the same, names those that are in no configuration of the image, so
//! that an `ldconfig` which runs in the container later comes to the same cache. musl has a list of directories instead.
//! A second start changes nothing, and takes back what is no longer asked for.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cdi_gen::facts::elf::{self, Class, Machine, ReadAt};
use cdi_gen::facts::ld_conf::{self, Line};
use glob::Pattern;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode};

use super::ld_cache::{self, Added, Cache, CacheError, Entry, Insertion, compare_names};
use super::mount_file::Target;
use super::root::{Root, Writing, reopen};
use cdi_files::limited;

const CACHE: &str = "/etc/ld.so.cache";
const CONFIGURATION: &str = "/etc/ld.so.conf";
/// Ours. It sorts before what images have, as the driver's libraries come before theirs.
const DROP_IN: &str = "/etc/ld.so.conf.d/00-cdi-hook.conf";
/// What a configuration without a word of its own says.
const INCLUDE_ALL: &str = "include /etc/ld.so.conf.d/*.conf\n";
/// The configuration is the image's: files, and bytes of each, that are read at most.
const MAX_FILES: usize = 64;
const MAX_BYTES: usize = 64 << 10;
/// Files of a directory that are looked at, at most; Debian's own directory has some 20,000 in the largest images.
const MAX_LIBRARIES: usize = 100_000;
/// Caches that are read whole, in one call; others in parts.
const SHORT: usize = 128 << 10;
const FILE_MODE: RawMode = 0o644;
/// glibc's flags of an entry (`FLAG_ELF_LIBC6` with the machine's).
const X86_64: u32 = 0x0303;
const AARCH64: u32 = 0x0a03;
const I386: u32 = 0x0003;
/// Where glibc's loader looks without being told, on Debian and its kin and elsewhere; and where musl's does.
const DEBIAN_DIRS: [&str; 2] = ["/lib", "/usr/lib"];
const OTHER_DIRS: [&str; 4] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];
const MUSL_DIRS: &str = "/lib:/usr/local/lib:/usr/lib";

/// What went wrong with which file of the container.
#[derive(Debug)]
pub struct Trouble {
    /// The file.
    pub path: String,
    /// Why.
    pub error: io::Error,
}

/// The directories that the loader is to search, and what came into them.
#[derive(Debug, Default)]
pub struct Libraries<'o> {
    /// The first one first.
    pub dirs: Vec<String>,
    /// Files that were mounted and links that were made. In a directory of the image's own nothing else is looked at: it may
    /// have 20,000 files.
    came: Vec<Came<'o>>,
    /// Directories that were mounted as a whole.
    mounted: BTreeSet<&'o str>,
}

impl<'o> Libraries<'o> {
    /// Notes a file, and of a link what it says.
    pub fn note(&mut self, path: &'o str, target: Option<&'o str>) {
        let Some((dir, name)) = path.rsplit_once('/') else { return };
        self.came.push(Came { dir: dir.trim_end_matches('/'), name: name.as_bytes(), target });
    }

    /// What came into a directory, sorted by name; of each the latest.
    fn came_into(&self, dir: &str) -> Vec<Came<'o>> {
        let mut came: Vec<Came<'o>> = self.came.iter().rev().copied().filter(|came| came.dir == dir).collect();
        came.sort_by_key(|came| came.name);
        came.dedup_by_key(|came| came.name);
        came
    }

    fn note_mounts(&mut self, mount_points: &'o [String]) {
        mount_points.iter().for_each(|path| self.note(path, None));
        self.mounted.extend(mount_points.iter().map(String::as_str));
    }
}

/// A file, or a link with what it says.
#[derive(Clone, Copy, Debug)]
struct Came<'o> {
    dir: &'o str,
    name: &'o [u8],
    target: Option<&'o str>,
}

/// Makes the loader find the libraries. Of a directory of the image's own, which alone they are in, it takes what
/// `mount_points` tells of.
pub fn add(root: &Root, libraries: Libraries<'_>, mount_points: impl FnOnce() -> Vec<String>) -> Vec<Trouble> {
    // What is noted of mount points is their own text.
    let points;
    let mut libraries = libraries;
    let mut troubles = Vec::new();
    let mut tell = |path: &str, done: io::Result<()>| {
        troubles.extend(done.err().map(|error| Trouble { path: path.to_owned(), error }));
    };
    let musl = musl_machines(root);
    for machine in &musl {
        let path = format!("/etc/ld-musl-{machine}.path");
        tell(&path, add_to_musl(root, &path, &libraries.dirs));
    }
    // Without a loader of its own an image of musl has no use for glibc's cache.
    if !musl.is_empty() && root.find(Path::new(CACHE)).is_err() {
        return troubles;
    }
    let before = listed(root, Path::new(DROP_IN));
    let known = known_dirs(root);
    if libraries.dirs.iter().any(|dir| known.contains(dir)) {
        points = mount_points();
        libraries.note_mounts(&points);
    }
    let unknown: Vec<&String> = libraries.dirs.iter().filter(|dir| !known.contains(dir.as_str())).collect();
    // For an ldconfig that runs in the container, which cannot be where that cannot write.
    let read_only = |error: &io::Error| error.kind() == io::ErrorKind::ReadOnlyFilesystem;
    tell(DROP_IN, write_drop_in(root, &unknown).or_else(|error| if read_only(&error) { Ok(()) } else { Err(error) }));
    tell(CACHE, update_cache(root, &libraries, &before, &known));
    troubles
}

// Configuration

/// The directories that the loader searches, ours left out.
fn known_dirs(root: &Root) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    if root.find(Path::new("/etc/debian_version")).is_ok() {
        known.extend(DEBIAN_DIRS.map(str::to_owned));
        let triplets = [Machine::X86_64, Machine::Aarch64, Machine::I386].into_iter().filter_map(Machine::triplet);
        known.extend(triplets.flat_map(|triplet| DEBIAN_DIRS.map(|dir| format!("{dir}/{triplet}"))));
    } else {
        known.extend(OTHER_DIRS.map(str::to_owned));
    }
    let mut pending = vec![PathBuf::from(CONFIGURATION)];
    let mut seen = BTreeSet::from_iter(pending.clone());
    while let Some(path) = pending.pop() {
        for line in ld_conf::parse(&text(root, &path)) {
            match line {
                Line::Dir(dir) => _ = known.insert(dir.into_string()),
                Line::Include(pattern) => {
                    let files = included(root, &path, &pattern);
                    pending
                        .extend(files.into_iter().filter(|file| seen.len() < MAX_FILES && seen.insert(file.clone())));
                }
            }
        }
    }
    known
}

/// The files that an `include` names.
fn included(root: &Root, from: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = from.parent().unwrap_or(Path::new("/")).join(pattern);
    let name = path.file_name().and_then(OsStr::to_str).map(Pattern::new);
    let (Some(dir), Some(Ok(name))) = (path.parent(), name) else { return Vec::new() };
    let fits = |file: &OsStr| file.to_str().is_some_and(|file| name.matches(file));
    let files = list(root, dir, fits).unwrap_or_default().into_iter().map(|file| dir.join(file));
    files.filter(|file| file != Path::new(DROP_IN)).take(MAX_FILES).collect()
}

fn listed(root: &Root, path: &Path) -> Vec<String> {
    let dir = |line| if let Line::Dir(dir) = line { Some(dir.into_string()) } else { None };
    ld_conf::parse(&text(root, path)).into_iter().filter_map(dir).collect()
}

fn text(root: &Root, path: &Path) -> String {
    let bytes = root.read_file(path).and_then(|file| limited::read(file, MAX_BYTES)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes our file, or takes it away where it would say nothing.
fn write_drop_in(root: &Root, dirs: &[&String]) -> io::Result<()> {
    if dirs.is_empty() {
        let place = root.place(Path::new(DROP_IN));
        let Ok(place) = place else { return Ok(()) };
        return match rustix::fs::unlinkat(&place.dir, &place.name, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        };
    }
    let text = dirs.iter().fold(String::new(), |text, dir| text + dir + "\n");
    root.make_place(Path::new(DROP_IN))?.write(text.as_bytes(), FILE_MODE)?;
    let configuration = root.make_place(Path::new(CONFIGURATION))?;
    if configuration.stat().is_err() {
        configuration.write(INCLUDE_ALL.as_bytes(), FILE_MODE)?;
    }
    Ok(())
}

// Cache

fn update_cache(root: &Root, libraries: &Libraries<'_>, before: &[String], known: &BTreeSet<String>) -> io::Result<()> {
    let is_ours = |dir: &&String| !known.contains(dir.as_str());
    let mut gone: Vec<&[u8]> = before.iter().filter(is_ours).map(String::as_bytes).collect();
    let listed = listed_dirs(root, libraries, known)?;
    let added = found(root, &listed, known);
    let held = match root.read_file(Path::new(CACHE)) {
        Ok(file) => {
            let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
            // A root that has not seen us has nothing in our directories.
            if size > SHORT && gone.is_empty() && insert(root, &file, size, &added)? {
                return Ok(());
            }
            limited::read(file, ld_cache::MAX_BYTES)?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    if held.len() <= SHORT && gone.is_empty() && insert(root, held.as_slice(), held.len(), &added)? {
        return Ok(());
    }
    let before = read_cache(&held)?;
    let mut cache = before.clone();
    gone.extend(libraries.dirs.iter().filter(is_ours).map(String::as_bytes));
    cache.update(added, &gone);
    if cache == before && !held.is_empty() {
        return Ok(());
    }
    let bytes = cache.to_bytes().ok_or(io::ErrorKind::FileTooLarge)?;
    write_cache(root, &|out| out.write_all(&bytes))
}

/// Puts entries into the cache as it stands; not done where that is not possible.
fn insert(root: &Root, cache: &(impl ReadAt + ?Sized), size: usize, added: &Added<'_>) -> io::Result<bool> {
    let Some(insertion) = Insertion::new(cache, size, added)? else { return Ok(false) };
    if !insertion.is_empty() {
        write_cache(root, &|out| insertion.write(out))?;
    }
    Ok(true)
}

fn write_cache(root: &Root, write: Writing<'_>) -> io::Result<()> {
    match root.make_place(Path::new(CACHE)).and_then(|place| place.replace(write, FILE_MODE)) {
        // In a root that is read-only already the loader reads one that is mounted.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            Target::find(root, "/etc", "ld.so.cache").map_err(|_| error)?.cover(write)
        }
        written => written,
    }
}

/// A directory, with what is to be looked at in it.
struct Listed<'o> {
    dir: &'o str,
    /// Sorted, as are these.
    names: Vec<OsString>,
    came: Vec<Came<'o>>,
}

/// The directories with their libraries.
fn listed_dirs<'o>(root: &Root, libraries: &'o Libraries<'o>, known: &BTreeSet<String>) -> io::Result<Vec<Listed<'o>>> {
    let listed = |dir: &'o String| {
        let came = libraries.came_into(dir);
        let names = if !known.contains(dir) || libraries.mounted.contains(dir.as_str()) {
            list(root, Path::new(dir), |name| is_library(name.as_bytes()))?
        } else {
            let names = came.iter().map(|came| came.name).filter(|name| is_library(name));
            names.map(|name| OsStr::from_bytes(name).to_owned()).collect()
        };
        Ok(Listed { dir, names, came })
    };
    libraries.dirs.iter().map(listed).collect()
}

/// Their libraries as entries: those of a directory that the image does not know come first.
fn found<'l>(root: &Root, listed: &'l [Listed<'_>], known: &BTreeSet<String>) -> Added<'l> {
    let mut added = Added::default();
    for listed in listed {
        let of_dir = if known.contains(listed.dir) { &mut added.last } else { &mut added.first };
        of_dir.extend(entries(root, listed));
    }
    added
}

/// A file that is no cache is of no use to the loader either.
fn read_cache(bytes: &[u8]) -> io::Result<Cache<'_>> {
    match Cache::parse(bytes) {
        Err(CacheError::Magic) => Ok(Cache::default()),
        parsed => parsed.map_err(io::Error::other),
    }
}

/// An entry for each name under which a library of a directory can be asked for.
fn entries<'l>(root: &Root, Listed { dir, names, came }: &'l Listed<'_>) -> Vec<Entry<'l>> {
    let files = Files { root, dir, handle: root.find(Path::new(dir)).ok() };
    let path = |file: &[u8]| [dir.as_bytes(), b"/", file].concat();
    let entry =
        |flags: u32, name: Cow<'l, [u8]>, path: Vec<u8>| Entry { flags, name, path: path.into(), ..Entry::default() };
    let roles = roles(names, came);
    let with_roles = || names.iter().map(|name| name.as_bytes()).zip(&roles);
    let mut linked = with_roles().filter(|(_, role)| matches!(role, Role::Library { .. }));
    let linked_flags = linked.find_map(|(name, _)| files.identify(name)).map(|(_, (flags, _))| flags);
    let mut entries = Vec::with_capacity(names.len());
    for (name, role) in with_roles() {
        match role {
            Role::Library { has_soname: true } => {}
            Role::Link | Role::Library { .. } => {
                entries.extend(linked_flags.map(|flags| entry(flags, name.into(), path(name))));
            }
            Role::Other => {
                let Some((is_link, (flags, soname))) = files.identify(name) else { continue };
                let soname = soname.map_or(Cow::from(name), Cow::from);
                if is_link && *soname != *name {
                    entries.push(entry(flags, name.into(), path(name)));
                }
                let path = path(if position(names, &soname).is_some() { &soname } else { name });
                entries.push(entry(flags, soname, path));
            }
        }
    }
    // Of two files with a SONAME the later version counts.
    entries.sort_by(|one, other| {
        let by_name = (&one.name, one.flags).cmp(&(&other.name, other.flags));
        by_name.then_with(|| compare_names(&other.path, &one.path))
    });
    entries.dedup_by(|one, other| (&one.name, one.flags) == (&other.name, other.flags));
    entries
}

/// Where a name is among those of a directory, which are sorted.
fn position(names: &[OsString], name: &[u8]) -> Option<usize> {
    names.binary_search_by(|known| known.as_bytes().cmp(name)).ok()
}

/// As ldconfig takes names: `lib…` or `ld-…`, with `.so` in it.
fn is_library(name: &[u8]) -> bool {
    (name.starts_with(b"lib") || name.starts_with(b"ld-")) && name.windows(3).any(|part| part == b".so")
}

/// What a name in a directory is. Whoever had links made has read the libraries that they lead to: among the links is the
/// SONAME, if it is not the file's own name. So of all of a directory, which are for one machine, only one needs to be
/// opened, and not each at each start.
#[derive(Clone, Copy)]
enum Role {
    /// A link that we have made, to what stands beside.
    Link,
    /// What such links lead to; and whether one of them has a version in its name, which is the SONAME then.
    Library { has_soname: bool },
    /// Anything else.
    Other,
}

fn roles(names: &[OsString], came: &[Came<'_>]) -> Vec<Role> {
    let mut roles = vec![Role::Other; names.len()];
    let mut led_to = Vec::with_capacity(came.len());
    for Came { name, target, .. } in came {
        let library = target.and_then(|target| position(names, target.as_bytes()));
        let Some((library, at)) = library.zip(position(names, name)) else { continue };
        roles.get_mut(at).into_iter().for_each(|role| *role = Role::Link);
        led_to.push((library, !name.ends_with(b".so")));
    }
    for (library, is_soname) in led_to {
        match roles.get_mut(library) {
            // A link to a link.
            Some(Role::Link) | None => {}
            Some(Role::Library { has_soname }) => *has_soname |= is_soname,
            Some(role) => *role = Role::Library { has_soname: is_soname },
        }
    }
    roles
}

/// The files of a directory.
struct Files<'r> {
    root: &'r Root,
    dir: &'r str,
    handle: Option<OwnedFd>,
}

/// Flags and SONAME.
type Library = (u32, Option<Vec<u8>>);

impl Files<'_> {
    /// Whether a name is a link, and what it leads to; `None` for what is no library.
    fn identify(&self, name: &[u8]) -> Option<(bool, Library)> {
        let name = OsStr::from_bytes(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let own = rustix::fs::openat(self.handle.as_ref()?, name, flags, Mode::empty()).ok()?;
        let is_link = FileType::from_raw_mode(rustix::fs::fstat(&own).ok()?.st_mode).is_symlink();
        let found = if is_link { self.root.find(&Path::new(self.dir).join(name)).ok()? } else { own };
        identify(&found).map(|library| (is_link, library))
    }
}

/// What a file is; `None` for what is no library, or is for a machine that NVIDIA ships no drivers for.
fn identify(found: &OwnedFd) -> Option<Library> {
    let facts = elf::parse(&reopen(found).ok()?).ok()?;
    let flags = match (facts.machine, facts.class) {
        (Machine::X86_64, Class::Elf64) => X86_64,
        (Machine::Aarch64, Class::Elf64) => AARCH64,
        (Machine::I386, Class::Elf32) => I386,
        _ => return None,
    };
    // A SONAME is a claim of the file; one that is no name would make an entry that leads elsewhere.
    let is_name = |soname: &String| !soname.is_empty() && !soname.contains('/');
    Some((flags, facts.soname.filter(is_name).map(String::into_bytes)))
}

/// Names in a directory; none if it does not exist.
fn list(root: &Root, dir: &Path, wanted: impl Fn(&OsStr) -> bool) -> io::Result<Vec<OsString>> {
    match root.list(dir, MAX_LIBRARIES, wanted) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names,
    }
}

// musl

/// The machines whose musl loader the container has: `/lib/ld-musl-x86_64.so.1`.
fn musl_machines(root: &Root) -> Vec<String> {
    let machine = |name: &OsStr| {
        let machine = name.to_str()?.strip_prefix("ld-musl-")?.strip_suffix(".so.1")?;
        Some(machine.to_owned())
    };
    let names = list(root, Path::new("/lib"), |name| machine(name).is_some()).unwrap_or_default();
    names.iter().filter_map(|name| machine(name)).collect()
}

/// Appends directories that are not in the list yet. Without a file musl searches what it was built with.
fn add_to_musl(root: &Root, path: &str, dirs: &[String]) -> io::Result<()> {
    let held = match root.read_file(Path::new(path)) {
        Ok(file) => String::from_utf8_lossy(&limited::read(file, MAX_BYTES)?).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => format!("{MUSL_DIRS}\n"),
        Err(error) => return Err(error),
    };
    let known: BTreeSet<&str> = held.split([':', '\n']).collect();
    let missing = dirs.iter().filter(|dir| !known.contains(dir.as_str()));
    let more = missing.fold(String::new(), |text, dir| text + dir + "\n");
    if more.is_empty() {
        return Ok(());
    }
    let line_end = if held.ends_with('\n') || held.is_empty() { "" } else { "\n" };
    let text = format!("{held}{line_end}{more}");
    root.make_place(Path::new(path))?.replace(&|out| out.write_all(text.as_bytes()), FILE_MODE)
}
