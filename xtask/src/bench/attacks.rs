//! `cargo xtask bench attacks`: the most that an image can make the hook and cdi-runtime take. I/O.
//!
//! Each attack is run once by each way of going through the root, against the programs as they are shipped, with its files
//! in memory. What no attack may take more than is the same for all.
#![expect(clippy::disallowed_methods, reason = "makes bundles and runs programs")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use testdata::attacks::bombs::BOMBS;
use testdata::attacks::documents::{DOCUMENTS, Document};
use testdata::attacks::{ALL, ATTACKS, usual_in};
use testdata::container::{Container, Openat2, Program};

use super::hook::in_memory;
use super::text;
use crate::{build, dist};

/// Seconds and MiB that a start may take at most.
const MOST_SECONDS: f64 = 1.0;
const MOST_MIB: f64 = 64.0;
/// Seconds after which a program is killed.
const TIME_LIMIT: &str = "15";
/// A spec with some devices.
const SPEC: &str = "testdata/specs/nvidia-ctk-1.20-h100.yaml";
/// Whatever may count counts.
const POLICY: &str = "runtimes = [\"/bin/true\"]\njust-in-time = false\nvolume-mounts = true\n\
                      annotation-prefixes = [\"cdi.k8s.io/\"]\nswarm-resources = [\"DOCKER_RESOURCE_GPU\"]\n";

/// Measures all.
pub fn run(shipped: Option<PathBuf>) -> anyhow::Result<()> {
    let cost = build::release(&["xtask"])?.join("spawn-cost");
    let shipped = shipped.map_or_else(dist::static_programs, Ok)?;
    let work = in_memory()?;
    println!("{:64} {:>8} {:>8}", "", "seconds", "MiB");
    let mut costs = Vec::new();
    let hook = Measured { cost: &cost, program: shipped.join("cdi-hook"), work: work.path() };
    for attack in ATTACKS {
        let mut container = usual_in(work.path())?;
        (attack.lay_out)(&mut container).with_context(|| attack.name)?;
        costs.push(hook.in_container(attack.name, &container)?);
    }
    for bomb in BOMBS {
        costs.push(hook.in_container(bomb.name, &bomb.container(work.path(), 1).context(bomb.name)?)?);
    }
    let runtime = Measured { program: shipped.join("cdi-runtime"), ..hook };
    runtime.prepare()?;
    for document in DOCUMENTS {
        costs.push(runtime.of_document(document)?);
    }
    judge(&costs)
}

/// A program that is measured by another.
struct Measured<'w> {
    cost: &'w Path,
    program: PathBuf,
    work: &'w Path,
}

/// What an attack took.
struct Cost {
    name: String,
    seconds: f64,
    mib: f64,
}

impl Measured<'_> {
    /// The hook in a container, whichever way takes longer.
    fn in_container(&self, name: &str, container: &Container) -> anyhow::Result<Cost> {
        let mut costs = Vec::new();
        for openat2 in [Openat2::Known, Openat2::Missing] {
            let program = Program { openat2, ..Program::new(self.cost, &self.once(&ALL)) };
            let ended = container.enter(|inside| inside.run(&program))?.with_context(|| name.to_owned())?;
            costs.push(parse(name, &ended.stderr).with_context(|| format!("{name}: {}", ended.stderr))?);
        }
        let worst = costs.into_iter().max_by(|one, other| one.seconds.total_cmp(&other.seconds));
        worst.inspect(Cost::print).context("nothing was measured")
    }

    /// The arguments that have it measured once; what hangs is killed.
    fn once(&self, args: &[&str]) -> Vec<String> {
        let program = text(&self.program);
        let words = ["--once", "timeout", "-s", "KILL", TIME_LIMIT, &program];
        words.iter().chain(args).map(|word| (*word).to_owned()).collect()
    }

    /// What cdi-runtime finds beside the bundle.
    fn prepare(&self) -> anyhow::Result<()> {
        let specs = self.work.join("cdi");
        fs::create_dir(&specs).context("cannot make the spec directory")?;
        fs::copy(build::root().join(SPEC), specs.join("nvidia.yaml")).context("cannot copy the spec")?;
        let policy = format!("{POLICY}spec-dirs = [{specs:?}]\n");
        fs::write(self.work.join("config.toml"), policy).context("cannot write the configuration")
    }

    fn of_document(&self, document: &Document) -> anyhow::Result<Cost> {
        let bundle = self.work.join("bundle");
        fs::create_dir_all(bundle.join("rootfs")).context("cannot make a bundle")?;
        fs::write(bundle.join("config.json"), (document.text)()).context("cannot write config.json")?;
        let mut command = Command::new(self.cost);
        command.args(self.once(&["create", "--bundle", &text(&bundle), "attack"])).current_dir(&bundle);
        command.env("CDI_RUNTIME_CONFIG", self.work.join("config.toml")).stdin(Stdio::null());
        let output = command.output().context("cannot run spawn-cost")?;
        let cost = parse(document.name, &String::from_utf8_lossy(&output.stderr));
        let cost = cost.with_context(|| format!("{}: spawn-cost said nothing", document.name))?;
        cost.print();
        Ok(cost)
    }
}

impl Cost {
    fn print(&self) {
        println!("{:64} {:>8.3} {:>8.1}", self.name, self.seconds, self.mib);
    }

    fn is_within(&self) -> bool {
        self.seconds <= MOST_SECONDS && self.mib <= MOST_MIB
    }
}

/// The last line that spawn-cost says.
fn parse(name: &str, words: &str) -> Option<Cost> {
    let (micros, kib) = words.lines().last()?.split_once('\t')?;
    let (micros, kib): (f64, f64) = (micros.parse().ok()?, kib.parse().ok()?);
    Some(Cost { name: name.to_owned(), seconds: micros / 1e6, mib: kib / 1024.0 })
}

fn judge(costs: &[Cost]) -> anyhow::Result<()> {
    let worst = |by: fn(&Cost) -> f64| costs.iter().max_by(|one, other| by(one).total_cmp(&by(other)));
    if let (Some(slowest), Some(largest)) = (worst(|cost| cost.seconds), worst(|cost| cost.mib)) {
        println!("worst seen: {:.3} s ({}), {:.1} MiB ({})", slowest.seconds, slowest.name, largest.mib, largest.name);
    }
    let over: Vec<&str> = costs.iter().filter(|cost| !cost.is_within()).map(|cost| cost.name.as_str()).collect();
    ensure!(over.is_empty(), "more than {MOST_SECONDS} s or {MOST_MIB} MiB: {}", over.join("; "));
    Ok(())
}
