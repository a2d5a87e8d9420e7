//! The config.json files of real engines: what comes through unharmed, and what the engines' own injection makes of them.
#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests stop at the first surprise")]

use cdi_apply::document::Document;
use cdi_apply::{HostNodes, Registry, Request, SpecTexts, inject, resolve, spec_dirs::SpecText};
use cdi_specs::ContainerEdits;
use serde_json::{Value, json};
use testdata::{Bundle, bundle, bundles};

/// Files whose white space is uneven.
const UNEVEN: [&str; 3] = ["crun-1.28-spec", "crun-spec", "crun-spec-rootless"];

fn parse(bundle: &Bundle) -> Document {
    Document::parse(&bundle.config).unwrap_or_else(|error| panic!("{}: {error}", bundle.name))
}

/// The device of `bundles/cdi.yaml`, resolved as in life.
fn engine_edits() -> ContainerEdits {
    let file = SpecText {
        path: "cdi.yaml".into(),
        priority: 0,
        format: cdi_specs::Format::Yaml,
        bytes: testdata::BUNDLES_CDI.into(),
    };
    let registry = Registry::new(&SpecTexts { files: vec![file], problems: Vec::new() });
    resolve(&registry, &Request::parse_list("nvidia.com/gpu=bench0").unwrap()).unwrap().merged()
}

#[test]
fn there_are_bundles_of_every_engine() {
    let names: Vec<String> = bundles().into_iter().map(|bundle| bundle.name).collect();
    for engine in
        ["podman-4", "podman-5", "containerd-1", "containerd-2", "docker-2", "buildah", "runc", "crun", "youki"]
    {
        assert!(names.iter().any(|name| name.starts_with(engine)), "{engine}");
    }
}

#[test]
fn a_round_trip_changes_no_byte() {
    for bundle in bundles() {
        let text = parse(&bundle).to_text();
        if UNEVEN.contains(&bundle.name.as_str()) {
            assert_eq!(Document::parse(text.as_bytes()).unwrap().value.to_string(), parse(&bundle).value.to_string());
        } else {
            assert!(text.as_bytes() == bundle.config, "{}: {text}", bundle.name);
        }
    }
}

#[test]
fn no_edits_change_nothing() {
    for bundle in bundles() {
        let mut document = parse(&bundle);
        inject(&mut document.value, &[&ContainerEdits::default()], &HostNodes::default()).unwrap();
        assert!(document == parse(&bundle), "{}", bundle.name);
    }
}

/// A document without what edits may touch.
fn untouched(mut value: Value) -> Value {
    for (parent, child) in [
        ("/process", "env"),
        ("/process/user", "additionalGids"),
        ("", "mounts"),
        ("", "hooks"),
        ("/linux", "devices"),
        ("/linux/resources", "devices"),
    ] {
        if let Some(object) = value.pointer_mut(parent).and_then(Value::as_object_mut) {
            object.remove(child);
        }
    }
    // Made where they were not there, with nothing else in them.
    if value.pointer("/linux/resources") == Some(&json!({})) {
        value["linux"].as_object_mut().unwrap().remove("resources");
    }
    value
}

#[test]
fn an_injection_touches_its_members_only_and_twice_is_once() {
    for bundle in bundles() {
        let mut document = parse(&bundle);
        inject(&mut document.value, &[&engine_edits()], &HostNodes::default()).unwrap();
        let before = untouched(parse(&bundle).value).to_string();
        assert_eq!(untouched(document.value.clone()).to_string(), before, "{}", bundle.name);
        let once = document.clone();
        inject(&mut document.value, &[&engine_edits()], &HostNodes::default()).unwrap();
        assert!(document == once, "{}", bundle.name);
    }
}

/// Members that the reference's injection leaves in the same state as ours. docker and containerd add mounts
/// of their own later, so that only podman's are in the same order.
const TOUCHED: [&str; 3] = ["/linux/devices", "/linux/resources/devices", "/hooks"];

/// What differs from one container to the next: ids.
fn without_ids(value: &Value) -> Value {
    let text = value.to_string();
    let mut out = String::new();
    let mut run = String::new();
    for c in text.chars().chain(std::iter::once('"')) {
        if c.is_ascii_hexdigit() {
            run.push(c);
            continue;
        }
        out += if run.len() == 64 { "ID" } else { &run };
        run.clear();
        out.push(c);
    }
    serde_json::from_str(out.strip_suffix('"').unwrap()).unwrap()
}

fn mounts(value: &Value) -> Vec<String> {
    without_ids(&value["mounts"]).as_array().unwrap().iter().map(Value::to_string).collect()
}

/// The engines embed the reference: they and we must agree, on their own documents.
#[test]
fn ours_is_what_the_engines_do_themselves() {
    let pairs = [
        ("podman-5.8", "podman-5.8-cdi"),
        ("containerd-1.7-cri", "containerd-1.7-cri-annotation"),
        ("containerd-2-cri", "containerd-2-cri-field"),
        ("docker-28", "docker-28-cdi"),
    ];
    for (plain, injected) in pairs {
        let mut ours = parse(&bundle(plain)).value;
        inject(&mut ours, &[&engine_edits()], &HostNodes::default()).unwrap();
        let theirs = parse(&bundle(injected)).value;
        for pointer in TOUCHED {
            let member = |value: &Value| value.pointer(pointer).map(without_ids);
            assert_eq!(member(&ours), member(&theirs), "{injected}{pointer}");
        }
        let (mut our_mounts, mut their_mounts) = (mounts(&ours), mounts(&theirs));
        if !injected.starts_with("podman") {
            our_mounts.sort();
            their_mounts.sort();
        }
        assert_eq!(our_mounts, their_mounts, "{injected}");
        for variable in ["NVIDIA_VISIBLE_DEVICES=void", "CDI_BENCH=yes"] {
            for value in [&ours, &theirs] {
                assert!(
                    value["process"]["env"].as_array().unwrap().contains(&variable.into()),
                    "{injected}: {variable}"
                );
            }
        }
    }
}
