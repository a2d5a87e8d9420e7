//! docker: a daemon with state of its own. I/O.
#![expect(clippy::disallowed_methods, reason = "runs dockerd and docker")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::Context;
use serde_json::json;

use super::case::TIME_LIMIT;
use super::engine::{Engine, Job};
use super::files::{make_dirs, read, remove_tree, write};
use super::{fixture, one_line};
use crate::build;

/// A daemon's socket.
pub struct Docker {
    socket: PathBuf,
}

impl Docker {
    /// Starts the daemon and imports the image.
    pub fn prepare(work: &Path) -> anyhow::Result<Self> {
        let state = work.join("docker");
        // What another release's daemon has left there is not for this one.
        remove_tree(&state)?;
        make_dirs(&state)?;
        let socket = state.join("s");
        let name = work.file_name().unwrap_or_default().to_string_lossy();
        let nofile = json!({"Name": "nofile", "Hard": 1024, "Soft": 1024});
        let config = json!({
            "features": {"cdi": true},
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
        write(&state.join("daemon.json"), &config.to_string())?;
        let log = state.join("log");
        start(Command::new("dockerd").arg("--config-file").arg(state.join("daemon.json")), &log)?;
        let docker = Self { socket };
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
        command.args(["run", "--rm", "--network=none", "--runtime", runtime, "--volume"]);
        command.arg(format!("{0}:{0}", unasked.display()));
        job.devices.iter().for_each(|device| _ = command.args(["--device", device]));
        command.arg("bench:1").args(job.command).output().context("cannot run docker")
    }
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
