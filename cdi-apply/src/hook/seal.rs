//! Seal: the hook gives up what it never does, so that a bug in a reader of the image's files cannot. I/O.
//!
//! # The model
//!
//! The hook runs as root (of the user namespace that the runtime has chosen), in the container's mount namespace, while the
//! host's files are still in sight. It reads files of an image that may be made to break it. What it does with them is
//! confined by handles (`root`); the seal is for the day on which that, or a parser, has a mistake by which the image runs
//! code of its own choice in the hook. It bounds what that code can do; it does not keep the hook from changing the
//! container's root, which is its work.
//!
//! | measure | what it takes away | from when on |
//! |---|---|---|
//! | inherited descriptors are closed (`descriptors`) | handles on the host that the runtime left open (CVE-2024-21626) | the start |
//! | a deadline (`deadline`) | that the runtime waits for ever: the process ends after ten seconds | the start |
//! | not dumpable | that another process looks in, or reaches the program through procfs (CVE-2019-5736, CVE-2024-0135) | the start |
//! | no new privileges | setuid programs, should one be run | the start |
//! | capabilities (`capabilities`) | all but `CAP_SYS_ADMIN`, `CAP_DAC_OVERRIDE`, `CAP_FOWNER`: no node is made, no owner changed, no module loaded, no process traced, no handle opened by number | the start |
//! | a seccomp filter ([`filter`]) | every system call that is not the hook's own: programs, processes and threads, sockets, namespaces, `ptrace`, `bpf`, `io_uring`, keys, nodes, changes of attributes; memory that is executable; setuid bits; mounts but of four kinds; signals but to itself | before the state is read |
//! | Landlock ([`landlock`]) | to open, make or remove anything outside the container's root, and to mount | the container's mounts are made, before the first file of the image is read |
//!
//! What is missing is told on stderr, and the hook works without it; `--require-seal` makes that an error, before anything
//! is changed. Landlock is no part of that: many kernels lack it, and it gives way where the loader's cache can only be
//! changed by a mount over it.
//!
//! What the seal does *not* take away:
//!
//! - The kernel does not look behind pointers: which file system is mounted, and at which path, no filter sees. Where there is
//!   no Landlock, code that runs in the hook can open the host's files by their paths, with root's rights.
//! - Modes, owners and times are not Landlock's: a file of the host may get another mode (never setuid), since the filter
//!   sees no paths.
//! - Whoever can replace the hook's program, its arguments or the spec needs none of this.
//!
//! A call that only a process makes that does somebody else's bidding (`execve`, `ptrace`, `bpf`, …) ends the hook, which
//! fails the container and stands in the kernel's log. Others are refused: a C library may try a call and go on without.
//!
//! It all takes some 18 system calls at the start, 0.03 ms for the filter (the kernel goes through it for each call that it
//! knows, and compiles it) and 0.04 to 0.05 ms for Landlock, and some nanoseconds for each call that follows.

mod capabilities;
mod deadline;
pub mod filter;
pub mod landlock;

use std::fmt;
use std::io;

use cdi_gen::descriptors;
use rustix::process::DumpableBehavior;

/// A part of the seal that could not be had.
#[derive(Debug)]
pub struct Gap {
    part: &'static str,
    error: io::Error,
}

impl fmt::Display for Gap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "not sealed: cannot {}: {}", self.part, self.error)
    }
}

/// Closes what the runtime has left open. Before anything is opened.
pub fn close_inherited() -> Vec<Gap> {
    gaps(&[("close inherited descriptors", descriptors::close_inherited)])
}

/// Seals the process, as far as the kernel can: one part that is missing is no reason to do without the others.
pub fn seal() -> Vec<Gap> {
    gaps(&[
        ("set a deadline", deadline::set),
        ("hide from other processes", hide),
        ("give up new privileges", give_up_new_privileges),
        ("give up capabilities", capabilities::reduce),
        ("filter system calls", filter::install),
    ])
}

type Part = (&'static str, fn() -> io::Result<()>);

fn gaps(parts: &[Part]) -> Vec<Gap> {
    parts.iter().filter_map(|(part, seal)| seal().err().map(|error| Gap { part, error })).collect()
}

/// Nobody may look into this process, or reach its program through /proc (CVE-2019-5736).
fn hide() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Without it only root may filter; and this process runs no program that could gain anything.
fn give_up_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}
