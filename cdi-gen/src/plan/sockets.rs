//! IPC sockets of the driver's daemons, and the MPS directory.

use super::{Edit, PlannedEdit};
use crate::inventory::DriverInventory;

pub(super) fn plan(inventory: &DriverInventory) -> Vec<PlannedEdit> {
    let endpoints = inventory.sockets.iter();
    endpoints
        .map(|socket| PlannedEdit {
            edit: Edit::Socket { host_path: socket.located.host_path.clone(), path: socket.located.path.clone() },
            capability: socket.capability,
            reason: "endpoint of a driver daemon".into(),
        })
        .collect()
}
