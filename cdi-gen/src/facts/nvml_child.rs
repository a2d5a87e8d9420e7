//! NVML, asked in a child process with a time limit: the one door to it. I/O.
//!
//! The library is the vendor's: it can crash, hang or attach an idle GPU. The parent only reads a JSON document from a
//! pipe and kills the child when its time is up, so that nothing of it reaches the spec but facts.
//!
//! Whose code runs is decided here too, for all who ask:
//!
//! | policy | the driver root is the host's `/` | another driver root, or another system |
//! |---|---|---|
//! | automatic | where the kernel leaves a question open | never: an image or a driver container would choose root's code |
//! | always | yes | yes: an administrator said so by a flag or in the configuration |
//! | never | never | never |
//!
//! And in each case root loads a library, and runs a program to load it, only if nobody else may change it. The child
//! gives up what a library that answers questions does not need (`nvml_seal`).
#![expect(clippy::disallowed_methods, reason = "starts the child that loads NVML")]

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use cdi_files::trust::{Trust, who_may_change};
use rustix::event::{PollFd, PollFlags, poll};

use super::nvml_report::{NvmlPolicy, NvmlQuery, NvmlReport};
use crate::host::Host;
use crate::tree::Located;

/// The hidden subcommand of `cdi-gen` that answers.
pub const SUBCOMMAND: &str = "nvml-report";
/// Its flag for a child that keeps root's capabilities.
pub const KEEP_CAPABILITIES: &str = "--keep-capabilities";
/// The program that runs already.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// An answer for a hundred GPUs is a fiftieth of this.
const LONGEST_ANSWER: usize = 1 << 20;

/// Why NVML is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// Nobody wants to know.
    #[error("NVML is not to be asked")]
    Never,
    /// The kernel tells all.
    #[error("the kernel tells what there is to know")]
    NotNeeded,
    /// It is not the host's own.
    #[error(
        "the driver root is not the host's, and its code runs only where an administrator asks for it (`nvml` is `always`)"
    )]
    OtherRoot,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NvmlQueryError {
    /// It is not asked.
    #[error(transparent)]
    NotAsked(#[from] NotAsked),
    /// There is nothing to ask.
    #[error("the driver has no NVML")]
    NoLibrary,
    /// Root would run what another wrote.
    #[error("{path} is not loaded, since {why} and root must be able to rely on it")]
    Untrusted {
        /// The library, or the program that loads it.
        path: Utf8PathBuf,
        /// Who may change what.
        why: String,
    },
    /// The child could not be started or read.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The child's program.
        program: Utf8PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The child did not answer in time and was killed.
    #[error("NVML did not answer within {} s", .0.as_secs_f32())]
    TimeLimit(Duration),
    /// The child died: the library crashed, or could not be used.
    #[error("NVML failed: {0}")]
    Failed(String),
}

/// Whether NVML may be asked about a host; `is_needed` is whether the kernel leaves open what the caller must know.
///
/// # Errors
/// It may not.
pub fn may_ask(policy: NvmlPolicy, host: &Host, is_needed: impl FnOnce() -> bool) -> Result<(), NotAsked> {
    let is_own = host.system.is_live() && host.driver.prefix() == host.system.prefix();
    decide(policy, is_own, is_needed)
}

/// The table.
fn decide(policy: NvmlPolicy, is_own: bool, is_needed: impl FnOnce() -> bool) -> Result<(), NotAsked> {
    match policy {
        NvmlPolicy::Never => Err(NotAsked::Never),
        NvmlPolicy::Always => Ok(()),
        NvmlPolicy::Auto if !is_own => Err(NotAsked::OtherRoot),
        NvmlPolicy::Auto if !is_needed() => Err(NotAsked::NotNeeded),
        NvmlPolicy::Auto => Ok(()),
    }
}

/// Asks the NVML of a host's driver through a child process, if it may be asked.
///
/// # Errors
/// It may not; the child cannot be started, does not answer in time, dies, or NVML refuses to start.
pub fn ask(
    query: &NvmlQuery,
    host: &Host,
    library: Option<&Located>,
    is_needed: impl FnOnce() -> bool,
) -> Result<NvmlReport, NvmlQueryError> {
    may_ask(query.policy, host, is_needed)?;
    let library = host.system.path_on_this_machine(&library.ok_or(NvmlQueryError::NoLibrary)?.host_path);
    trusted(&library)?;
    if query.program != OWN_PROGRAM {
        trusted(&query.program)?;
    }
    let deadline = Instant::now() + query.time_limit;
    let answer = ask_child(query, &library, &[], deadline);
    match (answer, query.policy) {
        // A driver that wants more than a user may is given it where an administrator asked.
        (Err(NvmlQueryError::Failed(_)), NvmlPolicy::Always) if rustix::process::geteuid().is_root() => {
            ask_child(query, &library, &[KEEP_CAPABILITIES], deadline)
        }
        (answer, _) => answer,
    }
    .map(NvmlReport::checked)
}

fn trusted(path: &Utf8Path) -> Result<(), NvmlQueryError> {
    let why = match Trust::of_this_process() {
        Trust::Everybody => None,
        Trust::RootOnly => who_may_change(path.as_std_path()),
    };
    why.map_or(Ok(()), |why| Err(NvmlQueryError::Untrusted { path: path.to_owned(), why }))
}

fn ask_child(
    query: &NvmlQuery,
    library: &Utf8Path,
    flags: &[&str],
    deadline: Instant,
) -> Result<NvmlReport, NvmlQueryError> {
    let start = |source| NvmlQueryError::Start { program: query.program.clone(), source };
    // Without variables: they could name other libraries, or a file to write.
    let mut child = Command::new(&query.program)
        .args([SUBCOMMAND, library.as_str()])
        .args(flags)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(start)?;
    let answer = read_until(&mut child, deadline).and_then(|answer| Some((answer, end_until(&mut child, deadline)?)));
    let Some((answer, status)) = answer else {
        // A child that hangs in the kernel outlives its kill: nobody waits for it, init takes it.
        let _ = child.kill();
        let _ = child.try_wait();
        return Err(NvmlQueryError::TimeLimit(query.time_limit));
    };
    serde_json::from_slice::<Result<NvmlReport, String>>(&answer)
        .unwrap_or_else(|_| Err(death(status)))
        .map_err(NvmlQueryError::Failed)
}

fn death(status: ExitStatus) -> String {
    format!("the process that loaded the library ended early ({status})")
}

/// How the child ended, or `None` when the time is up first: one that has answered may still hang in the kernel.
fn end_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    const PAUSE: Duration = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            _ => return None,
        }
    }
}

/// All that the child writes, or `None` when the time is up first. Of an answer that is too long the beginning, which is
/// no document.
fn read_until(child: &mut Child, deadline: Instant) -> Option<Vec<u8>> {
    let mut pipe = child.stdout.take()?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.checked_duration_since(Instant::now())?;
        let timeout = left.try_into().ok()?;
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return None,
            Ok(_) => match pipe.read(&mut chunk) {
                Ok(0) => return Some(answer),
                Ok(count) if answer.len() < LONGEST_ANSWER => answer.extend(chunk.iter().take(count)),
                Ok(_) | Err(_) => return Some(answer),
            },
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_who_may_ask() {
        use NotAsked::{Never, NotNeeded, OtherRoot};
        let rows = [
            (NvmlPolicy::Auto, true, true, Ok(())),
            (NvmlPolicy::Auto, true, false, Err(NotNeeded)),
            (NvmlPolicy::Auto, false, true, Err(OtherRoot)),
            (NvmlPolicy::Auto, false, false, Err(OtherRoot)),
            (NvmlPolicy::Always, true, true, Ok(())),
            (NvmlPolicy::Always, true, false, Ok(())),
            (NvmlPolicy::Always, false, true, Ok(())),
            (NvmlPolicy::Always, false, false, Ok(())),
            (NvmlPolicy::Never, true, true, Err(Never)),
            (NvmlPolicy::Never, true, false, Err(Never)),
            (NvmlPolicy::Never, false, true, Err(Never)),
            (NvmlPolicy::Never, false, false, Err(Never)),
        ];
        for (policy, is_own, is_needed, expected) in rows {
            assert_eq!(decide(policy, is_own, || is_needed), expected, "{policy:?} {is_own} {is_needed}");
        }
    }
}
