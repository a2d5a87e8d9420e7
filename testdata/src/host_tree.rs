//! `host.tree`: a host as text, a line a path.
//!
//! ```text
//! # what machine this is
//! dir PATH [MODE]
//! file PATH [CONTENT]
//! link PATH TARGET
//! elf64 PATH SONAME [machine=x86-64|aarch64] [interp=PATH] [mode=MODE]
//! elf32 PATH SONAME [interp=PATH] [mode=MODE]
//! char PATH MAJOR MINOR MODE [UID GID]
//! socket PATH
//! fifo PATH
//! cache NAME PATH
//! cache-at FILE
//! mode PATH MODE
//! ```
//!
//! MODE is octal; SONAME `-` is none. CONTENT is the rest of the line after one blank, with the escapes `\n`, `\t`,
//! `\\` and `\OOO`; elsewhere whitespace and backslash are written `\OOO`. Parent directories are made as needed; no
//! path stands below a link, so that nothing is written through one.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use crate::elf::{Class, Machine};
use crate::escape;

/// Mode of an ELF file.
const ELF_MODE: u32 = 0o755;

/// One line of a host tree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the words of the line, named in the module's documentation")]
pub enum Entry {
    /// A directory; without a mode as the umask leaves it.
    Dir { path: String, mode: Option<u32> },
    /// A regular file.
    File { path: String, content: Vec<u8> },
    /// A symbolic link.
    Link { path: String, target: String },
    /// A minimal ELF file; see [`crate::elf`].
    Elf { path: String, class: Class, machine: Machine, soname: Option<String>, interp: Option<String>, mode: u32 },
    /// A character device node.
    Char { path: String, major: u32, minor: u32, mode: u32, owner: Option<(u32, u32)> },
    /// A Unix socket that nobody listens on.
    Socket { path: String },
    /// A named pipe.
    Fifo { path: String },
    /// An entry of the loader's cache.
    Cache { name: String, path: String },
    /// Where the cache of the entries that follow stands.
    CacheAt { path: String },
    /// A change of mode after all else.
    Mode { path: String, mode: u32 },
}

impl Entry {
    /// The path that the line is about; of a cache entry the path that the loader opens.
    pub fn path(&self) -> &str {
        match self {
            Self::Dir { path, .. }
            | Self::File { path, .. }
            | Self::Link { path, .. }
            | Self::Elf { path, .. }
            | Self::Char { path, .. }
            | Self::Socket { path }
            | Self::Fifo { path }
            | Self::Cache { path, .. }
            | Self::CacheAt { path }
            | Self::Mode { path, .. } => path,
        }
    }

    /// Whether the line makes its path, rather than speak of one that another line makes.
    pub fn makes_path(&self) -> bool {
        !matches!(self, Self::Cache { .. } | Self::CacheAt { .. } | Self::Mode { .. })
    }
}

/// A host as data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostTree {
    entries: Vec<Entry>,
}

/// The first line that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {trouble}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub trouble: Trouble,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The first word is none of the format's.
    #[error("unknown kind of entry `{0}`")]
    Kind(String),
    /// A word is missing or one is too many.
    #[error("expected `{0}`")]
    Words(&'static str),
    /// Not a number, or not an octal one.
    #[error("not a number: `{0}`")]
    Number(String),
    /// A backslash that begins no escape.
    #[error("no such escape in `{0}`")]
    Escape(String),
    /// A key or value of an ELF line that has no meaning.
    #[error("unknown `{0}`")]
    Key(String),
    /// Not absolute, or not in its shortest form.
    #[error("not a plain absolute path: `{0}`")]
    Path(String),
    /// Another line makes the same path.
    #[error("`{0}` stands twice")]
    Twice(String),
    /// Another line makes a link of a parent.
    #[error("`{0}` stands below a link")]
    BelowLink(String),
}

impl HostTree {
    /// Parses the text of a `host.tree`.
    ///
    /// # Errors
    /// The first line that does not parse, makes a path again, or stands below a link.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut entries = Vec::new();
        let mut lines = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            entries.push(parse_line(text).map_err(|trouble| ParseError { line, trouble })?);
            lines.push(line);
        }
        match first_clash(&entries).and_then(|(at, trouble)| Some((*lines.get(at)?, trouble))) {
            Some((line, trouble)) => Err(ParseError { line, trouble }),
            None => Ok(Self { entries }),
        }
    }

    /// The lines, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The `char …` lines alone: the device numbers that a tree laid out without privileges lacks.
    pub fn device_list(&self) -> String {
        let nodes = self.entries.iter().filter(|entry| matches!(entry, Entry::Char { .. }));
        nodes.map(|node| format!("{node}\n")).collect()
    }
}

fn first_clash(entries: &[Entry]) -> Option<(usize, Trouble)> {
    let links: HashSet<&str> =
        entries.iter().filter(|entry| matches!(entry, Entry::Link { .. })).map(Entry::path).collect();
    let mut seen = HashSet::new();
    entries.iter().enumerate().filter(|(_, entry)| entry.makes_path()).find_map(|(at, entry)| {
        let path = entry.path();
        if !seen.insert(path) {
            return Some((at, Trouble::Twice(path.to_owned())));
        }
        let below = parents(path).any(|parent| links.contains(parent));
        below.then(|| (at, Trouble::BelowLink(path.to_owned())))
    })
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at))
}

fn parse_line(line: &str) -> Result<Entry, Trouble> {
    if let Some(rest) = line.strip_prefix("file ") {
        return parse_file(rest);
    }
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    match *words.as_slice() {
        ["dir", at] => Ok(Entry::Dir { path: path(at)?, mode: None }),
        ["dir", at, mode] => Ok(Entry::Dir { path: path(at)?, mode: Some(octal(mode)?) }),
        ["link", at, target] => Ok(Entry::Link { path: path(at)?, target: word(target)? }),
        ["elf64", at, soname, ref keys @ ..] => parse_elf(Class::Elf64, at, soname, keys),
        ["elf32", at, soname, ref keys @ ..] => parse_elf(Class::Elf32, at, soname, keys),
        ["char", at, major, minor, mode] => parse_char(at, [major, minor, mode], None),
        ["char", at, major, minor, mode, uid, gid] => parse_char(at, [major, minor, mode], Some([uid, gid])),
        ["socket", at] => Ok(Entry::Socket { path: path(at)? }),
        ["fifo", at] => Ok(Entry::Fifo { path: path(at)? }),
        ["cache", name, at] => Ok(Entry::Cache { name: word(name)?, path: path(at)? }),
        ["cache-at", at] => Ok(Entry::CacheAt { path: path(at)? }),
        ["mode", at, mode] => Ok(Entry::Mode { path: path(at)?, mode: octal(mode)? }),
        [kind, ..] => Err(form_of(kind)),
        [] => Err(Trouble::Kind(String::new())),
    }
}

/// What is wrong with a line of this kind that has too few words or too many.
fn form_of(kind: &str) -> Trouble {
    const FORMS: [&str; 11] = [
        "cache NAME PATH",
        "cache-at FILE",
        "char PATH MAJOR MINOR MODE [UID GID]",
        "dir PATH [MODE]",
        "elf32 PATH SONAME [KEY=VALUE…]",
        "elf64 PATH SONAME [KEY=VALUE…]",
        "fifo PATH",
        "file PATH [CONTENT]",
        "link PATH TARGET",
        "mode PATH MODE",
        "socket PATH",
    ];
    let form = FORMS.into_iter().find(|form| form.split(' ').next() == Some(kind));
    form.map_or_else(|| Trouble::Kind(kind.to_owned()), Trouble::Words)
}

fn parse_file(rest: &str) -> Result<Entry, Trouble> {
    let (at, content) = rest.split_once(' ').unwrap_or((rest, ""));
    let content = escape::unescape(content).ok_or_else(|| Trouble::Escape(content.to_owned()))?;
    Ok(Entry::File { path: path(at)?, content })
}

fn parse_elf(class: Class, at: &str, soname: &str, keys: &[&str]) -> Result<Entry, Trouble> {
    let mut machine = if class == Class::Elf64 { Machine::X86_64 } else { Machine::I386 };
    let mut interp = None;
    let mut mode = ELF_MODE;
    for key in keys {
        match (key.split_once('='), class) {
            (Some(("machine", "x86-64")), Class::Elf64) => machine = Machine::X86_64,
            (Some(("machine", "aarch64")), Class::Elf64) => machine = Machine::Aarch64,
            (Some(("interp", value)), _) => interp = Some(word(value)?),
            (Some(("mode", value)), _) => mode = octal(value)?,
            _ => return Err(Trouble::Key((*key).to_owned())),
        }
    }
    let soname = Some(word(soname)?).filter(|soname| soname != "-");
    Ok(Entry::Elf { path: path(at)?, class, machine, soname, interp, mode })
}

fn parse_char(at: &str, [major, minor, mode]: [&str; 3], owner: Option<[&str; 2]>) -> Result<Entry, Trouble> {
    let owner = match owner {
        Some([uid, gid]) => Some((number(uid)?, number(gid)?)),
        None => None,
    };
    Ok(Entry::Char { path: path(at)?, major: number(major)?, minor: number(minor)?, mode: octal(mode)?, owner })
}

fn word(text: &str) -> Result<String, Trouble> {
    let bytes = escape::unescape(text).and_then(|bytes| String::from_utf8(bytes).ok());
    bytes.ok_or_else(|| Trouble::Escape(text.to_owned()))
}

fn path(text: &str) -> Result<String, Trouble> {
    let path = word(text)?;
    let mut parts = path.split('/');
    let plain = parts.next() == Some("") && parts.all(|part| !matches!(part, "" | "." | ".."));
    if plain || path == "/" { Ok(path) } else { Err(Trouble::Path(text.to_owned())) }
}

fn number(text: &str) -> Result<u32, Trouble> {
    u32::from_str(text).map_err(|_| Trouble::Number(text.to_owned()))
}

fn octal(text: &str) -> Result<u32, Trouble> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| Trouble::Number(text.to_owned()))
}

impl fmt::Display for HostTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = escape::word(self.path());
        match self {
            Self::Dir { mode: None, .. } => write!(f, "dir {path}"),
            Self::Dir { mode: Some(mode), .. } => write!(f, "dir {path} {mode:04o}"),
            Self::File { content, .. } if content.is_empty() => write!(f, "file {path}"),
            Self::File { content, .. } => write!(f, "file {path} {}", escape::content(content)),
            Self::Link { target, .. } => write!(f, "link {path} {}", escape::word(target)),
            Self::Elf { .. } => self.write_elf(f, &path),
            Self::Char { major, minor, mode, owner, .. } => {
                write!(f, "char {path} {major} {minor} {mode:04o}")?;
                owner.map_or(Ok(()), |(uid, gid)| write!(f, " {uid} {gid}"))
            }
            Self::Socket { .. } => write!(f, "socket {path}"),
            Self::Fifo { .. } => write!(f, "fifo {path}"),
            Self::Cache { name, .. } => write!(f, "cache {} {path}", escape::word(name)),
            Self::CacheAt { .. } => write!(f, "cache-at {path}"),
            Self::Mode { mode, .. } => write!(f, "mode {path} {mode:04o}"),
        }
    }
}

impl Entry {
    fn write_elf(&self, f: &mut fmt::Formatter<'_>, path: &str) -> fmt::Result {
        let Self::Elf { class, machine, soname, interp, mode, .. } = self else { return Ok(()) };
        let kind = if *class == Class::Elf64 { "elf64" } else { "elf32" };
        write!(f, "{kind} {path} {}", escape::word(soname.as_deref().unwrap_or("-")))?;
        if *machine == Machine::Aarch64 {
            write!(f, " machine=aarch64")?;
        }
        if let Some(interp) = interp {
            write!(f, " interp={}", escape::word(interp))?;
        }
        if *mode == ELF_MODE { Ok(()) } else { write!(f, " mode={mode:04o}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_KINDS: &str = "\
dir /
dir /proc
dir /run/nvidia 0700
file /empty
file /proc/driver/nvidia/version NVRM version:  550  \\nGCC\\t1\\n
link /usr/lib/libcuda.so libcuda.so.1
elf64 /usr/lib/libcuda.so.1 libcuda.so.1
elf64 /usr/bin/nvidia-smi - machine=aarch64 interp=/lib/ld.so mode=4755
elf32 /usr/lib32/libcuda.so.1 libcuda.so.1 mode=0644
char /dev/nvidia0 195 0 0666
char /dev/a\\040b 195 255 0660 0 483
socket /run/s
fifo /run/f
cache libcuda.so.1 /lib/libcuda.so.1
cache-at /run/nvidia/driver/etc/ld.so.cache
mode /empty 0000
";

    #[test]
    fn every_kind_there_and_back() {
        let tree = HostTree::parse(ALL_KINDS).unwrap();
        assert_eq!(tree.entries().len(), ALL_KINDS.lines().count());
        assert_eq!(tree.to_string(), ALL_KINDS);
    }

    #[test]
    fn what_a_line_means() {
        let tree = HostTree::parse("# a host\n\nfile /a\\040b  x\\n\nchar /dev/x 195 255 0660 0 44\n").unwrap();
        let node = Entry::Char { path: "/dev/x".into(), major: 195, minor: 255, mode: 0o660, owner: Some((0, 44)) };
        assert_eq!(tree.entries(), [Entry::File { path: "/a b".into(), content: b" x\n".to_vec() }, node]);
    }

    #[test]
    fn the_device_list_is_the_nodes_alone() {
        let tree = HostTree::parse(ALL_KINDS).unwrap();
        assert_eq!(tree.device_list(), "char /dev/nvidia0 195 0 0666\nchar /dev/a\\040b 195 255 0660 0 483\n");
    }

    #[test]
    fn errors_name_the_line() {
        for (line, wanted) in [
            ("dlr /a", "unknown kind of entry `dlr`"),
            ("link /a", "expected `link PATH TARGET`"),
            ("char /a 1 2", "expected `char PATH MAJOR MINOR MODE [UID GID]`"),
            ("file", "expected `file PATH [CONTENT]`"),
            ("char /a 1 x 0666", "not a number: `x`"),
            ("dir /a 0888", "not a number: `0888`"),
            ("dir /a 10000", "not a number: `10000`"),
            ("file /a \\q", "no such escape in `\\q`"),
            ("elf64 /a - colour=red", "unknown `colour=red`"),
            ("elf32 /a - machine=aarch64", "unknown `machine=aarch64`"),
            ("dir a", "not a plain absolute path: `a`"),
            ("dir /a/../b", "not a plain absolute path: `/a/../b`"),
            ("file /first", "`/first` stands twice"),
            ("file /link/a", "`/link/a` stands below a link"),
        ] {
            let text = format!("# a host\nfile /first\nlink /link first\n\n{line}\n");
            let error = HostTree::parse(&text).unwrap_err();
            assert_eq!(error.to_string(), format!("line 5: {wanted}"));
        }
    }
}
