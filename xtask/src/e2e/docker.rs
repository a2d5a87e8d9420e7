//! docker: a daemon with state of its own. I/O.
#![expect(clippy::disallowed_methods, reason = "runs dockerd and docker")]

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::Context;
use serde_json::json;

use super::case::TIME_LIMIT;
use super::engine::{Asks, Engine, Job};
use super::files::{link, make_dirs, read, remove_tree, write};
use super::{fixture, one_line};
use crate::build;

/// How containers come to cdi-runtime: by `--runtime`, because it is the default, and that with `--gpus`.
pub const CHANNELS: &[&str] = &["registered", "default", GPUS];
/// `docker run --gpus`, which sets a variable and a hook.
pub const GPUS: &str = "gpus";
/// The name that cdi-runtime is registered by.
const REGISTERED: &str = "cdi";
/// What docker looks for before it takes `--gpus`.
const GPU_HOOK: &str = "nvidia-container-runtime-hook";

/// A daemon's socket.
pub struct Docker {
    socket: PathBuf,
    asks: Asks,
}

impl Docker {
    /// Starts the daemon and imports the image.
    pub fn prepare(asks: Asks, work: &Path) -> anyhow::Result<Self> {
        let state = work.join("docker");
        // What another release's daemon has left there is not for this one.
        remove_tree(&state)?;
        make_dirs(&state)?;
        let socket = state.join("s");
        let name = work.file_name().unwrap_or_default().to_string_lossy();
        let nofile = json!({"Name": "nofile", "Hard": 1024, "Soft": 1024});
        let own = fixture::program(work, "cdi-runtime");
        let by_runtime = asks == Asks::Runtime;
        let config = json!({
            "features": {"containerd-snapshotter": false},
            "cdi-spec-dirs": fixture::SPEC_DIRS,
            "data-root": state.join("data"),
            "exec-root": state.join("exec"),
            "pidfile": state.join("pid"),
            "hosts": [format!("unix://{}", socket.display())],
            "cgroup-parent": format!("/{name}"),
            "bridge": "none",
            "iptables": false,
            "ip6tables": false,
            "ip-forward": false,
            "userland-proxy": false,
            "default-ulimits": {"nofile": nofile},
            "runtimes": {"crun": {"path": "/usr/bin/crun"}},
        });
        let file = state.join("daemon.json");
        write(&file, &config.to_string())?;
        let register = ["--runtime-name", REGISTERED, "--set-default", "--runtime-path"].map(OsStr::new);
        let register = register.into_iter().chain([own.as_os_str()]).filter(|_| by_runtime).collect::<Vec<_>>();
        fixture::configure(work, "docker", &file, &register)?;
        let log = state.join("log");
        let mut dockerd = Command::new("dockerd");
        if by_runtime {
            fixture::configure_runtime(Path::new("runc"))?;
            let dir = state.join("path");
            make_dirs(&dir)?;
            link(&fixture::program(work, "cdi-hook").display().to_string(), &dir.join(GPU_HOOK))?;
            dockerd.env("PATH", format!("/usr/sbin:/usr/bin:/sbin:/bin:{}", dir.display()));
        }
        start(dockerd.arg("--config-file").arg(&file), &log)?;
        let docker = Self { socket, asks };
        wait_for(|| docker.command().arg("version").output().is_ok_and(|output| output.status.success()))
            .with_context(|| format!("dockerd does not answer: {}", one_line(&read(&log).unwrap_or_default())))?;
        build::output(docker.command().arg("import").arg(fixture::rootfs_tar(work)).arg("bench:1"))?;
        Ok(docker)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", TIME_LIMIT, "docker", "--host"]);
        command.arg(format!("unix://{}", self.socket.display()));
        command
    }
}

impl Engine for Docker {
    fn version(&self) -> anyhow::Result<String> {
        let printed = build::output(self.command().args(["version", "--format", "{{.Server.Version}}"]))?;
        Ok(printed.trim().to_owned())
    }

    fn run(&self, runtime: &str, job: &Job<'_>) -> anyhow::Result<Output> {
        let unasked = fixture::unasked();
        let mut command = self.command();
        command.args(["run", "--rm", "--network=none", "--volume"]);
        command.arg(format!("{0}:{0}", unasked.display()));
        match self.asks {
            Asks::Engine => {
                command.args(["--runtime", runtime]);
                job.devices.iter().for_each(|device| _ = command.args(["--device", device]));
            }
            Asks::Runtime if runtime == GPUS => {
                let gpus = job.devices.iter().filter_map(|device| device.split_once('=')).map(|(_, gpu)| gpu);
                gpus.for_each(|gpu| _ = command.args(["--gpus", &gpus_flag(gpu)]));
            }
            Asks::Runtime => {
                if runtime != "default" {
                    command.args(["--runtime", REGISTERED]);
                }
                job.variable().iter().for_each(|variable| _ = command.args(["--env", variable]));
            }
        }
        command.arg("bench:1").args(job.command).output().context("cannot run docker")
    }
}

/// `all`, or a device of a name.
fn gpus_flag(gpu: &str) -> String {
    if gpu == "all" { gpu.to_owned() } else { format!("\"device={gpu}\"") }
}

/// Starts a daemon whose words go to a file. It ends with the process namespace: dockerd, when asked to, may wait for
/// its containerd for ever.
pub fn start(command: &mut Command, log: &Path) -> anyhow::Result<()> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let again = file.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
    let started = command.stdout(file).stderr(again).spawn();
    started.map(drop).with_context(|| format!("cannot run {command:?}"))
}

/// Waits until a daemon answers.
pub fn wait_for(answers: impl Fn() -> bool) -> anyhow::Result<()> {
    const ROUNDS: usize = 200;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
    for _ in 0..ROUNDS {
        if answers() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    anyhow::bail!("no answer in {} s", (PAUSE * 200).as_secs())
}
