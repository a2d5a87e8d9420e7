//! The command line: what was typed. It touches nothing; `main` gives it its meaning.

use std::ffi::OsString;
use std::path::PathBuf;

use cdi_apply::configure::Engine;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

/// What exit codes mean, for `--help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  done (spec files that cannot be used are told on stderr)
  1  a file could not be read or written
  2  wrong usage
  3  a device is not defined, or in conflict
  4  config.json or a spec is malformed or invalid
  5  this host has not the device node that a spec names, or has it with other numbers";

/// Resolve CDI devices and inject them into OCI runtime specs
#[derive(Debug, Parser)]
#[command(name = "cdi-apply", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Answer as one JSON document: on stdout, and where that holds another, or after an error, on stderr
    #[arg(long, global = true)]
    pub json: bool,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Inject devices into the config.json of a container
    Inject(Inject),
    /// Print the edits of devices, with the file that each comes from
    Resolve(Resolve),
    /// List what the specs define
    List(List),
    /// Check spec files
    Validate(Validate),
    /// Turn CDI on in an engine's configuration, and register cdi-runtime there
    Configure(Configure),
    /// Be an OCI runtime: give a container the GPUs that it asks for, then become runc, crun or youki
    Runtime {
        /// What an engine tells a runtime to do: create --bundle DIR ID
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
        words: Vec<OsString>,
    },
}

/// Where the specs are.
#[derive(Args, Debug)]
pub struct Specs {
    /// Read specs from here instead of /etc/cdi and /var/run/cdi; of several the last has the highest priority
    #[arg(long = "spec-dir", value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// Read this spec file, and no directory that is not given too
    #[arg(long = "spec", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// As root, read also specs that others may write
    #[arg(long)]
    pub insecure_spec_dirs: bool,
}

/// `inject`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("target").required(true).args(["bundle", "config"]))]
#[command(group = ArgGroup::new("request").required(true).multiple(true).args(["devices", "annotations"]))]
pub struct Inject {
    /// Devices: nvidia.com/gpu=0, a pattern such as nvidia.com/gpu=*, several with commas
    #[arg(long = "device", short, value_name = "NAME")]
    pub devices: Vec<String>,
    /// Also the devices that the container's annotations cdi.k8s.io/… request
    #[arg(long)]
    pub annotations: bool,
    /// Where the specs are
    #[command(flatten)]
    pub specs: Specs,
    /// Inject even where a spec's device numbers are not those of this host
    #[arg(long)]
    pub allow_stale: bool,
    /// Numbers of another host's device nodes: lines `char PATH MAJOR MINOR MODE [UID GID]`
    #[arg(long, value_name = "FILE")]
    pub device_nodes: Option<PathBuf>,
    /// Change the config.json of this bundle, atomically
    #[arg(long, short, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Change this file, atomically; - reads stdin and writes stdout
    #[arg(value_name = "CONFIG.JSON")]
    pub config: Option<PathBuf>,
    /// Write to stdout and change nothing
    #[arg(long)]
    pub stdout: bool,
}

/// `configure`.
#[derive(Args, Debug)]
pub struct Configure {
    /// The engine
    #[arg(value_enum)]
    pub engine: EngineName,
    /// Its configuration file, where it is not the usual one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Register cdi-runtime
    #[arg(long)]
    pub runtime: bool,
    /// The name that it is registered by
    #[arg(long, default_value = "nvidia", value_name = "NAME")]
    pub runtime_name: String,
    /// The program; beside this one, in PATH or in /usr/bin if not given
    #[arg(long, value_name = "FILE")]
    pub runtime_path: Option<PathBuf>,
    /// And let containers run by it that name none
    #[arg(long)]
    pub set_default: bool,
    /// Print what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Put the file back as it was before the first change
    #[arg(long, conflicts_with_all = ["runtime", "set_default", "runtime_path"])]
    pub undo: bool,
    /// Even where it was edited since: the edited one is kept beside it
    #[arg(long, requires = "undo")]
    pub force: bool,
}

/// Engines that can be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    /// buildkitd
    Buildkit,
    /// containerd, for Kubernetes
    Containerd,
    /// CRI-O
    Crio,
    /// dockerd
    Docker,
    /// nerdctl
    Nerdctl,
    /// podman
    Podman,
}

impl EngineName {
    /// What the library calls it.
    pub fn engine(self) -> Engine {
        match self {
            Self::Buildkit => Engine::Buildkit,
            Self::Containerd => Engine::Containerd,
            Self::Crio => Engine::Crio,
            Self::Docker => Engine::Docker,
            Self::Nerdctl => Engine::Nerdctl,
            Self::Podman => Engine::Podman,
        }
    }

    /// What it was typed as.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// `resolve`.
#[derive(Args, Debug)]
pub struct Resolve {
    /// Devices: nvidia.com/gpu=0, a pattern such as nvidia.com/gpu=*, several with commas
    #[arg(required = true, value_name = "NAME")]
    pub devices: Vec<String>,
    /// Where the specs are
    #[command(flatten)]
    pub specs: Specs,
}

/// `list`.
#[derive(Args, Debug)]
pub struct List {
    /// What to list
    #[arg(value_enum, default_value_t)]
    pub what: What,
    /// Where the specs are
    #[command(flatten)]
    pub specs: Specs,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Qualified names of devices.
    #[default]
    Devices,
    /// Vendors of devices.
    Vendors,
    /// Classes of devices.
    Classes,
    /// Spec files.
    Specs,
}

/// `validate`.
#[derive(Args, Debug)]
pub struct Validate {
    /// Spec files; - is stdin
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Leave out the doubts about this host: missing paths, who may write them, device numbers
    #[arg(long)]
    pub no_host: bool,
}
