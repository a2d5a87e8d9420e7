//! The hook in images that have more than can be looked at: the work is counted, told once, and the driver comes first.
#![cfg(feature = "hook")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests set up files and stop at the first surprise"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cdi_apply::hook;
use cdi_apply::hook::budget::{Amounts, CONFIGURATION, RUN};
use cdi_apply::hook::ld_cache::{Added, Cache, CacheError, Entry};
use cdi_apply::hook::root::{Resolver, Root};
use cdi_specs::HookOperation;
use tempfile::TempDir;
use testdata::elf;

/// No test here takes a tenth of that.
const WATCHDOG: Duration = Duration::from_secs(60);

struct Image {
    dir: TempDir,
}

impl Image {
    /// With one library of the driver's, and the link that is made to it.
    fn new() -> Self {
        let image = Self { dir: TempDir::new().unwrap() };
        fs::create_dir_all(image.path("etc/ld.so.conf.d")).unwrap();
        image.library("drv/libcuda.so.580.1", "libcuda.so.1");
        image
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), bytes).unwrap();
    }

    fn library(&self, path: &str, soname: &str) {
        self.write(path, elf::shared_object(elf::Class::Elf64, elf::Machine::X86_64, Some(soname), None));
    }

    /// Runs the hook by each way; returns what it took by the one that takes more, and what was told.
    fn run(&self) -> (Amounts, Vec<String>) {
        self.run_with(&[
            HookOperation::Symlink { target: "libcuda.so.580.1".to_owned(), link: "/drv/libcuda.so.1".to_owned() },
            HookOperation::LibraryDir("/drv".to_owned()),
        ])
    }

    fn run_with(&self, operations: &[HookOperation]) -> (Amounts, Vec<String>) {
        let run = |resolver| {
            let start = Instant::now();
            let root = Root::open(self.dir.path(), resolver).unwrap();
            let told = hook::run(&root, operations, Vec::new);
            assert!(start.elapsed() < WATCHDOG);
            let told: Vec<String> = told.iter().map(|trouble| format!("{}: {}", trouble.path, trouble.error)).collect();
            (root.budget().used(), told)
        };
        run(Resolver::Kernel);
        let (used, told) = run(Resolver::Walk);
        assert!(within(used, RUN), "{used:?}");
        (used, told)
    }

    fn entries(&self) -> Vec<(String, String)> {
        let bytes = fs::read(self.path("etc/ld.so.cache")).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Cache::parse(&bytes).unwrap().entries.iter().map(|entry| (text(&entry.name), text(&entry.path))).collect()
    }

    fn finds_libcuda(&self) {
        let expected = ("libcuda.so.1".to_owned(), "/drv/libcuda.so.1".to_owned());
        assert!(self.entries().contains(&expected));
    }
}

fn within(used: Amounts, most: Amounts) -> bool {
    used.calls <= most.calls
        && used.entries <= most.entries
        && used.bytes <= most.bytes
        && used.memory <= most.memory
        && used.steps <= most.steps
        // What the latest draw has taken is over the limit.
        && used.micros <= most.micros + 100_000
}

/// An hour's worth of lines, once.
#[test]
fn a_directory_that_is_included_again_and_again_is_listed_once() {
    let image = Image::new();
    (0..2000).for_each(|number| image.write(&format!("d/{number}"), ""));
    for line in ["include /d/*x\n".repeat(4000), (0..2000).map(|number| format!("include /d/*x{number}\n")).collect()] {
        image.write("etc/ld.so.conf", line);
        let (used, told) = image.run();
        assert!(used.entries < 2100, "{used:?}");
        assert!(used.calls < 500, "{used:?}");
        assert!(told.len() <= 1, "{told:?}");
        image.finds_libcuda();
    }
}

/// A directory has as many spellings as one likes.
#[test]
fn a_configuration_without_end_leaves_enough_for_the_driver() {
    let image = Image::new();
    (0..3000).for_each(|number| image.write(&format!("d/{number}"), ""));
    let configuration: String = (0..200).map(|number| format!("include /d{}/*x\n", "/../d".repeat(number))).collect();
    image.write("etc/ld.so.conf", configuration);
    let (used, told) = image.run();
    assert!(used.entries <= CONFIGURATION.entries + 100, "{used:?}");
    let expected =
        "/etc/ld.so.conf: there is too much to look at: no more directory entries are left of what one start may take";
    assert_eq!(told, [expected]);
    image.finds_libcuda();
}

#[test]
fn a_pattern_of_stars_is_given_up() {
    let image = Image::new();
    (0..200).for_each(|number| image.write(&format!("d/{}{number}", "a".repeat(200)), ""));
    image.write(
        "etc/ld.so.conf",
        (0..200).map(|number| format!("include /d/{}b{number}\n", "*a".repeat(100))).collect::<String>(),
    );
    let (used, told) = image.run();
    assert!(used.steps <= CONFIGURATION.steps, "{used:?}");
    assert_eq!(told.len(), 1, "{told:?}");
    image.finds_libcuda();
}

/// As the largest images have them.
#[test]
fn a_real_configuration_is_far_below_what_it_may_take() {
    let image = Image::new();
    image.write("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n");
    for number in 0..100 {
        image.write(
            &format!("etc/ld.so.conf.d/{number}.conf"),
            format!("# Some words\n/opt/{number}/lib\n/opt/{number}/lib64\n"),
        );
    }
    image.library("opt/99/lib64/liba.so.1", "liba.so.1");
    let (used, told) = image.run();
    assert_eq!(told, [""; 0]);
    let tenth = |amount: u64| amount / 10;
    let most = Amounts { calls: tenth(RUN.calls), entries: tenth(RUN.entries), ..CONFIGURATION };
    assert!(
        within(
            used,
            Amounts { bytes: tenth(most.bytes), memory: tenth(most.memory), steps: tenth(most.steps), ..most }
        ),
        "{used:?}"
    );
}

/// A name more costs a look at it, and not another reading of the file; a SONAME of four KiB is nobody's.
#[test]
fn a_file_of_many_names_is_read_once() {
    let image = Image::new();
    image.library("drv/liba0.so", &"l".repeat(4000));
    let first = image.run().0;
    (1..1000).for_each(|number| {
        fs::hard_link(image.path("drv/liba0.so"), image.path(&format!("drv/liba{number}.so"))).unwrap();
    });
    let (used, told) = image.run();
    assert_eq!(told, [""; 0]);
    assert!(used.bytes < first.bytes + 1000 * 100, "{first:?} {used:?}");
    assert!(used.calls < first.calls + 1000 * 2 + 100, "{first:?} {used:?}");
    assert_eq!(image.entries().len(), 1001);
}

#[test]
fn the_driver_comes_before_what_the_image_has_beside_it() {
    let image = Image::new();
    // Links that lead through forty others, each by a long way.
    let mut target = "/drv".to_owned();
    for number in 0..39 {
        symlink(&target, image.path(&format!("l{number}"))).unwrap();
        target = format!("/{}l{number}", "etc/../".repeat(500));
    }
    (0..20_000)
        .for_each(|number| symlink("/l38/libcuda.so.580.1", image.path(&format!("drv/liba{number}.so"))).unwrap());
    let (_, told) = image.run();
    let [line] = told.as_slice() else { panic!("{told:?}") };
    assert!(line.starts_with("/drv: there is too much to look at: "), "{line}");
    image.finds_libcuda();
}

#[test]
fn a_directory_that_is_too_long_to_list_gives_what_was_asked_for() {
    let image = Image::new();
    fs::write(image.path("drv/x"), "").unwrap();
    for number in 1..RUN.entries + 10 {
        // As few files as the file system takes names for.
        let original = image.path(&format!("drv/x{}", number / 30_000));
        if number % 30_000 == 0 || number == 1 {
            fs::write(&original, "").unwrap();
        }
        fs::hard_link(original, image.path(&format!("drv/y{number}"))).unwrap();
    }
    let (_, told) = image.run();
    assert!(matches!(told.as_slice(), [line] if line.starts_with("/drv: there is too much to look at: ")), "{told:?}");
    image.finds_libcuda();
}

// The cache

/// Entries share what they like, in a file of a few KiB.
#[test]
fn a_cache_that_would_be_sorted_for_minutes_is_left() {
    let image = Image::new();
    let held = (0..2000).map(|_| Entry {
        flags: 0x0303,
        name: b"n".repeat(5).into(),
        path: b"/".repeat(10).into(),
        ..Entry::default()
    });
    let mut cache = Cache::default();
    cache.update(Added { last: held.collect(), ..Added::default() }, &[]);
    let mut bytes = cache.to_bytes().unwrap();
    // Each entry's name and path is one string of four KiB.
    let (long, at) = (b"9".repeat(4000), u32::try_from(bytes.len()).unwrap());
    for entry in bytes[48..48 + 2000 * 24].chunks_exact_mut(24) {
        entry[4..8].copy_from_slice(&at.to_ne_bytes());
        entry[8..12].copy_from_slice(&at.to_ne_bytes());
    }
    bytes.extend([long, vec![0]].concat());
    assert_eq!(Cache::parse(&bytes), Err(CacheError::TooLong));
    image.write("etc/ld.so.cache", &bytes);
    let (_, told) = image.run();
    assert_eq!(told, ["/etc/ld.so.cache: an ld.so.cache with more in it than can be sorted"]);
    assert!(fs::read(image.path("etc/ld.so.cache")).unwrap() == bytes);
}

/// What the hook writes it can read at the next start.
#[test]
fn no_cache_is_written_that_is_too_long_to_be_read() {
    let image = Image::new();
    let dir = ["d".repeat(250), "e".repeat(250), "f".repeat(250), "g".repeat(250)].join("/");
    let name = |number: usize| format!("{dir}/lib{}{number}.so.1", "x".repeat(200));
    image.library(&name(0), "libx.so.1");
    (1..4_000).for_each(|number| fs::hard_link(image.path(&name(0)), image.path(&name(number))).unwrap());
    let (_, told) = image.run_with(&[HookOperation::LibraryDir(format!("/{dir}"))]);
    assert_eq!(told, ["/etc/ld.so.cache: file too large"]);
    assert!(!image.path("etc/ld.so.cache").exists());
}
