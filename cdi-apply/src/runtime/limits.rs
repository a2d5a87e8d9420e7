//! Limits: how much time and memory a start may take before the runtime takes over. I/O.
//!
//! What a stranger can make long has a budget, and takes milliseconds. What is left are waits: for a lock, for NVML, for
//! a file system that does not answer. The first two are given what is left of the time; the last is ended by the kernel.
//! The kernel holds us to the memory too, should a driver container's files take more than anybody thought.
#![expect(unsafe_code, reason = "setitimer(2), signal(2) and an allocator have no safe form")]

use std::alloc::{GlobalAlloc, Layout};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For all that is done before the runtime takes over.
const TIME: Duration = Duration::from_secs(10);
/// The same of memory.
const MEMORY: u64 = 64 << 20;
/// What is said when that is not enough.
const NO_MEMORY: &[u8] = b"cdi-runtime: the devices of a container take more than 64 MiB of memory to find\n";

/// When a start must be done.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

/// A start that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the devices of a container were not found within {} s", TIME.as_secs())]
pub struct TooLate;

impl Default for Deadline {
    fn default() -> Self {
        Self(Instant::now() + TIME)
    }
}

impl Deadline {
    /// What is left of the time.
    ///
    /// # Errors
    /// Nothing is.
    pub fn left(self) -> Result<Duration, TooLate> {
        self.0.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()).ok_or(TooLate)
    }
}

/// Lets the kernel hold this process to its limits as long as the value lives: the runtime that takes over inherits
/// neither of them, nor what we do about a timer's signal.
#[derive(Debug)]
pub struct Limits {
    memory: Rlimit,
    signal: libc::sighandler_t,
}

impl Limits {
    /// Sets them. A kernel that sets none leaves the budget, which is told from the words alone.
    pub fn set() -> Self {
        let memory = getrlimit(Resource::Data);
        let current = memory.current.map_or(MEMORY, |current| current.min(MEMORY));
        let _ = setrlimit(Resource::Data, Rlimit { current: Some(current), ..memory });
        // SAFETY: the usual action of a signal is no function of ours.
        let signal = unsafe { libc::signal(libc::SIGALRM, libc::SIG_DFL) };
        timer(TIME + Duration::from_secs(1));
        Self { memory, signal }
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        timer(Duration::ZERO);
        // SAFETY: what it was before is no function of ours either: the default, or to ignore it.
        unsafe { libc::signal(libc::SIGALRM, self.signal) };
        let _ = setrlimit(Resource::Data, self.memory);
    }
}

fn timer(after: Duration) {
    let none = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let once = libc::timeval { tv_sec: after.as_secs().try_into().unwrap_or(0), tv_usec: 0 };
    let value = libc::itimerval { it_interval: none, it_value: once };
    // SAFETY: the kernel reads the value, and is asked for no old one.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const value, std::ptr::null_mut()) };
}

/// An allocator for the program: where there is no more memory, it ends with one clear line and not with an abort.
#[derive(Debug)]
pub struct Refusing<A>(pub A);

impl<A> Refusing<A> {
    fn checked(pointer: *mut u8) -> *mut u8 {
        if pointer.is_null() {
            // SAFETY: a static text; and a process that cannot go on ends at once.
            unsafe {
                libc::write(libc::STDERR_FILENO, NO_MEMORY.as_ptr().cast(), NO_MEMORY.len());
                libc::_exit(libc::EXIT_FAILURE);
            }
        }
        pointer
    }
}

// SAFETY: all is the inner allocator's, whose caller keeps the same promises.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Refusing<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        Self::checked(unsafe { self.0.alloc(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        Self::checked(unsafe { self.0.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        Self::checked(unsafe { self.0.realloc(pointer, layout, size) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_runs_out() {
        assert!(Deadline::default().left().unwrap() > Duration::from_secs(5));
        assert_eq!(Deadline(Instant::now()).left(), Err(TooLate));
        assert_eq!(TooLate.to_string(), "the devices of a container were not found within 10 s");
    }
}
