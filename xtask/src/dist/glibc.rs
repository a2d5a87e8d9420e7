//! cdi-gen for an old glibc: linked by zig, which knows what symbols each release has. I/O.
#![expect(clippy::disallowed_methods, reason = "looks for tools")]

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::build;

/// The glibc that it is linked for, and the one that it must run on at the latest (Ubuntu 18.04).
const LINKED_FOR: &str = "2.17";
const MUST_RUN_ON: (u32, u32) = (2, 27);
/// The linker and what calls it, from PyPI.
const TOOLS: [&str; 2] = ["ziglang==0.17.1", "cargo-zigbuild==0.24.1"];

/// Where the tools are, or will be.
pub fn tools() -> PathBuf {
    std::env::var_os("CDI_DIST_TOOLS").map_or_else(|| build::target().join("tools/zig"), PathBuf::from)
}

/// Builds it; gives the file.
pub fn cdi_gen(flags: &str) -> anyhow::Result<PathBuf> {
    install()?;
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut zigbuild = Command::new(tools().join("bin/cargo-zigbuild"));
    zigbuild.current_dir(build::root()).args(["zigbuild", "--quiet", "--release", "--locked", "--package", "cdi-gen"]);
    zigbuild.args(["--target", &format!("{triple}.{LINKED_FOR}"), "--target-dir"]).arg(super::target());
    // It finds zig as a module of the Python beside it.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(tools().join("bin")).chain(std::env::split_paths(&path));
    zigbuild.env("PATH", std::env::join_paths(dirs).context("cannot make a PATH")?);
    build::run(zigbuild.env("RUSTFLAGS", flags))?;
    let program = super::target().join(triple).join("release/cdi-gen");
    let needs = newest_symbol(&program)?;
    ensure!(needs <= MUST_RUN_ON, "{} needs glibc {}.{}", program.display(), needs.0, needs.1);
    Ok(program)
}

fn install() -> anyhow::Result<()> {
    if tools().join("bin/cargo-zigbuild").exists() {
        return Ok(());
    }
    println!("installing {}", TOOLS.join(" "));
    build::run(Command::new("python3").args(["-m", "venv"]).arg(tools()))?;
    build::run(Command::new(tools().join("bin/pip")).args(["install", "--quiet"]).args(TOOLS))
}

/// The newest version of glibc whose symbols a program needs.
pub fn newest_symbol(program: &std::path::Path) -> anyhow::Result<(u32, u32)> {
    let printed = build::output(Command::new("readelf").args(["--version-info", "--wide"]).arg(program))?;
    let versions = printed.split_whitespace().filter_map(|word| word.strip_prefix("GLIBC_"));
    let numbers = versions.filter_map(|version| {
        let mut parts = version.split('.').map(str::parse);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    });
    numbers.max().with_context(|| format!("{} needs no glibc at all", program.display()))
}
