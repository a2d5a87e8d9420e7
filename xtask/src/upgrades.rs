//! `cargo xtask upgrades`: real package managers install, upgrade and remove drivers, and our package's triggers alone
//! keep the spec true. I/O.
//!
//! Each course is a script in `xtask/packages` that runs in a root of its own: Debian's NVIDIA packages of two releases
//! with dpkg, and drivers that are made up with RPM and pacman; our units in a systemd that is booted. The kernel's side is
//! played by files over `/proc/driver`.
#![expect(clippy::disallowed_methods, reason = "makes roots and runs package managers")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::e2e::{fixture, place};
use crate::{build, dist};

/// A course: its name, the Debian release of its root, the packages that it needs there, how the root is entered, and the
/// course's words.
type Course = (&'static str, &'static str, &'static str, Enter, &'static [&'static str]);
const COURSES: [Course; 6] = [
    ("dpkg", "bookworm", "ca-certificates", Enter::Copy, &["/fx/dpkg.sh", "before"]),
    ("dpkg, after a boot", "bookworm", "ca-certificates", Enter::Copy, &["/fx/dpkg.sh", "after"]),
    ("rpm", "bookworm", "ca-certificates rpm", Enter::Copy, &["/fx/rpm.sh"]),
    ("pacman", "trixie", "libarchive-tools pacman-package-manager zstd", Enter::Copy, &["/fx/pacman.sh"]),
    ("the oldest glibc", "bullseye", "", Enter::Copy, &["/fx/oldest.sh"]),
    (
        "systemd",
        "trixie",
        "systemd systemd-sysv udev dbus libpam-systemd dbus-user-session",
        Enter::Boot,
        &["/fx/units.sh"],
    ),
];

/// How a root is entered.
#[derive(Clone, Copy)]
enum Enter {
    /// A copy, as it is.
    Copy,
    /// Booted, over what stays as it is.
    Boot,
}
/// What the machine needs.
const PROGRAMS: [(&str, &[&str]); 3] =
    [("cc", &["gcc", "libc6-dev"]), ("debootstrap", &["debootstrap"]), ("rpmbuild", &["rpm"])];
/// Libraries of the drivers that are made up, and the versions of those.
const LIBRARIES: [(&str, &str); 2] = [("libcuda.so", "libcuda.c"), ("libnvidia-ml.so", "libnvidia-ml.c")];
const VERSIONS: [&str; 2] = ["550.163.01", "580.159.04"];

/// Runs all courses whose names start so.
pub fn run(prefix: &str) -> anyhow::Result<()> {
    place::install_programs(&PROGRAMS)?;
    dist::run()?;
    let work =
        tempfile::Builder::new().prefix("cdi-upgrades-").tempdir().context("cannot make a temporary directory")?;
    let files = work.path().join("fx");
    gather(&files)?;
    for (name, release, packages, how, words) in COURSES.iter().filter(|(name, ..)| name.starts_with(prefix)) {
        println!("\n{name}");
        let root = debian(release, packages)?;
        let entered = match how {
            Enter::Boot => enter("boot.sh", &root, &files, words),
            Enter::Copy => {
                let copy = work.path().join(name.replace([' ', ','], "-"));
                build::run(Command::new("cp").arg("-a").arg(root).arg(&copy))?;
                enter("enter.sh", &copy, &files, words)
            }
        };
        entered.with_context(|| format!("the course `{name}`"))?;
    }
    Ok(())
}

/// All that the courses need, in one directory.
fn gather(files: &Path) -> anyhow::Result<()> {
    let libraries = files.join("libraries");
    fs::create_dir_all(&libraries).context("cannot make a directory")?;
    fs::create_dir_all(files.join("rpms")).context("cannot make a directory")?;
    for (name, source) in LIBRARIES {
        for version in VERSIONS {
            let soname = format!("-Wl,-soname,{name}.1");
            fixture::cc(
                source,
                &["-shared", "-fPIC", &soname, &format!("-DVERSION=\"{version}\"")],
                &libraries.join(format!("{name}.{version}")),
            )?;
        }
    }
    let scripts = build::root().join("xtask/packages");
    let packaging = build::root().join("cdi-gen/packaging/alpm");
    for dir in [&scripts, &build::root().join("xtask/systemd"), &packaging, &build::target().join("dist")] {
        for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let path = entry.context("cannot list a directory")?.path();
            let name = path.file_name().unwrap_or_default();
            let name = match path.extension().and_then(|extension| extension.to_str()) {
                Some(extension @ ("deb" | "rpm")) => PathBuf::from(format!("cdi-tools.{extension}")),
                _ => PathBuf::from(name),
            };
            if path.is_file() {
                fs::copy(&path, files.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
            }
        }
    }
    build::run(Command::new("cp").arg("-r").arg(fixture::data("proc")).arg(files))?;
    build::run(Command::new("bash").arg(scripts.join("driver-rpms.sh")).arg(&libraries).arg(files.join("rpms")))
}

/// A root with a Debian release and some packages; one that was not finished is made anew.
fn debian(release: &str, packages: &str) -> anyhow::Result<PathBuf> {
    let name = format!("{release} {packages}").trim().replace(' ', "-");
    let root = place::kept().join("roots").join(name);
    let stamp = root.with_extension("made");
    if stamp.exists() {
        return Ok(root);
    }
    println!("making a root of Debian {release}");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    let mirror = place::mirror()?;
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", "--components=main,contrib,non-free"]);
    let included = packages.replace(' ', ",");
    if !included.is_empty() {
        debootstrap.arg(format!("--include={included}"));
    }
    build::output(debootstrap.arg(release).arg(&root).arg(&mirror))?;
    let sources = |release: &str| format!("deb {mirror} {release} main contrib non-free non-free-firmware\n");
    let apt = root.join("etc/apt");
    let write = |path: PathBuf, text: String| {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write(apt.join("sources.list"), sources(release) + &sources("trixie"))?;
    write(
        apt.join("apt.conf.d/99course"),
        format!("APT::Default-Release \"{release}\";\nAcquire::Languages \"none\";\n"),
    )?;
    place::forbid_services(&root)?;
    if release == "bookworm" {
        let script = format!("mount -t proc proc {0}/proc && exec chroot {0} apt-get -q update", root.display());
        build::output(Command::new("unshare").args(["--mount", "sh", "-c", &script]))?;
    }
    write(stamp, String::new())?;
    Ok(root)
}

fn enter(script: &str, root: &Path, files: &Path, words: &[&str]) -> anyhow::Result<()> {
    let mut course = Command::new("unshare");
    course.args(["--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    course.arg("bash").arg(files.join(script)).arg(root).arg(files).arg("bash").args(words);
    let status = course.status().context("cannot run unshare")?;
    ensure!(status.success(), "failed: {status}");
    Ok(())
}
