//! Container: a root file system on disk, what is mounted below it, and what beside it must stay as it is. I/O.
//!
//! ```text
//! DIR/rootfs      what the image brings: the attacker's
//! DIR/volumes/…   what the user mounts below it: not the attacker's
//! DIR/host/…      directories of the host: nobody's to touch
//! ```
//!
//! [`Container::enter`] makes the mounts in a mount namespace of its own and runs there what it is given, as an OCI
//! runtime does between the mounts and the container's start.
#![expect(clippy::disallowed_methods, reason = "lays roots out on disk")]

mod namespace;
mod program;
mod snapshot;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use crate::elf::{Class, Machine, shared_object};

pub use namespace::{Inside, as_root};
pub use program::{Ended, Openat2, Program};
pub use snapshot::{Item, Kind, Snapshot, holds};

/// A container that is to be created.
#[derive(Debug)]
pub struct Container {
    dir: TempDir,
    mounts: Vec<Mount>,
}

/// What is mounted at a path of the root.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The path, which is made in the image where it is missing.
    pub at: String,
    /// What.
    pub what: What,
}

/// What can be mounted.
#[derive(Clone, Debug)]
pub enum What {
    /// A file or directory, with what is mounted below it.
    Bind {
        /// Which.
        from: PathBuf,
        /// Whether it is read-only there.
        read_only: bool,
    },
    /// procfs.
    Procfs,
    /// sysfs.
    Sysfs,
    /// A file system in memory, with directories and device nodes in it as far as they can be made.
    Dev {
        /// Directories.
        dirs: Vec<String>,
        /// Nodes, and their numbers.
        nodes: Vec<(String, (u32, u32))>,
    },
    /// An overlay over a directory, which takes up changes beside it.
    Overlay {
        /// The directory below.
        lower: PathBuf,
    },
}

/// What was where, before a program ran in the container and after.
#[derive(Debug)]
pub struct Ran {
    /// How the program ended.
    pub ended: Ended,
    /// The root's own file system, whatever is mounted over it.
    pub root: (Snapshot, Snapshot),
    /// Volumes and directories of the host.
    pub outside: (Snapshot, Snapshot),
    /// What the program mounted, by the path in the root.
    pub mounted: Snapshot,
}

impl Container {
    /// An empty root with a bundle round it.
    ///
    /// # Errors
    /// There is no room for temporary files.
    pub fn new() -> io::Result<Self> {
        Self::of(tempfile::Builder::new().prefix("cdi-container-").tempdir()?)
    }

    /// The same below a directory.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new_in(dir: &Path) -> io::Result<Self> {
        Self::of(tempfile::Builder::new().prefix("cdi-container-").tempdir_in(dir)?)
    }

    fn of(dir: TempDir) -> io::Result<Self> {
        let container = Self { dir, mounts: Vec::new() };
        // Its users look into it, too.
        fs::set_permissions(container.path(""), fs::Permissions::from_mode(0o755))?;
        for dir in ["rootfs", "volumes", "host"] {
            fs::create_dir(container.path(dir))?;
        }
        fs::write(container.path("config.json"), r#"{"root": {"path": "rootfs"}}"#)?;
        Ok(container)
    }

    /// A path of the bundle: `rootfs`, `volumes/…`, `host/…`. It may be one already.
    pub fn path(&self, path: &str) -> PathBuf {
        let dir = self.dir.path();
        if Path::new(path).starts_with(dir) { path.into() } else { dir.join(path.trim_start_matches('/')) }
    }

    /// A path of the root, as the host names it.
    pub fn root(&self, path: &str) -> PathBuf {
        self.path("rootfs").join(path.trim_start_matches('/'))
    }

    /// The state that a runtime gives its hooks.
    pub fn state(&self) -> String {
        format!(r#"{{"ociVersion": "1.0.2", "id": "c", "bundle": "{}"}}"#, self.path("").display())
    }

    /// Mounts a volume at a path of the root; it is `volumes/NAME` of the bundle, and made where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn volume(&mut self, name: &str, at: &str) -> io::Result<()> {
        self.bind(&format!("volumes/{name}"), at, false)
    }

    /// Mounts a path of the bundle at a path of the root.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn bind(&mut self, from: &str, at: &str, read_only: bool) -> io::Result<()> {
        let from = self.path(from);
        if fs::symlink_metadata(&from).is_err() {
            fs::create_dir_all(&from)?;
        }
        self.mount(at, What::Bind { from, read_only });
        Ok(())
    }

    /// Mounts something at a path of the root, in the order of the calls.
    pub fn mount(&mut self, at: &str, what: What) {
        self.mounts.push(Mount { at: at.to_owned(), what });
    }

    /// The mounts, in their order.
    pub fn mounts(&mut self) -> &mut Vec<Mount> {
        &mut self.mounts
    }

    /// Where what shows at a path of the root is from: a bind mount's source, or the image.
    pub fn source_of(&self, path: &str) -> PathBuf {
        source(&self.mounts, path).unwrap_or_else(|| self.root(path))
    }

    /// Makes the mounts in a mount namespace of its own, and gives what is done in it.
    ///
    /// # Errors
    /// The mounts are refused.
    pub fn enter<R: Send>(&self, work: impl FnOnce(&Inside<'_>) -> R + Send) -> io::Result<R> {
        namespace::enter(self, work)
    }

    /// Runs a program in it, and looks at what that has changed.
    ///
    /// # Errors
    /// The mounts are refused, or the program cannot be run.
    pub fn run(&self, program: &Program) -> io::Result<Ran> {
        namespace::make_points(self)?;
        let look = || Ok::<_, io::Error>((Snapshot::of(&self.root("/"))?, Snapshot::of_all(&self.beside())?));
        let before = look()?;
        let (ended, mounted, [unchanged, changed]) = self.enter(|inside| {
            let known = inside.mount_points()?;
            let unchanged = self.overlaid()?;
            let ended = inside.run(program)?;
            let now = inside.mount_points()?;
            let mounted: Vec<PathBuf> = now.difference(&known).map(|(_, point)| self.root(point)).collect();
            Ok::<_, io::Error>((ended, Snapshot::of_all(&mounted)?, [unchanged, self.overlaid()?]))
        })??;
        let after = look()?;
        let mut outside = (before.1, after.1);
        outside.0.items.extend(unchanged.items);
        outside.1.items.extend(changed.items);
        Ok(Ran { ended, root: (before.0, after.0), outside, mounted })
    }

    /// What foreign overlays took up.
    fn overlaid(&self) -> io::Result<Snapshot> {
        let changes = self.path("changes/upper");
        if changes.exists() { Snapshot::of(&changes) } else { Ok(Snapshot::default()) }
    }

    fn beside(&self) -> [PathBuf; 2] {
        ["volumes", "host"].map(|dir| self.path(dir))
    }
}

fn make_device(path: &Path, (major, minor): (u32, u32)) -> io::Result<()> {
    let number = rustix::fs::makedev(major, minor);
    Ok(mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o644), number)?)
}

/// What shows at a path by these mounts; `None` if they have nothing to do with it.
fn source(mounts: &[Mount], path: &str) -> Option<PathBuf> {
    mounts.iter().rev().find_map(|mount| match &mount.what {
        What::Bind { from, .. } => {
            let below = Path::new(path).strip_prefix(&mount.at).ok()?;
            // Nothing is below a file, not even its own name with a slash.
            Some(if below.as_os_str().is_empty() { from.clone() } else { from.join(below) })
        }
        _ => None,
    })
}

/// Laying out: each makes the directories above.
impl Container {
    /// A file of the bundle.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>, mode: u32) -> io::Result<()> {
        let path = self.with_parent(path)?;
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&path)?;
        file.write_all(bytes.as_ref())?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    /// A shared object of this machine.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn library(&self, path: &str, soname: &str, mode: u32) -> io::Result<()> {
        self.write(path, shared_object(Class::Elf64, Machine::X86_64, Some(soname), None), mode)
    }

    /// A directory with a mode.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn dir(&self, path: &str, mode: u32) -> io::Result<()> {
        fs::create_dir_all(self.path(path))?;
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode))
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn link(&self, target: impl AsRef<Path>, path: &str) -> io::Result<()> {
        symlink(target, self.with_parent(path)?)
    }

    /// A FIFO.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn fifo(&self, path: &str) -> io::Result<()> {
        Ok(mknodat(CWD, self.with_parent(path)?, FileType::Fifo, Mode::from_raw_mode(0o666), 0)?)
    }

    /// A character device, which takes real privileges.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn device(&self, path: &str, number: (u32, u32)) -> io::Result<()> {
        make_device(&self.with_parent(path)?, number)
    }

    fn with_parent(&self, path: &str) -> io::Result<PathBuf> {
        let path = self.path(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        Ok(path)
    }
}
