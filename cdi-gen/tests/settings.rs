//! `/etc/cdi-gen.env`: what keeps GPUs from containers counts, or nothing is written. Each run has an `/etc` of its own.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests set up files and stop at the first surprise"
)]

mod common;

use std::fs;

use camino::Utf8PathBuf;
use cdi_specs::Spec;
use common::{LaidOut, Ran, is_root};

const SETTINGS: &str = "/etc/cdi-gen.env";
const IDS: &str = "NVIDIA_CTK_CDI_GENERATE_DEVICE_IDS";

/// A host with sixteen GPUs, and where its spec goes.
struct Home {
    host: LaidOut,
    spec: Utf8PathBuf,
}

impl Home {
    fn new() -> Self {
        let host = LaidOut::named("sixteen-gpus");
        let spec = host.scratch("nvidia.yaml");
        Self { host, spec }
    }

    /// Runs a command where a script has made `/etc`; nothing where the user may not mount one.
    fn run(&self, words: &[&str], variables: &[(&str, &str)], script: &str) -> Option<Ran> {
        let mut program = if words == ["list"] { common::cdi_gen() } else { self.host.command(words) };
        if words == ["list"] {
            program.arg("list");
        } else {
            program.args(["--output", self.spec.as_str()]);
        }
        if matches!(words, ["generate" | "refresh" | "diff"]) {
            program.args(["--hooks", "none"]);
        }
        common::with_own_etc(script, program.envs(variables.iter().copied()))
    }

    /// The devices of the spec, but for their UUIDs; none if nothing was written.
    fn devices(&self) -> Vec<String> {
        let Ok(text) = fs::read(&self.spec) else { return Vec::new() };
        let spec: Spec = cdi_specs::parse_yaml(text).unwrap();
        spec.devices.into_iter().map(|device| device.name).filter(|name| !name.starts_with("GPU-")).collect()
    }
}

#[test]
fn a_restriction_counts_whatever_stands_around_it() {
    let remark_in_latin_1 = format!("printf '# caf\\351\\n{IDS}=0\\n' > {SETTINGS}");
    let with_line_ends_of_dos = format!("printf '; x\\r\\n{IDS}=\"0\"\\r\\n' > {SETTINGS}");
    for script in [remark_in_latin_1, with_line_ends_of_dos] {
        for variables in [&[][..], &[(IDS, "")]] {
            let home = Home::new();
            let Some(ran) = home.run(&["refresh"], variables, &script) else {
                return eprintln!("skipped: no mount namespace for this user");
            };
            ran.exits(0);
            assert_eq!(home.devices(), ["0", "all"], "{script} {variables:?}");
        }
    }
    let home = Home::new();
    home.run(&["refresh"], &[(IDS, "3")], &format!("echo '{IDS}=0' > {SETTINGS}")).unwrap().exits(0);
    assert_eq!(home.devices(), ["3", "all"]);
    let home = Home::new();
    home.run(&["refresh"], &[], "true").unwrap().exits(0);
    assert_eq!(home.devices().len(), 17);
}

#[test]
fn settings_that_are_not_understood_whole_keep_commands_from_their_work() {
    let written = |text: &str| format!("printf '{text}' > {SETTINGS}");
    let set = format!("echo '{IDS}=0' > {SETTINGS}");
    let mut cases = vec![
        (written(&format!("\\357\\273\\277{IDS}=0\\n")), "cdi-gen.env:1: begins with a byte order mark"),
        (written(&format!("# x\\nexport {IDS}=0\\n")), "cdi-gen.env:2: `export`"),
        (written(&format!("\\n{IDS}\\n")), "cdi-gen.env:2: not of the form"),
        (written(&format!("{IDS}=\\351\\n")), "cdi-gen.env:1: not UTF-8"),
        (written("NVIDIA_CTK_CDI_GENERATE_DEVICE_ID=0\\n"), "cdi-gen.env:1: no variable is called"),
        (written(&format!("{IDS}=")), "has no value"),
        (format!("mkdir {SETTINGS}"), "cannot read the settings /etc/cdi-gen.env: is a directory"),
        (format!("mkfifo {SETTINGS}"), "it is no regular file"),
        (format!("ln -s /dev/zero {SETTINGS}"), "it is no regular file"),
        (format!("ln -s cdi-gen.env {SETTINGS}"), "cannot read the settings"),
        (format!("head -c 1M /dev/zero > {SETTINGS}"), "it is longer than"),
        (format!("truncate -s 3G {SETTINGS}"), "it is longer than"),
        (format!("{set}; chmod 0666 {SETTINGS}"), "everybody can change it"),
        (format!("mkdir -m 0777 /etc/a; {set}; mv {SETTINGS} /etc/a/b; ln -s a/b {SETTINGS}"), "everybody can change"),
    ];
    if is_root() {
        cases.push((format!("{set}; chown 1000 {SETTINGS}"), "user 1000 can change it"));
    }
    let home = Home::new();
    for (script, why) in &cases {
        for command in ["check", "diff", "refresh", "remove"] {
            let Some(ran) = home.run(&[command], &[], script) else {
                return eprintln!("skipped: no mount namespace for this user");
            };
            let ran = ran.says(why);
            assert!(matches!(ran.code, Some(1 | 2)), "{command}: {ran:?}");
            assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 1), "{command}: {ran:?}");
            assert!(!home.spec.exists(), "{command}: {script}");
        }
        home.run(&["list"], &[], script).unwrap().exits(0);
    }
    let (script, _) = cases.first().unwrap();
    home.run(&["generate"], &[], script).unwrap().exits(0);
    let json = home.run(&["check", "--json"], &[], script).unwrap();
    assert!(json.stderr.starts_with("{\"outcome\":\"failed\""), "{json:?}");
}
