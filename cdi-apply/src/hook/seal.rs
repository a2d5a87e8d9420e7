//! Seal: the hook gives up what it never does, so that a bug in a reader of the image's files cannot. I/O.
//!
//! The hook runs no program, makes no connection, changes no namespace and loads no code into the kernel. From here on
//! the kernel refuses all but what it does (seccomp(2), [`filter`]): two system calls, and some nanoseconds for each one
//! that follows.

mod capabilities;
mod deadline;
mod descriptors;
pub mod filter;
pub mod landlock;

use std::fmt;
use std::io;

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
