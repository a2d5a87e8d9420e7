//! Mounts of the container. Pure.

use cdi_specs::Mount;
use serde_json::Value;

use super::{Change, InjectError, Object, array, list, text};

const MOUNTS: [&str; 1] = ["mounts"];

/// Adds mounts, each in the place of those at the same destination, and puts parents before children.
pub(super) fn add<'e>(
    root: &Object,
    edits: impl Iterator<Item = &'e Mount>,
) -> Result<Option<Change<'e>>, InjectError> {
    let in_user_namespace = has_user_namespace(root);
    let added: Vec<Value> = edits.map(|mount| entry(mount, in_user_namespace)).collect();
    if added.is_empty() {
        return Ok(None);
    }
    let mut mounts = list::replace(array(root, &MOUNTS)?, "destination", added);
    mounts.sort_by_cached_key(depth);
    Ok(Some(Change::new(&MOUNTS, mounts)))
}

fn entry(mount: &Mount, in_user_namespace: bool) -> Value {
    let mut options: Vec<&str> = mount.options.iter().map(String::as_str).collect();
    if in_user_namespace {
        options.extend(idmap(mount));
    }
    let mut entry = Object::with_capacity(4);
    entry.insert("destination".into(), mount.container_path.as_str().into());
    let kind = mount.r#type.iter().filter(|kind| !kind.is_empty());
    entry.extend(kind.map(|kind| ("type".into(), kind.as_str().into())));
    entry.insert("source".into(), mount.host_path.as_str().into());
    if !options.is_empty() {
        entry.insert("options".into(), options.into());
    }
    entry.into()
}

fn has_user_namespace(root: &Object) -> bool {
    let namespaces = root.get("linux").and_then(|linux| linux.get("namespaces")).and_then(Value::as_array);
    namespaces.is_some_and(|list| list.iter().any(|namespace| text(namespace, "type") == Some("user")))
}

/// In a user namespace a bind mount is id-mapped.
fn idmap(mount: &Mount) -> Option<&'static str> {
    if mount.options.iter().any(|option| matches!(option.as_str(), "idmap" | "ridmap")) {
        return None;
    }
    let bind = mount.options.iter().rfind(|option| matches!(option.as_str(), "bind" | "rbind"));
    match bind.map(String::as_str) {
        Some("rbind") => Some("ridmap"),
        Some(_) => Some("idmap"),
        None => (mount.r#type.as_deref() == Some("bind")).then_some("idmap"),
    }
}

/// How many names deep a destination is, `..` and `.` resolved; the order of equals stays.
fn depth(mount: &Value) -> usize {
    let destination = text(mount, "destination").unwrap_or_default();
    let mut parts = Vec::new();
    for part in destination.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
            ".." if destination.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    if destination.starts_with('/') { parts.len().max(1) } else { parts.len().saturating_sub(1) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn depth_is_the_number_of_slashes_in_the_clean_path() {
        let cases = [
            ("/", 1),
            ("/a", 1),
            ("/a/", 1),
            ("//a//b", 2),
            ("/a/./b", 2),
            ("/a/../b", 1),
            ("/../a", 1),
            ("x", 0),
            ("x/y", 1),
            ("../x", 1),
            ("", 0),
        ];
        for (destination, expected) in cases {
            assert_eq!(depth(&json!({"destination": destination})), expected, "{destination}");
        }
        assert_eq!(depth(&json!({})), 0);
    }
}
