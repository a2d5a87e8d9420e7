//! Canary: files that nobody but root may read, in the form that is expected at their path. Pure.

use super::{LIBRARY_DIR, SECRET};
use crate::elf::{Class, Machine, shared_object};
use crate::ld_so_cache::{self, CacheEntry, Endian, Format};

/// Bytes that a reader of such a file takes for one, with the secret in all that they say.
pub fn content(path: &str) -> Vec<u8> {
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.ends_with(".cache") {
        cache()
    } else if name.contains(".so") && !name.ends_with(".conf") {
        shared_object(Class::Elf64, Machine::X86_64, Some(&format!("lib{SECRET}.so.1")), None)
    } else if name == "params" {
        format!("ModifyDeviceFiles: 1\nRegistryDwords: \"{SECRET}\"\n").into_bytes()
    } else {
        format!("/{SECRET}\ninclude /{SECRET}/*.conf\n{SECRET}:x:0:0\n").into_bytes()
    }
}

fn cache() -> Vec<u8> {
    let entry = |name: &str| CacheEntry {
        name: name.to_owned(),
        path: format!("{LIBRARY_DIR}/{SECRET}"),
        flags: ld_so_cache::X86_64,
    };
    ld_so_cache::write(&[entry(&format!("lib{SECRET}.so.1")), entry("libc.so.6")], Format::New, Endian::Little)
}
