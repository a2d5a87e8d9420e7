//! `cargo xtask bench runtime`: what cdi-runtime adds to the creation of a container. I/O.
//!
//! In front of `/bin/true`, so that nothing but the wrapper is measured: its limits are enforced there. And in front of
//! runc, whose own time varies by more than that, for a container that asks for a GPU and one that got it by
//! `cdi-apply inject`: there the mean of all pairs tells the most. All in memory, as `bench start` is.
#![expect(clippy::disallowed_methods, reason = "makes bundles and runs containers")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::hook::{all_edits, in_memory, lay_out_host};
use super::{measure, print_head, print_row, text};
use crate::e2e::{bundle, fixture};
use crate::{build, dist};

/// Milliseconds that the wrapper may add: to a container that asks for nothing, and to one that asks for a GPU.
const PLAIN_LIMIT: f64 = 1.2;
const GPU_LIMIT: f64 = 3.0;
const ROUNDS: &str = "200";
const RUNC_ROUNDS: &str = "500";
/// How a container asks.
const ASK: &str = "NVIDIA_VISIBLE_DEVICES=all";

/// Measures all.
pub fn run(programs: &Path) -> anyhow::Result<()> {
    let work = in_memory()?;
    fixture::make(work.path())?;
    lay_out_host(work.path(), programs, &dist::static_programs()?.join("cdi-hook"))?;
    let bench = Bench { programs: programs.to_owned(), work: work.path().to_owned() };
    bench.make_specs()?;
    print_head();
    let plain = bench.bundle("plain", &[])?;
    let added = bench.compare("asks for nothing", ROUNDS, &plain, &plain, "/bin/true")?;
    ensure!(added < PLAIN_LIMIT, "{added:.2} ms is over the limit of {PLAIN_LIMIT}");
    let (asking, injected) = (bench.bundle("asking", &[ASK, "NVIDIA_DRIVER_CAPABILITIES=all"])?, bench.injected()?);
    let added = bench.compare("asks for GPUs", ROUNDS, &injected, &asking, "/bin/true")?;
    ensure!(added < GPU_LIMIT, "{added:.2} ms is over the limit of {GPU_LIMIT}");
    bench.compare("runc, asks for nothing", RUNC_ROUNDS, &plain, &plain, "runc")?;
    bench.compare("runc, asks for GPUs", RUNC_ROUNDS, &injected, &asking, "runc").map(|_added| ())
}

struct Bench {
    programs: PathBuf,
    work: PathBuf,
}

impl Bench {
    /// The host's spec in a directory, with types of its nodes, which this machine lacks.
    fn make_specs(&self) -> anyhow::Result<()> {
        let text = fs::read(self.work.join("spec.json")).context("cannot read the spec")?;
        let mut spec: Value = serde_json::from_slice(&text).context("our own spec")?;
        for edits in all_edits(&mut spec) {
            edits.as_object_mut().map(|edits| edits.remove("hooks"));
            for node in edits.get_mut("deviceNodes").and_then(Value::as_array_mut).into_iter().flatten() {
                node.as_object_mut().map(|node| node.insert("type".to_owned(), "c".into()));
            }
        }
        let dir = self.work.join("cdi");
        fs::create_dir(&dir).context("cannot make the spec directory")?;
        fs::write(dir.join("nvidia.json"), spec.to_string()).context("cannot write the spec")?;
        for runtime in ["/bin/true", "runc"] {
            let config = format!("runtimes = [{runtime:?}]\nspec-dirs = [{dir:?}]\njust-in-time = false\n");
            fs::write(self.config(runtime), config).context("cannot write the configuration")?;
        }
        Ok(())
    }

    fn config(&self, runtime: &str) -> PathBuf {
        self.work.join(format!("{}.toml", runtime.replace('/', "-")))
    }

    /// A bundle whose container has these variables; `config.asked` is what it is before anybody changes it.
    fn bundle(&self, name: &str, env: &[&str]) -> anyhow::Result<PathBuf> {
        let dir = self.work.join(name);
        fs::create_dir(&dir).context("cannot make a bundle")?;
        build::run(Command::new("cp").arg("-a").arg(fixture::rootfs(&self.work)).arg(dir.join("rootfs")))?;
        let command = ["/bin/busybox", "true"].map(str::to_owned);
        bundle::write_config(Path::new("runc"), &dir, &command, &format!("/cdi-bench-{name}"), None)?;
        env.iter().try_for_each(|variable| bundle::add_variable(&dir, variable))?;
        fs::copy(dir.join("config.json"), dir.join("config.asked")).context("cannot copy config.json")?;
        Ok(dir)
    }

    /// The same devices by `cdi-apply inject`.
    fn injected(&self) -> anyhow::Result<PathBuf> {
        let dir = self.bundle("injected", &[])?;
        let mut inject = Command::new(dist::static_programs()?.join("cdi-apply"));
        inject.args(["inject", "--device", "nvidia.com/gpu=all", "--spec-dir"]).arg(self.work.join("cdi"));
        build::run(inject.arg("--bundle").arg(&dir))?;
        fs::copy(dir.join("config.json"), dir.join("config.asked")).context("cannot copy config.json")?;
        Ok(dir)
    }

    /// The runtime alone, and the wrapper in front of it; gives the milliseconds between them.
    fn compare(&self, name: &str, rounds: &str, alone: &Path, asking: &Path, runtime: &str) -> anyhow::Result<f64> {
        let wrapper = text(&dist::static_programs()?.join("cdi-runtime"));
        let commands = [self.start(alone, runtime, runtime), self.start(asking, &wrapper, runtime)];
        let costs = measure(&self.programs, rounds, &commands)?;
        let [without, with] = costs.as_slice() else { return Ok(0.0) };
        print_row(&format!("{name}: {runtime}"), without);
        print_row(&format!("{name}: cdi-runtime"), with);
        let (least, median) = (with.least - without.least, with.median - without.median);
        let (mean, error) = (with.added, with.error);
        println!("{:44} {least:>9.2} {median:>9.2} {:>9} {mean:>9.2} ± {error:.2}\n", "  added", "in pairs");
        Ok(median)
    }

    /// The bundle as the engine wrote it, and then the container.
    fn start(&self, bundle: &Path, program: &str, runtime: &str) -> Vec<String> {
        let (dir, state, config) = (text(bundle), text(&self.work.join("state")), text(&self.config(runtime)));
        let restore = format!("cp {dir}/config.asked {dir}/config.json");
        let config = format!("CDI_RUNTIME_CONFIG={config}");
        let run = [program, "--root", &state, "run", "--bundle", &dir, "cdi-bench"];
        ["--before", &restore, "env", &config].into_iter().chain(run).map(str::to_owned).collect()
    }
}
