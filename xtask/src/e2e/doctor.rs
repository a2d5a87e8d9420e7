//! Doctor: one thing after another is broken, a real engine refuses the container, and `cdi-gen doctor` says why. I/O.
#![expect(clippy::disallowed_methods, reason = "breaks a host, and mends it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cdi_gen::targets::Release;
use serde_json::Value;

use super::case::elapsed;
use super::engine::{Asks, Engine, Job, Plan, User};
use super::files::{make_dirs, mount_tmpfs, read, write};
use super::fixture::{SPEC, program};
use super::place::USER;
use super::{one_line, outcome::Row};
use crate::build;

/// podman reads its own list of directories from this release on.
const OWN_DIRS: Release = Release(5, 5, 0);
/// What a container asks for.
const ALL: &str = "nvidia.com/gpu=all";
/// A second file in the same directory, and one in a later one.
const SECOND: &str = "/etc/cdi/second.yaml";
const LATER: &str = "/var/run/cdi/nvidia.yaml";
const NODE: &str = "/dev/nvidia-uvm";
/// Where docker's own configuration is; the daemon under test has another.
const DOCKER: &str = "/etc/docker";
/// The Debian release whose docker looks at specs only if it is told to.
const LOOKS_IF_ASKED: &str = "trixie";
const CDI_ON: &str = "{\"features\": {\"cdi\": true}}";
/// docker looks at the directories when the kernel tells it to, or a moment later.
const MOMENT: Duration = Duration::from_millis(300);

/// Something that is wrong: the code by which the doctor names it, and how to bring it about.
type Cause = (&'static str, fn(&Broken) -> anyhow::Result<()>);
const CAUSES: [Cause; 9] = [
    ("no-spec", |host| host.change(|_| None)),
    ("malformed", |host| host.change(|text| Some(text.replace("\ndevices:", "\ndevicez:")))),
    ("too-new", |host| host.change(|text| Some(text.replacen("\ncdiVersion: 0.5.0", "\ncdiVersion: 1.1.0", 1)))),
    ("conflict", |host| write(Path::new(SECOND), &host.spec)),
    ("wrong-name", |host| host.change(|_| None).and_then(|()| write(Path::new("/etc/cdi/nvidia.yml"), &host.spec))),
    ("stale", |host| host.change(|text| Some(text.replace(&host.version, "470.1")))),
    ("shadowed", |host| write(Path::new(LATER), &host.spec.replace(&host.version, "470.1"))),
    ("no-hook", |host| host.generate(&["--hooks", "always", "--hook-path", "/usr/bin/no-such-hook"])),
    ("missing-node", |_| fs::remove_file(NODE).with_context(|| format!("cannot remove {NODE}"))),
];
/// What only users without root see.
const UNREADABLE: Cause =
    ("unreadable", |_| fs::set_permissions(SPEC, fs::Permissions::from_mode(0o600)).context("cannot set permissions"));

/// A host that is broken, and mended when dropped.
struct Broken {
    work: PathBuf,
    spec: String,
    version: String,
}

impl Broken {
    fn change(&self, change: impl FnOnce(&str) -> Option<String>) -> anyhow::Result<()> {
        match change(&self.spec) {
            Some(text) => write(Path::new(SPEC), &text),
            None => fs::remove_file(SPEC).context("cannot remove the spec"),
        }
    }

    fn generate(&self, words: &[&str]) -> anyhow::Result<()> {
        let mut generate = Command::new(program(&self.work, "cdi-gen"));
        build::run(generate.args(["generate", "--quiet", "--output", SPEC]).args(words))
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        for file in [SECOND, LATER, "/etc/cdi/nvidia.yml"] {
            let _ = fs::remove_file(file);
        }
        let mended = write(Path::new(SPEC), &self.spec).and_then(|()| {
            fs::set_permissions(SPEC, fs::Permissions::from_mode(0o644)).context("cannot set permissions")
        });
        if let Err(error) = mended {
            eprintln!("the host stays broken: {error:#}");
        }
        if !Path::new(NODE).exists() {
            let _ = build::run(Command::new("mknod").args(["-m", "666", NODE, "c", "238", "0"]));
        }
    }
}

/// A row for each cause; none where the engine is not asked by the name of a device.
pub fn rows(plan: &Plan, engine: &dyn Engine, host: &super::fixture::Host, work: &Path) -> anyhow::Result<Vec<Row>> {
    let target = plan.target(&engine.version()?);
    let is_known = target.starts_with("podman") || target.starts_with("docker");
    if plan.asks != Asks::Engine || !is_known || host.real || plan.builds() {
        return Ok(Vec::new());
    }
    // A box has all engines.
    let in_box = plan.place.release().is_some();
    if in_box || target.starts_with("docker") {
        make_dirs(Path::new(DOCKER))?;
        mount_tmpfs(Path::new(DOCKER), "755")?;
        write(&Path::new(DOCKER).join("daemon.json"), CDI_ON)?;
    }
    let runtime = plan.runtimes.first().context("an engine has a runtime")?;
    let trial = Trial { plan, engine, runtime, target: &target, work };
    let mut rows = vec![trial.row("healthy", || trial.healthy())?];
    if in_box {
        let all = Trial { target: "auto", ..trial };
        rows.push(all.row("healthy, all engines", || all.healthy())?);
        fs::remove_file(Path::new(DOCKER).join("daemon.json")).context("cannot remove docker's configuration")?;
        // That of later releases looks unasked.
        let expected: &[&str] = if plan.place.release() == Some(LOOKS_IF_ASKED) { &["cdi-off"] } else { &[] };
        rows.push(all.row("cdi-off", || {
            let found = all.found()?;
            ensure!(found == expected, "the doctor finds {found:?}");
            Ok(format!("ok, {}", if expected.is_empty() { "on by itself" } else { "named" }))
        })?);
        write(&Path::new(DOCKER).join("daemon.json"), CDI_ON)?;
    }
    let unreadable = [UNREADABLE].into_iter().filter(|_| plan.user == User::Plain);
    for (code, plant) in CAUSES.into_iter().chain(unreadable) {
        let broken = Broken { work: work.to_owned(), spec: read(Path::new(SPEC))?, version: host.version.clone() };
        plant(&broken)?;
        rows.push(trial.row(code, || trial.broken(code))?);
    }
    rows.push(trial.row("healthy again", || trial.healthy())?);
    if plan.user == User::Plain && trial.has_own_dirs() {
        let broken = Broken { work: work.to_owned(), spec: read(Path::new(SPEC))?, version: host.version.clone() };
        broken.change(|_| None)?;
        rows.push(trial.row("a user's own spec", || trial.own_spec())?);
    }
    Ok(rows)
}

/// One engine, and how to ask for its doctor.
struct Trial<'a> {
    plan: &'a Plan,
    engine: &'a dyn Engine,
    runtime: &'a str,
    target: &'a str,
    work: &'a Path,
}

impl Trial<'_> {
    fn row(&self, name: &str, judge: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<Row> {
        let started = Instant::now();
        let result = judge().map_err(|error| one_line(&format!("{error:#}")));
        Ok(Row {
            engine: self.plan.name.to_owned(),
            version: self.engine.version()?,
            runtime: self.runtime.to_owned(),
            case: format!("doctor: {name}"),
            result,
            milliseconds: elapsed(started),
        })
    }

    /// Whether a container that asks for all GPUs starts, and what the engine says if not.
    fn starts(&self) -> anyhow::Result<Result<(), String>> {
        sleep(MOMENT);
        let (devices, command) = ([ALL.to_owned()], ["env".to_owned()]);
        let output = self.engine.run(self.runtime, &Job { devices: &devices, command: &command, extras: None })?;
        let words = String::from_utf8_lossy(&output.stderr);
        Ok(if output.status.success() { Ok(()) } else { Err(one_line(&words)) })
    }

    /// podman 5.5 and later look where their configuration says.
    fn has_own_dirs(&self) -> bool {
        let release = self.target.trim_start_matches("podman=").parse::<Release>();
        release.is_ok_and(|release| release >= OWN_DIRS)
    }

    /// A user without root makes a spec in their own directory, by the command of the unit for users, and podman uses it.
    fn own_spec(&self) -> anyhow::Result<String> {
        let dir = format!("/run/user/{}/cdi", USER.1);
        let file = self.work.join(self.plan.name).join("containers.conf");
        let usual = read(&file)?;
        write(&file, &usual.replace("[engine]\n", &format!("[engine]\ncdi_spec_dirs = [\"{dir}\"]\n")))?;
        let user = |words: &[&str]| {
            let id = USER.1.to_string();
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &id, "--regid", &id, "--init-groups", "env", "-i"]);
            command.arg(format!("CONTAINERS_CONF={}", file.display()));
            command.arg(program(self.work, "cdi-gen")).args(words);
            command
        };
        build::run(&mut user(&["refresh", "--quiet", "--output", &format!("{dir}/nvidia.yaml")]))?;
        let starts = self.starts()?;
        let found = codes(&mut user(&["doctor", "--json", "--target", self.target, ALL]));
        write(&file, &usual)?;
        starts.map_err(|words| anyhow::anyhow!("no container starts: {words}"))?;
        let found = found?;
        ensure!(found.is_empty(), "the user's doctor finds {found:?}");
        Ok("ok, nothing found".to_owned())
    }

    /// Codes of what root's doctor finds, but for notes.
    fn found(&self) -> anyhow::Result<Vec<String>> {
        let mut doctor = Command::new(program(self.work, "cdi-gen"));
        codes(doctor.args(["doctor", "--json", "--target", self.target, ALL]))
    }

    fn healthy(&self) -> anyhow::Result<String> {
        let (starts, found) = (self.starts()?, self.found()?);
        ensure!(found.is_empty(), "the doctor finds {found:?}");
        starts.map_err(|words| anyhow::anyhow!("no container starts: {words}"))?;
        Ok("ok, nothing found".to_owned())
    }

    fn broken(&self, code: &str) -> anyhow::Result<String> {
        let (starts, found) = (self.starts()?, self.found()?);
        ensure!(found.iter().any(|found| found == code), "the doctor finds {found:?}");
        ensure!(starts.is_err(), "a container starts all the same");
        Ok("ok, refused and named".to_owned())
    }
}

/// Codes of what a doctor finds, but for notes.
fn codes(doctor: &mut Command) -> anyhow::Result<Vec<String>> {
    let output = doctor.output().context("cannot run cdi-gen")?;
    let answer: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("the doctor does not answer: {}", String::from_utf8_lossy(&output.stderr)))?;
    let findings = answer.get("findings").and_then(Value::as_array).context("no findings")?;
    let text = |finding: &Value, key: &str| finding.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let serious = findings.iter().filter(|finding| text(finding, "severity") != "note");
    Ok(serious.map(|finding| text(finding, "code")).collect())
}
