//! The filter: the system calls that the hook makes, and what the kernel answers to all others. I/O.
//!
//! `ALLOWED` is the whole list, with the reason for each call. Calls of newer kernels that are not in it do not exist for
//! the hook (ENOSYS), so that another C library falls back to what was there before; older ones are refused (EPERM); and
//! those of `DEADLY`, which only a process makes that does somebody else's bidding, end it. What a call's pointers lead
//! to no filter sees: which file is opened, and which file system is mounted.

use std::io;

use cdi_gen::seccomp::{self, ARCHITECTURE, ARCHITECTURE_AT, ARGUMENTS_AT, NUMBER_AT, X32, answer, errno, load};
use libc::c_long;

/// What is allowed of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    /// All of it.
    Any,
    /// An argument with one of these values, in its low half; the kernel heeds no more of it.
    Values(u32, &'static [u32]),
    /// An argument without these bits.
    Without(u32, u32),
    /// This process for the first argument.
    Itself,
}

use Only::{Any, Itself, Values, Without};

/// The calls that the hook makes once it is sealed, built with musl or with glibc.
#[rustfmt::skip]
const ALLOWED: &[(c_long, Only)] = &[
    // Each path is followed from a handle to the next.
    (libc::SYS_openat2, Any),          // what a path leads to in the root
    (libc::SYS_openat, Any),           // the same, name by name, and where openat2(2) is missing; the root itself; procfs
    (libc::SYS_readlinkat, Any),       // what a link says
    (libc::SYS_newfstatat, Any),       // what a name is
    (libc::SYS_statx, Any),            // whether a handle is on a mount, and on which one
    (libc::SYS_fstat, Any),            // what a handle is on
    (libc::SYS_fstatfs, Any),          // whether that is procfs or an overlay
    (libc::SYS_getxattr, Any),         // whether an access control list says more than a mode
    (libc::SYS_close, Any),
    // Descriptors stay with their process; nothing is sent to the owner of one (F_SETOWN), no lease is taken.
    (libc::SYS_fcntl, Values(1, &[
        libc::F_GETFD.cast_unsigned(),
        libc::F_SETFD.cast_unsigned(),
        libc::F_GETFL.cast_unsigned(),
        libc::F_DUPFD_CLOEXEC.cast_unsigned(),
    ])),
    // What is in files and directories.
    (libc::SYS_read, Any),             // the state, configurations, short caches
    (libc::SYS_pread64, Any),          // the heads of libraries, long caches
    (libc::SYS_lseek, Any),            // the C library's, for a file whose length it asks
    (libc::SYS_getdents64, Any),
    // What the hook changes in the root.
    (libc::SYS_write, Any),            // caches and configurations; what is told on stderr
    (libc::SYS_writev, Any),           // the C library's last words
    (libc::SYS_mkdirat, Any),
    (libc::SYS_symlinkat, Any),
    (libc::SYS_unlinkat, Any),         // what was beside a file
    (RENAMEAT, Any),                   // to its place
    (libc::SYS_renameat2, Any),        // to its place, in exchange for what is there
    // Modes of files that the hook made, and of the container's nodes: nobody gets another's rights.
    (libc::SYS_fchmod, Without(1, SETID)),
    (libc::SYS_fchmodat, Without(2, SETID)),
    // Mounts over files that cannot be written or must not; a new file system has no devices, programs or setuid bits.
    (libc::SYS_mount, Values(3, MOUNTS)),
    (libc::SYS_umount2, Values(1, &[libc::MNT_DETACH.cast_unsigned()])),
    // The process confines itself to the root (`super::landlock`), and can only ever lose by it.
    (libc::SYS_landlock_create_ruleset, Any),
    (libc::SYS_landlock_add_rule, Any),
    (libc::SYS_landlock_restrict_self, Any),
    // The process itself.
    (libc::SYS_chdir, Any),            // away from the root, before it is changed
    (libc::SYS_getcwd, Any),           // where runc starts hooks
    (libc::SYS_umask, Any),
    (libc::SYS_clock_gettime, Any),    // the budget's time
    (libc::SYS_exit_group, Any),
    (libc::SYS_exit, Any),
    (libc::SYS_restart_syscall, Any),  // the kernel's own, after a signal
    // Memory, which holds data alone: nothing that was written can be run.
    (libc::SYS_brk, Any),
    (libc::SYS_mmap, Without(2, EXECUTABLE)),
    (libc::SYS_mprotect, Without(2, EXECUTABLE)),
    (libc::SYS_mremap, Any),
    (libc::SYS_munmap, Any),
    (libc::SYS_madvise, Any),
    (libc::SYS_getrandom, Any),        // glibc's allocator, and maps of the standard library
    (libc::SYS_futex, Any),            // locks of the standard library; nobody else ever holds one
    // How a process ends that has found its own mistake: it tells itself.
    (libc::SYS_rt_sigaction, Any),
    (libc::SYS_rt_sigprocmask, Any),
    (libc::SYS_rt_sigreturn, Any),
    (libc::SYS_sigaltstack, Any),      // also each end
    (libc::SYS_getpid, Any),
    (libc::SYS_gettid, Any),
    (libc::SYS_tkill, Itself),
    (libc::SYS_tgkill, Itself),
    // By the C library, for paths of procfs.
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, Any),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_readlink, Any),
];
/// How the hook mounts: a new file system, a file or directory once more, kept to this namespace, made read-only.
#[rustfmt::skip]
const MOUNTS: &[u32] = &[
    SAFE,
    bits(libc::MS_BIND),
    bits(libc::MS_PRIVATE),
    bits(libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY) | SAFE,
];
const SAFE: u32 = bits(libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC);
const SETID: u32 = libc::S_ISUID | libc::S_ISGID;
const EXECUTABLE: u32 = libc::PROT_EXEC.cast_unsigned();

/// Calls that run programs, look into other processes, change namespaces, reach files without a path or load code into
/// the kernel: no mistake of ours makes one.
const DEADLY: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    KEXEC_FILE_LOAD,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
];
/// Not in each list of the crate libc.
const RENAMEAT: c_long = if cfg!(target_arch = "aarch64") { 38 } else { 264 };
const KEXEC_FILE_LOAD: c_long = if cfg!(target_arch = "aarch64") { 294 } else { 320 };
/// From here on all machines number calls alike (Linux 5.1), and no C library counts on one.
const RECENT: u32 = 424;

/// The kernel's answers, and where they stand from the filter's end.
const ANSWERS: [u32; 4] =
    [errno(libc::EPERM), libc::SECCOMP_RET_ALLOW, errno(libc::ENOSYS), libc::SECCOMP_RET_KILL_PROCESS];
const REFUSE: usize = 0;
const ALLOW: usize = 1;
const MISSING: usize = 2;
const KILL: usize = 3;

#[expect(clippy::cast_possible_truncation, reason = "flags of mount(2) have 32 bits, whatever the type of the field")]
const fn bits(flags: libc::c_ulong) -> u32 {
    flags as u32
}

/// Has the kernel filter the calls of this process, for good.
///
/// # Errors
/// The kernel knows no filters, or one forbids them.
pub fn install() -> io::Result<()> {
    seccomp::install(&program(std::process::id()).ok_or(io::ErrorKind::Unsupported)?)
}

/// The filter of a process, in the classic Berkeley packet filter's code. It searches by halves: the kernel goes through it
/// for each call that there is when it takes it (`seccomp_cache_prepare`, kernel/seccomp.c), which is most of what the
/// filter costs.
fn program(process: u32) -> Option<Vec<libc::sock_filter>> {
    // Backwards, since jumps lead to what comes later.
    let mut backwards: Vec<libc::sock_filter> = ANSWERS.into_iter().map(answer).collect();
    let ranges = ranges(&mut backwards, process)?;
    let searched = search(&mut backwards, &ranges)?;
    jump(&mut backwards, libc::BPF_JGE, X32, REFUSE, searched)?;
    backwards.push(load(NUMBER_AT));
    let known = backwards.len() - 1;
    jump(&mut backwards, libc::BPF_JEQ, ARCHITECTURE?, known, REFUSE)?;
    backwards.push(load(ARCHITECTURE_AT));
    backwards.reverse();
    Some(backwards)
}

/// What is done with all numbers: from each of these on the filter goes on elsewhere. Checks of arguments are put into it.
fn ranges(backwards: &mut Vec<libc::sock_filter>, process: u32) -> Option<Vec<(u32, usize)>> {
    let mut listed = Vec::with_capacity(ALLOWED.len() + DEADLY.len() + 1);
    for (call, only) in ALLOWED {
        listed.push((u32::try_from(*call).ok()?, check(backwards, *only, process)?));
    }
    for call in DEADLY {
        listed.push((u32::try_from(*call).ok()?, KILL));
    }
    listed.push((RECENT, MISSING));
    listed.sort_unstable();
    let mut ranges = vec![(0, REFUSE)];
    for (number, target) in listed {
        begin(&mut ranges, number, target);
        begin(&mut ranges, number + 1, if number < RECENT { REFUSE } else { MISSING });
    }
    Some(ranges)
}

/// Ends the latest range where another one begins, if anything is in it, and if they differ.
fn begin(ranges: &mut Vec<(u32, usize)>, number: u32, target: usize) {
    ranges.pop_if(|(latest, _)| *latest == number);
    if ranges.last().is_none_or(|(_, latest)| *latest != target) {
        ranges.push((number, target));
    }
}

/// Where the filter looks at a call's arguments.
fn check(backwards: &mut Vec<libc::sock_filter>, only: Only, process: u32) -> Option<usize> {
    let (argument, tested) = match only {
        Any => return Some(ALLOW),
        Itself => (0, one_of(backwards, &[process])?),
        Values(argument, values) => (argument, one_of(backwards, values)?),
        Without(argument, bits) => (argument, jump(backwards, libc::BPF_JSET, bits, REFUSE, ALLOW)?),
    };
    backwards.push(load(ARGUMENTS_AT + 8 * argument));
    Some(tested + 1)
}

fn one_of(backwards: &mut Vec<libc::sock_filter>, values: &[u32]) -> Option<usize> {
    values.iter().try_fold(REFUSE, |otherwise, value| jump(backwards, libc::BPF_JEQ, *value, ALLOW, otherwise))
}

/// Finds the range of a number. Returns where that starts.
fn search(backwards: &mut Vec<libc::sock_filter>, ranges: &[(u32, usize)]) -> Option<usize> {
    match ranges.split_at(ranges.len() / 2) {
        ([], [(_, target)]) => Some(*target),
        (low, high @ [(number, _), ..]) => {
            let (high, low) = (search(backwards, high)?, search(backwards, low)?);
            jump(backwards, libc::BPF_JGE, *number, high, low)
        }
        (_, []) => None,
    }
}

/// A jump to what is there already, counted from the end as is what this returns: where itself is.
fn jump(backwards: &mut Vec<libc::sock_filter>, test: u32, value: u32, then: usize, otherwise: usize) -> Option<usize> {
    let at = backwards.len();
    let over = |to: usize| u8::try_from(at.checked_sub(to + 1)?).ok();
    backwards.push(seccomp::jump(test, value, over(then)?, over(otherwise)?));
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: u32 = 4711;

    /// A call as a filter sees it: number, architecture, instruction pointer, and the halves of its arguments.
    struct Call([u32; 16]);

    impl Call {
        fn new(architecture: u32, number: u32, arguments: [u32; 6]) -> Self {
            let mut words = [0; 16];
            words[..2].copy_from_slice(&[number, architecture]);
            for (at, argument) in arguments.into_iter().enumerate() {
                words[4 + 2 * at] = argument;
            }
            Self(words)
        }

        /// What the kernel would answer, and after how many instructions.
        fn answer(&self, program: &[libc::sock_filter]) -> (u32, usize) {
            let (mut at, mut loaded) = (0, 0);
            for steps in 1.. {
                let libc::sock_filter { code, jt, jf, k } = program[at];
                at += 1;
                let holds = match u32::from(code) {
                    code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                        loaded = self.0[usize::try_from(k / 4).unwrap()];
                        continue;
                    }
                    code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => loaded == k,
                    code if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => loaded >= k,
                    code if code == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K => loaded & k != 0,
                    code if code == libc::BPF_RET | libc::BPF_K => return (k, steps),
                    code => panic!("{code:#x}"),
                };
                at += usize::from(if holds { jt } else { jf });
            }
            unreachable!()
        }
    }

    const REFUSED: u32 = ANSWERS[REFUSE];
    const ALLOWED_ONE: u32 = ANSWERS[ALLOW];

    /// By the tables, without the search.
    fn expected(number: u32, arguments: [u32; 6]) -> u32 {
        let is = |call: &c_long| *call == c_long::from(number);
        let argument = |at: u32| arguments[usize::try_from(at).unwrap()];
        match ALLOWED.iter().find(|(call, _)| is(call)) {
            Some((_, only)) => {
                let holds = match only {
                    Any => true,
                    Values(at, values) => values.contains(&argument(*at)),
                    Without(at, bits) => argument(*at) & bits == 0,
                    Itself => arguments[0] == PROCESS,
                };
                if holds { ALLOWED_ONE } else { REFUSED }
            }
            None if DEADLY.iter().any(is) => libc::SECCOMP_RET_KILL_PROCESS,
            None if number < RECENT => REFUSED,
            None => libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned(),
        }
    }

    #[test]
    fn all_that_the_tables_allow_is_allowed_and_nothing_else() {
        let (Some(program), Some(architecture)) = (program(PROCESS), ARCHITECTURE) else {
            panic!("no filter: one jump is too long, or this machine is not known")
        };
        let mut values = vec![0, 1, 7, PROCESS, PROCESS + 1, u32::MAX];
        values.extend(ALLOWED.iter().flat_map(|(_, only)| match only {
            Values(_, values) => values.to_vec(),
            Without(_, bits) => vec![*bits],
            Any | Itself => vec![],
        }));
        for number in 0..1000 {
            for value in &values {
                let arguments = [*value; 6];
                let call = |architecture, number| Call::new(architecture, number, arguments).answer(&program).0;
                assert_eq!(call(architecture, number), expected(number, arguments), "{number} {value:#x}");
                assert_eq!(call(architecture, X32 | number), REFUSED, "x32: {number}");
                assert_eq!(call(architecture ^ 1, number), REFUSED, "another machine: {number}");
            }
        }
    }

    /// A call stands once in the tables, or the filter would heed one of them.
    #[test]
    fn no_call_has_two_answers() {
        let mut calls: Vec<c_long> = ALLOWED.iter().map(|(call, _)| *call).chain(DEADLY.iter().copied()).collect();
        let count = calls.len();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), count);
    }

    /// The kernel goes through it for each number.
    #[test]
    fn an_answer_is_found_in_few_steps() {
        let program = program(PROCESS).unwrap();
        let steps = |number| Call::new(ARCHITECTURE.unwrap(), number, [0; 6]).answer(&program).1;
        let most = (0..1000).map(steps).max().unwrap();
        assert!(most <= 20, "{most} of {}", program.len());
    }

    /// What the review of the hook before this list found that it could do.
    #[test]
    fn no_call_makes_a_process_a_node_or_a_way_out() {
        let program = program(PROCESS).unwrap();
        let calls = [
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_io_uring_setup,
            libc::SYS_open_by_handle_at,
            libc::SYS_pidfd_getfd,
            libc::SYS_mknodat,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            KEXEC_FILE_LOAD,
            libc::SYS_ioctl,
            libc::SYS_prctl,
            libc::SYS_socket,
            libc::SYS_kill,
            libc::SYS_linkat,
            libc::SYS_setxattr,
            libc::SYS_setuid,
            libc::SYS_capset,
        ];
        for call in calls {
            let call = Call::new(ARCHITECTURE.unwrap(), u32::try_from(call).unwrap(), [0; 6]);
            assert_ne!(call.answer(&program).0, ALLOWED_ONE, "{:?}", call.0);
        }
    }
}
