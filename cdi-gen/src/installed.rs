//! Installed: the container engines of this host and their releases, for `--target auto` and `doctor`. I/O.
//!
//! The one place where a program is run, on request only: an engine is asked for its version or its configuration, by the
//! path where packages put it. One that others than root may change is not run by root; none is waited for long.
#![expect(clippy::disallowed_methods, reason = "asks installed engines for their versions")]

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use cdi_gen::hook_path;
use cdi_gen::targets::{Release, Target};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

/// Where packages put programs.
const DIRS: [&str; 5] = ["/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin", "/opt/bin"];
/// Engines by the program that tells their version.
const PROGRAMS: [(&str, &str); 5] = [
    ("containerd", "containerd"),
    ("crio", "crio"),
    ("docker", "dockerd"),
    ("nerdctl", "nerdctl"),
    ("podman", "podman"),
];

/// An engine that answers does so in a hundredth of this.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Longer than any configuration.
const MOST_BYTES: usize = 4 << 20;

/// The engines that are installed.
pub fn engines() -> Vec<Target> {
    PROGRAMS.iter().filter_map(|(name, program)| engine(name, program)).collect()
}

fn engine(name: &'static str, program: &str) -> Option<Target> {
    find(program)?;
    let release = ask(program, &["--version"]).as_deref().and_then(Release::find);
    Some(Target::Engine { name, release })
}

/// Where a program is.
pub fn find(program: &str) -> Option<PathBuf> {
    DIRS.iter().map(|dir| Path::new(dir).join(program)).find(|path| path.is_file())
}

/// What a program prints, if it is there, root's, and succeeds in time.
pub fn ask(program: &str, words: &[&str]) -> Option<String> {
    let path = find(program).filter(|path| Utf8Path::from_path(path).and_then(hook_path::untrusted).is_none())?;
    let mut command = Command::new(path);
    command.args(words).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).stderr(Stdio::null());
    answer(command.stdout(Stdio::piped()).process_group(0), TIME_LIMIT)
}

fn answer(command: &mut Command, limit: Duration) -> Option<String> {
    let end = Instant::now() + limit;
    let mut child = command.spawn().ok()?;
    let answer = child.stdout.take().and_then(|stdout| all_of(stdout, end));
    let ended = answer.as_ref().and_then(|_| end_of(&mut child, end));
    if ended.is_none() {
        // Whatever it started goes with it.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        let _ = child.wait();
    }
    answer.filter(|_| ended == Some(true))
}

/// All that is said until a point in time, if that is not too much.
fn all_of(mut stdout: ChildStdout, end: Instant) -> Option<String> {
    let (mut said, mut part) = (Vec::new(), vec![0; 64 << 10]);
    while said.len() <= MOST_BYTES {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok()?;
        match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&left)) {
            Ok(1..) => {}
            Err(rustix::io::Errno::INTR) => continue,
            _ => return None,
        }
        match stdout.read(&mut part).ok()? {
            0 => return Some(String::from_utf8_lossy(&said).into_owned()),
            bytes => said.extend(part.get(..bytes)?),
        }
    }
    None
}

/// Whether it ended well, if it ended in time: it has closed its output, and may not have ended.
fn end_of(child: &mut Child, end: Instant) -> Option<bool> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_not_waited_for_long() {
        let asked = |script: &str, limit: u64| {
            let mut sh = Command::new("/bin/sh");
            let begin = Instant::now();
            let said = answer(
                sh.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0),
                Duration::from_millis(limit),
            );
            assert!(begin.elapsed() < Duration::from_secs(20), "{script}");
            said
        };
        assert_eq!(asked("echo podman version 5.8.0", 20_000).as_deref(), Some("podman version 5.8.0\n"));
        assert_eq!(asked("echo x; exit 1", 20_000), None);
        assert_eq!(asked("sleep 60", 100), None);
        assert_eq!(asked("echo x; exec >&-; sleep 60", 100), None);
        assert_eq!(asked("sleep 60 & echo x", 100), None, "what it leaves behind holds its output");
        assert_eq!(asked("cat /dev/zero", 20_000), None);
    }
}
