//! Edits into the types of oci-spec: the same outcome as in text, and nothing else touched.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use cdi_apply::{HostNodes, inject, typed};
use cdi_specs::ContainerEdits;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

fn edits() -> ContainerEdits {
    let edits = json!({
        "env": ["A=b"],
        "deviceNodes": [{"path": "/dev/x", "type": "c", "major": 195, "minor": 3}, {"path": "/dev/p", "type": "p"}],
        "netDevices": [{"hostInterfaceName": "eno1", "name": "net0"}],
        "mounts": [{"hostPath": "/a", "containerPath": "/b", "options": ["ro", "bind"]}],
        "hooks": [{"hookName": "createContainer", "path": "/h", "args": ["h"], "env": ["A=b"], "timeout": 5}],
        "intelRdt": {"closID": "x"},
        "additionalGids": [5],
    });
    serde_json::from_value(edits).unwrap()
}

/// As a value again; oci-spec writes numbers where there are none, and leaves no trace of empty members.
fn value(spec: &Spec) -> Value {
    serde_json::to_value(spec).unwrap()
}

#[test]
fn typed_and_text_have_the_same_outcome() {
    for mut spec in [Spec::default(), serde_json::from_value(json!({"ociVersion": "1.0.2"})).unwrap()] {
        let mut text = value(&spec);
        inject(&mut text, &[&edits()], &HostNodes::default()).unwrap();
        typed::inject(&mut spec, &[&edits()], &HostNodes::default()).unwrap();
        let expected: Spec = serde_json::from_value(text).unwrap();
        assert_eq!(spec, expected);
        assert_eq!(value(&spec)["linux"]["devices"][0]["major"], 195);
        let once = spec.clone();
        typed::inject(&mut spec, &[&edits()], &HostNodes::default()).unwrap();
        assert_eq!(spec, once);
    }
}

#[test]
fn what_no_edit_touches_is_the_same() {
    let before = Spec::default();
    let mut after = before.clone();
    let env = ContainerEdits { env: vec!["A=b".into()], ..ContainerEdits::default() };
    typed::inject(&mut after, &[&env], &HostNodes::default()).unwrap();
    assert_eq!((after.linux(), after.mounts(), after.hooks()), (before.linux(), before.mounts(), before.hooks()));
    let (before, after) = (before.process().as_ref().unwrap(), after.process().as_ref().unwrap());
    assert_eq!((after.capabilities(), after.rlimits()), (before.capabilities(), before.rlimits()));
    assert!(after.env().as_ref().unwrap().contains(&"A=b".to_owned()));
}

#[test]
fn an_error_changes_nothing() {
    let mut spec = Spec::default();
    let mut bad = edits();
    bad.hooks[0].hook_name = "later".into();
    assert!(typed::inject(&mut spec, &[&bad], &HostNodes::default()).is_err());
    assert_eq!(spec, Spec::default());
}
