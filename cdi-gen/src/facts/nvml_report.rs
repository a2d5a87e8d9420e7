//! What NVML says, as the child process that asks it writes it: one JSON document.

use std::time::Duration;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::gpus::{GpuFact, is_uuid};

/// Who asks NVML, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NvmlPolicy {
    /// Only where the kernel does not tell.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How to ask NVML.
#[derive(Clone, Debug, Default)]
pub struct NvmlQuery {
    /// When.
    pub policy: NvmlPolicy,
    /// The program that loads NVML in its own process: `cdi-gen` itself.
    pub program: Utf8PathBuf,
    /// How long to wait.
    pub time_limit: Duration,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NvmlReport {
    /// The newest CUDA version that the driver runs: major and minor.
    #[serde(default)]
    pub cuda: Option<[u32; 2]>,
    /// In NVML's order, which is the index.
    pub gpus: Vec<NvmlGpu>,
    /// What NVML refused, GPU by GPU.
    pub errors: Vec<String>,
    /// The user that the library ran as.
    #[serde(default)]
    pub user: u32,
}

/// One GPU of NVML's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NvmlGpu {
    /// NVML's index.
    #[serde(default)]
    pub index: u32,
    /// PCI address with NVML's eight-digit domain.
    pub bus_id: String,
    /// `GPU-…`.
    pub uuid: Option<String>,
    /// Minor number of the device node.
    pub minor: Option<u32>,
    /// Marketing name.
    pub model: Option<String>,
    /// Compute capability: major and minor.
    #[serde(default)]
    pub arch: Option<[u32; 2]>,
    /// Product line, in lower-case letters without blanks: `tesla`, `geforcertx`.
    #[serde(default)]
    pub brand: Option<String>,
}

/// The most GPUs of one host, and bytes of what is said about one.
const MOST_GPUS: usize = 256;
const LONGEST_WORDS: usize = 96;

impl NvmlReport {
    /// What of an answer may be true. The library may say anything, and its words end up in names of devices.
    #[must_use]
    pub fn checked(mut self) -> Self {
        self.gpus.retain(|gpu| is_bus_id(&gpu.bus_id));
        self.gpus.truncate(MOST_GPUS);
        self.errors.truncate(MOST_GPUS);
        self.errors.iter_mut().for_each(shorten);
        for gpu in &mut self.gpus {
            gpu.uuid = gpu.uuid.take().filter(|uuid| is_uuid(uuid));
            gpu.model.iter_mut().chain(&mut gpu.brand).for_each(shorten);
        }
        self
    }
}

/// A PCI address: domain, bus, device and function.
fn is_bus_id(text: &str) -> bool {
    let is_hex = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = text.splitn(4, [':', '.']).collect();
    text.len() <= LONGEST_WORDS && parts.len() == 4 && parts.into_iter().all(is_hex)
}

fn shorten(words: &mut String) {
    let end = (0..=LONGEST_WORDS.min(words.len())).rev().find(|at| words.is_char_boundary(*at));
    words.truncate(end.unwrap_or_default());
}

/// Whether the kernel leaves a question open that NVML can answer.
pub fn is_needed(gpus: &[GpuFact], has_gpu_nodes: bool) -> bool {
    let open = |gpu: &GpuFact| !gpu.excluded && (gpu.uuid.is_none() || gpu.minor.is_none());
    gpus.iter().any(open) || (gpus.is_empty() && has_gpu_nodes)
}

/// Fills what the kernel left open. Where the kernel lists no GPU at all (masked `/proc`), NVML's list stands.
pub fn merge(gpus: &mut Vec<GpuFact>, report: &NvmlReport) {
    if gpus.is_empty() {
        gpus.extend(report.gpus.iter().map(|gpu| GpuFact { bus_id: short_bus_id(&gpu.bus_id), ..GpuFact::default() }));
        gpus.sort_by(|a, b| a.bus_id.cmp(&b.bus_id));
    }
    for fact in gpus {
        let Some(gpu) = report.gpus.iter().find(|gpu| short_bus_id(&gpu.bus_id) == fact.bus_id) else { continue };
        fact.uuid = fact.uuid.take().or_else(|| gpu.uuid.clone().filter(|uuid| is_uuid(uuid)));
        fact.minor = fact.minor.or(gpu.minor);
        fact.model = fact.model.take().or_else(|| gpu.model.clone());
    }
}

/// The kernel's form of a PCI address: NVML writes `00000000:0B:00.0` where the kernel writes `0000:0b:00.0`.
pub fn short_bus_id(bus_id: &str) -> String {
    let lower = bus_id.to_ascii_lowercase();
    match lower.strip_prefix("0000") {
        Some(short) if short.find(':') == Some(4) => short.to_owned(),
        _ => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "GPU-00000000-1111-2222-3333-444444444444";

    fn report() -> NvmlReport {
        let gpu = NvmlGpu {
            bus_id: "00000000:0B:00.0".into(),
            uuid: Some(UUID.into()),
            minor: Some(1),
            ..NvmlGpu::default()
        };
        NvmlReport { gpus: vec![gpu], ..NvmlReport::default() }
    }

    #[test]
    fn nvml_fills_what_the_kernel_left_open() {
        let mut gpus = vec![GpuFact { bus_id: "0000:0b:00.0".into(), minor: Some(7), ..GpuFact::default() }];
        assert!(is_needed(&gpus, true));
        merge(&mut gpus, &report());
        assert_eq!((gpus[0].uuid.as_deref(), gpus[0].minor), (Some(UUID), Some(7)));
        assert!(!is_needed(&gpus, true));
    }

    #[test]
    fn nvml_lists_gpus_that_a_masked_proc_hides() {
        let mut gpus = Vec::new();
        assert!(is_needed(&gpus, true) && !is_needed(&gpus, false));
        merge(&mut gpus, &report());
        assert_eq!((gpus[0].bus_id.as_str(), gpus[0].minor), ("0000:0b:00.0", Some(1)));
    }

    #[test]
    fn what_cannot_be_true_is_no_answer() {
        let gpu = |bus_id: &str| NvmlGpu {
            bus_id: bus_id.into(),
            uuid: Some("GPU-../../x".into()),
            model: Some("é".repeat(1000)),
            ..NvmlGpu::default()
        };
        let ids = ["00000000:0B:00.0", "../../etc", "", ":::", "0:0:0.0.0", "0000:01:00"];
        let gpus = ids.map(gpu).into_iter().chain(vec![gpu("0:0:0.0"); 1000]).collect();
        let report = NvmlReport { gpus, errors: vec!["x".repeat(1000)], ..NvmlReport::default() }.checked();
        assert_eq!((report.gpus.len(), report.gpus[0].bus_id.as_str()), (MOST_GPUS, "00000000:0B:00.0"));
        assert_eq!(report.gpus[1].bus_id, "0:0:0.0");
        assert!(report.gpus.iter().all(|gpu| gpu.uuid.is_none() && gpu.model.as_ref().unwrap().len() == 96));
        assert_eq!(report.errors[0].len(), 96);
    }

    #[test]
    fn both_domain_widths() {
        assert_eq!(short_bus_id("00000009:01:00.0"), "0009:01:00.0");
        assert_eq!(short_bus_id("10000000:01:00.0"), "10000000:01:00.0");
        assert_eq!(short_bus_id("0000:01:00.0"), "0000:01:00.0");
    }
}
