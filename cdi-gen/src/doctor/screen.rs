//! Screen: a checkup and its findings for a terminal, one screen of it. Pure.

use super::diagnose::devices;
use super::{Checkup, Engine, Finding, NodeIs, SpecFile, SpecText, Switch};
use cdi_specs::printable;

use crate::problem::Severity;

/// Devices of a file that are named, at most.
const MOST_NAMES: usize = 100;

/// Rows of what there is: a word, and what is to say.
pub fn rows(checkup: &Checkup) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("driver", checkup.driver.clone().unwrap_or_else(|| "none runs".to_owned())),
        ("nodes", nodes(checkup)),
        ("system", system(checkup)),
        ("hook", checkup.system.hook.as_ref().map_or("not installed".to_owned(), ToString::to_string)),
    ];
    rows.extend(checkup.files.iter().map(|file| ("spec", describe(file))));
    rows.extend(checkup.engines.iter().map(|engine| ("engine", describe_engine(engine, checkup))));
    rows
}

fn nodes(checkup: &Checkup) -> String {
    let good = checkup.nodes.iter().filter(|node| node.state == NodeIs::Good).count();
    if checkup.nodes.is_empty() {
        "none".to_owned()
    } else {
        format!("{good} of {} as they should be", checkup.nodes.len())
    }
}

fn system(checkup: &Checkup) -> String {
    let system = &checkup.system;
    let user = if system.user == 0 { "root".to_owned() } else { format!("user {}", system.user) };
    let selinux =
        system.selinux.map(|selinux| if selinux.enforcing { "SELinux enforces" } else { "SELinux only tells" });
    let cache = system
        .in_ld_cache
        .map(|known| if known { "the driver is in ld.so.cache" } else { "the driver is not in ld.so.cache" });
    let words = [
        Some(user),
        system.container.as_ref().map(|container| format!("inside {container}")),
        system.systemd.then(|| "systemd".to_owned()),
        system.cgroups.map(|version| format!("cgroups {version}")),
        selinux.map(str::to_owned),
        system.apparmor.then(|| "AppArmor".to_owned()),
        cache.map(str::to_owned),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn describe(file: &SpecFile) -> String {
    let path = &file.path;
    let SpecText::Spec(spec) = &file.text else { return format!("{path}: of no use") };
    let truth = if file.stale.is_some() { "stale" } else { "true" };
    let whose = if file.ours { "" } else { ", not by cdi-gen" };
    let (kind, version, count) = (&spec.kind, &spec.cdi_version, spec.devices.len());
    let devices = if count == 1 { "device" } else { "devices" };
    format!("{path}: {count} {devices} of {kind}, CDI {version}, {truth}{whose}")
}

/// An engine, and what it finds.
pub fn describe_engine(engine: &Engine, checkup: &Checkup) -> String {
    let title = engine.title();
    let Some(reads) = engine.reads else { return format!("{title}: reads no CDI specs") };
    match &engine.cdi {
        Switch::On => {}
        Switch::Off { setting } => return format!("{title}: CDI is off ({setting})"),
        Switch::Unknown { .. } => return format!("{title}: nobody knows whether CDI is on"),
    }
    let dirs: Vec<&str> = engine.dirs.iter().map(|dir| dir.as_str()).collect();
    let found = devices(engine, checkup);
    let mut files: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, file) in &found {
        match files.iter_mut().find(|(path, _)| *path == file.path) {
            Some((_, names)) => names.push(name),
            None => files.push((file.path.as_str(), vec![name])),
        }
    }
    let list = |names: &[&str]| match names.len().saturating_sub(MOST_NAMES) {
        0 => names.join(" "),
        more => format!("{} and {more} more", names.iter().take(MOST_NAMES).copied().collect::<Vec<_>>().join(" ")),
    };
    let found: Vec<String> = files.into_iter().map(|(path, names)| format!("{} by {path}", list(&names))).collect();
    let found = if found.is_empty() { "no device".to_owned() } else { found.join("; ") };
    format!("{title}: CDI up to {reads} in {}: {found}", dirs.join(" and "))
}

/// Both as text; `paint` gives the escapes before and after a word of a severity.
pub fn text(
    checkup: &Checkup,
    findings: &[Finding],
    paint: &dyn Fn(Severity) -> (&'static str, &'static str),
) -> String {
    let rows = rows(checkup).into_iter().map(|(word, text)| format!("{word:8} {}\n", printable(&text)));
    let found = findings.iter().map(|finding| {
        let (on, off) = paint(finding.severity);
        let evidence = finding.evidence.iter().map(|line| format!("         {}\n", printable(line)));
        let fix = finding.repair.iter().map(|repair| format!("         → {repair}\n"));
        let first = format!(
            "\n{on}{:8}{off} {} [{}]\n",
            finding.severity.to_string(),
            printable(&finding.message),
            finding.code
        );
        std::iter::once(first).chain(evidence).chain(fix).collect::<String>()
    });
    rows.chain(found).chain([format!("\n{}\n", verdict(findings))]).collect()
}

/// The whole in one line.
pub fn verdict(findings: &[Finding]) -> String {
    let count = |severity: Severity| {
        let count = findings.iter().filter(|finding| finding.severity == severity).count();
        (count > 0).then(|| format!("{count} {severity}{}", if count == 1 { "" } else { "s" }))
    };
    let counts: Vec<String> =
        [Severity::Error, Severity::Warning, Severity::Note].into_iter().filter_map(count).collect();
    if counts.is_empty() { "nothing is wrong".to_owned() } else { format!("found: {}", counts.join(", ")) }
}
