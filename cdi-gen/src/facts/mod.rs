//! Facts: what the host says about itself, before anybody judges it.
//!
//! One file a source. Each parses text or bytes (`parse_x`) beside the one function that reads them (`read_x`).

pub mod binaries;
pub mod configs;
pub mod devices;
mod dirs;
pub mod driver;
pub mod drm;
pub mod elf;
pub mod firmware;
pub mod gpus;
pub mod ld_cache;
pub mod ld_conf;
mod left_out;
pub mod libraries;
pub mod mountinfo;
#[cfg(feature = "nvml")]
pub mod nvml;
pub mod nvml_child;
pub mod nvml_report;
#[cfg(feature = "nvml")]
mod nvml_seal;
pub mod pci;
pub mod sockets;

use serde::Serialize;

use self::left_out::LeftOut;
use self::nvml_child::NvmlQueryError;
use self::nvml_report::NvmlQuery;
use crate::host::Host;
use crate::problem::Problem;
use crate::tree::Located;

/// All that was read from one host.
#[derive(Clone, Debug, Serialize)]
pub struct HostFacts {
    /// What the running kernel says about its driver.
    pub driver: driver::DriverFacts,
    /// Whether the driver was mounted into this system file by file: it is a container that was given GPUs.
    pub nested: bool,
    /// The GPUs that the kernel driver lists, in PCI order.
    pub gpus: Vec<gpus::GpuFact>,
    /// NVIDIA display devices that another kernel driver, or none, holds.
    pub foreign_gpus: Vec<pci::ForeignGpu>,
    /// Device nodes of the driver.
    pub nodes: devices::NodeFacts,
    /// Candidates for driver libraries, wherever they lie.
    pub libraries: Vec<libraries::LibraryFact>,
    /// Driver programs.
    pub binaries: Vec<binaries::BinaryFact>,
    /// Firmware of the driver's version.
    pub firmware: Vec<Located>,
    /// ICD files, profiles and other data files.
    pub configs: Vec<configs::ConfigFact>,
    /// IPC sockets and directories.
    pub sockets: Vec<sockets::SocketFact>,
}

/// What the caller's environment may add to the search; nothing of it is trusted alone.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// Directories of `LD_LIBRARY_PATH`.
    pub library_path: Vec<camino::Utf8PathBuf>,
    /// Directories searched for libraries instead of everything else (`--library-search-path`).
    pub library_search_path: Vec<camino::Utf8PathBuf>,
    /// Directories searched for configuration files instead of the known ones (`--config-search-path`).
    pub config_search_path: Vec<camino::Utf8PathBuf>,
}

/// Reads the facts of a host. Trouble with a part is a problem and costs that part.
pub fn read(host: &Host, hints: &Hints, nvml: &NvmlQuery) -> (HostFacts, Vec<Problem>) {
    let mut problems = Vec::new();
    let driver = driver::read(&host.system, &mut problems);
    let injected = libraries::injected_dirs(host, &driver);
    let libraries = libraries::read(host, hints, &driver, &injected, &mut problems);
    let mut gpus = gpus::read(&host.system, &mut problems);
    let nvml_library = libraries::find_nvml(&libraries, driver.version.as_ref());
    fill_from_nvml(host, nvml, nvml_library, &mut gpus, &mut problems);
    let foreign_gpus = pci::read(&host.system, gpus.is_empty());
    let nodes = devices::read(host, &gpus);
    let version = driver.version.clone().or_else(|| libraries::installed_version(&libraries));
    let homes = libraries::directories(&libraries, version.as_ref());
    let mut left_out = LeftOut::default();
    let binaries = binaries::read(host, &homes, &mut left_out);
    let firmware = version.as_ref().map(|version| firmware::read(host, &homes, version, &mut left_out));
    let configs = configs::read(host, hints, &homes, version.as_ref(), &mut left_out);
    let sockets = sockets::read(host, &mut left_out);
    problems.extend(left_out.problems());
    let nested = !injected.is_empty();
    let facts = HostFacts {
        driver,
        nested,
        gpus,
        foreign_gpus,
        nodes,
        libraries,
        binaries,
        firmware: firmware.unwrap_or_default(),
        configs,
        sockets,
    };
    (facts, problems)
}

/// Asks NVML what the kernel left open, if it may be asked.
fn fill_from_nvml(
    host: &Host,
    query: &NvmlQuery,
    library: Option<&Located>,
    gpus: &mut Vec<gpus::GpuFact>,
    problems: &mut Vec<Problem>,
) {
    let is_needed = || nvml_report::is_needed(gpus, !devices::gpu_minors(host).is_empty());
    match nvml_child::ask(query, host, library, is_needed) {
        Ok(report) => {
            let refused = report.errors.iter().map(|error| Problem::warning("nvml", format!("NVML: {error}")));
            problems.extend(refused);
            nvml_report::merge(gpus, &report);
        }
        Err(NvmlQueryError::NotAsked(_) | NvmlQueryError::NoLibrary) => {}
        Err(error) => {
            problems
                .push(Problem::warning("nvml", error.to_string()).hint("the spec is made from what the kernel tells"));
        }
    }
}
