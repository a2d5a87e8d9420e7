//! What strangers wrote, in all that the program says to people: it is shown, and neither forges a line nor moves a cursor.
#![expect(clippy::disallowed_methods, reason = "tests set up files")]

mod common;

use std::fs;

use common::{LaidOut, Ran, cdi_gen};

/// What a terminal obeys, a line that says something, and a change of direction.
const HOSTILE: &str = "x\nforged: all is well\r\u{1b}[2J\u{7}\u{9b}31m\u{202e}\u{2028}";
/// The same as it is shown.
const SHOWN: &str = r"x\nforged: all is well\r\u{1b}[2J\u{7}\u{9b}31m\u{202e}\u{2028}";

impl Ran {
    /// Asserts that the hostile text is shown, and shows only.
    #[track_caller]
    fn shows(self) -> Self {
        let all = format!("{}{}", self.stdout, self.stderr);
        assert!(all.contains(SHOWN), "{self:?}");
        let is_obeyed = |c: char| c != '\n' && c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c);
        assert!(!all.contains(is_obeyed), "{self:?}");
        assert!(!all.lines().any(|line| line.starts_with("forged")), "{self:?}");
        self
    }
}

#[test]
fn words_of_the_command_line() {
    let host = LaidOut::named("h100-squashfs");
    let flag = format!("--{HOSTILE}");
    let assigned = format!("--nvml={HOSTILE}");
    for words in [
        &["generate", &flag][..],
        &["generate", HOSTILE],
        &["generate", "--nvml", HOSTILE],
        &["generate", &assigned],
        &["generate", "--nvml-time-limit", HOSTILE],
        &["generate", "--target", HOSTILE],
        &["generate", "--driver-capabilities", HOSTILE],
        &["generate", "--device-name-strategy", HOSTILE],
        &["generate", "--vendor", HOSTILE],
        &["doctor", HOSTILE],
        &[HOSTILE],
    ] {
        Ran::new(cdi_gen().args(words)).shows().exits(2);
    }
    let nowhere = format!("/proc/{HOSTILE}.yaml");
    host.run(&["generate", "--hooks", "none", "--output", &nowhere]).shows().exits(1);
    let missing = format!("/{HOSTILE}");
    Ran::new(cdi_gen().args(["transform", "root", "--from", "/", "--to", "/", "--input", &missing])).shows().exits(1);
    Ran::new(cdi_gen().args(["show", "facts", "--root", &missing])).shows().exits(1);
    Ran::new(cdi_gen().args(["list", "--help"]).env("NVIDIA_CTK_CDI_SPEC_DIRS", HOSTILE)).exits(0);
}

#[test]
fn names_of_spec_files_and_what_they_say() {
    let host = LaidOut::named("h100-squashfs");
    let dir = host.scratch("cdi");
    fs::create_dir(&dir).unwrap();
    let path = dir.join(format!("{HOSTILE}.yaml"));
    let escaped = |c: char| if !(' '..='~').contains(&c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    let quoted = format!("\"{}\"", HOSTILE.chars().map(escaped).collect::<String>());
    let spec = |name: &str, path: &str| {
        format!(
            "{{cdiVersion: 0.5.0, kind: nvidia.com/gpu, devices: [{{name: {name}, containerEdits: {{mounts: \
             [{{hostPath: {path}, containerPath: {path}, options: [{path}]}}], env: [{path}], hooks: [{{hookName: \
             poststop, path: {path}, args: [a, {path}]}}]}}}}]}}"
        )
    };
    fs::write(&path, spec("a", "/a=b")).unwrap();
    fs::write(dir.join("b.yaml"), spec("a", "/a=b")).unwrap();
    Ran::new(cdi_gen().args(["list", "--spec-dir", dir.as_str()])).shows().exits(1);
    fs::write(&path, spec(&quoted, &quoted)).unwrap();
    Ran::new(cdi_gen().args(["list", "--spec-dir", dir.as_str()])).shows().exits(1);
    for command in ["check", "refresh", "remove"] {
        host.run(&[command, "--output", path.as_str()]).shows();
    }
    let diff = host.run(&["diff", "--hooks", "none", "--output", path.as_str()]).shows().exits(5);
    assert!(diff.stdout.lines().all(|line| line.starts_with(['+', '-'])), "{diff:?}");
    assert_eq!(diff.stdout.lines().filter(|line| line.contains(SHOWN)).count(), 4, "{diff:?}");
    fs::write(&path, format!("{quoted}: 1")).unwrap();
    host.run(&["diff", "--hooks", "none", "--output", path.as_str()]).shows().exits(1);
}

#[test]
fn names_of_the_drivers_files() {
    let host = LaidOut::named("h100-squashfs");
    let library = host.path("/usr/local/nvidia/lib64/libcuda.so.580.159.04");
    let named = library.with_file_name(format!("libnvidia-{HOSTILE}.so.580.159.04"));
    fs::copy(library, named).unwrap();
    for stage in ["facts", "inventory", "plan"] {
        host.run(&["show", stage, "--nvml", "never"]).shows().exits(0);
    }
    let json = host.run(&["show", "facts", "--nvml", "never", "--format", "json"]).exits(0);
    assert!(!json.stdout.contains(|c: char| c != '\n' && c.is_control()), "{json:?}");
    let facts: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let escaped = serde_json::to_string(HOSTILE).unwrap();
    assert!(facts.to_string().contains(escaped.trim_matches('"')));
}
