//! Budget: how much one run of the hook may take, whatever the image is like. I/O.
//!
//! An image can have a hundred thousand files in a directory, and name that directory four thousand times. Each loop of
//! the hook draws on this one budget where it turns, so that no two limits multiply. What a run takes at most is 1 s and
//! 64 MiB; what real images take is below a tenth of each limit. Who comes to an end of it gets an error, does without the
//! rest, and the container starts.
//!
//! Time is the processor's: a disk that must first start, or a container that may use a tenth of a processor, is no
//! attack, and a clock on the wall would leave out libraries on some days. That an operation waits for ever is for
//! whoever runs the hook to end (`timeout` in the runtime's configuration, and an alarm).

use std::cell::Cell;
use std::io;
use std::time::Duration;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Paths resolved, files opened, parts of files read: system calls, roughly.
    Calls,
    /// Entries of directories.
    Entries,
    /// Bytes of files.
    Bytes,
    /// Bytes that are kept until the end.
    Memory,
    /// Characters that a pattern is compared with.
    Steps,
}

/// An amount of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Of [`Cost::Calls`].
    pub calls: u64,
    /// Of [`Cost::Entries`].
    pub entries: u64,
    /// Of [`Cost::Bytes`].
    pub bytes: u64,
    /// Of [`Cost::Memory`].
    pub memory: u64,
    /// Of [`Cost::Steps`].
    pub steps: u64,
    /// Of the processor's time, in microseconds.
    pub micros: u64,
}

/// A whole run.
pub const RUN: Amounts = Amounts {
    // A driver of 300 files takes some thousand; a directory of 20,000 libraries that the loader does not know yet some
    // 100,000, since each is opened.
    calls: 250_000,
    // The largest images have 20,000 libraries in one directory.
    entries: 200_000,
    // Of an ELF file some 5 KiB are read, of a crafted one up to 40. A long cache is read once, in parts.
    bytes: 160 << 20,
    // Names, and the entries made of them: 20,000 libraries take 5 MiB.
    memory: 24 << 20,
    steps: 8 << 20,
    // The cache of the most entries that is read takes 0.1 s to sort and write.
    micros: 700_000,
};
/// The part of it that the loader's configuration may take, so that one which never ends leaves enough for the driver's
/// libraries: images have up to a hundred small files in one directory.
pub const CONFIGURATION: Amounts =
    Amounts { calls: 4_000, entries: 120_000, bytes: 4 << 20, memory: 8 << 20, steps: 4 << 20, micros: 150_000 };
/// The part for the libraries, so that those which were found come into the cache.
pub const LIBRARIES: Amounts =
    Amounts { calls: 200_000, entries: 200_000, bytes: 120 << 20, memory: 16 << 20, steps: 0, micros: 450_000 };
/// The part for the notes of one library: the real ones have some hundred bytes.
pub const NOTES: Amounts = Amounts { calls: 200, bytes: 512 << 10, micros: 50_000, entries: 0, memory: 0, steps: 0 };
/// How many draws go by between two looks at the clock, which is a system call.
const LOOK_EVERY: u64 = 64;

/// What is left.
#[derive(Debug)]
pub struct Budget {
    used: Cell<Amounts>,
    most: Cell<Amounts>,
    draws: Cell<u64>,
    start: Duration,
}

/// More was asked for than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is too much to look at: no more {0} are left of what one start may take")]
pub struct Spent(&'static str);

impl Default for Budget {
    /// That of a run.
    fn default() -> Self {
        Self::new(RUN)
    }
}

impl Budget {
    /// One with so much in it.
    pub fn new(most: Amounts) -> Self {
        Self { used: Cell::default(), most: Cell::new(most), draws: Cell::default(), start: now() }
    }

    /// What was used until now.
    pub fn used(&self) -> Amounts {
        self.used.get()
    }

    /// Takes from it.
    ///
    /// # Errors
    /// There is not so much left, or no time.
    pub fn draw(&self, cost: Cost, amount: usize) -> io::Result<()> {
        let (mut used, mut most) = (self.used.get(), self.most.get());
        let (used_of, most_of) = (cost.of(&mut used), *cost.of(&mut most));
        let wanted = used_of.saturating_add(u64::try_from(amount).unwrap_or(u64::MAX));
        // Nothing is left of what somebody asked too much of.
        *used_of = wanted.min(most_of);
        self.used.set(used);
        if wanted > most_of {
            return Err(io::Error::other(Spent(cost.name())));
        }
        if self.is_late() { Err(io::Error::other(Spent("milliseconds"))) } else { Ok(()) }
    }

    fn is_late(&self) -> bool {
        self.draws.set(self.draws.get() + 1);
        if self.draws.get().is_multiple_of(LOOK_EVERY) {
            let micros = u64::try_from(now().saturating_sub(self.start).as_micros()).unwrap_or(u64::MAX);
            self.used.set(Amounts { micros, ..self.used.get() });
        }
        self.used.get().micros > self.most.get().micros
    }

    /// Does some work that may take a part of what is left.
    pub fn part<T>(&self, part: Amounts, work: impl FnOnce() -> T) -> T {
        let most = self.most.get();
        self.most.set(self.used.get().plus(part).at_most(most));
        let done = work();
        self.most.set(most);
        done
    }
}

/// Whether an error says that a budget is at its end.
pub fn is_spent(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Spent>()).is_some()
}

impl Cost {
    fn of(self, amounts: &mut Amounts) -> &mut u64 {
        match self {
            Self::Calls => &mut amounts.calls,
            Self::Entries => &mut amounts.entries,
            Self::Bytes => &mut amounts.bytes,
            Self::Memory => &mut amounts.memory,
            Self::Steps => &mut amounts.steps,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Calls => "system calls",
            Self::Entries => "directory entries",
            Self::Bytes => "bytes to read",
            Self::Memory => "bytes to keep",
            Self::Steps => "comparisons",
        }
    }
}

impl Amounts {
    fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    fn at_most(self, other: Self) -> Self {
        self.zip(other, u64::min)
    }

    fn zip(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            calls: with(self.calls, other.calls),
            entries: with(self.entries, other.entries),
            bytes: with(self.bytes, other.bytes),
            memory: with(self.memory, other.memory),
            steps: with(self.steps, other.steps),
            micros: with(self.micros, other.micros),
        }
    }
}

/// Time that this thread has had of a processor; the hook has one. By libc: rustix would look for the vDSO first, with
/// calls that the seal does not know, and this clock is the kernel's to read.
#[expect(unsafe_code, reason = "clock_gettime(2) takes a pointer to a time")]
fn now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the time, which lives until the call is done.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_no_more_than_itself_and_than_what_is_left() {
        let budget = Budget::new(Amounts { calls: 10, micros: u64::MAX, ..Amounts::default() });
        let part = Amounts { calls: 4, micros: u64::MAX, ..Amounts::default() };
        let drawn = |times: usize| (0..times).take_while(|_| budget.draw(Cost::Calls, 1).is_ok()).count();
        assert_eq!(budget.part(part, || drawn(9)), 4);
        assert_eq!(budget.part(part, || (drawn(1), budget.part(part, || drawn(9)), drawn(9))), (1, 3, 0));
        assert_eq!(drawn(9), 2);
        assert_eq!(budget.part(part, || drawn(9)), 0);
        assert!(is_spent(&budget.draw(Cost::Calls, 1).unwrap_err()));
        assert!(!is_spent(&io::ErrorKind::NotFound.into()));
    }

    #[test]
    fn who_asks_too_much_has_nothing_left() {
        let budget = Budget::new(Amounts { bytes: 10, micros: u64::MAX, ..Amounts::default() });
        assert!(budget.draw(Cost::Bytes, usize::MAX).is_err());
        assert!(budget.draw(Cost::Bytes, 1).is_err());
        assert_eq!(budget.used().bytes, 10);
    }

    #[test]
    fn time_ends_too() {
        let budget = Budget::new(Amounts { calls: u64::MAX, micros: 1000, ..Amounts::default() });
        let start = std::time::Instant::now();
        while let Ok(()) = budget.draw(Cost::Calls, 1) {
            assert!(start.elapsed() < Duration::from_secs(60));
        }
    }
}
