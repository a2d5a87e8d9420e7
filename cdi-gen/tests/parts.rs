//! Parts that few layouts have, put on the sample host one by one: each must come into the plan.
#![expect(clippy::disallowed_methods, reason = "tests set up files")]

mod common;

use camino::Utf8PathBuf;
use cdi_gen::PlanOptions;
use cdi_gen::facts::Hints;
use cdi_specs::{Mount, Spec};
use common::{LaidOut, hook_free};
use testdata::elf::{Class, Machine, shared_object};

/// The sample host's driver.
const VERSION: &str = "550.107.02";

/// The hook-free spec of the sample host with something added.
fn spec(hints: &Hints, add: impl FnOnce(&LaidOut)) -> Spec {
    let host = LaidOut::named("ubuntu-deb");
    add(&host);
    hook_free(&host.plan_with(hints, &PlanOptions::default()).0.expect("the sample host is sound"))
}

fn mount<'a>(spec: &'a Spec, container_path: &str) -> Option<&'a Mount> {
    spec.container_edits.mounts.iter().find(|mount| mount.container_path == container_path)
}

fn write(host: &LaidOut, path: &str, content: impl AsRef<[u8]>) {
    let path = host.path(path);
    std::fs::create_dir_all(path.parent().expect("an absolute path")).expect("a writable host");
    std::fs::write(path, content).expect("a writable host");
}

fn library(host: &LaidOut, dir: &str, stem: &str) {
    let name = format!("{stem}.so.{VERSION}");
    write(host, &format!("{dir}/{name}"), shared_object(Class::Elf64, Machine::X86_64, Some(&name), None));
}

#[test]
fn the_mps_directory_is_writable() {
    let spec = spec(&Hints::default(), |host| write(host, "/tmp/nvidia-mps/control", ""));
    let options = &mount(&spec, "/tmp/nvidia-mps").expect("the MPS directory").options;
    assert!(!options.contains(&"ro".to_owned()) && options.contains(&"noexec".to_owned()), "{options:?}");
}

#[test]
fn a_directory_that_only_a_bind_mount_names() {
    let spec = spec(&Hints::default(), |host| {
        library(host, "/srv/injected", "libnvidia-odd");
        let line = format!("712 650 8:1 /x /srv/injected/libnvidia-odd.so.{VERSION} ro - ext4 /dev/sda1 rw\n");
        write(host, "/proc/self/mountinfo", line);
    });
    assert!(mount(&spec, &format!("/usr/lib64/libnvidia-odd.so.{VERSION}")).is_some());
}

#[test]
fn a_directory_that_only_ld_so_conf_names() {
    let spec = spec(&Hints::default(), |host| {
        library(host, "/srv/configured", "libnvidia-odd");
        write(host, "/etc/ld.so.conf.d/zz-odd.conf", "# odd\n/srv/configured/\n");
    });
    assert!(mount(&spec, &format!("/usr/lib64/libnvidia-odd.so.{VERSION}")).is_some());
}

#[test]
fn the_callers_library_path_is_a_hint() {
    let hints = Hints { library_path: vec!["/srv/hinted".into()], ..Hints::default() };
    let spec = spec(&hints, |host| library(host, "/srv/hinted", "libnvidia-odd"));
    assert!(mount(&spec, &format!("/usr/lib64/libnvidia-odd.so.{VERSION}")).is_some());
    assert!(mount(&spec, "/usr/lib64/libcuda.so.1").is_some());
}

#[test]
fn search_paths_replace_what_is_known() {
    let only: Vec<Utf8PathBuf> = vec!["/srv/only".into()];
    let hints = Hints { library_search_path: only.clone(), config_search_path: only, ..Hints::default() };
    let spec = spec(&hints, |host| {
        library(host, "/srv/only", "libcuda");
        write(host, "/srv/only/vulkan/icd.d/nvidia_icd.json", "{}");
    });
    let libcuda = mount(&spec, "/usr/lib64/libcuda.so").expect("libcuda of the search path");
    assert_eq!(libcuda.host_path, format!("/srv/only/libcuda.so.{VERSION}"));
    assert!(mount(&spec, "/usr/lib64/libnvidia-ml.so.1").is_none());
    let icd = mount(&spec, "/etc/vulkan/icd.d/nvidia_icd.json").expect("the ICD of the search path");
    assert_eq!(icd.host_path, "/srv/only/vulkan/icd.d/nvidia_icd.json");
}

#[test]
fn firmware_where_the_kernel_was_told_to_look() {
    let spec = spec(&Hints::default(), |host| {
        write(host, "/sys/module/firmware_class/parameters/path", "/srv/firmware\n");
        write(host, &format!("/srv/firmware/nvidia/{VERSION}/gsp_ga10x.bin.xz"), "firmware");
    });
    let path = format!("/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin.xz");
    assert!(mount(&spec, &path).expect("the firmware").host_path.starts_with("/srv/firmware/"));
}

#[test]
fn a_manifest_finds_its_library_by_full_path() {
    let icd = r#"{"ICD":{"library_path":"/opt/gl/libGLX_nvidia.so.0"}}"#;
    let spec = spec(&Hints::default(), |host| write(host, "/usr/share/vulkan/icd.d/nvidia_icd.json", icd));
    let library = mount(&spec, "/opt/gl/libGLX_nvidia.so.0").expect("the library that the manifest names");
    assert!(library.host_path.ends_with(&format!("/libGLX_nvidia.so.{VERSION}")));
}

#[test]
fn a_program_that_is_no_elf_file_is_passed_over() {
    let spec = spec(&Hints::default(), |host| {
        std::fs::remove_file(host.path("/usr/bin/nvidia-smi")).expect("the sample host has nvidia-smi");
        write(host, "/usr/bin/nvidia-smi", "#!/bin/sh\n");
        write(host, "/opt/bin/nvidia-smi", shared_object(Class::Elf64, Machine::X86_64, None, Some("/lib64/ld.so")));
    });
    assert_eq!(mount(&spec, "/usr/bin/nvidia-smi").expect("nvidia-smi").host_path, "/opt/bin/nvidia-smi");
}
