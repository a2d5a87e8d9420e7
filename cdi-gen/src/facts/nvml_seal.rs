//! The seal of the process that loads NVML: it gives up what a library that answers questions does not need. I/O.
//!
//! The library is not ours, and its code runs as soon as it is loaded. So before that the process closes what it
//! inherited, may use little memory and processor time, may not write to files, gives up root where the driver's nodes
//! are open to all, and all capabilities, and lets the kernel refuse whatever changes files, processes, namespaces, the
//! kernel or other machines. Reading files, mapping memory, threads, and calls of the driver stay.
//!
//! The list names what is refused and not what is allowed: which calls the library makes is its vendor's to change. All
//! but the filter must work, or the library is not loaded; some kernels have no filters.
#![expect(unsafe_code, reason = "signal(2) has no safe wrapper")]
#![expect(clippy::disallowed_methods, reason = "lists the driver's nodes")]

use std::io;
use std::path::{Path, PathBuf};

use camino::Utf8Path;
use rustix::fs::{Access, AtFlags, CWD};
use rustix::process::{Gid, Resource, Rlimit, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::descriptors;
use crate::seccomp::{self, ARCHITECTURE, ARCHITECTURE_AT, ARGUMENTS_AT, NUMBER_AT, X32, errno};

/// Soft and hard limits. The driver maps registers of GPUs, hence the room in the address space; a sixteenth of each is
/// what an H100 host's library takes.
const LIMITS: [(Resource, u64); 6] = [
    (Resource::As, 16 << 30),
    (Resource::Data, 2 << 30),
    (Resource::Cpu, 60),
    (Resource::Nofile, 1024),
    (Resource::Core, 0),
    (Resource::Fsize, 0),
];
/// The user and group of nobody (`/proc/sys/kernel/overflowuid`).
const NOBODY: u32 = 65534;
/// The node that each user of the driver opens.
const CONTROL_NODE: &str = "nvidiactl";

/// Seals this process, which has one thread.
///
/// # Errors
/// Something could not be given up.
pub fn seal(library: &Utf8Path, keep_capabilities: bool) -> io::Result<()> {
    descriptors::close_inherited()?;
    // SAFETY: to ignore a signal takes no function of ours. A write to a file fails then, and nobody dies of it.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    for (resource, limit) in LIMITS {
        // What the caller lowered for itself counts no more.
        let maximum = rustix::process::getrlimit(resource).maximum;
        let limit = Some(maximum.map_or(limit, |maximum| maximum.min(limit)));
        rustix::process::setrlimit(resource, Rlimit { current: limit, maximum: limit })?;
    }
    if !keep_capabilities {
        become_nobody(library)?;
        drop_capabilities()?;
    }
    // A change of the user takes the order back.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::thread::set_no_new_privs(true)?;
    filter()
}

/// Root gives up being root, if anybody may read the library and use the driver's nodes. In a user namespace without
/// nobody it stays what it is.
fn become_nobody(library: &Utf8Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    let root = (rustix::process::getuid(), rustix::process::geteuid());
    // Looked at as nobody, with a way back.
    if rustix::thread::set_thread_res_uid(user, user, Uid::ROOT).is_err() {
        return Ok(());
    }
    let may = |path: &Path, access| rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS).is_ok();
    let suffices = may(library.as_std_path(), Access::READ_OK)
        && nodes().iter().all(|node| may(node, Access::READ_OK | Access::WRITE_OK));
    rustix::thread::set_thread_res_uid(root.0, root.1, Uid::ROOT)?;
    if suffices {
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(group, group, group)?;
        rustix::thread::set_thread_res_uid(user, user, user)?;
    }
    Ok(())
}

/// The nodes of GPUs and the one that controls them all.
fn nodes() -> Vec<PathBuf> {
    let is_node = |name: &str| {
        let number = name.strip_prefix("nvidia").filter(|number| !number.is_empty());
        name == CONTROL_NODE || number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let listed = std::fs::read_dir("/dev").into_iter().flatten().filter_map(Result::ok);
    let nodes = listed.filter(|entry| entry.file_name().to_str().is_some_and(is_node));
    nodes.map(|entry| entry.path()).collect()
}

fn drop_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// System calls that are refused with `EPERM`.
const REFUSED: &[libc::c_long] = &[
    // Programs, and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setpriority,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    libc::SYS_personality,
    // Rights.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // The kernel.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
    // Files, whose contents the limit of their size keeps.
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_mknodat,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_copy_file_range,
    // Servers, and traces for others. Connections are to local sockets only, below.
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_shmget,
    libc::SYS_mq_open,
];

/// The names that the same had before, on machines that still have them.
#[cfg(target_arch = "x86_64")]
const REFUSED_OF_OLD: &[libc::c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_creat,
    libc::SYS_mknod,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_kexec_file_load,
];
/// The last is `kexec_file_load`, which not every C library's header has.
#[cfg(target_arch = "aarch64")]
const REFUSED_OF_OLD: &[libc::c_long] = &[libc::SYS_renameat, 294];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const REFUSED_OF_OLD: &[libc::c_long] = &[];

/// Calls that say what others say in words that a filter cannot read, and those of Linux 5.12 and later: callers then use
/// the older ones, as they do on older kernels.
const UNKNOWN: [libc::c_long; 2] = [libc::SYS_clone3, libc::SYS_openat2];
const UNKNOWN_FROM: u32 = 442;

/// Files are opened, not made or emptied.
const MAKES_FILES: libc::c_int = libc::O_CREAT | libc::O_TRUNC | (libc::O_TMPFILE & !libc::O_DIRECTORY);

/// Lets the kernel refuse from now on; without effect where it has no filters.
fn filter() -> io::Result<()> {
    let Some(program) = program(std::process::id()) else { return Ok(()) };
    match seccomp::install(&program) {
        // The kernel was built without.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => Ok(()),
        installed => installed,
    }
}

/// Where a jump goes: over some instructions, or to an answer at the end.
#[derive(Clone, Copy)]
enum To {
    Next(u8),
    Refuse,
    Unknown,
    Allow,
}

#[derive(Clone, Copy)]
enum Step {
    Load(u32),
    /// Test, value, where if it holds, where if not.
    Jump(u32, u32, To, To),
    Answer(u32),
}

/// The filter, in the classic Berkeley packet filter's code.
fn program(process: u32) -> Option<Vec<libc::sock_filter>> {
    let equals = |value, then| Step::Jump(libc::BPF_JEQ, value, then, To::Next(0));
    let mut steps = vec![
        Step::Load(ARCHITECTURE_AT),
        Step::Jump(libc::BPF_JEQ, ARCHITECTURE?, To::Next(0), To::Refuse),
        Step::Load(NUMBER_AT),
        Step::Jump(libc::BPF_JGE, X32, To::Refuse, To::Next(0)),
        Step::Jump(libc::BPF_JGE, UNKNOWN_FROM, To::Unknown, To::Next(0)),
    ];
    for call in REFUSED.iter().chain(REFUSED_OF_OLD) {
        steps.push(equals(number(*call)?, To::Refuse));
    }
    for call in UNKNOWN {
        steps.push(equals(number(call)?, To::Unknown));
    }
    steps.extend(of_arguments(process)?);
    steps.push(Step::Answer(libc::SECCOMP_RET_ALLOW));
    steps.push(Step::Answer(errno(libc::ENOSYS)));
    steps.push(Step::Answer(errno(libc::EPERM)));
    assemble(&steps)
}

/// Calls of which it depends.
fn of_arguments(process: u32) -> Option<Vec<Step>> {
    let has = |bits: libc::c_int, then, otherwise| Step::Jump(libc::BPF_JSET, bits.cast_unsigned(), then, otherwise);
    let is = |value: u32, then, otherwise| Step::Jump(libc::BPF_JEQ, value, then, otherwise);
    let next = To::Next(0);
    let mut steps = Vec::new();
    let mut of = |call, argument: u32, tests: &[Step]| {
        // Over the tests, to the next call.
        let over = To::Next(u8::try_from(tests.len()).ok()? + 1);
        steps.push(is(number(call)?, next, over));
        steps.push(Step::Load(ARGUMENTS_AT + 8 * argument));
        steps.extend(tests);
        Some(())
    };
    let only_reads = [has(MAKES_FILES, To::Refuse, To::Allow)];
    #[cfg(target_arch = "x86_64")]
    of(libc::SYS_open, 1, &only_reads)?;
    of(libc::SYS_openat, 2, &only_reads)?;
    of(libc::SYS_clone, 0, &[has(libc::CLONE_THREAD, To::Allow, To::Refuse)])?;
    // What a process sends itself when it aborts.
    of(libc::SYS_tgkill, 0, &[is(process, To::Allow, To::Refuse)])?;
    let local = [libc::AF_UNIX, libc::AF_NETLINK].map(libc::c_int::cast_unsigned);
    of(libc::SYS_socket, 0, &[is(local[0], To::Allow, next), is(local[1], To::Allow, To::Refuse)])?;
    // Words that a terminal takes for typed ones.
    let typed = [libc::TIOCSTI, libc::TIOCLINUX].map(|request| u32::try_from(request).unwrap_or_default());
    of(libc::SYS_ioctl, 1, &[is(typed[0], To::Refuse, next), is(typed[1], To::Refuse, To::Allow)])?;
    Some(steps)
}

fn number(call: libc::c_long) -> Option<u32> {
    u32::try_from(call).ok()
}

/// The last three steps are the answers.
fn assemble(steps: &[Step]) -> Option<Vec<libc::sock_filter>> {
    let instruction = |(at, step): (usize, &Step)| {
        let over = |to: To| match to {
            To::Next(over) => Some(over),
            To::Allow => u8::try_from(steps.len().checked_sub(at + 4)?).ok(),
            To::Unknown => u8::try_from(steps.len().checked_sub(at + 3)?).ok(),
            To::Refuse => u8::try_from(steps.len().checked_sub(at + 2)?).ok(),
        };
        Some(match *step {
            Step::Load(at) => seccomp::load(at),
            Step::Answer(value) => seccomp::answer(value),
            Step::Jump(test, value, then, otherwise) => seccomp::jump(test, value, over(then)?, over(otherwise)?),
        })
    };
    steps.iter().enumerate().map(instruction).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: u32 = 4711;

    /// What the kernel would answer.
    fn answer(program: &[libc::sock_filter], architecture: u32, number: u32, arguments: [u32; 3]) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let libc::sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let holds = match u32::from(code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    loaded = match k {
                        NUMBER_AT => number,
                        ARCHITECTURE_AT => architecture,
                        at => arguments[usize::try_from((at - ARGUMENTS_AT) / 8).unwrap()],
                    };
                    continue;
                }
                code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => loaded == k,
                code if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => loaded >= k,
                code if code == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K => loaded & k != 0,
                code if code == libc::BPF_RET | libc::BPF_K => return k,
                code => panic!("{code:#x}"),
            };
            at += usize::from(if holds { jt } else { jf });
        }
    }

    #[test]
    fn the_filter_refuses_what_is_listed_and_nothing_else() {
        let (Some(program), Some(architecture)) = (program(PROCESS), ARCHITECTURE) else { return };
        let (refused, unknown, allowed) = (errno(libc::EPERM), errno(libc::ENOSYS), libc::SECCOMP_RET_ALLOW);
        let ask = |call: libc::c_long, arguments| answer(&program, architecture, number(call).unwrap(), arguments);
        let is_listed = |call: &libc::c_long| REFUSED.iter().chain(REFUSED_OF_OLD).any(|known| known == call);
        let with_arguments = [libc::SYS_clone, libc::SYS_tgkill, libc::SYS_socket, libc::SYS_ioctl, libc::SYS_openat];
        for call in (0..600).filter(|call| !with_arguments.contains(call)) {
            // On some machines only.
            if cfg!(target_arch = "x86_64") && call == 2 {
                continue;
            }
            let expected = match call {
                call if is_listed(&call) => refused,
                call if UNKNOWN.contains(&call) || call >= libc::c_long::from(UNKNOWN_FROM) => unknown,
                _ => allowed,
            };
            assert_eq!(ask(call, [0; 3]), expected, "{call}");
            let number = number(call).unwrap();
            assert_eq!(answer(&program, architecture, X32 | number, [0; 3]), refused, "x32: {call}");
            assert_eq!(answer(&program, architecture ^ 1, number, [0; 3]), refused, "another machine: {call}");
        }
        let flags = libc::c_int::cast_unsigned;
        let thread = flags(libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND);
        let cases = [
            (libc::SYS_openat, [0, 0, flags(libc::O_RDWR | libc::O_CLOEXEC | libc::O_DIRECTORY)], allowed),
            (libc::SYS_openat, [0, 0, flags(libc::O_RDWR | libc::O_CREAT)], refused),
            (libc::SYS_openat, [0, 0, flags(libc::O_WRONLY | libc::O_TRUNC)], refused),
            (libc::SYS_openat, [0, 0, flags(libc::O_TMPFILE | libc::O_RDWR)], refused),
            (libc::SYS_clone, [thread, 0, 0], allowed),
            (libc::SYS_clone, [flags(libc::SIGCHLD), 0, 0], refused),
            (libc::SYS_clone, [flags(libc::CLONE_NEWUSER), 0, 0], refused),
            (libc::SYS_tgkill, [PROCESS, PROCESS, 6], allowed),
            (libc::SYS_tgkill, [1, 1, 6], refused),
            (libc::SYS_socket, [flags(libc::AF_UNIX), 0, 0], allowed),
            (libc::SYS_socket, [flags(libc::AF_NETLINK), 0, 0], allowed),
            (libc::SYS_socket, [flags(libc::AF_INET), 0, 0], refused),
            (libc::SYS_socket, [flags(libc::AF_INET6), 0, 0], refused),
            (libc::SYS_ioctl, [0, u32::try_from(libc::TIOCSTI).unwrap(), 0], refused),
            (libc::SYS_ioctl, [0, 0xc020_462a, 0], allowed),
        ];
        for (call, arguments, expected) in cases {
            assert_eq!(ask(call, arguments), expected, "{call} {arguments:?}");
        }
    }
}
