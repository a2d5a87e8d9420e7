//! Installed: the container engines of this host and their releases, for `--target auto` and `doctor`. I/O.
//!
//! The one place where a program is run, on request only: an engine is asked for its version or its configuration, by the
//! path where packages put it.
#![expect(clippy::disallowed_methods, reason = "asks installed engines for their versions")]

use std::path::{Path, PathBuf};
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
    find(program)?;
    let release = ask(program, &["--version"]).as_deref().and_then(Release::find);
    Some(Target::Engine { name, release })
}

/// Where a program is.
pub fn find(program: &str) -> Option<PathBuf> {
    DIRS.iter().map(|dir| Path::new(dir).join(program)).find(|path| path.is_file())
}

/// What a program prints, if it is there and succeeds.
pub fn ask(program: &str, words: &[&str]) -> Option<String> {
    let mut command = Command::new(find(program)?);
    command.args(words).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
