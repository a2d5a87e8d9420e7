//! Seal: the hook gives up what it never does, so that a bug in a reader of the image's files cannot. I/O.
//!
//! The hook runs no program, makes no connection, changes no namespace and loads no code into the kernel. From here on
//! the kernel refuses all but what it does (seccomp(2), [`filter`]): two system calls, and some nanoseconds for each one
//! that follows.

pub mod filter;

use std::io;

/// Seals the process.
///
/// # Errors
/// The kernel knows no filters, or one forbids them. The hook does its work all the same.
#[expect(unsafe_code, reason = "prctl(2)")]
pub fn seal() -> io::Result<()> {
    // Without it only root may filter; and this process runs no program that could gain anything.
    // SAFETY: takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    filter::install()
}
