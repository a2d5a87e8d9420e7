//! Control nodes: what every container with a GPU opens, whichever GPU it is. And the step that keeps the driver from
//! making nodes of its own in the container.

use cdi_specs::HookOperation;

use super::{Edit, PlannedEdit, PlannedNode};
use crate::capability::Capabilities;
use crate::facts::devices::NodeFact;
use crate::inventory::DriverInventory;

pub(super) fn plan(inventory: &DriverInventory) -> Vec<PlannedEdit> {
    let mut edits: Vec<PlannedEdit> =
        inventory.control_nodes.iter().map(|fact| node(fact, "control node of the driver")).collect();
    edits.push(PlannedEdit {
        edit: Edit::Operation(HookOperation::FreezeDeviceNodes),
        capability: Capabilities::ALWAYS,
        reason: "the driver's programs must not make nodes for other GPUs".into(),
    });
    edits
}

/// A node at the path that it has on the host.
pub(super) fn node(fact: &NodeFact, reason: &str) -> PlannedEdit {
    let node =
        PlannedNode { path: fact.located.path.clone(), host_path: fact.located.host_path.clone(), node: fact.node };
    PlannedEdit { edit: Edit::Node(node), capability: Capabilities::ALWAYS, reason: reason.to_owned() }
}
