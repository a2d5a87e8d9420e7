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

use camino::Utf8PathBuf;
use common::{LaidOut, Ran};
use serde_json::Value;

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
