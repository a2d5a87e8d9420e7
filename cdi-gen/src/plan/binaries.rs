//! Programs, in `/usr/bin` of the container wherever the host keeps them.

use camino::Utf8Path;

use super::{Edit, PlannedEdit};
use crate::capability::Capabilities;
use crate::facts::binaries::BinaryFact;
use crate::inventory::DriverInventory;
use crate::problem::Problem;
use crate::tree::Located;

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
    let mut dirs: Vec<(&Located, Capabilities)> = Vec::new();
    for binary in binaries {
        let Some(dir) = &binary.store_loader else { continue };
        match dirs.iter_mut().find(|(known, _)| *known == dir) {
            Some((_, capability)) => *capability = *capability | binary.capability,
            None => dirs.push((dir, binary.capability)),
        }
    }
    for (dir, _) in &dirs {
        let message = format!("driver programs need the loader in {}, which comes along", dir.path);
        problems.push(Problem::note("store-loader", message));
    }
    dirs.into_iter()
        .map(|(dir, capability)| PlannedEdit {
            edit: Edit::Mount { host_path: dir.host_path.clone(), path: dir.path.clone() },
            capability,
            reason: "loader of the driver's programs".into(),
        })
        .collect()
}
