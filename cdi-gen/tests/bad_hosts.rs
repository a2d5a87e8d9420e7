//! Hosts with something wrong: each costs its own part and a problem line, never the spec, never a panic.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests set up files and stop at the first surprise"
)]

mod common;

use cdi_gen::facts::Hints;
use cdi_gen::plan::Edit;
use cdi_gen::{EditPlan, PlanOptions};
use common::{LaidOut, Ran, hook_free, lines};

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
fn a_container_counts_the_gpus_that_it_was_given() {
    let host = LaidOut::named("hgx-one-dead");
    let nodes = std::fs::read_to_string(host.nodes()).unwrap();
    let is_other =
        |line: &&str| (0..8).any(|minor| minor != 4 && line.starts_with(&format!("char /dev/nvidia{minor} ")));
    let kept: String = nodes.lines().filter(|line| !is_other(line)).map(|line| format!("{line}\n")).collect();
    std::fs::write(host.nodes(), kept).unwrap();
    for minor in (0..8).filter(|minor| *minor != 4) {
        std::fs::remove_file(host.path(&format!("/dev/nvidia{minor}"))).unwrap();
    }
    let version = std::fs::read_to_string(host.path("/sys/module/nvidia/version")).unwrap();
    let mount =
        format!("712 650 8:1 / /usr/lib/x86_64-linux-gnu/libcuda.so.{} ro - ext4 /dev/sda1 rw\n", version.trim());
    std::fs::create_dir_all(host.path("/proc/self")).unwrap();
    std::fs::write(host.path("/proc/self/mountinfo"), mount).unwrap();
    let (plan, problems) = host.plan();
    let names: Vec<String> =
        plan.unwrap().devices.into_iter().filter_map(|device| device.names.into_iter().next()).collect();
    assert_eq!(names, ["0", "all"], "{}", lines(&problems));
    assert!(lines(&problems).contains("6 GPUs of the host were not given"), "{}", lines(&problems));
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
    // A directory cannot be read as a file by anybody, not even root.
    let replace = |path: &'static str| {
        broken(move |host| {
            std::fs::remove_file(host.path(path)).unwrap();
            std::fs::create_dir(host.path(path)).unwrap();
        })
    };
    for path in ["/proc/driver/nvidia/version", "/etc/ld.so.cache"] {
        let (plan, problems) = replace(path);
        assert_eq!(libraries(&plan), libraries(&sound()));
        assert!(problems.contains(&format!("cannot read {path}")), "{problems}");
    }
    replace("/proc/devices");
}

/// Replaces a node's line in the device list.
fn renumber(host: &LaidOut, path: &str, numbers: &str) {
    let nodes = std::fs::read_to_string(host.nodes()).unwrap();
    let others = nodes.lines().filter(|line| !line.starts_with(&format!("char {path} ")));
    let kept: String = others.map(|line| format!("{line}\n")).collect();
    std::fs::write(host.nodes(), format!("{kept}char {path} {numbers}\n")).unwrap();
}

#[test]
fn a_node_that_is_another_device_is_given_to_nobody() {
    let host = LaidOut::named("two-drivers");
    renumber(&host, "/dev/nvidia0", "1 1 0666");
    let (plan, problems) = host.plan();
    assert!(plan.is_err());
    assert!(lines(&problems).contains("/dev/nvidia0 is device 1:1, the kernel's is 195:0"), "{}", lines(&problems));
    let host = LaidOut::named("ubuntu-deb");
    renumber(&host, "/dev/nvidia-uvm", "238 0 0666");
    let (plan, problems) = host.plan();
    assert!(plan.unwrap_err().to_string().contains("no device node /dev/nvidia-uvm"));
    assert!(lines(&problems).contains("/dev/nvidia-uvm is device 238:0"), "{}", lines(&problems));
}

#[test]
fn nodes_that_outlived_the_module_are_no_driver() {
    let host = LaidOut::named("vfio-only");
    let nodes = "char /dev/nvidia0 195 0 0666\nchar /dev/nvidiactl 195 255 0666\nchar /dev/nvidia-uvm 511 0 0666\n";
    std::fs::write(host.nodes(), nodes).unwrap();
    assert!(host.plan().0.unwrap_err().to_string().contains("no NVIDIA driver here"));
}

#[test]
fn a_driver_container_leaves_nodes_to_its_host() {
    let host = LaidOut::named("driver-container");
    let nodes = std::fs::read_to_string(host.nodes()).unwrap();
    let only_on_the_host: String = nodes
        .lines()
        .filter(|line| !line.contains("/run/nvidia/driver/dev/nvidia-uvm"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(only_on_the_host.contains("char /dev/nvidia-uvm "), "{nodes}");
    for name in ["nvidia-uvm", "nvidia-uvm-tools"] {
        let _ = std::fs::remove_file(host.path("/run/nvidia/driver/dev").join(name));
    }
    std::fs::write(host.nodes(), only_on_the_host).unwrap();
    let spec = hook_free(&host.plan().0.unwrap());
    let uvm = spec.container_edits.device_nodes.iter().find(|node| node.path == "/dev/nvidia-uvm").unwrap();
    assert_eq!(uvm.host_path, None);
}

/// All container paths of the mounts, and what they come from.
fn mounts(plan: &EditPlan) -> Vec<(String, String)> {
    let mounts = hook_free(plan).container_edits.mounts;
    mounts.into_iter().map(|mount| (mount.container_path, mount.host_path)).collect()
}

#[test]
fn a_link_in_tmp_is_no_mps_directory() {
    let (plan, _) = broken(|host| {
        std::fs::create_dir_all(host.path("/tmp")).unwrap();
        std::os::unix::fs::symlink("/etc", host.path("/tmp/nvidia-mps")).unwrap();
    });
    assert!(!mounts(&plan).iter().any(|(path, _)| path == "/tmp/nvidia-mps"));
}

#[test]
fn a_soname_is_no_path_and_no_other_library() {
    use testdata::elf::{Class, Machine, shared_object};
    let version = sound().driver_version;
    for soname in ["/etc/passwd", "../../../../etc/ld.so.preload", "libc.so.6", "libnvidia-cfg.so.1/../x"] {
        let (plan, _) = broken(|host| {
            let path = host.path(&format!("/usr/lib/x86_64-linux-gnu/libnvidia-cfg.so.{version}"));
            std::fs::write(path, shared_object(Class::Elf64, Machine::X86_64, Some(soname), None)).unwrap();
        });
        assert!(!mounts(&plan).iter().any(|(path, _)| path.contains(soname)), "{soname}");
    }
}

#[test]
fn a_program_cannot_name_a_directory_as_its_loaders() {
    use testdata::elf::{Class, Machine, shared_object};
    for loader in ["/nix/store/../../root/.ssh/ld.so", "/nix/store/x/lib/ld.so", "/root/ld.so", "nix/store/ld.so"] {
        let (plan, _) = broken(|host| {
            let program = shared_object(Class::Elf64, Machine::X86_64, None, Some(loader));
            std::fs::write(host.path("/usr/bin/nvidia-smi"), program).unwrap();
            std::fs::create_dir_all(host.path("/root/.ssh")).unwrap();
            std::fs::write(host.path("/root/.ssh/ld.so"), "no loader").unwrap();
        });
        let leaked = mounts(&plan).into_iter().find(|(_, source)| source.contains("root") || source.contains("/nix"));
        assert_eq!(leaked, None, "{loader}");
    }
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

/// The version, and a library in a directory that is named by nothing but `LD_LIBRARY_PATH`.
fn with_library(host: &LaidOut, dir: &str, soname: &str) -> String {
    use testdata::elf::{Class, Machine, shared_object};
    let name = format!("libnvidia-ev4.so.{}", sound().driver_version);
    std::fs::create_dir_all(host.path(dir)).unwrap();
    std::fs::write(host.path(dir).join(&name), shared_object(Class::Elf64, Machine::X86_64, Some(soname), None))
        .unwrap();
    name
}

fn give(path: camino::Utf8PathBuf, user: u32) -> bool {
    // Only root may give files away, and only root is told what others may change.
    rustix::process::geteuid().is_root() && std::os::unix::fs::lchown(path, Some(user), None).is_ok()
}

fn with_library_path(host: &LaidOut, dir: &str) -> (Vec<String>, String) {
    let hints = Hints { library_path: vec![dir.into()], ..Hints::default() };
    let (plan, problems) = host.plan_with(&hints, &PlanOptions::default());
    (libraries(&plan.unwrap()).into_iter().map(str::to_owned).collect(), lines(&problems))
}

#[test]
fn root_takes_no_library_from_a_directory_of_a_users() {
    let host = LaidOut::named("ubuntu-deb");
    let name = with_library(&host, "/home/user/lib", "libnvidia-ev4.so.1");
    let (taken, problems) = with_library_path(&host, "/home/user/lib");
    assert!(taken.contains(&name) && !problems.contains("left out"), "{problems}");
    if !give(host.path("/home/user"), 1000) {
        return;
    }
    let (taken, problems) = with_library_path(&host, "/home/user/lib");
    assert!(!taken.contains(&name), "{taken:?}");
    let line = problems.lines().find(|line| line.contains("left out")).unwrap();
    assert!(line.contains("/home/user/lib (user 1000 can change /home/user)"), "{line}");
    assert!(line.contains("--insecure-driver-files"), "{line}");
    // The same by the program, and the way out.
    let mut generate = host.command(&["generate", "--library-search-path", "/usr/lib/x86_64-linux-gnu,/home/user/lib"]);
    let ran = Ran::new(&mut generate).exits(0).says("user 1000 can change /home/user");
    assert!(!ran.stdout.contains(&name), "{}", ran.stdout);
    let ran = Ran::new(generate.arg("--insecure-driver-files")).exits(0);
    assert!(ran.stdout.contains(&name) && !ran.stderr.contains("left out"), "{}", ran.stderr);
}

#[test]
fn root_leaves_out_each_part_of_the_driver_that_others_may_change() {
    let host = LaidOut::named("ubuntu-deb");
    let version = sound().driver_version;
    let parts = [
        format!("/usr/lib/x86_64-linux-gnu/libnvidia-cfg.so.{version}"),
        "/usr/bin/nvidia-smi".to_owned(),
        "/usr/share/vulkan/icd.d/nvidia_icd.json".to_owned(),
        format!("/lib/firmware/nvidia/{version}/gsp_ga10x.bin"),
    ];
    let sources = |plan: &EditPlan| mounts(plan).into_iter().map(|(_, source)| source).collect::<Vec<_>>();
    let before = sources(&host.plan().0.unwrap());
    let parts: Vec<String> = parts
        .iter()
        .map(|part| host.host(cdi_gen::Tree::new).system.resolve(part.as_str().into()).unwrap().into())
        .collect();
    for part in &parts {
        assert!(before.contains(part), "{part}: {before:?}");
    }
    for part in &parts {
        if !give(host.path(part), 1000) {
            return;
        }
    }
    let (plan, problems) = host.plan();
    let (after, problems) = (sources(&plan.unwrap()), lines(&problems));
    for part in &parts {
        assert!(!after.contains(part) && problems.contains(part.as_str()), "{part}: {problems}");
    }
    assert_eq!(after.len() + before.iter().filter(|source| parts.contains(source)).count(), before.len());
}

/// Debian gives `/usr/local` to a group that nobody is in.
#[test]
fn a_directory_of_a_group_without_members_is_roots() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let host = LaidOut::named("ubuntu-deb");
    let name = with_library(&host, "/usr/local/lib", "libnvidia-ev4.so.1");
    std::fs::write(host.path("/etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
        .unwrap();
    for dir in ["/usr/local", "/usr/local/lib"] {
        if !rustix::process::geteuid().is_root() || chown(host.path(dir), None, Some(50)).is_err() {
            return;
        }
        std::fs::set_permissions(host.path(dir), std::fs::Permissions::from_mode(0o2775)).unwrap();
    }
    let with_group = |group: &str| {
        std::fs::write(host.path("/etc/group"), group).unwrap();
        let (plan, problems) = host.plan();
        (libraries(&plan.unwrap()).contains(&name.as_str()), lines(&problems))
    };
    let (is_taken, problems) = with_group("root:x:0:\nstaff:x:50:\n");
    assert!(is_taken, "{problems}");
    let (is_taken, problems) = with_group("root:x:0:\nstaff:x:50:user\n");
    assert!(!is_taken && problems.contains("/usr/local/lib (group 50 can change it)"), "{problems}");
}

#[test]
fn a_library_that_poses_as_another_is_left_out() {
    for soname in ["libm.so.6", "libcuda.so.1", "/etc/passwd"] {
        let host = LaidOut::named("ubuntu-deb");
        let name = with_library(&host, "/usr/lib/x86_64-linux-gnu", soname);
        let (plan, problems) = host.plan();
        assert!(!libraries(&plan.unwrap()).contains(&name.as_str()), "{soname}");
        assert!(lines(&problems).contains(&format!("{name} is left out: it calls itself {soname:?}")), "{soname}");
    }
    // By its file's name, too, it is not the driver's.
    let host = LaidOut::named("ubuntu-deb");
    let version = sound().driver_version;
    let posing = with_library(&host, "/usr/lib/x86_64-linux-gnu", "libm.so.6");
    let name = format!("libm.so.{version}");
    std::fs::rename(
        host.path("/usr/lib/x86_64-linux-gnu").join(posing),
        host.path("/usr/lib/x86_64-linux-gnu").join(&name),
    )
    .unwrap();
    let (plan, problems) = host.plan();
    let plan = plan.unwrap();
    assert!(!mounts(&plan).iter().any(|(path, _)| path.contains("/libm.so")), "{:?}", mounts(&plan));
    assert!(lines(&problems).contains(&name), "{}", lines(&problems));
}

const SOCKET: &str = "/run/nvidia-persistenced/socket";

fn has_socket(plan: &EditPlan) -> bool {
    mounts(plan).iter().any(|(path, _)| path == SOCKET)
}

#[test]
fn a_link_in_a_sockets_place_is_not_followed() {
    let (plan, problems) = broken(|host| {
        let _listening = std::os::unix::net::UnixListener::bind(host.path("/run/docker.sock")).unwrap();
        std::fs::remove_file(host.path(SOCKET)).unwrap();
        std::os::unix::fs::symlink("/run/docker.sock", host.path(SOCKET)).unwrap();
        give(host.path("/run/nvidia-persistenced"), 1000);
    });
    assert!(!mounts(&plan).iter().any(|(path, source)| path == SOCKET || source.contains("docker")));
    assert!(problems.contains(&format!("left out, since root must be able to rely on it: {SOCKET} (")), "{problems}");
}

#[test]
fn a_sockets_directory_is_roots_or_its_daemons() {
    let host = LaidOut::named("ubuntu-deb");
    assert!(has_socket(&host.plan().0.unwrap()));
    if !give(host.path("/run/nvidia-persistenced"), 110) {
        return;
    }
    let (plan, problems) = host.plan();
    assert!(!has_socket(&plan.unwrap()));
    assert!(lines(&problems).contains("(user 110 can change /run/nvidia-persistenced)"), "{}", lines(&problems));
    // The daemon's own, as packages set it up.
    give(host.path(SOCKET), 110);
    std::fs::write(host.path("/etc/passwd"), "nvidia-persistenced:x:110:117::/nonexistent:/usr/sbin/nologin\n")
        .unwrap();
    let (plan, problems) = host.plan();
    assert!(has_socket(&plan.unwrap()), "{}", lines(&problems));
    // Whatever its name, a user's directory is not.
    std::fs::write(host.path("/etc/passwd"), "alice:x:110:110::/home/alice:/bin/sh\n").unwrap();
    assert!(!has_socket(&host.plan().0.unwrap()));
}

#[test]
fn a_users_mps_directory_is_not_the_systems() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: camino::Utf8PathBuf, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let host = LaidOut::named("ubuntu-deb");
    std::fs::create_dir_all(host.path("/tmp/nvidia-mps")).unwrap();
    mode(host.path("/tmp"), 0o1777);
    let mps = || {
        let (plan, problems) = host.plan();
        (mounts(&plan.unwrap()).iter().any(|(path, _)| path == "/tmp/nvidia-mps"), lines(&problems))
    };
    assert!(mps().0);
    if !give(host.path("/tmp/nvidia-mps"), 1000) {
        return;
    }
    let (is_there, problems) = mps();
    assert!(!is_there && problems.contains("/tmp/nvidia-mps (user 1000 can change it)"), "{problems}");
    give(host.path("/tmp/nvidia-mps"), 0);
    mode(host.path("/tmp/nvidia-mps"), 0o777);
    let (is_there, problems) = mps();
    assert!(!is_there && problems.contains("/tmp/nvidia-mps (everybody can change it)"), "{problems}");
}

/// What `check` says of the spec of a host to which something happened since.
fn checked_after(happened: impl FnOnce(&LaidOut)) -> Ran {
    let host = LaidOut::named("ubuntu-deb");
    std::fs::create_dir_all(host.path("/tmp/nvidia-mps")).unwrap();
    let spec = host.scratch("nvidia.yaml");
    host.run(&["generate", "--hooks", "none", "--output", spec.as_str()]).exits(0);
    host.run(&["check", "--output", spec.as_str()]).exits(0).says("fresh");
    happened(&host);
    host.run(&["check", "--output", spec.as_str()])
}

#[test]
fn a_spec_is_stale_when_its_socket_or_directory_is_another_thing() {
    let link = |path: &'static str, target: &'static str| {
        move |host: &LaidOut| {
            let path = host.path(path);
            std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).unwrap();
            std::os::unix::fs::symlink(target, path).unwrap();
        }
    };
    let words = "1 of ";
    checked_after(link(SOCKET, "/etc")).exits(5).says(words).says(SOCKET);
    checked_after(link("/tmp/nvidia-mps", "/etc")).exits(5).says(words).says("/tmp/nvidia-mps");
    let file = |host: &LaidOut| {
        std::fs::remove_file(host.path(SOCKET)).unwrap();
        std::fs::write(host.path(SOCKET), "").unwrap();
    };
    checked_after(file).exits(5).says(&format!("{SOCKET}: it is no socket"));
}

#[test]
fn a_spec_is_stale_when_others_can_change_what_it_names() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let version = sound().driver_version;
    let library = format!("/usr/lib/x86_64-linux-gnu/libcuda.so.{version}");
    for path in [library.as_str(), "/usr/bin/nvidia-smi", "/tmp/nvidia-mps", "/run/nvidia-persistenced"] {
        checked_after(|host| _ = give(host.path(path), 1000)).exits(5).says("user 1000 can change");
    }
    // A spec that a user's files are in is gone before another is made of nothing.
    let host = LaidOut::named("ubuntu-deb");
    let spec = host.scratch("nvidia.yaml");
    host.run(&["generate", "--hooks", "none", "--output", spec.as_str()]).exits(0);
    give(host.path("/usr/lib/x86_64-linux-gnu"), 1000);
    host.run(&["refresh", "--hooks", "none", "--output", spec.as_str()])
        .exits(4)
        .says("no library of version")
        .says("removed");
    assert!(!spec.exists());
}

/// There, each user of the host's shows under one number, be it the owner of the tree or another.
#[test]
fn the_root_of_a_user_namespace_takes_no_library_of_another_user() {
    let host = LaidOut::named("ubuntu-deb");
    let name = with_library(&host, "/home/user/lib", "libnvidia-ev4.so.1");
    let generate = || {
        let dirs = "/usr/lib/x86_64-linux-gnu,/home/user/lib";
        let program = host.command(&["generate", "--library-search-path", dirs]);
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["--user", "--map-root-user"]).arg(program.get_program()).args(program.get_args());
        Ran::new(&mut unshare)
    };
    let ran = generate();
    if ran.stderr.starts_with("unshare:") {
        return;
    }
    assert!(ran.stdout.contains(&name), "{}", ran.stderr);
    if !give(host.path("/home/user"), 1000) || !give(host.root(), 1001) {
        return;
    }
    let ran = generate().exits(0).says("user 65534 can change /home/user");
    assert!(!ran.stdout.contains(&name), "{}", ran.stdout);
}
