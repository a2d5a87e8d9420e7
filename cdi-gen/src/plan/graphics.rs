//! Data files: ICD and layer manifests, profiles, X.org snippets; and the profile that names the GPUs to EGL.

use cdi_specs::HookOperation;

use super::{Edit, PlannedEdit};
use crate::capability::Capabilities;
use crate::inventory::DriverInventory;

pub(super) fn plan(inventory: &DriverInventory) -> Vec<PlannedEdit> {
    let mut edits: Vec<PlannedEdit> = inventory
        .configs
        .iter()
        .map(|config| PlannedEdit {
            edit: Edit::Mount { host_path: config.located.host_path.clone(), path: config.container_path.clone() },
            capability: config.capability,
            reason: format!("data file of the driver, found at {}", config.located.path),
        })
        .collect();
    edits.push(PlannedEdit {
        edit: Edit::Operation(HookOperation::ApplicationProfile),
        capability: Capabilities::GRAPHICS,
        reason: "EGL must offer the container's GPUs only".into(),
    });
    edits
}
