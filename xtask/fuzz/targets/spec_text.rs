//! Any bytes as a spec file: no crash; what is read is written and read back; and our reader of the usual layout never
//! reads what libyaml reads otherwise.
#![no_main]

use cdi_specs::{Format, parse, parse_json, parse_yaml, text, to_json, to_yaml, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
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
