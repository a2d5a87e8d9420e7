//! A fixture laid out for a test, and the program run on it.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of this")]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests set up files and stop at the first surprise"
)]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use cdi_gen::facts::nvml_report::{NvmlPolicy, NvmlQuery};
use cdi_gen::facts::{self, Hints};
use cdi_gen::to_spec::{self, Hooks, LoweringOptions};
use cdi_gen::{EditPlan, GenerateError, Host, PlanOptions, Problem, Tree};
use cdi_specs::{Spec, device_list};
use tempfile::TempDir;
use testdata::HostTree;

/// A host on disk.
pub struct LaidOut {
    dir: TempDir,
    pub driver_root: Utf8PathBuf,
}

impl LaidOut {
    pub fn new(tree: &HostTree, driver_root: &str) -> Self {
        let dir = TempDir::new().unwrap();
        tree.lay_out(&dir.path().join("root")).unwrap();
        std::fs::write(dir.path().join("nodes"), tree.device_list()).unwrap();
        Self { dir, driver_root: driver_root.into() }
    }

    pub fn named(name: &str) -> Self {
        Self::new(&testdata::host(name).tree, driver_root(name))
    }

    /// Where the host's `/` lies.
    pub fn root(&self) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.dir.path().join("root")).unwrap()
    }

    pub fn nodes(&self) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.dir.path().join("nodes")).unwrap()
    }

    /// A path outside the host.
    pub fn scratch(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.dir.path().join(name)).unwrap()
    }

    pub fn path(&self, path: &str) -> Utf8PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    pub fn host(&self, open: fn(&Utf8Path, Option<device_list::DeviceList>) -> std::io::Result<Tree>) -> Host {
        let nodes = device_list::parse(&std::fs::read_to_string(self.nodes()).unwrap()).unwrap();
        Host::new(open(&self.root(), Some(nodes)).unwrap(), &self.driver_root, None).unwrap()
    }

    /// The plan of the host, and all problems on the way.
    pub fn plan(&self) -> (Result<EditPlan, GenerateError>, Vec<Problem>) {
        self.plan_with(&Hints::default(), &PlanOptions::default())
    }

    pub fn plan_with(&self, hints: &Hints, options: &PlanOptions) -> (Result<EditPlan, GenerateError>, Vec<Problem>) {
        let never = NvmlQuery { policy: NvmlPolicy::Never, ..NvmlQuery::default() };
        let (facts, mut problems) = facts::read(&self.host(Tree::new), hints, &never);
        let plan = cdi_gen::plan(&facts, options, &mut problems);
        (plan, problems)
    }

    /// `cdi-gen` on this host, in a clean environment.
    pub fn command(&self, subcommand: &[&str]) -> Command {
        let mut command = cdi_gen();
        command.args(subcommand).args(["--root", self.root().as_str(), "--device-nodes", self.nodes().as_str()]);
        if self.driver_root != "/" {
            command.args(["--driver-root", self.driver_root.as_str()]);
        }
        command
    }

    pub fn run(&self, subcommand: &[&str]) -> Ran {
        Ran::new(&mut self.command(subcommand))
    }
}

/// The driver root that the host needs on the command line; only a driver container does.
pub fn driver_root(name: &str) -> &'static str {
    if name == "driver-container" { "/run/nvidia/driver" } else { "/" }
}

/// The program, with nothing in its environment but PATH.
pub fn cdi_gen() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cdi-gen"));
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command
}

/// What a run said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn new(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Asserts a part of what stderr says.
    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "stderr lacks `{part}`: {}", self.stderr);
        self
    }
}

pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Runs a program where a script has made an `/etc` of its own; nothing where the user may not mount one.
pub fn with_own_etc(script: &str, program: &Command) -> Option<Ran> {
    let script = format!("mount -t tmpfs -o mode=0755 tmpfs /etc || exit 77; {script}\nexec \"$@\"");
    let mut unshare = Command::new("unshare");
    unshare.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    unshare.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    unshare.args(if is_root() { &["--propagation", "private"] } else { &["--map-root-user"][..] });
    unshare.args(["--mount", "sh", "-e", "-c", &script, "sh"]).arg(program.get_program());
    let begin = Instant::now();
    let ran = Ran::new(unshare.args(program.get_args()));
    assert!(begin.elapsed() < Duration::from_secs(30), "{script}");
    let may_mount = ran.code != Some(77) && !ran.stderr.starts_with("unshare:");
    assert!(may_mount || !is_root(), "{ran:?}");
    may_mount.then_some(ran)
}

pub fn hook_free(plan: &EditPlan) -> Spec {
    to_spec::lower(plan, &LoweringOptions::default())
}

pub fn with_hooks(plan: &EditPlan) -> Spec {
    let hooks = Hooks::With { path: "/usr/bin/cdi-hook".into(), disabled: Default::default() };
    to_spec::lower(plan, &LoweringOptions { hooks, ..LoweringOptions::default() })
}

/// Problem lines, as a person reads them.
pub fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// The folder of a fixture.
pub fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/hosts").join(name)
}
