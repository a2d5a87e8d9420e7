//! Environment variables of the container's process. Pure.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{InjectError, Object, array, process};

/// Sets variables: in the place of the last of their name, or at the end. Of several of a name one is left.
pub(super) fn set(root: &mut Object, variables: &[&str]) -> Result<(), InjectError> {
    if variables.is_empty() {
        return Ok(());
    }
    let env = array(process(root)?, "env", "process.env")?;
    let mut wanted: HashMap<&str, &str> = variables.iter().map(|variable| (name(variable), *variable)).collect();
    // From the end, so that the last place of a name comes first.
    let mut seen = HashSet::new();
    let mut kept: Vec<Value> = Vec::with_capacity(env.len() + variables.len());
    for value in env.drain(..).rev() {
        match value.as_str().map(name).and_then(|name| wanted.get_key_value(name)) {
            Some((name, variable)) if seen.insert(*name) => kept.push((*variable).into()),
            Some(_) => {}
            None => kept.push(value),
        }
    }
    kept.reverse();
    wanted.retain(|name, _| !seen.contains(name));
    let appended = variables.iter().filter_map(|variable| wanted.remove(name(variable)));
    env.extend(kept);
    env.extend(appended.map(Value::from));
    Ok(())
}

fn name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}
