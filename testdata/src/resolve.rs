//! Where a path of a host tree leads: links followed inside the tree, as a chroot would.

use std::collections::{HashMap, VecDeque};

use crate::elf::{Class, Machine};
use crate::host_tree::{Entry, HostTree};

/// As many as the kernel follows.
const MAX_LINKS: u32 = 40;

/// The links and ELF files below one root of a host tree, by the path that they have there.
pub(crate) struct Names<'a> {
    links: HashMap<&'a str, &'a str>,
    elves: HashMap<&'a str, (Class, Machine)>,
}

impl<'a> Names<'a> {
    /// What stands below `root`, which is empty for the host's own.
    pub(crate) fn below(tree: &'a HostTree, root: &str) -> Self {
        let mut names = Self { links: HashMap::new(), elves: HashMap::new() };
        for entry in tree.entries() {
            let path = entry.path().strip_prefix(root);
            match (entry, path) {
                (Entry::Link { target, .. }, Some(path)) => drop(names.links.insert(path, target)),
                (Entry::Elf { class, machine, .. }, Some(path)) => drop(names.elves.insert(path, (*class, *machine))),
                _ => (),
            }
        }
        names
    }

    /// The kind of ELF file that a path leads to.
    pub(crate) fn elf(&self, path: &str) -> Option<(Class, Machine)> {
        self.elves.get(self.resolve(path)?.as_str()).copied()
    }

    fn resolve(&self, path: &str) -> Option<String> {
        let mut todo: VecDeque<&str> = path.split('/').collect();
        let mut done = String::new();
        let mut followed = 0;
        while let Some(part) = todo.pop_front() {
            match part {
                "" | "." => continue,
                ".." => done.truncate(done.rfind('/').unwrap_or(0)),
                name => done = format!("{done}/{name}"),
            }
            let Some(target) = self.links.get(done.as_str()) else { continue };
            followed += 1;
            let keep = if target.starts_with('/') { 0 } else { done.rfind('/').unwrap_or(0) };
            done.truncate(keep);
            target.split('/').rev().for_each(|part| todo.push_front(part));
            if followed > MAX_LINKS {
                return None;
            }
        }
        Some(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside() {
        let text = "link /lib usr/lib\nlink /usr/lib/libcuda.so.1 /etc/alternatives/cuda\n\
                    link /etc/alternatives/cuda ../../../usr/lib/libcuda.so.550.1\n\
                    elf64 /usr/lib/libcuda.so.550.1 libcuda.so.1\nlink /loop loop\n";
        let tree = HostTree::parse(text).unwrap();
        let names = Names::below(&tree, "");
        assert_eq!(names.elf("/lib/libcuda.so.1"), Some((Class::Elf64, Machine::X86_64)));
        assert_eq!([names.elf("/loop"), names.elf("/lib/libcuda.so"), names.elf("/lib")], [None; 3]);
    }

    #[test]
    fn below_a_root_of_its_own() {
        let text = "link /drv/lib /usr/lib\nelf32 /drv/usr/lib/libcuda.so.1 -\n";
        let tree = HostTree::parse(text).unwrap();
        assert_eq!(Names::below(&tree, "/drv").elf("/lib/libcuda.so.1"), Some((Class::Elf32, Machine::I386)));
    }
}
