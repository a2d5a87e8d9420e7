//! Attributes: owner, mode, access control list and extended attributes of a file, given to the one that takes its
//! place. I/O.
//!
//! The mode alone says too little: where a file has an access control list, the bits of its group are the most that
//! anybody in the list has (acl(5)), and without the list they are what the whole group has.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use rustix::fs::{Gid, Mode, Stat, Uid, XattrFlags};
use rustix::io::Errno;

/// Ours, for `--undo`. It says something of one file and not of the next.
pub(crate) const RECORDS: [&str; 2] = ["user.cdi-apply.wrote", "trusted.cdi-apply.wrote"];
/// What the kernel has seen of a file's bytes, which are others in the next.
const OF_THE_BYTES: [&str; 2] = ["security.ima", "security.evm"];
/// A directory may have a default list, which each new file in it begins with (acl(5)).
const ACL: &str = "system.posix_acl_access";
/// Permission bits, with set-user-ID, set-group-ID and sticky.
const PERMISSIONS: u32 = 0o7777;
/// Room for the usual list and the usual value; the kernel's limit for both.
const USUAL_BYTES: usize = 256;
const MOST_BYTES: usize = 64 << 10;

/// What a file has beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    owner: (u32, u32),
    mode: u32,
    extended: BTreeMap<String, Vec<u8>>,
}

impl Attributes {
    /// Those of an open file.
    ///
    /// # Errors
    /// The file system's.
    pub fn of(file: &File) -> io::Result<Self> {
        Self::of_stat(file, &rustix::fs::fstat(file)?)
    }

    /// The same where that was asked already.
    ///
    /// # Errors
    /// The file system's.
    pub fn of_stat(file: &File, stat: &Stat) -> io::Result<Self> {
        let mut extended = BTreeMap::new();
        for name in names(file)? {
            if !RECORDS.contains(&name.as_str()) && !OF_THE_BYTES.contains(&name.as_str()) {
                let value = whole(|buffer| rustix::fs::fgetxattr(file, name.as_str(), buffer));
                extended.insert(name, value?);
            }
        }
        Ok(Self { owner: (stat.st_uid, stat.st_gid), mode: stat.st_mode & PERMISSIONS, extended })
    }

    /// Whether the same people may do the same.
    pub fn lets_in_the_same(&self, other: &Self) -> bool {
        let access = |this: &Self| (this.owner, this.mode, this.extended.get(ACL).cloned());
        access(self) == access(other)
    }

    /// Gives them to a file that nobody but this process can open yet. Its mode comes last: until then it is narrower.
    ///
    /// # Errors
    /// One of them cannot be given; the file is not to be used then.
    pub fn give(&self, file: &File) -> io::Result<()> {
        let has = Self::of(file)?;
        if has.owner != self.owner {
            let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
            rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(cannot_keep("owner"))?;
        }
        for (name, value) in self.extended.iter().filter(|(name, value)| has.extended.get(*name) != Some(*value)) {
            rustix::fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty())
                .map_err(cannot_keep(&format!("attribute {name:?}")))?;
        }
        if has.extended.contains_key(ACL) && !self.extended.contains_key(ACL) {
            rustix::fs::fremovexattr(file, ACL)?;
        }
        Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode))?)
    }
}

fn cannot_keep(what: &str) -> impl Fn(Errno) -> io::Error {
    move |error| io::Error::new(io::Error::from(error).kind(), format!("cannot keep its {what}: {error}"))
}

/// The names of a file's extended attributes; none, where the file system has no such thing.
fn names(file: &File) -> io::Result<Vec<String>> {
    let list = match whole(|buffer| rustix::fs::flistxattr(file, buffer)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Vec::new(),
        list => list?,
    };
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8(name.to_owned()).map_err(|_| Errno::ILSEQ.into())).collect()
}

/// An answer of which nobody knows the length.
pub(crate) fn whole(ask: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; USUAL_BYTES];
    loop {
        match ask(&mut buffer) {
            Err(Errno::RANGE) if buffer.len() < MOST_BYTES => buffer.resize(MOST_BYTES, 0),
            length => {
                buffer.truncate(length?);
                return Ok(buffer);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "lays out files, and looks at them")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// `u::rw-,u:1000:PERM,g::---,m::r--,o::---`, as the kernel takes it.
    fn acl(permissions: u8) -> Vec<u8> {
        let entry =
            |tag: u8, permissions: u8, id: u32| [vec![tag, 0, permissions, 0], id.to_le_bytes().to_vec()].concat();
        let nobody = u32::MAX;
        let entries = [
            entry(1, 6, nobody),
            entry(2, permissions, 1000),
            entry(4, 0, nobody),
            entry(16, 4, nobody),
            entry(32, 0, nobody),
        ];
        [vec![2, 0, 0, 0], entries.concat()].concat()
    }

    fn new(dir: &std::path::Path, name: &str) -> File {
        let path = dir.join(name);
        let file = File::create(&path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    #[test]
    fn all_that_a_file_has_is_given_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (old, next) = (new(dir.path(), "old"), new(dir.path(), "next"));
        let set = |file: &File, name: &str, value: &[u8]| rustix::fs::fsetxattr(file, name, value, XattrFlags::empty());
        if set(&old, "user.long", &[7; 3000]).is_err() || set(&old, ACL, &acl(4)).is_err() {
            return println!("skipped: no attributes on this file system");
        }
        set(&old, RECORDS[0], b"of the old one").unwrap();
        let attributes = Attributes::of(&old).unwrap();
        assert_eq!((attributes.mode, attributes.extended.len()), (0o640, 2));
        attributes.give(&next).unwrap();
        assert_eq!(Attributes::of(&next).unwrap(), attributes);
        assert!(rustix::fs::fgetxattr(&next, RECORDS[0], &mut [0; 9]).is_err());
        // A list that the directory has given it would let in others.
        let plain = new(dir.path(), "plain");
        rustix::fs::fchmod(&plain, Mode::from_raw_mode(0o640)).unwrap();
        let attributes = Attributes::of(&plain).unwrap();
        attributes.give(&next).unwrap();
        let given = Attributes::of(&next).unwrap();
        assert_eq!((given.mode, given.extended.contains_key(ACL)), (0o640, false));
    }

    #[test]
    fn answers_of_any_length_are_taken_whole() {
        for length in [0, 1, USUAL_BYTES, USUAL_BYTES + 1, MOST_BYTES] {
            let ask = |buffer: &mut [u8]| if buffer.len() < length { Err(Errno::RANGE) } else { Ok(length) };
            assert_eq!(whole(ask).unwrap().len(), length);
        }
        assert_eq!(whole(|_| Err(Errno::RANGE)).unwrap_err(), Errno::RANGE);
    }
}
