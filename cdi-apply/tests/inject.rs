//! Edits into OCI documents, as tables: the reference's cases in our own words, and what must survive.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use cdi_apply::host_nodes::HostNode;
use cdi_apply::oci::{InjectError, inject};
use cdi_specs::ContainerEdits;
use serde_json::{Value, json};

fn edits(value: Value) -> ContainerEdits {
    serde_json::from_value(value).unwrap()
}

/// A host with a character device, a block device and a FIFO.
fn node(path: &str) -> Option<HostNode> {
    let node = |kind, major, minor| Some(HostNode { kind, major, minor, mode: 0o666 });
    match path {
        "/dev/null" => node('c', 1, 3),
        "/dev/disk" => node('b', 8, 0),
        "/dev/pipe" => node('p', 0, 0),
        _ => None,
    }
}

fn injected(mut config: Value, applied: Value) -> Value {
    inject(&mut config, &edits(applied), &node).unwrap();
    config
}

#[test]
fn environment() {
    let process = |env: Value| json!({"process": {"user": {"uid": 0, "gid": 0}, "cwd": "", "env": env}});
    let cases = [
        (json!({}), json!(["BAR=x"]), json!(["BAR=x"])),
        (json!({}), json!(["FOO=old", "FOO=new"]), json!(["FOO=new"])),
        (process(json!(["FOO=old", "BAR=old"])), json!(["FOO=new"]), json!(["FOO=new", "BAR=old"])),
        (process(json!(["FOO=1", "A=b", "FOO=2"])), json!(["FOO=new"]), json!(["A=b", "FOO=new"])),
        (process(json!(["FOOD=1"])), json!(["FOO=new"]), json!(["FOOD=1", "FOO=new"])),
    ];
    for (config, env, expected) in cases {
        assert_eq!(injected(config, json!({"env": env})), process(expected));
    }
}

#[test]
fn device_nodes() {
    let device = json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666});
    let rule = |access: &str| json!([{"allow": true, "type": "c", "major": 1, "minor": 3, "access": access}]);
    let config = injected(json!({}), json!({"deviceNodes": [{"path": "/dev/null"}]}));
    assert_eq!(config["linux"], json!({"devices": [device], "resources": {"devices": rule("rwm")}}));
    let other_path = json!({"path": "/dev/x", "hostPath": "/dev/null", "permissions": "r"});
    let config = injected(json!({}), json!({"deviceNodes": [other_path]}));
    assert_eq!(config["linux"]["devices"][0]["path"], "/dev/x");
    assert_eq!(config["linux"]["resources"]["devices"], rule("r"));
    // Said in full, a node need not be on the host; `none` gives no access.
    let full = json!({"path": "/dev/nil", "type": "c", "major": 1, "minor": 3, "permissions": "none"});
    let config = injected(json!({}), json!({"deviceNodes": [full]}));
    assert_eq!(config["linux"]["devices"], json!([{"path": "/dev/nil", "type": "c", "major": 1, "minor": 3}]));
    assert_eq!(config["linux"]["resources"]["devices"], json!([{"allow": true, "type": "c", "major": 1, "minor": 3}]));
    // A FIFO has no numbers and no rule.
    let config = injected(json!({}), json!({"deviceNodes": [{"path": "/dev/pipe"}]}));
    assert_eq!(config["linux"], json!({"devices": [{"path": "/dev/pipe", "type": "p", "fileMode": 0o666}]}));
}

#[test]
fn a_node_takes_the_users_ids_unless_told() {
    let config = json!({"process": {"user": {"uid": 1000, "gid": 0}}});
    let nodes = json!([{"path": "/dev/null"}, {"path": "/dev/disk", "uid": 0, "gid": 6}]);
    let config = injected(config, json!({"deviceNodes": nodes}));
    let devices = &config["linux"]["devices"];
    assert_eq!((&devices[0]["uid"], devices[0].get("gid")), (&json!(1000), None));
    assert_eq!((&devices[1]["uid"], &devices[1]["gid"]), (&json!(0), &json!(6)));
}

#[test]
fn mounts_replace_by_destination_and_sort_by_depth() {
    let mount = |path: &str| json!({"destination": path, "source": "/host/path"});
    let config = json!({"mounts": [mount("/dest/path/b"), mount("/dest/path/a")]});
    let edit = |path: &str| json!({"mounts": [{"hostPath": "/host/path", "containerPath": path}]});
    let config = injected(config, edit("/dest/edit"));
    assert_eq!(config["mounts"], json!([mount("/dest/edit"), mount("/dest/path/b"), mount("/dest/path/a")]));
    let config = injected(config, edit("/dest/path/b"));
    assert_eq!(config["mounts"], json!([mount("/dest/edit"), mount("/dest/path/a"), mount("/dest/path/b")]));
    let config = injected(config, edit("/x"));
    assert_eq!(config["mounts"][0], mount("/x"));
}

#[test]
fn a_user_namespace_maps_ids_of_bind_mounts() {
    let cases = [
        (json!({"type": "bind"}), json!(["idmap"])),
        (json!({"type": "bind", "options": ["rbind"]}), json!(["rbind", "ridmap"])),
        (json!({"options": ["ro", "bind"]}), json!(["ro", "bind", "idmap"])),
        (json!({"options": ["rbind", "idmap"]}), json!(["rbind", "idmap"])),
        (json!({"type": "tmpfs", "options": ["ro"]}), json!(["ro"])),
    ];
    for (given, expected) in cases {
        let mut mount = json!({"hostPath": "/a", "containerPath": "/b"});
        mount.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
        let config = json!({"linux": {"namespaces": [{"type": "user"}]}});
        let config = injected(config, json!({"mounts": [mount]}));
        assert_eq!(config["mounts"][0]["options"], expected);
    }
}

#[test]
fn hooks_rdt_net_devices_and_groups() {
    let entry = json!({"path": "/bin/h", "args": ["h"], "env": ["A=b"], "timeout": 5});
    let mut hook = entry.clone();
    hook["hookName"] = json!("createContainer");
    let config = injected(json!({}), json!({"hooks": [hook]}));
    assert_eq!(config["hooks"], json!({"createContainer": [entry]}));
    let config = json!({"linux": {"intelRdt": {"closID": "old", "memBwSchema": "old"}}});
    let config = injected(config, json!({"intelRdt": {"closID": "new"}}));
    assert_eq!(config["linux"]["intelRdt"], json!({"closID": "new"}));
    let config = injected(json!({}), json!({"netDevices": [{"hostInterfaceName": "eno1", "name": "net0"}]}));
    assert_eq!(config["linux"]["netDevices"], json!({"eno1": {"name": "net0"}}));
    assert_eq!(injected(json!({}), json!({"additionalGids": [0]})), json!({}));
    let config = injected(json!({"process": {"user": {"additionalGids": [4]}}}), json!({"additionalGids": [4, 5, 5]}));
    assert_eq!(config["process"]["user"]["additionalGids"], json!([4, 5]));
}

#[test]
fn what_nobody_knows_survives_in_order_and_as_written() {
    let text = r#"{"zeta":1.50,"process":{"future":{"b":1,"a":18446744073709551616},"env":["A=b"]},"alpha":[1e400]}"#;
    let mut config: Value = serde_json::from_str(text).unwrap();
    inject(&mut config, &edits(json!({"env": ["A=c"]})), &node).unwrap();
    assert_eq!(config.to_string(), text.replace("A=b", "A=c").replace("1e400", "1e+400"));
}

#[test]
fn twice_is_once() {
    let applied = json!({
        "env": ["A=b"],
        "deviceNodes": [{"path": "/dev/null"}],
        "mounts": [{"hostPath": "/a", "containerPath": "/b", "options": ["ro"]}],
        "additionalGids": [5],
    });
    let once = injected(json!({}), applied.clone());
    assert_eq!(injected(once.clone(), applied), once);
}

#[test]
fn an_error_leaves_the_document_as_it_was() {
    let mount = json!([{"hostPath": "/a", "containerPath": "/b"}]);
    let cases = [
        (json!({"process": []}), json!({"env": ["A=b"]}), "process is not an object"),
        (json!({"mounts": {}}), json!({"env": ["A=b"], "mounts": mount}), "mounts is not an array"),
        (json!([]), json!({"env": ["A=b"]}), "the document is not an object"),
        (json!({}), json!({"env": ["A=b"], "deviceNodes": [{"path": "/dev/gone"}]}), "no device node /dev/gone"),
        (json!({}), json!({"deviceNodes": [{"path": "/dev/null", "type": "b"}]}), "is of type c, the spec says b"),
        (json!({}), json!({"hooks": [{"hookName": "later", "path": "/h"}]}), "unknown hook stage later"),
    ];
    for (config, applied, word) in cases {
        let mut patched = config.clone();
        let error: InjectError = inject(&mut patched, &edits(applied), &node).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(patched, config);
    }
}
