//! `cargo xtask demo`: from a driver to a container's configuration, on this host or on a sample host. I/O.
#![expect(clippy::disallowed_methods, reason = "lays out the sample host and runs the programs")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::{Value, json};
use testdata::HostTree;

use crate::build;

/// Where the host of the demo is.
struct Host {
    /// What to say about it.
    title: String,
    /// Flags that lead the programs there.
    cdi_gen: Vec<String>,
    cdi_apply: Vec<String>,
}

/// Generates a spec and injects it into a container's configuration.
pub fn run() -> anyhow::Result<()> {
    let programs = build::release(&["cdi-gen", "cdi-apply"])?;
    let work = tempfile::tempdir().context("cannot make a temporary directory")?;
    let host = if Path::new("/proc/driver/nvidia/version").exists() { live_host() } else { sample_host(work.path())? };
    println!("host: {}\n", host.title);
    let spec = work.path().join("nvidia.yaml");
    println!("$ cdi-gen generate --hooks none --output nvidia.yaml");
    let mut generate = Command::new(programs.join("cdi-gen"));
    build::run(generate.args(["generate", "--hooks", "none", "--output"]).arg(&spec).args(&host.cdi_gen))?;
    print_head(&spec)?;
    let config = work.path().join("config.json");
    fs::write(&config, sample_config().to_string()).context("cannot write config.json")?;
    println!("\n$ cdi-apply inject --device nvidia.com/gpu=all --spec nvidia.yaml config.json");
    let mut inject = Command::new(programs.join("cdi-apply"));
    inject.args(["inject", "--device", "nvidia.com/gpu=all", "--spec"]).arg(&spec).args(&host.cdi_apply).arg(&config);
    build::run(&mut inject)?;
    let injected = fs::read_to_string(&config).context("cannot read config.json")?;
    let injected: Value = serde_json::from_str(&injected).context("cdi-apply wrote no JSON")?;
    print_container(&injected);
    println!("\nOn a GPU host, as root:\n  cdi-gen generate --output /var/run/cdi/nvidia.yaml");
    println!("  podman run --rm --device nvidia.com/gpu=all IMAGE nvidia-smi -L");
    Ok(())
}

fn live_host() -> Host {
    Host { title: "this one, with its own driver".to_owned(), cdi_gen: Vec::new(), cdi_apply: Vec::new() }
}

/// The sample host, laid out as a real tree below the temporary directory.
fn sample_host(work: &Path) -> anyhow::Result<Host> {
    let text = testdata::sample();
    let tree = HostTree::parse(text).context("the sample host")?;
    let root = work.join("host");
    tree.lay_out(&root).with_context(|| format!("cannot lay out the sample host in {}", root.display()))?;
    let nodes = work.join("device-nodes");
    fs::write(&nodes, tree.device_list()).with_context(|| format!("cannot write {}", nodes.display()))?;
    let title = text.lines().next().unwrap_or_default().trim_start_matches("# ");
    let flag = |name: &str, path: &PathBuf| vec![name.to_owned(), path.display().to_string()];
    Ok(Host {
        title: format!("no NVIDIA driver here; an embedded sample: {title}"),
        cdi_gen: [flag("--root", &root), flag("--device-nodes", &nodes)].concat(),
        cdi_apply: flag("--device-nodes", &nodes),
    })
}

fn print_head(spec: &Path) -> anyhow::Result<()> {
    const SHOWN: usize = 22;
    let text = fs::read_to_string(spec).with_context(|| format!("cannot read {}", spec.display()))?;
    text.lines().take(SHOWN).for_each(|line| println!("  {line}"));
    println!("  … {} lines", text.lines().count());
    Ok(())
}

/// As little of an OCI runtime spec as a runtime takes.
fn sample_config() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["nvidia-smi", "-L"], "env": ["PATH=/usr/bin:/bin"], "cwd": "/"},
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]}
    })
}

fn print_container(config: &Value) {
    let list = |pointer: &str| config.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    println!("  the container gets");
    for node in list("/linux/devices") {
        println!("    node   {}", text(&node, "path"));
    }
    let mounts = list("/mounts");
    let shown = ["libcuda.so.1", "libnvidia-ml.so.1", "nvidia-smi"];
    for mount in mounts.iter().filter(|mount| shown.iter().any(|name| text(mount, "destination").ends_with(name))) {
        println!("    mount  {}  from {}", text(mount, "destination"), text(mount, "source"));
    }
    println!("    … {} mounts in all", mounts.len());
    for variable in list("/process/env") {
        println!("    env    {}", variable.as_str().unwrap_or_default());
    }
}
