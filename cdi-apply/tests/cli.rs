//! The program as users meet it: what it prints, what it exits with, and what it leaves on disk.
#![cfg(feature = "cli")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests run the program and stop at the first surprise"
)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

const SPEC: &str = "\
cdiVersion: 0.5.0
kind: vendor.com/gpu
containerEdits:
  env: [COMMON=1]
devices:
- name: '0'
  containerEdits: {env: [GPU=0]}
- name: '1'
  containerEdits: {env: [GPU1=1]}
- name: 'null'
  containerEdits: {deviceNodes: [{path: /dev/null, permissions: rw}]}
";

/// A container as an engine writes it: one line, in no order of ours, with what we do not know.
const CONFIG: &str = r#"{"x-unknown":[1.50,-0],"process":{"env":["A=b"],"future":true},"ociVersion":"1.0.2","annotations":{"cdi.k8s.io/a_b":"vendor.com/gpu=1"}}"#;

/// A spec directory and a bundle.
struct Home(TempDir);

/// What the program answered.
struct Answer {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Home {
    fn new() -> Self {
        let home = Self(TempDir::new().unwrap());
        fs::create_dir(home.path("cdi")).unwrap();
        fs::create_dir(home.path("bundle")).unwrap();
        home.write("cdi/v.yaml", SPEC);
        home.write("bundle/config.json", CONFIG);
        home
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(path), text).unwrap();
    }

    fn config(&self) -> String {
        fs::read_to_string(self.path("bundle/config.json")).unwrap()
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cdi-apply"));
        command.current_dir(self.0.path()).args(words.split_whitespace());
        command
    }

    /// Runs it in the home directory.
    fn run(&self, words: &str) -> Answer {
        self.run_with(words, "")
    }

    fn run_with(&self, words: &str, stdin: &str) -> Answer {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It need not read what it is given.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Answer { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs it, and expects an exit code and an error of one line that has these words.
    fn fails(&self, words: &str, code: i32, message: &str) {
        let answer = self.run(words);
        assert_eq!(answer.code, code, "{words}: {}", answer.stderr);
        assert!(answer.stderr.starts_with("error: ") && answer.stderr.contains(message), "{words}: {}", answer.stderr);
        assert_eq!(answer.stderr.lines().count(), 1, "{words}: {}", answer.stderr);
    }
}

impl Answer {
    /// What it printed, where all went well.
    fn good(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""));
        self.stdout
    }

    fn json(self) -> Value {
        serde_json::from_str(&self.good()).unwrap()
    }
}

const BUNDLE: &str = "inject --spec-dir cdi --bundle bundle";

// inject

#[test]
fn each_way_to_name_the_config_gives_the_same() {
    let expected = CONFIG.replace(r#"["A=b"]"#, r#"["A=b","COMMON=1","GPU=0"]"#);
    let inject = "inject --spec-dir cdi --device vendor.com/gpu=0";
    let home = Home::new();
    assert_eq!(home.run(&format!("{inject} --bundle bundle --stdout")).good(), expected);
    assert_eq!(home.run(&format!("{inject} bundle/config.json --stdout")).good(), expected);
    assert_eq!(home.run_with(&format!("{inject} -"), CONFIG).good(), expected);
    assert_eq!(home.config(), CONFIG);
    assert_eq!(home.run(&format!("{inject} --bundle bundle")).good(), "");
    assert_eq!(home.config(), expected);
    let home = Home::new();
    assert_eq!(home.run(&format!("{inject} bundle/config.json")).good(), "");
    assert_eq!(home.config(), expected);
    let mut here = home.command(&inject.replace("cdi ", "../cdi "));
    assert!(here.arg("config.json").current_dir(home.path("bundle")).status().unwrap().success());
    assert_eq!(home.config(), expected);
}

#[test]
fn a_file_that_needs_no_change_is_not_written() {
    let home = Home::new();
    let inject = format!("{BUNDLE} --json --device vendor.com/gpu=0");
    assert_eq!(home.run(&inject).json()["changed"], true);
    let inode = |home: &Home| fs::metadata(home.path("bundle/config.json")).unwrap().ino();
    let before = inode(&home);
    let answer = home.run(&inject).json();
    assert_eq!(answer["changed"], false);
    assert_eq!(answer["devices"], json!(["vendor.com/gpu=0"]));
    assert_eq!(inode(&home), before);
}

#[test]
fn lists_patterns_and_annotations_ask_for_devices() {
    let home = Home::new();
    let devices = |words: &str| home.run(&format!("{BUNDLE} --json {words}")).json()["devices"].to_string();
    assert_eq!(devices("--device vendor.com/gpu=1,vendor.com/gpu=0"), r#"["vendor.com/gpu=1","vendor.com/gpu=0"]"#);
    assert_eq!(devices("-d vendor.com/gpu=1 -d vendor.com/gpu=0"), r#"["vendor.com/gpu=1","vendor.com/gpu=0"]"#);
    assert_eq!(devices("-d vendor.com/gpu=?"), r#"["vendor.com/gpu=0","vendor.com/gpu=1"]"#);
    // An annotation counts only where the caller says so: whoever starts a container may set some.
    assert_eq!(devices("-d vendor.com/gpu=0"), r#"["vendor.com/gpu=0"]"#);
    assert_eq!(devices("-d vendor.com/gpu=0 --annotations"), r#"["vendor.com/gpu=0","vendor.com/gpu=1"]"#);
    assert_eq!(devices("--annotations"), r#"["vendor.com/gpu=1"]"#);
}

#[test]
fn owner_and_mode_stay() {
    let home = Home::new();
    let config = home.path("bundle/config.json");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o640)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&config, Some(1234), Some(2345)).unwrap();
    }
    let before = fs::metadata(&config).unwrap();
    home.run(&format!("{BUNDLE} -d vendor.com/gpu=0")).good();
    let after = fs::metadata(&config).unwrap();
    assert_ne!(after.ino(), before.ino());
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    assert_eq!(fs::read_dir(home.path("bundle")).unwrap().count(), 1);
}

#[test]
fn a_config_that_cannot_be_used_says_why_and_stays() {
    let home = Home::new();
    let inject = format!("{BUNDLE} -d vendor.com/gpu=0");
    let bad: [(&[u8], &str); 9] = [
        (b"", "not JSON: EOF while parsing a value at line 1 column 0"),
        (&CONFIG.as_bytes()[..50], "not JSON: EOF while parsing"),
        (b"[]", "not an OCI runtime spec: the document is no object"),
        (b"{\"a\": 1, \"a\": 2}", "ambiguous: the key `a` stands twice at line 1 column 12"),
        (b"{\"a\": {\"$serde_json::private::Number\": \"5\"}}", "the key `$serde_json::private::Number` is not taken"),
        (b"{\"process\": []}", "process is not an object"),
        (b"{\"process\": {\"env\": {}}}", "process.env is not an array"),
        (b"\xff\xfe{\x00}\x00", "not JSON: "),
        (&b"[".repeat(1 << 20), "not JSON: recursion limit exceeded"),
    ];
    for (text, message) in bad {
        home.write("bundle/config.json", text);
        home.fails(&inject, 4, message);
        assert!(fs::read(home.path("bundle/config.json")).unwrap() == text);
    }
    fs::File::create(home.path("bundle/config.json")).unwrap().set_len(100 << 20).unwrap();
    home.fails(&inject, 4, "cannot inject into bundle/config.json: more than the limit of 16777216 bytes");
}

#[test]
fn a_config_without_process_or_linux_gets_what_it_needs() {
    let home = Home::new();
    home.write("bundle/config.json", "{}");
    home.run(&format!("{BUNDLE} -d vendor.com/gpu=0,vendor.com/gpu=null")).good();
    let config: Value = serde_json::from_str(&home.config()).unwrap();
    assert_eq!(config["process"]["env"], json!(["COMMON=1", "GPU=0"]));
    assert_eq!(config["linux"]["devices"][0]["path"], "/dev/null");
}

#[test]
fn what_is_no_regular_file_is_left_alone() {
    let home = Home::new();
    let config = home.path("bundle/config.json");
    let inject = format!("{BUNDLE} -d vendor.com/gpu=0");
    fs::remove_file(&config).unwrap();
    home.fails(&inject, 1, "cannot read bundle/config.json: No such file or directory");
    home.write("other", CONFIG);
    symlink("../other", &config).unwrap();
    home.fails(&inject, 1, "cannot read bundle/config.json: it is a link (give the file that it leads to)");
    fs::remove_file(&config).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &config, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    home.fails(&inject, 1, "cannot read bundle/config.json: it is no regular file");
    fs::remove_file(&config).unwrap();
    fs::create_dir(&config).unwrap();
    home.fails(&inject, 1, "cannot read bundle/config.json: it is no regular file");
    home.fails(
        "inject --spec-dir cdi --bundle nowhere -d vendor.com/gpu=0",
        1,
        "cannot read nowhere/config.json: No such file",
    );
}

#[test]
fn stale_major_minor() {
    let home = Home::new();
    let stale = SPEC.replace("{path: /dev/null,", "{path: /dev/null, type: c, major: 507, minor: 3,");
    home.write("cdi/v.yaml", stale);
    let inject = format!("{BUNDLE} -d vendor.com/gpu=null");
    home.fails(
        &inject,
        5,
        "device node /dev/null is 1:3, the spec says 507:3: generate the spec anew, or --allow-stale",
    );
    assert_eq!(home.config(), CONFIG);
    let config: Value = serde_json::from_str(&home.run(&format!("{inject} --allow-stale --stdout")).good()).unwrap();
    assert_eq!(config["linux"]["devices"][0]["major"], 507);
    home.write("nodes", "char /dev/null 507 3 0666\n");
    home.run(&format!("{inject} --device-nodes nodes")).good();
    home.write("nodes", "char /dev/null 506 3 0666\n");
    home.fails(&format!("{inject} --device-nodes nodes"), 5, "device node /dev/null is 506:3, the spec says 507:3");
}

#[test]
fn a_node_that_the_host_lacks_is_refused() {
    let home = Home::new();
    home.write("cdi/v.yaml", SPEC.replace("/dev/null", "/dev/no-such-node"));
    home.fails(&format!("{BUNDLE} -d vendor.com/gpu=null"), 5, "no device node /dev/no-such-node on this host");
}

#[test]
fn a_bad_annotation_is_told_once() {
    let home = Home::new();
    home.write("bundle/config.json", CONFIG.replace("vendor.com/gpu=1", "gpu=1"));
    let answer = home.run(&format!("{BUNDLE} --annotations"));
    let expected = "error: cannot inject into bundle/config.json: annotation `cdi.k8s.io/a_b`: `gpu=1` is not of the form vendor/class=device\n";
    assert_eq!((answer.code, answer.stderr.as_str()), (4, expected));
}

#[test]
fn numbers_that_are_another_device_or_all_are_refused() {
    let home = Home::new();
    for (node, message) in [
        ("type: b, major: 1, minor: 3", "is of type c, the spec says b"),
        ("type: c, major: -1, minor: -1", "would be -1:-1, which no device is"),
        ("type: c, major: 99999999999", "would be 99999999999:0, which no device is"),
    ] {
        home.write("cdi/v.yaml", SPEC.replace("{path: /dev/null,", &format!("{{path: /dev/null, {node},")));
        home.fails(&format!("{BUNDLE} -d vendor.com/gpu=null"), 5, message);
    }
}

#[test]
fn a_config_that_nothing_was_asked_for_is_not_touched() {
    let home = Home::new();
    let uneven = "{\"process\" : { },\r\n  \"a\":1e5}";
    home.write("bundle/config.json", uneven);
    let answer = home.run(&format!("{BUNDLE} --annotations --json")).json();
    assert_eq!((&answer["changed"], home.config().as_str()), (&json!(false), uneven));
}

// What cannot be resolved

#[test]
fn an_unresolvable_name_tells_near_misses_and_bad_files() {
    let home = Home::new();
    home.write("cdi/bad.yaml", "cdiVersion: 0.5.0\nkind: vendor.com/gpu\ndevices: 7\n");
    let answer = home.run(&format!("{BUNDLE} -d vendor.com/gpu=9,other.com/x=y"));
    let expected = "\
error: unresolvable CDI devices vendor.com/gpu=9 (did you mean vendor.com/gpu=0 or vendor.com/gpu=1?), other.com/x=y
  not used: cdi/bad.yaml:3:10: devices: invalid type: integer `7`, expected a sequence
";
    assert_eq!((answer.code, answer.stdout.as_str(), answer.stderr.as_str()), (3, "", expected));
    assert_eq!(home.config(), CONFIG);
    let answer = home.run(&format!("{BUNDLE} --json -d vendor.com/gpu=9"));
    let error: Value = serde_json::from_str(&answer.stderr).unwrap();
    assert_eq!((answer.code, &error["problems"][0]["line"]), (3, &json!(3)));
    assert!(error["error"].as_str().unwrap().starts_with("unresolvable CDI devices vendor.com/gpu=9"));
}

/// What we do not understand we do not use in part.
#[test]
fn unknown_field_fail_closed() {
    let home = Home::new();
    for text in [SPEC.replace("containerEdits:\n", "containerEdits:\n  seccomp: {}\n"), SPEC.replace("0.5.0", "9.9.0")]
    {
        home.write("cdi/v.yaml", text);
        let answer = home.run("inject --spec-dir cdi --device vendor.com/gpu=0 bundle/config.json");
        assert!(answer.code == 3 && answer.stderr.contains("not used: cdi/v.yaml"), "{}", answer.stderr);
        assert_eq!(home.config(), CONFIG);
    }
}

#[test]
fn a_conflict_is_unresolvable() {
    let home = Home::new();
    home.write("cdi/w.yaml", SPEC);
    let answer = home.run("resolve --spec-dir cdi vendor.com/gpu=0");
    assert_eq!(answer.code, 3);
    let line = answer.stderr.lines().next().unwrap();
    assert!(
        line.ends_with("vendor.com/gpu=0 (defined in each of cdi/v.yaml, cdi/w.yaml: remove all but one)"),
        "{line}"
    );
}

#[test]
fn a_bad_file_that_is_not_needed_is_a_warning() {
    let home = Home::new();
    home.write("cdi/bad.yaml", "kind: vendor.com/gpu");
    let answer = home.run(&format!("{BUNDLE} -d vendor.com/gpu=0"));
    assert_eq!(answer.code, 0);
    assert!(answer.stderr.starts_with("warning: cdi/bad.yaml: "), "{}", answer.stderr);
}

#[test]
fn wrong_usage_is_told_before_anything_is_read() {
    let home = Home::new();
    for words in [
        "",
        "inject",
        "inject --bundle bundle",
        "inject -d vendor.com/gpu=0",
        "inject -d vendor.com/gpu=0 --bundle bundle -",
        "inject -d vendor.com/gpu=0 --bundle",
        "list nothing",
        "resolve",
        "validate",
        "--no-such-flag",
    ] {
        assert_eq!(home.run(words).code, 2, "{words}");
    }
    home.fails("inject --spec-dir nowhere --bundle nowhere -d vendor.com/gpu", 2, "vendor.com/gpu");
    home.fails("resolve vendor.com/gpu=[", 2, "`vendor.com/gpu=[` is no pattern");
    home.fails("inject --bundle bundle -d vendor.com/gpu=0,", 2, "");
}

// resolve, list, validate

#[test]
fn resolve_tells_each_edit_with_its_file() {
    let home = Home::new();
    let expected = "\
common to its devices  # cdi/v.yaml
  env    COMMON=1
vendor.com/gpu=null  # cdi/v.yaml
  node   /dev/null
";
    assert_eq!(home.run("resolve --spec-dir cdi vendor.com/gpu=null").good(), expected);
    let answer = home.run("resolve --json --spec-dir cdi vendor.com/gpu=null").json();
    assert_eq!(answer["parts"][1]["device"], "vendor.com/gpu=null");
    assert_eq!(answer["parts"][1]["file"], "cdi/v.yaml");
    assert_eq!(answer["containerEdits"]["deviceNodes"], json!([{"path": "/dev/null", "permissions": "rw"}]));
}

#[test]
fn list_tells_devices_vendors_classes_and_specs() {
    let home = Home::new();
    home.write(
        "cdi/net.json",
        r#"{"cdiVersion":"0.3.0","kind":"a.org/net","devices":[{"name":"x","containerEdits":{"env":["A=b"]}}]}"#,
    );
    let list = |what: &str| home.run(&format!("list {what} --spec-dir cdi")).good();
    let devices = "a.org/net=x\nvendor.com/gpu=0\nvendor.com/gpu=1\nvendor.com/gpu=null\n";
    assert_eq!((list(""), list("devices")), (devices.to_owned(), devices.to_owned()));
    assert_eq!(list("vendors"), "a.org\nvendor.com\n");
    assert_eq!(list("classes"), "gpu\nnet\n");
    assert_eq!(
        list("specs"),
        "cdi/net.json  a.org/net 0.3.0, 1 devices\ncdi/v.yaml  vendor.com/gpu 0.5.0, 3 devices\n"
    );
    let json = |what: &str| home.run(&format!("list {what} --json --spec-dir cdi")).json();
    assert_eq!(json("devices")["devices"][0], json!({"name": "a.org/net=x", "file": "cdi/net.json"}));
    assert_eq!(json("vendors")["vendors"], json!(["a.org", "vendor.com"]));
    assert_eq!(json("classes")["classes"], json!(["gpu", "net"]));
    assert_eq!(json("specs")["specs"][1]["devices"], json!(["0", "1", "null"]));
    assert_eq!(json("specs")["problems"], json!([]));
}

#[test]
fn a_user_has_spec_directories_of_their_own() {
    let home = Home::new();
    fs::create_dir_all(home.path("conf/cdi")).unwrap();
    fs::create_dir_all(home.path("run/cdi")).unwrap();
    home.write("conf/cdi/a.yaml", SPEC.replace("vendor.com", "conf.vendor.com"));
    home.write("run/cdi/a.yaml", SPEC.replace("vendor.com", "run.vendor.com"));
    let mut list = home.command("list vendors");
    list.env("XDG_CONFIG_HOME", home.path("conf")).env("XDG_RUNTIME_DIR", home.path("run"));
    if rustix::process::geteuid().is_root() {
        let output = list.output().unwrap();
        assert!(!String::from_utf8(output.stdout).unwrap().contains("conf.vendor.com"), "root reads no user's specs");
        // As somebody else.
        fs::set_permissions(home.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::process::CommandExt::uid(&mut list, 1234);
    }
    let output = String::from_utf8(list.output().unwrap().stdout).unwrap();
    assert!(output.contains("conf.vendor.com\n") && output.contains("run.vendor.com\n"), "{output}");
}

#[test]
fn validate_tells_rules_and_doubts() {
    let home = Home::new();
    assert_eq!(home.run("validate cdi/v.yaml").good(), "cdi/v.yaml: valid\n");
    let doubtful = "\
cdiVersion: 0.6.0
kind: vendor.com/gpu
devices:
- name: a
  containerEdits:
    mounts: [{hostPath: /no/such/file, containerPath: /x}]
    hooks: [{hookName: createContainer, path: /bin/sh}]
    deviceNodes: [{path: /dev/null, type: c, major: 9, minor: 9}]
";
    home.write("doubtful.yaml", doubtful);
    let expected = "\
doubtful.yaml: warning: cdiVersion: 0.6.0, but 0.3.0 says as much, and older engines read it
doubtful.yaml: warning: devices[0].containerEdits.hooks[0].env: the hook has no environment of its own and may run in one that the image sets (LD_PRELOAD)
doubtful.yaml: warning: devices[0].containerEdits.mounts[0].hostPath: /no/such/file is not on this host
doubtful.yaml: warning: devices[0].containerEdits.deviceNodes[0]: device node /dev/null is 1:3, the spec says 9:9: generate the spec anew, or --allow-stale
doubtful.yaml: valid
";
    assert_eq!(home.run("validate doubtful.yaml").good(), expected);
    let here_not = home.run("validate --no-host doubtful.yaml").good();
    assert_eq!(here_not.lines().count(), 3);
    let stated = doubtful.replace("path: /bin/sh", "path: bin/sh");
    home.write("bad.yaml", stated.replace("createContainer", "later"));
    home.write("unparsable.yaml", "cdiVersion: [");
    let answer = home.run("validate --no-host cdi/v.yaml bad.yaml unparsable.yaml");
    assert_eq!(answer.code, 4);
    let errors: Vec<&str> = answer.stdout.lines().filter(|line| line.contains(": error: ")).collect();
    assert_eq!(errors.len(), 3, "{}", answer.stdout);
    assert!(errors[0].starts_with("bad.yaml: error: devices[0].containerEdits.hooks[0].hookName: "), "{}", errors[0]);
    assert!(errors[1].starts_with("bad.yaml: error: devices[0].containerEdits.hooks[0].path: "), "{}", errors[1]);
    assert!(errors[2].starts_with("unparsable.yaml: error: "), "{}", errors[2]);
    let verdict = home.run("validate --json --no-host bad.yaml");
    let verdict: Value = serde_json::from_str(&verdict.stdout).unwrap();
    assert_eq!(verdict["files"][0]["valid"], false);
    assert_eq!(verdict["files"][0]["violations"][0]["enforced"], true);
    assert_eq!(verdict["files"][0]["violations"][1]["enforced"], false);
    home.fails("validate nothing.yaml", 1, "cannot read nothing.yaml");
    assert_eq!(home.run_with("validate --no-host -", SPEC).good(), "-: valid\n");
}

#[test]
fn who_else_may_write_what_root_uses_is_told() {
    let home = Home::new();
    home.write("library", "");
    fs::set_permissions(home.path("library"), fs::Permissions::from_mode(0o666)).unwrap();
    let library = home.path("library").display().to_string();
    let mount = format!("mounts: [{{hostPath: {library}, containerPath: /x}}]");
    home.write("spec.yaml", SPEC.replace("env: [COMMON=1]", &mount));
    let told = home.run("validate spec.yaml").good();
    assert!(told.contains(&format!("{library} is used by root, but ")), "{told}");
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let home = Home::new();
    let mut list = home.command("list --spec-dir cdi");
    list.stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let output = list.stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: cannot write to stdout: No space left on device (os error 28)\n"
    );
}
