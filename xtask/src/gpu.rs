//! `xtask gpu`: the proof on a GPU host. Generates the spec, runs CUDA and nvidia-smi in containers of a real podman, in
//! bundles that cdi-apply injected, and in those that cdi-runtime starts, and measures. I/O.
//!
//! The host may have neither cargo nor a network: the programs, podman and its runtimes are carried there.
#![expect(clippy::disallowed_methods, reason = "runs containers")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::bench::hook::{add_libraries, change, in_memory, restore};
use crate::build;
use crate::e2e::bundle::{add_variable, write_config};

/// The CUDA program that a container runs.
const VECTOR_ADDITION: &str = include_str!("../gpu/vector-addition.cu");
/// What it prints when it is right.
const RIGHT: &str = "vector addition right";
const IN_CONTAINER: [&str; 3] = [
    "/bin/sh",
    "-c",
    "vector-addition && nvidia-smi -L && ls /dev/nvidia* && grep ModifyDeviceFiles /proc/driver/nvidia/params",
];
/// Where podman looks for specs.
const SPEC: &str = "/var/run/cdi/nvidia.yaml";
const HOOKED_SPEC: &str = "/var/run/cdi/hooked.yaml";
/// Libraries of the host that the CUDA program and nvidia-smi need beside the driver's.
const HOST_LIBRARIES: [&str; 7] =
    ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1", "libstdc++.so.6"];
/// How many libraries an image has beside its own, where starts are measured.
const LIBRARIES: [usize; 2] = [0, 20_000];
/// Runs of each measured command.
const ROUNDS: &str = "60";
/// Runs of each start, which differ by more than what is looked for.
const START_ROUNDS: &str = "200";
/// What spawn-cost prints.
const COLUMNS: &str = "least, median, greatest in µs; peak KiB; more than the line before in the mean, ± µs";

/// What the host provides.
#[derive(Debug)]
pub struct Host {
    /// Directory with cdi-gen, cdi-apply, cdi-hook, cdi-runtime and spawn-cost.
    pub programs: PathBuf,
    /// A podman command.
    pub podman: PathBuf,
    /// OCI runtimes; podman's own if none is named.
    pub runtimes: Vec<PathBuf>,
    /// A root file system with busybox.
    pub rootfs: PathBuf,
    /// Where specs and capture go.
    pub output: PathBuf,
}

/// Runs the proof; the first thing that is wrong ends it.
pub fn run(host: &Host) -> anyhow::Result<()> {
    fs::create_dir_all(&host.output).context("cannot make the output directory")?;
    let cdi_gen = host.programs.join("cdi-gen");
    generate(host, &cdi_gen)?;
    let work = tempfile::tempdir().context("cannot make a temporary directory")?;
    let rootfs = rootfs(host, work.path())?;
    let runtimes = if host.runtimes.is_empty() { vec![PathBuf::from("crun")] } else { host.runtimes.clone() };
    for runtime in &runtimes {
        for device in ["nvidia.com/gpu=all", "nvidia.com/gpu=0", "nvidia.com/hooked=all", "nvidia.com/hooked=0"] {
            container(host, runtime, device, &rootfs, work.path())?;
            bundle(host, runtime, device, &rootfs, work.path())?;
        }
        let mut config = host.config(runtime, true)?;
        by_variable(host, runtime, "all", &rootfs, work.path())?;
        by_variable(host, runtime, "0", &rootfs, work.path())?;
        // As after a reboot.
        config += &format!("spec-dirs = [{:?}]\n", work.path().join("no-specs"));
        fs::write(host.runtime_config(), config).context("cannot write the configuration")?;
        by_variable(host, runtime, "0", &rootfs, work.path())?;
    }
    measure(host, &cdi_gen)?;
    let memory = in_memory()?;
    starts(host, &rootfs, work.path(), "on disk")?;
    starts(host, &rootfs, memory.path(), "in memory")
}

fn generate(host: &Host, cdi_gen: &Path) -> anyhow::Result<()> {
    // A hook that the runtime finds wherever it looks from.
    let hook = fs::canonicalize(host.programs.join("cdi-hook")).context("cannot find cdi-hook")?.display().to_string();
    let run = |arguments: &[&str], file: &Path| {
        println!("$ cdi-gen {} --output {}", arguments.join(" "), file.display());
        build::run(Command::new(cdi_gen).args(arguments).arg("--output").arg(file))
    };
    run(&["generate", "--hooks", "none"], Path::new(SPEC))?;
    fs::copy(SPEC, host.output.join("hook-free.yaml")).context("cannot copy the spec")?;
    run(&["generate", "--hooks", "always", "--hook-path", &hook, "--class", "hooked"], Path::new(HOOKED_SPEC))?;
    fs::copy(HOOKED_SPEC, host.output.join("hooks.yaml")).context("cannot copy the spec")?;
    run(&["capture"], &host.output.join("host.tree"))?;
    let asked = host.output.join("nvml.yaml");
    run(&["generate", "--hooks", "none", "--nvml", "always"], &asked)?;
    let same = fs::read(&asked).context("cannot read the spec")? == fs::read(SPEC).context("cannot read the spec")?;
    ensure!(same, "NVML and the kernel tell different GPUs: compare {} with {SPEC}", asked.display());
    println!("NVML tells the same as the kernel");
    nvml_answers(cdi_gen)
}

/// The driver's own library, in the sealed process: it answers, and as which user it does is told.
fn nvml_answers(cdi_gen: &Path) -> anyhow::Result<()> {
    let libraries = build::output(Command::new("ldconfig").arg("-p"))?;
    let known =
        libraries.lines().filter_map(|line| line.trim().strip_prefix("libnvidia-ml.so.1 ")?.split("=> ").nth(1));
    let mut places = known.map(PathBuf::from).chain(["/usr/local/nvidia/lib64/libnvidia-ml.so.1".into()]);
    let library = places.find(|path| path.is_file()).context("no libnvidia-ml.so.1")?;
    let report = build::output(Command::new(cdi_gen).arg("nvml-report").arg(&library).env_clear())?;
    let report: Value = serde_json::from_str(&report).context("the report is no JSON")?;
    let gpus = report.pointer("/Ok/gpus").and_then(Value::as_array).map_or(0, Vec::len);
    ensure!(gpus > 0, "the sealed process has no answer: {report}");
    let user = report.pointer("/Ok/user").and_then(Value::as_u64).unwrap_or_default();
    println!("NVML answers about {gpus} GPUs in the sealed process, as user {user}");
    Ok(())
}

/// busybox, the host's C and C++ libraries, and the CUDA program.
fn rootfs(host: &Host, work: &Path) -> anyhow::Result<PathBuf> {
    let source = work.join("vector-addition.cu");
    fs::write(&source, VECTOR_ADDITION).context("cannot write the CUDA program")?;
    let program = work.join("vector-addition");
    build::run(Command::new("nvcc").args(["-cudart", "static", "-o"]).arg(&program).arg(&source))?;
    let rootfs = work.join("rootfs");
    copy_tree(&host.rootfs, &rootfs)?;
    let libraries = rootfs.join("usr/lib/x86_64-linux-gnu");
    for dir in [&libraries, &rootfs.join("lib64"), &rootfs.join("tmp")] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    copy(Path::new("/lib64/ld-linux-x86-64.so.2"), &rootfs.join("lib64"))?;
    for name in HOST_LIBRARIES {
        copy(&Path::new("/lib/x86_64-linux-gnu").join(name), &libraries)?;
    }
    copy(&program, &rootfs.join("bin"))?;
    Ok(rootfs)
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    build::run(Command::new("cp").arg("-a").arg(from).arg(to))
}

/// The file behind a path, executable, into a directory.
fn copy(file: &Path, dir: &Path) -> anyhow::Result<()> {
    let to = dir.join(file.file_name().unwrap_or_default());
    fs::copy(file, &to).with_context(|| format!("cannot copy {} to {}", file.display(), to.display()))?;
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).context("cannot set permissions")
}

fn container(host: &Host, runtime: &Path, device: &str, rootfs: &Path, work: &Path) -> anyhow::Result<()> {
    let fresh = work.join("fresh");
    build::run(Command::new("rm").arg("-rf").arg(&fresh))?;
    copy_tree(rootfs, &fresh)?;
    println!("$ podman --runtime {} run --device {device}", runtime.display());
    let mut podman = Command::new("timeout");
    podman.args(["-s", "KILL", "60"]).arg(&host.podman).arg("--runtime").arg(runtime);
    podman.args(["run", "--rm", "--network=none", "--device", device, "--rootfs"]);
    podman.arg(&fresh).args(IN_CONTAINER);
    used_the_gpu(device, &build::output(&mut podman)?)
}

/// The same without an engine: what the runtime calls a spec, injected, and run.
fn bundle(host: &Host, runtime: &Path, device: &str, rootfs: &Path, work: &Path) -> anyhow::Result<()> {
    let bundle = work.join("bundle");
    build::run(Command::new("rm").arg("-rf").arg(&bundle))?;
    fs::create_dir(&bundle).context("cannot make the bundle")?;
    copy_tree(rootfs, &bundle.join("rootfs"))?;
    write_config(runtime, &bundle, &IN_CONTAINER.map(str::to_owned), "/cdi-gpu", None)?;
    println!("$ cdi-apply inject --device {device}; {} run", runtime.display());
    let mut inject = Command::new(host.programs.join("cdi-apply"));
    inject.args(["inject", "--device", device, "--bundle"]).arg(&bundle);
    build::run(&mut inject)?;
    let config = host.output.join("config.json");
    fs::copy(bundle.join("config.json"), config).context("cannot copy config.json")?;
    let mut run = Command::new("timeout");
    run.args(["-s", "KILL", "60"]).arg(runtime).arg("--root").arg(work.join("state"));
    run.args(["run", "--bundle"]).arg(&bundle).arg("cdi-gpu").current_dir(&bundle);
    used_the_gpu(device, &build::output(&mut run)?)
}

impl Host {
    fn runtime_config(&self) -> PathBuf {
        self.output.join("config.toml")
    }

    /// The configuration of cdi-runtime in front of a runtime; gives its text.
    fn config(&self, runtime: &Path, hide_gpus: bool) -> anyhow::Result<String> {
        let config = format!("runtimes = [{runtime:?}]\nhide-gpus = {hide_gpus}\n");
        fs::write(self.runtime_config(), &config).context("cannot write the configuration")?;
        Ok(config)
    }
}

/// The same by cdi-runtime, which the container asks by a variable. One that asks for the first GPU sees no other, and can
/// neither make nor use the node of one.
fn by_variable(host: &Host, runtime: &Path, gpus: &str, rootfs: &Path, work: &Path) -> anyhow::Result<()> {
    let bundle = work.join("bundle");
    build::run(Command::new("rm").arg("-rf").arg(&bundle))?;
    fs::create_dir(&bundle).context("cannot make the bundle")?;
    copy_tree(rootfs, &bundle.join("rootfs"))?;
    let alone = "test $(ls /proc/driver/nvidia/gpus | wc -l) = 1 && test $(nvidia-smi -L | wc -l) = 1 \
                 && ! (mknod /tmp/other c 195 1 && head -c 0 /tmp/other)";
    let [shell, flag, script] = IN_CONTAINER;
    let script = if gpus == "all" { script.to_owned() } else { format!("{script} && {alone}") };
    write_config(runtime, &bundle, &[shell, flag, &script].map(str::to_owned), "/cdi-gpu", None)?;
    add_variable(&bundle, &format!("NVIDIA_VISIBLE_DEVICES={gpus}"))?;
    add_variable(&bundle, "NVIDIA_REQUIRE_CUDA=cuda>=11.0 brand=unknown,driver>=99999")?;
    println!("$ NVIDIA_VISIBLE_DEVICES={gpus} cdi-runtime run (with {})", runtime.display());
    let mut run = Command::new("timeout");
    run.args(["-s", "KILL", "60"]).arg(host.programs.join("cdi-runtime")).arg("--root").arg(work.join("state"));
    run.args(["run", "--bundle"]).arg(&bundle).arg("cdi-gpu").current_dir(&bundle);
    run.env("CDI_RUNTIME_CONFIG", host.runtime_config());
    used_the_gpu(gpus, &build::output(&mut run)?)
}

/// With a hook the driver was told to make no nodes, too.
fn used_the_gpu(device: &str, printed: &str) -> anyhow::Result<()> {
    print!("{printed}");
    let frozen = printed.contains("ModifyDeviceFiles: 0");
    ensure!(frozen || !device.contains("hooked"), "the container may make device nodes");
    ensure!(printed.contains(RIGHT) && printed.contains("UUID: GPU-"), "the container did not use the GPU");
    Ok(())
}

fn measure(host: &Host, cdi_gen: &Path) -> anyhow::Result<()> {
    let cdi_gen = cdi_gen.display().to_string();
    let cdi_apply = host.programs.join("cdi-apply").display().to_string();
    let config = host.output.join("config.json").display().to_string();
    let cases: [(&str, Vec<&str>); 5] = [
        ("/bin/true", vec!["/bin/true"]),
        ("cdi-gen --version", vec![&cdi_gen, "--version"]),
        ("cdi-gen generate", vec![&cdi_gen, "generate", "--hooks", "none"]),
        ("cdi-gen generate --nvml always", vec![&cdi_gen, "generate", "--hooks", "none", "--nvml", "always"]),
        ("cdi-apply inject", vec![&cdi_apply, "inject", "--device", "nvidia.com/gpu=all", "--stdout", &config]),
    ];
    let words: Vec<&str> = cases.iter().map(|(_, words)| words.as_slice()).collect::<Vec<_>>().join(&"--");
    let printed = build::output(Command::new(host.programs.join("spawn-cost")).arg(ROUNDS).args(words))?;
    println!("{COLUMNS}");
    cases.iter().zip(printed.lines()).for_each(|((name, _), line)| println!("{name:34} {line}"));
    Ok(())
}

/// What a container's start costs: with no edits, with all of the driver's and no hook, with the hook; and by cdi-runtime.
fn starts(host: &Host, rootfs: &Path, work: &Path, place: &str) -> anyhow::Result<()> {
    let named = host.runtimes.iter().find(|runtime| runtime.ends_with("runc"));
    let runc = named.cloned().unwrap_or_else(|| "runc".into());
    host.config(&runc, false)?;
    let state = work.join("state").display().to_string();
    for libraries in LIBRARIES {
        let bundle = |kind: &str| -> anyhow::Result<PathBuf> {
            let dir = work.join(format!("start-{kind}-{libraries}"));
            fs::create_dir(&dir).context("cannot make a bundle")?;
            copy_tree(rootfs, &dir.join("rootfs"))?;
            fs::create_dir_all(dir.join("rootfs/etc")).context("cannot make a directory")?;
            add_libraries(&dir, libraries)?;
            write_config(&runc, &dir, &["/bin/busybox", "true"].map(str::to_owned), &format!("/cdi-{kind}"), None)?;
            if !matches!(kind, "plain" | "variable") {
                let mut inject = Command::new(host.programs.join("cdi-apply"));
                build::run(inject.args(["inject", "--device", "nvidia.com/hooked=all", "--bundle"]).arg(&dir))?;
            }
            Ok(dir)
        };
        let (plain, edits, hook, variable) = (bundle("plain")?, bundle("edits")?, bundle("hook")?, bundle("variable")?);
        change(&edits, |config| config.remove("hooks").map(drop))?;
        add_variable(&variable, "NVIDIA_VISIBLE_DEVICES=all")?;
        add_variable(&variable, "NVIDIA_DRIVER_CAPABILITIES=all")?;
        fs::copy(variable.join("config.json"), variable.join("before.json")).context("cannot copy config.json")?;
        let own = format!(
            "CDI_RUNTIME_CONFIG={} exec {} \"$@\"",
            host.runtime_config().display(),
            host.programs.join("cdi-runtime").display()
        );
        let rows = [
            ("no edits", &plain, vec![runc.display().to_string()]),
            ("all edits, no hook", &edits, vec![runc.display().to_string()]),
            ("all edits, the hook", &hook, vec![runc.display().to_string()]),
            ("by cdi-runtime", &variable, ["sh", "-c", &own, "sh"].map(str::to_owned).to_vec()),
        ];
        println!("{} run true, {libraries} libraries more, root {place}: {COLUMNS}", runc.display());
        // The last one by itself: what its 150 mounts leave to be taken down falls to the next start.
        let (by_runc, by_wrapper) = rows.split_at(rows.len() - 1);
        for rows in [by_runc, by_wrapper] {
            let mut measure = Command::new(host.programs.join("spawn-cost"));
            measure.arg(START_ROUNDS);
            for (index, (_, dir, program)) in rows.iter().enumerate() {
                let again = format!("{}; cp ../before.json ../config.json 2>/dev/null; true", restore(dir));
                measure.args((index > 0).then_some("--")).args(["--before", &again]).args(program);
                measure.args(["--root", &state, "run", "--bundle"]).arg(dir).arg("cdi-start");
            }
            let printed = build::output(&mut measure)?;
            rows.iter().zip(printed.lines()).for_each(|((name, ..), line)| println!("{name:34} {line}"));
        }
    }
    Ok(())
}
