//! Deadline: whatever a hook waits for, it ends. I/O.
//!
//! The engine has a `timeout` for hooks too, but not each engine heeds it, and not each spec says one.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Seconds; the hook takes some milliseconds, and less than one in the worst of images.
const SECONDS: libc::c_uint = 10;

/// Has the kernel end the process some time from now. Whoever started it may have blocked that signal, or had it ignored.
///
/// # Errors
/// The kernel, or a filter, refuses that.
#[expect(unsafe_code, reason = "signals have no safe wrapper")]
pub fn set() -> io::Result<()> {
    let done = |result: libc::c_int| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    let mut alone = MaybeUninit::uninit();
    // SAFETY: the set is made before it is used, and the signal's own action ends the process.
    unsafe {
        done(libc::sigemptyset(alone.as_mut_ptr()))?;
        done(libc::sigaddset(alone.as_mut_ptr(), libc::SIGALRM))?;
        if libc::signal(libc::SIGALRM, libc::SIG_DFL) == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        done(libc::sigprocmask(libc::SIG_UNBLOCK, alone.as_ptr(), ptr::null_mut()))?;
        libc::alarm(SECONDS);
    }
    Ok(())
}
