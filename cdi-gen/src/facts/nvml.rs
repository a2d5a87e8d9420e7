//! NVML itself: what the driver's library says of its GPUs. Runs in a child process of its own (`nvml_child`).

use std::ffi::OsStr;

use camino::Utf8Path;
use nvml_wrapper::bitmasks::InitFlags;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use super::nvml_report::{NvmlGpu, NvmlReport};
use super::nvml_seal;

/// Loads the library and writes down what it says, one GPU's refusal costing that GPU only. The process gives up first
/// what that does not need, of root's capabilities too unless they are to be kept: it is good for nothing else then.
///
/// # Errors
/// Something could not be given up; the library cannot be loaded or NVML does not start.
pub fn report(library: &Utf8Path, keep_capabilities: bool) -> Result<NvmlReport, String> {
    nvml_seal::seal(library, keep_capabilities)
        .map_err(|error| format!("the process cannot give up its rights: {error}"))?;
    let nvml = Nvml::builder()
        .lib_path(OsStr::new(library.as_str()))
        .flags(InitFlags::empty())
        .init()
        .map_err(|error| format!("{library}: {error}"))?;
    let count = nvml.device_count().map_err(|error| error.to_string())?;
    let cuda = nvml.sys_cuda_driver_version().ok();
    let cuda = cuda.map(|version| [cuda_driver_version_major(version), cuda_driver_version_minor(version)]);
    let user = rustix::process::geteuid().as_raw();
    let mut report = NvmlReport { cuda: cuda.and_then(numbers), user, ..NvmlReport::default() };
    for index in 0..count {
        match nvml.device_by_index(index).and_then(|device| gpu(index, &device)) {
            Ok(gpu) => report.gpus.push(gpu),
            Err(error) => report.errors.push(format!("GPU {index}: {error}")),
        }
    }
    Ok(report)
}

fn gpu(index: u32, device: &Device<'_>) -> Result<NvmlGpu, NvmlError> {
    Ok(NvmlGpu {
        index,
        bus_id: device.pci_info()?.bus_id,
        uuid: device.uuid().ok(),
        minor: device.minor_number().ok(),
        model: device.name().ok(),
        arch: device.cuda_compute_capability().ok().and_then(|arch| numbers([arch.major, arch.minor])),
        brand: device.brand().ok().map(|brand| format!("{brand:?}").to_lowercase()),
    })
}

fn numbers(version: [i32; 2]) -> Option<[u32; 2]> {
    let [major, minor] = version;
    Some([u32::try_from(major).ok()?, u32::try_from(minor).ok()?])
}
