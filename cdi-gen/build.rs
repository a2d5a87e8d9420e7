//! Links the unwinder into the program on GNU targets: one shared object less to load at each start, and none to depend on.
//!
//! std asks for `-lgcc_s`. A linker script of that name, found first, gives it gcc's static archives instead. Where gcc
//! has none (another toolchain) nothing changes.
#![expect(clippy::disallowed_methods, reason = "a build script")]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let gnu = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|environment| environment == "gnu");
    let native = env::var("HOST").is_ok_and(|host| env::var("TARGET").is_ok_and(|target| target == host));
    if gnu && native && has_static_unwinder() {
        let dir = env::var("OUT_DIR").expect("cargo sets it");
        fs::write(Path::new(&dir).join("libgcc_s.so"), "GROUP(libgcc_eh.a libgcc.a)\n").expect("OUT_DIR is writable");
        println!("cargo::rustc-link-search=native={dir}");
    }
}

/// gcc prints a full path for a file that it has, and the bare name for one that it lacks.
fn has_static_unwinder() -> bool {
    let answer = Command::new("gcc").arg("-print-file-name=libgcc_eh.a").output();
    answer.is_ok_and(|answer| Path::new(String::from_utf8_lossy(&answer.stdout).trim()).is_absolute())
}
