//! Path names: a path as the names that a walk goes through. Pure.

use std::ffi::OsString;
use std::path::{Component, Path};

/// As many links as the kernel follows in one path (path_resolution(7)).
pub const MAX_LINKS: usize = 40;

/// The names of a path, `..` too, the first one last: to be taken off, while those of a link's target are put on.
pub fn names(path: &Path) -> Vec<OsString> {
    let is_name = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().rev().filter(is_name).map(|part| part.as_os_str().to_owned()).collect()
}
