//! `cargo xtask e2e`: the spec that `cdi-gen generate` writes, used by real container engines. I/O.
//!
//! Each engine runs in mount and process namespaces of its own, on this machine or in a *box*: a folder with another
//! Debian release in it, for engines that are newer than the machine's. Where there is no GPU a driver stands at its real
//! paths: libraries that can be loaded, `/proc/driver/nvidia` of a live H100 host, device nodes without a driver behind
//! them. The container is Debian's libc and busybox, with no SONAME link and no ld.so.cache entry for the driver: what
//! `gpu-check` finds in it came through the spec. Runs on Debian and its kin, as root.
#![expect(clippy::disallowed_methods, reason = "runs container engines")]

pub mod bundle;
mod case;
mod containerd;
mod docker;
mod doctor;
mod engine;
pub mod files;
pub mod fixture;
mod outcome;
pub mod place;
mod podman;
mod volumes;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::build;
use engine::{Engine, Plan};
use fixture::Host;
use outcome::Row;
use place::Footprint;

/// Namespaces of an engine's own: what it mounts and what it starts ends with it, were it a hook that hangs.
const UNSHARE: [&str; 7] =
    ["--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
/// Leads the names of the temporary directory and of the cgroup.
const PREFIX: &str = "cdi-e2e-";
/// Where the inner run writes its rows, in the work directory.
const ROWS: &str = "rows";

/// Runs the test with the named engines, or with all; without root it says so and does nothing.
pub fn run(names: &[String]) -> anyhow::Result<()> {
    run_plans(&engine::selected(names)?)
}

/// Runs it with those engines that need no more than the packages of this machine's own release.
pub fn run_quick() -> anyhow::Result<()> {
    run_plans(&engine::quick())
}

fn run_plans(plans: &[&Plan]) -> anyhow::Result<()> {
    if !place::is_root()? {
        println!("e2e skipped: real engines are run as root");
        return Ok(());
    }
    place::install(plans)?;
    let footprint = Footprint::new(PREFIX)?;
    fixture::make(footprint.work())?;
    let mut rows = Vec::new();
    for plan in plans {
        println!("{} …", plan.name);
        files::write(&footprint.work().join(ROWS), "")?;
        let ended = run_apart(plan, footprint.work());
        rows.extend(outcome::read(&footprint.work().join(ROWS))?);
        if let Err(error) = ended {
            rows.push(Row::failed(plan.name, &format!("{error:#}")));
        }
    }
    println!("\n{}", outcome::table(&rows));
    outcome::report(&rows)
}

/// One engine, in its own namespaces.
fn run_apart(plan: &Plan, work: &Path) -> anyhow::Result<()> {
    let mut inside = Command::new("unshare");
    inside.args(UNSHARE).arg(fixture::program(work, "xtask")).args(["e2e", "--inside", plan.name]);
    let status = inside.env("TMPDIR", work).current_dir("/").status().context("cannot run unshare")?;
    ensure!(status.success(), "failed in its own namespaces: {status}");
    Ok(())
}

/// The test itself, in the namespaces that [`run`] made: nothing is unmounted here.
pub fn run_inside(names: &[String]) -> anyhow::Result<()> {
    let work = std::env::temp_dir();
    let name = work.file_name().and_then(OsStr::to_str).unwrap_or_default();
    ensure!(name.starts_with(PREFIX), "--inside is for `xtask e2e` to give, not for you");
    let rows = work.join(ROWS);
    for plan in engine::selected(names)? {
        place::enter(plan, &work)?;
        let host = Host::prepare(&work)?;
        let engine = plan.prepare(&work)?;
        host.generate_for(&plan.target(&engine.version()?))?;
        run_cases(plan, engine.as_ref(), &host, |row| outcome::append(&rows, row))?;
        let version = engine.version()?;
        for runtime in plan.runtimes {
            let more = volumes::rows(plan, &version, runtime, engine.as_ref(), &host, &work);
            more.iter().try_for_each(|row| outcome::append(&rows, row))?;
        }
        doctor::rows(plan, engine.as_ref(), &host, &work)?.iter().try_for_each(|row| outcome::append(&rows, row))?;
    }
    Ok(())
}

fn run_cases(
    plan: &Plan,
    engine: &dyn Engine,
    host: &Host,
    tell: impl Fn(&Row) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let version = engine.version()?;
    for runtime in plan.runtimes {
        for case in case::cases(plan, runtime, host) {
            tell(&case.row(plan, &version, runtime, engine, host))?;
        }
    }
    // Which versions an engine reads has nothing to do with the runtime.
    let runtime = plan.runtimes.first().context("an engine has a runtime")?;
    tell(&case::versions(plan, &version, runtime, engine, host))
}

/// Words on one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Installs packages of this machine's release, by name.
fn apt_get(arguments: &[&str], dir: &Path) -> anyhow::Result<()> {
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-o", "APT::Sandbox::User=root"]).args(arguments).current_dir(dir);
        build::output(command.env("DEBIAN_FRONTEND", "noninteractive")).map(|_printed| ())
    };
    // A second time, after an update, if the package lists were too old or not there.
    apt_get(arguments).or_else(|_error| apt_get(&["update"]).and_then(|()| apt_get(arguments)))
}
