//! Modes of what is made, whatever the umask, which is one for the whole process: a test in a process of its own.

use cdi_files::dir::{Dir, Missing};
use rustix::fs::Mode;

#[test]
fn missing_directories_are_made_with_their_mode_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for (umask, by_umask) in [(0o077, 0o700), (0, 0o755)] {
        rustix::process::umask(Mode::from_raw_mode(umask));
        let at = |name: &str| dir.path().join(umask.to_string()).join(name);
        let mode = |name: &str| rustix::fs::stat(at(name)).unwrap().st_mode & 0o7777;
        Dir::open(&at("everybody/a/b"), Missing::MakeForEverybody).unwrap();
        Dir::open(&at("own/a"), Missing::MakeByUmask).unwrap();
        assert_eq!(["", "everybody", "everybody/a", "everybody/a/b"].map(mode), [0o755; 4]);
        assert_eq!(["own", "own/a"].map(mode), [by_umask; 2]);
        assert_eq!(rustix::process::umask(Mode::empty()).bits(), umask, "put back");
    }
}
