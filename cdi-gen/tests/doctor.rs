//! `cdi-gen doctor` on a host with one thing wrong at a time: it names that thing and no other.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests break hosts and stop at the first surprise"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use camino::Utf8PathBuf;
use common::{LaidOut, Ran, is_root, with_own_etc};
use serde_json::Value;
use tempfile::TempDir;

/// Engines that read all that is written here; docker and containerd of these releases look unasked.
const ENGINES: &str = "containerd=2.1.0,docker=28.2.0,podman=5.8.0";
const SPEC: &str = "/var/run/cdi/nvidia.yaml";
const OTHER: &str = "/etc/cdi/nvidia.yaml";

/// A host with nothing wrong, and its spec.
struct Host(LaidOut);

impl Host {
    fn healthy() -> Self {
        let host = Self(LaidOut::named("h100-squashfs"));
        host.dir("/etc/cdi");
        host.dir("/var/run/cdi");
        host.generate(SPEC, &[]);
        host
    }

    /// `/var/run` leads to this machine's `/run`.
    fn on_disk(&self, path: &str) -> Utf8PathBuf {
        self.0.path(path.strip_prefix("/var").filter(|path| path.starts_with("/run/")).unwrap_or(path))
    }

    fn dir(&self, path: &str) {
        fs::create_dir_all(self.on_disk(path)).unwrap();
    }

    fn generate(&self, path: &str, more: &[&str]) {
        let output = self.on_disk(path);
        let hooks: &[&str] = if more.is_empty() { &["--hooks", "none"] } else { more };
        self.0.run(&[&["generate", "--quiet", "--output", output.as_str()], hooks].concat()).exits(0);
    }

    fn write(&self, path: &str, text: &str) {
        self.dir(path.rsplit_once('/').unwrap().0);
        fs::write(self.on_disk(path), text).unwrap();
    }

    fn edit(&self, path: &str, change: impl Fn(String) -> String) {
        let text = fs::read_to_string(self.on_disk(path)).unwrap();
        self.write(path, &change(text));
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.on_disk(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn doctor(&self, more: &[&str]) -> Ran {
        let targets: &[&str] = if more.contains(&"--target") { &[] } else { &["--target", ENGINES] };
        self.0.run(&[&["doctor", "--nvml", "never"], targets, more].concat())
    }

    /// Codes of what is found, each with the fix, the worst first.
    fn found(&self, more: &[&str]) -> Vec<(String, String)> {
        let ran = self.doctor(&[&["--json"], more].concat());
        let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let findings = answer["findings"].as_array().unwrap();
        let serious = findings.iter().any(|finding| finding["severity"] != "note");
        assert_eq!(ran.code, Some(if serious { 8 } else { 0 }), "{findings:?}");
        findings.iter().map(|finding| (text(finding, "code"), text(finding, "fix"))).collect()
    }

    #[track_caller]
    fn has(&self, code: &str, fix: &str) {
        self.has_at(&[], code, fix);
    }

    /// That this is found, once or for several engines, and nothing else.
    #[track_caller]
    fn has_at(&self, more: &[&str], code: &str, fix: &str) {
        let found = self.found(more);
        assert!(!found.is_empty() && found.iter().all(|(found, _)| found == code), "{code}: {found:?}");
        assert!(found.iter().any(|(_, found)| found.contains(fix)), "{fix}: {found:?}");
    }
}

#[test]
fn a_healthy_host_has_no_finding() {
    let host = Host::healthy();
    assert_eq!(host.found(&[]), []);
    let screen = host.doctor(&["nvidia.com/gpu=0"]).exits(0).stdout;
    assert!(screen.ends_with("\nnothing is wrong\n"), "{screen}");
    for part in ["580.159.04, open kernel module, 1 GPU", "podman 5.8.0: CDI up to 1.0.0", "nvidia.com/gpu=all"] {
        assert!(screen.contains(part), "{part}: {screen}");
    }
    assert!(screen.lines().count() <= 25, "{screen}");
}

#[test]
fn there_is_no_spec() {
    let host = Host::healthy();
    fs::remove_file(host.on_disk(SPEC)).unwrap();
    host.has("no-spec", "cdi-gen refresh");
    // Nor does it take an engine to see that.
    host.has_at(&["--target", "auto"], "no-spec", "cdi-gen refresh");
}

#[test]
fn a_file_or_a_directory_cannot_be_read_by_users() {
    let host = Host::healthy();
    host.mode(SPEC, 0o600);
    host.has("unreadable", &format!("chmod a+r {SPEC}"));
    host.mode(SPEC, 0o644);
    host.mode("/var/run/cdi", 0o700);
    host.has("unreadable", "chmod a+rx /var/run/cdi");
}

#[test]
fn a_file_is_no_spec() {
    let host = Host::healthy();
    host.edit(SPEC, |text| text.replace("devices:", "devicez:"));
    host.has("malformed", "cdi-gen refresh");
    host.write(SPEC, "");
    host.has("malformed", &format!("mend it, or remove it: rm {SPEC}"));
}

#[test]
fn a_spec_is_too_new_for_an_engine() {
    let host = Host::healthy();
    host.edit(SPEC, |text| {
        let mut spec = cdi_specs::parse_yaml(&text).unwrap();
        spec.container_edits.additional_gids.push(44);
        spec.cdi_version = spec.required_version().to_string();
        cdi_specs::to_yaml(&spec)
    });
    let fix = format!("cdi-gen generate --target podman=4.9.3 --output {SPEC}");
    host.has_at(&["--target", "podman=4.9.3,docker=28.2.0"], "too-new", &fix);
    assert_eq!(host.found(&["--target", "docker=28.2.0"]), []);
}

#[test]
fn two_files_of_one_directory_define_a_device() {
    let host = Host::healthy();
    host.generate("/var/run/cdi/old.yaml", &[]);
    host.has("conflict", "rm /var/run/cdi/");
}

#[test]
fn an_engine_looks_elsewhere() {
    let host = Host::healthy();
    host.has_at(&["--target", "podman=5.5.1"], "wrong-dir", &format!("cdi-gen refresh --output {OTHER}"));
    host.write("/etc/docker/daemon.json", r#"{"features": {"cdi": true}, "cdi-spec-dirs": ["/opt/cdi"]}"#);
    host.has("wrong-dir", "cdi-gen refresh --output /opt/cdi/nvidia.yaml");
}

#[test]
fn no_engine_reads_a_file_of_that_name() {
    let host = Host::healthy();
    fs::rename(host.on_disk(SPEC), host.on_disk("/var/run/cdi/nvidia.yml")).unwrap();
    let found = host.found(&[]);
    let codes: Vec<&str> = found.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!(codes, ["no-spec", "wrong-name"]);
    assert_eq!(found[1].1, "mv /var/run/cdi/nvidia.yml /var/run/cdi/nvidia.yaml");
}

#[test]
fn a_spec_is_stale() {
    let host = Host::healthy();
    fs::remove_file(host.on_disk("/usr/local/nvidia/bin/nvidia-smi")).unwrap();
    let found = host.found(&[]);
    assert_eq!(found[0], ("stale".to_owned(), "cdi-gen refresh".to_owned()));
}

#[test]
fn an_old_spec_hides_a_true_one() {
    let host = Host::healthy();
    host.generate(OTHER, &[]);
    assert_eq!(host.found(&[]), []);
    host.edit(SPEC, |text| text.replace("580.159.04", "550.163.01").replace("# Written by cdi-gen", "# By hand"));
    let found = host.found(&[]);
    let codes: Vec<&str> = found.iter().map(|(code, _)| code.as_str()).collect();
    assert!(codes.contains(&"shadowed") && codes.contains(&"stale"), "{found:?}");
    assert!(found.iter().any(|(code, fix)| code == "shadowed" && *fix == format!("rm {SPEC}")), "{found:?}");
}

#[test]
fn a_device_has_no_name() {
    let host = Host::healthy();
    // As some generators do: all GPUs, and none of them alone.
    host.edit(SPEC, |text| {
        let spec = cdi_specs::parse_yaml(&text).unwrap();
        let devices = spec.devices.iter().filter(|device| device.name == "all").cloned().collect();
        cdi_specs::to_yaml(&cdi_specs::Spec { devices, ..spec })
    });
    host.has("missing-device", &format!("rm {SPEC} && cdi-gen refresh"));
    host.generate(SPEC, &[]);
    host.has_at(&["nvidia.com/gpu=7"], "no-such-device", "ask for one of those");
    host.doctor(&["gpu7"]).exits(2).says("`gpu7` is no device");
}

#[test]
fn an_engine_does_not_look() {
    let host = Host::healthy();
    host.has_at(&["--target", "docker=26.1.5"], "cdi-off", "cdi-apply configure docker && systemctl restart docker");
    host.has_at(&["--target", "containerd=1.7.24"], "cdi-off", "cdi-apply configure containerd");
    host.write("/etc/docker/daemon.json", "{");
    host.has("bad-configuration", "mend that file");
}

#[test]
fn an_engine_is_too_old() {
    Host::healthy().has_at(&["--target", "docker=20.10.24"], "engine-too-old", "cdi-apply configure docker --runtime");
}

#[test]
fn a_hook_is_gone() {
    let host = Host::healthy();
    host.write("/usr/bin/cdi-hook", "");
    host.generate(SPEC, &["--hooks", "always", "--hook-path", "/usr/bin/cdi-hook"]);
    assert_eq!(host.found(&[]), []);
    fs::remove_file(host.on_disk("/usr/bin/cdi-hook")).unwrap();
    host.has("no-hook", "cdi-gen refresh");
}

#[test]
fn others_can_write_a_spec() {
    let host = Host::healthy();
    host.mode(SPEC, 0o666);
    host.has("untrusted", &format!("chown root:root {SPEC}"));
}

/// On the running system, with an `/etc` of its own: each time until the advice was followed.
#[test]
fn others_can_write_what_leads_to_a_spec() {
    let spec = "{cdiVersion: 0.5.0, kind: a.com/b, devices: [{name: c, containerEdits: {env: [A=b]}}]}";
    let names = "echo root:x:0:0::/:/bin/sh > /etc/passwd; echo root:x:0: > /etc/group";
    let written = format!("{names}; mkdir -p /etc/cdi; echo '{spec}' > /etc/cdi/a.yaml");
    let mut cases = vec![
        (
            format!("{written}; chmod 0777 /etc/cdi"),
            "everybody can change /etc/cdi,",
            "chown root:root /etc/cdi && chmod 0755 /etc/cdi",
        ),
        (
            format!("{written}; chmod 0666 /etc/cdi/a.yaml"),
            "everybody can change /etc/cdi/a.yaml,",
            "chmod 0644 /etc/cdi/a.yaml",
        ),
        (
            format!("mkdir -m 0777 /etc/x; {written}; mv /etc/cdi /etc/x; ln -s x/cdi /etc/cdi"),
            "everybody can change /etc/x",
            "rm /etc/cdi",
        ),
    ];
    if is_root() {
        let link =
            format!("{written}; chown 1000 /etc/cdi/a.yaml; mv /etc/cdi/a.yaml /etc/b; ln -s /etc/b /etc/cdi/a.yaml");
        cases.push((link, "user 1000 can change /etc/cdi/a.yaml,", "rm /etc/cdi/a.yaml"));
    }
    for (script, why, advice) in cases {
        let doctor = |script: &str| {
            let mut program = common::cdi_gen();
            with_own_etc(script, program.args(["doctor", "--nvml", "never", "--target", ENGINES]))
        };
        let Some(ran) = doctor(&format!("umask 022; {script}")) else {
            return eprintln!("skipped: no mount namespace for this user");
        };
        assert!(ran.stdout.contains(why) && ran.stdout.contains(advice), "{why}, {advice}: {ran:?}");
        assert!(ran.stdout.contains("[untrusted]"), "{ran:?}");
        let after = doctor(&format!("umask 022; {script}; {advice}")).unwrap();
        assert!(!after.stdout.contains("[untrusted]"), "{advice}: {after:?}");
    }
}

#[test]
fn what_is_no_regular_file_is_no_spec_and_is_not_waited_for() {
    for script in ["mkfifo /etc/cdi/a.yaml", "ln -s /dev/zero /etc/cdi/a.yaml", "truncate -s 3G /etc/cdi/a.yaml"] {
        let mut program = common::cdi_gen();
        program.args(["doctor", "--nvml", "never", "--target", ENGINES]);
        let Some(ran) = with_own_etc(&format!("mkdir /etc/cdi; {script}"), &program) else {
            return eprintln!("skipped: no mount namespace for this user");
        };
        assert!(ran.stdout.contains("[malformed]") || ran.stdout.contains("[unreadable]"), "{script}: {ran:?}");
    }
}

#[test]
fn nodes_are_missing_or_wrong() {
    let host = Host::healthy();
    let nodes = fs::read_to_string(host.0.nodes()).unwrap();
    fs::write(host.0.nodes(), nodes.replace("char /dev/nvidia-uvm ", "char /dev/other ")).unwrap();
    let _ = fs::remove_file(host.0.path("/dev/nvidia-uvm"));
    let found = host.found(&[]);
    assert_eq!(found[0].0, "missing-node", "{found:?}");
    assert!(found[0].1.starts_with("cdi-gen create-device-nodes"), "{found:?}");
    let uvm = nodes.lines().find(|line| line.starts_with("char /dev/nvidia-uvm ")).unwrap();
    fs::write(host.0.nodes(), nodes.replace(uvm, "char /dev/nvidia-uvm 7 0 666")).unwrap();
    assert!(host.found(&[]).iter().any(|(code, _)| code == "wrong-node"));
}

#[test]
fn systemd_does_not_know_the_nodes() {
    let host = Host::healthy();
    host.dir("/run/systemd/system");
    let codes: Vec<String> = host.found(&[]).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, ["no-char-link", "not-refreshed"]);
}

#[test]
fn selinux_keeps_devices_from_containers() {
    let host = Host::healthy();
    host.write("/sys/fs/selinux/enforce", "1");
    host.write("/sys/fs/selinux/booleans/container_use_devices", "0 0");
    host.has("selinux", "setsebool -P container_use_devices on");
}

/// What a generation tells is told here too.
#[test]
fn the_driver_is_the_trouble() {
    for (name, code) in [("no-gpu", "no-driver"), ("nouveau", "no-driver"), ("version-mismatch", "version-mismatch")] {
        let host = LaidOut::named(name);
        let ran = host.run(&["doctor", "--nvml", "never", "--target", ENGINES]).exits(8);
        assert!(ran.stdout.contains(&format!("[{code}]")), "{name}: {}", ran.stdout);
    }
}

#[test]
fn the_page_needs_no_other_file() {
    let host = Host::healthy();
    let page = host.0.scratch("report.html");
    host.doctor(&["--report", page.as_str()]).exits(0);
    let text = fs::read_to_string(page).unwrap();
    assert!(text.starts_with("<!DOCTYPE html>") && text.ends_with("</html>\n"));
    assert!(text.contains("nothing is wrong") && text.contains("/usr/local/nvidia/lib64/libcuda.so.580.159.04"));
    for outside in ["http:", "https:", "src=", "href=", "url(", "<script", "@import"] {
        assert!(!text.contains(outside), "{outside}");
    }
}

/// Names of files that a shell, a terminal and a browser would take for their own words.
const NAMES: [&str; 6] = [
    "a;touch pwned;.yaml",
    "$(touch pwned)`touch pwned`.yaml",
    "it's \"<b onclick=x>&amp;.yaml",
    "line\nwarning: forged\r.yaml",
    "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m.yaml",
    "\u{202e}lmay.exe\u{2028}\u{85}.yml",
];

/// The words that a shell makes of a line, with each command's name; nothing of it is run.
fn words_of(line: &str, dir: &Path) -> Vec<String> {
    let stubs = ["chmod", "chown", "rm", "mv", "cdi-gen"];
    let stubs = stubs.map(|name| format!("{name}() {{ printf '%s\\0' {name} \"$@\"; }}\n")).concat();
    let output = Command::new("bash").args(["-c", &(stubs + line)]).current_dir(dir).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap().split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn a_repair_is_for_a_file_of_any_name_and_runs_nothing_of_it() {
    let elsewhere = TempDir::new().unwrap();
    for name in NAMES {
        let host = Host::healthy();
        let path = format!("/etc/cdi/{name}");
        host.write(&path, "kind: [");
        host.mode(&path, 0o666);
        let answer: Value = serde_json::from_str(&host.doctor(&["--json"]).exits(8).stdout).unwrap();
        let screen = host.doctor(&[]).exits(8).stdout;
        let page = host.0.scratch("report.html");
        host.doctor(&["--report", page.as_str()]).exits(8);
        let page = fs::read_to_string(page).unwrap();
        let findings = answer["findings"].as_array().unwrap();
        let mut told = 0;
        for finding in findings {
            let line = finding["fix"].as_str().unwrap();
            let words: Vec<String> = finding["commands"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|c| c.as_array().unwrap())
                .map(|w| w.as_str().unwrap().to_owned())
                .collect();
            // Words go before commands: `mend it, or remove it: rm …`.
            let starts = finding["commands"][0][0].as_str().unwrap();
            let commands = if line.starts_with(starts) { line } else { line.split_once(": ").unwrap().1 };
            assert_eq!(words_of(commands, elsewhere.path()), words, "{line}");
            assert!(words.contains(&path), "{words:?}");
            assert!(screen.contains(&format!("→ {line}\n")), "{line}: {screen}");
            let html = line
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;")
                .replace('\'', "&#39;");
            assert!(page.contains(&format!("<pre>{html}</pre>")), "{html}: {page}");
            told += 1;
        }
        assert!(told > 0, "{name}: {findings:?}");
        for text in [&screen, &page] {
            let is_obeyed = |c: char| c != '\n' && c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c);
            assert!(!text.contains(is_obeyed), "{text:?}");
            assert!(!text.lines().any(|line| line.starts_with("warning: forged")), "{text}");
        }
        assert!(!page.contains("<b onclick"), "{page}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_page_is_for_whom_the_umask_says_and_names_no_gpu() {
    let host = Host::healthy();
    let page = host.0.scratch("report.html");
    let text = fs::read_to_string(host.on_disk(SPEC)).unwrap();
    let uuid = text.split(['"', ' ', '\n']).find_map(|word| word.strip_prefix("GPU-")).unwrap();
    for (umask, mode) in [("077", 0o600), ("022", 0o644), ("000", 0o644)] {
        let program = host.0.command(&["doctor", "--nvml", "never", "--target", ENGINES, "--report", page.as_str()]);
        let mut sh = Command::new("sh");
        sh.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]).arg(program.get_program());
        let ran = Ran::new(sh.args(program.get_args())).exits(0);
        assert!(ran.stdout.contains(uuid), "{ran:?}");
        assert_eq!(fs::metadata(&page).unwrap().permissions().mode() & 0o7777, mode, "umask {umask}");
        let text = fs::read_to_string(&page).unwrap();
        assert!(!text.contains(&uuid[..13]) && text.contains("GPU-00000000-0000-0000-0000-000000000001"), "{text}");
    }
    let link = host.0.scratch("link.html");
    std::os::unix::fs::symlink(&page, &link).unwrap();
    host.doctor(&["--report", link.as_str()]).exits(1).says("cannot write");
    host.doctor(&["--report", "/dev/null"]).exits(1).says("cannot write");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn a_spec_as_large_as_one_may_be_is_judged_in_time() {
    let host = Host::healthy();
    let device = |n: usize| format!("- name: d{n}\n  containerEdits:\n    env:\n    - A=b\n");
    let devices: String = (0..45_000).map(device).collect();
    host.write("/etc/cdi/large.yaml", &format!("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n{devices}"));
    let page = host.0.scratch("report.html");
    let begin = std::time::Instant::now();
    let ran = host.doctor(&["--report", page.as_str()]);
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
    let longest = ran.stdout.lines().map(str::len).max().unwrap();
    assert!(longest < 4096 && ran.stdout.contains("more by /etc/cdi/large.yaml"), "{longest}");
    assert!(fs::metadata(page).unwrap().len() < 1 << 20);
}

/// Any fixture: no panic, an answer, and the same twice.
#[test]
fn every_host_has_an_answer() {
    for host in testdata::hosts() {
        let laid_out = LaidOut::named(&host.name);
        let doctor = || laid_out.run(&["doctor", "--nvml", "never", "--json", "--target", ENGINES]);
        let (first, second) = (doctor(), doctor());
        assert!(matches!(first.code, Some(0 | 8)), "{}: {}", host.name, first.stderr);
        assert_eq!(first.stdout, second.stdout, "{}", host.name);
    }
}
