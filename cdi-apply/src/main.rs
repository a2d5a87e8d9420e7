//! cdi-apply, the program: `inject` prints an OCI runtime spec with CDI devices in it. I/O.
#![expect(clippy::disallowed_methods, reason = "reads specs and config.json")]

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use cdi_apply::{host_nodes, oci, resolve};
use cdi_specs::{Format, QualifiedName, Spec};
use clap::{Parser, Subcommand};
use serde_json::Value;

/// Resolve CDI devices and inject them into OCI runtime specs
#[derive(Debug, Parser)]
#[command(name = "cdi-apply", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print config.json with the edits of CDI devices applied
    Inject {
        /// A device by its qualified name, as nvidia.com/gpu=all
        #[arg(long = "device", required = true, value_delimiter = ',', value_name = "NAME")]
        devices: Vec<QualifiedName>,
        /// A CDI spec file
        #[arg(long = "spec", required = true, value_name = "FILE")]
        specs: Vec<PathBuf>,
        /// Numbers of device nodes that this machine does not have: lines `char PATH MAJOR MINOR MODE`
        #[arg(long, value_name = "FILE")]
        device_nodes: Option<PathBuf>,
        /// The OCI runtime spec; - is stdin
        #[arg(value_name = "CONFIG.JSON")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr is no reason to do more than fail.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(Command::Inject { devices, specs, device_nodes, config }: Command) -> anyhow::Result<()> {
    let specs = specs.iter().map(|path| read_spec(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let list = device_nodes.as_deref().map(read).transpose()?.map(|text| String::from_utf8_lossy(&text).into_owned());
    let listed = list.as_deref().map(host_nodes::parse_list);
    let edits = resolve::resolve(&specs, &devices)?;
    let mut document: Value =
        serde_json::from_slice(&read(&config)?).with_context(|| format!("cannot parse {}", config.display()))?;
    let lookup = |path: &str| match &listed {
        Some(listed) => listed.get(path).copied(),
        None => host_nodes::read(path),
    };
    oci::inject(&mut document, &edits, &lookup).with_context(|| format!("cannot inject into {}", config.display()))?;
    let text = serde_json::to_string_pretty(&document)? + "\n";
    io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")
}

fn read_spec(path: &Path) -> anyhow::Result<Spec> {
    let format = path.extension().and_then(OsStr::to_str).and_then(Format::from_extension).unwrap_or_default();
    let spec = cdi_specs::parse(&read(path)?, format).with_context(|| format!("cannot read {}", path.display()))?;
    let violations: Vec<String> = cdi_specs::validate(&spec).iter().map(ToString::to_string).collect();
    ensure!(violations.is_empty(), "{} is not a valid CDI spec: {}", path.display(), violations.join("; "));
    Ok(spec)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).context("cannot read stdin")?;
        return Ok(bytes);
    }
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
