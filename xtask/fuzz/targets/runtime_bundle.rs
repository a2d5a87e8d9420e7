//! Any bytes as the config.json of a container that is created, through all that cdi-runtime does before it becomes the
//! runtime, under several configurations and with spec directories on disk: no crash; what is not understood is left alone;
//! what is changed is a document that a second start leaves as it is, with every member that nobody here knows; and what is
//! told is short and shows no control characters.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use cdi_apply::document::Document;
use cdi_apply::runtime::budget::{LINE, WARNINGS};
use cdi_apply::runtime::config::{self, Config};
use cdi_apply::runtime::limits::Deadline;
use cdi_apply::runtime::{change, log, requests};
use libfuzzer_sys::fuzz_target;

/// GPUs with each kind of edit, other classes, a file that is broken, and two that contradict each other.
const SPECS: [(&str, &str); 5] = [
    (
        "gpu.json",
        r#"{"cdiVersion": "0.7.0", "kind": "nvidia.com/gpu", "devices": [
            {"name": "0", "containerEdits": {"env": ["GPU=0"], "deviceNodes": [{"path": "/dev/null"}]}},
            {"name": "1", "containerEdits": {"deviceNodes": [{"path": "/dev/zero", "permissions": "rw"}]}},
            {"name": "all", "containerEdits": {"deviceNodes": [{"path": "/dev/null"}, {"path": "/dev/zero"}]}}],
            "containerEdits": {"env": ["NVIDIA_VISIBLE_DEVICES=void"], "additionalGids": [5],
                "mounts": [{"hostPath": "/etc/passwd", "containerPath": "/usr/lib64/libcuda.so.1", "options": ["ro", "bind"]},
                    {"hostPath": "/etc/group", "containerPath": "/usr/bin/nvidia-smi"}],
                "hooks": [{"hookName": "createContainer", "path": "/bin/true", "env": ["A=b"],
                    "args": ["cdi-hook", "create-container", "--ld-cache"]}]}}"#,
    ),
    (
        "channels.json",
        r#"{"cdiVersion": "0.5.0", "kind": "nvidia.com/imex-channel", "devices": [
            {"name": "0", "containerEdits": {"env": ["CHANNEL=0"]}}, {"name": "all", "containerEdits": {"env": ["C=a"]}}]}"#,
    ),
    (
        "gds.yaml",
        "cdiVersion: 0.5.0\nkind: nvidia.com/gds\ndevices:\n- name: all\n  containerEdits:\n    env:\n    - GDS=1\n",
    ),
    ("broken.yaml", "kind: nvidia.com/gpu\nnothing: [\n"),
    (
        "twice.json",
        r#"{"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [
            {"name": "1", "containerEdits": {"env": ["TWICE=1"]}}]}"#,
    ),
];

/// What an administrator may have said.
const CONFIGURATIONS: [&str; 4] = [
    "",
    "volume-mounts = true\nannotation-prefixes = ['cdi.k8s.io/']\nswarm-resources = ['DOCKER_RESOURCE_GPU']\n\
     other-kinds = ['nvidia.com']",
    "environment = 'never'\ndocker-gpus = true\nrequirements = false",
    "environment = 'privileged'\nvolume-mounts = true\nimex-channels = false\ndriver-capabilities = 'compute'\nhide-gpus = true",
];

/// Each of them, and one that makes a spec of this machine's driver, which takes long.
static CONFIGS: LazyLock<(Vec<Config>, Config)> = LazyLock::new(|| {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/fuzz-specs"));
    fs::create_dir_all(&dir).expect("a directory for specs can be made");
    SPECS.iter().for_each(|(name, text)| fs::write(dir.join(name), text).expect("a spec can be written"));
    let parse = |lines: &str| config::parse(&format!("{lines}\nnvml = 'never'\n")).expect("a configuration of ours");
    let on_disk = |lines: &&str| Config { spec_dirs: vec![dir.clone()], just_in_time: false, ..parse(lines) };
    (CONFIGURATIONS.iter().map(on_disk).collect(), Config { spec_dirs: vec!["/nothing".into()], ..parse("") })
});

/// Of so many inputs one also has a spec made.
const SELDOM: usize = 256;

fuzz_target!(|bytes: &[u8]| {
    let (configs, just_in_time) = &*CONFIGS;
    configs.iter().for_each(|config| check(bytes, config));
    if bytes.len() % SELDOM == 0 {
        check(bytes, just_in_time);
    }
});

fn check(bytes: &[u8], config: &Config) {
    let may_ask = requests::may_ask_bytes(bytes, config);
    let changed = match change(bytes, config, Deadline::default()) {
        Ok(changed) => changed,
        Err(error) => return is_harmless(&log::shown(&log::chain(&error))),
    };
    let told: Vec<_> = changed.warnings.lines().collect();
    assert!(told.len() <= WARNINGS + 1);
    told.iter().for_each(|line| is_harmless(&log::shown(line)));
    let Some(text) = changed.text else { return };
    assert!(may_ask, "a request that was not seen");
    let before = Document::parse(bytes).expect("what was changed is a document");
    let after = Document::parse(text.as_bytes()).expect("what is written is a document");
    let keys = before.value.as_object().into_iter().flatten().map(|(key, _)| key);
    keys.for_each(|key| assert!(after.value.get(key).is_some(), "{key} is lost"));
    let again = change(text.as_bytes(), config, Deadline::default()).expect("what started once starts again");
    assert!(again.text.is_none_or(|again| again == text), "a second start changes more");
}

fn is_harmless(line: &str) {
    assert!(line.len() <= LINE + 40, "{}", line.len());
    assert!(!line.chars().any(char::is_control), "{line:?}");
}
