//! `config.json` on disk: whatever happens to the process or the disk, it is the old one or the new one, whole.
#![cfg(feature = "cli")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests run the program and stop at the first surprise"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cdi-apply");

/// A bundle of some size, and a spec with eight devices.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(TempDir::new().unwrap());
        fs::create_dir(home.path("cdi")).unwrap();
        fs::create_dir(home.path("bundle")).unwrap();
        let device = |index: usize| format!("- {{name: 'g{index}', containerEdits: {{env: [G{index}=x]}}}}\n");
        let devices: String = (0..8).map(device).collect();
        fs::write(home.path("cdi/v.yaml"), format!("cdiVersion: 0.3.0\nkind: v.com/g\ndevices:\n{devices}")).unwrap();
        fs::write(home.path("bundle/config.json"), old()).unwrap();
        home
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn config(&self) -> String {
        fs::read_to_string(self.path("bundle/config.json")).unwrap()
    }

    fn inject(&self, device: &str) -> Command {
        let mut inject = Command::new(PROGRAM);
        inject.current_dir(self.0.path()).args([
            "inject",
            "--spec-dir",
            "cdi",
            "--bundle",
            "bundle",
            "--device",
            device,
        ]);
        inject.stderr(Stdio::piped());
        inject
    }

    /// Runs a shell script with mounts of its own, in which `$@` injects; `None` where nobody lets us mount.
    fn in_own_mounts(&self, script: &str) -> Option<Output> {
        let as_root: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
        let unshare = |script: &str| {
            let mut unshare = Command::new("unshare");
            unshare.args(as_root).args(["--mount", "sh", "-e", "-c", script, "sh", PROGRAM]).current_dir(self.0.path());
            unshare.args([
                "inject",
                "--insecure-spec-dirs",
                "--spec-dir",
                "cdi",
                "--bundle",
                "bundle",
                "--device",
                "v.com/g=g0",
            ]);
            unshare.output().unwrap()
        };
        if !unshare("mount -t tmpfs tmpfs bundle").status.success() {
            println!("skipped: no mounts of our own here");
            return None;
        }
        Some(unshare(script))
    }
}

/// A config of 128 KiB, so that writing it takes time.
fn old() -> String {
    format!(r#"{{"process":{{"env":["A=b"]}},"annotations":{{"long":"{}"}}}}"#, "x".repeat(128 << 10))
}

fn new() -> String {
    old().replace(r#"["A=b"]"#, r#"["A=b","G0=x"]"#)
}

/// Killed at any moment, a thousand times.
#[test]
fn a_process_that_is_killed_leaves_the_old_or_the_new_one() {
    let home = Home::new();
    let started = Instant::now();
    assert!(home.inject("v.com/g=g0").status().unwrap().success());
    let span = started.elapsed();
    let (mut olds, mut news) = (0, 0);
    for round in 0..1_000_u32 {
        fs::write(home.path("bundle/config.json"), old()).unwrap();
        let mut child = home.inject("v.com/g=g0").spawn().unwrap();
        // From no time at all to a quarter more than it needs.
        sleep(span * (round % 100) / 80);
        child.kill().unwrap();
        child.wait().unwrap();
        let config = home.config();
        if config == old() {
            olds += 1;
        } else {
            assert!(config == new(), "round {round}: {} bytes", config.len());
            news += 1;
        }
    }
    println!("{olds} times the old one, {news} times the new one");
    assert!(olds > 0 && news > 0, "{olds} {news}: the test proves nothing");
    // What the last of them left behind is in nobody's way.
    assert!(home.inject("v.com/g=g0").status().unwrap().success());
    assert!(home.config() == new());
    assert_eq!(fs::read_dir(home.path("bundle")).unwrap().count(), 1);
}

#[test]
fn on_a_full_disk_the_old_one_stays() {
    let home = Home::new();
    fs::copy(home.path("bundle/config.json"), home.path("old")).unwrap();
    let script = "mount -t tmpfs -o size=192k tmpfs bundle; cp old bundle/config.json; \
                  ! \"$@\"; cmp old bundle/config.json; ls -A bundle; rm bundle/config.json";
    let Some(output) = home.in_own_mounts(script) else { return };
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "error: cannot write bundle/config.json: No space left on device (os error 28)\n");
    assert_eq!(output.stdout, b"config.json\n", "nothing is left beside it");
}

#[test]
fn in_a_bundle_that_is_read_only_the_old_one_stays() {
    let home = Home::new();
    let script = "mount --bind bundle bundle; mount -o remount,bind,ro bundle; ! \"$@\"";
    let Some(output) = home.in_own_mounts(script) else { return };
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "error: cannot write bundle/config.json: Read-only file system (os error 30)\n");
    assert!(home.config() == old());
}

#[test]
fn of_several_at_once_none_undoes_what_another_did() {
    let home = Home::new();
    for _ in 0..20 {
        fs::write(home.path("bundle/config.json"), old()).unwrap();
        let running: Vec<_> = (0..8).map(|index| home.inject(&format!("v.com/g=g{index}")).spawn().unwrap()).collect();
        for child in running {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let config: Value = serde_json::from_str(&home.config()).unwrap();
        let mut env: Vec<String> = serde_json::from_value(config["process"]["env"].clone()).unwrap();
        env.sort();
        assert_eq!(env, ["A=b", "G0=x", "G1=x", "G2=x", "G3=x", "G4=x", "G5=x", "G6=x", "G7=x"]);
    }
}

#[test]
fn who_waits_for_the_lock_gets_it_or_says_why_not() {
    let home = Home::new();
    let lock = || {
        let dir = fs::File::open(home.path("bundle")).unwrap();
        rustix::fs::flock(&dir, rustix::fs::FlockOperation::LockExclusive).unwrap();
        dir
    };
    let held = lock();
    let output = home.inject("v.com/g=g0").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = "error: cannot lock bundle/config.json: another process is changing it\n";
    assert_eq!((output.status.code(), stderr.as_str()), (Some(1), expected));
    assert!(home.config() == old());
    let waiting = home.inject("v.com/g=g0").spawn().unwrap();
    sleep(Duration::from_millis(50));
    drop(held);
    assert!(waiting.wait_with_output().unwrap().status.success());
    assert!(home.config() == new());
}
