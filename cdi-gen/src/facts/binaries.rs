//! Driver programs, from known places: the driver's own `bin`, then those of every distribution.
//!
//! The caller's `PATH` has no say: a spec must not depend on who wrote it.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::dirs::Dirs;
use super::elf;
use super::left_out::LeftOut;
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
    /// The directory of the loader that it asks for, where that is in a package store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_loader: Option<Located>,
    /// Who wants it.
    pub capability: Capabilities,
}

/// Reads the programs of the driver whose libraries lie in `library_dirs`.
pub fn read(host: &Host, library_dirs: &[Utf8PathBuf], left_out: &mut LeftOut) -> Vec<BinaryFact> {
    let own = library_dirs.iter().filter_map(|dir| homes::prefix_of(dir)).map(|prefix| prefix.join("bin"));
    let mut dirs = Dirs::default();
    for dir in own.chain(homes::BINARY_DIRS.iter().map(Utf8PathBuf::from)) {
        if let Ok(real) = host.driver.resolve(&dir) {
            dirs.add(&real);
        }
    }
    let dirs = dirs.into_vec();
    BINARIES
        .iter()
        .filter_map(|row| {
            let (located, store_loader) =
                dirs.iter().find_map(|dir| read_one(&host.driver, &dir.join(row.name), left_out))?;
            Some(BinaryFact { name: row.name, located, store_loader, capability: row.capability })
        })
        .collect()
}

/// The program at a path: a regular ELF file, all links followed.
fn read_one(tree: &Tree, path: &Utf8Path, left_out: &mut LeftOut) -> Option<(Located, Option<Located>)> {
    let real = tree.resolve(path).ok()?;
    let located = tree.located(&real);
    let elf = elf::parse(&tree.open_file(&real).ok()?).ok().filter(|_| left_out.admits(tree, &located.host_path))?;
    let loader = elf.interpreter.and_then(|loader| store_loader(tree, loader.as_str().into(), left_out));
    Some((located, loader))
}

/// The loader's real directory, if the loader is an ELF file of a package store. The path is a claim of the program's.
fn store_loader(tree: &Tree, loader: &Utf8Path, left_out: &mut LeftOut) -> Option<Located> {
    let real = tree.resolve(loader).ok().filter(|real| loader.is_absolute() && homes::is_store(real))?;
    elf::parse(&tree.open_file(&real).ok()?).ok()?;
    let located = Located { path: loader.parent()?.to_owned(), ..tree.located(real.parent()?) };
    left_out.admits(tree, &located.host_path).then_some(located)
}
