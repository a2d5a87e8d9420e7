//! Any bytes as config.json: no crash; without edits nothing changes; an injection is made whole and once, or not at all.
#![no_main]

use std::sync::LazyLock;

use cdi_apply::document::Document;
use cdi_apply::nodes::HostNode;
use cdi_apply::{HostNodes, inject, request};
use cdi_specs::{ContainerEdits, parse_yaml};
use libfuzzer_sys::fuzz_target;

/// Edits of each kind.
static EDITS: LazyLock<ContainerEdits> = LazyLock::new(|| {
    let spec = parse_yaml(include_str!("../seeds/spec_text/all-fields.yaml")).expect("a seed is a spec");
    spec.container_edits
});

static HOST: LazyLock<HostNodes> = LazyLock::new(|| {
    let node = HostNode { kind: 'c', major: 195, minor: 0, mode: 0o666 };
    HostNodes { nodes: [("/dev/nvidia0".to_owned(), node)].into(), drivers: Vec::new() }
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = Document::parse(bytes) else { return };
    let text = document.to_text();
    let again = Document::parse(text.as_bytes()).expect("what is written is a document");
    assert_eq!(again.value, document.value);
    assert_eq!(again.to_text(), text);
    let _ = request::of_annotations(&document.value);
    let mut patched = document.clone();
    let done = inject(&mut patched.value, &[&EDITS], &HOST);
    if done.is_err() {
        assert_eq!(patched, document);
        return;
    }
    let once = patched.to_text();
    assert_eq!(inject(&mut patched.value, &[&EDITS], &HOST), Ok(()));
    assert_eq!(patched.to_text(), once);
});
