//! Difference: what one spec gives a container that another does not. Pure.

use std::collections::BTreeSet;
use std::fmt;

use cdi_specs::{ContainerEdits, Spec, printable};
use serde::Serialize;

/// A difference. Displays as one line, `+ nvidia.com/gpu=0: node /dev/nvidia0 195:0`, whatever a spec says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    /// The device; none for all containers.
    pub device: Option<String>,
    /// What it is, in words.
    pub edit: String,
    /// Whether the new spec has it, or the old one.
    pub added: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.added { '+' } else { '-' };
        match &self.device {
            Some(device) => write!(f, "{sign} {}: {}", printable(device), printable(&self.edit)),
            None => write!(f, "{sign} {}", printable(&self.edit)),
        }
    }
}

/// All that differs, sorted; what is written in another order is the same.
pub fn between(old: &Spec, new: &Spec) -> Vec<Change> {
    let (old, new) = (edits(old), edits(new));
    let change = |added| {
        move |(device, edit): &(Option<String>, String)| Change { device: device.clone(), edit: edit.clone(), added }
    };
    let mut changes: Vec<Change> = old.difference(&new).map(change(false)).collect();
    changes.extend(new.difference(&old).map(change(true)));
    changes.sort();
    changes
}

/// Each edit in words, with the device that it is for.
fn edits(spec: &Spec) -> BTreeSet<(Option<String>, String)> {
    let mut all = BTreeSet::new();
    all.extend(words(&spec.container_edits).into_iter().map(|edit| (None, edit)));
    for device in &spec.devices {
        let name = format!("{}={}", spec.kind, device.name);
        all.insert((Some(name.clone()), "device".to_owned()));
        all.extend(words(&device.container_edits).into_iter().map(|edit| (Some(name.clone()), edit)));
    }
    all
}

fn words(edits: &ContainerEdits) -> Vec<String> {
    let from = |host: &str, path: &str| if host == path { String::new() } else { format!(" from {host}") };
    let nodes = edits.device_nodes.iter().map(|node| {
        let host = node.host_path.as_deref().unwrap_or(&node.path);
        let access = node.permissions.as_deref().unwrap_or("rwm");
        format!("node {}{} {}:{} {access}", node.path, from(host, &node.path), node.major, node.minor)
    });
    let mounts = edits.mounts.iter().map(|mount| {
        let from = from(&mount.host_path, &mount.container_path);
        format!("mount {}{from} ({})", mount.container_path, mount.options.join(","))
    });
    let hooks = edits.hooks.iter().map(|hook| {
        let args = hook.args.iter().skip(1).fold(String::new(), |line, word| line + " " + word);
        format!("hook {} {}{args}", hook.hook_name, hook.path)
    });
    let env = edits.env.iter().map(|variable| format!("env {variable}"));
    let gids = edits.additional_gids.iter().map(|gid| format!("group {gid}"));
    env.chain(nodes).chain(mounts).chain(hooks).chain(gids).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(mounts: &[&str], devices: &[(&str, i64)]) -> Spec {
        let mounts = mounts.iter().map(|path| format!("{{hostPath: {path}, containerPath: {path}, options: [ro]}}"));
        let devices = devices.iter().map(|(name, minor)| {
            format!("{{name: '{name}', containerEdits: {{deviceNodes: [{{path: /dev/nvidia{minor}, major: 195, minor: {minor}}}]}}}}")
        });
        let text = format!(
            "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ncontainerEdits: {{mounts: [{}]}}\ndevices: [{}]\n",
            mounts.collect::<Vec<_>>().join(", "),
            devices.collect::<Vec<_>>().join(", ")
        );
        cdi_specs::parse_yaml(text).unwrap()
    }

    #[test]
    fn what_differs_and_not_how_it_is_written() {
        let old = spec(&["/a", "/b.550"], &[("0", 0), ("1", 1)]);
        assert_eq!(between(&old, &spec(&["/b.550", "/a"], &[("1", 1), ("0", 0)])), []);
        let changes: Vec<String> =
            between(&old, &spec(&["/a", "/b.580"], &[("0", 0)])).iter().map(ToString::to_string).collect();
        let expected = [
            "- mount /b.550 (ro)",
            "+ mount /b.580 (ro)",
            "- nvidia.com/gpu=1: device",
            "- nvidia.com/gpu=1: node /dev/nvidia1 195:1 rwm",
        ];
        assert_eq!(changes, expected);
    }
}
