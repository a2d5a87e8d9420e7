//! `create-device-nodes` and `create-dev-char-symlinks` on laid-out hosts; as root with real nodes.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests set up files and stop at the first surprise"
)]

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

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
