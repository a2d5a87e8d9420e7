//! Nodes: what a device node's edit leaves open, and whether its numbers are those of the device. Pure.
//!
//! Drivers get their major numbers when they are loaded, so a spec from before the last boot may name a number that is
//! another driver's by now. A container must not get that driver's devices.

use std::collections::BTreeMap;

use cdi_specs::device_list::{DeviceList, Node};
use cdi_specs::{ContainerEdits, DeviceNode};

/// Type, numbers and permissions of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostNode {
    /// `b`, `c` or `p`.
    pub kind: char,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
}

/// What a host knows about nodes. `device_numbers` asks this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNodes {
    /// By host path.
    pub nodes: BTreeMap<String, HostNode>,
    /// Drivers of character devices with their major numbers, as `/proc/devices` tells them. None of them says nothing.
    pub drivers: Vec<(String, u32)>,
}

/// The numbers under which a container gets a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// `b`, `c`, `u` or `p`.
    pub kind: String,
    /// Major and minor number.
    pub numbers: (i64, i64),
    /// Permission bits; `None` if neither spec nor host tells them.
    pub mode: Option<u32>,
}

/// A node that the host has not, or not so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The edit leaves something open that only the node tells.
    #[error("no device node {0} on this host (load the driver, or generate the spec anew)")]
    Missing(String),
    /// The host's node is of another type than the spec says.
    #[error("device node {path} is of type {found}, the spec says {expected}")]
    WrongType {
        /// The node on the host.
        path: String,
        /// Its type.
        found: char,
        /// The spec's.
        expected: String,
    },
    /// Numbers that no device has; to a device cgroup -1 is every device.
    #[error("device node {path} would be {}, which no device is", pair(.spec))]
    NoNumber {
        /// The node on the host.
        path: String,
        /// The spec's major and minor number.
        spec: (i64, i64),
    },
    /// The host's node has other numbers than the spec says.
    #[error("device node {path} is {}, the spec says {}: {HINT}", pair(.found), pair(.spec))]
    Stale {
        /// The node on the host.
        path: String,
        /// Its major and minor number.
        found: (i64, i64),
        /// The spec's.
        spec: (i64, i64),
    },
    /// The driver that the node is named after has another major number.
    #[error("device node {path} would have major number {used}, but /proc/devices has {driver} at {major}: {HINT}")]
    WrongDriver {
        /// The node on the host.
        path: String,
        /// The major number that it would have.
        used: i64,
        /// The driver.
        driver: String,
        /// Its major number.
        major: u32,
    },
}

/// The way out of stale numbers.
const HINT: &str = "generate the spec anew, or --allow-stale";

fn pair((major, minor): &(i64, i64)) -> String {
    format!("{major}:{minor}")
}

impl HostNodes {
    /// The nodes of a list, for a host that this machine is not.
    pub fn of_list(list: &DeviceList) -> Self {
        let node = |node: &Node| HostNode { kind: 'c', major: node.major, minor: node.minor, mode: node.mode };
        let nodes = list.iter().map(|(path, listed)| (path.clone(), node(listed)));
        Self { nodes: nodes.collect(), drivers: Vec::new() }
    }

    /// Fills in what an edit leaves open, as the reference does: an edit with type and major number stands as it is.
    ///
    /// # Errors
    /// The host lacks the node, or has one of another type.
    pub fn fill(&self, edit: &DeviceNode) -> Result<Filled, NodeError> {
        let path = host_path(edit);
        let kind = edit.r#type.clone().unwrap_or_default();
        let found = self.nodes.get(path);
        let mode = edit.file_mode.or(found.map(|found| found.mode));
        let is_complete = !kind.is_empty() && (edit.major != 0 || kind == "p");
        if is_complete {
            return Ok(Filled { kind, numbers: (edit.major, edit.minor), mode });
        }
        let found = found.ok_or_else(|| NodeError::Missing(path.to_owned()))?;
        if !kind.is_empty() && kind != found.kind.to_string() {
            return Err(NodeError::WrongType { path: path.to_owned(), found: found.kind, expected: kind });
        }
        let from_host = found.kind != 'p' && edit.major == 0;
        let numbers = if from_host { numbers(found) } else { (edit.major, edit.minor) };
        Ok(Filled { kind: found.kind.to_string(), numbers, mode })
    }

    /// Holds the numbers that edits lead to against the host's.
    ///
    /// # Errors
    /// The first node that [`HostNodes::check_node`] refuses.
    pub fn check(&self, edits: &[&ContainerEdits]) -> Result<(), NodeError> {
        edits.iter().flat_map(|edits| &edits.device_nodes).try_for_each(|edit| self.check_node(edit))
    }

    /// Holds the numbers that an edit leads to against the host's.
    ///
    /// # Errors
    /// The node on the host, or the driver that it is named after, has others.
    pub fn check_node(&self, edit: &DeviceNode) -> Result<(), NodeError> {
        let filled = self.fill(edit)?;
        let path = host_path(edit);
        let range = 0..=i64::from(u32::MAX);
        if !range.contains(&filled.numbers.0) || !range.contains(&filled.numbers.1) {
            return Err(NodeError::NoNumber { path: path.to_owned(), spec: filled.numbers });
        }
        if let Some(found) = self.nodes.get(path) {
            if !is_same_kind(&filled.kind, found.kind) {
                return Err(NodeError::WrongType { path: path.to_owned(), found: found.kind, expected: filled.kind });
            }
            if found.kind != 'p' && numbers(found) != filled.numbers {
                return Err(NodeError::Stale { path: path.to_owned(), found: numbers(found), spec: filled.numbers });
            }
        }
        match self.wrong_driver(path, filled.numbers.0) {
            Some((driver, major)) if is_same_kind(&filled.kind, 'c') => {
                Err(NodeError::WrongDriver { path: path.to_owned(), used: filled.numbers.0, driver, major })
            }
            _ => Ok(()),
        }
    }

    /// The driver that a node is named after, if it has another major number.
    fn wrong_driver(&self, path: &str, used: i64) -> Option<(String, u32)> {
        let names = drivers_of(path);
        let of_names: Vec<_> = self.drivers.iter().filter(|(name, _)| names.contains(&name.as_str())).collect();
        let is_used = of_names.iter().any(|(_, major)| i64::from(*major) == used);
        of_names.first().filter(|_| !is_used).map(|(name, major)| (name.clone(), *major))
    }
}

fn host_path(edit: &DeviceNode) -> &str {
    edit.host_path.as_deref().unwrap_or(&edit.path)
}

fn numbers(node: &HostNode) -> (i64, i64) {
    (node.major.into(), node.minor.into())
}

/// `u` is another word for a character device (mknod(1)); a FIFO has no numbers.
fn is_same_kind(edit: &str, host: char) -> bool {
    matches!((edit, host), ("c" | "u", 'c') | ("b", 'b') | ("p", 'p'))
}

/// The names under which drivers that name their nodes after themselves stand in `/proc/devices`.
fn drivers_of(path: &str) -> &'static [&'static str] {
    // A driver container has a /dev of its own.
    let name = path.rsplit_once("/dev/").map(|(_, name)| name).unwrap_or_default();
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match (stem, name.split_once('/').map(|(dir, _)| dir)) {
        ("kfd", _) => &["kfd"],
        // The driver's own name was nvidia-frontend before 545.
        ("nvidia", _) if stem != name => &["nvidia", "nvidia-frontend"],
        ("nvidiactl", _) => &["nvidiactl", "nvidia", "nvidia-frontend"],
        ("nvidia-modeset", _) => &["nvidia-modeset", "nvidia", "nvidia-frontend"],
        ("nvidia-nvswitch" | "nvidia-nvswitchctl", _) => &["nvidia-nvswitch"],
        ("nvidia-uvm" | "nvidia-uvm-tools", _) => &["nvidia-uvm"],
        (_, Some("nvidia-caps")) => &["nvidia-caps"],
        (_, Some("nvidia-caps-imex-channels")) => &["nvidia-caps-imex-channels"],
        _ => &[],
    }
}

/// The character devices of `/proc/devices` (proc_devices(5)).
pub fn parse_drivers(text: &str) -> Vec<(String, u32)> {
    let lines = text.lines().skip_while(|line| !line.starts_with("Character")).skip(1);
    let lines = lines.take_while(|line| !line.is_empty() && !line.starts_with("Block"));
    lines.filter_map(|line| line.trim().split_once(' ')).filter_map(parse_driver).collect()
}

fn parse_driver((major, name): (&str, &str)) -> Option<(String, u32)> {
    Some((name.trim().to_owned(), major.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: &str = "Character devices:\n  1 mem\n  4 tty\n195 nvidia\n195 nvidiactl\n238 nvidia-uvm\n507 hidraw\n\nBlock devices:\n  8 nvidia-caps\n";

    fn host() -> HostNodes {
        let node = |kind, major, minor| HostNode { kind, major, minor, mode: 0o666 };
        let nodes = [
            ("/dev/nvidia0", node('c', 195, 0)),
            ("/dev/nvidia-uvm", node('c', 238, 0)),
            ("/dev/nvidia-uvm-tools", node('c', 507, 1)),
            ("/dev/disk", node('b', 8, 0)),
            ("/dev/pipe", node('p', 0, 0)),
        ];
        let nodes = nodes.map(|(path, node)| (path.to_owned(), node)).into();
        HostNodes { nodes, drivers: parse_drivers(DEVICES) }
    }

    fn edit(path: &str, kind: &str, major: i64, minor: i64) -> DeviceNode {
        let r#type = (!kind.is_empty()).then(|| kind.to_owned());
        DeviceNode { path: path.to_owned(), r#type, major, minor, ..DeviceNode::default() }
    }

    #[test]
    fn drivers_are_those_of_character_devices() {
        let drivers = parse_drivers(DEVICES);
        assert_eq!(drivers.len(), 6);
        assert_eq!(drivers[4], ("nvidia-uvm".to_owned(), 238));
        assert!(parse_drivers("").is_empty());
    }

    #[test]
    fn numbers_that_agree() {
        let good = [
            edit("/dev/nvidia0", "", 0, 0),
            edit("/dev/nvidia0", "c", 195, 0),
            edit("/dev/nvidia0", "u", 195, 0),
            edit("/dev/nvidia1", "c", 195, 1),
            edit("/dev/nvidia-uvm", "", 238, 0),
            edit("/dev/disk", "b", 8, 0),
            edit("/dev/pipe", "", 0, 0),
            edit("/dev/unknown", "c", 77, 0),
            edit("/dev/nvidia-caps/nvidia-cap1", "c", 77, 1),
        ];
        for edit in good {
            assert_eq!(host().check_node(&edit), Ok(()), "{edit:?}");
        }
        // Where /proc/devices is hidden, the node alone counts.
        let hidden = HostNodes { drivers: Vec::new(), ..host() };
        assert_eq!(hidden.check_node(&edit("/dev/nvidia-uvm-tools", "", 0, 0)), Ok(()));
    }

    #[test]
    fn numbers_of_another_device_are_told() {
        let bad = [
            (edit("/dev/nvidia-uvm", "c", 507, 0), "/dev/nvidia-uvm is 238:0, the spec says 507:0"),
            (edit("/dev/nvidia-uvm", "", 238, 1), "/dev/nvidia-uvm is 238:0, the spec says 238:1"),
            (edit("/dev/disk", "b", 9, 0), "/dev/disk is 8:0, the spec says 9:0"),
            // No such node here, or one from before the driver was loaded.
            (edit("/dev/nvidia7", "c", 507, 7), "major number 507, but /proc/devices has nvidia at 195"),
            (edit("/dev/nvidia-uvm-tools", "", 0, 0), "major number 507, but /proc/devices has nvidia-uvm at 238"),
            (edit("/dev/gone", "", 0, 0), "no device node /dev/gone"),
            (edit("/dev/nvidia0", "b", 0, 0), "is of type c, the spec says b"),
        ];
        for (edit, words) in bad {
            let error = host().check_node(&edit).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
