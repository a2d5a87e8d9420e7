//! The seal on the whole program: it refuses nothing that the hook does, and a kernel that has less is told.
#![cfg(feature = "hook")]
#![expect(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests set up files and stop at the first surprise"
)]

mod kernel;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cdi_apply::hook::seal::landlock;
use kernel::{Lack, Record, lacking, recorded};
use tempfile::TempDir;
use testdata::elf;

const HOOK: &str = env!("CARGO_BIN_EXE_cdi-hook");
const DRIVER_DIR: &str = "usr/local/nvidia/lib64";

/// A bundle with a root that has a use for each operation.
struct Bundle {
    dir: TempDir,
}

impl Bundle {
    fn new() -> Self {
        let bundle = Self { dir: TempDir::new().unwrap() };
        for dir in ["proc", "dev/dri", "lib", "usr/lib/x86_64-linux-gnu", "usr/local/cuda/compat", DRIVER_DIR] {
            fs::create_dir_all(bundle.path(dir)).unwrap();
        }
        for (path, text) in [
            ("etc/debian_version", "12\n"),
            ("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n"),
            ("etc/ld.so.conf.d/own.conf", "/usr/local/lib\n"),
            ("etc/ld-musl-x86_64.path", "/lib:/usr/lib"),
            ("lib/ld-musl-x86_64.so.1", ""),
            ("dev/dri/card0", ""),
            ("usr/lib/x86_64-linux-gnu/libmounted.so.1", ""),
        ] {
            bundle.write(path, text);
        }
        bundle.library(&format!("{DRIVER_DIR}/libcuda.so.580.1"), "libcuda.so.1");
        bundle.library(&format!("{DRIVER_DIR}/libother.so.580.1"), "libother.so.1");
        bundle.library("usr/local/cuda/compat/libcuda.so.590.1", "libcuda.so.1");
        fs::write(bundle.dir.path().join("config.json"), r#"{"root": {"path": "rootfs"}}"#).unwrap();
        fs::write(bundle.dir.path().join("state"), format!(r#"{{"bundle": "{}"}}"#, bundle.dir.path().display()))
            .unwrap();
        bundle
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("rootfs").join(path)
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), bytes).unwrap();
    }

    fn library(&self, path: &str, soname: &str) {
        self.write(path, elf::shared_object(elf::Class::Elf64, elf::Machine::X86_64, Some(soname), None));
    }

    /// A cache with so many libraries of the image's own.
    fn cache(&self, libraries: usize) {
        use cdi_apply::hook::ld_cache::{Added, Cache, Entry};
        let held = (0..libraries).map(|index| Entry {
            flags: 0x0303,
            name: format!("libheld{index}.so.1").into_bytes().into(),
            path: format!("/usr/lib/libheld{index}.so.1").into_bytes().into(),
            ..Entry::default()
        });
        let mut cache = Cache::default();
        cache.update(Added { last: held.collect(), ..Added::default() }, &[]);
        self.write("etc/ld.so.cache", cache.to_bytes().unwrap());
    }

    /// The hook with all operations, in mounts of its own that a script makes before.
    fn command(&self, before: &str) -> Command {
        let is_root = rustix::process::geteuid().is_root();
        let as_root: &[&str] = if is_root { &[] } else { &["--user", "--map-root-user"] };
        let node = if is_root { "mount -t tmpfs tmpfs rootfs/dev; mknod rootfs/dev/nvidia1 c 195 1" } else { "true" };
        // Whoever is not root mounts over the GPUs alone.
        let params = if is_root { "echo 'ModifyDeviceFiles: 1' > rootfs/proc/sys/kernel/hostname" } else { "true" };
        let operations = format!(
            "--freeze-device-nodes --cuda-compat 580.1 --application-profile --hide-gpus --chmod 700 /dev --chmod 4755 /usr \
             --symlink /etc/x /new/dir/link --symlinks /{DRIVER_DIR} libcuda.so.580.1:libcuda.so.1:libcuda.so \
             --library-dir /{DRIVER_DIR} --library-dir /usr/lib/x86_64-linux-gnu --unknown"
        );
        let script = format!(
            "mount --rbind /proc rootfs/proc; mount -t tmpfs tmpfs rootfs/proc/driver; \
             mkdir -p rootfs/proc/driver/nvidia/gpus; touch rootfs/proc/driver/nvidia/params; \
             {params}; \
             mount --bind rootfs/proc/sys/kernel/hostname rootfs/proc/driver/nvidia/params; \
             mount --bind rootfs/proc/sys rootfs/proc/driver/nvidia/gpus; \
             mount -t tmpfs tmpfs rootfs/proc/driver/nvidia/gpus/vm; \
             echo 'Device Minor: \t 1' > rootfs/proc/driver/nvidia/gpus/vm/information; {node}; \
             mount --bind config.json rootfs/usr/lib/x86_64-linux-gnu/libmounted.so.1; {before}; \
             exec {HOOK} create-container {operations} < state"
        );
        let mut unshare = Command::new("unshare");
        unshare.args(as_root).args(["--mount", "--uts", "--propagation", "private", "sh", "-e", "-c", &script]);
        unshare.current_dir(self.dir.path());
        unshare
    }
}

/// `None` where nobody lets us mount or trace.
fn record(bundle: &Bundle, before: &str, lacks: &[Lack]) -> Option<Record> {
    let mut probe = Command::new("unshare");
    let can_mount = probe.args(["--mount", "--user", "--map-root-user", "true"]).status().unwrap().success();
    if !can_mount && !rustix::process::geteuid().is_root() {
        println!("skipped: no mounts of our own here");
        return None;
    }
    let mut command = bundle.command(before);
    lacking(&mut command, lacks);
    recorded(command)
}

/// Both ways of resolving, in roots that can be written and that cannot, with caches of each length and of none. Whoever
/// needs no more mounts is confined to the root.
#[test]
fn the_seal_refuses_nothing_that_the_hook_does() {
    let (openat2, statx, landlock) = (libc::SYS_openat2, libc::SYS_statx, libc::SYS_landlock_create_ruleset);
    let kernels = [&[][..], &[openat2], &[openat2, statx], &[landlock]];
    let roots = [
        ("true", None, true),
        ("true", Some(3), true),
        ("true", Some(20_000), true),
        ("mount --bind rootfs rootfs; mount -o remount,bind,ro rootfs", Some(3), false),
        ("mount --bind rootfs/etc rootfs/etc", Some(3), false),
        ("mount --bind rootfs/etc/ld.so.cache rootfs/etc/ld.so.cache", Some(3), false),
    ];
    for (missing, (before, libraries, can_confine)) in
        kernels.iter().flat_map(|kernel| roots.map(|root| (kernel, root)))
    {
        let bundle = Bundle::new();
        libraries.into_iter().for_each(|libraries| bundle.cache(libraries));
        let lacks: Vec<Lack> = missing.iter().map(|call| Lack::of(*call, libc::ENOSYS)).collect();
        let Some(mut record) = record(&bundle, before, &lacks) else { return };
        record.refused.retain(|(call, _)| !missing.contains(call));
        let what = format!("{missing:?} {before} {libraries:?}: {record:?}");
        assert!(record.is_sealed && record.status == 0 && record.refused.is_empty(), "{what}");
        assert!(record.calls.contains(&libc::SYS_mount), "{what}");
        let is_made = bundle.path(&format!("{DRIVER_DIR}/libcuda.so")).is_symlink();
        assert_eq!(is_made, !before.contains("ro rootfs"), "{what}");
        let is_confined = record.calls.contains(&libc::SYS_landlock_restrict_self);
        let can_confine = can_confine && has_landlock() && !missing.contains(&openat2) && !missing.contains(&landlock);
        assert_eq!(is_confined, can_confine, "{what}");
    }
}

/// What the hook says and how it ends on a kernel that lacks calls, with words before its operations.
fn end(bundle: &Bundle, lacks: &[Lack], words: &[&str]) -> (Option<i32>, String) {
    let mut hook = Command::new(HOOK);
    hook.arg("create-container").args(words).args(["--symlink", "made", "/usr/lib/link"]);
    hook.stdin(fs::File::open(bundle.dir.path().join("state")).unwrap()).env_clear();
    lacking(&mut hook, lacks);
    let output = hook.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_kernel_that_cannot_seal_is_told_and_may_be_refused() {
    let cases = [
        (&Lack::seccomp()[..], "cdi-hook: not sealed: cannot filter system calls: Invalid argument (os error 22)\n"),
        (
            &[Lack {
                first: Some(libc::PR_SET_NO_NEW_PRIVS.cast_unsigned()),
                ..Lack::of(libc::SYS_prctl, libc::EINVAL)
            }],
            "cdi-hook: not sealed: cannot give up new privileges: Invalid argument (os error 22)\n",
        ),
        (
            &[Lack { first: Some(libc::PR_SET_DUMPABLE.cast_unsigned()), ..Lack::of(libc::SYS_prctl, libc::EPERM) }],
            "cdi-hook: not sealed: cannot hide from other processes: Operation not permitted (os error 1)\n",
        ),
        (
            &[Lack::of(libc::SYS_capset, libc::EPERM)],
            "cdi-hook: not sealed: cannot give up capabilities: Operation not permitted (os error 1)\n",
        ),
    ];
    let refused = "cdi-hook: nothing is done without the seal: take a kernel that has it, or a spec made without \
                   --require-seal\n";
    for (lacks, told) in cases {
        let bundle = Bundle::new();
        let is_made = || bundle.path("usr/lib/link").is_symlink();
        assert_eq!(end(&bundle, lacks, &["--require-seal"]), (Some(2), format!("{told}{refused}")));
        assert!(!is_made());
        assert_eq!(end(&bundle, &[], &["--require-seal"]), (Some(0), String::new()));
        assert!(is_made());
        fs::remove_file(bundle.path("usr/lib/link")).unwrap();
        assert_eq!(end(&bundle, lacks, &[]), (Some(0), told.to_owned()));
        assert!(is_made());
    }
}

/// By procfs's list where the kernel closes no ranges, and one by one where there is no list.
#[test]
fn what_the_runtime_left_open_is_closed_on_old_kernels_too() {
    for missing in [&[][..], &[libc::SYS_close_range], &[libc::SYS_close_range, libc::SYS_getdents64]] {
        let lacks: Vec<Lack> = missing.iter().map(|call| Lack::of(*call, libc::ENOSYS)).collect();
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        let script = "ulimit -n 1000; exec 3>&1 7>&1 9>&1 >/dev/null; exec \"$0\" create-container";
        command.args(["-c", script, HOOK]).stdout(writer);
        lacking(&mut command, &lacks);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        drop(command);
        // The hook waits for its state, and whoever reads learns that nobody has the other end any more.
        let mut poll = [rustix::event::PollFd::new(&reader, rustix::event::PollFlags::empty())];
        let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut poll, Some(&limit)), Ok(1), "without {missing:?}");
        assert!(child.try_wait().unwrap().is_none());
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}

/// Numbers of linux/capability.h.
const DAC_OVERRIDE: u32 = 1;
const FOWNER: u32 = 3;
const SYS_ADMIN: u32 = 21;

#[test]
fn the_hook_has_the_capabilities_of_its_work_alone() {
    let mut hook = Command::new(HOOK);
    let mut child = hook.arg("create-container").stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let status = || fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        u64::from_str_radix(&line, 16).unwrap()
    };
    let kept = (1 << DAC_OVERRIDE) | (1 << FOWNER) | (1 << SYS_ADMIN);
    let before = field(&fs::read_to_string("/proc/self/status").unwrap(), "CapPrm:");
    let reduced = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let text = status();
        let fields = ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"].map(|name| field(&text, name));
        text.contains("Seccomp:\t2") && fields == [before & kept, before & kept, 0, 0]
    });
    assert!(reduced, "{}", status());
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// What goes wrong if the hook starts without one of them.
#[test]
fn each_capability_that_the_hook_keeps_is_needed() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: the files of others are made as root");
    }
    let cases = [
        (SYS_ADMIN, "/etc/ld.so.cache"),
        (DAC_OVERRIDE, "/etc/ld.so.conf.d/00-cdi-hook.conf"),
        (DAC_OVERRIDE, "/nobody-writes/link"),
        (FOWNER, "/dev/others"),
        (FOWNER, "/sticky/link"),
    ];
    for (capability, path) in cases {
        let bundle = Bundle::new();
        let of_others = |path: &str, mode| {
            fs::set_permissions(bundle.path(path), fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(bundle.path(path), Some(1000), Some(1000)).unwrap();
        };
        bundle.cache(3);
        bundle.write("dev/others", "");
        of_others("dev/others", 0o600);
        fs::create_dir(bundle.path("nobody-writes")).unwrap();
        fs::set_permissions(bundle.path("nobody-writes"), fs::Permissions::from_mode(0o555)).unwrap();
        bundle.write("sticky/link", "");
        of_others("sticky/link", 0o600);
        of_others("sticky", 0o1777);
        of_others("etc/ld.so.conf.d", 0o755);
        let before = if capability == SYS_ADMIN {
            "mount --bind rootfs/etc rootfs/etc; mount -o remount,bind,ro rootfs/etc"
        } else {
            "true"
        };
        let script = format!(
            "{before}; exec \"$@\" {HOOK} create-container --chmod 644 /dev/others --symlink a /nobody-writes/link \
             --symlink a /sticky/link --library-dir /{DRIVER_DIR} < state"
        );
        let stderr = |wrapper: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-e", "-c", &script, "sh"]).args(wrapper);
            let output = command.current_dir(bundle.dir.path()).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stderr).unwrap()
        };
        let without = format!("-cap_{capability}");
        let told = stderr(&["setpriv", "--bounding-set", &without]);
        assert!(told.contains(&format!("{path}: ")), "without {capability}: {told}");
        let told = stderr(&["env"]);
        assert!(!told.contains(&format!("{path}: ")), "with all: {told}");
    }
}

fn has_landlock() -> bool {
    const VERSION: u32 = 1;
    // SAFETY: takes numbers only.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, VERSION) };
    version > 0
}

/// In a process of its own, which is this test's program once more, with a file that it had open and one of the host.
#[test]
fn whoever_is_confined_reaches_the_root_and_nothing_else() {
    const CONFINED: &str = "CONFINE_THIS_PROCESS";
    if !has_landlock() {
        return println!("skipped: the kernel has no Landlock");
    }
    let Some(dir) = std::env::var_os(CONFINED) else {
        let bundle = Bundle::new();
        bundle.cache(3);
        let mut again = Command::new("/proc/self/exe");
        again.args(["--exact", "whoever_is_confined_reaches_the_root_and_nothing_else"]);
        let output = again.env(CONFINED, bundle.dir.path()).output().unwrap();
        return assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    };
    let path = |path: &str| Path::new(&dir).join(path);
    let root = fs::File::open(path("rootfs")).unwrap();
    let adds = [cdi_specs::HookOperation::LibraryDir("/lib".to_owned())];
    assert!(rustix::thread::set_no_new_privs(true).is_ok() && landlock::confine(root.as_fd(), &adds));
    fs::read(path("rootfs/etc/ld.so.cache")).unwrap();
    fs::write(path("rootfs/etc/new"), "").unwrap();
    fs::rename(path("rootfs/etc/new"), path("rootfs/etc/newer")).unwrap();
    std::os::unix::fs::symlink("a", path("rootfs/lib/new")).unwrap();
    fs::create_dir(path("rootfs/new")).unwrap();
    fs::read("/proc/self/mountinfo").unwrap();
    let denied = [
        ("the bundle", fs::read(path("state")).map(drop)),
        ("the host's files", fs::read("/etc/passwd").map(drop)),
        ("the host's directories", fs::read_dir("/etc").map(drop)),
        ("other processes", fs::read("/proc/1/status").map(drop)),
        ("a file beside", fs::write(path("new"), "")),
        ("a link beside", std::os::unix::fs::symlink("a", path("link"))),
        ("a directory beside", fs::create_dir(path("dir"))),
        ("to remove beside", fs::remove_file(path("state"))),
        (
            "a mount",
            rustix::mount::mount("tmpfs", path("rootfs"), "tmpfs", rustix::mount::MountFlags::empty(), None)
                .map_err(Into::into),
        ),
    ];
    for (what, done) in denied {
        let kind = done.unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::PermissionDenied, "{what}");
    }
}

/// The state never comes, and whoever started the hook has blocked the signal or had it ignored.
#[test]
fn a_hook_that_waits_for_ever_ends_by_itself() {
    let mut hook = Command::new(HOOK);
    hook.arg("create-container").stdin(Stdio::piped()).stderr(Stdio::null());
    let deaf = || {
        // SAFETY: system calls alone, on a set of our own.
        unsafe {
            let mut all = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
            libc::signal(libc::SIGALRM, libc::SIG_IGN);
        }
        Ok(())
    };
    // SAFETY: as above.
    unsafe { hook.pre_exec(deaf) };
    let mut child = hook.spawn().unwrap();
    let waits = (0..6_000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        child.try_wait().unwrap()
    });
    if waits.is_none() {
        child.kill().unwrap();
    }
    assert_eq!(waits.and_then(|status| status.signal()), Some(libc::SIGALRM));
}
