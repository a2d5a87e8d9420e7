//! `cargo xtask dist`: the programs as they are shipped. I/O.
//!
//! cdi-gen is linked to glibc, since it loads the driver's libraries. The others are static files that run anywhere: in
//! any container, in an initramfs, on musl, and without the dynamic linker's work at each container start.
#![expect(clippy::disallowed_methods, reason = "puts the programs in place")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::build;

/// The static programs.
const STATIC: [&str; 3] = ["cdi-apply", "cdi-hook", "cdi-runtime"];

/// Builds all and tells where they are.
pub fn run() -> anyhow::Result<()> {
    let dist = build::target().join("dist");
    fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", dist.display()))?;
    let (dynamic, at) = (build::release(&["cdi-gen"])?.join("cdi-gen"), static_programs()?);
    for program in std::iter::once(dynamic).chain(STATIC.map(|name| at.join(name))) {
        let to = dist.join(program.file_name().unwrap_or_default());
        let size = fs::copy(&program, &to).with_context(|| format!("cannot copy {}", program.display()))?;
        println!("{}  {} KiB", to.display(), size.div_ceil(1024));
    }
    Ok(())
}

/// Builds the static programs, and gives the directory that they are in. Where musl's standard library cannot be had,
/// glibc's serves: it is larger, and wants libc.a.
pub fn static_programs() -> anyhow::Result<PathBuf> {
    let target = |libc: &str| format!("{}-unknown-linux-{libc}", std::env::consts::ARCH);
    let (target, flags) = match install(&target("musl")) {
        Ok(()) => (target("musl"), ""),
        Err(error) => {
            eprintln!("no musl ({error:#}): glibc is linked statically");
            (target("gnu"), "-C target-feature=+crt-static")
        }
    };
    let package = ["--package", "cdi-apply", "--target", &target];
    let mut build = build::cargo();
    build.args(["build", "--quiet", "--release", "--locked"]).args(package);
    if !flags.is_empty() {
        build.env("RUSTFLAGS", flags);
    }
    build::run(&mut build)?;
    let dir = build::target().join(target).join("release");
    for program in STATIC.map(|name| dir.join(name)) {
        let headers = build::output(Command::new("readelf").arg("--program-headers").arg(&program))?;
        ensure!(!headers.contains("INTERP"), "{} is not static", program.display());
    }
    Ok(dir)
}

/// The target's standard library, where rustup can fetch it; a distribution's Rust has packages for that.
fn install(target: &str) -> anyhow::Result<()> {
    let libraries = build::output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]))?;
    if PathBuf::from(libraries.trim()).exists() {
        return Ok(());
    }
    let added = build::run(Command::new("rustup").args(["target", "add", target]));
    added.with_context(|| format!("install the standard library of {target}"))
}
