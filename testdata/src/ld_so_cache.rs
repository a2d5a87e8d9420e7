//! The loader's cache as `ldconfig` writes it: the old layout, the new one, or both after each other.
//!
//! glibc's `dl-cache.h` is the definition. Old offsets count from the end of the old table, new ones from the start of
//! the new header; in a cache of both, the strings stand once, at the end.

/// One entry: a name, and the file that the loader opens for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    /// The SONAME.
    pub name: String,
    /// The file.
    pub path: String,
    /// Which loaders may use it; see [`X86_64`], [`AARCH64`], [`I386`].
    pub flags: u32,
}

/// 64-bit x86 library for glibc.
pub const X86_64: u32 = 0x0303;
/// 64-bit Arm library for glibc.
pub const AARCH64: u32 = 0x0a03;
/// 32-bit x86 library for glibc.
pub const I386: u32 = 0x0003;

/// Which tables the cache has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `glibc-ld.so.cache1.1` alone: the default since glibc 2.32.
    New,
    /// `ld.so-1.7.0` alone.
    Old,
    /// The old table and behind it the new one.
    Both,
}

/// Byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endian {
    /// x86, arm64.
    Little,
    /// s390x, some ppc64.
    Big,
}

impl Endian {
    fn u32(self, value: usize) -> [u8; 4] {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    /// The mark in the new header.
    const fn mark(self) -> u8 {
        match self {
            Self::Little => 2,
            Self::Big => 3,
        }
    }
}

const OLD_MAGIC: &[u8; 12] = b"ld.so-1.7.0\0";
const OLD_ENTRY: usize = 12;
const NEW_MAGIC: &[u8; 20] = b"glibc-ld.so.cache1.1";
const NEW_HEADER: usize = 48;
const NEW_ENTRY: usize = 24;
const NEW_ALIGN: usize = 8;

/// The cache file with these entries in this order.
pub fn write(entries: &[CacheEntry], format: Format, endian: Endian) -> Vec<u8> {
    let strings = Strings::of(entries);
    let table_size = NEW_HEADER + entries.len() * NEW_ENTRY;
    let mut bytes = Vec::new();
    if format != Format::New {
        let old_end = OLD_MAGIC.len() + 4 + entries.len() * OLD_ENTRY;
        let new_at = old_end.next_multiple_of(NEW_ALIGN);
        let strings_at = if format == Format::Both { new_at + table_size - old_end } else { 0 };
        write_old(&mut bytes, entries, &strings, strings_at, endian);
    }
    if format != Format::Old {
        bytes.resize(bytes.len().next_multiple_of(NEW_ALIGN), 0);
        write_new(&mut bytes, entries, &strings, table_size, endian);
    }
    bytes.extend(strings.bytes);
    bytes
}

/// All names and paths, each ended by a zero byte, and where each entry's two begin.
struct Strings {
    bytes: Vec<u8>,
    offsets: Vec<[usize; 2]>,
}

impl Strings {
    fn of(entries: &[CacheEntry]) -> Self {
        let mut strings = Self { bytes: Vec::new(), offsets: Vec::new() };
        for entry in entries {
            let offsets = [strings.push(&entry.name), strings.push(&entry.path)];
            strings.offsets.push(offsets);
        }
        strings
    }

    fn push(&mut self, text: &str) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        at
    }
}

fn write_old(bytes: &mut Vec<u8>, entries: &[CacheEntry], strings: &Strings, strings_at: usize, endian: Endian) {
    bytes.extend(OLD_MAGIC);
    bytes.extend(endian.u32(entries.len()));
    for (entry, [name, path]) in entries.iter().zip(&strings.offsets) {
        bytes.extend(endian.u32(entry.flags as usize));
        bytes.extend(endian.u32(strings_at + name));
        bytes.extend(endian.u32(strings_at + path));
    }
}

fn write_new(bytes: &mut Vec<u8>, entries: &[CacheEntry], strings: &Strings, strings_at: usize, endian: Endian) {
    let start = bytes.len();
    bytes.extend(NEW_MAGIC);
    bytes.extend(endian.u32(entries.len()));
    bytes.extend(endian.u32(strings.bytes.len()));
    bytes.push(endian.mark());
    bytes.resize(start + NEW_HEADER, 0);
    for (entry, [name, path]) in entries.iter().zip(&strings.offsets) {
        let end = bytes.len() + NEW_ENTRY;
        bytes.extend(endian.u32(entry.flags as usize));
        bytes.extend(endian.u32(strings_at + name));
        bytes.extend(endian.u32(strings_at + path));
        bytes.resize(end, 0);
    }
}

/// Name and path of each entry of a new cache in little-endian order, as far as it can be read.
pub fn read(bytes: &[u8]) -> Vec<(String, String)> {
    let Some(table) = bytes.strip_prefix(NEW_MAGIC).and_then(|_| bytes.get(NEW_HEADER..)) else { return Vec::new() };
    let number = |bytes: &[u8], at: usize| {
        let field = bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(field)).ok()
    };
    let text = |at: usize| {
        let text = bytes.get(at..)?.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    let count = number(bytes, NEW_MAGIC.len()).unwrap_or_default();
    let entry = |entry: &[u8]| Some((text(number(entry, 4)?)?, text(number(entry, 8)?)?));
    table.chunks_exact(NEW_ENTRY).take(count).filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<CacheEntry> {
        let entry = |name: &str, path: &str, flags| CacheEntry { name: name.into(), path: path.into(), flags };
        vec![
            entry("libcuda.so.1", "/lib/x86_64-linux-gnu/libcuda.so.1", X86_64),
            entry("libcuda.so.1", "/lib/i386-linux-gnu/libcuda.so.1", I386),
            entry("libcuda.so", "/lib/x86_64-linux-gnu/libcuda.so", X86_64),
        ]
    }

    fn text_at(bytes: &[u8], at: usize) -> String {
        bytes[at..].iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
    }

    /// The paths, as a reader of the table at `table` finds them.
    fn paths(bytes: &[u8], table: usize, entry_size: usize, strings: usize, from: fn([u8; 4]) -> u32) -> Vec<String> {
        let number = |at: usize| from(bytes[at..at + 4].try_into().unwrap()) as usize;
        (0..3).map(|index| text_at(bytes, strings + number(table + index * entry_size + 8))).collect()
    }

    fn wanted() -> Vec<String> {
        entries().into_iter().map(|entry| entry.path).collect()
    }

    #[test]
    fn new_in_both_byte_orders() {
        let little = write(&entries(), Format::New, Endian::Little);
        assert_eq!((&little[..20], little[28]), (&NEW_MAGIC[..], 2));
        assert_eq!(paths(&little, 48, 24, 0, u32::from_le_bytes), wanted());
        let read: Vec<String> = read(&little).into_iter().map(|(_, path)| path).collect();
        assert_eq!(read, wanted());
        let big = write(&entries(), Format::New, Endian::Big);
        assert_eq!((&big[20..24], big[28]), (&[0, 0, 0, 3][..], 3));
        assert_eq!(paths(&big, 48, 24, 0, u32::from_be_bytes), wanted());
    }

    #[test]
    fn old_alone_and_with_new() {
        let old = write(&entries(), Format::Old, Endian::Little);
        assert_eq!(paths(&old, 16, 12, 52, u32::from_le_bytes), wanted());
        let both = write(&entries(), Format::Both, Endian::Little);
        assert_eq!(paths(&both, 16, 12, 52, u32::from_le_bytes), wanted());
        assert_eq!(&both[56..76], NEW_MAGIC);
        assert_eq!(paths(&both, 56 + 48, 24, 56, u32::from_le_bytes), wanted());
    }

    #[test]
    fn an_empty_cache_is_a_header() {
        assert_eq!(write(&[], Format::New, Endian::Little).len(), NEW_HEADER);
    }
}
