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
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

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
        self.write(path, text);
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
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
