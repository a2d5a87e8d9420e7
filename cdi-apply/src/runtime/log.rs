//! Log: trouble, where engines look for it. I/O.
//!
//! An engine gives its runtime a log file, and shows the last error in it to the user who started the container; what is
//! written to stderr only, some of them drop. This is the one place where words of images and files reach a person: each
//! message is one line of bounded length, and what a terminal would obey is written out.
//!
//! The file is somebody else's. A FIFO does not make us wait, and a link leads to another file only where nobody but root
//! could have put it: else root would append to a file of another user's choice.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cdi_files::trust::{Trust, who_may_change};
use cdi_specs::printable;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde_json::json;

use super::budget::{Warnings, shortened};
use super::command_line::CommandLine;

/// How bad it is, by logrus' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The container starts.
    Warning,
    /// It does not.
    Error,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Tells what keeps no container from starting.
pub fn warn(line: &CommandLine, warnings: &Warnings) {
    warnings.lines().for_each(|warning| tell(line, Level::Warning, &warning));
}

/// Tells of trouble: in the engine's log; errors, and all if there is no log, on stderr.
pub fn tell(line: &CommandLine, level: Level, message: &str) {
    let message = format!("cdi-runtime: {}", shown(message));
    let logged =
        line.log.as_deref().map(|path| append(path, &entry(SystemTime::now(), level, &message, line.log_is_json)));
    if level == Level::Error || !matches!(logged, Some(Ok(()))) {
        // A closed stderr is no reason to do anything else.
        let _ = writeln!(io::stderr(), "{message}");
    }
    if let Some(Err(error)) = logged {
        let path = line.log.as_deref().unwrap_or(Path::new("")).display();
        let _ = writeln!(io::stderr(), "cdi-runtime: {}", shown(&format!("cannot write to the log {path}: {error}")));
    }
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

/// A message as a person may see it: one line, and not a long one.
pub fn shown(message: &str) -> String {
    let shown = printable(&shortened(message));
    match shortened(&shown) {
        Cow::Owned(shortened) => shortened,
        Cow::Borrowed(_) => shown,
    }
}

fn append(path: &Path, entry: &str) -> io::Result<()> {
    File::from(open(path)?).write_all(entry.as_bytes())
}

const FLAGS: OFlags = OFlags::WRONLY
    .union(OFlags::APPEND)
    .union(OFlags::CREATE)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// The log, as runc opens it, but for links that root does not rely on.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(0o644);
    if Trust::of_this_process() == Trust::Everybody {
        return Ok(rustix::fs::openat(CWD, path, FLAGS, mode)?);
    }
    match rustix::fs::openat2(CWD, path, FLAGS, mode, ResolveFlags::NO_SYMLINKS) {
        // There is a link on the way, or the kernel cannot tell.
        Err(Errno::LOOP | Errno::NOSYS | Errno::PERM) => open_trusted(path, mode),
        opened => unlinked(opened?),
    }
}

/// A file that has a second name may be another's.
fn unlinked(opened: OwnedFd) -> io::Result<OwnedFd> {
    let stat = rustix::fs::fstat(&opened)?;
    let is_regular = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    if is_regular && stat.st_nlink > 1 { Err(io::Error::other("it has a second name")) } else { Ok(opened) }
}

fn open_trusted(path: &Path, mode: Mode) -> io::Result<OwnedFd> {
    // What is not there yet cannot be a link; the directory decides.
    let is_there = rustix::fs::statat(CWD, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match who_may_change(if is_there { path } else { dir }) {
        Some(who) => Err(io::Error::other(format!("there is a link on the way, and {who}"))),
        None => Ok(rustix::fs::openat(CWD, path, FLAGS, mode)?),
    }
}

/// A line as runc's logger writes it.
fn entry(time: SystemTime, level: Level, message: &str, is_json: bool) -> String {
    let (time, level) = (rfc3339(time.duration_since(UNIX_EPOCH).unwrap_or_default()), level.word());
    if is_json {
        format!("{}\n", json!({"level": level, "msg": message, "time": time}))
    } else {
        format!("time={time:?} level={level} msg={message:?}\n")
    }
}

/// A time since 1970 in UTC (RFC 3339; the days are those of the proleptic Gregorian calendar).
fn rfc3339(since: Duration) -> String {
    const DAY: u64 = 86_400;
    let (mut days, seconds) = (since.as_secs() / DAY, since.as_secs() % DAY);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

fn is_leap(year: u64) -> bool {
    (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn lines() {
        let line = |is_json| entry(UNIX_EPOCH, Level::Error, "a \"b\"\nc", is_json);
        assert_eq!(line(true), "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\nc\",\"time\":\"1970-01-01T00:00:00Z\"}\n");
        assert_eq!(line(false), "time=\"1970-01-01T00:00:00Z\" level=error msg=\"a \\\"b\\\"\\nc\"\n");
    }
}
