//! Insertion: entries put into a cache as it stands, with little of it in memory. Pure.
//!
//! What images have is the new layout alone. There an entry more pushes back what stands behind it and changes nothing
//! else, so that a cache of 20,000 libraries need not be read and written entry by entry: some look-ups find the places,
//! and all else goes through a small buffer. In a new container memory is dear: each page that a process touches first
//! is cleared and charged to the container, which takes longer than to read what comes into it.

use std::io::{self, Write};
use std::ops::Range;

use cdi_gen::facts::elf::ReadAt;

use super::{
    Added, CacheError, ENDIAN, ENDIAN_AT, EXTENSION, EXTENSIONS_AT, EXTENSIONS_MAGIC, Entry, HWCAPS_TAG, MAX_BYTES,
    MAX_ENTRIES, MAX_EXTENSIONS, MAX_EXTENSIONS_SIZE, MAX_NAME, MAX_STRINGS, NAME_AT, NEW_ENTRY, NEW_HEADER, NEW_MAGIC,
    PATH_AT, STRINGS_SIZE_AT, Strings, by_name, entry_of, number, order, string, word,
};

/// Entries that are copied at once, and bytes of strings.
const CHUNK_ENTRIES: usize = 2048;
const CHUNK: usize = CHUNK_ENTRIES * NEW_ENTRY;
/// What is read for a name; few are longer.
const USUAL_NAME: usize = 128;
/// Files of one name in a cache at most: images have some few.
const MAX_SAME: usize = 64;

type Raw = [u8; NEW_ENTRY];

/// A file of the new layout, and what is to be put into it.
pub struct Insertion<'f, F: ?Sized> {
    file: Table<'f, F>,
    /// Entries and before which of the file's they come, in order.
    entries: Vec<(usize, Raw)>,
    header: Vec<u8>,
    moving: Moving,
    /// New strings, and extensions.
    tail: Vec<u8>,
}

impl<'f, F: ReadAt + ?Sized> Insertion<'f, F> {
    /// Finds the places of entries in a file of a size. `None` for another layout, a damaged file, and one that holds
    /// already what is to come first; all these take [`Cache::parse`](super::Cache::parse).
    ///
    /// # Errors
    /// As the file's.
    pub fn new(file: &'f F, size: usize, added: &Added<'_>) -> io::Result<Option<Self>> {
        match Self::find(file, size, added) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            found => found.map(Some),
        }
    }

    fn find(file: &'f F, size: usize, added: &Added<'_>) -> io::Result<Self> {
        let (file, header) = Table::open(file, size)?;
        let places = file.places(added)?;
        let shift = places.len() * NEW_ENTRY;
        let moving = Moving::new(&file.strings, shift)?;
        let mut strings = Strings { start: file.strings.end + shift, ..Strings::default() };
        let entries: Option<Vec<_>> = places.iter().map(|(at, entry)| Some((*at, strings.entry(entry)?))).collect();
        let entries = entries.ok_or_else(unfit)?;
        let strings_size = file.strings.len() + strings.bytes.len();
        let mut this = Self { file, entries, header, moving, tail: strings.bytes };
        let count = this.file.count + this.entries.len();
        if count > MAX_ENTRIES || this.file.strings.len() + this.tail.len() > MAX_STRINGS {
            return Err(unfit());
        }
        this.set(NEW_MAGIC.len(), count)?;
        this.set(STRINGS_SIZE_AT, strings_size)?;
        let extensions_at = word(&this.header, EXTENSIONS_AT).map_err(|_| unfit())?;
        if extensions_at != 0 {
            this.tail.resize((strings.start + this.tail.len()).next_multiple_of(4) - strings.start, 0);
            let moved_to = strings.start + this.tail.len();
            this.tail.extend(this.file.extensions(extensions_at..size, &this.moving, moved_to)?);
            this.set(EXTENSIONS_AT, moved_to)?;
        }
        Ok(this)
    }

    /// Whether the file has all that is to be in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Writes the file with the entries.
    ///
    /// # Errors
    /// As reading and writing do; or the file is damaged.
    pub fn write(&self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        self.write_entries(&mut buffer, out)?;
        self.file.copy_strings(&mut buffer, out)?;
        out.write_all(&self.tail)
    }

    fn write_entries(&self, buffer: &mut [u8], out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        out.write_all(&self.header)?;
        let mut from = 0;
        for (at, entry) in &self.entries {
            self.copy_entries(from..*at, buffer, out)?;
            out.write_all(entry)?;
            from = *at;
        }
        self.copy_entries(from..self.file.count, buffer, out)
    }

    /// Entries whose strings have moved.
    fn copy_entries(&self, range: Range<usize>, buffer: &mut [u8], out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        for start in range.clone().step_by(CHUNK_ENTRIES) {
            let size = CHUNK_ENTRIES.min(range.end - start) * NEW_ENTRY;
            let chunk = buffer.get_mut(..size).unwrap_or_default();
            self.file.read(chunk, NEW_HEADER + start * NEW_ENTRY)?;
            if !self.moving.shift_entries(chunk) {
                return Err(unfit());
            }
            out.write_all(chunk)?;
        }
        Ok(())
    }

    fn set(&mut self, at: usize, value: usize) -> io::Result<()> {
        set(&mut self.header, at, u32::try_from(value).map_err(|_| unfit())?)
    }
}

/// A file of the new layout.
struct Table<'f, F: ?Sized> {
    file: &'f F,
    /// How many entries it has.
    count: usize,
    /// Where its strings stand, the last of which has an end.
    strings: Range<usize>,
}

impl<'f, F: ReadAt + ?Sized> Table<'f, F> {
    /// The file, and its header.
    fn open(file: &'f F, size: usize) -> io::Result<(Self, Vec<u8>)> {
        let mut table = Self { file, count: 0, strings: 0..0 };
        let mut header = vec![0; NEW_HEADER];
        table.read(&mut header, 0)?;
        if !header.starts_with(NEW_MAGIC) || !matches!(header.get(ENDIAN_AT), Some(0) | Some(&ENDIAN)) {
            return Err(unfit());
        }
        let field = |at| word(&header, at).map_err(|_| unfit());
        table.count = field(NEW_MAGIC.len())?;
        let start = table.count.checked_mul(NEW_ENTRY).and_then(|size| size.checked_add(NEW_HEADER));
        let end = start
            .and_then(|start| start.checked_add(field(STRINGS_SIZE_AT).ok()?))
            .filter(|end| *end <= size.min(MAX_BYTES));
        table.strings = start.zip(end).map(|(start, end)| start..end).ok_or_else(unfit)?;
        let mut last = [0];
        if !table.strings.is_empty() {
            table.read(&mut last, table.strings.end - 1)?;
        }
        if last == [0] { Ok((table, header)) } else { Err(unfit()) }
    }

    /// Fills the buffer from an offset.
    fn read(&self, buffer: &mut [u8], offset: usize) -> io::Result<()> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, (offset + filled) as u64)? {
                0 => return Err(unfit()),
                count => filled += count,
            }
        }
        Ok(())
    }

    fn copy_strings(&self, buffer: &mut [u8], out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        for start in self.strings.clone().step_by(CHUNK) {
            let chunk = buffer.get_mut(..CHUNK.min(self.strings.end - start)).unwrap_or_default();
            self.read(chunk, start)?;
            out.write_all(chunk)?;
        }
        Ok(())
    }

    /// An entry, but for its path.
    fn key(&self, at: usize) -> io::Result<Entry<'static>> {
        let raw = self.raw(at)?;
        Ok(Entry { name: self.string(&raw, NAME_AT)?.into(), ..entry_of(&raw).map_err(|_| unfit())? })
    }

    fn path(&self, at: usize) -> io::Result<Vec<u8>> {
        self.string(&self.raw(at)?, PATH_AT)
    }

    fn raw(&self, at: usize) -> io::Result<Raw> {
        let mut raw = [0; NEW_ENTRY];
        self.read(&mut raw, NEW_HEADER + at * NEW_ENTRY)?;
        Ok(raw)
    }

    /// The string that a field of an entry says.
    fn string(&self, raw: &Raw, field: usize) -> io::Result<Vec<u8>> {
        let start = word(raw, field).ok().filter(|start| self.strings.contains(start)).ok_or_else(unfit)?;
        for size in [USUAL_NAME, MAX_NAME] {
            let mut bytes = vec![0; size.min(self.strings.end - start)];
            self.read(&mut bytes, start)?;
            if let Ok(text) = string(&bytes, 0) {
                return Ok(text.to_vec());
            }
        }
        Err(unfit())
    }

    /// Before which entries the added ones come, in order.
    fn places<'a>(&self, added: &'a Added<'_>) -> io::Result<Vec<(usize, &'a Entry<'a>)>> {
        let mut wanted: Vec<(bool, &Entry<'_>)> = added.first.iter().map(|entry| (true, entry)).collect();
        wanted.extend(added.last.iter().map(|entry| (false, entry)));
        wanted.sort_by(|(_, one), (_, other)| order(one, other));
        let mut keys = Keys { table: self, latest: (usize::MAX, Entry::default()) };
        let (mut places, mut start) = (Vec::new(), 0);
        for (is_first, entry) in wanted {
            start = keys.start_of(entry, start)?;
            let (mut place, mut is_held) = (start, false);
            for at in start..self.count {
                let known = keys.at(at)?;
                if by_name(known, entry).is_ne() {
                    break;
                }
                if at - start == MAX_SAME {
                    return Err(unfit());
                }
                let comes_before = if is_first { order(known, entry).is_lt() } else { order(known, entry).is_le() };
                place += usize::from(comes_before);
                is_held |= self.path(at)? == *entry.path;
            }
            match (is_first, is_held) {
                // It may stand behind others.
                (true, true) => return Err(unfit()),
                (false, true) => {}
                (_, false) => places.push((place, entry)),
            }
        }
        places.sort_by(|(one_at, one), (other_at, other)| one_at.cmp(other_at).then_with(|| order(one, other)));
        Ok(places)
    }

    /// The extensions, moved; whatever they refer to stands among them or is a string.
    fn extensions(&self, range: Range<usize>, moving: &Moving, moved_to: usize) -> io::Result<Vec<u8>> {
        if range.start < self.strings.end || range.len() > MAX_EXTENSIONS_SIZE {
            return Err(unfit());
        }
        let mut bytes = vec![0; range.len()];
        self.read(&mut bytes, range.start)?;
        let field = |bytes: &[u8], at| word(bytes, at).map_err(|_| unfit());
        let count = field(&bytes, 4)?;
        if number(&bytes, 0) != Ok(EXTENSIONS_MAGIC) || count > MAX_EXTENSIONS {
            return Err(unfit());
        }
        // What is moved for one must be nothing of another's.
        let mut taken = vec![(0, 8 + count * EXTENSION)];
        for at in (0..count).map(|index| 8 + index * EXTENSION) {
            let (start, size) = (field(&bytes, at + 8)?, field(&bytes, at + 12)?);
            let start = start.checked_sub(range.start).ok_or_else(unfit)?;
            let end = start.checked_add(size).ok_or_else(unfit)?;
            if taken.iter().any(|(other, its_end)| start < *its_end && *other < end) {
                return Err(unfit());
            }
            taken.push((start, end));
            set(&mut bytes, at + 8, u32::try_from(moved_to + start).map_err(|_| unfit())?)?;
            let is_names = number(&bytes, at) == Ok(HWCAPS_TAG);
            let mut names =
                bytes.get_mut(start..end).ok_or_else(unfit)?.as_chunks_mut().0.iter_mut().filter(|_| is_names);
            if !names.all(|name| moving.shift(name)) {
                return Err(unfit());
            }
        }
        Ok(bytes)
    }
}

/// Strings that move, all by as many bytes.
struct Moving {
    start: u32,
    size: u32,
    by: u32,
}

impl Moving {
    fn new(strings: &Range<usize>, by: usize) -> io::Result<Self> {
        let [start, size, by] = [strings.start, strings.len(), by].map(u32::try_from);
        let (Ok(start), Ok(size), Ok(by)) = (start, size, by) else { return Err(unfit()) };
        Ok(Self { start, size, by })
    }

    /// Changes an offset, and tells whether it leads to one of them.
    fn shift(&self, field: &mut [u8; 4]) -> bool {
        let offset = u32::from_ne_bytes(*field);
        *field = offset.wrapping_add(self.by).to_ne_bytes();
        offset.wrapping_sub(self.start) < self.size
    }

    /// The same for the two offsets of each entry. Not inlined, so that it stays the short loop that 20,000 of them want.
    #[inline(never)]
    fn shift_entries(&self, entries: &mut [u8]) -> bool {
        let mut all_stand = true;
        for [_flags, name, path, ..] in entries.as_chunks_mut().0.as_chunks_mut::<{ NEW_ENTRY / 4 }>().0 {
            all_stand &= self.shift(name) & self.shift(path);
        }
        all_stand
    }
}

/// Entries of a table, but for their paths. The latest one is kept: the next name's place is mostly the same.
struct Keys<'t, F: ?Sized> {
    table: &'t Table<'t, F>,
    latest: (usize, Entry<'static>),
}

impl<F: ReadAt + ?Sized> Keys<'_, F> {
    fn at(&mut self, at: usize) -> io::Result<&Entry<'static>> {
        if self.latest.0 != at {
            self.latest = (at, self.table.key(at)?);
        }
        Ok(&self.latest.1)
    }

    /// Where the entries of a name start, or would; not before `low`, behind which it mostly is not far.
    fn start_of(&mut self, entry: &Entry<'_>, low: usize) -> io::Result<usize> {
        let (mut low, mut high, mut step) = (low, self.table.count, 1);
        while low < high {
            let widening = low.checked_add(step - 1).filter(|at| *at < high);
            let middle = widening.unwrap_or_else(|| low.midpoint(high));
            if by_name(self.at(middle)?, entry).is_lt() {
                low = middle + 1;
                step = step.saturating_mul(2);
            } else {
                high = middle;
                // From here on by halves.
                step = usize::MAX;
            }
        }
        Ok(low)
    }
}

fn set(bytes: &mut [u8], at: usize, value: u32) -> io::Result<()> {
    let field = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()).ok_or_else(unfit)?;
    *field = value.to_ne_bytes();
    Ok(())
}

/// The file is damaged, or another way must be taken.
fn unfit() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, CacheError::Damaged)
}
