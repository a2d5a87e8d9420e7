//! Directories, each once, in the order of first sight: what search lists are made of.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

/// A list that a directory enters once.
#[derive(Debug, Default)]
pub struct Dirs {
    list: Vec<Utf8PathBuf>,
    seen: BTreeSet<Utf8PathBuf>,
}

impl Dirs {
    /// Appends a directory that is not in the list yet.
    pub fn add(&mut self, dir: &Utf8Path) {
        if self.seen.insert(dir.to_owned()) {
            self.list.push(dir.to_owned());
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The list.
    pub fn into_vec(self) -> Vec<Utf8PathBuf> {
        self.list
    }
}

impl<'a> FromIterator<&'a Utf8Path> for Dirs {
    fn from_iter<I: IntoIterator<Item = &'a Utf8Path>>(dirs: I) -> Self {
        let mut list = Self::default();
        dirs.into_iter().for_each(|dir| list.add(dir));
        list
    }
}
