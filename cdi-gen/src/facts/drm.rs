//! DRM nodes of a GPU: `/sys/bus/pci/devices/<bus id>/drm` and the by-path links of udev.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::devices::{Finder, NodeFact, number};
use crate::host::Host;

/// The DRM nodes of one GPU. Empty where nvidia-drm is not loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DrmFacts {
    /// `/dev/dri/cardN` and `/dev/dri/renderDN`.
    pub nodes: Vec<NodeFact>,
    /// `/dev/dri/by-path/pci-…` names, each with the path of the node it stands for.
    pub by_path: Vec<(Utf8PathBuf, Utf8PathBuf)>,
    /// Nodes that the kernel lists and `/dev` lacks.
    pub missing: Vec<Utf8PathBuf>,
}

/// Reads the DRM nodes of the GPU at a PCI address.
pub fn read(host: &Host, finder: &mut Finder<'_>, bus_id: &str) -> DrmFacts {
    let dir = Utf8Path::new("/sys/bus/pci/devices").join(bus_id).join("drm");
    let names = host.system.list(&dir, |name| minor(name).is_some()).unwrap_or_default();
    let mut facts = DrmFacts::default();
    for entry in names {
        let path = Utf8Path::new("/dev/dri").join(&entry.name);
        match finder.find(&path) {
            Some(node) => facts.nodes.push(node),
            None => facts.missing.push(path),
        }
    }
    facts.by_path = ["card", "render"].iter().filter_map(|role| by_path(host, bus_id, role, &facts.nodes)).collect();
    facts
}

/// The number in `card<number>` or `renderD<number>`, which is the node's minor number.
pub fn minor(name: &str) -> Option<u32> {
    number(name.strip_prefix("card").or_else(|| name.strip_prefix("renderD"))?)
}

/// The by-path link, if it is there and points at one of this GPU's nodes.
fn by_path(host: &Host, bus_id: &str, role: &str, nodes: &[NodeFact]) -> Option<(Utf8PathBuf, Utf8PathBuf)> {
    let link = Utf8Path::new("/dev/dri/by-path").join(format!("pci-{bus_id}-{role}"));
    let targets: Vec<_> = host.dev.iter().filter_map(|dev| dev.resolve(&link).ok()).collect();
    let node = nodes.iter().find(|node| targets.contains(&node.located.path))?;
    Some((link, node.located.path.clone()))
}
