//! Hook: what is done in a container's root between its mounts and its start, in one process. I/O.
//!
//! The root belongs to the image, which may be hostile: every step goes through [`Root`]. What cannot be done is
//! reported, and the container starts: most programs can do without, and those that cannot will say so better.

pub mod application_profile;
pub mod budget;
pub mod chmod;
pub mod configuration;
pub mod cuda_compat;
pub mod device_nodes;
pub mod file_systems;
pub mod gpu_list;
pub mod ld_cache;
pub mod libraries;
pub mod loader;
pub mod mount_file;
pub mod paths;
pub mod peer;
pub mod place;
pub mod root;
pub mod runc;
pub mod seal;
pub mod state;
pub mod symlink;
pub mod walk;

use std::io;

use cdi_gen::facts::mountinfo;
use cdi_specs::HookOperation;

use libraries::Libraries;
use loader::Trouble;
use paths::{COMPAT, PARAMS, PROFILE};
use root::Root;
use symlink::Links;

/// Does all operations in their order; the loader learns of the libraries at the end, when all are in their places.
/// Returns what could not be done.
///
/// `mount_points` tells those of the container, as paths in it, where they are needed.
pub fn run(root: &Root, operations: &[HookOperation], mount_points: impl FnOnce() -> Vec<String>) -> Vec<Trouble> {
    let (mut troubles, mut unmade) = (Vec::new(), Vec::new());
    let mut libraries = Libraries::default();
    let mut compat = None;
    let mut links = Links::new(root);
    for operation in operations {
        let (path, done) = match operation {
            HookOperation::Symlink { target, link } => match links.create(target, link) {
                Err(error) if is_not_the_images(&error) => {
                    libraries.note_unmade(link, target);
                    unmade.push((link.as_str(), error));
                    continue;
                }
                made => (link.as_str(), made.inspect(|()| libraries.note_link(link, target))),
            },
            HookOperation::LibraryDir(dir) => {
                libraries.dirs.push(dir.trim_end_matches('/').to_owned());
                continue;
            }
            HookOperation::CudaCompat { driver_version } => {
                let found = cuda_compat::dir(root, driver_version);
                (COMPAT.as_str(), found.map(|dir| compat = dir))
            }
            HookOperation::FreezeDeviceNodes => (PARAMS.as_str(), device_nodes::freeze(root)),
            HookOperation::ApplicationProfile => (PROFILE.as_str(), application_profile::update(root)),
            HookOperation::HideGpus => (gpu_list::LIST, gpu_list::narrow(root)),
            HookOperation::Chmod { mode, path } => (path.as_str(), chmod::change(root, path, *mode)),
        };
        troubles.extend(done.err().map(|error: io::Error| Trouble { path: path.to_owned(), error }));
    }
    troubles.extend(in_directories(unmade));
    libraries.dirs.splice(..0, compat);
    if !libraries.dirs.is_empty() {
        troubles.extend(loader::add(root, libraries, mount_points));
    }
    once(troubles)
}

/// Whether a link was not made since its directory is no part of the image, or of none that can be written: then the
/// loader's cache names the library that it would have led to.
fn is_not_the_images(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::ReadOnlyFilesystem)
}

/// Links that were not made, those of a directory as one trouble: a driver has some fifty in one.
fn in_directories(unmade: Vec<(&str, io::Error)>) -> Vec<Trouble> {
    let dir = |link: &str| link.rsplit_once('/').map_or(String::new(), |(dir, _)| dir.to_owned());
    let mut told: Vec<(Trouble, usize)> = Vec::new();
    for (link, error) in unmade {
        match told.last_mut().filter(|(trouble, _)| dir(&trouble.path) == dir(link)) {
            Some((_, count)) => *count += 1,
            None => told.push((Trouble { path: link.to_owned(), error }, 1)),
        }
    }
    let tell = |(trouble, count): (Trouble, usize)| match count {
        1 => trouble,
        _ => {
            let error = io::Error::new(trouble.error.kind(), format!("{count} links are not made: {}", trouble.error));
            Trouble { path: dir(&trouble.path), error }
        }
    };
    told.into_iter().map(tell).collect()
}

/// That the budget is at its end is told once; and of the list of GPUs always, without which no container may start.
fn once(mut troubles: Vec<Trouble>) -> Vec<Trouble> {
    let mut is_told = false;
    troubles.retain(|trouble| {
        let is_spent = budget::is_spent(&trouble.error) && trouble.path != gpu_list::LIST;
        !is_spent || !std::mem::replace(&mut is_told, true)
    });
    troubles
}

/// The mount points below a directory, by the text of `/proc/self/mountinfo`, as paths in it.
pub fn mount_points(mountinfo: &str, root: &str) -> Vec<String> {
    mountinfo::mount_points(mountinfo)
        .filter_map(|point| point.strip_prefix(root).filter(|path| path.starts_with('/')).map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_one_cause_is_told_once() {
        let spent = |path: &str| {
            let error = budget::Budget::new(budget::Amounts::default()).draw(budget::Cost::Calls, 1).unwrap_err();
            Trouble { path: path.to_owned(), error }
        };
        let other = Trouble { path: "/b".to_owned(), error: io::ErrorKind::NotFound.into() };
        let told = once(vec![spent("/a"), other, spent("/c"), spent(gpu_list::LIST)]);
        let paths: Vec<&str> = told.iter().map(|trouble| trouble.path.as_str()).collect();
        assert_eq!(paths, ["/a", "/b", gpu_list::LIST]);
        let unmade =
            ["/lib/a", "/lib/b", "/other/c", "/lib/d"].map(|link| (link, io::ErrorKind::CrossesDevices.into()));
        let told = in_directories(unmade.into());
        let lines: Vec<String> = told.iter().map(|trouble| format!("{}: {}", trouble.path, trouble.error)).collect();
        let cause = "cross-device link or rename";
        assert_eq!(
            lines,
            [format!("/lib: 2 links are not made: {cause}"), format!("/other/c: {cause}"), format!("/lib/d: {cause}")]
        );
    }
}
