//! What holds for any edits, any document and any order of files.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::path::PathBuf;

use cdi_apply::document::Document;
use cdi_apply::nodes::HostNode;
use cdi_apply::spec_dirs::SpecText;
use cdi_apply::{HostNodes, Registry, Request, SpecTexts, inject, resolve};
use cdi_specs::{ContainerEdits, DeviceNode, Format, Hook, IntelRdt, Mount, NetDevice};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// Members that edits may touch; all else belongs to somebody else.
const TOUCHED: [&[&str]; 9] = [
    &["process", "env"],
    &["process", "user", "additionalGids"],
    &["mounts"],
    &["hooks"],
    &["linux", "devices"],
    &["linux", "netDevices"],
    &["linux", "intelRdt"],
    &["linux", "resources", "devices"],
    &["process", "cwd"],
];

fn paths() -> impl Strategy<Value = String> {
    select(vec!["/a", "/a/b", "/a/b/", "/a/../b", "b", "/dev/null", "/dev/x"]).prop_map(str::to_owned)
}

fn variables() -> impl Strategy<Value = String> {
    (select(vec!["A", "B", "LONG_NAME"]), "[a-z=]{0,3}").prop_map(|(name, value)| format!("{name}={value}"))
}

fn nodes() -> impl Strategy<Value = DeviceNode> {
    let kinds = select(vec!["b", "c", "u", "p"]).prop_map(str::to_owned);
    let permissions = option::of(select(vec!["r", "rwm", "none"]).prop_map(str::to_owned));
    let ids = (option::of(0..3_u32), option::of(0..3_u32));
    let numbers = (1..4_i64, 0..2_i64);
    (paths(), kinds, numbers, option::of(0..0o777_u32), permissions, ids).prop_map(
        |(path, kind, (major, minor), file_mode, permissions, (uid, gid))| DeviceNode {
            path,
            r#type: Some(kind),
            major,
            minor,
            file_mode,
            permissions,
            uid,
            gid,
            ..DeviceNode::default()
        },
    )
}

fn mounts() -> impl Strategy<Value = Mount> {
    let kinds = option::of(select(vec!["bind", "tmpfs"]).prop_map(str::to_owned));
    let options = vec(select(vec!["ro", "bind", "rbind", "idmap"]).prop_map(str::to_owned), 0..3);
    (paths(), paths(), kinds, options).prop_map(|(host_path, container_path, r#type, options)| Mount {
        host_path,
        container_path,
        r#type,
        options,
    })
}

fn hooks() -> impl Strategy<Value = Hook> {
    let words = || vec("[a-z=]{1,3}", 0..2);
    (select(Hook::NAMES.to_vec()), paths(), words(), words(), option::of(0..3_i64))
        .prop_map(|(name, path, args, env, timeout)| Hook { hook_name: name.to_owned(), path, args, env, timeout })
}

fn edits() -> impl Strategy<Value = ContainerEdits> {
    let net = ("[a-c]", "[a-c]").prop_map(|(host_interface_name, name)| NetDevice { host_interface_name, name });
    let rdt = "[a-c]{0,2}".prop_map(|clos_id| IntelRdt { clos_id: Some(clos_id), ..IntelRdt::default() });
    let lists = (vec(variables(), 0..4), vec(nodes(), 0..4), vec(mounts(), 0..4), vec(hooks(), 0..3));
    (lists, vec(net, 0..2), option::of(rdt), vec(0..4_u32, 0..4)).prop_map(
        |((env, device_nodes, mounts, hooks), net_devices, intel_rdt, additional_gids)| ContainerEdits {
            env,
            device_nodes,
            net_devices,
            mounts,
            hooks,
            intel_rdt,
            additional_gids,
        },
    )
}

/// Any JSON, with numbers that no type of ours could hold.
fn anything() -> impl Strategy<Value = Value> {
    let numbers = select(vec!["0", "-0", "1.50", "18446744073709551616", "1e+400"]);
    let numbers = numbers.prop_map(|text| serde_json::from_str(text).unwrap());
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), numbers, "\\PC{0,4}".prop_map(Value::from)];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let fields = vec(("[a-z]{1,3}", inner.clone()), 0..4);
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            fields.prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// An OCI document: of what edits touch, what the standard has there or nothing; of the rest anything.
fn documents() -> impl Strategy<Value = Value> {
    let env = option::of(vec(variables(), 0..4).prop_map(Value::from));
    let mount = (paths(), anything()).prop_map(|(path, x)| json!({"destination": path, "x": x}));
    let device = (paths(), anything()).prop_map(|(path, x)| json!({"x": x, "path": path, "type": "c", "major": 1}));
    let rule = (any::<bool>(), option::of(1..4_i64)).prop_map(|(allow, major)| match major {
        Some(major) => json!({"allow": allow, "type": "c", "major": major, "minor": 0, "access": "rwm"}),
        None => json!({"allow": allow, "access": "rwm"}),
    });
    let of_linux = (option::of(vec(device, 0..3)), option::of(vec(rule, 0..3)), any::<bool>(), anything());
    let of_linux = of_linux.prop_map(|(devices, rules, user_namespace, x)| {
        let namespaces = if user_namespace { json!([{"type": "user"}]) } else { json!([]) };
        json!({"devices": devices, "x": x, "resources": {"devices": rules, "x": x}, "namespaces": namespaces})
    });
    let user = (0..3_u32, vec(0..4_u32, 0..3)).prop_map(|(uid, gids)| json!({"uid": uid, "additionalGids": gids}));
    (env, vec(mount, 0..4), option::of(of_linux), option::of(user), anything()).prop_map(
        |(env, mounts, linux, user, x)| {
            let process = json!({"x": x, "env": env, "user": user});
            json!({"x": x, "mounts": mounts, "process": process, "linux": linux, "y": x})
        },
    )
}

fn host() -> HostNodes {
    let node = HostNode { kind: 'c', major: 1, minor: 3, mode: 0o666 };
    HostNodes { nodes: [("/dev/null".to_owned(), node)].into(), drivers: Vec::new() }
}

/// A document without what edits may touch: those members, and objects that have nothing else.
fn rest(document: &Value) -> Value {
    let mut rest = document.clone();
    TOUCHED.iter().for_each(|path| take(&mut rest, path));
    rest
}

fn take(value: &mut Value, path: &[&str]) {
    let (Some(object), [first, behind @ ..]) = (value.as_object_mut(), path) else { return };
    if let (Some(inner), [_, ..]) = (object.get_mut(*first), behind) {
        take(inner, behind);
    }
    let is_empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
    if behind.is_empty() || object.get(*first).is_some_and(is_empty) {
        object.shift_remove(*first);
    }
}

/// Specs that share kinds and devices, over three priorities.
fn spec_files() -> impl Strategy<Value = Vec<SpecText>> {
    let device = select(vec!["a", "b", "c", "d"]);
    let file = (0..3_usize, select(vec!["v.com/g", "v.com/n", "w.com/g"]), vec(device, 1..4));
    vec(file, 1..8).prop_map(|files| {
        let text = |(index, (priority, kind, mut devices)): (usize, (usize, &str, Vec<&str>))| {
            devices.sort_unstable();
            devices.dedup();
            let devices: String = devices
                .iter()
                .map(|name| format!("- {{name: {name}, containerEdits: {{env: ['{name}={index}']}}}}\n"))
                .collect();
            let bytes = format!("cdiVersion: 0.3.0\nkind: {kind}\ndevices:\n{devices}").into();
            SpecText { path: PathBuf::from(format!("{priority}/{index}.yaml")), priority, format: Format::Yaml, bytes }
        };
        files.into_iter().enumerate().map(text).collect()
    })
}

proptest! {
    #[test]
    fn twice_is_once(document in documents(), edits in edits()) {
        let mut once = document;
        if inject(&mut once, &[&edits], &host()).is_ok() {
            let mut twice = once.clone();
            prop_assert_eq!(inject(&mut twice, &[&edits], &host()), Ok(()));
            prop_assert_eq!(twice.to_string(), once.to_string());
        }
    }

    #[test]
    fn what_is_not_ours_is_not_touched(document in documents(), edits in edits()) {
        let mut patched = document.clone();
        let done = inject(&mut patched, &[&edits], &host());
        if done.is_err() {
            prop_assert_eq!(&patched, &document);
        }
        // As text: the order of the keys and the spelling of the numbers count too.
        prop_assert_eq!(rest(&patched).to_string(), rest(&document).to_string());
    }

    #[test]
    fn a_document_is_written_as_it_was_read(document in documents()) {
        for text in [document.to_string(), format!("{document:#}\n")] {
            prop_assert_eq!(Document::parse(text.as_bytes()).unwrap().to_text(), text);
        }
    }

    #[test]
    fn the_order_of_the_files_does_not_matter(files in spec_files(), order in any::<u64>()) {
        let mut shuffled = files.clone();
        let length = shuffled.len();
        (0..length).for_each(|at| shuffled.swap(at, usize::try_from(order).unwrap_or(usize::MAX).wrapping_mul(at + 7) % length));
        let registry = |files| Registry::new(&SpecTexts { files, problems: Vec::new() });
        let (one, other) = (registry(files), registry(shuffled));
        let told = |registry: &Registry| {
            let devices: Vec<_> = registry.devices().map(|(name, file)| (name, file.to_owned())).collect();
            let all = resolve(registry, &[Request::Pattern(glob::Pattern::new("*/*=*").unwrap())]);
            (devices, registry.problems().to_vec(), all.map(|all| all.merged()))
        };
        prop_assert_eq!(told(&one), told(&other));
    }
}
