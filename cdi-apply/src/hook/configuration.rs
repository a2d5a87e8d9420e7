//! Configuration: the directories that the container's loader searches, by `/etc/ld.so.conf` and what it includes
//! (ldconfig(8)). I/O.
//!
//! The text is only compared with, and copied nowhere. It is the image's, so it is read on a part of the budget: an image
//! that includes without end has its libraries found as if it had said nothing more.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cdi_gen::facts::elf::Machine;
use cdi_gen::facts::ld_conf::{self, Line};

use super::budget::{self, Cost};
use super::paths::{CONFIGURATION, DEBIAN, DROP_IN, HookPath};
use super::root::Root;

/// Bytes of a file that are read at most; the longest have some hundred.
const MAX_BYTES: usize = 64 << 10;
/// Files that are read at most: the largest images have a hundred.
const MAX_FILES: usize = 256;
/// Directories that are taken at most.
const MAX_DIRS: usize = 1024;
/// What a directory or a file takes beside its name.
const OF_NAME: usize = 64;
/// Where glibc's loader looks without being told, on Debian and its kin and elsewhere.
const DEBIAN_DIRS: [&str; 2] = ["/lib", "/usr/lib"];
const OTHER_DIRS: [&str; 4] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// The directories that the loader searches, ours left out; and why there may be more.
pub fn known_dirs(root: &Root) -> (BTreeSet<String>, io::Result<()>) {
    let known = default_dirs(root);
    let mut reader = Reader { root, known, patterns: BTreeSet::new(), listings: BTreeMap::new() };
    let all_read = root.budget().part(budget::CONFIGURATION, || reader.read_all());
    (reader.known, all_read)
}

/// The directories that a file of the configuration names.
pub fn dirs_of(root: &Root, path: &HookPath<'_>) -> Vec<String> {
    let dir = |line| if let Line::Dir(dir) = line { Some(dir.into_string()) } else { None };
    lines(root, path).unwrap_or_default().into_iter().filter_map(dir).collect()
}

fn default_dirs(root: &Root) -> BTreeSet<String> {
    if root.find(&DEBIAN.path()).is_err() {
        return OTHER_DIRS.map(str::to_owned).into();
    }
    let triplets = [Machine::X86_64, Machine::Aarch64, Machine::I386].into_iter().filter_map(Machine::triplet);
    let multiarch = triplets.flat_map(|triplet| DEBIAN_DIRS.map(|dir| format!("{dir}/{triplet}")));
    multiarch.chain(DEBIAN_DIRS.map(str::to_owned)).collect()
}

/// The lines of a file; none where there is none that can be read.
fn lines(root: &Root, path: &HookPath<'_>) -> io::Result<Vec<Line>> {
    match root.read(path, MAX_BYTES) {
        Err(error) if budget::is_spent(&error) => Err(error),
        bytes => Ok(ld_conf::parse(&String::from_utf8_lossy(&bytes.unwrap_or_default()))),
    }
}

struct Reader<'r> {
    root: &'r Root,
    known: BTreeSet<String>,
    /// Those that were looked for.
    patterns: BTreeSet<PathBuf>,
    /// What is in the directories that were looked into.
    listings: BTreeMap<PathBuf, Vec<OsString>>,
}

impl Reader<'_> {
    fn read_all(&mut self) -> io::Result<()> {
        let mut pending = vec![PathBuf::from(CONFIGURATION.as_str())];
        // Ours is read as if it were not there.
        let mut seen = BTreeSet::from([CONFIGURATION, DROP_IN].map(|known| PathBuf::from(known.as_str())));
        while let Some(path) = pending.pop() {
            for line in lines(self.root, &HookPath::included(&*path))? {
                match line {
                    Line::Dir(dir) => self.add(dir.into_string())?,
                    Line::Include(pattern) => {
                        for file in self.included(&path, &pattern)? {
                            if seen.len() < MAX_FILES && seen.insert(file.clone()) {
                                pending.push(file);
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, dir: String) -> io::Result<()> {
        if self.known.len() < MAX_DIRS {
            self.root.budget().draw(Cost::Memory, dir.len() + OF_NAME)?;
            self.known.insert(dir);
        }
        Ok(())
    }

    /// The files that an `include` names. Its last part may hold wildcards.
    fn included(&mut self, from: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
        let budget = self.root.budget();
        budget.draw(Cost::Steps, pattern.len())?;
        let path = from.parent().unwrap_or(Path::new("/")).join(pattern);
        // What is said again brings nothing new.
        if self.patterns.contains(&path) {
            return Ok(Vec::new());
        }
        budget.draw(Cost::Memory, path.as_os_str().len() + OF_NAME)?;
        self.patterns.insert(path.clone());
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
        if !name.as_bytes().iter().any(|byte| b"*?[".contains(byte)) {
            return Ok(vec![path]);
        }
        let mut fitting = Vec::new();
        for file in self.listing(dir)? {
            let (fits, steps) = fits(name.as_bytes(), file.as_bytes());
            budget.draw(Cost::Steps, steps)?;
            if fits && fitting.len() < MAX_FILES {
                fitting.push(dir.join(file));
            }
        }
        Ok(fitting)
    }

    /// The names in a directory, which is listed once, however often it is named.
    fn listing(&mut self, dir: &Path) -> io::Result<&[OsString]> {
        if !self.listings.contains_key(dir) {
            let names = match self.root.list(&HookPath::included(dir), |_| true) {
                Err(error) if budget::is_spent(&error) => return Err(error),
                names => names.unwrap_or_default(),
            };
            self.root.budget().draw(Cost::Memory, dir.as_os_str().len() + OF_NAME)?;
            self.listings.insert(dir.to_owned(), names);
        }
        Ok(self.listings.get(dir).map(Vec::as_slice).unwrap_or_default())
    }
}

/// Whether a name fits a pattern as glob(7) says, and in how many steps that was found: no more than the lengths multiplied.
fn fits(pattern: &[u8], name: &[u8]) -> (bool, usize) {
    let (mut ahead, mut rest, mut steps) = (pattern, name, 1);
    // Behind the latest star, and what of the name it stands before.
    let mut star: Option<(&[u8], &[u8])> = None;
    // A star does not stand for a dot at the start.
    if name.starts_with(b".") && !pattern.starts_with(b".") {
        return (false, steps);
    }
    loop {
        steps += 1;
        if let Some(behind) = ahead.strip_prefix(b"*") {
            star = Some((behind, rest));
            ahead = behind;
            continue;
        }
        if ahead.is_empty() && rest.is_empty() {
            return (true, steps);
        }
        let next = rest.split_first().and_then(|(byte, behind)| Some((one(ahead, *byte)?, behind)));
        if let Some(next) = next {
            (ahead, rest) = next;
            continue;
        }
        // The star may stand for one more.
        let Some((behind, from)) = star.and_then(|(behind, from)| Some((behind, from.get(1..)?))) else {
            return (false, steps);
        };
        (ahead, rest, star) = (behind, from, Some((behind, from)));
    }
}

/// What is left of a pattern whose first part is one character, if this is one that fits.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern.split_first()? {
        (b'?', rest) => Some(rest),
        (b'[', rest) => set(rest, byte).unwrap_or_else(|| (byte == b'[').then_some(rest)),
        (b'\\', [escaped, rest @ ..]) => (*escaped == byte).then_some(rest),
        (first, rest) => (*first == byte).then_some(rest),
    }
}

/// The same for what stands behind a bracket: `abc]`, `a-z]`, `!a-z]`. `None` if the bracket is not closed.
fn set(text: &[u8], byte: u8) -> Option<Option<&[u8]>> {
    let (is_negated, text) = match text {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    // A bracket that closes at once stands for itself.
    let end = text.iter().skip(1).position(|byte| *byte == b']')? + 1;
    let (mut members, rest) = (text.get(..end)?, text.get(end + 1..)?);
    let mut is_member = false;
    while let Some((first, others)) = members.split_first() {
        let (last, others) = match others {
            [b'-', last, others @ ..] => (last, others),
            _ => (first, others),
        };
        is_member |= (*first..=*last).contains(&byte);
        members = others;
    }
    Some((is_member != is_negated).then_some(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_glob() {
        let cases = [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", false),
            (".*", ".conf", true),
            ("*", "", true),
            ("*.conf", "a.conf.bak", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("?.conf", "a.conf", true),
            ("?.conf", "ab.conf", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]x", "]x", true),
            ("[a", "[a", true),
            ("\\*x", "*x", true),
            ("\\*x", "ax", false),
            ("**x", "x", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()).0, expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_of_stars_takes_no_more_than_the_lengths_multiplied() {
        let (pattern, name) = ("*a".repeat(100) + "b", "a".repeat(255));
        let (fits, steps) = fits(pattern.as_bytes(), name.as_bytes());
        assert!(!fits && steps <= 2 * pattern.len() * name.len(), "{steps}");
    }
}
