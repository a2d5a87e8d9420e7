//! Every rule that a CDI spec must keep, each violation with its place.
//!
//! The rules are those that the Go engines enforce, and those of CDI SPEC that they merely state (`Report::state` below).

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display};

use serde::Serialize;

use crate::edits::{ContainerEdits, DeviceNode, Hook, IntelRdt, Mount, NetDevice, is_blank};
use crate::name::{NameError, validate_device_name};
use crate::shown::shortened;
use crate::spec::{Device, Spec};
use crate::version::{Version, required_features};

/// A rule that a spec breaks. Displays as `at: message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Field path, such as `devices[3].containerEdits.mounts[0].hostPath`.
    pub at: String,
    /// What is wrong there.
    pub message: String,
    /// Whether the Go engines refuse the spec for it. They read on over a rule that CDI SPEC merely states.
    pub enforced: bool,
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

/// So many violations are listed, of rules that engines enforce and of others each; the rest is counted.
const MOST: usize = 1000;
/// Characters of a place or a message: names in it are as long as strangers like.
const LONGEST: usize = 300;

/// Checks every rule, and returns every violation in the order of the document: of a thousand and more, their number.
pub fn validate(spec: &Spec) -> Vec<Violation> {
    let mut report = Report::default();
    check_version(&mut report, spec);
    report.name(&"kind", spec.parse_kind().map(drop));
    check_annotations(&mut report, &"annotations", &spec.annotations);
    report.require(!spec.devices.is_empty(), "devices", "must list at least one device");
    each(&mut report, &"devices", &spec.devices, check_device);
    let names = spec.devices.iter().map(|device| device.name.as_str());
    check_unique(&mut report, &"devices", "name", names);
    check_edits(&mut report, &"containerEdits", &spec.container_edits);
    report.finished()
}

#[derive(Default)]
struct Report {
    violations: Vec<Violation>,
    /// How many there are, of rules that are not enforced, and of those that are.
    counts: [usize; 2],
}

impl Report {
    /// A rule that engines enforce. Place and message cost nothing where it is kept: pass `format_args!`.
    fn require(&mut self, kept: bool, at: impl Display, message: impl Display) {
        self.judge(kept, true, at, message);
    }

    /// A rule of CDI SPEC, or of its JSON Schema, that engines do not enforce.
    fn state(&mut self, kept: bool, at: impl Display, message: impl Display) {
        self.judge(kept, false, at, message);
    }

    fn judge(&mut self, kept: bool, enforced: bool, at: impl Display, message: impl Display) {
        if kept {
            return;
        }
        let [stated, enforceable] = &mut self.counts;
        let count = if enforced { enforceable } else { stated };
        *count += 1;
        if *count <= MOST {
            let short = |text: String| shortened(&text, LONGEST).into_owned();
            let (at, message) = (short(at.to_string()), short(message.to_string()));
            self.violations.push(Violation { at, message, enforced });
        }
    }

    fn finished(mut self) -> Vec<Violation> {
        for (count, enforced) in self.counts.into_iter().zip([false, true]).filter(|(count, _)| *count > MOST) {
            let message = format!("breaks {} rules more that are not listed", count - MOST);
            self.violations.push(Violation { at: "spec".to_owned(), message, enforced });
        }
        self.violations
    }

    fn not_empty(&mut self, text: &str, at: impl Display) {
        self.require(!text.is_empty(), at, "must not be empty");
    }

    fn name(&mut self, at: &dyn Display, result: Result<(), NameError>) {
        if let Err(error) = result {
            self.require(false, at, error);
        }
    }
}

/// Checks each item of a list at `list[index]`.
fn each<T>(report: &mut Report, list: &dyn Display, items: &[T], check: impl Fn(&mut Report, &dyn Display, &T)) {
    for (index, item) in items.iter().enumerate() {
        check(report, &format_args!("{list}[{index}]"), item);
    }
}

fn check_version(report: &mut Report, spec: &Spec) {
    let version = match spec.parse_version() {
        Ok(version) => version,
        Err(_) if spec.cdi_version.is_empty() => return report.require(false, "cdiVersion", "is missing"),
        Err(error) => return report.require(false, "cdiVersion", error),
    };
    let oldest = Version::OLDEST_ACCEPTED;
    report.require(version >= oldest, "cdiVersion", format_args!("must be at least {oldest}, is {version}"));
    for used in required_features(spec).iter().filter(|used| used.since > version) {
        let message = format_args!("CDI {} brought {}, the spec is {version}", used.since, used.feature);
        report.require(false, &used.at, message);
    }
}

fn check_device(report: &mut Report, at: &dyn Display, device: &Device) {
    report.name(&format_args!("{at}.name"), validate_device_name(&device.name));
    check_annotations(report, &format_args!("{at}.annotations"), &device.annotations);
    let has_edits = !device.container_edits.is_empty();
    report.require(has_edits, format_args!("{at}.containerEdits"), "a device must have edits");
    check_edits(report, &format_args!("{at}.containerEdits"), &device.container_edits);
}

fn check_edits(report: &mut Report, at: &dyn Display, edits: &ContainerEdits) {
    each(report, &format_args!("{at}.env"), &edits.env, check_env);
    each(report, &format_args!("{at}.deviceNodes"), &edits.device_nodes, check_device_node);
    check_net_devices(report, &format_args!("{at}.netDevices"), &edits.net_devices);
    each(report, &format_args!("{at}.hooks"), &edits.hooks, check_hook);
    each(report, &format_args!("{at}.mounts"), &edits.mounts, check_mount);
    if let Some(rdt) = &edits.intel_rdt {
        check_intel_rdt(report, &format_args!("{at}.intelRdt"), rdt);
    }
}

fn check_env(report: &mut Report, at: &dyn Display, variable: &String) {
    let well_formed = variable.split_once('=').is_some_and(|(name, _value)| !name.is_empty());
    report.require(well_formed, at, format_args!("`{variable}` is not of the form NAME=VALUE"));
}

fn check_device_node(report: &mut Report, at: &dyn Display, node: &DeviceNode) {
    report.not_empty(&node.path, format_args!("{at}.path"));
    let r#type = node.r#type.as_deref().unwrap_or_default();
    let known_type = matches!(r#type, "" | "b" | "c" | "u" | "p");
    report.require(known_type, format_args!("{at}.type"), format_args!("`{type}` is not one of b, c, u, p"));
    let permissions = node.permissions.as_deref().unwrap_or_default();
    let known_permissions = permissions == "none" || permissions.chars().all(|c| "rwm".contains(c));
    let message = format_args!("`{permissions}` is neither none nor letters of rwm");
    report.require(known_permissions, format_args!("{at}.permissions"), message);
}

fn check_net_devices(report: &mut Report, at: &dyn Display, devices: &[NetDevice]) {
    each(report, at, devices, |report, at, device| {
        report.not_empty(&device.host_interface_name, format_args!("{at}.hostInterfaceName"));
        report.not_empty(&device.name, format_args!("{at}.name"));
    });
    check_unique(report, at, "hostInterfaceName", devices.iter().map(|device| device.host_interface_name.as_str()));
    check_unique(report, at, "name", devices.iter().map(|device| device.name.as_str()));
}

fn check_mount(report: &mut Report, at: &dyn Display, mount: &Mount) {
    report.not_empty(&mount.host_path, format_args!("{at}.hostPath"));
    report.not_empty(&mount.container_path, format_args!("{at}.containerPath"));
}

fn check_hook(report: &mut Report, at: &dyn Display, hook: &Hook) {
    let name = hook.hook_name.as_str();
    let known_name = Hook::NAMES.contains(&name);
    report.require(known_name, format_args!("{at}.hookName"), format_args!("`{name}` is not a hook name"));
    report.not_empty(&hook.path, format_args!("{at}.path"));
    // CDI SPEC: MUST be absolute. Engines leave it to the runtime, which fails when a container starts.
    let absolute = hook.path.is_empty() || hook.path.starts_with('/');
    report.state(absolute, format_args!("{at}.path"), format_args!("`{}` must be absolute", hook.path));
    each(report, &format_args!("{at}.env"), &hook.env, check_env);
    // CDI SPEC: MUST be greater than zero; its JSON Schema: of 32 bits. Engines take any number.
    let positive = hook.timeout.is_none_or(|seconds| seconds > 0);
    report.state(positive, format_args!("{at}.timeout"), "must be more than 0 seconds");
    let short = hook.timeout.is_none_or(|seconds| seconds <= i64::from(u32::MAX));
    report.state(short, format_args!("{at}.timeout"), "must fit in 32 bits");
}

/// The class is a directory's name under `/sys/fs/resctrl`.
fn check_intel_rdt(report: &mut Report, at: &dyn Display, rdt: &IntelRdt) {
    const MAX_BYTES: usize = 4095;
    let id = rdt.clos_id.as_deref().unwrap_or_default();
    let is_file_name = id.len() <= MAX_BYTES && !matches!(id, "." | "..") && !id.contains(['/', '\n']);
    let valid = is_blank(&rdt.clos_id) || id == "/" || is_file_name;
    report.require(valid, format_args!("{at}.closID"), format_args!("{id:?} is neither / nor a file name"));
}

/// Reports each item that repeats an earlier one's `field`. Empty ones are another rule's business.
fn check_unique<'a>(report: &mut Report, list: &dyn Display, field: &str, values: impl Iterator<Item = &'a str>) {
    let mut first_at = HashMap::new();
    for (index, value) in values.enumerate().filter(|(_, value)| !value.is_empty()) {
        let first = *first_at.entry(value).or_insert(index);
        let message = format_args!("`{value}` is already that of {list}[{first}]");
        report.require(first == index, format_args!("{list}[{index}].{field}"), message);
    }
}

/// The Kubernetes rule for annotations, which CDI SPEC adopts. The check of the Go engines never runs.
fn check_annotations(report: &mut Report, at: &dyn Display, annotations: &BTreeMap<String, String>) {
    const MAX_BYTES: usize = 256 << 10;
    for key in annotations.keys() {
        let message = "the key is not of the form [dns.subdomain/]name";
        report.state(is_annotation_key(&key.to_ascii_lowercase()), format_args!("{at}[{key:?}]"), message);
    }
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    report.state(bytes <= MAX_BYTES, at, format_args!("{bytes} bytes are more than {MAX_BYTES}"));
}

fn is_annotation_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_annotation_name(name),
        None => is_annotation_name(key),
    }
}

fn is_annotation_name(name: &str) -> bool {
    name.len() <= 63 && is_word(name, "-_.")
}

fn is_dns_subdomain(prefix: &str) -> bool {
    prefix.len() <= 253 && prefix.split('.').all(|label| is_word(label, "-"))
}

/// ASCII letters and digits, with the characters of `inside` anywhere but at the ends.
fn is_word(text: &str, inside: &str) -> bool {
    let at_ends = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(at_ends) && text.ends_with(at_ends) && text.chars().all(|c| at_ends(c) || inside.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::parse_yaml;

    fn violations(text: &str) -> Vec<String> {
        validate(&parse_yaml(text).unwrap()).iter().map(ToString::to_string).collect()
    }

    /// Violations of a spec that is fine but for the edits of its device.
    fn edit_violations(edits: &str) -> Vec<String> {
        let place = "devices[0].containerEdits.";
        let head = "cdiVersion: 1.1.0\nkind: vendor.com/device\ndevices:\n- name: dev\n  containerEdits: ";
        let strip = |violation: String| violation.strip_prefix(place).unwrap_or(&violation).to_owned();
        violations(&format!("{head}{edits}")).into_iter().map(strip).collect()
    }

    #[test]
    fn good_edits() {
        let hooks: Vec<String> = Hook::NAMES
            .iter()
            .map(|name| format!("{{hookName: {name}, path: /bin/x, args: [x], env: [A=b]}}"))
            .collect();
        let all_hooks = format!("{{hooks: [{}]}}", hooks.join(", "));
        let cases = [
            "{env: [BAR=x, EMPTY=, 'A=b=c']}",
            "{deviceNodes: [{path: /dev/null}]}",
            "{deviceNodes: [{path: /dev/null, type: c}, {path: /dev/p, type: p}, {path: /dev/u, type: u}]}",
            "{deviceNodes: [{path: /dev/vda, type: b, permissions: rwm}]}",
            "{deviceNodes: [{path: /dev/null, permissions: none}, {path: /dev/zero, permissions: rrw}]}",
            "{deviceNodes: [{path: /dev/null, type: '', permissions: ''}]}",
            "{mounts: [{hostPath: /a, containerPath: /b}]}",
            "{hooks: [{hookName: prestart, path: /bin/x, timeout: 1}]}",
            "{intelRdt: {closID: foo.bar}}",
            "{intelRdt: {closID: /}}",
            "{intelRdt: {closID: ''}}",
            "{intelRdt: {}}",
            "{netDevices: [{hostInterfaceName: eno1, name: netdev0}, {hostInterfaceName: eno2, name: netdev1}]}",
            "{additionalGids: [0, 5, 5]}",
            &all_hooks,
        ];
        for edits in cases {
            assert_eq!(edit_violations(edits), [""; 0], "{edits}");
        }
    }

    #[test]
    fn bad_edits_say_what_and_where() {
        let long_id = format!("{{intelRdt: {{closID: {}}}}}", "x".repeat(4096));
        let cases = [
            ("{}", "devices[0].containerEdits: a device must have edits"),
            ("", "devices[0].containerEdits: a device must have edits"),
            ("{env: ['']}", "env[0]: `` is not of the form NAME=VALUE"),
            ("{env: [A=b, '=foo']}", "env[1]: `=foo` is not of the form NAME=VALUE"),
            ("{env: [FOOBAR]}", "env[0]: `FOOBAR` is not of the form NAME=VALUE"),
            ("{deviceNodes: [{path: ''}]}", "deviceNodes[0].path: must not be empty"),
            ("{deviceNodes: [{path: /dev/a, type: f}]}", "deviceNodes[0].type: `f` is not one of b, c, u, p"),
            (
                "{deviceNodes: [{path: /dev/a, permissions: to land}]}",
                "deviceNodes[0].permissions: `to land` is neither none nor letters of rwm",
            ),
            ("{mounts: [{containerPath: /b}]}", "mounts[0].hostPath: must not be empty"),
            ("{mounts: [{hostPath: /a}]}", "mounts[0].containerPath: must not be empty"),
            ("{hooks: [{hookName: prestart}]}", "hooks[0].path: must not be empty"),
            ("{hooks: [{hookName: prestart, path: bin/x}]}", "hooks[0].path: `bin/x` must be absolute"),
            (
                "{hooks: [{hookName: misCreateRuntime, path: /bin/x}]}",
                "hooks[0].hookName: `misCreateRuntime` is not a hook name",
            ),
            ("{hooks: [{path: /bin/x}]}", "hooks[0].hookName: `` is not a hook name"),
            (
                "{hooks: [{hookName: poststop, path: /bin/x, env: [A=b, =value2]}]}",
                "hooks[0].env[1]: `=value2` is not of the form NAME=VALUE",
            ),
            (
                "{hooks: [{hookName: poststop, path: /bin/x, timeout: 0}]}",
                "hooks[0].timeout: must be more than 0 seconds",
            ),
            ("{intelRdt: {closID: foo/bar}}", "intelRdt.closID: \"foo/bar\" is neither / nor a file name"),
            ("{intelRdt: {closID: .}}", "intelRdt.closID: \".\" is neither / nor a file name"),
            ("{intelRdt: {closID: ..}}", "intelRdt.closID: \"..\" is neither / nor a file name"),
            ("{intelRdt: {closID: \"foo\\nbar\"}}", "intelRdt.closID: \"foo\\nbar\" is neither / nor a file name"),
            (&long_id, "intelRdt.closID: \"xxx"),
            ("{netDevices: [{name: a}]}", "netDevices[0].hostInterfaceName: must not be empty"),
            ("{netDevices: [{hostInterfaceName: a}]}", "netDevices[0].name: must not be empty"),
            (
                "{netDevices: [{hostInterfaceName: a, name: b}, {hostInterfaceName: a, name: c}]}",
                "netDevices[1].hostInterfaceName: `a` is already that of devices[0].containerEdits.netDevices[0]",
            ),
            (
                "{netDevices: [{hostInterfaceName: a, name: c}, {hostInterfaceName: b, name: c}]}",
                "netDevices[1].name: `c` is already that of devices[0].containerEdits.netDevices[0]",
            ),
        ];
        for (edits, expected) in cases {
            let found = edit_violations(edits);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{edits}: {found:?}");
        }
    }

    #[test]
    fn of_many_violations_the_first_are_listed_and_all_are_counted() {
        let edits =
            format!("{{env: [{}], hooks: [{}]}}", "A,".repeat(1500), "{hookName: poststop, path: a},".repeat(2000));
        let spec = format!("{{cdiVersion: 1.1.0, kind: a/b, devices: [{{name: c, containerEdits: {edits}}}]}}");
        let violations = validate(&parse_yaml(spec).unwrap());
        assert_eq!(violations.len(), 2002);
        let last: Vec<String> = violations[2000..].iter().map(ToString::to_string).collect();
        assert_eq!(last[0], "spec: breaks 1000 rules more that are not listed");
        assert_eq!(last[1], "spec: breaks 500 rules more that are not listed");
        assert_eq!(violations[2000..].iter().map(|violation| violation.enforced).collect::<Vec<_>>(), [false, true]);
        let long = format!("{{env: [{}]}}", "x".repeat(100_000));
        assert!(edit_violations(&long)[0].len() < 400);
    }

    #[test]
    fn heads_and_devices() {
        let device = "devices: [{name: dev, containerEdits: {env: [A=b]}}]";
        let cases = [
            (format!("{{cdiVersion: 0.3.0, kind: vendor.com/device, {device}}}"), vec![]),
            (format!("{{cdiVersion: v1.1.0, kind: a/b, {device}}}"), vec![]),
            (format!("{{kind: a/b, {device}}}"), vec!["cdiVersion: is missing"]),
            (format!("{{cdiVersion: 0.0.0, kind: a/b, {device}}}"), vec!["cdiVersion: unknown CDI version `0.0.0`"]),
            (format!("{{cdiVersion: 1.2.0, kind: a/b, {device}}}"), vec!["cdiVersion: unknown CDI version `1.2.0`"]),
            (
                format!("{{cdiVersion: 0.1.0, kind: a/b, {device}}}"),
                vec!["cdiVersion: must be at least 0.3.0, is 0.1.0"],
            ),
            (
                format!("{{cdiVersion: v0.2.0, kind: a/b, {device}}}"),
                vec!["cdiVersion: must be at least 0.3.0, is 0.2.0"],
            ),
            (format!("{{cdiVersion: 0.3.0, {device}}}"), vec!["kind: kind `` is not of the form vendor/class"]),
            (
                format!("{{cdiVersion: 0.3.0, kind: vendor.com-/device, {device}}}"),
                vec!["kind: vendor `vendor.com-` must end with a letter or digit"],
            ),
            (
                format!("{{cdiVersion: 0.3.0, kind: vendor.com/device=, {device}}}"),
                vec!["kind: class `device=` must not contain '='"],
            ),
            ("{cdiVersion: 0.3.0, kind: a/b}".to_owned(), vec!["devices: must list at least one device"]),
            ("{cdiVersion: 0.3.0, kind: a/b, devices: []}".to_owned(), vec!["devices: must list at least one device"]),
            (
                "{cdiVersion: 0.3.0, kind: a/b, devices: [{name: a dev ice, containerEdits: {env: [A=b]}}]}".to_owned(),
                vec!["devices[0].name: device name `a dev ice` must not contain ' '"],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(violations(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_version_that_is_too_old_names_each_feature() {
        let rest = "kind: a/b, containerEdits: {additionalGids: [5], mounts: [{hostPath: /a, containerPath: /, type: x}]}, \
                    devices: [{name: '0', containerEdits: {env: [A=b]}}]";
        assert_eq!(
            violations(&format!("{{cdiVersion: 0.4.0, {rest}}}")),
            [
                "devices[0].name: CDI 0.5.0 brought device names that start with a digit, the spec is 0.4.0",
                "containerEdits.additionalGids: CDI 0.7.0 brought additional group ids, the spec is 0.4.0",
            ]
        );
        for version in ["0.7.0", "0.8.0", "1.1.0"] {
            assert_eq!(violations(&format!("{{cdiVersion: {version}, {rest}}}")), [""; 0]);
        }
    }

    #[test]
    fn every_violation_is_reported_not_the_first() {
        let text = "
cdiVersion: nonsense
kind: nonsense
annotations: {'bad key': x}
devices:
- {name: dev, containerEdits: {env: [A=b]}}
- {name: dev, containerEdits: {}}
- {name: '', annotations: {-x: y}, containerEdits: {env: [x], mounts: [{}]}}
containerEdits: {hooks: [{}]}
";
        assert_eq!(
            violations(text),
            [
                "cdiVersion: unknown CDI version `nonsense`",
                "kind: kind `nonsense` is not of the form vendor/class",
                "annotations[\"bad key\"]: the key is not of the form [dns.subdomain/]name",
                "devices[1].containerEdits: a device must have edits",
                "devices[2].name: device name is empty",
                "devices[2].annotations[\"-x\"]: the key is not of the form [dns.subdomain/]name",
                "devices[2].containerEdits.env[0]: `x` is not of the form NAME=VALUE",
                "devices[2].containerEdits.mounts[0].hostPath: must not be empty",
                "devices[2].containerEdits.mounts[0].containerPath: must not be empty",
                "devices[1].name: `dev` is already that of devices[0]",
                "containerEdits.hooks[0].hookName: `` is not a hook name",
                "containerEdits.hooks[0].path: must not be empty",
            ]
        );
    }

    #[test]
    fn annotation_keys_follow_kubernetes() {
        let longest = format!("{}/{}", vec!["a".repeat(63); 3].join("."), "n".repeat(63));
        for key in ["a", "A", "1", "vendor.com/Name_1.x-y", "V.COM/name", &longest] {
            assert!(is_annotation_key(&key.to_ascii_lowercase()), "{key}");
        }
        let long_prefix = format!("{}/a", "a.".repeat(126) + "aa");
        for key in [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "-a",
            "a-",
            "a b",
            "v_x/a",
            "v..x/a",
            "\u{e9}",
            &"n".repeat(64),
            &long_prefix,
        ] {
            assert!(!is_annotation_key(key), "{key}");
        }
    }

    #[test]
    fn annotations_are_limited_in_size() {
        let annotations = |bytes: usize| BTreeMap::from([("key".to_owned(), "x".repeat(bytes - 3))]);
        for (bytes, expected) in [(256 << 10, 0), ((256 << 10) + 1, 1)] {
            let mut report = Report::default();
            check_annotations(&mut report, &"annotations", &annotations(bytes));
            assert_eq!(report.violations.len(), expected);
        }
    }
}
