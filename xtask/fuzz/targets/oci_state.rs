//! Any bytes as the state that an OCI runtime tells its hooks: no crash, and never a path that depends on where we are.
#![no_main]

use cdi_apply::hook::state;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The root stands in it, lest the bundle be somewhere on this machine.
    if bytes.windows(6).any(|word| word == b"\"root\"")
        && let Ok(root) = state::root(bytes)
    {
        assert!(root.is_absolute());
    }
});
