//! `cargo xtask bench`: whole processes, measured side by side in one run. I/O.
#![expect(clippy::disallowed_methods, reason = "lays out hosts and runs programs")]

mod attacks;
pub mod hook;
mod inject;
mod runtime;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;
use testdata::Host;

use crate::build;
pub use attacks::run as attacks;
pub use inject::run as inject;

/// Runs of each command.
const ROUNDS: &str = "200";

/// `cdi-gen generate` costs at most this many times its floor.
const FLOOR_LIMIT: f64 = 3.0;
/// Sixteen GPUs cost at most this many times one.
const SIXTEEN_LIMIT: f64 = 2.0;
/// `cdi-gen --version` costs at most this many times `/bin/true`.
const START_LIMIT: f64 = 1.5;

/// `cdi-gen check` takes at most so many milliseconds more than `/bin/true`.
const CHECK_LIMIT: f64 = 3.0;

/// One measured command.
struct Cost {
    least: f64,
    median: f64,
    greatest: f64,
    peak_kib: f64,
    /// What it takes more than the command before it, in the mean, and the standard error of that.
    added: f64,
    error: f64,
}

/// `cdi-gen generate` on the largest fixture, with one GPU and with sixteen, each beside its floor; and `cdi-gen check`.
pub fn generate() -> anyhow::Result<()> {
    let programs = build::release(&["cdi-gen", "xtask"])?;
    let mut hosts = testdata::hosts();
    hosts.sort_by_key(|host| std::cmp::Reverse(host.tree.entries().len()));
    let largest = hosts.into_iter().find(|host| host.name != SIXTEEN).context("there are no fixtures")?;
    let sixteen = testdata::host(SIXTEEN);
    let one = with_one_gpu(&sixteen)?;
    let work = tempfile::tempdir().context("cannot make a temporary directory")?;
    let cases = [("largest fixture", &largest), ("sixteen GPUs", &sixteen), ("one of the sixteen", &one)];
    let mut commands: Vec<Vec<String>> = Vec::new();
    for (name, host) in cases {
        let case = Case::new(&programs, &work.path().join(name), host)?;
        commands.push(case.generate());
        commands.push(vec![text(&programs.join("floor")), text(&case.floor_list(&programs)?)]);
    }
    let costs = measure(&programs, ROUNDS, &commands)?;
    let medians: Vec<f64> = costs.iter().map(|cost| cost.median).collect();
    print_head();
    for (pair, (name, host)) in costs.chunks(2).zip(cases) {
        for (cost, what) in pair.iter().zip(["cdi-gen generate", "floor"]) {
            print_row(&format!("{name}: {what}"), cost);
        }
        let [generate, floor] = pair else { continue };
        println!("{:44} {:>19.2}x   ({})\n", "  over its floor", generate.median / floor.median, host.name);
        within(generate.median / floor.median, FLOOR_LIMIT)?;
    }
    if let [_, _, sixteen, _, one, _] = *medians.as_slice() {
        println!("sixteen GPUs over one: {:.2}x", sixteen / one);
        within(sixteen / one, SIXTEEN_LIMIT)?;
    }
    check(&programs, &work.path().join("largest fixture"))
}

/// `cdi-gen check` of the spec of the largest fixture, beside `/bin/true`.
fn check(programs: &Path, host: &Path) -> anyhow::Result<()> {
    let case = Case::at(programs, host);
    let check = ["check", "--output", &text(&case.spec)].map(str::to_owned).to_vec();
    let check = [vec![text(&case.program)], check, case.flags()].concat();
    let costs = measure(programs, ROUNDS, &[vec!["/bin/true".to_owned()], check])?;
    let [floor, check] = costs.as_slice() else { return Ok(()) };
    print_row("\ncdi-gen check, largest fixture", check);
    let added = check.median - floor.median;
    println!("{:44} {added:>19.2} ms", "  over /bin/true");
    within(added, CHECK_LIMIT)
}

/// `cdi-gen --version` and the hook beside `/bin/true`; and what the hook adds to the start of a container.
pub fn start() -> anyhow::Result<()> {
    let programs = build::release(&["cdi-gen", "xtask"])?;
    let commands = [vec!["/bin/true".to_owned()], vec![text(&programs.join("cdi-gen")), "--version".to_owned()]];
    let costs = measure(&programs, ROUNDS, &commands)?;
    let [floor, version] = costs.as_slice() else { return Ok(()) };
    print_head();
    print_row("/bin/true", floor);
    print_row("cdi-gen --version", version);
    println!("{:44} {:>19.2}x\n", "  over /bin/true", version.median / floor.median);
    within(version.median / floor.median, START_LIMIT)?;
    hook::run(&programs)
}

/// cdi-runtime in front of a runtime.
pub fn runtime() -> anyhow::Result<()> {
    runtime::run(&build::release(&["cdi-gen", "xtask"])?)
}

fn within(ratio: f64, limit: f64) -> anyhow::Result<()> {
    ensure!(ratio < limit, "{ratio:.2} is over the limit of {limit}");
    Ok(())
}

/// The fixture with the most GPUs.
const SIXTEEN: &str = "sixteen-gpus";

fn print_head() {
    println!("{:44} {:>9} {:>9} {:>9} {:>9}", "whole process, ms", "least", "median", "greatest", "peak KiB");
}

fn print_row(name: &str, cost: &Cost) {
    println!("{name:44} {:>9.2} {:>9.2} {:>9.2} {:>9}", cost.least, cost.median, cost.greatest, cost.peak_kib);
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Runs the commands in turn, so that what else the machine does hits all alike.
fn measure(programs: &Path, rounds: &str, commands: &[Vec<String>]) -> anyhow::Result<Vec<Cost>> {
    let words = commands.join(&"--".to_owned());
    // What was prepared is written to the disk now, and not while others make files.
    build::run(&mut Command::new("sync"))?;
    let printed = build::output(Command::new(programs.join("spawn-cost")).arg(rounds).args(words))?;
    let costs: Vec<Cost> = printed.lines().filter_map(parse_cost).collect();
    ensure!(costs.len() == commands.len(), "spawn-cost printed {printed}");
    Ok(costs)
}

fn parse_cost(line: &str) -> Option<Cost> {
    let fields: Option<Vec<f64>> = line.split('\t').map(|field| field.parse().ok()).collect();
    let [least, median, greatest, peak_kib, added, error] = *fields?.as_slice() else { return None };
    let [least, median, greatest, added, error] = [least, median, greatest, added, error].map(|micros| micros / 1000.0);
    Some(Cost { least, median, greatest, peak_kib, added, error })
}

/// The same host with its first GPU only.
fn with_one_gpu(host: &Host) -> anyhow::Result<Host> {
    let buses: Vec<String> = host.tree.to_string().lines().filter_map(bus_of_gpu).map(str::to_owned).collect();
    let others: Vec<&String> = buses.iter().skip(1).collect();
    let is_other = |line: &str| {
        others.iter().any(|bus| line.contains(bus.as_str()))
            || line
                .strip_prefix("char /dev/nvidia")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && !rest.starts_with("0 "))
    };
    let kept: String =
        host.tree.to_string().lines().filter(|line| !is_other(line)).fold(String::new(), |mut kept, line| {
            let _ = writeln!(kept, "{line}");
            kept
        });
    let tree = testdata::HostTree::parse(&kept).context("the host with one GPU")?;
    Ok(Host { name: format!("{SIXTEEN}, one left"), summary: host.summary.clone(), tree })
}

fn bus_of_gpu(line: &str) -> Option<&str> {
    line.strip_prefix("file /proc/driver/nvidia/gpus/")?.split_once("/information").map(|(bus, _)| bus)
}

/// One laid-out host.
struct Case {
    program: PathBuf,
    root: PathBuf,
    nodes: PathBuf,
    spec: PathBuf,
}

impl Case {
    fn new(programs: &Path, dir: &Path, host: &Host) -> anyhow::Result<Self> {
        let case = Self::at(programs, dir);
        host.tree.lay_out(&case.root).with_context(|| format!("cannot lay out {}", host.name))?;
        fs::write(&case.nodes, host.tree.device_list()).context("cannot write the device list")?;
        Ok(case)
    }

    fn at(programs: &Path, dir: &Path) -> Self {
        Self {
            program: programs.join("cdi-gen"),
            root: dir.join("root"),
            nodes: dir.join("device-nodes"),
            spec: dir.join("spec.yaml"),
        }
    }

    fn flags(&self) -> Vec<String> {
        ["--root", &text(&self.root), "--device-nodes", &text(&self.nodes)].map(str::to_owned).to_vec()
    }

    fn generate(&self) -> Vec<String> {
        let command = [text(&self.program), "generate".to_owned(), "--hooks".to_owned(), "none".to_owned()];
        [command.to_vec(), self.flags()].concat()
    }

    /// What a generator with perfect foresight would look at: derived from what the real one found and printed.
    fn floor_list(&self, programs: &Path) -> anyhow::Result<PathBuf> {
        let mut show = Command::new(programs.join("cdi-gen"));
        let facts = build::output(show.args(["show", "inventory", "--format", "json", "--quiet"]).args(self.flags()))?;
        let inventory: Value = serde_json::from_str(&facts).context("cdi-gen show printed no JSON")?;
        let mut generate = Command::new(&self.program);
        let spec = build::output(generate.args(self.generate().iter().skip(1)))?;
        fs::write(&self.spec, spec).context("cannot write the spec")?;
        let mut list = format!("read {}\n", text(&self.nodes));
        let mut add = |word: &str, path: &str| {
            let _ = writeln!(list, "{word} {}{path}", text(&self.root));
        };
        for path in ["/proc/driver/nvidia/version", "/etc/ld.so.cache"] {
            add("read", path);
        }
        for gpu in items(&inventory, "gpus") {
            let bus = gpu.get("bus_id").and_then(Value::as_str).unwrap_or_default();
            add("read", &format!("/proc/driver/nvidia/gpus/{bus}/information"));
            add("list", &format!("/sys/bus/pci/devices/{bus}/drm"));
        }
        add("list", "/proc/driver/nvidia/gpus");
        add("list", "/dev");
        let mut dirs = std::collections::BTreeSet::new();
        for library in items(&inventory, "libraries") {
            let path = host_path(library);
            dirs.extend(Path::new(&path).parent().map(text));
            add("head", &path);
            for name in items(library, "names").iter().filter_map(|name| name.as_str()) {
                add("link", &format!("{}/{name}", Path::new(&path).parent().map(text).unwrap_or_default()));
            }
        }
        dirs.iter().for_each(|dir| add("list", dir));
        for (key, word) in [("binaries", "head"), ("configs", "read"), ("firmware", "stat"), ("sockets", "stat")] {
            items(&inventory, key).iter().for_each(|item| add(word, &host_path(item)));
        }
        let _ = writeln!(list, "print {}", text(&self.spec));
        let path = self.spec.with_extension("floor");
        fs::write(&path, list).context("cannot write the floor's list")?;
        Ok(path)
    }
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn host_path(item: &Value) -> String {
    item.get("host_path").and_then(Value::as_str).unwrap_or_default().to_owned()
}
