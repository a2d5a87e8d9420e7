//! Landlock: from the first file of the image on, no file outside the container's root can be opened. I/O.
//!
//! The host's files are all in sight of the hook: it starts before the runtime has left them behind. Landlock (Linux 5.13)
//! takes its rights by directory: below the root the hook reads, writes, makes and removes; of procfs it reads what tells
//! of itself; and nowhere else does it anything. But whoever is confined so may not mount (`hook_sb_mount`,
//! security/landlock/fs.c). So what is done by mounts comes first, and reads no more than the kernel's own text; and where
//! the loader's cache can only be changed by a mount over it, in a root that is read-only or that has something mounted on
//! `/etc`, the hook works without. Kernels before 5.13, and those that were started without it, have none.
//!
//! It is no part of what `--require-seal` asks for. Modes and owners it does not guard: see the filter for those.

use std::io;

use cdi_specs::HookOperation;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags, StatxAttributes, StatxFlags};

/// Where the loader's cache is.
const DIR: &str = "etc";
const CACHE: &str = "ld.so.cache";
/// Rights (linux/landlock.h): to write and to read a file, to list a directory, to remove a file, and to make directories,
/// files and links.
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SYM: u64 = 1 << 12;
/// What the hook does in a root.
const OF_ROOT: u64 = WRITE_FILE | READ_FILE | READ_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM;
/// How many rights the kernel guards, by its version of Landlock, the latest first: 5, 3, 2 and 1.
const GUARDED: [u32; 4] = [16, 15, 14, 13];
/// The kind of rule that is about what is below a directory.
const PATH_BENEATH: libc::c_int = 1;

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: RawFd,
}

/// Whether an operation is done by mounts alone.
pub fn is_done_by_mounts(operation: &HookOperation) -> bool {
    matches!(operation, HookOperation::FreezeDeviceNodes | HookOperation::HideGpus)
}

/// Confines the process to a root, if operations that are left need no mounts. Returns whether it is.
pub fn confine(root: BorrowedFd<'_>, left: &[HookOperation]) -> bool {
    let adds_libraries = left.iter().any(|operation| matches!(operation, HookOperation::LibraryDir(_)));
    (!adds_libraries || can_replace_cache(root).unwrap_or(false)) && confine_to(root).is_ok()
}

/// Whether the cache is, or would be, in a directory of the root's own mount that can be written.
fn can_replace_cache(root: BorrowedFd<'_>) -> io::Result<bool> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let dir = rustix::fs::openat2(root, DIR, flags, Mode::empty(), resolve)?;
    let is_mounted = match rustix::fs::statx(&dir, CACHE, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
        Ok(stat) => stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        Err(rustix::io::Errno::NOENT) => false,
        Err(error) => return Err(error.into()),
    };
    Ok(!is_mounted && !rustix::fs::fstatvfs(&dir)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn confine_to(root: BorrowedFd<'_>) -> io::Result<()> {
    let ruleset = ruleset()?;
    // Held until the end: what procfs has of a process is made anew when nobody holds it.
    let own = rustix::fs::openat(CWD, "/proc/self", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    allow(&ruleset, root, OF_ROOT)?;
    allow(&ruleset, own.as_fd(), READ_FILE)?;
    std::mem::forget(own);
    restrict(&ruleset)
}

/// A ruleset that guards all that this kernel can.
fn ruleset() -> io::Result<OwnedFd> {
    let mut made = Err(io::ErrorKind::Unsupported.into());
    for rights in GUARDED {
        made = ruleset_of((1 << rights) - 1);
        // It does not know so many.
        if !made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput) {
            break;
        }
    }
    made
}

#[expect(unsafe_code, reason = "landlock_create_ruleset(2) has no wrapper")]
fn ruleset_of(guarded: u64) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads a number, whose size it is told.
    let made =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const guarded, size_of_val(&guarded), 0_u32) };
    let made = RawFd::try_from(made).ok().filter(|made| *made >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

#[expect(unsafe_code, reason = "landlock_add_rule(2) has no wrapper")]
fn allow(ruleset: &OwnedFd, below: BorrowedFd<'_>, allowed: u64) -> io::Result<()> {
    let rule = PathBeneath { allowed, parent: below.as_raw_fd() };
    // SAFETY: the kernel reads a rule of the kind that it is told.
    let added = unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, &raw const rule, 0_u32)
    };
    if added == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[expect(unsafe_code, reason = "landlock_restrict_self(2) has no wrapper")]
fn restrict(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: takes numbers only.
    let restricted = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    if restricted == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
