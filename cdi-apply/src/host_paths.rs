//! Host paths: whether root may follow the paths of this host that edits name. I/O.
//!
//! A spec is root's word, and a container engine follows its paths with root's rights; but what a path leads to may be
//! another's to say by now. A socket of a daemon that runs as a user, or a directory in `/tmp`, becomes a link to
//! `/etc`, and the container writes there. So a link counts only if root alone can have made it, and so does what lies
//! where everybody may put things. A hook is run as root on the host: nobody else may change it at all.
//!
//! What is seen here is so at this moment. Whoever owns a directory on the way can still change it before the runtime
//! mounts it.

use std::collections::BTreeSet;
use std::path::Path;

use cdi_files::trust::{self, Judge, Trust};
use cdi_specs::{ContainerEdits, Mount};

/// A path that root must not follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPathError {
    /// Of a mount.
    #[error("{path} would be mounted, but {why} ({HINT})")]
    Mount {
        /// The path on the host.
        path: String,
        /// Who can change what.
        why: String,
    },
    /// Of a hook.
    #[error("{path} would be run by root, but {why} ({HINT})")]
    Hook {
        /// The path on the host.
        path: String,
        /// Who can change what.
        why: String,
    },
}

/// The way out.
const HINT: &str = "give it to root with chown and chmod go-w, or generate the spec anew";

/// Looks at all paths. A user acts with their own rights only, as root of a user namespace too, and is told nothing; what
/// is not there is the runtime's to complain about.
///
/// # Errors
/// The first that root must not follow.
pub fn check(edits: &[&ContainerEdits]) -> Result<(), HostPathError> {
    if Trust::of_this_process() == Trust::Everybody {
        return Ok(());
    }
    let judge = Judge::of_system();
    let checked = edits.iter().try_for_each(|edits| check_each(&judge, edits));
    // Asked for last, since hardly ever is there a reason to.
    if checked.is_err() && trust::is_user_namespace() { Ok(()) } else { checked }
}

fn check_each(judge: &Judge, edits: &ContainerEdits) -> Result<(), HostPathError> {
    let mut roots = BTreeSet::new();
    // A file system without a source on the host has a type of its own.
    for mount in edits.mounts.iter().filter(|mount| mount.host_path.starts_with('/')) {
        if is_read_in_roots_place(judge, mount, &mut roots) {
            continue;
        }
        if let Some(why) = judge.who_leads_astray(Path::new(&mount.host_path)) {
            return Err(HostPathError::Mount { path: mount.host_path.clone(), why });
        }
    }
    for path in edits.hooks.iter().map(|hook| &hook.path) {
        if let Ok((_, Some(why))) = judge.look_at(Path::new(path)) {
            return Err(HostPathError::Hook { path: path.clone(), why });
        }
    }
    Ok(())
}

/// Whether a container may only read what lies in a directory where root alone makes things, links too. Nearly all mounts
/// are so, and lie in few directories: what each is need not be looked at.
fn is_read_in_roots_place<'e>(judge: &Judge, mount: &'e Mount, roots: &mut BTreeSet<&'e Path>) -> bool {
    let is_read = mount.options.iter().any(|option| option == "ro");
    let Some(dir) = Path::new(&mount.host_path).parent().filter(|_| is_read) else { return false };
    if roots.contains(dir) {
        return true;
    }
    // Where the directory is not there, nothing is.
    let is_roots = judge.look_at(dir).map_or(true, |(_, who)| who.is_none());
    is_roots && roots.insert(dir)
}
