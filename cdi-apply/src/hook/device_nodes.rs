//! Device nodes: the driver is told to make none in the container. I/O.
//!
//! A root process that loads libnvidia-ml would otherwise make `/dev/nvidia1` for itself: `/proc/driver/nvidia/params`
//! says whether the library may (`ModifyDeviceFiles`). Over that file of the container a copy is mounted that says no.

use std::io;

use rustix::fs::{PROC_SUPER_MAGIC, RawMode};

use super::mount_file::Target;
use super::paths::PARAMS;
use super::root::Root;

const ALLOWED: &str = "ModifyDeviceFiles: 1";
const DENIED: &str = "ModifyDeviceFiles: 0";
const MAX_BYTES: usize = 64 << 10;
const MODE: RawMode = 0o444;

/// Mounts the copy, where there is a file that it is needed for.
///
/// # Errors
/// The mounts are refused, as they are without CAP_SYS_ADMIN.
pub fn freeze(root: &Root) -> io::Result<()> {
    let target = match Target::find(root, &PARAMS.path()) {
        Err(error) if root.is_absent(&PARAMS.path(), &error) => return Ok(()),
        target => target?,
    };
    // An engine that masks it has mounted something else there; an image may have laid a file in its place.
    if rustix::fs::fstatfs(&target.file)?.f_type != PROC_SUPER_MAGIC {
        return Ok(());
    }
    // What is mounted over it everybody may read, as they may the driver's.
    if !root.look(&target.file)?.others_read() {
        return Err(io::Error::other("not everybody may read it: it is not the driver's"));
    }
    let held = root.read_found(&target.file, MAX_BYTES)?;
    let denied = denied(&String::from_utf8_lossy(&held));
    denied.map_or(Ok(()), |text| target.cover(&|out| out.write_all(text.as_bytes()), MODE))
}

/// The parameters with the permission taken back; `None` if there is none to take.
fn denied(params: &str) -> Option<String> {
    params.lines().any(|line| line == ALLOWED).then(|| {
        let lines = params.lines().map(|line| if line == ALLOWED { DENIED } else { line });
        lines.fold(String::new(), |text, line| text + line + "\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_line_is_changed() {
        for text in ["", "Other: 1\n", "ModifyDeviceFiles: 0\n", " ModifyDeviceFiles: 1\n", "ModifyDeviceFiles: 11\n"] {
            assert_eq!(denied(text), None, "{text}");
        }
        let text = "A: 1\nModifyDeviceFiles: 1\nB: \"\"";
        assert_eq!(denied(text).as_deref(), Some("A: 1\nModifyDeviceFiles: 0\nB: \"\"\n"));
    }

    #[test]
    fn a_root_without_a_driver_needs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), super::super::root::Resolver::Kernel).unwrap();
        freeze(&root).unwrap();
        assert!(rustix::fs::statat(rustix::fs::CWD, dir.path().join("proc"), rustix::fs::AtFlags::empty()).is_err());
    }
}
