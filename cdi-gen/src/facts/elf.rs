//! ELF heads: class, machine, DT_SONAME and PT_INTERP, read with a few positioned reads (elf(5), gABI chapter 5).
//!
//! The file may be anything: each offset and size in it is a claim, checked against caps, never trusted for an
//! allocation. Only the dynamic section and one string are read, however large the library.

use std::io;

use serde::Serialize;

/// Program headers that a sane shared object has at most.
const MAX_PROGRAM_HEADERS: u16 = 128;
/// Bytes of a dynamic section read at most: 1024 entries of 16 bytes.
const MAX_DYNAMIC: u64 = 16 << 10;
/// Bytes of one string read at most, `PATH_MAX`.
const MAX_STRING: usize = 4096;

/// Section headers that a sane shared object has at most, bytes of one, and bytes of a section of notes.
const MAX_SECTIONS: u16 = 1024;
const MAX_SECTION_HEADER: usize = 256;
const MAX_NOTES: u64 = 64 << 10;

const SHT_NOTE: u64 = 7;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u64 = 0;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;

/// Word size (`EI_CLASS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// 32 bit.
    Elf32,
    /// 64 bit.
    Elf64,
}

/// Instruction set (`e_machine`), as far as NVIDIA ships drivers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Machine {
    /// 32-bit x86.
    I386,
    /// 64-bit x86.
    #[serde(rename = "x86-64")]
    X86_64,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm.
    Arm,
    /// Anything else.
    Other(u16),
}

impl Machine {
    /// The name in `/proc/driver/nvidia/version`.
    pub fn from_kernel_name(name: &str) -> Option<Self> {
        match name {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// The 32-bit machine whose programs a host of this machine runs too.
    pub fn compat32(self) -> Option<Self> {
        match self {
            Self::X86_64 => Some(Self::I386),
            Self::Aarch64 => Some(Self::Arm),
            _ => None,
        }
    }

    /// Its word size, as far as NVIDIA ships drivers for it.
    pub fn class(self) -> Class {
        if matches!(self, Self::I386 | Self::Arm) { Class::Elf32 } else { Class::Elf64 }
    }

    /// The directory name of Debian's multiarch.
    pub fn triplet(self) -> Option<&'static str> {
        match self {
            Self::I386 => Some("i386-linux-gnu"),
            Self::X86_64 => Some("x86_64-linux-gnu"),
            Self::Aarch64 => Some("aarch64-linux-gnu"),
            Self::Arm => Some("arm-linux-gnueabihf"),
            Self::Other(_) => None,
        }
    }

    fn from_elf(machine: u16) -> Self {
        match machine {
            3 => Self::I386,
            40 => Self::Arm,
            62 => Self::X86_64,
            183 => Self::Aarch64,
            other => Self::Other(other),
        }
    }
}

/// What the head of an ELF file tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ElfFacts {
    /// Word size.
    pub class: Class,
    /// Instruction set.
    pub machine: Machine,
    /// `DT_SONAME`: the name that programs ask the loader for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soname: Option<String>,
    /// `PT_INTERP`: the loader that starts the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
}

/// Why a file is no ELF file that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// Zero bytes: a placeholder that an image build under a GPU runtime left behind.
    #[error("empty file")]
    Empty,
    /// Another magic number.
    #[error("not an ELF file")]
    NotElf,
    /// A header that contradicts itself or the file.
    #[error("malformed ELF file: {0}")]
    Malformed(&'static str),
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Random access to the bytes of a file: fills the buffer from an offset as far as the file goes.
pub trait ReadAt {
    /// Reads at `offset`; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// A read error.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for std::fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        Ok(count)
    }
}

/// Reads the head of an ELF file.
///
/// # Errors
/// The file is empty, is not ELF, or contradicts itself.
pub fn parse(file: &(impl ReadAt + ?Sized)) -> Result<ElfFacts, ElfError> {
    // One page holds the header and, in every real library, the program headers too.
    let head = read_range(file, 0, 4096)?;
    let elf = Layout::parse(&head)?;
    let headers = elf.program_headers(file, &head)?;
    let interpreter = headers
        .iter()
        .find(|header| header.kind == PT_INTERP)
        .map(|header| read_string(file, header.offset))
        .transpose()?;
    let soname = elf.soname(file, &headers)?;
    Ok(ElfFacts { class: elf.class, machine: elf.machine, soname, interpreter })
}

/// What the notes of an owner say (gABI, "Note Section"), in the order of the file's note sections.
///
/// # Errors
/// As [`parse`]. A damaged note section ends with the notes before the damage.
pub fn notes(file: &(impl ReadAt + ?Sized), owner: &str) -> Result<Vec<Vec<u8>>, ElfError> {
    let head = read_range(file, 0, 64)?;
    let elf = Layout::parse(&head)?;
    let (at, size, count) = match elf.class {
        Class::Elf32 => (elf.word(&head, 32, 4), elf.word(&head, 46, 2), elf.word(&head, 48, 2)),
        Class::Elf64 => (elf.word(&head, 40, 8), elf.word(&head, 58, 2), elf.word(&head, 60, 2)),
    };
    let (Some(at), Some(size), Some(count)) = (at, size.map(narrow), count.map(narrow)) else { return Ok(Vec::new()) };
    if count > MAX_SECTIONS || usize::from(size) > MAX_SECTION_HEADER {
        return Err(ElfError::Malformed("too many section headers"));
    }
    let table = read_range(file, at, usize::from(size) * usize::from(count))?;
    let mut found = Vec::new();
    for (offset, size, align) in
        table.chunks_exact(usize::from(size).max(1)).filter_map(|entry| elf.note_section(entry))
    {
        let section = read_range(file, offset, usize::try_from(size.min(MAX_NOTES)).unwrap_or_default())?;
        elf.notes_of(&section, align, owner, &mut found);
    }
    Ok(found)
}

/// The fields of the ELF header that say how to read the rest.
struct Layout {
    class: Class,
    big_endian: bool,
    machine: Machine,
    table_offset: u64,
    entry_size: u16,
    entry_count: u16,
}

/// One program header.
struct ProgramHeader {
    kind: u32,
    offset: u64,
    address: u64,
    file_size: u64,
}

impl Layout {
    fn parse(head: &[u8]) -> Result<Self, ElfError> {
        if head.is_empty() {
            return Err(ElfError::Empty);
        }
        if !head.starts_with(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        let class = match head.get(4) {
            Some(1) => Class::Elf32,
            Some(2) => Class::Elf64,
            _ => return Err(ElfError::Malformed("unknown class")),
        };
        let big_endian = head.get(5) == Some(&2);
        let truncated = ElfError::Malformed("truncated header");
        let mut this =
            Self { class, big_endian, machine: Machine::Other(0), table_offset: 0, entry_size: 0, entry_count: 0 };
        let fields = match class {
            Class::Elf32 => (this.word(head, 28, 4), this.word(head, 42, 2), this.word(head, 44, 2)),
            Class::Elf64 => (this.word(head, 32, 8), this.word(head, 54, 2), this.word(head, 56, 2)),
        };
        let (Some(machine), (Some(offset), Some(size), Some(count))) = (this.word(head, 18, 2), fields) else {
            return Err(truncated);
        };
        this.machine = Machine::from_elf(narrow(machine));
        (this.table_offset, this.entry_size, this.entry_count) = (offset, narrow(size), narrow(count));
        Ok(this)
    }

    /// The unsigned number of `size` bytes at `offset`.
    fn word(&self, bytes: &[u8], offset: usize, size: usize) -> Option<u64> {
        let field = bytes.get(offset..offset.checked_add(size)?)?;
        let fold = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        Some(if self.big_endian { field.iter().fold(0, fold) } else { field.iter().rev().fold(0, fold) })
    }

    fn program_headers(&self, file: &(impl ReadAt + ?Sized), head: &[u8]) -> Result<Vec<ProgramHeader>, ElfError> {
        if self.entry_count > MAX_PROGRAM_HEADERS {
            return Err(ElfError::Malformed("too many program headers"));
        }
        if self.entry_count > 0 && self.entry_size < if self.class == Class::Elf64 { 56 } else { 32 } {
            return Err(ElfError::Malformed("program headers too small"));
        }
        let size = usize::from(self.entry_count) * usize::from(self.entry_size);
        let in_head = usize::try_from(self.table_offset).ok().and_then(|at| head.get(at..at.checked_add(size)?));
        let table = match in_head {
            Some(table) => table.to_vec(),
            None => read_range(file, self.table_offset, size)?,
        };
        let entries = table.chunks_exact(usize::from(self.entry_size).max(1));
        let headers: Vec<ProgramHeader> = entries.filter_map(|entry| self.program_header(entry)).collect();
        if headers.len() < usize::from(self.entry_count) {
            return Err(ElfError::Malformed("truncated program headers"));
        }
        Ok(headers)
    }

    fn program_header(&self, entry: &[u8]) -> Option<ProgramHeader> {
        let kind = u32::try_from(self.word(entry, 0, 4)?).ok()?;
        let (offset, address, file_size) = match self.class {
            Class::Elf32 => (self.word(entry, 4, 4)?, self.word(entry, 8, 4)?, self.word(entry, 16, 4)?),
            Class::Elf64 => (self.word(entry, 8, 8)?, self.word(entry, 16, 8)?, self.word(entry, 32, 8)?),
        };
        Some(ProgramHeader { kind, offset, address, file_size })
    }

    /// Offset, size and alignment of a section of notes; `None` for other sections.
    fn note_section(&self, entry: &[u8]) -> Option<(u64, u64, usize)> {
        let (offset, size, align) = match self.class {
            Class::Elf32 => (self.word(entry, 16, 4)?, self.word(entry, 20, 4)?, self.word(entry, 32, 4)?),
            Class::Elf64 => (self.word(entry, 24, 8)?, self.word(entry, 32, 8)?, self.word(entry, 48, 8)?),
        };
        let align = if align == 8 { 8 } else { 4 };
        (self.word(entry, 4, 4)? == SHT_NOTE).then_some((offset, size, align))
    }

    fn notes_of(&self, section: &[u8], align: usize, owner: &str, found: &mut Vec<Vec<u8>>) {
        let mut rest = section;
        let field = |note: &[u8], at| self.word(note, at, 4).and_then(|size| usize::try_from(size).ok());
        while let (Some(name_size), Some(size)) = (field(rest, 0), field(rest, 4)) {
            let name = rest.get(12..).and_then(|rest| rest.get(..name_size));
            let start = 12_usize.saturating_add(name_size).checked_next_multiple_of(align);
            let end = start.and_then(|start| start.checked_add(size));
            let (Some(name), Some(start), Some(end)) = (name, start, end) else { return };
            let Some(descriptor) = rest.get(start..end) else { return };
            if name.strip_suffix(b"\0").unwrap_or(name) == owner.as_bytes() {
                found.push(descriptor.to_vec());
            }
            rest = end.checked_next_multiple_of(align).and_then(|next| rest.get(next..)).unwrap_or_default();
        }
    }

    fn soname(&self, file: &(impl ReadAt + ?Sized), headers: &[ProgramHeader]) -> Result<Option<String>, ElfError> {
        let Some(dynamic) = headers.iter().find(|header| header.kind == PT_DYNAMIC) else { return Ok(None) };
        let size = usize::try_from(dynamic.file_size.min(MAX_DYNAMIC)).unwrap_or_default();
        let section = read_range(file, dynamic.offset, size)?;
        let width = if self.class == Class::Elf64 { 8 } else { 4 };
        let tags = section
            .chunks_exact(2 * width)
            .filter_map(|entry| Some((self.word(entry, 0, width)?, self.word(entry, width, width)?)))
            .take_while(|(tag, _)| *tag != DT_NULL);
        let (mut strings, mut name) = (None, None);
        for (tag, value) in tags {
            match tag {
                DT_STRTAB => strings = Some(value),
                DT_SONAME => name = Some(value),
                _ => {}
            }
        }
        let Some(name) = name else { return Ok(None) };
        let address = strings.ok_or(ElfError::Malformed("DT_SONAME without DT_STRTAB"))?;
        let offset = file_offset(headers, address).ok_or(ElfError::Malformed("DT_STRTAB outside the file"))?;
        read_string(file, offset.saturating_add(name)).map(Some)
    }
}

/// Where in the file the byte at a virtual address lies.
fn file_offset(headers: &[ProgramHeader], address: u64) -> Option<u64> {
    headers.iter().filter(|header| header.kind == PT_LOAD).find_map(|header| {
        let inside = address.checked_sub(header.address).filter(|inside| *inside < header.file_size)?;
        header.offset.checked_add(inside)
    })
}

/// The low 16 bits, all that a two-byte field has.
fn narrow(field: u64) -> u16 {
    u16::try_from(field & 0xffff).unwrap_or_default()
}

/// At most `size` bytes at `offset`.
fn read_range(file: &(impl ReadAt + ?Sized), offset: u64, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64))? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The zero-terminated string at `offset`.
fn read_string(file: &(impl ReadAt + ?Sized), offset: u64) -> Result<String, ElfError> {
    let mut length = 128;
    loop {
        let bytes = read_range(file, offset, length)?;
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            let text = bytes.get(..end).unwrap_or_default();
            return String::from_utf8(text.to_vec()).map_err(|_| ElfError::Malformed("name is not UTF-8"));
        }
        if bytes.len() < length || length >= MAX_STRING {
            return Err(ElfError::Malformed("unterminated name"));
        }
        length *= 4;
    }
}

#[cfg(test)]
mod tests {
    use testdata::elf;

    use super::*;

    fn library() -> Vec<u8> {
        elf::shared_object(elf::Class::Elf64, elf::Machine::X86_64, Some("libcuda.so.1"), Some("/lib64/ld.so"))
    }

    #[test]
    fn both_classes() {
        let facts = parse(library().as_slice()).unwrap();
        assert_eq!((facts.class, facts.machine), (Class::Elf64, Machine::X86_64));
        assert_eq!(facts.soname.as_deref(), Some("libcuda.so.1"));
        assert_eq!(facts.interpreter.as_deref(), Some("/lib64/ld.so"));
        let small = elf::shared_object(elf::Class::Elf32, elf::Machine::I386, Some("libcuda.so.1"), None);
        let facts = parse(small.as_slice()).unwrap();
        assert_eq!((facts.class, facts.machine), (Class::Elf32, Machine::I386));
        assert_eq!((facts.soname.as_deref(), facts.interpreter), (Some("libcuda.so.1"), None));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a real file of this machine")]
    fn a_real_library_of_this_machine() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let facts = parse(&file).unwrap();
        assert_eq!(facts.class, Class::Elf64);
        assert!(facts.interpreter.unwrap().contains("ld-linux"));
    }

    #[test]
    fn what_is_no_library() {
        assert!(matches!(parse([].as_slice()), Err(ElfError::Empty)));
        assert!(matches!(parse(b"#!/bin/sh\n".as_slice()), Err(ElfError::NotElf)));
        assert!(matches!(parse(b"\x7fELF\x02\x01".as_slice()), Err(ElfError::Malformed(_))));
    }

    #[test]
    fn elf_fuzz() {
        let whole = library();
        for end in 0..whole.len() {
            let _ = parse(&whole[..end]);
        }
        for at in 0..whole.len() * 8 {
            let mut broken = whole.clone();
            broken[at / 8] ^= 1 << (at % 8);
            let _ = parse(broken.as_slice());
        }
    }

    #[test]
    fn a_claim_of_many_headers_is_refused() {
        let mut broken = library();
        broken[56..58].copy_from_slice(&[0xff, 0xff]);
        assert!(matches!(parse(broken.as_slice()), Err(ElfError::Malformed("too many program headers"))));
    }
}
