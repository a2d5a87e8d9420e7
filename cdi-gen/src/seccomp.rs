//! seccomp: what filters of system calls have in common, whatever they allow. I/O.
//!
//! A filter is a program in the classic Berkeley packet filter's code (seccomp(2)). Which calls it lets through is said
//! where the process is that it seals.
#![expect(unsafe_code, reason = "prctl(2) takes a pointer to a program")]

use std::io;

use libc::sock_filter;

/// This machine's system calls, and no others: those of 32-bit programs have other numbers (linux/audit.h).
pub const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else {
    None
};
/// Calls of the x32 ABI have this bit.
pub const X32: u32 = 0x4000_0000;
/// Where a filter finds number, architecture and the low half of the first argument (linux/seccomp.h, `struct
/// seccomp_data`), on machines that store it first.
pub const NUMBER_AT: u32 = 0;
/// The same.
pub const ARCHITECTURE_AT: u32 = 4;
/// The same; each argument has 8 bytes.
pub const ARGUMENTS_AT: u32 = 16;

/// Has the kernel filter the calls of this process, for good.
///
/// # Errors
/// The kernel knows no filters, or one forbids them.
pub fn install(program: &[sock_filter]) -> io::Result<()> {
    let filter =
        libc::sock_fprog { len: u16::try_from(program.len()).unwrap_or_default(), filter: program.as_ptr().cast_mut() };
    // SAFETY: the filter and its program live until the call is done; the kernel copies them and writes neither.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Loads what stands somewhere in the call's data.
pub fn load(at: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at)
}

/// Ends with an answer.
pub fn answer(value: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value)
}

/// Compares what was loaded, and goes on over so many instructions.
pub fn jump(test: u32, value: u32, then: u8, otherwise: u8) -> sock_filter {
    instruction(libc::BPF_JMP | test | libc::BPF_K, then, otherwise, value)
}

/// The answer that a call fails with an error.
pub const fn errno(error: libc::c_int) -> u32 {
    libc::SECCOMP_RET_ERRNO | error.cast_unsigned()
}

fn instruction(code: u32, then: u8, otherwise: u8, value: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: then, jf: otherwise, k: value }
}
