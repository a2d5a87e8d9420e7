//! Driver libraries, each under every name that programs ask for, and the loader's part of the work.

use camino::{Utf8Path, Utf8PathBuf};
use cdi_specs::HookOperation;

use super::{Edit, PlannedEdit, PlannedLibrary};
use crate::capability::Capabilities;
use crate::homes;
use crate::inventory::{DriverInventory, Library};

pub(super) fn plan(inventory: &DriverInventory) -> Vec<PlannedEdit> {
    let mut edits: Vec<PlannedEdit> = inventory.libraries.iter().map(|library| planned(inventory, library)).collect();
    edits.push(PlannedEdit {
        edit: Edit::Operation(HookOperation::CudaCompat { driver_version: inventory.version.to_string() }),
        capability: Capabilities::COMPUTE,
        reason: "an image's CUDA forward-compatibility libraries are used if they fit this driver".into(),
    });
    edits
}

fn planned(inventory: &DriverInventory, library: &Library) -> PlannedEdit {
    let dir = library.located.path.parent().map(homes::container_dir).unwrap_or_default();
    PlannedEdit {
        capability: library.capability,
        reason: format!("driver library {}", library.file_name),
        edit: Edit::Library(PlannedLibrary {
            host_path: library.located.host_path.clone(),
            full_paths: full_paths(inventory, library, &dir),
            dir,
            file_name: library.file_name.clone(),
            names: library.names.clone(),
            class: library.class,
            place: library.place,
        }),
    }
}

/// Paths by which a manifest names the library, outside its own directory. A 32-bit manifest names a 32-bit library.
fn full_paths(inventory: &DriverInventory, library: &Library, dir: &Utf8Path) -> Vec<Utf8PathBuf> {
    let is_name = |name: &str| library.file_name == name || library.names.iter().any(|known| known == name);
    let compat32 = |path: &str| ["i386", "i686", "/lib32/", "driver-32"].iter().any(|word| path.contains(word));
    let is_32 = library.capability.is_compat32();
    let manifests = inventory.configs.iter().filter_map(|config| Some((config, config.library_path.as_ref()?)));
    let mut paths: Vec<Utf8PathBuf> = manifests
        .filter(|(config, path)| is_32 == (compat32(config.located.path.as_str()) || compat32(path.as_str())))
        .map(|(_, path)| path.clone())
        .filter(|path| path.file_name().is_some_and(is_name) && path.parent() != Some(dir))
        .collect();
    paths.sort();
    paths.dedup();
    paths
}
