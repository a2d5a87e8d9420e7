//! One device a GPU: its node, its DRM nodes, and the by-path names of those.

use std::collections::BTreeSet;

use super::control_nodes::node;
use super::names::DeviceId;
use super::{Edit, PlanError, PlanOptions, PlannedDevice, PlannedEdit, PlannedNode};
use crate::capability::Capabilities;
use crate::inventory::{DriverInventory, Gpu};
use crate::problem::Problem;

pub(super) fn plan(
    inventory: &DriverInventory,
    options: &PlanOptions,
    problems: &mut Vec<Problem>,
) -> Result<Vec<PlannedDevice>, PlanError> {
    if options.device_ids.contains(&DeviceId::None) {
        return Ok(vec![driver_only()]);
    }
    let chosen = chosen(&inventory.gpus, &options.device_ids)?;
    let mut taken = BTreeSet::new();
    let mut devices: Vec<PlannedDevice> = Vec::new();
    for gpu in &chosen {
        let names = names(gpu, options, &mut taken, problems);
        if !names.is_empty() {
            devices.push(PlannedDevice { names, edits: edits(gpu) });
        }
    }
    if devices.is_empty() {
        return Err(PlanError::NoName);
    }
    if options.all && !taken.contains("all") {
        devices.push(PlannedDevice {
            names: vec!["all".into()],
            edits: chosen.iter().flat_map(|gpu| edits(gpu)).collect(),
        });
    }
    Ok(devices)
}

/// The GPUs that the ids mean, in the host's order, each once.
fn chosen<'a>(gpus: &'a [Gpu], ids: &[DeviceId]) -> Result<Vec<&'a Gpu>, PlanError> {
    if let Some(id) = ids.iter().find(|id| !gpus.iter().any(|gpu| id.means(gpu))) {
        let known = gpus.iter().map(|gpu| gpu.uuid.clone().unwrap_or_else(|| gpu.index.to_string())).collect();
        return Err(PlanError::NoSuchDevice { id: id.clone(), known });
    }
    Ok(gpus.iter().filter(|gpu| ids.is_empty() || ids.iter().any(|id| id.means(gpu))).collect())
}

/// The GPU's names that no other GPU has.
fn names(gpu: &Gpu, options: &PlanOptions, taken: &mut BTreeSet<String>, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut names = Vec::new();
    for name in options.naming.iter().filter_map(|naming| naming.name(gpu)) {
        if taken.insert(name.clone()) {
            names.push(name);
        } else if !names.contains(&name) {
            let message = format!("GPU {} has the name {name} of another GPU and goes without it", gpu.index);
            problems.push(Problem::warning("name-conflict", message));
        }
    }
    names
}

fn edits(gpu: &Gpu) -> Vec<PlannedEdit> {
    let model = gpu.model.as_deref().unwrap_or("GPU");
    let mut edits = vec![node(&gpu.node, model)];
    edits.extend(gpu.drm.nodes.iter().map(|drm| node(drm, "DRM node")));
    let by_path = gpu.drm.by_path.iter().filter_map(|(link, path)| {
        let drm = gpu.drm.nodes.iter().find(|drm| drm.located.path == *path)?;
        // A node under a second name needs no hook, unlike a link.
        let alias = PlannedNode { path: link.clone(), host_path: drm.located.host_path.clone(), node: drm.node };
        let reason = "stable name of a DRM node".to_owned();
        Some(PlannedEdit { edit: Edit::Node(alias), capability: Capabilities::ALWAYS, reason })
    });
    edits.extend(by_path);
    edits
}

/// CDI forbids a device without edits; an environment variable that nobody reads is the least one.
fn driver_only() -> PlannedDevice {
    let edit = PlannedEdit {
        edit: Edit::Env { name: "CDI_NVIDIA_GPU".into(), value: "none".into() },
        capability: Capabilities::ALWAYS,
        reason: "the driver without a GPU".into(),
    };
    PlannedDevice { names: vec!["none".into()], edits: vec![edit] }
}
