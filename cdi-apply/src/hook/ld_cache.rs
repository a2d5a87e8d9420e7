//! The loader's cache, `/etc/ld.so.cache`: read, extended and written as `ldconfig` does. Pure.
//!
//! glibc's `dl-cache.h` is the definition. Two tables are in the wild: the old one (`ld.so-1.7.0`), which glibc 2.2 and
//! later read only where there is no other, and the new one (`glibc-ld.so.cache1.1`), alone or behind the old one. We
//! read each and write the new one alone, as ldconfig has done since 2.32. Behind the strings may stand extensions
//! (glibc 2.33): the names of the glibc-hwcaps directories, which entries refer to by number, and who wrote the file.
//!
//! The loader looks a name up by halving, so the order is part of the format: descending by [`compare_names`], then by
//! flags; then entries of glibc-hwcaps directories; of those that are left the first one counts.

mod insertion;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ffi::{CStr, c_char};

pub use insertion::Insertion;

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;
const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const NEW_HEADER: usize = 48;
const NEW_ENTRY: usize = 24;
/// Where the new header tells the size of all strings, and an entry where its strings stand.
const STRINGS_SIZE_AT: usize = 24;
const NAME_AT: usize = 4;
const PATH_AT: usize = 8;
/// Where the new header tells the byte order, and which one this machine's is.
const ENDIAN_AT: usize = 28;
const ENDIAN: u8 = if cfg!(target_endian = "little") { 2 } else { 3 };
/// Where the new header says that extensions stand.
const EXTENSIONS_AT: usize = 32;
const EXTENSIONS_MAGIC: u32 = 0xEAA4_2174;
const EXTENSION: usize = 16;
/// The extension whose words are offsets of names.
const HWCAPS_TAG: u32 = 1;
/// Set in the hwcap field of an entry that is in a glibc-hwcaps directory; the low half is that directory's number.
const IN_HWCAPS: u64 = 1 << 62;

/// No name is longer (`PATH_MAX`).
const MAX_NAME: usize = 4096;
/// The largest caches seen have some 20,000 entries and 2 MiB. That of an image may be made to cost what it can.
pub const MAX_BYTES: usize = 8 << 20;
/// Entries that are read at most, five times as many.
const MAX_ENTRIES: usize = 100_000;
/// Entries may share strings, which are compared and written for each: no more than so many bytes.
const MAX_STRINGS: usize = 5 << 20;
/// Real ones have two extensions of some hundred bytes.
const MAX_EXTENSIONS: usize = 16;
const MAX_EXTENSIONS_SIZE: usize = 64 << 10;

/// One line of `ldconfig -p`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry<'c> {
    /// Which loaders may use it: word size, machine and C library.
    pub flags: u32,
    /// The name that programs ask for.
    pub name: Cow<'c, [u8]>,
    /// The file that the loader opens.
    pub path: Cow<'c, [u8]>,
    /// Least kernel version; zero since glibc 2.36.
    pub os_version: u32,
    /// Processor features that it is for.
    pub hwcap: u64,
}

impl Entry<'_> {
    fn is_in_hwcaps(&self) -> bool {
        self.hwcap & IN_HWCAPS != 0
    }

    fn text_size(&self) -> usize {
        self.name.len() + self.path.len()
    }

    /// The directory that its file is in.
    pub fn dir(&self) -> &[u8] {
        let end = self.path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
        self.path.get(..end).unwrap_or_default()
    }
}

/// Entries to be put into a cache.
#[derive(Clone, Debug, Default)]
pub struct Added<'c> {
    /// They come before those with their name.
    pub first: Vec<Entry<'c>>,
    /// They come behind those with their name; one that is there already is not added.
    pub last: Vec<Entry<'c>>,
}

/// A cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache<'c> {
    /// In the order in which the loader finds them.
    pub entries: Vec<Entry<'c>>,
    /// Names of the glibc-hwcaps directories.
    hwcaps: Vec<&'c [u8]>,
    /// Extensions that we need not understand: tag, flags and bytes.
    others: Vec<(u32, u32, Cow<'c, [u8]>)>,
}

/// Why a file is no cache that can be extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// Another magic number.
    #[error("not an ld.so.cache")]
    Magic,
    /// Of a machine of the other byte order.
    #[error("an ld.so.cache of another byte order")]
    ByteOrder,
    /// A table or a string ends beyond the file.
    #[error("a damaged ld.so.cache")]
    Damaged,
    /// It would cost more than any real one.
    #[error("an ld.so.cache with more in it than can be sorted")]
    TooLong,
}

impl<'c> Cache<'c> {
    /// Reads a cache.
    ///
    /// # Errors
    /// The bytes are no cache, or a damaged one.
    pub fn parse(bytes: &'c [u8]) -> Result<Self, CacheError> {
        if bytes.starts_with(NEW_MAGIC) {
            return Self::parse_new(bytes, bytes);
        }
        if !bytes.starts_with(OLD_MAGIC) {
            return Err(CacheError::Magic);
        }
        let count = word(bytes, 12)?;
        let end =
            count.checked_mul(OLD_ENTRY).and_then(|size| size.checked_add(OLD_HEADER)).ok_or(CacheError::Damaged)?;
        // The new table is aligned behind the old one, whatever the old one's entries were aligned to.
        let behind = [8, 4].into_iter().filter_map(|align| bytes.get(end.checked_next_multiple_of(align)?..));
        match behind.into_iter().find(|rest| rest.starts_with(NEW_MAGIC)) {
            Some(table) => Self::parse_new(table, bytes),
            None => Self::parse_old(bytes, count, end),
        }
    }

    /// Names of the old table count from its end.
    fn parse_old(bytes: &'c [u8], count: usize, end: usize) -> Result<Self, CacheError> {
        let table = bytes.get(OLD_HEADER..end).ok_or(CacheError::Damaged)?;
        let strings = bytes.get(end..).unwrap_or_default();
        let entry = |entry: &[u8]| {
            let (name, path) = (string(strings, word(entry, 4)?)?.into(), string(strings, word(entry, 8)?)?.into());
            Ok(Entry { flags: number(entry, 0)?, name, path, os_version: 0, hwcap: 0 })
        };
        let entries = within_limits(count, table.chunks_exact(OLD_ENTRY).take(count).map(entry))?;
        Ok(Self { entries, ..Self::default() })
    }

    /// Names count from the start of the new header, extensions from that of the file.
    fn parse_new(table: &'c [u8], file: &'c [u8]) -> Result<Self, CacheError> {
        if !matches!(table.get(ENDIAN_AT), Some(0) | Some(&ENDIAN)) {
            return Err(CacheError::ByteOrder);
        }
        let count = word(table, NEW_MAGIC.len())?;
        let end = count.checked_mul(NEW_ENTRY).and_then(|size| size.checked_add(NEW_HEADER));
        let entries = end.and_then(|end| table.get(NEW_HEADER..end)).ok_or(CacheError::Damaged)?;
        let entries = entries.chunks_exact(NEW_ENTRY).map(|raw| Self::parse_entry(table, raw));
        let entries = within_limits(count, entries)?;
        let mut cache = Self { entries, ..Self::default() };
        cache.parse_extensions(table, file)?;
        Ok(cache)
    }

    fn parse_entry(table: &'c [u8], raw: &[u8]) -> Result<Entry<'c>, CacheError> {
        let [name, path] = [NAME_AT, PATH_AT].map(|at| string(table, word(raw, at)?));
        Ok(Entry { name: name?.into(), path: path?.into(), ..entry_of(raw)? })
    }

    fn parse_extensions(&mut self, table: &'c [u8], file: &'c [u8]) -> Result<(), CacheError> {
        let at = word(table, EXTENSIONS_AT)?;
        // ldconfig before 2.33 leaves the field zero, and so does one that has nothing to say.
        let Some(directory) = file.get(at..).filter(|_| at != 0) else { return Ok(()) };
        if number(directory, 0) != Ok(EXTENSIONS_MAGIC) {
            return Ok(());
        }
        let count = word(directory, 4)?.min(MAX_EXTENSIONS);
        let mut left = MAX_EXTENSIONS_SIZE;
        for extension in directory.get(8..).unwrap_or_default().chunks_exact(EXTENSION).take(count) {
            let (tag, flags) = (number(extension, 0)?, number(extension, 4)?);
            let (start, size) = (word(extension, 8)?, word(extension, 12)?);
            let bytes = start.checked_add(size).and_then(|end| file.get(start..end)).ok_or(CacheError::Damaged)?;
            left = left.checked_sub(size).ok_or(CacheError::TooLong)?;
            if tag == HWCAPS_TAG {
                let names = bytes.chunks_exact(4).map(|offset| string(table, word(offset, 0)?));
                self.hwcaps = names.collect::<Result<_, _>>()?;
                let text = self.hwcaps.iter().map(|name| name.len()).sum();
                left = left.checked_sub(text).ok_or(CacheError::TooLong)?;
            } else {
                self.others.push((tag, flags, bytes.into()));
            }
        }
        Ok(())
    }

    /// The entries of a name and flags, wherever their files are.
    pub fn of(&self, name: &[u8], flags: u32) -> &[Entry<'c>] {
        let key = |entry: &Entry<'_>| compare_names(name, &entry.name).then_with(|| flags.cmp(&entry.flags));
        let start = self.entries.partition_point(|entry| key(entry).is_lt());
        let end = self.entries.partition_point(|entry| key(entry).is_le());
        self.entries.get(start..end).unwrap_or_default()
    }

    /// Takes out what is in some directories, and puts entries where they belong.
    pub fn update(&mut self, added: Added<'c>, gone: &[&[u8]]) {
        self.entries.retain(|entry| !gone.contains(&entry.dir()));
        // In a file whose order is wrong others stand where an entry is looked for.
        let is = |entry: &Entry<'_>, held: &Entry<'_>| {
            (&held.path, &held.name, held.flags) == (&entry.path, &entry.name, entry.flags)
        };
        let held = |entry: &Entry<'_>| self.of(&entry.name, entry.flags).iter().any(|held| is(entry, held));
        let last: Vec<Entry<'c>> = added.last.into_iter().filter(|entry| !held(entry)).collect();
        self.entries.splice(..0, added.first);
        self.entries.extend(last);
        self.entries.sort_by(order);
    }

    /// The file, or `None` if it would be longer than one that is read.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut strings = Strings { start: NEW_HEADER + self.entries.len() * NEW_ENTRY, ..Strings::default() };
        let entries: Option<Vec<_>> = self.entries.iter().map(|entry| strings.entry(entry)).collect();
        let hwcaps: Option<Vec<_>> = self.hwcaps.iter().map(|name| strings.add(name).map(u32::to_ne_bytes)).collect();
        let end = strings.start + strings.bytes.len();
        let extensions_at = if self.hwcaps.is_empty() && self.others.is_empty() { 0 } else { end.next_multiple_of(4) };
        let mut file = NEW_MAGIC.to_vec();
        file.extend(u32::try_from(self.entries.len()).ok()?.to_ne_bytes());
        file.extend(u32::try_from(strings.bytes.len()).ok()?.to_ne_bytes());
        file.extend([ENDIAN, 0, 0, 0]);
        file.extend(u32::try_from(extensions_at).ok()?.to_ne_bytes());
        file.resize(NEW_HEADER, 0);
        file.extend(entries?.as_flattened());
        file.extend(strings.bytes);
        if extensions_at != 0 {
            file.resize(extensions_at, 0);
            self.write_extensions(hwcaps?.as_flattened(), &mut file)?;
        }
        let text: usize = self.entries.iter().map(Entry::text_size).sum();
        let can_be_read = file.len() <= MAX_BYTES && self.entries.len() <= MAX_ENTRIES && text <= MAX_STRINGS;
        can_be_read.then_some(file)
    }

    fn write_extensions(&self, hwcaps: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
        let hwcaps = (!hwcaps.is_empty()).then_some((HWCAPS_TAG, 0, Cow::from(hwcaps)));
        let extensions: Vec<_> = hwcaps.into_iter().chain(self.others.iter().cloned()).collect();
        let mut at = bytes.len() + 8 + extensions.len() * EXTENSION;
        let count = u32::try_from(extensions.len()).ok()?;
        bytes.extend([EXTENSIONS_MAGIC, count].into_iter().flat_map(u32::to_ne_bytes));
        for (tag, flags, data) in &extensions {
            let (start, size) = (u32::try_from(at).ok()?, u32::try_from(data.len()).ok()?);
            bytes.extend([*tag, *flags, start, size].into_iter().flat_map(u32::to_ne_bytes));
            at += data.len().next_multiple_of(4);
        }
        for (_, _, data) in extensions {
            bytes.extend(&*data);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        Some(())
    }
}

/// Strings with their end marks, behind the tables.
#[derive(Default)]
struct Strings {
    start: usize,
    bytes: Vec<u8>,
}

impl Strings {
    /// An entry as it stands in the table.
    fn entry(&mut self, entry: &Entry<'_>) -> Option<[u8; NEW_ENTRY]> {
        let numbers = [entry.flags, self.add(&entry.name)?, self.add(&entry.path)?, entry.os_version];
        let mut raw = [0; NEW_ENTRY];
        raw.as_chunks_mut().0.iter_mut().zip(numbers).for_each(|(to, number)| *to = number.to_ne_bytes());
        raw.last_chunk_mut().into_iter().for_each(|to| *to = entry.hwcap.to_ne_bytes());
        Some(raw)
    }

    /// Where a string stands.
    fn add(&mut self, text: &[u8]) -> Option<u32> {
        let at = u32::try_from(self.start + self.bytes.len()).ok().filter(|_| self.bytes.len() < MAX_BYTES)?;
        self.bytes.extend(text);
        self.bytes.push(0);
        Some(at)
    }
}

/// The order of a cache. It leaves entries that differ in nothing but their path as they stand.
fn order(one: &Entry<'_>, other: &Entry<'_>) -> Ordering {
    let by_hwcaps = || match (one.is_in_hwcaps(), other.is_in_hwcaps()) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        // As ldconfig sorted them: by the directory's name, which only it knows how to weigh.
        (true, true) => Ordering::Equal,
        (false, false) => other.hwcap.cmp(&one.hwcap),
    };
    by_name(one, other).then_with(by_hwcaps)
}

/// As far as names and flags tell.
fn by_name(one: &Entry<'_>, other: &Entry<'_>) -> Ordering {
    compare_names(&other.name, &one.name).then_with(|| other.flags.cmp(&one.flags))
}

/// glibc's `_dl_cache_libcmp`: runs of digits count as numbers, and digits come behind all else.
pub fn compare_names(one: &[u8], other: &[u8]) -> Ordering {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    // A number may have begun in what they share.
    let number = one.iter().take(same).rev().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = |name| <[u8]>::get(name, same - number..).unwrap_or_default();
    let (mut one, mut other) = (rest(one), rest(other));
    loop {
        let (a, b) = (one.first().copied(), other.first().copied());
        let is_digit = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_digit());
        match (is_digit(a), is_digit(b)) {
            (false, false) if a == b && a.is_some() => {
                (one, other) = (one.get(1..).unwrap_or_default(), other.get(1..).unwrap_or_default());
            }
            (false, false) => return a.map(character).cmp(&b.map(character)),
            (false, true) => return Ordering::Less,
            (true, false) => return Ordering::Greater,
            (true, true) => {
                let (number_of_one, rest_of_one) = one.split_at(leading_digits(one));
                let (number_of_other, rest_of_other) = other.split_at(leading_digits(other));
                let by_number = value(number_of_one).cmp(&value(number_of_other));
                if by_number.is_ne() {
                    return by_number;
                }
                (one, other) = (rest_of_one, rest_of_other);
            }
        }
    }
}

/// Signed on some machines.
fn character(byte: u8) -> c_char {
    c_char::from_ne_bytes([byte])
}

fn leading_digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// As glibc counts, in an `int` that runs over.
fn value(digits: &[u8]) -> i32 {
    digits.iter().fold(0, |value: i32, digit| value.wrapping_mul(10).wrapping_add(i32::from(digit - b'0')))
}

/// Entries, if there are not too many of them.
fn within_limits<'c>(
    count: usize,
    entries: impl Iterator<Item = Result<Entry<'c>, CacheError>>,
) -> Result<Vec<Entry<'c>>, CacheError> {
    let mut left = if count > MAX_ENTRIES { return Err(CacheError::TooLong) } else { MAX_STRINGS };
    let mut kept = Vec::with_capacity(count);
    for entry in entries {
        let entry = entry?;
        left = left.checked_sub(entry.text_size()).ok_or(CacheError::TooLong)?;
        kept.push(entry);
    }
    Ok(kept)
}

/// What an entry of the new layout says without its strings.
fn entry_of(raw: &[u8]) -> Result<Entry<'static>, CacheError> {
    let hwcap = u64::from(number(raw, 16)?) | u64::from(number(raw, 20)?) << 32;
    let hwcap = if cfg!(target_endian = "little") { hwcap } else { hwcap.rotate_left(32) };
    Ok(Entry { flags: number(raw, 0)?, os_version: number(raw, 12)?, hwcap, ..Entry::default() })
}

fn number(bytes: &[u8], at: usize) -> Result<u32, CacheError> {
    let field = at.checked_add(4).and_then(|end| bytes.get(at..end)).ok_or(CacheError::Damaged)?;
    Ok(u32::from_ne_bytes(field.try_into().map_err(|_| CacheError::Damaged)?))
}

fn word(bytes: &[u8], at: usize) -> Result<usize, CacheError> {
    usize::try_from(number(bytes, at)?).map_err(|_| CacheError::Damaged)
}

fn string(strings: &[u8], at: usize) -> Result<&[u8], CacheError> {
    let rest = strings.get(at..).ok_or(CacheError::Damaged)?;
    let text = CStr::from_bytes_until_nul(rest.get(..MAX_NAME).unwrap_or(rest));
    text.map(CStr::to_bytes).map_err(|_| CacheError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by the fuzzer: where the order is wrong, another entry of the same path stood in the place of ours.
    #[test]
    fn what_is_added_is_in_a_cache_of_whatever_order() {
        let bytes = include_bytes!("../../../xtask/fuzz/seeds/ld_so_cache/wrong-order");
        let mut cache = Cache::parse(bytes).unwrap();
        let path = &b"/last/libcuda.so.1"[..];
        let entry =
            Entry { flags: 0x0303, name: b"libcuda.so.1"[..].into(), path: path.into(), os_version: 0, hwcap: 0 };
        cache.update(Added { first: Vec::new(), last: vec![entry] }, &[]);
        assert!(cache.of(b"libcuda.so.1", 0x0303).iter().any(|entry| &*entry.path == path));
    }
}
