//! Plan: what a container gets, edit by edit, each with the capability that it serves and the reason. Pure.
//!
//! A plan knows nothing of hooks: the same plan is lowered with them or without them (`to_spec`).

mod binaries;
mod control_nodes;
mod firmware;
mod gpus;
mod graphics;
mod libraries;
pub mod names;
mod sockets;

use std::collections::BTreeSet;

use camino::Utf8PathBuf;
use cdi_specs::HookOperation;
use serde::Serialize;

use crate::capability::Capabilities;
use crate::facts::elf::{Class, Machine};
use crate::inventory::DriverInventory;
use crate::plan::names::{DeviceId, Naming};
use crate::problem::Problem;
use crate::tree::Node;
use crate::version::DriverVersion;

/// The variable of every spec, and its value.
pub const LEGACY_RUNTIME_OFF: (&str, &str) = ("NVIDIA_VISIBLE_DEVICES", "void");

/// The plan of one host.
#[derive(Clone, Debug, Serialize)]
pub struct EditPlan {
    /// The driver that it is made for.
    pub driver_version: DriverVersion,
    /// What programs of the host are built for.
    #[serde(skip)]
    pub machine: Machine,
    /// For every container with a GPU.
    pub common: Vec<PlannedEdit>,
    /// For containers that ask for the device.
    pub devices: Vec<PlannedDevice>,
}

/// One device, under each of its names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedDevice {
    /// Names, in the order of the naming strategies.
    pub names: Vec<String>,
    /// What it adds to the common edits.
    pub edits: Vec<PlannedEdit>,
}

/// One edit and why it is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedEdit {
    /// The edit.
    #[serde(flatten)]
    pub edit: Edit,
    /// Containers without one of these capabilities do not need it.
    pub capability: Capabilities,
    /// Why, for people.
    pub reason: String,
}

/// What is done to a container.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edit {
    /// An environment variable.
    Env {
        /// Name.
        name: String,
        /// Value.
        value: String,
    },
    /// A device node.
    Node(PlannedNode),
    /// A file or directory, read-only.
    Mount {
        /// On the host.
        host_path: Utf8PathBuf,
        /// In the container.
        path: Utf8PathBuf,
    },
    /// An IPC socket or directory, writable.
    Socket {
        /// On the host.
        host_path: Utf8PathBuf,
        /// In the container.
        path: Utf8PathBuf,
    },
    /// A library under all its names.
    Library(PlannedLibrary),
    /// A step that only a hook can take.
    #[serde(serialize_with = "serialize_operation")]
    Operation(HookOperation),
}

/// A device node of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedNode {
    /// In the container.
    pub path: Utf8PathBuf,
    /// On the host.
    pub host_path: Utf8PathBuf,
    /// Numbers and permissions on the host.
    #[serde(flatten)]
    pub node: Node,
}

/// A library of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedLibrary {
    /// The file on the host.
    pub host_path: Utf8PathBuf,
    /// The driver's own directory, as a container would see it.
    pub dir: Utf8PathBuf,
    /// The file's name.
    pub file_name: String,
    /// Further names, relative to the library directory.
    pub names: Vec<String>,
    /// Full paths that manifests name it by.
    pub full_paths: Vec<Utf8PathBuf>,
    /// Word size: 32-bit libraries have directories of their own.
    pub class: Class,
    /// Whether it is looked for below `vdpau/`, in the X server's directories, or in the library directory itself.
    #[serde(skip)]
    pub place: crate::driver_files::Place,
}

fn serialize_operation<S: serde::Serializer>(operation: &HookOperation, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(cdi_specs::to_args(std::slice::from_ref(operation)).iter().skip(2))
}

/// What the caller may choose.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// How devices are named.
    pub naming: Vec<Naming>,
    /// Which devices; all if empty.
    pub device_ids: Vec<DeviceId>,
    /// Whether a device `all` stands for all of them.
    pub all: bool,
    /// Capabilities to serve.
    pub capabilities: Capabilities,
}

impl Default for PlanOptions {
    fn default() -> Self {
        let naming = vec![Naming::Index, Naming::Uuid];
        Self { naming, device_ids: Vec::new(), all: true, capabilities: Capabilities::ALL }
    }
}

/// A request that cannot be met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A device id of the caller's that no GPU has.
    #[error("no GPU has the id `{id}`; there are: {}", known.join(", "))]
    NoSuchDevice {
        /// What was asked for.
        id: DeviceId,
        /// What there is.
        known: Vec<String>,
    },
    /// Each naming strategy left each GPU without a name.
    #[error("no GPU has a name under the strategies asked for")]
    NoName,
}

/// Plans the edits for an inventory.
///
/// # Errors
/// The caller asked for a device that is not there.
pub fn build(
    inventory: &DriverInventory,
    options: &PlanOptions,
    problems: &mut Vec<Problem>,
) -> Result<EditPlan, PlanError> {
    let mut common = vec![legacy_runtime_off()];
    common.extend(control_nodes::plan(inventory));
    common.extend(libraries::plan(inventory));
    common.extend(graphics::plan(inventory));
    common.extend(binaries::plan(inventory, problems));
    common.extend(firmware::plan(inventory));
    common.extend(sockets::plan(inventory));
    common.retain(|planned| planned.capability.serves(options.capabilities.with_implied()));
    let devices = gpus::plan(inventory, options, problems)?;
    Ok(EditPlan { driver_version: inventory.version.clone(), machine: inventory.machine, common, devices })
}

/// A container made from a CUDA image asks for GPUs in its environment too; a legacy runtime must not add a second
/// driver to the one that CDI gave.
fn legacy_runtime_off() -> PlannedEdit {
    PlannedEdit {
        edit: Edit::Env { name: LEGACY_RUNTIME_OFF.0.into(), value: LEGACY_RUNTIME_OFF.1.into() },
        capability: Capabilities::ALWAYS,
        reason: "keeps nvidia-container-runtime from injecting again".into(),
    }
}

impl EditPlan {
    /// Group ids that own nodes which not everybody may read and write, sorted.
    pub fn restricting_gids(edits: &[PlannedEdit]) -> BTreeSet<u32> {
        let nodes = edits.iter().filter_map(|planned| match &planned.edit {
            Edit::Node(node) => Some(node.node),
            _ => None,
        });
        nodes.filter(|node| node.gid != 0 && !node.is_for_everybody()).map(|node| node.gid).collect()
    }
}
