//! Show: a stage's struct, as text for people or JSON for machines. Pure.

use std::fmt::Write;

use cdi_specs::{printable, printable_json};
use serde::Serialize;

use crate::facts::HostFacts;
use crate::inventory::DriverInventory;
use crate::plan::{Edit, EditPlan, PlannedEdit};
use crate::to_spec::hook_name;

/// A struct as JSON, with a newline at the end.
///
/// # Errors
/// None for the stages' structs: their maps have text keys.
pub fn json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(value).map(|text| printable_json(&text) + "\n")
}

/// Rows with aligned columns; the last column is as long as it is. What names of files say to a terminal is written out.
fn table(rows: &[Vec<String>]) -> String {
    let shown = |row: &Vec<String>| row.iter().map(|cell| printable(cell)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(shown).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    out
}

fn unknown<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| printable(&value.to_string()))
}

/// The facts.
pub fn facts(facts: &HostFacts) -> String {
    let flavour = if facts.driver.open { "open kernel module" } else { "proprietary or unknown kernel module" };
    let mut out =
        format!("driver {} ({flavour})\n\nGPUs of the kernel driver\n", unknown(facts.driver.version.as_ref()));
    let gpu = |gpu: &crate::facts::gpus::GpuFact| {
        let excluded = if gpu.excluded { "excluded" } else { "" };
        vec![
            gpu.bus_id.clone(),
            format!("minor {}", unknown(gpu.minor.as_ref())),
            unknown(gpu.uuid.as_ref()),
            unknown(gpu.model.as_ref()),
            excluded.to_owned(),
        ]
    };
    out += &table(&facts.gpus.iter().map(gpu).collect::<Vec<_>>());
    for foreign in &facts.foreign_gpus {
        let _ = writeln!(out, "{} held by {}", printable(&foreign.bus_id), unknown(foreign.driver.as_ref()));
    }
    out += "\nlibrary candidates\n";
    let library = |fact: &crate::facts::libraries::LibraryFact| {
        let soname = fact.elf.as_ref().and_then(|elf| elf.soname.clone());
        vec![fact.located.host_path.to_string(), fact.defect.clone().or(soname).unwrap_or_default()]
    };
    out + &table(&facts.libraries.iter().map(library).collect::<Vec<_>>())
}

/// The inventory.
pub fn inventory(inventory: &DriverInventory) -> String {
    let mut out = format!("driver {}\n\n", inventory.version);
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |what: &str, path: &dyn ToString, capability: &dyn ToString, more: String| {
        rows.push(vec![what.to_owned(), path.to_string(), capability.to_string(), more]);
    };
    for gpu in &inventory.gpus {
        let more = format!("{} {}", unknown(gpu.uuid.as_ref()), unknown(gpu.model.as_ref()));
        row(&format!("gpu {}", gpu.index), &gpu.node.located.host_path, &"", more);
    }
    inventory.control_nodes.iter().for_each(|node| row("node", &node.located.host_path, &"", String::new()));
    for library in &inventory.libraries {
        row("library", &library.located.host_path, &library.capability, library.names.join(" "));
    }
    for binary in &inventory.binaries {
        row("program", &binary.located.host_path, &binary.capability, binary.name.to_owned());
    }
    inventory.firmware.iter().for_each(|file| row("firmware", &file.host_path, &"", String::new()));
    for config in &inventory.configs {
        row("config", &config.located.host_path, &config.capability, config.container_path.to_string());
    }
    inventory.sockets.iter().for_each(|file| row("socket", &file.located.host_path, &file.capability, String::new()));
    out += &table(&rows);
    out
}

/// The plan.
pub fn plan(plan: &EditPlan) -> String {
    let mut out = format!("driver {}\n\nfor every device\n", plan.driver_version);
    out += &table(&plan.common.iter().map(edit_row).collect::<Vec<_>>());
    for device in &plan.devices {
        let _ = writeln!(out, "\n{}", printable(&device.names.join(" = ")));
        out += &table(&device.edits.iter().map(edit_row).collect::<Vec<_>>());
    }
    out
}

fn edit_row(planned: &PlannedEdit) -> Vec<String> {
    let (kind, what) = match &planned.edit {
        Edit::Env { name, value } => ("env", format!("{name}={value}")),
        Edit::Node(node) => ("node", node.path.to_string()),
        Edit::Mount { path, .. } => ("mount", path.to_string()),
        Edit::Socket { path, .. } => ("socket", path.to_string()),
        Edit::Library(library) => ("library", library.dir.join(&library.file_name).into_string()),
        Edit::Operation(operation) => ("hook", hook_name(operation).to_owned()),
    };
    vec![kind.to_owned(), what, planned.capability.to_string(), planned.reason.clone()]
}
