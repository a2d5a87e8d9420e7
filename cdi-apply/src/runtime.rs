//! Runtime: an OCI runtime that puts the GPUs which a container asks for into its `config.json`, and then becomes runc,
//! crun or youki. I/O.
//!
//! ```text
//! engine ─► cdi-runtime create ─► requests ─► devices ─► inject ─► config.json ─► exec runc create
//! ```
//!
//! For a container that asks for nothing, and for each subcommand that makes none, it only looks for the runtime and
//! becomes it. Where something is asked for that cannot be given, no container starts.

pub mod budget;
pub mod command_line;
pub mod config;
pub mod container;
pub mod devices;
pub mod docker_hook;
pub mod limits;
pub mod log;
pub mod low_level;
pub mod policy;
pub mod requests;
pub mod requirements;
mod spec_files;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use cdi_files::limited;
use cdi_files::open::{self, Links};
use cdi_gen::facts::nvml_report::{NvmlGpu, NvmlReport, short_bus_id};
use cdi_gen::hook_path;
use cdi_specs::{ContainerEdits, Hook, HookOperation, QualifiedName};

use crate::bundle::{BundleError, ConfigFile};
use crate::document::{Document, DocumentError, MAX_BYTES};
use crate::{HostPathError, InjectError, NodeError, device_numbers, host_paths, inject};
use budget::{OverBudget, Warnings};
use command_line::CommandLine;
use config::{Config, ConfigError};
use container::Container;
use devices::{DevicesError, Driver};
use limits::{Deadline, Limits, TooLate};
use log::Level;
use requests::{AskError, Asked};
use requirements::{Cuda, Facts, Gpu, Requirement, RequirementsError, Truth, Version};

/// Why no container starts.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no runtime to become.
    #[error(transparent)]
    NotFound(#[from] low_level::NotFound),
    /// It could not be run.
    #[error("cannot run {program}", program = .program.display())]
    Run {
        /// The runtime.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What the container asks for makes no sense, or is not for it.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// What the container requires makes no sense.
    #[error(transparent)]
    Requirements(#[from] RequirementsError),
    /// The driver is not what the container requires.
    #[error(
        "the container requires {text} ({variable}), and this host has {found}; NVIDIA_DISABLE_REQUIRE=1 starts it all the same"
    )]
    Requirement {
        /// The variable.
        variable: String,
        /// What it says.
        text: String,
        /// The driver, in words.
        found: String,
    },
    /// The driver's root cannot be used.
    #[error("{0}")]
    Driver(String),
    /// The devices cannot be had.
    #[error(transparent)]
    Devices(#[from] DevicesError),
    /// GPUs are to be hidden, and there is no hook to do it.
    #[error("hide-gpus takes cdi-hook, which is not installed beside cdi-runtime, in PATH or in /usr/bin")]
    NoHook,
    /// A path of the host is not root's to follow.
    #[error(transparent)]
    HostPath(#[from] HostPathError),
    /// The device nodes are not as the spec says.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// `config.json` is malformed, or more than is read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The same, with its place.
    #[error("cannot use {path}", path = .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DocumentError,
    },
    /// `config.json` is malformed where an edit touches it.
    #[error(transparent)]
    Inject(#[from] InjectError),
    /// `config.json` cannot be read or written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// `config.json` is none that a container is made from.
    #[error("cannot read {path}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It takes more than it may.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// It takes longer than it may.
    #[error(transparent)]
    TooLate(#[from] TooLate),
}

/// A container has docker's hook, and nothing that it asks for counts.
const NOT_ACCEPTED: &str = "the hook of docker --gpus is taken out, and nothing comes in its place: the container asks \
                            for nothing, or may not (`environment` and `docker-gpus` in the configuration)";

/// Does what the words behind the program's name say. Returns only if no runtime could take over; the reason is where
/// the engine looks for it.
pub fn run(words: &[OsString]) -> RuntimeError {
    let line = CommandLine::parse(words);
    let error = match prepare(&line) {
        Ok(program) => {
            let source = low_level::run(&program, words);
            RuntimeError::Run { program, source }
        }
        Err(error) => error,
    };
    log::tell(&line, Level::Error, &log::chain(&error));
    error
}

/// Changes the container's `config.json` if it is to be changed, and finds the runtime.
fn prepare(line: &CommandLine) -> Result<PathBuf, RuntimeError> {
    let Some(path) = &line.config else { return other_command() };
    let _held = Limits::set();
    let deadline = Deadline::default();
    let config = config::read()?;
    let program = low_level::find(&config.runtimes)?;
    if may_ask(path, &config)? {
        log::warn(line, &patch(path, &config, deadline)?);
    }
    Ok(program)
}

/// The runtime for what makes no container. To guess one would be to delete a container at a runtime that does not know
/// it, which says that all is well; where there is but one, it is no guess.
fn other_command() -> Result<PathBuf, RuntimeError> {
    match config::read_runtimes() {
        Ok(runtimes) => Ok(low_level::find(&runtimes)?),
        Err(error) => low_level::only(&Config::default().runtimes).ok_or_else(|| error.into()),
    }
}

/// Whether it is worth the while to understand a `config.json`. One that is not there is the runtime's to complain about;
/// one that is no regular file, or has no end, would be another one when the runtime reads it.
fn may_ask(path: &Path, config: &Config) -> Result<bool, RuntimeError> {
    let unreadable = |source| RuntimeError::Unreadable { path: path.to_owned(), source };
    let file = match open::regular(path, Links::Follow) {
        Ok(file) => file,
        Err(error) if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::IsADirectory => {
            return Ok(false);
        }
        Err(error) => return Err(unreadable(error)),
    };
    let text = limited::read(file, MAX_BYTES).map_err(unreadable)?;
    if text.len() > MAX_BYTES {
        return Err(unusable(path, DocumentError::TooLong(MAX_BYTES)));
    }
    Ok(requests::may_ask_bytes(&text, config))
}

/// Puts what a container asks for into its `config.json`. Returns what is strange about it.
fn patch(path: &Path, config: &Config, deadline: Deadline) -> Result<Warnings, RuntimeError> {
    let file = ConfigFile::open(path)?;
    let Changed { text, warnings } = change(file.text(), config, deadline).map_err(|error| match error {
        RuntimeError::Document(error) => unusable(path, error),
        error => error,
    })?;
    if let Some(text) = text {
        file.replace_unsynced(text.as_bytes())?;
    }
    Ok(warnings)
}

fn unusable(path: &Path, source: DocumentError) -> RuntimeError {
    RuntimeError::Unusable { path: path.to_owned(), source }
}

/// What becomes of a `config.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// What it says now; `None` if it stays as it is.
    pub text: Option<String>,
    /// What is strange about it.
    pub warnings: Warnings,
}

/// All that is done to a container's `config.json`: what it asks for is found, and put into it.
///
/// # Errors
/// What keeps the container from starting.
pub fn change(text: &[u8], config: &Config, deadline: Deadline) -> Result<Changed, RuntimeError> {
    let mut document = Document::parse_within(text, budget::CONFIG)?;
    let asked = requests::of_container(Container(&document.value), config)?;
    let mut warnings = Warnings::default();
    if let Some(asked) = &asked {
        let driver = Driver::read(config, deadline).map_err(RuntimeError::Driver)?;
        warnings.append(asked.warnings.clone());
        if config.requirements {
            let required = requirements::of_container(Container(&document.value))?;
            check_requirements(&required, asked, config, &driver, &mut warnings)?;
        }
        let mut edits = devices::edits(asked, config, &driver, &mut warnings)?;
        if config.hide_gpus {
            hide_gpus(&mut edits)?;
        }
        let edits: Vec<&ContainerEdits> = edits.iter().collect();
        if !config.insecure_driver_files {
            host_paths::check(&edits)?;
        }
        let nodes = device_numbers::read(&edits);
        nodes.check(&edits)?;
        inject(&mut document.value, &edits, &nodes)?;
    }
    let had_hook = docker_hook::remove(&mut document.value);
    if had_hook && asked.is_none() {
        warnings.push(NOT_ACCEPTED);
    }
    deadline.left()?;
    let text = (had_hook || asked.is_some()).then(|| document.to_text());
    Ok(Changed { text, warnings })
}

/// Holds the requirements against the driver, and, if the answer depends on them, against the GPUs that are asked for.
fn check_requirements(
    all: &[Requirement],
    asked: &Asked,
    config: &Config,
    driver: &Driver,
    warnings: &mut Warnings,
) -> Result<(), RuntimeError> {
    let version = driver.facts.version.as_ref().and_then(|version| version.as_str().parse().ok());
    let mut facts = Facts { driver: version, cuda: version.map(Cuda::of_driver).unwrap_or_default(), gpus: Vec::new() };
    if all.iter().any(|requirement| requirement.holds(&facts) == Truth::Unknown) {
        match driver.ask_nvml(config) {
            Ok(report) => learn(&mut facts, &report, asked, config),
            Err(error) => warnings.push(format!("cannot ask NVML: {error}")),
        }
    }
    for requirement in all {
        let Requirement { variable, text, .. } = requirement;
        match requirement.holds(&facts) {
            Truth::Yes => {}
            Truth::No => {
                return Err(RuntimeError::Requirement {
                    variable: variable.clone(),
                    text: text.clone(),
                    found: describe(&facts, driver),
                });
            }
            Truth::Unknown => warnings.push(format!("nobody knows whether this host has {text} ({variable})")),
        }
    }
    Ok(())
}

/// Adds what NVML knows.
fn learn(facts: &mut Facts, report: &NvmlReport, asked: &Asked, config: &Config) {
    let version = |[major, minor]: [u32; 2]| Version::of(major, minor);
    if let Some(cuda) = report.cuda {
        facts.cuda = Cuda::Known(version(cuda));
    }
    let names: Vec<&QualifiedName> = asked.names.iter().filter(|name| name.kind().to_string() == config.kind).collect();
    let means = |gpu: &&NvmlGpu| {
        let known =
            [Some("all".to_owned()), Some(gpu.index.to_string()), gpu.uuid.clone(), Some(short_bus_id(&gpu.bus_id))];
        names.iter().any(|name| known.iter().flatten().any(|known| known == name.device()))
    };
    facts.gpus = report
        .gpus
        .iter()
        .filter(means)
        .map(|gpu| Gpu { arch: gpu.arch.map(version), brand: gpu.brand.clone() })
        .collect();
}

fn describe(facts: &Facts, driver: &Driver) -> String {
    let version = driver.facts.version.as_ref();
    let driver = version.map_or("an unknown driver".to_owned(), |version| format!("driver {version}"));
    let cuda = match facts.cuda {
        Cuda::Unknown => "an unknown CUDA version".to_owned(),
        Cuda::Known(version) => format!("CUDA {version}"),
        Cuda::AtLeast(version) => format!("CUDA {version} or later"),
    };
    let gpus = facts.gpus.iter().map(|gpu| {
        let arch = gpu.arch.map_or("?".to_owned(), |arch| arch.to_string());
        format!(", a GPU with arch {arch} and brand {}", gpu.brand.as_deref().unwrap_or("?"))
    });
    format!("{driver}, {cuda}{}", gpus.collect::<String>())
}

/// Words of the hook before its operations: its name and its command.
const WORDS_BEFORE: usize = 2;

/// Tells the hook to hide the GPUs that the container has no node of; it is the one that is there, or one of its own.
fn hide_gpus(edits: &mut Vec<ContainerEdits>) -> Result<(), RuntimeError> {
    for hook in edits.iter_mut().flat_map(|edits| &mut edits.hooks) {
        if cdi_specs::from_args(&hook.args).is_ok() {
            hook.args.extend(cdi_specs::to_args(&[HookOperation::HideGpus]).into_iter().skip(WORDS_BEFORE));
            return Ok(());
        }
    }
    let path = hook_path::find().ok_or(RuntimeError::NoHook)?;
    let hook = Hook::of_operations(path.as_str(), &[HookOperation::HideGpus]);
    edits.push(ContainerEdits { hooks: vec![hook], ..ContainerEdits::default() });
    Ok(())
}
