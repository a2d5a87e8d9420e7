//! `cargo xtask e2e`: the spec that `cdi-gen generate` writes, used by real container engines. I/O.
//!
//! Everything happens in mount and process namespaces of its own. On a machine without a GPU a driver stands there at
//! its real paths: libraries that can be loaded, `/proc/driver/nvidia` of a live H100 host, device nodes without a
//! driver behind them. The container is Debian's libc and busybox, with no SONAME link and no ld.so.cache entry for the
//! driver: what `gpu-check` finds in it came through the spec. Runs on Debian and its kin, as root.
#![expect(clippy::disallowed_methods, reason = "lays out a host and runs container engines")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::build;

/// The engines that this test knows.
const ENGINES: [&str; 1] = ["podman"];
/// The OCI runtimes under each engine.
const RUNTIMES: [&str; 2] = ["runc", "crun"];
/// What the test needs: a program, and the packages that bring it.
const PROGRAMS: [(&str, &[&str]); 5] = [
    ("cc", &["gcc", "libc6-dev"]),
    ("conmon", &["conmon"]),
    ("crun", &["crun"]),
    ("podman", &["podman"]),
    ("runc", &["runc"]),
];
/// Where programs may be beside `PATH`.
const PROGRAM_DIRS: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/usr/libexec/podman";
/// The packages that the container is made of.
const ROOTFS_PACKAGES: [&str; 2] = ["busybox-static", "libc6"];

/// Namespaces of the test's own: what it mounts and what it starts ends with it, were it a hook that hangs.
const UNSHARE: [&str; 7] =
    ["--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
/// Leads the names of the temporary directory and of the cgroup.
const PREFIX: &str = "cdi-gen-e2e-";
/// The running driver's own word for its version.
const DRIVER_VERSION: &str = "/proc/driver/nvidia/version";
/// The driver's home on the host that is laid out.
const DRIVER_HOME: &str = "/usr/local/nvidia";
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
const FIXTURE_NODES: [(&str, u32, u32); 4] =
    [("nvidia-uvm", 238, 0), ("nvidia-uvm-tools", 238, 1), ("nvidia0", 195, 0), ("nvidiactl", 195, 255)];

/// Directories that specs are read from.
const SPEC_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Where the OCI runtimes keep their state, whatever podman says.
const RUNTIME_STATE: [&str; 2] = ["/run/crun", "/run/runc"];
/// The spec under test.
const SPEC: &str = "/etc/cdi/nvidia.yaml";
/// A device that no host has.
const NO_SUCH_DEVICE: &str = "nvidia.com/gpu=99";
/// Seconds that a container may take.
const TIME_LIMIT: &str = "60";
/// No CAP_SYS_RESOURCE is needed, nothing goes to the journal, the locks are no shared memory.
const CONTAINERS_CONF: &str = r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
"#;

/// Runs the test with the named engines, or with all; without root it says so and does nothing.
pub fn run(engines: &[String]) -> anyhow::Result<()> {
    let engines = selected(engines)?;
    if fs::metadata("/proc/self").context("cannot read /proc/self")?.uid() != 0 {
        println!("e2e skipped: real engines are run as root");
        return Ok(());
    }
    install_programs()?;
    let cdi_gen = match std::env::var_os("CDI_GEN") {
        Some(file) => fs::canonicalize(&file).with_context(|| format!("cannot find CDI_GEN {}", file.display()))?,
        None => build::release(&["cdi-gen"])?.join("cdi-gen"),
    };
    let xtask = std::env::current_exe().context("cannot find this program")?;
    let footprint = Footprint::new()?;
    let mut inside = Command::new("unshare");
    inside.args(UNSHARE).arg(xtask).args(["e2e", "--inside"]).args(engines);
    inside.env("CDI_GEN", cdi_gen).env("TMPDIR", footprint.work.path());
    let status = inside.status().context("cannot run unshare")?;
    ensure!(status.success(), "e2e failed in its own namespaces: {status}");
    Ok(())
}

/// The test itself, in the namespaces that [`run`] made: nothing is unmounted here.
pub fn run_inside(engines: &[String]) -> anyhow::Result<()> {
    let work = std::env::temp_dir();
    let name = work.file_name().and_then(OsStr::to_str).unwrap_or_default();
    ensure!(name.starts_with(PREFIX), "--inside is for `xtask e2e` to give, not for you");
    let host = Host::prepare(&work)?;
    let podman = Podman::prepare(&work, name)?;
    let rootfs = make_rootfs(&work)?;
    let mut rows = Vec::new();
    for engine in selected(engines)? {
        for runtime in RUNTIMES {
            for case in cases(&host) {
                rows.push(podman.row(engine, runtime, &case, &host, &rootfs)?);
            }
        }
    }
    println!("{}", table(&rows));
    report(&rows)
}

/// The engines that were asked for, as this file names them.
fn selected(engines: &[String]) -> anyhow::Result<Vec<&'static str>> {
    let find = |name: &String| {
        let known = ENGINES.into_iter().find(|known| known == name);
        known.with_context(|| format!("unknown engine {name}; known: {}", ENGINES.join(", ")))
    };
    if engines.is_empty() { Ok(ENGINES.to_vec()) } else { engines.iter().map(find).collect() }
}

// What the machine needs, and what of it must go again

/// What the test puts outside its mount namespace: a directory, mount points and a cgroup; all gone when dropped.
struct Footprint {
    work: TempDir,
    made: Vec<PathBuf>,
}

impl Footprint {
    fn new() -> anyhow::Result<Self> {
        let work = tempfile::Builder::new().prefix(PREFIX).tempdir().context("cannot make a temporary directory")?;
        let mut footprint = Self { work, made: Vec::new() };
        for dir in SPEC_DIRS.into_iter().chain(RUNTIME_STATE).chain([DRIVER_HOME]) {
            footprint.make(Path::new(dir))?;
        }
        Ok(footprint)
    }

    /// A directory and those above it, as far as they are missing.
    fn make(&mut self, dir: &Path) -> anyhow::Result<()> {
        let missing: Vec<_> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
        for dir in missing.into_iter().rev() {
            fs::create_dir(dir).with_context(|| format!("cannot make the mount point {}", dir.display()))?;
            self.made.push(dir.to_owned());
        }
        Ok(())
    }

    /// The cgroup below each hierarchy: `/sys/fs/cgroup/NAME`, and `/sys/fs/cgroup/CONTROLLER/NAME` in version 1.
    fn cgroups(&self) -> Vec<PathBuf> {
        let root = PathBuf::from("/sys/fs/cgroup");
        let name = self.work.path().file_name().unwrap_or_default();
        let hierarchies = [vec![root.clone()], subdirs(&root)].concat();
        hierarchies.into_iter().map(|dir| dir.join(name)).filter(|dir| dir.exists()).collect()
    }
}

impl Drop for Footprint {
    fn drop(&mut self) {
        if !remove_cgroups(&self.cgroups()) {
            eprintln!("cannot remove the cgroups {:?}", self.cgroups());
        }
        for dir in self.made.iter().rev() {
            if let Err(error) = fs::remove_dir(dir) {
                eprintln!("cannot remove the mount point {}: {error}", dir.display());
            }
        }
    }
}

/// Removes cgroups with what is below them; the last container's processes may need a moment to end.
fn remove_cgroups(dirs: &[PathBuf]) -> bool {
    const ROUNDS: usize = 20;
    const PAUSE: Duration = Duration::from_millis(100);
    (0..ROUNDS).any(|round| {
        if round > 0 {
            sleep(PAUSE);
        }
        dirs.iter().filter(|dir| !remove_cgroup(dir)).count() == 0
    })
}

fn remove_cgroup(dir: &Path) -> bool {
    let stuck = subdirs(dir).iter().filter(|dir| !remove_cgroup(dir)).count();
    stuck == 0 && (fs::remove_dir(dir).is_ok() || !dir.exists())
}

fn subdirs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Installs what is missing, by name.
fn install_programs() -> anyhow::Result<()> {
    let missing = PROGRAMS.iter().filter(|(program, _)| !is_installed(program));
    let packages: Vec<&str> = missing.flat_map(|(_, packages)| packages.iter().copied()).collect();
    if packages.is_empty() {
        return Ok(());
    }
    println!("installing {}", packages.join(" "));
    let install: Vec<&str> = ["install", "-y", "--no-install-recommends"].into_iter().chain(packages).collect();
    apt_get(&install, Path::new("/"))
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(std::env::split_paths(PROGRAM_DIRS));
    dirs.into_iter().any(|dir| dir.join(program).is_file())
}

/// Runs apt-get in a directory; a second time, after an update, if the package lists were too old or not there.
fn apt_get(arguments: &[&str], dir: &Path) -> anyhow::Result<()> {
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-o", "APT::Sandbox::User=root"]).args(arguments).current_dir(dir);
        build::output(command.env("DEBIAN_FRONTEND", "noninteractive")).map(|_printed| ())
    };
    apt_get(arguments).or_else(|_error| apt_get(&["update"]).and_then(|()| apt_get(arguments)))
}

// The host

/// The host that the spec is made for.
struct Host {
    /// The driver's version.
    version: String,
    /// The UUID of a GPU, if the kernel tells one.
    uuid: Option<String>,
    /// Has a driver of its own.
    real: bool,
}

impl Host {
    /// Hides specs and runtime state of this machine, lays out a driver if it has none, and generates the spec.
    fn prepare(work: &Path) -> anyhow::Result<Self> {
        let real = Path::new(DRIVER_VERSION).exists();
        for dir in SPEC_DIRS.into_iter().chain(RUNTIME_STATE) {
            mount_tmpfs(Path::new(dir))?;
        }
        if !real {
            lay_out_driver(work)?;
        }
        leave_hybrid_cgroups()?;
        let host = Self { version: driver_version(&read(Path::new(DRIVER_VERSION))?)?, uuid: uuid()?, real };
        println!("driver {}, {}", host.version, if real { "this machine's" } else { "laid out at its real paths" });
        generate_spec()?;
        Ok(host)
    }
}

/// What a user types; `CDI_GEN` is set by [`run`].
fn generate_spec() -> anyhow::Result<()> {
    let cdi_gen = std::env::var_os("CDI_GEN").context("CDI_GEN is not set")?;
    println!("$ cdi-gen generate --hooks none --output {SPEC}");
    build::run(Command::new(cdi_gen).args(["generate", "--hooks", "none", "--output", SPEC]))
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
    mount_tmpfs(Path::new(DRIVER_HOME))?;
    lay_out_files(Path::new(DRIVER_HOME))?;
    mount_tmpfs(Path::new("/proc/driver"))?;
    lay_out_proc(Path::new("/proc/driver/nvidia"))?;
    make_dev_private(work)?;
    for (name, major, minor) in FIXTURE_NODES {
        make_node(&Path::new("/dev").join(name), major, minor)?;
    }
    Ok(())
}

/// Libraries, nvidia-smi and firmware, as they lie on the host that was captured.
fn lay_out_files(home: &Path) -> anyhow::Result<()> {
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

fn lay_out_proc(nvidia: &Path) -> anyhow::Result<()> {
    let gpu = nvidia.join("gpus").join(FIXTURE_BUS);
    make_dirs(&gpu)?;
    for (name, dir) in [("version", nvidia), ("params", nvidia), ("information", &gpu)] {
        write(&dir.join(name), &read(&data(&format!("proc/{name}")))?)?;
    }
    Ok(())
}

/// A copy of `/dev` in its place, so that nodes made in it are nobody else's; what is mounted below it stays.
fn make_dev_private(work: &Path) -> anyhow::Result<()> {
    let copy = work.join("dev");
    make_dirs(&copy)?;
    mount_tmpfs(&copy)?;
    build::run(Command::new("cp").args(["-a", "-x", "/dev/."]).arg(&copy))?;
    for point in mount_points()? {
        let Some(below) = point.to_str().and_then(|point| point.strip_prefix("/dev/")) else { continue };
        mount(&[OsStr::new("--rbind"), point.as_os_str(), copy.join(below).as_os_str()])?;
    }
    mount(&[OsStr::new("--move"), copy.as_os_str(), OsStr::new("/dev")])
}

fn make_node(node: &Path, major: u32, minor: u32) -> anyhow::Result<()> {
    if node.exists() {
        return Ok(());
    }
    let numbers = [major.to_string(), minor.to_string()];
    build::run(Command::new("mknod").args(["-m", "0666"]).arg(node).arg("c").args(numbers))
}

/// crun refuses cgroups of both versions at once; without the second it sees plain version 1.
fn leave_hybrid_cgroups() -> anyhow::Result<()> {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.exists() && mount_points()?.contains(unified) {
        build::run(Command::new("umount").arg("-n").arg(unified))?;
    }
    Ok(())
}

fn mount_points() -> anyhow::Result<BTreeSet<PathBuf>> {
    let mounts = read(Path::new("/proc/self/mounts"))?;
    Ok(mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).collect())
}

fn mount_tmpfs(dir: &Path) -> anyhow::Result<()> {
    let words = ["-t", "tmpfs", "-o", "mode=755", "cdi-gen-e2e"].map(OsStr::new);
    mount(&[&words[..], &[dir.as_os_str()]].concat())
}

/// Leaves no trace in /run/mount.
fn mount(arguments: &[&OsStr]) -> anyhow::Result<()> {
    build::run(Command::new("mount").arg("-n").args(arguments))
}

// The container

/// Debian's libc and busybox with `gpu-check`; /usr is merged, as in Debian's own images.
fn make_rootfs(work: &Path) -> anyhow::Result<PathBuf> {
    let rootfs = work.join("rootfs");
    for dir in ["dev", "etc", "proc", "run", "sys", "tmp", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin"] {
        make_dirs(&rootfs.join(dir))?;
    }
    for dir in ["bin", "lib", "lib64", "sbin"] {
        link(&format!("usr/{dir}"), &rootfs.join(dir))?;
    }
    unpack_packages(work, &rootfs)?;
    for applet in ["cat", "ls", "sh", "sleep"] {
        link("busybox", &rootfs.join("bin").join(applet))?;
    }
    cc("gpu-check.c", &[], &rootfs.join("usr/bin/gpu-check"))?;
    build::run(Command::new("ldconfig").arg("-r").arg(&rootfs))?;
    Ok(rootfs)
}

fn unpack_packages(work: &Path, rootfs: &Path) -> anyhow::Result<()> {
    let packages = work.join("packages");
    make_dirs(&packages)?;
    apt_get(&[&["download"], &ROOTFS_PACKAGES[..]].concat(), &packages)?;
    for entry in fs::read_dir(&packages).with_context(|| format!("cannot list {}", packages.display()))? {
        let package = entry.with_context(|| format!("cannot list {}", packages.display()))?.path();
        build::run(Command::new("dpkg-deb").arg("-x").arg(package).arg(rootfs))?;
    }
    Ok(())
}

// The engine

/// A podman with state of its own.
struct Podman {
    /// Where that state is.
    state: PathBuf,
    /// The cgroup above all its containers.
    cgroup: String,
}

impl Podman {
    fn prepare(work: &Path, cgroup: &str) -> anyhow::Result<Self> {
        let state = work.join("podman");
        make_dirs(&state)?;
        write(&state.join("containers.conf"), CONTAINERS_CONF)?;
        Ok(Self { state, cgroup: format!("/{cgroup}") })
    }

    fn command(&self, runtime: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", TIME_LIMIT, "podman", "--runtime", runtime, "--storage-driver", "vfs"]);
        for (flag, dir) in
            [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp"), ("--network-config-dir", "networks")]
        {
            command.arg(flag).arg(self.state.join(dir));
        }
        command.env("CONTAINERS_CONF", self.state.join("containers.conf"));
        command
    }

    /// Runs one container in a fresh copy of the root file system.
    fn row(&self, engine: &str, runtime: &str, case: &Case, host: &Host, rootfs: &Path) -> anyhow::Result<Row> {
        let fresh = self.state.join("rootfs");
        build::run(Command::new("cp").arg("-a").arg(rootfs).arg(&fresh))?;
        let started = Instant::now();
        let output = self.start(runtime, case, host, &fresh)?;
        let milliseconds = started.elapsed().as_millis();
        let gone = if output.status.success() { Ok(()) } else { self.remove_containers(runtime) };
        fs::remove_dir_all(&fresh).with_context(|| format!("cannot remove {}", fresh.display()))?;
        Ok(Row {
            engine: engine.to_owned(),
            runtime: runtime.to_owned(),
            device: case.title(),
            result: case.judge(host, &output).and(gone),
            milliseconds,
        })
    }

    fn start(&self, runtime: &str, case: &Case, host: &Host, rootfs: &Path) -> anyhow::Result<Output> {
        let mut command = self.command(runtime);
        command.args(["run", "--rm", "--network=none", "--cgroup-parent", &self.cgroup]);
        if let Some(device) = &case.device {
            command.args(["--device", device]);
        }
        command.arg("--rootfs").arg(rootfs).args(case.command(host));
        command.output().context("cannot run podman")
    }

    /// A podman that was killed leaves its container running.
    fn remove_containers(&self, runtime: &str) -> Result<(), String> {
        let removed = build::output(self.command(runtime).args(["rm", "--all", "--force", "--time", "0"]));
        removed.map(|_printed| ()).map_err(|error| format!("{error:#}"))
    }
}

/// One container.
struct Case {
    /// The CDI device that it asks for.
    device: Option<String>,
    check: Check,
}

/// What is run in a container, and what must come of it.
#[derive(Clone, Copy)]
enum Check {
    /// `gpu-check` finds all that the spec should bring.
    Everything,
    /// `nvidia-smi -L` lists the GPU.
    NvidiaSmi,
    /// The engine refuses to start.
    Refused,
    /// `gpu-check` finds nothing of the driver.
    Nothing,
}

fn cases(host: &Host) -> Vec<Case> {
    let case = |device: &str, check| Case { device: Some(device.to_owned()), check };
    let uuid = host.uuid.iter().map(|uuid| case(&format!("nvidia.com/gpu={uuid}"), Check::Everything));
    let everything = ["nvidia.com/gpu=all", "nvidia.com/gpu=0"].map(|device| case(device, Check::Everything));
    let others = [
        case("nvidia.com/gpu=all", Check::NvidiaSmi),
        case(NO_SUCH_DEVICE, Check::Refused),
        Case { device: None, check: Check::Nothing },
    ];
    everything.into_iter().chain(uuid).chain(others).collect()
}

impl Case {
    fn title(&self) -> String {
        let device = self.device.as_deref().unwrap_or("none");
        let suffix = match self.check {
            Check::Everything | Check::Nothing => "",
            Check::NvidiaSmi => " (nvidia-smi)",
            Check::Refused => " (refused)",
        };
        format!("{device}{suffix}")
    }

    fn command(&self, host: &Host) -> Vec<String> {
        let words = match self.check {
            Check::NvidiaSmi => ["nvidia-smi", "-L"],
            Check::Everything | Check::Refused | Check::Nothing => ["gpu-check", &host.version],
        };
        words.map(str::to_owned).to_vec()
    }

    /// Says what is wrong with what a container printed.
    fn judge(&self, host: &Host, output: &Output) -> Result<(), String> {
        let printed = String::from_utf8_lossy(&output.stdout);
        let words = String::from_utf8_lossy(&output.stderr);
        if let Check::Refused = self.check {
            let refused = !output.status.success() && words.contains("unresolvable");
            return if refused { Ok(()) } else { Err(format!("not refused as unresolvable: {}", one_line(&words))) };
        }
        if output.status.signal().is_some() {
            return Err(format!("not done after {TIME_LIMIT} s"));
        }
        if !output.status.success() {
            return Err(format!("{}: {}", output.status, one_line(&format!("{printed} {words}"))));
        }
        match self.check {
            Check::NvidiaSmi if printed.starts_with("GPU 0: ") => Ok(()),
            Check::NvidiaSmi => Err(format!("printed {}", one_line(&printed))),
            Check::Nothing => compare(&nothing(), &printed),
            Check::Everything | Check::Refused => compare(&everything(host), &printed),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The lines of `gpu-check` in a container that has the device.
fn everything(host: &Host) -> BTreeMap<&'static str, String> {
    let files = ["libcuda.so", "libcuda.so.1", "libcuda.so.VERSION", "libnvidia-ml.so.1"];
    let files = files.into_iter().chain(["libnvidia-ptxjitcompiler.so.1", "nvidia-smi"]);
    let mut keys: BTreeMap<_, _> = files.map(|file| (file, "yes".to_owned())).collect();
    keys.extend([("nvml", host.version.clone()), ("visible", "void".to_owned())]);
    let of_host = if host.real { vec![("nvidiactl", "opened".to_owned())] } else { of_fixture() };
    keys.extend(of_host);
    keys
}

/// ENXIO is what the kernel says where no driver is; EPERM would be the container's device rules.
fn of_fixture() -> Vec<(&'static str, String)> {
    let nodes = FIXTURE_NODES.map(|(name, ..)| name).join(" ");
    let no_driver = "No such device or address".to_owned();
    vec![("cuda", "13000".to_owned()), ("firmware", "yes".to_owned()), ("nodes", nodes), ("nvidiactl", no_driver)]
}

/// The lines of `gpu-check` in a container that asked for no device.
fn nothing() -> BTreeMap<&'static str, String> {
    let missing = ["libcuda.so.1", "nvidia-smi", "nvidiactl"].map(|key| (key, "No such file or directory".to_owned()));
    missing.into_iter().chain([("nodes", String::new()), ("visible", "unset".to_owned())]).collect()
}

fn compare(expected: &BTreeMap<&str, String>, printed: &str) -> Result<(), String> {
    let found: BTreeMap<_, _> = printed.lines().filter_map(|line| line.split_once('=')).collect();
    let wrong = |(key, value): (&&str, &String)| {
        let found = found.get(*key).copied().unwrap_or("missing");
        (found != value).then(|| format!("{key}={found}, not {value}"))
    };
    let wrong: Vec<_> = expected.iter().filter_map(wrong).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

// The outcome

/// A line of the table.
struct Row {
    engine: String,
    runtime: String,
    device: String,
    result: Result<(), String>,
    milliseconds: u128,
}

impl Row {
    fn cells(&self) -> [String; 5] {
        let result = if self.result.is_ok() { "ok" } else { "failed" };
        let milliseconds = self.milliseconds.to_string();
        [self.engine.clone(), self.runtime.clone(), self.device.clone(), result.to_owned(), milliseconds]
    }

    /// What failed, and how.
    fn failure(&self) -> Option<String> {
        let wrong = self.result.as_ref().err()?;
        Some(format!("  {} {} {}: {wrong}", self.engine, self.runtime, self.device))
    }
}

fn table(rows: &[Row]) -> String {
    let head = ["engine", "runtime", "device", "result", "ms"].map(str::to_owned);
    let lines: Vec<_> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..5).map(|column| width(column).unwrap_or_default()).collect();
    let line = |cells: &[String; 5]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The failures, by name.
fn report(rows: &[Row]) -> anyhow::Result<()> {
    let failures: Vec<_> = rows.iter().filter_map(Row::failure).collect();
    ensure!(failures.is_empty(), "{} of {} containers failed\n{}", failures.len(), rows.len(), failures.join("\n"));
    Ok(())
}

// Files

/// A file of the test itself.
fn data(name: &str) -> PathBuf {
    build::root().join("xtask/e2e").join(name)
}

fn cc(source: &str, flags: &[&str], output: &Path) -> anyhow::Result<()> {
    build::run(Command::new("cc").args(flags).arg("-o").arg(output).arg(data(source)).arg("-ldl"))
}

fn link(target: &str, path: &Path) -> anyhow::Result<()> {
    symlink(target, path).with_context(|| format!("cannot link {}", path.display()))
}

fn make_dirs(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
