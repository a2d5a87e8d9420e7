//! Capture: the host as a `host.tree` text, only what was looked at. A bug report from a machine that nobody else has
//! is the fixture that reproduces it. I/O.
//!
//! It is written for strangers. What the kernel says of the driver is printed, and the driver's manifests; of any other
//! file that was read, the lines that the loader's configuration is made of, whoever named it there. What not everybody
//! may read is printed as being there alone. UUIDs, and who built the driver where, are replaced.

use std::collections::BTreeMap;
use std::fmt::Write;

use camino::{Utf8Path, Utf8PathBuf};
use cdi_specs::printable;
use rustix::fs::{AtFlags, CWD};
use serde_json::Value;

use crate::driver_files;
use crate::facts::elf::{self, Class, ElfFacts, Machine};
use crate::facts::{ld_cache, ld_conf};
use crate::tree::{Kind, Tree};

/// Files whose content the generator reads as text are printed; others only as being there.
const PRESENT: &str = "present";
/// Where the kernel speaks.
const KERNELS: [&str; 2] = ["/proc", "/sys"];
/// What takes the place of who built a driver.
const BUILDER: &str = "builder@host";
/// Bits of a mode.
const OTHERS_READ: u32 = 0o004;
const OTHERS_ENTER: u32 = 0o001;

/// The text of everything that a recording tree was asked about.
///
/// UUIDs are replaced by numbered ones unless `keep_ids`.
pub fn text(system: &Tree, title: &str, keep_ids: bool) -> String {
    let mut out = format!("# {}\n", printable(title));
    for (path, was_read) in system.seen() {
        if path == "/etc/ld.so.cache" || path.as_str().ends_with("/etc/ld.so.cache") {
            cache(&mut out, system, &path);
        } else {
            entry(&mut out, system, &path, was_read);
        }
    }
    if keep_ids { out } else { Scrubber::default().scrub(&out) }
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
        Err(_) if was_read && is_for_everybody(system, path) => {
            let text = system.read_text(path).unwrap_or_default();
            format!("file {escaped} {}", content(&for_strangers(path, text)))
        }
        Err(_) => format!("file {escaped} {PRESENT}"),
    }
}

/// What of a file's text the generator needs, and a stranger may see.
fn for_strangers(path: &Utf8Path, text: String) -> String {
    if path.file_name() == Some("mountinfo") {
        driver_mounts(&text)
    } else if KERNELS.iter().any(|dir| path.starts_with(dir)) {
        without_builder(&text)
    } else if is_manifest(&text) {
        text
    } else {
        ld_conf::parse(&text).iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Whether a text is a manifest of the Vulkan loader, libglvnd or EGL: all of them say their version.
fn is_manifest(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value.get("file_format_version").is_some())
}

/// Whether anybody can open a file of a tree, by its mode and those of the directories above it.
fn is_for_everybody(system: &Tree, path: &Utf8Path) -> bool {
    let has = |path: &Utf8Path, bit: u32| {
        let path: Utf8PathBuf = system.path_on_this_machine(path);
        let stat = rustix::fs::statat(CWD, path.as_std_path(), AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| stat.st_mode & bit != 0)
    };
    let mut above = path.ancestors().skip(1).filter(|dir| *dir != "/");
    has(path, OTHERS_READ) && above.all(|dir| has(dir, OTHERS_ENTER))
}

/// The kernel's text without who built it where: `(root@build-7.example.com)`.
fn without_builder(text: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('@') {
        let kept = before.trim_end_matches(is_part);
        if kept.len() == before.len() {
            out.extend([before, "@"]);
            rest = after;
        } else {
            out.extend([kept, BUILDER]);
            rest = after.trim_start_matches(is_part);
        }
    }
    out + rest
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
    mountinfo.lines().filter(name).map(|line| format!("{}\n", without_source(line))).collect()
}

/// A mount without the server, or the layers, that it comes from: behind the dash its type, its source and its options.
fn without_source(line: &str) -> String {
    let Some((mount, behind)) = line.split_once(" - ") else { return line.to_owned() };
    let mut words = behind.split(' ');
    let (kind, source, options) = (words.next(), words.next(), words.next());
    let source = source.filter(|source| source.starts_with("/dev/")).unwrap_or("none");
    let access = options.and_then(|options| options.split(',').next()).unwrap_or_default();
    format!("{mount} - {} {source} {access}", kind.unwrap_or_default())
}

fn is_driver_name(name: &str) -> bool {
    let stem = driver_files::split_name(name).map(|(stem, _)| stem);
    stem.is_some_and(|stem| driver_files::find(stem).is_some() || stem.starts_with("libnvidia"))
}

/// Whitespace, control characters and backslashes as fstab(5) writes them.
fn escape(text: &str) -> String {
    written_out(text, |character| character.is_ascii_whitespace() || is_odd(character))
}

/// A file's text on one line.
fn content(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t");
    written_out(&text, |character| character != '\\' && is_odd(character))
}

/// What a line is not to hold as it is.
fn is_odd(character: char) -> bool {
    character == '\\' || character.is_control()
}

/// Characters of a kind as the octal numbers of their bytes.
fn written_out(text: &str, is: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is(character) {
            let mut bytes = [0; 4];
            let bytes = character.encode_utf8(&mut bytes).bytes();
            out.extend(bytes.map(|byte| format!("\\{byte:03o}")));
        } else {
            out.push(character);
        }
    }
    out
}

/// Gives each UUID a number in the order of first sight.
#[derive(Default)]
pub struct Scrubber {
    seen: BTreeMap<String, usize>,
}

impl Scrubber {
    /// The text without UUIDs.
    pub fn scrub(&mut self, text: &str) -> String {
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
        let from = |source: &str| format!("7 6 0:9 / /usr/lib/libcuda.so.550.1 ro - {source}\n");
        let overlay = from("overlay overlay rw,lowerdir=/home/me/a,upperdir=/home/me/b");
        assert_eq!(driver_mounts(&overlay), from("overlay none rw"));
        assert_eq!(driver_mounts(&from("nfs4 me.example.com:/me ro,addr=10.0.0.1")), from("nfs4 none ro"));
    }

    #[test]
    fn escapes() {
        assert_eq!(escape("/a b\\c"), "/a\\040b\\134c");
        assert_eq!(content("a\tb\\\n"), "a\\tb\\\\\\n");
        assert_eq!(escape("/a\u{c}\u{1b}\u{b}\u{85}é"), "/a\\014\\033\\013\\302\\205é");
        assert_eq!(content("a\r\u{c}\0 b"), "a\\015\\014\\000 b");
    }

    #[test]
    fn who_built_a_driver_is_nobodys_business() {
        let text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.1  Release Build  (root@b-7.x.com)\n\
                    GCC version:  Selected multilib: .;@m64 (me@) @\n";
        let expected = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.1  Release Build  (builder@host)\n\
                        GCC version:  Selected multilib: .;@m64 (builder@host) @\n";
        assert_eq!(without_builder(text), expected);
        assert_eq!(without_builder(expected), expected);
    }
}
