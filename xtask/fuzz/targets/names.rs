//! Any text as a device name, a kind, or a list of requests: no crash; what is read displays as it was written.
#![no_main]

use std::str::FromStr;

use cdi_apply::Request;
use cdi_specs::{Kind, QualifiedName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(name) = QualifiedName::from_str(text) {
        assert_eq!(name.to_string(), text);
        assert_eq!(Request::from_str(text), Ok(Request::Name(name)));
    }
    if let Ok(kind) = Kind::from_str(text) {
        assert_eq!(kind.to_string(), text);
    }
    if let Ok(requests) = Request::parse_list(text) {
        let texts: Vec<String> = requests.iter().map(ToString::to_string).collect();
        assert_eq!(texts.join(","), text);
        requests.iter().for_each(|request| drop(request.kind()));
    }
});
