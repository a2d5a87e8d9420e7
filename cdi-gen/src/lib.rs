//! cdi-gen: from an NVIDIA Linux host to a CDI spec.
//!
//! ```text
//! Host ─► HostFacts ─► DriverInventory ─► EditPlan ─► Spec
//! (trees)  facts       inventory          plan        to_spec
//! ```
//!
//! Every arrow is a function from one plain struct to the next; only the first touches the host. Each struct can be
//! printed (`cdi-gen show`). Trouble with a part travels beside the result as a [`Problem`].

pub mod capability;
pub mod capture;
#[cfg(feature = "seal")]
pub mod descriptors;
pub mod difference;
pub mod doctor;
pub mod driver_files;
pub mod facts;
pub mod filter;
pub mod freshness;
pub mod homes;
pub mod hook_path;
pub mod host;
pub mod host_files;
pub mod inventory;
pub mod output;
pub mod ownership;
pub mod plan;
pub mod problem;
#[cfg(feature = "seal")]
pub mod seccomp;
pub mod show;
pub mod targets;
pub mod to_spec;
pub mod transform;
pub mod tree;
pub mod version;
pub mod wanted_nodes;

pub use host::Host;
pub use inventory::InventoryError;
pub use plan::{EditPlan, PlanError, PlanOptions};
pub use problem::{Problem, Severity};
pub use tree::Tree;

use facts::HostFacts;

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// The host has no driver, or not all of it.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The caller asked for what the host does not have.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// From facts to a plan.
///
/// # Errors
/// The host has no driver or an incomplete one, or lacks a device that was asked for.
pub fn plan(facts: &HostFacts, options: &PlanOptions, problems: &mut Vec<Problem>) -> Result<EditPlan, GenerateError> {
    let inventory = inventory::build(facts, problems)?;
    Ok(plan::build(&inventory, options, problems)?)
}
