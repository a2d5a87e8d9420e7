//! The loader's cache, `/etc/ld.so.cache`: which file the loader takes for a SONAME.
//!
//! Three layouts are in the wild (glibc, `dl-cache.h`): the old one (`ld.so-1.7.0`), the new one
//! (`glibc-ld.so.cache1.1`), and both after each other. A damaged cache gives the entries before the damage.

/// First bytes of the old layout; padded to 12.
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
/// Bytes of the old header and of one old entry.
const OLD_SIZE: usize = 16;
const OLD_ENTRY: usize = 12;
/// First bytes of the new layout, version included.
const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// Bytes of the new header and of one new entry.
const NEW_SIZE: usize = 48;
const NEW_ENTRY: usize = 24;
/// Where the new header tells the byte order: 0 not told, 2 little, 3 big.
const ENDIAN_AT: usize = 28;

/// No name is longer (`PATH_MAX`); a damaged table may point into megabytes without an end.
const LONGEST: usize = 4096;

/// One line of `ldconfig -p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheEntry<'a> {
    /// The SONAME, or another name that `ldconfig` found.
    pub name: &'a str,
    /// The file that the loader opens for it.
    pub path: &'a str,
}

/// Why a cache was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// Another magic number.
    #[error("not an ld.so.cache")]
    Magic,
    /// A byte order that no loader writes.
    #[error("unknown byte order {0}")]
    ByteOrder(u8),
    /// The header promises more than the file holds.
    #[error("truncated after {read} of {promised} entries")]
    Truncated {
        /// Entries that could be read.
        read: usize,
        /// Entries that the header promises.
        promised: usize,
    },
}

/// The entries whose name `wanted` accepts, in cache order, and what stopped the reading.
pub fn parse(bytes: &[u8], wanted: impl Fn(&str) -> bool) -> (Vec<CacheEntry<'_>>, Option<CacheError>) {
    match Table::find(bytes) {
        Ok(table) => table.entries(wanted),
        Err(error) => (Vec::new(), Some(error)),
    }
}

/// One table of fixed-size entries; names are offsets into `strings`.
struct Table<'a> {
    entries: &'a [u8],
    entry_size: usize,
    strings: &'a [u8],
    promised: usize,
    big_endian: bool,
}

impl<'a> Table<'a> {
    /// The new table if there is one, else the old one.
    fn find(bytes: &'a [u8]) -> Result<Self, CacheError> {
        if bytes.starts_with(NEW_MAGIC) {
            return Self::new_layout(bytes);
        }
        if !bytes.starts_with(OLD_MAGIC) {
            return Err(CacheError::Magic);
        }
        let old = Self::old_layout(bytes);
        let end = OLD_SIZE.saturating_add(old.promised.saturating_mul(OLD_ENTRY));
        let behind = [8, 4].into_iter().filter_map(|align| bytes.get(end.checked_next_multiple_of(align)?..));
        match behind.into_iter().find(|rest| rest.starts_with(NEW_MAGIC)) {
            Some(rest) => Self::new_layout(rest),
            None => Ok(old),
        }
    }

    fn new_layout(bytes: &'a [u8]) -> Result<Self, CacheError> {
        let big_endian = match bytes.get(ENDIAN_AT) {
            Some(0 | 2) | None => false,
            Some(3) => true,
            Some(other) => return Err(CacheError::ByteOrder(*other)),
        };
        let promised = word(bytes, NEW_MAGIC.len(), big_endian).unwrap_or_default();
        let entries = bytes.get(NEW_SIZE..).unwrap_or_default();
        Ok(Self { entries, entry_size: NEW_ENTRY, strings: bytes, promised, big_endian })
    }

    /// Names of the old layout count from the end of its table. Its byte order is not told: little-endian, as on every
    /// machine that NVIDIA ships drivers for.
    fn old_layout(bytes: &'a [u8]) -> Self {
        let promised = word(bytes, 12, false).unwrap_or_default();
        let entries = bytes.get(OLD_SIZE..).unwrap_or_default();
        let strings = entries.get(promised.saturating_mul(OLD_ENTRY)..).unwrap_or_default();
        Self { entries, entry_size: OLD_ENTRY, strings, promised, big_endian: false }
    }

    fn entries(&self, wanted: impl Fn(&str) -> bool) -> (Vec<CacheEntry<'a>>, Option<CacheError>) {
        let mut found = Vec::new();
        for (read, entry) in self.entries.chunks_exact(self.entry_size).take(self.promised).enumerate() {
            let Some(name) = self.string(entry, 4) else { return (found, Some(self.truncated(read))) };
            if wanted(name) {
                let Some(path) = self.string(entry, 8) else { return (found, Some(self.truncated(read))) };
                found.push(CacheEntry { name, path });
            }
        }
        let held = self.entries.len() / self.entry_size;
        let error = (held < self.promised).then(|| self.truncated(held));
        (found, error)
    }

    fn truncated(&self, read: usize) -> CacheError {
        CacheError::Truncated { read, promised: self.promised }
    }

    /// The string whose offset stands at `at` of an entry.
    fn string(&self, entry: &[u8], at: usize) -> Option<&'a str> {
        let rest = self.strings.get(word(entry, at, self.big_endian)?..)?;
        let end = rest.iter().take(LONGEST).position(|byte| *byte == 0)?;
        std::str::from_utf8(rest.get(..end)?).ok()
    }
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> Option<usize> {
    let field: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    let number = if big_endian { u32::from_be_bytes(field) } else { u32::from_le_bytes(field) };
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use testdata::ld_so_cache::{self, Endian, Format};

    use super::*;

    fn cache(count: usize, format: Format, endian: Endian) -> Vec<u8> {
        let entry = |at| ld_so_cache::CacheEntry {
            flags: 0x0303,
            name: format!("lib{at}.so.1"),
            path: format!("/usr/lib/lib{at}.so.1"),
        };
        ld_so_cache::write(&(0..count).map(entry).collect::<Vec<_>>(), format, endian)
    }

    #[test]
    fn every_layout_and_byte_order() {
        let little = [Format::New, Format::Old, Format::Both].map(|format| (format, Endian::Little));
        let cases = little.into_iter().chain([(Format::New, Endian::Big)]);
        for (format, endian) in cases {
            // Odd and even counts, so that the new table of `Both` needs padding in one of them.
            for count in [3, 4] {
                let bytes = cache(count, format, endian);
                let (entries, error) = parse(&bytes, |name| name != "lib1.so.1");
                assert_eq!(error, None, "{format:?}");
                assert_eq!(entries.len(), count - 1);
                assert_eq!(entries[1], CacheEntry { name: "lib2.so.1", path: "/usr/lib/lib2.so.1" });
            }
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a real file of this machine")]
    fn the_cache_of_this_machine() {
        let bytes = std::fs::read("/etc/ld.so.cache").unwrap();
        let (entries, error) = parse(&bytes, |name| name == "libc.so.6");
        assert_eq!(error, None);
        assert!(entries.iter().any(|entry| entry.path.ends_with("/libc.so.6")));
    }

    #[test]
    fn a_damaged_cache_gives_what_stands_before_the_damage() {
        let whole = cache(4, Format::New, Endian::Little);
        let (entries, error) = parse(&whole[..48 + 2 * 24], |_| true);
        assert_eq!((entries.len(), error), (0, Some(CacheError::Truncated { read: 0, promised: 4 })));
        let (entries, error) = parse(&whole[..whole.len() - 1], |_| true);
        assert_eq!((entries.len(), error), (3, Some(CacheError::Truncated { read: 3, promised: 4 })));
        assert_eq!(parse(b"", |_| true).1, Some(CacheError::Magic));
        let mut odd = whole;
        odd[ENDIAN_AT] = 7;
        assert_eq!(parse(&odd, |_| true).1, Some(CacheError::ByteOrder(7)));
    }

    #[test]
    fn ldcache_fuzz() {
        for format in [Format::New, Format::Both, Format::Old] {
            let whole = cache(3, format, Endian::Little);
            for end in 0..whole.len() {
                parse(&whole[..end], |_| true);
            }
            for at in 0..whole.len() * 8 {
                let mut broken = whole.clone();
                broken[at / 8] ^= 1 << (at % 8);
                parse(&broken, |_| true);
            }
        }
    }

    #[test]
    fn many_entries_into_one_endless_string() {
        let mut bytes = cache(20_000, Format::New, Endian::Little);
        let endless = bytes.len();
        bytes.extend(vec![b'l'; 8 << 20]);
        for entry in 0..20_000 {
            let at = NEW_SIZE + entry * NEW_ENTRY + 4;
            bytes[at..at + 4].copy_from_slice(&u32::try_from(endless).unwrap().to_le_bytes());
        }
        assert_eq!(parse(&bytes, |_| true).1, Some(CacheError::Truncated { read: 0, promised: 20_000 }));
    }

    #[test]
    fn a_million_entries() {
        let bytes = cache(1_000_000, Format::New, Endian::Little);
        let (entries, error) = parse(&bytes, |name| name == "lib999999.so.1");
        assert_eq!((entries.len(), error), (1, None));
    }
}
