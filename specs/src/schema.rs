//! The JSON Schema of the model, for editors and for tools in other languages.
//!
//! It says what fields there are and what they hold. [`validate`](crate::validate()) knows every rule.

/// The schema of CDI 1.1.0 specs (JSON Schema draft 7). Unlike that of CDI SPEC it refuses unknown fields.
pub const JSON_SCHEMA: &str = include_str!("../schema/cdi-1.1.0.schema.json");

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::text::parse_yaml;

    /// A spec that sets every field there is.
    const FULL_SPEC: &str = "
cdiVersion: 1.1.0
kind: vendor.com/device
annotations: {a: b}
containerEdits:
  env: [A=b]
devices:
- name: dev
  annotations: {a: b}
  containerEdits:
    env: [A=b]
    deviceNodes:
    - {path: /a, hostPath: /b, type: c, major: 1, minor: 3, fileMode: 438, permissions: rw, uid: 0, gid: 0}
    netDevices:
    - {hostInterfaceName: eno1, name: net0}
    hooks:
    - {hookName: prestart, path: /a, args: [a], env: [A=b], timeout: 1}
    mounts:
    - {hostPath: /a, containerPath: /b, options: [ro], type: bind}
    intelRdt: {closID: a, l3CacheSchema: b, memBwSchema: c, schemata: [d], enableMonitoring: true}
    additionalGids: [1]
";

    /// Holds `value` against `schema`: same fields, same types, all the way down.
    fn compare(at: &str, value: &Value, schema: &Value, root: &Value) {
        let schema = match schema.get("$ref") {
            Some(reference) => root.pointer(reference.as_str().unwrap().strip_prefix('#').unwrap()).unwrap(),
            None => schema,
        };
        let r#type = schema["type"].as_str().unwrap();
        match value {
            Value::Object(fields) if schema.get("properties").is_some() => {
                assert_eq!(schema["additionalProperties"], false, "{at}");
                let properties = schema["properties"].as_object().unwrap();
                let sorted = |object: &serde_json::Map<String, Value>| {
                    let mut names: Vec<String> = object.keys().cloned().collect();
                    names.sort();
                    names
                };
                if at != "spec.containerEdits" {
                    assert_eq!(sorted(fields), sorted(properties), "{at}");
                }
                for (name, field) in fields {
                    compare(&format!("{at}.{name}"), field, &properties[name], root);
                }
            }
            Value::Object(_) => assert_eq!(schema["additionalProperties"]["type"], "string", "{at}"),
            Value::Array(items) => {
                assert_eq!(r#type, "array", "{at}");
                items.iter().for_each(|item| compare(&format!("{at}[]"), item, &schema["items"], root));
            }
            Value::String(_) => assert_eq!(r#type, "string", "{at}"),
            Value::Number(_) => assert_eq!(r#type, "integer", "{at}"),
            Value::Bool(_) => assert_eq!(r#type, "boolean", "{at}"),
            Value::Null => panic!("{at}: the spec leaves it out"),
        }
    }

    #[test]
    fn the_schema_has_the_fields_of_the_model() {
        let root: Value = serde_json::from_str(JSON_SCHEMA).unwrap();
        let spec = serde_json::to_value(parse_yaml(FULL_SPEC).unwrap()).unwrap();
        compare("spec", &spec, &root, &root);
    }

    #[test]
    fn every_required_field_exists() {
        let root: Value = serde_json::from_str(JSON_SCHEMA).unwrap();
        let definitions = root["definitions"].as_object().unwrap();
        for object in definitions.values().chain([&root]) {
            for name in object["required"].as_array().into_iter().flatten() {
                assert!(object["properties"].get(name.as_str().unwrap()).is_some(), "{name}");
            }
        }
    }
}
