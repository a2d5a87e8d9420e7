//! Any bytes as the loader's cache: no crash; what is read is written and read back, in an order that the loader can use.
#![no_main]

use cdi_apply::hook::ld_cache::{Cache, Entry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut cache) = Cache::parse(bytes) else { return };
    let again = cache.to_bytes().expect("no longer than what was read");
    assert_eq!(Cache::parse(&again).as_ref(), Ok(&cache));
    let name = &b"libcuda.so.1"[..];
    let ours =
        |path: &'static [u8]| Entry { flags: 0x0303, name: name.into(), path: path.into(), os_version: 0, hwcap: 0 };
    cache.add(vec![ours(b"/last/libcuda.so.1")], false);
    cache.add(vec![ours(b"/first/libcuda.so.1")], true);
    let found: Vec<&[u8]> =
        cache.of(name, 0x0303).iter().filter(|entry| entry.hwcap == 0).map(|entry| &*entry.path).collect();
    assert_eq!(found.first(), Some(&&b"/first/libcuda.so.1"[..]));
    assert_eq!(found.last(), Some(&&b"/last/libcuda.so.1"[..]));
    let again = cache.to_bytes().expect("hardly longer");
    assert_eq!(Cache::parse(&again).as_ref(), Ok(&cache));
});
