//! Diagnose: from a checkup to what is wrong, the worst first. Pure.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8Path;
use cdi_specs::{Spec, Version};

use super::{
    Checkup, Devices, Engine, Finding, NodeIs, NodeState, Repair, SpecFile, SpecText, Switch, USUAL_SPEC, Writer,
    WriterOf,
};
use crate::problem::Severity::{Error, Note, Warning};

/// Problems of a generation that the nodes tell better.
const TOLD_BY_NODES: [&str; 2] = ["missing-node", "wrong-node"];
/// Nodes without which some programs go.
const OPTIONAL_NODES: [&str; 3] = ["nvidia-modeset", "nvidia-uvm-tools", "nvidia-cap"];
/// Names that are shown, at most.
const SHOWN: usize = 8;

/// All that is wrong.
pub fn diagnose(checkup: &Checkup) -> Vec<Finding> {
    let mut findings = Vec::new();
    of_driver(checkup, &mut findings);
    of_system(checkup, &mut findings);
    of_dirs(checkup, &mut findings);
    checkup.files.iter().for_each(|file| of_file(file, checkup, &mut findings));
    of_conflicts(checkup, &mut findings);
    let used: Vec<&Engine> = checkup.engines.iter().filter(|engine| engine.used).collect();
    used.iter().for_each(|engine| of_engine(engine, checkup, &mut findings));
    of_missing_specs(&used, checkup, &mut findings);
    findings.sort_by(|one, other| {
        (other.severity, one.code, &one.message).cmp(&(one.severity, other.code, &other.message))
    });
    findings.dedup();
    findings
}

/// What an engine makes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading<'c> {
    /// It reads it.
    Spec(&'c Spec),
    /// It refuses it: the spec says what only this version can.
    TooNew(Version),
    /// Nobody can.
    Nothing,
}

fn reading<'c>(engine: &Engine, file: &'c SpecFile) -> Reading<'c> {
    let SpecText::Spec(spec) = &file.text else { return Reading::Nothing };
    // An engine refuses fields that it does not know, whatever version the file claims.
    let needs = spec.parse_version().map_or(spec.required_version(), |says| says.max(spec.required_version()));
    match engine.reads {
        Some(reads) if needs <= reads => Reading::Spec(spec),
        _ => Reading::TooNew(needs),
    }
}

/// The devices that an engine finds: a later directory hides an earlier one, and what two files of one directory define
/// is nobody's (CDI SPEC, "conflict").
pub fn devices<'c>(engine: &Engine, checkup: &'c Checkup) -> Devices<'c> {
    let mut found = Devices::new();
    if !matches!(engine.cdi, Switch::On) {
        return found;
    }
    for dir in &engine.dirs {
        let mut here: BTreeMap<String, Vec<&SpecFile>> = BTreeMap::new();
        for file in files_of(dir, checkup) {
            if let Reading::Spec(spec) = reading(engine, file) {
                names(spec).for_each(|name| here.entry(name).or_default().push(file));
            }
        }
        for (name, files) in here {
            match files.as_slice() {
                [file] => _ = found.insert(name, file),
                _ => _ = found.remove(&name),
            }
        }
    }
    found
}

fn files_of<'c>(dir: &Utf8Path, checkup: &'c Checkup) -> impl Iterator<Item = &'c SpecFile> {
    checkup.files.iter().filter(move |file| file.path.parent() == Some(dir))
}

fn names(spec: &Spec) -> impl Iterator<Item = String> {
    spec.devices.iter().map(|device| format!("{}={}", spec.kind, device.name))
}

/// Whether a spec is about NVIDIA's GPUs, or could be.
fn concerns(spec: &Spec, checkup: &Checkup) -> bool {
    let vendor = |kind: &str| kind.split('/').next().unwrap_or_default().to_owned();
    vendor(&spec.kind) == vendor(&checkup.kind)
}

// The host

fn of_driver(checkup: &Checkup, findings: &mut Vec<Finding>) {
    let is_told = |code: &str| !checkup.nodes.is_empty() && TOLD_BY_NODES.contains(&code);
    findings.extend(checkup.problems.iter().filter(|problem| !is_told(problem.code)).map(Finding::from));
    for node in &checkup.nodes {
        findings.extend(of_node(node, checkup.system.user));
    }
}

fn of_node(node: &NodeState, user: u32) -> Option<Finding> {
    let NodeState { path, numbers: (major, minor), state } = node;
    let name = path.file_name().unwrap_or_default();
    let severity = if OPTIONAL_NODES.iter().any(|optional| name.starts_with(optional)) { Note } else { Error };
    let fix = || Repair::command(&["cdi-gen", "create-device-nodes"]).then(&["cdi-gen", "refresh"]);
    Some(match state {
        NodeIs::Good => return None,
        NodeIs::Missing => Finding::new(severity, "missing-node", format!("there is no device node {path}"))
            .evidence(format!("the running driver has it as {major}:{minor} (/proc/devices)"))
            .fix(fix()),
        NodeIs::Wrong => Finding::new(severity, "wrong-node", format!("{path} does not lead to the running driver"))
            .evidence(format!("the running driver has it as {major}:{minor} (/proc/devices)"))
            .fix(fix()),
        NodeIs::Forbidden => Finding::new(
            Warning,
            "node-permission",
            format!("user {user} cannot open {path}, nor can their containers"),
        )
        .fix(
            Repair::command(&["ls", "-l", path.as_str()])
                .after("run the engine as root, or add the user to the group that this shows"),
        ),
    })
}

fn of_system(checkup: &Checkup, findings: &mut Vec<Finding>) {
    let system = &checkup.system;
    if let Some(link) = checkup.missing_char_links.first().filter(|_| system.systemd) {
        let message = "containers lose their GPUs when systemd reloads its units: it does not know the device nodes";
        findings.push(
            Finding::new(Warning, "no-char-link", message)
                .evidence(format!("{} links such as {link} are missing", checkup.missing_char_links.len()))
                .fix(Repair::command(&["cdi-gen", "create-dev-char-symlinks"])),
        );
    }
    if system.selinux.is_some_and(|selinux| selinux.enforcing && selinux.containers_use_devices == Some(false)) {
        findings.push(
            Finding::new(Warning, "selinux", "SELinux keeps containers from using devices")
                .evidence("the boolean container_use_devices is off, and the policy is enforced")
                .fix(Repair::command(&["setsebool", "-P", "container_use_devices", "on"])),
        );
    }
    let has_own = checkup.files.iter().any(|file| file.ours);
    if system.refreshed == Some(false) && has_own {
        findings.push(
            Finding::new(Note, "not-refreshed", "nothing brings the spec up to date when the driver changes")
                .evidence("cdi-gen-refresh.path and cdi-gen-refresh.service are not enabled")
                .fix(Repair::command(&[
                    "systemctl",
                    "enable",
                    "--now",
                    "cdi-gen-refresh.path",
                    "cdi-gen-homes.path",
                    "cdi-gen-refresh.service",
                ])),
        );
    }
}

// Files

fn of_dirs(checkup: &Checkup, findings: &mut Vec<Finding>) {
    for dir in &checkup.dirs {
        let path = &dir.path;
        if let Some(trouble) = &dir.trouble {
            findings.push(
                Finding::new(Error, "unreadable", format!("the directory {path} cannot be read"))
                    .evidence(trouble)
                    .fix(Repair::command(&["chmod", "a+rx", path.as_str()])),
            );
        } else if !dir.for_everybody {
            findings.push(
                Finding::new(Warning, "unreadable", format!("users without root cannot read the directory {path}"))
                    .fix(Repair::command(&["chmod", "a+rx", path.as_str()])),
            );
        }
    }
}

fn of_file(file: &SpecFile, checkup: &Checkup, findings: &mut Vec<Finding>) {
    let path = &file.path;
    match &file.text {
        SpecText::Unreadable(why) => findings.push(
            Finding::new(Error, "unreadable", format!("{path} cannot be read")).evidence(why).fix(readable(path)),
        ),
        SpecText::Malformed(why) => findings.push(
            Finding::new(
                Error,
                "malformed",
                format!("{path} is no CDI spec: engines pass it over, and most tell nobody"),
            )
            .evidence(why)
            // Whose it is nobody knows.
            .fix(if file.ours { again(file) } else { remove(path).after("mend it, or remove it") }),
        ),
        SpecText::WrongName => findings.push(
            Finding::new(
                Warning,
                "wrong-name",
                format!("{path} is read by no engine: names must end in .yaml or .json"),
            )
            .fix(renamed(path, checkup)),
        ),
        SpecText::Spec(spec) if concerns(spec, checkup) => of_spec(file, checkup, findings),
        SpecText::Spec(_) => {}
    }
    let is_spec = matches!(file.text, SpecText::Spec(_));
    if is_spec && !file.for_everybody {
        findings.push(
            Finding::new(Warning, "unreadable", format!("users without root cannot read {path}")).fix(readable(path)),
        );
    }
    if let Some(writer) = &file.writer {
        let message = format!("{}, and so what root's engines run as root", writer.why);
        findings.push(Finding::new(Error, "untrusted", message).fix(roots_own(writer)));
    }
}

/// A link may lead to what is a secret.
fn readable(path: &Utf8Path) -> Repair {
    Repair::command(&["chmod", "a+r", path.as_str()]).after("if everybody may read what is in it")
}

/// The file under a name that engines read, unless there is one already.
fn renamed(path: &Utf8Path, checkup: &Checkup) -> Repair {
    let right = path.with_extension("yaml");
    if checkup.files.iter().any(|file| file.path == right) {
        return remove(path).after(format!("remove it, since there is {right}"));
    }
    Repair::command(&["mv", path.as_str(), right.as_str()])
}

/// Who could write a file may have told root's engines what to run: to make it root's is to trust what it says by now.
fn roots_own(writer: &Writer) -> Repair {
    let path = writer.path.as_str();
    let (mode, look) = match writer.kind {
        WriterOf::Link => return remove(&writer.path).after("it leads to what others can change"),
        WriterOf::Directory => ("0755", "remove files in it that are not what you expect; then"),
        WriterOf::File => ("0644", "remove it if what it says is not what you expect; otherwise"),
    };
    Repair::command(&["chown", "root:root", path]).then(&["chmod", mode, path]).after(look)
}

fn of_spec(file: &SpecFile, checkup: &Checkup, findings: &mut Vec<Finding>) {
    let path = &file.path;
    if let Some(why) = &file.stale {
        // Without a driver nothing makes it true again.
        let fix = if checkup.made.is_some() || checkup.driver.is_some() { again(file) } else { remove(path) };
        findings.push(
            Finding::new(Error, "stale", format!("{path} is no longer true, and containers with it do not start"))
                .evidence(why)
                .fix(fix),
        );
    }
    for hook in &file.missing_hooks {
        findings.push(
            Finding::new(Error, "no-hook", format!("{path} has {hook} run in each container, and that is not there"))
                .fix(again(file).after("install it, or make the spec anew")),
        );
    }
}

/// The command that writes a file anew.
fn again(file: &SpecFile) -> Repair {
    match file.path.as_str() {
        path if !file.ours => remove(path.into()).then(&["cdi-gen", "refresh"]),
        USUAL_SPEC => Repair::command(&["cdi-gen", "refresh"]),
        path => Repair::command(&["cdi-gen", "refresh", "--output", path]),
    }
}

fn remove(path: &Utf8Path) -> Repair {
    Repair::command(&["rm", path.as_str()])
}

fn of_conflicts(checkup: &Checkup, findings: &mut Vec<Finding>) {
    let mut defined: BTreeMap<(&Utf8Path, String), Vec<&SpecFile>> = BTreeMap::new();
    for file in &checkup.files {
        let (SpecText::Spec(spec), Some(dir)) = (&file.text, file.path.parent()) else { continue };
        names(spec).for_each(|name| defined.entry((dir, name)).or_default().push(file));
    }
    let mut names_of: BTreeMap<Vec<&str>, Vec<String>> = BTreeMap::new();
    for ((_, name), files) in defined.into_iter().filter(|(_, files)| files.len() > 1) {
        names_of.entry(files.iter().map(|file| file.path.as_str()).collect()).or_default().push(name);
    }
    for (files, names) in names_of {
        // The one to keep is ours, and where it usually is.
        let worth = |path: &&&str| {
            let ours = checkup.files.iter().any(|file| file.ours && file.path == **path);
            (ours, **path == USUAL_SPEC)
        };
        let surplus = files.iter().min_by_key(worth).copied().unwrap_or_default();
        findings.push(
            Finding::new(
                Error,
                "conflict",
                format!("{} define the same devices, and no engine gives those", files.join(" and ")),
            )
            .evidence(shown(&names))
            .fix(remove(surplus.into())),
        );
    }
}

fn shown(names: &[String]) -> String {
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ") + &more
}

// Engines

fn of_engine(engine: &Engine, checkup: &Checkup, findings: &mut Vec<Finding>) {
    let title = engine.title();
    if engine.reads.is_none() {
        findings.push(
            Finding::new(Warning, "engine-too-old", format!("{title} reads no CDI specs")).fix(
                Repair::command(&["cdi-apply", "configure", engine.name, "--runtime"])
                    .after("update it, or let its containers run by cdi-runtime"),
            ),
        );
        return;
    }
    match &engine.cdi {
        Switch::On => {}
        Switch::Off { setting } => {
            findings.push(
                Finding::new(Error, "cdi-off", format!("{title} does not look at CDI specs"))
                    .evidence(format!("{setting} in its configuration"))
                    .fix(Repair::command(&["cdi-apply", "configure", engine.name]).then(&[
                        "systemctl",
                        "restart",
                        engine.name,
                    ])),
            );
            return;
        }
        Switch::Unknown { why } => {
            findings.push(
                Finding::new(Error, "bad-configuration", format!("the configuration of {title} cannot be understood"))
                    .evidence(why)
                    .fix(Repair::step("mend that file")),
            );
            return;
        }
    }
    too_new(engine, checkup, findings);
    let found = devices(engine, checkup);
    hidden(engine, checkup, &found, findings);
    missing(engine, checkup, &found, findings);
    for name in checkup.asked.iter().filter(|name| !found.contains_key(*name)) {
        let there: Vec<String> = found.keys().cloned().collect();
        let there = if there.is_empty() { "none".to_owned() } else { shown(&there) };
        findings.push(
            Finding::new(Error, "no-such-device", format!("{title} finds no device {name}"))
                .evidence(format!("it finds {there}"))
                .fix(Repair::command(&["cdi-gen", "refresh"]).after("ask for one of those, or make the spec anew")),
        );
    }
}

fn too_new(engine: &Engine, checkup: &Checkup, findings: &mut Vec<Finding>) {
    for file in engine.dirs.iter().flat_map(|dir| files_of(dir, checkup)) {
        let (Reading::TooNew(needs), SpecText::Spec(spec)) = (reading(engine, file), &file.text) else { continue };
        let reads = engine.reads.map(|reads| reads.to_string()).unwrap_or_default();
        let target = engine.release.map_or(engine.name.to_owned(), |release| format!("{}={release}", engine.name));
        let path = &file.path;
        let severity = if concerns(spec, checkup) { Error } else { Warning };
        let fix = if concerns(spec, checkup) {
            Repair::command(&["cdi-gen", "generate", "--target", &target, "--output", path.as_str()])
        } else {
            Repair::step(format!("update {}, or ask who wrote {path} for an older format", engine.name))
        };
        findings.push(
            Finding::new(severity, "too-new", format!("{} cannot read {path}, and tells nobody", engine.title()))
                .evidence(format!("the file says what CDI {needs} brought, and the engine reads up to {reads}"))
                .fix(fix),
        );
    }
}

/// A true spec behind one that is not.
fn hidden(engine: &Engine, checkup: &Checkup, found: &Devices<'_>, findings: &mut Vec<Finding>) {
    let mut told = BTreeSet::new();
    for file in engine.dirs.iter().flat_map(|dir| files_of(dir, checkup)).filter(|file| file.stale.is_none()) {
        let Reading::Spec(spec) = reading(engine, file) else { continue };
        for winner in names(spec).filter_map(|name| found.get(&name)) {
            if winner.path != file.path && winner.stale.is_some() && told.insert((&winner.path, &file.path)) {
                findings.push(
                    Finding::new(Error, "shadowed", format!("{} hides {}, which is true", winner.path, file.path))
                        .evidence(format!("{} lets the later of its directories win", engine.title()))
                        .fix(remove(&winner.path)),
                );
            }
        }
    }
}

/// GPUs of this host that no device of an engine's gives alone, and a missing `all`.
fn missing(engine: &Engine, checkup: &Checkup, found: &Devices<'_>, findings: &mut Vec<Finding>) {
    let of_kind: Vec<(&String, &&SpecFile)> = found.iter().filter(|(name, _)| checkup.is_of_kind(name)).collect();
    let (Some(made), Some((_, file))) = (&checkup.made, of_kind.first()) else { return };
    // What is stale is told as such.
    if of_kind.iter().any(|(_, file)| file.stale.is_some()) {
        return;
    }
    let given: BTreeSet<&str> = gpu_nodes(&of_kind);
    let all = format!("{}=all", checkup.kind);
    let wanted = made.devices.iter().filter(|device| device.name != "all");
    let absent: Vec<String> = wanted
        .filter(|device| {
            device
                .container_edits
                .device_nodes
                .iter()
                .any(|node| is_gpu(&node.path) && !given.contains(node.path.as_str()))
        })
        .map(|device| format!("{}={}", made.kind, device.name))
        .chain((!found.contains_key(&all)).then_some(all))
        .collect();
    if !absent.is_empty() {
        findings.push(
            Finding::new(
                Warning,
                "missing-device",
                format!("{} does not know all GPUs of this host by a name", engine.title()),
            )
            .evidence(format!("{} does not define {}", file.path, shown(&absent)))
            .fix(again(file)),
        );
    }
}

fn is_gpu(path: &str) -> bool {
    path.strip_prefix("/dev/nvidia")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Nodes of GPUs that devices give; `all` gives no GPU alone.
fn gpu_nodes<'c>(devices: &[(&String, &&'c SpecFile)]) -> BTreeSet<&'c str> {
    let names: BTreeSet<(&Utf8Path, &str)> =
        devices.iter().map(|(name, file)| (file.path.as_path(), name.as_str())).collect();
    let files: BTreeMap<&Utf8Path, &SpecFile> = devices.iter().map(|(_, file)| (file.path.as_path(), **file)).collect();
    let mut nodes = BTreeSet::new();
    for (path, file) in files {
        let SpecText::Spec(spec) = &file.text else { continue };
        let is_given = |name: &str| name != "all" && names.contains(&(path, format!("{}={name}", spec.kind).as_str()));
        let given = spec.devices.iter().filter(|device| is_given(&device.name));
        let paths = given.flat_map(|device| &device.container_edits.device_nodes).map(|node| node.path.as_str());
        nodes.extend(paths.filter(|path| is_gpu(path)));
    }
    nodes
}

/// Engines that find no GPU at all, although one could be had.
fn of_missing_specs(used: &[&Engine], checkup: &Checkup, findings: &mut Vec<Finding>) {
    if checkup.driver.is_none() {
        return;
    }
    let mut without: Vec<&Engine> = Vec::new();
    for engine in used.iter().filter(|engine| engine.cdi == Switch::On && engine.reads.is_some()) {
        let finds = devices(engine, checkup).keys().any(|name| checkup.is_of_kind(name));
        // That a file of its own cannot be used was told.
        let own_trouble =
            engine.dirs.iter().flat_map(|dir| files_of(dir, checkup)).any(|file| is_trouble(file, checkup));
        let blocked = checkup.dirs.iter().any(|dir| dir.trouble.is_some() && engine.dirs.contains(&dir.path));
        if !finds && !own_trouble && !blocked {
            match elsewhere(engine, checkup) {
                Some(file) => findings.push(wrong_dir(engine, file)),
                None => without.push(engine),
            }
        }
    }
    let nobody_looks = used.is_empty() && !checkup.files.iter().any(|file| is_trouble(file, checkup));
    if let Some(first) = without.first() {
        let who: Vec<String> = without.iter().map(|engine| engine.title()).collect();
        let dirs: Vec<&str> = first.dirs.iter().map(|dir| dir.as_str()).collect();
        findings.push(no_spec(checkup).evidence(format!("{} found none in {}", who.join(", "), dirs.join(", "))));
    } else if nobody_looks {
        findings.push(no_spec(checkup));
    }
}

fn no_spec(checkup: &Checkup) -> Finding {
    Finding::new(Error, "no-spec", format!("there is no spec of {} devices", checkup.kind))
        .fix(Repair::command(&["cdi-gen", "refresh"]))
}

/// Whether a file has, or may have, a spec of the kind in it, usable or not.
fn is_trouble(file: &SpecFile, checkup: &Checkup) -> bool {
    match &file.text {
        SpecText::Spec(spec) => spec.kind == checkup.kind,
        SpecText::Unreadable(_) | SpecText::Malformed(_) => true,
        SpecText::WrongName => false,
    }
}

fn elsewhere<'c>(engine: &Engine, checkup: &'c Checkup) -> Option<&'c SpecFile> {
    let is_own = |file: &SpecFile| engine.dirs.iter().any(|dir| file.path.parent() == Some(dir));
    let of_kind = |file: &SpecFile| matches!(&file.text, SpecText::Spec(spec) if spec.kind == checkup.kind);
    checkup.files.iter().find(|file| !is_own(file) && of_kind(file))
}

fn wrong_dir(engine: &Engine, file: &SpecFile) -> Finding {
    let dirs: Vec<&str> = engine.dirs.iter().map(|dir| dir.as_str()).collect();
    let own = engine.dirs.first().map(|dir| dir.join("nvidia.yaml")).unwrap_or_default();
    Finding::new(Error, "wrong-dir", format!("{} does not look where the spec is: {}", engine.title(), file.path))
        .evidence(format!("it reads {}", dirs.join(", ")))
        .fix(Repair::command(&["cdi-gen", "refresh", "--output", own.as_str()]))
}
