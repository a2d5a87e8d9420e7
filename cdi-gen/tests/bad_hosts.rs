//! Hosts with something wrong: each costs its own part and a problem line, never the spec, never a panic.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests set up files and stop at the first surprise"
)]

mod common;

use cdi_gen::plan::Edit;
use cdi_gen::{EditPlan, PlanOptions};
use common::{LaidOut, hook_free, lines};

/// The sample host with something broken on disk.
fn broken(breaking: impl FnOnce(&LaidOut)) -> (EditPlan, String) {
    let host = LaidOut::named("ubuntu-deb");
    breaking(&host);
    let (plan, problems) = host.plan();
    (plan.unwrap(), lines(&problems))
}

fn libraries(plan: &EditPlan) -> Vec<&str> {
    let names = plan.common.iter().filter_map(|planned| match &planned.edit {
        Edit::Library(library) => Some(library.file_name.as_str()),
        _ => None,
    });
    names.collect()
}

/// The plan of the sound sample host.
fn sound() -> EditPlan {
    LaidOut::named("ubuntu-deb").plan().0.unwrap()
}

#[test]
fn a_damaged_loader_cache_costs_nothing() {
    let whole = std::fs::read(LaidOut::named("ubuntu-deb").path("/etc/ld.so.cache")).unwrap();
    let mut wrong_order = whole.clone();
    wrong_order[28] = 9;
    let cases =
        [(&whole[..100], "truncated"), (&wrong_order, "byte order"), (b"not a cache".as_slice(), "not an ld.so.cache")];
    for (bytes, word) in cases {
        let (plan, problems) = broken(|host| std::fs::write(host.path("/etc/ld.so.cache"), bytes).unwrap());
        assert_eq!(libraries(&plan), libraries(&sound()));
        assert!(problems.contains(word), "{word}: {problems}");
    }
    let (plan, _) = broken(|host| std::fs::remove_file(host.path("/etc/ld.so.cache")).unwrap());
    assert_eq!(libraries(&plan), libraries(&sound()));
}

#[test]
fn an_old_cache_is_read() {
    use testdata::ld_so_cache::{CacheEntry, Endian, Format, X86_64, write};
    let host = LaidOut::named("ubuntu-deb");
    let dir = host.path("/srv/driver");
    std::fs::create_dir_all(&dir).unwrap();
    let version = sound().driver_version;
    let name = format!("libnvidia-elsewhere.so.{version}");
    let elf =
        testdata::elf::shared_object(testdata::elf::Class::Elf64, testdata::elf::Machine::X86_64, Some(&name), None);
    std::fs::write(dir.join(&name), elf).unwrap();
    let entry = CacheEntry { flags: X86_64, path: format!("/srv/driver/{name}"), name: name.clone() };
    for format in [Format::Old, Format::Both] {
        std::fs::write(host.path("/etc/ld.so.cache"), write(std::slice::from_ref(&entry), format, Endian::Little))
            .unwrap();
        let (plan, problems) = host.plan();
        assert!(libraries(&plan.unwrap()).contains(&name.as_str()), "{format:?}");
        assert!(lines(&problems).contains("does not know"), "an unclassified library is reported");
    }
}

#[test]
fn truncated_proc_files() {
    let version = sound().driver_version;
    for text in ["", "NVRM version: NVIDIA UNIX"] {
        let (plan, _) = broken(|host| std::fs::write(host.path("/proc/driver/nvidia/version"), text).unwrap());
        assert_eq!(plan.driver_version, version, "the module tells it too");
    }
    let (plan, problems) = broken(|host| {
        std::fs::write(host.path("/proc/driver/nvidia/version"), "").unwrap();
        std::fs::remove_file(host.path("/sys/module/nvidia/version")).unwrap();
    });
    assert_eq!(plan.driver_version, version, "the files tell it too");
    assert!(problems.contains("tell no driver version"), "{problems}");
}

#[test]
fn damaged_files_cost_themselves() {
    let host = LaidOut::named("broken-parts");
    let (plan, problems) = host.plan();
    let (plan, told) = (plan.unwrap(), lines(&problems));
    let taken = libraries(&plan);
    for (stem, word) in [
        ("libnvidia-opencl.so", "empty file"),
        ("libnvidia-ngx.so", "not an ELF file"),
        ("libnvoptix.so", "not a regular file"),
        ("libnvidia-rtcore.so", "cannot follow"),
    ] {
        assert!(!taken.iter().any(|name| name.starts_with(stem)), "{stem}");
        assert!(told.lines().any(|line| line.contains(stem) && line.contains(word)), "{stem}: {told}");
    }
    for stem in ["libcuda.so", "libnvidia-ml.so", "libnvidia-cfg.so"] {
        assert!(taken.iter().any(|name| name.starts_with(stem)), "{stem}");
    }
    assert!(told.contains("claim minor number 1"), "{told}");
    assert_eq!(plan.devices.len(), 2, "the GPU with a minor number of its own, and all");
}

#[test]
fn one_dead_gpu_keeps_the_numbers_of_the_others() {
    let (plan, problems) = LaidOut::named("hgx-one-dead").plan();
    let names: Vec<String> =
        plan.unwrap().devices.into_iter().filter_map(|device| device.names.into_iter().next()).collect();
    assert_eq!(names, ["0", "1", "2", "3", "4", "6", "7", "all"]);
    assert!(lines(&problems).contains("GPU 5 ("), "{}", lines(&problems));
}

#[test]
fn two_gpus_of_one_uuid_keep_their_other_names() {
    let host = LaidOut::named("two-drivers");
    let gpus = host.path("/proc/driver/nvidia/gpus");
    let first = std::fs::read_dir(&gpus).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(first.join("information")).unwrap();
    std::fs::create_dir(gpus.join("ffff:01:00.0")).unwrap();
    std::fs::write(gpus.join("ffff:01:00.0/information"), text.replace("Device Minor: \t 0", "Device Minor: \t 7"))
        .unwrap();
    std::fs::write(host.path("/dev/nvidia7"), "").unwrap();
    let mut nodes = std::fs::read_to_string(host.nodes()).unwrap();
    nodes += "char /dev/nvidia7 195 7 0666\n";
    std::fs::write(host.nodes(), nodes).unwrap();
    let (plan, problems) = host.plan();
    let spec = hook_free(&plan.unwrap());
    assert_eq!(cdi_specs::validate(&spec), []);
    assert!(lines(&problems).contains("of another GPU"), "{}", lines(&problems));
}

#[test]
fn a_gpu_with_mig_instances_is_told() {
    let instance = "/proc/driver/nvidia/capabilities/gpu0/mig/gi1";
    let (plan, problems) = broken(|host| std::fs::create_dir_all(host.path(instance)).unwrap());
    assert_eq!(plan.devices.len(), 2);
    assert!(problems.contains("MIG"), "{problems}");
}

#[test]
fn a_huge_or_malformed_library_costs_itself() {
    let version = sound().driver_version;
    let (plan, problems) = broken(|host| {
        let path = host.path(&format!("/usr/lib/x86_64-linux-gnu/libnvidia-opencl.so.{version}"));
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        // The claim of 65535 program headers.
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xff, 0xff], 56).unwrap();
    });
    assert!(!libraries(&plan).iter().any(|name| name.starts_with("libnvidia-opencl")));
    assert!(problems.contains("too many program headers"), "{problems}");
}

#[test]
fn an_unreadable_file_costs_itself() {
    if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0 {
        return; // root reads everything
    }
    let (_, problems) = broken(|host| {
        let path = host.path("/etc/ld.so.cache");
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    });
    assert!(problems.contains("cannot read /etc/ld.so.cache"), "{problems}");
}

#[test]
fn a_new_branchs_library_is_taken_and_reported() {
    let version = sound().driver_version;
    let name = format!("libnvidia-newthing.so.{version}");
    let (plan, problems) = broken(|host| {
        let elf = testdata::elf::shared_object(
            testdata::elf::Class::Elf64,
            testdata::elf::Machine::X86_64,
            Some(&name),
            None,
        );
        std::fs::write(host.path("/usr/lib/x86_64-linux-gnu").join(&name), elf).unwrap();
    });
    assert!(libraries(&plan).contains(&name.as_str()));
    assert!(problems.contains(&name), "{problems}");
}

#[test]
fn no_options_no_names() {
    let options = PlanOptions { naming: Vec::new(), ..PlanOptions::default() };
    let (plan, _) = LaidOut::named("ubuntu-deb").plan_with(&Default::default(), &options);
    assert!(plan.is_err());
}
