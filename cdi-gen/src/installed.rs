//! Installed: the container engines of this host and their releases, for `--target auto`. I/O.
//!
//! The one place where making a spec runs a program, on request only: an engine is asked for its version, by the path
//! where packages put it.
#![expect(clippy::disallowed_methods, reason = "asks installed engines for their versions")]

use std::path::Path;
use std::process::{Command, Stdio};

use cdi_gen::targets::{Release, Target};

/// Where packages put programs.
const DIRS: [&str; 5] = ["/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin", "/opt/bin"];
/// Engines by the program that tells their version.
const PROGRAMS: [(&str, &str); 5] = [
    ("containerd", "containerd"),
    ("crio", "crio"),
    ("docker", "dockerd"),
    ("nerdctl", "nerdctl"),
    ("podman", "podman"),
];

/// The engines that are installed.
pub fn engines() -> Vec<Target> {
    PROGRAMS.iter().filter_map(|(name, program)| engine(name, program)).collect()
}

fn engine(name: &'static str, program: &str) -> Option<Target> {
    let path = DIRS.iter().map(|dir| Path::new(dir).join(program)).find(|path| path.is_file())?;
    let output = Command::new(path)
        .arg("--version")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let release = Release::find(&String::from_utf8_lossy(&output.stdout));
    Some(Target::Engine { name, release })
}
