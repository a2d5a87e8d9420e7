//! `cdi-gen create-device-nodes` and `create-dev-char-symlinks`: what the driver does not make itself. I/O.
#![expect(clippy::disallowed_methods, reason = "makes device nodes and links, and loads the driver's modules")]

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;

use anyhow::{Context, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use cdi_gen::Tree;
use cdi_gen::wanted_nodes::{self, WantedNode};
use rustix::fs::{CWD, FileType, Mode};

use crate::cli::MakeNodes;
use crate::report::{Report, Voice};
use crate::{EXIT_NO_DRIVER, open_host, print};

/// The driver's modules, in the order in which they load.
const MODULES: [&str; 3] = ["nvidia", "nvidia-uvm", "nvidia-modeset"];

/// Makes the nodes that are missing, and those again that lead to another device.
pub fn nodes(arguments: &MakeNodes, voice: Voice) -> anyhow::Result<u8> {
    if arguments.load_kernel_modules && !arguments.dry_run {
        load_modules()?;
    }
    let (root, wanted) = wanted(arguments)?;
    let mut done = String::new();
    for node in &wanted {
        let path = join(&root, &node.path);
        let what = format!("{} c {} {} {:04o}", node.path, node.major, node.minor, node.mode);
        let found = fs::symlink_metadata(&path).ok();
        if found.as_ref().is_some_and(|found| is(found, node)) {
            continue;
        }
        if !arguments.dry_run {
            make(&path, node, found.is_some()).with_context(|| format!("cannot make {path}"))?;
        }
        done += &format!("{what}\n");
    }
    finish(&wanted, &done, arguments.dry_run, voice)
}

/// Makes the links in `/dev/char` that are missing or lead elsewhere.
pub fn char_links(arguments: &MakeNodes, voice: Voice) -> anyhow::Result<u8> {
    let (root, wanted) = wanted(arguments)?;
    let there: Vec<WantedNode> = wanted
        .iter()
        .filter(|node| fs::symlink_metadata(join(&root, &node.path)).is_ok_and(|found| is(&found, node)))
        .cloned()
        .collect();
    let mut done = String::new();
    for (link, target) in wanted_nodes::char_links(&there) {
        let path = join(&root, &link);
        if fs::read_link(&path).is_ok_and(|held| held == target.as_std_path()) {
            continue;
        }
        if !arguments.dry_run {
            replace_link(&path, &target).with_context(|| format!("cannot make {path}"))?;
        }
        done += &format!("{link} -> {target}\n");
    }
    finish(&wanted, &done, arguments.dry_run, voice)
}

fn wanted(arguments: &MakeNodes) -> anyhow::Result<(Utf8PathBuf, Vec<WantedNode>)> {
    let host = open_host(&arguments.roots, Tree::new)?;
    Ok((arguments.roots.root.clone(), wanted_nodes::read(&host.system)))
}

fn join(root: &Utf8Path, path: &Utf8Path) -> Utf8PathBuf {
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

fn is(found: &fs::Metadata, node: &WantedNode) -> bool {
    let numbers = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    found.file_type().is_char_device() && numbers == (node.major, node.minor)
}

fn make(path: &Utf8Path, node: &WantedNode, exists: bool) -> io::Result<()> {
    if exists {
        // One of another device, left over from a driver that was loaded before.
        fs::remove_file(path)?;
    }
    if let Some(dir) = path.parent() {
        cdi_gen::output::make_dirs(dir)?;
    }
    let device = rustix::fs::makedev(node.major, node.minor);
    rustix::fs::mknodat(CWD, path.as_std_path(), FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, device)?;
    chown(path, Some(node.uid), Some(node.gid))?;
    // mknod(2) heeds the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(node.mode))
}

fn replace_link(path: &Utf8Path, target: &Utf8Path) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        cdi_gen::output::make_dirs(dir)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, path)
}

fn load_modules() -> anyhow::Result<()> {
    for module in MODULES {
        let output = Command::new("modprobe").arg(module).output().context("cannot run modprobe")?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "modprobe {module}: {}", words.trim());
    }
    Ok(())
}
