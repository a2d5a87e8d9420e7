//! Low-level runtime: the OCI runtime that does the work, found and become. I/O.
#![expect(clippy::disallowed_methods, reason = "looks for programs, and runs one in the place of this process")]

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cdi_files::trust::{Trust, who_may_change};

/// Where a runtime may be beside `PATH`.
const DIRS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// No runtime of the list is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("none of the runtimes {} is installed (`runtimes` in the configuration names them){}", listed(.runtimes), .passed_over)]
pub struct NotFound {
    runtimes: Vec<PathBuf>,
    /// Those in `PATH` that root does not run.
    passed_over: String,
}

fn listed(runtimes: &[PathBuf]) -> String {
    runtimes.iter().map(|runtime| runtime.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The program of the first runtime that is there and is not this one. A name is looked for in the absolute directories
/// of `PATH`, then in the usual ones; root runs none from there that others may change. What is named by its path was
/// chosen by the administrator.
///
/// # Errors
/// There is none.
pub fn find(runtimes: &[PathBuf]) -> Result<PathBuf, NotFound> {
    let own = fs::metadata("/proc/self/exe").ok().map(|metadata| identity(&metadata));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> =
        std::env::split_paths(&path).filter(|dir| dir.is_absolute()).chain(std::env::split_paths(DIRS)).collect();
    let is_usable = |path: &Path| {
        let metadata = fs::metadata(path).ok().filter(Metadata::is_file);
        metadata.is_some_and(|file| file.permissions().mode() & 0o111 != 0 && Some(identity(&file)) != own)
    };
    let mut passed_over = String::new();
    let mut is_trusted = |path: &PathBuf| match why_not(path) {
        Some(why) => {
            passed_over += &format!("; not used: {}, since {why}", path.display());
            false
        }
        None => true,
    };
    let found = runtimes.iter().find_map(|runtime| {
        if runtime.components().count() > 1 {
            return Some(runtime.clone()).filter(|path| is_usable(path));
        }
        dirs.iter().map(|dir| dir.join(runtime)).filter(|path| is_usable(path)).find(&mut is_trusted)
    });
    found.ok_or_else(|| NotFound { runtimes: runtimes.to_vec(), passed_over })
}

/// Why root does not run a program that it finds.
fn why_not(path: &Path) -> Option<String> {
    if Trust::of_this_process() == Trust::Everybody { None } else { who_may_change(path) }
}

/// The one runtime of a list that is there; `None` if there are several, or none.
pub fn only(runtimes: &[PathBuf]) -> Option<PathBuf> {
    let mut found = runtimes.iter().filter_map(|runtime| find(std::slice::from_ref(runtime)).ok());
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// Under whatever names and links.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Becomes the runtime, with the words that this process was given.
pub fn run(program: &Path, words: &[OsString]) -> io::Error {
    Command::new(program).args(words).exec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let program = |name: &str, mode| {
            let path = dir.path().join(name);
            fs::write(&path, "#!").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let (plain, good) = (program("plain", 0o644), program("good", 0o755));
        assert_eq!(find(&[dir.path().join("none"), dir.path().into(), plain.clone(), good.clone()]), Ok(good));
        assert_eq!(find(&["sh".into()]).unwrap().file_name().unwrap(), "sh");
        let error = find(&[plain, "no-such-runtime".into()]).unwrap_err().to_string();
        assert!(error.contains("no-such-runtime is installed"), "{error}");
    }

    #[test]
    fn this_program_is_not_found() {
        let own = fs::canonicalize("/proc/self/exe").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(&own, dir.path().join("runc")).unwrap();
        assert!(find(&[own, dir.path().join("runc")]).is_err());
    }
}
