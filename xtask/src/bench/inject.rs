//! `cargo xtask bench inject`: what cdi-apply adds to the start of a container. I/O.
#![expect(clippy::disallowed_methods, reason = "lays out specs and runs programs")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use cdi_specs::{ContainerEdits, Device, DeviceNode, Mount, Spec};

use super::{Cost, measure, parse_cost, print_head, print_row, text, within};
use crate::{build, dist};

/// A whole injection costs at most this many times `/bin/true`.
const TRUE_LIMIT: f64 = 2.0;
/// Milliseconds that reading the spec and injecting may take within a process.
const IN_PROCESS_LIMIT: f64 = 0.5;
/// Files, and the milliseconds that listing them and looking one up may take.
const SIZES: [usize; 4] = [1, 10, 100, 1000];
const DEVICES_EACH: usize = 10;
const LIST_LIMIT: f64 = 150.0;
const RESOLVE_LIMIT: f64 = 50.0;
/// The spec that the NVIDIA toolkit wrote on a host with an H100, and all of its devices.
const SPEC: &str = "testdata/specs/nvidia-ctk-1.20-h100.yaml";
const DEVICE: &str = "nvidia.com/gpu=all";

/// Measures all.
pub fn run() -> anyhow::Result<()> {
    let programs = build::release(&["xtask"])?;
    let shipped = dist::static_programs()?.join("cdi-apply");
    let work = tempfile::tempdir().context("cannot make a temporary directory")?;
    one_injection(&programs, &shipped, work.path())?;
    many_files(&programs, &shipped, work.path())
}

fn one_injection(programs: &Path, shipped: &Path, work: &Path) -> anyhow::Result<()> {
    let bundle = testdata::bundle("podman-5.8");
    let config = work.join("config.json");
    fs::write(&config, &bundle.config).context("cannot write config.json")?;
    let specs = work.join("specs");
    fs::create_dir(&specs).context("cannot make a directory")?;
    let spec = fs::read_to_string(build::root().join(SPEC)).with_context(|| format!("cannot read {SPEC}"))?;
    fs::write(specs.join("nvidia.yaml"), &spec).context("cannot write the spec")?;
    let spec = cdi_specs::parse_yaml(&spec).context(SPEC)?;
    let nodes = nodes(&spec);

    let inject = ["inject", "--spec-dir", &text(&specs), "--device", DEVICE, "--stdout", &text(&config)];
    let inject = [&[text(shipped)], &inject.map(str::to_owned)[..]].concat();
    let version = vec![text(shipped), "--version".to_owned()];
    let mut runs = Command::new(programs.join("spawn-cost"));
    runs.arg("400").args([vec!["/bin/true".to_owned()], version, inject].join(&"--".to_owned()));
    let printed = build::output(&mut with_nodes(&nodes, &runs))?;
    let costs: Vec<Cost> = printed.lines().filter_map(parse_cost).collect();
    let [floor, version, inject] = costs.as_slice() else { anyhow::bail!("spawn-cost printed {printed}") };
    print_head();
    print_row("/bin/true", floor);
    print_row("cdi-apply --version", version);
    print_row("cdi-apply inject", inject);
    println!("{:44} {:>19.2}x\n", "  over /bin/true", inject.median / floor.median);

    let mut in_process = Command::new(programs.join("inject-cost"));
    in_process.arg(&specs).arg(&config).arg(DEVICE);
    let printed = build::output(&mut with_nodes(&nodes, &in_process))?;
    print!("{printed}");
    let total = printed.lines().last().and_then(|line| line.split_whitespace().last());
    let total: f64 = total.and_then(|total| total.parse().ok()).context("inject-cost printed no sum")?;
    within(inject.median / floor.median, TRUE_LIMIT)?;
    within(total, IN_PROCESS_LIMIT)
}

/// The nodes of a spec, by path.
fn nodes(spec: &Spec) -> BTreeMap<&str, (i64, i64)> {
    let edits = spec.devices.iter().map(|device| &device.container_edits).chain([&spec.container_edits]);
    edits.flat_map(|edits| &edits.device_nodes).map(|node| (node.path.as_str(), (node.major, node.minor))).collect()
}

/// A command that finds these nodes in a /dev of its own.
fn with_nodes(nodes: &BTreeMap<&str, (i64, i64)>, command: &Command) -> Command {
    let make = |(path, (major, minor)): (&&str, &(i64, i64))| {
        format!("mkdir -p \"$(dirname {path})\"; mknod -m 666 {path} c {major} {minor}; ")
    };
    let nodes: String = nodes.iter().map(make).collect();
    let script = format!("mount -t tmpfs tmpfs /dev; mknod -m 666 /dev/null c 1 3; {nodes}exec \"$@\"");
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-e", "-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    unshare
}

/// Directories of ever more files, each with ten devices of a kind of its own.
fn many_files(programs: &Path, shipped: &Path, work: &Path) -> anyhow::Result<()> {
    println!("\n{:>6} {:>8} {:>12} {:>12}   medians of 40, ms", "files", "devices", "list", "resolve one");
    for size in SIZES {
        let dir = write_specs(&work.join(size.to_string()), size)?;
        let list = [&text(shipped), "list", "--spec-dir", &text(&dir)].map(str::to_owned).to_vec();
        let device = format!("{}=gpu7", kind(size / 2));
        let resolve = [&text(shipped), "resolve", "--spec-dir", &text(&dir), &device].map(str::to_owned).to_vec();
        let costs = measure(programs, "40", &[list, resolve])?;
        let [list, resolve] = costs.as_slice() else { continue };
        println!("{size:>6} {:>8} {:>12.2} {:>12.2}", size * DEVICES_EACH, list.median, resolve.median);
        within(list.median, LIST_LIMIT)?;
        within(resolve.median, RESOLVE_LIMIT)?;
    }
    Ok(())
}

fn kind(file: usize) -> String {
    format!("vendor{file}.com/gpu")
}

fn write_specs(dir: &Path, size: usize) -> anyhow::Result<PathBuf> {
    fs::create_dir(dir).context("cannot make a directory")?;
    for file in 0..size {
        let spec = cdi_specs::to_yaml(&spec(file));
        fs::write(dir.join(format!("{file}.yaml")), spec).context("cannot write a spec")?;
    }
    Ok(dir.to_owned())
}

fn spec(file: usize) -> Spec {
    let device = |index: usize| {
        let node = DeviceNode { path: format!("/dev/vendor{file}-{index}"), ..DeviceNode::default() };
        let library = format!("/usr/lib/vendor{file}/libgpu.so.{index}");
        let options = ["ro", "nosuid", "nodev", "rbind"].map(str::to_owned).to_vec();
        let mount = Mount { host_path: library.clone(), container_path: library, options, ..Mount::default() };
        let container_edits =
            ContainerEdits { device_nodes: vec![node], mounts: vec![mount], ..ContainerEdits::default() };
        Device { name: format!("gpu{index}"), container_edits, ..Device::default() }
    };
    let devices = (0..DEVICES_EACH).map(device).collect();
    Spec { cdi_version: "0.3.0".to_owned(), kind: kind(file), devices, ..Spec::default() }
}
