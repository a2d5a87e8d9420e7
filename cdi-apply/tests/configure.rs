//! `cdi-apply configure` on files of engines: what it prints, writes, keeps and puts back.
#![cfg(feature = "cli")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests run the program and stop at the first surprise"
)]

mod attributes;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use attributes::Whole;
use serde_json::{Value, json};
use tempfile::TempDir;

const PODMAN: &str = "# mine\n[engine]\nevents_logger = \"file\" # not the journal\n";

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("etc/engine.conf")
    }

    fn write(&self, text: &str) {
        fs::create_dir_all(self.file().parent().unwrap()).unwrap();
        fs::write(self.file(), text).unwrap();
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.file().parent().unwrap()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn dir(&self) -> PathBuf {
        self.file().parent().unwrap().to_owned()
    }

    /// A file beside the configuration.
    fn beside(&self, suffix: &str) -> PathBuf {
        self.dir().join(format!("engine.conf{suffix}"))
    }

    fn command(&self, words: &str) -> Command {
        // A watchdog: what waits for ever is killed, with exit code 124 or 137.
        let mut command = Command::new("/usr/bin/timeout");
        command.args(["-k", "1", "60"]).arg(env!("CARGO_BIN_EXE_cdi-apply"));
        command.arg("configure").args(words.split_whitespace()).arg("--config").arg(self.file());
        command.env("PATH", self.path()).current_dir(self.0.path());
        command
    }

    /// No engine is in the PATH to ask, unless a test has put one there.
    fn path(&self) -> String {
        format!("{}:/nothing", self.0.path().display())
    }

    /// Exit code, stdout and stderr.
    fn run(&self, words: &str) -> (i32, String, String) {
        answer(&mut self.command(words))
    }

    /// The same behind a word for a shell, such as `umask 0`.
    fn run_after(&self, shell: &str, words: &str) -> (i32, String, String) {
        let command = self.command(words);
        let mut sh = Command::new("/bin/sh");
        let script = format!("{shell}; exec /usr/bin/timeout \"$@\"");
        sh.args(["-e", "-c", &script, "sh"]).args(command.get_args()).current_dir(self.0.path());
        answer(sh.env("PATH", self.path()))
    }

    /// An engine that says what a shell says.
    fn engine(&self, name: &str, script: &str) {
        let text = tempfile::NamedTempFile::new().unwrap();
        fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        copy_program(text.path(), &self.0.path().join(name));
    }
}

/// By a process of its own: a program that another thread's child still holds open for writing cannot be run.
fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("install").args(["-m", "755"]).args([from, to]).status().unwrap().success());
}

fn answer(command: &mut Command) -> (i32, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// An engine that refuses whatever it is asked.
const REFUSES: &str = "echo \"$@\" >&2; echo cannot >&2; exit 1";
const ENGINES: [&str; 6] = ["buildkit", "containerd", "crio", "docker", "nerdctl", "podman"];

/// Words that change a file of each engine.
fn changing(engine: &str) -> String {
    let takes_runtimes = !["buildkit", "nerdctl"].contains(&engine);
    format!("{engine}{}", if takes_runtimes { " --runtime-path /usr/bin/cdi-runtime" } else { "" })
}

#[test]
fn a_file_is_changed_kept_and_put_back() {
    let home = Home::new();
    home.write(PODMAN);
    fs::set_permissions(home.file(), fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::metadata(home.file()).unwrap();
    let register = "podman --runtime --runtime-path /usr/bin/cdi-runtime --set-default";
    let (code, stdout, stderr) = home.run(register);
    assert!(code == 0 && stdout.contains("written, and kept as it was beside it (--undo)"), "{stdout}{stderr}");
    let added = "runtime = \"nvidia\"\n\n[engine.runtimes]\nnvidia = [\"/usr/bin/cdi-runtime\"]\n";
    assert_eq!(home.text(), format!("{PODMAN}{added}"));
    assert_eq!(fs::metadata(home.file()).unwrap().mode(), before.mode());
    // Again there is nothing to do, and what was kept stays the first.
    assert!(home.run(register).1.contains("nothing to change"));
    assert_eq!(home.run("podman --runtime --runtime-path /opt/cdi-runtime").0, 0);
    assert_eq!(home.names(), ["engine.conf", "engine.conf.before-cdi-apply"]);
    let (code, stdout, _) = home.run("podman --undo");
    assert!(code == 0 && stdout.ends_with("as it was before\n"));
    let after = fs::metadata(home.file()).unwrap();
    assert_eq!((home.text().as_str(), after.mode(), after.ino()), (PODMAN, before.mode(), before.ino()));
    assert_eq!(home.names(), ["engine.conf"]);
    let (code, _, stderr) = home.run("podman --undo");
    assert!(code == 1 && stderr.contains("there is nothing to undo"), "{stderr}");
}

#[test]
fn a_file_that_was_not_there_goes_again() {
    let home = Home::new();
    assert_eq!(home.run("docker").0, 0);
    assert_eq!(home.text(), "{\n    \"features\": {\n        \"cdi\": true\n    }\n}\n");
    assert_eq!(home.run("docker --undo").0, 0);
    assert_eq!(home.names(), [""; 0]);
}

#[test]
fn a_dry_run_shows_the_difference_and_changes_nothing() {
    let home = Home::new();
    home.write(PODMAN);
    let (code, stdout, _) = home.run("podman --dry-run --runtime-path /usr/bin/cdi-runtime");
    let file = home.file().display().to_string();
    let expected = format!(
        "--- {file}\n+++ {file}\n@@ -1,3 +1,6 @@\n # mine\n [engine]\n events_logger = \"file\" # not the journal\n+\n\
         +[engine.runtimes]\n+nvidia = [\"/usr/bin/cdi-runtime\"]\n"
    );
    assert_eq!((code, stdout.as_str()), (0, expected.as_str()));
    assert_eq!((home.text().as_str(), home.names()), (PODMAN, vec!["engine.conf".to_owned()]));
}

#[test]
fn what_makes_no_sense_is_told_and_nothing_is_changed() {
    let home = Home::new();
    home.write("{");
    let (code, _, stderr) = home.run("docker");
    assert!(code == 4 && stderr.contains("engine.conf: not JSON: EOF"), "{stderr}");
    let (code, _, stderr) = home.run("containerd");
    assert!(code == 4 && stderr.contains("engine.conf: line 1: "), "{stderr}");
    let (code, _, stderr) = home.run("nerdctl --set-default");
    assert!(code == 1 && stderr.contains("nerdctl has no runtimes of its own"), "{stderr}");
    assert_eq!(home.run("docker --runtime-path relative").0, 1);
    assert_eq!(home.run("rkt").0, 2);
    assert_eq!((home.text().as_str(), home.names().len()), ("{", 1));
}

/// What the engine itself refuses is not left behind.
#[test]
fn the_engine_has_the_last_word() {
    let home = Home::new();
    home.write("{\"debug\": true}");
    let dockerd = home.0.path().join("dockerd");
    fs::write(&dockerd, "#!/bin/sh\necho \"$@\" >&2\necho cannot >&2\nexit 1\n").unwrap();
    fs::set_permissions(&dockerd, fs::Permissions::from_mode(0o755)).unwrap();
    let (code, _, stderr) = home.run("docker");
    assert!(code == 1 && stderr.contains("is as it was: the engine refuses"), "{stderr}");
    assert!(stderr.contains("--validate --config-file"), "{stderr}");
    assert_eq!((home.text().as_str(), home.names().len()), ("{\"debug\": true}", 1));
}

// A change that fails

/// What was edited between two changes is what a refused third one leaves.
#[test]
fn a_refused_change_leaves_what_was_edited_by_hand() {
    let home = Home::new();
    home.write("{\"debug\": true}");
    assert_eq!(home.run("docker").0, 0);
    let edited = home.text().replace("true}", "true, \"mtu\": 1400}");
    home.write(&edited);
    let before = (Whole::of(&home.file()), home.names());
    home.engine("dockerd", REFUSES);
    let (code, _, stderr) = home.run("docker --runtime-path /usr/bin/cdi-runtime");
    assert!(code == 1 && stderr.contains("is as it was: the engine refuses"), "{stderr}");
    assert_eq!((Whole::of(&home.file()), home.names()), before);
}

#[test]
fn a_refused_change_does_not_remove_a_file_that_was_not_there_before_the_first() {
    let home = Home::new();
    assert_eq!(home.run("docker").0, 0);
    let before = (Whole::of(&home.file()), home.names());
    home.engine("dockerd", REFUSES);
    assert_eq!(home.run("docker --runtime-path /usr/bin/cdi-runtime").0, 1);
    assert_eq!((Whole::of(&home.file()), home.names()), before);
}

#[test]
fn a_refused_first_change_leaves_no_file_no_mark_and_no_directory() {
    let home = Home::new();
    home.engine("dockerd", REFUSES);
    assert_eq!(home.run("docker").0, 1);
    assert!(!home.dir().exists());
}

/// A run that fails halfway may have left a mark that says that there was no file; by now there is one.
#[test]
fn a_mark_that_a_failed_run_left_removes_nothing() {
    let home = Home::new();
    let mine = "{\"debug\": true}";
    home.write(mine);
    fs::write(home.beside(".absent-before-cdi-apply"), "").unwrap();
    home.engine("dockerd", REFUSES);
    assert_eq!(home.run("docker").0, 1);
    assert_eq!(home.text(), mine);
    let (code, _, stderr) = home.run("docker --undo");
    assert!(code == 1 && stderr.contains("it is not as cdi-apply wrote it"), "{stderr}");
    assert_eq!(home.text(), mine);
    // And what comes after it is undone to what there was.
    home.engine("dockerd", "exit 0");
    assert_eq!(home.run("docker").0, 0);
    assert_eq!(home.run("docker --undo").0, 0);
    assert_eq!((home.text().as_str(), home.names()), (mine, vec!["engine.conf".to_owned()]));
}

/// The engine reads the file that is to be, while the file that is stays in place.
#[test]
fn the_engine_judges_the_next_file_and_never_sees_it_in_place() {
    let home = Home::new();
    home.write("{\"debug\": true}");
    let seen = home.0.path().join("seen");
    home.engine("dockerd", &format!("cat \"$3\" {} >{}", home.file().display(), seen.display()));
    let (code, _, stderr) = home.run("docker");
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(fs::read_to_string(seen).unwrap(), format!("{}{{\"debug\": true}}", home.text()));
}

// Undo

#[test]
fn an_undo_is_refused_where_it_would_lose_an_edit_and_force_keeps_the_edit_beside() {
    let home = Home::new();
    home.write(PODMAN);
    assert_eq!(home.run(&changing("podman")).0, 0);
    let edited = format!("{}# by hand\n", home.text());
    home.write(&edited);
    let refused = |home: &Home, edited: &str| {
        let (code, _, stderr) = home.run("podman --undo");
        assert!(code == 1 && stderr.contains("it is not as cdi-apply wrote it, and an edit would be lost"), "{stderr}");
        assert_eq!(home.text(), edited);
    };
    refused(&home, &edited);
    let (code, stdout, _) = home.run("podman --undo --dry-run");
    assert!(code == 0 && stdout.contains("\n-# by hand\n") && stdout.contains("\n-nvidia = "), "{stdout}");
    // To change it once more does not make the edit ours.
    assert_eq!(home.run("podman --runtime-path /opt/cdi-runtime").0, 0);
    let edited = home.text();
    assert!(edited.ends_with("# by hand\n"), "{edited}");
    refused(&home, &edited);
    assert_eq!(home.names(), ["engine.conf", "engine.conf.before-cdi-apply"]);
    let (code, stdout, stderr) = home.run("podman --undo --force");
    assert!(code == 0 && stdout.contains("the edited one is beside it"), "{stdout}{stderr}");
    assert_eq!(home.text(), PODMAN);
    assert_eq!(fs::read_to_string(home.beside(".edited-before-undo")).unwrap(), edited);
    assert_eq!(home.names(), ["engine.conf", "engine.conf.edited-before-undo"]);
    // Of a second one that is put away the first is no victim.
    assert_eq!(home.run(&changing("podman")).0, 0);
    let again = format!("{}# again\n", home.text());
    home.write(&again);
    let (code, _, stderr) = home.run("podman --undo --force");
    assert!(code == 1 && stderr.contains("engine.conf.edited-before-undo is in the way"), "{stderr}");
    assert_eq!(home.text(), again);
}

#[test]
fn an_edited_file_that_was_not_there_is_not_removed_by_an_undo() {
    let home = Home::new();
    assert_eq!(home.run("docker").0, 0);
    let edited = home.text().replace("{\n    \"f", "{\n    \"mtu\": 1400,\n    \"f");
    home.write(&edited);
    assert_eq!(home.run("docker --undo").0, 1);
    assert_eq!(home.text(), edited);
    assert_eq!(home.run("docker --undo --force").0, 0);
    assert_eq!(home.names(), ["engine.conf.edited-before-undo"]);
    assert_eq!(home.run("docker").0, 0);
    assert_eq!(home.run("docker --undo").0, 0);
    assert_eq!(home.names(), ["engine.conf.edited-before-undo"]);
}

/// Whoever has tightened a mode since does not want the old one back unasked.
#[test]
fn an_undo_does_not_give_rights_back_that_were_taken() {
    let home = Home::new();
    home.write(PODMAN);
    fs::set_permissions(home.file(), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(home.run(&changing("podman")).0, 0);
    fs::set_permissions(home.file(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(home.run("podman --undo").0, 1);
    assert_eq!(fs::metadata(home.file()).unwrap().mode() & 0o777, 0o600);
}

/// Files that an older cdi-apply kept carry no record of what was written since.
#[test]
fn what_nobody_knows_to_be_unedited_is_undone_by_force_only() {
    let home = Home::new();
    home.write("{\"features\": {\"cdi\": true}}");
    fs::write(home.beside(".before-cdi-apply"), "{}").unwrap();
    assert_eq!(home.run("docker --undo").0, 1);
    assert_eq!(home.run("docker --runtime-path /usr/bin/cdi-runtime").0, 0);
    assert_eq!(home.run("docker --undo").0, 1);
    assert_eq!(fs::read_to_string(home.beside(".before-cdi-apply")).unwrap(), "{}");
    assert_eq!(home.run("docker --undo --force").0, 0);
    assert_eq!((home.text().as_str(), home.names().len()), ("{}", 2));
}

#[test]
fn undone_and_done_again_any_number_of_times() {
    let home = Home::new();
    home.write(PODMAN);
    let before = Whole::of(&home.file());
    for _ in 0..3 {
        assert_eq!(home.run(&changing("podman")).0, 0);
        assert_eq!(home.run("podman --runtime-path /opt/cdi-runtime --set-default").0, 0);
        assert_eq!(home.run("podman --undo").0, 0);
        assert_eq!((Whole::of(&home.file()), home.names()), (before.clone(), vec!["engine.conf".to_owned()]));
    }
}

/// Whatever an administrator and cdi-apply do in turn: what was written by hand is in the file or beside it.
#[test]
fn no_edit_is_lost_in_any_order_of_edits_changes_refusals_and_undos() {
    let mut random = Random(15);
    let (mut puts, mut refusals) = (0, 0);
    for _ in 0..40 {
        let mut admin = Admin { home: Home::new(), edits: 0, archive: Vec::new() };
        fs::create_dir(admin.home.dir()).unwrap();
        for _ in 0..12 {
            let before = Whole::of(&admin.home.file());
            let (words, code) = match random.below(9) {
                0 | 1 => (admin.change("exit 0"), 0),
                2 => (admin.change(REFUSES), 1),
                3 | 4 => (admin.edit(random.below(2) == 0), -1),
                5 => (admin.delete(), -1),
                6 => (admin.tighten(), -1),
                7 => admin.cdi_apply("docker --undo"),
                _ => admin.undo_by_force(),
            };
            let after = Whole::of(&admin.home.file());
            match (words.as_str(), code) {
                (_, -1) => continue,
                ("docker --undo" | "docker --undo --force", 0) => puts += 1,
                ("docker --undo", _) => refusals += 1,
                _ => {}
            }
            if code != 0 {
                assert!(after == before, "{words}: a failure changed something");
            }
            let known = |file: &Option<Whole>| file.as_ref().map(edits_in).unwrap_or_default();
            let lost: Vec<String> = known(&before).into_iter().filter(|edit| !admin.is_safe(edit)).collect();
            assert!(lost.is_empty(), "{words}: {lost:?} of {before:?} are not in {after:?}");
            if let (Some(before), Some(after), false) = (before, after, words.contains("--force")) {
                assert_eq!(after.mode, before.mode, "{words}");
            }
        }
    }
    assert!(puts > 20 && refusals > 20, "{puts} undone, {refusals} refused: the test proves nothing");
}

/// A generator of Lehmer's: the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0 * 48_271 % 0x7fff_ffff;
        self.0 % end
    }
}

struct Admin {
    home: Home,
    /// How many there were.
    edits: usize,
    /// Edited files that an undo has put away.
    archive: Vec<String>,
}

/// Each edit puts a key into the file.
fn edits_in(file: &Whole) -> Vec<String> {
    let value: Value = serde_json::from_slice(&file.bytes).unwrap();
    value.as_object().unwrap().keys().filter(|key| key.starts_with("edit")).cloned().collect()
}

impl Admin {
    fn cdi_apply(&self, words: &str) -> (String, i32) {
        (words.to_owned(), self.home.run(words).0)
    }

    fn change(&mut self, engine: &str) -> String {
        self.edits += 1;
        self.home.engine("dockerd", engine);
        let words = format!("docker --runtime-path /usr/bin/cdi-runtime --runtime-name r{}", self.edits);
        let (code, _, stderr) = self.home.run(&words);
        assert_eq!(code, i32::from(engine == REFUSES), "{stderr}");
        words
    }

    /// As editors do it: in place, or by another file.
    fn edit(&mut self, in_place: bool) -> String {
        self.edits += 1;
        let text = fs::read_to_string(self.home.file()).unwrap_or("{}".to_owned());
        let mut value: Value = serde_json::from_str(&text).unwrap();
        value.as_object_mut().unwrap().insert(format!("edit{}", self.edits), json!(1));
        if in_place {
            fs::write(self.home.file(), value.to_string()).unwrap();
        } else {
            fs::write(self.home.beside(".swp"), value.to_string()).unwrap();
            fs::rename(self.home.beside(".swp"), self.home.file()).unwrap();
        }
        String::new()
    }

    fn delete(&self) -> String {
        fs::remove_file(self.home.file()).unwrap_or_default();
        String::new()
    }

    fn tighten(&self) -> String {
        let _ = fs::set_permissions(self.home.file(), fs::Permissions::from_mode(0o600));
        String::new()
    }

    fn undo_by_force(&mut self) -> (String, i32) {
        let answer = self.cdi_apply("docker --undo --force");
        let edited = self.home.beside(".edited-before-undo");
        if let Ok(text) = fs::read_to_string(&edited) {
            self.archive.push(text);
            fs::remove_file(edited).unwrap();
        }
        answer
    }

    fn is_safe(&self, edit: &str) -> bool {
        let key = format!("\"{edit}\"");
        let in_place = fs::read_to_string(self.home.file()).is_ok_and(|text| text.contains(&key));
        in_place || self.archive.last().is_some_and(|text| text.contains(&key))
    }
}

#[test]
fn an_undo_brings_back_a_file_that_was_deleted_since() {
    let home = Home::new();
    home.write(PODMAN);
    let before = Whole::of(&home.file());
    assert_eq!(home.run(&changing("podman")).0, 0);
    fs::remove_file(home.file()).unwrap();
    assert_eq!(home.run("podman --undo").0, 0);
    assert_eq!((Whole::of(&home.file()), home.names()), (before, vec!["engine.conf".to_owned()]));
}

// At once

/// Sixty rounds of four, with a file and without one.
#[test]
fn of_several_at_once_no_change_is_lost() {
    for round in 0..60 {
        let home = Home::new();
        if round % 2 == 0 {
            home.write("{\"debug\": true}");
        }
        let words = |index: usize| format!("docker --runtime-name r{index} --runtime-path /usr/bin/cdi-runtime");
        let start = |index| {
            let mut command = home.command(&words(index));
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let running: Vec<_> = (0..4).map(start).collect();
        for child in running {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let text: Value = serde_json::from_str(&home.text()).unwrap();
        let expected = |index: usize| (format!("r{index}"), json!({"path": "/usr/bin/cdi-runtime"}));
        let expected: serde_json::Map<String, Value> = (0..4).map(expected).collect();
        let mut runtimes = text["runtimes"].as_object().unwrap().clone();
        runtimes.sort_keys();
        assert_eq!(runtimes, expected, "round {round}");
        assert_eq!(home.names().len(), 2, "round {round}: {:?}", home.names());
        assert_eq!(home.run("docker --undo").0, 0, "round {round}");
    }
}

/// Who can open it can hold it.
#[test]
fn the_lock_is_for_its_owner_only_whatever_the_umask() {
    for umask in ["000", "077"] {
        let home = Home::new();
        let seen = home.0.path().join("seen");
        let lock = home.dir().join(".engine.conf.cdi-apply.lock");
        home.engine("dockerd", &format!("/usr/bin/stat -c %a {} >{}", lock.display(), seen.display()));
        assert_eq!(home.run_after(&format!("umask {umask}"), "docker").0, 0);
        assert_eq!(fs::read_to_string(seen).unwrap(), "600\n", "umask {umask}");
    }
}

/// An editor holds no lock of ours.
#[test]
fn what_an_editor_writes_while_the_engine_judges_is_kept_and_changed() {
    let home = Home::new();
    home.write("{\"debug\": true}");
    let file = home.file();
    let edit = format!(
        "[ -e {0}/edited ] || {{ echo '{{\"mtu\": 1400}}' >{0}/edited; cp {0}/edited {1}.mine; mv {1}.mine {1}; }}",
        home.0.path().display(),
        file.display()
    );
    let edit = format!("PATH=/usr/bin:/bin\n{edit}");
    home.engine("dockerd", &edit);
    let (code, _, stderr) = home.run("docker");
    assert_eq!((code, stderr.as_str()), (0, ""));
    let text: Value = serde_json::from_str(&home.text()).unwrap();
    assert_eq!(text, json!({"mtu": 1400, "features": {"cdi": true}}));
    assert_eq!(home.run("docker --undo").0, 0);
    assert_eq!(home.text(), "{\"mtu\": 1400}\n");
}

#[test]
fn a_mode_that_is_tightened_while_the_engine_judges_stays_tight() {
    let home = Home::new();
    home.write("{\"debug\": true}");
    fs::set_permissions(home.file(), fs::Permissions::from_mode(0o644)).unwrap();
    home.engine("dockerd", &format!("/bin/chmod 600 {}", home.file().display()));
    assert_eq!(home.run("docker").0, 0);
    assert_eq!(fs::metadata(home.file()).unwrap().mode() & 0o777, 0o600);
    assert!(home.text().contains("cdi"));
}

// Who may read it

#[test]
fn owner_mode_access_control_list_and_attributes_stay_in_files_of_all_engines() {
    for engine in ENGINES {
        let home = Home::new();
        home.write("");
        if !attributes::set(&home.file(), attributes::ACL, &attributes::acl()) {
            return println!("skipped: no access control lists on this file system");
        }
        attributes::set(&home.file(), "user.mine", b"kept");
        if is_root() {
            chown(home.file(), Some(1234), Some(2345)).unwrap();
            fs::set_permissions(home.file(), fs::Permissions::from_mode(0o640)).unwrap();
            attributes::set(&home.file(), attributes::ACL, &attributes::acl());
            attributes::set(&home.file(), "trusted.mine", b"kept");
        }
        let before = Whole::of(&home.file()).unwrap();
        assert!(before.attributes.len() >= 2 && before.mode & 0o777 == 0o640, "{before:?}");
        assert_eq!(home.run(&changing(engine)).0, 0, "{engine}");
        let after = Whole::of(&home.file()).unwrap();
        assert_eq!(after, Whole { bytes: home.text().into(), ..before.clone() }, "{engine}");
        assert_ne!(after.bytes, before.bytes, "{engine}");
        assert_eq!(home.run(&format!("{engine} --undo")).0, 0, "{engine}");
        assert_eq!(Whole::of(&home.file()).unwrap(), before, "{engine}");
    }
}

/// A new file in such a directory begins with the directory's list; one that had none gets none.
#[test]
fn a_directorys_default_list_lets_nobody_into_a_file_without_one() {
    let home = Home::new();
    home.write(PODMAN);
    fs::set_permissions(home.file(), fs::Permissions::from_mode(0o640)).unwrap();
    if !attributes::set(&home.dir(), "system.posix_acl_default", &attributes::acl()) {
        return println!("skipped: no access control lists on this file system");
    }
    let before = Whole::of(&home.file()).unwrap();
    assert_eq!(home.run(&changing("podman")).0, 0);
    assert_eq!(Whole::of(&home.file()).unwrap(), Whole { bytes: home.text().into(), ..before.clone() });
}

#[test]
fn what_is_made_has_its_mode_whatever_the_umask() {
    for umask in ["000", "077"] {
        let home = Home::new();
        let (code, _, stderr) = home.run_after(&format!("umask {umask}"), "docker");
        assert_eq!((code, stderr.as_str()), (0, ""), "umask {umask}");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&home.dir()), mode(&home.file())), (0o755, 0o644), "umask {umask}");
        assert_eq!(home.run_after(&format!("umask {umask}"), "docker --undo").0, 0);
        assert_eq!(home.names(), [""; 0]);
    }
}

// Other people's links, nodes and directories

#[test]
fn nothing_is_written_through_a_link_beside_the_file_or_in_its_place() {
    let hidden = [".engine.conf.cdi-apply", ".engine.conf.cdi-apply.lock"];
    let beside = ["", ".before-cdi-apply", ".absent-before-cdi-apply", ".edited-before-undo"];
    let names = beside.map(|suffix| format!("engine.conf{suffix}")).into_iter().chain(hidden.map(str::to_owned));
    for name in names {
        for owner in [0, 1000] {
            let home = Home::new();
            fs::create_dir(home.dir()).unwrap();
            let elsewhere = home.0.path().join("elsewhere");
            symlink(&elsewhere, home.dir().join(&name)).unwrap();
            if is_root() {
                chown(home.dir(), Some(owner), Some(owner)).unwrap();
            }
            for words in ["docker", "docker --undo", "docker --undo --force"] {
                let (code, stdout, stderr) = home.run(words);
                assert!(code == 0 || stderr.starts_with("error: ") && stderr.lines().count() == 1, "{stdout}{stderr}");
                assert!(!elsewhere.exists(), "{words}: {name} was followed");
            }
        }
    }
}

#[test]
fn a_directory_that_others_may_write_is_refused_with_a_line_that_names_them() {
    if !is_root() {
        return println!("skipped: only root gives directories away");
    }
    let home = Home::new();
    home.write("{}");
    chown(home.dir(), Some(1000), Some(1000)).unwrap();
    let (code, _, stderr) = home.run("docker");
    let expected = format!("user 1000 can change {}: configure as that user", home.dir().display());
    assert!(code == 1 && stderr.contains(&expected), "{stderr}");
    assert_eq!((home.text().as_str(), home.names().len()), ("{}", 1));
}

#[test]
fn a_link_in_the_files_place_is_refused_with_a_line_that_names_its_target() {
    let home = Home::new();
    home.write("");
    fs::remove_file(home.file()).unwrap();
    symlink("/store/daemon.json", home.file()).unwrap();
    for words in ["docker", "docker --dry-run"] {
        let (code, _, stderr) = home.run(words);
        assert!(code == 1 && stderr.ends_with("it leads to): /store/daemon.json\n"), "{stderr}");
    }
}

#[test]
fn a_file_with_two_names_is_refused_and_both_stay_one() {
    let home = Home::new();
    home.write("{}");
    fs::hard_link(home.file(), home.0.path().join("dotfiles")).unwrap();
    let (code, _, stderr) = home.run("docker");
    assert!(code == 1 && stderr.contains("it has further names (hard links)"), "{stderr}");
    assert_eq!((home.text().as_str(), fs::metadata(home.file()).unwrap().nlink()), ("{}", 2));
    assert_eq!(home.names(), ["engine.conf"]);
}

/// With 400 MB of memory, where 3 GiB are there to read, or no end.
#[test]
fn a_file_without_end_or_none_at_all_is_refused_at_once() {
    let few = "ulimit -v 400000";
    let home = Home::new();
    home.write("");
    fs::File::options().write(true).open(home.file()).unwrap().set_len(3 << 30).unwrap();
    for words in ["docker", "docker --dry-run", "podman --set-default --runtime-path /usr/bin/cdi-runtime"] {
        let (code, _, stderr) = home.run_after(few, words);
        assert!(code == 1 && stderr.ends_with("it is longer than 1048576 bytes\n"), "{code} {stderr}");
    }
    fs::remove_file(home.file()).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, home.file(), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let (code, _, stderr) = home.run_after(few, "docker");
    assert!(code == 1 && stderr.ends_with("it is no regular file\n"), "{code} {stderr}");
    // Named itself, since not everybody may make such a node.
    let mut command = Command::new(env!("CARGO_BIN_EXE_cdi-apply"));
    command.args(["configure", "docker", "--config", "/dev/zero"]);
    let mut sh = Command::new("/bin/sh");
    sh.args(["-c", &format!("{few}; exec timeout 60 \"$@\""), "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    let (code, _, stderr) = answer(&mut sh);
    assert!(code == 1 && stderr.ends_with("it is no regular file\n"), "{code} {stderr}");
}

#[test]
fn text_that_nests_without_end_is_no_configuration() {
    let home = Home::new();
    let deep = [
        ("podman", format!("a = {}", "[".repeat(1 << 19))),
        ("podman", format!("a = {}", "{a=".repeat(1 << 18))),
        ("podman", format!("{}a = 1", "a.".repeat(1 << 18))),
        ("podman", format!("[{}a]", "a.".repeat(1 << 18))),
        ("docker", "{\"a\":".repeat(1 << 17)),
    ];
    for (engine, text) in deep {
        home.write(&text);
        let (code, _, stderr) = home.run(&changing(engine));
        assert!(code == 4 && stderr.lines().count() == 1 && stderr.len() < 1000, "{code} {stderr:.300}");
        assert!(home.text() == text && home.names().len() == 1);
    }
}

/// Each line of it comes out in another layout, and the shortest difference of two such files takes quadratic time.
#[test]
fn a_long_file_in_a_layout_of_its_own_is_compared_in_seconds() {
    let home = Home::new();
    let keys: Vec<String> = (0..75_000).map(|index| format!("\"{index}\":  1")).collect();
    home.write(&format!("{{{}}}", keys.join(",\n")));
    let mut command = home.command("docker --dry-run");
    command.stdout(Stdio::null());
    let (code, _, stderr) = answer(&mut command);
    assert_eq!((code, stderr.as_str()), (0, ""));
}

// The engine's program

#[test]
fn no_program_of_the_working_directory_is_run() {
    let home = Home::new();
    home.engine("dockerd", &format!(": >{}/ran", home.0.path().display()));
    for path in ["", ":", ":/nothing", ".", "./", "/nothing::"] {
        home.write("{}");
        let (code, _, stderr) = answer(home.command("docker").env("PATH", path));
        assert_eq!((code, stderr.as_str()), (0, ""), "{path:?}");
        assert!(!home.0.path().join("ran").exists(), "{path:?}");
        assert_eq!(home.run("docker --undo").0, 0);
        fs::remove_file(home.0.path().join("ran")).unwrap_or_default();
    }
}

#[test]
fn root_runs_no_program_that_others_may_change_and_says_that_nobody_was_asked() {
    if !is_root() {
        return println!("skipped: a user acts with their own rights only");
    }
    let home = Home::new();
    home.write("{}");
    home.engine("dockerd", &format!(": >{}/ran", home.0.path().display()));
    let dockerd = home.0.path().join("dockerd");
    chown(&dockerd, Some(1000), Some(1000)).unwrap();
    let (code, _, stderr) = home.run("docker");
    let expected = format!("warning: dockerd was not asked: {}: user 1000 can change it\n", dockerd.display());
    assert_eq!((code, stderr), (0, expected));
    assert!(!home.0.path().join("ran").exists());
}

#[test]
fn a_runtime_that_others_may_change_is_registered_only_if_it_is_named_and_told() {
    if !is_root() {
        return println!("skipped: a user acts with their own rights only");
    }
    let home = Home::new();
    let (program, runtime) = (home.0.path().join("program"), home.0.path().join("cdi-runtime"));
    fs::create_dir(&program).unwrap();
    let program = program.join("cdi-apply");
    copy_program(Path::new(env!("CARGO_BIN_EXE_cdi-apply")), &program);
    home.engine("cdi-runtime", "");
    chown(&runtime, Some(1000), None).unwrap();
    let why = format!("{}", runtime.display());
    let run = |words: &str| {
        let mut command = Command::new(&program);
        command.arg("configure").args(words.split(' ')).arg("--config").arg(home.file()).env("PATH", home.path());
        answer(&mut command)
    };
    let (code, _, stderr) = run("podman --runtime");
    // One that is installed on this machine is another's.
    let is_other = code == 0 && !home.text().contains(&why);
    assert!(is_other || code == 1 && stderr.contains("user 1000 can change it"), "{stderr}");
    let (code, _, stderr) = run(&format!("podman --runtime-path {}", runtime.display()));
    assert!(code == 0 && stderr == format!("warning: {why}: user 1000 can change it\n"), "{stderr}");
}

#[test]
fn an_engine_that_cannot_be_asked_is_told_and_not_taken_for_content() {
    let home = Home::new();
    home.engine("dockerd", "echo 'unknown flag: --validate' >&2; exit 125");
    let (code, stdout, stderr) = home.run("docker");
    let expected = "warning: dockerd was not asked: it is older than 23 and has no --validate\n";
    assert!(code == 0 && stdout.contains("written"), "{stdout}");
    assert_eq!(stderr, expected);
    // Another flag that it does not know is in the configuration.
    home.engine("dockerd", "echo 'unknown flag: --hosts' >&2; exit 1");
    assert_eq!(home.run("docker --runtime-path /usr/bin/cdi-runtime").0, 1);
}

#[test]
fn what_an_engine_says_is_one_line_that_no_terminal_obeys() {
    let home = Home::new();
    home.engine("containerd", "printf 'a\\033]0;x\\007\\nerror: forged\\n' >&2; exit 1");
    let (code, _, stderr) = home.run("containerd");
    assert_eq!((code, stderr.lines().count()), (1, 1));
    assert!(stderr.ends_with("containerd: a\\u{1b}]0;x\\u{7}; error: forged\n"), "{stderr}");
}
