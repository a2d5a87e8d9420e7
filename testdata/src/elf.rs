//! Minimal ELF files: just enough of a shared object that loaders, `ldconfig` and `readelf` agree on what it is.
//!
//! ELF header, program headers (PT_LOAD over the whole file, PT_DYNAMIC, PT_INTERP where asked), dynamic section,
//! strings. No sections, no symbols, no code. System V ABI, chapters 4 and 5.

/// Word size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// `ELFCLASS32`.
    Elf32,
    /// `ELFCLASS64`.
    Elf64,
}

/// Instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Machine {
    /// `EM_386`.
    I386,
    /// `EM_X86_64`.
    X86_64,
    /// `EM_AARCH64`.
    Aarch64,
}

impl Machine {
    const fn number(self) -> u16 {
        match self {
            Self::I386 => 3,
            Self::X86_64 => 62,
            Self::Aarch64 => 183,
        }
    }
}

const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u32 = 0;
const DT_STRTAB: u32 = 5;
const DT_STRSZ: u32 = 10;
const DT_SONAME: u32 = 14;
const READ_EXECUTE: u32 = 5;
const READ_WRITE: u32 = 6;
const READ: u32 = 4;

impl Class {
    const fn word(self) -> u32 {
        match self {
            Self::Elf32 => 4,
            Self::Elf64 => 8,
        }
    }

    const fn header_size(self) -> u16 {
        match self {
            Self::Elf32 => 52,
            Self::Elf64 => 64,
        }
    }

    const fn program_header_size(self) -> u16 {
        match self {
            Self::Elf32 => 32,
            Self::Elf64 => 56,
        }
    }
}

/// One program header; addresses are file offsets.
struct Segment {
    kind: u32,
    flags: u32,
    offset: u32,
    size: u32,
    align: u32,
}

/// Bytes of a shared object (`ET_DYN`), or of a position-independent program where `interp` names a loader.
pub fn shared_object(class: Class, machine: Machine, soname: Option<&str>, interp: Option<&str>) -> Vec<u8> {
    let strings = [b"\0", soname.unwrap_or_default().as_bytes(), b"\0"].concat();
    let interp = interp.map(|path| [path.as_bytes(), b"\0"].concat());
    let segment_count = 2 + u16::from(interp.is_some());
    let dynamic_at = u32::from(class.header_size()) + u32::from(class.program_header_size()) * u32::from(segment_count);
    let dynamic_at = dynamic_at.next_multiple_of(class.word());
    let dynamic_size = (3 + u32::from(soname.is_some())) * 2 * class.word();
    let strings_at = dynamic_at + dynamic_size;
    let interp_at = strings_at + length(&strings);
    let end = interp_at + interp.as_deref().map_or(0, length);

    let load = Segment { kind: PT_LOAD, flags: READ_EXECUTE, offset: 0, size: end, align: 0x1000 };
    let dynamic =
        Segment { kind: PT_DYNAMIC, flags: READ_WRITE, offset: dynamic_at, size: dynamic_size, align: class.word() };
    let named = interp.as_deref().map(|path| Segment {
        kind: PT_INTERP,
        flags: READ,
        offset: interp_at,
        size: length(path),
        align: 1,
    });

    let mut bytes = header(class, machine, segment_count);
    for segment in named.iter().chain([&load, &dynamic]) {
        bytes.extend(program_header(class, segment));
    }
    bytes.resize(dynamic_at as usize, 0);
    if soname.is_some() {
        bytes.extend(words(class, [DT_SONAME, 1]));
    }
    bytes.extend(words(class, [DT_STRTAB, strings_at]));
    bytes.extend(words(class, [DT_STRSZ, length(&strings)]));
    bytes.extend(words(class, [DT_NULL, 0]));
    bytes.extend(strings);
    bytes.extend(interp.unwrap_or_default());
    bytes
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// Numbers of the class's word size, little endian.
fn words<const N: usize>(class: Class, values: [u32; N]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| match class {
            Class::Elf32 => value.to_le_bytes().to_vec(),
            Class::Elf64 => u64::from(*value).to_le_bytes().to_vec(),
        })
        .collect()
}

fn header(class: Class, machine: Machine, segments: u16) -> Vec<u8> {
    let class_number = if class == Class::Elf64 { 2 } else { 1 };
    let mut bytes = vec![0x7f, b'E', b'L', b'F', class_number, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(ET_DYN.to_le_bytes());
    bytes.extend(machine.number().to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    let entry_point = 0;
    let sections_at = 0;
    bytes.extend(words(class, [entry_point, u32::from(class.header_size()), sections_at]));
    bytes.extend(0_u32.to_le_bytes());
    for half in [class.header_size(), class.program_header_size(), segments, 0, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    bytes
}

/// The flags stand second in 64 bit and last but one in 32 bit.
fn program_header(class: Class, segment: &Segment) -> Vec<u8> {
    let Segment { kind, flags, offset, size, align } = *segment;
    let place = words(class, [offset, offset, offset, size, size]);
    let flags = flags.to_le_bytes();
    let (before, after): (&[u8], &[u8]) = match class {
        Class::Elf32 => (&[], &flags),
        Class::Elf64 => (&flags, &[]),
    };
    [&kind.to_le_bytes(), before, &place, after, &words(class, [align])].concat()
}

/// A file whose sections of notes, so many, are one and the same: as many empty notes of an owner as `size` bytes hold.
pub fn note_sections(sections: u16, size: u32, owner: &str) -> Vec<u8> {
    const HEADER: u32 = 64;
    const SHT_NOTE: u32 = 7;
    let class = Class::Elf64;
    let mut bytes = header(class, Machine::X86_64, 0);
    let table = u64::from(HEADER).to_le_bytes();
    bytes.splice(40..48, table);
    bytes.splice(58..60, 64_u16.to_le_bytes());
    bytes.splice(60..62, sections.to_le_bytes());
    let notes_at = HEADER + u32::from(sections) * 64;
    for _ in 0..sections {
        bytes.extend([0, SHT_NOTE].map(u32::to_le_bytes).concat());
        bytes.extend(words(class, [0, 0, notes_at, size]));
        bytes.extend([0_u32, 0].map(u32::to_le_bytes).concat());
        bytes.extend(words(class, [4, 0]));
    }
    let name = [owner.as_bytes(), b"\0"].concat();
    let padding = name.len().next_multiple_of(4) - name.len();
    let note = [[length(&name), 0, 1].map(u32::to_le_bytes).concat(), name, vec![0; padding]].concat();
    bytes.extend(note.iter().cycle().take(usize::try_from(size).unwrap_or_default()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8], at: usize, size: usize) -> usize {
        bytes[at..at + size].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    }

    fn string(bytes: &[u8], at: usize) -> &str {
        let text = &bytes[at..];
        std::str::from_utf8(&text[..text.iter().position(|byte| *byte == 0).unwrap()]).unwrap()
    }

    #[test]
    fn a_library_of_64_bit() {
        let bytes = shared_object(Class::Elf64, Machine::X86_64, Some("libcuda.so.1"), None);
        assert_eq!(&bytes[..7], b"\x7fELF\x02\x01\x01");
        assert_eq!([number(&bytes, 16, 2), number(&bytes, 18, 2)], [3, 62]);
        assert_eq!([number(&bytes, 32, 8), number(&bytes, 54, 2), number(&bytes, 56, 2)], [64, 56, 2]);
        let (load, dynamic) = (64, 120);
        assert_eq!(
            [number(&bytes, load, 4), number(&bytes, load + 8, 8), number(&bytes, load + 32, 8)],
            [1, 0, bytes.len()]
        );
        assert_eq!(number(&bytes, dynamic, 4), 2);
        let at = number(&bytes, dynamic + 8, 8);
        assert_eq!([number(&bytes, at, 8), number(&bytes, at + 16, 8), number(&bytes, at + 32, 8)], [14, 5, 10]);
        assert_eq!(number(&bytes, at + 48, 8), 0);
        let strings = number(&bytes, at + 24, 8);
        assert_eq!(string(&bytes, strings + number(&bytes, at + 8, 8)), "libcuda.so.1");
        assert_eq!(strings + number(&bytes, at + 40, 8), bytes.len());
    }

    #[test]
    fn a_program_of_32_bit_without_a_name() {
        let bytes = shared_object(Class::Elf32, Machine::I386, None, Some("/lib/ld-linux.so.2"));
        assert_eq!(&bytes[..7], b"\x7fELF\x01\x01\x01");
        assert_eq!([number(&bytes, 16, 2), number(&bytes, 18, 2), number(&bytes, 44, 2)], [3, 3, 3]);
        let (interp, dynamic) = (52, 116);
        assert_eq!(number(&bytes, interp, 4), 3);
        let at = number(&bytes, interp + 4, 4);
        assert_eq!(string(&bytes, at), "/lib/ld-linux.so.2");
        assert_eq!(at + number(&bytes, interp + 16, 4), bytes.len());
        let at = number(&bytes, dynamic + 4, 4);
        assert_eq!([number(&bytes, at, 4), number(&bytes, at + 8, 4)], [5, 10]);
    }

    #[test]
    fn aarch64() {
        let bytes = shared_object(Class::Elf64, Machine::Aarch64, None, None);
        assert_eq!(number(&bytes, 18, 2), 183);
    }
}
