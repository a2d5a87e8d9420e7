//! Container edits: what a CDI device changes in a container.
//!
//! Fields stand in the order in which they are written. Those that are empty, zero or absent are left out.

use serde::{Deserialize, Deserializer, Serialize};

/// Everything that one device, or a spec as a whole, changes in a container (CDI SPEC, "OCI Edits").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ContainerEdits {
    /// Environment variables, each as `NAME=VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Device nodes that the container gets, and may use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_nodes: Vec<DeviceNode>,
    /// Network interfaces that move into the container (since CDI 1.1.0).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub net_devices: Vec<NetDevice>,
    /// OCI hooks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// Files and directories of the host that the container sees.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Cache and memory bandwidth allocation (since CDI 0.7.0). Present means used, even when all of it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// Group ids that the container's process also belongs to (since CDI 0.7.0).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

impl ContainerEdits {
    /// Whether there is nothing to edit.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds `other` behind these edits: lists concatenate, and of two `intelRdt` the later one stands alone.
    pub fn append(&mut self, other: Self) {
        self.env.extend(other.env);
        self.device_nodes.extend(other.device_nodes);
        self.net_devices.extend(other.net_devices);
        self.hooks.extend(other.hooks);
        self.mounts.extend(other.mounts);
        self.intel_rdt = other.intel_rdt.or(self.intel_rdt.take());
        self.additional_gids.extend(other.additional_gids);
    }
}

/// A device node (CDI SPEC, "OCI Edits", `deviceNodes`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DeviceNode {
    /// Path of the node in the container.
    pub path: String,
    /// Path of the node on the host; absent means the same as `path` (since CDI 0.5.0).
    #[serde(skip_serializing_if = "is_blank", deserialize_with = "text_or_absent")]
    pub host_path: Option<String>,
    /// `b` block, `c` or `u` character, `p` fifo; absent means the type that the host's node has.
    #[serde(skip_serializing_if = "is_blank", deserialize_with = "text_or_absent")]
    pub r#type: Option<String>,
    /// Major device number; 0 means that of the host's node.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: i64,
    /// Minor device number; counts only where `major` is set.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: i64,
    /// Permission bits (`0o666`, which a spec file shows as decimal 438); absent means those of the host's node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// What the container may do with it: letters of `rwm` (read, write, mknod), or `none`; absent means `rwm`.
    #[serde(skip_serializing_if = "is_blank", deserialize_with = "text_or_absent")]
    pub permissions: Option<String>,
    /// Owner of the node; absent means the user of the container's process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group of the node; absent means the group of the container's process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// A network interface (CDI SPEC, "OCI Edits", `netDevices`; since CDI 1.1.0).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NetDevice {
    /// Name of the interface on the host.
    pub host_interface_name: String,
    /// Name that it gets in the container.
    pub name: String,
}

/// An OCI hook (CDI SPEC, "OCI Edits", `hooks`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Hook {
    /// When it runs: one of [`Hook::NAMES`].
    pub hook_name: String,
    /// Absolute path of the program on the host.
    pub path: String,
    /// Its argv, the program's own name first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its whole environment, each as `NAME=VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds after which the runtime gives up on it; absent means never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

impl Hook {
    /// The hook names that CDI knows, in the order in which a runtime comes by them.
    pub const NAMES: [&str; 6] =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
}

/// A mount (CDI SPEC, "OCI Edits", `mounts`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Mount {
    /// Path on the host.
    pub host_path: String,
    /// Path in the container.
    pub container_path: String,
    /// Options as mount(8) spells them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// File system type; absent means a bind mount (since CDI 0.4.0).
    #[serde(skip_serializing_if = "is_blank", deserialize_with = "text_or_absent")]
    pub r#type: Option<String>,
}

/// Intel Resource Director Technology (CDI SPEC, "OCI Edits", `intelRdt`; since CDI 0.7.0).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct IntelRdt {
    /// Class of service: a directory's name under `/sys/fs/resctrl`, or `/` for its root.
    #[serde(rename = "closID", skip_serializing_if = "is_blank", deserialize_with = "text_or_absent")]
    pub clos_id: Option<String>,
    /// L3 cache line of the `schemata` file.
    #[serde(skip_serializing_if = "is_blank", deserialize_with = "text_or_absent")]
    pub l3_cache_schema: Option<String>,
    /// Memory bandwidth line of the `schemata` file.
    #[serde(skip_serializing_if = "is_blank", deserialize_with = "text_or_absent")]
    pub mem_bw_schema: Option<String>,
    /// Lines of the `schemata` file (since CDI 1.1.0; an empty list counts as used).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schemata: Option<Vec<String>>,
    /// Whether the runtime keeps a monitoring group for the container (since CDI 1.1.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_monitoring: Option<bool>,
}

/// Reads optional text: CDI takes empty for absent.
fn text_or_absent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// Whether optional text says nothing: CDI takes empty for absent.
pub(crate) fn is_blank(text: &Option<String>) -> bool {
    text.as_deref().unwrap_or_default().is_empty()
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rdt(clos_id: &str) -> Option<IntelRdt> {
        Some(IntelRdt { clos_id: Some(clos_id.into()), ..IntelRdt::default() })
    }

    #[test]
    fn lists_concatenate_in_order_and_keep_repetitions() {
        let mut edits = ContainerEdits {
            env: vec!["A=1".into()],
            device_nodes: vec![DeviceNode { path: "/dev/a".into(), ..DeviceNode::default() }],
            additional_gids: vec![4, 5],
            ..ContainerEdits::default()
        };
        edits.append(ContainerEdits {
            env: vec!["B=2".into(), "A=1".into()],
            device_nodes: vec![DeviceNode { path: "/dev/b".into(), ..DeviceNode::default() }],
            net_devices: vec![NetDevice { host_interface_name: "eno1".into(), name: "net0".into() }],
            hooks: vec![Hook { path: "/bin/true".into(), ..Hook::default() }],
            mounts: vec![Mount { host_path: "/a".into(), ..Mount::default() }],
            additional_gids: vec![5, 6],
            ..ContainerEdits::default()
        });
        assert_eq!(edits.env, ["A=1", "B=2", "A=1"]);
        assert_eq!(edits.device_nodes.iter().map(|node| node.path.as_str()).collect::<Vec<_>>(), ["/dev/a", "/dev/b"]);
        assert_eq!((edits.net_devices.len(), edits.hooks.len(), edits.mounts.len()), (1, 1, 1));
        assert_eq!(edits.additional_gids, [4, 5, 5, 6]);
    }

    #[test]
    fn the_last_intel_rdt_wins_whole() {
        let cases = [
            (rdt("old"), rdt("new"), rdt("new")),
            (rdt("old"), None, rdt("old")),
            (None, rdt("new"), rdt("new")),
            (rdt("old"), Some(IntelRdt::default()), Some(IntelRdt::default())),
            (None, None, None),
        ];
        for (old, new, expected) in cases {
            let mut edits = ContainerEdits { intel_rdt: old, ..ContainerEdits::default() };
            edits.append(ContainerEdits { intel_rdt: new, ..ContainerEdits::default() });
            assert_eq!(edits.intel_rdt, expected);
        }
    }

    #[test]
    fn appending_nothing_to_nothing_is_nothing() {
        let mut edits = ContainerEdits::default();
        edits.append(ContainerEdits::default());
        assert!(edits.is_empty());
        edits.append(ContainerEdits { intel_rdt: Some(IntelRdt::default()), ..ContainerEdits::default() });
        assert!(!edits.is_empty(), "an empty intelRdt object is an edit");
    }
}
