//! A spec on disk in the course of time: `check`, `diff`, `refresh`, `remove`, `generate --if-stale`.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests set up files and stop at the first surprise"
)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{LaidOut, Ran};
use rustix::fs::{CWD, FileType, Mode};
use tempfile::TempDir;

/// A host and its spec.
struct Home {
    host: LaidOut,
    dir: TempDir,
}

impl Home {
    fn new(host: &str) -> Self {
        Self { host: LaidOut::named(host), dir: TempDir::new().unwrap() }
    }

    /// With a spec that is true.
    fn fresh(host: &str) -> Self {
        let home = Self::new(host);
        home.run("refresh").exits(0).says("written (driver");
        home
    }

    fn spec(&self) -> PathBuf {
        self.dir.path().join("nvidia.yaml")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.spec()).unwrap()
    }

    fn run(&self, words: &str) -> Ran {
        let mut words: Vec<&str> = words.split(' ').collect();
        let spec = self.spec();
        words.extend(["--output", spec.to_str().unwrap()]);
        if matches!(words.first(), Some(&("generate" | "refresh" | "diff"))) {
            words.extend(["--hooks", "none"]);
        }
        self.host.run(&words)
    }

    fn replace(&self, path: &str, from: &str, to: &str) {
        let path = self.host.path(path);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    fn change_nodes(&self, change: impl Fn(String) -> String) {
        let nodes = fs::read_to_string(self.host.nodes()).unwrap();
        let changed = change(nodes.clone());
        assert_ne!(changed, nodes);
        fs::write(self.host.nodes(), changed).unwrap();
    }
}

const LIBCUDA: &str = "/usr/lib/x86_64-linux-gnu/libcuda.so.";

#[test]
fn check_says_what_changed_in_one_line() {
    let home = Home::new("ubuntu-deb");
    home.run("check").exits(6).says("nvidia.yaml: there is no spec (cdi-gen refresh)");
    home.run("refresh").exits(0);
    home.run("check").exits(0).says("nvidia.yaml: fresh");
    let version = home.host.plan().0.unwrap().driver_version.to_string();

    let libcuda = home.host.path(&format!("{LIBCUDA}{version}"));
    fs::rename(&libcuda, libcuda.with_extension("gone")).unwrap();
    let paths = home.run("check").exits(5).says("host paths are gone, such as /usr/lib/x86_64-linux-gnu/libcuda.so");
    assert!(paths.stderr.contains("stale: 1 of "), "{}", paths.stderr);
    home.replace("/proc/driver/nvidia/version", &version, "999.1.2");
    let both = format!("stale: driver {version} → 999.1.2: 1 of ");
    assert_eq!(home.run("check").exits(5).says(&both).stderr.lines().count(), 1);
}

#[test]
fn nodes_and_gpus_count() {
    let home = Home::fresh("ubuntu-deb");
    home.change_nodes(|nodes| nodes + "char /dev/nvidia7 195 7 0666\n");
    home.run("check").exits(5).says("stale: it has no device for /dev/nvidia7");
    // A spec of some GPUs has no more to say.
    home.run("check --device-id 0").exits(0);
    let home = Home::fresh("ubuntu-deb");
    home.change_nodes(|nodes| {
        nodes.lines().filter(|line| !line.contains("nvidia-uvm ")).map(|line| format!("{line}\n")).collect()
    });
    home.run("check").exits(5).says("there is no device node /dev/nvidia-uvm");
}

#[test]
fn the_specs_of_others_are_told_and_left() {
    let home = Home::new("ubuntu-deb");
    let foreign = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices: [{name: a, containerEdits: {env: [A=b]}}]\n";
    fs::write(home.spec(), foreign).unwrap();
    home.run("check").exits(7).says("not written by cdi-gen; stale: it has no device for /dev/nvidia0");
    home.run("refresh").exits(0).says("left as it is, since cdi-gen did not write it");
    home.run("remove --force").exits(7).says("kept, since cdi-gen did not write it");
    assert_eq!(home.text(), foreign);
    // Whoever names the file means it.
    home.run("generate").exits(0);
    home.run("check").exits(0);
}

#[test]
fn a_host_without_a_driver_is_no_failure() {
    let home = Home::new("no-gpu");
    home.run("check").exits(3).says("no NVIDIA driver runs here, and there is no spec");
    home.run("refresh").exits(0).says("nothing to do");
    home.run("remove").exits(0).says("there is no spec");
    assert!(!home.spec().exists());

    // The driver was taken away.
    let home = Home::fresh("ubuntu-deb");
    home.run("remove").exits(0).says("kept, since an NVIDIA driver runs here");
    fs::remove_dir_all(home.host.path("/proc/driver/nvidia")).unwrap();
    fs::remove_dir_all(home.host.path("/sys/module/nvidia")).ok();
    home.run("check").exits(5).says("stale: no NVIDIA driver runs here");
    home.run("remove").exits(0).says("removed");
    assert!(!home.spec().exists());
}

#[test]
fn an_upgrade_is_followed() {
    let home = Home::fresh("ubuntu-deb");
    let before = home.text();
    home.run("diff").exits(0);
    let version = home.host.plan().0.unwrap().driver_version.to_string();
    let libcuda = home.host.path(&format!("{LIBCUDA}{version}"));
    let bytes = fs::read(&libcuda).unwrap();
    fs::remove_file(&libcuda).unwrap();
    let diff = home.run("diff").exits(5);
    let expected =
        format!("- mount /usr/lib64/libcuda.so.{version} from {LIBCUDA}{version} (ro,nosuid,nodev,rbind,rprivate)\n");
    assert!(diff.stdout.contains(&expected), "{}", diff.stdout);
    assert!(diff.stdout.lines().all(|line| line.contains("libcuda.so")), "{}", diff.stdout);
    home.run("refresh").exits(0).says("written");
    assert!(!home.text().contains("libcuda.so"));
    home.run("check").exits(0);
    fs::write(libcuda, bytes).unwrap();
    // What a glance cannot see a new spec does.
    home.run("check").exits(0);
    home.run("diff").exits(5);
    home.run("refresh").exits(0);
    assert_eq!(home.text(), before);
}

#[test]
fn what_is_true_is_not_written_again() {
    let home = Home::fresh("ubuntu-deb");
    let inode = || fs::metadata(home.spec()).unwrap().ino();
    let before = inode();
    home.run("refresh").exits(0).says("unchanged");
    home.run("generate --if-stale").exits(0).says("fresh");
    assert_eq!(inode(), before);
    fs::write(home.spec(), home.text().replace("nvidia-smi", "nvidia-old")).unwrap();
    home.run("generate --if-stale").exits(0).says("written");
    home.host.run(&["generate", "--if-stale"]).exits(2).says("--if-stale takes --output");
}

/// A driver that is half there keeps what was written before.
#[test]
fn an_incomplete_driver_keeps_the_spec() {
    let home = Home::fresh("ubuntu-deb");
    let before = home.text();
    home.change_nodes(|nodes| {
        nodes.lines().filter(|line| !line.contains("uvm")).map(|line| format!("{line}\n")).collect()
    });
    home.run("refresh").exits(4).says("is kept as it was");
    assert_eq!(home.text(), before);
}

/// A package manager took the files away, and the module runs until the next boot.
#[test]
fn a_spec_of_files_that_are_gone_goes_too() {
    let home = Home::fresh("ubuntu-deb");
    let spec = cdi_specs::parse_yaml(home.text()).unwrap();
    for mount in &spec.container_edits.mounts {
        let _ = fs::remove_file(home.host.path(&mount.host_path));
    }
    home.run("refresh").exits(4).says("host paths are gone").says("no library of version");
    assert!(!home.spec().exists());
    home.run("refresh").exits(4);
}

/// A hundred at once: one runs, one waits, and the others have nothing to add.
#[test]
fn any_number_at_once() {
    let home = Home::new("ubuntu-deb");
    let spec = home.spec();
    let start = || {
        let mut command = home.host.command(&["refresh", "--hooks", "none", "--output", spec.to_str().unwrap()]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..100).map(|_| start()).collect();
    let said = children.into_iter().map(|child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    });
    let said: Vec<String> = said.collect();
    assert_eq!(said.iter().filter(|line| line.contains(": written")).count(), 1, "{said:?}");
    let names: Vec<_> = fs::read_dir(home.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "the spec and two locks: {names:?}");
    home.run("check").exits(0);
}

/// More than any of these takes; what waits for ever is ended then.
const PATIENCE: Duration = Duration::from_secs(60);

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

/// A run that must end by itself; one that does not has no exit code.
fn ends(mut command: Command) -> Ran {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Home {
    fn ends(&self, words: &str) -> Ran {
        let mut words: Vec<&str> = words.split(' ').collect();
        let spec = self.spec();
        words.extend(["--output", spec.to_str().unwrap()]);
        ends(self.host.command(&words))
    }
}

#[test]
fn a_lock_that_is_a_link_makes_nothing_elsewhere_and_a_fifo_is_told_at_once() {
    for name in [".cdi-gen.running", ".cdi-gen.waiting"] {
        let home = Home::new("ubuntu-deb");
        let (lock, elsewhere) = (home.dir.path().join(name), home.host.scratch("elsewhere"));
        let refused = |words: &str| {
            let ran = home.ends("refresh").exits(1).says(&format!("cannot lock {}: {words}", lock.display()));
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        };
        symlink(&elsewhere, &lock).unwrap();
        refused("it is a symbolic link (remove it)");
        assert!(!elsewhere.exists());
        fs::remove_file(&lock).unwrap();
        fifo(&lock);
        refused("it is no regular file (remove it)");
        fs::remove_file(&lock).unwrap();
        home.ends("refresh").exits(0);
        assert_eq!(fs::metadata(&lock).unwrap().mode() & 0o7777, 0o600, "who can open it can hold it");
        fs::set_permissions(&lock, fs::Permissions::from_mode(0o644)).unwrap();
        refused("others can open it, and so hold the lock (remove it)");
        fs::set_permissions(&lock, fs::Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&lock, Some(1000), None).unwrap();
            refused("it belongs to user 1000 (remove it)");
        }
    }
}

#[test]
fn a_spec_that_is_no_regular_file_is_told_at_once_by_all() {
    let home = Home::new("ubuntu-deb");
    fifo(&home.spec());
    let commands = ["check", "diff", "refresh", "remove --force", "generate --if-stale"];
    for command in commands {
        let ran = home.ends(command).exits(1).says("nvidia.yaml: it is no regular file");
        assert_eq!(ran.stderr.lines().count(), 1, "{command}: {}", ran.stderr);
    }
    fs::remove_file(home.spec()).unwrap();
    // More bytes than the memory has, and none on the disk.
    fs::File::create(home.spec()).unwrap().set_len(3 << 30).unwrap();
    for command in commands {
        home.ends(command)
            .exits(1)
            .says(&format!("nvidia.yaml: it is longer than {} bytes", cdi_specs::MAX_TEXT_BYTES));
    }
    ends(home.host.command(&["check", "--output", "/dev/zero"])).exits(1).says("/dev/zero: it is no regular file");
}

#[test]
fn a_link_in_a_specs_place_shows_no_word_of_what_it_leads_to() {
    let home = Home::new("ubuntu-deb");
    let secret = home.host.scratch("shadow");
    fs::write(&secret, "root:$6$canary:19000::::::\n").unwrap();
    symlink(&secret, home.spec()).unwrap();
    for command in ["check", "diff", "refresh", "remove --force", "generate --if-stale"] {
        let ran = home.ends(command).exits(1).says("nvidia.yaml: it is a symbolic link");
        assert!(!format!("{ran:?}").contains("canary"), "{command}: {ran:?}");
    }
    // Another name of the same file is no link.
    fs::remove_file(home.spec()).unwrap();
    fs::hard_link(&secret, home.spec()).unwrap();
    for (command, code) in [("check", 7), ("diff", 1), ("remove --force", 7), ("generate --if-stale", 0)] {
        let ran = home.ends(command).exits(code);
        assert!(!format!("{ran:?}").contains("canary"), "{command}: {ran:?}");
    }
}

/// A vendor copied a file of ours, with its first line, and made it theirs.
#[test]
fn nothing_is_removed_for_its_first_line_alone() {
    let home = Home::fresh("ubuntu-deb");
    let mark = home.text().lines().next().unwrap().to_owned();
    let ending = "devices: [{name: a, containerEdits: {env: [A=b]}}]\n";
    for theirs in [
        format!("{mark}\ncdiVersion: 0.5.0\nkind: amd.com/gpu\n{ending}"),
        format!("{mark}\ncdiVersion: 0.5.0\nkind: nvidia.com/gpu\n{ending}"),
        format!("{mark}\nnotes, and no spec\n"),
        format!("{mark}\n"),
    ] {
        fs::write(home.spec(), &theirs).unwrap();
        home.run("remove --force").exits(7).says("kept, since cdi-gen did not write it");
        assert_eq!(home.text(), theirs);
    }
    for kind in ["--vendor acme.com --class x", "--hooks always --hook-path /usr/bin/cdi-hook", "--device-id none"] {
        fs::remove_file(home.spec()).unwrap();
        let words: Vec<&str> = kind.split(' ').collect();
        home.host.run(&[&["generate", "--output", home.spec().to_str().unwrap()][..], &words].concat()).exits(0);
        home.run("remove --force").exits(0).says("removed");
        fs::write(home.spec(), "").unwrap();
    }
}

#[test]
fn no_line_of_a_difference_is_another_ones_to_write() {
    let home = Home::fresh("ubuntu-deb");
    let forged = "\"NVIDIA_VISIBLE_DEVICES=void\\n+ mount /forged (ro)\\e[2K\"";
    let text = home.text().replace("NVIDIA_VISIBLE_DEVICES=void", forged);
    assert_ne!(text, home.text());
    fs::write(home.spec(), text).unwrap();
    let ran = home.run("diff").exits(5);
    assert!(!ran.stdout.contains(char::from(27)) && !ran.stdout.contains("\n+ mount /forged"), "{}", ran.stdout);
    assert!(ran.stdout.contains("void\\n+ mount /forged (ro)\\u{1b}[2K\n"), "{}", ran.stdout);
}

/// In a directory of somebody else's nothing is trusted, and nothing outside is touched.
#[test]
fn a_spec_in_a_directory_of_others_is_written_with_a_warning() {
    let home = Home::new("ubuntu-deb");
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root gives directories away");
    }
    chown(home.dir.path(), Some(1000), Some(1000)).unwrap();
    home.run("refresh").exits(0).says("user 1000 can change").says("engines that run as root take no spec from there");
    home.run("check").exits(0);
}
