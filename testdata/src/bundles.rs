//! Bundles: `bundles/<case>/config.json`, as real container engines wrote them. I/O.
#![expect(clippy::disallowed_methods, reason = "reads the fixtures")]

use std::fs;
use std::path::Path;

/// A `config.json` of a real engine.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The folder's name: engine, version, and what is special.
    pub name: String,
    /// The file, byte for byte.
    pub config: Vec<u8>,
}

/// All bundles, sorted by name.
///
/// # Panics
/// The fixtures cannot be read.
pub fn bundles() -> Vec<Bundle> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles");
    let entries = fs::read_dir(&dir).expect("testdata/bundles can be listed");
    let dirs = entries.map(|entry| entry.expect("testdata/bundles can be listed").path()).filter(|path| path.is_dir());
    let mut bundles: Vec<Bundle> = dirs.map(|dir| read(&dir)).collect();
    bundles.sort_by(|a, b| a.name.cmp(&b.name));
    bundles
}

/// The bundle of a name.
///
/// # Panics
/// There is none.
pub fn bundle(name: &str) -> Bundle {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles").join(name))
}

/// The CDI spec that the engines injected themselves in the `-cdi`, `-field` and `-annotation` cases.
pub const BUNDLES_CDI: &str = include_str!("../bundles/cdi.yaml");

fn read(dir: &Path) -> Bundle {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Bundle { name, config: fs::read(dir.join("config.json")).expect("a bundle has a config.json") }
}
