//! NVML through the real dlopen, in the real child process, with a stand-in library: sound, crashing, hanging, failing
//! for one GPU, and lacking a function.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests set up files and stop at the first surprise"
)]

mod common;

use std::path::{Path, PathBuf};
use std::time::Instant;

use cdi_gen::facts::nvml_child::{self, NvmlQueryError};
use cdi_gen::facts::nvml_report::{NvmlPolicy, NvmlQuery, NvmlReport};
use cdi_gen::tree::Located;
use cdi_gen::{Host, Tree};
use common::{LaidOut, Ran};

/// Whoever depends on a cdylib has it built beside its own dependencies.
fn standin() -> PathBuf {
    let programs = PathBuf::from(env!("CARGO_BIN_EXE_cdi-gen"));
    let dir = programs.parent().unwrap();
    let candidates = [dir.join("deps/libnvml_standin.so"), dir.join("libnvml_standin.so")];
    candidates.into_iter().find(|path| path.is_file()).expect("cargo builds the stand-in beside the tests")
}

/// The stand-in with a behaviour of its own.
fn behaving(behaviour: &str) -> impl Fn(Vec<u8>) -> Vec<u8> {
    let behaviour = format!("{behaviour} ");
    move |mut bytes| {
        let mark = b"NVML_STANDIN_BEHAVIOUR=";
        let at = bytes.windows(mark.len()).position(|window| window == mark).unwrap() + mark.len();
        bytes[at..at + behaviour.len()].copy_from_slice(behaviour.as_bytes());
        bytes
    }
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

fn generate(host: &LaidOut, more: &[&str]) -> Ran {
    let mut command = host.command(&["generate", "--hooks", "none"]);
    Ran::new(command.args(more))
}

const FIRST: &str = "name: GPU-5eed0000-0000-4000-8000-000000000000";
const SECOND: &str = "name: GPU-5eed0001-0000-4000-8000-000000000001";

#[test]
fn nvml_tells_what_the_kernel_does_not() {
    let host = host(|bytes| bytes);
    let ran = generate(&host, &["--nvml", "always"]).exits(0);
    assert!(ran.stdout.contains(FIRST) && ran.stdout.contains(SECOND), "{}", ran.stderr);
    let ran = generate(&host, &["--nvml", "never"]).exits(0).says("--nvml always");
    assert!(!ran.stdout.contains("name: GPU-"));
    // Another root is not the running kernel's: without being told to, NVML is not asked about it.
    assert!(!generate(&host, &[]).exits(0).stdout.contains("name: GPU-"));
}

#[test]
fn the_code_of_a_driver_container_runs_on_request_only() {
    let host = host(behaving("fail-init"));
    let generate = |more: &[&str]| {
        let mut command = common::cdi_gen();
        command.args(["generate", "--hooks", "none", "--driver-root", host.root().as_str()]).args(more);
        Ran::new(&mut command)
    };
    // This machine may have no GPU, so what counts is whether the library was loaded.
    assert!(!generate(&[]).stderr.contains("NVML failed"));
    generate(&["--nvml", "always"]).says("NVML failed");
}

#[test]
fn an_nvml_that_crashes_costs_the_uuids_only() {
    let ran = generate(&host(behaving("crash")), &["--nvml", "always"]).exits(0).says("ended early");
    assert!(ran.stdout.contains("path: /dev/nvidia1\n") && !ran.stdout.contains("name: GPU-"));
}

#[test]
fn an_nvml_that_hangs_is_killed_in_time() {
    let start = Instant::now();
    let flags = ["--nvml", "always", "--nvml-time-limit", "0.2"];
    let ran = generate(&host(behaving("hang")), &flags).exits(0).says("did not answer within 0.2 s");
    assert!(ran.stdout.contains("path: /dev/nvidia1\n"));
    assert!(start.elapsed().as_secs() < 20, "the time limit had no effect");
}

#[test]
fn an_nvml_that_refuses_to_start_is_told() {
    let ran = generate(&host(behaving("fail-init")), &["--nvml", "always"]).exits(0).says("NVML failed");
    assert!(ran.stdout.contains("path: /dev/nvidia1\n"));
}

#[test]
fn one_gpu_that_nvml_refuses_costs_its_uuid_only() {
    let ran = generate(&host(behaving("fail-gpu=0")), &["--nvml", "always"]).exits(0).says("GPU 0: ");
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
    let ran = generate(&host(without("nvmlDeviceGetUUID")), &["--nvml", "always"]).exits(0);
    assert!(ran.stdout.contains("path: /dev/nvidia1\n") && !ran.stdout.contains("name: GPU-"));
    let ran =
        generate(&host(without("nvmlDeviceGetCount_v2")), &["--nvml", "always"]).exits(0).says("nvmlDeviceGetCount");
    assert!(ran.stdout.contains("path: /dev/nvidia1\n"));
}

#[test]
fn a_library_that_is_no_library() {
    let ran = generate(&host(|_| b"\x7fELF and nothing else".to_vec()), &["--nvml", "always"]).exits(0);
    assert!(ran.stdout.contains("path: /dev/nvidia1\n"));
}

/// What the stand-in says to those who ask it themselves; a directory of the host's holds it.
fn ask(dir: &Path, behaviour: &str) -> Result<NvmlReport, NvmlQueryError> {
    let root = camino::Utf8Path::from_path(dir).unwrap();
    std::fs::write(dir.join("libnvidia-ml.so.1"), behaving(behaviour)(std::fs::read(standin()).unwrap())).unwrap();
    let program = camino::Utf8PathBuf::from(env!("CARGO_BIN_EXE_cdi-gen"));
    let query = NvmlQuery { policy: NvmlPolicy::Always, program, time_limit: std::time::Duration::from_secs(30) };
    let host = Host::new(Tree::new(root, None).unwrap(), "/".into(), None).unwrap();
    let path = camino::Utf8PathBuf::from("/libnvidia-ml.so.1");
    nvml_child::ask(&query, &host, Some(&Located { path: path.clone(), host_path: path }), || true)
}

/// What NVML alone knows.
#[test]
fn the_report_tells_what_images_may_require() {
    let dir = tempfile::tempdir().unwrap();
    let report = ask(dir.path(), "").unwrap();
    assert_eq!(report.cuda, Some([13, 0]));
    let user = rustix::process::geteuid().as_raw();
    assert!(report.user == user || user == 0 && report.user == 65534);
    let told: Vec<_> = report.gpus.iter().map(|gpu| (gpu.arch, gpu.brand.as_deref())).collect();
    assert_eq!(told, [(Some([9, 0]), Some("tesla")); 2]);
}

/// The library is the vendor's, or a driver container's.
#[test]
fn the_library_runs_in_a_process_that_can_do_little() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let probe = || {
        let report = ask(dir.path(), "probe").unwrap();
        report.gpus.into_iter().map(|gpu| gpu.model.unwrap()).collect::<Vec<_>>()
    };
    // A descriptor that this process would hand on.
    let kept = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&kept, rustix::io::FdFlags::empty()).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    for (mode, user) in [(0o755, "65534"), (0o700, "0")] {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let told = probe();
        let says = |words: &str| assert!(told.iter().any(|line| line == words), "{words}: {told:#?}");
        if is_root {
            says(&format!("user: {user} {user} {user} {user}"));
            says(&format!("group: {user} {user} {user} {user}"));
        }
        says("effective: 0000000000000000");
        says("permitted: 0000000000000000");
        says("no new privileges: 1");
        says("filter: 2");
        says("variables: 0");
        says("descriptors: 0 1 2");
        says("limits: 0 0 1024");
        for may in ["reads: ", "threads: 2", "local sockets: "] {
            says(may);
        }
        let refused =
            ["makes files", "empties files", "runs programs", "forks", "connects", "namespaces", "kills", "changes"];
        for refused in refused {
            says(&format!("{refused}: no, 1"));
        }
    }
}

/// Root loads nothing that others may change.
#[test]
fn a_library_that_others_may_change_is_not_loaded_by_root() {
    use std::os::unix::fs::{PermissionsExt, chown};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(ask(dir.path(), "").is_ok());
    let library = dir.path().join("libnvidia-ml.so.1");
    chown(&library, Some(1000), None).unwrap();
    let refused = ask(dir.path(), "").unwrap_err().to_string();
    assert!(refused.contains("is not loaded, since user 1000 can change it"), "{refused}");
    chown(&library, Some(0), None).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(ask(dir.path(), "").unwrap_err().to_string().contains("everybody can change"));
}
