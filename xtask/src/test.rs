//! `cargo xtask test`: everything that must hold, in the order in which it fails fastest. I/O.

use std::time::Instant;

use crate::e2e::place;
use crate::{browser, build, e2e, loaders, shipped, tidy};

/// Licences, bans and sources of all crates; installed if it is missing.
const CARGO_DENY: &str = "0.20.2";

/// What tests ask for a second opinion; without it they look for themselves.
const PROGRAMS: [(&str, &[&str]); 1] = [("systemd-analyze", &["systemd"])];

/// Runs every check; the first failure ends it.
pub fn run() -> anyhow::Result<()> {
    step("format", || build::run(build::cargo().args(["fmt", "--all", "--check"])))?;
    step("tidy", tidy::run)?;
    step("lints", || {
        let workspace = ["clippy", "--quiet", "--workspace", "--all-targets", "--all-features", "--locked"];
        build::run(build::cargo().args(workspace).args(["--", "--deny", "warnings"]))
    })?;
    step("lints without features", || {
        let libraries =
            ["clippy", "--quiet", "--package", "cdi-gen", "--package", "cdi-apply", "--no-default-features"];
        build::run(build::cargo().args(libraries).args(["--", "--deny", "warnings"]))
    })?;
    if place::is_root()? {
        step("programs that tests ask", || place::install_programs(&PROGRAMS))?;
    }
    step("tests", || build::run(build::cargo().args(["test", "--workspace", "--all-features", "--locked"])))?;
    step("documentation", || {
        let mut doc = build::cargo();
        build::run(
            doc.args(["doc", "--quiet", "--workspace", "--all-features", "--no-deps", "--locked"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    })?;
    step("licences", licences)?;
    step("programs as they are shipped", shipped::run)?;
    step("the doctor's page in a browser", browser::run)?;
    step("loaders of images", loaders::run)?;
    step("real engines", e2e::run_quick)?;
    println!("\nall checks passed");
    Ok(())
}

fn step(name: &str, check: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    println!("\n== {name}");
    let start = Instant::now();
    check()?;
    println!("== {name}: good, {:.1} s", start.elapsed().as_secs_f32());
    Ok(())
}

/// The advisory database is a download of its own and not part of the check.
fn licences() -> anyhow::Result<()> {
    build::install("cargo-deny", CARGO_DENY)?;
    build::run(build::cargo().args(["deny", "--all-features", "check", "bans", "licenses", "sources"]))
}
