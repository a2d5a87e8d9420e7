//! GPUs as the kernel driver lists them: `/proc/driver/nvidia/gpus/<bus id>/information`.
//!
//! The wording is that of driver branches 470 to 595 (open-gpu-kernel-modules, nv-procfs.c): the UUID is `GPU-????…`
//! for a GPU that was never initialised (up to 580) or its line is absent (from 590); a GPU that fell off the bus may
//! leave the file empty.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use crate::problem::Problem;
use crate::tree::Tree;

/// One directory a GPU, named by its PCI address.
const GPUS: &str = "/proc/driver/nvidia/gpus";

/// Capabilities of MIG instances, a directory a GPU, named by its minor number; `mig/gi<n>` for each instance.
const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";

/// One GPU of the kernel's list. A field is `None` where the kernel does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GpuFact {
    /// PCI address with a four-digit domain: `0000:00:06.0`.
    pub bus_id: String,
    /// Marketing name.
    pub model: Option<String>,
    /// `GPU-…`, or a bare UUID on integrated GPUs.
    pub uuid: Option<String>,
    /// Minor number of `/dev/nvidia<minor>`; not the index, not the PCI order.
    pub minor: Option<u32>,
    /// Taken out of use by `NVreg_ExcludedGpus`.
    pub excluded: bool,
    /// Split into MIG instances.
    pub mig: bool,
}

/// Parses one `information` file.
pub fn parse_information(bus_id: &str, text: &str) -> GpuFact {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim();
        (!value.is_empty()).then(|| value.to_owned())
    };
    GpuFact {
        bus_id: bus_id.to_owned(),
        model: field("Model"),
        uuid: field("GPU UUID").filter(|uuid| is_uuid(uuid)),
        minor: field("Device Minor").and_then(|minor| minor.parse().ok()),
        excluded: ["GPU Excluded", "Blacklisted"].into_iter().filter_map(field).any(|value| value == "Yes"),
        mig: false,
    }
}

/// Whether the kernel knows the UUID: it is hexadecimal, with or without a `GPU-` in front, and not `GPU-????????-…`.
pub fn is_uuid(text: &str) -> bool {
    let digits = text.strip_prefix("GPU-").unwrap_or(text);
    digits.len() == 36
        && digits.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Reads the kernel's list, in PCI order: the order in which NVML counts its indices.
pub fn read(system: &Tree, problems: &mut Vec<Problem>) -> Vec<GpuFact> {
    let listed = match system.list(GPUS.into(), |_| true) {
        Ok(listed) => listed,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                problems.push(Problem::warning("unreadable", format!("cannot list {GPUS}: {error}")));
            }
            return Vec::new();
        }
    };
    listed.iter().map(|entry| read_one(system, &entry.name, problems)).collect()
}

fn read_one(system: &Tree, bus_id: &str, problems: &mut Vec<Problem>) -> GpuFact {
    let path: Utf8PathBuf = Utf8Path::new(GPUS).join(bus_id).join("information");
    match system.read_text(&path) {
        Ok(text) => {
            let gpu = parse_information(bus_id, &text);
            GpuFact { mig: gpu.minor.is_some_and(|minor| has_mig_instances(system, minor)), ..gpu }
        }
        Err(error) => {
            problems.push(Problem::warning("unreadable", format!("cannot read {path}: {error}")));
            GpuFact { bus_id: bus_id.to_owned(), ..GpuFact::default() }
        }
    }
}

/// A GPU in MIG mode without instances has the directory, and nothing in it.
fn has_mig_instances(system: &Tree, minor: u32) -> bool {
    let dir = Utf8Path::new(CAPABILITIES).join(format!("gpu{minor}")).join("mig");
    system.list(&dir, |name| name.starts_with("gi")).is_ok_and(|instances| !instances.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: &str = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 41\n\
        GPU UUID: \t GPU-00000000-1111-2222-3333-444444444444\nVideo BIOS: \t 96.00.da.00.0c\nBus Type: \t PCIe\n\
        DMA Size: \t 52 bits\nDMA Mask: \t 0xfffffffffffff\nBus Location: \t 0000:00:06.0\nDevice Minor: \t 3\n\
        GPU Firmware: \t 580.159.04\nGPU Excluded:\t No\n";

    #[test]
    fn a_whole_file() {
        let gpu = parse_information("0000:00:06.0", H100);
        let expected = GpuFact {
            bus_id: "0000:00:06.0".into(),
            model: Some("NVIDIA H100 80GB HBM3".into()),
            uuid: Some("GPU-00000000-1111-2222-3333-444444444444".into()),
            minor: Some(3),
            excluded: false,
            mig: false,
        };
        assert_eq!(gpu, expected);
    }

    #[test]
    fn every_variant_of_the_uuid() {
        let cases = [
            ("GPU UUID: \t GPU-????????-????-????-????-????????????\n", None),
            ("", None),
            ("GPU UUID: \t \n", None),
            ("GPU UUID: \t GPU-0000\n", None),
            ("GPU UUID: \t 1833c8b5-9aa0-5382-b784-68b7e77eb185\n", Some("1833c8b5-9aa0-5382-b784-68b7e77eb185")),
        ];
        for (text, uuid) in cases {
            assert_eq!(parse_information("b", text).uuid.as_deref(), uuid, "{text}");
        }
    }

    #[test]
    fn excluded_in_both_wordings() {
        assert!(parse_information("b", "GPU Excluded:\t Yes\n").excluded);
        assert!(parse_information("b", "Blacklisted:\t Yes\n").excluded);
        assert!(!parse_information("b", "GPU Excluded:\t No\n").excluded);
    }

    #[test]
    fn an_empty_or_truncated_file_tells_nothing_and_does_not_panic() {
        for end in 0..H100.len() {
            if H100.is_char_boundary(end) {
                parse_information("b", &H100[..end]);
            }
        }
        assert_eq!(parse_information("b", ""), GpuFact { bus_id: "b".into(), ..GpuFact::default() });
    }
}
