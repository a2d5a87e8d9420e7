//! Freshness: whether a spec still tells the truth about its host. Pure; what it needs of the host is asked for.
//!
//! A spec names files of one driver version. After an update they are gone, or they are there and of a driver that does
//! not run yet. Times of files say nothing: package managers set them to the day of the build.

use std::collections::BTreeMap;
use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};
use cdi_specs::{ContainerEdits, DeviceNode, Spec};

use crate::driver_files;
use crate::version::DriverVersion;

/// Libraries whose names tell the driver's version.
const TELLING: [&str; 2] = ["libcuda", "libnvidia-ml"];
/// Drivers have had greater numbers since 2007; what is less is a version of the library's own (`libcuda.so.1.1`).
const LEAST_BRANCH: u32 = 100;

/// A file of the host that a spec names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named<'a> {
    /// Where it is on the host.
    pub host_path: &'a Utf8Path,
    /// Where containers get it; a hook stays on the host.
    pub container_path: Option<&'a Utf8Path>,
}

/// What is wrong with a file of the host that a spec names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Nothing is there.
    Missing,
    /// It is another thing than the spec was made for, or not root's alone: in words.
    Untrusted(String),
}

/// Why a spec is stale. Displays on one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// The driver that it was made for, and the one that runs.
    pub driver: Option<(DriverVersion, DriverVersion)>,
    /// Host paths that are gone: files that it mounts, programs that it runs.
    pub missing: Vec<Utf8PathBuf>,
    /// Host paths that root may no longer rely on, and why.
    pub untrusted: Vec<(Utf8PathBuf, String)>,
    /// How many host paths it names.
    pub paths: usize,
    /// Device nodes with other numbers than it says, in words.
    pub nodes: Vec<String>,
    /// Device nodes of GPUs that it gives no device.
    pub new_gpus: Vec<Utf8PathBuf>,
}

impl Stale {
    fn is_fresh(&self) -> bool {
        let has_paths = self.missing.is_empty() && self.untrusted.is_empty();
        self.driver.is_none() && has_paths && self.nodes.is_empty() && self.new_gpus.is_empty()
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = self.driver.iter().map(|(spec, running)| format!("driver {spec} → {running}"));
        let missing = self
            .missing
            .first()
            .map(|first| format!("{} of {} host paths are gone, such as {first}", self.missing.len(), self.paths));
        let untrusted = self.untrusted.first().map(|(path, why)| {
            let count = self.untrusted.len();
            format!("{count} of {} host paths may not be relied on, such as {path}: {why}", self.paths)
        });
        let nodes = self.nodes.first().cloned();
        let gpus = self.new_gpus.first().map(|first| format!("it has no device for {first}"));
        let parts: Vec<String> = driver.chain(missing).chain(untrusted).chain(nodes).chain(gpus).collect();
        f.write_str(&parts.join(": "))
    }
}

/// Why edits are stale; `None` if they hold on this host. Device nodes are
/// looked at in a whole spec only ([`stale_spec`]).
pub fn stale(
    edits: &[&ContainerEdits],
    running: Option<&DriverVersion>,
    wrong: &dyn Fn(&Named<'_>) -> Option<Wrong>,
) -> Option<Stale> {
    let stale = judge(edits, running, wrong);
    (!stale.is_fresh()).then_some(stale)
}

fn judge(
    edits: &[&ContainerEdits],
    running: Option<&DriverVersion>,
    wrong: &dyn Fn(&Named<'_>) -> Option<Wrong>,
) -> Stale {
    let made_for = edits.iter().find_map(|edits| driver_version(edits));
    let driver = made_for.zip(running.cloned()).filter(|(spec, running)| spec != running);
    // A library has a name for each of its mounts.
    let mut files: BTreeMap<&Utf8Path, Named<'_>> = BTreeMap::new();
    for named in edits.iter().flat_map(|edits| named_files(edits)) {
        files.entry(named.host_path).or_insert(named);
    }
    let mut stale = Stale { driver, paths: files.len(), ..Stale::default() };
    for named in files.values() {
        match wrong(named) {
            None => {}
            Some(Wrong::Missing) => stale.missing.push(named.host_path.to_owned()),
            Some(Wrong::Untrusted(why)) => stale.untrusted.push((named.host_path.to_owned(), why)),
        }
    }
    stale
}

/// Why a whole spec is stale. `node` tells the numbers of a host's device node, `gpus` the nodes that GPUs have there;
/// none if the spec was made for some of them only.
pub fn stale_spec(
    spec: &Spec,
    running: Option<&DriverVersion>,
    wrong: &dyn Fn(&Named<'_>) -> Option<Wrong>,
    node: &dyn Fn(&Utf8Path) -> Option<(u32, u32)>,
    gpus: &[Utf8PathBuf],
) -> Option<Stale> {
    let edits = all_edits(spec);
    let nodes: BTreeMap<&str, &DeviceNode> =
        edits.iter().flat_map(|edits| &edits.device_nodes).map(|node| (host_path(node), node)).collect();
    let others =
        nodes.iter().filter_map(|(path, planned)| wrong_node(path, planned, node(Utf8Path::new(path)))).collect();
    let new_gpus = gpus.iter().filter(|gpu| !nodes.contains_key(gpu.as_str())).cloned().collect();
    let stale = Stale { nodes: others, new_gpus, ..judge(&edits, running, wrong) };
    (!stale.is_fresh()).then_some(stale)
}

/// The edits of a spec: those of each device, and the common ones.
pub fn all_edits(spec: &Spec) -> Vec<&ContainerEdits> {
    spec.devices.iter().map(|device| &device.container_edits).chain([&spec.container_edits]).collect()
}

fn host_path(node: &DeviceNode) -> &str {
    node.host_path.as_deref().unwrap_or(&node.path)
}

fn wrong_node(path: &str, planned: &DeviceNode, found: Option<(u32, u32)>) -> Option<String> {
    let Some((major, minor)) = found else { return Some(format!("there is no device node {path}")) };
    let is_same = (planned.major, planned.minor) == (major.into(), minor.into()) || planned.major == 0;
    (!is_same).then(|| format!("{path} is {major}:{minor}, the spec says {}:{}", planned.major, planned.minor))
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
pub fn named_files(edits: &ContainerEdits) -> impl Iterator<Item = Named<'_>> {
    let mounts = edits.mounts.iter().filter(|mount| mount.host_path.starts_with('/')).map(|mount| Named {
        host_path: Utf8Path::new(&mount.host_path),
        container_path: Some(Utf8Path::new(&mount.container_path)),
    });
    let hooks = edits.hooks.iter().map(|hook| Named { host_path: Utf8Path::new(&hook.path), container_path: None });
    mounts.chain(hooks)
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
            let wrong = |named: &Named<'_>| match named.host_path.as_str() {
                "/usr/bin/nvidia-smi" if there.contains(&"others") => {
                    Some(Wrong::Untrusted("user 7 can change it".into()))
                }
                path => (!there.contains(&path)).then_some(Wrong::Missing),
            };
            stale(&[&edits], running.parse().ok().as_ref(), &wrong).map(|stale| stale.to_string())
        };
        let all = ["/usr/lib64/libcuda.so.550.163.01", "/usr/bin/nvidia-smi", "/usr/bin/cdi-hook"];
        assert_eq!(why("550.163.01", &all), None);
        assert_eq!(why("unknown", &all), None);
        assert_eq!(why("580.159.04", &all).as_deref(), Some("driver 550.163.01 → 580.159.04"));
        let gone = "2 of 3 host paths are gone, such as /usr/bin/cdi-hook";
        assert_eq!(why("550.163.01", &all[..1]).as_deref(), Some(gone));
        let others = "1 of 3 host paths may not be relied on, such as /usr/bin/nvidia-smi: user 7 can change it";
        assert_eq!(why("550.163.01", &[&all[..], &["others"]].concat()).as_deref(), Some(others));
        let both =
            "driver 550.163.01 → 580.159.04: 1 of 3 host paths are gone, such as /usr/lib64/libcuda.so.550.163.01";
        assert_eq!(why("580.159.04", &all[1..]).as_deref(), Some(both));
    }

    #[test]
    fn nodes_of_a_spec() {
        let node =
            |path: &str, major, minor| DeviceNode { path: path.to_owned(), major, minor, ..DeviceNode::default() };
        let device_nodes = vec![node("/dev/nvidia0", 195, 0), node("/dev/nvidia-uvm", 508, 0), node("/dev/open", 0, 0)];
        let container_edits = ContainerEdits { device_nodes, ..ContainerEdits::default() };
        let spec = Spec { container_edits, ..Spec::default() };
        let why = |uvm: Option<u32>, gpus: &[&str]| {
            let numbers = |path: &Utf8Path| match path.as_str() {
                "/dev/nvidia0" => Some((195, 0)),
                "/dev/nvidia-uvm" => uvm.map(|major| (major, 0)),
                _ => Some((7, 7)),
            };
            let gpus: Vec<Utf8PathBuf> = gpus.iter().map(Utf8PathBuf::from).collect();
            stale_spec(&spec, None, &|_| None, &numbers, &gpus).map(|stale| stale.to_string())
        };
        assert_eq!(why(Some(508), &["/dev/nvidia0"]), None);
        assert_eq!(why(Some(510), &[]).as_deref(), Some("/dev/nvidia-uvm is 510:0, the spec says 508:0"));
        assert_eq!(why(None, &[]).as_deref(), Some("there is no device node /dev/nvidia-uvm"));
        let new = why(Some(508), &["/dev/nvidia0", "/dev/nvidia1"]);
        assert_eq!(new.as_deref(), Some("it has no device for /dev/nvidia1"));
    }
}
