//! Inject: container edits into an OCI runtime spec (`config.json`). Pure.
//!
//! The document is an ordered JSON value, patched in place: what nobody here knows survives, in its order and with its
//! numbers as written. A typed round trip would lose it. Edits apply with the reference's semantics and in its order:
//! env, device nodes, network devices, mounts, hooks, Intel RDT, groups. Differences are deliberate:
//!
//! - all or nothing: what is to change is made aside, and put in its place when nothing can fail any more;
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
    let Some(root) = config.as_object_mut() else { return Err(wrong_type("the document", "an object")) };
    changes(root, edits, host)?.into_iter().for_each(|change| change.put(root));
    Ok(())
}

type Object = Map<String, Value>;

/// What becomes of one member of the document.
struct Change<'e> {
    /// The keys that lead there.
    path: Vec<&'e str>,
    value: Value,
}

/// All that the edits change.
fn changes<'e>(root: &Object, edits: &[&'e ContainerEdits], host: &HostNodes) -> Result<Vec<Change<'e>>, InjectError> {
    let mut changes = Vec::new();
    let edits = || edits.iter();
    let env: Vec<&str> = edits().flat_map(|edits| &edits.env).map(String::as_str).collect();
    changes.extend(env::set(root, &env)?);
    changes.extend(nodes::add(root, edits().flat_map(|edits| &edits.device_nodes), host)?);
    changes.extend(net_devices(root, edits().flat_map(|edits| &edits.net_devices))?);
    changes.extend(mounts::add(root, edits().flat_map(|edits| &edits.mounts))?);
    changes.extend(hooks(root, edits().flat_map(|edits| &edits.hooks))?);
    changes.extend(intel_rdt(root, edits().filter_map(|edits| edits.intel_rdt.as_ref()))?);
    changes.extend(gids(root, edits().flat_map(|edits| &edits.additional_gids).copied())?);
    Ok(changes)
}

impl<'e> Change<'e> {
    fn new(path: &[&'e str], value: impl Into<Value>) -> Self {
        Self { path: path.to_vec(), value: value.into() }
    }

    /// Puts the value in its place; objects on the way are made if absent or null.
    fn put(self, root: &mut Object) {
        let mut parent = root;
        let Some((last, above)) = self.path.split_last() else { return };
        for key in above {
            let value = parent.entry(*key).or_insert(Value::Null);
            if value.is_null() {
                *value = new_object(key);
            }
            // That it is no other value was looked at when the change was made.
            let Value::Object(object) = value else { return };
            parent = object;
        }
        parent.insert((*last).to_owned(), self.value);
    }
}

/// A new object with what the OCI runtime spec requires of it.
fn new_object(key: &str) -> Value {
    if key == "process" { json!({"user": {"uid": 0, "gid": 0}, "cwd": ""}) } else { json!({}) }
}

/// The member that keys lead to; `None` if it, or an object on the way, is absent or null.
fn member<'d>(root: &'d Object, path: &[&str]) -> Result<Option<&'d Value>, InjectError> {
    let (mut object, mut known) = (root, None);
    for (depth, key) in path.iter().enumerate() {
        match object.get(*key) {
            None | Some(Value::Null) => return Ok(None),
            Some(value) if depth + 1 == path.len() => known = Some(value),
            Some(Value::Object(inner)) => object = inner,
            Some(_) => return Err(wrong_type(&path.get(..=depth).unwrap_or(path).join("."), "an object")),
        }
    }
    Ok(known)
}

/// The array that keys lead to; an empty one if there is none.
fn array(root: &Object, path: &[&str]) -> Result<Vec<Value>, InjectError> {
    match member(root, path)? {
        None => Ok(Vec::new()),
        Some(Value::Array(array)) => Ok(array.clone()),
        Some(_) => Err(wrong_type(&path.join("."), "an array")),
    }
}

fn wrong_type(at: &str, expected: &'static str) -> InjectError {
    InjectError::WrongType { at: at.to_owned(), expected }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

const NET_DEVICES: [&str; 2] = ["linux", "netDevices"];

fn net_devices<'e>(
    root: &Object,
    added: impl Iterator<Item = &'e NetDevice>,
) -> Result<Option<Change<'e>>, InjectError> {
    let added: Vec<_> = added.map(|net| (net.host_interface_name.clone(), json!({"name": net.name}))).collect();
    if added.is_empty() {
        return Ok(None);
    }
    let mut devices = match member(root, &NET_DEVICES)? {
        None => Object::new(),
        Some(Value::Object(devices)) => devices.clone(),
        Some(_) => return Err(wrong_type(&NET_DEVICES.join("."), "an object")),
    };
    devices.extend(added);
    Ok(Some(Change::new(&NET_DEVICES, devices)))
}

/// A list for each stage that gets hooks.
fn hooks<'e>(root: &Object, added: impl Iterator<Item = &'e Hook>) -> Result<Vec<Change<'e>>, InjectError> {
    let mut stages: Vec<(&str, Vec<Value>, HashSet<String>)> = Vec::new();
    for hook in added {
        let stage = hook.hook_name.as_str();
        if !Hook::NAMES.contains(&stage) {
            return Err(InjectError::HookStage(stage.to_owned()));
        }
        let at = match stages.iter().position(|(known, ..)| *known == stage) {
            Some(at) => at,
            None => {
                let list = array(root, &["hooks", stage])?;
                let known = list.iter().map(identity).collect();
                stages.push((stage, list, known));
                stages.len() - 1
            }
        };
        let entry = hook_entry(hook);
        if let Some((_, list, known)) = stages.get_mut(at)
            && known.insert(identity(&entry))
        {
            list.push(entry);
        }
    }
    Ok(stages.into_iter().map(|(stage, list, _)| Change::new(&["hooks", stage], list)).collect())
}

/// What makes a hook the same as another, whatever the order of its members.
fn identity(entry: &Value) -> String {
    let members = entry.as_object().map_or(0, Map::len);
    let known = ["path", "args", "env", "timeout"].map(|key| entry.get(key).map(Value::to_string).unwrap_or_default());
    format!("{members} {}", known.join(" "))
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

const INTEL_RDT: [&str; 2] = ["linux", "intelRdt"];

/// The last one replaces what there is, as a whole.
fn intel_rdt<'e>(root: &Object, added: impl Iterator<Item = &'e IntelRdt>) -> Result<Option<Change<'e>>, InjectError> {
    let Some(rdt) = added.last() else { return Ok(None) };
    member(root, &INTEL_RDT)?;
    let value = serde_json::to_value(rdt).unwrap_or_else(|_| json!({}));
    Ok(Some(Change::new(&INTEL_RDT, value)))
}

const GIDS: [&str; 3] = ["process", "user", "additionalGids"];

/// Group 0 is nobody's to give.
fn gids<'e>(root: &Object, added: impl Iterator<Item = u32>) -> Result<Option<Change<'e>>, InjectError> {
    let added: Vec<u32> = added.filter(|gid| *gid != 0).collect();
    if added.is_empty() {
        return Ok(None);
    }
    let mut gids = array(root, &GIDS)?;
    let mut known: HashSet<u64> = gids.iter().filter_map(Value::as_u64).collect();
    gids.extend(added.into_iter().filter(|gid| known.insert((*gid).into())).map(Value::from));
    Ok(Some(Change::new(&GIDS, gids)))
}
