//! Laying a host out: a tree's lines as real files, links, sockets and device nodes. I/O.
#![expect(clippy::disallowed_methods, reason = "lays fixtures out on disk")]

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::elf::{Class, Machine, shared_object};
use crate::host_tree::{Entry, HostTree};
use crate::ld_so_cache::{self, CacheEntry, Endian, Format};
use crate::resolve::Names;

/// Mode of a regular file.
const FILE_MODE: u32 = 0o644;
/// Where the loader looks for its cache.
const CACHE: &str = "/etc/ld.so.cache";

/// What becomes of a `char` line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nodes {
    /// An empty regular file.
    Files,
    /// A device node.
    Real,
}

impl HostTree {
    /// Makes the tree below `root`, which is created if need be. `char` lines become empty regular files.
    ///
    /// # Errors
    /// The first failed step, named with its path.
    pub fn lay_out(&self, root: &Path) -> io::Result<()> {
        lay_out(self, root, Nodes::Files)
    }

    /// The same with real device nodes, which takes privileges.
    ///
    /// # Errors
    /// The first failed step, named with its path.
    pub fn lay_out_with_nodes(&self, root: &Path) -> io::Result<()> {
        lay_out(self, root, Nodes::Real)
    }
}

/// Modes of directories come last, so that an unwritable one can be filled.
fn lay_out(tree: &HostTree, root: &Path, nodes: Nodes) -> io::Result<()> {
    fs::create_dir_all(root).map_err(|error| named(&error, root))?;
    for entry in tree.entries().iter().filter(|entry| entry.makes_path()) {
        let at = below(root, entry.path());
        make(entry, &at, nodes).map_err(|error| named(&error, &at))?;
    }
    write_caches(tree, root)?;
    for entry in tree.entries() {
        if let Entry::Dir { path, mode: Some(mode) } | Entry::Mode { path, mode } = entry {
            let at = below(root, path);
            set_mode(&at, *mode).map_err(|error| named(&error, &at))?;
        }
    }
    Ok(())
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn make(entry: &Entry, at: &Path, nodes: Nodes) -> io::Result<()> {
    if let Some(parent) = at.parent() {
        fs::create_dir_all(parent)?;
    }
    match entry {
        Entry::Dir { .. } => fs::create_dir_all(at),
        Entry::File { content, .. } => write_file(at, content, FILE_MODE),
        Entry::Link { target, .. } => symlink(target, at),
        Entry::Elf { class, machine, soname, interp, mode, .. } => {
            write_file(at, &shared_object(*class, *machine, soname.as_deref(), interp.as_deref()), *mode)
        }
        Entry::Char { mode, .. } if nodes == Nodes::Files => write_file(at, &[], *mode),
        Entry::Char { major, minor, mode, owner, .. } => make_node(at, (*major, *minor), *mode, *owner),
        Entry::Socket { .. } => make_special(at, FileType::Socket, 0o777),
        Entry::Fifo { .. } => make_special(at, FileType::Fifo, 0o644),
        Entry::Cache { .. } | Entry::CacheAt { .. } | Entry::Mode { .. } => Ok(()),
    }
}

fn write_file(at: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    fs::write(at, content)?;
    set_mode(at, mode)
}

fn set_mode(at: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(at, fs::Permissions::from_mode(mode))
}

fn make_node(at: &Path, (major, minor): (u32, u32), mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    mknodat(CWD, at, FileType::CharacterDevice, Mode::RUSR, makedev(major, minor))?;
    if let Some((uid, gid)) = owner {
        chown(at, Some(uid), Some(gid))?;
    }
    set_mode(at, mode)
}

fn make_special(at: &Path, kind: FileType, mode: u32) -> io::Result<()> {
    mknodat(CWD, at, kind, Mode::RUSR, 0)?;
    set_mode(at, mode)
}

/// Cache entries follow the `cache-at` line that stands before them.
fn write_caches(tree: &HostTree, root: &Path) -> io::Result<()> {
    let mut caches: Vec<(&str, Vec<CacheEntry>)> = Vec::new();
    let mut at = CACHE;
    for entry in tree.entries() {
        match entry {
            Entry::CacheAt { path } => at = path,
            Entry::Cache { name, path } => {
                let entry = CacheEntry { name: name.clone(), path: path.clone(), flags: 0 };
                match caches.iter_mut().find(|(file, _)| *file == at) {
                    Some((_, entries)) => entries.push(entry),
                    None => caches.push((at, vec![entry])),
                }
            }
            _ => (),
        }
    }
    caches.into_iter().try_for_each(|(file, entries)| write_cache(tree, root, file, entries))
}

/// The paths in a cache are those of the tree that it stands in: `/x` in `R/etc/ld.so.cache` is `R/x`.
fn write_cache(tree: &HostTree, root: &Path, file: &str, mut entries: Vec<CacheEntry>) -> io::Result<()> {
    let names = Names::below(tree, file.strip_suffix(CACHE).unwrap_or_default());
    for entry in &mut entries {
        entry.flags = flags(names.elf(&entry.path));
    }
    let at = below(root, file);
    if let Some(parent) = at.parent() {
        fs::create_dir_all(parent).map_err(|error| named(&error, parent))?;
    }
    let bytes = ld_so_cache::write(&entries, Format::New, Endian::Little);
    write_file(&at, &bytes, FILE_MODE).map_err(|error| named(&error, &at))
}

/// An entry whose file is gone is taken for one of this machine.
fn flags(elf: Option<(Class, Machine)>) -> u32 {
    match elf {
        Some((Class::Elf32, _)) => ld_so_cache::I386,
        Some((Class::Elf64, Machine::Aarch64)) => ld_so_cache::AARCH64,
        Some((Class::Elf64, _)) | None => ld_so_cache::X86_64,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    use super::*;

    const HOST: &str = "\
dir /proc/driver/nvidia 0555
file /proc/driver/nvidia/version NVRM\\t550\\n
link /lib usr/lib
elf64 /usr/lib/libcuda.so.550.1 libcuda.so.1
link /usr/lib/libcuda.so.1 libcuda.so.550.1
elf64 /usr/bin/nvidia-modprobe - interp=/lib64/ld-linux-x86-64.so.2 mode=4755
char /dev/nvidia0 195 0 0660 0 44
socket /run/nvidia-persistenced/socket
fifo /run/f
elf32 /drv/lib/libcuda.so.1 libcuda.so.1
cache libcuda.so.1 /lib/libcuda.so.1
cache libgone.so.1 /lib/libgone.so.1
cache-at /drv/etc/ld.so.cache
cache libcuda.so.1 /lib/libcuda.so.1
file /secret x
mode /secret 0000
";

    fn laid_out() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        HostTree::parse(HOST).unwrap().lay_out(&dir.path().join("root")).unwrap();
        dir
    }

    #[test]
    fn files_links_modes_and_sockets() {
        let dir = laid_out();
        let stat = |path: &str| fs::symlink_metadata(dir.path().join("root").join(path)).unwrap();
        let mode = |path: &str| stat(path).mode() & 0o7777;
        assert_eq!(fs::read(dir.path().join("root/proc/driver/nvidia/version")).unwrap(), b"NVRM\t550\n");
        assert_eq!(fs::read_link(dir.path().join("root/lib")).unwrap(), Path::new("usr/lib"));
        assert_eq!([mode("usr/bin/nvidia-modprobe"), mode("usr/lib/libcuda.so.550.1")], [0o4755, 0o755]);
        assert_eq!([mode("proc/driver/nvidia"), mode("secret"), mode("dev/nvidia0")], [0o555, 0, 0o660]);
        assert!(stat("dev/nvidia0").is_file());
        assert!(stat("run/nvidia-persistenced/socket").file_type().is_socket());
        assert!(stat("run/f").file_type().is_fifo());
    }

    #[test]
    fn each_root_has_its_cache() {
        let dir = laid_out();
        let host = fs::read(dir.path().join("root/etc/ld.so.cache")).unwrap();
        assert_eq!((host[20], &host[48..50], &host[72..74]), (2, &[3, 3][..], &[3, 3][..]));
        let driver = fs::read(dir.path().join("root/drv/etc/ld.so.cache")).unwrap();
        assert_eq!((driver[20], &driver[48..50]), (1, &[3, 0][..]));
    }

    #[test]
    fn an_error_names_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let tree = HostTree::parse("file /a\nfile /a/b\n").unwrap();
        assert!(tree.lay_out(dir.path()).unwrap_err().to_string().contains("/a/b: "));
    }

    #[test]
    fn real_nodes_where_that_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = HostTree::parse("char /dev/nvidiactl 195 255 0660 0 44\n").unwrap();
        if let Err(error) = tree.lay_out_with_nodes(dir.path()) {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            return;
        }
        let stat = fs::symlink_metadata(dir.path().join("dev/nvidiactl")).unwrap();
        assert!(stat.file_type().is_char_device());
        assert_eq!((stat.rdev(), stat.mode() & 0o7777, stat.gid()), (makedev(195, 255), 0o660, 44));
    }
}
