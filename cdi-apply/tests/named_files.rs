//! Files that a command line names: whoever names them, they may be another user's, and may never come or never end.
#![cfg(feature = "cli")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests run the program and stop at the first surprise"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode};
use tempfile::TempDir;

const SPEC: &str = "{\"cdiVersion\": \"0.5.0\", \"kind\": \"a.b/c\", \
                    \"devices\": [{\"name\": \"d\", \"containerEdits\": {\"env\": [\"A=1\"]}}]}";

fn home() -> TempDir {
    let home = TempDir::new().unwrap();
    fs::write(home.path().join("spec.json"), SPEC).unwrap();
    fs::write(home.path().join("config.json"), "{}").unwrap();
    home
}

/// The program with 64 MiB of memory, and time enough.
fn run(home: &TempDir, words: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -d 65536 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_cdi-apply")]);
    command.args(words.split(' ')).current_dir(home.path()).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        let stands_still = start.elapsed() > Duration::from_secs(60);
        if stands_still {
            child.kill().unwrap();
        }
        assert!(!stands_still, "{words}");
        sleep(Duration::from_millis(2));
    }
    child.wait_with_output().unwrap()
}

const INJECT: &str = "inject --device a.b/c=d --stdout config.json --spec";

#[test]
fn root_uses_no_spec_that_others_may_change_whoever_names_it() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = home();
    let spec = home.path().join("spec.json");
    assert_eq!(run(&home, &format!("{INJECT} spec.json")).status.code(), Some(0));
    let refused = |who: &str| {
        let output = run(&home, &format!("{INJECT} spec.json"));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{told}");
        assert!(told.contains(&format!("the spec spec.json is not used: {who}")), "{told}");
        let output = run(&home, &format!("{INJECT} spec.json --insecure-spec-dirs"));
        assert_eq!(output.status.code(), Some(0));
        // Who may change it is for this command to tell.
        assert_eq!(run(&home, "validate spec.json").status.code(), Some(0));
    };
    chown(&spec, Some(1000), None).unwrap();
    refused("user 1000 can change it");
    chown(&spec, Some(0), None).unwrap();
    fs::set_permissions(&spec, fs::Permissions::from_mode(0o646)).unwrap();
    refused("everybody can change it");
}

#[test]
fn what_is_named_and_is_no_file_is_not_waited_for() {
    let home = home();
    rustix::fs::mknodat(CWD, home.path().join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    symlink("/dev/zero", home.path().join("zero")).unwrap();
    fs::File::create(home.path().join("sparse")).unwrap().set_len(3 << 30).unwrap();
    for (file, why) in [("fifo", "no regular file"), ("zero", "no regular file"), ("sparse", "it is longer than ")] {
        let lines = [
            format!("{INJECT} {file}"),
            format!("validate {file}"),
            format!("inject --device a.b/c=d --spec spec.json --stdout {file}"),
            format!("inject --device a.b/c=d --spec spec.json --device-nodes {file} --stdout config.json"),
        ];
        for line in lines {
            let output = run(&home, &line);
            let told = String::from_utf8(output.stderr).unwrap();
            assert!(told.contains(why) && output.status.code() == Some(1), "{line}: {told}");
        }
    }
}
