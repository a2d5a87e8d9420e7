//! The running driver: its version, flavour and architecture in the kernel's own words.
//!
//! Sources: `/proc/driver/nvidia/version` and `/sys/module/nvidia/version` (open-gpu-kernel-modules, nv-procfs.c).

use std::io;

use serde::Serialize;

use super::elf::Machine;
use crate::problem::Problem;
use crate::tree::Tree;
use crate::version::DriverVersion;

/// Where the kernel tells its version in words.
const PROC_VERSION: &str = "/proc/driver/nvidia/version";
/// Where the loaded module tells its version.
const MODULE_VERSION: &str = "/sys/module/nvidia/version";

/// What the kernel says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DriverFacts {
    /// Version of the running kernel driver; unknown where the kernel hides it (masked `/proc`) or runs none.
    pub version: Option<DriverVersion>,
    /// Whether it is the open kernel module.
    pub open: bool,
    /// Architecture that the driver was built for.
    pub machine: Option<Machine>,
    /// Whether any trace of a running driver was seen.
    pub loaded: bool,
}

/// Parses `/proc/driver/nvidia/version`. The version is the first word of the `NVRM version:` line that is one.
pub fn parse_version(text: &str) -> DriverFacts {
    let line = text.lines().find_map(|line| line.strip_prefix("NVRM version:")).unwrap_or_default();
    let mut words = line.split_ascii_whitespace();
    DriverFacts {
        version: words.clone().find_map(|word| word.parse().ok()),
        open: line.contains("Open Kernel Module"),
        machine: words.find_map(Machine::from_kernel_name),
        loaded: true,
    }
}

/// Reads what the kernel says about its driver.
pub fn read(system: &Tree, problems: &mut Vec<Problem>) -> DriverFacts {
    let text = read_text(system, PROC_VERSION, problems);
    let mut facts = text.as_deref().map(parse_version).unwrap_or_default();
    if facts.version.is_none() {
        let module = read_text(system, MODULE_VERSION, problems);
        facts.loaded |= module.is_some();
        facts.version = module.and_then(|text| text.trim().parse().ok());
    }
    if facts.loaded && facts.version.is_none() {
        problems.push(
            Problem::warning("version-unknown", format!("{PROC_VERSION} and {MODULE_VERSION} tell no driver version"))
                .hint("the version is taken from the driver's files"),
        );
    }
    facts
}

fn read_text(system: &Tree, path: &str, problems: &mut Vec<Problem>) -> Option<String> {
    match system.read_text(path.into()) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            problems.push(Problem::warning("unreadable", format!("cannot read {path}: {error}")));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_flavours_and_both_architectures() {
        let cases = [
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (builder@host)  \n",
                "580.159.04",
                true,
                Machine::X86_64,
            ),
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Thu May  2 14:37:44 UTC 2024\nGCC version:  gcc 12.2.0\n",
                "470.256.02",
                false,
                Machine::X86_64,
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  570.86.15  Release Build  (root@x)\n",
                "570.86.15",
                true,
                Machine::Aarch64,
            ),
        ];
        for (text, version, open, machine) in cases {
            let facts = parse_version(text);
            assert_eq!(facts.version.as_ref().map(DriverVersion::as_str), Some(version));
            assert_eq!((facts.open, facts.machine), (open, Some(machine)));
        }
    }

    #[test]
    fn a_truncated_file_tells_no_version() {
        for text in ["", "NVRM version: NVIDIA UNIX Open Kernel Mod", "NVRM version: ", "GCC version:  gcc 12.2.0"] {
            assert_eq!(parse_version(text).version, None, "{text}");
        }
    }
}
