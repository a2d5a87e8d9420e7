//! Device nodes of the container, and the device cgroup's rules for them. Pure.

use cdi_specs::DeviceNode;
use serde_json::{Value, json};

use super::{Change, InjectError, Object, array, list};
use crate::nodes::{Filled, HostNodes};

const DEVICES: [&str; 2] = ["linux", "devices"];
const RULES: [&str; 3] = ["linux", "resources", "devices"];

/// Adds nodes, each in the place of those at the same path.
pub(super) fn add<'e>(
    root: &Object,
    edits: impl Iterator<Item = &'e DeviceNode>,
    host: &HostNodes,
) -> Result<Vec<Change<'e>>, InjectError> {
    let user = root.get("process").and_then(|process| process.get("user")).unwrap_or(&Value::Null);
    let (mut devices, mut rules) = (Vec::new(), Vec::new());
    for edit in edits {
        let filled = host.fill(edit)?;
        rules.extend(rule(edit, &filled));
        devices.push(device(edit, &filled, user));
    }
    let mut changes = Vec::new();
    if !devices.is_empty() {
        let list = list::replace(array(root, &DEVICES)?, "path", devices);
        changes.push(Change::new(&DEVICES, list));
    }
    if !rules.is_empty() {
        let list = list::add_rules(array(root, &RULES)?, rules);
        changes.push(Change::new(&RULES, list));
    }
    Ok(changes)
}

fn device(edit: &DeviceNode, filled: &Filled, user: &Value) -> Value {
    let owner = |given: Option<u32>, key: &str| given.map(Value::from).or_else(|| owner_of_process(user, key));
    let (major, minor) = filled.numbers;
    // A FIFO has no numbers.
    let number = |number: i64| (filled.kind != "p").then(|| Value::from(number));
    let fields = [
        ("major", number(major)),
        ("minor", number(minor)),
        ("fileMode", filled.mode.map(Value::from)),
        ("uid", owner(edit.uid, "uid")),
        ("gid", owner(edit.gid, "gid")),
    ];
    let mut device = json!({"path": edit.path, "type": filled.kind});
    if let Some(object) = device.as_object_mut() {
        object.extend(fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    }
    device
}

/// The user of the container's process, unless that is root.
fn owner_of_process(user: &Value, key: &str) -> Option<Value> {
    user.get(key).filter(|id| id.as_u64().is_some_and(|id| id > 0)).cloned()
}

/// What the container may do with the node; `u` and FIFOs have no rule in the reference.
fn rule(edit: &DeviceNode, filled: &Filled) -> Option<Value> {
    if !matches!(filled.kind.as_str(), "b" | "c") {
        return None;
    }
    let (major, minor) = filled.numbers;
    let mut rule = json!({"allow": true, "type": filled.kind, "major": major, "minor": minor});
    let access = match edit.permissions.as_deref() {
        None | Some("") => "rwm",
        Some("none") => return Some(rule),
        Some(access) => access,
    };
    if let Some(object) = rule.as_object_mut() {
        object.insert("access".into(), access.into());
    }
    Some(rule)
}
