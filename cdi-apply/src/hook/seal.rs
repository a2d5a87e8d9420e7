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
/// Where the answers stand, from the end.
const REFUSE: usize = 0;
const ALLOW: usize = 1;

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

/// The filter, in the classic Berkeley packet filter's code. It searches by halves: the kernel goes through it for each
/// call that there is when it takes it (`seccomp_cache_prepare`, kernel/seccomp.c), which is most of what the seal costs.
fn program() -> Option<Vec<libc::sock_filter>> {
    let mut refused: Vec<u32> = REFUSED.into_iter().map(|call| u32::try_from(call).ok()).collect::<Option<_>>()?;
    refused.sort_unstable();
    let load = |at| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let answer = |value| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    // Backwards, since jumps lead to what comes later.
    let mut backwards =
        vec![answer(libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()), answer(libc::SECCOMP_RET_ALLOW)];
    let searched = search(&mut backwards, &refused)?;
    jump(&mut backwards, libc::BPF_JGE, X32, REFUSE, searched)?;
    backwards.push(load(NUMBER_AT));
    let known = backwards.len() - 1;
    jump(&mut backwards, libc::BPF_JEQ, ARCHITECTURE?, known, REFUSE)?;
    backwards.push(load(ARCHITECTURE_AT));
    backwards.reverse();
    Some(backwards)
}

/// Refuses the calls, which are sorted, and allows others. Returns where that starts.
fn search(backwards: &mut Vec<libc::sock_filter>, refused: &[u32]) -> Option<usize> {
    let (low, high) = refused.split_at(refused.len() / 2);
    match (low, high) {
        (_, []) => Some(ALLOW),
        ([], [call, ..]) => jump(backwards, libc::BPF_JEQ, *call, REFUSE, ALLOW),
        (_, [call, ..]) => {
            let (high, low) = (search(backwards, high)?, search(backwards, low)?);
            jump(backwards, libc::BPF_JGE, *call, high, low)
        }
    }
}

/// A jump to what is there already, counted from the end as is what this returns: where itself is.
fn jump(backwards: &mut Vec<libc::sock_filter>, test: u32, value: u32, then: usize, otherwise: usize) -> Option<usize> {
    let at = backwards.len();
    let over = |to: usize| u8::try_from(at.checked_sub(to + 1)?).ok();
    backwards.push(instruction(libc::BPF_JMP | test | libc::BPF_K, over(then)?, over(otherwise)?, value));
    Some(at)
}

fn instruction(code: u32, then: u8, otherwise: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: then, jf: otherwise, k: value }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer.
    fn answer(program: &[libc::sock_filter], architecture: u32, number: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let libc::sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let holds = match u32::from(code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    loaded = [number, architecture][usize::try_from(k / 4).unwrap()];
                    continue;
                }
                code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => loaded == k,
                code if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => loaded >= k,
                code if code == libc::BPF_RET | libc::BPF_K => return k,
                code => panic!("{code:#x}"),
            };
            at += usize::from(if holds { jt } else { jf });
        }
    }

    #[test]
    fn all_that_is_to_be_refused_is_and_nothing_else() {
        let (Some(program), Some(architecture)) = (program(), ARCHITECTURE) else { return };
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
        for number in 0..1000 {
            let is_refused = REFUSED.contains(&libc::c_long::from(number));
            let expected = if is_refused { refused } else { libc::SECCOMP_RET_ALLOW };
            let number = u32::try_from(number).unwrap();
            assert_eq!(answer(&program, architecture, number), expected, "{number}");
            assert_eq!(answer(&program, architecture, X32 | number), refused, "x32: {number}");
            assert_eq!(answer(&program, architecture ^ 1, number), refused, "another machine: {number}");
        }
    }
}
