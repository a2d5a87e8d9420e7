//! NVML through the real dlopen, in the real child process, with a stand-in library: sound, crashing, hanging, failing
//! for one GPU, and lacking a function.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests set up files and stop at the first surprise"
)]

mod common;

use std::path::PathBuf;
use std::time::Instant;

use common::{LaidOut, Ran};

/// Whoever depends on a cdylib has it built beside its own dependencies.
fn standin() -> PathBuf {
    let programs = PathBuf::from(env!("CARGO_BIN_EXE_cdi-gen"));
    let dir = programs.parent().unwrap();
    let candidates = [dir.join("deps/libnvml_standin.so"), dir.join("libnvml_standin.so")];
    candidates.into_iter().find(|path| path.is_file()).expect("cargo builds the stand-in beside the tests")
}

/// Two GPUs whose UUIDs the kernel does not tell, and the stand-in as the driver's NVML.
fn host(change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> LaidOut {
    let host = LaidOut::named("ubuntu-deb");
    let version = host.plan().0.unwrap().driver_version;
    let library = host.path(&format!("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{version}"));
    std::fs::write(library, change(std::fs::read(standin()).unwrap())).unwrap();
    let gpus = host.path("/proc/driver/nvidia/gpus");
    std::fs::remove_dir_all(&gpus).unwrap();
    for (bus, minor) in [("0000:01:00.0", 0), ("0000:02:00.0", 1)] {
        std::fs::create_dir_all(gpus.join(bus)).unwrap();
        let text = format!(
            "Model: \t\t NVIDIA Test\nGPU UUID: \t GPU-????????-????-????-????-????????????\nDevice Minor: \t {minor}\n"
        );
        std::fs::write(gpus.join(bus).join("information"), text).unwrap();
    }
    let nodes = std::fs::read_to_string(host.nodes()).unwrap() + "char /dev/nvidia1 195 1 0666\n";
    std::fs::write(host.path("/dev/nvidia1"), "").unwrap();
    std::fs::write(host.nodes(), nodes).unwrap();
    host
}

fn generate(host: &LaidOut, behaviour: &str, more: &[&str]) -> Ran {
    let mut command = host.command(&["generate", "--hooks", "none"]);
    Ran::new(command.args(more).env("NVML_STANDIN", behaviour))
}

const FIRST: &str = "name: GPU-5eed0000-0000-4000-8000-000000000000";
const SECOND: &str = "name: GPU-5eed0001-0000-4000-8000-000000000001";

#[test]
fn nvml_tells_what_the_kernel_does_not() {
    let host = host(|bytes| bytes);
    let ran = generate(&host, "", &["--nvml", "always"]).exits(0);
    assert!(ran.stdout.contains(FIRST) && ran.stdout.contains(SECOND), "{}", ran.stderr);
    let ran = generate(&host, "", &["--nvml", "never"]).exits(0).says("--nvml always");
    assert!(!ran.stdout.contains("name: GPU-"));
    // Another root is not the running kernel's: without being told to, NVML is not asked about it.
    assert!(!generate(&host, "", &[]).exits(0).stdout.contains("name: GPU-"));
}

#[test]
fn the_code_of_a_driver_container_runs_on_request_only() {
    let host = host(|bytes| bytes);
    let generate = |more: &[&str]| {
        let mut command = common::cdi_gen();
        command.args(["generate", "--hooks", "none", "--driver-root", host.root().as_str()]).args(more);
        Ran::new(command.env("NVML_STANDIN", "fail-init"))
    };
    // This machine may have no GPU, so what counts is whether the library was loaded.
    assert!(!generate(&[]).stderr.contains("NVML failed"));
    generate(&["--nvml", "always"]).says("NVML failed");
}

#[test]
fn an_nvml_that_crashes_costs_the_uuids_only() {
    let ran = generate(&host(|bytes| bytes), "crash", &["--nvml", "always"]).exits(0).says("ended early");
    assert!(ran.stdout.contains("path: /dev/nvidia1\n") && !ran.stdout.contains("name: GPU-"));
}

#[test]
fn an_nvml_that_hangs_is_killed_in_time() {
    let start = Instant::now();
    let flags = ["--nvml", "always", "--nvml-time-limit", "0.2"];
    let ran = generate(&host(|bytes| bytes), "hang", &flags).exits(0).says("did not answer within 0.2 s");
    assert!(ran.stdout.contains("path: /dev/nvidia1\n"));
    assert!(start.elapsed().as_secs() < 20, "the time limit had no effect");
}

#[test]
fn an_nvml_that_refuses_to_start_is_told() {
    let ran = generate(&host(|bytes| bytes), "fail-init", &["--nvml", "always"]).exits(0).says("NVML failed");
    assert!(ran.stdout.contains("path: /dev/nvidia1\n"));
}

#[test]
fn one_gpu_that_nvml_refuses_costs_its_uuid_only() {
    let ran = generate(&host(|bytes| bytes), "fail-gpu=0", &["--nvml", "always"]).exits(0).says("GPU 0: ");
    assert!(!ran.stdout.contains(FIRST) && ran.stdout.contains(SECOND));
}

#[test]
fn an_nvml_that_lacks_functions() {
    let without = |function: &'static str| {
        move |mut bytes: Vec<u8>| {
            let name = [b"\0", function.as_bytes(), b"\0"].concat();
            let at = bytes.windows(name.len()).position(|window| window == name.as_slice()).unwrap();
            bytes[at + 1] = b'X';
            bytes
        }
    };
    let ran = generate(&host(without("nvmlDeviceGetUUID")), "", &["--nvml", "always"]).exits(0);
    assert!(ran.stdout.contains("path: /dev/nvidia1\n") && !ran.stdout.contains("name: GPU-"));
    let ran = generate(&host(without("nvmlDeviceGetCount_v2")), "", &["--nvml", "always"])
        .exits(0)
        .says("nvmlDeviceGetCount");
    assert!(ran.stdout.contains("path: /dev/nvidia1\n"));
}

#[test]
fn a_library_that_is_no_library() {
    let ran = generate(&host(|_| b"\x7fELF and nothing else".to_vec()), "", &["--nvml", "always"]).exits(0);
    assert!(ran.stdout.contains("path: /dev/nvidia1\n"));
}

/// What NVML alone knows, for those who ask it themselves.
#[test]
fn the_report_tells_what_images_may_require() {
    use cdi_gen::facts::nvml_child;
    use cdi_gen::facts::nvml_report::{NvmlPolicy, NvmlQuery};
    let program = camino::Utf8PathBuf::from(env!("CARGO_BIN_EXE_cdi-gen"));
    let query = NvmlQuery { policy: NvmlPolicy::Always, program, time_limit: std::time::Duration::from_secs(30) };
    let library = camino::Utf8PathBuf::from_path_buf(standin()).unwrap();
    let report = nvml_child::ask(&query, &library).unwrap();
    assert_eq!(report.cuda, Some([13, 0]));
    let told: Vec<_> = report.gpus.iter().map(|gpu| (gpu.arch, gpu.brand.as_deref())).collect();
    assert_eq!(told, [(Some([9, 0]), Some("tesla")); 2]);
}
