//! GSP firmware, where a container's tools look for it.

use camino::Utf8Path;

use super::{Edit, PlannedEdit};
use crate::capability::Capabilities;
use crate::inventory::DriverInventory;

pub(super) fn plan(inventory: &DriverInventory) -> Vec<PlannedEdit> {
    let dir = Utf8Path::new("/lib/firmware/nvidia").join(inventory.version.as_str());
    let files = inventory.firmware.iter().filter_map(|located| Some((located, located.path.file_name()?)));
    files
        .map(|(located, name)| PlannedEdit {
            edit: Edit::Mount { host_path: located.host_path.clone(), path: dir.join(name) },
            capability: Capabilities::ALWAYS,
            reason: "firmware that the driver may load for the container".into(),
        })
        .collect()
}
