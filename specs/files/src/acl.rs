//! ACL: whom a POSIX access control list lets write, out of the bytes of its extended attribute. Pure.
//!
//! The layout is the kernel's (`linux/posix_acl_xattr.h`); what the entries mean is told in acl(5).

/// The attribute's name.
pub const ACCESS: &str = "system.posix_acl_access";
/// No list is longer, in bytes: more than a thousand entries.
pub const MAX_BYTES: usize = 16 << 10;

const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;
/// The bit of the right to write.
const WRITE: u16 = 2;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;

/// One whom a list lets write, beside the owner and all others: those have bits of their own in the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A user that it names.
    User(u32),
    /// A group that it names.
    Group(u32),
    /// The file's own group.
    OwnGroup,
}

struct Entry {
    tag: u16,
    rights: u16,
    id: u32,
}

/// Who may write; `None` if the bytes are no list.
pub fn writers(bytes: &[u8]) -> Option<Vec<Writer>> {
    let (version, entries) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let chunks = entries.chunks_exact(ENTRY_BYTES);
    if u32::from_le_bytes(*version) != VERSION || !chunks.remainder().is_empty() {
        return None;
    }
    let entries: Vec<Entry> = chunks.filter_map(entry).collect();
    // A list that names nobody needs no mask.
    let mask = entries.iter().find(|entry| entry.tag == MASK).map_or(WRITE, |entry| entry.rights);
    let writing = entries.iter().filter(|entry| entry.rights & mask & WRITE != 0);
    Some(writing.filter_map(writer).collect())
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    let [tag_low, tag_high, rights_low, rights_high, id @ ..] = bytes else { return None };
    Some(Entry {
        tag: u16::from_le_bytes([*tag_low, *tag_high]),
        rights: u16::from_le_bytes([*rights_low, *rights_high]),
        id: u32::from_le_bytes(id.try_into().ok()?),
    })
}

fn writer(entry: &Entry) -> Option<Writer> {
    match entry.tag {
        USER => Some(Writer::User(entry.id)),
        GROUP => Some(Writer::Group(entry.id)),
        GROUP_OBJ => Some(Writer::OwnGroup),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entries = entries
            .iter()
            .flat_map(|(tag, rights, id)| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
        VERSION.to_le_bytes().into_iter().chain(entries).collect()
    }

    #[test]
    fn the_mask_bounds_what_is_named() {
        let named = [(0x01, 6, !0), (USER, 6, 1000), (USER, 4, 1001), (GROUP_OBJ, 7, !0), (GROUP, 2, 50)];
        let with_mask = |mask| writers(&list(&[&named[..], &[(MASK, mask, !0), (0x20, 2, !0)]].concat())).unwrap();
        assert_eq!(with_mask(4), []);
        assert_eq!(with_mask(6), [Writer::User(1000), Writer::OwnGroup, Writer::Group(50)]);
        assert_eq!(writers(&list(&[(0x01, 6, !0), (GROUP_OBJ, 6, !0), (0x20, 4, !0)])).unwrap(), [Writer::OwnGroup]);
    }

    #[test]
    fn what_is_no_list_says_so() {
        let list = list(&[(USER, 6, 1000)]);
        for bytes in [&[][..], &list[..3], &list[..11], &[&[1, 0, 0, 0], &list[4..]].concat()] {
            assert_eq!(writers(bytes), None, "{bytes:?}");
        }
    }
}
