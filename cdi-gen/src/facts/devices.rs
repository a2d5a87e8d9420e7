//! Device nodes of the driver, as they stand in `/dev`.

use std::collections::BTreeMap;

use camino::Utf8Path;
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

impl NodeFact {
    /// The node at `path` of the dev tree, if there is a character device.
    pub fn read(dev: &Tree, path: &Utf8Path) -> Option<Self> {
        let Ok(Kind::Char(node)) = dev.kind(path) else { return None };
        Some(Self { located: dev.located(path), node })
    }
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
}

/// Reads the nodes.
pub fn read(host: &Host, gpus: &[GpuFact]) -> NodeFacts {
    let control = CONTROL_NODES.iter().filter_map(|(path, _)| NodeFact::read(&host.dev, Utf8Path::new(path))).collect();
    let gpu_nodes =
        gpu_minors(host).into_iter().filter_map(|minor| Some((minor, gpu_node(&host.dev, minor)?))).collect();
    let drm = gpus.iter().map(|gpu| (gpu.bus_id.clone(), drm::read(host, &gpu.bus_id))).collect();
    NodeFacts { control, gpus: gpu_nodes, drm }
}

/// Minor numbers of the GPU nodes in `/dev`.
pub fn gpu_minors(host: &Host) -> Vec<u32> {
    let names = host.dev.list("/dev".into(), |name| gpu_minor(name).is_some()).unwrap_or_default();
    names.iter().filter_map(|entry| gpu_minor(&entry.name)).collect()
}

fn gpu_node(dev: &Tree, minor: u32) -> Option<NodeFact> {
    NodeFact::read(dev, &Utf8Path::new("/dev").join(format!("nvidia{minor}")))
}

/// The number in `nvidia<number>`.
fn gpu_minor(name: &str) -> Option<u32> {
    let number = name.strip_prefix("nvidia")?;
    number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok()).flatten()
}
