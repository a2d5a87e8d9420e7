//! The sweep: every file that may be a driver library, wherever the host keeps it.
//!
//! The union of all sources, never the first hit only: the loader's cache, the directories of its configuration, its
//! default directories, the known homes of the driver, single-file bind mounts, and `LD_LIBRARY_PATH` as a hint. Links
//! are followed inside the tree, and the directory at their end is swept too. A file is one fact, by its real path,
//! with all the names that lead to it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::dirs::Dirs;
use super::driver::DriverFacts;
use super::elf::{self, Class, ElfError, ElfFacts};
use super::left_out::LeftOut;
use super::{Hints, ld_cache, ld_conf, mountinfo};
use crate::driver_files::{self, Naming};
use crate::homes;
use crate::host::Host;
use crate::problem::Problem;
use crate::tree::{Located, Tree};
use crate::version::DriverVersion;

/// Where the loader keeps its cache.
pub const LD_CACHE: &str = "/etc/ld.so.cache";
/// A cache larger than this is not read: a million entries take a third of it.
pub const LD_CACHE_LIMIT: u64 = 256 << 20;
/// Directories of the loaders of glibc and musl, on every distribution.
const DEFAULT_DIRS: [&str; 14] = [
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/i386-linux-gnu",
    "/usr/lib",
    "/usr/lib32",
    "/lib64",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/lib/i386-linux-gnu",
    "/lib",
    "/lib32",
    "/usr/local/lib",
    "/usr/local/lib64",
];
/// Places of driver files below a library directory. Those that hold another directory on the way are listed in turn.
const SUBDIRS: [&str; 8] = [
    "vdpau",
    "nvidia/xorg",
    "nvidia/current",
    "xorg/modules",
    "xorg/modules/drivers",
    "xorg/modules/extensions",
    "xorg/modules/updates/drivers",
    "xorg/modules/updates/extensions",
];
/// A driver's major version is never below this; libraries with a version of their own stay below it.
const LEAST_DRIVER_MAJOR: u32 = 100;

/// One file that may be a driver library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LibraryFact {
    /// The real file.
    #[serde(flatten)]
    pub located: Located,
    /// File names that lead to it, its own among them.
    pub names: BTreeSet<String>,
    /// The head of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elf: Option<ElfFacts>,
    /// Why the file cannot be a library, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defect: Option<String>,
}

impl LibraryFact {
    /// The real file's own name.
    pub fn file_name(&self) -> &str {
        self.located.path.file_name().unwrap_or_default()
    }

    /// The stem by which the table knows the file.
    pub fn stem(&self) -> &str {
        driver_files::split_name(self.file_name()).map_or("", |(stem, _)| stem)
    }

    /// The driver version in one of its names. The real file may lack it: `libGLX_nvidia.so.0` with a link
    /// `libGLX_nvidia.so.610.43.02` is how some RPMs ship it.
    pub fn driver_version(&self) -> Option<DriverVersion> {
        driver_version_of(self.file_name()).or_else(|| self.names.iter().find_map(|name| driver_version_of(name)))
    }
}

/// The driver version at the end of a library's file name.
pub fn driver_version_of(name: &str) -> Option<DriverVersion> {
    let (_, suffix) = driver_files::split_name(name)?;
    let major: u32 = suffix.split('.').next()?.parse().ok()?;
    (major >= LEAST_DRIVER_MAJOR).then(|| suffix.parse().ok()).flatten()
}

/// Directories that hold libraries of the driver's version, in the order in which they were found.
pub fn directories(libraries: &[LibraryFact], version: Option<&DriverVersion>) -> Vec<Utf8PathBuf> {
    let sound = libraries.iter().filter(|fact| fact.elf.is_some() && fact.driver_version().as_ref() == version);
    sound.filter_map(|fact| fact.located.path.parent()).collect::<Dirs>().into_vec()
}

/// The NVML library that fits this process: of the running version if there is one, else the one that programs load.
pub fn find_nvml<'a>(libraries: &'a [LibraryFact], version: Option<&DriverVersion>) -> Option<&'a Located> {
    let native = if cfg!(target_pointer_width = "64") { Class::Elf64 } else { Class::Elf32 };
    let is_native = |fact: &&LibraryFact| fact.elf.as_ref().is_some_and(|elf| elf.class == native);
    let found = || libraries.iter().filter(is_native).filter(|fact| fact.stem() == "libnvidia-ml");
    let running = || found().find(|fact| version.is_some() && fact.driver_version().as_ref() == version);
    let loaded = || found().find(|fact| fact.names.contains("libnvidia-ml.so.1"));
    running().or_else(loaded).map(|fact| &fact.located)
}

/// The driver version that the files themselves tell: that of the file behind `libcuda.so.1`, else the newest that has
/// a libcuda or libnvidia-ml. For hosts whose kernel does not tell.
pub fn installed_version(libraries: &[LibraryFact]) -> Option<DriverVersion> {
    let sound = || libraries.iter().filter(|fact| fact.elf.is_some());
    let linked = sound().find(|fact| fact.stem() == "libcuda" && fact.names.contains("libcuda.so.1"));
    let newest = || {
        let core = sound().filter(|fact| matches!(fact.stem(), "libcuda" | "libnvidia-ml"));
        core.filter_map(LibraryFact::driver_version).max()
    };
    linked.and_then(LibraryFact::driver_version).or_else(newest)
}

/// Sweeps the host; `injected` are the directories of [`injected_dirs`].
pub fn read(
    host: &Host,
    hints: &Hints,
    driver: &DriverFacts,
    injected: &[Utf8PathBuf],
    problems: &mut Vec<Problem>,
) -> Vec<LibraryFact> {
    let wanted = |name: &str| is_candidate(name, driver.version.as_ref());
    let mut sweep = Sweep::new(&host.driver, &wanted);
    if hints.library_search_path.is_empty() {
        sweep.queue.extend(cache_dirs(&host.driver, &wanted, problems));
        sweep.queue.extend(ld_conf::read(&host.driver));
        sweep.queue.extend(DEFAULT_DIRS.map(Utf8PathBuf::from));
        sweep.queue.extend(homes::library_dirs(&host.driver));
        sweep.queue.extend(injected.iter().cloned());
        sweep.queue.extend(hints.library_path.iter().cloned());
    } else {
        sweep.queue.extend(hints.library_search_path.iter().cloned());
    }
    sweep.run();
    problems.append(&mut sweep.problems);
    problems.extend(sweep.left_out.problems());
    sweep.found
}

/// Whether a file name may be a driver library's: a row names it, or it carries the driver's version.
fn is_candidate(name: &str, version: Option<&DriverVersion>) -> bool {
    let Some((stem, suffix)) = driver_files::split_name(name) else { return false };
    driver_files::find(stem).is_some()
        || match version {
            Some(version) => {
                suffix == version.as_str() && stem.starts_with("lib") && !driver_files::VENDOR_NEUTRAL.contains(&stem)
            }
            None => stem.contains("nvidia") && driver_version_of(name).is_some(),
        }
}

/// Directories of the files that the loader's cache gives for wanted names.
fn cache_dirs(tree: &Tree, wanted: &dyn Fn(&str) -> bool, problems: &mut Vec<Problem>) -> Vec<Utf8PathBuf> {
    let bytes = match tree.read(LD_CACHE.into(), LD_CACHE_LIMIT) {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                problems.push(Problem::note("ld-cache", format!("cannot read {LD_CACHE}: {error}")));
            }
            return Vec::new();
        }
    };
    let (entries, error) = ld_cache::parse(&bytes, wanted);
    if let Some(error) = error {
        let problem = Problem::note("ld-cache", format!("{LD_CACHE}: {error}"));
        problems.push(problem.hint("run ldconfig; the directories are searched all the same"));
    }
    entries.iter().filter_map(|entry| Utf8Path::new(entry.path).parent()).collect::<Dirs>().into_vec()
}

/// Directories into which driver libraries were mounted one by one: those of a container that was given GPUs. Only where
/// the driver's tree is the running system's.
pub fn injected_dirs(host: &Host, driver: &DriverFacts) -> Vec<Utf8PathBuf> {
    if host.driver.prefix() != host.system.prefix() {
        return Vec::new();
    }
    let text = host.system.read_text("/proc/self/mountinfo".into()).unwrap_or_default();
    mountinfo::parse_directories(&text, |name| is_candidate(name, driver.version.as_ref()))
}

/// Whether a directory holds libraries that only look like the driver's: the CUDA toolkit's link-time stubs, and its
/// forward-compatibility libraries, which are another driver version.
pub fn is_decoy(dir: &Utf8Path) -> bool {
    dir.components().any(|part| matches!(part.as_str(), "stubs" | "compat" | "compat_orin"))
}

/// The state of the sweep.
struct Sweep<'a> {
    tree: &'a Tree,
    wanted: &'a dyn Fn(&str) -> bool,
    queue: VecDeque<Utf8PathBuf>,
    visited: HashSet<Utf8PathBuf>,
    found: Vec<LibraryFact>,
    /// Position in `found`, by real path; none for what is left out.
    index: HashMap<Utf8PathBuf, Option<usize>>,
    left_out: LeftOut,
    problems: Vec<Problem>,
}

impl<'a> Sweep<'a> {
    fn new(tree: &'a Tree, wanted: &'a dyn Fn(&str) -> bool) -> Self {
        Self {
            tree,
            wanted,
            queue: VecDeque::new(),
            visited: HashSet::new(),
            found: Vec::new(),
            index: HashMap::new(),
            left_out: LeftOut::default(),
            problems: Vec::new(),
        }
    }

    fn run(&mut self) {
        while let Some(dir) = self.queue.pop_front() {
            if let Ok(real) = self.tree.resolve(&dir) {
                self.sweep_dir(&real);
            }
        }
    }

    fn sweep_dir(&mut self, dir: &Utf8Path) {
        if is_decoy(dir) || !self.visited.insert(dir.to_owned()) {
            return;
        }
        let subdir = |name: &str| matches!(name, "vdpau" | "nvidia" | "xorg");
        let listed = self.tree.list(dir, |name| subdir(name) || (self.wanted)(name)).unwrap_or_default();
        let (subdirs, files): (Vec<_>, Vec<_>) = listed.into_iter().partition(|entry| subdir(&entry.name));
        // Whoever may make files here says what the driver is.
        if !files.is_empty() && !self.left_out.admits(self.tree, &self.tree.located(dir).host_path) {
            return;
        }
        for entry in &files {
            self.take(dir, &entry.name, entry.is_link);
        }
        for child in SUBDIRS.iter().filter(|child| subdirs.iter().any(|entry| child.starts_with(&entry.name))) {
            self.queue.push_back(dir.join(child));
        }
    }

    /// One name: the file behind it, and the directory where that lies.
    fn take(&mut self, dir: &Utf8Path, name: &str, is_link: bool) {
        let path = dir.join(name);
        let real = if is_link {
            match self.tree.resolve(&path) {
                Ok(real) => real,
                Err(error) => return self.broken_link(&path, &error),
            }
        } else {
            path
        };
        let Some(parent) = real.parent().filter(|parent| !is_decoy(parent)) else { return };
        if parent != dir && real.file_name().is_some_and(self.wanted) {
            self.queue.push_back(parent.to_owned());
        }
        self.record(&real, name);
    }

    /// Dangling links are leftovers of no consequence; a cycle is a fault of the host.
    fn broken_link(&mut self, path: &Utf8Path, error: &io::Error) {
        if error.kind() != io::ErrorKind::NotFound {
            self.problems.push(Problem::warning("broken-link", format!("cannot follow {path}: {error}")));
        }
    }

    fn record(&mut self, real: &Utf8Path, name: &str) {
        let at = match self.index.get(real) {
            Some(at) => *at,
            None => {
                let at = self.read(real);
                self.index.insert(real.to_owned(), at);
                at
            }
        };
        if let Some(fact) = at.and_then(|at| self.found.get_mut(at)) {
            fact.names.insert(name.to_owned());
        }
    }

    /// The position of a file that is met for the first time, if it is taken.
    fn read(&mut self, real: &Utf8Path) -> Option<usize> {
        if !self.left_out.admits(self.tree, &self.tree.located(real).host_path) {
            return None;
        }
        self.found.push(read_fact(self.tree, real));
        Some(self.found.len() - 1)
    }
}

fn read_fact(tree: &Tree, real: &Utf8Path) -> LibraryFact {
    let head = tree.open_file(real).map_err(ElfError::from).and_then(|file| elf::parse(&file));
    let (elf, defect) = match head {
        Ok(elf) => (Some(elf), None),
        Err(error) => (None, Some(defect(&error))),
    };
    let names = real.file_name().map(str::to_owned).into_iter().collect();
    LibraryFact { located: tree.located(real), names, elf, defect }
}

fn defect(error: &ElfError) -> String {
    match error {
        ElfError::Io(error) if error.kind() == io::ErrorKind::InvalidInput => "not a regular file".to_owned(),
        other => other.to_string(),
    }
}

/// Whether the table allows a version of the library's own, and the name carries one (or none).
pub fn has_own_version(name: &str) -> bool {
    let Some((stem, suffix)) = driver_files::split_name(name) else { return false };
    let own = driver_files::find(stem).is_some_and(|row| matches!(row.naming, Naming::Own | Naming::Either));
    let major = suffix.split('.').next().unwrap_or_default();
    own && (major.is_empty() || major.parse().is_ok_and(|major: u32| major < LEAST_DRIVER_MAJOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_by_table_or_by_version() {
        let version: DriverVersion = "580.159.04".parse().unwrap();
        for name in ["libcuda.so.1", "libcuda.so.550.1", "libnvidia-future.so.580.159.04", "nvidia_drv.so"] {
            assert!(is_candidate(name, Some(&version)), "{name}");
        }
        for name in [
            "libcudart.so.12",
            "libGL.so.1",
            "libnvidia-container.so.1",
            "libnvidia-future.so.550.1",
            "libEGL.so.580.159.04",
            "libx.a",
        ] {
            assert!(!is_candidate(name, Some(&version)), "{name}");
        }
        assert!(is_candidate("libnvidia-future.so.550.1", None));
        assert!(!is_candidate("libstdc++.so.6.0.30", None));
    }

    #[test]
    fn decoys() {
        for dir in ["/usr/local/cuda/lib64/stubs", "/usr/local/cuda-12/compat", "/usr/local/cuda/compat_orin"] {
            assert!(is_decoy(dir.into()), "{dir}");
        }
        assert!(!is_decoy("/usr/glibc-compat/lib".into()));
    }

    #[test]
    fn own_versions() {
        for name in ["libnvidia-nvvm.so.4.0.0", "libnvidia-api.so.1", "nvidia_drv.so", "libnvidia-egl-gbm.so.1.1.2"] {
            assert!(has_own_version(name), "{name}");
        }
        for name in ["libnvidia-nvvm.so.535.1.1", "libcuda.so.1", "libcuda.so"] {
            assert!(!has_own_version(name), "{name}");
        }
    }
}
