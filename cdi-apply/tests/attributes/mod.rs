//! What a file has beside its bytes, for tests: owner, mode, access control list and extended attributes.
#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests look at files and stop at the first surprise"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::XattrFlags;

/// Read for user 1000, of a group that may read nothing: without the list, `r--` would be the group's.
pub const ACL: &str = "system.posix_acl_access";

/// All of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    pub bytes: Vec<u8>,
    pub mode: u32,
    pub owner: (u32, u32),
    pub attributes: BTreeMap<String, Vec<u8>>,
}

impl Whole {
    /// `None` if there is no file.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let file = File::open(path).unwrap();
        let mut names = vec![0; 4096];
        let length = rustix::fs::flistxattr(&file, &mut names[..]).unwrap_or(0);
        let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let value = |name: &[u8]| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::fgetxattr(&file, name, &mut value[..]).unwrap();
            value.truncate(length);
            (String::from_utf8(name.to_owned()).unwrap(), value)
        };
        Some(Self {
            attributes: names.map(value).collect(),
            bytes: fs::read(path).unwrap(),
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
        })
    }
}

/// The list `u::rw-,u:1000:r--,g::---,m::r--,o::---`, as the kernel takes it.
pub fn acl() -> Vec<u8> {
    let entry = |tag: u8, permissions: u8, id: u32| [vec![tag, 0, permissions, 0], id.to_le_bytes().to_vec()].concat();
    let nobody = u32::MAX;
    let entries =
        [entry(1, 6, nobody), entry(2, 4, 1000), entry(4, 0, nobody), entry(16, 4, nobody), entry(32, 0, nobody)];
    [vec![2, 0, 0, 0], entries.concat()].concat()
}

/// Sets one; says whether this file system has such a thing.
pub fn set(path: &Path, name: &str, value: &[u8]) -> bool {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).is_ok()
}
