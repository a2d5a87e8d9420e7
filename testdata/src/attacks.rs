//! Attacks: images and mounts that try to make the hook read or change what is not the image's. I/O.
//!
//! Each attack lays out a container; [`judge`] says what must hold of every one of them afterwards, whatever the hook
//! could do. The same are run against the program that tests build and against the one that is shipped.
#![expect(clippy::disallowed_methods, reason = "lays attacks out on disk")]

pub mod bombs;
pub mod canary;
pub mod documents;
mod list;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::container::{Container, Ended, Kind, Openat2, Program, Ran, What};
use crate::ld_so_cache::{self, CacheEntry, Endian, Format};

pub use list::ATTACKS;

/// Stands in each file that the container's user cannot read.
pub const SECRET: &str = "k3pt-fr0m-the-c0ntainer";
/// Debian's directory of libraries; the driver's are mounted into it one by one.
pub const LIBRARY_DIR: &str = "/usr/lib/x86_64-linux-gnu";
/// A directory of the driver's that is mounted as a whole.
pub const DRIVER_DIR: &str = "/drv";
/// The driver's library.
pub const LIBCUDA: &str = "libcuda.so.580.159.04";
/// What the driver tells in procfs.
const PARAMS: &str = "/proc/driver/nvidia/params";
const GPUS: &str = "/proc/driver/nvidia/gpus";
/// All that the hook can do.
pub const ALL: [&str; 23] = [
    "create-container",
    "--symlinks",
    LIBRARY_DIR,
    "libcuda.so.580.159.04:libcuda.so.1",
    "libcuda.so.1:libcuda.so",
    "--symlink",
    "../libx.so.1",
    "/usr/lib/x86_64-linux-gnu/gbm/nvidia-drm_gbm.so",
    "--library-dir",
    LIBRARY_DIR,
    "--library-dir",
    DRIVER_DIR,
    "--cuda-compat",
    "570.1",
    "--freeze-device-nodes",
    "--hide-gpus",
    "--application-profile",
    "--chmod",
    "755",
    "/dev/dri",
    "--chmod",
    "666",
    "/dev/nvidia-caps/nvidia-cap1",
];
/// Lines that the hook may write into files of text.
const LINES: [&str; 6] = [
    "",
    DRIVER_DIR,
    LIBRARY_DIR,
    "/usr/local/cuda/compat",
    "include /etc/ld.so.conf.d/*.conf",
    "/lib:/usr/local/lib:/usr/lib",
];
const PROFILE: &str = "{\"profiles\": [";

/// One attack.
pub struct Attack {
    /// What it would do.
    pub name: &'static str,
    /// Lays it out in a container with a usual image.
    pub lay_out: fn(&mut Container) -> io::Result<()>,
    /// What must hold beside what holds of all.
    pub also: fn(&Container, &Ran) -> Result<(), String>,
}

impl Attack {
    /// Runs a hook in the container, and says what is wrong with what came of it.
    ///
    /// # Errors
    /// The container cannot be laid out or the hook not run; or the attack succeeds.
    pub fn run(&self, hook: &Path, openat2: Openat2) -> Result<(), String> {
        let told = |error: io::Error| format!("{}: {error}", self.name);
        let mut container = usual().map_err(told)?;
        (self.lay_out)(&mut container).map_err(told)?;
        let ran = container.run(&Program { openat2, ..Program::new(hook, &ALL) }).map_err(told)?;
        let judged = judge(&container, &ran).and_then(|()| (self.also)(&container, &ran));
        judged.map_err(|wrong| format!("{} ({openat2:?}): {wrong}\nthe hook said: {}", self.name, ran.ended.stderr))
    }
}

/// A container as it usually is: Debian's libc and musl's in the image, the driver's libraries and nodes mounted.
///
/// # Errors
/// It cannot be laid out.
pub fn usual() -> io::Result<Container> {
    fill(Container::new()?)
}

/// The same below a directory.
///
/// # Errors
/// It cannot be laid out.
pub fn usual_in(dir: &Path) -> io::Result<Container> {
    fill(Container::new_in(dir)?)
}

fn fill(mut container: Container) -> io::Result<Container> {
    for dir in ["rootfs/etc/ld.so.conf.d", "rootfs/usr/local/lib", "rootfs/tmp"] {
        container.dir(dir, 0o755)?;
    }
    container.write("rootfs/etc/debian_version", "12\n", 0o644)?;
    container.write("rootfs/etc/shadow", format!("root:{SECRET}:\n"), 0o600)?;
    container.write("rootfs/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n", 0o644)?;
    container.write("rootfs/etc/ld.so.conf.d/libc.conf", "/usr/local/lib\n", 0o644)?;
    container.write("rootfs/etc/ld.so.cache", cache("libc.so.6"), 0o644)?;
    container.library(&format!("rootfs{LIBRARY_DIR}/libc.so.6"), "libc.so.6", 0o755)?;
    container.library("rootfs/lib/ld-musl-x86_64.so.1", "libc.musl-x86_64.so.1", 0o755)?;
    container.library(&format!("driver/{LIBCUDA}"), "libcuda.so.1", 0o755)?;
    container.library("driver/dir/libnvidia-ml.so.1", "libnvidia-ml.so.1", 0o755)?;
    container.bind(&format!("driver/{LIBCUDA}"), &format!("{LIBRARY_DIR}/{LIBCUDA}"), true)?;
    container.bind("driver/dir", DRIVER_DIR, true)?;
    container.mount("/proc", What::Procfs);
    container.dir("procfs/nvidia/gpus", 0o555)?;
    container.write("procfs/nvidia/params", "", 0o444)?;
    container.bind("procfs", "/proc/driver", false)?;
    // Of the kernel's own, as these have to be.
    for (from, at) in [("/proc/sys/kernel/hostname", PARAMS), ("/proc/sys", GPUS)] {
        container.mount(at, What::Bind { from: from.into(), read_only: false });
    }
    let nodes = [("nvidia0", (195, 0)), ("nvidia-caps/nvidia-cap1", (235, 1))];
    let nodes = nodes.map(|(node, number)| (node.to_owned(), number)).into();
    container.mount("/dev", What::Dev { dirs: ["dri", "nvidia-caps"].map(str::to_owned).into(), nodes });
    Ok(container)
}

/// A loader's cache with one library.
pub fn cache(name: &str) -> Vec<u8> {
    let entry = CacheEntry { name: name.into(), path: format!("{LIBRARY_DIR}/{name}"), flags: ld_so_cache::X86_64 };
    ld_so_cache::write(&[entry], Format::New, Endian::Little)
}

/// What must hold after each attack.
///
/// # Errors
/// What does not.
pub fn judge(container: &Container, ran: &Ran) -> Result<(), String> {
    ended_well(&ran.ended)?;
    nothing_outside_changed(ran)?;
    nothing_kept_is_shown(ran)?;
    only_known_lines(container, ran)?;
    modes_are_kept(ran)
}

fn ended_well(ended: &Ended) -> Result<(), String> {
    match (ended.hung, ended.code) {
        (true, _) => Err("it hangs".to_owned()),
        (false, Some(0)) => Ok(()),
        // Whoever hides GPUs wants no container that shows them all.
        (false, Some(2)) if ended.stderr.contains(GPUS) => Ok(()),
        (false, code) => Err(format!("it ended with {code:?}")),
    }
}

fn nothing_outside_changed(ran: &Ran) -> Result<(), String> {
    none_of("changed outside of the root", &ran.outside.0.difference(&ran.outside.1))
}

/// Not in the root, unless it was there; not in what was mounted; and not in words.
fn nothing_kept_is_shown(ran: &Ran) -> Result<(), String> {
    let secret = SECRET.as_bytes();
    let was = ran.root.0.holding(secret);
    let now = ran.root.1.holding(secret).into_iter().filter(|path| !was.contains(path));
    // What is mounted over a file that only root may read is for root alone, too.
    let mut mounted = ran.mounted.clone();
    mounted.items.retain(|_, item| item.mode & 0o004 != 0);
    let shown: Vec<String> = now.chain(mounted.holding(secret)).map(|path| path.display().to_string()).collect();
    none_of("shows what was kept", &shown)?;
    if ran.ended.stderr.contains(SECRET) { Err("it says what was kept".to_owned()) } else { Ok(()) }
}

/// Text that the hook writes is its own or what the very file held.
fn only_known_lines(container: &Container, ran: &Ran) -> Result<(), String> {
    let cache = container.root("/etc/ld.so.cache");
    let changed = ran.root.1.items.iter().filter(|(path, item)| ran.root.0.items.get(*path) != Some(item));
    let texts = changed.filter(|(path, _)| **path != cache).filter_map(|(path, item)| match &item.kind {
        Kind::File(bytes) => Some((path, bytes)),
        _ => None,
    });
    let mut strange = Vec::new();
    for (path, bytes) in texts {
        let held = ran.root.0.file(path).unwrap_or_default();
        let held: BTreeSet<&[u8]> = held.split(|byte| *byte == b'\n').collect();
        let is_known = |line: &&[u8]| {
            held.contains(line)
                || LINES.iter().any(|known| known.as_bytes() == *line)
                || line.starts_with(PROFILE.as_bytes())
        };
        let line = bytes.split(|byte| *byte == b'\n').find(|line| !is_known(line));
        strange.extend(line.map(|line| format!("{}: {:?}", path.display(), String::from_utf8_lossy(line))));
    }
    none_of("writes what it should not know", &strange)
}

/// A file that is changed is for no more people than before.
fn modes_are_kept(ran: &Ran) -> Result<(), String> {
    let widened = ran.root.0.items.iter().filter_map(|(path, before)| {
        let after = ran.root.1.items.get(path)?;
        let both_files = matches!((&before.kind, &after.kind), (Kind::File(_), Kind::File(_)));
        let wider = after.mode & !before.mode != 0 || after.owner != before.owner;
        (both_files && wider).then(|| {
            format!(
                "{}: {:o} {:?} is now {:o} {:?}",
                path.display(),
                before.mode,
                before.owner,
                after.mode,
                after.owner
            )
        })
    });
    none_of("gives more people a file", &widened.collect::<Vec<_>>())
}

fn none_of(what: &str, found: &[String]) -> Result<(), String> {
    if found.is_empty() { Ok(()) } else { Err(format!("{what}: {}", found.join("; "))) }
}

/// Nothing more is asked.
fn nothing(_container: &Container, _ran: &Ran) -> Result<(), String> {
    Ok(())
}

/// The driver's library is found: it is in the loader's cache, that of the root or one that is mounted over it.
///
/// # Errors
/// It is in none.
pub fn finds_libcuda(container: &Container, ran: &Ran) -> Result<(), String> {
    let cache = container.root("/etc/ld.so.cache");
    let bytes = ran.mounted.file(&cache).or_else(|| ran.root.1.file(&cache)).unwrap_or_default();
    let path = format!("{LIBRARY_DIR}/libcuda.so.1");
    let is_there = bytes.windows(path.len()).any(|part| part == path.as_bytes());
    if is_there { Ok(()) } else { Err("libcuda.so.1 is not in the loader's cache".to_owned()) }
}

/// All is done that was asked for, without a word.
fn does_all(container: &Container, ran: &Ran) -> Result<(), String> {
    finds_libcuda(container, ran)?;
    let params = ran.mounted.file(&container.root(PARAMS)).unwrap_or_default();
    let gpus: Vec<_> = ran.mounted.items.keys().filter(|path| path.starts_with(container.root(GPUS))).collect();
    let told = ran.ended.stderr.as_str();
    if (params, gpus.len(), told) == (b"ModifyDeviceFiles: 0\n", 1, "") {
        Ok(())
    } else {
        Err(format!("the driver's parameters are {:?}, its list {gpus:?}", String::from_utf8_lossy(params)))
    }
}

/// Either the library is found, or somebody is told that it is not.
fn finds_or_tells(container: &Container, ran: &Ran) -> Result<(), String> {
    finds_libcuda(container, ran).or_else(|wrong| if ran.ended.stderr.is_empty() { Err(wrong) } else { Ok(()) })
}

/// What a file of a volume holds.
fn secret_file(container: &Container, path: &str, mode: u32) -> io::Result<()> {
    container.write(path, canary::content(path), mode)
}

/// Takes away what the usual image has at a path.
fn clear(container: &Container, path: &str) -> io::Result<()> {
    let path = container.root(path);
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
