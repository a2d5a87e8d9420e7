//! Bundles: what `RUNTIME spec` writes, `cdi-apply inject` and `RUNTIME run`, or `cdi-runtime run` alone. I/O.
#![expect(clippy::disallowed_methods, reason = "runs OCI runtimes")]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::Context;
use serde_json::{Value, json};

use super::case::TIME_LIMIT;
use super::engine::{Asks, Engine, Job};
use super::files::{copy_tree, make_dirs, read, remove_tree, write};
use super::fixture;
use super::volumes::{USER, Volume};
use crate::build;

/// A directory for bundles.
pub struct Bundles {
    work: PathBuf,
    asks: Asks,
    cdi_apply: PathBuf,
    /// Containers so far.
    started: Cell<u32>,
}

impl Bundles {
    /// Makes it.
    pub fn prepare(asks: Asks, work: &Path) -> anyhow::Result<Self> {
        make_dirs(&work.join("bundles"))?;
        let cdi_apply = fixture::program(work, "cdi-apply");
        Ok(Self { work: work.to_owned(), asks, cdi_apply, started: Cell::default() })
    }

    fn runtime(&self, runtime: &str) -> PathBuf {
        if runtime == "youki" { fixture::program(&self.work, runtime) } else { runtime.into() }
    }

    /// What `RUNTIME spec` writes, with the job's command.
    fn make(&self, runtime: &str, bundle: &Path, job: &Job<'_>) -> anyhow::Result<()> {
        make_dirs(bundle)?;
        copy_tree(&fixture::rootfs(&self.work), &bundle.join("rootfs"))?;
        let name = self.work.file_name().unwrap_or_default().to_string_lossy();
        let unasked = fixture::unasked();
        let mount = json!({"destination": unasked, "source": unasked, "type": "bind", "options": ["bind", "rw"]});
        if let Some(extras) = &job.extras {
            (extras.change)(&bundle.join("rootfs"))?;
        }
        let variable = job.variable().filter(|_| self.asks == Asks::Runtime);
        write_config(&self.runtime(runtime), bundle, job.command, &format!("/{name}/bundle"), Some(mount))?;
        variable.map_or(Ok(()), |variable| add_variable(bundle, &variable))?;
        job.extras.as_ref().map_or(Ok(()), |extras| add_volume(bundle, extras.volume))
    }

    fn inject(&self, bundle: &Path, job: &Job<'_>) -> anyhow::Result<Option<Output>> {
        if job.devices.is_empty() || self.asks == Asks::Runtime {
            return Ok(None);
        }
        let mut inject = Command::new(&self.cdi_apply);
        inject.args(["inject", "--device", &job.devices.join(","), "--bundle"]).arg(bundle);
        let output = inject.output().context("cannot run cdi-apply")?;
        Ok((!output.status.success()).then_some(output))
    }
}

/// A volume, for somebody without rights.
fn add_volume(bundle: &Path, volume: &Volume) -> anyhow::Result<()> {
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_str(&read(&file)?).context("config.json is no JSON")?;
    set(&mut config, "/process", "user", json!({"uid": USER, "gid": USER}));
    set(&mut config, "/process", "capabilities", json!({}));
    let mode = if volume.read_only { "ro" } else { "rw" };
    let mount = json!({"destination": volume.at, "source": volume.from, "type": "bind", "options": ["rbind", mode]});
    config.get_mut("mounts").and_then(Value::as_array_mut).context("config.json has no mounts")?.push(mount);
    write(&file, &config.to_string())
}

/// Sets a variable of the container's process.
pub fn add_variable(bundle: &Path, variable: &str) -> anyhow::Result<()> {
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_str(&read(&file)?).context("config.json is no JSON")?;
    let env = config.pointer_mut("/process/env").and_then(Value::as_array_mut);
    env.context("config.json has no variables")?.push(variable.into());
    write(&file, &config.to_string())
}

/// Writes what `RUNTIME spec` gives, with a command, a cgroup, and perhaps one more mount.
pub fn write_config(
    runtime: &Path,
    bundle: &Path,
    command: &[String],
    cgroup: &str,
    mount: Option<Value>,
) -> anyhow::Result<()> {
    build::run(Command::new(runtime).arg("spec").current_dir(bundle))?;
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_str(&read(&file)?).context("the runtime's spec is no JSON")?;
    set(&mut config, "/process", "args", json!(command));
    set(&mut config, "/process", "terminal", json!(false));
    set(&mut config, "/process", "rlimits", json!([{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]));
    set(&mut config, "/linux", "cgroupsPath", json!(cgroup));
    // As engines do unless they are told otherwise; in a root that cannot be written a hook can make no links.
    set(&mut config, "/root", "readonly", json!(false));
    let mounts = config.get_mut("mounts").and_then(Value::as_array_mut);
    mounts.context("the runtime's spec has no mounts")?.extend(mount);
    write(&file, &config.to_string())
}

fn set(config: &mut Value, parent: &str, key: &str, value: Value) {
    if let Some(object) = config.pointer_mut(parent).and_then(Value::as_object_mut) {
        object.insert(key.to_owned(), value);
    }
}

impl Engine for Bundles {
    fn version(&self) -> anyhow::Result<String> {
        let printed = build::output(Command::new(&self.cdi_apply).arg("--version"))?;
        Ok(printed.trim().to_owned())
    }

    fn run(&self, runtime: &str, job: &Job<'_>) -> anyhow::Result<Output> {
        let bundle = self.work.join("bundles").join(runtime);
        self.make(runtime, &bundle, job)?;
        if let Some(refused) = self.inject(&bundle, job)? {
            remove_tree(&bundle)?;
            return Ok(refused);
        }
        // One that hangs and is killed leaves its state behind.
        self.started.set(self.started.get() + 1);
        let name = format!("cdi-e2e-{}", self.started.get());
        let program = match self.asks {
            Asks::Engine => self.runtime(runtime),
            Asks::Runtime => {
                fixture::configure_runtime(&self.runtime(runtime))?;
                fixture::program(&self.work, "cdi-runtime")
            }
        };
        let mut run = Command::new("timeout");
        run.args(["-s", "KILL", TIME_LIMIT]).arg(program);
        run.arg("--root").arg(self.work.join("bundles/state")).args(["run", "--bundle"]).arg(&bundle).arg(name);
        let output = run.current_dir(&bundle).output().with_context(|| format!("cannot run {runtime}"))?;
        remove_tree(&bundle)?;
        Ok(output)
    }
}
