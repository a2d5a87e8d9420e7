//! Umask: files and directories made with the mode that is asked for, at once. I/O.
//!
//! The umask takes bits from the mode. To give them back later means to change what has a name by then, which may be
//! another thing; so nothing is taken. The umask is the process's, and files that another thread makes at that moment
//! get their full mode too: our programs make no others.

use std::sync::{Mutex, PoisonError};

use rustix::fs::Mode;

/// The umask has one owner at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Puts the umask back, whatever happens.
struct Restore(Mode);

impl Drop for Restore {
    fn drop(&mut self) {
        rustix::process::umask(self.0);
    }
}

/// Makes something whose mode is the one that is asked for.
pub fn without<T>(make: impl FnOnce() -> T) -> T {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _restore = Restore(rustix::process::umask(Mode::empty()));
    make()
}
