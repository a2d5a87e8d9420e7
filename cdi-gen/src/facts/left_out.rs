//! Driver files that are left out, since others than root may change them.
//!
//! A spec of root's has a container engine give files of the host to containers that run as anybody, libraries and
//! programs among them. Whoever may change one of these files, or the directory that it lies in, would run in them all.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use crate::problem::{Problem, some_of};
use crate::tree::Tree;

/// Host paths, by who may change them.
#[derive(Debug, Default)]
pub struct LeftOut {
    paths: BTreeMap<String, Vec<Utf8PathBuf>>,
}

impl LeftOut {
    /// Whether a file or directory of a host may be taken; what may not is remembered.
    pub fn admits(&mut self, tree: &Tree, host_path: &Utf8Path) -> bool {
        tree.who_may_change(host_path).map(|why| self.add(host_path, why)).is_none()
    }

    /// Remembers a host path that is not taken.
    pub fn add(&mut self, host_path: &Utf8Path, why: String) {
        let paths = self.paths.entry(why).or_default();
        if !paths.iter().any(|known| known == host_path) {
            paths.push(host_path.to_owned());
        }
    }

    /// A line for each reason.
    pub fn problems(self) -> impl Iterator<Item = Problem> {
        self.paths.into_iter().map(|(why, paths)| {
            let message = format!("left out, since root must be able to rely on it: {} ({why})", some_of(&paths));
            Problem::warning("untrusted", message)
                .hint("give it to root with chown and chmod go-w, or --insecure-driver-files")
        })
    }
}
