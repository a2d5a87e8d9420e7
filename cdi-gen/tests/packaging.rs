//! Units, rules and triggers: each says what the program understands, and what its own reader accepts.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests run programs and stop at the first surprise"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::LaidOut;
use tempfile::TempDir;

const PROGRAM: &str = "/usr/bin/cdi-gen ";

fn files() -> Vec<(PathBuf, String)> {
    let (mut files, mut pending) = (Vec::new(), vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")]);
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else {
                files.push((entry.path(), fs::read_to_string(entry.path()).unwrap()));
            }
        }
    }
    files
}

/// The words behind the program's name, up to what a shell or a rule puts behind a command.
fn commands(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let commands = lines.filter_map(|line| line.split_once(PROGRAM)).map(|(_, words)| words);
    let ends = |word: &&str| !matches!(*word, "||" | "&&" | ";" | "true" | ":");
    commands.map(|words| words.split(['"', ' ']).filter(|word| !word.is_empty()).take_while(ends).collect()).collect()
}

#[test]
fn every_command_is_understood_and_does_nothing_where_there_is_no_driver() {
    let host = LaidOut::named("no-gpu");
    let dir = TempDir::new().unwrap();
    let spec = dir.path().join("nvidia.yaml").display().to_string();
    let mut count = 0;
    for (path, text) in files() {
        for words in commands(&text) {
            count += 1;
            let words: Vec<&str> =
                words.into_iter().filter(|word| *word != "--output" && !word.contains('%')).collect();
            let ran = host.run(&[words.as_slice(), &["--output", &spec]].concat());
            assert_eq!(ran.code, Some(0), "{}: {words:?}: {}", path.display(), ran.stderr);
            let quiet = words.contains(&"--quiet");
            assert_eq!(ran.stderr.is_empty(), quiet, "{}: {}", path.display(), ran.stderr);
        }
    }
    assert!(count > 10, "{count} commands");
    assert!(!Path::new(&spec).exists());
}

/// The command line around the program, as a shell runs it.
fn line_of_command(line: &str) -> &str {
    let line = line.trim();
    let line = line.split_once("RUN+=\"").map_or(line, |(_, run)| run.trim_end_matches('"'));
    line.trim_start_matches("Exec = ")
}

/// Whoever calls a package manager has variables of their own: of another spec, of directories of libraries.
#[test]
fn no_script_or_trigger_hands_on_the_variables_of_its_caller() {
    let dir = TempDir::new().unwrap();
    let (program, seen) = (dir.path().join("cdi-gen"), dir.path().join("seen"));
    fs::write(&program, format!("#!/bin/sh\nenv > {}\n", seen.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut count = 0;
    for (path, text) in files() {
        // systemd starts services with an environment of its own.
        if path.extension().is_some_and(|extension| extension == "service" || extension == "nix") {
            continue;
        }
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#') && line.contains(PROGRAM)) {
            count += 1;
            let line = line_of_command(line).replace(PROGRAM.trim(), program.to_str().unwrap());
            let mut shell = Command::new("sh");
            shell.args(["-c", &line]).env("NVIDIA_CTK_CDI_OUTPUT_FILE_PATH", "/x").env("LD_LIBRARY_PATH", "/tmp");
            assert!(shell.env("PATH", "/tmp:/usr/bin:/bin").status().unwrap().success(), "{line}");
            let seen = fs::read_to_string(&seen).unwrap();
            // What the shell of the stand-in sets itself.
            let own = ["PWD=", "SHLVL=", "_=", "OLDPWD="];
            let seen: Vec<&str> = seen.lines().filter(|line| !own.iter().any(|own| line.starts_with(own))).collect();
            assert_eq!(seen, ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "{}: {line}", path.display());
        }
    }
    assert!(count > 20, "{count} commands");
}

#[test]
fn shells_read_the_scripts() {
    let scripts = files().into_iter().filter(|(_, text)| text.starts_with("#!"));
    let checked = scripts.map(|(path, _)| {
        let output = Command::new("sh").arg("-n").arg(&path).output().unwrap();
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    });
    assert!(checked.count() >= 5);
}

/// What each service of the system says, and what would open a door where it is missing. What is not here hides what the
/// service is about; its remarks say so.
const RESTRICTIONS: [&str; 24] = [
    "CapabilityBoundingSet=",
    "DevicePolicy=closed",
    "IPAddressDeny=any",
    "KeyringMode=private",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "NoNewPrivileges=yes",
    "PrivateMounts=yes",
    "PrivateNetwork=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "RestrictAddressFamilies=AF_UNIX",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "TimeoutStartSec=60",
];
/// The most that systemd-analyze may find exposed, of ten.
const EXPOSURE_LIMIT: f64 = 1.5;

/// The services of the system, with their texts.
fn services() -> Vec<(PathBuf, String)> {
    let is_service = |path: &Path| {
        path.parent().is_some_and(|dir| dir.ends_with("systemd"))
            && path.extension().is_some_and(|extension| extension == "service")
    };
    files().into_iter().filter(|(path, _)| is_service(path)).collect()
}

#[test]
fn services_can_do_little_but_their_work() {
    let services = services();
    assert!(services.len() >= 2);
    for (path, text) in services {
        let missing: Vec<&str> =
            RESTRICTIONS.into_iter().filter(|restriction| !text.lines().any(|line| line == *restriction)).collect();
        assert!(missing.is_empty(), "{}: {missing:?}", path.display());
        // These would hide what a spec is made of.
        for hiding in ["PrivateDevices=yes", "PrivateTmp=yes", "PrivateUsers=yes", "ProcSubset=pid", "ProtectHome=yes"]
        {
            let hides = text.contains(PROGRAM) && text.lines().any(|line| line == hiding);
            assert!(!hides, "{}: {hiding}", path.display());
        }
    }
}

/// systemd's own judgement; `cargo xtask test` installs it. One that cannot judge a file (before 250) leaves it at the
/// test above.
#[test]
fn systemd_finds_little_exposed() {
    for (path, _) in services() {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--no-pager", "--offline=true"]).arg(&path);
        let Ok(output) = analyze.output() else {
            return println!("not judged: systemd-analyze is not installed");
        };
        if String::from_utf8_lossy(&output.stderr).contains("unrecognized option") {
            return println!("not judged: systemd is too old");
        }
        let words = String::from_utf8_lossy(&output.stdout);
        let overall = words.lines().find_map(|line| line.split_once("Overall exposure level for ")).unwrap().1;
        let exposure: f64 = overall.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(exposure <= EXPOSURE_LIMIT, "{overall}\n{words}");
    }
}

/// With a program in the place of ours, which is not installed where this test runs.
#[test]
fn systemd_reads_the_units() {
    let dir = TempDir::new().unwrap();
    let units = files().into_iter().filter(|(path, _)| path.components().any(|part| part.as_os_str() == "systemd"));
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify");
    for (path, text) in units {
        let unit = dir.path().join(path.file_name().unwrap());
        fs::write(&unit, text.replace("/usr/bin/cdi-gen refresh", "/bin/true")).unwrap();
        verify.arg(unit);
    }
    match verify.output() {
        Err(_) => println!("skipped: systemd-analyze is not installed"),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            // Units of the machine's own are not ours to judge.
            let ours: Vec<&str> = words.lines().filter(|line| line.contains("cdi-gen")).collect();
            assert!(output.status.success() && ours.is_empty(), "{words}");
        }
    }
}
