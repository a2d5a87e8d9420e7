//! Engine: which engines there are, where each runs, and what it must do. Table.

use std::path::Path;
use std::process::Output;

use anyhow::{Context, bail};

use super::bundle::Bundles;
use super::containerd::{self, Channel, Containerd};
use super::docker::{self, Docker};
use super::podman::{Build, Podman};
use super::volumes::Extras;

/// A container to run.
pub struct Job<'a> {
    /// The CDI devices that it asks for.
    pub devices: &'a [String],
    /// What it runs.
    pub command: &'a [String],
    /// What it has beside them; then it runs as somebody without rights.
    pub extras: Option<Extras<'a>>,
}

impl Job<'_> {
    /// The variable by which it asks, where cdi-runtime is to read it.
    pub fn variable(&self) -> Option<String> {
        (!self.devices.is_empty()).then(|| format!("NVIDIA_VISIBLE_DEVICES={}", self.devices.join(",")))
    }
}

/// Something that runs containers with CDI devices.
pub trait Engine {
    /// What it says that it is.
    fn version(&self) -> anyhow::Result<String>;
    /// Runs a container in a root file system of its own, with the node that nobody asked for bind-mounted into it.
    fn run(&self, runtime: &str, job: &Job<'_>) -> anyhow::Result<Output>;
}

/// An engine on the command line.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Its name.
    pub name: &'static str,
    /// Where it runs.
    pub place: Place,
    /// What it finds in /sys/fs/cgroup.
    pub cgroups: Cgroups,
    /// Who runs it.
    pub user: User,
    /// The OCI runtimes under it.
    pub runtimes: &'static [&'static str],
    /// How containers ask for devices.
    pub asks: Asks,
    /// Whether the container may use only the nodes that it asked for: without root nobody can see to that.
    pub enforces: bool,
    kind: Kind,
}

/// Where an engine runs.
#[derive(Clone, Copy)]
pub enum Place {
    /// This machine.
    Machine,
    /// A Debian release in a folder; with another one in it that has the engine's client.
    Box { release: &'static str, client: Option<&'static str> },
}

impl Place {
    /// The release of a box.
    pub fn release(self) -> Option<&'static str> {
        match self {
            Self::Machine => None,
            Self::Box { release, .. } => Some(release),
        }
    }
}

/// What an engine finds in /sys/fs/cgroup.
#[derive(Clone, Copy)]
pub enum Cgroups {
    /// What the machine has, without a mixture of both versions.
    OfMachine,
    /// Version 2 alone.
    Unified,
}

/// Who runs an engine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Root.
    Root,
    /// Somebody else.
    Plain,
}

/// How containers ask for devices.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// The engine for CDI devices.
    Engine,
    /// cdi-runtime, by a variable of the container's.
    Runtime,
}

#[derive(Clone, Copy)]
enum Kind {
    Podman,
    Build,
    Docker,
    Containerd(Channel),
    Bundles,
}

const TRIXIE: Place = Place::Box { release: "trixie", client: None };
const SID: Place = Place::Box { release: "sid", client: None };
/// The client of the container runtime interface needs a package that came after trixie.
const TRIXIE_WITH_CLIENT: Place = Place::Box { release: "trixie", client: Some("sid") };
const SID_WITH_CLIENT: Place = Place::Box { release: "sid", client: Some("sid") };

const fn plan(
    name: &'static str,
    kind: Kind,
    place: Place,
    cgroups: Cgroups,
    runtimes: &'static [&'static str],
) -> Plan {
    Plan { name, place, cgroups, user: User::Root, runtimes, asks: Asks::Engine, enforces: true, kind }
}

const fn by_runtime(plan: Plan) -> Plan {
    Plan { asks: Asks::Runtime, ..plan }
}

const fn rootless(name: &'static str, place: Place, cgroups: Cgroups) -> Plan {
    Plan { user: User::Plain, enforces: false, ..plan(name, Kind::Podman, place, cgroups, RUNTIMES) }
}

const RUNTIMES: &[&str] = &["runc", "crun"];
const CHANNELS: &[&str] = &[containerd::FIELD, "annotation"];
const HANDLER: &[&str] = &["handler"];

/// All engines. A box's podman runs on version 2, its daemons on what the machine has (they want controllers).
const PLANS: [Plan; 22] = {
    use Cgroups::{OfMachine, Unified};
    [
        plan("podman", Kind::Podman, Place::Machine, OfMachine, RUNTIMES),
        rootless("podman-rootless", Place::Machine, OfMachine),
        plan("inject", Kind::Bundles, Place::Machine, OfMachine, RUNTIMES),
        plan("inject-youki", Kind::Bundles, Place::Machine, OfMachine, &["youki"]),
        plan("podman-5.4", Kind::Podman, TRIXIE, Unified, RUNTIMES),
        rootless("podman-5.4-rootless", TRIXIE, Unified),
        plan("podman-5.8", Kind::Podman, SID, Unified, RUNTIMES),
        rootless("podman-5.8-rootless", SID, Unified),
        // With runc, and on version 1, buildah's own device rules without access are refused.
        plan("podman-build", Kind::Build, SID, Unified, &["crun"]),
        plan("docker-26", Kind::Docker, TRIXIE, OfMachine, RUNTIMES),
        plan("docker-28", Kind::Docker, SID, OfMachine, RUNTIMES),
        plan("containerd-1.7", Kind::Containerd(Channel::Cri), TRIXIE_WITH_CLIENT, OfMachine, CHANNELS),
        plan("containerd-2", Kind::Containerd(Channel::Cri), SID_WITH_CLIENT, OfMachine, CHANNELS),
        plan("ctr-2", Kind::Containerd(Channel::Ctr), SID, OfMachine, &["runc"]),
        by_runtime(plan("podman-runtime", Kind::Podman, Place::Machine, OfMachine, RUNTIMES)),
        by_runtime(rootless("podman-runtime-rootless", Place::Machine, OfMachine)),
        by_runtime(plan("runtime", Kind::Bundles, Place::Machine, OfMachine, RUNTIMES)),
        by_runtime(plan("runtime-youki", Kind::Bundles, Place::Machine, OfMachine, &["youki"])),
        by_runtime(plan("docker-26-runtime", Kind::Docker, TRIXIE, OfMachine, docker::CHANNELS)),
        by_runtime(plan("docker-28-runtime", Kind::Docker, SID, OfMachine, docker::CHANNELS)),
        by_runtime(plan(
            "containerd-1.7-runtime",
            Kind::Containerd(Channel::Cri),
            TRIXIE_WITH_CLIENT,
            OfMachine,
            HANDLER,
        )),
        by_runtime(plan("containerd-2-runtime", Kind::Containerd(Channel::Cri), SID_WITH_CLIENT, OfMachine, HANDLER)),
    ]
};

impl Plan {
    /// The engine, ready to run containers.
    pub fn prepare(&self, work: &Path) -> anyhow::Result<Box<dyn Engine>> {
        Ok(match self.kind {
            Kind::Podman => Box::new(Podman::prepare(self, work)?),
            Kind::Build => Box::new(Build::prepare(self, work)?),
            Kind::Docker => Box::new(Docker::prepare(self.asks, work)?),
            Kind::Containerd(channel) => Box::new(Containerd::prepare(channel, self.asks, work)?),
            Kind::Bundles => Box::new(Bundles::prepare(self.asks, work)?),
        })
    }
}

impl Plan {
    /// Whether volumes are tried with it.
    pub fn takes_volumes(&self) -> bool {
        let takes = matches!(self.kind, Kind::Podman | Kind::Bundles);
        takes && self.user == User::Root && self.asks == Asks::Engine
    }

    /// Whether it builds images, and runs no containers.
    pub fn builds(&self) -> bool {
        matches!(self.kind, Kind::Build)
    }

    /// What `cdi-gen --target` calls an engine of a version.
    pub fn target(&self, version: &str) -> String {
        let name = match (self.asks, self.kind) {
            (Asks::Runtime, _) | (_, Kind::Bundles) => return "cdi-apply".to_owned(),
            (_, Kind::Podman | Kind::Build) => "podman",
            (_, Kind::Docker) => "docker",
            (_, Kind::Containerd(_)) => "containerd",
        };
        format!("{name}={version}")
    }
}

/// The engines of these names; all if there is no name.
pub fn selected(names: &[String]) -> anyhow::Result<Vec<&'static Plan>> {
    let find = |name: &String| PLANS.iter().find(|plan| plan.name == name);
    if names.is_empty() {
        return Ok(PLANS.iter().collect());
    }
    if let Some(unknown) = names.iter().find(|name| find(name).is_none()) {
        let known: Vec<&str> = PLANS.iter().map(|plan| plan.name).collect();
        bail!("unknown engine {unknown}; known: {}", known.join(", "));
    }
    names.iter().map(|name| find(name).context("known")).collect()
}

/// Those that need neither a box nor a build of their own.
pub fn quick() -> Vec<&'static Plan> {
    PLANS.iter().filter(|plan| plan.place.release().is_none() && !plan.runtimes.contains(&"youki")).collect()
}
