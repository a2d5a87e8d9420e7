//! cdi-runtime as engines meet it: what it makes of a `config.json`, and what the runtime behind it is told.
#![cfg(feature = "runtime")]
#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests run the program and stop at the first surprise"
)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode};
use serde_json::{Value, json};
use tempfile::TempDir;
use testdata::elf::{Class, Machine, shared_object};
use testdata::{RUNTIME_ATTACKS, RUNTIME_ATTACKS_CONFIGURATION};

/// The runtime behind: tells how it was called.
const RUNTIME: &str = "#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done\nexit 7\n";
/// What a container has that nobody here knows, in an order of its own.
const UNKNOWN: &str = r#"{"x-unknown":[1.50,-0],"ociVersion":"1.0.2","process":{"env":["A=b"],"future":true}}"#;

/// A bundle, specs, and a configuration that leads to them.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(TempDir::new().unwrap());
        for dir in ["cdi", "bundle", "bin", "files"] {
            fs::create_dir(home.path(dir)).unwrap();
        }
        home.program("bin/runtime", RUNTIME);
        home.write("bundle/config.json", UNKNOWN);
        home.configure("");
        home.write_spec(&["nvidia-smi", "libcuda.so.1", "libGLX_nvidia.so.0"]);
        home
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(path), text).unwrap();
    }

    fn program(&self, path: &str, text: &str) {
        self.write("text", text);
        fs::set_permissions(self.path("text"), fs::Permissions::from_mode(0o755)).unwrap();
        self.copy(&self.path("text"), path);
    }

    /// By a process of its own: a program that another thread's child still holds open for writing cannot be run.
    fn copy(&self, from: &Path, to: &str) {
        assert!(Command::new("cp").arg(from).arg(self.path(to)).status().unwrap().success());
    }

    /// A configuration with these lines in it; none is made of this machine's driver.
    fn configure(&self, lines: &str) {
        let text = format!(
            "runtimes = [{:?}]\nspec-dirs = [{:?}]\njust-in-time = false\n{lines}\n",
            self.path("bin/runtime"),
            self.path("cdi"),
        );
        self.write("config.toml", text);
    }

    /// A spec of two GPUs that brings these files.
    fn write_spec(&self, files: &[&str]) {
        files.iter().for_each(|file| self.write(&format!("files/{file}"), ""));
        let mount = |file: &&str| json!({"hostPath": self.path(&format!("files/{file}")), "containerPath": format!("/usr/lib64/{file}")});
        let gpu = |name: &str, node: &str| json!({"name": name, "containerEdits": {"env": [format!("GPU_{name}=1")], "deviceNodes": [{"path": node}]}});
        let spec = json!({
            "cdiVersion": "0.5.0",
            "kind": "nvidia.com/gpu",
            "devices": [gpu("0", "/dev/null"), gpu("1", "/dev/zero")],
            "containerEdits": {"env": ["NVIDIA_VISIBLE_DEVICES=void"], "mounts": files.iter().map(mount).collect::<Vec<_>>()},
        });
        self.write("cdi/nvidia.json", spec.to_string());
    }

    /// A container with these variables.
    fn container(&self, env: &[&str]) {
        let mut config: Value = serde_json::from_str(UNKNOWN).unwrap();
        config["process"]["env"] = json!(env);
        self.write("bundle/config.json", config.to_string());
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cdi-runtime"));
        command.args(words).env("CDI_RUNTIME_CONFIG", self.path("config.toml")).current_dir(self.0.path());
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Creates the container, and tells what became of its `config.json`.
    fn create(&self) -> Result<Value, String> {
        let output = self.run(&["create", "--bundle", "bundle", "c1"]);
        if output.status.code() == Some(7) {
            assert_eq!(output.stdout, b"create\n--bundle\nbundle\nc1\n");
            return Ok(serde_json::from_str(&self.config()).unwrap());
        }
        assert!(output.stdout.is_empty(), "the runtime ran");
        Err(String::from_utf8(output.stderr).unwrap())
    }

    fn config(&self) -> String {
        fs::read_to_string(self.path("bundle/config.json")).unwrap()
    }

    fn destinations(&self) -> Vec<String> {
        let config = self.create().unwrap();
        let mounts = config["mounts"].as_array().into_iter().flatten();
        mounts.map(|mount| mount["destination"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn every_word_reaches_the_runtime() {
    let home = Home::new();
    let odd = OsStr::from_bytes(b"\xff id");
    let output = home.command(&["--root", "/r", "delete", "--force"]).arg(odd).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stdout, b"--root\n/r\ndelete\n--force\n\xff id\n");
    let output = Command::new(env!("CARGO_BIN_EXE_cdi-apply"))
        .args(["runtime", "--root", "/r", "--version"])
        .env("CDI_RUNTIME_CONFIG", home.path("config.toml"))
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), b"--root\n/r\n--version\n".as_slice()));
}

#[test]
fn a_container_that_asks_for_nothing_is_left_alone() {
    let home = Home::new();
    // Neither is a spec read, nor the document understood.
    home.write("cdi/nvidia.json", "broken");
    for text in [UNKNOWN, "{broken", ""] {
        home.write("bundle/config.json", text);
        let before = fs::metadata(home.path("bundle/config.json")).unwrap();
        assert_eq!(home.run(&["create", "--bundle", "bundle", "c1"]).status.code(), Some(7));
        let after = fs::metadata(home.path("bundle/config.json")).unwrap();
        assert_eq!((home.config().as_str(), before.ino()), (text, after.ino()));
    }
    home.container(&["NVIDIA_VISIBLE_DEVICES=void"]);
    let before = home.config();
    assert_eq!(home.run(&["create", "--bundle", "bundle", "c1"]).status.code(), Some(7));
    assert_eq!(home.config(), before);
    // The runtime says what it thinks of a bundle that is none.
    assert_eq!(home.run(&["create", "--bundle", "nothing", "c1"]).status.code(), Some(7));
}

#[test]
fn a_container_gets_what_it_asks_for() {
    let home = Home::new();
    home.container(&["A=b", "NVIDIA_VISIBLE_DEVICES=1", "NVIDIA_DRIVER_CAPABILITIES=all"]);
    let config = home.create().unwrap();
    assert_eq!(
        config["process"]["env"],
        json!(["A=b", "NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_DRIVER_CAPABILITIES=all", "GPU_1=1"])
    );
    assert_eq!(
        config["linux"]["devices"],
        json!([{"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 438}])
    );
    assert_eq!(config["process"]["future"], json!(true));
    assert!(home.config().starts_with(r#"{"x-unknown":[1.50,-0],"ociVersion""#));
    // A second time there is nothing left to ask for.
    let before = home.config();
    home.create().unwrap();
    assert_eq!(home.config(), before);
}

#[test]
fn capabilities_filter_what_is_mounted() {
    let home = Home::new();
    let mounted = |capabilities: &str| {
        home.container(&["NVIDIA_VISIBLE_DEVICES=0", &format!("NVIDIA_DRIVER_CAPABILITIES={capabilities}")]);
        home.destinations().join(" ").replace("/usr/lib64/", "")
    };
    assert_eq!(mounted("all"), "nvidia-smi libcuda.so.1 libGLX_nvidia.so.0");
    assert_eq!(mounted("utility"), "nvidia-smi");
    assert_eq!(mounted("graphics"), "libGLX_nvidia.so.0");
    assert_eq!(mounted(""), "nvidia-smi libcuda.so.1");
}

/// `none` is the driver and no GPU; nothing is nothing.
#[test]
fn visible_devices_none() {
    let home = Home::new();
    home.container(&["NVIDIA_VISIBLE_DEVICES=none"]);
    let config = home.create().unwrap();
    assert_eq!(config["mounts"].as_array().unwrap().len(), 2);
    assert_eq!(config.pointer("/linux/devices"), None);
    for nothing in
        [&["NVIDIA_VISIBLE_DEVICES="][..], &["NVIDIA_VISIBLE_DEVICES=void"], &["NVIDIA_VISIBLE_DEVICES=0,void"]]
    {
        home.container(nothing);
        assert_eq!(home.create().unwrap().get("mounts"), None);
    }
}

#[test]
fn what_cannot_be_given_starts_no_container_and_is_told_where_engines_look() {
    let home = Home::new();
    home.container(&["NVIDIA_VISIBLE_DEVICES=7"]);
    let before = home.config();
    let words = ["--log", "log", "--log-format", "json", "create", "--bundle", "bundle", "c1"];
    let output = home.run(&words);
    assert_eq!(output.status.code(), Some(1));
    let told =
        "cdi-runtime: unresolvable CDI devices nvidia.com/gpu=7 (did you mean nvidia.com/gpu=0 or nvidia.com/gpu=1?)";
    assert_eq!(String::from_utf8(output.stderr).unwrap().trim_end(), told);
    let log: Value = serde_json::from_str(&fs::read_to_string(home.path("log")).unwrap()).unwrap();
    assert_eq!((&log["level"], &log["msg"]), (&json!("error"), &json!(told)));
    assert_eq!(home.config(), before);

    let refused = |env: &[&str]| {
        home.container(env);
        home.create().unwrap_err()
    };
    assert!(refused(&["NVIDIA_VISIBLE_DEVICES=0 1"]).contains("asks for `0 1`, which names no device"));
    assert!(refused(&["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_IMEX_CHANNELS=0"]).contains("nvidia.com/imex-channel=0"));
    assert!(
        refused(&["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_MIG_CONFIG_DEVICES=all"])
            .contains("takes a privileged container")
    );
    assert!(refused(&["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_REQUIRE_CUDA=new"]).contains("is no condition"));
    home.write("bundle/config.json", r#"{"process":{"env":["NVIDIA_VISIBLE_DEVICES=0"]},"mounts":{},"mounts":[]}"#);
    assert!(home.create().unwrap_err().contains("the key `mounts` stands twice"));
    home.write("cdi/nvidia.json", "{");
    assert!(refused(&["NVIDIA_VISIBLE_DEVICES=0"]).contains("cdi/nvidia.json:1:"));
}

/// A slip in the configuration must not allow what the administrator forbade.
#[test]
fn a_wrong_configuration_starts_no_container() {
    let home = Home::new();
    home.configure("enviroment = 'never'");
    let error = home.create().unwrap_err();
    assert!(error.contains("config.toml is wrong: line 4: unknown field `enviroment`"), "{error}");
    // But those that run can be seen, and stopped.
    assert_eq!(home.run(&["kill", "c1", "KILL"]).stdout, b"kill\nc1\nKILL\n");
    home.configure("");
    home.write("config.toml", "runtimes = [");
    assert!(home.create().unwrap_err().contains("config.toml is wrong"));
    home.write("config.toml", "runtimes = ['no-such-runtime']");
    assert!(home.create().unwrap_err().contains("none of the runtimes no-such-runtime is installed"));
    fs::remove_file(home.path("config.toml")).unwrap();
    assert!(home.create().unwrap_err().contains("cannot read the configuration"));
}

#[test]
fn a_stale_spec_is_not_used() {
    let home = Home::new();
    home.container(&["NVIDIA_VISIBLE_DEVICES=0"]);
    fs::remove_file(home.path("files/libcuda.so.1")).unwrap();
    let error = home.create().unwrap_err();
    assert!(error.contains("cdi/nvidia.json is stale: 1 of 3 host paths are gone, such as"), "{error}");
    fs::remove_file(home.path("cdi/nvidia.json")).unwrap();
    assert!(home.create().unwrap_err().contains("unresolvable CDI devices nvidia.com/gpu=0"));
}

/// Images say so on every host; a container that cannot do without finds out itself.
#[test]
fn what_a_host_does_not_have_is_told_and_costs_nothing() {
    let home = Home::new();
    home.container(&["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_GDS=enabled"]);
    let output = home.run(&["create", "--bundle", "bundle", "c1"]);
    let told = "cdi-runtime: unresolvable CDI devices nvidia.com/gds=all; the container starts without";
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().trim_end()), (Some(7), told));
    assert!(home.config().contains("GPU_0=1"));
}

/// Docker's own hook would run a program that nobody needs any more.
#[test]
fn dockers_hook_is_replaced_by_edits() {
    let home = Home::new();
    let hook = json!({"path": "/usr/bin/nvidia-container-runtime-hook", "args": ["nvidia-container-runtime-hook", "prestart"]});
    let config = json!({
        "process": {"env": ["NVIDIA_VISIBLE_DEVICES=1", "NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=utility"]},
        "hooks": {"prestart": [hook]},
    });
    // Where only docker adds the hook, it is a user's word, whatever variables count else.
    home.configure("environment = 'never'");
    home.write("bundle/config.json", config.to_string());
    let words = ["create", "--bundle", "bundle", "c1"];
    assert!(String::from_utf8(home.run(&words).stderr).unwrap().contains("`docker-gpus` in the configuration"));
    assert_eq!(home.create().unwrap()["hooks"]["prestart"], json!([]));
    assert_eq!(home.create().unwrap().get("mounts"), None);
    home.configure("environment = 'never'\ndocker-gpus = true");
    home.write("bundle/config.json", config.to_string());
    let config = home.create().unwrap();
    assert_eq!(config["hooks"]["prestart"], json!([]));
    assert_eq!(
        config["process"]["env"],
        json!(["NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_DRIVER_CAPABILITIES=utility", "GPU_0=1"])
    );
    assert_eq!(config["mounts"].as_array().unwrap().len(), 1);
}

/// What a checkpoint says of itself asks for nothing, and neither do annotations that nobody accepts (CVE-2026-53492).
#[test]
fn checkpoint_annotation_ignored() {
    let home = Home::new();
    let config = json!({
        "annotations": {"cdi.k8s.io/a": "nvidia.com/gpu=0", "nvidia.cdi.k8s.io/pod": "nvidia.com/gpu=0"},
        "process": {"env": ["A=b"]},
    });
    home.write("bundle/config.json", config.to_string());
    assert_eq!(home.create().unwrap(), config);
    home.configure("annotation-prefixes = ['cdi.k8s.io/']");
    assert_eq!(home.run(&["restore", "--bundle", "bundle", "c1"]).status.code(), Some(7));
    assert_eq!(home.config(), config.to_string());
    assert_eq!(home.create().unwrap()["process"]["env"], json!(["A=b", "NVIDIA_VISIBLE_DEVICES=void", "GPU_0=1"]));
}

#[test]
fn the_runtime_inherits_no_handle_of_ours() {
    let home = Home::new();
    home.container(&["NVIDIA_VISIBLE_DEVICES=0"]);
    home.program("bin/runtime", "#!/bin/sh\nexec ls /proc/self/fd\n");
    let fds = |mut command: Command| {
        let output = command.args(["create", "--bundle", "bundle", "c1"]).current_dir(home.0.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(fds(home.command(&[])), fds(Command::new(home.path("bin/runtime"))));
    // What the engine hands over stays open.
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 5</dev/null; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_cdi-runtime")]);
    shell.env("CDI_RUNTIME_CONFIG", home.path("config.toml"));
    assert!(fds(shell).contains("\n5\n"));
}

#[test]
fn the_runtime_inherits_no_limit_of_ours() {
    let home = Home::new();
    home.container(&["NVIDIA_VISIBLE_DEVICES=0"]);
    home.program(
        "bin/runtime",
        "#!/bin/sh\nulimit -S -d\nulimit -H -d\nexec grep -E 'Sig(Pnd|Blk|Ign|Cgt)' /proc/self/status\n",
    );
    let told = |mut command: Command| {
        let output = command.args(["create", "--bundle", "bundle", "c1"]).current_dir(home.0.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(told(home.command(&[])), told(Command::new(home.path("bin/runtime"))));
    assert!(home.config().contains("GPU_0=1"));
}

#[test]
fn gpus_are_hidden_by_the_hook() {
    let home = Home::new();
    home.container(&["NVIDIA_VISIBLE_DEVICES=0"]);
    home.configure("hide-gpus = true");
    let config = home.create().unwrap();
    let hook = &config["hooks"]["createContainer"][0];
    assert_eq!(hook["args"], json!(["cdi-hook", "create-container", "--hide-gpus"]));
    assert_eq!(
        (hook["env"].as_array().unwrap().len(), hook["path"].as_str().unwrap()),
        (1, env!("CARGO_BIN_EXE_cdi-hook"))
    );
}

/// A program that must end by itself; how it did, in the end.
fn finish(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        let stands_still = start.elapsed() > WATCHDOG;
        if stands_still {
            child.kill().unwrap();
        }
        assert!(!stands_still, "{command:?}");
        sleep(Duration::from_millis(2));
    }
    child.wait_with_output().unwrap()
}

/// Many times what anything here takes, on a machine that does much else.
const WATCHDOG: Duration = Duration::from_secs(60);

impl Home {
    /// The program with no more memory than a start may take.
    fn limited(&self, words: &[&str]) -> Command {
        let command = self.command(words);
        let mut limited = Command::new("sh");
        limited
            .args(["-c", "ulimit -d 65536 && exec \"$0\" \"$@\""])
            .arg(command.get_program())
            .args(command.get_args());
        limited.env("CDI_RUNTIME_CONFIG", self.path("config.toml")).current_dir(self.0.path()).stdin(Stdio::null());
        limited
    }
}

const LOGGED: [&str; 8] = ["--log", "log", "--log-format", "json", "create", "--bundle", "bundle", "c1"];

/// An image chooses how long its words are.
#[test]
fn no_config_json_takes_more_than_a_start_may() {
    let home = Home::new();
    home.configure(RUNTIME_ATTACKS_CONFIGURATION);
    for attack in RUNTIME_ATTACKS {
        home.write("bundle/config.json", (attack.config)());
        home.write("log", "");
        let output = finish(home.limited(&LOGGED));
        let (log, told) = (fs::read_to_string(home.path("log")).unwrap(), String::from_utf8(output.stderr).unwrap());
        match attack.refused {
            Some(words) => {
                assert_eq!(output.status.code(), Some(1), "{}: {told}", attack.name);
                assert!(told.contains(words) && log.contains(words), "{}: {told}", attack.name);
                assert_eq!((told.lines().count(), log.lines().count()), (1, 1), "{}", attack.name);
            }
            None => assert_eq!(output.status.code(), Some(7), "{}: {told}", attack.name),
        }
        assert!(log.lines().count() <= 17 && log.lines().all(|line| line.len() < 5000), "{}: {log}", attack.name);
        assert!(!log.contains("\\u001b") && !log.contains('\u{1b}'), "{}", attack.name);
    }
}

/// Files that never come, never end, or are longer than any memory.
#[test]
fn nothing_that_is_read_or_written_makes_it_wait() {
    let home = Home::new();
    home.container(&["NVIDIA_VISIBLE_DEVICES=7"]);
    let fifo = |path: &str| rustix::fs::mknodat(CWD, home.path(path), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let told = |output: &Output| String::from_utf8(output.stderr.clone()).unwrap();
    fifo("fifo");
    // The engine's log: the reason is told on stderr.
    let words = ["--log", "fifo", "create", "--bundle", "bundle", "c1"];
    let output = finish(home.command(&words));
    assert!(output.status.code() == Some(1) && told(&output).contains("nvidia.com/gpu=7"), "{}", told(&output));
    // A file that is no file is not the runtime's to read after us.
    fs::remove_file(home.path("bundle/config.json")).unwrap();
    for other in ["fifo", "/dev/zero"] {
        std::os::unix::fs::symlink(home.path(other), home.path("bundle/config.json")).unwrap();
        let output = finish(home.command(&["create", "--bundle", "bundle", "c1"]));
        assert!(told(&output).contains("cannot read bundle/config.json: it is no regular file"), "{}", told(&output));
        fs::remove_file(home.path("bundle/config.json")).unwrap();
    }
    home.container(&["NVIDIA_VISIBLE_DEVICES=0"]);
    // A spec costs its own devices only.
    fifo("cdi/fifo.yaml");
    fs::File::create(home.path("cdi/long.yaml")).unwrap().set_len(3 << 30).unwrap();
    let output = finish(home.limited(&["create", "--bundle", "bundle", "c1"]));
    assert_eq!(output.status.code(), Some(7), "{}", told(&output));
    // The configuration.
    fs::File::create(home.path("sparse")).unwrap().set_len(3 << 30).unwrap();
    for (path, why) in
        [("fifo", "no regular file"), ("/dev/zero", "no regular file"), ("sparse", "longer than 1048576")]
    {
        let mut command = home.limited(&["create", "--bundle", "bundle", "c1"]);
        command.env("CDI_RUNTIME_CONFIG", home.path(path));
        let output = finish(command);
        assert!(told(&output).contains(why) && output.status.code() == Some(1), "{path}: {}", told(&output));
    }
}

/// The configuration names the program that root runs.
#[test]
fn a_configuration_that_others_may_change_starts_no_container_of_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    home.container(&["NVIDIA_VISIBLE_DEVICES=0"]);
    let refused = |who: &str| {
        let error = home.create().unwrap_err();
        assert!(error.contains("config.toml is not used, since") && error.contains(who), "{error}");
        // Nor does it name the runtime of what makes no container.
        assert_ne!(home.run(&["kill", "c1", "KILL"]).stdout, b"kill\nc1\nKILL\n");
    };
    chown(home.path("config.toml"), Some(1000), None).unwrap();
    refused("user 1000 can change it");
    chown(home.path("config.toml"), Some(0), None).unwrap();
    fs::set_permissions(home.path("config.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    refused("everybody can change it");
    fs::set_permissions(home.path("config.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    chown(home.0.path(), Some(1000), None).unwrap();
    refused("user 1000 can change");
    chown(home.0.path(), Some(0), None).unwrap();
    home.create().unwrap();
}

/// The program that a name means is not one that another user put into a directory of `PATH`.
#[test]
fn root_runs_no_runtime_from_path_that_others_may_change() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    home.write("config.toml", "runtimes = ['runtime']");
    let run = || home.command(&["state", "c1"]).env("PATH", home.path("bin")).output().unwrap();
    assert_eq!(run().status.code(), Some(7));
    chown(home.path("bin"), Some(1000), None).unwrap();
    let output = run();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("bin/runtime, since user 1000 can change") && output.stdout.is_empty(), "{told}");
}

/// A log of another user's may lead anywhere.
#[test]
fn root_appends_to_no_file_through_a_link_of_another_user() {
    let home = Home::new();
    home.container(&["NVIDIA_VISIBLE_DEVICES=7"]);
    home.write("victim", "");
    fs::create_dir(home.path("theirs")).unwrap();
    fs::create_dir(home.path("ours")).unwrap();
    let link = |from: &str, to: &str| std::os::unix::fs::symlink(home.path(to), home.path(from)).unwrap();
    link("ours/log", "victim");
    link("theirs/log", "victim");
    link("theirs/dir", "ours");
    let logs = |log: &str| {
        let output = finish(home.command(&["--log", log, "create", "--bundle", "bundle", "c1"]));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && told.contains("nvidia.com/gpu=7"), "{told}");
        let victim = fs::read_to_string(home.path("victim")).unwrap();
        home.write("victim", "");
        (!victim.is_empty(), told)
    };
    assert!(logs("ours/log").0, "root's own links are followed");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for path in ["theirs/log", "theirs/dir"] {
        lchown(home.path(path), Some(1000), None).unwrap();
    }
    chown(home.path("theirs"), Some(1000), None).unwrap();
    for log in ["theirs/log", "theirs/dir/log"] {
        let (written, told) = logs(log);
        assert!(!written && told.contains("there is a link on the way, and user 1000 can change"), "{told}");
    }
    // A file of theirs is theirs to be written to, unless it is somebody else's by another name.
    assert!(logs("theirs/new").1.lines().count() == 1 && home.path("theirs/new").exists());
    fs::hard_link(home.path("victim"), home.path("theirs/name")).unwrap();
    let (written, told) = logs("theirs/name");
    assert!(!written && told.contains("has a second name"), "{told}");
}

/// What an image or a file says is shown, and not obeyed.
#[test]
fn words_of_images_and_files_are_written_out() {
    let home = Home::new();
    let evil = "\u{1b}]0;x\u{7}\r\nlevel=error msg=forged\u{202e}";
    let cases = [
        format!("NVIDIA_VISIBLE_DEVICES={evil}"),
        format!("NVIDIA_DRIVER_CAPABILITIES={evil}"),
        format!("NVIDIA_REQUIRE_{evil}={evil}"),
        format!("NVIDIA_REQUIRE_CUDA=brand={evil}"),
    ];
    for case in cases {
        home.container(&["NVIDIA_VISIBLE_DEVICES=0", &case]);
        for format in ["json", "text"] {
            home.write("log", "");
            let words = ["--log", "log", "--log-format", format, "create", "--bundle", "bundle", "c1"];
            is_harmless(&home, &home.run(&words), &case);
        }
        is_harmless(&home, &home.run(&["create", "--bundle", "bundle", "c1"]), &case);
    }
    // Names of files, and what stands in them.
    home.write(
        &format!("cdi/{}.json", evil.replace('/', "")),
        format!("{{\"kind\": \"nvidia.com/gpu\", {evil:?}: 1}}"),
    );
    home.container(&["NVIDIA_VISIBLE_DEVICES=7"]);
    is_harmless(&home, &home.run(&LOGGED), "a spec");
    home.write(
        "bundle/config.json",
        json!({"NVIDIA_VISIBLE_DEVICES": 1}).to_string().replace(':', &format!("x{evil}:")),
    );
    is_harmless(&home, &home.run(&LOGGED), "config.json");
}

fn is_harmless(home: &Home, output: &Output, case: &str) {
    let obeyed = |text: &str| text.chars().any(|c| c != '\n' && c.is_control() || c == '\u{202e}');
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!obeyed(&stderr) && stderr.lines().all(|line| line.starts_with("cdi-runtime: ")), "{case:?}: {stderr:?}");
    let log = fs::read_to_string(home.path("log")).unwrap_or_default();
    for line in log.lines() {
        let entry = serde_json::from_str::<Value>(line);
        let message = entry.map_or(line.to_owned(), |entry| entry["msg"].as_str().unwrap().to_owned());
        assert!(!obeyed(&message) && message.contains("cdi-runtime: "), "{case:?}: {line:?}");
    }
}

/// The wrapper's whole policy is tested in its module; these went round it.
#[test]
fn an_image_gets_no_more_than_a_user_asked_for() {
    let home = Home::new();
    let granted = |config: &Value| {
        home.write("bundle/config.json", config.to_string());
        home.create().map(|config| {
            config["process"]["env"]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_str().unwrap().to_owned())
                .filter(|v| v.starts_with("GPU_"))
                .collect::<Vec<_>>()
                .join(" ")
        })
    };
    let hook = json!({"prestart": [{"path": "/usr/bin/nvidia-container-runtime-hook"}]});
    home.configure("environment = 'never'\ndocker-gpus = true\nswarm-resources = ['DOCKER_RESOURCE_GPU']");
    let image =
        ["NVIDIA_IMEX_CHANNELS=all", "NVIDIA_GDS=enabled", "DOCKER_RESOURCE_GPU=all", "NVIDIA_MIG_CONFIG_DEVICES=all"];
    let env: Vec<&str> = image.into_iter().chain(["NVIDIA_VISIBLE_DEVICES=0"]).collect();
    assert_eq!(granted(&json!({"process": {"env": env}, "hooks": hook})).unwrap(), "GPU_0=1");
    assert_eq!(home.run(&["create", "--bundle", "bundle", "c1"]).stderr, b"");
    home.configure("swarm-resources = ['DOCKER_RESOURCE_GPU']");
    let env = ["DOCKER_RESOURCE_GPU=all", "NVIDIA_VISIBLE_DEVICES=void"];
    assert_eq!(granted(&json!({"process": {"env": env}})).unwrap(), "");
    home.configure("volume-mounts = true");
    let mount = json!([{"source": "/dev/null", "destination": "/var/run/nvidia-container-devices/cdi/a.b/c/d"}]);
    let refused = granted(&json!({"process": {"env": ["A=b"]}, "mounts": mount})).unwrap_err();
    assert!(refused.contains("mounts may ask for devices of nvidia.com/gpu only"), "{refused}");
}

/// A spec that is made at once is made of files that may be a driver container's.
#[test]
fn a_spec_made_in_memory_takes_no_more_than_a_start_may() {
    let home = Home::new();
    home.container(&["NVIDIA_VISIBLE_DEVICES=0"]);
    fs::create_dir_all(home.path("driver/etc")).unwrap();
    fs::File::create(home.path("driver/etc/ld.so.cache")).unwrap().set_len(200 << 20).unwrap();
    let (runtime, driver) = (home.path("bin/runtime"), home.path("driver"));
    home.write(
        "config.toml",
        format!("runtimes = [{runtime:?}]\nspec-dirs = ['/nothing']\ndriver-root = {driver:?}\n"),
    );
    let output = finish(home.command(&["create", "--bundle", "bundle", "c1"]));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told, "cdi-runtime: the devices of a container take more than 64 MiB of memory to find\n");
    fs::remove_file(home.path("driver/etc/ld.so.cache")).unwrap();
    assert!(home.create().unwrap_err().contains("no spec can be made at once"));
}

/// Its code would run as root of the host, since an image said so.
#[test]
fn an_image_makes_nobody_load_the_library_of_another_driver_root() {
    let home = Home::new();
    // Beside it stands a cdi-gen that tells what it is asked.
    home.copy(Path::new(env!("CARGO_BIN_EXE_cdi-runtime")), "bin/cdi-runtime");
    home.program("bin/cdi-gen", &format!("#!/bin/sh\necho \"$2\" >>{}\nexit 1\n", home.path("asked").display()));
    let library = "driver/usr/lib64/libnvidia-ml.so.1";
    fs::create_dir_all(home.path(library).parent().unwrap()).unwrap();
    let machine = if cfg!(target_arch = "aarch64") { Machine::Aarch64 } else { Machine::X86_64 };
    home.write(library, shared_object(Class::Elf64, machine, Some("libnvidia-ml.so.1"), None));
    let asked = |lines: &str| {
        home.configure(&format!("driver-root = {:?}\n{lines}", home.path("driver")));
        home.container(&["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_REQUIRE_X=brand=tesla"]);
        let mut command = Command::new(home.path("bin/cdi-runtime"));
        command.args(["create", "--bundle", "bundle", "c1"]).current_dir(home.0.path()).stdin(Stdio::null());
        let output = finish({
            command.env("CDI_RUNTIME_CONFIG", home.path("config.toml"));
            command
        });
        assert_eq!(output.status.code(), Some(7));
        let asked = fs::read_to_string(home.path("asked")).unwrap_or_default();
        let _ = fs::remove_file(home.path("asked"));
        (asked, String::from_utf8(output.stderr).unwrap())
    };
    // As cdi-gen's own: automatic, never, always.
    for lines in ["", "nvml = 'auto'"] {
        let (library, told) = asked(lines);
        assert!(library.is_empty() && told.contains("the driver root is not the host's"), "{told}");
    }
    assert_eq!(asked("nvml = 'never'").0, "");
    let (asked, told) = asked("nvml = 'always'");
    let library = home.path(library).canonicalize().unwrap();
    assert!(asked.lines().all(|line| line == library.to_str().unwrap()) && !asked.is_empty(), "{asked} {told}");
}

/// The host's own library is loaded for what nobody else knows, unless the administrator forbids it.
#[test]
fn an_image_may_have_the_hosts_own_library_asked() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    home.copy(Path::new(env!("CARGO_BIN_EXE_cdi-runtime")), "bin/cdi-runtime");
    home.program("bin/cdi-gen", &format!("#!/bin/sh\necho \"$2\" >>{}\nexit 1\n", home.path("asked").display()));
    let machine = if cfg!(target_arch = "aarch64") { Machine::Aarch64 } else { Machine::X86_64 };
    home.write("libnvidia-ml.so.1", shared_object(Class::Elf64, machine, Some("libnvidia-ml.so.1"), None));
    let dir = "/usr/local/lib";
    let script = format!(
        "mount -t tmpfs -o mode=755 none {dir} && cp libnvidia-ml.so.1 {dir} && exec \"$0\" create --bundle bundle c1"
    );
    let asked = |lines: &str| {
        home.configure(lines);
        home.container(&["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_REQUIRE_X=brand=tesla"]);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(home.path("bin/cdi-runtime"));
        command.env("CDI_RUNTIME_CONFIG", home.path("config.toml")).current_dir(home.0.path()).stdin(Stdio::null());
        let output = finish(command);
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        let asked = fs::read_to_string(home.path("asked")).unwrap_or_default();
        let _ = fs::remove_file(home.path("asked"));
        asked
    };
    let library = format!("{dir}/libnvidia-ml.so.1\n");
    assert_eq!(asked(""), library);
    assert_eq!(asked("nvml = 'never'"), "");
    // Once more with the rights that the first process gave up, which an administrator's word allows.
    assert_eq!(asked("nvml = 'always'"), library.repeat(2));
}
