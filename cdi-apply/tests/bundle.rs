//! `config.json` on disk: whatever happens to the process or the disk, it is the old one or the new one, whole.
#![cfg(feature = "cli")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests run the program and stop at the first surprise"
)]

mod attributes;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use attributes::Whole;
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
        let path = home.path("bundle/.config.json.cdi-apply.lock");
        let file = fs::File::create(&path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        file
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

/// Whoever may read a directory or a file can hold flock(2) on it.
#[test]
fn who_can_only_read_the_bundle_holds_nobody_up() {
    let home = Home::new();
    let lock = |path: &str| {
        let file = fs::File::open(home.path(path)).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        file
    };
    let _held = (lock("bundle"), lock("bundle/config.json"));
    let output = home.inject("v.com/g=g0").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(home.config() == new());
}

#[test]
fn a_bundle_that_cannot_be_written_is_read_where_nothing_is_to_be_changed() {
    let home = Home::new();
    fs::write(home.path("bundle/config.json"), new()).unwrap();
    let script = "mount --bind bundle bundle; mount -o remount,bind,ro bundle; \"$@\"";
    let Some(output) = home.in_own_mounts(script) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn owner_mode_access_control_list_and_attributes_stay() {
    let home = Home::new();
    let config = home.path("bundle/config.json");
    if rustix::process::geteuid().is_root() {
        chown(&config, Some(1234), Some(2345)).unwrap();
    }
    if !attributes::set(&config, attributes::ACL, &attributes::acl()) {
        return println!("skipped: no access control lists on this file system");
    }
    attributes::set(&config, "user.mine", &[7; 900]);
    let before = Whole::of(&config).unwrap();
    assert_eq!((before.mode & 0o777, before.attributes.len()), (0o640, 2));
    assert!(home.inject("v.com/g=g0").status().unwrap().success());
    let after = Whole::of(&config).unwrap();
    assert!(after == Whole { bytes: new().into(), ..before }, "{:?}", after.attributes);
    // A list that the directory gives to new files is not this one's.
    fs::remove_file(&config).unwrap();
    fs::write(&config, old()).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o640)).unwrap();
    attributes::set(&home.path("bundle"), "system.posix_acl_default", &attributes::acl());
    let before = Whole::of(&config).unwrap();
    assert!(home.inject("v.com/g=g0").status().unwrap().success());
    assert!(Whole::of(&config).unwrap() == Whole { bytes: new().into(), ..before });
}

/// What cannot stay is a reason to change nothing.
#[test]
fn a_file_whose_owner_cannot_be_kept_is_not_changed() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root becomes another");
    }
    let home = Home::new();
    let config = home.path("bundle/config.json");
    for path in ["", "cdi", "bundle"] {
        fs::set_permissions(home.path(path), fs::Permissions::from_mode(0o777)).unwrap();
    }
    chown(&config, Some(1234), None).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    // As a user who can reach it by a path that begins below.
    let inject = home.inject("v.com/g=g0");
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid=1000", "--regid=1000", "--clear-groups"]).arg(home.path("program")).args(inject.get_args());
    // By a process of its own: a program that another thread's child still holds open for writing cannot be run.
    assert!(Command::new("cp").args([Path::new(PROGRAM), &home.path("program")]).status().unwrap().success());
    let output = setpriv.current_dir(home.0.path()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected =
        "error: cannot write bundle/config.json: cannot keep its owner: Operation not permitted (os error 1)\n";
    assert_eq!((output.status.code(), stderr.as_str()), (Some(1), expected));
    assert!(home.config() == old());
    assert_eq!(fs::read_dir(home.path("bundle")).unwrap().count(), 1);
}

#[test]
fn another_name_of_the_file_keeps_the_old_one() {
    let home = Home::new();
    let other = home.path("other");
    fs::hard_link(home.path("bundle/config.json"), &other).unwrap();
    assert!(home.inject("v.com/g=g0").status().unwrap().success());
    assert!(home.config() == new() && fs::read_to_string(&other).unwrap() == old());
    assert_eq!(fs::metadata(other).unwrap().nlink(), 1);
}

/// A FIFO in the place of any file that is read makes nobody wait.
#[test]
fn a_fifo_holds_nobody_up() {
    let home = Home::new();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let fifo = |path: &str| {
        fs::remove_file(home.path(path)).unwrap_or_default();
        rustix::fs::mknodat(rustix::fs::CWD, home.path(path), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    let runs = |words: &str| {
        let mut timeout = Command::new("timeout");
        timeout.args(["-s", "KILL", "20", PROGRAM]).args(words.split(' ')).current_dir(home.0.path());
        let output = timeout.stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let inject = "inject --spec-dir cdi --device v.com/g=g0";
    fifo("nodes");
    fifo("spec.yaml");
    for (words, file) in [
        (format!("{inject} --bundle bundle --device-nodes nodes"), "nodes"),
        ("validate spec.yaml".to_owned(), "spec.yaml"),
        ("list --spec spec.yaml".to_owned(), "spec.yaml"),
    ] {
        let (code, stderr) = runs(&words);
        assert!(
            code == Some(1) && stderr.contains(&format!("cannot read {file}: it is no regular file")),
            "{words}: {code:?} {stderr}"
        );
    }
    fifo("bundle/config.json");
    for words in ["--bundle bundle", "--bundle bundle --stdout", "bundle/config.json", "--stdout bundle/config.json"] {
        let (code, stderr) = runs(&format!("{inject} {words}"));
        let expected = "error: cannot read bundle/config.json: it is no regular file\n";
        assert_eq!((code, stderr.as_str()), (Some(1), expected), "{words}");
    }
    fs::remove_file(home.path("bundle/config.json")).unwrap();
    fs::write(home.path("bundle/config.json"), old()).unwrap();
    for name in [".config.json.cdi-apply", ".config.json.cdi-apply.lock"] {
        fifo(&format!("bundle/{name}"));
        let (code, stderr) = runs(&format!("{inject} --bundle bundle"));
        assert!(code == Some(0) || stderr.contains("it is no regular file (remove it)"), "{name}: {code:?} {stderr}");
        fs::remove_file(home.path("bundle").join(name)).unwrap_or_default();
    }
}

#[cfg(feature = "runtime")]
#[test]
fn a_fifo_does_not_hold_the_runtime_wrapper_up() {
    let home = Home::new();
    let config = home.path("bundle/config.json");
    fs::remove_file(&config).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &config, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    fs::write(home.path("config.toml"), "runtimes = [\"/bin/echo\"]\njust-in-time = false\n").unwrap();
    let mut timeout = Command::new("timeout");
    timeout.args(["-s", "KILL", "20", env!("CARGO_BIN_EXE_cdi-runtime"), "create", "--bundle", "bundle", "c1"]);
    timeout.env("CDI_RUNTIME_CONFIG", home.path("config.toml")).current_dir(home.0.path());
    let output = timeout.output().unwrap();
    // None that another could put something else into while it is read.
    assert!(String::from_utf8_lossy(&output.stderr).contains("it is no regular file"), "{output:?}");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}
