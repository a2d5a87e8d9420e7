//! `configure`: an engine's configuration file, changed, kept as it was, and put back. I/O.
//!
//! What is in place is the old file or the new one. The engine judges the new one while it is still beside the old one, and
//! the old one is kept when nothing is left to fail. So a change that is refused has nothing to take back.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cdi_apply::configure::{self, Engine, Runtime};
use cdi_files::dir::{Dir, Missing};
use cdi_files::kept::{self, Undone};
use cdi_files::replace::{self, Flush, ReplaceError, Replacing};
use cdi_gen::hook_path::{self, Search};
use cdi_specs::shown::printable;
use rustix::fd::AsFd;
use rustix::fs::AtFlags;
use similar::{ChangeTag, TextDiff};

use crate::cli::Configure;
use crate::{engine_program, report};

/// The longest file that is read, in bytes. Real ones have some 100 KiB.
const LONGEST_FILE: usize = 1 << 20;
/// How often a change is begun anew because somebody else was faster.
const ATTEMPTS: usize = 10;
/// A file that comes out in another layout differs in each line, and the shortest difference then takes quadratic time.
const LONGEST_COMPARISON: Duration = Duration::from_secs(1);
/// Lines around each change in a difference.
const AROUND: usize = 3;

/// Runs the command.
pub fn run(arguments: &Configure) -> anyhow::Result<u8> {
    let engine = arguments.engine.engine();
    let path = arguments.config.clone().unwrap_or_else(|| engine.usual_file().to_owned());
    let path = std::path::absolute(&path).with_context(|| format!("cannot find {}", path.display()))?;
    let runtime = runtime(arguments, engine)?;
    let job = Job { arguments, engine, runtime, path };
    for _ in 1..ATTEMPTS {
        match job.run() {
            Err(error) if error.downcast_ref().is_some_and(ReplaceError::is_changed) => {}
            done => return done,
        }
    }
    job.run()
}

/// What is to be done to which file.
struct Job<'a> {
    arguments: &'a Configure,
    engine: Engine,
    runtime: Option<Runtime>,
    path: PathBuf,
}

impl Job<'_> {
    fn run(&self) -> anyhow::Result<u8> {
        let place = Place::find(&self.path)?;
        let before = place.text()?;
        if self.arguments.undo {
            return self.undo(&place, before.as_deref().unwrap_or_default());
        }
        let before = before.unwrap_or_default();
        let after = self.configured(&before)?;
        if after == before {
            return self.said("nothing to change");
        }
        if self.arguments.dry_run {
            report::print(&difference(&self.path, &before, &after, io::stdout().is_terminal()))?;
            return Ok(0);
        }
        let (dir, made) = place.make()?;
        let changed = self.change(&dir);
        if changed.is_err() {
            made.remove();
        }
        changed
    }

    /// Of what is there once nobody else can change it.
    fn change(&self, dir: &Dir) -> anyhow::Result<u8> {
        let file = self.open(dir)?;
        kept::take_over(&file)?;
        let before = file.old().map(|old| text_of(&self.path, &old.text)).transpose()?.unwrap_or_default();
        let after = self.configured(&before)?;
        if after == before {
            return self.said("nothing to change");
        }
        self.has_one_name(&file)?;
        let next = file.write(after.as_bytes(), Flush::Name)?;
        let refused = || format!("{} is as it was: the engine refuses what it would be", self.path.display());
        if let Some(warning) = engine_program::judge(self.engine, &next.path()).with_context(refused)? {
            warn(&warning);
        }
        let keeping = kept::keep(&file, after.as_bytes())?;
        next.take_place()?;
        keeping.done();
        self.said(&format!("written, and kept as it was beside it (--undo). {}", restart(self.engine)))
    }

    fn configured(&self, before: &str) -> anyhow::Result<String> {
        let after = configure::configured(self.engine, before, self.runtime.as_ref());
        after.with_context(|| format!("cannot change {}", self.path.display()))
    }

    fn open(&self, dir: &Dir) -> anyhow::Result<Replacing> {
        let handle = dir.as_fd().try_clone_to_owned().context("cannot duplicate a handle")?;
        let path = dir.path().join(self.path.file_name().unwrap_or_default());
        Ok(Replacing::open_in(handle, &path, LONGEST_FILE)?)
    }

    /// Whoever gave a file two names wants them to lead to the same.
    fn has_one_name(&self, file: &Replacing) -> anyhow::Result<()> {
        let names = file.old().map_or(1, |old| rustix::fs::fstat(&old.file).map_or(0, |stat| stat.st_nlink));
        let why = "it has further names (hard links), which would still lead to the old one: make it a copy";
        ensure!(names == 1, "cannot change {}: {why}", self.path.display());
        Ok(())
    }

    fn undo(&self, place: &Place, now: &str) -> anyhow::Result<u8> {
        let nothing = || format!("{}: there is nothing to undo", self.path.display());
        if self.arguments.dry_run {
            let before = place.kept()?.with_context(nothing)?;
            report::print(&difference(&self.path, now, &before, io::stdout().is_terminal()))?;
            return Ok(0);
        }
        ensure!(place.missing.is_empty(), nothing());
        match kept::undo(&self.open(&place.dir)?, self.arguments.force)? {
            Undone::Nothing => bail!(nothing()),
            Undone::AsBefore => self.said("as it was before"),
            Undone::EditedKept(name) => self.said(&format!(
                "as it was before; the edited one is beside it: {}",
                printable(&name.to_string_lossy())
            )),
            Undone::Edited => bail!(
                "{}: it is not as cdi-apply wrote it, and an edit would be lost: --undo --dry-run shows what would change, \
                 --undo --force does it, and keeps the edited one beside it",
                self.path.display()
            ),
        }
    }

    fn said(&self, words: &str) -> anyhow::Result<u8> {
        report::print(&format!("{}: {words}\n", printable(&self.path.display().to_string())))?;
        Ok(0)
    }
}

/// Where a file is or will be.
struct Place<'p> {
    path: &'p Path,
    /// Its directory, or the nearest above that there is.
    dir: Dir,
    /// Those that are missing, the lowest first.
    missing: Vec<&'p Path>,
}

impl<'p> Place<'p> {
    fn find(path: &'p Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot read {}", path.display());
        let mut missing = Vec::new();
        for parent in path.ancestors().skip(1) {
            match Dir::open(parent, Missing::Error) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(parent),
                dir => {
                    let dir = dir.with_context(cannot)?;
                    let who = dir.who_else_writes().map(printable);
                    let way_out = "configure as that user, or have the directory belong to root";
                    ensure!(who.is_none(), "cannot change {}: {}: {way_out}", path.display(), who.unwrap_or_default());
                    return Ok(Self { path, dir, missing });
                }
            }
        }
        bail!("{}: no directory on the way to it", cannot())
    }

    fn name(&self) -> &'p std::ffi::OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// What the file holds, without a lock; `None` if there is none.
    fn text(&self) -> anyhow::Result<Option<String>> {
        if !self.missing.is_empty() {
            return Ok(None);
        }
        let old = replace::read(self.dir.as_fd(), self.name(), LONGEST_FILE);
        let old = old.with_context(|| format!("cannot read {}", self.path.display()))?;
        old.map(|old| text_of(self.path, &old.text)).transpose()
    }

    /// What it held before our first change.
    fn kept(&self) -> anyhow::Result<Option<String>> {
        if !self.missing.is_empty() {
            return Ok(None);
        }
        let kept = kept::text(&self.dir, self.name(), LONGEST_FILE);
        let kept = kept.with_context(|| format!("cannot read what was kept of {}", self.path.display()))?;
        kept.map(|bytes| text_of(self.path, &bytes)).transpose()
    }

    /// The directory, made if it is missing.
    fn make(self) -> anyhow::Result<(Dir, Made<'p>)> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let made = Made(self.missing);
        let dir = Dir::open(dir, Missing::MakeForEverybody).inspect_err(|_| made.remove());
        Ok((dir.with_context(|| format!("cannot make the directory of {}", self.path.display()))?, made))
    }
}

/// Directories that were made, the lowest first.
struct Made<'p>(Vec<&'p Path>);

impl Made<'_> {
    /// Removes those that are empty still: another run may have put something there.
    fn remove(&self) {
        for made in &self.0 {
            let (Some(parent), Some(name)) = (made.parent(), made.file_name()) else { return };
            let parent = Dir::open(parent, Missing::Error);
            let _ = parent.map(|parent| rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR));
        }
    }
}

fn text_of(path: &Path, bytes: &[u8]) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    ensure!(bytes.len() <= LONGEST_FILE, "{}: it is longer than {LONGEST_FILE} bytes", cannot());
    String::from_utf8(bytes.to_owned()).with_context(cannot)
}

/// A closed stderr is no reason to do anything else.
fn warn(words: &str) {
    let _ = writeln!(io::stderr(), "warning: {words}");
}

/// cdi-runtime, if it is to be registered.
fn runtime(arguments: &Configure, engine: Engine) -> anyhow::Result<Option<Runtime>> {
    let asked = arguments.runtime || arguments.set_default || arguments.runtime_path.is_some();
    if !asked {
        return Ok(None);
    }
    ensure!(engine.has_runtimes(), "{} has no runtimes of its own to register", arguments.engine.name());
    let path = match &arguments.runtime_path {
        Some(given) => {
            // The administrator's word counts, and what it means is said: the engine runs it as root.
            let why = engine_program::why_untrusted(given);
            why.iter().for_each(|why| warn(&printable(&format!("{}: {why}", given.display()))));
            given.display().to_string()
        }
        None => found_runtime()?,
    };
    ensure!(path.starts_with('/'), "--runtime-path {path}: not an absolute path");
    Ok(Some(Runtime { name: arguments.runtime_name.clone(), path, is_default: arguments.set_default }))
}

fn found_runtime() -> anyhow::Result<String> {
    let Search { found, passed_over } = hook_path::search("cdi-runtime");
    passed_over.iter().for_each(|passed_over| warn(&printable(&passed_over.message)));
    let way_out = "cdi-runtime is not installed beside cdi-apply, in PATH or in /usr/bin; name it: --runtime-path";
    found.map(camino::Utf8PathBuf::into_string).context(way_out)
}

fn restart(engine: Engine) -> &'static str {
    match engine {
        Engine::Docker => "Then: systemctl restart docker",
        Engine::Containerd => "Then: systemctl restart containerd",
        Engine::Crio => "Then: systemctl restart crio",
        Engine::Buildkit => "Then: systemctl restart buildkit",
        Engine::Podman | Engine::Nerdctl => "It counts from the next container on",
    }
}

/// A unified difference; in colour for people.
fn difference(path: &Path, before: &str, after: &str, in_colour: bool) -> String {
    let diff = TextDiff::configure().timeout(LONGEST_COMPARISON).diff_lines(before, after);
    let name = printable(&path.display().to_string());
    let mut text = format!("--- {name}\n+++ {name}\n");
    for hunk in diff.unified_diff().context_radius(AROUND).iter_hunks() {
        text += &format!("{}\n", hunk.header());
        for change in hunk.iter_changes() {
            let (sign, colour) = match change.tag() {
                ChangeTag::Delete => ('-', "\x1b[31m"),
                ChangeTag::Insert => ('+', "\x1b[32m"),
                ChangeTag::Equal => (' ', ""),
            };
            let words = change.value().trim_end_matches('\n').split('\t').map(printable);
            let line = words.collect::<Vec<_>>().join("\t");
            let painted = in_colour && !colour.is_empty();
            text += &if painted { format!("{colour}{sign}{line}\x1b[0m\n") } else { format!("{sign}{line}\n") };
        }
    }
    text
}
