//! cdi-gen, the program: gives the command line its meaning, and each outcome its exit code. I/O.
#![expect(clippy::disallowed_methods, reason = "reads hints from the environment and specs from files")]

mod cli;
mod examine;
mod generate;
mod installed;
mod make_nodes;
mod report;
mod settings;
mod specs_on_disk;
mod upkeep;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use camino::{Utf8Path, Utf8PathBuf};
use cdi_files::{limited, open};
use cdi_specs::Format;
use clap::{Arg, CommandFactory, FromArgMatches};

use cdi_gen::facts::nvml_report::{NvmlPolicy, NvmlQuery};
use cdi_gen::facts::{self, Hints, HostFacts};
use cdi_gen::plan::PlanOptions;
use cdi_gen::{GenerateError, Host, InventoryError, Problem, Tree, capture, inventory, output, show, transform, tree};

use cli::{Capture, Cli, Command, Nvml, RelativeTo, Roots, Selection, Show, ShowFormat, Stage, Transform};
use report::{Report, Voice};

/// What `--version` prints; clap's own words.
const VERSION: &str = concat!("cdi-gen ", env!("CARGO_PKG_VERSION"), "\n");

/// A file could not be read or written.
const EXIT_IO: u8 = 1;
/// Wrong usage; clap's own code.
const EXIT_USAGE: u8 = 2;
/// No NVIDIA driver runs here.
const EXIT_NO_DRIVER: u8 = 3;
/// The driver is incomplete.
const EXIT_INCOMPLETE: u8 = 4;
/// The spec on disk is no longer true.
const EXIT_STALE: u8 = 5;
/// There is none.
const EXIT_MISSING: u8 = 6;
/// It is not ours.
const EXIT_FOREIGN: u8 = 7;
/// Something is wrong with the host.
const EXIT_FINDINGS: u8 = 8;

/// An error that decides the exit code by itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

fn main() -> ExitCode {
    // Asked at each boot by scripts: answered before the command line's definition is built.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "--version") {
        return ExitCode::from(print(VERSION).map_or(EXIT_IO, |()| 0));
    }
    let (command, refused) = settings::apply(Cli::command());
    let has_empty_variable = std::env::vars_os().any(|(_, value)| value.is_empty());
    let command = if has_empty_variable { without_empty_variables(command) } else { command };
    let matches = match report::arguments(command) {
        Ok(matches) => matches,
        Err(code) => return code,
    };
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let voice = Voice { quiet: cli.quiet, json: cli.json };
    let refused = refused.filter(|_| settings::are_heeded_by(matches.subcommand_name()));
    match refused.map_or_else(|| run(cli.command, voice), Err) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = if error.is::<Usage>() { EXIT_USAGE } else { EXIT_IO };
            let problem = Problem::error("failed", format!("{error:#}"));
            Report { outcome: "failed", message: String::new(), problems: vec![problem] }.print(voice);
            ExitCode::from(code)
        }
    }
}

/// The definition of the command line without environment variables that are set and empty: unit files and charts set
/// them to mean nothing.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let without = move |argument: Arg| match argument.get_env() {
        // No variable has an empty name, so nothing is read.
        Some(name) if is_empty(name) => argument.env("").hide_env(true),
        _ => argument,
    };
    let command = command.mut_args(without);
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, |sub| sub.mut_args(without)))
}

fn run(command: Command, voice: Voice) -> anyhow::Result<u8> {
    match command {
        Command::Generate(arguments) => generate::run(&arguments, voice),
        Command::Check(arguments) => upkeep::check(&arguments, voice),
        Command::Diff(arguments) => upkeep::diff(&on_disk(*arguments), voice),
        Command::Refresh(arguments) => upkeep::refresh(&on_disk(*arguments), voice),
        Command::Remove(arguments) => upkeep::remove(&arguments, voice),
        Command::Doctor(arguments) => examine::run(&arguments, voice),
        Command::CreateDeviceNodes(arguments) => make_nodes::nodes(&arguments, voice),
        Command::CreateDevCharSymlinks(arguments) => make_nodes::char_links(&arguments, voice),
        Command::Show(arguments) => run_show(&arguments, voice),
        Command::Capture(arguments) => run_capture(&arguments),
        Command::List(arguments) => specs_on_disk::list(&arguments.spec_dirs, voice),
        Command::Transform { what } => run_transform(&what),
        Command::NvmlReport { library, keep_capabilities } => run_nvml_report(&library, keep_capabilities),
    }
}

/// What is about a spec on disk is about the usual one if no other is named.
fn on_disk(mut arguments: cli::Generate) -> cli::Generate {
    arguments.output.get_or_insert_with(|| cli::USUAL_OUTPUT.into());
    arguments
}

/// Reads the facts of the host that the roots name.
fn read_facts(roots: &Roots) -> anyhow::Result<(HostFacts, Vec<Problem>)> {
    let host = open_host(roots, Tree::new)?;
    Ok(facts::read(&host, &hints(roots), &nvml_query(roots)))
}

type OpenTree = fn(&Utf8Path, Option<cdi_specs::device_list::DeviceList>) -> io::Result<Tree>;

fn open_host(roots: &Roots, open: OpenTree) -> anyhow::Result<Host> {
    let nodes = roots
        .device_nodes
        .as_deref()
        .map(|path| tree::read_device_list(path).with_context(|| format!("cannot read the device list {path}")));
    let system =
        open(&roots.root, nodes.transpose()?).with_context(|| format!("cannot use the root {}", roots.root))?;
    let system = if roots.insecure_driver_files { system.insecure() } else { system };
    let driver_root = absolute(&roots.driver_root)?;
    let dev_root = roots.dev_root.as_deref().map(absolute).transpose()?;
    Ok(Host::new(system, &driver_root, dev_root.as_deref())?)
}

/// A relative root means one below the working directory, as everywhere; an empty one means `/`, as the toolkit has it.
fn absolute(path: &Utf8Path) -> anyhow::Result<Utf8PathBuf> {
    if path.as_str().is_empty() {
        return Ok("/".into());
    }
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let here = std::env::current_dir().context("cannot find the working directory")?;
    let here = Utf8PathBuf::from_path_buf(here).map_err(|path| Usage(format!("{} is not UTF-8", path.display())))?;
    Ok(here.join(path))
}

/// `LD_LIBRARY_PATH` is a hint for the running system; it says nothing about another root.
fn hints(roots: &Roots) -> Hints {
    let here = roots.root == "/" && roots.driver_root == "/";
    let path = std::env::var("LD_LIBRARY_PATH").ok().filter(|_| here).unwrap_or_default();
    Hints {
        library_path: path.split(':').filter(|dir| dir.starts_with('/')).map(Utf8PathBuf::from).collect(),
        library_search_path: search_path(&roots.library_search_path, &roots.driver_root),
        config_search_path: search_path(&roots.config_search_path, &roots.driver_root),
    }
}

/// Directories of the driver's tree; those given with the driver root in front mean the same. `:` parts them too.
fn search_path(dirs: &[Utf8PathBuf], driver_root: &Utf8Path) -> Vec<Utf8PathBuf> {
    let dirs = dirs.iter().flat_map(|dir| dir.as_str().split(':')).filter(|dir| !dir.is_empty()).map(Utf8Path::new);
    let below = |dir: &Utf8Path| dir.strip_prefix(driver_root).map(|rest| Utf8Path::new("/").join(rest));
    dirs.map(|dir| below(dir).unwrap_or_else(|_| dir.to_owned())).collect()
}

fn nvml_query(roots: &Roots) -> NvmlQuery {
    let policy = match roots.nvml {
        Nvml::Auto => NvmlPolicy::Auto,
        Nvml::Always => NvmlPolicy::Always,
        Nvml::Never => NvmlPolicy::Never,
    };
    // The link leads to this very program, whatever its file is called by now.
    NvmlQuery { policy, program: "/proc/self/exe".into(), time_limit: roots.nvml_time_limit }
}

fn plan_options(selection: &Selection) -> PlanOptions {
    PlanOptions {
        naming: selection.device_name_strategy.clone(),
        device_ids: selection.device_ids.clone(),
        all: !selection.no_all_device,
        capabilities: selection.driver_capabilities,
    }
}

/// The exit code of a host that gives no plan, its outcome in one word, and the problem.
fn judge(error: &GenerateError) -> (u8, &'static str, Problem) {
    match error {
        GenerateError::Inventory(error @ InventoryError::NoDriver(_)) => {
            (EXIT_NO_DRIVER, "no-driver", error.problem().clone())
        }
        GenerateError::Inventory(error) => (EXIT_INCOMPLETE, "incomplete", error.problem().clone()),
        GenerateError::Plan(error) => {
            (EXIT_INCOMPLETE, "no-such-device", Problem::error("no-such-device", error.to_string()))
        }
    }
}

/// Tells why there is no plan.
fn refuse(error: &GenerateError, mut problems: Vec<Problem>, message: String, voice: Voice) -> u8 {
    let (code, outcome, problem) = judge(error);
    problems.push(problem);
    Report { outcome, message, problems }.print(voice);
    code
}

fn run_show(arguments: &Show, voice: Voice) -> anyhow::Result<u8> {
    let (facts, mut problems) = read_facts(&arguments.roots)?;
    let json = matches!(arguments.format, ShowFormat::Json);
    let text = match arguments.stage {
        Stage::Facts if json => Ok(show::json(&facts)?),
        Stage::Facts => Ok(show::facts(&facts)),
        Stage::Inventory => match inventory::build(&facts, &mut problems) {
            Ok(inventory) if json => Ok(show::json(&inventory)?),
            Ok(inventory) => Ok(show::inventory(&inventory)),
            Err(error) => Err(GenerateError::from(error)),
        },
        Stage::Plan => match cdi_gen::plan(&facts, &plan_options(&arguments.selection), &mut problems) {
            Ok(plan) if json => Ok(show::json(&plan)?),
            Ok(plan) => Ok(show::plan(&plan)),
            Err(error) => Err(error),
        },
    };
    match text {
        Ok(text) => {
            print(&text)?;
            Report { outcome: "printed", message: String::new(), problems }.print(voice);
            Ok(0)
        }
        Err(error) => Ok(refuse(&error, problems, String::new(), voice)),
    }
}

fn run_capture(arguments: &Capture) -> anyhow::Result<u8> {
    let host = open_host(&arguments.roots, Tree::recording)?;
    facts::read(&host, &hints(&arguments.roots), &NvmlQuery { policy: NvmlPolicy::Never, ..NvmlQuery::default() });
    let text = capture::text(&host.system, &arguments.title, arguments.keep_ids);
    match &arguments.output {
        Some(path) => output::write_by_umask(path, &text)?,
        None => print(&text)?,
    }
    Ok(0)
}

fn run_transform(what: &Transform) -> anyhow::Result<u8> {
    let Transform::Root { from, to, input, output, relative_to } = what;
    let bytes = transform_input(input).with_context(|| format!("cannot read {input}"))?;
    let looks_like = if bytes.trim_ascii_start().starts_with(b"{") { Format::Json } else { Format::Yaml };
    let format = if input.extension() == Some("json") { Format::Json } else { looks_like };
    let mut spec = cdi_specs::parse(&bytes, format).with_context(|| format!("cannot read {input}"))?;
    let side = match relative_to {
        RelativeTo::Host => transform::Side::Host,
        RelativeTo::Container => transform::Side::Container,
    };
    transform::root(&mut spec, from, to, side);
    let broken = cdi_specs::validate(&spec).into_iter().filter(|violation| violation.enforced).collect::<Vec<_>>();
    anyhow::ensure!(broken.is_empty(), "{input}: the spec would be invalid: {}", generate::join(&broken));
    let format = output.as_ref().map_or(format, |path| specs_on_disk::format_of(path));
    deliver(output.as_deref(), &cdi_specs::to_text(&spec, format))?;
    Ok(0)
}

/// No more of a file than a spec may have.
fn transform_input(input: &Utf8Path) -> io::Result<Vec<u8>> {
    const LIMIT: usize = cdi_specs::MAX_TEXT_BYTES;
    if input != "-" {
        return open::read(input.as_std_path(), LIMIT);
    }
    let bytes = limited::read(io::stdin().lock(), LIMIT)?;
    if bytes.len() > LIMIT { Err(io::Error::other(format!("it is longer than {LIMIT} bytes"))) } else { Ok(bytes) }
}

#[cfg(feature = "nvml")]
fn run_nvml_report(library: &Utf8Path, keep_capabilities: bool) -> anyhow::Result<u8> {
    print(&serde_json::to_string(&facts::nvml::report(library, keep_capabilities))?)?;
    Ok(0)
}

#[cfg(not(feature = "nvml"))]
fn run_nvml_report(_: &Utf8Path, _: bool) -> anyhow::Result<u8> {
    Err(Usage("this program was built without NVML".to_owned()).into())
}

/// Writes a text to a file, atomically, or to stdout.
fn deliver(path: Option<&Utf8Path>, text: &str) -> anyhow::Result<Option<output::Written>> {
    match path {
        Some(path) => Ok(Some(output::write(path, text)?)),
        None => print(text).map(|()| None),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot write to stdout")
}
