//! `cargo xtask fuzz`: each target for a while, from its seeds and what earlier runs found. I/O.
//!
//! Needs a nightly compiler, and cargo-fuzz, which it installs. Words that an input may hold stand in a dictionary, where a
//! target has one.
#![expect(clippy::disallowed_methods, reason = "runs cargo fuzz")]

use std::fs;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::build;

const CARGO_FUZZ: &str = "0.13.2";
/// Each target, with the directory of the test data that seeds it beside its own seeds.
const TARGETS: [(&str, Option<&str>); 13] = [
    ("spec_text", Some("testdata/specs")),
    ("config_json", Some("testdata/bundles")),
    ("names", None),
    ("annotations", None),
    ("ld_so_cache", None),
    ("elf", None),
    ("hook_argv", None),
    ("hook_root", None),
    ("ld_so_conf", None),
    ("oci_state", None),
    ("runtime_argv", None),
    ("requests", Some("testdata/bundles")),
    ("runtime_bundle", Some("testdata/bundles")),
];
/// Those whose time goes to files: a sanitizer would make them three times slower, and watches memory that Rust does.
const UNSANITIZED: [&str; 1] = ["hook_root"];
/// What no input may take more than: seconds, and MiB.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=2048"];

/// Runs the named targets, or all. The first finding ends it.
pub fn run(names: &[String], seconds: u32) -> anyhow::Result<()> {
    for name in names {
        ensure!(TARGETS.iter().any(|(known, _)| known == name), "no fuzz target {name}");
    }
    build::install("cargo-fuzz", CARGO_FUZZ)?;
    let chosen = TARGETS.iter().filter(|(target, _)| names.is_empty() || names.iter().any(|name| name == target));
    for (target, data) in chosen {
        let corpus = build::target().join("fuzz-corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
        let mut fuzz = Command::new("cargo");
        fuzz.args(["+nightly", "fuzz", "run", "--fuzz-dir", "xtask/fuzz"]).current_dir(build::root());
        if UNSANITIZED.contains(target) {
            fuzz.args(["--sanitizer", "none", "--target-dir"]).arg(build::target().join("fuzz-plain"));
        } else {
            fuzz.arg("--target-dir").arg(build::target().join("fuzz"));
        }
        fuzz.arg(target);
        // What is found goes to the first directory.
        fuzz.arg(corpus).arg(format!("xtask/fuzz/seeds/{target}")).args(data);
        fuzz.arg("--").arg(format!("-max_total_time={seconds}")).args(LIMITS);
        let words = format!("xtask/fuzz/dictionaries/{target}");
        fuzz.args(build::root().join(&words).is_file().then(|| format!("-dict={words}")));
        build::run(&mut fuzz)?;
    }
    Ok(())
}
