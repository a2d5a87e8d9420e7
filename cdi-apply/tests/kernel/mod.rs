//! What the kernel does with a program: calls that it is made to lack, and a record of those that a sealed one makes.
#![expect(unsafe_code, reason = "seccomp(2) and ptrace(2), in children of a test")]
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use libc::c_long;

/// A call that the kernel is made to refuse, with an error.
#[derive(Clone, Copy)]
pub struct Lack {
    pub call: c_long,
    /// Only with this for its first argument.
    pub first: Option<u32>,
    pub errno: i32,
}

impl Lack {
    pub fn of(call: c_long, errno: i32) -> Self {
        Self { call, first: None, errno }
    }

    /// A kernel that takes no seccomp filters.
    pub fn seccomp() -> [Self; 2] {
        let first = Some(libc::PR_SET_SECCOMP.cast_unsigned());
        [Self { call: libc::SYS_prctl, first, errno: libc::EINVAL }, Self::of(libc::SYS_seccomp, libc::ENOSYS)]
    }

    fn instructions(self) -> Vec<libc::sock_filter> {
        let instruction = |code: u32, skipped: usize, k: u32| libc::sock_filter {
            code: u16::try_from(code).unwrap(),
            jt: 0,
            jf: u8::try_from(skipped).unwrap(),
            k,
        };
        let load = |at| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, at);
        let is = |value, skipped| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, skipped, value);
        let answer = instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | self.errno.cast_unsigned());
        let argument: Vec<_> = self.first.map(|first| [load(16), is(first, 1)]).into_iter().flatten().collect();
        let head = [load(0), is(u32::try_from(self.call).unwrap(), argument.len() + 1)];
        [&head[..], &argument, &[answer]].concat()
    }
}

/// Has a command run on a kernel that lacks calls.
pub fn lacking(command: &mut Command, lacks: &[Lack]) {
    if lacks.is_empty() {
        return;
    }
    let mut program: Vec<libc::sock_filter> = lacks.iter().flat_map(|lack| lack.instructions()).collect();
    let code = u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap();
    program.push(libc::sock_filter { code, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW });
    let install = move || {
        let filter =
            libc::sock_fprog { len: u16::try_from(program.len()).unwrap(), filter: program.as_ptr().cast_mut() };
        let done = |result: i32| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
        // SAFETY: numbers, and a program that lives until the call is done.
        unsafe {
            done(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            done(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter, 0, 0))
        }
    };
    // SAFETY: makes two system calls and allocates nothing.
    unsafe { command.pre_exec(install) };
}

/// What a sealed process did.
#[derive(Debug, Default)]
pub struct Record {
    /// The calls that it made.
    pub calls: BTreeSet<c_long>,
    /// Those that were refused as the seal refuses, with the error.
    pub refused: BTreeSet<(c_long, i64)>,
    /// The end of the process, as wait(2) tells it.
    pub status: i32,
    pub is_sealed: bool,
    pub stderr: String,
}

/// Runs a command, and records what it does from when it is sealed; `None` where nobody may trace.
pub fn recorded(mut command: Command) -> Option<Record> {
    // SAFETY: one system call.
    let trace_me = || match unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(trace_me) };
    let Ok(child) = command.stderr(Stdio::piped()).spawn() else {
        println!("skipped: nobody may trace here");
        return None;
    };
    let process = i32::try_from(child.id()).unwrap();
    let mut record = Record::default();
    let mut latest = (0, [0; 6]);
    loop {
        let mut status = 0;
        // SAFETY: writes a number.
        assert_eq!(unsafe { libc::waitpid(process, &raw mut status, libc::__WALL) }, process);
        if !libc::WIFSTOPPED(status) {
            record.status = status;
            break;
        }
        let signal = match libc::WSTOPSIG(status) {
            stop if stop == libc::SIGTRAP | 0x80 => {
                latest = record.note(process, latest);
                0
            }
            libc::SIGTRAP => {
                // SAFETY: numbers only.
                unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, process, 0, libc::PTRACE_O_TRACESYSGOOD) };
                0
            }
            signal => signal,
        };
        // SAFETY: numbers only.
        unsafe { libc::ptrace(libc::PTRACE_SYSCALL, process, 0, signal) };
    }
    io::Read::read_to_string(&mut child.stderr.unwrap(), &mut record.stderr).unwrap();
    Some(record)
}

impl Record {
    /// Notes a call's start or end, and gives the latest one that has started.
    fn note(&mut self, process: i32, latest: (c_long, [u64; 6])) -> (c_long, [u64; 6]) {
        // SAFETY: any bytes are one, zeros too.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: the kernel writes no more than the size.
        let written = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, process, size, &raw mut info) };
        assert!(written > 0, "{}", io::Error::last_os_error());
        if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            // SAFETY: the kernel says which one it is.
            let entry = unsafe { info.u.entry };
            return (c_long::try_from(entry.nr).unwrap(), entry.args);
        }
        // SAFETY: as above.
        let exit = unsafe { info.u.exit };
        let (call, arguments) = latest;
        if self.is_sealed {
            self.calls.insert(call);
            if exit.is_error != 0 && [-i64::from(libc::EPERM), -i64::from(libc::ENOSYS)].contains(&exit.sval) {
                self.refused.insert((call, exit.sval));
            }
        }
        let seals = call == libc::SYS_prctl && arguments[0] == u64::from(libc::PR_SET_SECCOMP.cast_unsigned());
        self.is_sealed |= seals && exit.sval == 0;
        latest
    }
}
