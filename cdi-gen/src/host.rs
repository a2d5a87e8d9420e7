//! Host: the three trees that a driver is spread over.
//!
//! The *system* tree holds `/proc` and `/sys`, the *driver* tree the driver's files, the *dev* tree the device nodes.
//! On most hosts all three are `/`. A driver container keeps its files below `/run/nvidia/driver`, with or without
//! device nodes of its own.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::tree::{Kind, Located, Tree};

/// The three trees.
#[derive(Clone, Debug)]
pub struct Host {
    /// `/proc`, `/sys`, and the names that container engines will use (`hostPath`).
    pub system: Tree,
    /// The driver's files.
    pub driver: Tree,
    /// Device nodes: the trees that hold `dev/`, in the order in which a node is looked for. A driver container may
    /// have made some nodes and left others to its host.
    pub dev: Vec<Tree>,
}

/// A root that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {name} {path}")]
pub struct RootError {
    /// Which root: `driver root`, `dev root`.
    pub name: &'static str,
    /// The path as it was given.
    pub path: Utf8PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Host {
    /// The host in `system`, whose driver lies below `driver_root` and whose device nodes below `dev_root`, both paths
    /// of the system tree. Without `dev_root` a node is taken from the driver root, else from `/`.
    ///
    /// # Errors
    /// A root does not exist or is not a directory.
    pub fn new(system: Tree, driver_root: &Utf8Path, dev_root: Option<&Utf8Path>) -> Result<Self, RootError> {
        let driver = subtree(&system, "driver root", driver_root)?;
        let dev = match dev_root {
            Some(root) => vec![subtree(&system, "dev root", root)?],
            None if driver.prefix() == system.prefix() => vec![system.clone()],
            None => vec![driver.clone(), system.clone()],
        };
        Ok(Self { system, driver, dev })
    }

    /// A path looked for in the driver tree first, then in the system tree: what a driver container may have left to
    /// its host.
    pub fn find(&self, path: &Utf8Path, wanted: impl Fn(Kind) -> bool) -> Option<Located> {
        self.driver.find(path, &wanted).or_else(|| self.system.find(path, wanted))
    }
}

fn subtree(system: &Tree, name: &'static str, path: &Utf8Path) -> Result<Tree, RootError> {
    system.subtree(path).map_err(|source| RootError { name, path: path.to_owned(), source })
}
