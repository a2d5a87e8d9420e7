//! `cdi-gen create-device-nodes` and `create-dev-char-symlinks`: what the driver does not make itself. I/O.
//!
//! A root may be a tree that others write. So it is gone through by handles, and what it says of devices is believed only
//! where it is the running kernel's own word, or where root alone may write it.
#![expect(clippy::disallowed_methods, reason = "loads the driver's modules")]

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use cdi_files::dir::{Dir, Missing};
use cdi_files::node::{self, Node};
use cdi_files::trust::{self, Trust};
use cdi_gen::Tree;
use cdi_gen::wanted_nodes::{self, WantedNode};
use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC};

use crate::cli::MakeNodes;
use crate::report::{Report, Voice};
use crate::{EXIT_NO_DRIVER, open_host, print};

/// The driver's modules, in the order in which they load.
const MODULES: [&str; 3] = ["nvidia", "nvidia-uvm", "nvidia-modeset"];
/// Where distributions put the program that loads them.
const MODPROBE: [&str; 4] =
    ["/usr/sbin/modprobe", "/sbin/modprobe", "/usr/bin/modprobe", "/run/current-system/sw/bin/modprobe"];

/// Makes the nodes that are missing, and those again that lead to another device.
pub fn nodes(arguments: &MakeNodes, voice: Voice) -> anyhow::Result<u8> {
    if arguments.load_kernel_modules && !arguments.dry_run {
        load_modules()?;
    }
    let (root, wanted) = wanted(arguments)?;
    let mut done = String::new();
    for wanted in &wanted {
        let WantedNode { path, major, minor, mode, .. } = wanted;
        if is_there(&root, wanted) {
            continue;
        }
        if !arguments.dry_run {
            make_in(&root, path, |dir, name| node::make(dir, name, &numbers(wanted)))?;
        }
        done += &format!("{path} c {major} {minor} {mode:04o}\n");
    }
    finish(&wanted, &done, arguments.dry_run, voice)
}

/// Makes the links in `/dev/char` that are missing or lead elsewhere.
pub fn char_links(arguments: &MakeNodes, voice: Voice) -> anyhow::Result<u8> {
    let (root, wanted) = wanted(arguments)?;
    let there: Vec<WantedNode> = wanted.iter().filter(|node| is_there(&root, node)).cloned().collect();
    let mut done = String::new();
    for (link, target) in wanted_nodes::char_links(&there) {
        if leads_to(&root, &link, &target) {
            continue;
        }
        if !arguments.dry_run {
            make_in(&root, &link, |dir, name| node::link(dir, name, target.as_std_path()))?;
        }
        done += &format!("{link} -> {target}\n");
    }
    finish(&wanted, &done, arguments.dry_run, voice)
}

/// The root, and the nodes of the driver that runs in it.
fn wanted(arguments: &MakeNodes) -> anyhow::Result<(Dir, Vec<WantedNode>)> {
    let host = open_host(&arguments.roots, Tree::recording)?;
    let mut problems = Vec::new();
    let wanted = wanted_nodes::read(&host.system, &mut problems);
    if let Some(path) = host.system.seen().into_keys().find_map(|path| unbelievable(&host.system, &path)) {
        bail!(
            "cannot believe {path} (which devices there are is told by the running kernel's /proc, or by a tree that root \
             alone may write)"
        );
    }
    if let Some(problem) = problems.first() {
        bail!("{}", problem.message);
    }
    let root = &arguments.roots.root;
    let root = Dir::open(root.as_std_path(), Missing::Error).with_context(|| format!("cannot use the root {root}"))?;
    Ok((root, wanted))
}

/// Why what was read at a path is not believed, after the path; `None` if it is.
fn unbelievable(system: &Tree, path: &Utf8Path) -> Option<String> {
    let path = system.path_on_this_machine(path);
    if Trust::of_this_process() == Trust::Everybody || is_the_kernels(path.as_std_path()) {
        return None;
    }
    trust::who_may_change(path.as_std_path()).map(|who| format!("{path}: {who}"))
}

/// Whether a file is one of procfs; what stands there itself, and not where it leads.
fn is_the_kernels(path: &Path) -> bool {
    let handle = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    handle.and_then(rustix::fs::fstatfs).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC)
}

/// The directory of a path in the root, and its name there.
fn locate<'p>(root: &Dir, path: &'p Utf8Path, missing: Missing) -> io::Result<(Dir, &'p OsStr)> {
    let dir = root.within(path.parent().unwrap_or("/".into()).as_std_path(), missing)?;
    Ok((dir, path.file_name().unwrap_or(".").as_ref()))
}

fn is_there(root: &Dir, wanted: &WantedNode) -> bool {
    let stat = locate(root, &wanted.path, Missing::Error).and_then(|(dir, name)| dir.stat(name));
    stat.is_ok_and(|stat| stat.is_some_and(|stat| numbers(wanted).is(&stat)))
}

fn leads_to(root: &Dir, link: &Utf8Path, target: &Utf8Path) -> bool {
    let held = locate(root, link, Missing::Error).map(|(dir, name)| node::target_of(&dir, name));
    held.is_ok_and(|held| held.is_some_and(|held| held == target.as_str().as_bytes()))
}

fn numbers(wanted: &WantedNode) -> Node {
    let WantedNode { major, minor, mode, uid, gid, .. } = *wanted;
    Node { major, minor, mode, uid, gid }
}

/// Makes something at a path of the root, and the directories above it.
fn make_in(root: &Dir, path: &Utf8Path, make: impl Fn(&Dir, &OsStr) -> io::Result<()>) -> anyhow::Result<()> {
    let made = locate(root, path, Missing::MakeForEverybody).and_then(|(dir, name)| make(&dir, name));
    let at = || join(root, path);
    made.with_context(|| format!("cannot make {}", at()))
}

fn join(root: &Dir, path: &Utf8Path) -> Utf8PathBuf {
    let root = Utf8Path::from_path(root.path()).unwrap_or("/".into());
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn finish(wanted: &[WantedNode], done: &str, dry_run: bool, voice: Voice) -> anyhow::Result<u8> {
    print(done)?;
    let count = done.lines().count();
    let (code, outcome, message) = match (wanted.is_empty(), count, dry_run) {
        (true, ..) => {
            (EXIT_NO_DRIVER, "no-driver", "no NVIDIA driver runs here (--load-kernel-modules loads it)".to_owned())
        }
        (false, 0, _) => (0, "unchanged", "nothing is missing".to_owned()),
        (false, count, true) => (0, "printed", format!("{count} would be made")),
        (false, count, false) => (0, "written", format!("{count} made")),
    };
    Report { outcome, message, problems: Vec::new() }.print(voice);
    Ok(code)
}

fn load_modules() -> anyhow::Result<()> {
    let is_program = |path: &&&str| trust::who_may_change(Path::new(path)).is_none();
    let program = MODPROBE.iter().find(is_program).with_context(|| format!("there is no {}", MODPROBE[0]))?;
    for module in MODULES {
        let mut modprobe = Command::new(program);
        modprobe.arg(module).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let output = modprobe.output().context("cannot run modprobe")?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "modprobe {module}: {}", words.trim());
    }
    Ok(())
}
