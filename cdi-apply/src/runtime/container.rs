//! Container: what an OCI runtime spec says that requests are read from. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

/// The right to administer the system, which privileged containers may gain.
const ADMIN: &str = "CAP_SYS_ADMIN";

/// An OCI runtime spec, looked at.
#[derive(Clone, Copy, Debug)]
pub struct Container<'d>(pub &'d Value);

impl<'d> Container<'d> {
    /// A variable of the container's process; of several the last counts.
    pub fn variable(self, name: &str) -> Option<&'d str> {
        self.variables().filter(|(known, _)| *known == name).last().map(|(_, value)| value)
    }

    /// All variables of the container's process.
    pub fn variables(self) -> impl Iterator<Item = (&'d str, &'d str)> {
        let env = self.array("/process/env");
        env.filter_map(Value::as_str).map(|variable| variable.split_once('=').unwrap_or((variable, "")))
    }

    /// Annotations, in the order of their keys.
    pub fn annotations(self) -> BTreeMap<&'d str, &'d str> {
        let annotations = self.0.get("annotations").and_then(Value::as_object).into_iter().flatten();
        annotations.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
    }

    /// Source and destination of each mount.
    pub fn mounts(self) -> impl Iterator<Item = (&'d str, &'d str)> {
        let text = |mount: &'d Value, key: &str| mount.get(key).and_then(Value::as_str);
        self.array("/mounts").filter_map(move |mount| Some((text(mount, "source")?, text(mount, "destination")?)))
    }

    /// Whether it may use every device of the host, so that a GPU is nothing new to it: it can gain CAP_SYS_ADMIN, and
    /// the last rule for all devices allows them. The NVIDIA toolkit takes the first alone for a sign.
    pub fn is_privileged(self) -> bool {
        let may_administer =
            self.array("/process/capabilities/bounding").any(|capability| capability.as_str() == Some(ADMIN));
        may_administer && self.array("/linux/resources/devices").filter(is_for_all).last().is_some_and(allows)
    }

    fn array(self, pointer: &str) -> impl Iterator<Item = &'d Value> {
        self.0.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
    }
}

fn is_for_all(rule: &&Value) -> bool {
    let all_types = rule.get("type").and_then(Value::as_str).is_none_or(|kind| kind.is_empty() || kind == "a");
    let all_numbers = |key: &str| rule.get(key).and_then(Value::as_i64).is_none_or(|number| number < 0);
    all_types && all_numbers("major") && all_numbers("minor")
}

fn allows(rule: &Value) -> bool {
    let access = rule.get("access").and_then(Value::as_str).unwrap_or_default();
    rule.get("allow") == Some(&Value::Bool(true)) && access.contains('r') && access.contains('w')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_of_a_name_counts() {
        let config = json!({"process": {"env": ["A=1", "B", "A=2=3", 4]}});
        assert_eq!(Container(&config).variable("A"), Some("2=3"));
        assert_eq!(Container(&config).variable("B"), Some(""));
        assert_eq!(Container(&config).variable("C"), None);
        assert_eq!(Container(&json!({})).variable("A"), None);
    }

    #[test]
    fn privileged_is_who_may_use_every_device() {
        let container = |bounding: Value, rules: Value| json!({"process": {"capabilities": {"bounding": bounding}}, "linux": {"resources": {"devices": rules}}});
        let all = json!([{"allow": true, "access": "rwm"}]);
        let denied = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]);
        let mknod = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "access": "m"}]);
        let cases = [
            (json!([ADMIN]), all.clone(), true),
            (json!([ADMIN]), json!([{"allow": true, "type": "a", "major": -1, "minor": -1, "access": "rwm"}]), true),
            (json!(["CAP_CHOWN"]), all.clone(), false),
            (json!([ADMIN]), denied, false),
            (json!([ADMIN]), mknod, false),
            (json!([ADMIN]), json!([]), false),
            (Value::Null, all, false),
        ];
        for (bounding, rules, expected) in cases {
            let config = container(bounding, rules);
            assert_eq!(Container(&config).is_privileged(), expected, "{config}");
        }
    }
}
