//! Any bytes as a spec file: no crash; what is read is written and read back; and our reader of the usual layout never
//! reads what libyaml reads otherwise.
#![no_main]

use cdi_specs::{Format, parse, parse_json, parse_yaml, text, to_json, to_yaml, validate};
use libfuzzer_sys::fuzz_target;

/// Aliases make of a short text one that is longer than any that is read. Below this length nothing is refused for it.
const SHORT: usize = 64 << 10;

fuzz_target!(|bytes: &[u8]| {
    for format in [Format::Yaml, Format::Json] {
        let Ok(spec) = parse(bytes, format) else { continue };
        validate(&spec);
        let (yaml, json) = (to_yaml(&spec), to_json(&spec));
        if yaml.len().max(json.len()) > SHORT {
            continue;
        }
        assert_eq!(parse_yaml(yaml).as_ref(), Ok(&spec));
        assert_eq!(parse_json(json).as_ref(), Ok(&spec));
    }
    if let Some((ours, libyamls)) = text::by_both_readers(bytes) {
        assert_eq!(Ok(ours), libyamls);
    }
});
