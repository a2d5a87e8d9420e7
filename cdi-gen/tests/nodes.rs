//! `create-device-nodes` and `create-dev-char-symlinks` on laid-out hosts; as root with real nodes.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests set up files and stop at the first surprise"
)]

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{LaidOut, Ran, cdi_gen};

/// A host that has no nodes, with a MIG instance.
fn host() -> LaidOut {
    let host = LaidOut::named("ubuntu-deb");
    let file = host.path("/proc/driver/nvidia/capabilities/gpu0/mig/gi1/access");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, "DeviceFileMinor: 12\nDeviceFileMode: 256\nDeviceFileModify: 1\n").unwrap();
    host
}

/// Without a list of nodes: what is in the root counts.
fn run(host: &LaidOut, words: &[&str]) -> Ran {
    Ran::new(cdi_gen().args(words).args(["--root", host.root().as_str()]))
}

#[test]
fn a_dry_run_tells_the_nodes_of_the_driver() {
    let host = host();
    let ran = run(&host, &["create-device-nodes", "--dry-run"]).exits(0);
    let expected = "/dev/nvidia-caps/nvidia-cap1 c 236 1 0400\n/dev/nvidia-caps/nvidia-cap12 c 236 12 0400\n\
                    /dev/nvidia-caps/nvidia-cap2 c 236 2 0444\n/dev/nvidia-modeset c 195 254 0666\n\
                    /dev/nvidia-uvm c 511 0 0666\n/dev/nvidia-uvm-tools c 511 1 0666\n/dev/nvidia0 c 195 0 0666\n\
                    /dev/nvidiactl c 195 255 0666\n";
    assert_eq!(ran.stdout, expected);
    assert!(ran.stderr.contains("8 would be made"), "{}", ran.stderr);
    // What the fixture has in its place is a plain file.
    assert!(fs::metadata(host.path("/dev/nvidiactl")).unwrap().is_file());
    run(&LaidOut::named("no-gpu"), &["create-device-nodes"]).exits(3).says("no NVIDIA driver runs here");
}

#[test]
fn nodes_and_links_are_made_once_and_put_right() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: nobody lets us make nodes");
    }
    let host = host();
    run(&host, &["create-device-nodes"]).exits(0).says("8 made");
    let node = fs::symlink_metadata(host.path("/dev/nvidia-caps/nvidia-cap12")).unwrap();
    assert!(node.file_type().is_char_device() && node.mode() & 0o777 == 0o400);
    run(&host, &["create-device-nodes"]).exits(0).says("nothing is missing");
    // A node that leads elsewhere is the work of a driver that was loaded before.
    let uvm = host.path("/dev/nvidia-uvm");
    fs::remove_file(&uvm).unwrap();
    fs::write(&uvm, "").unwrap();
    assert!(run(&host, &["create-device-nodes"]).exits(0).stdout.starts_with("/dev/nvidia-uvm c "));

    run(&host, &["create-dev-char-symlinks"]).exits(0).says("8 made");
    let link = host.path("/dev/char/195:255");
    assert_eq!(fs::read_link(&link).unwrap().to_str(), Some("../nvidiactl"));
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("../null", &link).unwrap();
    run(&host, &["create-dev-char-symlinks", "--dry-run"]).exits(0).says("1 would be made");
    assert_eq!(run(&host, &["create-dev-char-symlinks"]).exits(0).stdout, "/dev/char/195:255 -> ../nvidiactl\n");
}

/// A host of which a directory belongs to uid 1000; `None` where we are no root.
fn given_away(dir: &str) -> Option<LaidOut> {
    let host = host();
    chown(host.path(dir), Some(1000), Some(1000)).ok().filter(|()| rustix::process::geteuid().is_root()).map(|()| host)
}

/// All device nodes below a directory: what they are called, and their numbers and mode.
fn nodes_below(dir: &camino::Utf8Path) -> Vec<(String, u64, u32)> {
    let mut found = Vec::new();
    for entry in dir.read_dir_utf8().unwrap().map(Result::unwrap) {
        let metadata = fs::symlink_metadata(entry.path()).unwrap();
        if metadata.is_dir() {
            found.extend(nodes_below(entry.path()));
        } else if metadata.file_type().is_char_device() {
            found.push((entry.file_name().to_owned(), metadata.rdev(), metadata.mode() & 0o7777));
        }
    }
    found
}

#[test]
fn a_dev_that_is_a_link_out_of_the_tree_puts_no_node_on_the_host() {
    let Some(host) = given_away("/etc") else { return println!("skipped: nobody lets us make nodes") };
    let outside = host.scratch("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir_all(host.path("/dev")).unwrap();
    symlink(&outside, host.path("/dev")).unwrap();
    for command in ["create-device-nodes", "create-dev-char-symlinks"] {
        run(&host, &[command]);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{command}");
    }
    // The link means a directory of the tree, as it does to a process whose root the tree is.
    assert_eq!(nodes_below(&host.path(outside.as_str())).len(), 8);
    // In a directory of others it means nothing.
    let Some(host) = given_away("/dev") else { return };
    symlink(&outside, host.path("/dev/char")).unwrap();
    run(&host, &["create-device-nodes"]).exits(0);
    run(&host, &["create-dev-char-symlinks"]).exits(1).says("/dev/char is a symbolic link, and user 1000 can change");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn what_others_say_of_devices_is_refused_with_a_line_that_names_them() {
    for theirs in ["/", "/proc", "/proc/devices", "/proc/driver/nvidia", "/proc/driver/nvidia/params"] {
        let Some(host) = given_away(theirs) else { return println!("skipped: nobody lets us make nodes") };
        fs::write(host.path("/proc/devices"), "Character devices:\n  1 nvidiactl\n195 nvidia\n").unwrap();
        for command in
            [&["create-device-nodes"][..], &["create-device-nodes", "--dry-run"], &["create-dev-char-symlinks"]]
        {
            let ran = run(&host, command).exits(1).says("cannot believe ").says("user 1000 can change");
            assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 1), "{theirs}: {ran:?}");
        }
        assert_eq!(nodes_below(&host.root()), [], "{theirs}");
    }
}

#[test]
fn a_number_that_is_no_nvidia_drivers_makes_no_node() {
    for (line, told) in [("1 nvidiactl", "1"), ("10 nvidia-uvm", "10"), ("254 rtc\n254 nvidia", "254")] {
        let host = host();
        fs::write(host.path("/proc/devices"), format!("Character devices:\n195 nvidia-frontend\n{line}\n")).unwrap();
        let ran = run(&host, &["create-device-nodes"]).exits(1);
        ran.says(&format!("the major number {told}, which cannot be a driver's of NVIDIA's"));
        assert_eq!(nodes_below(&host.root()), [], "{line}");
    }
}

#[test]
fn no_parameter_makes_a_node_with_bits_that_no_node_needs() {
    let Some(host) = given_away("/etc") else { return println!("skipped: nobody lets us make nodes") };
    fs::write(host.path("/proc/driver/nvidia/params"), "DeviceFileMode: 4095\nDeviceFileUID: 7\n").unwrap();
    run(&host, &["create-device-nodes"]).exits(0);
    let node = fs::symlink_metadata(host.path("/dev/nvidiactl")).unwrap();
    assert_eq!((node.mode() & 0o7777, node.uid()), (0o666, 7));
    let mut all = Command::new("sh");
    all.args(["-c", "umask 077; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_cdi-gen"), "create-device-nodes", "--root"]);
    fs::remove_file(host.path("/dev/nvidiactl")).unwrap();
    Ran::new(all.arg(host.root())).exits(0);
    assert_eq!(fs::symlink_metadata(host.path("/dev/nvidiactl")).unwrap().mode() & 0o7777, 0o666, "whatever the umask");
}

/// Eight nodes a run: ten thousand are made, while the owner of the directory puts links to root's file in their places.
#[test]
fn whoever_owns_the_directory_of_nodes_changes_no_file_of_roots_by_racing() {
    let Some(host) = given_away("/dev") else { return println!("skipped: nobody lets us make nodes") };
    let victim = host.scratch("victim");
    fs::write(&victim, "").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
    let (own, dir) = (host.path("/dev/own"), host.path("/dev"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for name in ["nvidiactl", "nvidia0", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"] {
                    let _ = symlink(&victim, &own);
                    let _ = fs::rename(&own, dir.join(name));
                }
            }
        });
        let program = || {
            let mut program = cdi_gen();
            program.args(["create-device-nodes", "--root", host.root().as_str()]).stdout(Stdio::null());
            program.stderr(Stdio::null()).spawn().unwrap()
        };
        for _ in 0..625 {
            // Two at once, which meet each other too.
            let both = [program(), program()];
            both.into_iter().for_each(|mut program| _ = program.wait().unwrap());
        }
        done.store(true, Ordering::Relaxed);
    });
    let found = fs::metadata(&victim).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid(), found.len()), (0o600, 0, 0));
}
