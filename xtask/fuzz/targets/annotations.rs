//! Any lines `KEY VALUE` as annotations: no crash; what one writes the other reads, in its order.
#![no_main]

use std::collections::BTreeMap;

use cdi_apply::request;
use cdi_specs::{parse_annotations, update_annotations};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|text: &str| {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    let annotations: BTreeMap<String, String> =
        pairs.clone().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let parsed = parse_annotations(&annotations);
    let requests = request::of_annotations(&json!({"annotations": annotations}));
    assert_eq!(requests.is_ok(), parsed.is_ok());
    let Ok(devices) = parsed else { return };
    let (plugin, device_id) = pairs.clone().next().unwrap_or_default();
    let mut updated = annotations.clone();
    match update_annotations(&mut updated, plugin, device_id, &devices) {
        Ok(()) => assert_eq!(parse_annotations(&updated).map(|all| all.len()), Ok(2 * devices.len())),
        Err(_) => assert_eq!(updated, annotations),
    }
});
