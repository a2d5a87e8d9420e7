//! Device nodes of the driver, as they stand in `/dev`.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::drm::{self, DrmFacts};
use super::gpus::GpuFact;
use crate::host::Host;
use crate::tree::{Kind, Located, Node, Tree};

/// Control nodes, whatever GPUs there are: path, and whether CUDA can run without it.
pub const CONTROL_NODES: [(&str, Need); 4] = [
    ("/dev/nvidia-modeset", Need::Optional),
    ("/dev/nvidia-uvm", Need::Required),
    ("/dev/nvidia-uvm-tools", Need::Optional),
    ("/dev/nvidiactl", Need::Required),
];

/// Whether containers can use a GPU without a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// No CUDA program starts without it.
    Required,
    /// Some programs miss it.
    Optional,
}

/// Major number of the driver's nodes (Linux `devices.txt`), for hosts that hide `/proc/devices`.
const NVIDIA_MAJOR: u32 = 195;
/// Major number of DRM nodes, likewise.
const DRM_MAJOR: u32 = 226;

/// A node that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeFact {
    /// Where.
    #[serde(flatten)]
    pub located: Located,
    /// Numbers and permissions.
    #[serde(flatten)]
    pub node: Node,
}

/// A node that leads to another device than its name says: left over from a module that was loaded before, or made to
/// deceive. Nobody gets it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct WrongNode {
    /// Where it is on the host.
    pub host_path: Utf8PathBuf,
    /// Its numbers: major and minor.
    pub found: (u32, u32),
    /// The kernel's numbers for that name.
    pub expected: (u32, u32),
}

/// The nodes of the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeFacts {
    /// Those of [`CONTROL_NODES`] that are there.
    pub control: Vec<NodeFact>,
    /// `/dev/nvidia<minor>`, by minor number.
    pub gpus: BTreeMap<u32, NodeFact>,
    /// DRM nodes, by PCI address.
    pub drm: BTreeMap<String, DrmFacts>,
    /// Nodes with wrong numbers.
    pub wrong: BTreeSet<WrongNode>,
    /// Character devices that the kernel knows, by driver: `/proc/devices`. Empty where it is hidden.
    pub majors: BTreeMap<String, u32>,
}

/// Looks for nodes, and at their numbers.
pub struct Finder<'a> {
    host: &'a Host,
    majors: BTreeMap<String, u32>,
    wrong: BTreeSet<WrongNode>,
}

impl<'a> Finder<'a> {
    fn new(host: &'a Host) -> Self {
        let text = host.system.read_text("/proc/devices".into()).unwrap_or_default();
        Self { host, majors: parse_majors(&text), wrong: BTreeSet::new() }
    }

    /// The node at `path`, from the first tree that has it with the right numbers.
    pub fn find(&mut self, path: &Utf8Path) -> Option<NodeFact> {
        for dev in &self.host.dev {
            let Ok(Kind::Char(node)) = dev.kind(path) else { continue };
            let located = dev.located(path);
            let found = (node.major, node.minor);
            match expected(path, &self.majors).filter(|expected| *expected != found) {
                Some(expected) => _ = self.wrong.insert(WrongNode { host_path: located.host_path, found, expected }),
                None => return Some(NodeFact { located, node }),
            }
        }
        None
    }
}

/// Reads the nodes.
pub fn read(host: &Host, gpus: &[GpuFact]) -> NodeFacts {
    let mut finder = Finder::new(host);
    let control = CONTROL_NODES.iter().filter_map(|(path, _)| finder.find(Utf8Path::new(path))).collect();
    let minors = gpu_minors(host).into_iter();
    let gpu_nodes = minors.filter_map(|minor| Some((minor, finder.find(&gpu_path(minor))?))).collect();
    let drm = gpus.iter().map(|gpu| (gpu.bus_id.clone(), drm::read(host, &mut finder, &gpu.bus_id))).collect();
    NodeFacts { control, gpus: gpu_nodes, drm, wrong: finder.wrong, majors: finder.majors }
}

/// Parses the character devices of `/proc/devices` (proc_devices(5)).
pub fn parse_majors(text: &str) -> BTreeMap<String, u32> {
    let lines = text.lines().skip_while(|line| !line.starts_with("Character")).skip(1);
    let fields = lines.take_while(|line| !line.trim().is_empty()).filter_map(|line| line.trim().split_once(' '));
    fields.filter_map(|(major, name)| Some((name.trim().to_owned(), major.parse().ok()?))).collect()
}

/// The numbers that the node of that name must have, as far as they are known.
fn expected(path: &Utf8Path, majors: &BTreeMap<String, u32>) -> Option<(u32, u32)> {
    let major = |names: &[&str], otherwise| names.iter().find_map(|name| majors.get(*name)).copied().or(otherwise);
    let nvidia = major(&["nvidia", "nvidia-frontend"], Some(NVIDIA_MAJOR));
    let name = path.file_name()?;
    let (major, minor) = match name {
        "nvidiactl" => (nvidia, 255),
        "nvidia-modeset" => (nvidia, 254),
        "nvidia-uvm" => (major(&["nvidia-uvm"], None), 0),
        "nvidia-uvm-tools" => (major(&["nvidia-uvm"], None), 1),
        name => match gpu_minor(name) {
            Some(minor) => (nvidia, minor),
            None => (major(&["drm"], Some(DRM_MAJOR)), drm::minor(name)?),
        },
    };
    Some((major?, minor))
}

/// Minor numbers of the GPU nodes in `/dev`.
pub fn gpu_minors(host: &Host) -> BTreeSet<u32> {
    let names = |dev: &Tree| dev.list("/dev".into(), |name| gpu_minor(name).is_some()).unwrap_or_default();
    host.dev.iter().flat_map(names).filter_map(|entry| gpu_minor(&entry.name)).collect()
}

/// The nodes of GPUs on the host, by what they are called.
pub fn gpu_paths(host: &Host) -> Vec<Utf8PathBuf> {
    let nodes = |dev: &Tree| {
        let is_node = |path: &Utf8PathBuf| matches!(dev.kind(path), Ok(Kind::Char(_)));
        let names = dev.list("/dev".into(), |name| gpu_minor(name).is_some()).unwrap_or_default();
        let paths = names.into_iter().map(|entry| Utf8Path::new("/dev").join(&entry.name)).filter(is_node);
        paths.map(|path| dev.located(&path).host_path).collect::<Vec<_>>()
    };
    host.dev.iter().flat_map(nodes).collect()
}

fn gpu_path(minor: u32) -> Utf8PathBuf {
    Utf8Path::new("/dev").join(format!("nvidia{minor}"))
}

/// The number in `nvidia<number>`.
fn gpu_minor(name: &str) -> Option<u32> {
    number(name.strip_prefix("nvidia")?)
}

/// A text of digits alone.
pub(super) fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: &str = "Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n226 drm\n511 nvidia-uvm\n\n\
                           Block devices:\n  7 loop\n259 nvidia-uvm\n";

    #[test]
    fn numbers_by_name() {
        let majors = parse_majors(DEVICES);
        let cases = [
            ("/dev/nvidia3", Some((195, 3))),
            ("/dev/nvidiactl", Some((195, 255))),
            ("/dev/nvidia-modeset", Some((195, 254))),
            ("/dev/nvidia-uvm", Some((511, 0))),
            ("/dev/nvidia-uvm-tools", Some((511, 1))),
            ("/dev/dri/renderD129", Some((226, 129))),
            ("/dev/dri/card1", Some((226, 1))),
            ("/dev/other", None),
        ];
        for (path, numbers) in cases {
            assert_eq!(expected(path.into(), &majors), numbers, "{path}");
        }
        let hidden = BTreeMap::new();
        assert_eq!(expected("/dev/nvidia0".into(), &hidden), Some((195, 0)));
        assert_eq!(expected("/dev/nvidia-uvm".into(), &hidden), None);
    }
}
