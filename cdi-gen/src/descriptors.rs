//! Descriptors that whoever started this process has left open: a handle on the host is nothing to work beside
//! (CVE-2024-21626). I/O.
//!
//! Nothing was opened yet when they are closed, so nobody in this process owns one above the standard three.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;

use rustix::fd::{AsRawFd, RawFd};
use rustix::fs::{CWD, Mode, OFlags, RawDir};
use rustix::process::Resource;

/// The first that is not stdin, stdout or stderr.
const FIRST: RawFd = 3;
/// As many as a process may have where nobody has changed `fs.nr_open`; each takes a system call.
const MOST: RawFd = 1 << 20;
/// Bytes of procfs that are read at once.
const LISTED: usize = 4096;

/// Closes them: all at once, else those that procfs lists, else each that there can be.
///
/// # Errors
/// There may be more than can be closed one by one.
#[expect(unsafe_code, reason = "close_range(2) has no safe wrapper, since it may close what others own")]
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: they are nobody's. A kernel before 5.9 has no such call.
    if unsafe { libc::syscall(libc::SYS_close_range, FIRST, u32::MAX, 0_u32) } == 0 {
        return Ok(());
    }
    close_listed().or_else(|_| close_each())
}

fn close_listed() -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = rustix::fs::openat(CWD, "/proc/self/fd", flags, Mode::empty())?;
    let number = own.as_raw_fd();
    let mut buffer = [const { MaybeUninit::uninit() }; LISTED];
    let mut entries = RawDir::new(own, &mut buffer);
    let mut open = Vec::new();
    while let Some(entry) = entries.next() {
        open.extend(descriptor(entry?.file_name()).filter(|open| *open != number));
    }
    drop(entries);
    open.into_iter().filter(|open| *open >= FIRST).for_each(close);
    Ok(())
}

fn descriptor(name: &CStr) -> Option<RawFd> {
    name.to_str().ok()?.parse().ok()
}

fn close_each() -> io::Result<()> {
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    let most = most.and_then(|most| RawFd::try_from(most).ok()).filter(|most| *most <= MOST);
    let most = most.ok_or_else(|| io::Error::other("too many descriptors may be open"))?;
    (FIRST..most).for_each(close);
    Ok(())
}

#[expect(unsafe_code, reason = "close(2) of a descriptor that nobody owns")]
fn close(descriptor: RawFd) {
    // SAFETY: as above; where it is not open, nothing is done.
    unsafe { libc::close(descriptor) };
}
