//! Place: this machine, or a box with another Debian release, and what a run leaves in neither. I/O.
#![expect(clippy::disallowed_methods, reason = "makes boxes and enters them")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::engine::{Cgroups, Place, Plan, User};
use super::files::{bind, make_dirs, mount, mount_points, mount_tmpfs, read, remove_tree, subdirs, write};
use super::fixture::{DRIVER_HOME, RUNTIME_CONFIG, SPEC_DIRS};
use super::{apt_get, fixture};
use crate::build;

/// What the machine needs: a program, and the packages that bring it.
const PROGRAMS: [(&str, &[&str]); 6] = [
    ("cc", &["gcc", "libc6-dev"]),
    ("conmon", &["conmon"]),
    ("crun", &["crun"]),
    ("newuidmap", &["uidmap"]),
    ("podman", &["podman"]),
    ("runc", &["runc"]),
];
/// What boxes need of the machine.
const BOX_PROGRAMS: [(&str, &[&str]); 1] = [("debootstrap", &["debootstrap"])];
/// Where programs may be beside `PATH`.
const PROGRAM_DIRS: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/usr/libexec/podman";
/// The engines in a box.
const BOX_PACKAGES: &str = "ca-certificates conmon containerd crun docker-cli docker.io netavark podman runc uidmap";
/// A client of the container runtime interface, in the release that has all of it.
const CLIENT: (&str, &str) = ("sid", "golang-k8s-cri-api-dev protobuf-compiler protobuf-compiler-grpc python3-grpcio");
/// Where the OCI runtimes keep their state, whatever podman says.
const RUNTIME_STATE: [&str; 2] = ["/run/crun", "/run/runc"];
/// Where a user's runtime state is.
const USER_STATE: &str = "/run/user";
/// A user who exists in the run alone.
pub const USER: (&str, u32) = ("cdi-e2e", 61100);

/// Installs what the plans need, and makes their boxes.
pub fn install(plans: &[&Plan]) -> anyhow::Result<()> {
    install_programs(&PROGRAMS)?;
    let mut releases: Vec<&str> = plans.iter().filter_map(|plan| plan.place.release()).collect();
    releases.sort_unstable();
    releases.dedup();
    if !releases.is_empty() {
        install_programs(&BOX_PROGRAMS)?;
    }
    releases.into_iter().try_for_each(make_box)?;
    if plans.iter().any(|plan| plan.runtimes.contains(&"youki")) {
        install_youki()?;
    }
    Ok(())
}

/// Installs the packages of programs that are missing.
pub fn install_programs(programs: &[(&str, &[&str])]) -> anyhow::Result<()> {
    let missing = programs.iter().filter(|(program, _)| !is_installed(program));
    let packages: Vec<&str> = missing.flat_map(|(_, packages)| packages.iter().copied()).collect();
    if packages.is_empty() { Ok(()) } else { install_packages(&packages) }
}

/// Installs packages by name.
pub fn install_packages(packages: &[&str]) -> anyhow::Result<()> {
    println!("installing {}", packages.join(" "));
    let install: Vec<&str> = ["install", "-y", "--no-install-recommends"].iter().chain(packages).copied().collect();
    apt_get(&install, Path::new("/"))
}

/// Whether root runs this.
pub fn is_root() -> anyhow::Result<bool> {
    Ok(fs::metadata("/proc/self").context("cannot read /proc/self")?.uid() == 0)
}

/// Whether a program is there.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(std::env::split_paths(PROGRAM_DIRS));
    dirs.into_iter().any(|dir| dir.join(program).is_file())
}

/// What is kept between runs.
pub fn kept() -> PathBuf {
    build::target().join("e2e")
}

/// The program youki, built from its crate: no distribution of ours has it.
pub fn youki() -> PathBuf {
    kept().join("youki/bin/youki")
}

fn install_youki() -> anyhow::Result<()> {
    if youki().exists() {
        return Ok(());
    }
    println!("building youki");
    apt_get(&["install", "-y", "--no-install-recommends", "libseccomp-dev", "pkg-config"], Path::new("/"))?;
    let mut install = build::cargo();
    install.args(["install", "--quiet", "--locked", "youki", "--version", "0.7.0", "--no-default-features"]);
    build::run(install.args(["--features", "v1,v2,seccomp", "--root"]).arg(kept().join("youki")))
}

fn box_dir(release: &str) -> PathBuf {
    kept().join("boxes").join(release)
}

/// A folder with a Debian release and its engines; one that was not finished is made anew.
fn make_box(release: &str) -> anyhow::Result<()> {
    let dir = box_dir(release);
    let stamp = dir.with_extension("packages");
    let (client, client_packages) = CLIENT;
    let packages =
        if release == client { format!("{BOX_PACKAGES} {client_packages}") } else { BOX_PACKAGES.to_owned() };
    if read(&stamp).is_ok_and(|stamp| stamp == packages) {
        return Ok(());
    }
    println!("making a box of Debian {release}");
    remove_tree(&dir)?;
    make_dirs(&dir)?;
    build::output(Command::new("debootstrap").args(["--variant=minbase", release]).arg(&dir).arg(mirror()?))?;
    forbid_services(&dir)?;
    for words in ["update", &format!("install -y --no-install-recommends {packages}")] {
        // An unreleased suite's lists may be past their date.
        let apt = format!("DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Check-Valid-Until=false {words}");
        let script = format!("mount -t proc proc {0}/proc && exec chroot {0} sh -c '{apt}'", dir.display());
        build::output(Command::new("unshare").args(["--mount", "sh", "-c", &script]))?;
    }
    write(&stamp, &packages)
}

/// Packages that are installed in a root start no service in it.
pub fn forbid_services(root: &Path) -> anyhow::Result<()> {
    let policy = root.join("usr/sbin/policy-rc.d");
    write(&policy, "#!/bin/sh\nexit 101\n")?;
    fs::set_permissions(policy, fs::Permissions::from_mode(0o755)).context("cannot set permissions")
}

/// The mirror that the machine's apt is set up with, not that of the security updates.
pub fn mirror() -> anyhow::Result<String> {
    let printed = build::output(Command::new("apt-cache").arg("policy"))?;
    let url = printed.split_whitespace().find(|word| word.starts_with("http") && !word.contains("security"));
    url.map(str::to_owned).context("apt knows no mirror")
}

// What must go again

/// What a run puts outside its mount namespaces: a directory, mount points and a cgroup; all gone when dropped.
pub struct Footprint {
    work: TempDir,
    made: Vec<PathBuf>,
}

impl Footprint {
    /// Makes them.
    pub fn new(prefix: &str) -> anyhow::Result<Self> {
        let work = tempfile::Builder::new().prefix(prefix).tempdir().context("cannot make a temporary directory")?;
        // Users look into it too.
        fs::set_permissions(work.path(), fs::Permissions::from_mode(0o755)).context("cannot set permissions")?;
        let mut footprint = Self { work, made: Vec::new() };
        for dir in SPEC_DIRS.into_iter().chain(RUNTIME_STATE).chain([DRIVER_HOME, RUNTIME_CONFIG, USER_STATE]) {
            footprint.make(Path::new(dir))?;
        }
        Ok(footprint)
    }

    /// The directory that all engines share.
    pub fn work(&self) -> &Path {
        self.work.path()
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

// Inside

/// Goes to a plan's place: cgroups as it wants them, a user if it wants one, and the box if it is in one.
pub fn enter(plan: &Plan, work: &Path) -> anyhow::Result<()> {
    set_cgroups(plan.cgroups)?;
    if plan.runtimes.contains(&"youki") {
        let to = fixture::program(work, "youki");
        fs::copy(youki(), &to).with_context(|| format!("cannot copy {}", to.display()))?;
    }
    match plan.place.release() {
        Some(release) => enter_box(plan, &box_dir(release), work)?,
        None => {
            for dir in RUNTIME_STATE {
                make_dirs(Path::new(dir))?;
                mount_tmpfs(Path::new(dir), "755")?;
            }
        }
    }
    if plan.user == User::Plain {
        add_user(work)?;
        // Without root nobody may mount a /proc that shows more than each there is, and ours will have a driver over it.
        let whole = work.join("whole-proc");
        make_dirs(&whole)?;
        mount(&[Path::new("-t"), Path::new("proc"), Path::new("proc"), &whole])?;
    }
    Ok(())
}

fn set_cgroups(cgroups: Cgroups) -> anyhow::Result<()> {
    let unified = Path::new("/sys/fs/cgroup/unified");
    match cgroups {
        // crun refuses cgroups of both versions at once; without the second it sees plain version 1.
        Cgroups::OfMachine if unified.exists() && mount_points()?.contains(unified) => {
            build::run(Command::new("umount").arg("-n").arg(unified))
        }
        Cgroups::OfMachine => Ok(()),
        Cgroups::Unified => mount(&["-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"]),
    }
}

/// Makes a box the root directory; what is written to /run and /tmp in it is gone in the end.
fn enter_box(plan: &Plan, dir: &Path, work: &Path) -> anyhow::Result<()> {
    bind(dir, dir)?;
    furnish(dir, work)?;
    if let Place::Box { client: Some(client), .. } = plan.place {
        let at = dir.join("mnt");
        bind(&box_dir(client), &at)?;
        furnish(&at, work)?;
    }
    std::env::set_current_dir(dir).with_context(|| format!("cannot enter {}", dir.display()))?;
    make_dirs(Path::new(".old"))?;
    rustix::process::pivot_root(".", ".old").context("cannot pivot the root")?;
    build::run(Command::new("umount").args(["-n", "-l", "/.old"]))?;
    fs::remove_dir("/.old").context("cannot remove /.old")?;
    std::env::set_current_dir("/").context("cannot enter /")
}

fn furnish(root: &Path, work: &Path) -> anyhow::Result<()> {
    for dir in ["proc", "sys", "dev"] {
        mount(&[Path::new("--rbind"), &Path::new("/").join(dir), &root.join(dir)])?;
    }
    mount_tmpfs(&root.join("run"), "755")?;
    mount_tmpfs(&root.join("tmp"), "1777")?;
    let inside = root.join(work.strip_prefix("/").unwrap_or(work));
    make_dirs(&inside)?;
    bind(work, &inside)
}

/// Adds a user to this mount namespace's own account files.
fn add_user(work: &Path) -> anyhow::Result<()> {
    let (name, id) = USER;
    let lines = [
        ("passwd", format!("{name}:x:{id}:{id}::/home/{name}:/bin/sh")),
        ("group", format!("{name}:x:{id}:")),
        ("subuid", format!("{name}:6110000:65536")),
        ("subgid", format!("{name}:6110000:65536")),
    ];
    for (file, line) in lines {
        let real = Path::new("/etc").join(file);
        // Without users there may be no file of their subordinate ids yet.
        let known = read(&real).unwrap_or_default();
        ensure!(!known.contains(&format!("{name}:x:")), "there is a user {name}");
        let own = work.join(file);
        write(&own, &format!("{known}{line}\n"))?;
        fs::set_permissions(&own, fs::Permissions::from_mode(0o644)).context("cannot set permissions")?;
        bind(&own, &real)?;
    }
    for dir in ["/home", USER_STATE] {
        make_dirs(Path::new(dir))?;
        mount_tmpfs(Path::new(dir), "755")?;
    }
    for dir in [Path::new("/home").join(name), Path::new(USER_STATE).join(id.to_string())] {
        make_dirs(&dir)?;
        std::os::unix::fs::chown(&dir, Some(id), Some(id))
            .with_context(|| format!("cannot chown {}", dir.display()))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).context("cannot set permissions")?;
    }
    Ok(())
}
