//! CUDA forward compatibility: the image's own libcuda, where it may drive the host's older kernel module. I/O.
//!
//! Images bring newer user-mode drivers in `/usr/local/cuda/compat`. One fits if a note in it lists the host's driver
//! branch and it is newer than the host's driver; without the note, if it is of a newer branch.

use std::ffi::OsStr;
use std::io;

use cdi_gen::facts::elf;
use cdi_gen::version::DriverVersion;
use serde_json::Value;

use super::budget;
use super::paths::{COMPAT, HookPath};
use super::root::Root;

const LIBRARY: &str = "libcuda.so.";
const OWNER: &str = "NVIDIA Corporation";

/// The directory that the loader must search first; `None` if the image brings none, or none that fits.
///
/// # Errors
/// The directory cannot be read.
pub fn dir(root: &Root, driver_version: &str) -> io::Result<Option<String>> {
    let version = |name: &OsStr| name.to_str()?.strip_prefix(LIBRARY)?.parse::<DriverVersion>().ok();
    let names = match root.list(&COMPAT.path(), |name| version(name).is_some()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        names => names?,
    };
    // Of several nobody knows which one is meant.
    let [name] = names.as_slice() else { return Ok(None) };
    let Some(version) = version(name) else { return Ok(None) };
    let notes = notes(root, &COMPAT.join(name)).unwrap_or_default();
    let branches = notes.iter().find_map(|note| branches(note));
    let fits = driver_version.parse().is_ok_and(|host| fits(&host, &version, branches.as_deref()));
    Ok(fits.then(|| COMPAT.as_str().to_owned()))
}

/// What the notes of a library say; one that is a link is none that an image of NVIDIA's has.
fn notes(root: &Root, path: &HookPath<'_>) -> Option<Vec<Vec<u8>>> {
    let found = root.place(path).ok()?.open().ok()?;
    let seen = root.look(&found).ok()?;
    root.budget().part(budget::NOTES, || elf::notes(&root.open_library(&found, &seen).ok()?, OWNER).ok())
}

/// The driver branches that a note lists: `{"Format": 1, "CUDA Version": "12.9", "Driver": [535, …]}`.
fn branches(note: &[u8]) -> Option<Vec<u64>> {
    let text = note.split(|byte| *byte == 0).next()?;
    let note: Value = serde_json::from_slice(text).ok()?;
    let listed = note.get("Driver")?.as_array()?;
    Some(listed.iter().filter_map(Value::as_u64).collect())
}

fn fits(host: &DriverVersion, compat: &DriverVersion, branches: Option<&[u64]>) -> bool {
    match branches {
        Some(branches) => branch(host).is_some_and(|branch| branches.contains(&branch)) && compat > host,
        None => branch(compat) > branch(host),
    }
}

/// The number before the first dot.
fn branch(version: &DriverVersion) -> Option<u64> {
    version.as_str().split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits() {
        let note = br#"{"Format":1,"CUDA Version":"12.9","Driver":[535,550,570,575],"Device":[1]}"#;
        let listed = branches(note).unwrap();
        let cases = [
            ("570.211.01", "575.57.08", Some(&listed), true),
            ("575.10.10", "575.57.08", Some(&listed), true),
            ("575.57.08", "575.57.08", Some(&listed), false),
            ("575.99.99", "575.57.08", Some(&listed), false),
            ("590.44.01", "575.57.08", Some(&listed), false),
            ("560.10.10", "575.57.08", Some(&listed), false),
            ("222.55.66", "333.88.99", None, true),
            ("222.55.66", "111.88.99", None, false),
            ("222.55.66", "222.88.99", None, false),
            ("99.55.66", "222.88.99", None, true),
        ];
        for (host, compat, branches, expected) in cases {
            let found = fits(&host.parse().unwrap(), &compat.parse().unwrap(), branches.map(Vec::as_slice));
            assert_eq!(found, expected, "{host} {compat}");
        }
        assert_eq!(branches(b"{\"Format\":1}"), None);
        assert_eq!(branches(b"{"), None);
        assert_eq!(branches(b"{\"Driver\":[535]}\0\0"), Some(vec![535]));
    }
}
