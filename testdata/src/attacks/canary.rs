//! Canary: volumes with secrets at, above and below each path that the hook touches, and links to them from there. I/O.
//!
//! Whatever is at such a path, no byte that only root may read comes into the root, and nothing in the volume changes.
#![expect(clippy::disallowed_methods, reason = "lays canaries out on disk")]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{ALL, LIBRARY_DIR, SECRET, judge, usual, usual_in};
use crate::container::{self, Container, Mount, Openat2, Program};
use crate::elf::{Class, Machine, shared_object};
use crate::ld_so_cache::{self, CacheEntry, Endian, Format};

/// As long as [`SECRET`], in files that everybody may read.
const PUBLIC: &str = "p3rmitted-t0-every-user";
/// The volume, beside the root and where it is mounted for links.
const VOLUME: &str = "canary";
const AT: &str = "/canary";
/// What may be looked for in a directory of any kind.
const BELOW: [&str; 6] = ["libcuda.so.999.1", "libx.so", "evil.conf", "nvidia0", "kernel", "information"];

/// Mode of directories in it: none that an argument of the hook asks for.
const DIR_MODE: u32 = 0o751;
/// A file system in memory.
const MEMORY: &str = "/dev/shm";
/// Canaries that are tried at once.
const WORKERS: usize = 8;

/// A canary at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// The path, which the hook touches, or one above.
    pub at: PathBuf,
    /// How it comes there.
    pub by: By,
    /// What it is.
    pub what: What,
    /// Mode of its files, 0600 or 0644.
    pub mode: u32,
    /// Its files below, if it is a directory.
    pub files: Vec<PathBuf>,
}

/// How something that is not the image's comes to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// It is mounted there.
    Mount,
    /// An absolute link leads from there.
    Link,
    /// A relative one.
    RelativeLink,
}

/// What comes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A file.
    File,
    /// A directory with all that the hook looks for below.
    Dir,
    /// The same, which only root may enter.
    ClosedDir,
}

/// All canaries for these.
///
/// # Errors
/// A container cannot be laid out.
fn canaries(touched: &[PathBuf]) -> io::Result<Vec<Canary>> {
    let touched: Vec<PathBuf> = touched.iter().map(|path| without_parents(path)).collect();
    let container = usual()?;
    let is_dir = |path: &Path| match fs::metadata(container.source_of(&path.to_string_lossy())) {
        Ok(metadata) => metadata.is_dir(),
        Err(_) => touched.iter().any(|other| other != path && other.starts_with(path)) || is_named_as_dir(path),
    };
    // The kernel's own directories have no place for more.
    let has_place = |path: &PathBuf| {
        let shown = container.source_of(&path.to_string_lossy());
        path != Path::new("/") && (shown.starts_with(container.path("")) || fs::metadata(shown).is_ok())
    };
    let (dirs, mut files): (Vec<PathBuf>, Vec<PathBuf>) = touched.iter().cloned().partition(|path| is_dir(path));
    files.extend(dirs.iter().flat_map(|dir| BELOW.map(|name| dir.join(name))).filter(|path| !is_dir(path)));
    let above = touched.iter().flat_map(|path| path.ancestors()).map(Path::to_owned);
    let paths: BTreeSet<PathBuf> = above.chain(files.iter().cloned()).filter(has_place).collect();
    let all = paths.iter().flat_map(|at| {
        let below = files.iter().filter_map(|file| file.strip_prefix(at).ok()).map(Path::to_owned);
        let files: Vec<PathBuf> = below.filter(|file| !file.as_os_str().is_empty()).collect();
        kinds(at, is_dir(at)).into_iter().map(move |(by, what, mode)| Canary {
            at: at.clone(),
            by,
            what,
            mode,
            files: files.clone(),
        })
    });
    Ok(all.collect())
}

/// Runs all against a hook, by both ways of going through the root, and tells what is wrong.
///
/// # Errors
/// No container can be laid out.
pub fn run_all(hook: &Path, touched: &[PathBuf]) -> io::Result<Vec<String>> {
    let canaries = canaries(touched)?;
    let next = AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        while let Some(canary) = canaries.get(next.fetch_add(1, Ordering::Relaxed)) {
            wrong.extend([Openat2::Known, Openat2::Missing].into_iter().filter_map(|way| canary.run(hook, way).err()));
        }
        wrong
    };
    // Most of the time goes to waits for the kernel's mounts.
    let wrong = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        let wrong = workers.into_iter().map(std::thread::ScopedJoinHandle::join);
        wrong.flat_map(|wrong| wrong.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    Ok(wrong)
}

/// What the usual image has not.
fn is_named_as_dir(path: &Path) -> bool {
    !path.file_name().is_some_and(|name| name.to_string_lossy().contains(|c: char| c == '.' || c.is_ascii_digit()))
}

/// How a canary can come to a path.
fn kinds(at: &Path, is_dir: bool) -> Vec<(By, What, u32)> {
    let mut kinds = if is_dir {
        vec![
            (By::Mount, What::Dir, 0o600),
            (By::Mount, What::Dir, 0o644),
            (By::Mount, What::ClosedDir, 0o644),
            (By::Mount, What::File, 0o600),
            (By::Link, What::Dir, 0o600),
            (By::Link, What::ClosedDir, 0o644),
            (By::RelativeLink, What::Dir, 0o600),
        ]
    } else {
        vec![
            (By::Mount, What::File, 0o600),
            (By::Mount, What::File, 0o644),
            (By::Mount, What::Dir, 0o600),
            (By::Link, What::File, 0o600),
            (By::Link, What::File, 0o644),
            (By::RelativeLink, What::File, 0o600),
        ]
    };
    if at.starts_with("/dev/") {
        kinds.retain(|(by, what, _)| *by != By::Mount || is_dir == (*what != What::File));
    }
    if at.starts_with("/proc") {
        // procfs has no place for links and for what is of the other kind.
        kinds.retain(|(by, what, _)| (*by == By::Mount || at == Path::new("/proc")) && is_dir == (*what != What::File));
    }
    kinds
}

/// The path that a name and the one above it come to.
fn without_parents(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut way, part| {
        if part == Component::ParentDir {
            _ = way.pop();
        } else {
            way.push(part);
        }
        way
    })
}

impl Canary {
    /// Runs the hook, with all that it can do, in a container that has the canary, and says what is wrong.
    ///
    /// # Errors
    /// The container cannot be laid out or the hook not run; or the canary was read or changed.
    pub fn run(&self, hook: &Path, openat2: Openat2) -> Result<(), String> {
        let name = || format!("{:?} of {:?} {:o} at {}, {openat2:?}", self.by, self.what, self.mode, self.at.display());
        let told = |error: io::Error| format!("{}: {error}", name());
        let container = self.lay_out().map_err(told)?;
        let ran = container.run(&Program { openat2, ..Program::new(hook, &ALL) }).map_err(told)?;
        let judged = judge(&container, &ran);
        judged.map_err(|wrong| format!("{}: {wrong}\nthe hook said: {}", name(), ran.ended.stderr))
    }

    fn lay_out(&self) -> io::Result<Container> {
        // What is at /dev is mostly in memory, and so is this one.
        let in_memory = self.at.starts_with("/dev") && Path::new(MEMORY).is_dir();
        let mut container = if in_memory { usual_in(Path::new(MEMORY))? } else { usual()? };
        self.fill(&container)?;
        match self.by {
            By::Mount => self.mount(&mut container)?,
            By::Link => self.link(&mut container, Path::new(AT))?,
            By::RelativeLink => {
                let depth = self.at.components().count().saturating_sub(2);
                self.link(&mut container, &Path::new(&"../".repeat(depth)).join(AT.trim_start_matches('/')))?;
            }
        }
        Ok(container)
    }

    /// The volume is the canary: a file, or a directory with a file at each touched path below.
    fn fill(&self, container: &Container) -> io::Result<()> {
        let volume = format!("volumes/{VOLUME}");
        if self.what == What::File {
            return self.write(container, &volume, &self.at);
        }
        container.dir(&volume, 0o755)?;
        for file in &self.files {
            self.write(container, &format!("{volume}/{}", file.display()), &self.at.join(file))?;
            let above = file.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty());
            above.map(|dir| format!("{volume}/{}", dir.display())).try_for_each(|dir| container.dir(&dir, DIR_MODE))?;
        }
        if self.what == What::ClosedDir {
            fs::set_permissions(container.path(&volume), fs::Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    fn write(&self, container: &Container, path: &str, as_if_at: &Path) -> io::Result<()> {
        let kept = self.mode == 0o600 || self.what == What::ClosedDir;
        let text = if kept { SECRET } else { PUBLIC };
        container.write(path, with(&as_if_at.to_string_lossy(), text), self.mode)
    }

    /// Volumes come before what is mounted into them, and instead of what is mounted there.
    fn mount(&self, container: &mut Container) -> io::Result<()> {
        let at = self.at.to_string_lossy().into_owned();
        let is_file = self.what == What::File;
        let below = |mount: &Mount| Path::new(&mount.at).starts_with(&self.at);
        let (mut into, before): (Vec<_>, Vec<_>) = std::mem::take(container.mounts()).into_iter().partition(below);
        into.retain(|mount| mount.at != at && !is_file);
        container.mounts().extend(before);
        let stands = container.source_of(&at);
        match fs::metadata(&stands) {
            // What is of the other kind would be no mount point.
            Ok(metadata) if metadata.is_dir() == is_file => remove(container, &stands)?,
            _ => {}
        }
        container.volume(VOLUME, &at)?;
        container.mounts().extend(into);
        Ok(())
    }

    fn link(&self, container: &mut Container, target: &Path) -> io::Result<()> {
        let at = self.at.to_string_lossy().into_owned();
        // The image's own shows where nothing is mounted.
        let is_over =
            |mount: &Mount| self.at.starts_with(&mount.at) && matches!(mount.what, container::What::Dev { .. });
        container.mounts().retain(|mount| !Path::new(&mount.at).starts_with(&self.at) && !is_over(mount));
        // In what is mounted there, the link is laid where that comes from.
        let path = container.source_of(&at);
        remove(container, &path)?;
        container.link(target, &path.to_string_lossy())?;
        container.volume(VOLUME, AT)
    }
}

/// Takes a path of the bundle away; none of the host.
fn remove(container: &Container, path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path).ok().filter(|_| path.starts_with(container.path("")));
    match metadata {
        None => Ok(()),
        Some(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Some(_) => fs::remove_file(path),
    }
}

/// Bytes that a reader of such a file takes for one, with the secret in all that they say.
pub fn content(path: &str) -> Vec<u8> {
    with(path, SECRET)
}

fn with(path: &str, text: &str) -> Vec<u8> {
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.ends_with(".cache") {
        cache(text)
    } else if name.contains(".so") && !name.ends_with(".conf") {
        shared_object(Class::Elf64, Machine::X86_64, Some(&format!("lib{text}.so.1")), None)
    } else if name == "params" {
        format!("ModifyDeviceFiles: 1\nRegistryDwords: \"{text}\"\n").into_bytes()
    } else {
        format!("/{text}\ninclude /{text}/*.conf\n{text}:x:0:0\n").into_bytes()
    }
}

fn cache(text: &str) -> Vec<u8> {
    let entry = |name: &str| CacheEntry {
        name: name.to_owned(),
        path: format!("{LIBRARY_DIR}/{text}"),
        flags: ld_so_cache::X86_64,
    };
    ld_so_cache::write(&[entry(&format!("lib{text}.so.1")), entry("libc.so.6")], Format::New, Endian::Little)
}
