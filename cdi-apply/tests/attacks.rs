//! The hook in containers that fight back: no mount below the root is read for others or changed, and nothing is waited for.
#![cfg(feature = "hook")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests set up files and stop at the first surprise"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cdi_apply::hook;
use cdi_apply::hook::budget::RUN;
use cdi_apply::hook::paths::touched;
use cdi_apply::hook::root::{Resolver, Root};
use rustix::fs::{CWD, RenameFlags};
use testdata::attacks::bombs::BOMBS;
use testdata::attacks::{self, ATTACKS, canary};
use testdata::container::{Container, Ended, Inside, Openat2, Program, Snapshot, as_root};

const HOOK: &str = env!("CARGO_BIN_EXE_cdi-hook");

/// Runs an attack of the list against the program, by both ways of going through the root.
fn attack(name: &str) {
    if !as_root(name) {
        return;
    }
    let attack = ATTACKS.iter().find(|attack| attack.name == name).unwrap();
    for openat2 in [Openat2::Known, Openat2::Missing] {
        attack.run(Path::new(HOOK), openat2).unwrap();
    }
}

macro_rules! attacks {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            attack(stringify!($name));
        })*

        #[test]
        fn each_attack_of_the_list_is_run() {
            let listed: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
            assert_eq!([$(stringify!($name)),*].as_slice(), listed);
        }
    };
}

/// The list of paths is the hook's own, so that a new one is covered.
#[test]
fn canaries_at_each_path_that_the_hook_touches_are_neither_read_nor_changed() {
    if !as_root("canaries_at_each_path_that_the_hook_touches_are_neither_read_nor_changed") {
        return;
    }
    let args: Vec<String> = attacks::ALL.iter().map(|arg| (*arg).to_owned()).collect();
    let operations = cdi_specs::from_args(&[vec!["cdi-hook".to_owned()], args].concat()).unwrap().operations;
    let touched: Vec<PathBuf> = touched(&operations).into_iter().map(|(path, _)| path).collect();
    let wrong = canary::run_all(Path::new(HOOK), &touched).unwrap();
    assert!(wrong.is_empty(), "{} canaries:\n{}", wrong.len(), wrong.join("\n"));
}

attacks! {
    an_ordinary_container_gets_all_that_is_asked_for
    a_musl_path_that_leads_to_a_volume_is_not_copied
    a_musl_path_that_leads_to_the_kernels_tables_is_not_copied
    a_musl_path_that_leads_to_a_process_is_not_copied
    a_musl_path_that_leads_to_sysfs_is_not_copied
    a_musl_path_that_leads_to_the_images_own_secret_is_not_copied
    a_musl_path_that_leads_through_links_is_not_copied
    musl_loaders_that_only_a_directory_of_root_names_are_not_told
    a_cache_that_leads_to_a_volume_is_not_copied
    a_long_cache_that_leads_to_a_volume_is_not_copied
    a_cache_that_only_root_reads_stays_so
    a_long_cache_that_only_root_reads_stays_so
    a_musl_path_that_only_root_reads_stays_so
    a_configuration_that_leads_to_a_volume_is_not_told
    a_secret_soname_of_a_volume_is_not_told
    a_secret_soname_behind_a_link_is_not_told
    sonames_below_a_directory_of_root_are_not_told
    a_compat_library_that_only_root_reads_is_not_told
    etc_that_leads_to_a_volume_is_left
    drop_ins_that_lead_to_a_volume_are_left
    a_library_directory_that_leads_to_a_volume_is_left
    usr_that_leads_to_a_volume_is_left
    profiles_that_lead_to_a_volume_are_left
    modes_of_a_volume_are_kept
    a_volume_over_etc_is_left
    an_empty_volume_over_etc_is_left
    a_volume_over_the_drop_ins_is_left
    a_volume_over_the_library_directory_is_left
    a_volume_over_usr_is_left
    a_directory_of_the_host_over_the_library_directory_is_left
    a_foreign_overlay_over_etc_is_left
    a_foreign_overlay_over_the_library_directory_is_left
    a_file_of_the_host_over_the_cache_is_left
    a_file_of_the_host_over_a_musl_path_is_left
    a_file_of_the_host_over_a_drop_in_is_left
    a_volume_where_a_draft_would_be_is_left
    a_configuration_that_leads_to_the_kernels_messages_is_not_waited_for
    fifos_are_not_waited_for
    devices_are_not_set_going
    a_driver_library_does_not_take_the_name_of_the_images_libc
}

// The root itself

/// What a bundle or its state may say, though the root is the host's. The link that the hook is to make leads to a
/// directory of this test's.
#[test]
fn the_hosts_root_is_refused_whatever_it_is_called() {
    const NAME: &str = "the_hosts_root_is_refused_whatever_it_is_called";
    if !as_root(NAME) {
        return;
    }
    let roots = [
        "/",
        "//",
        "/.",
        "/..",
        "/tmp/..",
        "/proc/self/root",
        "/proc/thread-self/root",
        "/proc/1/root",
        "../../../../../../..",
        "link",
        "link/tmp/..",
        "bound",
    ];
    for openat2 in [Openat2::Known, Openat2::Missing] {
        for root in roots {
            let container = Container::new().unwrap();
            container.link("/", "link").unwrap();
            container.dir("bound", 0o755).unwrap();
            container.write("config.json", format!(r#"{{"root": {{"path": "{root}"}}}}"#), 0o644).unwrap();
            let bundle = container.path("").display().to_string();
            let link = container.path("host/made").display().to_string();
            let bind = format!("mount --rbind / {bundle}/bound; exec \"$@\"");
            let hook = ["-c", &bind, "sh", HOOK, "create-container", "--symlink", "x", &link];
            let states = [
                format!(r#"{{"bundle": "{bundle}"}}"#),
                // crun's.
                format!(r#"{{"bundle": "{bundle}", "root": "{root}"}}"#),
            ];
            for state in states {
                let program = Program { stdin: Some(state.clone().into()), openat2, ..Program::new("/bin/sh", &hook) };
                let ended = container.enter(|inside| inside.run(&program)).unwrap().unwrap();
                assert!(fs::symlink_metadata(&link).is_err(), "{root}, {state}: a link was made in the host's root");
                assert_eq!(ended.code, Some(2), "{root}, {state}: {}", ended.stderr);
                assert!(!ended.stderr.contains('\u{1b}'), "{}", ended.stderr);
            }
        }
    }
}

/// runc's init has the root as its working directory.
#[test]
fn the_hosts_root_is_refused_where_runc_says_so() {
    const NAME: &str = "the_hosts_root_is_refused_where_runc_says_so";
    if !as_root(NAME) {
        return;
    }
    let container = Container::new().unwrap();
    container.dir("bound", 0o755).unwrap();
    container.write("host/library", "", 0o644).unwrap();
    let bundle = container.path("").display().to_string();
    let link = container.path("host/made").display().to_string();
    let library = container.path("host/library").display().to_string();
    // Something that the spec mounts must be a mount, too.
    let script = format!(
        "printf 'runc:[2:INIT]' > /proc/self/comm; set -e; mount --rbind / {bundle}/bound; \
         mount --bind /etc/passwd {bundle}/bound{library}; cd {bundle}/bound; {HOOK} create-container --symlink library {link}"
    );
    let program = Program { stdin: Some(b"{}".to_vec()), ..Program::new("/bin/sh", &["-c", &script]) };
    let ended = container.enter(|inside| inside.run(&program)).unwrap().unwrap();
    assert!(fs::symlink_metadata(&link).is_err(), "a link was made in the host's root");
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}

// What a user gains

/// A container has some hundred KiB.
const MOST_SEEN: usize = 16 << 20;

/// What a user without rights reads and may write in the container, by looking.
fn seen_by_user(container: &Container, inside: &Inside<'_>) -> (String, BTreeSet<String>) {
    let root = container.path("rootfs").display().to_string();
    let look = |test: &str, then: &str| {
        let kernels = format!("-path '{root}/proc' -prune -o -path '{root}/sys' -prune");
        let find = format!("find {root} {kernels} -o {test} {then} 2>/dev/null | head -c {MOST_SEEN} >&2; true");
        let user = ["--reuid=1000", "--regid=1000", "--clear-groups", "sh", "-c", &find];
        inside.run(&Program::new("/usr/bin/setpriv", &user)).unwrap().stderr
    };
    let readable = look("-type f -readable", "-exec cat {} +");
    let writable = look("! -type l -writable", "-print");
    (readable, writable.lines().map(str::to_owned).collect())
}

/// Seen by a process of user 1000, in volumes too, before the hook and after.
#[test]
fn a_user_of_the_container_gains_nothing_to_read_and_nothing_to_write() {
    const NAME: &str = "a_user_of_the_container_gains_nothing_to_read_and_nothing_to_write";
    let is_real_root =
        fs::read_to_string("/proc/self/uid_map").unwrap().split_whitespace().nth(2) == Some("4294967295");
    if !as_root(NAME) || !is_real_root {
        return;
    }
    for attack in ATTACKS.iter().filter(|attack| !attack.name.contains("waited") && !attack.name.contains("devices")) {
        let mut container = attacks::usual().unwrap();
        (attack.lay_out)(&mut container).unwrap();
        let (before, after) = container
            .enter(|inside| {
                let before = seen_by_user(&container, inside);
                let ended = inside.run(&Program::new(HOOK, &attacks::ALL)).unwrap();
                assert_eq!(ended.code, Some(0), "{}: {}", attack.name, ended.stderr);
                (before, seen_by_user(&container, inside))
            })
            .unwrap();
        assert!(!before.0.contains(attacks::SECRET) && !before.0.is_empty(), "{}", attack.name);
        assert!(!after.0.contains(attacks::SECRET), "{}: user 1000 reads what was kept", attack.name);
        // The arguments give everybody this one.
        let node = container.root("/dev/nvidia-caps/nvidia-cap1").display().to_string();
        let gained: Vec<&String> = after.1.difference(&before.1).filter(|path| **path != node).collect();
        assert_eq!(gained, [""; 0], "{}", attack.name);
    }
}

// Bombs

/// Every system call is counted, by the kernel's word. A fourth of what each bomb has in it is more than all limits.
#[test]
fn no_image_makes_the_hook_do_more_than_its_budget_allows() {
    const NAME: &str = "no_image_makes_the_hook_do_more_than_its_budget_allows";
    if !as_root(NAME) {
        return;
    }
    let mut over = Vec::new();
    for bomb in BOMBS {
        let container = bomb.container(&std::env::temp_dir(), 4).unwrap();
        for openat2 in [Openat2::Known, Openat2::Missing] {
            let program = Program { openat2, counted: true, ..Program::new(HOOK, &attacks::ALL) };
            let ended = container.enter(|inside| inside.run(&program)).unwrap().unwrap();
            let Ended { code, calls, bytes_read, .. } = ended;
            // What begins and ends a process is not the budget's.
            if code != Some(0) || calls > RUN.calls + 1000 || bytes_read > RUN.bytes {
                over.push(format!("{} ({openat2:?}): {code:?}, {calls} calls, {bytes_read} bytes", bomb.name));
            }
        }
    }
    assert!(over.is_empty(), "over the budget:\n{}", over.join("\n"));
}

// Races

/// Paths that are exchanged for a link to a volume, and where in that the link leads.
const EXCHANGED: [(&str, &str); 6] = [
    ("/etc", "/vol/etc"),
    ("/etc/ld.so.conf.d", "/vol/etc/ld.so.conf.d"),
    ("/etc/ld.so.cache", "/vol/etc/ld.so.cache"),
    ("/etc/ld-musl-x86_64.path", "/vol/etc/ld-musl-x86_64.path"),
    ("/usr/lib/x86_64-linux-gnu", "/vol/lib"),
    ("/usr", "/vol"),
];
/// For each of them.
const ROUNDS: usize = 1000;

/// Lays a volume out in which all is a secret that the hook could read, and much is there that it could change.
fn exchanged(path: &str, target: &str) -> Container {
    let mut container = attacks::usual().unwrap();
    container.volume("kept", "/vol").unwrap();
    for file in ["etc/ld.so.cache", "etc/ld-musl-x86_64.path", "etc/ld.so.conf", "etc/ld.so.conf.d/00-cdi-hook.conf"] {
        container.write(&format!("volumes/kept/{file}"), canary::content(file), 0o600).unwrap();
    }
    for file in ["lib/libcuda.so.1", "lib/x86_64-linux-gnu/libcuda.so"] {
        container.write(&format!("volumes/kept/{file}"), canary::content(file), 0o600).unwrap();
    }
    container.write("rootfs/etc/ld-musl-x86_64.path", "/lib\n", 0o644).unwrap();
    container.link(target, "rootfs/evil").unwrap();
    assert!(container.root(path).exists());
    container
}

/// Another process of the container's user, who shares its root with this one, exchanges a path all the time.
#[test]
fn whoever_exchanges_paths_for_links_to_volumes_gains_nothing() {
    const NAME: &str = "whoever_exchanges_paths_for_links_to_volumes_gains_nothing";
    if !as_root(NAME) {
        return;
    }
    let words = attacks::ALL.iter().map(|arg| (*arg).to_owned());
    let args: Vec<String> = ["cdi-hook".to_owned()].into_iter().chain(words).collect();
    let operations = cdi_specs::from_args(&args).unwrap().operations;
    for (path, target) in EXCHANGED {
        let container = exchanged(path, target);
        let before = Snapshot::of(&container.path("volumes")).unwrap();
        let (one, other) = (container.root(path), container.root("/evil"));
        let ended = AtomicBool::new(false);
        let exchanges = AtomicUsize::new(0);
        container
            .enter(|_| {
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        while !ended.load(Ordering::Relaxed) {
                            let done = rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
                            exchanges.fetch_add(usize::from(done.is_ok()), Ordering::Relaxed);
                        }
                    });
                    for round in 0..ROUNDS {
                        let resolver = if round % 2 == 0 { Resolver::Kernel } else { Resolver::Walk };
                        let root = Root::open(&container.root("/"), resolver).unwrap();
                        hook::run(&root, &operations, Vec::new);
                    }
                    ended.store(true, Ordering::Relaxed);
                });
            })
            .unwrap();
        assert!(exchanges.into_inner() > ROUNDS / 10, "{path}: nothing was exchanged");
        assert_eq!(before.difference(&Snapshot::of(&container.path("volumes")).unwrap()), [""; 0], "{path}");
        let root = Snapshot::of(&container.root("/")).unwrap();
        let shadows = [container.root("/etc/shadow"), container.root("/evil/shadow")];
        let shown: Vec<&Path> = root
            .holding(attacks::SECRET.as_bytes())
            .into_iter()
            .filter(|path| !shadows.iter().any(|shadow| shadow == path))
            .collect();
        assert!(shown.is_empty(), "{path}: {shown:?}");
    }
}
