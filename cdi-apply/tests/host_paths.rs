//! Paths of the host that a spec of root's names, and that have become another's since.
#![cfg(feature = "cli")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests set up files and stop at the first surprise"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

const USER: u32 = 1234;

/// A spec directory, and a host's directories that the spec's paths lie in.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(TempDir::new().unwrap());
        for (dir, mode) in [("cdi", 0o755), ("bundle", 0o755), ("run", 0o755), ("run/daemon", 0o755), ("tmp", 0o1777)] {
            fs::create_dir(home.path(dir)).unwrap();
            fs::set_permissions(home.path(dir), fs::Permissions::from_mode(mode)).unwrap();
        }
        home
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn give(&self, path: &str) {
        lchown(self.path(path), Some(USER), Some(USER)).unwrap();
    }

    /// What comes of injecting a device that mounts `mount` and runs `hook`: nothing, or what is wrong.
    fn inject(&self, mount: &str, hook: Option<&str>, more: &[&str]) -> Result<(), String> {
        let hooks: Vec<_> =
            hook.iter().map(|hook| json!({"hookName": "createContainer", "path": self.path(hook)})).collect();
        let mount = json!({"hostPath": self.path(mount), "containerPath": "/mnt", "options": ["rbind"]});
        let edits = json!({"env": ["A=b"], "mounts": [mount], "hooks": hooks});
        let spec = json!({"cdiVersion": "0.5.0", "kind": "vendor.com/gpu", "devices": [{"name": "0", "containerEdits": edits}]});
        fs::write(self.path("cdi/vendor.json"), spec.to_string()).unwrap();
        fs::write(self.path("bundle/config.json"), r#"{"ociVersion":"1.0.2"}"#).unwrap();
        let mut inject = Command::new(env!("CARGO_BIN_EXE_cdi-apply"));
        inject.current_dir(self.0.path()).args(["inject", "--device", "vendor.com/gpu=0", "--bundle", "bundle"]);
        let output = inject.args(["--spec-dir", "cdi"]).args(more).output().unwrap();
        let config = fs::read_to_string(self.path("bundle/config.json")).unwrap();
        let root = format!("{}/", self.0.path().display());
        match output.status.code() {
            Some(0) if config.contains("/mnt") => Ok(()),
            Some(5) if !config.contains("/mnt") => Err(String::from_utf8(output.stderr).unwrap().replace(&root, "/")),
            code => unreachable!("{code:?}: {config} {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_socket_that_has_become_a_users_link_is_not_mounted() {
    let home = Home::new();
    let _listening = UnixListener::bind(home.path("run/daemon/socket")).unwrap();
    assert_eq!(home.inject("run/daemon/socket", None, &[]), Ok(()));
    if !is_root() {
        return;
    }
    // What belongs to a user may be given to a container: a daemon's socket does.
    home.give("run/daemon");
    home.give("run/daemon/socket");
    assert_eq!(home.inject("run/daemon/socket", None, &[]), Ok(()));
    fs::remove_file(home.path("run/daemon/socket")).unwrap();
    symlink("/etc", home.path("run/daemon/socket")).unwrap();
    let why = "/run/daemon/socket would be mounted, but user 1234 can change the link /run/daemon/socket";
    let problem = home.inject("run/daemon/socket", None, &[]).unwrap_err();
    assert!(problem.contains(why), "whoever made the link: {problem}");
    home.give("run/daemon/socket");
    let problem = home.inject("run/daemon/socket", None, &[]).unwrap_err();
    assert!(problem.contains(why), "{problem}");
    let problem = home.inject("run/daemon/socket/passwd", None, &[]).unwrap_err();
    assert!(problem.contains("user 1234 can change the link /run/daemon/socket"), "a link on the way: {problem}");
    assert_eq!(home.inject("run/daemon/socket", None, &["--insecure-spec-dirs"]), Ok(()));
}

#[test]
fn links_of_roots_are_followed() {
    let home = Home::new();
    fs::create_dir(home.path("run/real")).unwrap();
    symlink("real", home.path("run/link")).unwrap();
    symlink("../run/real", home.path("tmp/link")).unwrap();
    for path in ["run/link", "tmp/link", "run/nothing"] {
        assert_eq!(home.inject(path, None, &[]), Ok(()), "{path}");
    }
}

#[test]
fn a_directory_that_a_user_made_anew_is_not_mounted() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    fs::create_dir(home.path("tmp/nvidia-mps")).unwrap();
    assert_eq!(home.inject("tmp/nvidia-mps", None, &[]), Ok(()));
    home.give("tmp/nvidia-mps");
    let problem = home.inject("tmp/nvidia-mps", None, &[]).unwrap_err();
    assert!(
        problem.contains("/tmp/nvidia-mps would be mounted, but user 1234 can change /tmp/nvidia-mps"),
        "{problem}"
    );
}

/// The same of cdi-runtime, for a device of another vendor's: no container starts.
#[test]
#[cfg(feature = "runtime")]
fn a_users_link_starts_no_container() {
    let home = Home::new();
    fs::create_dir(home.path("run/real")).unwrap();
    let config = "runtimes = ['/bin/true']\nspec-dirs = ['cdi']\njust-in-time = false\nother-kinds = ['vendor.com']\n";
    fs::write(home.path("config.toml"), config).unwrap();
    let create = |mount: &str| {
        home.inject(mount, None, &["--insecure-spec-dirs"]).unwrap();
        let config = r#"{"ociVersion":"1.0.2","process":{"env":["NVIDIA_VISIBLE_DEVICES=vendor.com/gpu=0"]}}"#;
        fs::write(home.path("bundle/config.json"), config).unwrap();
        let mut create = Command::new(env!("CARGO_BIN_EXE_cdi-runtime"));
        create.current_dir(home.0.path()).env("CDI_RUNTIME_CONFIG", home.path("config.toml"));
        let output = create.args(["create", "--bundle", "bundle", "c1"]).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(create("run/real"), (true, String::new()));
    if !is_root() {
        return;
    }
    symlink("real", home.path("run/link")).unwrap();
    home.give("run/link");
    let (has_started, problem) = create("run/link");
    assert!(!has_started && problem.contains("user 1234 can change the link"), "{problem}");
    fs::write(home.path("config.toml"), format!("{config}insecure-driver-files = true\n")).unwrap();
    assert_eq!(create("run/link"), (true, String::new()), "an administrator may have it so");
}

#[test]
fn root_runs_no_hook_that_a_user_can_change() {
    let home = Home::new();
    fs::write(home.path("run/hook"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(home.path("run/hook"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(home.inject("run", Some("run/hook"), &[]), Ok(()));
    assert_eq!(home.inject("run", Some("run/not-installed"), &[]), Ok(()), "the runtime says so");
    if !is_root() {
        return;
    }
    home.give("run/hook");
    let problem = home.inject("run", Some("run/hook"), &[]).unwrap_err();
    assert!(problem.contains("/run/hook would be run by root, but user 1234 can change it"), "{problem}");
}

#[test]
fn a_spec_that_is_named_is_roots_too() {
    let home = Home::new();
    assert_eq!(home.inject("run", None, &[]), Ok(()));
    if !is_root() {
        return;
    }
    home.give("cdi/vendor.json");
    let resolve = |more: &[&str]| {
        let mut resolve = Command::new(env!("CARGO_BIN_EXE_cdi-apply"));
        resolve.current_dir(home.0.path()).args(["resolve", "vendor.com/gpu=0", "--spec", "cdi/vendor.json"]);
        let output = resolve.args(more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, problem) = resolve(&[]);
    assert!(
        code == Some(1) && problem.contains("the spec cdi/vendor.json is not used: user 1234 can change it"),
        "{problem}"
    );
    assert_eq!(resolve(&["--insecure-spec-dirs"]).0, Some(0));
}
