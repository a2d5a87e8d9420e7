//! Wanted nodes: the device nodes that the running driver would have, by its own word in `/proc`.
//!
//! The driver makes no nodes; on a headless host nobody does before a program of NVIDIA's own has run as root. Numbers
//! come from `/proc/devices`, owners and modes from the driver's parameters (`NVreg_DeviceFileUID` and the like), the
//! capabilities of MIG from files of their own (open-gpu-kernel-modules, nv-caps.c). What is read may be another host's
//! word, or a forger's: a number that no driver of NVIDIA's can have is refused, `mem`'s above all.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use crate::facts::{devices, gpus};
use crate::problem::Problem;
use crate::tree::Tree;

const DEVICES: &str = "/proc/devices";
const PARAMS: &str = "/proc/driver/nvidia/params";
const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";
/// How deep a capability's file lies: `gpu0/mig/gi1/ci0/access`.
const DEPTH: usize = 6;
/// Control nodes: path, the names of the driver in `/proc/devices`, minor number.
const CONTROL: [(&str, &[&str], u32); 4] = [
    ("/dev/nvidiactl", &["nvidiactl", "nvidia", "nvidia-frontend"], 255),
    ("/dev/nvidia-modeset", &["nvidia-modeset"], 254),
    ("/dev/nvidia-uvm", &["nvidia-uvm"], 0),
    ("/dev/nvidia-uvm-tools", &["nvidia-uvm"], 1),
];

/// Whose names in `/proc/devices` are NVIDIA's.
const OWN: &str = "nvidia";
/// Major numbers that they can have: their own (Linux `devices.txt`), and those that the kernel gives to who asks for any
/// (`CHRDEV_MAJOR_DYN_END` and `CHRDEV_MAJOR_DYN_EXT_END`, linux/fs.h).
const MAJORS: [RangeInclusive<u32>; 3] = [195..=195, 234..=254, 384..=511];
/// Bits that a device node has a use for.
const MODE: u32 = 0o666;

/// A node that should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WantedNode {
    /// Where.
    pub path: Utf8PathBuf,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// All nodes of the running driver, sorted by path; none if none runs. A number that cannot be a driver's is a problem.
pub fn read(system: &Tree, problems: &mut Vec<Problem>) -> Vec<WantedNode> {
    let majors = devices::parse_majors(&system.read_text(DEVICES.into()).unwrap_or_default());
    // The running kernel knows its drivers; where others are told of, only certain numbers can be NVIDIA's.
    let ranges = if system.is_live() { &[0..=u32::MAX] } else { MAJORS.as_slice() };
    let majors = plausible(majors, ranges, problems);
    let owner = Owner::parse(&system.read_text(PARAMS.into()).unwrap_or_default());
    let major = |names: &[&str]| names.iter().find_map(|name| majors.get(*name)).copied();
    let control = CONTROL.iter().filter_map(|(path, names, minor)| Some(owner.node(path, major(names)?, *minor)));
    let listed = gpus::read(system, &mut Vec::new());
    let minors = listed.iter().filter(|gpu| !gpu.excluded).filter_map(|gpu| gpu.minor);
    let gpu_major = major(&["nvidia", "nvidia-frontend"]);
    let gpus = minors.filter_map(|minor| Some(owner.node(&format!("/dev/nvidia{minor}"), gpu_major?, minor)));
    let mut nodes: Vec<WantedNode> = control.chain(gpus).collect();
    if let Some(major) = major(&["nvidia-caps"]) {
        capabilities(system, Utf8Path::new(CAPABILITIES), DEPTH, &mut |text| {
            nodes.extend(capability(text, major));
        });
    }
    nodes.sort_by(|one, other| one.path.cmp(&other.path));
    nodes
}

/// NVIDIA's drivers with the numbers that can be theirs: of some ranges, and no other driver's.
fn plausible(
    majors: BTreeMap<String, u32>,
    ranges: &[RangeInclusive<u32>],
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, u32> {
    let is_own = |name: &str| name.starts_with(OWN);
    let others: Vec<u32> = majors.iter().filter(|(name, _)| !is_own(name)).map(|(_, major)| *major).collect();
    let (own, forged): (BTreeMap<_, _>, BTreeMap<_, _>) = majors
        .into_iter()
        .filter(|(name, _)| is_own(name))
        .partition(|(_, major)| ranges.iter().any(|range| range.contains(major)) && !others.contains(major));
    let told = forged.iter().map(|(name, major)| {
        let message =
            format!("{DEVICES} gives {name} the major number {major}, which cannot be a driver's of NVIDIA's");
        Problem::error("forged-number", message).hint("no node is made of it")
    });
    problems.extend(told);
    own
}

/// Who owns the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Owner {
    fn parse(params: &str) -> Self {
        let number = |key: &str, otherwise| field(params, key).unwrap_or(otherwise);
        Self {
            uid: number("DeviceFileUID", 0),
            gid: number("DeviceFileGID", 0),
            mode: number("DeviceFileMode", MODE) & MODE,
        }
    }

    fn node(&self, path: &str, major: u32, minor: u32) -> WantedNode {
        let Self { uid, gid, mode } = *self;
        WantedNode { path: path.into(), major, minor, mode, uid, gid }
    }
}

/// The decimal number behind a key and a colon.
fn field(text: &str, key: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok())
}

/// Hands over the text of each capability's file.
fn capabilities(system: &Tree, dir: &Utf8Path, depth: usize, found: &mut impl FnMut(&str)) {
    let names = system.list(dir, |_| true).unwrap_or_default();
    for entry in names.iter().filter(|_| depth > 0) {
        let path = dir.join(&entry.name);
        match system.read_text(&path) {
            Ok(text) => found(&text),
            Err(_) => capabilities(system, &path, depth - 1, found),
        }
    }
}

fn capability(text: &str, major: u32) -> Option<WantedNode> {
    let minor = field(text, "DeviceFileMinor")?;
    let mode = field(text, "DeviceFileMode").unwrap_or(0o400) & MODE;
    let path = format!("/dev/nvidia-caps/nvidia-cap{minor}").into();
    Some(WantedNode { path, major, minor, mode, uid: 0, gid: 0 })
}

/// The links by which device cgroups of systemd know nodes: `/dev/char/195:0` and where it leads.
///
/// A runtime tells systemd of devices by their numbers, and systemd looks for a node of those in `/dev/char`; the driver's
/// nodes get none from udev. Without them a container loses its GPU when systemd reloads its units.
pub fn char_links(nodes: &[WantedNode]) -> BTreeMap<Utf8PathBuf, Utf8PathBuf> {
    let link = |node: &WantedNode| {
        let below = node.path.strip_prefix("/dev").ok()?;
        let name = format!("/dev/char/{}:{}", node.major, node.minor);
        Some((Utf8PathBuf::from(name), Utf8Path::new("..").join(below)))
    };
    nodes.iter().filter_map(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_capabilities() {
        let params = "ModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileGID: 44\nDeviceFileMode: 432\n";
        assert_eq!(Owner::parse(params), Owner { uid: 0, gid: 44, mode: 0o660 });
        assert_eq!(Owner::parse(""), Owner { uid: 0, gid: 0, mode: 0o666 });
        assert_eq!(Owner::parse("DeviceFileMode: 4095\n").mode, 0o666, "nobody runs a node");
        let text = "DeviceFileMinor: 12\nDeviceFileMode: 292\nDeviceFileModify: 1\n";
        let node = capability(text, 507).unwrap();
        assert_eq!((node.path.as_str(), node.minor, node.mode), ("/dev/nvidia-caps/nvidia-cap12", 12, 0o444));
        assert_eq!(capability("", 507), None);
        let links = char_links(&[node]);
        let link = links.iter().next().unwrap();
        assert_eq!((link.0.as_str(), link.1.as_str()), ("/dev/char/507:12", "../nvidia-caps/nvidia-cap12"));
    }

    #[test]
    fn a_number_that_no_driver_of_nvidias_can_have_is_refused() {
        let majors = |text: &str| {
            let mut problems = Vec::new();
            let majors = devices::parse_majors(&format!("Character devices:\n{text}"));
            let majors = plausible(majors, &MAJORS, &mut problems);
            (majors.into_iter().collect::<Vec<_>>(), problems.len())
        };
        let own = |name: &str, major| (name.to_owned(), major);
        assert_eq!(
            majors("  1 mem\n195 nvidia\n511 nvidia-uvm\n"),
            (vec![own("nvidia", 195), own("nvidia-uvm", 511)], 0)
        );
        for forged in ["1 nvidiactl\n", "1 mem\n1 nvidiactl\n", "8 nvidia-uvm\n", "254 rtc\n254 nvidia-caps\n"] {
            assert_eq!(majors(forged), (vec![], 1), "{forged}");
        }
    }
}
