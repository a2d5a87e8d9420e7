//! Runtime: an OCI runtime that puts the GPUs which a container asks for into its `config.json`, and then becomes runc,
//! crun or youki. I/O.
//!
//! ```text
//! engine ─► cdi-runtime create ─► requests ─► devices ─► inject ─► config.json ─► exec runc create
//! ```
//!
//! For a container that asks for nothing, and for each subcommand that makes none, it only looks for the runtime and
//! becomes it. Where something is asked for that cannot be given, no container starts.

pub mod command_line;
pub mod config;
pub mod container;
pub mod devices;
pub mod docker_hook;
pub mod log;
pub mod low_level;
pub mod requests;
pub mod requirements;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use cdi_gen::facts::nvml_report::{NvmlGpu, NvmlReport, short_bus_id};
use cdi_gen::hook_path;
use cdi_specs::{ContainerEdits, Hook, HookOperation, QualifiedName};

use crate::bundle::{BundleError, ConfigFile};
use crate::document::{Document, DocumentError, MAX_BYTES};
use crate::{InjectError, NodeError, device_numbers, inject};
use cdi_files::limited;
use command_line::CommandLine;
use config::{Config, ConfigError};
use container::Container;
use devices::{DevicesError, Driver};
use log::Level;
use requests::{AskError, Asked};
use requirements::{BadTerm, Cuda, Facts, Gpu, Requirement, Truth, Version};

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
    BadTerm(#[from] BadTerm),
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
    /// The device nodes are not as the spec says.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// `config.json` is malformed.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// `config.json` is malformed where an edit touches it.
    #[error(transparent)]
    Inject(#[from] InjectError),
    /// `config.json` cannot be read or written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
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
    log::tell(&line, Level::Error, &chain(&error));
    error
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

/// Changes the container's `config.json` if it is to be changed, and finds the runtime.
fn prepare(line: &CommandLine) -> Result<PathBuf, RuntimeError> {
    let Some(path) = &line.config else { return other_command() };
    let config = config::read()?;
    let program = low_level::find(&config.runtimes)?;
    if may_ask(path, &config) {
        patch(path, &config)?.iter().for_each(|warning| log::tell(line, Level::Warning, warning));
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

/// Whether it is worth the while to read a `config.json`. One that cannot be read is the runtime's to complain about.
#[expect(clippy::disallowed_methods, reason = "looks at a file without locking it")]
fn may_ask(path: &Path, config: &Config) -> bool {
    let text = File::open(path).and_then(|file| limited::read(file, MAX_BYTES));
    text.is_ok_and(|text| requests::may_ask(&String::from_utf8_lossy(&text), config))
}

/// Puts what a container asks for into its `config.json`. Returns what is strange about it.
fn patch(path: &Path, config: &Config) -> Result<Vec<String>, RuntimeError> {
    let file = ConfigFile::open(path)?;
    let mut document = Document::parse(file.text())?;
    let asked = requests::of_container(Container(&document.value), config)?;
    let mut warnings = Vec::new();
    if let Some(asked) = &asked {
        let driver = Driver::read(config).map_err(RuntimeError::Driver)?;
        warnings.extend(asked.warnings.iter().cloned());
        if config.requirements {
            let container = Container(&document.value);
            warnings.extend(check_requirements(&requirements::of_container(container)?, asked, config, &driver)?);
        }
        let mut edits = devices::edits(asked, config, &driver, &mut warnings)?;
        if config.hide_gpus {
            hide_gpus(&mut edits)?;
        }
        let edits: Vec<&ContainerEdits> = edits.iter().collect();
        let nodes = device_numbers::read(&edits);
        nodes.check(&edits)?;
        inject(&mut document.value, &edits, &nodes)?;
    }
    let had_hook = docker_hook::remove(&mut document.value);
    if had_hook && asked.is_none() {
        warnings.push(NOT_ACCEPTED.to_owned());
    }
    if had_hook || asked.is_some() {
        file.replace_unsynced(document.to_text().as_bytes())?;
    }
    Ok(warnings)
}

/// Holds the requirements against the driver, and, if the answer depends on them, against the GPUs that are asked for.
fn check_requirements(
    all: &[Requirement],
    asked: &Asked,
    config: &Config,
    driver: &Driver,
) -> Result<Vec<String>, RuntimeError> {
    let version = driver.facts.version.as_ref().and_then(|version| version.as_str().parse().ok());
    let mut facts = Facts { driver: version, cuda: version.map(Cuda::of_driver).unwrap_or_default(), gpus: Vec::new() };
    let mut warnings = Vec::new();
    if all.iter().any(|requirement| requirement.holds(&facts) == Truth::Unknown) {
        match driver.ask_nvml() {
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
    Ok(warnings)
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
