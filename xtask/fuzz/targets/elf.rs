//! Any bytes as a library of the image: no crash, whatever its head and its notes claim.
#![no_main]

use cdi_gen::facts::elf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = elf::parse(bytes);
    let _ = elf::notes(bytes, "NVIDIA Corporation");
});
