//! Programs, in `/usr/bin` of the container wherever the host keeps them.

use camino::{Utf8Path, Utf8PathBuf};

use super::{Edit, PlannedEdit};
use crate::facts::binaries::BinaryFact;
use crate::homes;
use crate::inventory::DriverInventory;
use crate::problem::Problem;

pub(super) fn plan(inventory: &DriverInventory, problems: &mut Vec<Problem>) -> Vec<PlannedEdit> {
    let mut edits: Vec<PlannedEdit> = inventory.binaries.iter().map(program).collect();
    edits.extend(store_loaders(&inventory.binaries, problems));
    edits
}

fn program(binary: &BinaryFact) -> PlannedEdit {
    PlannedEdit {
        edit: Edit::Mount {
            host_path: binary.located.host_path.clone(),
            path: Utf8Path::new("/usr/bin").join(binary.name),
        },
        capability: binary.capability,
        reason: format!("driver program, found at {}", binary.located.path),
    }
}

/// A program of NixOS or Guix asks for a loader that no image has; the loader's directory comes along at its own path,
/// where nothing else looks.
fn store_loaders(binaries: &[BinaryFact], problems: &mut Vec<Problem>) -> Vec<PlannedEdit> {
    let mut dirs: Vec<(Utf8PathBuf, &BinaryFact)> = Vec::new();
    for binary in binaries {
        let Some(loader) = binary.interpreter.as_deref().map(Utf8Path::new) else { continue };
        let Some(dir) = loader.parent().filter(|_| homes::is_store(loader)) else { continue };
        if !dirs.iter().any(|(known, _)| known == dir) {
            dirs.push((dir.to_owned(), binary));
        }
    }
    dirs.into_iter()
        .map(|(dir, binary)| {
            let message = format!("driver programs need the loader in {dir}, which comes along");
            problems.push(Problem::note("store-loader", message));
            PlannedEdit {
                edit: Edit::Mount { host_path: dir.clone(), path: dir },
                capability: binary.capability,
                reason: "loader of the driver's programs".into(),
            }
        })
        .collect()
}
