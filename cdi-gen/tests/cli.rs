//! The program as people and scripts meet it: exit codes, files, flags, environment, bad input.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests set up files and stop at the first surprise"
)]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::process::Stdio;

use common::{LaidOut, Ran, cdi_gen};

const GENERATE: [&str; 3] = ["generate", "--hooks", "none"];

fn sample() -> LaidOut {
    LaidOut::named("ubuntu-deb")
}

#[test]
fn stdout_is_the_spec_and_stderr_the_report() {
    let ran = sample().run(&GENERATE).exits(0);
    assert!(
        ran.stdout.starts_with("# Written by cdi-gen; `cdi-gen refresh` writes it anew.\n---\ncdiVersion: "),
        "{}",
        ran.stdout
    );
    assert!(cdi_specs::parse_yaml(&ran.stdout).is_ok());
}

#[test]
fn the_callers_environment_does_not_matter() {
    for host in testdata::hosts() {
        let laid_out = LaidOut::named(&host.name);
        let plain = laid_out.run(&GENERATE);
        let mut odd = laid_out.command(&GENERATE);
        let dirs =
            [("XDG_DATA_DIRS", "/nowhere"), ("XDG_CONFIG_HOME", "/nowhere"), ("LD_LIBRARY_PATH", "/usr/lib64-nvidia")];
        odd.env("PATH", "/opt/bin:/usr/local/nvidia/bin:.").envs(dirs).current_dir("/proc/self/fd");
        let odd = Ran::new(&mut odd);
        assert_eq!((plain.code, plain.stdout), (odd.code, odd.stdout), "{}", host.name);
    }
}

#[test]
fn a_host_without_driver_is_told_by_its_own_code() {
    for (host, word) in [("no-gpu", "no NVIDIA driver here"), ("nouveau", "nouveau"), ("vfio-only", "vfio-pci")] {
        let ran = LaidOut::named(host).run(&GENERATE).exits(3).says(word);
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn an_incomplete_driver_keeps_the_spec_written_before() {
    for (host, word) in [("missing-uvm", "/dev/nvidia-uvm"), ("version-mismatch", "reboot")] {
        let laid_out = LaidOut::named(host);
        let path = laid_out.scratch("nvidia.yaml");
        std::fs::write(&path, "a good one").unwrap();
        laid_out.run(&["generate", "--output", path.as_str()]).exits(4).says(word).says("is kept as it was");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a good one");
    }
}

#[test]
fn a_file_is_written_once_with_its_final_mode() {
    let host = sample();
    let path = host.scratch("made/nvidia.yaml");
    let arguments = ["generate", "--hooks", "none", "--output", path.as_str()];
    host.run(&arguments).exits(0).says("written");
    let first = std::fs::metadata(&path).unwrap();
    assert_eq!(first.permissions().mode() & 0o7777, 0o644);
    host.run(&arguments).exits(0).says("unchanged");
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), first.ino());
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn the_extension_says_the_format() {
    let host = sample();
    let json = host.scratch("nvidia.json");
    host.run(&["generate", "--hooks", "none", "--output", json.as_str(), "--format", "yaml"])
        .exits(0)
        .says("says the format");
    assert!(std::fs::read_to_string(&json).unwrap().starts_with('{'));
    let bare = host.scratch("nvidia");
    host.run(&["generate", "--hooks", "none", "--output", bare.as_str()]).exits(0).says("nvidia.yaml");
    assert!(host.scratch("nvidia.yaml").is_file() && !bare.exists());
}

#[test]
fn output_paths_that_cannot_be_written() {
    let host = sample();
    let directory = host.scratch("directory.yaml");
    std::fs::create_dir(&directory).unwrap();
    let link = host.scratch("link.yaml");
    symlink("target", &link).unwrap();
    let below_a_file = host.nodes().join("nvidia.yaml");
    let cases = [(&directory, "is a directory"), (&link, "is a symbolic link"), (&below_a_file, "Not a directory")];
    for (path, word) in cases {
        host.run(&["generate", "--hooks", "none", "--output", path.as_str()]).exits(1).says(word).says(path.as_str());
    }
    let read_only = "/proc/nvidia.yaml";
    host.run(&["generate", "--hooks", "none", "--output", read_only]).exits(1).says(read_only);
}

/// Runs `generate` onto a file system of its own, which holds an old spec; gives what is on it then. Nothing where the
/// user may not mount one.
fn on_a_disk(prepare: &str) -> Option<Ran> {
    let host = sample();
    let disk = host.scratch("disk");
    std::fs::create_dir(&disk).unwrap();
    let path = disk.join("nvidia.yaml");
    let script = format!(
        "mount -t tmpfs -o size=16k tmpfs {disk} || exit 77; cd {disk} && echo old > nvidia.yaml && {prepare}; cd /; \
         \"$@\"; code=$?; cat {path}; ls -A {disk} | tr '\\n' ' '; exit $code"
    );
    let program = host.command(&["generate", "--hooks", "none", "--output", path.as_str()]);
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--mount", "--map-root-user", "sh", "-c", &script, "sh"]).arg(program.get_program());
    let ran = Ran::new(unshare.args(program.get_args()));
    let may_mount = ran.code != Some(77) && !ran.stderr.starts_with("unshare:");
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    assert!(may_mount || !is_root, "{ran:?}");
    may_mount.then_some(ran)
}

#[test]
fn a_full_and_a_read_only_disk_keep_the_old_file_and_no_other() {
    let Some(full) = on_a_disk("head -c 8k /dev/zero > filler") else {
        return eprintln!("skipped: no mount namespace for this user");
    };
    assert_eq!(full.exits(1).says("No space left on device").stdout, "old\nfiller nvidia.yaml ");
    let read_only = on_a_disk("mount -o remount,ro .").unwrap();
    assert_eq!(read_only.exits(1).says("Read-only file system").stdout, "old\nnvidia.yaml ");
}

#[test]
fn parallel_runs_leave_one_whole_spec() {
    let host = sample();
    let path = host.scratch("nvidia.yaml");
    let start =
        || host.command(&["generate", "--hooks", "none", "--output", path.as_str()]).stderr(Stdio::null()).spawn();
    let mut children: Vec<_> = (0..16).map(|_| start().unwrap()).collect();
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), host.run(&GENERATE).stdout);
}

#[test]
fn wrong_usage_is_told_before_anything_is_read() {
    let cases: [(&[&str], &str); 9] = [
        (&["generate", "--no-such-flag"], "--no-such-flag"),
        (&["generate", "--mode", "csv"], "csv"),
        (&["generate", "--class", "g/pu"], "g/pu"),
        (&["generate", "--vendor=-x.com"], "-x.com"),
        (&["generate", "--device-name-strategy", "serial"], "index, pci, type-index, uuid"),
        (&["generate", "--disable-hook", "no-such-hook"], "update-ldcache"),
        (&["generate", "--library-dir", "lib"], "not an absolute path"),
        (&["generate", "--driver-capabilities", "gpu"], "compute"),
        (&["show", "nothing"], "inventory"),
    ];
    for (arguments, word) in cases {
        Ran::new(cdi_gen().args(arguments)).exits(2).says(word);
    }
}

#[test]
fn a_one_letter_vendor_and_class_are_fine() {
    let ran = sample().run(&["generate", "--hooks", "none", "--vendor", "a", "--class", "b"]).exits(0);
    assert!(ran.stdout.contains("\nkind: a/b\n"), "{}", ran.stdout);
}

#[test]
fn the_toolkits_environment_variables_count() {
    let host = sample();
    let mut command = host.command(&["generate", "--hooks", "none"]);
    command
        .env("NVIDIA_CTK_CDI_GENERATE_VENDOR", "acme.com")
        .env("NVIDIA_CTK_CDI_GENERATE_DEVICE_NAME_STRATEGIES", "type-index,pci");
    command
        .env("NVIDIA_CTK_CDI_OUTPUT_FILE_PATH", host.scratch("env.json"))
        .env("NVIDIA_CTK_CDI_GENERATE_NO_ALL_DEVICE", "true");
    Ran::new(&mut command).exits(0);
    let spec = cdi_specs::parse_json(std::fs::read(host.scratch("env.json")).unwrap()).unwrap();
    let names: Vec<_> = spec.devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!((spec.kind.as_str(), names.as_slice()), ("acme.com/gpu", ["0000:01:00.0", "gpu0"].as_slice()));
}

/// The engine ends a hook that hangs; one that the kernel cannot seal does nothing where that is asked for.
#[test]
fn a_hook_has_a_time_limit_and_may_require_its_seal() {
    let host = sample();
    let generate = ["generate", "--hooks", "always", "--hook-path", "/usr/bin/cdi-hook", "--format", "json"];
    let hook = |arguments: &[&str], variable: &str| {
        let mut command = host.command(arguments);
        let ran = Ran::new(command.env("CDI_GEN_REQUIRE_SEAL", variable)).exits(0);
        let spec = cdi_specs::parse_json(ran.stdout).unwrap();
        let hook = spec.container_edits.hooks.first().unwrap().clone();
        (hook.timeout, cdi_specs::from_args(&hook.args).unwrap().require_seal)
    };
    let flagged = [&generate[..], &["--require-seal"]].concat();
    for (arguments, variable, required) in
        [(&generate[..], "0", false), (&generate, "1", true), (&flagged, "0", true), (&generate, "", false)]
    {
        assert_eq!(hook(arguments, variable), (Some(20), required), "{arguments:?} {variable}");
    }
}

#[test]
fn empty_environment_variables_say_nothing() {
    let host = sample();
    let mut command = host.command(&GENERATE);
    let suffixes = [
        "DEVICE_IDS",
        "LIBRARY_SEARCH_PATHS",
        "CONFIG_SEARCH_PATHS",
        "MODE",
        "OUTPUT_FORMAT",
        "VENDOR",
        "CLASS",
        "DISABLED_HOOKS",
        "DEVICE_NAME_STRATEGIES",
        "NO_ALL_DEVICE",
    ];
    command.envs(suffixes.map(|suffix| (format!("NVIDIA_CTK_CDI_GENERATE_{suffix}"), "")));
    command.envs(
        [
            "NVIDIA_CTK_DRIVER_ROOT",
            "NVIDIA_CTK_DEV_ROOT",
            "NVIDIA_CTK_CDI_OUTPUT_FILE_PATH",
            "NVIDIA_CTK_CDI_HOOK_PATH",
        ]
        .map(|name| (name, "")),
    );
    assert_eq!(Ran::new(&mut command).exits(0).stdout, host.run(&GENERATE).stdout);
}

#[test]
fn search_paths_may_name_the_driver_root_too() {
    let host = LaidOut::named("driver-container");
    let plain = host.run(&GENERATE).exits(0).stdout;
    let dir = "/run/nvidia/driver/usr/lib/x86_64-linux-gnu";
    let ran = host.run(&["generate", "--hooks", "none", "--library-search-path", dir]).exits(0);
    assert!(
        ran.stdout.contains(&format!("hostPath: {dir}/libcuda.so."))
            && plain.contains(&format!("hostPath: {dir}/libcuda.so."))
    );
}

#[test]
fn devices_by_id() {
    let host = LaidOut::named("hgx-one-dead");
    let names = |ids: &str| {
        let ran =
            host.run(&["generate", "--hooks", "none", "--device-id", ids, "--device-name-strategy", "index"]).exits(0);
        let spec = cdi_specs::parse_yaml(ran.stdout).unwrap();
        spec.devices.into_iter().map(|device| device.name).collect::<Vec<_>>()
    };
    assert_eq!(names("0,2"), ["0", "2", "all"]);
    assert_eq!(names("all"), ["0", "1", "2", "3", "4", "6", "7", "all"]);
    assert_eq!(names("none"), ["none"]);
    for absent in ["9", "5", "GPU-00000000-0000-0000-0000-00000000dead", "GPU-????????-????-????-????-????????????"] {
        host.run(&["generate", "--hooks", "none", "--device-id", absent]).exits(4).says(absent);
    }
}

#[test]
fn driver_roots_in_every_spelling() {
    let mut host = LaidOut::named("driver-container");
    let plain = host.run(&GENERATE).exits(0).stdout;
    symlink("run/nvidia/driver", host.path("/linked")).unwrap();
    for spelling in ["/run/nvidia/driver/", "/linked", "/linked/", "//run/nvidia/../nvidia/driver"] {
        host.driver_root = spelling.into();
        assert_eq!(host.run(&GENERATE).exits(0).stdout, plain, "{spelling}");
    }
    host.driver_root = "nvidia/driver".into();
    assert_eq!(Ran::new(host.command(&GENERATE).current_dir("/run")).exits(0).stdout, plain, "relative");
    host.driver_root = "/run/nvidia/missing".into();
    host.run(&GENERATE).exits(1).says("driver root /run/nvidia/missing");
    host.driver_root = "/proc/driver/nvidia/version".into();
    host.run(&GENERATE).exits(1).says("driver root");
}

/// By a process of its own: a program that another thread's child still holds open for writing cannot be run.
fn copy_program(from: &str, to: impl AsRef<std::ffi::OsStr>) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn hooks_are_used_where_the_hook_is() {
    let host = sample();
    // Where no hook stands beside it, as one does in the workspace's target directory.
    let alone = host.scratch("cdi-gen");
    copy_program(env!("CARGO_BIN_EXE_cdi-gen"), &alone);
    let run_alone = |words: &[&str]| {
        let command = host.command(words);
        let mut alone = Command::new(&alone);
        Ran::new(alone.args(command.get_args()).env_clear().env("PATH", "/nowhere"))
    };
    run_alone(&["generate"]).exits(0).says("no hook binary is installed");
    run_alone(&["generate", "--hooks", "always"]).exits(2).says("--hook-path");
    let hook = host.scratch("cdi-hook");
    std::fs::write(&hook, "").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(run_alone(&["generate"]).exits(0).stdout.contains(&format!("path: {hook}\n")), "beside itself");
    std::fs::create_dir(host.scratch("elsewhere")).unwrap();
    let moved = host.scratch("elsewhere/cdi-hook");
    std::fs::rename(&hook, &moved).unwrap();
    let mut in_path = Command::new(&alone);
    in_path.args(host.command(&["generate"]).get_args()).env_clear().env("PATH", host.scratch("elsewhere"));
    assert!(Ran::new(&mut in_path).exits(0).stdout.contains(&format!("path: {moved}\n")), "in PATH");
    std::fs::rename(&moved, &hook).unwrap();
    let ran = host.run(&["generate", "--hook-path", "/nowhere/cdi-hook"]).exits(0).says("is not there");
    assert!(ran.stdout.contains("path: /nowhere/cdi-hook\n"));
    let ran = host.run(&[
        "generate",
        "--hook-path",
        hook.as_str(),
        "--disable-hook",
        "all",
        "--enable-hook",
        "update-ldcache",
    ]);
    let spec = cdi_specs::parse_yaml(ran.exits(0).stdout).unwrap();
    let args = &spec.container_edits.hooks[0].args;
    let links = args.iter().any(|arg| arg.starts_with("--symlink"));
    assert!(args.contains(&"--library-dir".into()) && !links, "{args:?}");
    let ran = host.run(&["generate", "--hook-path", hook.as_str(), "--disable-hook", "all"]).exits(0);
    assert!(!ran.stdout.contains("hooks:"));
}

/// The path of a hook stands in a spec that root's engines run.
#[test]
fn a_hook_that_others_may_change_is_passed_over_with_a_line_that_names_it() {
    let host = sample();
    let alone = host.scratch("cdi-gen");
    copy_program(env!("CARGO_BIN_EXE_cdi-gen"), &alone);
    let dirs = ["theirs", "wide", "ours"].map(|name| host.scratch(name));
    for dir in &dirs {
        std::fs::create_dir(dir).unwrap();
        std::fs::copy("/bin/true", dir.join("cdi-hook")).unwrap();
    }
    let [theirs, wide, ours] = &dirs;
    std::fs::set_permissions(wide, std::fs::Permissions::from_mode(0o777)).unwrap();
    let run = |path: &str, more: &[&str]| {
        let mut command = Command::new(&alone);
        command.args(host.command(&["generate"]).get_args()).args(more).env_clear().env("PATH", path).current_dir(ours);
        Ran::new(&mut command).exits(0)
    };
    let ran = run(&format!(":.:{ours}"), &[]).says("warning  ./cdi-hook is passed over: its directory stands in PATH");
    assert!(ran.stdout.contains(&format!("path: {ours}/cdi-hook\n")));
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root gives directories away");
    }
    std::os::unix::fs::chown(theirs, Some(1000), None).unwrap();
    let ran = run(&format!("{theirs}:{wide}:{ours}"), &[])
        .says(&format!("warning  {theirs}/cdi-hook is passed over: user 1000 can change {theirs}"))
        .says(&format!("warning  {wide}/cdi-hook is passed over: everybody can change {wide}"));
    assert!(ran.stdout.contains(&format!("path: {ours}/cdi-hook\n")), "{}", ran.stderr);
    run(theirs.as_str(), &[]).says("theirs/cdi-hook is passed over").says("no hook binary is installed");
    let named = theirs.join("cdi-hook");
    let ran = run("/nowhere", &["--hook-path", named.as_str()]);
    ran.says(&format!("the hook {named} is run by root's engines, and user 1000 can change"));
}

#[test]
fn the_containers_library_directory_can_be_chosen() {
    let hook = ["--hook-path", "/usr/bin/cdi-hook"];
    for hooks in [["--hooks", "none"], hook] {
        let host = LaidOut::named("ubuntu-run-32bit");
        let ran = host.run(&[&["generate", "--library-dir", "/usr/lib64"], hooks.as_slice()].concat()).exits(0);
        let mounts = cdi_specs::parse_yaml(ran.stdout).unwrap().container_edits.mounts;
        let sources = |dir: &str| {
            let libcuda = mounts.iter().filter(|mount| mount.host_path.contains("/libcuda.so"));
            libcuda
                .filter(|mount| mount.container_path.starts_with(dir))
                .map(|mount| mount.host_path.clone())
                .collect::<Vec<_>>()
        };
        assert!(sources("/usr/lib64/").iter().all(|path| path.starts_with("/usr/lib/x86_64-linux-gnu/")), "{mounts:?}");
        assert!(!sources("/usr/lib64/").is_empty() && sources("/usr/lib/x86_64-linux-gnu/").is_empty(), "{mounts:?}");
        assert!(!sources("/usr/lib/i386-linux-gnu/").is_empty(), "32-bit libraries stay in their own");
    }
}

#[test]
fn groups_of_restricted_nodes_are_added_on_request() {
    let host = LaidOut::named("opensuse");
    let version = |arguments: &[&str]| {
        let spec = cdi_specs::parse_yaml(host.run(arguments).exits(0).says("--additional-gids").stdout).unwrap();
        (spec.cdi_version, spec.container_edits.additional_gids)
    };
    assert_eq!(version(&GENERATE), ("0.5.0".into(), vec![]));
    assert_eq!(version(&["generate", "--hooks", "none", "--additional-gids"]), ("0.7.0".into(), vec![483]));
}

#[test]
fn capabilities_choose_the_files() {
    let ran = sample().run(&["generate", "--hooks", "none", "--driver-capabilities", "compute,utility"]).exits(0);
    assert!(ran.stdout.contains("libcuda.so.1") && ran.stdout.contains("nvidia-smi"));
    assert!(!ran.stdout.contains("libGLX_nvidia") && !ran.stdout.contains("vulkan"));
}

#[test]
fn machines_get_one_json_document() {
    let ran = LaidOut::named("hgx-one-dead").run(&["generate", "--hooks", "none", "--json"]).exits(0);
    let report: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(report["outcome"], "printed");
    assert!(report["problems"].as_array().unwrap().iter().any(|problem| problem["code"] == "gpu-dead"));
    let ran = LaidOut::named("no-gpu").run(&["generate", "--json"]).exits(3);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&ran.stderr).unwrap()["outcome"], "no-driver");
}

#[test]
fn quiet_says_errors_only() {
    assert_eq!(sample().run(&["generate", "--quiet"]).exits(0).stderr, "");
    LaidOut::named("missing-uvm").run(&["generate", "--quiet"]).exits(4).says("error");
}

#[test]
fn every_stage_can_be_shown() {
    let host = sample();
    for stage in ["facts", "inventory", "plan"] {
        let text = host.run(&["show", stage]).exits(0).stdout;
        assert!(text.contains("550.107.02") && text.contains("libcuda.so"), "{stage}: {text}");
        let json = host.run(&["show", stage, "--format", "json"]).exits(0).stdout;
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{stage}");
    }
}

#[test]
fn list_tells_devices_conflicts_and_broken_files() {
    let host = sample();
    let (one, two) = (host.scratch("one"), host.scratch("two"));
    host.run(&["generate", "--hooks", "none", "--output", one.join("a.yaml").as_str()]).exits(0);
    let list = || Ran::new(cdi_gen().args(["list", "--spec-dir", one.as_str(), "--spec-dir", two.as_str()]));
    let names = list().exits(0).stdout;
    assert!(names.contains("nvidia.com/gpu=0\n") && names.contains("nvidia.com/gpu=all\n"), "{names}");
    std::fs::create_dir(&two).unwrap();
    std::fs::copy(one.join("a.yaml"), two.join("b.yaml")).unwrap();
    assert_eq!(list().exits(0).stdout, names);
    std::fs::copy(one.join("a.yaml"), one.join("c.yaml")).unwrap();
    std::fs::remove_file(two.join("b.yaml")).unwrap();
    assert_eq!(list().exits(1).says("is defined by").stdout, "");
    std::fs::write(one.join("c.yaml"), "cdiVersion: 0.5.0\nkind: a.b/c\nnope: 1\n").unwrap();
    assert_eq!(list().exits(1).says("nope").stdout, names);
}

#[test]
fn transform_moves_a_root() {
    let host = LaidOut::named("driver-container");
    let spec = host.scratch("driver.yaml");
    host.run(&["generate", "--hooks", "none", "--output", spec.as_str()]).exits(0);
    let arguments =
        ["transform", "root", "--from", "/run/nvidia/driver", "--to", "/driver-root", "--input", spec.as_str()];
    let moved = Ran::new(cdi_gen().args(arguments)).exits(0).stdout;
    assert!(moved.contains("hostPath: /driver-root/usr/") && !moved.contains("hostPath: /run/nvidia/driver/usr/"));
}

#[test]
fn a_made_directory_is_for_everybody_whatever_the_umask() {
    let host = sample();
    let path = host.scratch("made/by/us/nvidia.yaml");
    let program = host.command(&["generate", "--hooks", "none", "--output", path.as_str()]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(program.get_program()).args(program.get_args());
    Ran::new(&mut shell).exits(0);
    for dir in ["made", "made/by", "made/by/us"] {
        assert_eq!(std::fs::metadata(host.scratch(dir)).unwrap().permissions().mode() & 0o7777, 0o755, "{dir}");
    }
}

#[test]
fn a_capture_has_no_uuid() {
    let text = sample().run(&["capture", "--title", "a test"]).exits(0).stdout;
    assert!(text.starts_with("# a test\n"));
    assert!(text.contains("GPU UUID: \\t GPU-00000000-0000-0000-0000-000000000001\\n"), "{text}");
}

/// A capture is sent to strangers.
#[test]
fn a_capture_shows_no_file_that_the_loaders_configuration_only_names() {
    let host = sample();
    std::fs::write(host.path("/etc/shadow"), "root:$6$canary:1:\n/opt/canary\n").unwrap();
    std::fs::set_permissions(host.path("/etc/shadow"), std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::create_dir_all(host.path("/root")).unwrap();
    std::fs::set_permissions(host.path("/root"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(host.path("/root/notes"), "/opt/canary\n").unwrap();
    std::fs::write(host.path("/etc/notes"), "canary\n# canary\n/opt/mine # canary\nhwcap 1 canary\n").unwrap();
    std::fs::write(host.path("/etc/keys.json"), "{\"token\": \"canary\"}").unwrap();
    let conf = host.path("/etc/ld.so.conf");
    std::fs::write(&conf, "include /etc/shadow /etc/notes /root/notes keys.json\n").unwrap();
    let version = host.path("/proc/driver/nvidia/version");
    let built =
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.107.02  Release Build  (canary@canary.com)\n";
    std::fs::write(&version, built).unwrap();
    let text = host.run(&["capture", "--keep-ids"]).exits(0).stdout;
    assert!(!text.contains("canary"), "{}", text.lines().filter(|line| line.contains("canary")).collect::<String>());
    assert!(text.contains("file /etc/ld.so.conf include /etc/shadow\\ninclude /etc/notes\\n"), "{text}");
    assert!(text.contains("file /etc/notes /opt/mine\\n\n") && text.contains("file /etc/shadow present\n"), "{text}");
    assert!(text.contains("Release Build  (builder@host)\\n"), "{text}");
}

#[test]
fn no_name_of_a_file_breaks_the_format_of_a_capture() {
    let host = sample();
    let odd = "a\u{c}b\u{b}\u{1b}\u{85}\u{7f} c\\.conf";
    std::fs::write(host.path("/etc/ld.so.conf.d").join(odd), "/opt/x\n").unwrap();
    std::fs::write(host.path("/etc/ld.so.conf"), "include ld.so.conf.d/*.conf\n").unwrap();
    let text = host.run(&["capture"]).exits(0).stdout;
    assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text}");
    let tree = testdata::HostTree::parse(&text).unwrap();
    let path = format!("/etc/ld.so.conf.d/{odd}");
    assert!(tree.entries().iter().any(|entry| entry.path() == path), "{text}");
    assert_eq!(testdata::HostTree::parse(&tree.to_string()).unwrap(), tree);
}

#[test]
fn a_bad_device_list_or_root_is_named() {
    let host = sample();
    std::fs::write(host.nodes(), "char /dev/nvidia0 195\n").unwrap();
    host.run(&GENERATE).exits(1).says("line 1").says("char /dev/nvidia0 195");
    std::fs::remove_file(host.nodes()).unwrap();
    symlink("/dev/zero", host.nodes()).unwrap();
    host.run(&GENERATE).exits(1).says("it is no regular file");
    Ran::new(cdi_gen().args(["generate", "--root", "/no/such/root"])).exits(1).says("/no/such/root");
}

/// A generation of readers each: what it is told, and what it loses.
#[test]
fn a_spec_for_each_generation_of_engines() {
    let home = LaidOut::named("debian13-alternatives");
    let told = |target: &str| {
        let ran = home.run(&["generate", "--hooks", "none", "--target", target]).exits(0);
        let spec = cdi_specs::parse_yaml(&ran.stdout).unwrap();
        assert_eq!(cdi_specs::validate(&spec), []);
        let lost = ran.stderr.lines().filter(|line| line.contains("for CDI")).count();
        let names: Vec<String> = spec.devices.iter().map(|device| device.name.clone()).collect();
        let gids = spec.devices.iter().map(|device| device.container_edits.additional_gids.len()).max().unwrap();
        let aliases = spec.devices.iter().flat_map(|device| &device.container_edits.device_nodes);
        let aliases = aliases.filter(|node| node.host_path.is_some()).count();
        let digits = names.iter().any(|name| name == "0");
        (spec.cdi_version, lost, digits, gids > 0, aliases > 0)
    };
    assert_eq!(told("crio=1.24"), ("0.3.0".to_owned(), 3, false, false, false));
    assert_eq!(told("podman=4.2"), ("0.3.0".to_owned(), 3, false, false, false));
    assert_eq!(told("podman=4.9"), ("0.5.0".to_owned(), 0, true, false, true));
    assert_eq!(told("podman=5.8"), ("0.7.0".to_owned(), 0, true, true, true));
    assert_eq!(told("docker=28.5,podman=4.4"), ("0.5.0".to_owned(), 0, true, false, true));
    let ran = home.run(&["generate", "--target", "podman=4.2", "--hooks", "none", "--additional-gids"]).exits(0);
    ran.says("for CDI 0.4.0: device 0 is called gpu0").says("for CDI 0.4.0: processes that are not root cannot");
    home.run(&["generate", "--target", "podman=3.4"]).exits(2).says("podman 3.4.0 reads no CDI specs");
    home.run(&["generate", "--target", "podman=4.4", "--class", "gpu.x"])
        .exits(2)
        .says("takes CDI 0.6.0, and cannot be said in 0.5.0");
}

#[test]
fn what_is_printed_for_others_to_read_is_for_whom_the_umask_says() {
    let host = sample();
    for (umask, mode) in [("077", 0o600), ("022", 0o644)] {
        let (capture, page) = (host.scratch(&format!("new{umask}/host.tree")), host.scratch(&format!("{umask}.html")));
        let commands = [&["capture", "--output", capture.as_str()][..], &["doctor", "--report", page.as_str()]];
        for command in commands {
            let program = host.command(command);
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]);
            Ran::new(shell.arg(program.get_program()).args(program.get_args()));
        }
        for path in [&capture, &page] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o7777, mode, "{path}");
        }
        let dir = std::fs::metadata(capture.parent().unwrap()).unwrap().permissions().mode() & 0o7777;
        assert_eq!(dir, mode | (mode & 0o444) >> 2, "directories likewise");
    }
}

#[test]
fn a_report_has_no_uuid_unless_it_is_asked_for() {
    let host = sample();
    let page = host.scratch("page.html");
    let uuid = "GPU-fa4e0100-0000-4000-8000-000001000101";
    let shows = |more: &[&str]| {
        host.run(&[&["doctor", "--report", page.as_str()], more].concat());
        let page = std::fs::read_to_string(&page).unwrap();
        (page.contains(uuid), page.contains("GPU-00000000-0000-0000-0000-000000000001"))
    };
    assert_eq!(shows(&[]), (false, true));
    assert_eq!(shows(&["--keep-ids"]), (true, false));
    Ran::new(cdi_gen().args(["doctor", "--keep-ids"])).exits(2);
}

#[test]
fn list_waits_for_no_fifo_and_reads_nothing_for_ever() {
    let host = sample();
    let dir = host.scratch("specs");
    host.run(&["generate", "--hooks", "none", "--output", dir.join("a.yaml").as_str()]).exits(0);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("b.yaml").as_std_path(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    std::fs::File::create(dir.join("c.json")).unwrap().set_len(3 << 30).unwrap();
    symlink("/dev/zero", dir.join("d.yaml")).unwrap();
    let list = || Ran::new(cdi_gen().args(["list", "--spec-dir", dir.as_str()]));
    let ran = list().exits(1).says("b.yaml: it is no regular file").says("c.json: it is longer than");
    let ran = ran.says("d.yaml: ");
    assert!(ran.stdout.contains("nvidia.com/gpu=0\n"), "{ran:?}");
}

/// Who else may write in a spec directory may not have root read what they cannot.
#[test]
fn list_leaves_out_what_others_put_into_a_spec_directory() {
    let host = sample();
    let (dir, secret) = (host.scratch("specs"), host.scratch("shadow"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(&secret, "root:canary:1:\n").unwrap();
    symlink(&secret, dir.join("a.yaml")).unwrap();
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root gives directories away");
    }
    std::os::unix::fs::chown(&dir, Some(1000), None).unwrap();
    let ran = Ran::new(cdi_gen().args(["list", "--spec-dir", dir.as_str()])).exits(1);
    let ran = ran.says("a.yaml: left out, since user 1000 can change");
    assert!(!ran.stderr.contains("canary"), "{}", ran.stderr);
}

#[test]
fn transform_reads_and_writes_specs_alone() {
    let host = sample();
    let input = host.scratch("input.json");
    let run =
        |path: &str| Ran::new(cdi_gen().args(["transform", "root", "--from", "/a", "--to", "/b", "--input", path]));
    for name in ["-x", "a/b", "a b", ""] {
        let edits = r#""containerEdits":{"env":["A=b"]}"#;
        let spec = format!(r#"{{"cdiVersion":"0.5.0","kind":"a.b/c","devices":[{{"name":"{name}",{edits}}}]}}"#);
        std::fs::write(&input, spec).unwrap();
        assert_eq!(run(input.as_str()).exits(1).says("the spec would be invalid").stdout, "", "{name}");
    }
    std::fs::File::create(&input).unwrap().set_len(3 << 30).unwrap();
    run(input.as_str()).exits(1).says("it is longer than");
    run("/dev/zero").exits(1).says("it is no regular file");
    let mut endless = cdi_gen();
    endless.args(["transform", "root", "--from", "/a", "--to", "/b"]).stdin(std::fs::File::open("/dev/zero").unwrap());
    Ran::new(&mut endless).exits(1).says("it is longer than");
}
