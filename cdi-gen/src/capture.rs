//! Capture: the host as a `host.tree` text, only what was looked at. A bug report from a machine that nobody else has
//! is the fixture that reproduces it.

use std::collections::BTreeMap;
use std::fmt::Write;

use camino::Utf8Path;

use crate::driver_files;
use crate::facts::elf::{self, Class, ElfFacts, Machine};
use crate::facts::ld_cache;
use crate::tree::{Kind, Tree};

/// Files whose content the generator reads as text are printed whole; others only as being there.
const PRESENT: &str = "present";

/// The text of everything that a recording tree was asked about.
///
/// UUIDs are replaced by numbered ones unless `keep_ids`.
pub fn text(system: &Tree, title: &str, keep_ids: bool) -> String {
    let mut out = format!("# {title}\n");
    let mut scrubber = Scrubber::default();
    for (path, was_read) in system.seen() {
        if path == "/etc/ld.so.cache" || path.as_str().ends_with("/etc/ld.so.cache") {
            cache(&mut out, system, &path);
        } else {
            entry(&mut out, system, &path, was_read);
        }
    }
    if keep_ids { out } else { scrubber.scrub(&out) }
}

/// One line for what stands at a host path, which has no link on its way but perhaps at its end.
fn entry(out: &mut String, system: &Tree, path: &Utf8Path, was_read: bool) {
    let escaped = escape(path.as_str());
    let line = if let Ok(target) = system.read_link(path) {
        format!("link {escaped} {}", escape(target.as_str()))
    } else {
        match system.kind(path) {
            Ok(Kind::Dir) => format!("dir {escaped}"),
            Ok(Kind::Char(node)) => {
                let owner =
                    if (node.uid, node.gid) == (0, 0) { String::new() } else { format!(" {} {}", node.uid, node.gid) };
                format!("char {escaped} {} {} {:04o}{owner}", node.major, node.minor, node.mode)
            }
            Ok(Kind::Socket) => format!("socket {escaped}"),
            Ok(Kind::Other) => format!("fifo {escaped}"),
            Ok(Kind::File) => file(system, path, &escaped, was_read),
            Err(_) => return,
        }
    };
    let _ = writeln!(out, "{line}");
}

fn file(system: &Tree, path: &Utf8Path, escaped: &str, was_read: bool) -> String {
    let head = system.open_file(path).map_err(elf::ElfError::from).and_then(|file| elf::parse(&file));
    match head {
        Ok(facts) => elf_line(escaped, &facts),
        Err(elf::ElfError::Empty) => format!("file {escaped}"),
        // An unreadable file stays one in the fixture.
        Err(elf::ElfError::Io(_)) => format!("file {escaped} {PRESENT}\nmode {escaped} 0000"),
        Err(_) if was_read => {
            let text = system.read_text(path).unwrap_or_default();
            let text = if path.file_name() == Some("mountinfo") { driver_mounts(&text) } else { text };
            format!("file {escaped} {}", content(&text))
        }
        Err(_) => format!("file {escaped} {PRESENT}"),
    }
}

fn elf_line(path: &str, facts: &ElfFacts) -> String {
    let word = if facts.class == Class::Elf64 { "elf64" } else { "elf32" };
    let machine = if facts.machine == Machine::Aarch64 { " machine=aarch64" } else { "" };
    let interpreter = facts.interpreter.iter().map(|path| format!(" interp={}", escape(path))).collect::<String>();
    format!("{word} {path} {}{machine}{interpreter}", facts.soname.as_deref().map_or("-".into(), escape))
}

fn cache(out: &mut String, system: &Tree, path: &Utf8Path) {
    let bytes = system.read(path, 256 << 20).unwrap_or_default();
    let (entries, _) = ld_cache::parse(&bytes, is_driver_name);
    if !entries.is_empty() {
        let _ = writeln!(out, "cache-at {}", escape(path.as_str()));
    }
    for entry in entries {
        let _ = writeln!(out, "cache {} {}", escape(entry.name), escape(entry.path));
    }
}

/// The mounts that say where a driver was put. The others are nobody's business.
fn driver_mounts(mountinfo: &str) -> String {
    let name =
        |line: &&str| line.split(' ').nth(4).and_then(|path| path.rsplit('/').next()).is_some_and(is_driver_name);
    mountinfo.lines().filter(name).map(|line| format!("{line}\n")).collect()
}

fn is_driver_name(name: &str) -> bool {
    let stem = driver_files::split_name(name).map(|(stem, _)| stem);
    stem.is_some_and(|stem| driver_files::find(stem).is_some() || stem.starts_with("libnvidia"))
}

/// Whitespace and backslashes as fstab(5) writes them.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' ' | '\t' | '\n' | '\r' | '\\' => {
                let _ = write!(out, "\\{:03o}", u32::from(character));
            }
            other => out.push(other),
        }
    }
    out
}

/// A file's text on one line.
fn content(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\015")
}

/// Gives each UUID a number in the order of first sight.
#[derive(Default)]
struct Scrubber {
    seen: BTreeMap<String, usize>,
}

impl Scrubber {
    fn scrub(&mut self, text: &str) -> String {
        const LENGTH: usize = 36;
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            match rest.get(..LENGTH).filter(|head| crate::facts::gpus::is_uuid(head)) {
                Some(uuid) => {
                    let next = self.seen.len() + 1;
                    let number = self.seen.entry(uuid.to_ascii_lowercase()).or_insert(next);
                    let _ = write!(out, "00000000-0000-0000-0000-{number:012}");
                    rest = rest.get(LENGTH..).unwrap_or_default();
                }
                None => {
                    out.push(first);
                    rest = rest.get(first.len_utf8()..).unwrap_or_default();
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_get_numbers() {
        let text = "GPU UUID: GPU-11111111-2222-3333-4444-555555555555 x 11111111-2222-3333-4444-555555555555 y\n\
                    GPU-aaaaaaaa-2222-3333-4444-555555555555";
        let expected = "GPU UUID: GPU-00000000-0000-0000-0000-000000000001 x 00000000-0000-0000-0000-000000000001 y\n\
                        GPU-00000000-0000-0000-0000-000000000002";
        assert_eq!(Scrubber::default().scrub(text), expected);
    }

    #[test]
    fn only_the_drivers_mounts() {
        let mount = |point: &str| format!("712 650 8:1 / {point} ro - ext4 /dev/sda1 rw\n");
        let text = mount("/home/me") + &mount("/usr/lib/libcuda.so.550.1") + &mount("/usr/bin/nvidia-smi");
        assert_eq!(driver_mounts(&text), mount("/usr/lib/libcuda.so.550.1"));
    }

    #[test]
    fn escapes() {
        assert_eq!(escape("/a b\\c"), "/a\\040b\\134c");
        assert_eq!(content("a\tb\\\n"), "a\\tb\\\\\\n");
    }
}
