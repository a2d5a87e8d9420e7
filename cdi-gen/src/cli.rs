//! The command line: what was typed. It touches nothing; `main` gives it its meaning.
//!
//! `generate` takes the flags and the environment variables of `nvidia-ctk cdi generate` 1.20, so that a script moves
//! over by changing one word.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use cdi_gen::capability::Capabilities;
use cdi_gen::plan::names::{DeviceId, Naming};
use cdi_gen::targets::Target;

/// What exit codes mean, for `--help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  good (problems that cost only a part are told on stderr)
  1  a file could not be read or written
  2  wrong usage
  3  no NVIDIA driver runs here
  4  the driver is incomplete, or a device asked for is not there; a spec written before is kept (refresh removes one
     whose files are gone)
  5  check, diff: the spec on disk is stale
  6  check: there is no spec
  7  check, remove: the spec on disk was not written by cdi-gen
  8  doctor: something is wrong";

/// Where services write.
pub const USUAL_OUTPUT: &str = cdi_gen::doctor::USUAL_SPEC;

/// Generate a CDI spec for the NVIDIA GPUs of this host
#[derive(Debug, Parser)]
#[command(name = "cdi-gen", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Say errors only
    #[arg(long, short, global = true, env = "NVIDIA_CTK_QUIET", value_parser = clap::builder::FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub quiet: bool,
    /// Accepted for compatibility; `show` tells each stage
    #[arg(long, short, global = true, env = "NVIDIA_CTK_DEBUG", value_parser = clap::builder::FalseyValueParser::new(), action = ArgAction::SetTrue, hide = true)]
    pub debug: bool,
    /// Report as one JSON document on stderr
    #[arg(long, global = true)]
    pub json: bool,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write the CDI spec of this host
    Generate(Box<Generate>),
    /// Tell whether the spec on disk is still true, at a glance
    Check(Box<Check>),
    /// Print what a spec that is made now would change in that on disk
    Diff(Box<Generate>),
    /// Bring the spec on disk up to date; for services and triggers, any number at once
    Refresh(Box<Generate>),
    /// Remove the spec on disk, if it is ours and the driver is gone
    Remove(Remove),
    /// Tell why containers get no GPU: driver, nodes, specs, and each installed engine as it would look
    Doctor(Box<Doctor>),
    /// Make the device nodes of the running driver that are missing, or lead to another device
    CreateDeviceNodes(MakeNodes),
    /// Make the links in /dev/char without which systemd takes GPUs away from containers when it reloads
    CreateDevCharSymlinks(MakeNodes),
    /// Print a stage of the generation
    Show(Box<Show>),
    /// Print this host as a test fixture, for a bug report
    Capture(Capture),
    /// List the devices that the specs on this host define
    List(List),
    /// Rewrite the paths of a spec
    Transform {
        /// What to rewrite
        #[command(subcommand)]
        what: Transform,
    },
    /// Ask NVML in this process and print its answer as JSON
    #[command(hide = true)]
    NvmlReport {
        /// The library to load
        library: Utf8PathBuf,
        /// Keep the user and the capabilities of the caller
        #[arg(long)]
        keep_capabilities: bool,
    },
}

/// Where the host is.
#[derive(Args, Debug)]
pub struct Roots {
    /// Read this directory as if it were `/`: an unpacked image, a captured host
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: Utf8PathBuf,
    /// Root of the driver's files, as in a driver container
    #[arg(long, env = "NVIDIA_CTK_DRIVER_ROOT", default_value = "/", value_name = "DIR")]
    pub driver_root: Utf8PathBuf,
    /// Root that holds `dev/`; the driver root if it has the nodes, else `/`
    #[arg(long, env = "NVIDIA_CTK_DEV_ROOT", value_name = "DIR")]
    pub dev_root: Option<Utf8PathBuf>,
    /// Numbers of device nodes that the root cannot hold: lines `char PATH MAJOR MINOR MODE [UID GID]`
    #[arg(long, value_name = "FILE")]
    pub device_nodes: Option<Utf8PathBuf>,
    /// Search these directories for libraries, and no others
    #[arg(long, env = "NVIDIA_CTK_CDI_GENERATE_LIBRARY_SEARCH_PATHS", value_delimiter = ',', value_name = "DIR")]
    pub library_search_path: Vec<Utf8PathBuf>,
    /// Search these directories for configuration files, and no others
    #[arg(long, env = "NVIDIA_CTK_CDI_GENERATE_CONFIG_SEARCH_PATHS", value_delimiter = ',', value_name = "DIR")]
    pub config_search_path: Vec<Utf8PathBuf>,
    /// Take driver files that others than root may change, too; root leaves them out otherwise
    #[arg(
        long,
        env = "CDI_GEN_INSECURE_DRIVER_FILES",
        value_parser = clap::builder::FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub insecure_driver_files: bool,
    /// When to ask NVML, in a process of its own: only for what the kernel does not tell, and never that of another
    /// driver root; always; never
    #[arg(long, value_enum, default_value_t)]
    pub nvml: Nvml,
    /// How long NVML may take, in seconds
    #[arg(long, default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    pub nvml_time_limit: Duration,
}

/// When to ask NVML.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Nvml {
    /// Only for what the kernel does not tell.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Which devices, and for whom.
#[derive(Args, Debug)]
pub struct Selection {
    /// How devices are named: index, uuid, type-index, pci
    #[arg(
        long,
        env = "NVIDIA_CTK_CDI_GENERATE_DEVICE_NAME_STRATEGIES",
        value_delimiter = ',',
        default_value = "index,uuid",
        value_name = "STRATEGY"
    )]
    pub device_name_strategy: Vec<Naming>,
    /// Only these GPUs: index, UUID, PCI address, all, or none for the driver alone
    #[arg(long = "device-id", aliases = ["device-ids", "device", "devices"], env = "NVIDIA_CTK_CDI_GENERATE_DEVICE_IDS", value_delimiter = ',', value_name = "ID")]
    pub device_ids: Vec<DeviceId>,
    /// Leave out the device `all`
    #[arg(long, env = "NVIDIA_CTK_CDI_GENERATE_NO_ALL_DEVICE", value_parser = clap::builder::FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub no_all_device: bool,
    /// Only the driver files that these capabilities need: all, compat32, compute, display, graphics, ngx, utility, video
    #[arg(long, default_value = "all", value_name = "LIST")]
    pub driver_capabilities: Capabilities,
}

/// `generate`.
#[derive(Args, Debug)]
pub struct Generate {
    /// Where the host is
    #[command(flatten)]
    pub roots: Roots,
    /// Which devices
    #[command(flatten)]
    pub selection: Selection,
    /// Write to this file, atomically; stdout if not given
    #[arg(long, short, env = "NVIDIA_CTK_CDI_OUTPUT_FILE_PATH", value_name = "FILE")]
    pub output: Option<Utf8PathBuf>,
    /// Do nothing if the spec on disk is still true
    #[arg(long)]
    pub if_stale: bool,
    /// yaml or json; the output file's extension decides if it has one
    #[arg(long, env = "NVIDIA_CTK_CDI_GENERATE_OUTPUT_FORMAT", value_enum, ignore_case = true)]
    pub format: Option<Format>,
    /// What kind of host this is
    #[arg(
        long,
        alias = "discovery-mode",
        env = "NVIDIA_CTK_CDI_GENERATE_MODE",
        value_enum,
        ignore_case = true,
        default_value_t
    )]
    pub mode: Mode,
    /// Use our hook in containers: if it is installed, always, never
    #[arg(long, value_enum, default_value_t)]
    pub hooks: HookMode,
    /// The hook binary; beside this program, in PATH or in /usr/bin if not given
    #[arg(long, aliases = ["nvidia-cdi-hook-path", "nvidia-ctk-path"], env = "NVIDIA_CTK_CDI_HOOK_PATH", value_name = "FILE")]
    pub hook_path: Option<Utf8PathBuf>,
    /// Leave out these steps of the hook, or all
    #[arg(
        long = "disable-hook",
        alias = "disable-hooks",
        env = "NVIDIA_CTK_CDI_GENERATE_DISABLED_HOOKS",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub disabled_hooks: Vec<String>,
    /// Keep these steps of the hook whatever is left out
    #[arg(
        long = "enable-hook",
        alias = "enable-hooks",
        env = "NVIDIA_CTK_CDI_GENERATE_ENABLED_HOOKS",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub enabled_hooks: Vec<String>,
    /// Have containers fail to start where the kernel cannot keep the hook from all that is not its work; else it says so,
    /// and works all the same
    #[arg(long, env = "CDI_GEN_REQUIRE_SEAL", value_parser = clap::builder::FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub require_seal: bool,
    /// The container's library directory; repeat for several
    #[arg(long = "library-dir", value_delimiter = ',', value_name = "DIR")]
    pub library_dirs: Vec<Utf8PathBuf>,
    /// Vendor of the device kind
    #[arg(long, alias = "cdi-vendor", env = "NVIDIA_CTK_CDI_GENERATE_VENDOR", default_value = "nvidia.com")]
    pub vendor: String,
    /// Class of the device kind
    #[arg(long, alias = "cdi-class", env = "NVIDIA_CTK_CDI_GENERATE_CLASS", default_value = "gpu")]
    pub class: String,
    /// Let processes that are not root use group-restricted nodes: adds the nodes' groups, which takes CDI 0.7.0
    /// (podman 5.1, docker 26.1, containerd 1.7.16)
    #[arg(long)]
    pub additional_gids: bool,
    /// Say no more than this engine reads, as in podman=4.3 (the oldest release without one), and tell what is lost; all
    /// of several; auto: those that are installed. Where all read CDI 0.7.0 this implies --additional-gids
    #[arg(long = "target", value_delimiter = ',', value_name = "ENGINE[=RELEASE]")]
    pub targets: Vec<Target>,
    /// Flags that have no meaning here
    #[command(flatten)]
    pub ignored: Ignored,
}

/// Flags of the NVIDIA toolkit that scripts pass and that have nothing to act on: our hook runs no ldconfig, the CSV
/// files describe Tegra hosts, and the features are its own.
#[derive(Args, Debug)]
pub struct Ignored {
    /// Not read
    #[arg(
        long = "feature-flag",
        alias = "feature-flags",
        env = "NVIDIA_CTK_CDI_GENERATE_FEATURE_FLAGS",
        value_delimiter = ',',
        hide = true
    )]
    feature_flags: Vec<String>,
    /// Not needed: the hook runs no ldconfig
    #[arg(long, env = "NVIDIA_CTK_CDI_GENERATE_LDCONFIG_PATH", hide = true)]
    ldconfig_path: Option<String>,
    /// Not read
    #[arg(long = "csv.file", env = "NVIDIA_CTK_CDI_GENERATE_CSV_FILES", hide = true)]
    csv_file: Vec<String>,
    /// Not read
    #[arg(long = "csv.ignore-pattern", env = "NVIDIA_CTK_CDI_GENERATE_CSV_IGNORE_PATTERNS", hide = true)]
    csv_ignore_pattern: Vec<String>,
    /// Not read
    #[arg(long = "csv.compat-container-root", env = "NVIDIA_CTK_CDI_GENERATE_CSV_CONTAINER_COMPAT_ROOT", hide = true)]
    csv_compat_container_root: Option<String>,
    /// Not read
    #[arg(long, env = "NVIDIA_CTK_CONFIG", hide = true)]
    config: Option<String>,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Yaml,
    /// Ten times faster to load.
    Json,
}

/// Kinds of hosts.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Mode {
    /// Find out.
    #[default]
    Auto,
    /// A host with NVIDIA's Linux driver, by the toolkit's name for it; NVML itself is not needed.
    Nvml,
}

/// When specs use our hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum HookMode {
    /// If it is installed.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    None,
}

/// `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Where the host is
    #[command(flatten)]
    pub roots: Roots,
    /// Which devices the spec was made for
    #[command(flatten)]
    pub selection: Selection,
    /// The spec
    #[arg(long, short, env = "NVIDIA_CTK_CDI_OUTPUT_FILE_PATH", default_value = USUAL_OUTPUT, value_name = "FILE")]
    pub output: Utf8PathBuf,
}

/// `remove`.
#[derive(Args, Debug)]
pub struct Remove {
    /// Where the host is
    #[command(flatten)]
    pub roots: Roots,
    /// The spec
    #[arg(long, short, env = "NVIDIA_CTK_CDI_OUTPUT_FILE_PATH", default_value = USUAL_OUTPUT, value_name = "FILE")]
    pub output: Utf8PathBuf,
    /// Even if a driver runs
    #[arg(long)]
    pub force: bool,
}

/// `doctor`.
#[derive(Args, Debug)]
pub struct Doctor {
    /// Devices that an engine does not find: nvidia.com/gpu=0
    #[arg(value_name = "DEVICE")]
    pub devices: Vec<String>,
    /// Where the host is
    #[command(flatten)]
    pub roots: Roots,
    /// Engines to look at, as in podman=4.9; auto: those that are installed
    #[arg(long = "target", value_delimiter = ',', value_name = "ENGINE[=RELEASE]")]
    pub targets: Vec<Target>,
    /// Write all of it as a page for a browser, with a picture of what containers get
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<Utf8PathBuf>,
    /// Keep the GPUs' UUIDs in the page
    #[arg(long, requires = "report")]
    pub keep_ids: bool,
}

/// `create-device-nodes` and `create-dev-char-symlinks`.
#[derive(Args, Debug)]
pub struct MakeNodes {
    /// Where the host is
    #[command(flatten)]
    pub roots: Roots,
    /// Load the driver's kernel modules first
    #[arg(long)]
    pub load_kernel_modules: bool,
    /// Print what would be made, and make nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `show`.
#[derive(Args, Debug)]
pub struct Show {
    /// Which stage
    #[arg(value_enum)]
    pub stage: Stage,
    /// Where the host is
    #[command(flatten)]
    pub roots: Roots,
    /// Which devices
    #[command(flatten)]
    pub selection: Selection,
    /// text or json
    #[arg(long, value_enum, default_value_t)]
    pub format: ShowFormat,
}

/// Stages that can be shown.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Stage {
    /// What the host says.
    Facts,
    /// What of it is the driver.
    Inventory,
    /// What containers get, and why.
    Plan,
}

/// Formats of `show`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum ShowFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// `capture`.
#[derive(Args, Debug)]
pub struct Capture {
    /// Where the host is
    #[command(flatten)]
    pub roots: Roots,
    /// Write to this file; stdout if not given
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<Utf8PathBuf>,
    /// One line that says what machine it is
    #[arg(long, default_value = "a captured host")]
    pub title: String,
    /// Keep the GPUs' UUIDs
    #[arg(long)]
    pub keep_ids: bool,
}

/// `list`.
#[derive(Args, Debug)]
pub struct List {
    /// Spec directories, the last has priority
    #[arg(
        long = "spec-dir",
        env = "NVIDIA_CTK_CDI_SPEC_DIRS",
        value_delimiter = ',',
        default_value = "/etc/cdi,/var/run/cdi",
        value_name = "DIR"
    )]
    pub spec_dirs: Vec<Utf8PathBuf>,
}

/// `transform`.
#[derive(Debug, Subcommand)]
pub enum Transform {
    /// Move every path below one root to another
    Root {
        /// The root to move from
        #[arg(long, value_name = "DIR")]
        from: Utf8PathBuf,
        /// The root to move to
        #[arg(long, value_name = "DIR")]
        to: Utf8PathBuf,
        /// The spec to read; - is stdin
        #[arg(long, default_value = "-", value_name = "FILE")]
        input: Utf8PathBuf,
        /// The file to write; stdout if not given
        #[arg(long, value_name = "FILE")]
        output: Option<Utf8PathBuf>,
        /// Whose paths to move
        #[arg(long, value_enum, default_value_t)]
        relative_to: RelativeTo,
    },
}

/// Whose paths to move.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum RelativeTo {
    /// The host's.
    #[default]
    Host,
    /// The container's.
    Container,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f32 = text.parse().map_err(|_| format!("`{text}` is not a number of seconds"))?;
    Duration::try_from_secs_f32(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_the_toolkit_is_taken() {
        let line = "cdi-gen generate --output o.yaml --format YAML --mode nvml --discovery-mode auto --driver-root /r \
                    --dev-root /d --device-name-strategy index --device-name-strategy uuid,type-index \
                    --nvidia-cdi-hook-path /h --ldconfig-path /l --cdi-vendor v --cdi-class c \
                    --config-search-path /a,/b --library-search-path /c --csv.file f --csv.ignore-pattern p \
                    --csv.compat-container-root /x --disable-hooks a --enable-hooks b --feature-flags f \
                    --no-all-device --device-ids all --device 0 --devices 1";
        // `--mode` may be given once; its alias stands for it.
        let line = line.replace("--discovery-mode auto ", "").replace("--device-ids all ", "");
        let Ok(Cli { command: Command::Generate(generate), .. }) = Cli::try_parse_from(line.split_whitespace()) else {
            panic!("not taken: {:?}", Cli::try_parse_from(line.split_whitespace()).err());
        };
        assert_eq!(generate.selection.device_name_strategy, [Naming::Index, Naming::Uuid, Naming::TypeIndex]);
        assert_eq!(generate.selection.device_ids.len(), 2);
        assert!(generate.selection.no_all_device);
    }
}
