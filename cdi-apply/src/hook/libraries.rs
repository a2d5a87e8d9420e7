//! Libraries: which names the files of the directories can be asked for by. I/O.
//!
//! The directories are what the driver is mounted into, so they and their files may be on any mount. What is taken from
//! there is names, and of an ELF file class and SONAME, if everybody in the container may read it. A SONAME is a claim of
//! the file: one that names another library than the file's own name does is not believed, as the generator does not.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use cdi_files::path_names::MAX_LINKS;
use cdi_gen::driver_files::split_name;
use cdi_gen::facts::elf::{self, Class, Machine};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags};

use super::budget::{self, Cost};
use super::ld_cache::{Added, Entry, compare_names};
use super::paths::HookPath;
use super::root::{PATH_ONLY, Root, Seen};

/// glibc's flags of an entry (`FLAG_ELF_LIBC6` with the machine's).
const X86_64: u32 = 0x0303;
const AARCH64: u32 = 0x0a03;
const I386: u32 = 0x0003;
/// No file has a longer name (`NAME_MAX`).
const MAX_NAME: usize = 255;

/// The directories that the loader is to search, and what came into them.
#[derive(Debug, Default)]
pub struct Libraries<'o> {
    /// The first one first.
    pub dirs: Vec<String>,
    /// Files that were mounted and links that were made. In a directory of the image's own nothing else is looked at: it may
    /// have 20,000 files.
    came: Vec<Came<'o>>,
    /// Links that could not be made, since the directory is not the image's.
    unmade: Vec<Came<'o>>,
    /// Directories that were mounted as a whole.
    mounted: BTreeSet<&'o str>,
}

/// A file, or a link with what it says.
#[derive(Clone, Copy, Debug)]
struct Came<'o> {
    dir: &'o str,
    name: &'o [u8],
    target: Option<&'o str>,
}

impl<'o> Came<'o> {
    fn of(path: &'o str, target: Option<&'o str>) -> Option<Self> {
        let (dir, name) = path.rsplit_once('/')?;
        Some(Self { dir: dir.trim_end_matches('/'), name: name.as_bytes(), target })
    }
}

impl<'o> Libraries<'o> {
    /// Notes a link that was made.
    pub fn note_link(&mut self, path: &'o str, target: &'o str) {
        self.came.extend(Came::of(path, Some(target)));
    }

    /// Notes a link that could not be made: the cache can name what it would have led to.
    pub fn note_unmade(&mut self, path: &'o str, target: &'o str) {
        self.unmade.extend(Came::of(path, Some(target)));
    }

    /// Notes what was mounted.
    pub fn note_mounts(&mut self, mount_points: &'o [String]) {
        self.came.extend(mount_points.iter().filter_map(|path| Came::of(path, None)));
        self.mounted.extend(mount_points.iter().map(String::as_str));
    }

    /// Those directories as entries, as far as the budget goes: those of a directory that the loader does not know come
    /// first. `tell` learns what went wrong.
    pub fn entries(
        &self,
        root: &Root,
        known: &BTreeSet<String>,
        mut tell: impl FnMut(&str, io::Error),
    ) -> Added<'static> {
        let (mut added, heads) = (Added::default(), Heads::default());
        for dir in &self.dirs {
            let mut entries = Vec::new();
            let (listed, all_listed) = self.listed(root, dir, known);
            let all_found = listed.entries(root, &heads, &mut entries);
            all_listed.and(all_found).unwrap_or_else(|error| tell(dir, error));
            let of_dir = if known.contains(dir) { &mut added.last } else { &mut added.first };
            of_dir.extend(latest(entries));
        }
        added
    }

    /// What is to be looked at in a directory; if it cannot be listed, what is known to have come into it.
    fn listed<'l>(&'l self, root: &Root, dir: &'l str, known: &BTreeSet<String>) -> (Listed<'l>, io::Result<()>) {
        let (came, unmade) = (into(&self.came, dir), into(&self.unmade, dir));
        let is_whole = !known.contains(dir) || self.mounted.contains(dir);
        let list = || root.list(&HookPath::library(Path::new(dir)), |name| is_library(name.as_bytes()));
        let (names, all_listed) = match is_whole.then(list) {
            None => (came_names(&came, false), Ok(())),
            Some(Ok(names)) => (names, Ok(())),
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), Ok(())),
            Some(Err(error)) => (came_names(&came, true), Err(error)),
        };
        (Listed { dir, names, came, unmade }, all_listed)
    }
}

/// What is in a directory, sorted by name; of each the latest.
fn into<'o>(all: &[Came<'o>], dir: &str) -> Vec<Came<'o>> {
    let mut found: Vec<Came<'o>> = all.iter().rev().copied().filter(|came| came.dir == dir).collect();
    found.sort_by_key(|came| came.name);
    found.dedup_by_key(|came| came.name);
    found
}

/// The names of what came into a directory, sorted; and of what links there lead to.
fn came_names(came: &[Came<'_>], with_targets: bool) -> Vec<OsString> {
    let targets = came.iter().filter_map(|came| came.target).filter(|target| with_targets && !target.contains('/'));
    let names = came.iter().map(|came| came.name).chain(targets.map(str::as_bytes)).filter(|name| is_library(name));
    let names: BTreeSet<&[u8]> = names.collect();
    names.into_iter().map(|name| OsStr::from_bytes(name).to_owned()).collect()
}

/// Of two files with a SONAME the later version counts.
fn latest(mut entries: Vec<Entry<'static>>) -> Vec<Entry<'static>> {
    entries.sort_by(|one, other| {
        let by_name = (&one.name, one.flags).cmp(&(&other.name, other.flags));
        by_name.then_with(|| compare_names(&other.path, &one.path))
    });
    entries.dedup_by(|one, other| (&one.name, one.flags) == (&other.name, other.flags));
    entries
}

/// As ldconfig takes names: `lib…` or `ld-…`, with `.so` in it.
fn is_library(name: &[u8]) -> bool {
    (name.starts_with(b"lib") || name.starts_with(b"ld-")) && name.windows(3).any(|part| part == b".so")
}

/// Whether a file may be asked for by a name that it claims: a name of the same library, `libcuda.so.1` for
/// `libcuda.so.580.159.04`. Else a driver's file, or one beside it, could stand for libc.
fn may_claim(file: &[u8], soname: &str) -> bool {
    let file = std::str::from_utf8(file).ok().and_then(split_name);
    let is_name = soname.len() <= MAX_NAME && !soname.contains('/');
    is_name && file.zip(split_name(soname)).is_some_and(|((own, _), (claimed, _))| own == claimed)
}

/// A directory, with what is to be looked at in it.
struct Listed<'l> {
    dir: &'l str,
    /// Sorted, as are these.
    names: Vec<OsString>,
    came: Vec<Came<'l>>,
    unmade: Vec<Came<'l>>,
}

impl Listed<'_> {
    /// An entry for each name under which a library can be asked for: first what the arguments ask for, should the budget
    /// not do for all.
    fn entries(&self, root: &Root, heads: &Heads, entries: &mut Vec<Entry<'static>>) -> io::Result<()> {
        let handle = root.find_public(&HookPath::library(Path::new(self.dir)));
        let files = Files { root, dir: self.dir, handle: handle.ok(), heads };
        let mut adding = Adding { root, dir: self.dir, entries };
        let roles = self.roles();
        let with_roles: Vec<(&[u8], Role)> = self.names.iter().map(|name| name.as_bytes()).zip(roles).collect();
        self.add_links(&with_roles, &files, &mut adding)?;
        self.add_unmade(&files, &mut adding)?;
        with_roles.iter().filter(|(_, role)| matches!(role, Role::Other)).try_for_each(|(name, _)| {
            files.identify(name)?.map_or(Ok(()), |found| self.add_found(name, &found, &mut adding))
        })
    }

    /// Links that were made, and what they lead to if none of them is its SONAME.
    fn add_links(&self, with_roles: &[(&[u8], Role)], files: &Files<'_>, adding: &mut Adding<'_>) -> io::Result<()> {
        for (library, _) in with_roles.iter().filter(|(_, role)| matches!(role, Role::Library { .. })) {
            let Some(Found { flags, .. }) = files.identify(library)? else { continue };
            let is_named = |role: &Role| matches!(role, Role::Link | Role::Library { has_soname: false });
            let mut named = with_roles.iter().filter(|(_, role)| is_named(role));
            return named.try_for_each(|(name, _)| adding.add(flags, name, name));
        }
        Ok(())
    }

    /// Links that could not be made.
    fn add_unmade(&self, files: &Files<'_>, adding: &mut Adding<'_>) -> io::Result<()> {
        for (name, file) in self.unmade.iter().filter_map(|came| Some((came.name, self.end_of(came)?))) {
            if let Some(found) = files.identify(file)? {
                adding.add(found.flags, name, file)?;
            }
        }
        Ok(())
    }

    /// What nobody has told of: by its SONAME, and a link by its own name too.
    fn add_found(&self, name: &[u8], found: &Found, adding: &mut Adding<'_>) -> io::Result<()> {
        let soname = found.soname.as_deref().filter(|soname| may_claim(name, soname)).map_or(name, str::as_bytes);
        if found.is_link && soname != name {
            adding.add(found.flags, name, name)?;
        }
        adding.add(found.flags, soname, if self.position(soname).is_some() { soname } else { name })
    }

    /// Where a name is.
    fn position(&self, name: &[u8]) -> Option<usize> {
        self.names.binary_search_by(|known| known.as_bytes().cmp(name)).ok()
    }

    /// The file beside it that a link which could not be made would lead to, be it by others of its kind.
    fn end_of(&self, unmade: &Came<'_>) -> Option<&[u8]> {
        let mut target = unmade.target?.as_bytes();
        for _ in 0..MAX_LINKS {
            if let Some(at) = self.position(target) {
                return self.names.get(at).map(|name| name.as_bytes()).filter(|_| is_library(unmade.name));
            }
            let next = self.unmade.binary_search_by_key(&target, |came| came.name).ok()?;
            target = self.unmade.get(next)?.target?.as_bytes();
        }
        None
    }

    fn roles(&self) -> Vec<Role> {
        let mut roles = vec![Role::Other; self.names.len()];
        let mut led_to = Vec::with_capacity(self.came.len());
        for Came { name, target, .. } in &self.came {
            let library = target.and_then(|target| self.position(target.as_bytes()));
            let Some((library, at)) = library.zip(self.position(name)) else { continue };
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
}

/// The entries of a directory.
struct Adding<'a> {
    root: &'a Root,
    dir: &'a str,
    entries: &'a mut Vec<Entry<'static>>,
}

impl Adding<'_> {
    fn add(&mut self, flags: u32, name: &[u8], file: &[u8]) -> io::Result<()> {
        let path = [self.dir.as_bytes(), b"/", file].concat();
        self.root.budget().draw(Cost::Memory, size_of::<Entry<'_>>() + name.len() + path.len())?;
        self.entries.push(Entry { flags, name: name.to_vec().into(), path: path.into(), ..Entry::default() });
        Ok(())
    }
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

/// The heads of ELF files that were read, by file system and number: a file may have any number of names.
#[derive(Default)]
struct Heads(RefCell<BTreeMap<(u64, u64), Option<Library>>>);

/// Flags and SONAME.
type Library = (u32, Option<Rc<str>>);

/// What a name stands for.
struct Found {
    is_link: bool,
    flags: u32,
    soname: Option<Rc<str>>,
}

/// The files of a directory.
struct Files<'r> {
    root: &'r Root,
    dir: &'r str,
    handle: Option<OwnedFd>,
    heads: &'r Heads,
}

impl Files<'_> {
    /// What a name stands for; `None` for what is no library that everybody may read.
    fn identify(&self, name: &[u8]) -> io::Result<Option<Found>> {
        let found = self.open(OsStr::from_bytes(name)).and_then(|(is_link, found, seen)| {
            let library = self.heads.of(self.root, &found, &seen)?;
            Ok(library.map(|(flags, soname)| Found { is_link, flags, soname }))
        });
        match found {
            Err(error) if !budget::is_spent(&error) => Ok(None),
            found => found,
        }
    }

    /// Whether a name is a link, and what it leads to.
    fn open(&self, name: &OsStr) -> io::Result<(bool, OwnedFd, Seen)> {
        let (own, seen) = self.open_beside(name)?;
        if !seen.kind().is_symlink() {
            return Ok((false, own, seen));
        }
        let target = rustix::fs::readlinkat(&own, "", Vec::new())?.into_bytes();
        let is_beside = !target.contains(&b'/') && !matches!(target.as_slice(), b"." | b"..");
        let beside = is_beside.then(|| self.open_beside(OsStr::from_bytes(&target))).transpose()?;
        if let Some((found, seen)) = beside.filter(|(_, seen)| seen.kind() == FileType::RegularFile) {
            return Ok((true, found, seen));
        }
        let found = self.root.find_public(&HookPath::library(Path::new(self.dir).join(name)))?;
        let seen = self.root.look(&found)?;
        Ok((true, found, seen))
    }

    fn open_beside(&self, name: &OsStr) -> io::Result<(OwnedFd, Seen)> {
        self.root.budget().draw(Cost::Calls, 1)?;
        let dir = self.handle.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let found = rustix::fs::openat(dir, name, PATH_ONLY | OFlags::NOFOLLOW, Mode::empty())?;
        let seen = self.root.look(&found)?;
        Ok((found, seen))
    }
}

impl Heads {
    fn of(&self, root: &Root, found: &OwnedFd, seen: &Seen) -> io::Result<Option<Library>> {
        if let Some(known) = self.0.borrow().get(&seen.file) {
            return Ok(known.clone());
        }
        let library = match elf::parse(&root.open_library(found, seen)?) {
            Ok(facts) => flags(facts.machine, facts.class).map(|flags| (flags, facts.soname.map(Rc::from))),
            Err(elf::ElfError::Io(error)) => return Err(error),
            Err(_) => None,
        };
        let size = library.as_ref().and_then(|(_, soname)| soname.as_deref()).map_or(0, str::len);
        root.budget().draw(Cost::Memory, size_of::<((u64, u64), Library)>() + size)?;
        self.0.borrow_mut().insert(seen.file, library.clone());
        Ok(library)
    }
}

/// What the cache says of a machine's libraries; `None` for one that NVIDIA ships no drivers for.
fn flags(machine: Machine, class: Class) -> Option<u32> {
    match (machine, class) {
        (Machine::X86_64, Class::Elf64) => Some(X86_64),
        (Machine::Aarch64, Class::Elf64) => Some(AARCH64),
        (Machine::I386, Class::Elf32) => Some(I386),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_be_called_by_names_of_its_own_library_only() {
        let cases = [
            ("libcuda.so.580.159.04", "libcuda.so.1", true),
            ("libcuda.so.1.1", "libcuda.so.1", true),
            ("libGLX_nvidia.so.580.1", "libGLX_nvidia.so.0", true),
            ("libnvidia-nvvm.so.4.0.0", "libnvidia-nvvm.so.4", true),
            ("libnvidia-glcore.so.580.1", "libnvidia-glcore.so.580.1", true),
            ("libdxcore.so", "libdxcore.so", true),
            ("libnvidia-ev4.so.580.159.04", "libm.so.6", false),
            ("libcuda.so.1", "libcuda", false),
            ("libcuda.so.1", "", false),
            ("libcuda.so.1", "../libcuda.so.1", false),
            ("libcuda.so.1", "libcuda.so1", false),
            ("libm.so", "libm-2.31.so", false),
        ];
        for (file, soname, expected) in cases {
            assert_eq!(may_claim(file.as_bytes(), soname), expected, "{file} {soname}");
        }
        assert!(!may_claim(b"liba.so.1", &format!("liba.so.{}", "1".repeat(MAX_NAME))));
    }
}
