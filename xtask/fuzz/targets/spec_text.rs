//! Any bytes as a spec file: no crash; what is read is written and read back; and our reader of the usual layout never
//! reads what libyaml reads otherwise.
#![no_main]

use cdi_specs::{Format, parse, parse_json, parse_yaml, text, to_json, to_yaml, validate};
use libfuzzer_sys::fuzz_target;

/// libyaml's time is guarded by a count of open brackets, which takes those of a plain scalar for nesting: a text of so
/// many may be refused that was fine. No path has them.
const BRACKETS: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    if bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() > BRACKETS {
        // No crash, and no more is asked.
        let _ = parse(bytes, Format::Yaml);
        return;
    }
    for format in [Format::Yaml, Format::Json] {
        let Ok(spec) = parse(bytes, format) else { continue };
        validate(&spec);
        assert_eq!(parse_yaml(to_yaml(&spec)).as_ref(), Ok(&spec));
        assert_eq!(parse_json(to_json(&spec)).as_ref(), Ok(&spec));
    }
    if let Some((ours, libyamls)) = text::by_both_readers(bytes) {
        assert_eq!(Ok(ours), libyamls);
    }
});
