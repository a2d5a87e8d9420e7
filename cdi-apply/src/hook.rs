//! Hook: what is done in a container's root between its mounts and its start, in one process. I/O.
//!
//! The root belongs to the image, which may be hostile: every step goes through [`Root`]. What cannot be done is
//! reported, and the container starts: most programs can do without, and those that cannot will say so better.

pub mod application_profile;
pub mod budget;
pub mod chmod;
pub mod cuda_compat;
pub mod device_nodes;
pub mod gpu_list;
pub mod ld_cache;
pub mod loader;
pub mod mount_file;
pub mod paths;
pub mod peer;
pub mod root;
pub mod runc;
pub mod seal;
pub mod state;
pub mod symlink;

use std::io;

use cdi_gen::facts::mountinfo;
use cdi_specs::HookOperation;

use loader::{Libraries, Trouble};
use root::Root;
use symlink::Links;

/// Does all operations in their order; the loader learns of the libraries at the end, when all are in their places.
/// Returns what could not be done.
///
/// `mount_points` tells those of the container, as paths in it, where they are needed.
pub fn run(root: &Root, operations: &[HookOperation], mount_points: impl FnOnce() -> Vec<String>) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    let mut libraries = Libraries::default();
    let mut compat = None;
    let mut links = Links::new(root);
    for operation in operations {
        let (path, done) = match operation {
            HookOperation::Symlink { target, link } => {
                let made = links.create(target, link).inspect(|()| libraries.note(link, Some(target.as_str())));
                (link.as_str(), made)
            }
            HookOperation::LibraryDir(dir) => {
                libraries.dirs.push(dir.trim_end_matches('/').to_owned());
                continue;
            }
            HookOperation::CudaCompat { driver_version } => {
                let found = cuda_compat::dir(root, driver_version);
                ("/usr/local/cuda/compat", found.map(|dir| compat = dir))
            }
            HookOperation::FreezeDeviceNodes => ("/proc/driver/nvidia/params", device_nodes::freeze(root)),
            HookOperation::ApplicationProfile => ("/etc/nvidia", application_profile::update(root)),
            HookOperation::HideGpus => (gpu_list::LIST, gpu_list::narrow(root)),
            HookOperation::Chmod { mode, path } => (path.as_str(), chmod::change(root, path, *mode)),
        };
        troubles.extend(done.err().map(|error: io::Error| Trouble { path: path.to_owned(), error }));
    }
    libraries.dirs.splice(..0, compat);
    if !libraries.dirs.is_empty() {
        troubles.extend(loader::add(root, libraries, mount_points));
    }
    troubles
}

/// The mount points below a directory, by the text of `/proc/self/mountinfo`, as paths in it.
pub fn mount_points(mountinfo: &str, root: &str) -> Vec<String> {
    mountinfo::mount_points(mountinfo)
        .filter_map(|point| point.strip_prefix(root).filter(|path| path.starts_with('/')).map(str::to_owned))
        .collect()
}
