//! GPUs that containers can use, numbered as NVML numbers them.

use serde::Serialize;

use crate::facts::HostFacts;
use crate::facts::devices::NodeFact;
use crate::facts::drm::DrmFacts;
use crate::facts::gpus::GpuFact;
use crate::problem::Problem;

/// A GPU that can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// NVML's index: the position in PCI order among the GPUs that are not excluded. A dead GPU keeps its number.
    pub index: usize,
    /// PCI address; unknown where `/proc` is masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus_id: Option<String>,
    /// UUID; unknown where neither kernel nor NVML told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Marketing name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// `/dev/nvidia<minor>`.
    pub node: NodeFact,
    /// DRM nodes.
    pub drm: DrmFacts,
}

/// The usable GPUs. Each that is not costs its own entry and a problem.
pub fn select(facts: &HostFacts, problems: &mut Vec<Problem>) -> Vec<Gpu> {
    if facts.gpus.is_empty() {
        return from_nodes(facts, problems);
    }
    let (excluded, listed): (Vec<_>, Vec<_>) = facts.gpus.iter().partition(|gpu| gpu.excluded);
    for gpu in excluded {
        problems.push(Problem::note("gpu-excluded", format!("GPU {} is excluded by NVreg_ExcludedGpus", gpu.bus_id)));
    }
    let (listed, withheld): (Vec<_>, Vec<_>) = listed.into_iter().partition(|gpu| !is_withheld(facts, gpu));
    if !withheld.is_empty() {
        let message = format!("{} GPUs of the host were not given to this container", withheld.len());
        problems.push(Problem::note("gpu-withheld", message));
    }
    let usable = listed.iter().enumerate().filter_map(|(index, gpu)| match usable(facts, &listed, index, gpu) {
        Ok(gpu) => Some(gpu),
        Err(problem) => {
            problems.push(problem);
            None
        }
    });
    let usable: Vec<Gpu> = usable.collect();
    for gpu in listed.iter().filter(|gpu| gpu.mig) {
        let message = format!("GPU {} is split into MIG instances, which get no devices of their own yet", gpu.bus_id);
        problems.push(Problem::warning("mig", message).hint("CUDA cannot use the whole GPU meanwhile"));
    }
    usable.iter().for_each(|gpu| report_gaps(gpu, problems));
    usable
}

/// A container sees all GPUs of its host in `/proc`, and nodes of those that it was given. NVML counts only these.
fn is_withheld(facts: &HostFacts, gpu: &GpuFact) -> bool {
    facts.nested && gpu.minor.is_some_and(|minor| !facts.nodes.gpus.contains_key(&minor))
}

fn usable(facts: &HostFacts, listed: &[&GpuFact], index: usize, gpu: &GpuFact) -> Result<Gpu, Problem> {
    let bus_id = &gpu.bus_id;
    let minor = gpu.minor.ok_or_else(|| dead(index, bus_id))?;
    if listed.iter().filter(|other| other.minor == Some(minor)).count() > 1 {
        let message = format!("GPU {index} ({bus_id}) and another claim minor number {minor}; neither is given out");
        return Err(Problem::warning("minor-conflict", message).hint("reload the nvidia kernel module"));
    }
    let node = facts.nodes.gpus.get(&minor).ok_or_else(|| {
        let message = format!("GPU {index} ({bus_id}) has no device node /dev/nvidia{minor}");
        Problem::warning("missing-node", message).hint(format!("create it: nvidia-modprobe -c {minor}"))
    })?;
    Ok(Gpu {
        index,
        bus_id: Some(bus_id.clone()),
        uuid: gpu.uuid.clone(),
        model: gpu.model.clone(),
        node: node.clone(),
        drm: facts.nodes.drm.get(bus_id).cloned().unwrap_or_default(),
    })
}

fn dead(index: usize, bus_id: &str) -> Problem {
    Problem::warning("gpu-dead", format!("GPU {index} ({bus_id}) does not answer and is left out"))
        .hint("see dmesg for Xid 79; reset or reseat the GPU")
}

fn report_gaps(gpu: &Gpu, problems: &mut Vec<Problem>) {
    let name = gpu.bus_id.as_deref().unwrap_or_default();
    if gpu.uuid.is_none() {
        let message = format!("the UUID of GPU {} ({name}) is not known; no device is named by it", gpu.index);
        problems.push(Problem::warning("no-uuid", message).hint("initialise the GPU, or ask NVML: --nvml always"));
    }
    for path in &gpu.drm.missing {
        let message = format!("GPU {} ({name}) has no device node {path}", gpu.index);
        problems.push(Problem::warning("missing-node", message).hint("udevadm trigger --subsystem-match=drm"));
    }
}

/// GPUs of a host that hides `/proc/driver/nvidia/gpus`: what `/dev` shows, in the order of minor numbers.
fn from_nodes(facts: &HostFacts, problems: &mut Vec<Problem>) -> Vec<Gpu> {
    if !facts.nodes.gpus.is_empty() {
        let message = "/proc/driver/nvidia/gpus lists no GPU; GPUs are taken from /dev, without UUIDs";
        problems.push(Problem::warning("no-gpu-list", message).hint("ask NVML: --nvml always"));
    }
    let nodes = facts.nodes.gpus.values().enumerate();
    nodes
        .map(|(index, node)| Gpu {
            index,
            bus_id: None,
            uuid: None,
            model: None,
            node: node.clone(),
            drm: DrmFacts::default(),
        })
        .collect()
}
