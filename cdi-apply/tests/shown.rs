//! What strangers wrote, in all that the program says to people: it is shown, and neither forges a line nor moves a
//! cursor. Documents keep it as it is.
#![cfg(feature = "cli")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests run the program and stop at the first surprise"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// What a terminal obeys, a line that says something, and a change of direction.
const HOSTILE: &str = "x\nerror: forged\r\u{1b}[2J\u{7}\u{9b}31m\u{202e}\u{2028}";
/// The same as it is shown.
const SHOWN: &str = r"x\nerror: forged\r\u{1b}[2J\u{7}\u{9b}31m\u{202e}\u{2028}";
/// As an argument of a hook, which a shell would take for itself.
const QUOTED: &str = r"$'x\012error: forged\015\033[2J\007\302\23331m\342\200\256\342\200\250'";

/// What the program answered.
#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Answer {
    /// Asserts that nothing is obeyed, and that no line is another's.
    #[track_caller]
    fn harmless(self) -> Self {
        let all = format!("{}{}", self.stdout, self.stderr);
        let is_obeyed = |c: char| c != '\n' && c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c);
        assert!(!all.contains(is_obeyed), "{self:?}");
        assert!(!all.lines().any(|line| line.starts_with("error: forged")), "{self:?}");
        self
    }

    /// And that the hostile text is there.
    #[track_caller]
    fn shows(self) -> Self {
        assert!(self.stdout.contains(SHOWN) || self.stderr.contains(SHOWN), "{self:?}");
        self.harmless()
    }

    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

fn run(words: &[&str]) -> Answer {
    let output = Command::new(env!("CARGO_BIN_EXE_cdi-apply")).args(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The hostile text in YAML and JSON.
fn quoted() -> String {
    let escaped = |c: char| if (' '..='~').contains(&c) { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) };
    format!("\"{}\"", HOSTILE.chars().map(escaped).collect::<String>())
}

/// A spec with a text in all places that may hold it.
fn spec(device: &str, text: &str) -> String {
    format!(
        "{{cdiVersion: 0.6.0, kind: vendor.com/gpu, annotations: {{{text}: {text}}}, devices: [{{name: {device}, \
         containerEdits: {{env: ['A=b', {text}], deviceNodes: [{{path: {text}, hostPath: {text}, type: c}}], mounts: \
         [{{hostPath: {text}, containerPath: {text}, options: [{text}]}}], hooks: [{{hookName: poststop, path: {text}, \
         args: [a, {text}], env: [{text}]}}]}}}}]}}"
    )
}

struct Home {
    dir: TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { dir: TempDir::new().unwrap() };
        fs::create_dir(home.path("cdi")).unwrap();
        home
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) -> String {
        fs::write(self.path(path), text).unwrap();
        self.path(path).to_str().unwrap().to_owned()
    }
}

#[test]
fn words_of_the_command_line() {
    let flag = format!("--{HOSTILE}");
    for words in [
        &["list", &flag][..],
        &["list", HOSTILE],
        &["list", "devices", HOSTILE],
        &["configure", HOSTILE],
        &["resolve", HOSTILE],
        &["resolve", &format!("vendor.com/gpu={HOSTILE}")],
        &["inject", "--device", HOSTILE, "--bundle", "/nothing"],
        &[HOSTILE],
    ] {
        run(words).shows().exits(2);
    }
    let missing = format!("/{HOSTILE}");
    for words in [
        &["validate", &missing][..],
        &["list", "devices", "--spec", &missing],
        &["inject", "--device", "a.com/b=c", "--bundle", &missing],
        &["inject", "--device", "a.com/b=c", "--stdout", &missing],
        &["inject", "--device", "a.com/b=c", "--bundle", "/nothing", "--device-nodes", &missing],
        &["configure", "docker", "--config", &missing, "--undo"],
    ] {
        let answer = run(words).shows();
        assert!(matches!(answer.code, Some(1 | 3)), "{words:?}: {answer:?}");
        assert!(answer.stderr.starts_with("error: ") && answer.stderr.lines().count() == 1, "{answer:?}");
    }
}

#[test]
fn names_of_spec_files() {
    let home = Home::new();
    let dir = home.path("cdi");
    let dir = dir.to_str().unwrap();
    let words = |words: &[&str]| run(&[words, &["--spec-dir", dir]].concat());
    let file = home.write(&format!("cdi/{HOSTILE}.yaml"), &spec("a", "A=b"));
    words(&["list", "specs"]).shows().exits(0);
    words(&["list", "devices"]).harmless().exits(0);
    words(&["resolve", "vendor.com/gpu=a"]).shows().exits(0);
    run(&["validate", &file]).shows().exits(4);
    home.write("cdi/b.yaml", &spec("a", "A=b"));
    words(&["list", "devices"]).shows().exits(0);
    words(&["resolve", "vendor.com/gpu=a"]).shows().exits(3);
    home.write(&format!("cdi/{HOSTILE}.yaml"), "kind: [");
    words(&["list", "devices"]).shows().exits(0);
    words(&["resolve", "vendor.com/gpu=x"]).shows().exits(3);
    run(&["validate", &file]).shows().exits(4);
    // The same in JSON, exactly.
    for what in [["--json", "list", "specs"], ["--json", "validate", &file]] {
        let answer = words(if what.contains(&"validate") { &[] } else { &what });
        let answer = if what.contains(&"validate") { run(&what) } else { answer }.harmless();
        let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
        let path = answer.pointer("/problems/0/path").or_else(|| answer.pointer("/files/0/file")).unwrap();
        assert_eq!(path.as_str(), Some(file.as_str()));
    }
}

#[test]
fn what_specs_say() {
    let home = Home::new();
    let text = quoted();
    let file = home.write("cdi/a.yaml", &spec("a", &text));
    let answer = run(&["resolve", "vendor.com/gpu=a", "--spec", &file]);
    assert_eq!(answer.code, Some(3), "an environment variable has a name: {answer:?}");
    run(&["validate", &file]).shows().exits(4);
    let assigned = text.replace("\"x", "\"A=x");
    let file = home.write("cdi/a.yaml", &spec("a", &assigned));
    let answer = run(&["resolve", "vendor.com/gpu=a", "--spec", &file]).shows().exits(0);
    let lines: Vec<&str> = answer.stdout.lines().collect();
    // The common edits, and a device with a variable twice, a node, a mount and a hook.
    assert_eq!(lines.len(), 7, "{answer:?}");
    assert!(lines.iter().any(|line| line.contains(&QUOTED.replace("$'x", "$'A=x"))), "{answer:?}");
    run(&["validate", &file]).shows();
    for broken in [format!("{text}: 1"), format!("devices: [{text}]"), format!("annotations: {{{text}: [1]}}")] {
        let file = home.write("cdi/a.yaml", &broken);
        run(&["validate", &file]).shows().exits(4);
        run(&["list", "devices", "--spec", &file]).shows().exits(0);
    }
    let answer = run(&["--json", "validate", &home.write("cdi/a.yaml", &spec("a", &text))]).harmless().exits(4);
    let json: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert!(json.to_string().contains("forged"), "{json}");
}
