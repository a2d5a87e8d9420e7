//! Directories that the loader's configuration names: `/etc/ld.so.conf` and its includes (ldconfig(8)), and musl's
//! `/etc/ld-musl-<arch>.path`.

use std::collections::BTreeSet;
use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};
use glob::Pattern;

use super::dirs::Dirs;
use crate::tree::Tree;

/// Includes followed at most, so that a file that includes itself ends.
const MAX_FILES: usize = 256;
/// Lines read of a file, and directories taken in all, at most.
const MAX_DIRS: usize = 1024;

/// One line of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A directory.
    Dir(Utf8PathBuf),
    /// Further files: a path whose last part may hold wildcards, relative to the including file's directory.
    Include(String),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(dir) => f.write_str(dir.as_str()),
            Self::Include(pattern) => write!(f, "include {pattern}"),
        }
    }
}

/// Parses a configuration file. Comments, `hwcap` lines and anything that is no absolute path are passed over.
pub fn parse(text: &str) -> Vec<Line> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.flat_map(parse_line).collect()
}

fn parse_line(line: &str) -> Vec<Line> {
    let mut words = line.split_ascii_whitespace();
    match words.next() {
        Some("include") => words.map(|pattern| Line::Include(pattern.to_owned())).collect(),
        Some(_) if line.starts_with('/') => {
            // glibc takes several directories on a line, parted by blanks, commas or colons.
            let parts = line.split([' ', '\t', ',', ':']).filter(|part| part.starts_with('/'));
            parts.map(|dir| Line::Dir(trim_slash(dir).into())).collect()
        }
        _ => Vec::new(),
    }
}

fn trim_slash(dir: &str) -> &str {
    let trimmed = dir.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed }
}

/// Reads all directories that the tree's configuration names, in its order, each once and not without limit.
pub fn read(tree: &Tree) -> Vec<Utf8PathBuf> {
    let mut dirs = Dirs::default();
    let mut pending = vec![Utf8PathBuf::from("/etc/ld.so.conf")];
    let mut seen = BTreeSet::from_iter(pending.clone());
    while let Some(path) = pending.pop() {
        let lines = tree.read_text(&path).map(|text| parse(&text)).unwrap_or_default();
        for line in lines.into_iter().take(MAX_DIRS) {
            match line {
                Line::Dir(dir) if dirs.len() < MAX_DIRS => dirs.add(&dir),
                Line::Dir(_) => {}
                Line::Include(pattern) => {
                    let files = included(tree, &path, &pattern).into_iter().rev();
                    pending.extend(files.filter(|file| seen.len() < MAX_FILES && seen.insert(file.clone())));
                }
            }
        }
    }
    let left = MAX_DIRS - dirs.len();
    read_musl(tree).iter().take(left).for_each(|dir| dirs.add(dir));
    dirs.into_vec()
}

/// The files that an `include` names, sorted as ldconfig reads them.
fn included(tree: &Tree, from: &Utf8Path, pattern: &str) -> Vec<Utf8PathBuf> {
    let path = from.parent().unwrap_or("/".into()).join(pattern);
    let (Some(dir), Some(Ok(name))) = (path.parent(), path.file_name().map(Pattern::new)) else { return Vec::new() };
    let listed = tree.list(dir, |file| name.matches(file)).unwrap_or_default();
    listed.into_iter().map(|entry| dir.join(entry.name)).collect()
}

fn read_musl(tree: &Tree) -> Vec<Utf8PathBuf> {
    ["x86_64", "aarch64"]
        .iter()
        .filter_map(|arch| tree.read_text(&Utf8Path::new("/etc").join(format!("ld-musl-{arch}.path"))).ok())
        .flat_map(|text| {
            text.split(['\n', ':'])
                .map(str::trim)
                .filter(|dir| dir.starts_with('/'))
                .map(Into::into)
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line() {
        let text = "# comment\ninclude\t/etc/ld.so.conf.d/*.conf other.conf\n/usr/lib/nvidia/tesla/  # slash\n\
                    hwcap 1 x\n/a,/b:/c /d\nrelative/dir\n\n/\n";
        let dir = |path: &str| Line::Dir(path.into());
        let include = |pattern: &str| Line::Include(pattern.into());
        let expected = vec![
            include("/etc/ld.so.conf.d/*.conf"),
            include("other.conf"),
            dir("/usr/lib/nvidia/tesla"),
            dir("/a"),
            dir("/b"),
            dir("/c"),
            dir("/d"),
            dir("/"),
        ];
        assert_eq!(parse(text), expected);
    }
}
