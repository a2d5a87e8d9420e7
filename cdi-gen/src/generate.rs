//! `cdi-gen generate`.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use cdi_gen::output::Written;
use cdi_gen::targets::{self, Target};
use cdi_gen::to_spec::{self, Hooks, LoweringOptions};
use cdi_gen::version::DriverVersion;
use cdi_gen::{GenerateError, Problem, hook_path, output, ownership};
use cdi_specs::{Format, Spec, Version};

use crate::cli::{self, Generate, HookMode};
use crate::report::{Report, Voice};
use crate::{Usage, deliver, installed, plan_options, read_facts, refuse, upkeep};

/// The hook's steps by the toolkit's names, and the word for all of them.
const HOOK_NAMES: [&str; 7] = [
    "all",
    "chmod",
    "create-symlinks",
    "disable-device-node-modification",
    "enable-cuda-compat",
    "update-application-profile",
    "update-ldcache",
];

/// What came of making a spec.
pub struct Attempt {
    /// Where it goes; stdout if nowhere.
    pub path: Option<Utf8PathBuf>,
    /// As what it is written.
    pub format: Format,
    /// The spec, and the driver that it is for.
    pub made: Result<(Spec, DriverVersion), GenerateError>,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
}

/// Makes the spec of a host, and writes nothing.
pub fn attempt(arguments: &Generate) -> anyhow::Result<Attempt> {
    let mut about_output = Vec::new();
    let newest = newest(&arguments.targets)?;
    let mut options = lowering_options(arguments, &mut about_output)?;
    options.additional_gids |= newest.is_some_and(|newest| newest >= Version::V0_7_0);
    let (path, format) = destination(arguments, &mut about_output);
    let (facts, mut problems) = read_facts(&arguments.roots)?;
    let plan = match cdi_gen::plan(&facts, &plan_options(&arguments.selection), &mut problems) {
        Ok(plan) => plan,
        Err(error) => return Ok(Attempt { path, format, made: Err(error), problems }),
    };
    problems.extend(about_output);
    let mut spec = to_spec::lower(&plan, &options);
    if let Some(newest) = newest {
        let lost = targets::lower(&mut spec, newest).map_err(|error| Usage(error.to_string()))?;
        problems.extend(lost.into_iter().map(|words| Problem::note("target", format!("for CDI {newest}: {words}"))));
    }
    let violations = cdi_specs::validate(&spec);
    anyhow::ensure!(violations.is_empty(), "the spec would be invalid: {}", join(&violations));
    Ok(Attempt { path, format, made: Ok((spec, plan.driver_version)), problems })
}

/// The newest CDI version that all targets read; `None` if there is none to care for.
fn newest(targets: &[Target]) -> anyhow::Result<Option<Version>> {
    let (mut newest, mut pending) = (None, targets.to_vec());
    while let Some(target) = pending.pop() {
        let Target::Engine { name, release } = target else {
            pending.extend(installed::engines());
            continue;
        };
        let reads = targets::reads(name, release).ok_or_else(|| {
            let release = release.map(|release| release.to_string()).unwrap_or_default();
            Usage(format!("{name} {release} reads no CDI specs"))
        })?;
        newest = Some(newest.map_or(reads, |newest: Version| newest.min(reads)));
    }
    Ok(newest)
}

/// Writes the spec of a host; with `--if-stale` only if that on disk is no longer true.
pub fn run(arguments: &Generate, voice: Voice) -> anyhow::Result<u8> {
    if arguments.if_stale {
        let path = arguments.output.as_deref().ok_or_else(|| Usage("--if-stale takes --output".to_owned()))?;
        if upkeep::is_fresh(path, &arguments.roots, &arguments.selection)? {
            Report { outcome: "unchanged", message: format!("{path}: fresh"), problems: Vec::new() }.print(voice);
            return Ok(0);
        }
    }
    write(attempt(arguments)?, voice)
}

/// Writes what was made, or tells why nothing was.
pub fn write(attempt: Attempt, voice: Voice) -> anyhow::Result<u8> {
    let Attempt { path, format, made, mut problems } = attempt;
    let (spec, version) = match made {
        Ok(made) => made,
        Err(error) => {
            let kept = path.filter(|path| path.is_file()).map(|path| format!("{path} is kept as it was"));
            return Ok(refuse(&error, problems, kept.unwrap_or_default(), voice));
        }
    };
    let written = deliver(path.as_deref(), &ownership::text(&spec, format))?;
    problems.extend(path.as_deref().and_then(output::untrusted));
    let what = format!("driver {version}, {} devices, CDI {}", spec.devices.len(), spec.cdi_version);
    let (outcome, message) = match (written, path) {
        (Some(Written::New), Some(path)) => ("written", format!("{path}: written ({what})")),
        (Some(Written::Unchanged), Some(path)) => ("unchanged", format!("{path}: unchanged ({what})")),
        _ => ("printed", String::new()),
    };
    Report { outcome, message, problems }.print(voice);
    Ok(0)
}

/// Several on one line.
pub fn join(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn lowering_options(arguments: &Generate, problems: &mut Vec<Problem>) -> anyhow::Result<LoweringOptions> {
    let usage = |error: cdi_specs::NameError| Usage(error.to_string());
    cdi_specs::validate_vendor(&arguments.vendor).map_err(usage)?;
    cdi_specs::validate_class(&arguments.class).map_err(usage)?;
    if let Some(dir) = arguments.library_dirs.iter().find(|dir| !dir.is_absolute()) {
        return Err(Usage(format!("--library-dir {dir}: not an absolute path")).into());
    }
    Ok(LoweringOptions {
        kind: format!("{}/{}", arguments.vendor, arguments.class),
        hooks: hooks(arguments, problems)?,
        library_dirs: arguments.library_dirs.clone(),
        additional_gids: arguments.additional_gids,
        require_seal: arguments.require_seal,
    })
}

fn hooks(arguments: &Generate, problems: &mut Vec<Problem>) -> anyhow::Result<Hooks> {
    let named = arguments.disabled_hooks.iter().chain(&arguments.enabled_hooks);
    if let Some(unknown) = named.into_iter().find(|name| !HOOK_NAMES.contains(&name.as_str())) {
        return Err(Usage(format!("unknown hook `{unknown}`; known are {}", HOOK_NAMES.join(", "))).into());
    }
    if arguments.hooks == HookMode::None || disabled(arguments).len() == HOOK_NAMES.len() {
        return Ok(Hooks::None);
    }
    match hook_binary(arguments, problems) {
        Some(path) => {
            if !hook_path::is_executable(&path) {
                let message = format!("the hook {path} is not there; containers will not start without it");
                problems.push(Problem::warning("no-hook", message).hint("install it, or pass --hooks none"));
            } else if let Some(who) = hook_path::untrusted(&path) {
                let message = format!("the hook {path} is run by root's engines, and {who}");
                problems.push(Problem::warning("untrusted", message).hint("install it where root alone may write"));
            }
            Ok(Hooks::With { path, disabled: disabled(arguments) })
        }
        None if arguments.hooks == HookMode::Always => Err(Usage(
            "--hooks always: no hook binary beside this program, in PATH or in /usr/bin; name it: --hook-path FILE"
                .into(),
        )
        .into()),
        None => {
            let message = "no hook binary is installed: libraries are mounted under each name, CUDA forward compatibility is left to the image";
            problems.push(Problem::note("no-hook", message).hint("--hooks none says so without this note"));
            Ok(Hooks::None)
        }
    }
}

/// A relative hook path means nothing to an engine.
fn hook_binary(arguments: &Generate, problems: &mut Vec<Problem>) -> Option<Utf8PathBuf> {
    if let Some(path) = arguments.hook_path.as_ref().filter(|path| path.is_absolute()) {
        return Some(path.clone());
    }
    let search = hook_path::search(cdi_specs::HOOK_NAME);
    problems.extend(search.passed_over);
    search.found
}

/// Steps left out: `--enable-hook` beats `--disable-hook`, which may say `all`.
fn disabled(arguments: &Generate) -> BTreeSet<String> {
    let all = arguments.disabled_hooks.iter().any(|name| name == "all");
    let off = |name: &&str| all || arguments.disabled_hooks.iter().any(|disabled| disabled == name);
    let on = |name: &&str| arguments.enabled_hooks.iter().any(|enabled| enabled == name);
    HOOK_NAMES.iter().filter(|name| off(name) && !on(name)).map(|name| (*name).to_owned()).collect()
}

/// Where the spec goes, and in which format. Engines read `*.yaml` and `*.json` and nothing else.
fn destination(arguments: &Generate, problems: &mut Vec<Problem>) -> (Option<Utf8PathBuf>, Format) {
    let asked = arguments.format.map(|format| match format {
        cli::Format::Yaml => Format::Yaml,
        cli::Format::Json => Format::Json,
    });
    let fallback = asked.unwrap_or_default();
    let Some(path) = arguments.output.as_deref().filter(|path| !path.as_str().is_empty()) else {
        return (None, fallback);
    };
    let extension = fallback.extension();
    match path.extension().and_then(Format::from_extension) {
        Some(format) => {
            if asked.is_some_and(|asked| asked != format) {
                problems.push(Problem::warning("format", format!("{path} says the format, not --format {extension}")));
            }
            (Some(path.to_owned()), format)
        }
        None => (Some(with_extension(path, extension, problems)), fallback),
    }
}

fn with_extension(path: &Utf8Path, extension: &str, problems: &mut Vec<Problem>) -> Utf8PathBuf {
    if path.as_str().ends_with('/') || path.is_dir() {
        return path.to_owned();
    }
    let extended = Utf8PathBuf::from(format!("{path}.{extension}"));
    problems.push(Problem::note("format", format!("engines read *.yaml and *.json only: written to {extended}")));
    extended
}
