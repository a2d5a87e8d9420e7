//! Lists whose entries have a name: an entry that is added takes the place of those with its name. Pure.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::text;

/// Appends the entries, and removes those that had the same text at `key`. Of several that are added under one name the
/// last one counts.
pub(super) fn replace(mut list: Vec<Value>, key: &str, added: Vec<Value>) -> Vec<Value> {
    let names = added.iter().map(|entry| text(entry, key));
    let last: HashMap<&str, usize> = names.clone().zip(0..).filter_map(|(name, at)| Some((name?, at))).collect();
    list.retain(|known| text(known, key).is_none_or(|name| !last.contains_key(name)));
    let counts: Vec<bool> =
        names.zip(0..).map(|(name, at)| name.is_none_or(|name| last.get(name) == Some(&at))).collect();
    list.extend(added.into_iter().zip(counts).filter(|(_, counts)| *counts).map(|(entry, _)| entry));
    list
}

/// Appends those rules that do not stand behind the last rule that denies something: the last rule that fits decides.
pub(super) fn add_rules(mut rules: Vec<Value>, added: Vec<Value>) -> Vec<Value> {
    let is_denial = |rule: &Value| rule.get("allow") != Some(&Value::Bool(true));
    let behind = rules.iter().rposition(is_denial).map_or(0, |at| at + 1);
    let mut known: HashSet<String> = rules.iter().skip(behind).map(Value::to_string).collect();
    rules.extend(added.into_iter().filter(|rule| known.insert(rule.to_string())));
    rules
}
