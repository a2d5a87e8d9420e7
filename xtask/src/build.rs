//! The workspace's programs, built. I/O.
#![expect(clippy::disallowed_methods, reason = "runs cargo")]

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// The cargo that runs this task.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command; its words stand in the error.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

/// Release builds of some packages; gives the directory that they are in.
pub fn release(packages: &[&str]) -> anyhow::Result<PathBuf> {
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    run(cargo().args(["build", "--quiet", "--release"]).args(packages))?;
    Ok(target().join("release"))
}

/// Where cargo puts what it makes.
pub fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root().join(target)
}

/// Installs a tool of cargo's, unless there is one.
pub fn install(tool: &str, version: &str) -> anyhow::Result<()> {
    let installed = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    if installed { Ok(()) } else { run(cargo().args(["install", "--quiet", "--locked", tool, "--version", version])) }
}

/// What a command printed on stdout; on failure its stderr stands in the error.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}: {words}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} printed no UTF-8"))
}
