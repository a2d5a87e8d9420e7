//! Devices: from what a container asks for to edits, by the specs on disk, or by one made at once. I/O.
//!
//! The spec on disk of the configured kind counts as long as it is true. Where there is none, or the driver was updated
//! since, one is made in memory from the host as it is: no refresh has to come first. Where a true spec lacks a device
//! the administrator may have meant that: nothing is made up.

use std::borrow::Cow;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use camino::Utf8Path;
use cdi_files::open::{self, Links};
use cdi_gen::capability::Capabilities;
use cdi_gen::facts::driver::DriverFacts;
use cdi_gen::facts::nvml_report::{NvmlPolicy, NvmlQuery, NvmlReport};
use cdi_gen::facts::{self, Hints, libraries, nvml_child};
use cdi_gen::freshness::{self, Named};
use cdi_gen::plan::PlanOptions;
use cdi_gen::plan::names::{DeviceId, Naming};
use cdi_gen::problem::{Problem, Severity};
use cdi_gen::to_spec::{self, Hooks, LoweringOptions};
use cdi_gen::{Host, Tree, filter, hook_path, host_files};
use cdi_specs::{ContainerEdits, QualifiedName};

use super::budget::{OverBudget, Warnings};
use super::config::Config;
use super::limits::{Deadline, TooLate};
use super::requests::Asked;
use super::spec_files;
use crate::device_numbers;
use crate::registry::{Registry, SpecFile};
use crate::request::Request;
use crate::resolve::{Unresolvable, resolve};
use crate::spec_dirs::{SpecDirs, SpecTexts};

/// Where a spec that was made at once is said to be.
const IN_MEMORY: &str = "(made at once)";
/// The device that is the driver without a GPU.
const DRIVER_ONLY: &str = "none";
/// How long NVML may take.
const NVML_TIME_LIMIT: Duration = Duration::from_secs(5);
/// Where an ELF file says its class, and the class of 32 bits (elf(5), `EI_CLASS`).
const ELF_CLASS: usize = 4;
const ELF_32: u8 = 1;

/// Why there are no edits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DevicesError {
    /// No spec defines a device.
    #[error("{error}{}", told(.error))]
    Unresolvable {
        /// Which, and what is wrong with files that might.
        error: Unresolvable,
    },
    /// No spec on disk can be used, and none can be made.
    #[error("{on_disk}, and no spec can be made at once: {at_once}")]
    NoSpec {
        /// What is wrong with the specs on disk.
        on_disk: String,
        /// Why none can be made.
        at_once: String,
    },
    /// The spec on disk is stale, and none may be made.
    #[error("{0} (generate the spec anew)")]
    Stale(String),
    /// The specs on disk are more than a start may read.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// It takes longer than it may.
    #[error(transparent)]
    TooLate(#[from] TooLate),
}

impl From<Unresolvable> for DevicesError {
    fn from(error: Unresolvable) -> Self {
        Self::Unresolvable { error }
    }
}

/// What is wrong with files that might define what is asked for.
fn told(error: &Unresolvable) -> String {
    error.problems.iter().map(|problem| format!("; not used: {problem}")).collect()
}

/// The host's driver, as far as the wrapper asks for it.
#[derive(Debug)]
pub struct Driver {
    host: Host,
    deadline: Deadline,
    /// What the kernel says.
    pub facts: DriverFacts,
}

impl Driver {
    /// Looks at it.
    ///
    /// # Errors
    /// The configured root is none.
    pub fn read(config: &Config, deadline: Deadline) -> Result<Self, String> {
        let system = Tree::new(Utf8Path::new("/"), None).map_err(|error| format!("cannot use /: {error}"))?;
        let system = if config.insecure_driver_files { system.insecure() } else { system };
        let host = Host::new(system, &config.driver_root, None).map_err(|error| {
            std::error::Error::source(&error).map_or(error.to_string(), |why| format!("{error}: {why}"))
        })?;
        // What could not be read shows as a version that is not known.
        let facts = facts::driver::read(&host.system, &mut Vec::new());
        Ok(Self { host, deadline, facts })
    }

    /// Asks NVML for what an image wants to know, where the administrator lets it be asked.
    ///
    /// # Errors
    /// It is not to be asked, or does not answer.
    pub fn ask_nvml(&self, config: &Config) -> Result<NvmlReport, String> {
        let query = self.nvml_query(config)?;
        // Nobody goes looking for a library that will not be loaded.
        nvml_child::may_ask(query.policy, &self.host, || true).map_err(|why| why.to_string())?;
        let injected = libraries::injected_dirs(&self.host, &self.facts);
        let found = libraries::read(&self.host, &Hints::default(), &self.facts, &injected, &mut Vec::new());
        let library = libraries::find_nvml(&found, self.facts.version.as_ref());
        nvml_child::ask(&query, &self.host, library, || true).map_err(|error| error.to_string())
    }

    fn nvml_query(&self, config: &Config) -> Result<NvmlQuery, String> {
        let program = hook_path::find_program("cdi-gen").ok_or("cdi-gen is not installed beside cdi-runtime")?;
        let left = self.deadline.left().map_err(|error| error.to_string())?;
        Ok(NvmlQuery { policy: config.nvml, program, time_limit: left.min(NVML_TIME_LIMIT) })
    }

    /// A spec of the host as it is; what the host should have and lacks is a warning.
    fn spec(&self, asked: &Asked, config: &Config, warnings: &mut Warnings) -> Result<SpecFile, String> {
        let never = NvmlQuery { policy: NvmlPolicy::Never, ..NvmlQuery::default() };
        let query = self.nvml_query(config).unwrap_or(never);
        let (facts, mut problems) = facts::read(&self.host, &Hints::default(), &query);
        let options = PlanOptions {
            naming: vec![Naming::Index, Naming::Uuid, Naming::Pci],
            device_ids: asked.driver_only.then_some(DeviceId::None).into_iter().collect(),
            all: true,
            capabilities: asked.capabilities,
        };
        let plan = cdi_gen::plan(&facts, &options, &mut problems).map_err(|error| error.to_string())?;
        let serious = problems.iter().filter(|problem| problem.severity > Severity::Note);
        serious.map(Problem::to_string).for_each(|problem| warnings.push(problem));
        let hooks = hook_path::find().map_or(Hooks::None, |path| Hooks::With { path, disabled: Default::default() });
        let spec = to_spec::lower(&plan, &LoweringOptions { kind: config.kind.clone(), hooks, ..Default::default() });
        Ok(SpecFile { path: PathBuf::from(IN_MEMORY), priority: 0, spec })
    }
}

/// The edits for what a container asks for; what it does without is a warning.
///
/// # Errors
/// Devices that no spec defines, and that none can be made for.
pub fn edits(
    asked: &Asked,
    config: &Config,
    driver: &Driver,
    warnings: &mut Warnings,
) -> Result<Vec<ContainerEdits>, DevicesError> {
    let dirs =
        if config.spec_dirs.is_empty() { SpecDirs::of_this_user() } else { SpecDirs::new(config.spec_dirs.clone()) };
    let texts = spec_files::read(&dirs)?;
    driver.deadline.left()?;
    let names = asked.names.iter().chain(&asked.optional);
    let kinds: Vec<String> = names.map(|name| name.kind().to_string()).chain([config.kind.clone()]).collect();
    let kinds: Vec<Cow<'_, str>> = kinds.iter().map(Cow::from).collect();
    let registry = Registry::of_kinds(&texts, &kinds);
    let (own, others): (Vec<&QualifiedName>, Vec<_>) =
        asked.names.iter().partition(|name| name.kind().to_string() == config.kind);
    let requests =
        |names: &[&QualifiedName]| names.iter().map(|name| Request::Name((*name).clone())).collect::<Vec<_>>();
    let own = Own { requests: requests(&own), asked, config, driver, texts: &texts };
    let mut edits =
        if own.requests.is_empty() && !asked.driver_only { Vec::new() } else { own.edits(&registry, warnings)? };
    let others = requests(&others);
    let resolved = resolve(&registry, &others).map_err(|_| why_unresolvable(&texts, &others))?;
    edits.extend(owned(resolved.edits()));
    for name in &asked.optional {
        match resolve(&registry, &[Request::Name(name.clone())]) {
            Ok(resolved) => edits.extend(owned(resolved.edits())),
            Err(error) => warnings.push(format!("{}; the container starts without", DevicesError::from(error))),
        }
    }
    Ok(edits)
}

/// The same error, by one who has read every file and knows what is wrong with each.
fn why_unresolvable(texts: &SpecTexts, requests: &[Request]) -> DevicesError {
    match resolve(&Registry::new(texts), requests) {
        Err(error) => error.into(),
        // It was read between two changes of the files.
        Ok(_) => DevicesError::Stale("the specs on disk were changed meanwhile".to_owned()),
    }
}

/// What is asked of the configured kind.
struct Own<'a> {
    requests: Vec<Request>,
    asked: &'a Asked,
    config: &'a Config,
    driver: &'a Driver,
    texts: &'a SpecTexts,
}

impl Own<'_> {
    fn edits(&self, registry: &Registry, warnings: &mut Warnings) -> Result<Vec<ContainerEdits>, DevicesError> {
        let on_disk = match self.on_disk(registry) {
            Ok(edits) => return Ok(edits.into_iter().map(|edits| self.filtered(edits)).collect()),
            Err(OnDisk::Final(error)) => return Err(error),
            Err(OnDisk::Unusable(why)) => why,
        };
        let spec = self.driver.spec(self.asked, self.config, warnings);
        let spec = spec.map_err(|at_once| DevicesError::NoSpec { on_disk, at_once })?;
        let made = Registry::of_specs([spec]);
        if self.asked.driver_only {
            let none = format!("{}={DRIVER_ONLY}", self.config.kind).parse().map(Request::Name);
            return Ok(owned(resolve(&made, &none.into_iter().collect::<Vec<_>>())?.edits()));
        }
        Ok(owned(resolve(&made, &self.requests)?.edits()))
    }

    /// The edits by the files of the kind, if those are true.
    fn on_disk<'r>(&self, registry: &'r Registry) -> Result<Vec<&'r ContainerEdits>, OnDisk> {
        let mut of_kind = registry.files().iter().filter(|file| file.spec.kind == self.config.kind);
        // Files come in the order of their priority.
        let Some(last) = of_kind.next_back() else { return Err(self.no_spec()) };
        let common = &last.spec.container_edits;
        let resolved = match (self.asked.driver_only, resolve(registry, &self.requests)) {
            (true, _) => Ok(vec![common]),
            (false, resolved) => resolved.map(|resolved| resolved.edits()),
        };
        let stale = self.stale(resolved.as_deref().unwrap_or(&[common]));
        match (stale, resolved) {
            (None, Ok(edits)) => Ok(edits),
            (None, Err(_)) => Err(OnDisk::Final(why_unresolvable(self.texts, &self.requests))),
            (Some(why), _) => {
                let why = format!("the spec {} is stale: {why}", last.path.display());
                Err(if self.config.just_in_time {
                    OnDisk::Unusable(why)
                } else {
                    OnDisk::Final(DevicesError::Stale(why))
                })
            }
        }
    }

    fn no_spec(&self) -> OnDisk {
        let registry = Registry::new(self.texts);
        let problems: String = registry.problems().iter().map(|problem| format!("; not used: {problem}")).collect();
        let why = format!("no spec on disk is of the kind {}{problems}", self.config.kind);
        match resolve(&registry, &self.requests) {
            _ if self.config.just_in_time => OnDisk::Unusable(why),
            Err(error) => OnDisk::Final(error.into()),
            Ok(_) => OnDisk::Final(DevicesError::Stale(why)),
        }
    }

    fn stale(&self, edits: &[&ContainerEdits]) -> Option<String> {
        let wrong = |named: &Named<'_>| host_files::look(&self.driver.host, named);
        let stale = freshness::stale(edits, self.driver.facts.version.as_ref(), &wrong).map(|stale| stale.to_string());
        stale.or_else(|| device_numbers::read(edits).check(edits).err().map(|error| error.to_string()))
    }

    fn filtered(&self, edits: &ContainerEdits) -> ContainerEdits {
        if self.asked.capabilities == Capabilities::ALL {
            return edits.clone();
        }
        filter::filter(edits, self.asked.capabilities, &is_32_bit)
    }
}

/// Why the specs on disk give no edits.
enum OnDisk {
    /// One may be made.
    Unusable(String),
    /// And that is that.
    Final(DevicesError),
}

fn owned(edits: Vec<&ContainerEdits>) -> Vec<ContainerEdits> {
    edits.into_iter().cloned().collect()
}

/// Whether a file of the host is a 32-bit library.
fn is_32_bit(path: &Utf8Path) -> bool {
    let mut head = [0; ELF_CLASS + 1];
    let file = open::regular(path.as_std_path(), Links::Follow);
    let read = file.and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head.starts_with(b"\x7fELF") && head.get(ELF_CLASS) == Some(&ELF_32)
}
