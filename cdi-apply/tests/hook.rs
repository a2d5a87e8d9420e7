//! The hook in roots on disk: whatever an image puts into its root, nothing outside is read or written.
#![cfg(feature = "hook")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests set up files and stop at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cdi_apply::hook::ld_cache::{Added, Cache, Entry, Insertion};
use cdi_apply::hook::paths::HookPath;
use cdi_apply::hook::root::{Resolver, Root};
use cdi_apply::hook::{self, ld_cache};
use cdi_specs::HookOperation;
use tempfile::TempDir;
use testdata::elf;

/// A container's root, with a directory of the host beside it that must stay as it is.
struct Image {
    dir: TempDir,
}

impl Image {
    fn new() -> Self {
        let image = Self { dir: TempDir::new().unwrap() };
        fs::create_dir_all(image.path("etc")).unwrap();
        fs::create_dir_all(image.host("outside")).unwrap();
        fs::write(image.host("outside/canary"), "alive").unwrap();
        image
    }

    /// A path in the root.
    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("rootfs").join(path.trim_start_matches('/'))
    }

    /// A path beside it.
    fn host(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn root(&self, resolver: Resolver) -> Root {
        Root::open(&self.path("/"), resolver).unwrap()
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn library(&self, path: &str, soname: &str) {
        self.write(path, elf::shared_object(elf::Class::Elf64, elf::Machine::X86_64, Some(soname), None));
    }

    fn link(&self, target: impl AsRef<Path>, link: &str) {
        fs::create_dir_all(self.path(link).parent().unwrap()).unwrap();
        symlink(target, self.path(link)).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Runs operations without mount points, and tells what went wrong.
    fn run(&self, operations: &[HookOperation]) -> Vec<String> {
        let troubles = hook::run(&self.root(Resolver::Kernel), operations, Vec::new);
        troubles.iter().map(|trouble| format!("{}: {}", trouble.path, trouble.error)).collect()
    }

    /// Name and path of each entry of the cache.
    fn cached(&self) -> Vec<(String, String)> {
        let bytes = fs::read(self.path("etc/ld.so.cache")).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Cache::parse(&bytes).unwrap().entries.iter().map(|entry| (text(&entry.name), text(&entry.path))).collect()
    }

    /// All files of the root, with what they hold or link to.
    fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        let mut pending = vec![self.path("/")];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    pending.push(entry.path());
                }
                let held = if kind.is_symlink() {
                    fs::read_link(entry.path()).unwrap().display().to_string()
                } else if kind.is_file() {
                    String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned()
                } else {
                    String::new()
                };
                found.insert(entry.path(), held);
            }
        }
        found
    }

    fn outside_is_untouched(&self) {
        let names: Vec<_> =
            fs::read_dir(self.host("outside")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["canary"]);
        assert_eq!(fs::read_to_string(self.host("outside/canary")).unwrap(), "alive");
    }
}

fn dir(path: &str) -> HookOperation {
    HookOperation::LibraryDir(path.to_owned())
}

fn link(target: &str, link: &str) -> HookOperation {
    HookOperation::Symlink { target: target.to_owned(), link: link.to_owned() }
}

fn pair(name: &str, path: &str) -> (String, String) {
    (name.to_owned(), path.to_owned())
}

// Root

/// Where paths lead in a root full of traps: as the kernel says, and as we walk where there is no openat2(2).
#[test]
fn no_path_leads_out_of_the_root() {
    let image = Image::new();
    image.write("usr/lib/file", "inside");
    image.link("/usr/lib", "abs");
    image.link("usr/lib", "rel");
    image.link("../../../../../../usr", "above");
    image.link("abs/../lib", "through");
    image.link("loop", "loop");
    image.link("a", "b");
    image.link("b", "a");
    image.link(image.host("outside"), "out");
    image.link("../outside", "out-relative");
    image.link("/proc/self/root", "magic-text");
    let cases = [
        ("usr/lib/file", Some("usr/lib/file")),
        ("/usr/lib/file", Some("usr/lib/file")),
        ("/abs/file", Some("usr/lib/file")),
        ("rel/file", Some("usr/lib/file")),
        ("above/lib/file", Some("usr/lib/file")),
        ("through/file", Some("usr/lib/file")),
        ("../../../usr/lib/../lib/./file", Some("usr/lib/file")),
        ("/", Some("")),
        ("..", Some("")),
        ("", Some("")),
        ("loop", None),
        ("a/x", None),
        ("out/canary", None),
        ("out-relative/canary", None),
        ("magic-text/etc", None),
        ("usr/lib/file/x", None),
        ("nothing", None),
    ];
    for resolver in [Resolver::Kernel, Resolver::Walk] {
        let root = image.root(resolver);
        for (path, expected) in cases {
            let found = root.find(&HookPath::library(Path::new(path))).ok().map(|fd| {
                let stat = rustix::fs::fstat(&fd).unwrap();
                (stat.st_dev, stat.st_ino)
            });
            let expected = expected.map(|path| {
                let metadata = fs::metadata(image.path(path)).unwrap();
                (metadata.dev(), metadata.ino())
            });
            assert_eq!(found, expected, "{path} by {resolver:?}");
        }
    }
}

#[test]
fn links_of_procfs_lead_nowhere() {
    for resolver in [Resolver::Kernel, Resolver::Walk] {
        let root = Root::open(Path::new("/"), resolver).unwrap();
        for path in ["proc/self/root/etc", "proc/self/cwd", "proc/self/exe", "proc/self/fd/0/x"] {
            assert!(root.find(&HookPath::library(Path::new(path))).is_err(), "{path} by {resolver:?}");
        }
        assert!(root.find(&HookPath::library(Path::new("proc/version"))).is_ok());
    }
}

#[test]
fn directories_are_made_inside() {
    for resolver in [Resolver::Kernel, Resolver::Walk] {
        let image = Image::new();
        image.link("/new/deep", "link");
        image.link(image.host("outside"), "out");
        let root = image.root(resolver);
        root.make_place(&HookPath::link("/x/y/../z/file")).unwrap().write(b"1", 0o644).unwrap();
        assert_eq!(image.read("x/z/file"), "1");
        root.make_place(&HookPath::link("/out/sub/file")).unwrap().write(b"2", 0o644).unwrap();
        root.make_place(&HookPath::link("/link/file")).unwrap().write(b"3", 0o600).unwrap();
        assert_eq!(image.read("new/deep/file"), "3");
        assert_eq!(fs::metadata(image.path("new/deep/file")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(image.path("x/z")).unwrap().permissions().mode() & 0o777, 0o755);
        image.outside_is_untouched();
    }
}

/// While another thread exchanges two paths of the image, 10,000 times; each way of resolving in turn.
fn while_exchanged(image: &Image, one: &str, other: &str, round: impl Fn(usize, &Root)) {
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (one, other) = (image.path(one), image.path(other));
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                let (cwd, exchange) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
                let _ = rustix::fs::renameat_with(cwd, &one, cwd, &other, exchange);
            }
        });
        for number in 0..10_000 {
            let resolver = if number % 2 == 0 { Resolver::Kernel } else { Resolver::Walk };
            round(number, &image.root(resolver));
        }
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    image.outside_is_untouched();
}

/// A container that shares a volume exchanges a directory for a link to the host while the hook works in it.
#[test]
fn rootfs_racer_exchange() {
    let image = Image::new();
    fs::create_dir_all(image.path("usr/lib")).unwrap();
    image.link(image.host("outside"), "evil");
    while_exchanged(&image, "usr/lib", "evil", |round, root| {
        if let Ok(place) = root.make_place(&HookPath::link("/usr/lib/file")) {
            let _ = place.write(format!("{round}").as_bytes(), 0o644);
        }
        let _ = hook::symlink::Links::new(root).create("libcuda.so.1", "/usr/lib/sub/libcuda.so");
    });
}

/// The same with a directory that the hook has just made, before it goes in.
#[test]
fn rootfs_racer_exchanges_what_was_made() {
    let image = Image::new();
    fs::create_dir_all(image.path("usr/lib")).unwrap();
    while_exchanged(&image, "usr/lib/made", "evil", |_, root| {
        // Which the other thread may foil; then it is the next round that counts.
        for path in [image.path("usr/lib/made"), image.path("evil")] {
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
        let _ = symlink(image.host("outside"), image.path("evil"));
        let _ = hook::symlink::Links::new(root).create("x", "/usr/lib/made/libcuda.so");
    });
}

// Links, modes

#[test]
fn links_say_what_they_are_told() {
    let image = Image::new();
    image.write("usr/lib/is-a-file", "x");
    image.link("wrong", "usr/lib/libcuda.so");
    image.link(image.host("outside"), "out");
    fs::create_dir(image.path("usr/lib/dir")).unwrap();
    let operations = [
        link("libcuda.so.1", "/usr/lib/libcuda.so"),
        link("/etc/shadow", "/usr/lib/is-a-file"),
        link("a,b::c", "/new/dir/with, comma"),
        link("x", "/out/escaped"),
        link("x", "/usr/lib/dir"),
        link("x", "/usr/lib/dir/"),
        link("x", "/usr/lib/dir/inside"),
    ];
    let troubles = image.run(&operations);
    assert_eq!(troubles, ["/usr/lib/dir", "/usr/lib/dir/"].map(|dir| format!("{dir}: Is a directory (os error 21)")));
    let says = |path: &str| fs::read_link(image.path(path)).unwrap().display().to_string();
    assert_eq!(says("usr/lib/libcuda.so"), "libcuda.so.1");
    assert_eq!(says("usr/lib/is-a-file"), "/etc/shadow");
    assert_eq!(says("new/dir/with, comma"), "a,b::c");
    assert_eq!(says("usr/lib/dir/inside"), "x");
    image.outside_is_untouched();
    // A second start changes nothing, and leaves nothing.
    let before = image.snapshot();
    image.run(&operations);
    assert_eq!(image.snapshot(), before);
}

#[test]
fn modes_change_inside_and_give_nobody_anothers_rights() {
    let image = Image::new();
    fs::set_permissions(image.host("outside/canary"), fs::Permissions::from_mode(0o600)).unwrap();
    image.link(image.host("outside/canary"), "dev/evil");
    image.write("dev/dri/card0", "");
    let chmod = |path: &str, mode| HookOperation::Chmod { mode, path: path.to_owned() };
    let troubles = image.run(&[chmod("/dev/dri/card0", 0o4755), chmod("/dev/evil", 0o777), chmod("/nothing", 0o777)]);
    assert_eq!(troubles, [""; 0]);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(image.path("dev/dri/card0")), 0o755);
    assert_eq!(mode(image.host("outside/canary")), 0o600);
}

// The loader

/// What the ldconfig of Debian 12 has written in a small image.
const REAL_CACHE: &[u8] = include_bytes!("../../testdata/caches/debian-12");

/// A real cache comes through as it was: the real ldconfig reads the same from ours.
#[test]
fn a_real_cache_survives() {
    let cache = Cache::parse(REAL_CACHE).unwrap();
    assert!(cache.entries.len() > 10);
    let image = Image::new();
    let mut sorted = cache.clone();
    sorted.update(Added::default(), &[]);
    assert_eq!(sorted, cache, "our order is ldconfig's");
    image.write("etc/ld.so.cache", cache.to_bytes().unwrap());
    let print = |path: &Path| {
        let ldconfig = Command::new("/sbin/ldconfig").arg("-p").arg("-C").arg(path).output().unwrap();
        let printed = String::from_utf8(ldconfig.stdout).unwrap();
        // The first line has the file's name.
        printed.split_once('\n').unwrap().1.to_owned()
    };
    image.write("real", REAL_CACHE);
    assert_eq!(print(&image.path("etc/ld.so.cache")), print(&image.path("real")));
}

#[test]
fn caches_of_each_layout_are_read() {
    let entry = |name: &str| testdata::ld_so_cache::CacheEntry {
        name: name.into(),
        path: format!("/usr/lib/{name}"),
        flags: testdata::ld_so_cache::X86_64,
    };
    let entries = [entry("libz.so.1"), entry("libc.so.10"), entry("libc.so.9"), entry("liba.so.1")];
    for format in
        [testdata::ld_so_cache::Format::New, testdata::ld_so_cache::Format::Old, testdata::ld_so_cache::Format::Both]
    {
        let bytes = testdata::ld_so_cache::write(&entries, format, testdata::ld_so_cache::Endian::Little);
        let cache = Cache::parse(&bytes).unwrap();
        let names: Vec<_> =
            cache.entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect();
        assert_eq!(names, ["libz.so.1", "libc.so.10", "libc.so.9", "liba.so.1"], "{format:?}");
        let again = cache.to_bytes().unwrap();
        assert_eq!(Cache::parse(&again).unwrap().entries, cache.entries);
        // Damage is told, and never more than that.
        for end in 0..bytes.len() {
            let _ = Cache::parse(bytes.get(..end).unwrap());
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            let _ = Cache::parse(&damaged);
        }
    }
    let big =
        testdata::ld_so_cache::write(&entries, testdata::ld_so_cache::Format::New, testdata::ld_so_cache::Endian::Big);
    assert_eq!(Cache::parse(&big), Err(ld_cache::CacheError::ByteOrder));
}

fn updated<'c>(cache: &Cache<'c>, added: &Added<'c>) -> Cache<'c> {
    let mut cache = cache.clone();
    cache.update(added.clone(), &[]);
    cache
}

/// What is put into a file as it stands is what a file that was read and written anew has.
#[test]
fn entries_are_put_into_a_real_cache_as_it_stands() {
    let bytes = REAL_CACHE.to_vec();
    let cache = Cache::parse(&bytes).unwrap();
    let names = ["libcuda.so.1", "libc.so.6", "libzzz.so", "lib0.so", "ld.so", "libm.so.6"];
    let of = |dir: &str| names.map(|name| entry(name, dir)).to_vec();
    let held = cache.entries.iter().find(|entry| &*entry.name == b"libc.so.6").unwrap().clone();
    let added = Added { first: of("/first"), last: [of("/last"), vec![held.clone()]].concat() };
    let inserted = |bytes: &[u8], added: &Added<'_>| {
        let insertion = Insertion::new(bytes, bytes.len(), added).unwrap()?;
        let mut out = Vec::new();
        insertion.write(&mut out).map(|()| (insertion.is_empty(), out)).ok()
    };
    let (is_empty, more) = inserted(&bytes, &added).unwrap();
    let expected = updated(&cache, &added);
    assert_eq!(Cache::parse(&more), Ok(expected.clone()));
    assert_eq!((is_empty, expected.entries.len()), (false, cache.entries.len() + 2 * names.len()));
    // By the entries and their strings, which none of the file's has, and what aligns the extensions behind them.
    let size = |entry: &Entry<'_>| 24 + entry.name.len() + entry.path.len() + 2;
    let new: usize = added.first.iter().chain(&added.last[..names.len()]).map(size).sum();
    assert!((more.len() - bytes.len()).abs_diff(new) < 4, "{} {new}", more.len() - bytes.len());
    // Nothing that is not there already, and what takes more than that.
    let nothing = Added { last: vec![held], ..Added::default() };
    assert_eq!(inserted(&bytes, &nothing), Some((true, bytes.clone())));
    assert_eq!(inserted(&more, &added), None);
    assert_eq!(inserted(b"no cache", &nothing), None);
    for end in 0..bytes.len() {
        assert_eq!(inserted(&bytes[..end], &nothing), None);
    }
}

/// The names of the glibc-hwcaps directories, which stand behind the strings and move with them.
#[test]
fn extensions_move_with_the_strings() {
    let bytes = include_bytes!("../../xtask/fuzz/seeds/ld_so_cache/hwcaps").as_slice();
    let added = Added { first: vec![entry("libcuda.so.1", "/first")], last: vec![entry("libcuda.so.1", "/last")] };
    let insertion = Insertion::new(bytes, bytes.len(), &added).unwrap().unwrap();
    let mut inserted = Vec::new();
    insertion.write(&mut inserted).unwrap();
    let cache = Cache::parse(bytes).unwrap();
    assert!(cache.entries.iter().any(|entry| entry.hwcap != 0));
    assert_eq!(Cache::parse(&inserted), Ok(updated(&cache, &added)));
}

#[test]
fn names_are_ordered_as_glibc_does() {
    let expected = "ld.so liba.so libc-2.so libc.so libc.so.6 libc.so.10 libc.so.13 libc.so.102 libca.so lib1.so";
    let expected: Vec<&str> = expected.split(' ').collect();
    let mut names = expected.clone();
    names.sort();
    names.sort_by(|one, other| ld_cache::compare_names(one.as_bytes(), other.as_bytes()));
    assert_eq!(names, expected);
}

#[test]
fn the_libraries_of_a_new_directory_come_first() {
    let image = Image::new();
    image.library("usr/lib/libcuda.so.1", "libcuda.so.1");
    image.library("usr/local/nvidia/lib64/libcuda.so.580.1", "libcuda.so.1");
    image.link("libcuda.so.1", "usr/local/nvidia/lib64/libcuda.so");
    image.library("usr/local/nvidia/lib64/libnvidia-ml.so.580.1", "libnvidia-ml.so.1");
    image.write("usr/local/nvidia/lib64/libtext.so", "no library");
    image.write("usr/local/nvidia/lib64/README", "no library");
    let stub = entry("libcuda.so.1", "/usr/lib");
    let mut cache = Cache::default();
    cache.update(Added { first: vec![stub], ..Added::default() }, &[]);
    image.write("etc/ld.so.cache", cache.to_bytes().unwrap());
    let operations = [link("libcuda.so.580.1", "/usr/local/nvidia/lib64/libcuda.so.1"), dir("/usr/local/nvidia/lib64")];
    assert_eq!(image.run(&operations), [""; 0]);
    let home = "/usr/local/nvidia/lib64";
    let expected = [
        pair("libnvidia-ml.so.1", &format!("{home}/libnvidia-ml.so.580.1")),
        pair("libcuda.so.1", &format!("{home}/libcuda.so.1")),
        pair("libcuda.so.1", "/usr/lib/libcuda.so.1"),
        pair("libcuda.so", &format!("{home}/libcuda.so")),
    ];
    assert_eq!(image.cached(), expected);
    assert_eq!(image.read("etc/ld.so.conf.d/00-cdi-hook.conf"), format!("{home}\n"));
    assert_eq!(image.read("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n");
    // A restart changes nothing.
    let before = image.snapshot();
    image.run(&operations);
    assert_eq!(image.snapshot(), before);
    // What is no longer asked for goes.
    image.library("opt/other/libcuda.so.1", "libcuda.so.1");
    assert_eq!(image.run(&[dir("/opt/other")]), [""; 0]);
    let expected = [pair("libcuda.so.1", "/opt/other/libcuda.so.1"), pair("libcuda.so.1", "/usr/lib/libcuda.so.1")];
    assert_eq!(image.cached(), expected);
}

/// A cache with libraries of the image's own.
fn cache_of(libraries: usize) -> Cache<'static> {
    let held = (0..libraries).map(|index| entry(&format!("libheld{index}.so.1"), "/usr/lib")).collect();
    let mut cache = Cache::default();
    cache.update(Added { last: held, ..Added::default() }, &[]);
    cache
}

fn entry(name: &str, dir: &str) -> Entry<'static> {
    let path = format!("{dir}/{name}").into_bytes().into();
    Entry { flags: 0x0303, name: name.as_bytes().to_vec().into(), path, ..Entry::default() }
}

/// Caches that are not read whole.
#[test]
fn a_long_cache_keeps_all_that_it_has() {
    for (held, new) in [(5_000, 1), (10_000, 1), (10_000, 600)] {
        let image = Image::new();
        let mut cache = cache_of(held);
        let bytes = cache.to_bytes().unwrap();
        image.write("etc/ld.so.cache", &bytes);
        let names: Vec<String> = (0..new).map(|index| format!("libcuda{index}.so.1")).collect();
        names.iter().for_each(|name| image.library(&format!("drv/{name}"), name));
        assert_eq!(image.run(&[dir("/drv")]), [""; 0]);
        let written = fs::read(image.path("etc/ld.so.cache")).unwrap();
        let first = names.iter().map(|name| entry(name, "/drv")).collect();
        cache.update(Added { first, ..Added::default() }, &[]);
        assert!(Cache::parse(&written) == Ok(cache), "{held} {new}");
        let listed =
            Command::new("/sbin/ldconfig").arg("-p").arg("-C").arg(image.path("etc/ld.so.cache")).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(listed.matches(" => /").count(), held + new);
        assert_eq!(listed.matches("(libc6,x86-64) => /drv/libcuda").count(), new);
        // A restart changes nothing, as in a short one, and nothing is left beside.
        let before = image.snapshot();
        assert_eq!(image.run(&[dir("/drv")]), [""; 0]);
        assert!(image.snapshot() == before);
        let beside = fs::read_dir(image.path("etc")).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(
            beside.collect::<BTreeSet<_>>(),
            ["ld.so.cache", "ld.so.conf", "ld.so.conf.d"].map(Into::into).into()
        );
    }
}

#[test]
fn a_directory_of_the_image_keeps_its_place() {
    let image = Image::new();
    image.write("etc/debian_version", "12\n");
    image.write("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n");
    image.write("etc/ld.so.conf.d/local.conf", "# first\n/usr/local/lib\n");
    let own = |path: &str| Entry {
        flags: 0x0303,
        name: b"libcuda.so.1".into(),
        path: path.as_bytes().to_vec().into(),
        os_version: 0,
        hwcap: 0,
    };
    let mut cache = Cache::default();
    cache.update(Added { first: vec![own("/usr/local/lib/libcuda.so.1")], ..Added::default() }, &[]);
    image.write("etc/ld.so.cache", cache.to_bytes().unwrap());
    let home = "/usr/lib/x86_64-linux-gnu";
    image.library(&format!("{home}/libcuda.so.580.1"), "libcuda.so.1");
    image.library(&format!("{home}/libsomething.so.1"), "libsomething.so.1");
    let operations = [link("libcuda.so.580.1", &format!("{home}/libcuda.so.1")), dir(home)];
    assert_eq!(image.run(&operations), [""; 0]);
    let expected =
        [pair("libcuda.so.1", "/usr/local/lib/libcuda.so.1"), pair("libcuda.so.1", &format!("{home}/libcuda.so.1"))];
    assert_eq!(image.cached(), expected, "what did not come with the driver is not looked at");
    assert!(!image.path("etc/ld.so.conf.d/00-cdi-hook.conf").exists());
}

/// Whoever had the links made has read the libraries: one of them is opened, to know the machine.
#[test]
fn links_that_are_made_name_the_libraries_they_lead_to() {
    let image = Image::new();
    image.library("drv/liba.so.580", "liba.so.1");
    for name in ["libb.so.580", "libc.so.580", "libd.so.580"] {
        image.write(&format!("drv/{name}"), "not opened");
    }
    image.library("drv/libe.so.580", "libe.so.1");
    let operations = [
        link("liba.so.580", "/drv/liba.so.1"),
        link("liba.so.1", "/drv/liba.so"),
        link("liba.so.1", "/drv/liba.so.1.0"),
        // The latest of a name counts.
        link("libgone.so.2", "/drv/libb.so.2"),
        link("libb.so.580", "/drv/libb.so.2"),
        // Its SONAME is its own name.
        link("libc.so.580", "/drv/libc.so"),
        // Of these nobody knows more than what they hold.
        link("../drv/libd.so.580", "/drv/libd.so"),
        link("libgone.so.580", "/drv/libgone.so.1"),
        dir("/drv"),
    ];
    assert_eq!(image.run(&operations), [""; 0]);
    let same = |name: &str| pair(name, &format!("/drv/{name}"));
    let expected = [
        pair("libe.so.1", "/drv/libe.so.580"),
        same("libc.so.580"),
        same("libc.so"),
        same("libb.so.2"),
        same("liba.so.1.0"),
        same("liba.so.1"),
        same("liba.so"),
    ];
    assert_eq!(image.cached(), expected);
}

#[test]
fn ldcache_symlink_targets() {
    let image = Image::new();
    for name in ["ld.so.cache", "ld.so.conf"] {
        image.link(image.host("outside/canary"), &format!("etc/{name}"));
    }
    image.link(image.host("outside"), "etc/ld.so.conf.d");
    image.library("drv/libcuda.so.1", "libcuda.so.1");
    image.run(&[dir("/drv")]);
    image.outside_is_untouched();
    assert_eq!(image.cached(), [pair("libcuda.so.1", "/drv/libcuda.so.1")]);
}

#[test]
fn ldcache_fifo_dev_dir() {
    for kind in ["fifo", "dir", "huge"] {
        let image = Image::new();
        let cache = image.path("etc/ld.so.cache");
        match kind {
            "fifo" => {
                let mode = rustix::fs::Mode::RUSR;
                rustix::fs::mknodat(rustix::fs::CWD, &cache, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            }
            "dir" => fs::create_dir(&cache).unwrap(),
            _ => fs::File::create(&cache).unwrap().set_len(1 << 40).unwrap(),
        }
        image.library("drv/libcuda.so.1", "libcuda.so.1");
        let troubles = image.run(&[dir("/drv")]);
        assert!(
            kind == "huge" || troubles.iter().all(|trouble| trouble.starts_with("/etc/ld.so.cache: ")),
            "{troubles:?}"
        );
    }
}

#[test]
fn ldsoconf_include_bomb() {
    let image = Image::new();
    image.write("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\ninclude /etc/ld.so.conf\n");
    for index in 0..500 {
        image.write(
            &format!("etc/ld.so.conf.d/{index}.conf"),
            "include *.conf\ninclude /etc/ld.so.conf.d/*\n/a\n".repeat(100),
        );
    }
    image.library("drv/libcuda.so.1", "libcuda.so.1");
    assert_eq!(image.run(&[dir("/drv")]), [""; 0]);
    assert_eq!(image.cached(), [pair("libcuda.so.1", "/drv/libcuda.so.1")]);
}

#[test]
fn a_library_that_lies_about_its_name_makes_no_entry_that_leads_elsewhere() {
    let image = Image::new();
    image.library("drv/libevil.so.1", "../../../../etc/evil.so");
    image.link(image.host("outside/canary"), "drv/libout.so");
    assert_eq!(image.run(&[dir("/drv")]), [""; 0]);
    assert_eq!(image.cached(), [pair("libevil.so.1", "/drv/libevil.so.1")]);
}

/// What a driver's file, or one beside it, must not be asked for.
#[test]
fn a_library_takes_no_name_of_another_one() {
    let image = Image::new();
    for (file, soname) in [
        ("libnvidia-ev4.so.580.159.04", "libm.so.6"),
        ("libcuda.so.580.159.04", "libcuda.so.1"),
        ("libGLX_nvidia.so.580.159.04", "libGLX_nvidia.so.0"),
        ("libnvidia-nvvm.so.4.0.0", "libnvidia-nvvm.so.4"),
        ("libnvidia-glcore.so.580.159.04", "libnvidia-glcore.so.580.159.04"),
        ("libc-2.31.so", "libc.so.6"),
    ] {
        image.library(&format!("drv/{file}"), soname);
    }
    image.link("libnvidia-ev4.so.580.159.04", "drv/libpthread.so.0");
    assert_eq!(image.run(&[link("libGLX_nvidia.so.580.159.04", "/drv/libGLX_indirect.so.0"), dir("/drv")]), [""; 0]);
    let at = |name: &str, file: &str| pair(name, &format!("/drv/{file}"));
    let expected = [
        // A link of the image's is what the image calls it.
        at("libpthread.so.0", "libpthread.so.0"),
        at("libnvidia-nvvm.so.4", "libnvidia-nvvm.so.4.0.0"),
        at("libnvidia-glcore.so.580.159.04", "libnvidia-glcore.so.580.159.04"),
        at("libnvidia-ev4.so.580.159.04", "libnvidia-ev4.so.580.159.04"),
        at("libcuda.so.1", "libcuda.so.580.159.04"),
        at("libc-2.31.so", "libc-2.31.so"),
        at("libGLX_indirect.so.0", "libGLX_indirect.so.0"),
    ];
    assert_eq!(image.cached(), expected);
}

#[test]
fn musl_has_a_list_of_directories() {
    let image = Image::new();
    image.write("lib/ld-musl-x86_64.so.1", "");
    assert_eq!(image.run(&[dir("/drv")]), [""; 0]);
    assert_eq!(image.read("etc/ld-musl-x86_64.path"), "/lib:/usr/local/lib:/usr/lib\n/drv\n");
    let before = image.snapshot();
    assert_eq!(image.run(&[dir("/drv")]), [""; 0]);
    assert_eq!(image.snapshot(), before);
    assert!(!image.path("etc/ld.so.cache").exists());
}

#[test]
fn cuda_compat_comes_before_the_driver() {
    let image = Image::new();
    image.library("usr/local/cuda-13/compat/libcuda.so.590.44.01", "libcuda.so.1");
    image.link("libcuda.so.590.44.01", "usr/local/cuda-13/compat/libcuda.so.1");
    image.link("cuda-13", "usr/local/cuda");
    image.library("drv/libcuda.so.1", "libcuda.so.1");
    let compat = |version: &str| HookOperation::CudaCompat { driver_version: version.to_owned() };
    assert_eq!(image.run(&[compat("580.159.04"), dir("/drv")]), [""; 0]);
    let first = |image: &Image| image.cached().first().unwrap().1.clone();
    assert_eq!(first(&image), "/usr/local/cuda/compat/libcuda.so.1");
    // A later driver needs it no more.
    assert_eq!(image.run(&[compat("595.10.01"), dir("/drv")]), [""; 0]);
    assert_eq!(image.cached(), [pair("libcuda.so.1", "/drv/libcuda.so.1")]);
}

/// The image's compat directory is a link to the host, where a libcuda lies.
#[test]
fn image_compat_symlink_root() {
    let image = Image::new();
    let outside = image.host("outside-libraries");
    fs::create_dir(&outside).unwrap();
    let library = elf::shared_object(elf::Class::Elf64, elf::Machine::X86_64, Some("libcuda.so.1"), None);
    fs::write(outside.join("libcuda.so.999.1"), library).unwrap();
    image.link(&outside, "usr/local/cuda/compat");
    image.library("drv/libcuda.so.1", "libcuda.so.1");
    let compat = HookOperation::CudaCompat { driver_version: "580.1".to_owned() };
    image.run(&[compat, dir("/drv")]);
    assert_eq!(image.cached(), [pair("libcuda.so.1", "/drv/libcuda.so.1")]);
}

// The program

fn hook(image: &Image, args: &[&str], state: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cdi-hook"));
    command.args(args).stdin(Stdio::piped()).stderr(Stdio::piped()).current_dir(image.host(""));
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(state.as_bytes());
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_program_finds_the_root_by_the_state() {
    let image = Image::new();
    let bundle = image.host("").display().to_string();
    let made = |args: &[&str], state: &str| {
        let _ = fs::remove_file(image.path("usr/lib/a.so"));
        let answer = hook(&image, args, state);
        assert_eq!(answer, (0, String::new()));
        fs::read_link(image.path("usr/lib/a.so")).unwrap().display().to_string()
    };
    let ours = ["create-container", "--symlink", "a.so.1", "/usr/lib/a.so"];
    let state = format!(r#"{{"ociVersion": "1.0.2", "id": "c", "bundle": "{bundle}"}}"#);
    fs::write(image.host("config.json"), r#"{"root": {"path": "rootfs"}}"#).unwrap();
    assert_eq!(made(&ours, &state), "a.so.1");
    // crun tells the root itself.
    fs::write(image.host("config.json"), "{}").unwrap();
    assert_eq!(made(&ours, &format!(r#"{{"bundle": "{bundle}", "root": "{bundle}/rootfs"}}"#)), "a.so.1");
    let peers = ["create-symlinks", "--link", "b.so.1::/usr/lib/a.so"];
    assert_eq!(made(&peers, &format!(r#"{{"bundle": "{bundle}", "root": "rootfs"}}"#)), "b.so.1");
}

/// By whatever path, and by another mount of it.
#[test]
fn the_hosts_root_is_no_containers() {
    let image = Image::new();
    let bundle = image.host("").display().to_string();
    let made = image.host("made").display().to_string();
    for root in ["/", "/..", "/.", "//", "/proc/self/root", "/proc/self/root/", "../../../../../..", "/proc/1/root"] {
        fs::write(image.host("config.json"), format!(r#"{{"root": {{"path": "{root}"}}}}"#)).unwrap();
        for state in [format!(r#"{{"bundle": "{bundle}"}}"#), format!(r#"{{"bundle": "{bundle}", "root": "{root}"}}"#)]
        {
            let (code, stderr) = hook(&image, &["create-container", "--symlink", "x", &made], &state);
            assert_eq!(code, 2, "{root}: {stderr}");
            assert!(fs::symlink_metadata(&made).is_err(), "{root}");
        }
    }
    // Whoever looks like runc does, in another mount of it.
    let program = env!("CARGO_BIN_EXE_cdi-hook");
    let in_host = format!(
        "printf 'runc:[2:INIT]' > /proc/self/comm; touch x; mount --bind config.json x; mkdir host; mount --rbind / host; \
         cp config.json saved; printf '{{}}' > config.json; \
         (cd host; {program} create-container --symlink x {made} < {bundle}/state && exit 9 || true); cp saved config.json"
    );
    let Some((stdout, _)) = in_own_mounts(&image, &in_host, "", "ls made 2>/dev/null || echo none") else { return };
    assert_eq!(stdout, "none\n");
}

#[test]
fn what_cannot_be_done_does_not_kill_the_container() {
    let image = Image::new();
    let bundle = image.host("").display().to_string();
    fs::write(image.host("config.json"), r#"{"root": {"path": "rootfs"}}"#).unwrap();
    let state = format!(r#"{{"bundle": "{bundle}"}}"#);
    fs::create_dir_all(image.path("dir")).unwrap();
    let (code, stderr) = hook(&image, &["create-container", "--new-thing", "--symlink", "a", "/dir"], &state);
    let expected = "cdi-hook: unknown argument --new-thing: passed over\n\
                    cdi-hook: /dir: Is a directory (os error 21); the container starts without\n";
    assert_eq!((code, stderr.as_str()), (0, expected));
    let (code, stderr) = hook(&image, &["something-new", "--x"], &state);
    assert_eq!((code, stderr.as_str()), (0, "cdi-hook: unknown command something-new: nothing done\n"));
    // A container that was promised GPUs must not start without.
    let (code, stderr) = hook(&image, &["prestart"], &state);
    assert!(code == 2 && stderr.contains("--gpus takes cdi-runtime"), "{stderr}");
    // Without a container there is nothing to spare.
    for (args, state) in [
        (&["create-container"][..], ""),
        (&["create-container"], "{}"),
        (&["create-container"], r#"{"bundle": "relative"}"#),
        (&["create-container"], r#"{"bundle": "/", "root": "/"}"#),
        (&["create-container", "--symlink", "a"], state.as_str()),
        (&[], state.as_str()),
    ] {
        assert_eq!(hook(&image, args, state).0, 2, "{args:?} {state}");
    }
}

/// Runs the hook in mounts of its own, and then a script in which the root is `rootfs`; `None` where nobody lets us mount.
fn in_own_mounts(image: &Image, before: &str, args: &str, after: &str) -> Option<(String, String)> {
    fs::write(image.host("config.json"), r#"{"root": {"path": "rootfs"}}"#).unwrap();
    fs::write(image.host("state"), format!(r#"{{"bundle": "{}"}}"#, image.host("").display())).unwrap();
    let as_root: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let unshare = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare
            .args(as_root)
            .args(["--mount", "--uts", "--pid", "--fork", "sh", "-e", "-c", script])
            .current_dir(image.host(""));
        unshare.output().unwrap()
    };
    if !unshare("mount -t tmpfs tmpfs outside").status.success() {
        println!("skipped: no mounts of our own here");
        return None;
    }
    let script = format!("{before}; {} create-container {args} < state; {after}", env!("CARGO_BIN_EXE_cdi-hook"));
    let output = unshare(&script);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{}", text(output.stderr));
    Some((text(output.stdout), text(output.stderr)))
}

/// The state names another root, so that it is seen which of the two was taken for the container's.
#[test]
fn runcs_state_is_not_waited_for() {
    let image = Image::new();
    let is_runc = "printf 'runc:[2:INIT]' > /proc/self/comm";
    let root = "mkdir -p root/lib rootfs/lib; touch root/lib/a.so.1 rootfs/lib/a.so.1; cp state root";
    let mounted = "mount --bind root root; mount --bind config.json root/lib/a.so.1";
    let args = "--symlink a.so.1 /lib/a.so";
    let after = "cd ../rootfs; ls ../root/lib lib";
    let cases = [
        (format!("{root}; {is_runc}; {mounted}; cd root"), "root"),
        (format!("{root}; {mounted}; cd root"), "state"),
        (format!("{root}; {is_runc}; mount --bind root root; cd root"), "state"),
        (format!("{root}; {is_runc}; mount --bind config.json root/lib/a.so.1; cd root"), "state"),
        (format!("{root}; {is_runc}; {mounted}; cp state rootfs; cd rootfs"), "state"),
    ];
    for (before, expected) in cases {
        let Some((stdout, stderr)) = in_own_mounts(&image, &before, args, after) else { return };
        let (in_root, in_state) = stdout.split_once("\n\n").unwrap();
        let taken = match (in_root.contains("a.so\n"), in_state.contains("a.so\n")) {
            (true, false) => "root",
            (false, true) => "state",
            both => panic!("{both:?}: {stdout}"),
        };
        assert_eq!((taken, stderr.as_str()), (expected, ""), "{before}");
        for dir in ["root", "rootfs"] {
            fs::remove_dir_all(image.host(dir)).unwrap();
        }
        fs::create_dir_all(image.path("etc")).unwrap();
    }
}

/// What engines give a container as its root.
#[test]
fn in_an_overlay_nothing_is_left_behind() {
    let image = Image::new();
    image.library("drv/libcuda.so.1", "libcuda.so.1");
    image.write("etc/ld.so.cache", Cache::default().to_bytes().unwrap());
    let before = "mount -t tmpfs tmpfs outside; mkdir outside/upper outside/work outside/lower; cp -a rootfs/. outside/lower; \
                  mount -t overlay -o lowerdir=outside/lower,upperdir=outside/upper,workdir=outside/work none rootfs";
    let after = "(cd outside/upper; find . ! -type d | sort); cmp outside/upper/etc/ld.so.cache rootfs/etc/ld.so.cache; \
                 /sbin/ldconfig -p -C outside/upper/etc/ld.so.cache | tail -n 1; /sbin/ldconfig -p -C outside/lower/etc/ld.so.cache | head -n 1 | cut -c 1-6";
    let Some((stdout, stderr)) = in_own_mounts(&image, before, "--library-dir /drv", after) else { return };
    let expected = "./etc/ld.so.cache\n./etc/ld.so.conf\n./etc/ld.so.conf.d/00-cdi-hook.conf\n\
                    \tlibcuda.so.1 (libc6,x86-64) => /drv/libcuda.so.1\n0 libs\n";
    assert_eq!((stdout.as_str(), stderr.as_str()), (expected, ""));
}

#[test]
fn in_a_read_only_root_the_loader_gets_a_cache_that_is_mounted() {
    let image = Image::new();
    image.library("drv/libcuda.so.580.1", "libcuda.so.1");
    let before = "mount --bind rootfs rootfs; mount -o remount,bind,ro rootfs";
    let args = "--symlink libcuda.so.580.1 /drv/libcuda.so.1 --library-dir /drv";
    let after = "ls -A rootfs/etc; /sbin/ldconfig -p -C rootfs/etc/ld.so.cache | tail -n 1; grep -c tmpfs.*rootfs /proc/self/mounts";
    for held in [0, 10_000] {
        let bytes = cache_of(held).to_bytes().unwrap();
        image.write("etc/ld.so.cache", &bytes);
        let Some((stdout, stderr)) = in_own_mounts(&image, before, args, after) else { return };
        assert_eq!(stdout, "ld.so.cache\n\tlibcuda.so.1 (libc6,x86-64) => /drv/libcuda.so.580.1\n1\n");
        assert_eq!(
            stderr,
            "cdi-hook: /drv/libcuda.so.1: Read-only file system (os error 30); the container starts without\n"
        );
        assert!(fs::read(image.path("etc/ld.so.cache")).unwrap() == bytes);
    }
}

/// The real procfs, with a file over the parameters that stands for a driver's; the mount over it is not procfs's.
#[test]
fn masked_path_preserved() {
    let image = Image::new();
    fs::create_dir_all(image.path("proc")).unwrap();
    let before = "mount -t proc proc rootfs/proc; mount -t tmpfs tmpfs rootfs/proc/driver; mkdir rootfs/proc/driver/nvidia; \
                  echo 'ModifyDeviceFiles: 1' > rootfs/proc/driver/nvidia/params";
    let after = "cat rootfs/proc/driver/nvidia/params";
    let Some((stdout, stderr)) = in_own_mounts(&image, before, "--freeze-device-nodes", after) else { return };
    assert_eq!((stdout.as_str(), stderr.as_str()), ("ModifyDeviceFiles: 1\n", ""));
}

/// A file of the real procfs whose text we can choose is the host's name.
#[test]
fn params_bind_is_procfs() {
    let image = Image::new();
    image.write("params", "ModifyDeviceFiles: 1\n");
    fs::create_dir_all(image.path("proc")).unwrap();
    let before = "mount -t proc proc rootfs/proc; mount -t tmpfs tmpfs rootfs/proc/driver; mkdir rootfs/proc/driver/nvidia; \
                  touch rootfs/proc/driver/nvidia/params; echo 'ModifyDeviceFiles: 1' > rootfs/proc/sys/kernel/hostname; \
                  mount --bind rootfs/proc/sys/kernel/hostname rootfs/proc/driver/nvidia/params";
    let after = "cat rootfs/proc/driver/nvidia/params; cat rootfs/proc/sys/kernel/hostname; ls rootfs/proc/driver/nvidia; \
                 grep 'rootfs/proc/driver/nvidia/params tmpfs ro,' /proc/self/mounts | cut -d ' ' -f 3";
    let Some((stdout, stderr)) = in_own_mounts(&image, before, "--freeze-device-nodes", after) else { return };
    assert_eq!(stdout, "ModifyDeviceFiles: 0\nModifyDeviceFiles: 1\nparams\ntmpfs\n");
    assert_eq!(stderr, "");
    // The same text in a file of the image's is not the driver's word.
    let before = "mkdir -p rootfs/proc/driver/nvidia; cp rootfs/params rootfs/proc/driver/nvidia/params";
    let after = "cat rootfs/proc/driver/nvidia/params";
    let answer = in_own_mounts(&image, before, "--freeze-device-nodes", after).unwrap();
    assert_eq!(answer, ("ModifyDeviceFiles: 1\n".to_owned(), String::new()));
}

/// A directory of the real procfs stands for the driver's; over two of its directories lie those of two GPUs.
#[test]
fn a_container_sees_its_own_gpus_only() {
    let image = Image::new();
    for dir in ["proc", "dev"] {
        fs::create_dir_all(image.path(dir)).unwrap();
    }
    let gpu = |name: &str, minor: u32| {
        format!(
            "mount -t tmpfs tmpfs rootfs/proc/driver/nvidia/gpus/{name}; \
             echo 'Device Minor: \t {minor}' > rootfs/proc/driver/nvidia/gpus/{name}/information"
        )
    };
    let before = format!(
        "mount -t proc proc rootfs/proc; mount -t tmpfs tmpfs rootfs/proc/driver; mkdir -p rootfs/proc/driver/nvidia/gpus; \
         mount --bind rootfs/proc/sys rootfs/proc/driver/nvidia/gpus; {}; {}; mount -t tmpfs tmpfs rootfs/dev; \
         mknod rootfs/dev/nvidia1 c 195 1 || exit 9",
        gpu("fs", 0),
        gpu("vm", 1),
    );
    let after = "cd rootfs/proc/driver/nvidia/gpus; ls; cat vm/information; \
                 mkdir x 2>/dev/null || echo cannot; touch vm/x 2>/dev/null || echo cannot";
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: nobody lets us make nodes");
    }
    let Some((stdout, stderr)) = in_own_mounts(&image, &before, "--hide-gpus --hide-gpus", after) else { return };
    assert_eq!((stdout.as_str(), stderr.as_str()), ("vm\nDevice Minor: \t 1\ncannot\ncannot\n", ""));
}

/// C-05: what a link may be called.
#[test]
fn symlink_arg_grammar() {
    let image = Image::new();
    let bundle = image.host("").display().to_string();
    fs::write(image.host("config.json"), r#"{"root": {"path": "rootfs"}}"#).unwrap();
    let state = format!(r#"{{"bundle": "{bundle}"}}"#);
    fs::create_dir_all(image.path("usr/lib64")).unwrap();
    let outside = format!("{bundle}/outside/x");
    let names = [
        "/../../../outside/x",
        "../outside/x",
        outside.as_str(),
        "/usr/lib64/..",
        "/usr/lib64/../../../outside/",
        "/",
        "",
        ".",
    ];
    for name in names {
        assert_eq!(hook(&image, &["create-container", "--symlink", "target", name], &state).0, 0, "{name}");
        assert_eq!(hook(&image, &["create-symlinks", "--link", &format!("target::{name}")], &state).0, 0, "{name}");
        image.outside_is_untouched();
    }
    // The peer's grammar has no way to say such a name; it makes no link, rather than half a one.
    let before = image.snapshot();
    hook(&image, &["create-symlinks", "--link", "a::b::c", "--link", "a", "--link", "::"], &state);
    assert_eq!(image.snapshot(), before);
    // Ours can say any name.
    hook(&image, &["create-container", "--symlink", "a\nb", "/usr/lib64/c::d\ne"], &state);
    assert_eq!(fs::read_link(image.path("usr/lib64/c::d\ne")).unwrap(), Path::new("a\nb"));
}

/// An image that has a directory or a link where procfs will not be.
#[test]
fn proc_symlink_rootfs() {
    let image = Image::new();
    image.link("/proc", "proc-of-image");
    image.link(image.host("outside"), "proc");
    fs::create_dir_all(image.host("outside/driver/nvidia")).unwrap();
    fs::write(image.host("outside/driver/nvidia/params"), "ModifyDeviceFiles: 1\n").unwrap();
    assert_eq!(image.run(&[HookOperation::FreezeDeviceNodes]), [""; 0]);
    let held = fs::read_to_string(image.host("outside/driver/nvidia/params")).unwrap();
    assert_eq!(held, "ModifyDeviceFiles: 1\n");
}

/// The mounts of a root that is shared with the host would show there: they are not made.
#[test]
fn shared_propagation_leak() {
    let image = Image::new();
    image.library("drv/libcuda.so.1", "libcuda.so.1");
    image.write("etc/ld.so.cache", Cache::default().to_bytes().unwrap());
    let before = "mount --bind rootfs rootfs; mount -o remount,bind,ro rootfs; mount --make-shared rootfs";
    let after = "grep -c 'rootfs/etc' /proc/self/mounts || true";
    let Some((stdout, stderr)) = in_own_mounts(&image, before, "--library-dir /drv", after) else { return };
    assert_eq!(stdout, "0\n");
    assert!(stderr.contains("/etc/ld.so.cache: what is mounted there would show outside the container"), "{stderr}");
}

#[test]
fn compat_two_step_mount() {
    let image = Image::new();
    let outside = image.host("outside-libraries");
    fs::create_dir(&outside).unwrap();
    let library = elf::shared_object(elf::Class::Elf64, elf::Machine::X86_64, Some("libcuda.so.1"), None);
    fs::write(outside.join("libcuda.so.999.1"), library).unwrap();
    // One link leads to another, and a library that is itself a link leads outside.
    image.link(&outside, "step");
    image.link("/step", "usr/local/cuda/compat");
    image.library("drv/libcuda.so.1", "libcuda.so.1");
    let operations = [HookOperation::CudaCompat { driver_version: "580.1".to_owned() }, dir("/drv")];
    image.run(&operations);
    assert_eq!(image.cached(), [pair("libcuda.so.1", "/drv/libcuda.so.1")]);
    fs::remove_file(image.path("usr/local/cuda/compat")).unwrap();
    image.link(outside.join("libcuda.so.999.1"), "usr/local/cuda/compat/libcuda.so.999.1");
    image.run(&operations);
    assert_eq!(image.cached(), [pair("libcuda.so.1", "/drv/libcuda.so.1")]);
}

#[test]
fn dev_symlink_rootfs() {
    let image = Image::new();
    image.link("/dev", "dev-of-image");
    image.link(image.host("outside"), "dev");
    assert_eq!(image.run(&[HookOperation::ApplicationProfile]), [""; 0]);
    assert!(!image.path("etc/nvidia").exists());
    image.outside_is_untouched();
}

#[test]
fn prefix_sibling_escape() {
    let mountinfo = "1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /x/rootfs/usr/lib/libcuda.so.1 rw - ext4 x rw\n\
                     3 1 0:3 / /x/rootfs-evil/usr/lib/libevil.so rw - ext4 x rw\n4 1 0:4 / /x/rootfs rw - ext4 x rw\n\
                     5 1 0:5 / /x/rootfs/a\\040b rw - ext4 x rw\n";
    assert_eq!(hook::mount_points(mountinfo, "/x/rootfs"), ["/usr/lib/libcuda.so.1", "/a b"]);
}

/// What the hook never does the kernel refuses it: the process is looked at while it waits for the state.
#[test]
fn the_hook_is_sealed() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cdi-hook"));
    let mut child = command.arg("create-container").stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let status = || fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let sealed = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        ["NoNewPrivs:\t1\n", "Seccomp:\t2\n"].iter().all(|line| status().contains(line))
    });
    assert!(sealed, "{}", status());
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// In a process of its own, which is this test's program once more.
#[test]
fn a_sealed_process_runs_nothing() {
    const SEALED: &str = "SEAL_THIS_PROCESS";
    if std::env::var_os(SEALED).is_none() {
        let mut again = Command::new("/proc/self/exe");
        let output = again.args(["--exact", "a_sealed_process_runs_nothing"]).env(SEALED, "1").output().unwrap();
        return assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    assert!(hook::seal::seal().is_empty());
    fs::read("/etc/passwd").unwrap();
    let run = Command::new("/bin/true").status().unwrap_err();
    assert_eq!(run.kind(), std::io::ErrorKind::PermissionDenied);
    let connect = std::net::TcpStream::connect("127.0.0.1:1").unwrap_err();
    assert_eq!(connect.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn hook_no_leaked_fds() {
    let mut command = Command::new("sh");
    command.args(["-c", "exec 7</etc/passwd 9</; exec \"$0\" create-container", env!("CARGO_BIN_EXE_cdi-hook")]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let fds = || {
        let entries = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let waits_for_the_state = || fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap() == "cdi-hook\n";
    let closed = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        waits_for_the_state() && fds() == ["0", "1", "2"]
    });
    assert!(closed, "{:?}", fds());
    drop(child.stdin.take());
    child.wait().unwrap();
}
