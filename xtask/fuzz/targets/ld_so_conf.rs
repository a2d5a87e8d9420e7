//! Any text as the loader's configuration: no crash, and nothing that is no path.
#![no_main]

use cdi_gen::facts::ld_conf::{self, Line};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for line in ld_conf::parse(text) {
        match line {
            Line::Dir(dir) => assert!(!dir.as_str().is_empty()),
            Line::Include(pattern) => assert!(!pattern.is_empty()),
        }
    }
});
