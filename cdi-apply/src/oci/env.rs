//! Environment variables of the container's process. Pure.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{Change, InjectError, Object, array};

const ENV: [&str; 2] = ["process", "env"];

/// Sets variables: in the place of the last of their name, or at the end. Of several of a name one is left.
pub(super) fn set<'e>(root: &Object, variables: &[&'e str]) -> Result<Option<Change<'e>>, InjectError> {
    if variables.is_empty() {
        return Ok(None);
    }
    let env = array(root, &ENV)?;
    let mut wanted: HashMap<&str, &str> = variables.iter().map(|variable| (name(variable), *variable)).collect();
    // From the end, so that the last place of a name comes first.
    let mut seen = HashSet::new();
    let mut kept: Vec<Value> = Vec::with_capacity(env.len() + variables.len());
    for value in env.into_iter().rev() {
        match value.as_str().map(name).and_then(|name| wanted.get_key_value(name)) {
            Some((name, variable)) if seen.insert(*name) => kept.push((*variable).into()),
            Some(_) => {}
            None => kept.push(value),
        }
    }
    kept.reverse();
    wanted.retain(|name, _| !seen.contains(name));
    let appended = variables.iter().filter_map(|variable| wanted.remove(name(variable)));
    kept.extend(appended.map(Value::from));
    Ok(Some(Change::new(&ENV, kept)))
}

fn name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}
