//! Files, directories, links and mounts, with errors that name them. I/O.
#![expect(clippy::disallowed_methods, reason = "that is what it does")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::build;

pub fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

pub fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

pub fn make_dirs(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}

pub fn remove_tree(dir: &Path) -> anyhow::Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}

pub fn link(target: &str, path: &Path) -> anyhow::Result<()> {
    symlink(target, path).with_context(|| format!("cannot link {}", path.display()))
}

pub fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    build::run(Command::new("cp").arg("-a").arg(from).arg(to))
}

pub fn subdirs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Leaves no trace in /run/mount.
pub fn mount<S: AsRef<OsStr>>(arguments: &[S]) -> anyhow::Result<()> {
    build::run(Command::new("mount").arg("-n").args(arguments))
}

pub fn mount_tmpfs(dir: &Path, mode: &str) -> anyhow::Result<()> {
    let mode = format!("mode={mode}");
    let words = ["-t", "tmpfs", "-o", &mode, "cdi-e2e"].map(OsStr::new);
    mount(&[&words[..], &[dir.as_os_str()]].concat())
}

pub fn bind(from: &Path, to: &Path) -> anyhow::Result<()> {
    mount(&[OsStr::new("--bind"), from.as_os_str(), to.as_os_str()])
}

pub fn mount_points() -> anyhow::Result<BTreeSet<PathBuf>> {
    let mounts = read(Path::new("/proc/self/mounts"))?;
    Ok(mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).collect())
}
