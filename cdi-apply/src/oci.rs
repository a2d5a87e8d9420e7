//! Inject: container edits into an OCI runtime spec (`config.json`). Pure.
//!
//! The document is an ordered JSON value, patched in place: what nobody here knows survives, in its order and with its
//! numbers as written. A typed round trip would lose it. Edits apply with the reference's semantics and in its order:
//! env, device nodes, network devices, mounts, hooks, Intel RDT, groups. Differences are deliberate:
//!
//! - all or nothing: after an error the document is as it was;
//! - twice is once: a hook or a device rule that is there already is not added again, and what replaces an entry
//!   replaces each entry of that name (the reference leaves the others of a variable, a node or a mount behind).

mod env;
mod list;
mod mounts;
mod nodes;

use std::collections::HashSet;

use cdi_specs::{ContainerEdits, Hook, IntelRdt, NetDevice};
use serde_json::{Map, Value, json};

use crate::nodes::{HostNodes, NodeError};

/// A document or an edit that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// A member of the document has another type than the OCI runtime spec gives it.
    #[error("{at} is not {expected}")]
    WrongType {
        /// Where.
        at: String,
        /// What it should be: `an object`, `an array`.
        expected: &'static str,
    },
    /// A device node that the host has not, or not so.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A hook stage that the OCI runtime spec does not have.
    #[error("unknown hook stage {0}")]
    HookStage(String),
}

/// Applies edits to a document, one after the other, as if they were one. On an error the document is as it was.
///
/// # Errors
/// The document is malformed where an edit touches it, or the host lacks a node.
pub fn inject(config: &mut Value, edits: &[&ContainerEdits], host: &HostNodes) -> Result<(), InjectError> {
    let mut patched = config.clone();
    let root =
        patched.as_object_mut().ok_or(InjectError::WrongType { at: "the document".into(), expected: "an object" })?;
    let edits = || edits.iter();
    env::set(root, &edits().flat_map(|edits| &edits.env).map(String::as_str).collect::<Vec<_>>())?;
    nodes::add(root, edits().flat_map(|edits| &edits.device_nodes), host)?;
    edits().flat_map(|edits| &edits.net_devices).try_for_each(|device| add_net_device(root, device))?;
    mounts::add(root, edits().flat_map(|edits| &edits.mounts))?;
    edits().flat_map(|edits| &edits.hooks).try_for_each(|hook| add_hook(root, hook))?;
    edits().filter_map(|edits| edits.intel_rdt.as_ref()).try_for_each(|rdt| set_intel_rdt(root, rdt))?;
    add_gids(root, edits().flat_map(|edits| &edits.additional_gids).copied())?;
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

fn add_net_device(root: &mut Object, device: &NetDevice) -> Result<(), InjectError> {
    let devices = object(object(root, "linux", "linux")?, "netDevices", "linux.netDevices")?;
    devices.insert(device.host_interface_name.clone(), json!({"name": device.name}));
    Ok(())
}

fn add_hook(root: &mut Object, hook: &Hook) -> Result<(), InjectError> {
    let stage = hook.hook_name.as_str();
    if !Hook::NAMES.contains(&stage) {
        return Err(InjectError::HookStage(stage.to_owned()));
    }
    let entries = array(object(root, "hooks", "hooks")?, stage, &format!("hooks.{stage}"))?;
    let entry = hook_entry(hook);
    if !entries.contains(&entry) {
        entries.push(entry);
    }
    Ok(())
}

fn hook_entry(hook: &Hook) -> Value {
    let mut entry = json!({"path": hook.path});
    if let Some(object) = entry.as_object_mut() {
        let lists = [("args", &hook.args), ("env", &hook.env)];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        object.extend(lists.map(|(key, list)| (key.into(), json!(list))));
        object.extend(hook.timeout.map(|timeout| ("timeout".to_owned(), timeout.into())));
    }
    entry
}

/// Replaces it as a whole.
fn set_intel_rdt(root: &mut Object, rdt: &IntelRdt) -> Result<(), InjectError> {
    let value = serde_json::to_value(rdt).unwrap_or_else(|_| json!({}));
    object(root, "linux", "linux")?.insert("intelRdt".into(), value);
    Ok(())
}

/// Group 0 is nobody's to give.
fn add_gids(root: &mut Object, added: impl Iterator<Item = u32>) -> Result<(), InjectError> {
    let added: Vec<u32> = added.filter(|gid| *gid != 0).collect();
    if added.is_empty() {
        return Ok(());
    }
    let user = object(process(root)?, "user", "process.user")?;
    let gids = array(user, "additionalGids", "process.user.additionalGids")?;
    let mut known: HashSet<u64> = gids.iter().filter_map(Value::as_u64).collect();
    gids.extend(added.into_iter().filter(|gid| known.insert((*gid).into())).map(Value::from));
    Ok(())
}
