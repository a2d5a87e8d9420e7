//! Edits into OCI documents, as tables: the reference's cases in our own words, and what must survive.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use cdi_apply::nodes::HostNode;
use cdi_apply::{HostNodes, InjectError, inject};
use cdi_specs::ContainerEdits;
use serde_json::{Value, json};

fn edits(value: Value) -> ContainerEdits {
    serde_json::from_value(value).unwrap()
}

/// A host with a character device, a block device and a FIFO.
fn host() -> HostNodes {
    let node = |path: &str, kind, major, minor| (path.to_owned(), HostNode { kind, major, minor, mode: 0o666 });
    let nodes = [node("/dev/null", 'c', 1, 3), node("/dev/disk", 'b', 8, 0), node("/dev/pipe", 'p', 0, 0)];
    HostNodes { nodes: nodes.into(), drivers: Vec::new() }
}

fn injected(mut config: Value, applied: Value) -> Value {
    inject(&mut config, &[&edits(applied)], &host()).unwrap();
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
fn what_a_node_says_and_what_the_host_adds() {
    let node = |edit: Value| {
        let mut config = json!({});
        let edits = edits(json!({"deviceNodes": [edit]}));
        inject(&mut config, &[&edits], &host()).map(|()| config["linux"]["devices"][0].clone())
    };
    let cases = [
        // A given minor number is overwritten with the major number.
        (json!({"path": "/dev/null", "minor": 9}), json!({"type": "c", "major": 1, "minor": 3, "fileMode": 438})),
        // A given major number stays, with what is given of the minor one.
        (json!({"path": "/dev/null", "major": 195}), json!({"type": "c", "major": 195, "minor": 0, "fileMode": 438})),
        (json!({"path": "/dev/null", "fileMode": 384}), json!({"type": "c", "major": 1, "minor": 3, "fileMode": 384})),
        // Type and major number make it complete: only the mode comes from the host.
        (
            json!({"path": "/dev/null", "type": "b", "major": 9}),
            json!({"type": "b", "major": 9, "minor": 0, "fileMode": 438}),
        ),
        (
            json!({"path": "/dev/null", "type": "u", "major": 9}),
            json!({"type": "u", "major": 9, "minor": 0, "fileMode": 438}),
        ),
        (json!({"path": "/dev/gone", "type": "p"}), json!({"type": "p"})),
    ];
    for (edit, rest) in cases {
        let mut expected = json!({"path": edit["path"]});
        expected.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        assert_eq!(node(edit.clone()).unwrap(), expected, "{edit}");
    }
    // `u` is never the type of the host's node, so it needs a major number.
    assert!(node(json!({"path": "/dev/null", "type": "u"})).is_err());
    assert!(node(json!({"path": "/dev/gone", "major": 195})).is_err());
}

#[test]
fn a_node_takes_the_place_of_those_at_its_path() {
    let known = |path: &str, minor: u32| json!({"path": path, "type": "c", "major": 1, "minor": minor});
    let config = json!({"linux": {"devices": [known("/dev/null", 7), known("/dev/zero", 5)]}});
    let config = injected(config, json!({"deviceNodes": [{"path": "/dev/null"}]}));
    let paths: Vec<&Value> =
        config["linux"]["devices"].as_array().unwrap().iter().map(|device| &device["path"]).collect();
    assert_eq!(paths, ["/dev/zero", "/dev/null"]);
    assert_eq!(config["linux"]["devices"][1]["minor"], 3);
    // The reference leaves one of three behind.
    let config = json!({"linux": {"devices": [known("/dev/null", 7), known("/dev/null", 8), known("/dev/null", 9)]}});
    let config = injected(config, json!({"deviceNodes": [{"path": "/dev/null"}]}));
    assert_eq!(config["linux"]["devices"].as_array().unwrap().len(), 1);
}

#[test]
fn a_rule_counts_behind_the_last_denial() {
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"});
    let denial = json!({"allow": false, "access": "rwm"});
    let rules = |rules: Value| {
        let config = json!({"linux": {"resources": {"devices": rules}}});
        injected(config, json!({"deviceNodes": [{"path": "/dev/null"}]}))["linux"]["resources"]["devices"].clone()
    };
    assert_eq!(rules(json!([denial])), json!([denial, rule]));
    assert_eq!(rules(json!([denial, rule])), json!([denial, rule]));
    // What was allowed before is denied again.
    assert_eq!(rules(json!([rule, denial])), json!([rule, denial, rule]));
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
    // Destinations are held against each other as they are written.
    let config = injected(json!({"mounts": [mount("/dev/shm/")]}), edit("/dev/shm"));
    assert_eq!(config["mounts"], json!([mount("/dev/shm/"), mount("/dev/shm")]));
    // The order of what is there is kept where nothing is mounted.
    let unsorted = json!({"mounts": [mount("/a/b"), mount("/a")]});
    assert_eq!(injected(unsorted.clone(), json!({"env": ["A=b"]}))["mounts"], unsorted["mounts"]);
}

#[test]
fn userns_idmap_nosuid() {
    let cases = [
        (json!({"type": "bind"}), json!(["idmap"])),
        (json!({"type": "bind", "options": ["rbind"]}), json!(["rbind", "ridmap"])),
        (json!({"options": ["bind", "rbind"]}), json!(["bind", "rbind", "ridmap"])),
        (json!({"options": ["rbind", "bind"]}), json!(["rbind", "bind", "idmap"])),
        (json!({"options": ["ridmap", "bind"]}), json!(["ridmap", "bind"])),
        (json!({"options": ["ro", "bind"]}), json!(["ro", "bind", "idmap"])),
        (json!({"options": ["rbind", "idmap"]}), json!(["rbind", "idmap"])),
        (json!({"options": ["nosuid", "nodev", "rbind"]}), json!(["nosuid", "nodev", "rbind", "ridmap"])),
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
    let stages = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let hooks: Vec<Value> = stages.iter().map(|stage| json!({"hookName": stage, "path": "/bin/h"})).collect();
    let config = injected(json!({"hooks": {"prestart": [entry]}}), json!({"hooks": hooks}));
    assert_eq!(config["hooks"]["prestart"], json!([entry, {"path": "/bin/h"}]));
    assert!(stages.iter().skip(1).all(|stage| config["hooks"][stage] == json!([{"path": "/bin/h"}])));
    let config = json!({"linux": {"intelRdt": {"closID": "old", "memBwSchema": "old"}}});
    let config = injected(config, json!({"intelRdt": {"closID": "new"}}));
    assert_eq!(config["linux"]["intelRdt"], json!({"closID": "new"}));
    let nets = json!({"netDevices": [{"hostInterfaceName": "eno1", "name": "net0"}, {"hostInterfaceName": "eno2", "name": "net1"}]});
    let config = injected(json!({"linux": {"netDevices": {"eno1": {"name": "old", "mtu": 9}}}}), nets);
    assert_eq!(config["linux"]["netDevices"], json!({"eno1": {"name": "net0"}, "eno2": {"name": "net1"}}));
    let rdt =
        json!({"closID": "a", "l3CacheSchema": "b", "memBwSchema": "c", "schemata": ["d"], "enableMonitoring": true});
    assert_eq!(injected(json!({}), json!({"intelRdt": rdt}))["linux"]["intelRdt"], rdt);
    assert_eq!(injected(json!({}), json!({"additionalGids": [0]})), json!({}));
    let gids = injected(json!({}), json!({"additionalGids": [4, 5, 6, 5, 6, 4]}));
    assert_eq!(gids["process"], json!({"user": {"uid": 0, "gid": 0, "additionalGids": [4, 5, 6]}, "cwd": ""}));
    let config = injected(json!({"process": {"user": {"additionalGids": [4]}}}), json!({"additionalGids": [4, 5, 5]}));
    assert_eq!(config["process"]["user"]["additionalGids"], json!([4, 5]));
}

#[test]
fn what_nobody_knows_survives_in_order_and_as_written() {
    let text = r#"{"zeta":1.50,"process":{"future":{"b":1,"a":18446744073709551616},"env":["A=b"]},"alpha":[1e400]}"#;
    let mut config: Value = serde_json::from_str(text).unwrap();
    inject(&mut config, &[&edits(json!({"env": ["A=c"]}))], &host()).unwrap();
    assert_eq!(config.to_string(), text.replace("A=b", "A=c").replace("1e400", "1e+400"));
}

#[test]
fn twice_is_once() {
    let applied = json!({
        "env": ["A=b"],
        "deviceNodes": [{"path": "/dev/null"}],
        "mounts": [{"hostPath": "/a", "containerPath": "/b", "options": ["ro"]}],
        "hooks": [{"hookName": "createContainer", "path": "/h", "args": ["h"], "env": ["A=b"]}],
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
        let error: InjectError = inject(&mut patched, &[&edits(applied)], &host()).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(patched, config);
    }
}
