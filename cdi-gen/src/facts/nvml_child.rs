//! NVML, asked in a child process with a time limit. I/O.
//!
//! The library is the vendor's: it can crash, hang or attach an idle GPU. The parent only reads a JSON document from a
//! pipe and kills the child when its time is up, so that nothing of it reaches the spec but facts.
#![expect(clippy::disallowed_methods, reason = "starts the child that loads NVML")]

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::event::{PollFd, PollFlags, poll};

use super::nvml_report::{NvmlQuery, NvmlReport};

/// The hidden subcommand of `cdi-gen` that answers.
pub const SUBCOMMAND: &str = "nvml-report";

/// An answer for a hundred GPUs is a fiftieth of this.
const LONGEST_ANSWER: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NvmlQueryError {
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

/// Asks the NVML in `library` (a path of this machine) through a child process.
///
/// # Errors
/// The child cannot be started, does not answer in time, dies, or NVML refuses to start.
pub fn ask(query: &NvmlQuery, library: &Utf8Path) -> Result<NvmlReport, NvmlQueryError> {
    let start = |source| NvmlQueryError::Start { program: query.program.clone(), source };
    let mut child = Command::new(&query.program)
        .args([SUBCOMMAND, library.as_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(start)?;
    let deadline = Instant::now() + query.time_limit;
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

/// All that the child writes, or `None` when the time is up first.
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
                Ok(_) => return None,
                Err(_) => return Some(answer),
            },
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}
