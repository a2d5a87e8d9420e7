//! Any root file system, mounts included, as a container's: no crash; no byte that only root may read comes into the root
//! or into what is mounted over it, nothing outside changes, and no file is for more people than before.
//!
//! An input says which of the layouts of mounts is used and what lies in root and volumes. The mounts are made once, in a
//! mount namespace of this process: to make them for each input takes longer than all else.
#![no_main]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cdi_apply::hook;
use cdi_apply::hook::loader::Trouble;
use cdi_apply::hook::root::{Resolver, Root};
use cdi_specs::HookOperation;
use libfuzzer_sys::{Corpus, fuzz_target};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use testdata::attacks::{ALL, LIBRARY_DIR, SECRET, canary};
use testdata::container::{Item, Kind, Snapshot, holds};
use testdata::elf::{Class, Machine, shared_object};
use testdata::ld_so_cache::{self, CacheEntry, Endian, Format};

/// Files of an input, at most.
const MOST_FILES: usize = 24;
/// Where everything is laid out: a directory that each Linux has, and over which this process mounts its own.
const DIR: &str = "/dev/shm";
/// Where each layout mounts which part of the volume; a part that ends in `.file` is a file. Others are no parts of it.
const LAYOUTS: [&[(&str, &str)]; 9] = [
    &[("/vol", "")],
    &[("/vol", ""), ("/etc", "etc")],
    &[("/vol", ""), (LIBRARY_DIR, "lib")],
    &[("/vol", ""), ("/drv", "drv"), ("/etc/ld.so.conf.d", "conf")],
    &[
        ("/vol", ""),
        ("/etc/ld.so.cache", "cache.file"),
        ("/etc/ld.so.conf", "conf.file"),
        ("/drv/libnvidia-a.so", "elf.file"),
    ],
    &[("/vol", ""), ("/usr", "usr"), ("/usr/local/cuda/compat", "compat")],
    &[("/vol", ""), ("/dev", "dev"), ("/lib", "lib"), ("/etc/nvidia", "etc")],
    &[("/", READ_ONLY), ("/vol", ""), ("/drv", "drv")],
    &[("/vol", ""), ("/proc", "/proc"), ("/proc/driver", "driver"), ("/proc/driver/nvidia/params", HOST_NAME)],
];
const READ_ONLY: &str = "ro";
/// A file of procfs whose text can be chosen: it stands for the driver's parameters.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";
/// Names that may stand anywhere beside those that the hook knows.
const NAMES: [&str; 14] = [
    "/vol/secret",
    "/vol/etc/ld.so.cache",
    "/vol/lib",
    "/drv/libnvidia-a.so",
    "/drv/libcuda.so.580.159.04",
    "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
    "/usr/lib/x86_64-linux-gnu/libx.so",
    "/usr/local/cuda/compat/libcuda.so.999.1",
    "/etc/ld.so.conf.d/a.conf",
    "/etc/shadow",
    "/etc/.ld.so.cache.cdi-hook",
    "/dev/nvidia0",
    "/a/b",
    "/",
];
const MODES: [u32; 8] = [0o600, 0o644, 0o640, 0o444, 0o755, 0o700, 0o4755, 0];

// Before libFuzzer has threads: a user namespace is for one alone.
fuzz_target!(init: LazyLock::force(&STAGE), |bytes: &[u8]| -> Corpus {
    if STAGE.play(bytes) { Corpus::Keep } else { Corpus::Reject }
});

static STAGE: LazyLock<Stage> = LazyLock::new(|| Stage::build().expect("a user who may mount"));

/// Where inputs are laid out.
struct Stage {
    dir: PathBuf,
    volume: OwnedFd,
    roots: Vec<OwnedFd>,
    /// Each path that the hook touches, those above, and some more.
    paths: Vec<PathBuf>,
    operations: Vec<HookOperation>,
    /// IDs of the mounts.
    mounts: BTreeSet<String>,
}

impl Stage {
    /// ```text
    /// DIR/volume      a file system of its own
    /// DIR/image/N     what lies in root N
    /// DIR/root/N      the root, with mounts below
    /// ```
    fn build() -> io::Result<Self> {
        own_namespace()?;
        let dir = PathBuf::from(DIR);
        for (name, data) in [("", c"size=256m,mode=755"), ("volume", c"size=64m,mode=755")] {
            fs::create_dir_all(dir.join(name))?;
            mount("tmpfs", dir.join(name), "tmpfs", MountFlags::empty(), Some(data))?;
        }
        let mut roots = Vec::new();
        for (number, layout) in LAYOUTS.iter().enumerate() {
            let (image, root) = (dir.join(format!("image/{number}")), dir.join(format!("root/{number}")));
            [&image, &root].into_iter().try_for_each(fs::create_dir_all)?;
            mount_bind(&image, &root)?;
            for (at, part) in *layout {
                mount_part(&dir.join("volume"), part, &root.join(at.trim_start_matches('/')))?;
            }
            roots.push(open_dir(CWD.as_fd(), image.as_os_str())?);
        }
        let args: Vec<String> = ["cdi-hook"].into_iter().chain(ALL).map(str::to_owned).collect();
        let operations = cdi_specs::from_args(&args).expect("the arguments are the hook's").operations;
        let touched = hook::paths::touched(&operations);
        let touched = touched.iter().flat_map(|(path, _)| path.ancestors()).map(Path::to_owned);
        let paths: BTreeSet<PathBuf> = touched.chain(NAMES.map(PathBuf::from)).collect();
        let volume = open_dir(CWD.as_fd(), dir.join("volume").as_os_str())?;
        let mut stage =
            Self { dir, volume, roots, paths: paths.into_iter().collect(), operations, mounts: BTreeSet::new() };
        stage.mounts = stage.mounted()?.into_iter().map(|(id, _)| id).collect();
        rustix::process::umask(Mode::from_raw_mode(0o022));
        Ok(stage)
    }

    /// What is mounted, by ID, the latest last.
    fn mounted(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let text = fs::read_to_string("/proc/self/mountinfo")?;
        let mut fields = text.lines().map(|line| line.split(' '));
        let mount = |line: &mut std::str::Split<'_, char>| Some((line.next()?.to_owned(), line.nth(3)?.into()));
        Ok(fields.by_ref().filter_map(|mut line| mount(&mut line)).collect())
    }

    /// Plays an input; `false` if it is none.
    fn play(&self, bytes: &[u8]) -> bool {
        // It would look as if it had been copied.
        if holds(bytes, SECRET.as_bytes()) {
            return false;
        }
        let mut input = Input { rest: bytes };
        let (layout, how) = (usize::from(input.byte()) % LAYOUTS.len(), input.byte());
        let operations = self.chosen(&mut input);
        self.lay_out(&mut input, layout);
        let resolver = if how & 1 == 0 { Resolver::Kernel } else { Resolver::Walk };
        let times = if how & 2 == 0 { 1 } else { 2 };
        let outcome = self.run(layout, resolver, &operations, times).expect("what was laid out can be read");
        self.clear(layout).expect("what was laid out can be removed");
        if let Some(wrong) = outcome {
            panic!("{wrong}");
        }
        true
    }

    /// Some of the operations, in another order; mostly all.
    fn chosen(&self, input: &mut Input<'_>) -> Vec<HookOperation> {
        let (left_out, turn) = (input.byte(), usize::from(input.byte()));
        let mut chosen = self.operations.clone();
        chosen.rotate_left(turn % self.operations.len());
        let mut number = 0_u32;
        chosen.retain(|_| {
            number += 1;
            left_out & 0x80 == 0 || left_out.rotate_right(number) & 1 == 0
        });
        chosen
    }

    fn lay_out(&self, input: &mut Input<'_>, layout: usize) {
        for _ in 0..MOST_FILES {
            if input.rest.is_empty() {
                return;
            }
            let (what, at) = (input.byte(), self.path(input.byte()));
            let base = if what & 0x80 == 0 { &self.roots[layout] } else { &self.volume };
            // What has no place is not laid.
            let _ = place(base, at).and_then(|place| place.lay(what & 0x7f, input, self, at));
        }
    }

    fn path(&self, number: u8) -> &Path {
        &self.paths[usize::from(number) % self.paths.len()]
    }

    /// Runs the hook, and tells what is wrong.
    fn run(
        &self,
        layout: usize,
        resolver: Resolver,
        operations: &[HookOperation],
        times: usize,
    ) -> io::Result<Option<String>> {
        let look = || Ok::<_, io::Error>((Snapshot::of(&self.image(layout))?, Snapshot::of(&self.dir.join("volume"))?));
        let before = look()?;
        let mut troubles = Vec::new();
        for _ in 0..times {
            let root = Root::open(&self.dir.join(format!("root/{layout}")), resolver)?;
            let points = || LAYOUTS[layout].iter().map(|(at, _)| (*at).to_owned()).collect();
            troubles.extend(hook::run(&root, operations, points));
        }
        let over = self.take_covers()?;
        let after = look()?;
        Ok(wrong(&before.0, &after.0)
            .or_else(|| changed(&before.1, &after.1))
            .or_else(|| {
                over.into_iter().find(|bytes| holds(bytes, SECRET.as_bytes())).map(|_| "a cover shows it".to_owned())
            })
            .or_else(|| troubles.iter().find(|trouble| tells(trouble)).map(|trouble| format!("{trouble:?}"))))
    }

    fn image(&self, layout: usize) -> PathBuf {
        self.dir.join(format!("image/{layout}"))
    }

    /// What the hook has mounted over files, which goes; what everybody may read is given.
    fn take_covers(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut covers = Vec::new();
        for (_, point) in self.mounted()?.iter().rev().filter(|(id, _)| !self.mounts.contains(id)) {
            if fs::metadata(point)?.permissions().mode() & 0o004 != 0 {
                covers.extend(fs::read(point));
            }
            unmount(point, UnmountFlags::DETACH)?;
        }
        Ok(covers)
    }

    /// Removes all but mount points and what is mounted from the volume.
    fn clear(&self, layout: usize) -> io::Result<()> {
        empty(&self.image(layout))?;
        empty(&self.dir.join("volume"))
    }
}

/// Mounts of its own, in which the host's directories cannot be written whatever happens.
fn own_namespace() -> io::Result<()> {
    let user = rustix::process::geteuid();
    let more = if user.is_root() { 0 } else { libc::CLONE_NEWUSER };
    // SAFETY: no other thread relies on what is parted.
    if unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWUTS | more) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if !user.is_root() {
        fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    for dir in ["/etc", "/usr"] {
        mount_bind(dir, dir)?;
        // Which a user cannot always; nor could they write there.
        let _ = mount_remount(dir, MountFlags::BIND | MountFlags::RDONLY, c"");
    }
    Ok(rustix::system::sethostname(b"ModifyDeviceFiles: 1")?)
}

/// Mounts a part of the volume, which stays whatever inputs say, or something else.
fn mount_part(volume: &Path, part: &str, at: &Path) -> io::Result<()> {
    if part == READ_ONLY {
        return Ok(mount_remount(at, MountFlags::BIND | MountFlags::RDONLY, c"")?);
    }
    if part == HOST_NAME {
        let dir = volume.join("driver/nvidia");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("params"), "")?;
        return Ok(mount_bind(part, at)?);
    }
    let source = volume.join(part);
    let is_file = part.ends_with(".file");
    let beside = PathBuf::from(at.to_string_lossy().replacen("/root/", "/image/", 1));
    // What is mounted below another mount is mounted in what that shows.
    for point in [beside.as_path(), at, &source].into_iter().filter(|point| !point.exists()) {
        let made = if is_file { make_file(point) } else { fs::create_dir_all(point) };
        if point != at {
            made?;
        }
    }
    Ok(mount_bind_recursive(source, at)?)
}

fn make_file(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(path, "")
}

fn open_dir(at: rustix::fd::BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

/// A directory and a name in it.
struct Place<'p> {
    dir: OwnedFd,
    name: &'p OsStr,
}

/// The place of a path; directories are made, and links not followed.
fn place<'p>(base: &OwnedFd, path: &'p Path) -> io::Result<Place<'p>> {
    let mut names = path.iter().skip(1).filter(|name| *name != "..").peekable();
    let mut dir = rustix::io::dup(base)?;
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            return Ok(Place { dir, name });
        }
        let _ = rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755));
        dir = open_dir(dir.as_fd(), name)?;
    }
    Err(io::ErrorKind::InvalidInput.into())
}

impl Place<'_> {
    /// Lays one thing of an input.
    fn lay(&self, what: u8, input: &mut Input<'_>, stage: &Stage, at: &Path) -> io::Result<()> {
        match what % 14 {
            0 => rustix::fs::mkdirat(&self.dir, self.name, Mode::from_raw_mode(0o755))?,
            1 => self.write(input.slice(), 0o644)?,
            2 => self.write(&canary::content(&at.to_string_lossy()), 0o600)?,
            3 => self.write(&cache(input), 0o644)?,
            4 => self.write(&library(input), 0o755)?,
            5 => self.write(&damaged(library(input), input), 0o755)?,
            6 => self.write(&damaged(cache(input), input), 0o644)?,
            7 => rustix::fs::symlinkat(stage.path(input.byte()), &self.dir, self.name)?,
            8 => {
                let target =
                    Path::new("/vol").join(stage.path(input.byte()).strip_prefix("/").unwrap_or(Path::new("")));
                rustix::fs::symlinkat(target, &self.dir, self.name)?;
            }
            9 => rustix::fs::symlinkat(OsStr::from_bytes(input.slice()), &self.dir, self.name)?,
            10 => rustix::fs::mknodat(&self.dir, self.name, FileType::Fifo, Mode::from_raw_mode(0o644), 0)?,
            11 => {
                let mode = Mode::from_raw_mode(MODES[usize::from(input.byte()) % MODES.len()]);
                rustix::fs::chmodat(&self.dir, self.name, mode, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            12 => {
                let from = place(&stage.roots[usize::from(input.byte()) % LAYOUTS.len()], stage.path(input.byte()))?;
                rustix::fs::linkat(&from.dir, from.name, &self.dir, self.name, AtFlags::empty())?;
            }
            _ => self.write(&configuration(input, stage), 0o644)?,
        }
        Ok(())
    }

    /// What stands there is written anew, so that what is mounted as a file stays.
    fn write(&self, bytes: &[u8], mode: u32) -> io::Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = fs::File::from(rustix::fs::openat(&self.dir, self.name, flags, Mode::from_raw_mode(mode))?);
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(mode))
    }
}

/// What is left of the bytes; zeros when they are at their end.
struct Input<'i> {
    rest: &'i [u8],
}

impl<'i> Input<'i> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        *first
    }

    fn slice(&mut self) -> &'i [u8] {
        let length = usize::from(self.byte()).min(self.rest.len());
        let (slice, rest) = self.rest.split_at(length);
        self.rest = rest;
        slice
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(self.slice()).into_owned()
    }
}

fn cache(input: &mut Input<'_>) -> Vec<u8> {
    let entries: Vec<CacheEntry> = (0..input.byte() % 8)
        .map(|_| CacheEntry { name: input.text(), path: format!("/drv/{}", input.text()), flags: 0x0303 })
        .collect();
    let format = [Format::New, Format::Old, Format::Both][usize::from(input.byte()) % 3];
    ld_so_cache::write(&entries, format, if input.byte() == 1 { Endian::Big } else { Endian::Little })
}

fn library(input: &mut Input<'_>) -> Vec<u8> {
    let (class, machine) =
        if input.byte() == 1 { (Class::Elf32, Machine::I386) } else { (Class::Elf64, Machine::X86_64) };
    let soname = match input.byte() {
        0 => None,
        1 => Some("libm.so.6".to_owned()),
        2 => Some("libcuda.so.1".to_owned()),
        _ => Some(input.text()),
    };
    shared_object(class, machine, soname.as_deref(), None)
}

/// With other bytes somewhere.
fn damaged(mut bytes: Vec<u8>, input: &mut Input<'_>) -> Vec<u8> {
    let at = usize::from(input.byte()) | usize::from(input.byte()) << 8;
    let length = bytes.len().max(1);
    bytes.iter_mut().skip(at % length).zip(input.slice()).for_each(|(to, from)| *to = *from);
    bytes
}

fn configuration(input: &mut Input<'_>, stage: &Stage) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..input.byte() % 16 {
        let (how, path) = (input.byte(), stage.path(input.byte()).as_os_str().as_bytes());
        let (start, end) =
            [("", "\n"), ("include ", "/*\n"), ("include ", "\n"), ("include ", "/*.conf\n")][usize::from(how % 4)];
        text.extend([start.as_bytes(), path, end.as_bytes()].concat());
    }
    text
}

/// What must not be of the root itself.
fn wrong(before: &Snapshot, after: &Snapshot) -> Option<String> {
    let secret = SECRET.as_bytes();
    let held = before.holding(secret);
    let shown = after.holding(secret).into_iter().find(|path| !held.contains(path));
    let shown = shown.map(|path| format!("{} shows what was kept", path.display()));
    shown.or_else(|| after.items.iter().find_map(|(path, item)| widened(path, before.items.get(path)?, item)))
}

/// A file for more people than before. Nodes are given the mode that the arguments say.
fn widened(path: &Path, before: &Item, after: &Item) -> Option<String> {
    let both_files = matches!((&before.kind, &after.kind), (Kind::File(_), Kind::File(_)));
    let wider = after.mode & !before.mode != 0 && !path.iter().any(|name| name == "dev");
    (both_files && wider).then(|| format!("{} was {:o} and is {:o}", path.display(), before.mode, after.mode))
}

fn changed(before: &Snapshot, after: &Snapshot) -> Option<String> {
    (before != after).then(|| format!("the volume is changed: {}", before.difference(after).join("; ")))
}

fn tells(trouble: &Trouble) -> bool {
    trouble.path.contains(SECRET) || trouble.error.to_string().contains(SECRET)
}

/// Removes what is in a directory, as far as it goes: mount points stay, with nothing in them.
fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            empty(&path)?;
            if !is_kept(&path) {
                let _ = fs::remove_dir(&path);
            }
        } else if is_kept(&path) {
            fs::write(&path, "")?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        } else {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

/// Whether it is a part of the volume that is mounted.
fn is_kept(path: &Path) -> bool {
    let parts = LAYOUTS.iter().flat_map(|layout| layout.iter());
    let mut parts = parts.filter(|(_, part)| !part.is_empty() && !part.starts_with('/'));
    parts.any(|(_, part)| path.ends_with(Path::new("volume").join(part)))
}
