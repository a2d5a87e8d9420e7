//! `configure`: an engine's configuration file, changed, kept as it was, and put back. I/O.
#![expect(
    clippy::disallowed_methods,
    reason = "reads and writes engines' files, and asks engines what they think of them"
)]

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use camino::Utf8Path;
use cdi_apply::bundle::ConfigFile;
use cdi_apply::configure::{self, Engine, Runtime};
use cdi_gen::{hook_path, output};
use similar::{ChangeTag, TextDiff};

use crate::cli::Configure;
use crate::report;

/// What the file is kept as, and what stands for one that was not there.
const BEFORE: &str = ".before-cdi-apply";
const ABSENT: &str = ".absent-before-cdi-apply";
/// Lines around each change in a difference.
const AROUND: usize = 3;

/// Runs the command.
pub fn run(arguments: &Configure) -> anyhow::Result<u8> {
    let engine = arguments.engine.engine();
    let path = arguments.config.clone().unwrap_or_else(|| engine.usual_file().to_owned());
    let text = read(&path)?;
    if arguments.undo {
        return undo(&path, arguments.dry_run, text.as_deref().unwrap_or_default());
    }
    let runtime = runtime(arguments, engine)?;
    let before = text.as_deref().unwrap_or_default();
    let after = configure::configured(engine, before, runtime.as_ref())
        .with_context(|| format!("cannot change {}", path.display()))?;
    if after == before {
        return said(&format!("{}: nothing to change", path.display()));
    }
    if arguments.dry_run {
        report::print(&difference(&path, before, &after, io::stdout().is_terminal()))?;
        return Ok(0);
    }
    keep(&path, text.is_some())?;
    write(&path, text.is_some(), &after)?;
    if let Err(error) = validate(engine, &path) {
        put_back(&path)?;
        return Err(error.context(format!("{} is as it was: the engine refuses what it would be", path.display())));
    }
    said(&format!("{}: written, and kept as it was beside it (--undo). {}", path.display(), restart(engine)))
}

fn said(words: &str) -> anyhow::Result<u8> {
    report::print(&format!("{words}\n"))?;
    Ok(0)
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// cdi-runtime, if it is to be registered.
fn runtime(arguments: &Configure, engine: Engine) -> anyhow::Result<Option<Runtime>> {
    let asked = arguments.runtime || arguments.set_default || arguments.runtime_path.is_some();
    if !asked {
        return Ok(None);
    }
    ensure!(engine.has_runtimes(), "{} has no runtimes of its own to register", arguments.engine.name());
    let found = || hook_path::find_program("cdi-runtime").map(camino::Utf8PathBuf::into_string);
    let given = arguments.runtime_path.as_ref().map(|path| path.display().to_string());
    let path = given
        .or_else(found)
        .context("cdi-runtime is not installed beside cdi-apply, in PATH or in /usr/bin; name it: --runtime-path")?;
    ensure!(path.starts_with('/'), "--runtime-path {path}: not an absolute path");
    Ok(Some(Runtime { name: arguments.runtime_name.clone(), path, is_default: arguments.set_default }))
}

/// The path with something behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = OsString::from(path);
    beside.push(suffix);
    beside.into()
}

/// Keeps the file itself under a second name, with its owner and mode; of several times the first counts.
fn keep(path: &Path, exists: bool) -> anyhow::Result<()> {
    if beside(path, BEFORE).exists() || beside(path, ABSENT).exists() {
        return Ok(());
    }
    let kept = if exists {
        fs::hard_link(path, beside(path, BEFORE))
    } else {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).and_then(|()| fs::write(beside(path, ABSENT), ""))
    };
    kept.with_context(|| format!("cannot keep {} as it is", path.display()))
}

fn write(path: &Path, exists: bool, text: &str) -> anyhow::Result<()> {
    if exists {
        ConfigFile::open(path)?.replace(text.as_bytes())?;
    } else {
        let path = Utf8Path::from_path(path).context("the path is not UTF-8")?;
        output::write(path, text)?;
    }
    Ok(())
}

fn undo(path: &Path, dry_run: bool, now: &str) -> anyhow::Result<u8> {
    let before = if beside(path, ABSENT).exists() { Some(String::new()) } else { read(&beside(path, BEFORE))? };
    let Some(before) = before else { bail!("{}: there is nothing to undo", path.display()) };
    if dry_run {
        report::print(&difference(path, now, &before, io::stdout().is_terminal()))?;
        return Ok(0);
    }
    put_back(path)?;
    said(&format!("{}: as it was before", path.display()))
}

fn put_back(path: &Path) -> anyhow::Result<()> {
    let done = if beside(path, BEFORE).exists() {
        fs::rename(beside(path, BEFORE), path)
    } else {
        fs::remove_file(path).and_then(|()| fs::remove_file(beside(path, ABSENT)))
    };
    done.with_context(|| format!("cannot put {} back", path.display()))
}

/// Asks the engine, where it is installed and has a way to be asked.
fn validate(engine: Engine, path: &Path) -> anyhow::Result<()> {
    let words: &[&str] = match engine {
        Engine::Docker => &["dockerd", "--validate", "--config-file", "{}"],
        Engine::Containerd => &["containerd", "--config", "{}", "config", "dump"],
        Engine::Crio | Engine::Podman | Engine::Nerdctl | Engine::Buildkit => return Ok(()),
    };
    let Some((program, words)) = words.split_first() else { return Ok(()) };
    let mut command = Command::new(program);
    words.iter().for_each(|word| _ = if *word == "{}" { command.arg(path) } else { command.arg(word) });
    match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(anyhow::Error::new(error).context(format!("cannot run {program}"))),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            // dockerd before 23 has no --validate.
            let cannot = words.contains("unknown flag");
            ensure!(output.status.success() || cannot, "{program}: {}", words.trim());
            Ok(())
        }
    }
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
    let diff = TextDiff::from_lines(before, after);
    let name = path.display().to_string();
    let mut text = format!("--- {name}\n+++ {name}\n");
    for hunk in diff.unified_diff().context_radius(AROUND).iter_hunks() {
        text += &format!("{}\n", hunk.header());
        for change in hunk.iter_changes() {
            let (sign, colour) = match change.tag() {
                ChangeTag::Delete => ('-', "\x1b[31m"),
                ChangeTag::Insert => ('+', "\x1b[32m"),
                ChangeTag::Equal => (' ', ""),
            };
            let line = change.value().trim_end_matches('\n');
            let painted = in_colour && !colour.is_empty();
            text += &if painted { format!("{colour}{sign}{line}\x1b[0m\n") } else { format!("{sign}{line}\n") };
        }
    }
    text
}
