//! Lowering: one plan, two specs. With our hook, or without any. Pure.
//!
//! With a hook a library is mounted once, in the driver's own directory; the hook makes its other names and tells the
//! loader. Without one each library is mounted under each of its names, in directories that every loader searches: an
//! image finds the driver whatever distribution it is made from, and no process runs at container start.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use cdi_specs::{ContainerEdits, Device, DeviceNode, Hook, HookOperation, Mount, ParsedArgs, Spec};

use crate::driver_files::Place;
use crate::facts::elf::{Class, Machine};
use crate::homes;
use crate::plan::{Edit, EditPlan, PlannedEdit, PlannedLibrary, PlannedNode};

/// Options of a bind mount that a container may read (mount(8)).
const READ_ONLY: [&str; 5] = ["ro", "nosuid", "nodev", "rbind", "rprivate"];
/// Options of a bind mount of an IPC endpoint, which is written to.
const ENDPOINT: [&str; 5] = ["nosuid", "nodev", "rbind", "rprivate", "noexec"];

/// Whether containers run our hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hooks {
    /// They do.
    With {
        /// The hook binary, a path that the container engine can open.
        path: Utf8PathBuf,
        /// Operations left out, by the names of [`hook_name`].
        disabled: BTreeSet<String>,
    },
    /// They run none.
    None,
}

/// What the caller may choose.
#[derive(Clone, Debug)]
pub struct LoweringOptions {
    /// `vendor/class` of the spec.
    pub kind: String,
    /// With or without hook.
    pub hooks: Hooks,
    /// The container's library directories, instead of the usual ones.
    pub library_dirs: Vec<Utf8PathBuf>,
    /// Whether group-restricted nodes add their group to the container's process. It takes CDI 0.7.0, which many
    /// distributions' engines cannot read (podman before 5.1, docker before 26.1, containerd before 1.7.16).
    pub additional_gids: bool,
    /// Whether the hook is to do nothing where the kernel cannot seal it; the container then does not start.
    pub require_seal: bool,
}

impl Default for LoweringOptions {
    fn default() -> Self {
        Self {
            kind: "nvidia.com/gpu".into(),
            hooks: Hooks::None,
            library_dirs: Vec::new(),
            additional_gids: false,
            require_seal: false,
        }
    }
}

/// The name of an operation for `--disable-hook`, as the NVIDIA toolkit calls it.
pub fn hook_name(operation: &HookOperation) -> &'static str {
    match operation {
        HookOperation::Symlink { .. } => "create-symlinks",
        HookOperation::LibraryDir(_) => "update-ldcache",
        HookOperation::CudaCompat { .. } => "enable-cuda-compat",
        HookOperation::FreezeDeviceNodes => "disable-device-node-modification",
        HookOperation::ApplicationProfile => "update-application-profile",
        HookOperation::HideGpus => "hide-gpus",
        HookOperation::Chmod { .. } => "chmod",
    }
}

/// Lowers a plan to the spec of the least CDI version that says it.
pub fn lower(plan: &EditPlan, options: &LoweringOptions) -> Spec {
    let edits = |planned: &[PlannedEdit]| Lowering::new(plan.machine, options).lower(planned);
    let devices = plan.devices.iter().flat_map(|device| {
        let container_edits = edits(&device.edits);
        let named = |name: &String| Device {
            name: name.clone(),
            container_edits: container_edits.clone(),
            annotations: BTreeMap::new(),
        };
        device.names.iter().map(named).collect::<Vec<_>>()
    });
    let mut devices: Vec<Device> = devices.collect();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    let mut spec = Spec {
        cdi_version: String::new(),
        kind: options.kind.clone(),
        annotations: BTreeMap::new(),
        devices,
        container_edits: edits(&plan.common),
    };
    spec.cdi_version = spec.required_version().to_string();
    spec
}

/// Edits of one container, gathered by the path that they occupy: the first to come stays.
struct Lowering<'a> {
    options: &'a LoweringOptions,
    /// What programs of the host are built for.
    machine: Machine,
    env: Vec<String>,
    nodes: BTreeMap<SortKey, DeviceNode>,
    mounts: BTreeMap<SortKey, Mount>,
    operations: Vec<HookOperation>,
    /// Links: those of one directory together, of one path the last.
    links: BTreeMap<(SortKey, Utf8PathBuf), HookOperation>,
    library_dirs: BTreeSet<Utf8PathBuf>,
}

/// Parents before children, then by name.
type SortKey = (usize, String);

fn sort_key(path: &Utf8Path) -> SortKey {
    (path.as_str().matches('/').count(), path.as_str().to_owned())
}

impl<'a> Lowering<'a> {
    fn new(machine: Machine, options: &'a LoweringOptions) -> Self {
        Self {
            options,
            machine,
            env: Vec::new(),
            nodes: BTreeMap::new(),
            mounts: BTreeMap::new(),
            operations: Vec::new(),
            links: BTreeMap::new(),
            library_dirs: BTreeSet::new(),
        }
    }

    fn lower(mut self, planned: &[PlannedEdit]) -> ContainerEdits {
        planned.iter().for_each(|planned| self.edit(&planned.edit));
        let gids = if self.options.additional_gids { EditPlan::restricting_gids(planned) } else { BTreeSet::new() };
        let hooks = self.hook().into_iter().collect();
        ContainerEdits {
            env: self.env,
            device_nodes: self.nodes.into_values().collect(),
            mounts: self.mounts.into_values().collect(),
            hooks,
            additional_gids: gids.into_iter().collect(),
            ..ContainerEdits::default()
        }
    }

    fn edit(&mut self, edit: &Edit) {
        match edit {
            Edit::Env { name, value } => self.env.push(format!("{name}={value}")),
            Edit::Node(node) => self.node(node),
            Edit::Mount { host_path, path } => self.mount(host_path, path, &READ_ONLY),
            Edit::Socket { host_path, path } => self.mount(host_path, path, &ENDPOINT),
            Edit::Library(library) => match self.options.hooks {
                Hooks::With { .. } => self.library_with_hook(library),
                Hooks::None => self.library_without_hook(library),
            },
            Edit::Operation(operation) => self.operations.push(operation.clone()),
        }
    }

    fn node(&mut self, planned: &PlannedNode) {
        let node = DeviceNode {
            path: planned.path.to_string(),
            host_path: (planned.host_path != planned.path).then(|| planned.host_path.to_string()),
            major: planned.node.major.into(),
            minor: planned.node.minor.into(),
            file_mode: Some(planned.node.mode),
            // Not `m`: a container has no nodes to make.
            permissions: Some("rw".into()),
            gid: (planned.node.gid != 0).then_some(planned.node.gid),
            ..DeviceNode::default()
        };
        self.nodes.entry(sort_key(&planned.path)).or_insert(node);
    }

    fn mount(&mut self, host_path: &Utf8Path, path: &Utf8Path, options: &[&str]) {
        let mount = Mount {
            host_path: host_path.to_string(),
            container_path: path.to_string(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..Mount::default()
        };
        self.mounts.entry(sort_key(path)).or_insert(mount);
    }

    /// One mount; the hook makes the names, and those that programs look for elsewhere.
    fn library_with_hook(&mut self, library: &PlannedLibrary) {
        let dirs = self.chosen_dirs(library).unwrap_or_else(|| vec![library.dir.clone()]);
        for dir in &dirs {
            let file = dir.join(&library.file_name);
            self.mount(&library.host_path, &file, &READ_ONLY);
            for name in &library.names {
                let depth = name.matches('/').count();
                self.symlink(format!("{}{}", "../".repeat(depth), library.file_name), dir.join(name));
            }
            for path in elsewhere(library, &self.usual_dirs(library.class)) {
                if path != file && !library.names.iter().any(|name| dir.join(name) == path) {
                    self.symlink(file.to_string(), path);
                }
            }
            if library.place != Place::Xorg {
                self.library_dirs.insert(dir.clone());
            }
        }
    }

    fn symlink(&mut self, target: String, link: Utf8PathBuf) {
        let dir = link.parent().map(sort_key).unwrap_or_default();
        let operation = HookOperation::Symlink { target, link: link.to_string() };
        self.links.insert((dir, link), operation);
    }

    /// A mount for each name in each directory.
    fn library_without_hook(&mut self, library: &PlannedLibrary) {
        let dirs = match library.place {
            Place::Xorg => vec![library.dir.clone()],
            _ => self.chosen_dirs(library).unwrap_or_else(|| self.usual_dirs(library.class)),
        };
        // Programs of a package store look for libraries in the store only.
        let store = homes::is_store(&library.dir).then(|| library.dir.clone());
        for dir in
            dirs.into_iter().map(|dir| if library.place == Place::Vdpau { dir.join("vdpau") } else { dir }).chain(store)
        {
            for name in std::iter::once(&library.file_name).chain(&library.names) {
                self.mount(&library.host_path, &dir.join(name), &READ_ONLY);
            }
        }
        for path in library.full_paths.iter().cloned().chain(xorg_paths(library)) {
            self.mount(&library.host_path, &path, &READ_ONLY);
        }
    }

    /// The caller's directories, which are meant for libraries of the host's own word size.
    fn chosen_dirs(&self, library: &PlannedLibrary) -> Option<Vec<Utf8PathBuf>> {
        let chosen = !self.options.library_dirs.is_empty() && library.class == self.machine.class();
        (chosen && library.place != Place::Xorg).then(|| self.options.library_dirs.clone())
    }

    /// Directories that loaders search without being told: of Debian and its kind, and of Fedora, SUSE and Arch.
    fn usual_dirs(&self, class: Class) -> Vec<Utf8PathBuf> {
        let machine = if class == Class::Elf64 { Some(self.machine) } else { self.machine.compat32() };
        let plain = if class == Class::Elf64 { "/usr/lib64" } else { "/usr/lib" };
        let multiarch = machine.and_then(Machine::triplet).map(|triplet| Utf8Path::new("/usr/lib").join(triplet));
        multiarch.into_iter().chain([Utf8PathBuf::from(plain)]).collect()
    }

    /// The one hook of the container, if it has work.
    fn hook(&self) -> Option<Hook> {
        let Hooks::With { path, disabled } = &self.options.hooks else { return None };
        let dirs = self.library_dirs.iter().map(|dir| HookOperation::LibraryDir(dir.to_string()));
        let enabled = |operation: &HookOperation| !disabled.contains(hook_name(operation));
        let operations = self.operations.iter().chain(self.links.values()).cloned().chain(dirs);
        let operations: Vec<HookOperation> = operations.filter(enabled).collect();
        let said = ParsedArgs { operations, require_seal: self.options.require_seal, ..ParsedArgs::default() };
        (!said.operations.is_empty()).then(|| Hook::of_args(path.as_str(), said.to_args()))
    }
}

/// Full paths at which programs look for a library, wherever the loader's directories are: manifests name some,
/// libvdpau and libgbm have module directories of their own.
fn elsewhere(library: &PlannedLibrary, usual: &[Utf8PathBuf]) -> Vec<Utf8PathBuf> {
    let mut paths = library.full_paths.clone();
    paths.extend(xorg_paths(library));
    for dir in usual {
        if library.place == Place::Vdpau {
            // libvdpau asks for `libvdpau_NAME.so.1`.
            let module = library.names.iter().filter(|name| name.ends_with(".so.1"));
            paths.extend(module.map(|name| dir.join("vdpau").join(name)));
        }
        paths.extend(library.names.iter().filter(|name| name.contains('/')).map(|name| dir.join(name)));
    }
    paths
}

/// Where X servers look for modules: of Debian, Ubuntu and Arch, and of Fedora and SUSE.
fn xorg_paths(library: &PlannedLibrary) -> Vec<Utf8PathBuf> {
    if library.place != Place::Xorg {
        return Vec::new();
    }
    let kind = if library.file_name.starts_with("nvidia_drv") { "drivers" } else { "extensions" };
    let dirs = ["/usr/lib/xorg/modules", "/usr/lib64/xorg/modules"].map(|dir| Utf8Path::new(dir).join(kind));
    let names = || std::iter::once(&library.file_name).chain(&library.names);
    dirs.iter().flat_map(|dir| names().map(|name| dir.join(name))).collect()
}
