//! The dynamic loaders of images: in each the hook makes a driver's library loadable, and real programs load it. Part of
//! `cargo xtask test`, as root on Debian and its kin. I/O.
#![expect(clippy::disallowed_methods, reason = "lays out roots and runs programs in them")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::e2e::{files, fixture, place};
use crate::{build, dist};

/// What the compilers below are in.
const PROGRAMS: [(&str, &[&str]); 2] = [("cc", &["gcc", "libc6-dev"]), ("musl-gcc", &["musl-tools"])];
/// What brings no program: the 32-bit half of gcc, and a file that it brings.
const GCC_32: (&str, &str) = ("gcc-multilib", "/usr/lib32/crt1.o");
const DRIVER_DIR: &str = "/usr/local/nvidia/lib64";
const LIBRARY: &str = "libcuda.so.580.159.04";
const SONAME: &str = "libcuda.so.1";

/// An image.
struct Layout {
    name: &'static str,
    /// The packages of its C library.
    packages: &'static [&'static str],
    /// What programs for it are compiled with.
    compiler: &'static [&'static str],
    /// What makes it differ from the packages as they are.
    change: fn(&Path) -> anyhow::Result<()>,
    /// Its cache.
    cache: HasCache,
}

/// Whether an image has glibc's cache.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HasCache {
    Yes,
    /// It could: the loader then finds its own libraries where it was built to look.
    NotYet,
    Never,
}

const LAYOUTS: [Layout; 5] = [
    Layout { name: "Debian", packages: &["libc6"], compiler: &["cc"], change: |_| Ok(()), cache: HasCache::Yes },
    Layout {
        name: "Debian, no cache yet",
        packages: &["libc6"],
        compiler: &["cc"],
        change: |_| Ok(()),
        cache: HasCache::NotYet,
    },
    Layout {
        name: "Debian, 32 bit",
        packages: &["libc6", "libc6-i386"],
        compiler: &["cc", "-m32"],
        change: |_| Ok(()),
        cache: HasCache::Yes,
    },
    Layout { name: "Fedora-like", packages: &["libc6"], compiler: &["cc"], change: as_fedora, cache: HasCache::Yes },
    Layout {
        name: "Alpine-like",
        packages: &["musl"],
        compiler: &["musl-gcc"],
        change: as_alpine,
        cache: HasCache::Never,
    },
];

/// Runs all.
pub fn run() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: roots are entered as root");
        return Ok(());
    }
    place::install_programs(&PROGRAMS)?;
    if !Path::new(GCC_32.1).exists() {
        place::install_packages(&[GCC_32.0])?;
    }
    let hook = dist::static_programs()?.join("cdi-hook");
    for layout in LAYOUTS {
        layout.check(&hook).with_context(|| layout.name)?;
        println!("{}: loaded", layout.name);
    }
    Ok(())
}

impl Layout {
    fn check(&self, hook: &Path) -> anyhow::Result<()> {
        let bundle = tempfile::tempdir().context("cannot make a temporary directory")?;
        let root = bundle.path().join("rootfs");
        files::write(&bundle.path().join("config.json"), r#"{"root": {"path": "rootfs"}}"#)
            .and_then(|()| self.lay_out(bundle.path(), &root))?;
        ensure!(!loads(&root)?, "the library is found without the hook");
        run_hook(hook, bundle.path())?;
        ensure!(loads(&root)?, "the library is not found");
        let once = snapshot(&root)?;
        run_hook(hook, bundle.path())?;
        ensure!(snapshot(&root)? == once, "a second start leaves something else");
        if self.cache == HasCache::Yes {
            let ours = cached(&root)?;
            build::run(Command::new("ldconfig").arg("-r").arg(&root))?;
            let ldconfigs = cached(&root)?;
            ensure!(ours == ldconfigs, "ldconfig would write another cache: {ours:?}, {ldconfigs:?}");
        }
        Ok(())
    }

    /// The C library, a program, and the driver's library.
    fn lay_out(&self, work: &Path, root: &Path) -> anyhow::Result<()> {
        for dir in ["etc", "usr/bin", "usr/lib", "usr/lib32", "usr/lib64", "usr/sbin"] {
            files::make_dirs(&root.join(dir))?;
        }
        for dir in ["bin", "lib", "lib32", "lib64", "sbin"] {
            files::link(&format!("usr/{dir}"), &root.join(dir))?;
        }
        files::write(&root.join("etc/debian_version"), "12\n")?;
        files::write(&root.join("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n")?;
        fixture::unpack_packages(work, root, self.packages)?;
        if self.cache == HasCache::Yes {
            build::run(Command::new("ldconfig").arg("-r").arg(root))?;
        }
        (self.change)(root)?;
        let driver = root.join(DRIVER_DIR.trim_start_matches('/'));
        files::make_dirs(&driver)?;
        let soname = format!("-Wl,-soname,{SONAME}");
        self.compile("libcuda.c", &["-shared", "-fPIC", "-Wl,--no-as-needed", &soname], &driver.join(LIBRARY))?;
        self.compile("loads.c", &[], &root.join("usr/bin/loads"))
    }

    fn compile(&self, source: &str, flags: &[&str], output: &Path) -> anyhow::Result<()> {
        let (compiler, own) = self.compiler.split_first().context("a compiler")?;
        let mut command = Command::new(compiler);
        build::run(command.args(own).args(flags).arg("-o").arg(output).arg(fixture::data(source)).arg("-ldl"))
    }
}

/// 64-bit libraries in `/usr/lib64`, which this loader finds through its cache alone; configuration that is included by
/// a relative path.
fn as_fedora(root: &Path) -> anyhow::Result<()> {
    let triplet = root.join("usr/lib/x86_64-linux-gnu");
    fs::remove_file(root.join("usr/lib64/ld-linux-x86-64.so.2")).context("there is no loader")?;
    build::run(Command::new("sh").args(["-c", "mv \"$0\"/* \"$1\""]).arg(&triplet).arg(root.join("usr/lib64")))?;
    fs::remove_dir(&triplet).context("something is left in Debian's directory")?;
    fs::remove_file(root.join("etc/debian_version")).context("cannot remove Debian's version")?;
    files::make_dirs(&root.join("etc/ld.so.conf.d"))?;
    files::write(&root.join("etc/ld.so.conf"), "include ld.so.conf.d/*.conf\n")?;
    files::write(&root.join("etc/ld.so.conf.d/lib64.conf"), "/usr/lib64\n")?;
    build::run(Command::new("ldconfig").arg("-r").arg(root))
}

/// musl searches what it was built with, and no cache.
fn as_alpine(root: &Path) -> anyhow::Result<()> {
    fs::remove_file(root.join("etc/debian_version")).context("cannot remove Debian's version")?;
    fs::remove_file(root.join("etc/ld.so.conf")).context("cannot remove glibc's configuration")?;
    files::write(&root.join("etc/alpine-release"), "3.20.0\n")
}

fn run_hook(hook: &Path, bundle: &Path) -> anyhow::Result<()> {
    let link = format!("{DRIVER_DIR}/{SONAME}");
    let mut command = Command::new(hook);
    command.args(["create-container", "--symlink", LIBRARY, &link, "--library-dir", DRIVER_DIR]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot run the hook")?;
    let state = format!(r#"{{"bundle": "{}"}}"#, bundle.display());
    child.stdin.take().context("no stdin")?.write_all(state.as_bytes()).context("the hook does not listen")?;
    let output = child.wait_with_output().context("cannot wait")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && words.is_empty(), "the hook: {}: {words}", output.status);
    Ok(())
}

/// Whether a program of the image finds the library.
fn loads(root: &Path) -> anyhow::Result<bool> {
    let mut program = Command::new("chroot");
    let output = program.arg(root).args(["/usr/bin/loads", SONAME]).output().context("cannot run chroot")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(printed.starts_with(SONAME), "the program does not run: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.status.success())
}

/// What `ldconfig -p` says, a line an entry.
fn cached(root: &Path) -> anyhow::Result<BTreeSet<String>> {
    let printed = build::output(Command::new("ldconfig").arg("-p").arg("-C").arg(root.join("etc/ld.so.cache")))?;
    Ok(printed.lines().skip(1).filter(|line| line.contains("=>")).map(str::to_owned).collect())
}

/// All files with what they hold.
fn snapshot(root: &Path) -> anyhow::Result<BTreeSet<(PathBuf, Vec<u8>)>> {
    let (mut found, mut pending) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let path = entry.context("cannot list")?.path();
            let held = match fs::symlink_metadata(&path).context("cannot stat")?.file_type() {
                kind if kind.is_dir() => {
                    pending.push(path.clone());
                    Vec::new()
                }
                kind if kind.is_symlink() => {
                    fs::read_link(&path).context("cannot read")?.into_os_string().into_encoded_bytes()
                }
                _ => fs::read(&path).context("cannot read")?,
            };
            found.insert((path, held));
        }
    }
    Ok(found)
}
