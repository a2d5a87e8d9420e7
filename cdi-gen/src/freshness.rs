//! Freshness: whether a spec still tells the truth about its host. Pure; what it needs of the host is asked for.
//!
//! A spec names files of one driver version. After an update they are gone, or they are there and of a driver that does
//! not run yet. Times of files say nothing: package managers set them to the day of the build.

use std::fmt;

use camino::Utf8Path;
use cdi_specs::ContainerEdits;

use crate::driver_files;
use crate::version::DriverVersion;

/// Libraries whose names tell the driver's version.
const TELLING: [&str; 2] = ["libcuda", "libnvidia-ml"];
/// Drivers have had greater numbers since 2007; what is less is a version of the library's own (`libcuda.so.1.1`).
const LEAST_BRANCH: u32 = 100;

/// Why a spec is stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stale {
    /// It was made for another driver.
    Driver {
        /// That driver's version.
        spec: DriverVersion,
        /// The version of the one that runs.
        running: DriverVersion,
    },
    /// Files that it mounts, or programs that it runs, are not there.
    Missing {
        /// How many.
        missing: usize,
        /// Of how many.
        of: usize,
        /// The first of them.
        first: String,
    },
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver { spec, running } => write!(f, "it was made for driver {spec}, and {running} runs"),
            Self::Missing { missing, of, first } => {
                write!(f, "{missing} of {of} host paths are gone, such as {first}")
            }
        }
    }
}

/// Why edits are stale; `None` if they hold on this host.
pub fn stale(
    edits: &[&ContainerEdits],
    running: Option<&DriverVersion>,
    exists: &dyn Fn(&Utf8Path) -> bool,
) -> Option<Stale> {
    let made_for = edits.iter().find_map(|edits| driver_version(edits));
    if let (Some(spec), Some(running)) = (made_for, running)
        && spec != *running
    {
        return Some(Stale::Driver { spec, running: running.clone() });
    }
    let paths: Vec<&Utf8Path> = edits.iter().flat_map(|edits| host_paths(edits)).collect();
    let mut missing = paths.iter().filter(|path| !exists(path));
    let first = missing.next()?.to_string();
    Some(Stale::Missing { missing: 1 + missing.count(), of: paths.len(), first })
}

/// The driver that edits were made for, by the names of its libraries.
pub fn driver_version(edits: &ContainerEdits) -> Option<DriverVersion> {
    let names = edits.mounts.iter().filter_map(|mount| Utf8Path::new(&mount.host_path).file_name());
    names.filter_map(driver_files::split_name).find_map(|(stem, suffix)| {
        let branch = suffix.split('.').next()?.parse::<u32>().ok()?;
        (TELLING.contains(&stem) && branch >= LEAST_BRANCH).then(|| suffix.parse().ok()).flatten()
    })
}

/// Files of the host that edits name: what is mounted, and hooks. Nodes have numbers, which say more.
pub fn host_paths(edits: &ContainerEdits) -> impl Iterator<Item = &Utf8Path> {
    let mounts = edits.mounts.iter().map(|mount| mount.host_path.as_str()).filter(|path| path.starts_with('/'));
    mounts.chain(edits.hooks.iter().map(|hook| hook.path.as_str())).map(Utf8Path::new)
}

#[cfg(test)]
mod tests {
    use cdi_specs::{Hook, Mount};

    use super::*;

    fn edits(paths: &[&str]) -> ContainerEdits {
        let mount = |path: &&str| Mount { host_path: (*path).to_owned(), ..Mount::default() };
        let hook = Hook { path: "/usr/bin/cdi-hook".to_owned(), ..Hook::default() };
        ContainerEdits { mounts: paths.iter().map(mount).collect(), hooks: vec![hook], ..ContainerEdits::default() }
    }

    #[test]
    fn the_driver_that_edits_were_made_for() {
        let of = |paths: &[&str]| driver_version(&edits(paths)).map(|version| version.to_string());
        assert_eq!(of(&["/etc/x", "/usr/lib64/libcuda.so.580.159.04"]).as_deref(), Some("580.159.04"));
        assert_eq!(of(&["/usr/lib64/libnvidia-ml.so.1", "/x/libnvidia-ml.so.470.1"]).as_deref(), Some("470.1"));
        assert_eq!(of(&["/usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1.1", "/x/libnvidia-egl-gbm.so.580.1"]), None);
    }

    #[test]
    fn what_makes_a_spec_stale() {
        let edits = edits(&["/usr/lib64/libcuda.so.550.163.01", "/usr/bin/nvidia-smi", "tmpfs"]);
        let why = |running: &str, there: &[&str]| {
            let exists = |path: &Utf8Path| there.contains(&path.as_str());
            stale(&[&edits], running.parse().ok().as_ref(), &exists).map(|stale| stale.to_string())
        };
        let all = ["/usr/lib64/libcuda.so.550.163.01", "/usr/bin/nvidia-smi", "/usr/bin/cdi-hook"];
        assert_eq!(why("550.163.01", &all), None);
        assert_eq!(why("unknown", &all), None);
        let driver = "it was made for driver 550.163.01, and 580.159.04 runs";
        assert_eq!(why("580.159.04", &all).as_deref(), Some(driver));
        let gone = "2 of 3 host paths are gone, such as /usr/bin/nvidia-smi";
        assert_eq!(why("550.163.01", &all[..1]).as_deref(), Some(gone));
    }
}
