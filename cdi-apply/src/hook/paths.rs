//! Paths: every path of a container that the hook touches, and how far it may lead. Pure.
//!
//! "Inside the root" has other mounts in it: volumes, directories of the host, procfs. What root can do there is not
//! what the container's user can. So each path is of a class, and [`Root`](super::root::Root) takes no other paths than
//! these: whoever needs a new one adds it here, where the tests that put foreign mounts at each path find it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use cdi_specs::HookOperation;

/// How far a path may lead, and what may be done with what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// (a) The image's own: files whose text is used, and everything that is written. On the root's own mount only, regular
    /// files only. Links lead on within that mount, but a text that is written again is never read through one.
    Image,
    /// (b) Libraries. Other mounts may be crossed, since the driver is mounted: to see that there is something, to list, and
    /// to read an ELF file's class, SONAME and notes, if others than its owner may read it.
    Library,
    /// (c) The driver's part of procfs. No link is followed, the file system must be procfs, and nothing is changed: files
    /// are mounted over it.
    Kernel,
    /// (c) The container's device nodes. No link is followed; what is not on the root's own mount is on that at `/dev`, which
    /// is the container's own.
    Device,
}

/// A path of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookPath<'p> {
    path: Cow<'p, Path>,
    class: Class,
}

/// The paths that the hook knows by itself.
macro_rules! table {
    ($($(#[$doc:meta])* $name:ident: $class:ident = $path:literal;)*) => {
        $($(#[$doc])* pub const $name: Known = Known { path: $path, class: Class::$class };)*
        /// All of them.
        pub const ALL: &[Known] = &[$($name),*];
    };
}

/// A path that the hook knows by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    path: &'static str,
    class: Class,
}

table! {
    /// glibc's cache.
    CACHE: Image = "/etc/ld.so.cache";
    /// glibc's configuration, which includes other files.
    CONFIGURATION: Image = "/etc/ld.so.conf";
    /// What it usually includes.
    CONFIGURATION_DIR: Image = "/etc/ld.so.conf.d";
    /// Ours. It sorts before what images have, as the driver's libraries come before theirs.
    DROP_IN: Image = "/etc/ld.so.conf.d/00-cdi-hook.conf";
    /// Whether the loader is Debian's.
    DEBIAN: Library = "/etc/debian_version";
    /// musl's loaders, for the machines that there are drivers for.
    MUSL_X86_64: Library = "/lib/ld-musl-x86_64.so.1";
    /// The same.
    MUSL_AARCH64: Library = "/lib/ld-musl-aarch64.so.1";
    /// The same.
    MUSL_I386: Library = "/lib/ld-musl-i386.so.1";
    /// Their lists of directories.
    MUSL_LIST_X86_64: Image = "/etc/ld-musl-x86_64.path";
    /// The same.
    MUSL_LIST_AARCH64: Image = "/etc/ld-musl-aarch64.path";
    /// The same.
    MUSL_LIST_I386: Image = "/etc/ld-musl-i386.path";
    /// CUDA's forward compatibility libraries.
    COMPAT: Library = "/usr/local/cuda/compat";
    /// EGL's application profile.
    PROFILE: Image = "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf";
    /// The driver's parameters.
    PARAMS: Kernel = "/proc/driver/nvidia/params";
    /// The kernel's list of GPUs.
    GPUS: Kernel = "/proc/driver/nvidia/gpus";
    /// The device nodes.
    DEV: Device = "/dev";
}

/// musl's loaders, each with its list.
pub const MUSL: [(Known, Known); 3] =
    [(MUSL_X86_64, MUSL_LIST_X86_64), (MUSL_AARCH64, MUSL_LIST_AARCH64), (MUSL_I386, MUSL_LIST_I386)];

impl Known {
    /// As text.
    pub const fn as_str(self) -> &'static str {
        self.path
    }

    /// The class.
    pub const fn class(self) -> Class {
        self.class
    }

    /// The same as any other path.
    pub fn path(self) -> HookPath<'static> {
        HookPath { path: Path::new(self.path).into(), class: self.class }
    }

    /// A path below.
    pub fn join(self, below: impl AsRef<Path>) -> HookPath<'static> {
        HookPath { path: Path::new(self.path).join(below).into(), class: self.class }
    }
}

impl<'p> HookPath<'p> {
    /// A link that an argument says to make.
    pub fn link(path: &'p str) -> Self {
        Self { path: Path::new(path).into(), class: Class::Image }
    }

    /// A directory of libraries that an argument names, or what is in it.
    pub fn library(path: impl Into<Cow<'p, Path>>) -> Self {
        Self { path: path.into(), class: Class::Library }
    }

    /// A file or directory that the loader's configuration includes.
    pub fn included(path: impl Into<Cow<'p, Path>>) -> Self {
        Self { path: path.into(), class: Class::Image }
    }

    /// What an argument gives a mode.
    pub fn mode_of(path: &'p str) -> Self {
        Self { path: Path::new(path).into(), class: Class::Device }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The directory that the last name is in.
    pub fn parent(&self) -> Option<HookPath<'_>> {
        Some(HookPath { path: self.path.parent()?.into(), class: self.class })
    }
}

/// All paths that the hook may touch for some operations: those that it knows, and those of the arguments.
pub fn touched(operations: &[HookOperation]) -> Vec<(PathBuf, Class)> {
    let known = ALL.iter().map(|known| known.path());
    let of_arguments = operations.iter().flat_map(|operation| match operation {
        HookOperation::Symlink { target, link } => {
            let led_to = Path::new(link).parent().unwrap_or(Path::new("/")).join(target);
            vec![HookPath::link(link), HookPath::library(led_to)]
        }
        HookOperation::LibraryDir(dir) => vec![HookPath::library(Path::new(dir))],
        HookOperation::Chmod { path, .. } => vec![HookPath::mode_of(path)],
        HookOperation::CudaCompat { .. }
        | HookOperation::FreezeDeviceNodes
        | HookOperation::ApplicationProfile
        | HookOperation::HideGpus => Vec::new(),
    });
    known.chain(of_arguments).map(|touched| (touched.path.into_owned(), touched.class)).collect()
}
