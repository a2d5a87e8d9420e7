//! `cargo xtask bench start`: what a hook adds to the start of a container. I/O.
//!
//! `runc run true` with all devices of a host with an H100, from a spec with a hook and from the same without it, side by
//! side; in a root of Debian's libc and in one with 20,000 libraries. Each run finds the root as the image has it. The roots
//! are in memory: on a disk the same changes cost what its journal takes at the moment (54 links on ext4: 2 to 4 ms, and
//! many times that while it writes).
#![expect(clippy::disallowed_methods, reason = "makes bundles and runs containers")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Map, Value};
use tempfile::TempDir;
use testdata::elf;

use super::{measure, print_head, print_row, text};
use crate::e2e::{bundle, fixture};
use crate::{build, dist};

/// A file system in memory.
const MEMORY: &str = "/dev/shm";
/// Milliseconds that the hook should add at most.
const AIM: f64 = 3.0;
/// How the hook's program compares with `/bin/true`.
const START_LIMIT: f64 = 1.0;
const LIBRARIES: usize = 20_000;
const ROUNDS: &str = "800";
const LIBRARY_DIR: &str = "usr/lib/x86_64-linux-gnu";

/// Measures all.
pub fn run(programs: &Path) -> anyhow::Result<()> {
    let hook = dist::static_programs()?.join("cdi-hook");
    let commands = [vec!["/bin/true".to_owned()], vec![text(&hook), "--version".to_owned()]];
    let costs = measure(programs, "200", &commands)?;
    let [floor, version] = costs.as_slice() else { return Ok(()) };
    print_row("cdi-hook --version", version);
    println!("{:44} {:>19.2}x\n", "  over /bin/true", version.median / floor.median);
    ensure!(version.median < START_LIMIT * floor.median, "the hook starts slower than /bin/true");
    let work = in_memory()?;
    fixture::make(work.path())?;
    let bench = Bench { programs: programs.to_owned(), hook, work: work.path().to_owned() };
    lay_out_host(&bench.work, programs, &bench.hook)?;
    print_head();
    bench.compare("Debian's libc", 0)?;
    bench.compare("20,000 libraries", LIBRARIES)
}

/// A directory in memory, while it is held.
pub fn in_memory() -> anyhow::Result<TempDir> {
    let made = tempfile::Builder::new().prefix("cdi-bench-").tempdir_in(MEMORY);
    made.with_context(|| format!("cannot make a directory in {MEMORY}"))
}

/// A host with an H100, and its spec with a hook as if it were this one's: `spec.json`.
pub fn lay_out_host(work: &Path, programs: &Path, hook: &Path) -> anyhow::Result<()> {
    let host = testdata::host("h100-capture");
    let root = work.join("host");
    host.tree.lay_out(&root).context("cannot lay out the host")?;
    fs::write(nodes(work), host.tree.device_list()).context("cannot write the device list")?;
    let mut generate = Command::new(programs.join("cdi-gen"));
    generate.args(["generate", "--quiet", "--hooks", "always", "--hook-path"]).arg(hook);
    let spec = build::output(generate.arg("--root").arg(&root).arg("--device-nodes").arg(nodes(work)))?;
    let mut moved: Value = serde_json::to_value(cdi_specs::parse_yaml(spec).context("our own spec")?)?;
    for edits in all_edits(&mut moved) {
        for mount in edits.get_mut("mounts").and_then(Value::as_array_mut).into_iter().flatten() {
            let path = mount.get("hostPath").and_then(Value::as_str).unwrap_or_default();
            let below = root.join(path.trim_start_matches('/'));
            mount.as_object_mut().map(|mount| mount.insert("hostPath".to_owned(), text(&below).into()));
        }
    }
    fs::write(work.join("spec.json"), moved.to_string()).context("cannot write the spec")
}

fn nodes(work: &Path) -> PathBuf {
    work.join("device-nodes")
}

struct Bench {
    programs: PathBuf,
    hook: PathBuf,
    work: PathBuf,
}

impl Bench {
    fn nodes(&self) -> PathBuf {
        nodes(&self.work)
    }

    fn compare(&self, name: &str, libraries: usize) -> anyhow::Result<()> {
        let bundle = |kind: &str| self.bundle(&format!("{kind}-{libraries}"), libraries);
        let (without, idle, with) = (bundle("without")?, bundle("idle")?, bundle("with")?);
        change(&without, |config| config.remove("hooks").map(drop))?;
        // What the runtime itself takes for a hook: this one only starts.
        change(&idle, |config| {
            let args = config.get_mut("hooks")?.pointer_mut("/createContainer/0/args")?.as_array_mut()?;
            args.truncate(1);
            args.push("--version".into());
            Some(())
        })?;
        let starts = [&idle, &without, &with].map(|bundle| self.start(bundle));
        let costs = measure(&self.programs, ROUNDS, &starts)?;
        let [idle, without, with] = costs.as_slice() else { return Ok(()) };
        for (what, cost) in [("a hook that does nothing", idle), ("without", without), ("with the hook", with)] {
            print_row(&format!("{name}: {what}"), cost);
        }
        // Starts of the same container differ by more than the hook takes: the mean of all pairs tells the most.
        println!("{:44} {:>9.2} ± {:.2}   (aim: {AIM})", "  added", with.added, with.error);
        println!("{:44} {:>9.2} ± {:.2}\n", "  by a hook that does nothing", -without.added, without.error);
        Ok(())
    }

    fn bundle(&self, name: &str, libraries: usize) -> anyhow::Result<PathBuf> {
        let dir = self.work.join(name);
        fs::create_dir(&dir).context("cannot make a bundle")?;
        let rootfs = dir.join("rootfs");
        build::run(Command::new("cp").arg("-a").arg(fixture::rootfs(&self.work)).arg(&rootfs))?;
        add_libraries(&dir, libraries)?;
        let command = ["/bin/busybox", "true"].map(str::to_owned);
        bundle::write_config(Path::new("runc"), &dir, &command, &format!("/cdi-bench-{name}"), None)?;
        let mut inject = Command::new(dist::static_programs()?.join("cdi-apply"));
        inject
            .args(["inject", "--allow-stale", "--device", "nvidia.com/gpu=all", "--spec"])
            .arg(self.work.join("spec.json"));
        build::run(inject.arg("--device-nodes").arg(self.nodes()).arg("--bundle").arg(&dir))?;
        Ok(dir)
    }

    /// The root as the image has it, and then the container.
    fn start(&self, bundle: &Path) -> Vec<String> {
        let (dir, state) = (text(bundle), text(&self.work.join("state")));
        let restore = restore(bundle);
        let words = ["--before", &restore, "runc", "--root", &state, "run", "--bundle", &dir, "cdi-bench"];
        words.map(str::to_owned).to_vec()
    }
}

/// Puts libraries into a bundle's root, and keeps its cache beside it.
pub fn add_libraries(bundle: &Path, libraries: usize) -> anyhow::Result<()> {
    let rootfs = bundle.join("rootfs");
    let library = |index: usize| {
        let soname = format!("libbench{index}.so.1");
        let bytes = elf::shared_object(elf::Class::Elf64, elf::Machine::X86_64, Some(&soname), None);
        fs::write(rootfs.join(LIBRARY_DIR).join(soname), bytes).context("cannot write a library")
    };
    (0..libraries).try_for_each(library)?;
    build::run(Command::new("ldconfig").arg("-r").arg(&rootfs))?;
    fs::copy(rootfs.join("etc/ld.so.cache"), bundle.join("ld.so.cache")).context("cannot copy the cache")?;
    Ok(())
}

/// The commands that make a bundle's root what it was before the hook.
pub fn restore(bundle: &Path) -> String {
    let files = "etc/ld.so.conf.d etc/ld.so.conf usr/local usr/lib64/gbm usr/lib64/vdpau";
    format!("cd {}/rootfs && cp ../ld.so.cache etc/ && rm -rf {files}", bundle.display())
}

/// Changes a bundle's config.json.
pub fn change(bundle: &Path, change: impl FnOnce(&mut Map<String, Value>) -> Option<()>) -> anyhow::Result<()> {
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).context("cannot read config.json")?)?;
    config.as_object_mut().and_then(change).context("there is no hook")?;
    fs::write(&path, config.to_string()).context("cannot write config.json")
}

/// The common edits and those of the devices.
pub fn all_edits(spec: &mut Value) -> Vec<&mut Value> {
    let Some(spec) = spec.as_object_mut() else { return Vec::new() };
    let (mut edits, mut devices) = (Vec::new(), Vec::new());
    for (key, value) in spec {
        match key.as_str() {
            "containerEdits" => edits.push(value),
            "devices" => devices.extend(value.as_array_mut()),
            _ => {}
        }
    }
    edits.extend(devices.into_iter().flatten().filter_map(|device| device.get_mut("containerEdits")));
    edits
}
