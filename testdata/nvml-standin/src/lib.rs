//! A stand-in for the driver's `libnvidia-ml.so.1`, with the C ABI of the functions that cdi-gen calls (NVML API
//! reference, `nvml.h`). It is a real shared object, loaded with a real dlopen.
//!
//! How it behaves stands in the file itself, behind [`NVML_STANDIN_BEHAVIOUR`], for tests to write there: whoever loads it
//! is given no variables. `crash`, `hang`, `fail-init`, `fail-gpu=<index>`; `touch=<path>` makes a file when it is loaded;
//! `probe` tells, as the names of its GPUs, who it runs as and what it may do; anything else is two sound GPUs.
#![expect(unsafe_code, reason = "a C ABI is made of raw pointers")]

mod probe;

use std::ffi::{c_char, c_int, c_uint, c_void};

/// `nvmlReturn_t` values.
const SUCCESS: c_int = 0;
const INVALID_ARGUMENT: c_int = 2;
const INSUFFICIENT_SIZE: c_int = 7;
const GPU_IS_LOST: c_int = 15;
const LIB_RM_VERSION_MISMATCH: c_int = 18;

/// The GPUs: UUID, PCI address, minor number.
const GPUS: [(&str, &str, c_uint); 2] = [
    ("GPU-5eed0000-0000-4000-8000-000000000000", "00000000:01:00.0", 0),
    ("GPU-5eed0001-0000-4000-8000-000000000001", "00000000:02:00.0", 1),
];

/// The newest CUDA version that the driver runs, as `CUDA_VERSION` of cuda.h says it.
const CUDA_VERSION: c_int = 13000;
const COMPUTE_CAPABILITY: (c_int, c_int) = (9, 0);
/// `NVML_BRAND_TESLA`
const BRAND_TESLA: c_uint = 2;

/// `nvmlPciInfo_t`, layout of NVML 11 and later.
#[repr(C)]
#[derive(Debug)]
pub struct PciInfo {
    bus_id_legacy: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    pci_device_id: c_uint,
    pci_subsystem_id: c_uint,
    bus_id: [c_char; 32],
}

/// How the library behaves, and a mark by which tests find the place to write it to.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    mark: [u8; 23],
    text: [u8; 233],
}

/// As it comes: two sound GPUs.
#[unsafe(no_mangle)]
pub static NVML_STANDIN_BEHAVIOUR: Behaviour = Behaviour { mark: *b"NVML_STANDIN_BEHAVIOUR=", text: [b' '; 233] };

/// What is written there.
fn behaviour() -> String {
    // SAFETY: a valid static; what a test wrote into the file is not what the compiler saw.
    let behaviour = unsafe { std::ptr::read_volatile(&raw const NVML_STANDIN_BEHAVIOUR) };
    String::from_utf8_lossy(&behaviour.text).trim().to_owned()
}

/// Runs as soon as the library is loaded, as a library's constructors do.
#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = {
    extern "C" fn loaded() {
        if let Some(path) = behaviour().strip_prefix("touch=") {
            probe::touch(path);
        }
    }
    loaded
};

/// The GPU of a handle, which is the index plus one, so that none is null. Each probe is one, like the first.
fn gpu(handle: *const c_void) -> Option<&'static (&'static str, &'static str, c_uint)> {
    let index = (handle as usize).checked_sub(1)?;
    if behaviour() == "probe" { GPUS.first() } else { GPUS.get(index) }
}

fn count() -> usize {
    if behaviour() == "probe" { probe::COUNT } else { GPUS.len() }
}

/// Writes a C string.
///
/// # Safety
/// `buffer` has room for `length` bytes.
unsafe fn put(text: &str, buffer: *mut c_char, length: c_uint) -> c_int {
    if buffer.is_null() || text.len() >= length as usize {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: the text and its terminator fit, as checked; the source is a distinct static.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), buffer, text.len());
        *buffer.add(text.len()) = 0;
    }
    SUCCESS
}

/// `nvmlInit_v2`
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_int {
    match behaviour().as_str() {
        "crash" => std::process::abort(),
        "hang" => loop {
            std::thread::park();
        },
        "fail-init" => LIB_RM_VERSION_MISMATCH,
        _ => SUCCESS,
    }
}

/// `nvmlInitWithFlags`
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> c_int {
    nvmlInit_v2()
}

/// `nvmlShutdown`
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> c_int {
    SUCCESS
}

/// `nvmlDeviceGetCount_v2`
///
/// # Safety
/// `count` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> c_int {
    // SAFETY: the caller's promise.
    match unsafe { count.as_mut() } {
        Some(count) => {
            *count = c_uint::try_from(self::count()).unwrap_or_default();
            SUCCESS
        }
        None => INVALID_ARGUMENT,
    }
}

/// `nvmlDeviceGetHandleByIndex_v2`
///
/// # Safety
/// `handle` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, handle: *mut *mut c_void) -> c_int {
    if behaviour() == format!("fail-gpu={index}") {
        return GPU_IS_LOST;
    }
    // SAFETY: the caller's promise.
    match unsafe { handle.as_mut() } {
        Some(handle) if (index as usize) < count() => {
            *handle = std::ptr::without_provenance_mut(index as usize + 1);
            SUCCESS
        }
        _ => INVALID_ARGUMENT,
    }
}

/// `nvmlDeviceGetUUID`
///
/// # Safety
/// `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(handle: *mut c_void, buffer: *mut c_char, length: c_uint) -> c_int {
    // SAFETY: the caller's promise.
    gpu(handle).map_or(INVALID_ARGUMENT, |gpu| unsafe { put(gpu.0, buffer, length) })
}

/// `nvmlDeviceGetName`
///
/// # Safety
/// `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(handle: *mut c_void, buffer: *mut c_char, length: c_uint) -> c_int {
    let answer = (behaviour() == "probe").then(|| probe::answer((handle as usize).wrapping_sub(1)));
    let name = answer.as_deref().unwrap_or("NVIDIA Stand-in");
    // SAFETY: the caller's promise.
    gpu(handle).map_or(INVALID_ARGUMENT, |_| unsafe { put(name, buffer, length) })
}

/// `nvmlSystemGetCudaDriverVersion_v2`
///
/// # Safety
/// `version` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> c_int {
    // SAFETY: the caller's promise.
    match unsafe { version.as_mut() } {
        Some(version) => {
            *version = CUDA_VERSION;
            SUCCESS
        }
        None => INVALID_ARGUMENT,
    }
}

/// `nvmlDeviceGetCudaComputeCapability`
///
/// # Safety
/// `major` and `minor` are null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCudaComputeCapability(
    handle: *mut c_void,
    major: *mut c_int,
    minor: *mut c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    match (gpu(handle), unsafe { major.as_mut() }, unsafe { minor.as_mut() }) {
        (Some(_), Some(major), Some(minor)) => {
            (*major, *minor) = COMPUTE_CAPABILITY;
            SUCCESS
        }
        _ => INVALID_ARGUMENT,
    }
}

/// `nvmlDeviceGetBrand`
///
/// # Safety
/// `brand` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetBrand(handle: *mut c_void, brand: *mut c_uint) -> c_int {
    // SAFETY: the caller's promise.
    match (gpu(handle), unsafe { brand.as_mut() }) {
        (Some(_), Some(brand)) => {
            *brand = BRAND_TESLA;
            SUCCESS
        }
        _ => INVALID_ARGUMENT,
    }
}

/// `nvmlDeviceGetMinorNumber`
///
/// # Safety
/// `minor` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMinorNumber(handle: *mut c_void, minor: *mut c_uint) -> c_int {
    // SAFETY: the caller's promise.
    match (gpu(handle), unsafe { minor.as_mut() }) {
        (Some(gpu), Some(minor)) => {
            *minor = gpu.2;
            SUCCESS
        }
        _ => INVALID_ARGUMENT,
    }
}

/// `nvmlDeviceGetPciInfo_v3`
///
/// # Safety
/// `info` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(handle: *mut c_void, info: *mut PciInfo) -> c_int {
    // SAFETY: the caller's promise.
    match (gpu(handle), unsafe { info.as_mut() }) {
        (Some(gpu), Some(info)) => {
            *info = PciInfo {
                bus_id_legacy: [0; 16],
                domain: 0,
                bus: gpu.2 + 1,
                device: 0,
                pci_device_id: 0x2330_10de,
                pci_subsystem_id: 0,
                bus_id: [0; 32],
            };
            // SAFETY: both arrays have the length given.
            unsafe { put(gpu.1, info.bus_id.as_mut_ptr(), 32) }
        }
        _ => INVALID_ARGUMENT,
    }
}
