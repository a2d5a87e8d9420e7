//! containerd: a daemon with state of its own, asked through the CRI or by `ctr`. I/O.
#![expect(clippy::disallowed_methods, reason = "runs containerd and its clients")]

use std::cell::Cell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::Context;
use serde_json::{Value, json};

use super::case::TIME_LIMIT;
use super::docker::{start, wait_for};
use super::engine::{Asks, Engine, Job};
use super::files::{make_dirs, read, remove_tree, write};
use super::{fixture, one_line};
use crate::build;

/// Where the client's box is.
const CLIENT_ROOT: &str = "/mnt";
/// The definition of the CRI, in the client's box.
const CRI_API: &str = "usr/share/gocode/src/k8s.io/cri-api/pkg/apis/runtime/v1/api.proto";
/// An option in it that Debian's protoc is too old for; it only hides passwords from logs.
const NEW_OPTION: &str = " [debug_redact = true]";
const IMAGE: &str = "docker.io/library/bench:1";
/// How the CRI is asked for devices, in the place of a runtime's name; the other is an annotation.
pub const FIELD: &str = "field";
/// The runtime handler that is cdi-runtime.
const HANDLER: &str = "cdi";
const SANDBOX_IMAGE: &str = "docker.io/library/pause:1";

/// How containers are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The container runtime interface of Kubernetes; the devices in its field or in an annotation.
    Cri,
    /// containerd's own command.
    Ctr,
}

/// A daemon and its socket.
pub struct Containerd {
    channel: Channel,
    asks: Asks,
    work: PathBuf,
    state: PathBuf,
    /// Containers so far.
    started: Cell<u32>,
}

impl Containerd {
    /// Starts the daemon and imports the images.
    pub fn prepare(channel: Channel, asks: Asks, work: &Path) -> anyhow::Result<Self> {
        let state = work.join("containerd");
        remove_tree(&state)?;
        make_dirs(&state)?;
        let (file, own) = (state.join("config.toml"), fixture::program(work, "cdi-runtime"));
        write(&file, &config(&state)?)?;
        let register = ["--runtime-name", HANDLER, "--runtime-path"].map(OsStr::new);
        let register = register.into_iter().chain([own.as_os_str()]).filter(|_| asks == Asks::Runtime);
        fixture::configure(work, "containerd", &file, &register.collect::<Vec<_>>())?;
        if asks == Asks::Runtime {
            fixture::configure_runtime(Path::new("runc"))?;
        }
        let archive = make_images(work, &state)?;
        let log = state.join("log");
        start(Command::new("containerd").arg("--config").arg(&file), &log)?;
        let containerd = Self { channel, asks, work: work.to_owned(), state, started: Cell::default() };
        wait_for(|| containerd.ctr().arg("version").output().is_ok_and(|output| output.status.success()))
            .with_context(|| format!("containerd does not answer: {}", one_line(&read(&log).unwrap_or_default())))?;
        for namespace in ["default", "k8s.io"] {
            let mut import = containerd.ctr();
            import.args(["--namespace", namespace, "images", "import", "--all-platforms"]).arg(&archive);
            build::output(&mut import)?;
        }
        if channel == Channel::Cri {
            containerd.make_client()?;
        }
        Ok(containerd)
    }

    fn socket(&self) -> PathBuf {
        self.state.join("s")
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", TIME_LIMIT, "ctr", "--address"]).arg(self.socket());
        command
    }

    fn client(&self) -> PathBuf {
        self.state.join("client")
    }

    /// The stubs of the CRI, made by the tools of the client's box.
    fn make_client(&self) -> anyhow::Result<()> {
        let client = self.client();
        make_dirs(&client)?;
        write(&client.join("cri.py"), include_str!("../../e2e/cri.py"))?;
        let api = client.join("api.proto");
        write(&api, &read(&Path::new(CLIENT_ROOT).join(CRI_API))?.replace(NEW_OPTION, ""))?;
        let mut protoc = Command::new("chroot");
        protoc.args([CLIENT_ROOT, "protoc", "--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin"]);
        for flag in ["--proto_path", "--python_out", "--grpc_python_out"] {
            protoc.arg(format!("{flag}={}", client.display()));
        }
        build::output(protoc.arg(api)).map(|_printed| ())
    }

    fn cgroup(&self) -> String {
        format!("/{}", self.work.file_name().unwrap_or_default().to_string_lossy())
    }

    /// A container that was refused leaves its snapshot behind for a while.
    fn next_name(&self) -> String {
        self.started.set(self.started.get() + 1);
        format!("cdi-e2e-{}", self.started.get())
    }

    fn run_by_cri(&self, field: &str, job: &Job<'_>) -> anyhow::Result<Output> {
        let name = self.next_name();
        let logs = self.client().join(&name);
        make_dirs(&logs)?;
        // The host's network, so that no CNI plugin is needed.
        let security = json!({"namespace_options": {"network": "NODE", "pid": "CONTAINER", "ipc": "POD"}});
        let pod = json!({
            "metadata": {"name": name, "uid": name, "namespace": "default"},
            "log_directory": logs,
            "linux": {"cgroup_parent": self.cgroup(), "security_context": security},
        });
        let unasked = fixture::unasked();
        let devices: Value = job.devices.iter().map(|device| json!({"name": device})).collect();
        let by_runtime = self.asks == Asks::Runtime;
        let env: Value = job
            .variable()
            .iter()
            .filter(|_| by_runtime)
            .map(|variable| {
                let (key, value) = variable.split_once('=').unwrap_or_default();
                json!({"key": key, "value": value})
            })
            .collect();
        let (field, annotations) = match job.devices {
            _ if by_runtime => (json!([]), json!({})),
            [] => (json!([]), json!({})),
            _ if field == FIELD => (devices, json!({})),
            names => (json!([]), json!({"cdi.k8s.io/e2e": names.join(",")})),
        };
        let container = json!({
            "metadata": {"name": name},
            "image": {"image": IMAGE},
            "command": job.command,
            "log_path": "log",
            "mounts": [{"container_path": unasked, "host_path": unasked}],
            "linux": {"resources": {}, "security_context": security},
            "envs": env,
            "CDI_devices": field,
            "annotations": annotations,
        });
        let handler = if by_runtime { HANDLER } else { "" };
        let request = json!({"socket": self.socket(), "handler": handler, "pod": pod, "container": container});
        let mut client = Command::new("chroot");
        client.args([CLIENT_ROOT, "timeout", "-s", "KILL", TIME_LIMIT, "python3"]).arg(self.client().join("cri.py"));
        client.arg(request.to_string()).output().context("cannot run the CRI client")
    }

    fn run_by_ctr(&self, job: &Job<'_>) -> anyhow::Result<Output> {
        let unasked = fixture::unasked();
        let mount = format!("type=bind,src={0},dst={0},options=bind:rw", unasked.display());
        let mut command = self.ctr();
        command.args(["run", "--rm", "--cgroup", &format!("{}/ctr", self.cgroup()), "--mount", &mount]);
        job.devices.iter().for_each(|device| _ = command.args(["--device", device]));
        command.args([IMAGE, &self.next_name()]).args(job.command).output().context("cannot run ctr")
    }
}

impl Engine for Containerd {
    fn version(&self) -> anyhow::Result<String> {
        version()
    }

    fn run(&self, runtime: &str, job: &Job<'_>) -> anyhow::Result<Output> {
        match self.channel {
            Channel::Cri => self.run_by_cri(runtime, job),
            Channel::Ctr => self.run_by_ctr(job),
        }
    }
}

/// `containerd github.com/containerd/containerd 1.7.24~ds1 …`.
fn version() -> anyhow::Result<String> {
    let printed = build::output(Command::new("containerd").arg("--version"))?;
    printed.split_whitespace().nth(2).map(str::to_owned).with_context(|| format!("no version in {printed}"))
}

/// Both generations of the configuration: plugins have other names since 2.0.
fn config(state: &Path) -> anyhow::Result<String> {
    let is_old = version()?.starts_with("1.");
    let (generation, cri) = if is_old { (2, "io.containerd.grpc.v1.cri") } else { (3, "io.containerd.cri.v1.runtime") };
    let sandbox = if is_old {
        format!("  sandbox_image = \"{SANDBOX_IMAGE}\"\n  disable_tcp_service = true\n")
    } else {
        String::new()
    };
    let pinned = if is_old {
        String::new()
    } else {
        format!(
            "[plugins.'io.containerd.cri.v1.images'.pinned_images]\n  sandbox = \"{SANDBOX_IMAGE}\"\n\
             [plugins.'io.containerd.grpc.v1.cri']\n  disable_tcp_service = true\n"
        )
    };
    let state = state.display();
    let dirs = fixture::SPEC_DIRS.map(|dir| format!("{dir:?}")).join(", ");
    Ok(format!(
        "version = {generation}\nroot = \"{state}/root\"\nstate = \"{state}/state\"\n\
         disabled_plugins = [\"io.containerd.internal.v1.opt\"]\n\
         [grpc]\n  address = \"{state}/s\"\n\
         [plugins.'{cri}']\n  cdi_spec_dirs = [{dirs}]\n  restrict_oom_score_adj = true\n{sandbox}{pinned}"
    ))
}

/// An archive of two images in the OCI layout: the containers', and that of a sandbox that sleeps.
fn make_images(work: &Path, state: &Path) -> anyhow::Result<PathBuf> {
    let layout = state.join("images");
    let blobs = layout.join("blobs/sha256");
    make_dirs(&blobs)?;
    let layer = fixture::rootfs_tar(work);
    let layer = Blob { digest: sha256(&layer)?, size: layer.metadata().context("no layer")?.len() };
    build::run(Command::new("cp").arg(fixture::rootfs_tar(work)).arg(blobs.join(&layer.digest)))?;
    let images = [(IMAGE, vec!["gpu-check"]), (SANDBOX_IMAGE, vec!["/bin/sleep", "2147483"])];
    let manifests = images.iter().map(|(name, command)| make_image(&blobs, &layer, name, command));
    let manifests = manifests.collect::<anyhow::Result<Vec<Value>>>()?;
    write(&layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    write(&layout.join("index.json"), &json!({"schemaVersion": 2, "manifests": manifests}).to_string())?;
    let archive = state.join("images.tar");
    build::run(Command::new("tar").arg("-C").arg(&layout).arg("-cf").arg(&archive).arg("."))?;
    Ok(archive)
}

struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    fn descriptor(&self, kind: &str) -> Value {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.size})
    }
}

/// Writes configuration and manifest, and gives the manifest's entry in the index.
fn make_image(blobs: &Path, layer: &Blob, name: &str, command: &[&str]) -> anyhow::Result<Value> {
    let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [path], "Cmd": command},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)]},
    });
    let config = put(blobs, &config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor("config.v1+json"),
        "layers": [layer.descriptor("layer.v1.tar")],
    });
    let mut entry = put(blobs, &manifest)?.descriptor("manifest.v1+json");
    if let Some(entry) = entry.as_object_mut() {
        entry.insert("platform".to_owned(), json!({"architecture": "amd64", "os": "linux"}));
        entry.insert("annotations".to_owned(), json!({"io.containerd.image.name": name}));
    }
    Ok(entry)
}

fn put(blobs: &Path, value: &Value) -> anyhow::Result<Blob> {
    let text = value.to_string();
    let unnamed = blobs.join("new");
    write(&unnamed, &text)?;
    let digest = sha256(&unnamed)?;
    build::run(Command::new("mv").arg(&unnamed).arg(blobs.join(&digest)))?;
    Ok(Blob { digest, size: u64::try_from(text.len()).unwrap_or_default() })
}

fn sha256(file: &Path) -> anyhow::Result<String> {
    let printed = build::output(Command::new("sha256sum").arg(file))?;
    printed.split_whitespace().next().map(str::to_owned).context("sha256sum printed nothing")
}
