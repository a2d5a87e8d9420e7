//! Program: what runs in a container's namespace, watched, with what it took. I/O.
#![expect(clippy::disallowed_methods, reason = "runs programs")]

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::Container;

/// How often it is looked whether a program has ended.
const PAUSE: Duration = Duration::from_millis(2);
/// Where a filter finds a system call's number (linux/seccomp.h, `struct seccomp_data`).
const NUMBER_AT: u32 = 0;

/// Whether the kernel has openat2(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Openat2 {
    /// As it is.
    Known,
    /// A filter says that it has not, as kernels before 5.6 do.
    Missing,
}

/// A program with its arguments.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it reads; the container's state if there is nothing else.
    pub stdin: Option<Vec<u8>>,
    /// Whether openat2(2) is there.
    pub openat2: Openat2,
    /// After that long it is killed.
    pub limit: Duration,
    /// Whether its system calls are counted, for which it stops at each.
    pub counted: bool,
}

/// How a program ended, and what it took.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; `None` if it was killed.
    pub code: Option<i32>,
    /// Whether it was still running at its limit.
    pub hung: bool,
    /// What it said.
    pub stderr: String,
    /// Wall time.
    pub time: Duration,
    /// Its own time and the kernel's for it.
    pub cpu: Duration,
    /// Peak of its memory, which is no less than that of the process that started it (getrusage(2)).
    pub peak_kib: u64,
    /// Bytes that it read, by proc_pid_io(5).
    pub bytes_read: u64,
    /// System calls, if they were counted.
    pub calls: u64,
}

impl Program {
    /// A program that may take 20 seconds.
    pub fn new(path: impl Into<PathBuf>, args: &[impl AsRef<str>]) -> Self {
        Self {
            path: path.into(),
            args: args.iter().map(|arg| arg.as_ref().to_owned()).collect(),
            stdin: None,
            openat2: Openat2::Known,
            limit: Duration::from_secs(20),
            counted: false,
        }
    }

    /// Runs it in the thread's namespaces. A filter stays with the thread.
    pub(super) fn run(&self, container: &Container) -> io::Result<Ended> {
        if self.openat2 == Openat2::Missing {
            refuse_openat2()?;
        }
        let state = || container.state().into_bytes();
        let stdin = file_of(&self.stdin.clone().unwrap_or_else(state))?;
        let mut stderr = tempfile::tempfile()?;
        let mut command = Command::new(&self.path);
        command.args(&self.args).current_dir(container.path("")).env_clear().env("CDI_HOOK", "1");
        command.stdin(stdin).stdout(Stdio::null()).stderr(stderr.try_clone()?);
        let start = Instant::now();
        if self.counted {
            be_traced(&mut command);
        }
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        let (hung, stops) = self.wait(pid, start)?;
        let time = start.elapsed();
        // A process that has ended is still told of, until somebody has waited for it.
        let bytes_read = bytes_read(pid);
        let (status, usage) = reap(pid)?;
        stderr.rewind()?;
        Ok(Ended {
            code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            hung,
            stderr: String::from_utf8_lossy(&all(stderr)?).into_owned(),
            time,
            cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
            peak_kib: u64::try_from(usage.ru_maxrss).unwrap_or_default(),
            bytes_read,
            // Where it begins and where it ends.
            calls: stops / 2,
        })
    }

    /// Waits for its end, which comes at the limit at the latest. Tells whether it had to, and how often it stopped.
    fn wait(&self, pid: Pid, start: Instant) -> io::Result<(bool, u64)> {
        let (mut hung, mut stops) = (false, 0);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let options = if self.counted { options | WaitIdOptions::STOPPED } else { options | WaitIdOptions::NOHANG };
        loop {
            if !hung && start.elapsed() > self.limit {
                kill_process(pid, Signal::KILL)?;
                hung = true;
            }
            match waitid(WaitId::Pid(pid), options)? {
                Some(status) if status.exited() || status.killed() || status.dumped() => return Ok((hung, stops)),
                Some(_) => {
                    stops += 1;
                    go_on(pid);
                }
                None => std::thread::sleep(PAUSE),
            }
        }
    }
}

/// Has a program stop for us at each system call (ptrace(2)).
#[expect(unsafe_code, reason = "ptrace(2) is asked for between fork and exec")]
fn be_traced(command: &mut Command) {
    let trace_me = || {
        // SAFETY: takes no pointers.
        if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: one system call, and no memory is asked for.
    unsafe { command.pre_exec(trace_me) };
}

/// To the beginning or the end of the next call. One that is gone goes nowhere.
#[expect(unsafe_code, reason = "ptrace(2) has no safe wrapper among our crates")]
fn go_on(pid: Pid) {
    let mut status = 0;
    let number = pid.as_raw_nonzero().get();
    // SAFETY: the pointer is valid for writes; the other call takes none.
    unsafe {
        libc::waitpid(number, &raw mut status, libc::WUNTRACED | libc::WNOHANG);
        // What stopped it was ours, unless it is a signal of its own.
        let signal = if libc::WSTOPSIG(status) == libc::SIGTRAP { 0 } else { libc::WSTOPSIG(status) };
        libc::ptrace(libc::PTRACE_SYSCALL, number, 0, signal);
    }
}

fn file_of(bytes: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn all(mut file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut file, &mut bytes)?;
    Ok(bytes)
}

fn bytes_read(pid: Pid) -> u64 {
    let path = Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join("io");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("rchar:")?.trim().parse().ok()).unwrap_or_default()
}

#[expect(unsafe_code, reason = "wait4(2) has no safe wrapper among our crates")]
fn reap(pid: Pid) -> io::Result<(i32, libc::rusage)> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid for writes.
    let waited = unsafe { libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, 0, usage.as_mut_ptr()) };
    if waited < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a zeroed rusage is a valid one, and the kernel has filled it.
    Ok((status, unsafe { usage.assume_init() }))
}

fn duration(time: libc::timeval) -> Duration {
    let micros = time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_usec);
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// From here on openat2(2) is unknown to this thread and to what it starts.
#[expect(unsafe_code, reason = "seccomp(2) takes a pointer to a program")]
fn refuse_openat2() -> io::Result<()> {
    let number = u32::try_from(libc::SYS_openat2).map_err(io::Error::other)?;
    let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    let program = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, NUMBER_AT),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, number),
        instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        instruction(libc::BPF_RET | libc::BPF_K, 0, unknown),
    ];
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program and writes neither.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter, 0, 0) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn instruction(code: u32, jump: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: jump, jf: 0, k: value }
}
