//! Libraries of the running driver, picked from all that the sweep found.
//!
//! The version decides, never the order of names: a link may point at a driver that does not run yet, a directory may
//! hold two drivers, a placeholder may be empty.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{host_dir, no_library};
use crate::capability::Capabilities;
use crate::driver_files::{self, Place};
use crate::facts::HostFacts;
use crate::facts::elf::{Class, ElfFacts, Machine};
use crate::facts::libraries::{LibraryFact, has_own_version};
use crate::problem::{Problem, some_of};
use crate::tree::Located;
use crate::version::DriverVersion;

/// A library of the driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Library {
    /// The real file.
    #[serde(flatten)]
    pub located: Located,
    /// The real file's name.
    pub file_name: String,
    /// Further names that programs ask for: SONAME, links; some below a directory of their own (`gbm/…`). Sorted.
    pub names: Vec<String>,
    /// Word size.
    pub class: Class,
    /// Who wants it.
    pub capability: Capabilities,
    /// Where programs look for it.
    #[serde(skip)]
    pub place: Place,
}

/// A sound candidate: the fact with its ELF head.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    fact: &'a LibraryFact,
    elf: &'a ElfFacts,
}

/// Picks the libraries of `version` and says what else was found.
///
/// # Errors
/// No library of the version is there.
pub fn select(
    facts: &HostFacts,
    version: &DriverVersion,
    problems: &mut Vec<Problem>,
) -> Result<(Machine, Vec<Library>), Problem> {
    let whole = facts.libraries.iter().filter_map(|fact| Some(Candidate { fact, elf: fact.elf.as_ref()? }));
    let (sound, posing): (Vec<Candidate<'_>>, Vec<_>) = whole.partition(|found| others_name(*found).is_none());
    report_defects(&facts.libraries, version, problems);
    report_posing(&posing, problems);
    let machine = machine(facts, &sound, version).ok_or_else(|| no_library(Some(version)))?;
    let picked = pick(&sound, version, machine);
    if !picked.iter().any(|found| found.fact.driver_version().as_ref() == Some(version)) {
        return Err(mismatch(&sound, version));
    }
    report_other_versions(&sound, &picked, version, problems);
    report_unclassified(&picked, problems);
    report_no_libcuda(&picked, machine, problems);
    Ok((machine, picked.into_iter().map(|found| library(found, machine)).collect()))
}

/// The kernel's word for the machine, else that of the version's libcuda, else that of any of its libraries.
fn machine(facts: &HostFacts, sound: &[Candidate<'_>], version: &DriverVersion) -> Option<Machine> {
    let of_version = || sound.iter().filter(|found| found.fact.driver_version().as_ref() == Some(version));
    let is_64 = |found: &&Candidate<'_>| found.elf.class == Class::Elf64;
    let told = facts.driver.machine;
    let files = || of_version().find(is_64).or_else(|| of_version().next()).or_else(|| sound.iter().find(is_64));
    told.or_else(|| files().map(|found| found.elf.machine))
}

/// One candidate a library and word size, in the order of names: the best rank, then one that lies beside the running
/// driver's libraries, then the newest.
fn pick<'a>(sound: &[Candidate<'a>], version: &DriverVersion, machine: Machine) -> Vec<Candidate<'a>> {
    let mut best: BTreeMap<(&str, Class), Candidate<'a>> = BTreeMap::new();
    let of_driver = sound.iter().filter(|found| rank(found, version) == Rank::Driver);
    let homes: BTreeSet<_> = of_driver.filter_map(|found| found.fact.located.path.parent()).collect();
    let fit = |found: &Candidate<'_>| {
        let at_home = found.fact.located.path.parent().is_some_and(|dir| homes.contains(dir));
        let rank = rank(found, version);
        (rank, at_home, if rank == Rank::Driver { Vec::new() } else { own_version(found) })
    };
    let native = |found: &&Candidate<'_>| found.elf.machine == machine || Some(found.elf.machine) == machine.compat32();
    for found in sound.iter().filter(native).filter(|found| rank(found, version) > Rank::Foreign) {
        let slot = best.entry((found.fact.stem(), found.elf.class)).or_insert(*found);
        // Among equals the first that the sweep met stays.
        if fit(found) > fit(slot) {
            *slot = *found;
        }
    }
    best.into_values().collect()
}

/// How well a candidate fits the running driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Another driver's.
    Foreign,
    /// A version of its own, and the table allows that.
    Own,
    /// The same, and the host's SONAME link points at it.
    OwnLinked,
    /// The driver's own version.
    Driver,
}

fn rank(found: &Candidate<'_>, version: &DriverVersion) -> Rank {
    if found.fact.driver_version().as_ref() == Some(version) {
        Rank::Driver
    } else if !has_own_version(found.fact.file_name()) {
        Rank::Foreign
    } else if found.elf.soname.as_ref().is_some_and(|soname| found.fact.names.contains(soname)) {
        Rank::OwnLinked
    } else {
        Rank::Own
    }
}

/// The numbers of a version of its own: `[1, 1, 20]` for `libnvidia-egl-wayland.so.1.1.20`.
fn own_version(found: &Candidate<'_>) -> Vec<u32> {
    let suffix = driver_files::split_name(found.fact.file_name()).map_or("", |(_, suffix)| suffix);
    suffix.split('.').filter_map(|number| number.parse().ok()).collect()
}

fn library(found: Candidate<'_>, machine: Machine) -> Library {
    let row = driver_files::find(found.fact.stem());
    let compat = if found.elf.machine == machine { Capabilities::ALWAYS } else { Capabilities::COMPAT32 };
    Library {
        located: found.fact.located.clone(),
        file_name: found.fact.file_name().to_owned(),
        names: names(found),
        class: found.elf.class,
        capability: row.map_or(Capabilities::ALWAYS, |row| row.capability) | compat,
        place: row.map_or(Place::Loader, |row| row.place),
    }
}

/// All names beside the file's own: the SONAME whether or not the host has the link, the table's, and the host's links
/// that name the same library.
fn names(found: Candidate<'_>) -> Vec<String> {
    let stem = found.fact.stem();
    let same = |name: &&String| driver_files::split_name(name).is_some_and(|(other, _)| other == stem);
    let host = found.fact.names.iter().filter(same).cloned();
    let table = driver_files::find(stem).into_iter().flat_map(|row| row.links).map(|link| (*link).to_owned());
    // The file's claim; one that names another library, or a path, has left the file out.
    let soname = found.elf.soname.iter().filter(same).cloned();
    let mut names: BTreeSet<String> = host.chain(table).chain(soname).collect();
    names.remove(found.fact.file_name());
    names.into_iter().collect()
}

/// The name of another library, if a file claims it as its own (`DT_SONAME`): programs would load it in that one's place.
fn others_name(found: Candidate<'_>) -> Option<&str> {
    let soname = found.elf.soname.as_deref().filter(|soname| *soname != found.fact.file_name())?;
    let stem = driver_files::split_name(soname).map_or(soname, |(stem, _)| stem);
    let is_own = stem == found.fact.stem() && !soname.contains('/');
    (!is_own || !driver_files::is_drivers(stem)).then_some(soname)
}

fn report_posing(posing: &[Candidate<'_>], problems: &mut Vec<Problem>) {
    for found in posing {
        let soname = others_name(*found).unwrap_or_default();
        let path = &found.fact.located.host_path;
        let message = format!("{path} is left out: it calls itself {soname:?}, which is another library's name");
        problems.push(Problem::warning("bad-library", message).hint("find out who made the file"));
    }
}

/// Files that are no libraries: of the running version that is a broken installation, else a leftover.
fn report_defects(facts: &[LibraryFact], version: &DriverVersion, problems: &mut Vec<Problem>) {
    let defective: Vec<_> = facts.iter().filter_map(|fact| Some((fact, fact.defect.as_ref()?))).collect();
    let (broken, leftover): (Vec<_>, Vec<_>) =
        defective.into_iter().partition(|(fact, _)| fact.driver_version().as_ref() == Some(version));
    for (fact, defect) in broken {
        let message = format!("{} is left out: {defect}", fact.located.host_path);
        problems.push(Problem::warning("bad-library", message).hint("reinstall the driver's user-space part"));
    }
    let paths: Vec<_> =
        leftover.iter().map(|(fact, defect)| format!("{} ({defect})", fact.located.host_path)).collect();
    if !paths.is_empty() {
        let message = format!("files that are not usable libraries are passed over: {}", some_of(&paths));
        problems.push(Problem::note("bad-library", message));
    }
}

/// Nothing of the running version is left.
fn mismatch(sound: &[Candidate<'_>], version: &DriverVersion) -> Problem {
    let installed: BTreeSet<DriverVersion> = sound.iter().filter_map(|found| found.fact.driver_version()).collect();
    let Some(newest) = installed.last() else { return no_library(Some(version)) };
    let message = format!("kernel driver {version} runs, but the installed libraries are of version {newest}");
    Problem::error("version-mismatch", message).hint("reboot, or reload the nvidia kernel modules")
}

/// Other driver versions beside the running one: complete ones, and upgrades that wait for a reboot.
fn report_other_versions(
    sound: &[Candidate<'_>],
    picked: &[Candidate<'_>],
    version: &DriverVersion,
    problems: &mut Vec<Problem>,
) {
    let mut others: BTreeMap<DriverVersion, Vec<&Candidate<'_>>> = BTreeMap::new();
    for found in sound {
        if let Some(other) = found.fact.driver_version().filter(|other| other != version) {
            others.entry(other).or_default().push(found);
        }
    }
    for (other, files) in others {
        let missing: BTreeSet<&str> =
            files.iter().map(|file| file.fact.stem()).filter(|stem| lacks(picked, stem)).collect();
        problems.push(other_version(version, &other, &files, &missing));
    }
}

/// Whether the running driver has no library of that stem.
fn lacks(picked: &[Candidate<'_>], stem: &str) -> bool {
    !picked.iter().any(|found| found.fact.stem() == stem)
}

fn other_version(
    version: &DriverVersion,
    other: &DriverVersion,
    files: &[&Candidate<'_>],
    missing: &BTreeSet<&str>,
) -> Problem {
    let dir = files.first().map(|file| host_dir(&file.fact.located)).unwrap_or_default();
    let has_core = files.iter().any(|file| file.fact.stem() == "libcuda");
    // A few libraries come and go from branch to branch; what is missing beyond that was taken away.
    if has_core && missing.len() * 4 > files.len() {
        let missing: Vec<&&str> = missing.iter().collect();
        let message = format!(
            "driver {version} runs, but {other} was installed over it in {dir}; of {version} these are gone: {}",
            some_of(&missing)
        );
        Problem::warning("half-upgraded", message).hint("reboot to run the new driver")
    } else if has_core && files.len() > 2 {
        let message = format!("driver {other} is installed too, in {dir}; {version} runs and is used");
        Problem::note("two-drivers", message)
    } else {
        let message = format!("leftover files of driver {other} in {dir} are passed over ({} files)", files.len());
        Problem::note("leftover", message)
    }
}

fn report_unclassified(picked: &[Candidate<'_>], problems: &mut Vec<Problem>) {
    let unknown: Vec<&str> =
        picked.iter().map(|found| found.fact.file_name()).filter(|name| is_unclassified(name)).collect();
    if !unknown.is_empty() {
        let message = format!("libraries that the driver file table does not know are taken: {}", some_of(&unknown));
        problems.push(Problem::note("unclassified", message).hint("please report them"));
    }
}

fn is_unclassified(name: &str) -> bool {
    driver_files::split_name(name).is_none_or(|(stem, _)| driver_files::find(stem).is_none())
}

fn report_no_libcuda(picked: &[Candidate<'_>], machine: Machine, problems: &mut Vec<Problem>) {
    let has = |stem: &str| picked.iter().any(|found| found.fact.stem() == stem && found.elf.machine == machine);
    for stem in ["libcuda", "libnvidia-ml"].into_iter().filter(|stem| !has(stem)) {
        let message = format!("{stem} of the running driver is not installed; containers go without it");
        problems.push(Problem::warning("no-library", message).hint("install the driver's compute packages"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::libraries::driver_version_of;

    fn fact(path: &str, names: &[&str], soname: Option<&str>) -> LibraryFact {
        let elf = ElfFacts {
            class: Class::Elf64,
            machine: Machine::X86_64,
            soname: soname.map(str::to_owned),
            interpreter: None,
        };
        let own = path.rsplit('/').next().unwrap();
        LibraryFact {
            located: Located { path: path.into(), host_path: path.into() },
            names: names.iter().copied().chain([own]).map(str::to_owned).collect(),
            elf: Some(elf),
            defect: None,
        }
    }

    fn picked(facts: &[LibraryFact], version: &str) -> Vec<String> {
        let sound: Vec<_> = facts.iter().map(|fact| Candidate { fact, elf: fact.elf.as_ref().unwrap() }).collect();
        let found = pick(&sound, &version.parse().unwrap(), Machine::X86_64);
        found.iter().map(|found| found.fact.located.path.to_string()).collect()
    }

    #[test]
    fn the_running_version_wins_over_links_and_names() {
        let facts = [
            fact("/a/libcuda.so.1000.1", &["libcuda.so.1"], Some("libcuda.so.1")),
            fact("/a/libcuda.so.575.57.08", &[], Some("libcuda.so.1")),
        ];
        assert_eq!(picked(&facts, "575.57.08"), ["/a/libcuda.so.575.57.08"]);
    }

    #[test]
    fn a_version_of_its_own_the_linked_one_then_the_newest() {
        let wayland = |version: &str, links: &[&str]| {
            fact(&format!("/a/libnvidia-egl-wayland.so.{version}"), links, Some("libnvidia-egl-wayland.so.1"))
        };
        let newest = [wayland("1.1.9", &[]), wayland("1.1.20", &[])];
        assert_eq!(picked(&newest, "575.57.08"), ["/a/libnvidia-egl-wayland.so.1.1.20"]);
        let linked = [wayland("1.1.9", &["libnvidia-egl-wayland.so.1"]), wayland("1.1.20", &[])];
        assert_eq!(picked(&linked, "575.57.08"), ["/a/libnvidia-egl-wayland.so.1.1.9"]);
    }

    #[test]
    fn nvvm_of_470_and_later() {
        let old = [fact("/a/libnvidia-nvvm.so.4.0.0", &["libnvidia-nvvm.so.4"], Some("libnvidia-nvvm.so.4"))];
        assert_eq!(picked(&old, "470.256.02"), ["/a/libnvidia-nvvm.so.4.0.0"]);
        let both = [old[0].clone(), fact("/a/libnvidia-nvvm.so.550.54.15", &[], Some("libnvidia-nvvm.so.4"))];
        assert_eq!(picked(&both, "550.54.15"), ["/a/libnvidia-nvvm.so.550.54.15"]);
    }

    #[test]
    fn an_inverted_pair_is_one_library_with_all_its_names() {
        let inverted = fact("/a/libGLX_nvidia.so.0", &["libGLX_nvidia.so.610.43.02"], Some("libGLX_nvidia.so.0"));
        assert_eq!(driver_version_of("libGLX_nvidia.so.0"), None);
        assert_eq!(picked(std::slice::from_ref(&inverted), "610.43.02"), ["/a/libGLX_nvidia.so.0"]);
        let found = Candidate { fact: &inverted, elf: inverted.elf.as_ref().unwrap() };
        assert_eq!(names(found), ["libGLX_indirect.so.0", "libGLX_nvidia.so.610.43.02"]);
    }

    #[test]
    fn the_soname_is_a_name_without_a_link() {
        let bare = fact("/a/libcuda.so.580.1", &[], Some("libcuda.so.1"));
        let found = Candidate { fact: &bare, elf: bare.elf.as_ref().unwrap() };
        assert_eq!(names(found), ["libcuda.so", "libcuda.so.1"]);
    }
}
