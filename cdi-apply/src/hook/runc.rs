//! runc: the root of a container that runc makes, without a wait for its state. I/O.
//!
//! A hook that waits for runc's state waits for up to 10 ms, longer than all its work takes: a goroutine writes the state
//! while another one waits for the hook's end, and Go's scheduler gives it no thread of its own before it has looked
//! around for a while. What we take from the state is the root alone, and runc's init starts the hooks of a container
//! that is being created in it (the `Dir` of its command). So if runc is our parent, and what we are to work on is
//! mounted below our working directory, which is itself a mount, that is the root.
//!
//! All of that is runc's doing and the kernel's word. An image can at most have us wait for the state.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use cdi_specs::HookOperation;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};

use super::paths::HookPath;
use super::root::Root;
use cdi_files::limited;

/// How runc names the process that becomes the container (libcontainer/nsenter/nsexec.c).
const INIT: &str = "runc:[2:INIT]";
/// What procfs says of a process has some hundred.
const MAX_BYTES: usize = 4096;

/// The root of the container, if runc's init has started us to do these operations in it.
pub fn root(operations: &[HookOperation]) -> Option<Root> {
    if !is_parent().unwrap_or(false) {
        return None;
    }
    let root = Root::of_container(Path::new(".")).ok()?;
    let is_mounted = |path: PathBuf| root.find(&HookPath::library(path)).is_ok_and(|found| is_mount(&found));
    (is_mounted("/".into()) && operations.iter().filter_map(worked_on).any(is_mounted)).then_some(root)
}

/// procfs counts processes as the namespace of its mount does, getppid(2) as the container's.
fn is_parent() -> io::Result<bool> {
    let stat = text("/proc/self/stat")?;
    // Behind the name, which may hold anything: state and parent (proc_pid_stat(5)).
    let parent = stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(1)).unwrap_or_default();
    Ok(text(&format!("/proc/{parent}/comm"))?.trim_end() == INIT)
}

#[expect(clippy::disallowed_methods, reason = "reads procfs")]
fn text(path: &str) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&limited::read(File::open(path)?, MAX_BYTES)?).into_owned())
}

/// What an operation works on, if the same spec mounts it.
fn worked_on(operation: &HookOperation) -> Option<PathBuf> {
    match operation {
        HookOperation::Symlink { target, link } => Some(Path::new(link).parent()?.join(target)),
        HookOperation::LibraryDir(dir) => Some(dir.into()),
        _ => None,
    }
}

/// Whether a handle is on the root of a mount. Linux before 5.8 does not tell.
fn is_mount(found: &OwnedFd) -> bool {
    let stat = rustix::fs::statx(found, "", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, StatxFlags::empty());
    stat.is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
