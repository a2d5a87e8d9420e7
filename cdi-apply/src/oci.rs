//! Inject: container edits into an OCI runtime spec (`config.json`). Pure.
//!
//! The document is an ordered JSON value, patched in place: what nobody here knows survives, in its order and with its
//! numbers as written. A typed round trip would lose it. The edits apply in the reference's order and with its
//! semantics (CDI SPEC; container-device-interface, `container-edits.go` behaviour), all or nothing.

use cdi_specs::{ContainerEdits, DeviceNode, Hook, IntelRdt, Mount, NetDevice};
use serde_json::{Map, Value, json};

use crate::host_nodes::HostNode;

/// A document or an edit that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// A member of the document has another type than the OCI runtime spec gives it.
    #[error("config.json: {at} is not {expected}")]
    WrongType {
        /// Where.
        at: String,
        /// What it should be: `an object`, `an array`, `a string`.
        expected: &'static str,
    },
    /// An edit needs a device node that the host does not have.
    #[error("no device node {0} on this host (load the driver, or regenerate the spec)")]
    NoNode(String),
    /// The host's node is of another type than the spec says.
    #[error("device node {path} is of type {found}, the spec says {expected}")]
    NodeType {
        /// The host's node.
        path: String,
        /// Its type.
        found: char,
        /// The spec's.
        expected: String,
    },
    /// A hook stage that the OCI runtime spec does not have.
    #[error("unknown hook stage {0}")]
    HookStage(String),
}

/// How to learn of a node on the host.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<HostNode>;

/// Applies the edits to a document. On an error the document is as it was.
///
/// # Errors
/// The document is malformed where an edit touches it, or the host lacks a node.
pub fn inject(config: &mut Value, edits: &ContainerEdits, node: Lookup<'_>) -> Result<(), InjectError> {
    let mut patched = config.clone();
    let root =
        patched.as_object_mut().ok_or(InjectError::WrongType { at: "the document".into(), expected: "an object" })?;
    edits.env.iter().try_for_each(|variable| set_env(root, variable))?;
    edits.device_nodes.iter().try_for_each(|edit| add_node(root, edit, node))?;
    edits.net_devices.iter().try_for_each(|device| add_net_device(root, device))?;
    edits.mounts.iter().try_for_each(|mount| add_mount(root, mount))?;
    if !edits.mounts.is_empty() {
        sort_mounts(array(root, "mounts", "mounts")?);
    }
    edits.hooks.iter().try_for_each(|hook| add_hook(root, hook))?;
    edits.intel_rdt.iter().try_for_each(|rdt| set_intel_rdt(root, rdt))?;
    edits.additional_gids.iter().try_for_each(|gid| add_gid(root, *gid))?;
    *config = patched;
    Ok(())
}

type Object = Map<String, Value>;

/// The object at `key`, made if absent or null.
fn object<'a>(parent: &'a mut Object, key: &str, at: &str) -> Result<&'a mut Object, InjectError> {
    let value = parent.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().ok_or_else(|| InjectError::WrongType { at: at.to_owned(), expected: "an object" })
}

/// The array at `key`, made if absent or null.
fn array<'a>(parent: &'a mut Object, key: &str, at: &str) -> Result<&'a mut Vec<Value>, InjectError> {
    let value = parent.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut().ok_or_else(|| InjectError::WrongType { at: at.to_owned(), expected: "an array" })
}

/// `process`, made with what the OCI runtime spec requires of it.
fn process(root: &mut Object) -> Result<&mut Object, InjectError> {
    if root.get("process").is_none_or(Value::is_null) {
        root.insert("process".into(), json!({"user": {"uid": 0, "gid": 0}, "cwd": ""}));
    }
    object(root, "process", "process")
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// Replaces the variable in place, or appends it. Of several with its name one is left.
fn set_env(root: &mut Object, variable: &str) -> Result<(), InjectError> {
    let env = array(process(root)?, "env", "process.env")?;
    let name = variable.split('=').next().unwrap_or(variable);
    let is_it = |value: &Value| value.as_str().is_some_and(|text| text.split('=').next() == Some(name));
    let Some(last) = env.iter().rposition(is_it) else {
        env.push(variable.into());
        return Ok(());
    };
    if let Some(slot) = env.get_mut(last) {
        *slot = variable.into();
    }
    let mut at = 0..;
    env.retain(|value| at.next() == Some(last) || !is_it(value));
    Ok(())
}

/// A node with type and numbers filled from the host.
struct FilledNode {
    kind: String,
    major: i64,
    minor: i64,
    mode: Option<u32>,
}

fn fill(edit: &DeviceNode, node: Lookup<'_>) -> Result<FilledNode, InjectError> {
    let path = edit.host_path.as_ref().unwrap_or(&edit.path);
    let kind = edit.r#type.clone().unwrap_or_default();
    let found = node(path);
    let mode = edit.file_mode.or(found.map(|found| found.mode));
    let is_complete = !kind.is_empty() && (edit.major != 0 || kind == "p");
    if is_complete {
        return Ok(FilledNode { kind, major: edit.major, minor: edit.minor, mode });
    }
    let found = found.ok_or_else(|| InjectError::NoNode(path.clone()))?;
    if !kind.is_empty() && kind != found.kind.to_string() {
        return Err(InjectError::NodeType { path: path.clone(), found: found.kind, expected: kind });
    }
    let from_host = found.kind != 'p' && edit.major == 0;
    let (major, minor) = if from_host { (found.major.into(), found.minor.into()) } else { (edit.major, edit.minor) };
    Ok(FilledNode { kind: found.kind.to_string(), major, minor, mode })
}

fn add_node(root: &mut Object, edit: &DeviceNode, node: Lookup<'_>) -> Result<(), InjectError> {
    let filled = fill(edit, node)?;
    let owner = |key: &str, given: Option<u32>, user: &Object| {
        given.map(Value::from).or_else(|| user.get(key).filter(|id| id.as_u64().is_some_and(|id| id > 0)).cloned())
    };
    let user = root.get("process").and_then(|process| process.get("user")).and_then(Value::as_object);
    let user = user.cloned().unwrap_or_default();
    let mut device = json!({"path": edit.path, "type": filled.kind});
    let fields = [
        ("major", (filled.kind != "p").then(|| filled.major.into())),
        ("minor", (filled.kind != "p").then(|| filled.minor.into())),
        ("fileMode", filled.mode.map(Value::from)),
        ("uid", owner("uid", edit.uid, &user)),
        ("gid", owner("gid", edit.gid, &user)),
    ];
    if let Some(object) = device.as_object_mut() {
        object.extend(fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    }
    let linux = object(root, "linux", "linux")?;
    put(array(linux, "devices", "linux.devices")?, "path", device);
    if matches!(filled.kind.as_str(), "b" | "c") {
        allow(linux, edit, &filled)?;
    }
    Ok(())
}

/// Takes the place of the entry with the same text at `key`, or the end.
fn put(list: &mut Vec<Value>, key: &str, entry: Value) {
    match list.iter_mut().find(|known| text(known, key) == text(&entry, key)) {
        Some(known) => *known = entry,
        None => list.push(entry),
    }
}

/// The device cgroup's rule. The same rule twice says no more than once.
fn allow(linux: &mut Object, edit: &DeviceNode, filled: &FilledNode) -> Result<(), InjectError> {
    let resources = object(linux, "resources", "linux.resources")?;
    let rules = array(resources, "devices", "linux.resources.devices")?;
    let mut rule = json!({"allow": true, "type": filled.kind, "major": filled.major, "minor": filled.minor});
    let access = match edit.permissions.as_deref() {
        None | Some("") => Some("rwm"),
        Some("none") => None,
        Some(access) => Some(access),
    };
    if let (Some(access), Some(rule)) = (access, rule.as_object_mut()) {
        rule.insert("access".into(), access.into());
    }
    if !rules.contains(&rule) {
        rules.push(rule);
    }
    Ok(())
}

fn add_net_device(root: &mut Object, device: &NetDevice) -> Result<(), InjectError> {
    let devices = object(object(root, "linux", "linux")?, "netDevices", "linux.netDevices")?;
    devices.insert(device.host_interface_name.clone(), json!({"name": device.name}));
    Ok(())
}

/// Removes the mount at the same destination, and appends. In a user namespace a bind mount is id-mapped.
fn add_mount(root: &mut Object, mount: &Mount) -> Result<(), InjectError> {
    let mut options = mount.options.clone();
    if has_user_namespace(root) {
        options.extend(idmap(mount));
    }
    let mut entry = json!({"destination": mount.container_path});
    if let Some(object) = entry.as_object_mut() {
        object.extend(
            mount.r#type.iter().filter(|kind| !kind.is_empty()).map(|kind| ("type".into(), kind.as_str().into())),
        );
        object.insert("source".into(), mount.host_path.as_str().into());
        if !options.is_empty() {
            object.insert("options".into(), options.into());
        }
    }
    let mounts = array(root, "mounts", "mounts")?;
    if let Some(at) = mounts.iter().position(|known| text(known, "destination") == Some(&mount.container_path)) {
        mounts.remove(at);
    }
    mounts.push(entry);
    Ok(())
}

fn has_user_namespace(root: &Object) -> bool {
    let namespaces = root.get("linux").and_then(|linux| linux.get("namespaces")).and_then(Value::as_array);
    namespaces.is_some_and(|list| list.iter().any(|namespace| text(namespace, "type") == Some("user")))
}

fn idmap(mount: &Mount) -> Option<String> {
    if mount.options.iter().any(|option| matches!(option.as_str(), "idmap" | "ridmap")) {
        return None;
    }
    let bind = mount.options.iter().rfind(|option| matches!(option.as_str(), "bind" | "rbind"));
    match bind.map(String::as_str) {
        Some("rbind") => Some("ridmap".into()),
        Some(_) => Some("idmap".into()),
        None => (mount.r#type.as_deref() == Some("bind")).then(|| "idmap".into()),
    }
}

/// Parents before children; otherwise the order stays.
fn sort_mounts(mounts: &mut [Value]) {
    let depth = |mount: &Value| {
        let destination = text(mount, "destination").unwrap_or_default();
        let parts = destination.split('/').filter(|part| !matches!(*part, "" | ".")).count();
        if destination.starts_with('/') { parts.max(1) } else { parts.saturating_sub(1) }
    };
    mounts.sort_by_key(depth);
}

fn add_hook(root: &mut Object, hook: &Hook) -> Result<(), InjectError> {
    const STAGES: [&str; 6] =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let stage = hook.hook_name.as_str();
    if !STAGES.contains(&stage) {
        return Err(InjectError::HookStage(stage.to_owned()));
    }
    let mut entry = json!({"path": hook.path});
    if let Some(object) = entry.as_object_mut() {
        let lists = [("args", &hook.args), ("env", &hook.env)];
        object.extend(
            lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key.into(), json!(list))),
        );
        object.extend(hook.timeout.map(|timeout| ("timeout".to_owned(), timeout.into())));
    }
    array(object(root, "hooks", "hooks")?, stage, &format!("hooks.{stage}"))?.push(entry);
    Ok(())
}

fn set_intel_rdt(root: &mut Object, rdt: &IntelRdt) -> Result<(), InjectError> {
    let value = serde_json::to_value(rdt).unwrap_or_else(|_| json!({}));
    object(root, "linux", "linux")?.insert("intelRdt".into(), value);
    Ok(())
}

fn add_gid(root: &mut Object, gid: u32) -> Result<(), InjectError> {
    if gid == 0 {
        return Ok(());
    }
    let user = object(process(root)?, "user", "process.user")?;
    let gids = array(user, "additionalGids", "process.user.additionalGids")?;
    if !gids.iter().any(|known| known.as_u64() == Some(gid.into())) {
        gids.push(gid.into());
    }
    Ok(())
}
