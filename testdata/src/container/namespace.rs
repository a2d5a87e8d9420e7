//! Namespace: a mount namespace with a container's mounts, for as long as something is done in it. I/O.
#![expect(clippy::disallowed_methods, reason = "makes mount points and reads procfs")]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change, mount_remount};

use super::program::{Ended, Program};
use super::{Container, Mount, What, make_device, source};
use crate::escape::unescape;

/// A file of procfs whose text can be chosen is that of the host's name: it stands for the driver's parameters.
const HOST_NAME: &str = "ModifyDeviceFiles: 1";

/// What runs in the namespace sees.
#[derive(Debug)]
pub struct Inside<'c> {
    container: &'c Container,
}

impl Inside<'_> {
    /// The mount points below the root, as paths in it, each with the ID of what is mounted there.
    ///
    /// # Errors
    /// procfs cannot be read.
    pub fn mount_points(&self) -> io::Result<BTreeSet<(String, String)>> {
        let text = fs::read_to_string("/proc/thread-self/mountinfo")?;
        let root = fs::canonicalize(self.container.root("/"))?.display().to_string();
        let point = |line: &str| {
            let id = line.split(' ').next()?;
            let point = String::from_utf8(unescape(line.split(' ').nth(4)?)?).ok()?;
            let point = point.strip_prefix(&root).filter(|path| path.starts_with('/'))?;
            Some((id.to_owned(), point.to_owned()))
        };
        Ok(text.lines().filter_map(point).collect())
    }

    /// Runs a program, with the container's state on its stdin unless it has another.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn run(&self, program: &Program) -> io::Result<Ended> {
        program.run(self.container)
    }
}

/// Makes the mounts in a thread's own namespace, which ends with the thread and what was started in it.
pub(super) fn enter<R: Send>(container: &Container, work: impl FnOnce(&Inside<'_>) -> R + Send) -> io::Result<R> {
    let in_own = || {
        make_points(container)?;
        unshare()?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        // As runtimes do, so that the root is a mount of its own.
        mount_bind_recursive(container.root("/"), container.root("/"))?;
        rustix::system::sethostname(HOST_NAME.as_bytes())?;
        for mount in &container.mounts {
            make(container, mount).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", mount.at)))?;
        }
        Ok(work(&Inside { container }))
    };
    std::thread::scope(|scope| {
        let ended = std::thread::Builder::new().spawn_scoped(scope, in_own)?.join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[expect(unsafe_code, reason = "unshare(2) may part what threads rely on to be shared")]
fn unshare() -> io::Result<()> {
    // SAFETY: only mounts, the working directory and the host's name are parted, and only for this thread.
    if unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWUTS) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes the mount points that are missing, where the mounts before would show them.
pub(super) fn make_points(container: &Container) -> io::Result<()> {
    for (number, mount) in container.mounts.iter().enumerate() {
        let before = container.mounts.get(..number).unwrap_or_default();
        // procfs and its kin have what they have.
        let is_made = |other: &&Mount| !matches!(other.what, What::Bind { .. }) && is_below(&mount.at, &other.at);
        let at = source(before, &mount.at);
        match at {
            Some(at) => make_point(&at, mount)?,
            None if before.iter().rev().any(|other| is_made(&other)) => {}
            None => make_point(&container.root(&mount.at), mount)?,
        }
    }
    Ok(())
}

fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

fn make_point(at: &Path, mount: &Mount) -> io::Result<()> {
    let is_file = matches!(&mount.what, What::Bind { from, .. } if !fs::metadata(from)?.is_dir());
    match (fs::metadata(at), at.parent()) {
        (Ok(_), _) => Ok(()),
        (Err(_), Some(parent)) if is_file => {
            fs::create_dir_all(parent)?;
            fs::write(at, "")
        }
        _ => fs::create_dir_all(at),
    }
}

fn make(container: &Container, of: &Mount) -> io::Result<()> {
    let at = container.root(&of.at);
    let none = MountFlags::empty();
    // What is in memory could not be made before.
    make_point(&at, of)?;
    match &of.what {
        What::Bind { from, read_only } => {
            mount_bind_recursive(from, &at)?;
            if *read_only {
                mount_remount(&at, MountFlags::BIND | MountFlags::RDONLY, c"")?;
            }
        }
        What::Procfs => mount("proc", &at, "proc", none, None)?,
        What::Sysfs => mount("sysfs", &at, "sysfs", MountFlags::RDONLY, None)?,
        What::Dev { dirs, nodes } => dev(&at, dirs, nodes)?,
        What::Overlay { lower } => overlay(container, lower, &at)?,
    }
    Ok(())
}

fn dev(at: &Path, dirs: &[String], nodes: &[(String, (u32, u32))]) -> io::Result<()> {
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(c"mode=755"))?;
    dirs.iter().try_for_each(|dir| fs::create_dir_all(at.join(dir)))?;
    // Only real root may make nodes.
    nodes.iter().for_each(|(node, number)| _ = make_device(&at.join(node), *number));
    Ok(())
}

/// Changes go to a file system in memory: an overlay on an overlay is refused by many kernels.
fn overlay(container: &Container, lower: &Path, at: &Path) -> io::Result<()> {
    let changes = container.path("changes");
    fs::create_dir_all(&changes)?;
    mount("tmpfs", &changes, "tmpfs", MountFlags::empty(), None)?;
    let [upper, work] = ["upper", "work"].map(|dir| changes.join(dir));
    [&upper, &work].into_iter().try_for_each(fs::create_dir)?;
    let data = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let data = std::ffi::CString::new(data).map_err(io::Error::other)?;
    Ok(mount("overlay", at, "overlay", MountFlags::empty(), Some(data.as_c_str()))?)
}

/// Whether this process may mount. A user may in namespaces of their own: there the test is run once more, by its name,
/// and what comes of it is the result.
///
/// # Panics
/// The test fails there.
pub fn as_root(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let unshare = |program: &Path, args: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "--net"]);
        unshare.arg(program).args(args).output()
    };
    if !unshare(Path::new("true"), &[]).is_ok_and(|output| output.status.success()) {
        println!("{test}: not run, since this user may have no namespaces");
        return false;
    }
    let itself = fs::read_link("/proc/self/exe").unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    match unshare(&itself, &["--exact", test, "--nocapture"]) {
        Ok(output) => assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => assert_eq!(error.to_string(), "", "cannot run {test} in namespaces"),
    }
    false
}
