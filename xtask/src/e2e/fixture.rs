//! Fixture: the driver that stands in for a real one, the container, and the specs. I/O.
//!
//! [`make`] builds everything in the work directory, outside; [`Host::prepare`] puts it in its places, inside.
#![expect(clippy::disallowed_methods, reason = "lays out a host")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::apt_get;
use super::files::{bind, copy_tree, link, make_dirs, mount, mount_points, mount_tmpfs, read, subdirs, write};
use crate::{build, dist};

/// The packages that the container is made of.
const ROOTFS_PACKAGES: [&str; 2] = ["busybox-static", "libc6"];
/// The running driver's own word for its version.
const DRIVER_VERSION: &str = "/proc/driver/nvidia/version";
/// The driver's home on the host that is laid out.
pub const DRIVER_HOME: &str = "/usr/local/nvidia";
/// The driver that is laid out, as its libraries and `proc/version` say.
const FIXTURE_VERSION: &str = "580.159.04";
/// Its GPU's directory below `/proc/driver/nvidia/gpus`, and what `proc/information` says.
const FIXTURE_BUS: &str = "0000:00:06.0";
/// Its libraries: name, and the C file that it is made from.
const FIXTURE_LIBRARIES: [(&str, &str); 3] = [
    ("libcuda.so", "libcuda.c"),
    ("libnvidia-ml.so", "libnvidia-ml.c"),
    ("libnvidia-ptxjitcompiler.so", "libnvidia-ptxjitcompiler.c"),
];
/// Its device nodes, by name: major and minor.
pub const FIXTURE_NODES: [(&str, u32, u32); 4] =
    [("nvidia-uvm", 238, 0), ("nvidia-uvm-tools", 238, 1), ("nvidia0", 195, 0), ("nvidiactl", 195, 255)];
/// A node that no container asks for.
pub const UNASKED: (&str, u32, u32) = ("e2e-unasked", 195, 77);

/// Directories that specs are read from.
pub const SPEC_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// The directory of cdi-runtime's configuration.
pub const RUNTIME_CONFIG: &str = "/etc/cdi-apply";
/// The spec under test.
pub const SPEC: &str = "/etc/cdi/nvidia.yaml";
/// The same devices with a hook, as a class of their own.
const HOOKED: &str = "hooked";
const HOOKED_SPEC: &str = "/etc/cdi/hooked.yaml";
/// The same for the engine itself, by `--target`.
const TARGETED_SPEC: &str = "/etc/cdi/targeted.yaml";
/// A device whose only edit is a createContainer hook that leaves the container's state here.
pub const PROBE: &str = "example.com/probe=hook";
const HOOK_STATE: &str = "hook/state";
/// A device that sets what an image may set for its own process: a library that every program loads which inherits it.
pub const EVIL: &str = "example.com/evil=preload";
const EVIL_LIBRARY: &str = "evil.so";
/// Where that library leaves a mark if it is loaded outside a container.
const EVIL_MARK: &str = "hook/evil";
/// Specs that are there all the time, and one of each CDI version.
const SPECS: &str = "specs";
const VERSIONS: &str = "versions";
/// All CDI versions that engines may read.
pub const CDI_VERSIONS: [&str; 8] = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// A program in the work directory.
pub fn program(work: &Path, name: &str) -> PathBuf {
    work.join("bin").join(name)
}

/// The root file system of the containers.
pub fn rootfs(work: &Path) -> PathBuf {
    work.join("rootfs")
}

/// The same as a tar archive.
pub fn rootfs_tar(work: &Path) -> PathBuf {
    work.join("rootfs.tar")
}

/// The node that no container asks for.
pub fn unasked() -> PathBuf {
    Path::new("/dev").join(UNASKED.0)
}

/// The device of [`CDI_VERSIONS`] that a spec of that version defines.
pub fn version_device(version: &str) -> String {
    format!("example.com/{}=x", version_class(version))
}

/// A class must not have a dot before CDI 0.6.0.
fn version_class(version: &str) -> String {
    format!("v{}", version.replace('.', "-"))
}

fn version_spec(work: &Path, version: &str) -> PathBuf {
    work.join(VERSIONS).join(format!("{}.yaml", version_class(version)))
}

// Outside

/// Programs as they are shipped, driver, container and specs, in the work directory.
pub fn make(work: &Path) -> anyhow::Result<()> {
    make_programs(work)?;
    make_driver(&work.join("driver"))?;
    make_proc(&work.join("proc"))?;
    make_specs(work)?;
    make_rootfs(work)?;
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(rootfs(work)).args(["--numeric-owner", "-cf"]).arg(rootfs_tar(work)).arg(".");
    build::run(&mut tar)
}

fn make_programs(work: &Path) -> anyhow::Result<()> {
    let (release, dist) = (build::release(&["cdi-gen"])?, dist::static_programs()?);
    make_dirs(&work.join("bin"))?;
    let own = std::env::current_exe().context("cannot find this program")?;
    let cdi_gen = std::env::var_os("CDI_GEN").map_or_else(|| release.join("cdi-gen"), PathBuf::from);
    for (file, name) in [
        (own, "xtask"),
        (cdi_gen, "cdi-gen"),
        (dist.join("cdi-apply"), "cdi-apply"),
        (dist.join("cdi-hook"), "cdi-hook"),
        (dist.join("cdi-runtime"), "cdi-runtime"),
    ] {
        let to = program(work, name);
        fs::copy(&file, &to).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(())
}

/// Libraries, nvidia-smi and firmware, as they lie on the host that was captured.
fn make_driver(home: &Path) -> anyhow::Result<()> {
    let firmware = home.join("firmware/nvidia").join(FIXTURE_VERSION);
    for dir in [&home.join("lib64"), &home.join("bin"), &firmware] {
        make_dirs(dir)?;
    }
    let version = format!("-DVERSION=\"{FIXTURE_VERSION}\"");
    for (name, source) in FIXTURE_LIBRARIES {
        let soname = format!("-Wl,-soname,{name}.1");
        let library = home.join("lib64").join(format!("{name}.{FIXTURE_VERSION}"));
        cc(source, &["-shared", "-fPIC", &soname, &version], &library)?;
    }
    write(&firmware.join("gsp_ga10x.bin"), "firmware")?;
    cc("nvidia-smi.c", &[], &home.join("bin/nvidia-smi"))
}

fn make_proc(nvidia: &Path) -> anyhow::Result<()> {
    let gpu = nvidia.join("gpus").join(FIXTURE_BUS);
    make_dirs(&gpu)?;
    for (name, dir) in [("version", nvidia), ("params", nvidia), ("information", &gpu)] {
        write(&dir.join(name), &read(&data(&format!("proc/{name}")))?)?;
    }
    Ok(())
}

/// The hook of the probe, and a spec of each CDI version.
fn make_specs(work: &Path) -> anyhow::Result<()> {
    let hook_dir = work.join(HOOK_STATE);
    let hook_dir = hook_dir.parent().unwrap_or(work);
    make_dirs(hook_dir)?;
    // Engines without root run it too.
    fs::set_permissions(hook_dir, fs::Permissions::from_mode(0o777)).context("cannot set permissions")?;
    let specs = work.join(SPECS);
    make_dirs(&specs)?;
    let script = format!("cat > {}", work.join(HOOK_STATE).display());
    let hook = format!(
        "{{hookName: createContainer, path: /bin/sh, args: [sh, -c, '{script}'], env: ['PATH=/usr/bin:/bin']}}"
    );
    let probe = format!(
        "cdiVersion: 0.3.0\nkind: example.com/probe\ndevices:\n- {{name: hook, containerEdits: {{hooks: [{hook}]}}}}\n"
    );
    write(&specs.join("probe.yaml"), &probe)?;
    let evil = format!(
        "cdiVersion: 0.3.0\nkind: example.com/evil\ndevices:\n\
         - {{name: preload, containerEdits: {{env: ['LD_PRELOAD=/proc/self/cwd/{EVIL_LIBRARY}']}}}}\n"
    );
    write(&specs.join("evil.yaml"), &evil)?;
    make_dirs(&work.join(VERSIONS))?;
    for version in CDI_VERSIONS {
        let class = version_class(version);
        let edits = "{env: [CDI_VERSION_READ=yes]}";
        let spec = format!(
            "cdiVersion: {version}\nkind: example.com/{class}\ndevices:\n- {{name: x, containerEdits: {edits}}}\n"
        );
        write(&version_spec(work, version), &spec)?;
    }
    Ok(())
}

/// Debian's libc and busybox with `gpu-check`; /usr is merged, as in Debian's own images.
fn make_rootfs(work: &Path) -> anyhow::Result<()> {
    let rootfs = rootfs(work);
    for dir in ["dev", "etc", "proc", "run", "sys", "tmp", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin"] {
        make_dirs(&rootfs.join(dir))?;
    }
    for dir in ["bin", "lib", "lib64", "sbin"] {
        link(&format!("usr/{dir}"), &rootfs.join(dir))?;
    }
    unpack_packages(work, &rootfs, &ROOTFS_PACKAGES)?;
    for applet in ["cat", "env", "ls", "sh", "sleep"] {
        link("busybox", &rootfs.join("bin").join(applet))?;
    }
    cc("gpu-check.c", &[], &rootfs.join("usr/bin/gpu-check"))?;
    make_evil(work, &rootfs.join(EVIL_LIBRARY))?;
    build::run(Command::new("ldconfig").arg("-r").arg(&rootfs))
}

/// The library that must never be loaded outside, and does leave a mark where it is.
fn make_evil(work: &Path, library: &Path) -> anyhow::Result<()> {
    let mark = work.join(EVIL_MARK);
    cc("evil.c", &["-shared", "-fPIC", &format!("-DMARK=\"{}\"", mark.display())], library)?;
    build::run(Command::new("/bin/true").env("LD_PRELOAD", library))?;
    fs::remove_file(mark).context("the library leaves no mark")
}

/// Packages of this machine's release, unpacked and not configured.
pub fn unpack_packages(work: &Path, rootfs: &Path, names: &[&str]) -> anyhow::Result<()> {
    let packages = work.join("packages");
    make_dirs(&packages)?;
    apt_get(&[&["download"], names].concat(), &packages)?;
    for entry in fs::read_dir(&packages).with_context(|| format!("cannot list {}", packages.display()))? {
        let package = entry.with_context(|| format!("cannot list {}", packages.display()))?.path();
        // dpkg-deb itself would put directories in the place of the links of a merged /usr.
        let unpack = "dpkg-deb --fsys-tarfile \"$0\" | tar -x --keep-directory-symlink -C \"$1\"";
        build::run(Command::new("sh").args(["-c", unpack]).arg(package).arg(rootfs))?;
    }
    Ok(())
}

/// A file of the test itself.
pub fn data(name: &str) -> PathBuf {
    build::root().join("xtask/e2e").join(name)
}

/// Compiles a file of the test.
pub fn cc(source: &str, flags: &[&str], output: &Path) -> anyhow::Result<()> {
    build::run(Command::new("cc").args(flags).arg("-o").arg(output).arg(data(source)).arg("-ldl"))
}

// Inside

/// The host that the spec is made for.
pub struct Host {
    /// The driver's version.
    pub version: String,
    /// The UUID of a GPU, if the kernel tells one.
    pub uuid: Option<String>,
    /// Has a driver of its own.
    pub real: bool,
    /// The CDI version of the spec.
    pub cdi_version: String,
    work: PathBuf,
}

impl Host {
    /// Hides this machine's specs, lays out a driver if it has none, and generates the spec.
    pub fn prepare(work: &Path) -> anyhow::Result<Self> {
        let real = Path::new(DRIVER_VERSION).exists();
        for dir in SPEC_DIRS.into_iter().chain([RUNTIME_CONFIG]) {
            make_dirs(Path::new(dir))?;
            mount_tmpfs(Path::new(dir), "755")?;
        }
        if !real {
            lay_out_driver(work)?;
        }
        make_dev_private(work)?;
        let nodes = if real { &[][..] } else { &FIXTURE_NODES[..] };
        nodes.iter().chain([&UNASKED]).try_for_each(|(name, major, minor)| make_node(name, *major, *minor))?;
        copy_tree(&work.join(SPECS).join("."), Path::new(SPEC_DIRS[0]))?;
        generate_specs(work)?;
        let version = driver_version(&read(Path::new(DRIVER_VERSION))?)?;
        let cdi_version = cdi_specs::parse_yaml(read(Path::new(SPEC))?).context("our own spec")?.cdi_version;
        Ok(Self { version, uuid: uuid()?, real, cdi_version, work: work.to_owned() })
    }

    /// Runs an engine where there is a spec of a CDI version too. Not for longer: podman build finds no device at all
    /// where there is a spec that it cannot read.
    pub fn with_spec_of_version<T>(&self, version: &str, run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let file = version_spec(&self.work, version);
        let place = Path::new(SPEC_DIRS[0]).join(file.file_name().unwrap_or_default());
        fs::copy(&file, &place).with_context(|| format!("cannot copy {}", file.display()))?;
        let done = run();
        fs::remove_file(&place).with_context(|| format!("cannot remove {}", place.display()))?;
        done
    }

    /// The spec that says what an engine reads and no more.
    pub fn generate_for(&self, target: &str) -> anyhow::Result<()> {
        let mut generate = Command::new(program(&self.work, "cdi-gen"));
        generate.args(["generate", "--quiet", "--hooks", "none", "--class", "targeted", "--target", target]);
        build::run(generate.args(["--output", TARGETED_SPEC]))
    }

    /// Runs an engine where the spec is missing, as after a reboot.
    pub fn without_spec<T>(&self, run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let text = read(Path::new(SPEC))?;
        fs::remove_file(SPEC).with_context(|| format!("cannot remove {SPEC}"))?;
        let done = run();
        write(Path::new(SPEC), &text)?;
        done
    }

    /// Whether the image's library was loaded outside the container.
    pub fn is_hijacked(&self) -> bool {
        self.work.join(EVIL_MARK).exists()
    }

    /// What the probe's hook was told about its container, once.
    pub fn take_hook_state(&self) -> anyhow::Result<String> {
        let file = self.work.join(HOOK_STATE);
        let state = read(&file)?;
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        Ok(state)
    }
}

/// Has `cdi-apply configure` turn CDI on, after it has seen that an undo leaves no trace.
pub fn configure(work: &Path, engine: &str, file: &Path, more: &[&OsStr]) -> anyhow::Result<()> {
    let run = |words: &[&OsStr]| {
        let mut configure = Command::new(program(work, "cdi-apply"));
        build::output(configure.args(["configure", engine, "--config"]).arg(file).args(words)).map(|_printed| ())
    };
    let before = read(file)?;
    run(more)?;
    if read(file)? == before {
        // CDI is on in it anyway.
        return Ok(());
    }
    run(&[OsStr::new("--undo")])?;
    ensure!(read(file)? == before, "cdi-apply configure {engine} --undo left another file");
    run(more)
}

/// Tells cdi-runtime which runtime to become.
pub fn configure_runtime(runtime: &Path) -> anyhow::Result<()> {
    let file = Path::new(RUNTIME_CONFIG).join("config.toml");
    write(&file, &format!("runtimes = [{runtime:?}]\nother-kinds = [\"example.com\", \"nvidia.com\"]\n"))
}

/// What a user types; and the same with a hook that does what the mounts cannot.
fn generate_specs(work: &Path) -> anyhow::Result<()> {
    let generate = |flags: &[&str], output: &str| {
        let mut generate = Command::new(program(work, "cdi-gen"));
        build::run(generate.args(["generate", "--quiet", "--output", output]).args(flags))
    };
    generate(&["--hooks", "none"], SPEC)?;
    let hook = program(work, "cdi-hook").display().to_string();
    generate(&["--hooks", "always", "--hook-path", &hook, "--class", HOOKED], HOOKED_SPEC)
}

/// `NVRM version: … for x86_64  580.159.04  Release Build …`: the first word that is digits and dots.
fn driver_version(text: &str) -> anyhow::Result<String> {
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    let first = text.lines().next().unwrap_or_default();
    let version = first.split_whitespace().find(is_version);
    version.map(str::to_owned).with_context(|| format!("{DRIVER_VERSION} names no version: {first}"))
}

/// The UUID of the first GPU; driver 590 prints question marks until somebody has used the GPU.
fn uuid() -> anyhow::Result<Option<String>> {
    let mut gpus = subdirs(Path::new("/proc/driver/nvidia/gpus"));
    gpus.sort();
    let Some(gpu) = gpus.first() else { return Ok(None) };
    let text = read(&gpu.join("information"))?;
    let uuid = text.lines().find_map(|line| line.strip_prefix("GPU UUID:")).map(str::trim);
    Ok(uuid.filter(|uuid| !uuid.contains('?')).map(str::to_owned))
}

fn lay_out_driver(work: &Path) -> anyhow::Result<()> {
    make_dirs(Path::new(DRIVER_HOME))?;
    bind(&work.join("driver"), Path::new(DRIVER_HOME))?;
    mount_tmpfs(Path::new("/proc/driver"), "755")?;
    copy_tree(&work.join("proc"), Path::new("/proc/driver/nvidia"))
}

/// A copy of `/dev` in its place, so that nodes made in it are nobody else's; what is mounted below it stays.
fn make_dev_private(work: &Path) -> anyhow::Result<()> {
    let copy = work.join("dev");
    make_dirs(&copy)?;
    mount_tmpfs(&copy, "755")?;
    build::run(Command::new("cp").args(["-a", "-x", "/dev/."]).arg(&copy))?;
    for point in mount_points()? {
        let Some(below) = point.to_str().and_then(|point| point.strip_prefix("/dev/")) else { continue };
        mount(&[Path::new("--rbind"), &point, &copy.join(below)])?;
    }
    mount(&[Path::new("--move"), &copy, Path::new("/dev")])
}

fn make_node(name: &str, major: u32, minor: u32) -> anyhow::Result<()> {
    let node = Path::new("/dev").join(name);
    if node.exists() {
        return Ok(());
    }
    let numbers = [major.to_string(), minor.to_string()];
    build::run(Command::new("mknod").args(["-m", "0666"]).arg(node).arg("c").args(numbers))
}
