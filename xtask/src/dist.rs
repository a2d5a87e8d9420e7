//! `cargo xtask dist`: the programs as they are shipped, and packages of them. I/O.
//!
//! cdi-gen is linked to glibc, since it loads the driver's libraries, and to an old one, so that it runs on every
//! distribution that is alive. The others are static files that run anywhere: in any container, in an initramfs, on musl,
//! and without the dynamic linker's work at each container start. Two runs on the same commit give the same bytes,
//! wherever the sources and the registry lie ([`reproduce`]).
#![expect(clippy::disallowed_methods, reason = "puts the programs in place")]

pub mod documents;
mod glibc;
mod packages;
mod sbom;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::build;

/// The static programs.
const STATIC: [&str; 3] = ["cdi-apply", "cdi-hook", "cdi-runtime"];

/// Builds programs and packages, and tells where they are.
pub fn run() -> anyhow::Result<()> {
    let dist = build::target().join("dist");
    make(&dist)?;
    for (name, sum) in sums(&dist)? {
        let size = fs::metadata(dist.join(&name)).with_context(|| format!("cannot read {name}"))?.len();
        println!("{}  {:6} KiB  {name}", sum.get(..16).unwrap_or(&sum), size.div_ceil(1024));
    }
    println!("in {}", dist.display());
    Ok(())
}

fn make(dist: &Path) -> anyhow::Result<()> {
    if dist.exists() {
        fs::remove_dir_all(dist).with_context(|| format!("cannot remove {}", dist.display()))?;
    }
    fs::create_dir_all(dist).with_context(|| format!("cannot make {}", dist.display()))?;
    let flags = remap()?;
    let programs = [glibc::cdi_gen(&flags)?].into_iter().chain(shipped_static(&flags)?);
    for program in programs {
        let to = dist.join(program.file_name().unwrap_or_default());
        fs::copy(&program, &to).with_context(|| format!("cannot copy {}", program.display()))?;
    }
    fs::write(dist.join(sbom::NAME), sbom::text()?).context("cannot write the list of parts")?;
    let epoch = epoch()?;
    let tree = tree::lay_out(dist)?;
    packages::make(dist, tree.path(), &epoch)
}

/// Builds all from two clones in two places, and holds the files against each other.
pub fn reproduce() -> anyhow::Result<()> {
    let work = tempfile::tempdir().context("cannot make a temporary directory")?;
    let build_in = |name: &str| -> anyhow::Result<BTreeMap<String, String>> {
        let clone = work.path().join(name).join("a-clone-of-it");
        build::run(Command::new("git").args(["clone", "--quiet"]).arg(build::root()).arg(&clone))?;
        let mut dist = build::cargo();
        dist.current_dir(&clone).args(["xtask", "dist"]).env("CARGO_TARGET_DIR", clone.join("target"));
        // The tools are no part of what is compared.
        dist.env("CDI_DIST_TOOLS", glibc::tools());
        build::run(&mut dist)?;
        sums(&clone.join("target/dist"))
    };
    let (one, other) = (build_in("one")?, build_in("another-place")?);
    let differ: Vec<&String> =
        one.iter().filter(|(name, sum)| other.get(*name) != Some(sum)).map(|(name, _)| name).collect();
    ensure!(differ.is_empty() && one.len() == other.len(), "two builds differ in {differ:?}");
    println!("{} files, the same bytes twice", one.len());
    Ok(())
}

/// SHA-256 of each file of a directory.
fn sums(dir: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut sum = Command::new("sha256sum");
    sum.current_dir(dir);
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            sum.arg(entry.file_name());
        }
    }
    let printed = build::output(&mut sum)?;
    let lines = printed.lines().filter_map(|line| line.split_once("  "));
    Ok(lines.map(|(sum, name)| (name.to_owned(), sum.to_owned())).collect())
}

/// The time of the commit, in seconds: nothing in a package is younger.
fn epoch() -> anyhow::Result<String> {
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let printed = build::output(Command::new("git").current_dir(build::root()).args(["log", "-1", "--format=%ct"]))?;
    Ok(printed.trim().to_owned())
}

/// Compiler flags by which no program tells where it was built.
fn remap() -> anyhow::Result<String> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let sysroot = build::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let pairs = [(build::root(), "/source"), (cargo_home, "/cargo"), (PathBuf::from(sysroot.trim()), "/rust")];
    let flags = pairs.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    Ok(flags.join(" "))
}

/// Where what is shipped is built: other flags than those of every day would build everything anew.
fn target() -> PathBuf {
    build::target().join("shipped")
}

fn shipped_static(flags: &str) -> anyhow::Result<Vec<PathBuf>> {
    let dir = build_static(flags, &target())?;
    Ok(STATIC.map(|name| dir.join(name)).into())
}

/// Builds the static programs, and gives the directory that they are in.
pub fn static_programs() -> anyhow::Result<PathBuf> {
    build_static("", &build::target())
}

/// Where musl's standard library cannot be had, glibc's serves: it is larger, and wants libc.a.
fn build_static(flags: &str, into: &Path) -> anyhow::Result<PathBuf> {
    let target = |libc: &str| format!("{}-unknown-linux-{libc}", std::env::consts::ARCH);
    let (target, flags) = match install(&target("musl")) {
        Ok(()) => (target("musl"), flags.to_owned()),
        Err(error) => {
            eprintln!("no musl ({error:#}): glibc is linked statically");
            (target("gnu"), format!("-C target-feature=+crt-static {flags}"))
        }
    };
    let package = ["--package", "cdi-apply", "--target", &target];
    let mut build = build::cargo();
    build.args(["build", "--quiet", "--release", "--locked"]).args(package).arg("--target-dir").arg(into);
    if !flags.is_empty() {
        build.env("RUSTFLAGS", flags.trim());
    }
    build::run(&mut build)?;
    let dir = into.join(target).join("release");
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
