//! The fixtures themselves: every `hosts/<layout>/host.tree` of this crate. I/O.
#![expect(clippy::disallowed_methods, reason = "reads the fixtures of this crate")]
#![expect(clippy::panic, reason = "a broken fixture is a broken test")]

use std::fs;
use std::path::Path;

use crate::host_tree::HostTree;

/// The folder of the fixtures.
const HOSTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hosts");

/// A fixture host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The fixture's folder.
    pub name: String,
    /// What machine it is: the first line, without the `#`.
    pub summary: String,
    /// The machine.
    pub tree: HostTree,
}

/// All fixtures, sorted by name.
///
/// # Panics
/// If one cannot be read or does not parse.
pub fn hosts() -> Vec<Host> {
    names().iter().map(|name| host(name)).collect()
}

/// The fixture of this name.
///
/// # Panics
/// If there is none, or it does not parse.
pub fn host(name: &str) -> Host {
    let file = Path::new(HOSTS).join(name).join("host.tree");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| {
        panic!("no fixture {name}: cannot read {}: {error}; there are {:?}", file.display(), names())
    });
    let tree = HostTree::parse(&text).unwrap_or_else(|error| panic!("fixture {name}: {error}"));
    Host { name: name.to_owned(), summary: summary(&text).to_owned(), tree }
}

/// The text of the sample host, without any file at hand.
pub fn sample() -> &'static str {
    include_str!("../hosts/ubuntu-deb/host.tree")
}

fn names() -> Vec<String> {
    let listed = fs::read_dir(HOSTS).unwrap_or_else(|error| panic!("cannot list {HOSTS}: {error}"));
    let mut names: Vec<String> = listed.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

fn summary(text: &str) -> &str {
    text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entry;
    use crate::resolve::Names;

    #[test]
    fn every_host_lays_out_and_says_what_it_is() {
        for host in hosts() {
            assert!(!host.summary.is_empty(), "{}: the first line does not say what machine this is", host.name);
            let dir = tempfile::tempdir().unwrap();
            host.tree.lay_out(dir.path()).unwrap_or_else(|error| panic!("{}: {error}", host.name));
            assert_eq!(HostTree::parse(&host.tree.to_string()).as_ref(), Ok(&host.tree), "{}", host.name);
        }
    }

    #[test]
    fn hosts_are_sorted_and_found_by_name() {
        let hosts = hosts();
        assert!(hosts.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(host("ubuntu-deb").tree, HostTree::parse(sample()).unwrap());
    }

    /// Two GPUs of one UUID in two fixtures would make two snapshots look alike.
    #[test]
    fn each_gpu_has_its_own_uuid() {
        let mut seen = std::collections::HashMap::new();
        for host in hosts() {
            for uuid in uuids(&host) {
                let before = seen.insert(uuid.clone(), host.name.clone());
                assert_eq!(before, None, "{uuid} is in {} too", host.name);
            }
        }
    }

    fn uuids(host: &Host) -> Vec<String> {
        let information = |entry: &Entry| match entry {
            Entry::File { path, content } if path.ends_with("/information") => String::from_utf8(content.clone()).ok(),
            _ => None,
        };
        let texts = host.tree.entries().iter().filter_map(information);
        let lines: Vec<String> = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        let uuids = lines.iter().filter_map(|line| line.strip_prefix("GPU UUID: \t "));
        uuids.filter(|uuid| !uuid.contains('?')).map(str::to_owned).collect()
    }

    /// A link that leads nowhere by mistake hides a whole layout.
    #[test]
    fn library_links_lead_to_libraries() {
        for host in hosts().iter().filter(|host| !DAMAGED.contains(&host.name.as_str())) {
            for root in roots(host) {
                let names = Names::below(&host.tree, root);
                let links = host.tree.entries().iter().filter(|entry| matches!(entry, Entry::Link { .. }));
                for path in
                    links.filter_map(|link| own_path(host, link.path(), root)).filter(|path| path.contains(".so"))
                {
                    assert!(names.elf(path).is_some(), "{}: {root}{path} leads nowhere", host.name);
                }
            }
        }
    }

    /// Hosts whose damage is their point.
    const DAMAGED: [&str; 1] = ["broken-parts"];

    /// The host's own root and that of each further loader cache.
    fn roots(host: &Host) -> Vec<&str> {
        let caches = host.tree.entries().iter().filter_map(|entry| match entry {
            Entry::CacheAt { path } => path.strip_suffix("/etc/ld.so.cache"),
            _ => None,
        });
        let mut roots: Vec<&str> = caches.chain([""]).collect();
        roots.sort_unstable();
        roots.dedup();
        roots
    }

    /// The path as the innermost root sees it, if that is `root`.
    fn own_path<'a>(host: &Host, path: &'a str, root: &str) -> Option<&'a str> {
        let innermost = roots(host).into_iter().filter(|root| path.starts_with(root)).max_by_key(|root| root.len());
        (innermost == Some(root)).then(|| path.strip_prefix(root)).flatten()
    }
}
