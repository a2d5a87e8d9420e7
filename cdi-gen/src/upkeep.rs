//! `cdi-gen check`, `diff`, `refresh` and `remove`: a spec on disk in the course of time. I/O.

use std::fs::File;
use std::io;

use anyhow::Context;
use camino::Utf8Path;
use cdi_files::dir::{Dir, Missing};
use cdi_files::{lock, open};
use cdi_gen::difference::{self, Change};
use cdi_gen::facts::driver::DriverFacts;
use cdi_gen::facts::{devices, driver};
use cdi_gen::freshness::{self, Named};
use cdi_gen::host_files;
use cdi_gen::tree::{Kind, Tree};
use cdi_gen::{GenerateError, Host, InventoryError, Problem, ownership};
use cdi_specs::Spec;
use rustix::fs::FlockOperation;

use crate::cli::{Check, Generate, Remove, Roots, Selection};
use crate::generate::{self, Attempt};
use crate::report::{Report, Voice};
use crate::{EXIT_FOREIGN, EXIT_MISSING, EXIT_NO_DRIVER, EXIT_STALE, open_host, print, specs_on_disk};

/// A spec on disk.
struct OnDisk {
    ours: bool,
    /// Whether nothing but this program can have made it.
    removable: bool,
    /// The spec, or what is wrong with the file.
    spec: Result<Spec, String>,
}

/// The file at a path; `None` if there is none. A link is none of ours, and in a directory of others it leads anywhere.
fn read(path: &Utf8Path) -> anyhow::Result<Option<OnDisk>> {
    let read = || {
        let dir = Dir::open(directory_of(path).as_std_path(), Missing::Error)?;
        open::all(dir.file(path.file_name().unwrap_or(".").as_ref())?, cdi_specs::MAX_TEXT_BYTES)
    };
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot read {path}"))),
    };
    let format = specs_on_disk::format_of(path);
    let spec = cdi_specs::parse(&bytes, format).map_err(|error| specs_on_disk::no_spec(&error));
    let removable = ownership::is_generated(&bytes, format);
    Ok(Some(OnDisk { ours: ownership::is_ours(&bytes, format), removable, spec }))
}

fn directory_of(path: &Utf8Path) -> &Utf8Path {
    path.parent().filter(|dir| !dir.as_str().is_empty()).unwrap_or(".".into())
}

/// What is to say about the file at a path.
enum State {
    /// No driver runs, and there is no file.
    NoDriver,
    /// No file.
    Missing,
    /// It is true.
    Fresh,
    /// It is not.
    Stale(String),
}

/// Looks at a spec on disk, without making another: a look at its paths, its nodes and the kernel's word for its driver.
fn state(on_disk: Option<&OnDisk>, host: &Host, selection: &Selection) -> State {
    let facts = driver::read(&host.system, &mut Vec::new());
    let Some(on_disk) = on_disk else { return if facts.loaded { State::Missing } else { State::NoDriver } };
    let spec = match &on_disk.spec {
        Ok(spec) => spec,
        Err(error) => return State::Stale(error.clone()),
    };
    // A spec that was made for some GPUs has no more to say.
    let all = selection.device_ids.is_empty();
    why_stale(spec, host, &facts, all).map_or(State::Fresh, State::Stale)
}

/// Why a spec is no longer true; `all` if it should have a device for each GPU.
pub fn why_stale(spec: &Spec, host: &Host, driver: &DriverFacts, all: bool) -> Option<String> {
    if !driver.loaded {
        return Some("no NVIDIA driver runs here".to_owned());
    }
    let wrong = |named: &Named<'_>| host_files::look(host, named);
    let node = |path: &Utf8Path| match host.system.kind(path) {
        Ok(Kind::Char(node)) => Some((node.major, node.minor)),
        _ => None,
    };
    let gpus = if all { devices::gpu_paths(host) } else { Vec::new() };
    freshness::stale_spec(spec, driver.version.as_ref(), &wrong, &node, &gpus).map(|stale| stale.to_string())
}

/// Whether the spec at a path is there, ours, and true.
pub fn is_fresh(path: &Utf8Path, roots: &Roots, selection: &Selection) -> anyhow::Result<bool> {
    let host = open_host(roots, Tree::new)?;
    let on_disk = read(path)?;
    let ours = on_disk.as_ref().is_some_and(|on_disk| on_disk.ours);
    Ok(ours && matches!(state(on_disk.as_ref(), &host, selection), State::Fresh))
}

/// Tells whether the spec on disk is still true.
pub fn check(arguments: &Check, voice: Voice) -> anyhow::Result<u8> {
    let path = &arguments.output;
    let host = open_host(&arguments.roots, Tree::new)?;
    let on_disk = read(path)?;
    let (code, outcome, words) = match state(on_disk.as_ref(), &host, &arguments.selection) {
        State::NoDriver => (EXIT_NO_DRIVER, "no-driver", "no NVIDIA driver runs here, and there is no spec".to_owned()),
        State::Missing => (EXIT_MISSING, "missing", "there is no spec (cdi-gen refresh)".to_owned()),
        State::Fresh => (0, "fresh", "fresh".to_owned()),
        State::Stale(why) => (EXIT_STALE, "stale", format!("stale: {why}")),
    };
    let foreign = on_disk.is_some_and(|on_disk| !on_disk.ours);
    let (code, outcome, words) = if foreign {
        (EXIT_FOREIGN, "foreign", format!("not written by cdi-gen; {words}"))
    } else {
        (code, outcome, words)
    };
    Report { outcome, message: format!("{path}: {words}"), problems: Vec::new() }.print(voice);
    Ok(code)
}

/// Prints what a spec that is made now has and that on disk has not, and the other way round.
pub fn diff(arguments: &Generate, voice: Voice) -> anyhow::Result<u8> {
    let attempt = generate::attempt(arguments)?;
    let Some(path) = attempt.path.clone() else { return Err(crate::Usage("diff takes --output".to_owned()).into()) };
    let new = match attempt.made {
        Ok((spec, _)) => spec,
        Err(error) => return Ok(crate::refuse(&error, attempt.problems, String::new(), voice)),
    };
    let old = match read(&path)? {
        None => Spec::default(),
        Some(OnDisk { spec, .. }) => spec.map_err(|error| anyhow::anyhow!("{path}: {error}"))?,
    };
    let changes = difference::between(&old, &new);
    print(&changes.iter().map(|change: &Change| format!("{change}\n")).collect::<String>())?;
    let (code, outcome) = if changes.is_empty() { (0, "fresh") } else { (EXIT_STALE, "stale") };
    Report { outcome, message: String::new(), problems: attempt.problems }.print(voice);
    Ok(code)
}

/// Brings the spec on disk up to date: what every unit, rule and trigger calls. A host without a driver is no failure.
pub fn refresh(arguments: &Generate, voice: Voice) -> anyhow::Result<u8> {
    let done = |outcome, message: String| {
        Report { outcome, message, problems: Vec::new() }.print(voice);
        Ok(0)
    };
    let Some(path) = arguments.output.clone() else {
        return Err(crate::Usage("refresh takes --output".to_owned()).into());
    };
    let Some(_turn) = Turn::take(&path)? else {
        return done("unchanged", format!("{path}: another refresh is about to begin"));
    };
    let attempt = generate::attempt(arguments)?;
    // It may have got an extension.
    let path = attempt.path.clone().unwrap_or(path);
    let on_disk = read(&path)?;
    if on_disk.as_ref().is_some_and(|on_disk| !on_disk.ours) {
        return done(
            "foreign",
            format!("{path}: left as it is, since cdi-gen did not write it (remove it, or name another file)"),
        );
    }
    if let Attempt { made: Err(GenerateError::Inventory(InventoryError::NoDriver(_))), .. } = &attempt {
        return match on_disk {
            Some(on_disk) if !on_disk.removable => {
                done("foreign", format!("{path}: left as it is, since it is no spec of cdi-gen's (remove it)"))
            }
            Some(_) => {
                remove_file(&path)?;
                done("removed", format!("{path}: removed, no NVIDIA driver runs here"))
            }
            None => done("no-driver", "no NVIDIA driver runs here: nothing to do".to_owned()),
        };
    }
    if let (Err(error), Some(on_disk)) = (&attempt.made, &on_disk)
        && let Some(gone) = missing_files(on_disk, arguments)?
    {
        // With it no container starts, and engines name a file in the place of the reason.
        remove_file(&path)?;
        let message = format!("{path}: removed, {gone}, and no other can be made");
        return Ok(crate::refuse(error, attempt.problems, message, voice));
    }
    generate::write(attempt, voice)
}

/// What of the driver's files that a spec mounts is gone, or others' to change, in words.
fn missing_files(on_disk: &OnDisk, arguments: &Generate) -> anyhow::Result<Option<String>> {
    let Ok(spec) = &on_disk.spec else { return Ok(None) };
    let host = open_host(&arguments.roots, Tree::new)?;
    let wrong = |named: &Named<'_>| host_files::look(&host, named);
    Ok(freshness::stale(&freshness::all_edits(spec), None, &wrong).map(|stale| stale.to_string()))
}

/// Removes the spec on disk if it is ours and the driver is gone.
pub fn remove(arguments: &Remove, voice: Voice) -> anyhow::Result<u8> {
    let path = &arguments.output;
    let tell = |code, outcome, words: &str| {
        Report { outcome, message: format!("{path}: {words}"), problems: Vec::new() }.print(voice);
        Ok(code)
    };
    let Some(on_disk) = read(path)? else { return tell(0, "missing", "there is no spec") };
    if !on_disk.removable {
        return tell(EXIT_FOREIGN, "foreign", "kept, since cdi-gen did not write it");
    }
    let host = open_host(&arguments.roots, Tree::new)?;
    if driver::read(&host.system, &mut Vec::<Problem>::new()).loaded && !arguments.force {
        return tell(0, "fresh", "kept, since an NVIDIA driver runs here (--force)");
    }
    remove_file(path)?;
    tell(0, "removed", "removed")
}

fn remove_file(path: &Utf8Path) -> anyhow::Result<()> {
    let remove = || {
        let dir = Dir::open(directory_of(path).as_std_path(), Missing::Error)?;
        dir.remove(path.file_name().unwrap_or(".").as_ref())
    };
    match remove() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(anyhow::Error::new(error).context(format!("cannot remove {path}")))
        }
        _ => Ok(()),
    }
}

/// A refresh's turn. One runs and one waits; who comes while one waits has nothing to add, since that one will see all
/// that has changed until it begins.
struct Turn {
    _running: File,
}

impl Turn {
    fn take(path: &Utf8Path) -> anyhow::Result<Option<Self>> {
        let at = directory_of(path);
        let dir =
            Dir::open(at.as_std_path(), Missing::MakeForEverybody).with_context(|| format!("cannot make {at}"))?;
        let lock =
            |name: &str| lock::open(&dir, name.as_ref()).with_context(|| format!("cannot lock {}", at.join(name)));
        let (running, waiting) = (lock(".cdi-gen.running")?, lock(".cdi-gen.waiting")?);
        if rustix::fs::flock(&running, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(Some(Self { _running: running }));
        }
        if rustix::fs::flock(&waiting, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        rustix::fs::flock(&running, FlockOperation::LockExclusive)?;
        // From here on others may wait for what happens next.
        drop(waiting);
        Ok(Some(Self { _running: running }))
    }
}
