//! `resolve` and `list`: what the specs define.

use cdi_apply::{Registry, Request, Resolved, SpecTexts, Unresolvable};
use cdi_specs::{ContainerEdits, Mount, shell_line};
use serde_json::{Value, json};

use crate::cli::{List, Resolve, What};
use crate::{read_specs, report, requests};

/// A registry that defines all that is asked for.
///
/// # Errors
/// There is none; then every file was read, so that the error knows all that is wrong.
pub fn registry(texts: &SpecTexts, asked: &[Request]) -> Result<Registry, Unresolvable> {
    let kinds: Option<Vec<_>> = asked.iter().map(Request::kind).collect();
    if let Some(registry) = kinds.map(|kinds| Registry::of_kinds(texts, &kinds))
        && cdi_apply::resolve(&registry, asked).is_ok()
    {
        return Ok(registry);
    }
    let registry = Registry::new(texts);
    cdi_apply::resolve(&registry, asked)?;
    Ok(registry)
}

/// Runs `resolve`.
pub fn resolve(arguments: &Resolve, json: bool) -> anyhow::Result<u8> {
    let asked = requests(&arguments.devices)?;
    let registry = registry(&read_specs(&arguments.specs)?, &asked)?;
    let resolved = cdi_apply::resolve(&registry, &asked)?;
    report::warn(registry.problems(), json);
    if json {
        let answer = json!({
            "parts": resolved.parts,
            "containerEdits": resolved.merged(),
            "problems": registry.problems(),
        });
        report::print_json(&answer)?;
    } else {
        report::print_lines(describe(&resolved))?;
    }
    Ok(0)
}

fn describe(resolved: &Resolved<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for part in &resolved.parts {
        let what = part.device.as_deref().unwrap_or("common to its devices");
        lines.push(format!("{what}  # {}", part.file.display()));
        lines.extend(edits(part.container_edits).into_iter().map(|(word, edit)| format!("  {word:6} {edit}")));
    }
    lines
}

/// The edits, a line each.
fn edits(edits: &ContainerEdits) -> Vec<(&'static str, String)> {
    let from = |host: &str, path: &str| if host == path { String::new() } else { format!("  from {host}") };
    let nodes = edits.device_nodes.iter().map(|node| {
        let host = node.host_path.as_deref().unwrap_or(&node.path);
        ("node", format!("{}{}", node.path, from(host, &node.path)))
    });
    let interfaces = edits.net_devices.iter();
    let interfaces = interfaces.map(|net| ("net", format!("{}  from {}", net.name, net.host_interface_name)));
    let hooks = edits.hooks.iter().map(|hook| {
        let words = std::iter::once(&hook.path).chain(hook.args.iter().skip(1)).map(String::as_str);
        ("hook", format!("{}  {}", hook.hook_name, shell_line(words)))
    });
    let rdt = edits.intel_rdt.iter().map(|rdt| ("rdt", rdt.clos_id.clone().unwrap_or_default()));
    let gids = edits.additional_gids.iter().map(|gid| ("group", gid.to_string()));
    let env = edits.env.iter().map(|variable| ("env", variable.clone()));
    let mounts = edits.mounts.iter().map(|mount| ("mount", describe_mount(mount)));
    env.chain(nodes).chain(interfaces).chain(mounts).chain(hooks).chain(rdt).chain(gids).collect()
}

fn describe_mount(mount: &Mount) -> String {
    let from =
        if mount.host_path == mount.container_path { String::new() } else { format!("  from {}", mount.host_path) };
    format!("{}{from}  ({})", mount.container_path, mount.options.join(","))
}

/// Runs `list`.
pub fn list(arguments: &List, json: bool) -> anyhow::Result<u8> {
    let registry = Registry::new(&read_specs(&arguments.specs)?);
    report::warn(registry.problems(), json);
    if json {
        let (what, answer) = listed(arguments.what, &registry);
        report::print_json(&json!({what: answer, "problems": registry.problems()}))?;
    } else {
        report::print_lines(lines(arguments.what, &registry))?;
    }
    Ok(0)
}

fn lines(what: What, registry: &Registry) -> Vec<String> {
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    match what {
        What::Devices => registry.devices().map(|(name, _)| name).collect(),
        What::Vendors => owned(registry.vendors()),
        What::Classes => owned(registry.classes()),
        What::Specs => registry
            .files()
            .iter()
            .map(|file| {
                let spec = &file.spec;
                let devices = spec.devices.len();
                format!("{}  {} {}, {devices} devices", file.path.display(), spec.kind, spec.cdi_version)
            })
            .collect(),
    }
}

fn listed(what: What, registry: &Registry) -> (&'static str, Value) {
    match what {
        What::Devices => {
            let devices = registry.devices();
            let device =
                |(name, file): (String, &std::path::Path)| json!({"name": name, "file": file.display().to_string()});
            ("devices", devices.map(device).collect())
        }
        What::Vendors => ("vendors", registry.vendors().into()),
        What::Classes => ("classes", registry.classes().into()),
        What::Specs => {
            let spec = |file: &cdi_apply::registry::SpecFile| {
                let names: Vec<&str> = file.spec.devices.iter().map(|device| device.name.as_str()).collect();
                json!({
                    "file": file.path.display().to_string(),
                    "priority": file.priority,
                    "cdiVersion": file.spec.cdi_version,
                    "kind": file.spec.kind,
                    "devices": names,
                })
            };
            ("specs", registry.files().iter().map(spec).collect())
        }
    }
}
