//! Inventory: facts × table = the driver's parts that containers need. Pure.

mod gpus;
mod libraries;

use camino::Utf8PathBuf;
use serde::Serialize;

pub use gpus::Gpu;
pub use libraries::Library;

use crate::facts::HostFacts;
use crate::facts::binaries::BinaryFact;
use crate::facts::configs::ConfigFact;
use crate::facts::devices::{CONTROL_NODES, Need, NodeFact};
use crate::facts::elf::Machine;
use crate::facts::libraries::installed_version;
use crate::facts::pci::ForeignGpu;
use crate::facts::sockets::SocketFact;
use crate::problem::{Problem, some_of};
use crate::tree::Located;
use crate::version::DriverVersion;

/// The driver, ready to be planned.
#[derive(Clone, Debug, Serialize)]
pub struct DriverInventory {
    /// The version that runs; where the kernel does not tell, that of the files.
    pub version: DriverVersion,
    /// What programs of the host are built for.
    pub machine: Machine,
    /// Libraries of that version, each once.
    pub libraries: Vec<Library>,
    /// Programs.
    pub binaries: Vec<BinaryFact>,
    /// Firmware.
    pub firmware: Vec<Located>,
    /// Data files.
    pub configs: Vec<ConfigFact>,
    /// IPC sockets and directories.
    pub sockets: Vec<SocketFact>,
    /// Control nodes.
    pub control_nodes: Vec<NodeFact>,
    /// GPUs that can be used.
    pub gpus: Vec<Gpu>,
}

/// Why there is nothing to plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    /// No NVIDIA driver runs here. No fault of the host's.
    #[error("{0}")]
    NoDriver(Problem),
    /// A driver runs, but a spec made from this host would not work.
    #[error("{0}")]
    Incomplete(Problem),
}

impl InventoryError {
    /// The problem behind it.
    pub fn problem(&self) -> &Problem {
        match self {
            Self::NoDriver(problem) | Self::Incomplete(problem) => problem,
        }
    }
}

/// Judges the facts.
///
/// # Errors
/// No driver runs, or a part is missing without which no container can use a GPU.
pub fn build(facts: &HostFacts, problems: &mut Vec<Problem>) -> Result<DriverInventory, InventoryError> {
    report_wrong_nodes(facts, problems);
    if !is_running(facts) {
        return Err(InventoryError::NoDriver(no_driver(facts)));
    }
    let version = facts.driver.version.clone().or_else(|| installed_version(&facts.libraries));
    let version = version.ok_or_else(|| InventoryError::Incomplete(no_library(None)))?;
    let (machine, libraries) = libraries::select(facts, &version, problems).map_err(InventoryError::Incomplete)?;
    if let Some(problem) = missing_required_node(facts) {
        return Err(InventoryError::Incomplete(problem));
    }
    report_optional_nodes(facts, problems);
    report_foreign_gpus(&facts.foreign_gpus, problems);
    let gpus = gpus::select(facts, problems);
    if gpus.is_empty() {
        return Err(InventoryError::Incomplete(no_usable_gpu()));
    }
    report_missing_parts(facts, &version, problems);
    report_restricted_nodes(facts, problems);
    Ok(DriverInventory {
        version,
        machine,
        libraries,
        binaries: facts.binaries.clone(),
        firmware: facts.firmware.clone(),
        configs: facts.configs.clone(),
        sockets: facts.sockets.clone(),
        control_nodes: facts.nodes.control.clone(),
        gpus,
    })
}

/// The kernel tells of a running driver in several places, and a container may see only some. Nodes alone are no trace:
/// they outlive the module. They count where the kernel's list of devices is hidden.
fn is_running(facts: &HostFacts) -> bool {
    let nodes = &facts.nodes;
    let listed = ["nvidia", "nvidia-frontend"].iter().any(|name| nodes.majors.contains_key(*name));
    let hidden = nodes.majors.is_empty() && !(nodes.control.is_empty() && nodes.gpus.is_empty());
    facts.driver.loaded || listed || hidden
}

fn report_wrong_nodes(facts: &HostFacts, problems: &mut Vec<Problem>) {
    for wrong in &facts.nodes.wrong {
        let (found, expected) = (wrong.found, wrong.expected);
        let message = format!(
            "{} is device {}:{}, the kernel's is {}:{}; it is left out",
            wrong.host_path, found.0, found.1, expected.0, expected.1
        );
        problems.push(Problem::warning("wrong-node", message).hint("remove it and run nvidia-modprobe -u -c 0"));
    }
}

fn no_driver(facts: &HostFacts) -> Problem {
    let held = |driver: &str| facts.foreign_gpus.iter().filter(|gpu| gpu.driver.as_deref() == Some(driver)).count();
    let problem = |message: &str| Problem::error("no-driver", format!("no NVIDIA driver here: {message}"));
    let installed = installed_version(&facts.libraries);
    if held("nouveau") > 0 {
        problem("the kernel's nouveau driver holds the GPU").hint("install NVIDIA's driver, blacklist nouveau, reboot")
    } else if held("vfio-pci") > 0 {
        problem("each GPU is bound to vfio-pci, for virtual machines").hint("bind a GPU to the nvidia driver")
    } else if !facts.foreign_gpus.is_empty() {
        problem("no kernel driver holds the GPU").hint("install the driver, or load it: modprobe nvidia")
    } else if let Some(version) = installed {
        problem(&format!("driver {version} is installed, but its kernel module is not loaded and no GPU is seen"))
            .hint("modprobe nvidia, and see dmesg if that fails")
    } else {
        problem("no GPU, no kernel module, no driver files")
    }
}

fn no_library(version: Option<&DriverVersion>) -> Problem {
    let of = version.map(|version| format!(" of version {version}")).unwrap_or_default();
    Problem::error("no-library", format!("the driver runs, but no library{of} was found"))
        .hint("install the driver's user-space part, or name its directory: --library-search-path DIR")
}

fn missing_required_node(facts: &HostFacts) -> Option<Problem> {
    let missing = missing_nodes(facts, Need::Required);
    let hint = "create the nodes: nvidia-modprobe -u -c 0, or run nvidia-smi once as root";
    (!missing.is_empty())
        .then(|| Problem::error("missing-node", format!("no device node {}", missing.join(", "))).hint(hint))
}

fn missing_nodes(facts: &HostFacts, need: Need) -> Vec<&'static str> {
    let is_there = |path: &str| facts.nodes.control.iter().any(|node| node.located.path == path);
    CONTROL_NODES.iter().filter(|(path, class)| *class == need && !is_there(path)).map(|(path, _)| *path).collect()
}

/// nvidia-modeset is there for graphics; its absence on a host without nvidia-drm is no trouble.
fn report_optional_nodes(facts: &HostFacts, problems: &mut Vec<Problem>) {
    let has_graphics = facts.nodes.drm.values().any(|drm| !drm.nodes.is_empty());
    let missing = missing_nodes(facts, Need::Optional).into_iter();
    for path in missing.filter(|path| has_graphics || *path != "/dev/nvidia-modeset") {
        problems.push(Problem::note("missing-node", format!("no device node {path}; containers go without it")));
    }
}

fn report_foreign_gpus(gpus: &[ForeignGpu], problems: &mut Vec<Problem>) {
    for gpu in gpus {
        let holder = gpu.driver.as_deref().unwrap_or("no driver");
        problems.push(Problem::note("foreign-gpu", format!("GPU {} is held by {holder} and left out", gpu.bus_id)));
    }
}

fn no_usable_gpu() -> Problem {
    Problem::error("no-gpu", "the driver runs, but no GPU of it can be used").hint("see dmesg and nvidia-smi")
}

fn report_missing_parts(facts: &HostFacts, version: &DriverVersion, problems: &mut Vec<Problem>) {
    if !facts.binaries.iter().any(|binary| binary.name == "nvidia-smi") {
        problems.push(Problem::note("no-nvidia-smi", "nvidia-smi is not installed; containers go without it"));
    }
    // Driver 470 was the first to keep firmware in files, and the open kernel module cannot do without.
    if facts.firmware.is_empty() && facts.driver.open {
        problems.push(Problem::note("no-firmware", format!("no GSP firmware of version {version} is visible")));
    }
}

/// Some distributions keep the driver's own nodes for a group. DRM nodes are so everywhere.
fn report_restricted_nodes(facts: &HostFacts, problems: &mut Vec<Problem>) {
    let nodes = facts.nodes.control.iter().chain(facts.nodes.gpus.values());
    let restricted: Vec<&str> =
        nodes.filter(|fact| !fact.node.is_for_everybody()).map(|fact| fact.located.path.as_str()).collect();
    if !restricted.is_empty() {
        let message = format!("not every user may use {}; in a container root alone can", some_of(&restricted));
        problems
            .push(Problem::note("restricted-node", message).hint("--additional-gids, for engines that read CDI 0.7.0"));
    }
}

/// The directory of a host file, for a problem line.
fn host_dir(located: &Located) -> Utf8PathBuf {
    located.host_path.parent().unwrap_or(&located.host_path).to_owned()
}
