//! Engine program: an engine, asked what it thinks of a configuration. I/O.
//!
//! Only a program that is as trustworthy as the configuration is run: from the absolute directories of `PATH`, and, where
//! this process is root, one that nobody else can change. It gets no variable of ours and a time limit.
#![expect(clippy::disallowed_methods, reason = "looks for engines, and runs them")]

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use camino::Utf8Path;
use cdi_apply::configure::Engine;
use cdi_files::trust::{self, Trust};
use cdi_gen::hook_path;
use cdi_specs::shown::printable;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process_group};

/// What an engine finds its own helpers by, and where it is looked for if nobody says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// An engine that only reads its configuration takes a hundredth of this.
const TIME_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes of its complaint that are told.
const LONGEST_COMPLAINT: usize = 4096;
/// What dockerd before 23 says.
const NO_VALIDATE: &str = "unknown flag: --validate";

/// Asks the engine, where it is installed and has a way to be asked. Returns what was in the way of that, for a warning.
///
/// # Errors
/// It refuses the configuration, or does not answer.
pub fn judge(engine: Engine, config: &Path) -> anyhow::Result<Option<String>> {
    let words: &[&str] = match engine {
        Engine::Docker => &["dockerd", "--validate", "--config-file", "{}"],
        Engine::Containerd => &["containerd", "--config", "{}", "config", "dump"],
        Engine::Crio | Engine::Podman | Engine::Nerdctl | Engine::Buildkit => return Ok(None),
    };
    let Some((name, words)) = words.split_first() else { return Ok(None) };
    let program = match find(name, &std::env::var("PATH").unwrap_or(PATH.to_owned())) {
        Found::Program(program) => program,
        Found::Nothing => return Ok(None),
        Found::Untrusted(why) => return Ok(Some(format!("{name} was not asked: {why}"))),
    };
    let mut command = Command::new(program);
    words.iter().for_each(|word| _ = if *word == "{}" { command.arg(config) } else { command.arg(word) });
    let answer = ask(&mut command, TIME_LIMIT).with_context(|| name.to_owned())?;
    if answer.status.success() {
        return Ok(None);
    }
    if answer.complaint.contains(NO_VALIDATE) {
        return Ok(Some(format!("{name} was not asked: it is older than 23 and has no --validate")));
    }
    let lines = answer.complaint.lines().map(printable).collect::<Vec<_>>().join("; ");
    bail!("{name}: {}", if lines.is_empty() { answer.status.to_string() } else { lines })
}

/// What a search led to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Program(PathBuf),
    Nothing,
    /// Why one that is there is not run.
    Untrusted(String),
}

/// The first trustworthy one in a list of directories. A directory that is not absolute is anybody's.
fn find(name: &str, path: &str) -> Found {
    let dirs = path.split(':').filter(|dir| dir.starts_with('/'));
    let programs = dirs.map(|dir| Utf8Path::new(dir).join(name)).filter(|program| hook_path::is_executable(program));
    let mut found = Found::Nothing;
    for program in programs {
        match why_untrusted(program.as_std_path()) {
            None => return Found::Program(program.into()),
            Some(why) if found == Found::Nothing => found = Found::Untrusted(printable(&format!("{program}: {why}"))),
            Some(_) => {}
        }
    }
    found
}

/// Who could have root run something else in a program's place.
pub fn why_untrusted(program: &Path) -> Option<String> {
    let is_there = Utf8Path::from_path(program).is_none_or(hook_path::is_executable);
    let matters = is_there && Trust::of_this_process() == Trust::RootOnly;
    matters.then(|| trust::who_may_change(program)).flatten()
}

/// What a program said.
struct Answer {
    status: ExitStatus,
    complaint: String,
}

/// Runs a program in a process group of its own, which is killed when the time is up.
fn ask(command: &mut Command, limit: Duration) -> anyhow::Result<Answer> {
    let deadline = Instant::now() + limit;
    command.env_clear().env("PATH", PATH).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.process_group(0).spawn().context("cannot be run")?;
    let mut complaint = Vec::new();
    let pipe = child.stderr.take();
    let status =
        pipe.map(|pipe| read_until(pipe, deadline, &mut complaint)).and_then(|()| end_until(&mut child, deadline));
    if status.is_none() {
        // What it has started itself ends with it. One that hangs in the kernel outlives its kill: init takes it.
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        let _ = child.try_wait();
    }
    let status = status.with_context(|| format!("did not answer within {} s", limit.as_secs_f32()))?;
    Ok(Answer { status, complaint: String::from_utf8_lossy(&complaint).trim().to_owned() })
}

/// All that it writes until it closes its end or the time is up; only the first part is kept.
fn read_until(mut pipe: ChildStderr, deadline: Instant, complaint: &mut Vec<u8>) {
    let mut chunk = [0; 4096];
    while let Some(Ok(left)) = deadline.checked_duration_since(Instant::now()).map(TryInto::try_into) {
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) => return,
            Ok(_) => match pipe.read(&mut chunk) {
                Ok(count) if count > 0 => {
                    let room = LONGEST_COMPLAINT.saturating_sub(complaint.len());
                    complaint.extend(chunk.iter().take(count.min(room)));
                }
                _ => return,
            },
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn end_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => sleep(PAUSE),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(dir: &Path, text: &str) -> PathBuf {
        let program = dir.join("engine");
        fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    #[test]
    fn an_engine_that_does_not_answer_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let hangs = program(dir.path(), "sleep 600 & echo $! > \"$1\"; wait");
        let pid_file = dir.path().join("pid");
        let error = ask(Command::new(hangs).arg(&pid_file), Duration::from_millis(500)).err().unwrap();
        assert_eq!(error.to_string(), "did not answer within 0.5 s");
        let pid = fs::read_to_string(pid_file).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let is_alive = || {
            // What is dead and still unburied has no command line.
            fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|words| !words.is_empty())
        };
        while is_alive() {
            assert!(Instant::now() < deadline, "{pid} is alive");
            sleep(PAUSE);
        }
    }

    #[test]
    fn of_an_endless_complaint_the_beginning_is_kept_and_no_variable_of_ours_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let talks = program(dir.path(), "env >&2; yes x 2>&- | head -c 1000000 >&2; exit 3");
        let answer = ask(&mut Command::new(talks), Duration::from_secs(30)).unwrap();
        assert_eq!((answer.status.code(), answer.complaint.len() <= LONGEST_COMPLAINT), (Some(3), true));
        let variables: Vec<&str> = answer.complaint.lines().filter(|line| line.contains('=')).collect();
        assert!(variables.contains(&format!("PATH={PATH}").as_str()), "{variables:?}");
        assert!(!answer.complaint.contains("CARGO"), "{variables:?}");
    }

    #[test]
    fn only_absolute_directories_and_trustworthy_programs_count() {
        let dir = tempfile::tempdir().unwrap();
        let found = program(dir.path(), "true");
        let path = format!(":.:target:{}:/nowhere", dir.path().display());
        assert_eq!(find("engine", &path), Found::Program(found.clone()));
        assert_eq!(find("engine", ":.:"), Found::Nothing);
        fs::set_permissions(&found, fs::Permissions::from_mode(0o777)).unwrap();
        if Trust::of_this_process() == Trust::RootOnly {
            let why = format!("{}: everybody can change it", found.display());
            assert_eq!(find("engine", &path), Found::Untrusted(why));
        }
    }
}
