//! Packages: .deb, .rpm, .tar.zst, and what Arch, Alpine and Nix build from. I/O.
//!
//! Each is the same bytes for the same input: names sorted, no owner, no time after the commit's, one thread.
#![expect(clippy::disallowed_methods, reason = "writes packages")]

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::{glibc, tree};
use crate::build;
use crate::e2e::place;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const SUMMARY: &str = "NVIDIA GPUs in containers: CDI specs, injection, hook and OCI runtime";
/// What makes packages: a program, and Debian's package of it.
const TOOLS: [(&str, &[&str]); 3] = [("dpkg-deb", &["dpkg"]), ("rpmbuild", &["rpm"]), ("zstd", &["zstd"])];
/// Maintainer scripts of the .deb.
const SCRIPTS: [&str; 3] = ["postinst", "postrm", "prerm"];
/// Recipes, and what they are called beside the sources.
const RECIPES: [(&str, &str); 5] = [
    ("alpm/PKGBUILD", "PKGBUILD"),
    ("alpm/cdi-gen.install", "cdi-gen.install"),
    ("apk/APKBUILD", "APKBUILD"),
    ("apk/cdi-gen.trigger", "cdi-tools.trigger"),
    ("nix/package.nix", "package.nix"),
];
/// udev of releases whose /usr is not merged looks for rules in /lib alone (Ubuntu 18.04); elsewhere it is the same place.
const UDEV: (&str, &str) = ("usr/lib/udev", "lib/udev");

/// Makes all from a laid out root.
pub fn make(dist: &Path, root: &Path, epoch: &str) -> anyhow::Result<()> {
    place::install_programs(&TOOLS)?;
    let work = tempfile::tempdir().context("cannot make a temporary directory")?;
    tar(dist, root, epoch)?;
    deb(dist, root, &work.path().join("deb"), epoch)?;
    rpm(dist, root, &work.path().join("rpm"), epoch)?;
    recipes(dist, epoch)
}

/// Names of Debian's and RPM's for the machine's architecture.
fn architectures() -> (&'static str, &'static str) {
    match std::env::consts::ARCH {
        "aarch64" => ("arm64", "aarch64"),
        _ => ("amd64", "x86_64"),
    }
}

fn with_epoch<'c>(command: &'c mut Command, epoch: &str) -> &'c mut Command {
    command.env("SOURCE_DATE_EPOCH", epoch).env("LC_ALL", "C").env("TZ", "UTC")
}

fn packaging(name: &str) -> std::path::PathBuf {
    build::root().join("cdi-gen/packaging").join(name)
}

fn tar(dist: &Path, root: &Path, epoch: &str) -> anyhow::Result<()> {
    let file = dist.join(format!("cdi-tools-{VERSION}-{}.tar", architectures().1));
    let mut tar = Command::new("tar");
    tar.args(["--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX"]);
    tar.arg(format!("--mtime=@{epoch}")).arg("-C").arg(root).arg("-cf").arg(&file).arg("usr");
    build::run(with_epoch(&mut tar, epoch))?;
    compress(&file)
}

/// Puts a compressed file in the place of a file.
fn compress(file: &Path) -> anyhow::Result<()> {
    build::run(Command::new("zstd").args(["-q", "-19", "-T1", "--no-progress", "--rm", "-f"]).arg(file))
}

/// One file that needs libc and nothing else. With xz, which dpkg of each release reads.
fn deb(dist: &Path, root: &Path, work: &Path, epoch: &str) -> anyhow::Result<()> {
    copy_tree(root, work)?;
    let (from, to) = UDEV;
    fs::create_dir_all(work.join("lib")).context("cannot make a directory")?;
    fs::rename(work.join(from), work.join(to)).context("cannot move the rules of udev")?;
    fs::remove_dir(work.join("usr/lib/udev")).or_else(ignore_missing).context("cannot remove a directory")?;
    let control = work.join("DEBIAN");
    for script in SCRIPTS {
        tree::copy(&packaging("debian").join(script), &control.join(script), 0o755)?;
    }
    tree::copy(&packaging("debian/triggers"), &control.join("triggers"), 0o644)?;
    let (architecture, _) = architectures();
    let (major, minor) = glibc::newest_symbol(&work.join("usr/bin/cdi-gen"))?;
    let size = build::output(Command::new("du").args(["--apparent-size", "-sk"]).arg(root))?;
    let size = size.split_whitespace().next().unwrap_or("0").to_owned();
    let text = format!(
        "Package: cdi-tools\nVersion: {VERSION}-1\nArchitecture: {architecture}\nMaintainer: cdi-tools\n\
         Depends: libc6 (>= {major}.{minor})\nInstalled-Size: {size}\nSection: admin\nPriority: optional\n\
         Description: {SUMMARY}\n Writes the CDI spec of this host's NVIDIA driver and keeps it true, injects devices into\n \
         OCI containers, and configures podman, docker and containerd.\n"
    );
    fs::write(control.join("control"), text).context("cannot write control")?;
    let sums = "find usr lib -type f | LC_ALL=C sort | xargs md5sum > DEBIAN/md5sums";
    build::run(Command::new("sh").args(["-c", sums]).current_dir(work))?;
    clamp(work, epoch)?;
    let mut dpkg_deb = Command::new("dpkg-deb");
    dpkg_deb.args(["--root-owner-group", "-Zxz", "--build"]).arg(work);
    dpkg_deb.arg(dist.join(format!("cdi-tools_{VERSION}-1_{architecture}.deb")));
    build::output(with_epoch(&mut dpkg_deb, epoch)).map(|_printed| ())
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// By rpmbuild, with a payload that EL 7 and later read.
fn rpm(dist: &Path, root: &Path, work: &Path, epoch: &str) -> anyhow::Result<()> {
    let tree = work.join("tree");
    fs::create_dir_all(work).context("cannot make a directory")?;
    copy_tree(root, &tree)?;
    clamp(&tree, epoch)?;
    let spec = work.join("cdi-tools.spec");
    let text = fs::read_to_string(packaging("rpm/cdi-tools.spec")).context("cannot read the spec file")?;
    let text =
        text.replace("@VERSION@", VERSION).replace("@SUMMARY@", SUMMARY).replace("@TREE@", &tree.display().to_string());
    let triggers = fs::read_to_string(packaging("rpm/filetriggers.spec")).context("cannot read the file triggers")?;
    fs::write(&spec, text + "\n" + &triggers).context("cannot write the spec file")?;
    let (_, architecture) = architectures();
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild
        .args(["-bb", "--quiet", "--target", &format!("{architecture}-linux")])
        .arg("--buildroot")
        .arg(work.join("root"));
    let path = |dir: &Path| dir.display().to_string();
    let defines = [
        ("_topdir", path(work)),
        ("_rpmdir", path(dist)),
        ("_rpmfilename", "%{name}-%{version}-%{release}.%{arch}.rpm".to_owned()),
        ("_dbpath", path(&work.join("db"))),
        ("_buildhost", "reproducible".to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
        ("source_date_epoch_from_changelog", "0".to_owned()),
        ("_binary_payload", "w6.xzdio".to_owned()),
        ("_binary_filedigest_algorithm", "8".to_owned()),
        ("debug_package", "%{nil}".to_owned()),
        ("__os_install_post", "%{nil}".to_owned()),
        ("_build_id_links", "none".to_owned()),
    ];
    for (name, value) in defines {
        rpmbuild.arg("--define").arg(format!("{name} {value}"));
    }
    build::output(with_epoch(rpmbuild.arg(&spec), epoch)).map(|_printed| ())
}

/// The sources, and recipes that build them.
fn recipes(dist: &Path, epoch: &str) -> anyhow::Result<()> {
    let name = format!("cdi-tools-{VERSION}");
    let sources = dist.join(format!("{name}.tar"));
    let mut archive = Command::new("git");
    archive.current_dir(build::root()).args(["archive", "--format=tar", &format!("--prefix={name}/"), "--output"]);
    build::run(with_epoch(archive.arg(&sources).arg("HEAD"), epoch))?;
    compress(&sources)?;
    let sources = sources.with_extension("tar.zst");
    let sum = |program: &str| -> anyhow::Result<String> {
        let printed = build::output(Command::new(program).arg(&sources))?;
        printed.split_whitespace().next().map(str::to_owned).with_context(|| format!("{program} printed nothing"))
    };
    // Nix wants to see it before it unpacks.
    fs::copy(build::root().join("Cargo.lock"), dist.join("Cargo.lock")).context("cannot copy Cargo.lock")?;
    let (sha256, sha512) = (sum("sha256sum")?, sum("sha512sum")?);
    for (from, to) in RECIPES {
        let text = fs::read_to_string(packaging(from)).with_context(|| format!("cannot read {from}"))?;
        let text = text.replace("@VERSION@", VERSION).replace("@SUMMARY@", SUMMARY);
        let text = text.replace("@SHA256@", &sha256).replace("@SHA512@", &sha512);
        ensure!(!text.contains("@SHA"), "{from} has a place that nothing fills");
        fs::write(dist.join(to), text).with_context(|| format!("cannot write {to}"))?;
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    build::run(Command::new("cp").arg("-a").arg(from).arg(to))?;
    // A temporary directory is nobody else's.
    build::run(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(to))
}

/// Nothing is younger than the commit.
fn clamp(dir: &Path, epoch: &str) -> anyhow::Result<()> {
    build::run(Command::new("find").arg(dir).args(["-exec", "touch", "-h", "-d", &format!("@{epoch}"), "{}", "+"]))
}
