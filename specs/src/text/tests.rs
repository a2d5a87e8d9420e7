//! What specs read as, what they are written as, and that each is the other's inverse.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::edits::{ContainerEdits, DeviceNode, Hook, IntelRdt, Mount, NetDevice};
use crate::spec::Device;

/// Every kind of nesting, and the traps of YAML, in the layout of the Go tools.
const LAYOUT: &str = r#"---
cdiVersion: 1.1.0
kind: vendor.com/gpu
annotations:
    "on": "1_000"
    vendor.com/note: 'a: b'
devices:
    - name: "0"
      annotations:
        empty: ""
      containerEdits:
        env:
            - A=1
            - '- no list'
        deviceNodes:
            - path: /dev/gpu0
              hostPath: /dev/dri/card0
              type: c
              major: 195
              minor: 1
              fileMode: 438
              permissions: rwm
              uid: 0
              gid: 44
            - path: /dev/gpu1
    - name: "y"
      containerEdits:
        netDevices:
            - hostInterfaceName: eno1
              name: net0
        additionalGids:
            - 0
            - 44
    - name: empty
      containerEdits: {}
containerEdits:
    hooks:
        - hookName: createContainer
          path: /usr/bin/hook
          args:
            - hook
            - --link
            - "0x10"
          env:
            - A=b c
          timeout: 5
        - hookName: poststop
          path: /usr/bin/hook
    mounts:
        - hostPath: /usr/lib/a.so
          containerPath: /usr/lib/b.so
          options:
            - ro
            - "no"
          type: bind
    intelRdt:
        closID: class
        l3CacheSchema: L3:0=f
        memBwSchema: MB:0=10
        schemata:
            - L3:0=f
        enableMonitoring: true
"#;

#[test]
fn yaml_is_laid_out_as_the_go_tools_do() {
    assert_eq!(to_yaml(&parse_yaml(LAYOUT).unwrap()), LAYOUT);
}

#[test]
fn json_is_indented_in_the_same_order() {
    let spec = parse_yaml("{kind: a/b, cdiVersion: 0.5.0, devices: [{name: '0'}]}").unwrap();
    let expected = r#"{
  "cdiVersion": "0.5.0",
  "kind": "a/b",
  "devices": [
    {
      "name": "0",
      "containerEdits": {}
    }
  ]
}
"#;
    assert_eq!(to_json(&spec), expected);
}

#[test]
fn formats_have_extensions() {
    for (extension, format) in
        [("yaml", Some(Format::Yaml)), ("json", Some(Format::Json)), ("yml", None), ("JSON", None)]
    {
        assert_eq!(Format::from_extension(extension), format);
        assert!(format.is_none_or(|format| format.extension() == extension));
    }
}

/// What reads the same: what was written some way that engines take, and our way of writing it.
#[test]
fn the_many_ways_to_say_the_same() {
    let cases = [
        ("\u{feff}kind: a/b", "kind: a/b"),
        ("kind: a/b\r\n# comment\r\n", "kind: a/b"),
        ("Kind: a/b\nCDIVERSION: 0.3.0", "kind: a/b\ncdiVersion: 0.3.0"),
        ("kind: a/b\n---\nkind: [not, read", "kind: a/b"),
        ("kind: !!str a/b", "kind: a/b"),
        ("kind: >-\n  a/b", "kind: a/b"),
        ("{\t\"kind\":\t\"a/b\"}", "kind: a/b"),
        ("cdiVersion: 1.10", "cdiVersion: '1.10'"),
        ("kind: null\ncdiVersion: ~", "{}"),
        ("annotations:\ndevices: null\ncontainerEdits: ~", "{}"),
        ("containerEdits: {env: null, deviceNodes: , hooks: null, intelRdt: null, additionalGids: null}", "{}"),
        ("containerEdits: {env: [null]}", "containerEdits: {env: ['']}"),
        ("devices: [null]", "devices: [{}]"),
        ("devices: [{name: 0}, {name: y}]", "devices: [{name: '0'}, {name: 'y'}]"),
        ("annotations: {a: 5, b: true, 7: 1.50}", "annotations: {a: '5', b: 'true', '7': '1.50'}"),
        ("annotations: {a: null}", "annotations: {a: ''}"),
        ("containerEdits: {additionalGIDs: [1]}", "containerEdits: {additionalGids: [1]}"),
        ("containerEdits: {deviceNodes: [{fileMode: 0666}]}", "containerEdits: {deviceNodes: [{fileMode: 438}]}"),
        ("containerEdits: {deviceNodes: [{fileMode: 0o666}]}", "containerEdits: {deviceNodes: [{fileMode: 438}]}"),
        ("containerEdits: {deviceNodes: [{fileMode: 0x1b6}]}", "containerEdits: {deviceNodes: [{fileMode: 438}]}"),
        ("containerEdits: {deviceNodes: [{fileMode: 438.0}]}", "containerEdits: {deviceNodes: [{fileMode: 438}]}"),
        ("containerEdits: {deviceNodes: [{fileMode: 4.38e2}]}", "containerEdits: {deviceNodes: [{fileMode: 438}]}"),
        ("containerEdits: {deviceNodes: [{major: null, uid: ~}]}", "containerEdits: {deviceNodes: [{}]}"),
        (
            "containerEdits: {deviceNodes: [{major: 010, minor: -1}]}",
            "containerEdits: {deviceNodes: [{major: 8, minor: -1}]}",
        ),
        (
            "containerEdits: {deviceNodes: [{hostPath: '', permissions: 5}]}",
            "containerEdits: {deviceNodes: [{permissions: '5'}]}",
        ),
        (
            "devices: [{name: a, containerEdits: &e {env: [A=b]}}, {name: b, containerEdits: *e}]",
            "devices: [{name: a, containerEdits: {env: [A=b]}}, {name: b, containerEdits: {env: [A=b]}}]",
        ),
        (
            "devices: [&d {name: a, containerEdits: {env: [A=b]}}, {<<: *d, name: b}]",
            "devices: [{name: a, containerEdits: {env: [A=b]}}, {name: b, containerEdits: {env: [A=b]}}]",
        ),
    ];
    for (text, same) in cases {
        assert_eq!(parse_yaml(text), Ok(parse_yaml(same).unwrap()), "{text}");
    }
}

#[test]
fn json_is_read_with_the_same_leniency() {
    let cases = [
        (r#"{"Kind": "a/b"}"#, "kind: a/b"),
        (
            r#"{"devices": null, "containerEdits": {"env": null, "additionalGIDs": [1.0]}}"#,
            "containerEdits: {additionalGids: [1]}",
        ),
        (r#"{"annotations": {"a": "\ud83d\ude00"}}"#, "annotations: {a: \u{1f600}}"),
        ("\u{feff}{}", "{}"),
    ];
    for (text, same) in cases {
        assert_eq!(parse_json(text), Ok(parse_yaml(same).unwrap()), "{text}");
    }
}

#[test]
fn a_json_file_may_hold_yaml() {
    let spec = parse_yaml("kind: a/b").unwrap();
    for text in ["kind: a/b", "{kind: a/b}", "{\"kind\": \"a/b\"} # comment"] {
        assert!(parse_json(text).is_err());
        assert_eq!(parse(text.as_bytes(), Format::Json), Ok(spec.clone()), "{text}");
    }
    let error = |text: &str| parse(text.as_bytes(), Format::Json).unwrap_err().to_string();
    assert!(error("{\"kind\": \"\\ud83d\\ude00\", \"x\": 1}").starts_with("unknown field `x`"));
    assert!(error("kind: a/b\nx: 1").ends_with(" at line 2 column 1"));
}

/// The errors of both parsers, by their start, with line and column.
#[test]
fn wrong_specs_say_what_and_where() {
    let yaml = [
        ("kind: a/b\nunknown: 1", "unknown field `unknown`, expected one of `cdiVersion`, `kind`", (2, 1)),
        ("devices:\n- name: a\n  Nam: b", "devices[0]: unknown field `Nam`, expected one of `name`", (3, 3)),
        (
            "devices:\n- name: a\n  containerEdits:\n    mounts:\n    - path: /a",
            "devices[0].containerEdits.mounts[0]: unknown field `path`",
            (5, 7),
        ),
        (
            "containerEdits: {intelRdt: {enableCMT: true}}",
            "containerEdits.intelRdt: unknown field `enableCMT`",
            (1, 29),
        ),
        ("kind: [a]", "kind: invalid type: sequence, expected a string", (1, 7)),
        ("kind: {a: b}", "kind: invalid type: map, expected a string", (1, 7)),
        ("devices: {}", "devices: invalid type: map, expected a sequence", (1, 10)),
        ("devices: [a]", "devices[0]: invalid type: string \"a\", expected struct Device", (1, 11)),
        ("containerEdits: []", "containerEdits: invalid type: sequence, expected struct ContainerEdits", (1, 17)),
        ("annotations: {a: [b]}", "annotations.a: invalid type: sequence, expected a string", (1, 18)),
        (
            "containerEdits:\n  deviceNodes:\n  - fileMode: '438'",
            "containerEdits.deviceNodes[0].fileMode: invalid type: string \"438\", expected u32",
            (3, 15),
        ),
        (
            "containerEdits: {deviceNodes: [{fileMode: 438.5}]}",
            "containerEdits.deviceNodes[0].fileMode: invalid type: floating point `438.5`, expected u32",
            (1, 43),
        ),
        (
            "containerEdits: {deviceNodes: [{uid: -1}]}",
            "containerEdits.deviceNodes[0].uid: invalid value: integer `-1`, expected u32",
            (1, 38),
        ),
        (
            "containerEdits: {additionalGids: [4294967296]}",
            "containerEdits.additionalGids[0]: invalid value: integer `4294967296`, expected u32",
            (1, 35),
        ),
        ("kind: a/b\nkind: a/b", "duplicate key `kind`", (2, 1)),
        ("kind: a/b\nKind: a/b", "duplicate key `Kind`", (2, 1)),
        ("annotations:\n  a: b\n  a: c", "annotations: duplicate key `a`", (3, 3)),
        ("devices: [{annotations: {a: b, a: c}}]", "devices[0].annotations: duplicate key `a`", (1, 32)),
        ("containerEdits: {env: [a", "containerEdits.env[1]: did not find expected ',' or ']'", (2, 1)),
        ("devices: *nothing", "devices: unknown anchor", (1, 10)),
        ("<<: [1]", "unknown field `<<`", (1, 1)),
    ];
    let json = [
        ("{\n\"unknown\": 1}", "unknown field `unknown`, expected one of", (2, 9)),
        (r#"{"devices": [{"name": ["a"]}]}"#, "devices[0].name: invalid type: sequence, expected a string", (1, 22)),
        (r#"{"devices": [{"nam": "a"}]}"#, "devices[0]: unknown field `nam`", (1, 19)),
        (r#"{"annotations": {"a": "b", "a": "c"}}"#, "annotations: duplicate key `a`", (1, 30)),
        (r#"{"kind": "a", "kind": "a"}"#, "duplicate key `kind`", (1, 20)),
        (r#"{"kind": "a"} x"#, "trailing characters", (1, 15)),
        (r#"["a"]"#, "invalid type: sequence, expected struct Spec", (1, 0)),
    ];
    let yaml = yaml.map(|(text, start, place)| (text, parse_yaml(text), start, place));
    let json = json.map(|(text, start, place)| (text, parse_json(text), start, place));
    for (text, result, start, (line, column)) in yaml.into_iter().chain(json) {
        let error = result.unwrap_err();
        assert!(error.message.starts_with(start), "{text}: {error}");
        assert_eq!((error.line, error.column), (Some(line), Some(column)), "{text}: {error}");
        assert_eq!(error.to_string(), format!("{} at line {line} column {column}", error.message));
    }
}

#[test]
fn text_without_a_spec() {
    for text in ["", " \n", "# comment", "null", "~", "---\n", "\u{feff}"] {
        assert_eq!(parse_yaml(text).unwrap_err().message, "there is no CDI spec in it", "{text:?}");
    }
    assert_eq!(parse_json("null").unwrap_err().message, "there is no CDI spec in it");
    assert!(parse_json("").is_err());
}

#[test]
fn text_that_is_not_utf8() {
    let error = parse_yaml(b"kind: a/b\n# \xc3\xa9 \xff").unwrap_err();
    assert_eq!(error.to_string(), "not UTF-8 at line 2 column 5");
    assert_eq!(parse(b"\xff\xfek\0", Format::Json).unwrap_err().to_string(), "not UTF-8 at line 1 column 1");
}

#[test]
fn text_that_is_too_long() {
    let longest = format!("kind: a/b{}", " ".repeat(MAX_TEXT_BYTES - 9));
    assert!(parse_yaml(&longest).is_ok());
    assert!(parse_yaml(longest + " ").unwrap_err().message.contains("more than the limit"));
}

#[test]
fn flow_text_that_is_too_deep() {
    let error = parse_yaml(format!("kind:\n  {}", "{a: ".repeat(20_000))).unwrap_err();
    assert_eq!((error.line, error.column), (Some(2), Some(3 + 64 * 4)));
    assert!(error.message.contains("deeper than 64"));
    assert!(parse_yaml("[".repeat(1_000_000)).is_err());
    assert!(parse_json("[".repeat(1_000_000)).is_err());
    let quoted = format!("containerEdits: {{env: ['A={}']}}", "[".repeat(1000));
    assert!(parse_yaml(quoted).is_ok());
}

#[test]
fn aliases_that_explode() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        text += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    assert!(parse_yaml(format!("{text}<<: *a11")).is_err());
    let mut edits = "devices:\n- name: a\n  annotations: &a {a: b}\n".to_owned();
    edits += &"- name: a\n  annotations: *a\n".repeat(100);
    assert_eq!(parse_yaml(edits).unwrap().devices.len(), 101);
    assert!(parse_yaml("containerEdits: &a {env: *a}").is_err());
}

#[test]
fn a_large_spec_is_written_and_read() {
    let edits = ContainerEdits { env: vec!["A=b".into()], ..ContainerEdits::default() };
    let device = |index| Device { name: format!("gpu{index}"), container_edits: edits.clone(), ..Device::default() };
    let spec = Spec { devices: (0..50_000).map(device).collect(), ..Spec::default() };
    assert_eq!(parse_yaml(to_yaml(&spec)), Ok(spec));
}

/// Text as specs have it, text that YAML takes for something else, and any text at all.
fn text() -> impl Strategy<Value = String> {
    let traps = [
        "",
        "~",
        "null",
        "y",
        "on",
        "No",
        "TRUE",
        "1_000",
        "0x1f",
        "0666",
        "0o7",
        "1e3",
        ".5",
        ".inf",
        "1:30:00",
        "2001-01-01",
        "=",
        "<<",
        "-",
        "- a",
        "? a",
        "a: b",
        "a:",
        "a #b",
        "#",
        "---",
        "...",
        "%",
        "@",
        "`",
        "&a",
        "*a",
        "!a",
        "| a",
        "> a",
        "'",
        "\"",
        "it's",
        "\\n",
        " a",
        "a ",
        "\ta",
        "a\nb",
        "\r\n",
        "\u{feff}",
        "\u{85}",
        "\u{2028}",
        "\u{0}",
        "\u{fffe}",
        "{}",
        "[]",
        "{a: b}",
        "\u{1f600}",
    ];
    prop_oneof![
        "[a-z/._=:-]{1,12}",
        proptest::sample::select(traps.to_vec()).prop_map(str::to_owned),
        "[-?:,\\[\\]{}#&*!|>'\"%@` 0-9a-fxoe_.+~\\n\\t]{0,6}",
        any::<String>(),
    ]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..3)
}

/// Optional text; empty text is absent, so that it does not come back as `Some`.
fn optional_text() -> impl Strategy<Value = Option<String>> {
    option::of(text()).prop_map(|text| text.filter(|text| !text.is_empty()))
}

fn device_node() -> impl Strategy<Value = DeviceNode> {
    let numbers = (any::<i64>(), any::<i64>(), any::<Option<u32>>(), any::<Option<u32>>(), any::<Option<u32>>());
    (text(), optional_text(), optional_text(), optional_text(), numbers).prop_map(
        |(path, host_path, r#type, permissions, (major, minor, file_mode, uid, gid))| DeviceNode {
            path,
            host_path,
            r#type,
            major,
            minor,
            file_mode,
            permissions,
            uid,
            gid,
        },
    )
}

fn hook() -> impl Strategy<Value = Hook> {
    (text(), text(), texts(), texts(), any::<Option<i64>>()).prop_map(|(hook_name, path, args, env, timeout)| Hook {
        hook_name,
        path,
        args,
        env,
        timeout,
    })
}

fn mount() -> impl Strategy<Value = Mount> {
    (text(), text(), texts(), optional_text()).prop_map(|(host_path, container_path, options, r#type)| Mount {
        host_path,
        container_path,
        options,
        r#type,
    })
}

fn intel_rdt() -> impl Strategy<Value = IntelRdt> {
    (optional_text(), optional_text(), optional_text(), option::of(texts()), any::<Option<bool>>()).prop_map(
        |(clos_id, l3_cache_schema, mem_bw_schema, schemata, enable_monitoring)| IntelRdt {
            clos_id,
            l3_cache_schema,
            mem_bw_schema,
            schemata,
            enable_monitoring,
        },
    )
}

fn net_device() -> impl Strategy<Value = NetDevice> {
    (text(), text()).prop_map(|(host_interface_name, name)| NetDevice { host_interface_name, name })
}

fn edits() -> impl Strategy<Value = ContainerEdits> {
    let lists = (vec(device_node(), 0..3), vec(net_device(), 0..3), vec(hook(), 0..3), vec(mount(), 0..3));
    (texts(), lists, option::of(intel_rdt()), vec(any::<u32>(), 0..3)).prop_map(
        |(env, (device_nodes, net_devices, hooks, mounts), intel_rdt, additional_gids)| ContainerEdits {
            env,
            device_nodes,
            net_devices,
            hooks,
            mounts,
            intel_rdt,
            additional_gids,
        },
    )
}

fn device() -> impl Strategy<Value = Device> {
    (text(), btree_map(text(), text(), 0..3), edits()).prop_map(|(name, annotations, container_edits)| Device {
        name,
        annotations,
        container_edits,
    })
}

fn spec() -> impl Strategy<Value = Spec> {
    (text(), text(), btree_map(text(), text(), 0..3), vec(device(), 0..3), edits()).prop_map(
        |(cdi_version, kind, annotations, devices, container_edits)| Spec {
            cdi_version,
            kind,
            annotations,
            devices,
            container_edits,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(spec in spec()) {
        prop_assert_eq!(parse_yaml(to_yaml(&spec)), Ok(spec.clone()));
        prop_assert_eq!(parse_json(to_json(&spec)), Ok(spec));
    }

    #[test]
    fn yaml_fuzz(bytes in vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, Format::Json);
    }

    #[test]
    fn any_text_that_looks_like_yaml_is_answered(
        text in "([-?:,\\[\\]{}#&*!|>'\"%@ \\na<]|kind|devices: |<<: |name: |annotations: ){0,40}",
    ) {
        let _ = parse(text.as_bytes(), Format::Json);
    }
}

/// What the reader of the common layout makes of a text must be what libyaml makes of it.
fn assert_same(text: &str) {
    if let Some(spec) = read::block_layout(text) {
        assert_eq!(Ok(spec), read::any_yaml(text), "{text}");
    }
}

#[test]
fn the_common_layout_needs_no_yaml_parser() {
    let written = to_yaml(&parse_yaml(LAYOUT).unwrap());
    let indented_less =
        "# a comment\nkind: a/b\ndevices:\n- name: a\n  containerEdits:\n    env:\n    - A=b\n\ncdiVersion: 0.5.0\n";
    let by_hand = "kind: a/b\ndevices:\n  -   name: \"a\"\n      containerEdits: {}\n";
    let marked = format!("# Written by cdi-gen\n#\n{written}");
    for text in [LAYOUT, &written, &marked, indented_less, by_hand, "kind: a/b", "devices: []"] {
        assert!(read::block_layout(text).is_some(), "{text}");
        assert_same(text);
    }
}

#[test]
fn whatever_else_there_is_is_left_to_libyaml() {
    let texts = [
        "",
        "---",
        "# a comment",
        "# a comment\n---\n",
        " kind: a/b",
        "kind: a/b\r\n",
        "kind:\ta/b",
        "kind: {a: b}",
        "kind: [a]",
        "kind: &a b",
        "kind: *a",
        "kind: !!str a",
        "kind: a # comment",
        "kind: |\n  a",
        "kind: >-\n  a",
        "kind: a\n  b",
        "kind: 'a",
        "kind: 'a'b'",
        "kind: \"a\\n\"",
        "kind: \"a\" b",
        "kind: \u{e9}",
        "kind:",
        "kind: ~",
        "kind: Null",
        "kind: a:",
        "kind: a: b",
        "kind: a ",
        "kind: ---",
        "kind: a\n---\nkind: b",
        "kind: a\n...\n",
        "kind: a\nkind: b",
        "unknown: a",
        "kind: a\n devices: []",
        "devices:\n- - a",
        "devices:\n-\n  name: a",
        "devices:\n- name: a\n   containerEdits: {}",
        "devices:\n  - name: a\n - name: b",
        "devices:\n  name: a",
        "containerEdits:\n  additionalGids:\n  - 010",
        "containerEdits:\n  additionalGids:\n  - '1'",
        "<<: a",
        "? kind\n: a",
        "%YAML 1.2\n---\nkind: a",
    ];
    for text in texts {
        assert_eq!(read::block_layout(text), None, "{text}");
    }
    let deep = (0..40).fold(String::new(), |text, depth| text + &" ".repeat(depth) + "a:\n") + &" ".repeat(40) + "b: c";
    assert_eq!(read::block_layout(&deep), None);
}

/// Lines that are often right, and then again not.
fn soup() -> impl Strategy<Value = String> {
    const KEYS: &[&str] =
        &["kind", "devices", "name", "containerEdits", "env", "annotations", "mounts", "additionalGids", "'a'", "x y"];
    const VALUES: &[&str] = &[
        "", " ", " a", " a/b", " 1", " -1", " 007", " 'a'", " 'it''s'", " \"b\"", " {}", " []", " a: b", " a # b",
        " -x", " --x", " ~", " null", " true", " .inf", " 0x1f", " 1_0", " y", " a ", " #", " :", " a:b", " @", " ...",
        " ---",
    ];
    let line = (0..5_usize, 0..4_usize, prop::sample::select(KEYS), prop::sample::select(VALUES));
    let line = line.prop_map(|(indent, form, key, value)| {
        let indent = "  ".repeat(indent);
        match form {
            0 | 1 => format!("{indent}{key}:{value}\n"),
            2 => format!("{indent}- {key}:{value}\n"),
            _ => format!("{indent}-{value}\n"),
        }
    });
    vec(line, 0..8).prop_map(|lines| lines.concat())
}

/// A map whose nesting is right, with scalars of all kinds in it.
fn block_spec() -> impl Strategy<Value = String> {
    let scalars = "[a-z0-9/_.+($=,:#'\"{}\\[\\]<>&*!|%@`~? -]{0,8}";
    (vec(scalars, 1..4), vec(scalars, 1..4), scalars).prop_map(|(env, args, note)| {
        let list = |items: &[String]| items.iter().map(|item| format!("    - {item}\n")).collect::<String>();
        let (env, args) = (list(&env), list(&args));
        format!("kind: a/b\nannotations:\n  {note}: {note}\ncontainerEdits:\n    env:\n{env}    hooks:\n    - path: {note}\n      args:\n{}", args.replace("    -", "      -"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn both_readers_agree_on_soup(text in soup()) {
        assert_same(&text);
    }

    #[test]
    fn both_readers_agree_on_scalars(text in block_spec()) {
        assert_same(&text);
    }
}
