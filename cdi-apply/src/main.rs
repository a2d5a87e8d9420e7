//! cdi-apply, the program: gives the command line its meaning, and each outcome its exit code. I/O.

mod cli;
mod engine_files;
mod engine_program;
mod inject;
mod query;
mod report;
mod validate;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use cdi_apply::bundle::BundleError;
use cdi_apply::configure::ConfigureError;
use cdi_apply::document::{DocumentError, MAX_BYTES};
use cdi_apply::request::RequestError;
use cdi_apply::spec_dirs::SpecText;
use cdi_apply::{HostPathError, InjectError, NodeError, Request, SpecDirs, SpecTexts, Unresolvable};
use cdi_files::limited;
use cdi_files::open::{self, Links};
use cdi_files::trust::{self, Trust};
use cdi_specs::{AnnotationError, Format};
use clap::Parser;

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
    let cli = Cli::parse();
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
    for path in &specs.files {
        texts.files.push(read_spec(path, dirs.dirs().len())?);
        if !specs.insecure_spec_dirs {
            rely_on(path)?;
        }
    }
    Ok(texts)
}

/// What is injected from a file is root's word, wherever the file lies. What comes from stdin is the caller's.
fn rely_on(path: &Path) -> anyhow::Result<()> {
    if path == Path::new("-") || Trust::of_this_process() == Trust::Everybody {
        return Ok(());
    }
    let why = trust::who_may_change(path);
    anyhow::ensure!(
        why.is_none(),
        "cannot rely on {}: {} (--insecure-spec-dirs uses it all the same)",
        path.display(),
        why.unwrap_or_default()
    );
    Ok(())
}

fn read_spec(path: &Path, priority: usize) -> anyhow::Result<SpecText> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let format = extension.and_then(Format::from_extension).unwrap_or_default();
    Ok(SpecText { path: path.to_owned(), priority, format, bytes: read(path)? })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        return limited::read(io::stdin().lock(), MAX_BYTES).context("cannot read stdin");
    }
    let cannot = || format!("cannot read {}", path.display());
    let file = open::regular(path, Links::Follow).with_context(cannot)?;
    limited::read(file, MAX_BYTES).with_context(cannot)
}
