//! Seal: the hook gives up what it never does, so that a bug in a reader of the image's files cannot. I/O.
//!
//! The hook runs no program, makes no connection, changes no namespace and loads no code into the kernel. From here on
//! the kernel refuses all that (seccomp(2)); two system calls, and some nanoseconds for each one that follows.

use std::io;

/// System calls that are refused.
const REFUSED: [libc::c_long; 16] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_writev,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_clone3,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_add_key,
];
/// This machine's system calls, and no others: those of 32-bit programs have other numbers (linux/audit.h).
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else {
    None
};
/// Where a filter finds number and architecture (linux/seccomp.h, `struct seccomp_data`).
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
/// Calls of the x32 ABI have this bit.
const X32: u32 = 0x4000_0000;

/// Seals the process.
///
/// # Errors
/// The kernel knows no filters, or one forbids them. The hook does its work all the same.
#[expect(unsafe_code, reason = "seccomp(2) takes a pointer to a program")]
pub fn seal() -> io::Result<()> {
    let Some(program) = program() else { return Err(io::ErrorKind::Unsupported.into()) };
    let filter =
        libc::sock_fprog { len: u16::try_from(program.len()).unwrap_or_default(), filter: program.as_ptr().cast_mut() };
    // Without it only root may filter; and this process runs no program that could gain anything.
    // SAFETY: takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the filter and its program live until the call is done; the kernel copies them and writes neither.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The filter, in the classic Berkeley packet filter's code.
fn program() -> Option<Vec<libc::sock_filter>> {
    let load = |at| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let jump = |test, value, then, otherwise| instruction(libc::BPF_JMP | test | libc::BPF_K, then, otherwise, value);
    let answer = |value| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    let refused = u8::try_from(REFUSED.len()).ok()?;
    let mut program = vec![
        load(ARCHITECTURE_AT),
        jump(libc::BPF_JEQ, ARCHITECTURE?, 0, refused.checked_add(3)?),
        load(NUMBER_AT),
        jump(libc::BPF_JGE, X32, refused.checked_add(1)?, 0),
    ];
    for (at, call) in (0..).zip(REFUSED) {
        program.push(jump(libc::BPF_JEQ, u32::try_from(call).ok()?, refused - at, 0));
    }
    program.extend([answer(libc::SECCOMP_RET_ALLOW), answer(libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned())]);
    Some(program)
}

fn instruction(code: u32, then: u8, otherwise: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: then, jf: otherwise, k: value }
}
