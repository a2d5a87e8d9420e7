//! Filter: the edits of a spec for containers that want less of the driver than it brings. Pure.
//!
//! A spec serves every driver capability; which a container asks for is known when it starts. What is mounted is told by
//! THE TABLE from its name in the container, whoever wrote the spec; what nobody knows stays.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use cdi_specs::{ContainerEdits, Hook, HookOperation, Mount};
use glob::Pattern;

use crate::capability::Capabilities;
use crate::driver_files::{self, BINARIES, CONFIGS, LIBRARIES, WINE_DLLS};
use crate::facts::sockets;

/// The edits that containers with these capabilities need. `is_32_bit` looks at a library on the host.
#[must_use]
pub fn filter(edits: &ContainerEdits, wanted: Capabilities, is_32_bit: &dyn Fn(&Utf8Path) -> bool) -> ContainerEdits {
    let wanted = wanted.with_implied();
    let is_wanted = |mount: &&Mount| {
        let capability = capability_of(Utf8Path::new(&mount.container_path)).unwrap_or(Capabilities::ALWAYS);
        let is_library = driver_files::split_name(file_name(&mount.container_path)).is_some();
        let compat = is_library && !wanted.is_compat32() && is_32_bit(Utf8Path::new(&mount.host_path));
        let capability = if compat { capability | Capabilities::COMPAT32 } else { capability };
        capability.serves(wanted)
    };
    let (kept, dropped): (Vec<&Mount>, Vec<&Mount>) = edits.mounts.iter().partition(is_wanted);
    let dropped = Dropped::new(&kept, &dropped);
    ContainerEdits {
        mounts: kept.into_iter().cloned().collect(),
        hooks: edits.hooks.iter().filter_map(|hook| filter_hook(hook, wanted, &dropped)).collect(),
        ..edits.clone()
    }
}

/// Who wants the file at a path of the container; `None` if no row of the table says.
pub fn capability_of(path: &Utf8Path) -> Option<Capabilities> {
    let name = path.file_name()?;
    let of_library = || {
        let linked = || LIBRARIES.iter().find(|row| row.links.iter().any(|link| file_name(link) == name));
        let row = driver_files::split_name(name).and_then(|(stem, _)| driver_files::find(stem)).or_else(linked);
        row.map(|row| row.capability)
    };
    let of_program = || BINARIES.iter().find(|row| row.name == name).map(|row| row.capability);
    of_library().or_else(of_program).or_else(|| of_config(path)).or_else(|| sockets::capability_of(path))
}

fn of_config(path: &Utf8Path) -> Option<Capabilities> {
    let fits = |pattern: &str, text: &str| Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(text));
    let row = CONFIGS.iter().find(|row| {
        let below = path.strip_prefix(row.base).ok();
        below.is_some_and(|below| fits(&row.file.name.replace("{version}", "*"), below.as_str()))
    });
    let is_wine_dll = || fits(&format!("*/{}", WINE_DLLS.name), path.as_str());
    row.map(|row| row.file.capability).or_else(|| is_wine_dll().then_some(WINE_DLLS.capability))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What is no longer mounted.
struct Dropped {
    files: BTreeSet<Utf8PathBuf>,
    /// Directories of libraries that none is left in.
    dirs: BTreeSet<Utf8PathBuf>,
}

impl Dropped {
    fn new(kept: &[&Mount], dropped: &[&Mount]) -> Self {
        let path = |mount: &&Mount| Utf8PathBuf::from(&mount.container_path);
        let parents = |mounts: &[&Mount]| -> BTreeSet<Utf8PathBuf> {
            mounts.iter().filter_map(|mount| path(mount).parent().map(Utf8Path::to_owned)).collect()
        };
        let dirs = &parents(dropped) - &parents(kept);
        Self { files: dropped.iter().map(path).collect(), dirs }
    }

    /// Whether a link leads to a file that is gone.
    fn has_target(&self, target: &str, link: &str) -> bool {
        let from = Utf8Path::new(link).parent().unwrap_or(Utf8Path::new("/"));
        self.files.contains(&normal(&from.join(target)))
    }
}

/// A path without `.` and `..`; our own links hold no other links on the way.
fn normal(path: &Utf8Path) -> Utf8PathBuf {
    let mut normal = Utf8PathBuf::from("/");
    for name in path.as_str().split('/') {
        match name {
            "" | "." => {}
            ".." => _ = normal.pop(),
            name => normal.push(name),
        }
    }
    normal
}

/// Our own hook, told less; `None` if nothing is left for it to do. Another's stays as it is.
fn filter_hook(hook: &Hook, wanted: Capabilities, dropped: &Dropped) -> Option<Hook> {
    let known = cdi_specs::from_args(&hook.args).ok().filter(|parsed| parsed.unknown.is_empty());
    let Some(parsed) = known else { return Some(hook.clone()) };
    let is_wanted = |operation: &HookOperation| match operation {
        HookOperation::Symlink { target, link } => !dropped.has_target(target, link),
        HookOperation::LibraryDir(dir) => !dropped.dirs.contains(Utf8Path::new(dir)),
        HookOperation::CudaCompat { .. } => Capabilities::COMPUTE.serves(wanted),
        HookOperation::ApplicationProfile => Capabilities::GRAPHICS.serves(wanted),
        HookOperation::FreezeDeviceNodes | HookOperation::HideGpus | HookOperation::Chmod { .. } => true,
    };
    let mut parsed = parsed;
    parsed.operations.retain(is_wanted);
    (!parsed.operations.is_empty()).then(|| Hook { args: parsed.to_args(), ..hook.clone() })
}

#[cfg(test)]
mod tests {
    use cdi_specs::ParsedArgs;

    use super::*;

    #[test]
    fn files_by_their_names_in_the_container() {
        let cases = [
            ("/usr/lib64/libcuda.so.580.159.04", Some(Capabilities::COMPUTE)),
            ("/usr/lib/x86_64-linux-gnu/libcuda.so", Some(Capabilities::COMPUTE)),
            ("/usr/lib64/gbm/nvidia-drm_gbm.so", Some(Capabilities::COMPUTE | Capabilities::GRAPHICS)),
            ("/usr/lib64/libGLX_indirect.so.0", Some(Capabilities::GRAPHICS)),
            ("/usr/lib64/vdpau/libvdpau_nvidia.so.1", Some(Capabilities::VIDEO)),
            ("/usr/bin/nvidia-smi", Some(Capabilities::UTILITY)),
            ("/etc/vulkan/icd.d/nvidia_icd.json", Some(Capabilities::GRAPHICS)),
            ("/usr/share/nvidia/nvidia-application-profiles-580.1-rc", Some(Capabilities::GRAPHICS)),
            ("/usr/share/nvidia/nvoptix.bin", Some(Capabilities::GRAPHICS)),
            ("/usr/lib64/nvidia/wine/nvngx.dll", Some(Capabilities::NGX)),
            ("/run/nvidia-persistenced/socket", Some(Capabilities::UTILITY)),
            ("/lib/firmware/nvidia/580.159.04/gsp_ga10x.bin", None),
            ("/usr/lib64/libnvidia-new.so.580.159.04", None),
            ("/etc/other", None),
            ("/", None),
        ];
        for (path, expected) in cases {
            assert_eq!(capability_of(path.into()), expected, "{path}");
        }
    }

    #[test]
    fn the_hook_does_what_is_left() {
        let mount = |path: &str| Mount { host_path: path.into(), container_path: path.into(), ..Mount::default() };
        let link = |target: &str, link: &str| HookOperation::Symlink { target: target.into(), link: link.into() };
        let operations = [
            link("libcuda.so.580.1", "/n/lib/libcuda.so.1"),
            link("../libnvidia-allocator.so.580.1", "/n/lib/gbm/nvidia-drm_gbm.so"),
            link("/n/lib/libGLX_nvidia.so.580.1", "/usr/lib64/libGLX_nvidia.so.0"),
            HookOperation::CudaCompat { driver_version: "580.1".into() },
            HookOperation::FreezeDeviceNodes,
            HookOperation::ApplicationProfile,
            HookOperation::LibraryDir("/n/lib".into()),
            HookOperation::LibraryDir("/n/lib32".into()),
        ];
        let hook = |operations: &[HookOperation]| Hook { args: cdi_specs::to_args(operations), ..Hook::default() };
        let said = ParsedArgs { operations: operations.to_vec(), require_seal: true, ..ParsedArgs::default() };
        let sealed = ContainerEdits {
            hooks: vec![Hook { args: said.to_args(), ..Hook::default() }],
            ..ContainerEdits::default()
        };
        let left = filter(&sealed, Capabilities::UTILITY, &|_| false);
        let left = left.hooks.first().map(|hook| cdi_specs::from_args(&hook.args).unwrap().require_seal);
        assert_eq!(left, Some(true), "what restricts stays");
        let foreign = Hook { args: vec!["nvidia-cdi-hook".into(), "update-ldcache".into()], ..Hook::default() };
        let paths = ["/n/lib/libcuda.so.580.1", "/n/lib/libnvidia-allocator.so.580.1", "/n/lib/libGLX_nvidia.so.580.1"];
        let mounts = paths.into_iter().chain(["/n/lib32/libcuda.so.580.1"]).map(mount).collect();
        let edits =
            ContainerEdits { mounts, hooks: vec![hook(&operations), foreign.clone()], ..ContainerEdits::default() };
        let is_32_bit = |path: &Utf8Path| path.starts_with("/n/lib32");
        let of = |wanted| filter(&edits, wanted, &is_32_bit);

        assert_eq!(filter(&edits, Capabilities::ALL, &is_32_bit), edits);
        let [first, second, third, compat, freeze, profile, dir, _] = operations;
        let compute = of(Capabilities::COMPUTE);
        assert_eq!(compute.mounts.len(), 2);
        let left = [first, second.clone(), compat, freeze.clone(), dir.clone()];
        assert_eq!(compute.hooks, [hook(&left), foreign.clone()]);
        let graphics = of(Capabilities::GRAPHICS);
        assert_eq!(graphics.hooks, [hook(&[second, third, freeze.clone(), profile, dir]), foreign.clone()]);
        let utility = of(Capabilities::UTILITY);
        assert_eq!((utility.mounts.len(), &utility.hooks), (0, &vec![hook(&[freeze]), foreign]));
    }
}
