//! Any bytes as the loader's cache: no crash; what is read is written and read back, in an order that the loader can use;
//! and what is put into a file as it stands is what a file that was read and written anew has.
#![no_main]

use cdi_apply::hook::ld_cache::{Added, Cache, Entry, Insertion};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let name = &b"libcuda.so.1"[..];
    let ours =
        |path: &'static [u8]| Entry { flags: 0x0303, name: name.into(), path: path.into(), os_version: 0, hwcap: 0 };
    let added = Added { first: vec![ours(b"/first/libcuda.so.1")], last: vec![ours(b"/last/libcuda.so.1")] };
    let insertion = Insertion::new(bytes, bytes.len(), &added).expect("memory can be read");
    let mut inserted = Vec::new();
    let inserted = insertion.filter(|insertion| insertion.write(&mut inserted).is_ok()).map(|_| inserted);
    let Ok(mut cache) = Cache::parse(bytes) else { return };
    let again = cache.to_bytes().expect("no longer than what was read");
    assert_eq!(Cache::parse(&again).as_ref(), Ok(&cache));
    let mut sorted = cache.clone();
    sorted.update(Added::default(), &[]);
    // In a file whose order is wrong nobody finds anything, wherever it is put.
    if let Some(inserted) = inserted.filter(|_| sorted == cache) {
        sorted.update(added.clone(), &[]);
        assert_eq!(Cache::parse(&inserted).as_ref(), Ok(&sorted));
    }
    cache.update(added, &[b"/first"]);
    let of_name = cache.of(name, 0x0303);
    let plain = of_name.iter().find(|entry| entry.hwcap == 0).map(|entry| &*entry.path);
    assert_eq!(plain, Some(&b"/first/libcuda.so.1"[..]));
    assert!(of_name.iter().any(|entry| &*entry.path == b"/last/libcuda.so.1"));
    let again = cache.to_bytes().expect("hardly longer");
    assert_eq!(Cache::parse(&again).as_ref(), Ok(&cache));
});
