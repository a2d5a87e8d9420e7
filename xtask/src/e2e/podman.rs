//! podman: `run --device` and `build --device`, as root and as a user. I/O.
#![expect(clippy::disallowed_methods, reason = "runs podman")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::Context;

use super::case::TIME_LIMIT;
use super::engine::{Asks, Engine, Job, Plan, User};
use super::files::{copy_tree, make_dirs, remove_tree, write};
use super::volumes::{USER, Volume};
use super::{fixture, place};
use crate::build;

/// No CAP_SYS_RESOURCE is needed, nothing goes to the journal, the locks are no shared memory.
const CONTAINERS_CONF: &str = r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
"#;

/// A podman with state of its own.
pub struct Podman {
    user: User,
    asks: Asks,
    work: PathBuf,
    state: PathBuf,
    rootfs: PathBuf,
    cgroup: String,
}

impl Podman {
    /// Makes its state.
    pub fn prepare(plan: &Plan, work: &Path) -> anyhow::Result<Self> {
        let state = work.join(plan.name);
        make_dirs(&state)?;
        write(&state.join("containers.conf"), CONTAINERS_CONF)?;
        let name = work.file_name().unwrap_or_default().to_string_lossy();
        let podman = Self {
            user: plan.user,
            asks: plan.asks,
            work: work.to_owned(),
            state,
            rootfs: fixture::rootfs(work),
            cgroup: format!("/{name}"),
        };
        podman.own(&podman.state)?;
        Ok(podman)
    }

    /// Gives a tree to the user who runs podman.
    fn own(&self, tree: &Path) -> anyhow::Result<()> {
        if self.user == User::Root {
            return Ok(());
        }
        let owner = format!("{0}:{0}", place::USER.1);
        build::run(Command::new("chown").args(["-R", "-h", &owner]).arg(tree))
    }

    fn command(&self, runtime: &str) -> Command {
        let runtime = match self.asks {
            Asks::Engine => runtime.into(),
            Asks::Runtime => fixture::program(&self.work, "cdi-runtime"),
        };
        let mut command = self.as_user();
        command.args(["timeout", "-s", "KILL", TIME_LIMIT, "podman", "--runtime"]).arg(runtime);
        command.args(["--storage-driver", "vfs"]);
        let dirs =
            [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp"), ("--network-config-dir", "networks")];
        dirs.iter().for_each(|(flag, dir)| _ = command.arg(flag).arg(self.state.join(dir)));
        command.current_dir("/");
        command
    }

    /// Runs what follows as the user, with an environment of its own.
    fn as_user(&self) -> Command {
        let (name, id) = place::USER;
        let id = id.to_string();
        let mut command = Command::new(if self.user == User::Root { "env" } else { "setpriv" });
        if self.user == User::Plain {
            command.args(["--reuid", &id, "--regid", &id, "--init-groups", "env", "-i"]);
            command.arg(format!("HOME=/home/{name}")).arg(format!("USER={name}"));
            command.arg(format!("XDG_RUNTIME_DIR=/run/user/{id}"));
        }
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command.arg(format!("PATH={path}")).arg("PODMAN_IGNORE_CGROUPSV1_WARNING=1");
        command.arg(format!("CONTAINERS_CONF={}", self.state.join("containers.conf").display()));
        command
    }

    /// A podman that was killed leaves its container running.
    fn remove_containers(&self, runtime: &str) -> anyhow::Result<()> {
        build::output(self.command(runtime).args(["rm", "--all", "--force", "--time", "0"])).map(|_printed| ())
    }
}

impl Engine for Podman {
    fn version(&self) -> anyhow::Result<String> {
        version()
    }

    fn run(&self, runtime: &str, job: &Job<'_>) -> anyhow::Result<Output> {
        let fresh = self.state.join("rootfs");
        copy_tree(&self.rootfs, &fresh)?;
        self.own(&fresh)?;
        let mut command = self.command(runtime);
        command.args(["run", "--rm", "--network=none", "--volume", &unasked_volume()]);
        if let Some(extras) = &job.extras {
            (extras.change)(&fresh)?;
            let user = USER.to_string();
            command.args(["--user", &user, "--cap-drop", "all", "--security-opt", "no-new-privileges"]);
            let Volume { from, at, read_only } = extras.volume;
            let mode = if *read_only { "ro" } else { "rw" };
            command.arg("--volume").arg(format!("{}:{at}:{mode}", from.display()));
        }
        if self.user == User::Root {
            command.args(["--cgroup-parent", &self.cgroup]);
        }
        match self.asks {
            Asks::Engine => job.devices.iter().for_each(|device| _ = command.args(["--device", device])),
            Asks::Runtime => {
                fixture::configure_runtime(Path::new(runtime))?;
                job.variable().iter().for_each(|variable| _ = command.args(["--env", variable]));
            }
        }
        let output = command.arg("--rootfs").arg(&fresh).args(job.command).output().context("cannot run podman")?;
        if output.status.code().is_none_or(|code| code == 137) {
            self.remove_containers(runtime)?;
        }
        remove_tree(&fresh)?;
        Ok(output)
    }
}

fn version() -> anyhow::Result<String> {
    let printed = build::output(Command::new("podman").arg("--version"))?;
    Ok(printed.trim().trim_start_matches("podman version ").to_owned())
}

/// Without `dev` no node can be used in a bind mount.
fn unasked_volume() -> String {
    let unasked = fixture::unasked();
    format!("{0}:{0}:dev", unasked.display())
}

/// `podman build --device`.
pub struct Build {
    podman: Podman,
    context: PathBuf,
}

impl Build {
    /// Imports the image to build from.
    pub fn prepare(plan: &Plan, work: &Path) -> anyhow::Result<Self> {
        let podman = Podman::prepare(plan, work)?;
        let context = work.join("build");
        make_dirs(&context)?;
        let tar = fixture::rootfs_tar(work);
        build::output(podman.command("crun").arg("import").arg(tar).arg("bench:1"))?;
        Ok(Self { podman, context })
    }
}

impl Engine for Build {
    fn version(&self) -> anyhow::Result<String> {
        version()
    }

    fn run(&self, runtime: &str, job: &Job<'_>) -> anyhow::Result<Output> {
        let containerfile = format!("FROM localhost/bench:1\nRUN {}\n", job.command.join(" "));
        write(&self.context.join("Containerfile"), &containerfile)?;
        let mut command = self.podman.command(runtime);
        command.args(["build", "--quiet=false", "--isolation", "oci", "--runtime", runtime, "--network=none"]);
        command.args(["--no-cache", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        // A cgroup with others below it can hold no process of its own, which this one is to do.
        let cgroup = format!("{}/build", self.podman.cgroup);
        command.args(["--cgroup-parent", &cgroup, "--volume", &unasked_volume()]);
        job.devices.iter().for_each(|device| _ = command.args(["--device", device]));
        command.arg(&self.context).output().context("cannot run podman build")
    }
}
