//! A program run call by call, one of its system calls failing or the last that it makes: for tests, by ptrace(2).
#![expect(unsafe_code, reason = "ptrace(2) and waitpid(2) have no safe wrapper among our crates")]
#![expect(clippy::unwrap_used, reason = "stops at the first surprise")]

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::ptr;

use libc::{c_int, c_long, pid_t};

/// What becomes of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call of this number in order is not made, and fails with this error.
    Fails(usize, c_int),
    /// The process is killed before the call of this number in order.
    Killed(usize),
    /// Each call of this kind fails with this error.
    Unknown(c_long, c_int),
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// `None` if it was killed or crashed.
    pub code: Option<i32>,
    pub stderr: String,
    /// Whether the fault came about: not if the program made fewer calls.
    pub met: bool,
}

/// Runs a program to its end.
pub fn run(command: &mut Command, fault: Fault) -> Ended {
    traced(command, fault).0
}

/// How many calls a program makes before its `main`, which are the loader's and the standard library's.
pub fn before_main(command: &mut Command) -> usize {
    // The last thing that Rust sets up is a stack for the signal of an overflow of the stack.
    let (_, stack) = traced(command, Fault::Fails(usize::MAX, 0));
    stack.map_or(0, |stack| stack + 1)
}

#[expect(clippy::zombie_processes, reason = "the tracer waits for it")]
fn traced(command: &mut Command, fault: Fault) -> (Ended, Option<usize>) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: one call that allocates nothing, between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::ptrace(libc::PTRACE_TRACEME, 0, ptr::null_mut::<u8>(), ptr::null_mut::<u8>());
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    let pid = pid_t::try_from(child.id()).unwrap();
    let mut tracer = Tracer { pid, calls: 0, stack: None, fault, met: false };
    let code = tracer.trace();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (Ended { code, stderr, met: tracer.met }, tracer.stack)
}

struct Tracer {
    pid: pid_t,
    /// How many were begun.
    calls: usize,
    /// The first sigaltstack(2).
    stack: Option<usize>,
    fault: Fault,
    met: bool,
}

impl Tracer {
    fn trace(&mut self) -> Option<i32> {
        // It stops by itself behind exec.
        assert!(libc::WIFSTOPPED(self.wait()));
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        self.ptrace(libc::PTRACE_SETOPTIONS, options.try_into().unwrap());
        let (mut signal, mut is_inside) = (0, false);
        let mut failing = None;
        loop {
            self.ptrace(libc::PTRACE_SYSCALL, signal);
            let status = self.wait();
            if !libc::WIFSTOPPED(status) {
                return libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
            }
            signal = 0;
            match libc::WSTOPSIG(status) {
                stop if stop == libc::SIGTRAP | 0x80 => {
                    is_inside = !is_inside;
                    if is_inside {
                        failing = self.begin();
                    } else if let Some(error) = failing.take() {
                        self.change(|registers| registers.rax = u64::from(error.unsigned_abs()).wrapping_neg());
                    }
                }
                other => signal = other.try_into().unwrap(),
            }
        }
    }

    /// A call begins; the error that it is to fail with.
    fn begin(&mut self) -> Option<c_int> {
        let number = self.calls;
        self.calls += 1;
        if self.stack.is_none() && self.call() == libc::SYS_sigaltstack {
            self.stack = Some(number);
        }
        let error = match self.fault {
            Fault::Fails(fails, error) if fails == number => error,
            Fault::Unknown(call, error) if self.call() == call => error,
            Fault::Killed(killed) if killed == number => {
                self.met = true;
                // SAFETY: a signal for our own child.
                unsafe { libc::kill(self.pid, libc::SIGKILL) };
                return None;
            }
            _ => return None,
        };
        self.met = true;
        // A call that there is none of: nothing is done.
        self.change(|registers| registers.orig_rax = u64::MAX);
        Some(error)
    }

    fn call(&self) -> c_long {
        self.registers().orig_rax.try_into().unwrap_or(-1)
    }

    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: numbers, for which zero is a value.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: the child is stopped, and the place is as large as the kernel takes it to be.
        unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.pid, ptr::null_mut::<u8>(), &raw mut registers) };
        registers
    }

    fn change(&self, change: impl FnOnce(&mut libc::user_regs_struct)) {
        let mut registers = self.registers();
        change(&mut registers);
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.pid, ptr::null_mut::<u8>(), &raw mut registers) };
    }

    fn ptrace(&self, request: libc::c_uint, data: usize) {
        // SAFETY: a request with a number and no pointer. One for a child that was killed meanwhile fails, and its end is
        // seen at the next wait.
        unsafe { libc::ptrace(request, self.pid, ptr::null_mut::<u8>(), data) };
    }

    fn wait(&self) -> c_int {
        let mut status = 0;
        // SAFETY: the place for the status is ours.
        let waited = unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
        assert_eq!(waited, self.pid, "nobody else waits for the child");
        status
    }
}
