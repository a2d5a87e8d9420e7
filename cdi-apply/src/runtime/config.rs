//! Configuration: what an administrator may choose, and the keys of the NVIDIA toolkit's file that mean the same. I/O.
//!
//! Our file is read if it is there, else the toolkit's, so that a host moves over by changing a path. Every key has a
//! default; without any file all of them hold.
//!
//! Root relies on it: it names the program that root runs, and what containers may ask for. So a file that others may
//! change is no configuration for root, whoever names it.
#![expect(clippy::disallowed_methods, reason = "reads the variable that may name the configuration")]

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use camino::Utf8PathBuf;
use cdi_files::open::{self, Links};
use cdi_files::trust::{Trust, why_untrusted};
use cdi_gen::capability::Capabilities;
use cdi_gen::facts::nvml_report::NvmlPolicy;
use cdi_specs::Kind;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// Our file.
pub const PATH: &str = "/etc/cdi-apply/config.toml";
/// The toolkit's.
pub const PEERS_PATH: &str = "/etc/nvidia-container-runtime/config.toml";
/// Names another file in the place of both.
pub const VARIABLE: &str = "CDI_RUNTIME_CONFIG";
/// No such file is longer, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// What an administrator may choose.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// OCI runtimes, by name or by path; the first that is there is run.
    pub runtimes: Vec<PathBuf>,
    /// Whose `NVIDIA_VISIBLE_DEVICES` counts. An image may set it as well as a user.
    pub environment: Accept,
    /// Whether mounts of `/dev/null` below `/var/run/nvidia-container-devices` ask for devices.
    pub volume_mounts: bool,
    /// Annotations that ask for devices, by how their keys start: `cdi.k8s.io/`. Engines act on those themselves.
    pub annotation_prefixes: Vec<String>,
    /// Variables that Docker Swarm sets in the place of `NVIDIA_VISIBLE_DEVICES`.
    pub swarm_resources: Vec<String>,
    /// Kinds beside `kind` whose devices a container may name, or vendors, which is all their kinds. An image sets
    /// variables, and with podman annotations, and a device may be anything of the host's.
    pub other_kinds: Vec<String>,
    /// Whether the hook that `docker run --gpus` adds makes the variable count that docker sets with it, where
    /// `environment` does not. Some packages of the NVIDIA toolkit add that hook to every container of podman and CRI-O.
    pub docker_gpus: bool,
    /// Whether containers may ask for channels to other hosts' memory.
    pub imex_channels: bool,
    /// The kind that an index or a UUID means.
    #[serde(deserialize_with = "kind")]
    pub kind: String,
    /// Where specs are, the lowest priority first; the standard's directories if there is none.
    pub spec_dirs: Vec<PathBuf>,
    /// Whether a spec is made in memory where that on disk is missing or stale.
    pub just_in_time: bool,
    /// The driver's root: `/run/nvidia/driver` for a driver container.
    pub driver_root: Utf8PathBuf,
    /// The most that `NVIDIA_DRIVER_CAPABILITIES` can ask for.
    #[serde(deserialize_with = "capabilities")]
    pub driver_capabilities: Capabilities,
    /// Whether `NVIDIA_REQUIRE_…` is checked.
    pub requirements: bool,
    /// When NVML is asked: for what the kernel does not tell, and never that of a driver container, whose code would
    /// run as root of the host; always, of a driver container too; never.
    pub nvml: NvmlPolicy,
    /// Whether `/proc/driver/nvidia/gpus` shows a container its own GPUs only.
    pub hide_gpus: bool,
    /// Whether driver files, and what specs name, count though others than root may change them.
    pub insecure_driver_files: bool,
}

/// Whose variables count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accept {
    /// Each container's.
    #[default]
    Always,
    /// Those of containers that may use every device anyway.
    Privileged,
    /// Nobody's.
    Never,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            runtimes: ["runc", "crun", "youki"].map(PathBuf::from).into(),
            environment: Accept::Always,
            volume_mounts: false,
            annotation_prefixes: Vec::new(),
            swarm_resources: Vec::new(),
            other_kinds: Vec::new(),
            docker_gpus: false,
            imex_channels: true,
            kind: "nvidia.com/gpu".to_owned(),
            spec_dirs: Vec::new(),
            just_in_time: true,
            driver_root: "/".into(),
            driver_capabilities: Capabilities::ALL,
            requirements: true,
            nvml: NvmlPolicy::Auto,
            hide_gpus: false,
            insecure_driver_files: false,
        }
    }
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than root may change it.
    #[error(
        "the configuration {path} is not used, since {why} and root must be able to rely on it (chown root:root, chmod go-w)",
        path = .path.display()
    )]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Who may change what.
        why: String,
    },
    /// It says something else than it may.
    #[error("the configuration {path} is wrong: {message}", path = .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What, on one line.
        message: String,
    },
}

fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let kind: Kind = String::deserialize(deserializer)?.parse().map_err(D::Error::custom)?;
    Ok(kind.to_string())
}

fn capabilities<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Capabilities, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// Reads the configuration of this host.
///
/// # Errors
/// A file is there and cannot be read, or makes no sense: what an administrator forbade must not be allowed by a slip.
pub fn read() -> Result<Config, ConfigError> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        return read_file(Path::new(&path), parse)?.ok_or_else(|| missing(path.into()));
    }
    if let Some(config) = read_file(Path::new(PATH), parse)? {
        return Ok(config);
    }
    Ok(read_file(Path::new(PEERS_PATH), parse_peers)?.unwrap_or_default())
}

/// The runtimes of this host, for what makes no container: that must go on whatever else the configuration says.
///
/// # Errors
/// It does not say which runtimes there are.
pub fn read_runtimes() -> Result<Vec<PathBuf>, ConfigError> {
    #[derive(Deserialize)]
    struct Only {
        runtimes: Option<Vec<PathBuf>>,
    }
    read().map(|config| config.runtimes).or_else(|error| {
        let path = std::env::var_os(VARIABLE).map_or_else(|| PathBuf::from(PATH), PathBuf::from);
        let text = read_trusted(&path).ok().flatten();
        let only = text.and_then(|text| toml::from_str::<Only>(&text).ok());
        only.map(|only| only.runtimes.unwrap_or(Config::default().runtimes)).ok_or(error)
    })
}

fn missing(path: PathBuf) -> ConfigError {
    ConfigError::Read { path, source: io::ErrorKind::NotFound.into() }
}

/// `None` if there is no such file.
fn read_file(path: &Path, parse: fn(&str) -> Result<Config, String>) -> Result<Option<Config>, ConfigError> {
    let wrong = |message| ConfigError::Wrong { path: path.to_owned(), message };
    read_trusted(path)?.map(|text| parse(&text).map_err(wrong)).transpose()
}

/// The text of a regular file that nobody else may change; `None` if there is none.
fn read_trusted(path: &Path) -> Result<Option<String>, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = match open::regular(path, Links::Follow) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    if let Some(why) = why_untrusted(Trust::of_this_process(), file.as_fd(), Some(path)) {
        return Err(ConfigError::Untrusted { path: path.to_owned(), why });
    }
    let text = open::all(file, MAX_BYTES).map_err(failed)?;
    let wrong = |error: std::string::FromUtf8Error| error.utf8_error().to_string();
    let text = String::from_utf8(text).map_err(wrong);
    text.map(Some).map_err(|message| ConfigError::Wrong { path: path.to_owned(), message })
}

/// Reads the text of our file.
///
/// # Errors
/// It is no TOML, or has a key that we do not know.
pub fn parse(text: &str) -> Result<Config, String> {
    toml::from_str(text).map_err(|error| one_line(text, &error))
}

/// What is wrong, and in which line; the parser's own words show the text over several.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', " ");
    let before = error.span().and_then(|span| text.get(..span.start));
    before.map_or(message.clone(), |before| format!("line {}: {message}", before.matches('\n').count() + 1))
}

/// The toolkit's file, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Peers {
    disable_require: bool,
    swarm_resource: String,
    accept_nvidia_visible_devices_envvar_when_unprivileged: Option<bool>,
    accept_nvidia_visible_devices_as_volume_mounts: bool,
    supported_driver_capabilities: Option<String>,
    nvidia_container_cli: PeersCli,
    nvidia_container_runtime: PeersRuntime,
    features: PeersFeatures,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct PeersFeatures {
    ignore_imex_channel_requests: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PeersCli {
    root: Utf8PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PeersRuntime {
    runtimes: Vec<PathBuf>,
    mode: String,
    modes: PeersModes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PeersModes {
    cdi: PeersCdi,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct PeersCdi {
    spec_dirs: Vec<PathBuf>,
    default_kind: String,
    annotation_prefixes: Option<Vec<String>>,
}

/// Reads the text of the toolkit's file; keys that mean nothing here are passed over.
///
/// # Errors
/// It is no TOML, or a key that matters has a value that it cannot have.
pub fn parse_peers(text: &str) -> Result<Config, String> {
    let peers: Peers = toml::from_str(text).map_err(|error| one_line(text, &error))?;
    let usual = Config::default();
    let PeersRuntime { runtimes, mode, modes: PeersModes { cdi } } = peers.nvidia_container_runtime;
    let environment = match peers.accept_nvidia_visible_devices_envvar_when_unprivileged {
        Some(false) => Accept::Privileged,
        _ => Accept::Always,
    };
    let listed = peers.swarm_resource.split(',').map(str::trim).filter(|name| !name.is_empty());
    let capabilities =
        peers.supported_driver_capabilities.map(|words| words.parse().map_err(|error| format!("{error}")));
    let kind = match cdi.default_kind.as_str() {
        "" => Ok(usual.kind),
        kind => kind.parse().map(|kind: Kind| kind.to_string()).map_err(|error| format!("{error}")),
    };
    Ok(Config {
        runtimes: if runtimes.is_empty() { usual.runtimes } else { runtimes },
        environment,
        volume_mounts: peers.accept_nvidia_visible_devices_as_volume_mounts,
        // In that mode the toolkit reads them without being told to.
        annotation_prefixes: cdi
            .annotation_prefixes
            .unwrap_or_else(|| if mode == "cdi" { vec![cdi_specs::ANNOTATION_PREFIX.into()] } else { Vec::new() }),
        swarm_resources: listed.map(str::to_owned).collect(),
        other_kinds: Vec::new(),
        docker_gpus: usual.docker_gpus,
        imex_channels: !peers.features.ignore_imex_channel_requests,
        kind: kind?,
        spec_dirs: cdi.spec_dirs,
        just_in_time: mode != "cdi",
        driver_root: if peers.nvidia_container_cli.root.as_str().is_empty() {
            "/".into()
        } else {
            peers.nvidia_container_cli.root
        },
        driver_capabilities: capabilities.transpose()?.unwrap_or(Capabilities::ALL),
        requirements: !peers.disable_require,
        nvml: usual.nvml,
        hide_gpus: usual.hide_gpus,
        insecure_driver_files: usual.insecure_driver_files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_default() {
        assert_eq!(parse(""), Ok(Config::default()));
        assert_eq!(parse_peers(""), Ok(Config::default()));
    }

    #[test]
    fn keys_of_ours() {
        let text = "runtimes = ['/usr/local/bin/crun']\nenvironment = 'never'\nvolume-mounts = true\n\
                    annotation-prefixes = ['cdi.k8s.io/']\nswarm-resources = ['DOCKER_RESOURCE_GPU']\n\
                    kind = 'example.com/gpu'\nspec-dirs = ['/etc/cdi']\njust-in-time = false\n\
                    driver-root = '/run/nvidia/driver'\ndriver-capabilities = 'compute,utility'\n\
                    requirements = false\nhide-gpus = true\nnvml = 'always'\n";
        let config = parse(text).unwrap();
        assert_eq!(config.runtimes, [Path::new("/usr/local/bin/crun")]);
        assert_eq!((config.environment, config.volume_mounts), (Accept::Never, true));
        assert_eq!(config.driver_capabilities, Capabilities::COMPUTE | Capabilities::UTILITY);
        assert_eq!((config.just_in_time, config.requirements, config.hide_gpus), (false, false, true));
        assert_eq!(config.nvml, NvmlPolicy::Always);
        assert_eq!((config.kind.as_str(), config.driver_root.as_str()), ("example.com/gpu", "/run/nvidia/driver"));
    }

    #[test]
    fn a_slip_is_an_error_and_says_where() {
        let cases = [
            ("\nenviroment = 'never'", "line 2: unknown field `enviroment`"),
            ("environment = 'no'", "line 1: unknown variant `no`, expected one of `always`, `privileged`, `never`"),
            ("kind = 'gpu'", "kind `gpu` is not of the form vendor/class"),
            ("driver-capabilities = 'cuda'", "unknown driver capability `cuda`"),
            ("runtimes = 3", "line 1: invalid type: integer `3`"),
            ("a = [", "line 1: "),
        ];
        for (text, words) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn keys_of_the_toolkits_file() {
        let text = "disable-require = true\nswarm-resource = 'A, B'\n\
                    accept-nvidia-visible-devices-envvar-when-unprivileged = false\n\
                    accept-nvidia-visible-devices-as-volume-mounts = true\n\
                    supported-driver-capabilities = 'compute'\n\
                    [nvidia-container-cli]\nroot = '/run/nvidia/driver'\nldconfig = '@/sbin/ldconfig'\n\
                    [nvidia-container-runtime]\nruntimes = ['crun']\nmode = 'cdi'\nlog-level = 'info'\n\
                    [nvidia-container-runtime.modes.cdi]\nspec-dirs = ['/x']\ndefault-kind = 'a.b/c'\n\
                    annotation-prefixes = ['cdi.k8s.io/']\n[features]\nnew = true\nignore-imex-channel-requests = true\n";
        let expected = Config {
            runtimes: vec!["crun".into()],
            environment: Accept::Privileged,
            volume_mounts: true,
            annotation_prefixes: vec!["cdi.k8s.io/".into()],
            swarm_resources: vec!["A".into(), "B".into()],
            other_kinds: Vec::new(),
            docker_gpus: false,
            imex_channels: false,
            kind: "a.b/c".into(),
            spec_dirs: vec!["/x".into()],
            just_in_time: false,
            driver_root: "/run/nvidia/driver".into(),
            driver_capabilities: Capabilities::COMPUTE,
            requirements: false,
            nvml: NvmlPolicy::Auto,
            hide_gpus: false,
            insecure_driver_files: false,
        };
        assert_eq!(parse_peers(text), Ok(expected));
        assert!(parse_peers("supported-driver-capabilities = 'x'").is_err());
    }
}
