//! Spec directories to devices: what the reference's own tests ask for, in our words; and where we differ, why.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests set up files and stop at the first surprise"
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cdi_apply::nodes::HostNode;
use cdi_apply::registry::Missing;
use cdi_apply::{HostNodes, Problem, Registry, Request, SpecDirs, Unresolvable, inject, resolve};
use serde_json::json;
use tempfile::TempDir;

/// Spec directories on disk, `etc` below `run`.
struct Dirs {
    dir: TempDir,
    names: Vec<&'static str>,
}

impl Dirs {
    fn new() -> Self {
        Self::named(&["etc", "run"])
    }

    fn named(names: &[&'static str]) -> Self {
        let dir = TempDir::new().unwrap();
        names.iter().for_each(|name| fs::create_dir(dir.path().join(name)).unwrap());
        Self { dir, names: names.to_vec() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// A file, by its path below the directories.
    fn write(&self, path: &str, text: impl AsRef<[u8]>) -> &Self {
        fs::write(self.path(path), text).unwrap();
        self
    }

    fn spec_dirs(&self) -> SpecDirs {
        SpecDirs::new(self.names.iter().map(|name| self.path(name)))
    }

    fn registry(&self) -> Registry {
        Registry::new(&self.spec_dirs().read())
    }

    /// A path as it was given to `write`.
    fn short(&self, path: &Path) -> String {
        path.strip_prefix(self.dir.path()).unwrap().to_string_lossy().into_owned()
    }

    /// Each device with its file.
    fn devices(&self) -> BTreeMap<String, String> {
        self.registry().devices().map(|(name, file)| (name, self.short(file))).collect()
    }

    /// Each problem, without the directory.
    fn problems(&self) -> Vec<String> {
        let prefix = format!("{}/", self.dir.path().display());
        self.registry().problems().iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
    }
}

/// A spec whose devices set a variable each, to their file's word.
fn spec(kind: &str, word: &str, devices: &[&str]) -> String {
    let device = |name: &&str| format!("- name: {name}\n  containerEdits: {{env: ['{name}={word}']}}\n");
    let devices: String = devices.iter().map(device).collect();
    format!("cdiVersion: 0.5.0\nkind: {kind}\ncontainerEdits: {{env: [COMMON={word}]}}\ndevices:\n{devices}")
}

fn gpus(devices: &[&str]) -> String {
    spec("vendor.com/gpu", "x", devices)
}

fn requests(list: &str) -> Vec<Request> {
    Request::parse_list(list).unwrap()
}

/// The environment that devices bring.
fn env(registry: &Registry, list: &str) -> Vec<String> {
    resolve(registry, &requests(list)).unwrap().merged().env
}

fn names(devices: &BTreeMap<String, String>) -> Vec<&str> {
    devices.keys().map(String::as_str).collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

// Which files count

#[test]
fn files_directly_in_a_directory_with_one_of_two_extensions_count() {
    let dirs = Dirs::new();
    for (index, name) in ["a.yaml", "b.json", ".hidden.yaml", "c.d.yaml", ".yaml"].iter().enumerate() {
        dirs.write(&format!("etc/{name}"), gpus(&[&format!("yes{index}")]));
    }
    for name in ["a.yml", "a.YAML", "a.yaml~", "a", "yaml", "a.yaml.swp", "a.txt"] {
        dirs.write(&format!("etc/{name}"), gpus(&["no"]));
    }
    for name in ["deeper", "dir.yaml"] {
        fs::create_dir(dirs.path("etc").join(name)).unwrap();
        dirs.write(&format!("etc/{name}/a.yaml"), gpus(&["no"]));
    }
    dirs.write("elsewhere", gpus(&["linked"]));
    symlink(dirs.path("elsewhere"), dirs.path("etc/link.yaml")).unwrap();
    symlink(dirs.path("etc/deeper"), dirs.path("etc/link-to-dir.yaml")).unwrap();
    let not_utf8 = dirs.path("etc").join(OsStr::from_bytes(b"\xff.yaml"));
    fs::write(not_utf8, gpus(&["odd"])).unwrap();
    let devices = dirs.devices();
    let devices: Vec<&str> = names(&devices).iter().filter_map(|name| name.strip_prefix("vendor.com/gpu=")).collect();
    assert_eq!(devices, ["linked", "odd", "yes0", "yes1", "yes2", "yes3", "yes4"]);
    assert_eq!(dirs.problems(), [""; 0]);
}

#[test]
fn no_directory_and_no_file_are_no_problem() {
    let dirs = Dirs::new();
    assert_eq!(dirs.devices(), BTreeMap::new());
    fs::remove_dir(dirs.path("run")).unwrap();
    dirs.write("etc/a.yaml", gpus(&["0"]));
    assert_eq!(names(&dirs.devices()), ["vendor.com/gpu=0"]);
    assert_eq!(dirs.problems(), [""; 0]);
    assert_eq!(SpecDirs::new([]).read(), cdi_apply::SpecTexts::default());
}

#[test]
fn a_file_tells_all_that_it_says() {
    let dirs = Dirs::new();
    dirs.write("run/a.yaml", gpus(&["0", "1"]));
    let registry = dirs.registry();
    let file = &registry.files()[0];
    assert_eq!((file.path.clone(), file.priority), (dirs.path("run/a.yaml"), 1));
    assert_eq!((file.spec.kind.as_str(), file.spec.devices.len()), ("vendor.com/gpu", 2));
    let found = registry.device(&"vendor.com/gpu=1".parse().unwrap()).unwrap();
    assert_eq!(found.edits.env, ["1=x"]);
    assert_eq!(found.file, file);
    assert_eq!(registry.device(&"vendor.com/gpu=2".parse().unwrap()).unwrap_err(), Missing::Undefined);
}

#[test]
fn vendors_and_classes_are_sorted_and_told_once() {
    let dirs = Dirs::new();
    let told = |dirs: &Dirs| {
        let registry = dirs.registry();
        let owned = |names: Vec<&str>| names.join(" ");
        (owned(registry.vendors()), owned(registry.classes()))
    };
    assert_eq!(told(&dirs), (String::new(), String::new()));
    dirs.write("etc/1.yaml", spec("b.com/gpu", "x", &["0"]));
    assert_eq!(told(&dirs), ("b.com".into(), "gpu".into()));
    dirs.write("etc/2.yaml", spec("b.com/net", "x", &["0"])).write("run/3.yaml", spec("a.com/gpu", "x", &["0"]));
    dirs.write("run/4.yaml", spec("a.com/net", "x", &["0"]));
    assert_eq!(told(&dirs), ("a.com b.com".into(), "gpu net".into()));
}

// Bad files

#[test]
fn a_bad_file_costs_its_own_devices_and_says_where_it_is_bad() {
    let dirs = Dirs::new();
    dirs.write("etc/good.yaml", gpus(&["0"])).write("run/too.json", spec("vendor.com/net", "x", &["1"]));
    let nothing = "containerEdits: {env: [A=b]}";
    let bad_device = |device: &str| format!("cdiVersion: 0.3.0\nkind: vendor.com/bad\ndevices:\n{device}").into_bytes();
    let device = format!("- {{name: a, {nothing}}}\n");
    let bad: [(&str, Vec<u8>); 11] = [
        (
            "1.yaml:4:43: devices[0]: unknown field `extra`, expected one of `name`, `annotations`, `containerEdits`",
            bad_device(&format!("- {{name: a, {nothing}, extra: 1}}\n")),
        ),
        (
            "2.yaml:4:9: devices[0].name: invalid type: sequence, expected a string",
            bad_device(&format!("- name: [a]\n  {nothing}\n")),
        ),
        ("3.yaml:4:13: devices[0]: duplicate key `name`", bad_device(&format!("- {{name: a, name: b, {nothing}}}\n"))),
        (
            "4.yaml: cdiVersion: unknown CDI version `0.0.0`",
            format!("cdiVersion: 0.0.0\nkind: a/b\ndevices:\n{device}").into(),
        ),
        ("5.yaml: cdiVersion: is missing", format!("kind: a/b\ndevices:\n{device}").into()),
        ("6.yaml: devices: must list at least one device", "cdiVersion: 0.3.0\nkind: a/b\n".into()),
        ("7.yaml: devices[1].name: `a` is already that of devices[0]", bad_device(&device.repeat(2))),
        ("8.yaml: there is no CDI spec in it", Vec::new()),
        ("9.yaml:2:7: not UTF-8", b"cdiVersion: 0.3.0\nkind: \xff\n".into()),
        ("a.yaml:1:65: lists and maps in brackets nest deeper than 64", "[".repeat(100_000).into()),
        ("b.json:1:15: cdiVersion: EOF while parsing a value", "{\"cdiVersion\": ".into()),
    ];
    for (problem, text) in &bad {
        let (name, _) = problem.split_once(':').unwrap();
        dirs.write(&format!("etc/{name}"), text);
    }
    assert_eq!(names(&dirs.devices()), ["vendor.com/gpu=0", "vendor.com/net=1"]);
    assert_eq!(dirs.problems(), bad.map(|(problem, _)| format!("etc/{problem}")));
}

#[test]
fn spec_parser_limits() {
    let dirs = Dirs::new();
    let mut bomb = "x0: &x0 [A=b]\n".to_owned();
    for level in 1..40 {
        let below = format!("*x{}, ", level - 1).repeat(9);
        bomb += &format!("x{level}: &x{level} [{below}]\n");
    }
    dirs.write("etc/good.yaml", gpus(&["0"])).write("run/bomb.yaml", bomb);
    // Known fields only, and no nesting: one long text, many times.
    let long = "x".repeat(1 << 19);
    let aliases = ", *long".repeat(4000);
    let devices = format!("- {{name: a, containerEdits: {{env: [&long 'A={long}'{aliases}]}}}}");
    dirs.write("run/long.yaml", format!("cdiVersion: 0.3.0\nkind: vendor.com/gpu\ndevices:\n{devices}\n"));
    assert_eq!(names(&dirs.devices()), ["vendor.com/gpu=0"]);
    let problems = dirs.problems();
    assert!(problems[0].starts_with("run/bomb.yaml"));
    assert!(problems[1].contains("bytes of memory, aliases written out"), "{}", problems[1]);
}

#[test]
fn what_engines_read_is_read() {
    // Rules that the standard states and no engine enforces: `validate` tells them.
    let dirs = Dirs::new();
    let text = "cdiVersion: 0.6.0\nkind: vendor.com/gpu\nannotations: {'-a b': x}\ndevices:\n- name: a\n  containerEdits:\n    \
                hooks: [{hookName: prestart, path: relative, timeout: 0}]\n";
    dirs.write("etc/a.yaml", text);
    assert_eq!(names(&dirs.devices()), ["vendor.com/gpu=a"]);
    assert_eq!(dirs.problems(), [""; 0]);
}

#[test]
fn what_is_no_file_is_a_problem_and_is_not_waited_for() {
    let dirs = Dirs::new();
    dirs.write("etc/good.yaml", gpus(&["0"]));
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, dirs.path("etc/fifo.yaml"), fifo, mode, 0).unwrap();
    let _socket = UnixListener::bind(dirs.path("etc/socket.json")).unwrap();
    symlink("/dev/zero", dirs.path("etc/zero.yaml")).unwrap();
    symlink("fifo.yaml", dirs.path("run/fifo.yaml")).ok();
    symlink("dangling", dirs.path("etc/dangling.yaml")).unwrap();
    symlink("loop.yaml", dirs.path("etc/loop.yaml")).unwrap();
    assert_eq!(names(&dirs.devices()), ["vendor.com/gpu=0"]);
    let mut problems = dirs.problems();
    problems.sort();
    let expected = [
        "etc/dangling.yaml: cannot read the file: No such file or directory (os error 2)",
        "etc/fifo.yaml: not a regular file",
        "etc/loop.yaml: cannot read the file: Too many levels of symbolic links (os error 40)",
        "etc/socket.json: not a regular file",
        "etc/zero.yaml: not a regular file",
        "run/fifo.yaml: cannot read the file: Too many levels of symbolic links (os error 40)",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn a_file_that_is_too_long_is_not_read() {
    let dirs = Dirs::new();
    dirs.write("etc/good.yaml", gpus(&["0"]));
    fs::File::create(dirs.path("etc/long.yaml")).unwrap().set_len(100 << 20).unwrap();
    assert_eq!(names(&dirs.devices()), ["vendor.com/gpu=0"]);
    assert_eq!(dirs.problems(), ["etc/long.yaml: more than the limit of 4194304 bytes"]);
}

#[test]
fn a_hundred_thousand_devices_are_found() {
    let dirs = Dirs::new();
    let all: Vec<String> = (0..100_000).map(|index| format!("gpu{index}")).collect();
    // A file of more than some 10,000 is refused: no host has them.
    for (number, part) in all.chunks(10_000).enumerate() {
        dirs.write(&format!("etc/{number}.yaml"), gpus(&part.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    let registry = dirs.registry();
    assert_eq!((registry.devices().count(), registry.problems().len()), (100_000, 0));
    assert_eq!(env(&registry, "vendor.com/gpu=gpu99999"), ["COMMON=x", "gpu99999=x"]);
}

// Priorities and conflicts

#[test]
fn the_later_directory_wins_device_by_device() {
    let dirs = Dirs::new();
    dirs.write("etc/v.yaml", spec("vendor.com/gpu", "etc", &["1", "2"]));
    dirs.write("run/v.yaml", spec("vendor.com/gpu", "run", &["1", "3"]));
    let expected = [("1", "run/v.yaml"), ("2", "etc/v.yaml"), ("3", "run/v.yaml")];
    let expected = expected.map(|(device, file)| (format!("vendor.com/gpu={device}"), file.to_owned()));
    assert_eq!(dirs.devices(), BTreeMap::from(expected));
    assert_eq!(dirs.problems(), [""; 0]);
    assert_eq!(env(&dirs.registry(), "vendor.com/gpu=1"), ["COMMON=run", "1=run"]);
}

#[test]
fn spec_conflict_reported() {
    let dirs = Dirs::new();
    dirs.write("etc/a.yaml", gpus(&["1", "2"])).write("etc/b.yaml", gpus(&["1", "3"]));
    assert_eq!(names(&dirs.devices()), ["vendor.com/gpu=2", "vendor.com/gpu=3"]);
    let problems = dirs.problems();
    assert_eq!(problems.len(), 2);
    assert_eq!(problems[0], "etc/a.yaml: vendor.com/gpu=1 is defined in etc/b.yaml too: not used");
    assert_eq!(problems[1], "etc/b.yaml: vendor.com/gpu=1 is defined in etc/a.yaml too: not used");
    let error = resolve(&dirs.registry(), &requests("vendor.com/gpu=1")).unwrap_err();
    assert!(matches!(&error.requests[0].why, Missing::Conflict(paths) if paths.len() == 2));
    assert!(error.to_string().contains("remove all but one"), "{error}");
}

/// The reference removes a device for good once it has seen a conflict, so a conflict below the file that counts makes
/// the device unresolvable there.
#[test]
fn difference_a_conflict_below_the_priority_that_counts_does_not_matter() {
    let dirs = Dirs::new();
    dirs.write("etc/a.yaml", gpus(&["1"])).write("etc/b.yaml", gpus(&["1"]));
    dirs.write("run/c.yaml", spec("vendor.com/gpu", "run", &["1"]));
    assert_eq!(env(&dirs.registry(), "vendor.com/gpu=1"), ["COMMON=run", "1=run"]);
    assert_eq!(dirs.problems(), [""; 0]);
}

/// The reference stops at it, and reads none of the directories that take precedence.
#[test]
fn difference_a_directory_that_cannot_be_read_hides_no_other() {
    let dirs = Dirs::named(&["a", "b", "c", "d"]);
    dirs.write("a/a.yaml", gpus(&["a"])).write("d/d.yaml", gpus(&["d"]));
    fs::remove_dir(dirs.path("b")).unwrap();
    dirs.write("b", "a file");
    fs::remove_dir(dirs.path("c")).unwrap();
    symlink("c", dirs.path("c")).unwrap();
    assert_eq!(names(&dirs.devices()), ["vendor.com/gpu=a", "vendor.com/gpu=d"]);
    let expected = [
        "b: cannot read the directory: Not a directory (os error 20)",
        "c: cannot read the directory: Too many levels of symbolic links (os error 40)",
    ];
    assert_eq!(dirs.problems(), expected);
}

#[test]
fn what_is_read_anew_is_as_the_directories_are_then() {
    let dirs = Dirs::new();
    let mut seen = Vec::new();
    let mut look = |dirs: &Dirs| {
        let found: Vec<String> =
            dirs.devices().into_iter().map(|(name, file)| format!("{} {file}", &name[15..])).collect();
        seen.push(found.join(", "));
    };
    look(&dirs);
    look(dirs.write("etc/a.yaml", gpus(&["1"])));
    look(dirs.write("etc/b.yaml", gpus(&["2"])));
    look(dirs.write("run/a.yaml", gpus(&["1"])));
    look(dirs.write("run/b.yaml", gpus(&["1", "3"])));
    fs::remove_file(dirs.path("run/a.yaml")).unwrap();
    look(&dirs);
    fs::remove_dir_all(dirs.path("etc")).unwrap();
    look(&dirs);
    let expected = [
        "",
        "1 etc/a.yaml",
        "1 etc/a.yaml, 2 etc/b.yaml",
        "1 run/a.yaml, 2 etc/b.yaml",
        "2 etc/b.yaml, 3 run/b.yaml",
        "1 run/b.yaml, 2 etc/b.yaml, 3 run/b.yaml",
        "1 run/b.yaml, 3 run/b.yaml",
    ];
    assert_eq!(seen, expected);
}

/// Files and their directory come and go while others read: each sees a whole file or none, and no reading fails.
#[test]
fn specs_may_change_while_they_are_read() {
    let dirs = Dirs::new();
    let words = ["one", "two", "three"];
    dirs.write("etc/a.yaml", spec("vendor.com/gpu", "one", &["0"]));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..300 {
                let run = dirs.path("run");
                fs::create_dir_all(&run).unwrap();
                fs::write(run.join("new"), spec("vendor.com/gpu", words[round % 3], &["0"])).unwrap();
                fs::rename(run.join("new"), run.join("a.yaml")).unwrap();
                if round % 10 == 9 {
                    fs::remove_dir_all(&run).unwrap();
                }
            }
            ended.store(true, Ordering::Relaxed);
        });
        while !ended.load(Ordering::Relaxed) {
            let registry = dirs.registry();
            let env = env(&registry, "vendor.com/gpu=0");
            let word = env[0].strip_prefix("COMMON=").unwrap();
            assert!(words.contains(&word) && env[1] == format!("0={word}"), "{env:?}");
            assert_eq!(registry.problems(), []);
        }
    });
}

#[test]
fn looking_up_reads_only_what_may_define_the_kind() {
    let dirs = Dirs::new();
    dirs.write("etc/a.yaml", gpus(&["a"])).write("etc/b.yaml", spec("vendor.com/net", "x", &["b"]));
    dirs.write("run/c.yaml", gpus(&["c"]).replace("vendor.com/gpu", "\"vendor.com/\\x67pu\""));
    dirs.write("run/d.json", r#"{"cdiVersion": "0.3.0", "kind": "vendor.com\/gpu", "devices": [{"name": "d", "containerEdits": {"env": ["A=b"]}}]}"#);
    dirs.write("run/e.yaml", gpus(&["e"]).replace("kind: vendor.com/gpu", "kind: >-\n  vendor.com/gpu"));
    dirs.write("run/bad.yaml", "vendor.com/gpu").write("run/other.yaml", "bad");
    let texts = dirs.spec_dirs().read();
    let registry = Registry::of_kinds(&texts, &["vendor.com/gpu".into()]);
    let devices: Vec<String> = registry.devices().map(|(name, _)| name).collect();
    assert_eq!(devices, ["a", "c", "d", "e"].map(|name| format!("vendor.com/gpu={name}")));
    assert_eq!(registry.problems().len(), 1);
    assert_eq!(Registry::new(&texts).problems().len(), 2);
}

// Trust

#[test]
fn spec_dir_perms() {
    if !is_root() {
        return;
    }
    let refused = |spoil: &dyn Fn(&Dirs)| {
        let dirs = Dirs::new();
        dirs.write("etc/a.yaml", gpus(&["a"])).write("run/b.yaml", gpus(&["b"]));
        spoil(&dirs);
        let insecure = Registry::new(&dirs.spec_dirs().insecure().read());
        assert_eq!(insecure.devices().count(), 2);
        let devices: Vec<String> = names(&dirs.devices()).iter().map(|name| name[15..].to_owned()).collect();
        (devices.join(" "), dirs.problems().join("\n"))
    };
    let mode = |path: PathBuf, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let why = "; not used, since root must be able to rely on it (--insecure-spec-dirs uses it all the same)";
    let told = |left: &str, problem: &str| (left.to_owned(), format!("{problem}{why}"));
    assert_eq!(refused(&|dirs| mode(dirs.path("etc/a.yaml"), 0o646)), told("b", "etc/a.yaml: everybody can change it"));
    assert_eq!(refused(&|dirs| mode(dirs.path("run"), 0o757)), told("a", "run: everybody can change it"));
    assert_eq!(refused(&|dirs| mode(dirs.path("run"), 0o1777)), told("a", "run: everybody can change it"));
    let give = |path: PathBuf, uid, gid| chown(path, Some(uid), Some(gid)).unwrap();
    assert_eq!(
        refused(&|dirs| give(dirs.path("run/b.yaml"), 1234, 0)),
        told("a", "run/b.yaml: user 1234 can change it")
    );
    let group = |dirs: &Dirs| {
        give(dirs.path("run/b.yaml"), 0, 1234);
        mode(dirs.path("run/b.yaml"), 0o664);
    };
    assert_eq!(refused(&group), told("a", "run/b.yaml: group 1234 can change it"));
    // Where a link leads, and what the directory stands in, count too.
    let link = |dirs: &Dirs| {
        let other = dirs.path("other");
        fs::create_dir(&other).unwrap();
        fs::rename(dirs.path("run/b.yaml"), other.join("b.yaml")).unwrap();
        symlink(other.join("b.yaml"), dirs.path("run/b.yaml")).unwrap();
        mode(other, 0o777);
    };
    let (left, problem) = refused(&link);
    assert!(left == "a" && problem.starts_with("run/b.yaml: everybody can change "), "{left} {problem}");
    // So does a link in between, which somebody may make lead elsewhere.
    let link_in_between = |dirs: &Dirs| {
        fs::rename(dirs.path("run/b.yaml"), dirs.path("b.yaml")).unwrap();
        symlink(dirs.path("b.yaml"), dirs.path("between")).unwrap();
        std::os::unix::fs::lchown(dirs.path("between"), Some(1234), None).unwrap();
        symlink("../between", dirs.path("run/b.yaml")).unwrap();
    };
    let (left, problem) = refused(&link_in_between);
    assert!(left == "a" && problem.starts_with("run/b.yaml: user 1234 can change between;"), "{left} {problem}");
    let above = |dirs: &Dirs| mode(dirs.dir.path().to_owned(), 0o777);
    let (left, problem) = refused(&above);
    assert!(left.is_empty() && problem.lines().count() == 2, "{left} {problem}");
    // Root's group may write what root's group owns.
    assert_eq!(refused(&|dirs| mode(dirs.path("run"), 0o775)), ("a b".to_owned(), String::new()));
}

/// An access control list: user and group of the file as its mode says, and one user with these rights.
fn acl_of(user: u32, rights: u16, mask: u16) -> Vec<u8> {
    let none = u32::MAX;
    let entries = [(0x01_u16, 6_u16, none), (0x02, rights, user), (0x04, 4, none), (0x10, mask, none), (0x20, 4, none)];
    let bytes = entries
        .iter()
        .flat_map(|(tag, rights, id)| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
    2_u32.to_le_bytes().into_iter().chain(bytes).collect()
}

#[test]
fn an_access_control_list_names_who_can_change_a_spec() {
    if !is_root() {
        return;
    }
    let told = |acl: &[u8]| {
        let dirs = Dirs::new();
        dirs.write("etc/a.yaml", gpus(&["a"]));
        let flags = rustix::fs::XattrFlags::empty();
        // Where the file system keeps none, the rule's own tests stand alone.
        rustix::fs::setxattr(dirs.path("etc/a.yaml"), "system.posix_acl_access", acl, flags).ok()?;
        Some(dirs.problems().join("\n"))
    };
    let Some(problem) = told(&acl_of(1234, 6, 6)) else { return };
    assert!(problem.starts_with("etc/a.yaml: user 1234 can change it;"), "{problem}");
    // It names somebody who may read, or whom the mask does not let write: though the mode says `rw` for the group.
    assert_eq!(told(&acl_of(1234, 4, 6)).unwrap(), "");
    assert_eq!(told(&acl_of(1234, 6, 4)).unwrap(), "");
}

/// `cdi-apply list` as the root of a user namespace that knows no other user.
fn list_in_a_user_namespace(dir: &Path) -> Option<String> {
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--user", "--map-root-user", env!("CARGO_BIN_EXE_cdi-apply"), "list", "--spec-dir"]).arg(dir);
    let output = unshare.output().ok()?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (!text.starts_with("unshare:")).then_some(text)
}

/// There, each user of the host's shows under one number, and so does the host's root.
#[test]
fn the_root_of_a_user_namespace_relies_on_no_other_user() {
    if !is_root() {
        return;
    }
    let dirs = Dirs::new();
    dirs.write("etc/a.yaml", gpus(&["a"])).write("etc/b.yaml", gpus(&["b"]));
    let Some(text) = list_in_a_user_namespace(&dirs.path("etc")) else { return };
    assert!(text.contains("vendor.com/gpu=a") && text.contains("vendor.com/gpu=b"), "{text}");
    chown(dirs.path("etc/b.yaml"), Some(1234), None).unwrap();
    fs::create_dir(dirs.path("etc/other")).unwrap();
    let text = list_in_a_user_namespace(&dirs.path("etc")).unwrap();
    assert!(text.contains("vendor.com/gpu=a") && text.contains("user 65534 can change it"), "{text}");
    assert!(!text.contains("vendor.com/gpu=b"), "{text}");
}

// Resolving

#[test]
fn common_edits_come_once_before_the_first_device_of_their_spec() {
    let dirs = Dirs::new();
    let spec = |kind: &str, common: &str, devices: [(&str, &str); 2]| {
        let [first, second] =
            devices.map(|(name, env)| format!("- {{name: {name}, containerEdits: {{env: [{env}]}}}}\n"));
        format!("cdiVersion: 0.3.0\nkind: {kind}\ncontainerEdits: {{env: [{common}]}}\ndevices:\n{first}{second}")
    };
    dirs.write("etc/g.yaml", spec("v.com/g", "'O=gx', 'G=x'", [("d", "'O=dx', 'P=dx'"), ("e", "'O=ex'")]));
    dirs.write("etc/f.yaml", spec("v.com/f", "'O=gy', 'G=y'", [("d", "'O=dy', 'P=dy'"), ("f", "'O=fy', 'P=fy'")]));
    let registry = dirs.registry();
    let asked = requests("v.com/g=d,v.com/f=d,v.com/f=f");
    let resolved = resolve(&registry, &asked).unwrap();
    let env = ["O=gx", "G=x", "O=dx", "P=dx", "O=gy", "G=y", "O=dy", "P=dy", "O=fy", "P=fy"];
    assert_eq!(resolved.merged().env, env);
    assert_eq!(resolved.devices(), ["v.com/g=d", "v.com/f=d", "v.com/f=f"]);
    let from: Vec<_> = resolved.parts.iter().map(|part| (dirs.short(part.file), part.device.is_none())).collect();
    let expected = [("g", true), ("g", false), ("f", true), ("f", false), ("f", false)];
    assert_eq!(from, expected.map(|(file, common)| (format!("etc/{file}.yaml"), common)));
    let mut config = json!({});
    inject(&mut config, &resolved.edits(), &HostNodes::default()).unwrap();
    assert_eq!(config["process"]["env"], json!(["O=fy", "G=y", "P=fy"]));
}

/// The reference injects it twice: hooks run twice then, and device rules pile up.
#[test]
fn difference_a_device_that_is_asked_for_twice_counts_once() {
    let dirs = Dirs::new();
    dirs.write("etc/a.yaml", gpus(&["0", "1"]));
    let registry = dirs.registry();
    let once = ["COMMON=x", "0=x", "1=x"];
    assert_eq!(env(&registry, "vendor.com/gpu=0,vendor.com/gpu=1,vendor.com/gpu=0"), once);
    assert_eq!(env(&registry, "vendor.com/gpu=0,vendor.com/gpu=*"), once);
}

#[test]
fn all_names_that_lead_nowhere_are_told_with_those_that_were_meant() {
    let dirs = Dirs::new();
    dirs.write("etc/a.yaml", gpus(&["0", "1", "all"])).write("run/bad.yaml", "bad");
    let registry = dirs.registry();
    let error: Unresolvable =
        resolve(&registry, &requests("vendor.com/gpu=0,vendor.com/gpu=7,a/b=c,vendor.com/gpo=all")).unwrap_err();
    let expected = "unresolvable CDI devices vendor.com/gpu=7 (did you mean vendor.com/gpu=0 or vendor.com/gpu=1 or \
                    vendor.com/gpu=all?), a/b=c, vendor.com/gpo=all (did you mean vendor.com/gpu=all?)";
    let near = |index: usize| error.requests[index].near.first().cloned();
    assert_eq!(near(0).as_deref(), Some("vendor.com/gpu=0"));
    assert_eq!(near(1), None);
    assert_eq!(near(2).as_deref(), Some("vendor.com/gpu=all"));
    assert_eq!(error.to_string().split(" (").next(), expected.split(" (").next());
    let problems: Vec<&Path> = error.problems.iter().map(|problem: &Problem| problem.path.as_path()).collect();
    assert_eq!(problems, [dirs.path("run/bad.yaml")]);
}

#[test]
fn patterns_fit_names_in_their_order() {
    let dirs = Dirs::new();
    dirs.write("etc/a.yaml", gpus(&["1", "0", "all"])).write("etc/b.yaml", spec("other.com/gpu", "y", &["0"]));
    let registry = dirs.registry();
    let fitting = |pattern: &str| resolve(&registry, &requests(pattern)).unwrap().devices().join(" ");
    assert_eq!(fitting("vendor.com/gpu=*"), "vendor.com/gpu=0 vendor.com/gpu=1 vendor.com/gpu=all");
    assert_eq!(fitting("vendor.com/gpu=?"), "vendor.com/gpu=0 vendor.com/gpu=1");
    assert_eq!(fitting("vendor.com/gpu=[!0]*"), "vendor.com/gpu=1 vendor.com/gpu=all");
    assert_eq!(fitting("vendor.com/gpu=[^0]*"), "vendor.com/gpu=1 vendor.com/gpu=all");
    assert_eq!(fitting("*/gpu=0"), "other.com/gpu=0 vendor.com/gpu=0");
    // One star is not all: it ends at a slash.
    assert!(resolve(&registry, &requests("*=0")).is_err());
}

/// The reference's command injects nothing then, and says that it did.
#[test]
fn difference_a_pattern_that_fits_nothing_is_an_error() {
    let dirs = Dirs::new();
    dirs.write("etc/a.yaml", gpus(&["0"]));
    let error = resolve(&dirs.registry(), &requests("vendor.com/net=*")).unwrap_err();
    assert_eq!(error.requests[0].request, "vendor.com/net=*");
}

/// The reference writes what it learns of a node into its cache, and injects the old numbers for as long as it lives.
#[test]
fn difference_an_injection_changes_no_registry() {
    let dirs = Dirs::new();
    let node =
        "cdiVersion: 0.3.0\nkind: v.com/g\ndevices:\n- {name: a, containerEdits: {deviceNodes: [{path: /dev/x}]}}\n";
    dirs.write("etc/a.yaml", node);
    let registry = dirs.registry();
    let before = registry.files().to_vec();
    for minor in [3, 5] {
        let host_node = HostNode { kind: 'c', major: 1, minor, mode: 0o666 };
        let host = HostNodes { nodes: [("/dev/x".to_owned(), host_node)].into(), drivers: Vec::new() };
        let edits = resolve(&registry, &requests("v.com/g=a")).unwrap().edits();
        let mut config = json!({});
        inject(&mut config, &edits, &host).unwrap();
        assert_eq!(config["linux"]["devices"][0]["minor"], minor);
    }
    assert_eq!(registry.files(), before);
}
