//! Other people's files, while each system call fails in its turn, or is the last: what is in place is the old file or the
//! new one, with all that it had, and the next run finds nothing in its way.
#![cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests run the program and stop at the first surprise"
)]

mod attributes;
mod tracer;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use attributes::Whole;
use tempfile::TempDir;
use tracer::{Ended, Fault};

const PROGRAM: &str = env!("CARGO_BIN_EXE_cdi-apply");
/// More calls than any run makes.
const MOST_CALLS: usize = 5_000;

/// A place with one file in it that is changed.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(TempDir::new().unwrap());
        fs::create_dir(home.path("cdi")).unwrap();
        let spec = "{cdiVersion: 0.3.0, kind: v.com/g, devices: [{name: a, containerEdits: {env: [A=b]}}, {name: b, containerEdits: {env: [B=b]}}]}";
        fs::write(home.path("cdi/v.yaml"), spec).unwrap();
        home
    }

    fn with_engine(self, script: &str) -> Self {
        fs::write(self.path("dockerd"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(self.path("dockerd"), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// The file, with an owner, a mode, a list and an attribute that are not what a new one has.
    fn with_file(self, text: &str) -> Self {
        fs::create_dir(self.path("etc")).unwrap();
        fs::write(self.file(), text).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(self.file(), Some(1234), Some(2345)).unwrap();
        }
        fs::set_permissions(self.file(), fs::Permissions::from_mode(0o640)).unwrap();
        attributes::set(&self.file(), attributes::ACL, &attributes::acl());
        attributes::set(&self.file(), "user.mine", b"kept");
        self
    }

    fn file(&self) -> PathBuf {
        self.path("etc/config.json")
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(words.split(' ')).current_dir(self.0.path()).env_clear().env("PATH", self.0.path());
        command
    }

    fn run(&self, words: &str) {
        let output = self.command(words).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("etc")) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn state(&self) -> State {
        let beside = |suffix: &str| {
            let kept = Whole::of(&self.path(&format!("etc/config.json{suffix}")))?;
            // Besides its bytes it has our record.
            Some(kept.bytes)
        };
        State {
            // What a fault may leave on it for the next run to take is not the administrator's.
            file: Whole::of(&self.file()).map(|mut file| {
                file.attributes.retain(|name, _| !name.ends_with(".cdi-apply.wrote"));
                file
            }),
            kept: beside(".before-cdi-apply"),
            absent: beside(".absent-before-cdi-apply"),
            names: self.names(),
        }
    }
}

/// What is to be seen of it.
#[derive(Debug, PartialEq, Eq)]
struct State {
    file: Option<Whole>,
    kept: Option<Vec<u8>>,
    absent: Option<Vec<u8>>,
    names: Vec<String>,
}

/// A change, and the next one, which is another.
#[derive(Clone, Copy)]
struct Case {
    set_up: fn() -> Home,
    words: &'static str,
    next: &'static str,
}

impl Case {
    /// Fails, and then kills, at each call in its turn.
    fn at_each_call(self) {
        let Self { set_up, words, next } = self;
        let home = set_up();
        let before = home.state();
        home.run(words);
        let after = home.state();
        home.run(next);
        let end = home.state();
        assert!(before.file != after.file && after.file != end.file);
        let first = tracer::before_main(&mut set_up().command(words));
        let faults: [fn(usize) -> Fault; 2] = [|call| Fault::Fails(call, libc::EIO), Fault::Killed];
        for fault in faults {
            let (mut olds, mut news) = (0, 0);
            let ends = (first..MOST_CALLS).find(|call| {
                let home = set_up();
                let ended = tracer::run(&mut home.command(words), fault(*call));
                let what = format!("{words}, {:?}: {ended:?}", fault(*call));
                let is_new = judge(&home, &before, &after, &ended, &what);
                *(if is_new { &mut news } else { &mut olds }) += 1;
                // What is left is in nobody's way.
                if !is_new {
                    home.run(words);
                    assert!(home.state().file == after.file, "{what}, and again: {:?}", home.names());
                }
                home.run(next);
                assert!(home.state() == end, "{what}, and the next one: {:?}", home.names());
                !ended.met
            });
            println!("{words}, {:?}: {olds} times the old one, {news} times the new one", fault(ends.unwrap()));
            assert!(olds > 10 && news > 0, "the test proves nothing");
        }
    }
}

/// Whether it is the new one.
fn judge(home: &Home, before: &State, after: &State, ended: &Ended, what: &str) -> bool {
    let state = home.state();
    let is_new = state.file == after.file;
    assert!(is_new || state.file == before.file, "neither the old nor the new one: {what}: {:?}", state.file);
    // What was kept is kept until it is back.
    assert!(is_new || before.kept.is_none() || state.kept == before.kept, "{what}: {:?}", state.names);
    assert!(ended.code != Some(0) || is_new, "it did nothing and did not say so: {what}");
    // A change that was made may be one that could not be told.
    let is_told = ended.stderr.contains("cannot write to stdout");
    assert!(ended.code != Some(1) || !is_new || is_told, "it said that it failed: {what}");
    if ended.code == Some(1) {
        let own = |name: &&String| name.starts_with('.');
        assert!(state.names.iter().filter(own).count() <= 1, "{what}: {:?}", state.names);
    }
    is_new
}

fn of_two_words() -> Home {
    Home::new().with_file("{\"mine\": 1}")
}

fn configured() -> Home {
    let home = of_two_words();
    home.run(CONFIGURE);
    home
}

fn configured_anew() -> Home {
    let home = Home::new();
    home.run(CONFIGURE);
    home
}

const CONFIGURE: &str = "configure docker --config etc/config.json";
const REGISTER: &str = "configure docker --runtime-path /usr/bin/cdi-runtime --config etc/config.json";
const UNDO: &str = "configure docker --undo --config etc/config.json";
const INJECT: &str = "inject --spec-dir cdi etc/config.json --device v.com/g=a";

#[test]
fn inject() {
    let next = "inject --spec-dir cdi etc/config.json --device v.com/g=b";
    Case { set_up: of_two_words, words: INJECT, next }.at_each_call();
}

#[test]
fn the_first_change_of_an_engines_file() {
    let set_up = || of_two_words().with_engine("exit 0");
    Case { set_up, words: CONFIGURE, next: UNDO }.at_each_call();
}

#[test]
fn a_further_change_of_an_engines_file() {
    Case { set_up: configured, words: REGISTER, next: UNDO }.at_each_call();
}

#[test]
fn an_engines_file_that_was_not_there() {
    Case { set_up: Home::new, words: CONFIGURE, next: UNDO }.at_each_call();
}

#[test]
fn an_undo() {
    Case { set_up: configured, words: UNDO, next: REGISTER }.at_each_call();
}

#[test]
fn an_undo_of_a_file_that_was_not_there() {
    Case { set_up: configured_anew, words: UNDO, next: REGISTER }.at_each_call();
}

/// Older kernels and some file systems know no exchange and no renaming to a free name.
#[test]
fn without_renameat2_the_same_comes_out() {
    let both = |set_up: fn() -> Home, words: &str| {
        let with = set_up();
        with.run(words);
        for error in [libc::ENOSYS, libc::EINVAL] {
            let without = set_up();
            let ended = tracer::run(&mut without.command(words), Fault::Unknown(libc::SYS_renameat2, error));
            assert!(ended.met && ended.code == Some(0), "{words}: {ended:?}");
            assert_eq!(without.state(), with.state(), "{words}");
        }
    };
    both(of_two_words, INJECT);
    both(of_two_words, CONFIGURE);
    both(Home::new, CONFIGURE);
    both(configured, REGISTER);
    both(configured, UNDO);
    both(configured_anew, UNDO);
}

/// An editor that comes in between is seen there too.
#[test]
fn without_renameat2_nothing_is_written_over_an_edit() {
    let home = of_two_words();
    let edit = format!("echo '{{\"edited\": 1}}' >{0}.new; /bin/mv {0}.new {0}", home.file().display());
    let home = home.with_engine(&edit);
    let ended = tracer::run(&mut home.command(CONFIGURE), Fault::Unknown(libc::SYS_renameat2, libc::ENOSYS));
    assert!(
        ended.code == Some(1) && ended.stderr.contains("another program has changed it in the meantime"),
        "{ended:?}"
    );
    assert_eq!(fs::read_to_string(home.file()).unwrap(), "{\"edited\": 1}\n");
    assert_eq!(home.names(), ["config.json"]);
}

#[test]
fn the_tracer_fails_the_call_that_it_is_told_to() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let mut cat = Command::new("/bin/cat");
    cat.arg(dir.path().join("file"));
    let all = tracer::run(&mut cat, Fault::Unknown(libc::SYS_openat, libc::EXDEV));
    assert!(all.met && all.code != Some(0), "{all:?}");
    let first = tracer::before_main(&mut Home::new().command("--version"));
    assert!((20..200).contains(&first), "{first} calls before main");
    let none = tracer::run(&mut cat, Fault::Fails(MOST_CALLS, libc::EIO));
    assert!(!none.met && none.code == Some(0), "{none:?}");
    let killed = tracer::run(&mut cat, Fault::Killed(3));
    assert!(killed.met && killed.code.is_none(), "{killed:?}");
}
