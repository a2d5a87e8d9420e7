//! Driver programs, from known places: the driver's own `bin`, then those of every distribution.
//!
//! The caller's `PATH` has no say: a spec must not depend on who wrote it.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::elf;
use crate::capability::Capabilities;
use crate::driver_files::BINARIES;
use crate::homes;
use crate::host::Host;
use crate::tree::{Located, Tree};

/// A program that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BinaryFact {
    /// Its name.
    pub name: &'static str,
    /// The real file.
    #[serde(flatten)]
    pub located: Located,
    /// The loader that it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
    /// Who wants it.
    pub capability: Capabilities,
}

/// Reads the programs of the driver whose libraries lie in `library_dirs`.
pub fn read(host: &Host, library_dirs: &[Utf8PathBuf]) -> Vec<BinaryFact> {
    let own = library_dirs.iter().filter_map(|dir| homes::prefix_of(dir)).map(|prefix| prefix.join("bin"));
    let mut dirs: Vec<Utf8PathBuf> = Vec::new();
    for dir in own.chain(homes::BINARY_DIRS.iter().map(Utf8PathBuf::from)) {
        if let Some(real) = host.driver.resolve(&dir).ok().filter(|real| !dirs.contains(real)) {
            dirs.push(real);
        }
    }
    BINARIES
        .iter()
        .filter_map(|row| {
            let (located, interpreter) = dirs.iter().find_map(|dir| read_one(&host.driver, &dir.join(row.name)))?;
            Some(BinaryFact { name: row.name, located, interpreter, capability: row.capability })
        })
        .collect()
}

/// The program at a path: a regular ELF file, all links followed.
fn read_one(tree: &Tree, path: &Utf8Path) -> Option<(Located, Option<String>)> {
    let real = tree.resolve(path).ok()?;
    let elf = elf::parse(&tree.open_file(&real).ok()?).ok()?;
    Some((tree.located(&real), elf.interpreter))
}
