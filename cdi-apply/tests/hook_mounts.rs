//! The hook where other mounts are below the root: nothing of theirs is copied, nothing in them is changed, and the driver is
//! found all the same. By both ways of going through the root.
#![cfg(feature = "hook")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests set up files and stop at the first surprise"
)]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use cdi_apply::hook;
use cdi_apply::hook::ld_cache::{Added, Cache, Entry};
use cdi_apply::hook::root::{Resolver, Root};
use cdi_specs::HookOperation;
use rustix::mount::{MountFlags, MountPropagationFlags};
use tempfile::TempDir;
use testdata::elf;

const SECRET: &str = "known-to-root-alone";
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

/// A root, and volumes beside it.
struct Case {
    dir: TempDir,
}

/// What a file, a link or a directory is.
type Item = (u32, u32, Vec<u8>);

impl Case {
    /// Debian's libc, with a cache and the driver's directory.
    fn new() -> Self {
        let case = Self { dir: TempDir::new().unwrap() };
        case.write("rootfs/etc/debian_version", "12\n", 0o644);
        case.write("rootfs/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n", 0o644);
        case.write("rootfs/etc/ld.so.cache", cache("libimage.so.1"), 0o644);
        case.library("rootfs/drv/libcuda.so.580.1", "libcuda.so.1");
        for dir in ["rootfs/etc/ld.so.conf.d", "rootfs/vol", "rootfs/proc", "rootfs/dev", "vol"] {
            case.make_dir(dir);
        }
        case.make_dir(&format!("rootfs{LIBRARIES}"));
        case
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    fn make_dir(&self, path: &str) {
        fs::create_dir_all(self.path(path)).unwrap();
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>, mode: u32) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn library(&self, path: &str, soname: &str) {
        self.write(path, elf::shared_object(elf::Class::Elf64, elf::Machine::X86_64, Some(soname), None), 0o755);
    }

    /// Puts a link where something else may be.
    fn link(&self, target: &str, path: &str) {
        let path = self.path(path);
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        symlink(target, path).unwrap();
    }

    fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.path(path)).unwrap().permissions().mode() & 0o7777
    }

    /// All that is below a directory.
    fn snapshot(&self, path: &str) -> BTreeMap<PathBuf, Item> {
        let mut found = BTreeMap::new();
        let mut pending = vec![self.path(path)];
        while let Some(path) = pending.pop() {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let held = if metadata.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string().into_bytes()
            } else if metadata.is_dir() {
                pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                Vec::new()
            } else if metadata.is_file() {
                fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            found.insert(path, (metadata.mode(), metadata.uid(), held));
        }
        found
    }

    /// Runs operations where directories are mounted below the root, and then has a look, in mounts of our own.
    fn run<R: Send>(
        &self,
        resolver: Resolver,
        mounts: &[(&str, &str)],
        operations: &[HookOperation],
        then: impl FnOnce(&[String]) -> R + Send,
    ) -> R {
        let in_own_mounts = || {
            own_mounts();
            let root = self.path("rootfs");
            rustix::mount::mount_bind(&root, &root).unwrap();
            for (from, at) in mounts {
                let at = root.join(at.trim_start_matches('/'));
                match *from {
                    "proc" | "tmpfs" => rustix::mount::mount(*from, &at, *from, MountFlags::empty(), None).unwrap(),
                    from => rustix::mount::mount_bind_recursive(self.path(from), &at).unwrap(),
                }
            }
            let mountinfo = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            let points = || hook::mount_points(&mountinfo, &root.display().to_string());
            let troubles = hook::run(&Root::open(&root, resolver).unwrap(), operations, points);
            let told: Vec<String> =
                troubles.iter().map(|trouble| format!("{}: {}", trouble.path, trouble.error)).collect();
            then(&told)
        };
        std::thread::scope(|scope| scope.spawn(in_own_mounts).join().unwrap())
    }

    /// Name and path of each entry of the cache that is to be seen now.
    fn cached(&self) -> Vec<(String, String)> {
        let bytes = fs::read(self.path("rootfs/etc/ld.so.cache")).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Cache::parse(&bytes).unwrap().entries.iter().map(|entry| (text(&entry.name), text(&entry.path))).collect()
    }

    fn finds(&self, name: &str, path: &str) {
        let cached = self.cached();
        assert!(cached.contains(&(name.to_owned(), path.to_owned())), "{name} {path}: {cached:?}");
    }

    fn tells_nothing_of_the_secret(&self) {
        let secret = SECRET.as_bytes();
        for (path, (_, _, held)) in self.snapshot("rootfs") {
            assert!(!held.windows(secret.len()).any(|part| part == secret), "{}", path.display());
        }
    }
}

/// Mounts that this thread alone sees.
#[expect(unsafe_code, reason = "unshare(2) may part what threads rely on to be shared")]
fn own_mounts() {
    // SAFETY: this thread alone works with paths here, and ends with its mounts.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

/// Each way of going through the root, if there may be mounts.
fn resolvers() -> Vec<Resolver> {
    if rustix::process::geteuid().is_root() {
        return vec![Resolver::Kernel, Resolver::Walk];
    }
    println!("not run: only root may mount");
    Vec::new()
}

fn cache(name: &str) -> Vec<u8> {
    let path = format!("/opt/{name}").into_bytes().into();
    let held = Entry { flags: 0x0303, name: name.as_bytes().to_vec().into(), path, ..Entry::default() };
    let mut cache = Cache::default();
    cache.update(Added { last: vec![held], ..Added::default() }, &[]);
    cache.to_bytes().unwrap()
}

fn dir(path: &str) -> HookOperation {
    HookOperation::LibraryDir(path.to_owned())
}

fn link(target: &str, link: &str) -> HookOperation {
    HookOperation::Symlink { target: target.to_owned(), link: link.to_owned() }
}

fn driver() -> Vec<HookOperation> {
    vec![link("libcuda.so.580.1", "/drv/libcuda.so.1"), dir("/drv")]
}

// Reading

/// Whatever the image leads the hook to, by the names that it reads to copy them.
#[test]
fn no_text_that_the_hook_writes_is_read_through_a_link_or_from_another_mount() {
    let secret_cache = String::from_utf8(cache(SECRET)).unwrap();
    let places = ["/etc/ld.so.cache", "/etc/ld-musl-x86_64.path", "/etc/ld.so.conf", "/etc/ld.so.conf.d/a.conf"];
    for resolver in resolvers() {
        for (place, target) in places.iter().flat_map(|place| ["/vol/secret", "/secret"].map(|target| (place, target)))
        {
            let case = Case::new();
            case.write("rootfs/lib/ld-musl-x86_64.so.1", "", 0o755);
            for path in ["vol/secret", "rootfs/secret"] {
                case.write(path, format!("/{SECRET}\n"), 0o600);
                if place.ends_with("cache") {
                    case.write(path, &secret_cache, 0o600);
                }
            }
            case.link(target, &format!("rootfs{place}"));
            let before = case.snapshot("vol");
            case.run(resolver, &[("vol", "/vol")], &driver(), |_| {
                fs::remove_file(case.path("rootfs/secret")).unwrap();
                case.finds("libcuda.so.1", "/drv/libcuda.so.1");
                rustix::mount::unmount(case.path("rootfs/vol"), rustix::mount::UnmountFlags::DETACH).unwrap();
                case.tells_nothing_of_the_secret();
            });
            assert_eq!(case.snapshot("vol"), before, "{place} {target}");
        }
    }
}

/// What only its owner may read stays so when its text is written again.
#[test]
fn a_file_that_is_written_again_keeps_its_owner_and_gets_no_permission_more() {
    for resolver in [Resolver::Kernel, Resolver::Walk] {
        for (held, expected) in [(0o600, 0o600), (0o640, 0o600), (0o644, 0o644), (0o666, 0o644), (0o444, 0o444)] {
            let case = Case::new();
            case.write("rootfs/lib/ld-musl-x86_64.so.1", "", 0o755);
            case.write("rootfs/etc/ld-musl-x86_64.path", "/lib\n", held);
            case.write("rootfs/etc/ld.so.cache", cache("libimage.so.1"), held);
            let root = Root::open(&case.path("rootfs"), resolver).unwrap();
            let owned = ["rootfs/etc/ld-musl-x86_64.path", "rootfs/etc/ld.so.cache"];
            let is_root = rustix::process::geteuid().is_root();
            if is_root {
                owned.iter().for_each(|path| std::os::unix::fs::chown(case.path(path), Some(7), Some(8)).unwrap());
            }
            assert!(hook::run(&root, &driver(), Vec::new).is_empty());
            for path in owned {
                assert_eq!(case.mode(path), expected, "{path} {held:o}");
                let metadata = fs::metadata(case.path(path)).unwrap();
                assert!(!is_root || (metadata.uid(), metadata.gid()) == (7, 8), "{path}");
            }
            case.finds("libcuda.so.1", "/drv/libcuda.so.1");
            case.finds("libimage.so.1", "/opt/libimage.so.1");
        }
    }
}

/// The SONAME of an ELF file that only root may read, or come to, is as secret as the rest of it.
#[test]
fn a_soname_that_not_everybody_may_read_is_not_told() {
    for resolver in resolvers() {
        for (file, of_dir, of_file) in
            [("libkept.so.1", 0o755, 0o600), ("libkept.so.1", 0o700, 0o644), ("kept/libkept.so.1", 0o711, 0o640)]
        {
            let case = Case::new();
            case.library(&format!("vol/private/{file}"), &format!("libkept.so.{SECRET}"));
            fs::set_permissions(case.path(&format!("vol/private/{file}")), Permissions::from_mode(of_file)).unwrap();
            fs::set_permissions(case.path("vol/private"), Permissions::from_mode(of_dir)).unwrap();
            case.link(&format!("/vol/private/{file}"), "rootfs/drv/libkept.so");
            case.link("/vol/private", "rootfs/other");
            let operations = [driver(), vec![dir("/other"), dir("/other/kept")]].concat();
            case.run(resolver, &[("vol", "/vol")], &operations, |_| {
                case.finds("libcuda.so.1", "/drv/libcuda.so.1");
                let cache = fs::read(case.path("rootfs/etc/ld.so.cache")).unwrap();
                assert!(!cache.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "{file} {of_dir:o}");
            });
        }
    }
}

/// Each of these would be waited for, or changed by being read.
#[test]
fn nothing_is_waited_for_whatever_the_loaders_files_lead_to() {
    for resolver in resolvers() {
        for target in ["/proc/kmsg", "/proc/kallsyms", "/fifo", "/dev/zero", "/dev/tty", "/drv", "loop"] {
            for place in ["etc/ld.so.conf", "etc/ld.so.cache", "etc/ld.so.conf.d/a.conf", "etc/ld-musl-x86_64.path"] {
                let case = Case::new();
                // Where musl is and no cache of glibc's, none is made.
                if place.ends_with("path") {
                    case.write("rootfs/lib/ld-musl-x86_64.so.1", "", 0o755);
                }
                let (cwd, mode) = (rustix::fs::CWD, rustix::fs::Mode::from_raw_mode(0o666));
                rustix::fs::mknodat(cwd, case.path("rootfs/fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
                case.link(target, &format!("rootfs/{place}"));
                case.link(target, "rootfs/drv/liblink.so.1");
                case.make_dir("dev");
                for (name, device) in [("zero", (1, 5)), ("tty", (5, 0))] {
                    let device = rustix::fs::makedev(device.0, device.1);
                    let node = case.path(&format!("dev/{name}"));
                    rustix::fs::mknodat(cwd, node, rustix::fs::FileType::CharacterDevice, mode, device).unwrap();
                }
                let start = std::time::Instant::now();
                case.run(resolver, &[("proc", "/proc"), ("dev", "/dev")], &driver(), |_| {
                    case.finds("libcuda.so.1", "/drv/libcuda.so.1");
                });
                assert!(start.elapsed() < std::time::Duration::from_secs(20), "{place} {target}");
            }
        }
    }
}

// Writing

/// By a link of the image's.
#[test]
fn nothing_is_written_into_a_volume_that_a_link_leads_to() {
    let all = |case: &Case| {
        let profile = HookOperation::ApplicationProfile;
        let links = [link("libcuda.so.580.1", &format!("{LIBRARIES}/libcuda.so.1")), dir(LIBRARIES)];
        case.write("rootfs/lib/ld-musl-x86_64.so.1", "", 0o755);
        [driver(), vec![profile], links.to_vec()].concat()
    };
    let places = ["/etc", "/etc/ld.so.conf.d", LIBRARIES, "/usr", "/etc/nvidia", "/etc/ld.so.conf.d/00-cdi-hook.conf"];
    for resolver in resolvers() {
        for place in places {
            let case = Case::new();
            let operations = all(&case);
            case.write("vol/x/ld.so.cache", cache("libvolume.so.1"), 0o600);
            case.write("vol/x/libcuda.so.1", "the volume's", 0o600);
            case.link("/vol/x", &format!("rootfs{place}"));
            let before = case.snapshot("vol");
            let told = case.run(resolver, &[("vol", "/vol")], &operations, <[String]>::to_vec);
            assert_eq!(case.snapshot("vol"), before, "{place} {told:?}");
            let is_told = |what: &str| told.iter().any(|line| line.starts_with(what));
            assert!(place != "/etc" || is_told("/etc/ld.so.cache: something else is mounted there"), "{told:?}");
        }
    }
}

/// By the user's own mount.
#[test]
fn nothing_is_written_into_a_volume_that_is_mounted_in_the_way() {
    let places = ["/etc", "/etc/ld.so.conf.d", LIBRARIES, "/usr", "/etc/nvidia", "/drv"];
    for resolver in resolvers() {
        for place in places {
            let case = Case::new();
            case.make_dir("rootfs/etc/nvidia");
            case.write("vol/ld.so.cache", cache("libvolume.so.1"), 0o600);
            case.write("vol/ld.so.conf", "", 0o600);
            case.write("vol/libcuda.so.1", "the volume's", 0o600);
            let links = [link("libcuda.so.580.1", &format!("{LIBRARIES}/libcuda.so.1")), dir(LIBRARIES)];
            let operations = [driver(), vec![HookOperation::ApplicationProfile], links.to_vec()].concat();
            let before = case.snapshot("vol");
            case.run(resolver, &[("vol", place)], &operations, |_| ());
            assert_eq!(case.snapshot("vol"), before, "{place}");
        }
    }
}

/// A file that is mounted at the last name is another mount, too.
#[test]
fn a_file_that_is_mounted_over_the_loaders_is_covered_or_left() {
    for resolver in resolvers() {
        for (name, mode) in [("ld.so.cache", 0o644), ("ld.so.cache", 0o600), ("ld-musl-x86_64.path", 0o644)] {
            let case = Case::new();
            case.write("rootfs/lib/ld-musl-x86_64.so.1", "", 0o755);
            case.write("rootfs/etc/ld-musl-x86_64.path", "/lib\n", 0o644);
            case.write("vol/file", cache("libvolume.so.1"), mode);
            let (before, at) = (case.snapshot("vol"), format!("/etc/{name}"));
            case.run(resolver, &[("vol/file", &at)], &driver(), |told| {
                let covers = name == "ld.so.cache" && mode == 0o644;
                let is_told = told.iter().any(|line| line.starts_with(&format!("{at}: ")));
                assert_eq!(is_told, !covers, "{told:?}");
                if covers {
                    case.finds("libcuda.so.1", "/drv/libcuda.so.1");
                    case.finds("libvolume.so.1", "/opt/libvolume.so.1");
                }
            });
            assert_eq!(case.snapshot("vol"), before, "{name} {mode:o}");
        }
    }
}

#[test]
fn where_etc_is_a_volume_the_cache_is_mounted_over_the_volumes() {
    for resolver in resolvers() {
        let case = Case::new();
        case.write("vol/ld.so.cache", cache("libvolume.so.1"), 0o644);
        let before = case.snapshot("vol");
        case.run(resolver, &[("vol", "/etc")], &driver(), |told| {
            assert_eq!(told, [""; 0]);
            case.finds("libcuda.so.1", "/drv/libcuda.so.1");
            case.finds("libvolume.so.1", "/opt/libvolume.so.1");
            assert_eq!(case.mode("rootfs/etc/ld.so.cache"), 0o444);
        });
        assert_eq!(case.snapshot("vol"), before);
    }
}

/// A list with an entry for user 1000, who may not read, as it stands in the extended attribute (linux/posix_acl_xattr.h).
fn acl_against_a_user() -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let entries = [(1, 6, none), (2, 0, 1000), (4, 4, none), (0x10, 4, none), (0x20, 4, none)];
    let entries: Vec<u8> = entries.into_iter().flat_map(|(tag, may, id)| entry(tag, may, id)).collect();
    [2_u32.to_le_bytes().to_vec(), entries].concat()
}

#[test]
fn a_volumes_cache_that_somebody_may_not_read_is_neither_copied_nor_hidden() {
    let acl = |path: &Path| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(path, "system.posix_acl_access", &acl_against_a_user(), flags).unwrap();
    };
    let narrow = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();
    let close = |path: &Path| fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o750)).unwrap();
    let ways: [&dyn Fn(&Path); 3] = [&acl, &narrow, &close];
    for resolver in resolvers() {
        for (number, restrict) in ways.iter().enumerate() {
            let case = Case::new();
            case.write("vol/ld.so.cache", cache("libvolume.so.1"), 0o644);
            restrict(&case.path("vol/ld.so.cache"));
            let before = case.snapshot("vol");
            let told = case.run(resolver, &[("vol", "/etc")], &driver(), |told| {
                assert_eq!(case.cached().len(), 1, "{number}");
                told.to_vec()
            });
            let expected = "/etc/ld.so.cache: it is not the image's, and not everybody may read it: it is not copied";
            assert_eq!(told, [expected], "{number}");
            assert_eq!(case.snapshot("vol"), before);
        }
    }
}

/// The library directory is the user's, and the driver's library is mounted into it.
#[test]
fn where_the_library_directory_is_a_volume_the_cache_names_what_the_links_would_lead_to() {
    for resolver in resolvers() {
        let case = Case::new();
        case.write("vol/libcuda.so.580.1", "", 0o644);
        case.library("driver", "libcuda.so.1");
        let links = ["libcuda.so.1", "libcuda.so"].map(|name| format!("{LIBRARIES}/{name}"));
        let operations = [link("libcuda.so.580.1", &links[0]), link("libcuda.so.1", &links[1]), dir(LIBRARIES)];
        let library = format!("{LIBRARIES}/libcuda.so.580.1");
        let before = case.snapshot("vol");
        case.run(resolver, &[("vol", LIBRARIES), ("driver", &library)], &operations, |told| {
            case.finds("libcuda.so.1", &library);
            case.finds("libcuda.so", &library);
            let expected = format!(
                "{LIBRARIES}: 2 links are not made: something else is mounted there, which is not the image's to be \
                 changed or copied"
            );
            assert_eq!(told, [expected]);
        });
        assert_eq!(case.snapshot("vol"), before);
    }
}

// Modes

#[test]
fn modes_are_changed_of_the_containers_own_files_and_nodes_alone() {
    let chmod = |path: &str, mode| HookOperation::Chmod { mode, path: path.to_owned() };
    for resolver in resolvers() {
        let case = Case::new();
        case.write("vol/file", "", 0o600);
        case.write("rootfs/etc/shadow", "", 0o600);
        case.write("rootfs/own", "", 0o600);
        case.link("/vol/file", "rootfs/to-volume");
        case.link("/etc/shadow", "rootfs/to-shadow");
        let paths =
            ["/vol/file", "/to-volume", "/to-shadow", "/dev/dri", "/dev/bound", "/dev/shm/file", "/own", "/none"];
        let operations = paths.map(|path| chmod(path, 0o755));
        // The node and what is on a mount of its own below /dev are made in the first run's mounts, without it.
        let told = std::thread::scope(|scope| {
            let in_own_mounts = || {
                own_mounts();
                let root = case.path("rootfs");
                rustix::mount::mount_bind(&root, &root).unwrap();
                rustix::mount::mount_bind(case.path("vol"), root.join("vol")).unwrap();
                let none = MountFlags::empty();
                rustix::mount::mount("tmpfs", root.join("dev"), "tmpfs", none, None).unwrap();
                for dir in ["dev/dri", "dev/shm"] {
                    fs::create_dir(root.join(dir)).unwrap();
                }
                fs::set_permissions(root.join("dev/dri"), Permissions::from_mode(0o700)).unwrap();
                fs::write(root.join("dev/bound"), "").unwrap();
                rustix::mount::mount_bind(case.path("vol/file"), root.join("dev/bound")).unwrap();
                rustix::mount::mount_bind(case.path("vol"), root.join("dev/shm")).unwrap();
                let troubles = hook::run(&Root::open(&root, resolver).unwrap(), &operations, Vec::new);
                assert_eq!(case.mode("rootfs/dev/dri"), 0o755);
                troubles.iter().map(|trouble| trouble.path.clone()).collect::<Vec<_>>()
            };
            scope.spawn(in_own_mounts).join().unwrap()
        });
        assert_eq!(told, ["/vol/file", "/to-volume", "/to-shadow", "/dev/bound", "/dev/shm/file"]);
        assert_eq!(["vol/file", "rootfs/etc/shadow", "rootfs/own"].map(|path| case.mode(path)), [0o600, 0o600, 0o755]);
    }
}

/// As `-v /dev:/dev` does.
#[test]
fn modes_of_the_hosts_own_device_nodes_stay() {
    for resolver in resolvers() {
        let case = Case::new();
        let before = fs::metadata("/dev/null").unwrap().permissions().mode() & 0o7777;
        let operations = [HookOperation::Chmod { mode: before & 0o700, path: "/dev/null".to_owned() }];
        std::thread::scope(|scope| {
            let in_own_mounts = || {
                own_mounts();
                let root = case.path("rootfs");
                rustix::mount::mount_bind(&root, &root).unwrap();
                // Of which a copy stands for the host's own, should it be changed after all.
                rustix::mount::mount("tmpfs", "/dev", "tmpfs", MountFlags::empty(), None).unwrap();
                let (cwd, mode) = (rustix::fs::CWD, rustix::fs::Mode::from_raw_mode(0o666));
                let (kind, device) = (rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 3));
                rustix::fs::mknodat(cwd, "/dev/null", kind, mode, device).unwrap();
                fs::set_permissions("/dev/null", Permissions::from_mode(before)).unwrap();
                rustix::mount::mount_bind("/dev", root.join("dev")).unwrap();
                let troubles = hook::run(&Root::open(&root, resolver).unwrap(), &operations, Vec::new);
                assert_eq!(troubles.len(), 1);
                assert_eq!(fs::metadata("/dev/null").unwrap().permissions().mode() & 0o7777, before);
            };
            scope.spawn(in_own_mounts).join().unwrap();
        });
    }
}

// procfs

/// procfs is what the kernel says it is, and no link of the image's leads to it.
#[test]
fn the_drivers_part_of_procfs_is_not_looked_for_behind_links() {
    for resolver in resolvers() {
        let case = Case::new();
        case.make_dir("rootfs/real");
        fs::remove_dir(case.path("rootfs/proc")).unwrap();
        case.link("/real", "rootfs/proc");
        let operations = [HookOperation::FreezeDeviceNodes, HookOperation::HideGpus];
        // There is nothing behind the link: what has nothing to hide is no trouble.
        let told = case.run(resolver, &[], &operations, <[String]>::to_vec);
        assert_eq!(told, [""; 0]);
        case.make_dir("rootfs/real/driver/nvidia/gpus");
        case.write("rootfs/real/driver/nvidia/params", "ModifyDeviceFiles: 1\n", 0o444);
        let told = case.run(resolver, &[], &operations, <[String]>::to_vec);
        let expected =
            ["params", "gpus"].map(|name| format!("/proc/driver/nvidia/{name}: a symbolic link is on the way"));
        assert_eq!(told, expected);
    }
}
