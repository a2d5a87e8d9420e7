//! Case: what a container asks for and runs, and what must come of it.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::time::Instant;

use serde_json::Value;

use super::docker;
use super::engine::{Asks, Engine, Job, Plan};
use super::fixture::{self, CDI_VERSIONS, EVIL, FIXTURE_NODES, Host, PROBE};
use super::one_line;
use super::outcome::Row;

/// Seconds that a container may take.
pub const TIME_LIMIT: &str = "60";
/// A device that no host has.
const NO_SUCH_DEVICE: &str = "nvidia.com/gpu=99";
/// What the kernel says of a node without a driver, of one that the device rules leave out, and of none at all.
const NO_DRIVER: &str = "No such device or address";
const NOT_ALLOWED: &str = "Operation not permitted";
const NO_FILE: &str = "No such file or directory";

/// One container.
pub struct Case {
    devices: Vec<String>,
    check: Check,
    /// Whether the spec is on disk.
    has_spec: bool,
}

/// What is run in a container, and what must come of it.
#[derive(Clone, Copy)]
pub enum Check {
    /// `gpu-check` finds all that the spec should bring, the probe's hook ran if it was asked for, and the node that was
    /// not asked for is denied.
    Everything,
    /// As above, and no hook loads what the image would have it load (CVE-2025-23266).
    NotHijacked,
    /// `nvidia-smi -L` lists the GPU.
    NvidiaSmi,
    /// The engine refuses to start.
    Refused,
    /// `gpu-check` finds nothing of the driver.
    Nothing,
}

/// The containers that an engine runs.
pub fn cases(plan: &Plan, runtime: &str, host: &Host) -> Vec<Case> {
    let case = |devices: &[&str], check| {
        let devices = devices.iter().map(|device| (*device).to_owned()).collect();
        Case { devices, check, has_spec: true }
    };
    // Docker's flag knows GPUs and nothing else.
    let gpus_only = runtime == docker::GPUS;
    let probes = if gpus_only { 0 } else { 1 };
    let everything = |device: &str| {
        case(&[device].into_iter().chain([PROBE].into_iter().take(probes)).collect::<Vec<_>>(), Check::Everything)
    };
    let uuid = host.uuid.iter().map(|uuid| everything(&format!("nvidia.com/gpu={uuid}")));
    let others = [
        case(&["nvidia.com/gpu=all"], Check::NvidiaSmi),
        case(&[NO_SUCH_DEVICE], Check::Refused),
        case(&[], Check::Nothing),
    ];
    let mut cases: Vec<Case> = ["nvidia.com/gpu=all", "nvidia.com/gpu=0"].map(everything).into();
    cases.extend(uuid);
    cases.extend(others);
    if !gpus_only {
        cases.push(everything("nvidia.com/hooked=all"));
        cases.push(everything("nvidia.com/targeted=all"));
        cases.push(case(&["nvidia.com/hooked=all", PROBE, EVIL], Check::NotHijacked));
    }
    if plan.asks == Asks::Runtime {
        cases.push(Case { has_spec: false, ..case(&["nvidia.com/gpu=0"], Check::Everything) });
    }
    cases
}

/// Which CDI versions an engine reads; that of the spec under test must be one of them.
pub fn versions(plan: &Plan, version: &str, runtime: &str, engine: &dyn Engine, host: &Host) -> Row {
    let started = Instant::now();
    let command = ["env".to_owned()];
    let reads = |version: &&&str| {
        let devices = [fixture::version_device(version)];
        let output = host.with_spec_of_version(version, || {
            engine.run(runtime, &Job { devices: &devices, command: &command, extras: None })
        });
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("CDI_VERSION_READ=yes"))
    };
    let read: Vec<&str> = CDI_VERSIONS.iter().filter(reads).copied().collect();
    let span = format!("{} to {}", read.first().unwrap_or(&"none"), read.last().unwrap_or(&"none"));
    let good = read.contains(&host.cdi_version.as_str());
    Row {
        engine: plan.name.to_owned(),
        version: version.to_owned(),
        runtime: runtime.to_owned(),
        case: format!("reads CDI (the spec is {})", host.cdi_version),
        result: if good { Ok(span) } else { Err(format!("reads only {}", read.join(", "))) },
        milliseconds: elapsed(started),
    }
}

/// Milliseconds since then.
pub fn elapsed(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Case {
    /// Runs the container and judges it.
    pub fn row(&self, plan: &Plan, version: &str, runtime: &str, engine: &dyn Engine, host: &Host) -> Row {
        let started = Instant::now();
        let run = || engine.run(runtime, &Job { devices: &self.devices, command: &self.command(host), extras: None });
        let output = if self.has_spec { run() } else { host.without_spec(run) };
        let milliseconds = elapsed(started);
        let result = match output {
            Ok(output) => self.judge(plan, host, &output),
            Err(error) => Err(one_line(&format!("{error:#}"))),
        };
        Row {
            engine: plan.name.to_owned(),
            version: version.to_owned(),
            runtime: runtime.to_owned(),
            case: self.title(),
            result: result.map(|()| self.good(plan).to_owned()),
            milliseconds,
        }
    }

    fn has_probe(&self) -> bool {
        self.devices.iter().any(|device| device == PROBE)
    }

    fn title(&self) -> String {
        let device = self.devices.first().map_or("none", String::as_str);
        let suffix = match self.check {
            Check::Everything if !self.has_spec => " (no spec on disk)",
            Check::Everything | Check::Nothing => "",
            Check::NotHijacked => " (LD_PRELOAD)",
            Check::NvidiaSmi => " (nvidia-smi)",
            Check::Refused => " (refused)",
        };
        format!("{device}{suffix}")
    }

    /// What a good outcome shows.
    fn good(&self, plan: &Plan) -> &'static str {
        match self.check {
            Check::Everything | Check::NotHijacked => match (self.has_probe(), plan.enforces) {
                (true, true) => "ok, hook ran, others denied",
                (true, false) => "ok, hook ran",
                (false, true) => "ok, others denied",
                (false, false) => "ok",
            },
            Check::NvidiaSmi | Check::Refused | Check::Nothing => "ok",
        }
    }

    fn command(&self, host: &Host) -> Vec<String> {
        let unasked = fixture::unasked().display().to_string();
        match self.check {
            Check::NvidiaSmi => vec!["nvidia-smi".to_owned(), "-L".to_owned()],
            Check::Everything | Check::NotHijacked | Check::Refused | Check::Nothing => {
                vec!["gpu-check".to_owned(), host.version.clone(), unasked]
            }
        }
    }

    /// Says what is wrong with what a container printed.
    fn judge(&self, plan: &Plan, host: &Host, output: &Output) -> Result<(), String> {
        let printed = String::from_utf8_lossy(&output.stdout);
        let words = String::from_utf8_lossy(&output.stderr);
        if let Check::Refused = self.check {
            let refused = !output.status.success() && format!("{printed}{words}").contains("unresolvable");
            return if refused { Ok(()) } else { Err(format!("not refused as unresolvable: {}", one_line(&words))) };
        }
        if output.status.signal().is_some() {
            return Err(format!("not done after {TIME_LIMIT} s: {}", one_line(&words)));
        }
        if !output.status.success() {
            return Err(format!("{}: {}", output.status, one_line(&format!("{printed} {words}"))));
        }
        match self.check {
            Check::NvidiaSmi if printed.contains("GPU 0: ") => Ok(()),
            Check::NvidiaSmi => Err(format!("printed {}", one_line(&printed))),
            Check::Nothing => compare(&nothing(plan), &printed),
            Check::NotHijacked if host.is_hijacked() => Err("a hook loaded the image's library".to_owned()),
            Check::Everything | Check::NotHijacked | Check::Refused => {
                compare(&everything(plan, host), &printed)?;
                if self.has_probe() { hook_ran(host) } else { Ok(()) }
            }
        }
    }
}

/// The probe's hook was given the state of a container.
fn hook_ran(host: &Host) -> Result<(), String> {
    let state = host.take_hook_state().map_err(|error| format!("the hook did not run: {error:#}"))?;
    let state: Value = serde_json::from_str(&state).map_err(|error| format!("the hook was given no JSON: {error}"))?;
    let bundle = state.get("bundle").and_then(Value::as_str);
    if bundle.is_some() { Ok(()) } else { Err(format!("the hook was given no bundle: {state}")) }
}

/// The lines of `gpu-check` in a container that has the device.
fn everything(plan: &Plan, host: &Host) -> BTreeMap<&'static str, String> {
    let files = ["libcuda.so", "libcuda.so.1", "libcuda.so.VERSION", "libnvidia-ml.so.1"];
    let files = files.into_iter().chain(["libnvidia-ptxjitcompiler.so.1", "nvidia-smi"]);
    let mut keys: BTreeMap<_, _> = files.map(|file| (file, "yes".to_owned())).collect();
    keys.extend([("nvml", host.version.clone()), ("visible", "void".to_owned())]);
    keys.extend(if host.real { vec![("nvidiactl", "opened".to_owned())] } else { of_fixture() });
    keys.extend(others_denied(plan));
    keys
}

/// ENXIO is what the kernel says where no driver is; EPERM would be the container's device rules.
fn of_fixture() -> Vec<(&'static str, String)> {
    let nodes = FIXTURE_NODES.map(|(name, ..)| name).join(" ");
    vec![
        ("cuda", "13000".to_owned()),
        ("firmware", "yes".to_owned()),
        ("nodes", nodes),
        ("nvidiactl", NO_DRIVER.to_owned()),
    ]
}

/// The lines of `gpu-check` in a container that asked for no device.
fn nothing(plan: &Plan) -> BTreeMap<&'static str, String> {
    let missing = ["libcuda.so.1", "nvidia-smi", "nvidiactl"].map(|key| (key, NO_FILE.to_owned()));
    let none = [("nodes", String::new()), ("visible", "unset".to_owned())];
    missing.into_iter().chain(none).chain(others_denied(plan)).collect()
}

/// A node that was not asked for can neither be used, where somebody can see to that, nor made
/// (`second_gpu_mknod_blocked`).
fn others_denied(plan: &Plan) -> impl Iterator<Item = (&'static str, String)> {
    let unasked = plan.enforces.then_some("unasked");
    unasked.into_iter().chain(["made"]).map(|key| (key, NOT_ALLOWED.to_owned()))
}

fn compare(expected: &BTreeMap<&str, String>, printed: &str) -> Result<(), String> {
    let found: BTreeMap<_, _> = printed.lines().filter_map(|line| line.trim().split_once('=')).collect();
    let wrong = |(key, value): (&&str, &String)| {
        let found = found.get(*key).copied().unwrap_or("missing");
        (found != value).then(|| format!("{key}={found}, not {value}"))
    };
    let wrong: Vec<_> = expected.iter().filter_map(wrong).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}
