//! What must hold of the programs as they are shipped: attacks on the hook that a test build, which is linked to libc,
//! cannot stand for. Part of `cargo xtask test`. I/O.
#![expect(clippy::disallowed_methods, reason = "runs the programs")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, ensure};
use cdi_apply::hook::paths;
use tempfile::TempDir;
use testdata::attacks::{ALL, ATTACKS, canary};
use testdata::container::Openat2;

use crate::{build, dist};

/// The most that the hook may weigh, in bytes.
const MOST_BYTES: u64 = 1_200_000;
/// A user who owns nothing.
const NOBODY: u32 = 65534;
/// Programs that a hook might be made to run.
const PROGRAMS: [&str; 4] = ["ldconfig", "ldconfig.real", "sh", "mount"];

/// A check by its name.
type Check = (&'static str, fn(&Hook) -> anyhow::Result<()>);
const CHECKS: [Check; 6] = [
    ("hook_static_no_interp", Hook::static_no_interp),
    ("hook_ldpreload_cwd", Hook::ldpreload_cwd),
    ("hook_path_hijack", Hook::path_hijack),
    ("proc_self_exe_overwrite", Hook::proc_self_exe_overwrite),
    ("attacks_in_mounts", Hook::attacks_in_mounts),
    ("canaries_in_mounts", Hook::canaries_in_mounts),
];

/// Runs all.
pub fn run() -> anyhow::Result<()> {
    let hook = Hook { program: dist::static_programs()?.join("cdi-hook") };
    for (name, check) in CHECKS {
        check(&hook).with_context(|| name)?;
        println!("{name} ok");
    }
    Ok(())
}

/// The hook as it is shipped.
struct Hook {
    program: PathBuf,
}

/// A container's root that is also the working directory, as it is for hooks; what is run in it leaves a mark.
struct Image(TempDir);

impl Image {
    fn new() -> anyhow::Result<Self> {
        let image = Self(TempDir::new().context("cannot make a temporary directory")?);
        for dir in ["rootfs/etc/ld.so.conf.d", "rootfs/usr/lib", "rootfs/usr/local/cuda/compat"] {
            fs::create_dir_all(image.path(dir)).context("cannot make the image")?;
        }
        fs::write(image.path("config.json"), r#"{"root": {"path": "rootfs"}}"#).context("cannot write config.json")?;
        // The library leaves its mark as soon as it is loaded.
        let mark = format!("-DMARK=\"{}\"", image.mark().display());
        let library = image.path("rootfs/evil.so");
        let source = build::root().join("xtask/e2e/evil.c");
        build::run(Command::new("cc").args(["-shared", "-fPIC", &mark, "-o"]).arg(&library).arg(source))?;
        build::run(Command::new("/bin/true").env("LD_PRELOAD", &library))?;
        fs::remove_file(image.mark()).context("the library leaves no mark")?;
        for program in PROGRAMS {
            let path = image.path("rootfs").join(program);
            fs::write(&path, format!("#!/bin/sh\n: > {}\n", image.mark().display())).context("cannot write")?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("cannot set permissions")?;
        }
        Ok(image)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn mark(&self) -> PathBuf {
        self.path("mark")
    }

    fn state(&self) -> String {
        format!(r#"{{"bundle": "{}"}}"#, self.0.path().display())
    }
}

impl Hook {
    /// The hook in an image, with all that it can do asked of it.
    fn command(&self, image: &Image) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["create-container", "--symlink", "a.so.1", "/usr/lib/a.so", "--cuda-compat", "580.1"]);
        command.args(["--freeze-device-nodes", "--application-profile", "--hide-gpus", "--library-dir", "/usr/lib"]);
        command.current_dir(image.path("rootfs")).stdin(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, image: &Image, variables: &[(&str, &str)]) -> anyhow::Result<Output> {
        let mut child =
            self.command(image).env_clear().envs(variables.iter().copied()).spawn().context("cannot run")?;
        tell(&mut child, &image.state())?;
        child.wait_with_output().context("cannot wait")
    }

    /// No loader is asked for, so none can be told what to load.
    fn static_no_interp(&self) -> anyhow::Result<()> {
        let headers =
            build::output(Command::new("readelf").args(["--program-headers", "--dynamic"]).arg(&self.program))?;
        ensure!(!headers.contains("INTERP") && !headers.contains("NEEDED"), "{headers}");
        let size = fs::metadata(&self.program).context("cannot stat the hook")?.len();
        ensure!(size <= MOST_BYTES, "the hook has {size} bytes");
        Ok(())
    }

    /// CVE-2025-23266: the variables of an image, with the working directory in its root.
    fn ldpreload_cwd(&self) -> anyhow::Result<()> {
        let image = Image::new()?;
        let variables = [
            ("LD_PRELOAD", "/proc/self/cwd/evil.so"),
            ("LD_AUDIT", "/proc/self/cwd/evil.so"),
            ("LD_LIBRARY_PATH", "."),
            ("GLIBC_TUNABLES", "glibc.malloc.check=3"),
            ("GCONV_PATH", "."),
            ("BASH_ENV", "./sh"),
            ("PATH", "."),
        ];
        self.did_its_work(&image, &self.run(&image, &variables)?)
    }

    /// A name without a directory is looked for in the image, if it is looked for at all.
    fn path_hijack(&self) -> anyhow::Result<()> {
        let image = Image::new()?;
        let rootfs = image.path("rootfs").display().to_string();
        self.did_its_work(&image, &self.run(&image, &[("PATH", &format!(".:{rootfs}"))])?)
    }

    fn did_its_work(&self, image: &Image, output: &Output) -> anyhow::Result<()> {
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {words}", output.status);
        ensure!(image.path("rootfs/etc/ld.so.cache").exists(), "the hook wrote no cache: {words}");
        ensure!(!image.mark().exists(), "{} ran what the image brought", self.program.display());
        Ok(())
    }

    /// CVE-2024-0135: while the hook runs, a process of the same user reaches for its program through /proc.
    fn proc_self_exe_overwrite(&self) -> anyhow::Result<()> {
        let image = Image::new()?;
        let copy = Self { program: image.path("cdi-hook") };
        fs::copy(&self.program, &copy.program).context("cannot copy the hook")?;
        fs::set_permissions(image.path(""), fs::Permissions::from_mode(0o755)).context("cannot set permissions")?;
        ensure!(!reached(copy.command(&image))?, "the hook's program can be reached through /proc");
        // One that did not shut itself off can be.
        let mut open = Command::new("cat");
        open.stdin(Stdio::piped()).stdout(Stdio::null());
        ensure!(reached(open)?, "nothing can be reached through /proc");
        Ok(())
    }

    /// Each attack of the list, in roots with volumes, procfs and directories of the host below them.
    fn attacks_in_mounts(&self) -> anyhow::Result<()> {
        if !may_mount() {
            return Ok(());
        }
        let wrong = ATTACKS.iter().flat_map(|attack| {
            let ways = [Openat2::Known, Openat2::Missing];
            ways.into_iter().filter_map(|openat2| attack.run(&self.program, openat2).err())
        });
        none_of(&wrong.collect::<Vec<_>>())
    }

    /// A canary at, above and below each path that the hook says it touches.
    fn canaries_in_mounts(&self) -> anyhow::Result<()> {
        if !may_mount() {
            return Ok(());
        }
        let args: Vec<String> = ["cdi-hook"].into_iter().chain(ALL).map(str::to_owned).collect();
        let touched = paths::touched(&cdi_specs::from_args(&args)?.operations);
        let touched: Vec<PathBuf> = touched.into_iter().map(|(path, _)| path).collect();
        none_of(&canary::run_all(&self.program, &touched).context("cannot lay out canaries")?)
    }
}

fn none_of(wrong: &[String]) -> anyhow::Result<()> {
    ensure!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// The tests of the workspace do it in namespaces of a user; here only root does.
fn may_mount() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("  not run: only root mounts");
    }
    is_root
}

/// Whether another process of a user can open a program of that user's while it waits for its stdin.
fn reached(mut command: Command) -> anyhow::Result<bool> {
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
    }
    let mut child = command.spawn().context("cannot run the program")?;
    let reached = wait_until_it_reads(&child).and_then(|()| reach(&format!("/proc/{}/exe", child.id())));
    tell(&mut child, "{}")?;
    child.wait().context("cannot wait")?;
    reached
}

fn tell(child: &mut Child, state: &str) -> anyhow::Result<()> {
    let mut stdin = child.stdin.take().context("no stdin")?;
    // One that has ended reads nothing more.
    let _ = stdin.write_all(state.as_bytes());
    Ok(())
}

/// The hook waits for the container's state once it has shut itself off.
fn wait_until_it_reads(child: &Child) -> anyhow::Result<()> {
    let reads = || {
        let path = format!("/proc/{}/syscall", child.id());
        // System call 0 of x86-64 and 63 of aarch64 is read(2), here of descriptor 0.
        fs::read_to_string(path).is_ok_and(|text| text.starts_with("0 0x0 ") || text.starts_with("63 0x0 "))
    };
    let waited = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        reads()
    });
    ensure!(waited || !Path::new(&format!("/proc/{}/syscall", std::process::id())).exists(), "the hook reads no state");
    Ok(())
}

/// Whether a process without privileges can open a path.
fn reach(path: &str) -> anyhow::Result<bool> {
    let mut attacker = Command::new("head");
    attacker.args(["-c", "1", path]).stdout(Stdio::null()).stderr(Stdio::null());
    if rustix::process::geteuid().is_root() {
        attacker.uid(NOBODY).gid(NOBODY);
    }
    Ok(attacker.status().context("cannot run head")?.success())
}
