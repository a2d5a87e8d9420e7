//! Capabilities: those that the hook's work takes, and no others. I/O.
//!
//! Two system calls. The bounding set stays, since it is a bound for execve(2) alone, which the filter forbids and by which
//! no process without new privileges gains any; ambient capabilities go with the inheritable ones (capabilities(7)).

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

/// To mount over files; to change directories that nobody may write (Fedora's), or that belong to others; to change modes
/// of others' files, and to replace files in sticky directories. All of it in the user namespace that the runtime has put
/// the hook into.
const KEPT: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::DAC_OVERRIDE).union(CapabilitySet::FOWNER);

/// Gives the others up.
///
/// # Errors
/// The kernel, or a filter, refuses that.
pub fn reduce() -> io::Result<()> {
    let held = rustix::thread::capabilities(None)?;
    let kept = CapabilitySets {
        effective: held.effective & KEPT,
        permitted: held.permitted & KEPT,
        inheritable: CapabilitySet::empty(),
    };
    Ok(rustix::thread::set_capabilities(None, kept)?)
}
