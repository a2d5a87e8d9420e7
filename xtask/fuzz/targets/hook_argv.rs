//! Any lines as the hook's arguments, as a state and as the loader's configuration: no crash; what is read of our own
//! arguments is written and read back.
#![no_main]

use cdi_apply::hook::{peer, state};
use cdi_gen::facts::ld_conf;
use cdi_specs::{from_args, to_args};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let args: Vec<String> = text.lines().map(str::to_owned).collect();
    let _ = peer::from_args(&args);
    let _ = ld_conf::parse(text);
    // A path of nobody's, lest the bundle of a state be somewhere on this machine.
    if !text.contains("bundle") {
        let _ = state::root(text.as_bytes());
    }
    if let Ok(parsed) = from_args(&args) {
        let again = from_args(&to_args(&parsed.operations)).expect("what is written is read");
        assert_eq!(again.operations, parsed.operations);
    }
});
