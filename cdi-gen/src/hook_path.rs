//! Where the hook binary is. I/O.
#![expect(clippy::disallowed_methods, reason = "looks for the hook binary beside this program and in PATH")]

use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use cdi_files::trust::{self, Trust};

use crate::problem::Problem;

/// Where packages install it.
const PACKAGED: &str = "/usr/bin";

/// What came of looking for a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Where it is.
    pub found: Option<Utf8PathBuf>,
    /// Programs of the name that were passed over, each with the reason.
    pub passed_over: Vec<Problem>,
}

/// The hook binary beside this program, in a directory of `PATH`, or where packages put it. Relative directories of
/// `PATH` do not count, nor does what others than root may change: the path ends up in a spec that root's engines run.
pub fn find() -> Option<Utf8PathBuf> {
    search(cdi_specs::HOOK_NAME).found
}

/// The same for another program of ours.
pub fn find_program(name: &str) -> Option<Utf8PathBuf> {
    search(name).found
}

/// The same, and what is not to be taken without a word.
pub fn search(name: &str) -> Search {
    let own = std::env::current_exe().ok().and_then(|exe| Utf8PathBuf::from_path_buf(exe).ok());
    let beside = own.as_deref().and_then(Utf8Path::parent).map(Utf8Path::to_owned);
    let path = std::env::var("PATH").unwrap_or_default();
    // An empty directory of PATH is the working directory.
    let dirs = path.split(':').map(|dir| if dir.is_empty() { "." } else { dir }).map(Utf8PathBuf::from);
    let dirs = beside.into_iter().chain(dirs.filter(|_| !path.is_empty())).chain([PACKAGED.into()]);
    let mut search = Search::default();
    for path in dirs.map(|dir| dir.join(name)).filter(|path| is_executable(path)) {
        match why_not(&path) {
            None => {
                search.found = Some(path);
                break;
            }
            Some(why) => search.passed_over.push(
                Problem::warning("untrusted", format!("{path} is passed over: {why}"))
                    .hint("install the package, or name the file: --hook-path FILE"),
            ),
        }
    }
    search
}

fn why_not(path: &Utf8Path) -> Option<String> {
    if path.is_absolute() { untrusted(path) } else { Some("its directory stands in PATH as a relative one".to_owned()) }
}

/// Who but root may change a program that root's engines run; nobody, for a user's own engines.
pub fn untrusted(path: &Utf8Path) -> Option<String> {
    (Trust::of_this_process() == Trust::RootOnly).then(|| trust::who_may_change(path.as_std_path())).flatten()
}

/// Whether a program is there.
pub fn is_executable(path: &Utf8Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
