//! Any lines as the hook's arguments: no crash; what is read of our own arguments is written and read back.
#![no_main]

use cdi_apply::hook::peer;
use cdi_specs::{ParsedArgs, from_args};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let args: Vec<String> = text.lines().map(str::to_owned).collect();
    let _ = peer::from_args(&args);
    if let Ok(parsed) = from_args(&args) {
        let again = from_args(&parsed.to_args()).expect("what is written is read");
        assert_eq!(again, ParsedArgs { unknown: Vec::new(), ..parsed });
    }
});
