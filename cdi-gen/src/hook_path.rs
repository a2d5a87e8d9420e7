//! Where the hook binary is. I/O.
#![expect(clippy::disallowed_methods, reason = "looks for the hook binary beside this program and in PATH")]

use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};

/// Where packages install it.
const PACKAGED: &str = "/usr/bin";

/// The hook binary beside this program, in a directory of `PATH`, or where packages put it. Relative directories of
/// `PATH` do not count: the path ends up in a spec that root's engines run.
pub fn find() -> Option<Utf8PathBuf> {
    find_program(cdi_specs::HOOK_NAME)
}

/// The same for another program of ours.
pub fn find_program(name: &str) -> Option<Utf8PathBuf> {
    let own = std::env::current_exe().ok().and_then(|exe| Utf8PathBuf::from_path_buf(exe).ok());
    let beside = own.as_deref().and_then(Utf8Path::parent).map(Utf8Path::to_owned);
    let path = std::env::var("PATH").unwrap_or_default();
    let dirs = path.split(':').filter(|dir| dir.starts_with('/')).map(Utf8PathBuf::from);
    beside.into_iter().chain(dirs).chain([PACKAGED.into()]).map(|dir| dir.join(name)).find(|path| is_executable(path))
}

/// Whether a program is there.
pub fn is_executable(path: &Utf8Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
