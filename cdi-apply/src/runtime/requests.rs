//! Requests: the devices that a container asks for, in the ways of the NVIDIA toolkit. Pure.
//!
//! Annotations, then mounts, then variables: the first that asks for anything counts, each only if the administrator
//! accepts it. An index, a UUID or a PCI address means a device of the configured kind; a qualified CDI name means itself.

use cdi_gen::capability::{Capabilities, UnknownCapability};
use cdi_specs::{NameError, QualifiedName};

use super::config::{Accept, Config};
use super::container::Container;
use super::docker_hook;

/// What images and users set.
pub const DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
const CAPABILITIES: &str = "NVIDIA_DRIVER_CAPABILITIES";
const IMEX_CHANNELS: &str = "NVIDIA_IMEX_CHANNELS";
const MIG_CONFIG: &str = "NVIDIA_MIG_CONFIG_DEVICES";
const MIG_MONITOR: &str = "NVIDIA_MIG_MONITOR_DEVICES";
/// Images from before `NVIDIA_VISIBLE_DEVICES` set the first of these and not the second.
const OLD_IMAGE: &str = "CUDA_VERSION";
const REQUIRE_CUDA: &str = "NVIDIA_REQUIRE_CUDA";
/// Variables that ask for all devices of another class, and the class.
const SWITCHES: [(&str, &str); 4] =
    [("NVIDIA_GDS", "gds"), ("NVIDIA_MOFED", "mofed"), ("NVIDIA_GDRCOPY", "gdrcopy"), ("NVIDIA_NVSWITCH", "nvswitch")];
const SWITCHED_ON: &str = "enabled";
/// The directory whose mounts are requests, under both names of `/run`.
const MOUNT_DIRS: [&str; 2] = ["/var/run/nvidia-container-devices/", "/run/nvidia-container-devices/"];
const MOUNT_SOURCE: &str = "/dev/null";
/// A kind of the toolkit's own, for devices that it makes up at start.
const PEERS_KIND: &str = "runtime.nvidia.com/gpu=";
/// What containers get that do not say.
const USUAL: Capabilities = Capabilities::COMPUTE.and(Capabilities::UTILITY);
/// No name of a device is longer, in bytes.
const MAX_NAME: usize = 1024;
/// What stands in the text of a container that asks by a variable.
const MARKERS: [&str; 2] = [DEVICES, OLD_IMAGE];

/// What a container asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Devices, in the order asked for.
    pub names: Vec<QualifiedName>,
    /// Devices that the container can do without: an image says `NVIDIA_GDS=enabled` on every host.
    pub optional: Vec<QualifiedName>,
    /// The driver without a GPU (`none`).
    pub driver_only: bool,
    /// Parts of the driver.
    pub capabilities: Capabilities,
    /// What is strange, and costs nothing.
    pub warnings: Vec<String>,
}

/// A request that means nothing, or may not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No device can have that name.
    #[error("{from} asks for `{id}`, which names no device: {why}")]
    Name {
        /// The variable, annotation or mount.
        from: String,
        /// The words.
        id: String,
        /// What is wrong with them.
        why: NameError,
    },
    /// No device has so long a name.
    #[error("{from} asks for `{id}`, which is longer than any device's name")]
    TooLong {
        /// The variable, annotation or mount.
        from: String,
        /// The words, as far as they are worth showing.
        id: String,
    },
    /// A device of a kind that variables may not ask for.
    #[error(
        "{from} asks for {name}, and variables may ask for devices of {kind} only (`other-kinds` in the configuration)"
    )]
    Kind {
        /// The variable.
        from: String,
        /// The device.
        name: QualifiedName,
        /// The configured kind.
        kind: String,
    },
    /// What an unprivileged container must not have.
    #[error("{0} takes a privileged container")]
    Privileged(&'static str),
}

/// Whether a text may be that of a container that asks for anything: a look that costs next to nothing, for all those
/// that do not.
pub fn may_ask(text: &str, config: &Config) -> bool {
    let configured = config.annotation_prefixes.iter().chain(&config.swarm_resources).map(String::as_str);
    let mounts = MOUNT_DIRS.iter().copied().filter(|_| config.volume_mounts);
    MARKERS.into_iter().chain(docker_hook::NAMES).chain(configured).chain(mounts).any(|marker| text.contains(marker))
        || has_odd_escapes(text)
}

/// Whether a letter may be written as `\u0041`. Go's encoder escapes `<`, `>` and `&` alone.
fn has_odd_escapes(text: &str) -> bool {
    text.match_indices("\\u00").any(|(at, _)| !matches!(text.get(at + 4..at + 6), Some("3c" | "3e" | "26")))
}

/// What a container asks for; `None` if that is nothing.
///
/// # Errors
/// Words that name no device, or ask for what the container may not have.
pub fn of_container(container: Container<'_>, config: &Config) -> Result<Option<Asked>, AskError> {
    let Some(words) = device_words(container, config) else { return Ok(None) };
    let Words { from, ids, of_variable } = words;
    let mut asked = Asked {
        names: Vec::new(),
        optional: Vec::new(),
        driver_only: false,
        capabilities: USUAL,
        warnings: Vec::new(),
    };
    match ids {
        Ids::None => asked.driver_only = true,
        Ids::All => asked.names.push(name(&from, "all", config)?),
        Ids::Listed(ids) => {
            asked.names = ids.iter().map(|id| name(&from, id, config)).collect::<Result<_, _>>()?;
        }
    }
    if of_variable {
        asked.names.iter().try_for_each(|name| check_kind(&from, name, config))?;
    }
    if !asked.driver_only {
        add_other_classes(&mut asked, container, config)?;
    }
    asked.capabilities = capabilities(container, config, &mut asked.warnings);
    Ok(Some(asked))
}

/// Words that ask for devices, and where they stand.
struct Words {
    from: String,
    ids: Ids,
    of_variable: bool,
}

enum Ids {
    All,
    None,
    Listed(Vec<String>),
}

/// The words of the first source that has any.
fn device_words(container: Container<'_>, config: &Config) -> Option<Words> {
    let words = |from: String, ids: Vec<String>, of_variable| ids_of(ids).map(|ids| Words { from, ids, of_variable });
    let annotated = of_annotations(container, config);
    if !annotated.is_empty() {
        return words("an annotation".to_owned(), annotated, false);
    }
    let mounted = if config.volume_mounts { of_mounts(container) } else { Vec::new() };
    if !mounted.is_empty() {
        return words("a mount".to_owned(), mounted, false);
    }
    let (from, ids) = of_variables(container, config)?;
    words(from, ids, true)
}

/// Variables may be an image's; annotations and mounts are a user's. Other classes of the vendor have variables of their
/// own, with rules of their own.
fn check_kind(from: &str, name: &QualifiedName, config: &Config) -> Result<(), AskError> {
    let kind = name.kind();
    let other = |other: &String| *other == kind.to_string() || other == kind.vendor();
    if kind.to_string() == config.kind || config.other_kinds.iter().any(other) {
        return Ok(());
    }
    Err(AskError::Kind { from: from.to_owned(), name: name.clone(), kind: config.kind.clone() })
}

/// `void` anywhere means nothing at all; of `all` and `none` the first one decides.
fn ids_of(ids: Vec<String>) -> Option<Ids> {
    if ids.is_empty() || ids.iter().any(|id| id == "void") {
        return None;
    }
    Some(match ids.iter().find(|id| matches!(id.as_str(), "all" | "none")).map(String::as_str) {
        Some("all") => Ids::All,
        Some(_) => Ids::None,
        None => Ids::Listed(ids),
    })
}

fn split(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned)
}

fn of_annotations(container: Container<'_>, config: &Config) -> Vec<String> {
    let asks = |key: &str| config.annotation_prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()));
    container.annotations().into_iter().filter(|(key, _)| asks(key)).flat_map(|(_, value)| split(value)).collect()
}

/// `<id>`, `cdi/<vendor>/<class>/<id>`, `cdi/<vendor>/<class>=<id>`; `imex/…` is of another class.
fn of_mounts(container: Container<'_>) -> Vec<String> {
    let below = |destination: &str| {
        MOUNT_DIRS.iter().find_map(|dir| destination.strip_prefix(dir)).filter(|id| !id.is_empty()).map(str::to_owned)
    };
    let mounts = container.mounts().filter(|(source, _)| *source == MOUNT_SOURCE);
    let ids = mounts.filter_map(|(_, destination)| below(destination)).filter(|id| !id.starts_with("imex/"));
    ids.map(|id| match id.strip_prefix("cdi/").map(|rest| rest.splitn(3, '/').collect::<Vec<_>>()) {
        Some(parts) => match parts.as_slice() {
            [vendor, class, device] => format!("{vendor}/{class}={device}"),
            parts => parts.join("/"),
        },
        None => id,
    })
    .collect()
}

/// The variable that counts, and what it says.
fn of_variables(container: Container<'_>, config: &Config) -> Option<(String, Vec<String>)> {
    if !variables_count(container, config) {
        return None;
    }
    let swarm = config.swarm_resources.iter().filter_map(|name| Some((name, container.variable(name)?)));
    let swarm: Vec<(&String, &str)> = swarm.collect();
    if let Some((name, _)) = swarm.first() {
        return Some(((*name).clone(), swarm.iter().flat_map(|(_, value)| split(value)).collect()));
    }
    let text = container.variable(DEVICES).or_else(|| is_old_image(container).then_some("all"))?;
    Some((DEVICES.to_owned(), split(text).collect()))
}

/// Whether variables count: by the configuration, or since a user said `--gpus` to docker, if the hook is a sign of that.
fn variables_count(container: Container<'_>, config: &Config) -> bool {
    let accepted = match config.environment {
        Accept::Always => true,
        Accept::Privileged => container.is_privileged(),
        Accept::Never => false,
    };
    accepted || config.docker_gpus && docker_hook::is_there(container)
}

fn is_old_image(container: Container<'_>) -> bool {
    container.variable(OLD_IMAGE).is_some() && container.variable(REQUIRE_CUDA).is_none_or(str::is_empty)
}

/// The qualified name that words mean.
fn name(from: &str, id: &str, config: &Config) -> Result<QualifiedName, AskError> {
    let id = id.strip_prefix(PEERS_KIND).unwrap_or(id);
    let qualified = if id.contains('=') { id.to_owned() } else { format!("{}={id}", config.kind) };
    // What no device is called may be of any length.
    if qualified.len() > MAX_NAME {
        let id = id.chars().take(MAX_NAME / 8).collect::<String>() + "…";
        return Err(AskError::TooLong { from: from.to_owned(), id });
    }
    qualified.parse().map_err(|why| AskError::Name { from: from.to_owned(), id: id.to_owned(), why })
}

/// Adds what comes with GPUs and is named by classes of its own: storage, network, switches, memory of other hosts, MIG.
fn add_other_classes(asked: &mut Asked, container: Container<'_>, config: &Config) -> Result<(), AskError> {
    let counts = variables_count(container, config);
    for (variable, class) in SWITCHES.iter().filter(|_| counts) {
        if container.variable(variable) == Some(SWITCHED_ON) {
            asked.optional.push(of_class(variable, class, "all", config)?);
        }
    }
    let channels = imex_channels(container, config, counts);
    if config.imex_channels {
        for channel in &channels {
            let id = channel.strip_prefix("channel").unwrap_or(channel);
            asked.names.push(of_class(IMEX_CHANNELS, "imex-channel", id, config)?);
        }
    } else if !channels.is_empty() {
        asked.warnings.push(format!("{IMEX_CHANNELS} is passed over (`imex-channels` in the configuration)"));
    }
    for (variable, class) in [(MIG_CONFIG, "mig-config"), (MIG_MONITOR, "mig-monitor")] {
        let ids: Vec<String> = container.variable(variable).into_iter().filter(|_| counts).flat_map(split).collect();
        if !ids.is_empty() && !container.is_privileged() {
            return Err(AskError::Privileged(variable));
        }
        for id in &ids {
            asked.names.push(of_class(variable, class, id, config)?);
        }
    }
    Ok(())
}

/// A device of another class of the configured vendor.
fn of_class(from: &str, class: &str, id: &str, config: &Config) -> Result<QualifiedName, AskError> {
    let vendor = config.kind.split('/').next().unwrap_or_default();
    name(from, &format!("{vendor}/{class}={id}"), config)
}

/// Mounts `imex/<channel>`, else the variable.
fn imex_channels(container: Container<'_>, config: &Config, counts: bool) -> Vec<String> {
    let below = |destination: &str| {
        let id = MOUNT_DIRS.iter().find_map(|dir| destination.strip_prefix(dir))?;
        id.strip_prefix("imex/").map(str::to_owned)
    };
    let mounts = container.mounts().filter(|(source, _)| config.volume_mounts && *source == MOUNT_SOURCE);
    let mounted: Vec<String> = mounts.filter_map(|(_, destination)| below(destination)).collect();
    if mounted.is_empty() {
        container.variable(IMEX_CHANNELS).into_iter().filter(|_| counts).flat_map(split).collect()
    } else {
        mounted
    }
}

/// The parts of the driver that are asked for and may be given. A word that nobody knows is told and costs nothing.
fn capabilities(container: Container<'_>, config: &Config, warnings: &mut Vec<String>) -> Capabilities {
    let text = container.variable(CAPABILITIES);
    let wanted = match text.map(str::trim) {
        None if is_old_image(container) => Capabilities::ALL,
        None | Some("") => USUAL,
        Some(text) => {
            let mut unknown = |error: UnknownCapability| warnings.push(format!("{CAPABILITIES}: {error}"));
            let words = split(text).map(|word| {
                word.parse().unwrap_or_else(|error| {
                    unknown(error);
                    Capabilities::ALWAYS
                })
            });
            words.fold(Capabilities::ALWAYS, Capabilities::and)
        }
    };
    wanted.intersection(config.driver_capabilities)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn with_env(env: &[&str]) -> Value {
        json!({"process": {"env": env}})
    }

    fn ask(config: &Config, document: &Value) -> Result<Option<Asked>, AskError> {
        let asked = of_container(Container(document), config);
        if !matches!(asked, Ok(None)) {
            assert!(may_ask(&document.to_string(), config), "{document}");
        }
        asked
    }

    /// The names that are asked for, in one text, what is optional in brackets; `none` for the driver alone, `-` for
    /// nothing.
    fn names(config: &Config, document: &Value) -> String {
        match ask(config, document) {
            Ok(None) => "-".to_owned(),
            Ok(Some(asked)) if asked.driver_only && asked.names.is_empty() => "none".to_owned(),
            Ok(Some(asked)) => {
                let optional = asked.optional.iter().map(|name| format!("({name})"));
                asked.names.iter().map(ToString::to_string).chain(optional).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_form_of_the_variable() {
        let cases: &[(&[&str], &str)] = &[
            (&[], "-"),
            (&["NVIDIA_VISIBLE_DEVICES="], "-"),
            (&["NVIDIA_VISIBLE_DEVICES= , "], "-"),
            (&["NVIDIA_VISIBLE_DEVICES=void"], "-"),
            (&["NVIDIA_VISIBLE_DEVICES=0,void"], "-"),
            (&["NVIDIA_VISIBLE_DEVICES=none"], "none"),
            (&["NVIDIA_VISIBLE_DEVICES=0,none"], "none"),
            (&["NVIDIA_VISIBLE_DEVICES=none,all"], "none"),
            (&["NVIDIA_VISIBLE_DEVICES=all"], "nvidia.com/gpu=all"),
            (&["NVIDIA_VISIBLE_DEVICES=0,all"], "nvidia.com/gpu=all"),
            (&["NVIDIA_VISIBLE_DEVICES=0, 1,"], "nvidia.com/gpu=0 nvidia.com/gpu=1"),
            (&["NVIDIA_VISIBLE_DEVICES=0:1,MIG-5f1c-1"], "nvidia.com/gpu=0:1 nvidia.com/gpu=MIG-5f1c-1"),
            (&["NVIDIA_VISIBLE_DEVICES=GPU-5f1c"], "nvidia.com/gpu=GPU-5f1c"),
            (&["NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=0,1"], "nvidia.com/gpu=0 nvidia.com/gpu=1"),
            (&["NVIDIA_VISIBLE_DEVICES=runtime.nvidia.com/gpu=all"], "nvidia.com/gpu=all"),
            (&["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_VISIBLE_DEVICES=1"], "nvidia.com/gpu=1"),
            (&["CUDA_VERSION=8.0"], "nvidia.com/gpu=all"),
            (&["CUDA_VERSION=8.0", "NVIDIA_VISIBLE_DEVICES=1"], "nvidia.com/gpu=1"),
            (&["CUDA_VERSION=8.0", "NVIDIA_VISIBLE_DEVICES=void"], "-"),
            (&["CUDA_VERSION=13", "NVIDIA_REQUIRE_CUDA=cuda>=13"], "-"),
        ];
        for (env, expected) in cases {
            assert_eq!(names(&Config::default(), &with_env(env)), *expected, "{env:?}");
        }
    }

    #[test]
    fn a_device_asked_for_twice_is_one() {
        // `resolve` takes each device once; the toolkit gives no GPU at all.
        let asked = names(&Config::default(), &with_env(&["NVIDIA_VISIBLE_DEVICES=0,0"]));
        assert_eq!(asked, "nvidia.com/gpu=0 nvidia.com/gpu=0");
    }

    #[test]
    fn what_names_no_device_is_an_error() {
        let error = |ids: &str| names(&Config::default(), &with_env(&[&format!("{DEVICES}={ids}")]));
        assert_eq!(
            error("MIG-GPU-5f1c/1/0"),
            "NVIDIA_VISIBLE_DEVICES asks for `MIG-GPU-5f1c/1/0`, which names no device: device name \
             `MIG-GPU-5f1c/1/0` must not contain '/'"
        );
        assert!(error("0 1").contains("must not contain ' '"));
        assert!(error("../x").contains("must start with"));
    }

    /// A device may be anything of the host's, and an image sets variables.
    #[test]
    fn variables_ask_for_devices_of_one_kind() {
        let env = with_env(&["NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=0,a.b/c=d"]);
        let error = names(&Config::default(), &env);
        assert!(
            error.contains("asks for a.b/c=d, and variables may ask for devices of nvidia.com/gpu only"),
            "{error}"
        );
        for other in ["a.b", "a.b/c"] {
            let config = Config { other_kinds: vec![other.into()], ..Config::default() };
            assert_eq!(names(&config, &env), "nvidia.com/gpu=0 a.b/c=d");
        }
        // What takes a privileged container is not to be had by its name either.
        let mig = names(&Config::default(), &with_env(&["NVIDIA_VISIBLE_DEVICES=nvidia.com/mig-config=all"]));
        assert!(mig.contains("asks for nvidia.com/mig-config=all"), "{mig}");
        let long = with_env(&[&format!("NVIDIA_VISIBLE_DEVICES={}", "x".repeat(1 << 20))]);
        assert!(names(&Config::default(), &long).len() < 300);
    }

    #[test]
    fn swarm_variables_replace_the_usual_one() {
        let config = Config { swarm_resources: vec!["A".into(), "B".into()], ..Config::default() };
        let env = with_env(&["NVIDIA_VISIBLE_DEVICES=7", "B=1,2", "A=0"]);
        assert_eq!(names(&config, &env), "nvidia.com/gpu=0 nvidia.com/gpu=1 nvidia.com/gpu=2");
        assert_eq!(names(&config, &with_env(&["NVIDIA_VISIBLE_DEVICES=7"])), "nvidia.com/gpu=7");
        assert_eq!(names(&config, &with_env(&["NVIDIA_VISIBLE_DEVICES=7", "A=void"])), "-");
    }

    fn mount(source: &str, destination: &str) -> Value {
        json!({"source": source, "destination": destination})
    }

    #[test]
    fn mounts_count_where_they_are_accepted() {
        let document = json!({
            "process": {"env": ["NVIDIA_VISIBLE_DEVICES=7"]},
            "mounts": [
                mount("/dev/null", "/var/run/nvidia-container-devices/0"),
                mount("/dev/null", "/run/nvidia-container-devices/GPU-1"),
                mount("/dev/null", "/var/run/nvidia-container-devices/cdi/a.b/c/d"),
                mount("/dev/null", "/var/run/nvidia-container-devices/cdi/a.b/c=e"),
                mount("/dev/null", "/var/run/nvidia-container-devices/imex/3"),
                mount("/dev/null", "/var/run/nvidia-container-devices-x/9"),
                mount("/dev/null", "/var/run/nvidia-container-devices/"),
                mount("/dev/zero", "/var/run/nvidia-container-devices/8"),
            ],
        });
        let accepting = Config { volume_mounts: true, ..Config::default() };
        let expected = "nvidia.com/gpu=0 nvidia.com/gpu=GPU-1 a.b/c=d a.b/c=e nvidia.com/imex-channel=3";
        assert_eq!(names(&accepting, &document), expected);
        assert_eq!(names(&Config::default(), &document), "nvidia.com/gpu=7");
        let never = Config { environment: Accept::Never, ..Config::default() };
        assert_eq!(names(&never, &document), "-");
    }

    #[test]
    fn annotations_count_where_they_are_accepted() {
        let document = json!({
            "annotations": {"cdi.k8s.io/b": "nvidia.com/gpu=1", "cdi.k8s.io/a": "nvidia.com/gpu=0,2", "other": "9"},
            "process": {"env": ["NVIDIA_VISIBLE_DEVICES=7"]},
        });
        let accepting = Config { annotation_prefixes: vec!["cdi.k8s.io/".into()], ..Config::default() };
        assert_eq!(names(&accepting, &document), "nvidia.com/gpu=0 nvidia.com/gpu=2 nvidia.com/gpu=1");
        assert_eq!(names(&Config::default(), &document), "nvidia.com/gpu=7");
    }

    /// C-14: an image can set any variable.
    #[test]
    fn image_env_not_honoured() {
        let privileged = json!({
            "process": {
                "env": ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_IMEX_CHANNELS=0", "NVIDIA_GDS=enabled", "CUDA_VERSION=8"],
                "capabilities": {"bounding": ["CAP_SYS_ADMIN"]},
            },
            "linux": {"resources": {"devices": [{"allow": true, "access": "rwm"}]}},
        });
        let mut plain = privileged.clone();
        plain["linux"]["resources"]["devices"][0]["allow"] = false.into();
        let config = |environment| Config { environment, ..Config::default() };
        let all = "nvidia.com/gpu=all nvidia.com/imex-channel=0 (nvidia.com/gds=all)";
        assert_eq!(names(&config(Accept::Always), &plain), all);
        assert_eq!(names(&config(Accept::Privileged), &plain), "-");
        assert_eq!(names(&config(Accept::Privileged), &privileged), all);
        assert_eq!(names(&config(Accept::Never), &privileged), "-");
        // What a user asked for by mount is not widened by what the image sets.
        plain["mounts"] = json!([mount("/dev/null", "/var/run/nvidia-container-devices/0")]);
        let mounts = Config { volume_mounts: true, ..config(Accept::Never) };
        assert_eq!(names(&mounts, &plain), "nvidia.com/gpu=0");
        // Docker's own hook is a user's word, where nothing else adds it.
        plain["hooks"] = json!({"prestart": [{"path": "/usr/bin/nvidia-container-runtime-hook"}]});
        assert_eq!(names(&config(Accept::Never), &plain), "-");
        assert_eq!(names(&Config { docker_gpus: true, ..config(Accept::Never) }, &plain), all);
    }

    #[test]
    fn other_classes_come_with_gpus() {
        let env = [
            "NVIDIA_GDS=enabled",
            "NVIDIA_MOFED=disabled",
            "NVIDIA_GDRCOPY=enabled",
            "NVIDIA_NVSWITCH=enabled",
            "NVIDIA_IMEX_CHANNELS=0,channel7",
        ];
        let asked = |devices: &str| {
            let devices = format!("{DEVICES}={devices}");
            let env: Vec<&str> = env.into_iter().chain([devices.as_str()]).collect();
            names(&Config::default(), &with_env(&env))
        };
        let expected = "nvidia.com/gpu=0 nvidia.com/imex-channel=0 nvidia.com/imex-channel=7 (nvidia.com/gds=all) \
                        (nvidia.com/gdrcopy=all) (nvidia.com/nvswitch=all)";
        assert_eq!(asked("0"), expected);
        assert_eq!(asked("none"), "none");
        assert_eq!(asked("void"), "-");
        let all = names(&Config::default(), &with_env(&["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_IMEX_CHANNELS=all"]));
        assert_eq!(all, "nvidia.com/gpu=0 nvidia.com/imex-channel=all");
        let none = Config { imex_channels: false, ..Config::default() };
        let asked = ask(&none, &with_env(&["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_IMEX_CHANNELS=all"])).unwrap().unwrap();
        assert_eq!((asked.names.len(), asked.warnings.len()), (1, 1));
    }

    #[test]
    fn mig_settings_take_a_privileged_container() {
        let mut document = with_env(&["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_MIG_CONFIG_DEVICES=all"]);
        assert_eq!(names(&Config::default(), &document), "NVIDIA_MIG_CONFIG_DEVICES takes a privileged container");
        document["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"]});
        document["linux"] = json!({"resources": {"devices": [{"allow": true, "access": "rwm"}]}});
        assert_eq!(names(&Config::default(), &document), "nvidia.com/gpu=0 nvidia.com/mig-config=all");
    }

    #[test]
    fn capabilities_of_the_driver() {
        let asked = |config: &Config, capabilities: &[&str]| {
            let env: Vec<&str> = capabilities.iter().copied().chain(["NVIDIA_VISIBLE_DEVICES=0"]).collect();
            let asked = ask(config, &with_env(&env)).unwrap().unwrap();
            (asked.capabilities.to_string(), asked.warnings.join("; "))
        };
        let all = "compat32,compute,display,graphics,ngx,utility,video";
        let usual = Config::default();
        let cases: &[(&[&str], &str)] = &[
            (&[], "compute,utility"),
            (&["NVIDIA_DRIVER_CAPABILITIES="], "compute,utility"),
            (&["NVIDIA_DRIVER_CAPABILITIES=all"], all),
            (&["NVIDIA_DRIVER_CAPABILITIES=display, video"], "display,video"),
            (&["CUDA_VERSION=8.0"], all),
        ];
        for (env, expected) in cases {
            assert_eq!(asked(&usual, env), ((*expected).to_owned(), String::new()), "{env:?}");
        }
        let limited = Config { driver_capabilities: Capabilities::COMPUTE, ..Config::default() };
        assert_eq!(asked(&limited, &["NVIDIA_DRIVER_CAPABILITIES=all"]).0, "compute");
        let (known, warning) = asked(&usual, &["NVIDIA_DRIVER_CAPABILITIES=compute,cuda"]);
        assert!(known == "compute" && warning.contains("unknown driver capability `cuda`"), "{warning}");
    }

    #[test]
    fn containers_that_ask_for_nothing_are_told_at_a_glance() {
        let config = Config { annotation_prefixes: vec!["cdi.k8s.io/".into()], ..Config::default() };
        let plain = r#"{"process":{"env":["PATH=/bin","A=\u003c\u0026"]},"annotations":{"a":"b"}}"#;
        assert!(!may_ask(plain, &config));
        assert!(may_ask(r#"{"process":{"env":["\u004eVIDIA_VISIBLE_DEVICES=all"]}}"#, &config));
        assert!(may_ask(r#"{"annotations":{"cdi.k8s.io/a":"nvidia.com/gpu=0"}}"#, &config));
        assert!(may_ask(r#"{"hooks":{"prestart":[{"path":"/x/nvidia-container-runtime-hook"}]}}"#, &config));
    }
}
