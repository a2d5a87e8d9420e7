//! cdi-apply, the program: gives the command line its meaning, and each outcome its exit code. I/O.

mod cli;
mod engine_files;
mod engine_program;
mod inject;
mod query;
mod report;
mod validate;

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use cdi_apply::bundle::BundleError;
use cdi_apply::configure::ConfigureError;
use cdi_apply::document::{DocumentError, MAX_BYTES};
use cdi_apply::request::RequestError;
use cdi_apply::spec_dirs::SpecText;
use cdi_apply::{HostPathError, InjectError, NodeError, Request, SpecDirs, SpecTexts, Unresolvable};
use cdi_files::limited;
use cdi_files::open::{self, Links};
use cdi_files::trust::{Trust, why_untrusted};
use cdi_specs::{AnnotationError, Format, MAX_TEXT_BYTES};

use cli::{Cli, Command, Specs};

/// musl's allocator would cost a quarter of an injection's time.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// A file could not be read or written.
const EXIT_IO: u8 = 1;
/// Wrong usage; clap's own code.
const EXIT_USAGE: u8 = 2;
/// A device is not defined, or in conflict.
const EXIT_UNRESOLVABLE: u8 = 3;
/// A document is malformed.
const EXIT_INVALID: u8 = 4;
/// The host is not as a spec says.
const EXIT_HOST: u8 = 5;

fn main() -> ExitCode {
    let cli: Cli = match report::arguments() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let outcome = match &cli.command {
        Command::Inject(arguments) => inject::run(arguments, cli.json),
        Command::Resolve(arguments) => query::resolve(arguments, cli.json),
        Command::List(arguments) => query::list(arguments, cli.json),
        Command::Validate(arguments) => validate::run(arguments, cli.json),
        Command::Configure(arguments) => engine_files::run(arguments),
        Command::Runtime { words } => {
            // The reason was told where the engine looks for it.
            let _told = cdi_apply::runtime::run(words);
            Ok(EXIT_IO)
        }
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report::failure(&error, cli.json);
            ExitCode::from(exit_code(&error))
        }
    }
}

/// What kind of trouble an error is at heart.
fn exit_code(error: &anyhow::Error) -> u8 {
    let code = |cause: &(dyn std::error::Error + 'static)| {
        if cause.is::<Unresolvable>() {
            Some(EXIT_UNRESOLVABLE)
        } else if cause.is::<RequestError>() {
            Some(EXIT_USAGE)
        } else if cause.is::<NodeError>() || cause.is::<HostPathError>() {
            Some(EXIT_HOST)
        } else if cause.is::<DocumentError>() || cause.is::<AnnotationError>() || cause.is::<ConfigureError>() {
            Some(EXIT_INVALID)
        } else if let Some(error) = cause.downcast_ref::<InjectError>() {
            Some(if matches!(error, InjectError::Node(_)) { EXIT_HOST } else { EXIT_INVALID })
        } else {
            cause.is::<BundleError>().then_some(EXIT_IO)
        }
    };
    error.chain().find_map(code).unwrap_or(EXIT_IO)
}

/// The requests in words of the command line.
fn requests(words: &[String]) -> Result<Vec<Request>, RequestError> {
    let lists = words.iter().map(|word| Request::parse_list(word)).collect::<Result<Vec<_>, _>>()?;
    Ok(lists.concat())
}

/// The texts of the specs that the command line names.
fn read_specs(specs: &Specs) -> anyhow::Result<SpecTexts> {
    let dirs = if specs.dirs.is_empty() && specs.files.is_empty() {
        SpecDirs::of_this_user()
    } else {
        SpecDirs::new(specs.dirs.iter().cloned())
    };
    let dirs = if specs.insecure_spec_dirs { dirs.insecure() } else { dirs };
    let mut texts = dirs.read();
    let trust = if specs.insecure_spec_dirs { Trust::Everybody } else { Trust::of_this_process() };
    for path in &specs.files {
        texts.files.push(SpecText {
            bytes: read_trusted(path, MAX_TEXT_BYTES, trust)?,
            ..named_spec(path, dirs.dirs().len())
        });
    }
    Ok(texts)
}

/// A file whose rules are looked at, whoever may write it.
fn read_spec(path: &Path, priority: usize) -> anyhow::Result<SpecText> {
    Ok(SpecText { bytes: read_trusted(path, MAX_TEXT_BYTES, Trust::Everybody)?, ..named_spec(path, priority) })
}

fn named_spec(path: &Path, priority: usize) -> SpecText {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let format = extension.and_then(Format::from_extension).unwrap_or_default();
    SpecText { path: path.to_owned(), priority, format, bytes: Vec::new() }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    read_trusted(path, MAX_BYTES, Trust::Everybody)
}

/// A regular file, or `-` for stdin: what never comes, or has no end, is not waited for. A spec says which program root
/// runs, so that root takes none that others may change, whoever names it.
fn read_trusted(path: &Path, limit: usize, trust: Trust) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        return limited::read(io::stdin().lock(), limit).context("cannot read stdin");
    }
    let cannot = || format!("cannot read {}", path.display());
    let file = open::regular(path, Links::Follow).with_context(cannot)?;
    if let Some(why) = why_untrusted(trust, file.as_fd(), Some(path)) {
        bail!(
            "the spec {} is not used: {why}, and root must be able to rely on it (--insecure-spec-dirs uses it all the same)",
            path.display()
        );
    }
    open::all(file, limit).with_context(cannot)
}
