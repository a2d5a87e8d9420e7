//! Deadline: how long a start may take before the runtime takes over. I/O.
//!
//! What a stranger can make long has a budget, and takes milliseconds. What is left are waits: for a lock, for NVML, for
//! a file system that does not answer. The first two are given what is left of the time; the last is ended by the kernel.
#![expect(unsafe_code, reason = "setitimer(2) and signal(2) have no safe wrapper")]

use std::time::{Duration, Instant};

/// For all that is done before the runtime takes over.
const LIMIT: Duration = Duration::from_secs(10);

/// When a start must be done.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

/// A start that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the devices of a container were not found within {} s", LIMIT.as_secs())]
pub struct TooLate;

impl Default for Deadline {
    fn default() -> Self {
        Self(Instant::now() + LIMIT)
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

/// Lets the kernel end this process soon after the deadline, as long as the value lives: the runtime that takes over
/// inherits neither the timer nor what we do about its signal.
#[derive(Debug)]
pub struct Alarm {
    before: libc::sighandler_t,
}

impl Alarm {
    /// Sets it.
    pub fn set() -> Self {
        // SAFETY: the usual action of a signal is no function of ours.
        let before = unsafe { libc::signal(libc::SIGALRM, libc::SIG_DFL) };
        timer(LIMIT + Duration::from_secs(1));
        Self { before }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        timer(Duration::ZERO);
        // SAFETY: what it was before this process was made, which is no function of ours either: the default, or none.
        unsafe { libc::signal(libc::SIGALRM, self.before) };
    }
}

fn timer(after: Duration) {
    let none = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let once = libc::timeval { tv_sec: libc::time_t::try_from(after.as_secs()).unwrap_or(0), tv_usec: 0 };
    let value = libc::itimerval { it_interval: none, it_value: once };
    // SAFETY: the kernel reads the value, and is asked for no old one.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const value, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_runs_out() {
        assert!(Deadline::default().left().unwrap() > Duration::from_secs(5));
        assert_eq!(Deadline(Instant::now()).left(), Err(TooLate));
        let text = TooLate.to_string();
        assert_eq!(text, "the devices of a container were not found within 10 s");
    }
}
