//! SBOM: what the programs are made of, as CycloneDX 1.5. I/O.
//!
//! What cargo resolves for the shipped crates on Linux, without what only tests and builds use; no time and no serial
//! number, so that the same commit gives the same text.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::{Value, json};

use crate::build;

/// The file's name.
pub const NAME: &str = "cdi-tools.cdx.json";
/// The crates that are shipped.
const SHIPPED: [&str; 2] = ["cdi-apply", "cdi-gen"];

/// The document.
pub fn text() -> anyhow::Result<String> {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut metadata = build::cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &platform]);
    let metadata: Value = serde_json::from_str(&build::output(&mut metadata)?).context("cargo metadata")?;
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let packages: BTreeMap<String, Value> =
        list(&metadata, "packages").into_iter().map(|package| (text(&package, "id"), package)).collect();
    let nodes = metadata.get("resolve").map(|resolve| list(resolve, "nodes")).unwrap_or_default();
    let needs: BTreeMap<String, Vec<String>> = nodes
        .iter()
        .map(|node| {
            let normal = |dep: &Value| list(dep, "dep_kinds").iter().any(|kind| kind.get("kind") == Some(&Value::Null));
            let deps = list(node, "deps").into_iter().filter(normal);
            (text(node, "id"), deps.map(|dep| text(&dep, "pkg")).collect())
        })
        .collect();
    let is_shipped =
        |id: &&String| packages.get(*id).is_some_and(|package| SHIPPED.contains(&text(package, "name").as_str()));
    let mut pending: Vec<String> = packages.keys().filter(is_shipped).cloned().collect();
    let mut parts = BTreeSet::new();
    while let Some(id) = pending.pop() {
        if parts.insert(id.clone()) {
            pending.extend(needs.get(&id).cloned().unwrap_or_default());
        }
    }
    let component = |package: &Value| {
        let (name, version) = (text(package, "name"), text(package, "version"));
        let purl = format!("pkg:cargo/{name}@{version}");
        json!({
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "licenses": [{"expression": text(package, "license")}],
            "purl": purl,
        })
    };
    let mut components: Vec<Value> = parts.iter().filter_map(|id| packages.get(id)).map(component).collect();
    components.sort_by_key(|component| text(component, "purl"));
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "cdi-tools", "version": env!("CARGO_PKG_VERSION")}},
        "components": components,
    });
    Ok(format!("{document:#}\n"))
}
