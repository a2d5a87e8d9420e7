//! `cdi-gen doctor`: looks at the host, its spec files and its engines, and tells why containers get no GPU. I/O.
#![expect(
    clippy::disallowed_methods,
    reason = "looks at spec files and engines' configuration; asks engines for their releases"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;

use camino::{Utf8Path, Utf8PathBuf};
use cdi_files::trust;
use cdi_gen::doctor::engine_config::{self, CdiConfig};
use cdi_gen::doctor::{
    Checkup, Engine, NodeIs, NodeState, SPEC_DIRS, SeLinux, SpecDir, SpecFile, SpecText, System, Writer, WriterOf,
    diagnose, page, screen,
};
use cdi_gen::facts::{HostFacts, ld_cache, libraries};
use cdi_gen::plan::PlanOptions;
use cdi_gen::targets::{self, Release, Target};
use cdi_gen::to_spec::{self, Hooks, LoweringOptions};
use cdi_gen::tree::Kind;
use cdi_gen::{Host, Problem, Severity, Tree, capture, freshness, hook_path, output, ownership, wanted_nodes};
use cdi_specs::{Format, QualifiedName, Spec};
use rustix::fs::Access;

use crate::cli::Doctor;
use crate::report::{self, Voice};
use crate::{EXIT_FINDINGS, Usage, hints, installed, judge, nvml_query, open_host, print, upkeep};

/// The kind of the GPUs.
const KIND: &str = "nvidia.com/gpu";
/// What the loader's cache has of a driver that programs find.
const IN_CACHE: &str = "libcuda.so.1";
/// One byte more than a spec may have shows that it has too many.
const MAX_SPEC: u64 = cdi_specs::MAX_TEXT_BYTES as u64 + 1;
/// An ending that people give spec files and that no engine reads.
const WRONG_ENDING: &str = "yml";
/// Nodes that only those miss who administer MIG or a fabric of GPUs.
const CAPABILITY: &str = "nvidia-cap";
/// Programs by which somebody asks containerd for CDI devices.
const CONTAINERD_USERS: [&str; 3] = ["crictl", "kubelet", "nerdctl"];
/// Units that refresh a spec, ours and the NVIDIA toolkit's.
const UNITS: [&str; 3] = ["cdi-gen-refresh.path", "cdi-gen-refresh.service", "nvidia-cdi-refresh.path"];
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants";

/// Runs the command.
pub fn run(arguments: &Doctor, voice: Voice) -> anyhow::Result<u8> {
    for name in &arguments.devices {
        name.parse::<QualifiedName>().map_err(|error| Usage(format!("`{name}` is no device: {error}")))?;
    }
    let checkup = examine(arguments)?;
    let findings = diagnose::diagnose(&checkup);
    if let Some(path) = &arguments.report {
        let mut scrubber = capture::Scrubber::default();
        let show = &mut |text: &str| if arguments.keep_ids { text.to_owned() } else { scrubber.scrub(text) };
        output::write_by_umask(path, &page::html(&checkup, &findings, show))?;
    }
    if voice.json {
        print(&cdi_gen::show::json(&serde_json::json!({"findings": findings, "checkup": checkup}))?)?;
    } else if !voice.quiet {
        let paint = report::Paint::when(io::stdout().is_terminal());
        print(&screen::text(&checkup, &findings, &|severity| paint.around(severity)))?;
    }
    let serious = findings.iter().any(|finding| finding.severity > Severity::Note);
    Ok(if serious { EXIT_FINDINGS } else { 0 })
}

fn examine(arguments: &Doctor) -> anyhow::Result<Checkup> {
    let host = open_host(&arguments.roots, Tree::new)?;
    let (facts, mut problems) = cdi_gen::facts::read(&host, &hints(&arguments.roots), &nvml_query(&arguments.roots));
    let live = host.system.is_live();
    let user = if live { rustix::process::geteuid().as_raw() } else { 0 };
    let hook = hook_path::find().filter(|_| live);
    let made = make(&facts, hook.as_ref(), &mut problems);
    let engines = engines(&arguments.targets, &host);
    let look = Look { host: &host, facts: &facts, live, user };
    let mut dirs: Vec<Utf8PathBuf> = SPEC_DIRS.map(Utf8PathBuf::from).into();
    dirs.extend(engines.iter().flat_map(|engine| engine.dirs.clone()).chain(own_dirs(user)));
    let mut seen = BTreeSet::new();
    dirs.retain(|dir| seen.insert(dir.clone()));
    let (dirs, files) = look.spec_dirs(&dirs);
    let wanted = wanted_nodes::read(&host.system, &mut problems);
    let there: Vec<_> = wanted.iter().filter(|node| look.kind(&node.path).is_some()).cloned().collect();
    let links = wanted_nodes::char_links(&there);
    Ok(Checkup {
        kind: KIND.to_owned(),
        asked: arguments.devices.clone(),
        driver: describe_driver(&facts),
        made,
        problems,
        missing_char_links: links.into_keys().filter(|link| look.kind(link).is_none()).collect(),
        nodes: wanted.iter().map(|node| look.node(node)).filter(matters).collect(),
        engines,
        dirs,
        files,
        system: look.system(hook),
    })
}

/// Whether anybody misses a node that is not as it should be.
fn matters(node: &NodeState) -> bool {
    let is_capability = node.path.file_name().is_some_and(|name| name.starts_with(CAPABILITY));
    !is_capability || matches!(node.state, NodeIs::Good | NodeIs::Wrong)
}

/// What a generation would make of the host; what keeps it from that is a problem.
fn make(facts: &HostFacts, hook: Option<&Utf8PathBuf>, problems: &mut Vec<Problem>) -> Option<Spec> {
    match cdi_gen::plan(facts, &PlanOptions::default(), problems) {
        Ok(plan) => {
            let hooks =
                hook.map_or(Hooks::None, |path| Hooks::With { path: path.clone(), disabled: Default::default() });
            Some(to_spec::lower(&plan, &LoweringOptions { hooks, ..LoweringOptions::default() }))
        }
        Err(error) => {
            problems.push(judge(&error).2);
            None
        }
    }
}

fn describe_driver(facts: &HostFacts) -> Option<String> {
    let version = facts.driver.version.as_ref();
    if !facts.driver.loaded {
        return None;
    }
    let flavour = if facts.driver.open { "open kernel module" } else { "proprietary kernel module" };
    let version = version.map_or("of unknown version".to_owned(), ToString::to_string);
    let homes = libraries::directories(&facts.libraries, facts.driver.version.as_ref());
    let homes: Vec<&str> = homes.iter().map(|dir| dir.as_str()).collect();
    let libraries =
        if homes.is_empty() { "no libraries of it".to_owned() } else { format!("libraries in {}", homes.join(", ")) };
    let nested = if facts.nested { ", mounted into this container" } else { "" };
    let count = facts.gpus.len();
    let gpus = if count == 1 { "GPU" } else { "GPUs" };
    Some(format!("{version}, {flavour}, {count} {gpus}, {libraries}{nested}"))
}

/// Directories of a user's own.
fn own_dirs(user: u32) -> Vec<Utf8PathBuf> {
    if user == 0 {
        return Vec::new();
    }
    let dir = |variable: &str| std::env::var(variable).ok().filter(|dir| dir.starts_with('/')).map(Utf8PathBuf::from);
    let config = dir("XDG_CONFIG_HOME").or_else(|| dir("HOME").map(|home| home.join(".config")));
    [config, dir("XDG_RUNTIME_DIR")].into_iter().flatten().map(|dir| dir.join("cdi")).collect()
}

// Engines

fn engines(asked: &[Target], host: &Host) -> Vec<Engine> {
    let live = host.system.is_live();
    let is_auto = asked.is_empty() || asked.contains(&Target::Auto);
    let name = |target: &Target| match target {
        Target::Auto => None,
        Target::Engine { name, .. } => Some(*name),
    };
    let named: Vec<Target> = asked.iter().filter(|target| **target != Target::Auto).cloned().collect();
    let mut found = if is_auto && live { installed::engines() } else { Vec::new() };
    found.retain(|target| !named.iter().any(|named| name(named) == name(target)));
    let found = found.into_iter().map(|target| (target, false));
    named
        .into_iter()
        .map(|target| (target, true))
        .chain(found)
        .filter_map(|(target, is_named)| engine(&target, is_named, host))
        .collect()
}

fn engine(target: &Target, is_named: bool, host: &Host) -> Option<Engine> {
    let Target::Engine { name, release } = *target else { return None };
    let config = configuration(name, release, host);
    let is_asked = name != "containerd" || CONTAINERD_USERS.iter().any(|program| installed::find(program).is_some());
    let used = is_named || config.is_some() && is_asked;
    let CdiConfig { cdi, dirs } = config.unwrap_or_else(CdiConfig::of_disabled_plugin);
    let reads = if release.is_some() { targets::reads(name, release) } else { targets::newest(name) };
    Some(Engine { name, release, reads, cdi, dirs, used })
}

/// `None` if the part of the engine that reads specs is turned off as a whole.
fn configuration(name: &str, release: Option<Release>, host: &Host) -> Option<CdiConfig> {
    let read = |path: &str| host.system.read_text(path.into()).unwrap_or_default();
    match name {
        "docker" => Some(engine_config::docker(&read("/etc/docker/daemon.json"), release)),
        "podman" => Some(engine_config::podman(&podman_files(host), release)),
        "crio" => {
            let files = files_of(host, &["/etc/crio/crio.conf"], &["/etc/crio/crio.conf.d"]);
            Some(engine_config::listed(&files, &["crio", "runtime", "cdi_spec_dirs"]))
        }
        "nerdctl" => {
            Some(engine_config::listed(&files_of(host, &["/etc/nerdctl/nerdctl.toml"], &[]), &["cdi_spec_dirs"]))
        }
        "containerd" => {
            let dumped = host.system.is_live().then(|| installed::ask("containerd", &["config", "dump"])).flatten();
            engine_config::containerd(&dumped.unwrap_or_else(|| read("/etc/containerd/config.toml")), release)
        }
        _ => Some(engine_config::podman(&[], None)),
    }
}

/// containers.conf(5): the distribution's, the administrator's, the user's; drop-ins behind each. A variable may name
/// another in the place of all.
fn podman_files(host: &Host) -> Vec<(Utf8PathBuf, String)> {
    if let Some(file) = std::env::var("CONTAINERS_CONF").ok().filter(|_| host.system.is_live()) {
        return files_of(host, &[&file], &[]);
    }
    let own = std::env::var("HOME").ok().filter(|_| host.system.is_live() && !rustix::process::geteuid().is_root());
    let own = own.map(|home| format!("{home}/.config/containers/containers.conf"));
    let files =
        ["/usr/share/containers/containers.conf", "/etc/containers/containers.conf"].into_iter().chain(own.as_deref());
    let with_drop_ins = |file: &str| files_of(host, &[file], &[&format!("{file}.d")]);
    files.flat_map(with_drop_ins).collect()
}

/// Files, and then those of directories by their names.
fn files_of(host: &Host, files: &[&str], dirs: &[&str]) -> Vec<(Utf8PathBuf, String)> {
    let listed = |dir: &&str| {
        let dir = Utf8Path::new(*dir);
        let mut names: Vec<String> = host
            .system
            .list(dir, |name| name.ends_with(".conf"))
            .unwrap_or_default()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        names.sort();
        names.into_iter().map(|name| dir.join(name)).collect::<Vec<_>>()
    };
    let paths = files.iter().map(Utf8PathBuf::from).chain(dirs.iter().flat_map(listed));
    paths.filter_map(|path| Some((path.clone(), host.system.read_text(&path).ok()?))).collect()
}

// The host

struct Look<'a> {
    host: &'a Host,
    facts: &'a HostFacts,
    live: bool,
    user: u32,
}

impl Look<'_> {
    fn kind(&self, path: &Utf8Path) -> Option<Kind> {
        self.host.dev.iter().find_map(|dev| dev.kind(path).ok())
    }

    fn text(&self, path: &str) -> Option<String> {
        self.host.system.read_text(path.into()).ok()
    }

    fn node(&self, node: &wanted_nodes::WantedNode) -> NodeState {
        let numbers = (node.major, node.minor);
        let forbidden = || {
            let access = rustix::fs::access(node.path.as_std_path(), Access::READ_OK | Access::WRITE_OK);
            self.live && self.user != 0 && access.is_err()
        };
        let state = match self.kind(&node.path) {
            None => NodeIs::Missing,
            Some(Kind::Char(found)) if (found.major, found.minor) == numbers => {
                if forbidden() {
                    NodeIs::Forbidden
                } else {
                    NodeIs::Good
                }
            }
            Some(_) => NodeIs::Wrong,
        };
        NodeState { path: node.path.clone(), numbers, state }
    }

    fn system(&self, hook: Option<Utf8PathBuf>) -> System {
        let is = |path: &str, kind: Kind| self.host.system.kind(path.into()).is_ok_and(|found| found == kind);
        let cgroups = [
            ("/sys/fs/cgroup/cgroup.controllers", Kind::File, "v2"),
            ("/sys/fs/cgroup/unified", Kind::Dir, "v1 and v2"),
            ("/sys/fs/cgroup/devices", Kind::Dir, "v1"),
        ];
        let systemd = is("/run/systemd/system", Kind::Dir);
        let refreshed = || UNITS.iter().any(|unit| is(&format!("{ENABLED}/{unit}"), Kind::File));
        System {
            user: self.user,
            systemd,
            cgroups: cgroups.into_iter().find(|(path, kind, _)| is(path, *kind)).map(|(.., version)| version),
            selinux: self.selinux(),
            apparmor: self.text("/sys/module/apparmor/parameters/enabled").is_some_and(|text| text.starts_with('Y')),
            container: self.container(),
            hook,
            in_ld_cache: self.in_ld_cache(),
            refreshed: systemd.then(refreshed),
        }
    }

    /// selinuxfs: `enforce` is a digit, a boolean its present and its pending value.
    fn selinux(&self) -> Option<SeLinux> {
        let enforcing = self.text("/sys/fs/selinux/enforce")?.starts_with('1');
        let boolean = self.text("/sys/fs/selinux/booleans/container_use_devices");
        Some(SeLinux { enforcing, containers_use_devices: boolean.map(|text| text.starts_with('1')) })
    }

    fn container(&self) -> Option<String> {
        let systemds = self.text("/run/systemd/container").map(|text| text.trim().to_owned());
        let exists = |path: &str| self.host.system.kind(path.into()).is_ok();
        systemds
            .filter(|name| !name.is_empty())
            .or_else(|| exists("/run/.containerenv").then(|| "podman".to_owned()))
            .or_else(|| exists("/.dockerenv").then(|| "docker".to_owned()))
    }

    fn in_ld_cache(&self) -> Option<bool> {
        let bytes = self.host.driver.read(libraries::LD_CACHE.into(), libraries::LD_CACHE_LIMIT).ok()?;
        Some(!ld_cache::parse(&bytes, |name| name == IN_CACHE).0.is_empty())
    }

    // Spec files

    fn spec_dirs(&self, dirs: &[Utf8PathBuf]) -> (Vec<SpecDir>, Vec<SpecFile>) {
        let (mut found, mut files) = (Vec::new(), Vec::new());
        for path in dirs {
            let listed = self.host.system.list(path, |_| true);
            let trouble = match listed {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(ref error) => Some(error.to_string()),
                Ok(_) => None,
            };
            let for_everybody = self.mode(path).is_none_or(|(mode, owner)| mode & 0o5 == 0o5 || self.is_own(owner));
            found.push(SpecDir { path: path.clone(), trouble, for_everybody });
            let mut names: Vec<String> = listed.unwrap_or_default().into_iter().map(|entry| entry.name).collect();
            names.sort();
            files.extend(names.iter().filter_map(|name| self.spec_file(&path.join(name))));
        }
        (found, files)
    }

    /// Mode and owner of the file behind a path.
    fn mode(&self, path: &Utf8Path) -> Option<(u32, u32)> {
        let tree = &self.host.system;
        let real = tree.resolve(path).ok()?;
        let metadata = tree.path_on_this_machine(&tree.located(&real).host_path).metadata().ok()?;
        Some((metadata.mode(), metadata.uid()))
    }

    /// A user's files are for that user.
    fn is_own(&self, owner: u32) -> bool {
        self.user != 0 && owner == self.user
    }

    /// `None` for what nobody takes for a spec.
    fn spec_file(&self, path: &Utf8Path) -> Option<SpecFile> {
        let extension = path.extension().unwrap_or_default();
        if self.host.system.kind(path).is_ok_and(|kind| kind == Kind::Dir) || path.file_name()?.starts_with('.') {
            return None;
        }
        let mut file = SpecFile {
            path: path.to_owned(),
            text: SpecText::WrongName,
            ours: false,
            for_everybody: true,
            writer: None,
            stale: None,
            missing_hooks: Vec::new(),
        };
        let Some(format) = Format::from_extension(extension) else {
            return (extension == WRONG_ENDING).then_some(file);
        };
        let (mode, owner) = self.mode(path).unwrap_or_default();
        file.for_everybody = mode & 0o4 != 0 || self.is_own(owner);
        file.writer = self.writer(path, mode);
        let bytes = match self.host.system.read(path, MAX_SPEC) {
            Ok(bytes) => bytes,
            Err(error) => return Some(SpecFile { text: SpecText::Unreadable(error.to_string()), ..file }),
        };
        file.ours = ownership::is_ours(&bytes, format);
        file.text = match read(&bytes, format) {
            Err(why) => SpecText::Malformed(why),
            Ok(spec) => {
                file.missing_hooks = self.missing_hooks(&spec);
                file.stale = self.stale(&spec);
                SpecText::Spec(Box::new(spec))
            }
        };
        Some(file)
    }

    /// Who but root may change a file, or what leads to it; whose that is is known on the running system alone.
    fn writer(&self, path: &Utf8Path, mode: u32) -> Option<Writer> {
        if !self.live {
            let why = || format!("everybody can change {path}");
            return (mode & 0o2 != 0).then(|| Writer { why: why(), path: path.to_owned(), kind: WriterOf::File });
        }
        let is_own = own_dirs(self.user).iter().any(|dir| path.parent() == Some(dir));
        let who = |path: &Utf8Path| trust::who_may_change(path.as_std_path());
        // What is next to the root is what is to be mended: all below it is in the same hands.
        let open = path.ancestors().filter(|path| !is_own && !path.as_str().is_empty());
        let (path, why) = open.filter_map(|path| Some((path, who(path)?))).last()?;
        let kind = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => WriterOf::Directory,
            Ok(metadata) if metadata.is_symlink() => WriterOf::Link,
            _ => WriterOf::File,
        };
        let why = why.replace("can change it", &format!("can change {path}"));
        Some(Writer { why, path: path.to_owned(), kind })
    }

    fn missing_hooks(&self, spec: &Spec) -> Vec<Utf8PathBuf> {
        let edits = freshness::all_edits(spec).into_iter();
        let mut paths: Vec<Utf8PathBuf> =
            edits.flat_map(|edits| &edits.hooks).map(|hook| hook.path.clone().into()).collect();
        paths.sort();
        paths.dedup();
        let can_run = |path: &Utf8PathBuf| {
            let mode = self.mode(path).map(|(mode, _)| mode);
            mode.is_some_and(|mode| mode & 0o111 != 0 || !self.live)
        };
        paths.retain(|path| !can_run(path));
        paths
    }

    /// Hooks are told on their own.
    fn stale(&self, spec: &Spec) -> Option<String> {
        let mut spec = spec.clone();
        spec.container_edits.hooks.clear();
        spec.devices.iter_mut().for_each(|device| device.container_edits.hooks.clear());
        let of_kind = spec.kind == KIND;
        of_kind.then(|| upkeep::why_stale(&spec, self.host, &self.facts.driver, true)).flatten()
    }
}

/// The spec of a text, if it keeps the rules that engines enforce.
fn read(bytes: &[u8], format: Format) -> Result<Spec, String> {
    let spec = cdi_specs::parse(bytes, format).map_err(|error| error.to_string())?;
    let broken = cdi_specs::validate(&spec).into_iter().find(|violation| violation.enforced);
    broken.map_or(Ok(spec), |violation| Err(violation.to_string()))
}
