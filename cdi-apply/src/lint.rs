//! Lint: what is valid in a spec, and yet will not work, or is dangerous. Pure; what it needs of the host is asked for.

mod reach;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use cdi_specs::{ContainerEdits, Spec, shortened};
use serde::Serialize;

use crate::nodes::HostNodes;

/// A doubt about a spec. Displays as `at: message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lint {
    /// Field path, as a violation has it.
    pub at: String,
    /// What to think about.
    pub message: String,
}

impl std::fmt::Display for Lint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

/// What a host says about the paths and nodes of a spec.
pub struct Host<'a> {
    /// Whether a path exists.
    pub exists: &'a dyn Fn(&Path) -> bool,
    /// What a path leads to, all links followed.
    pub real: &'a dyn Fn(&Path) -> Option<PathBuf>,
    /// Who but root may change a file, or put another in its place.
    pub who_may_change: &'a dyn Fn(&Path) -> Option<String>,
    /// The nodes that edits name.
    pub nodes: &'a dyn Fn(&ContainerEdits) -> HostNodes,
}

/// So many doubts are listed; the rest is counted.
const MOST: usize = 1000;
/// Characters of a message: paths in it are as long as strangers like.
const LONGEST: usize = 400;

/// The doubts so far.
#[derive(Default)]
struct Lints {
    lints: Vec<Lint>,
    once: HashSet<String>,
    more: usize,
}

impl Lints {
    fn add(&mut self, at: String, message: impl Into<String>) {
        if self.lints.len() < MOST {
            self.lints.push(Lint { at, message: shortened(&message.into(), LONGEST).into_owned() });
        } else {
            self.more += 1;
        }
    }

    /// What many devices bring is told once, at the first.
    fn add_once(&mut self, at: String, message: impl Into<String>) {
        let message = shortened(&message.into(), LONGEST).into_owned();
        if self.once.insert(message.clone()) {
            self.add(at, message);
        }
    }

    fn finished(mut self) -> Vec<Lint> {
        if self.more > 0 {
            let message = format!("{} doubts more are not listed", self.more);
            self.lints.push(Lint { at: "spec".to_owned(), message });
        }
        self.lints
    }
}

/// All doubts, in the order of the document: of a thousand and more, their number. Without a host only those about the
/// spec itself.
pub fn lint(spec: &Spec, host: Option<&Host<'_>>) -> Vec<Lint> {
    let mut lints = Lints::default();
    let real = |path: &str| Some((host?.real)(Path::new(path))?.to_str()?.to_owned());
    lint_version(spec, &mut lints);
    let devices = spec.devices.iter().enumerate();
    let devices = devices.map(|(at, device)| (format!("devices[{at}].containerEdits"), &device.container_edits));
    let edits: Vec<_> = devices.chain([("containerEdits".to_owned(), &spec.container_edits)]).collect();
    // A file that many devices bring is looked at once.
    let mut seen = BTreeSet::new();
    for (at, edits) in edits {
        lint_hooks(&at, edits, &mut lints);
        reach::reach(&at, edits, &real, &mut lints);
        if let Some(host) = host {
            lint_paths(&at, edits, host, &mut seen, &mut lints);
            lint_nodes(&at, edits, host, &mut lints);
        }
    }
    lints.finished()
}

fn lint_version(spec: &Spec, lints: &mut Lints) {
    let required = spec.required_version();
    let Some(version) = spec.parse_version().ok().filter(|version| *version > required) else { return };
    let message = format!("{version}, but {required} says as much, and older engines read it");
    lints.add("cdiVersion".to_owned(), message);
}

/// CVE-2025-23266: what has no environment of its own runs in that of the runtime, into which an image can reach.
fn lint_hooks(at: &str, edits: &ContainerEdits, lints: &mut Lints) {
    for (index, _) in edits.hooks.iter().enumerate().filter(|(_, hook)| hook.env.is_empty()) {
        let message = "the hook has no environment of its own and may run in one that the image sets (LD_PRELOAD)";
        lints.add(format!("{at}.hooks[{index}].env"), message);
    }
}

fn lint_paths<'e>(
    at: &str,
    edits: &'e ContainerEdits,
    host: &Host<'_>,
    seen: &mut BTreeSet<&'e str>,
    lints: &mut Lints,
) {
    let mounts = edits.mounts.iter().enumerate();
    // A file system without a source on the host has a type of its own.
    let mounts = mounts.filter(|(_, mount)| mount.host_path.starts_with('/'));
    let mounts = mounts.map(|(index, mount)| (format!("{at}.mounts[{index}].hostPath"), mount.host_path.as_str()));
    // What runs in the container is a program of the image (runtime-spec, "POSIX-platform Hooks").
    let hooks = edits.hooks.iter().enumerate().filter(|(_, hook)| hook.hook_name != "startContainer");
    let hooks = hooks.map(|(index, hook)| (format!("{at}.hooks[{index}].path"), hook.path.as_str()));
    for (at, path) in mounts.chain(hooks).filter(|(_, path)| seen.insert(path)) {
        if !(host.exists)(Path::new(path)) {
            lints.add(at, format!("{path} is not on this host"));
        } else if let Some(why) = (host.who_may_change)(Path::new(path)) {
            lints.add(at, format!("{path} is used by root, but {why}"));
        }
    }
}

fn lint_nodes(at: &str, edits: &ContainerEdits, host: &Host<'_>, lints: &mut Lints) {
    let nodes = (host.nodes)(edits);
    for (index, node) in edits.device_nodes.iter().enumerate() {
        if let Err(error) = nodes.check_node(node) {
            lints.add(format!("{at}.deviceNodes[{index}]"), error.to_string());
        }
    }
}
