//! Files that root writes where others may write too: nothing outside is changed, whatever they do meanwhile.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests set up files and stop at the first surprise"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use cdi_gen::output;
use tempfile::TempDir;

const ROUNDS: usize = 10_000;

/// A directory of uid 1000, beside what is root's alone. In memory where that is to be had: each write is flushed.
fn theirs() -> Option<(TempDir, Utf8PathBuf)> {
    let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let root = Utf8Path::from_path(dir.path()).unwrap().to_owned();
    fs::create_dir(root.join("out")).unwrap();
    fs::create_dir(root.join("victim")).unwrap();
    fs::write(root.join("victim/file"), "secret").unwrap();
    fs::set_permissions(root.join("victim/file"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(root.join("victim"), fs::Permissions::from_mode(0o700)).unwrap();
    rustix::process::geteuid().is_root().then(|| {
        chown(root.join("out"), Some(1000), Some(1000)).unwrap();
        (dir, root)
    })
}

#[track_caller]
fn assert_untouched(root: &Utf8Path) {
    let mode = |path: &str| fs::symlink_metadata(root.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("victim"), mode("victim/file")), (0o700, 0o600));
    assert_eq!(fs::read(root.join("victim/file")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(root.join("victim")).unwrap().count(), 1);
}

/// Does something again and again while another thread undoes and redoes what is in its way.
fn race(mut act: impl FnMut(), attack: impl Fn() + Sync) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                attack();
            }
        });
        (0..ROUNDS).for_each(|_| act());
        done.store(true, Ordering::Relaxed);
    });
}

fn exchange(at: &Path, target: &Path) {
    let _ = fs::remove_dir_all(at);
    let _ = symlink(target, at);
    let _ = fs::remove_file(at);
}

#[test]
fn the_owner_of_a_directory_on_the_way_cannot_have_modes_changed_elsewhere() {
    let Some((_dir, root)) = theirs() else { return println!("skipped: only root gives directories away") };
    let (sub, file) = (root.join("out/sub"), root.join("victim/file"));
    race(|| _ = output::write(&sub.join("n.yaml"), "text"), || exchange(sub.as_std_path(), file.as_std_path()));
    assert_untouched(&root);
}

#[test]
fn the_owner_of_a_directory_on_the_way_cannot_have_files_made_elsewhere() {
    let Some((_dir, root)) = theirs() else { return println!("skipped: only root gives directories away") };
    let (sub, victim) = (root.join("out/sub"), root.join("victim"));
    race(|| _ = output::write(&sub.join("n.yaml"), "text"), || exchange(sub.as_std_path(), victim.as_std_path()));
    assert_untouched(&root);
}

#[test]
fn a_link_in_a_directory_of_others_is_no_way() {
    let Some((_dir, root)) = theirs() else { return println!("skipped: only root gives directories away") };
    symlink(root.join("victim"), root.join("out/sub")).unwrap();
    let error = output::write(&root.join("out/sub/new/n.yaml"), "text").unwrap_err();
    let source = error.source.to_string();
    assert!(source.contains("out/sub is a symbolic link, and user 1000 can change"), "{source}");
    assert_untouched(&root);
}
