//! `cdi-apply configure` on files of engines: what it prints, writes, keeps and puts back.
#![cfg(feature = "cli")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests run the program and stop at the first surprise"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

const PODMAN: &str = "# mine\n[engine]\nevents_logger = \"file\" # not the journal\n";

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("etc/engine.conf")
    }

    fn write(&self, text: &str) {
        fs::create_dir_all(self.file().parent().unwrap()).unwrap();
        fs::write(self.file(), text).unwrap();
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.file().parent().unwrap()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Exit code, stdout and stderr. No engine is in the PATH to ask.
    fn run(&self, words: &str) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cdi-apply"));
        command.arg("configure").args(words.split_whitespace()).arg("--config").arg(self.file());
        let output = command.env("PATH", self.0.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn a_file_is_changed_kept_and_put_back() {
    let home = Home::new();
    home.write(PODMAN);
    fs::set_permissions(home.file(), fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::metadata(home.file()).unwrap();
    let register = "podman --runtime --runtime-path /usr/bin/cdi-runtime --set-default";
    let (code, stdout, stderr) = home.run(register);
    assert!(code == 0 && stdout.contains("written, and kept as it was beside it (--undo)"), "{stdout}{stderr}");
    let added = "runtime = \"nvidia\"\n\n[engine.runtimes]\nnvidia = [\"/usr/bin/cdi-runtime\"]\n";
    assert_eq!(home.text(), format!("{PODMAN}{added}"));
    assert_eq!(fs::metadata(home.file()).unwrap().mode(), before.mode());
    // Again there is nothing to do, and what was kept stays the first.
    assert!(home.run(register).1.contains("nothing to change"));
    assert_eq!(home.run("podman --runtime --runtime-path /opt/cdi-runtime").0, 0);
    assert_eq!(home.names(), ["engine.conf", "engine.conf.before-cdi-apply"]);
    let (code, stdout, _) = home.run("podman --undo");
    assert!(code == 0 && stdout.ends_with("as it was before\n"));
    let after = fs::metadata(home.file()).unwrap();
    assert_eq!((home.text().as_str(), after.mode(), after.ino()), (PODMAN, before.mode(), before.ino()));
    assert_eq!(home.names(), ["engine.conf"]);
    let (code, _, stderr) = home.run("podman --undo");
    assert!(code == 1 && stderr.contains("there is nothing to undo"), "{stderr}");
}

#[test]
fn a_file_that_was_not_there_goes_again() {
    let home = Home::new();
    assert_eq!(home.run("docker").0, 0);
    assert_eq!(home.text(), "{\n    \"features\": {\n        \"cdi\": true\n    }\n}\n");
    assert_eq!(home.run("docker --undo").0, 0);
    assert_eq!(home.names(), [""; 0]);
}

#[test]
fn a_dry_run_shows_the_difference_and_changes_nothing() {
    let home = Home::new();
    home.write(PODMAN);
    let (code, stdout, _) = home.run("podman --dry-run --runtime-path /usr/bin/cdi-runtime");
    let file = home.file().display().to_string();
    let expected = format!(
        "--- {file}\n+++ {file}\n@@ -1,3 +1,6 @@\n # mine\n [engine]\n events_logger = \"file\" # not the journal\n+\n\
         +[engine.runtimes]\n+nvidia = [\"/usr/bin/cdi-runtime\"]\n"
    );
    assert_eq!((code, stdout.as_str()), (0, expected.as_str()));
    assert_eq!((home.text().as_str(), home.names()), (PODMAN, vec!["engine.conf".to_owned()]));
}

#[test]
fn what_makes_no_sense_is_told_and_nothing_is_changed() {
    let home = Home::new();
    home.write("{");
    let (code, _, stderr) = home.run("docker");
    assert!(code == 4 && stderr.contains("engine.conf: not JSON: EOF"), "{stderr}");
    let (code, _, stderr) = home.run("containerd");
    assert!(code == 4 && stderr.contains("engine.conf: line 1: "), "{stderr}");
    let (code, _, stderr) = home.run("nerdctl --set-default");
    assert!(code == 1 && stderr.contains("nerdctl has no runtimes of its own"), "{stderr}");
    assert_eq!(home.run("docker --runtime-path relative").0, 1);
    assert_eq!(home.run("rkt").0, 2);
    assert_eq!((home.text().as_str(), home.names().len()), ("{", 1));
}

/// What the engine itself refuses is not left behind.
#[test]
fn the_engine_has_the_last_word() {
    let home = Home::new();
    home.write("{\"debug\": true}");
    let dockerd = home.0.path().join("dockerd");
    fs::write(&dockerd, "#!/bin/sh\necho \"$@\" >&2\necho cannot >&2\nexit 1\n").unwrap();
    fs::set_permissions(&dockerd, fs::Permissions::from_mode(0o755)).unwrap();
    let (code, _, stderr) = home.run("docker");
    assert!(code == 1 && stderr.contains("is as it was: the engine refuses"), "{stderr}");
    assert!(stderr.contains("--validate --config-file"), "{stderr}");
    assert_eq!((home.text().as_str(), home.names().len()), ("{\"debug\": true}", 1));
}
