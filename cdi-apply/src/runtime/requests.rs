//! Requests: the devices that a container asks for, in the ways of the NVIDIA toolkit. Pure.
//!
//! Annotations, then mounts, then variables: the first that asks for anything counts, each only if the administrator
//! accepts it (`policy`). An index, a UUID or a PCI address means a device of the configured kind; a qualified CDI name means itself.

use std::borrow::Cow;

use cdi_gen::capability::{Capabilities, UnknownCapability};
use cdi_specs::{NameError, QualifiedName};

use super::budget::{self, OverBudget, Warnings};
use super::config::Config;
use super::container::Container;
use super::docker_hook;
use super::policy::{Policy, Words};

/// What images and users set.
pub const DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
const CAPABILITIES: &str = "NVIDIA_DRIVER_CAPABILITIES";
const IMEX_CHANNELS: &str = "NVIDIA_IMEX_CHANNELS";
/// The class of channels to other hosts' memory.
const CHANNEL: &str = "imex-channel";
/// Variables of privileged containers, and their classes.
const MIG: [(&str, &str); 2] =
    [("NVIDIA_MIG_CONFIG_DEVICES", "mig-config"), ("NVIDIA_MIG_MONITOR_DEVICES", "mig-monitor")];
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
/// What mounts of channels have below it.
const CHANNELS_BELOW: &str = "imex/";
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
    pub warnings: Warnings,
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
    /// A device of a kind that containers may not ask for.
    #[error(
        "{from} asks for {name}, and {who} may ask for devices of {kind} only (`other-kinds` in the configuration)"
    )]
    Kind {
        /// The variable, annotation or mount.
        from: String,
        /// The device.
        name: String,
        /// `variables`, `annotations`, `mounts`.
        who: &'static str,
        /// The configured kind.
        kind: String,
    },
    /// A channel, where nobody may have one.
    #[error("{from} asks for {name}, and `imex-channels` in the configuration allows no channels")]
    Channels {
        /// The variable, annotation or mount.
        from: String,
        /// The device.
        name: String,
    },
    /// What an unprivileged container must not have.
    #[error("{0} takes a privileged container")]
    Privileged(&'static str),
    /// More words than may be.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

/// Whether a text may be that of a container that asks for anything: a look that costs next to nothing, for all those
/// that do not.
pub fn may_ask(text: &str, config: &Config) -> bool {
    let configured = config.annotation_prefixes.iter().chain(&config.swarm_resources).map(String::as_str);
    let mounts = MOUNT_DIRS.iter().copied().filter(|_| config.volume_mounts);
    MARKERS.into_iter().chain(docker_hook::NAMES).chain(configured).chain(mounts).any(|marker| text.contains(marker))
        || has_odd_escapes(text)
}

/// The same of bytes. What is not UTF-8 is shown as what it is not, which is longer: that of a long text is not made.
pub fn may_ask_bytes(bytes: &[u8], config: &Config) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(text) => may_ask(text, config),
        Err(_) if bytes.len() > budget::CONFIG.bytes => true,
        Err(_) => may_ask(&String::from_utf8_lossy(bytes), config),
    }
}

/// Whether a letter may be written as `\u0041`, or a slash as `\/`. Go's encoder escapes `<`, `>` and `&` alone.
fn has_odd_escapes(text: &str) -> bool {
    text.contains("\\/")
        || text.match_indices("\\u00").any(|(at, _)| !matches!(text.get(at + 4..at + 6), Some("3c" | "3e" | "26")))
}

/// What a container asks for; `None` if that is nothing.
///
/// # Errors
/// Words that name no device, or ask for what the container may not have; more words than may be.
pub fn of_container(container: Container<'_>, config: &Config) -> Result<Option<Asked>, AskError> {
    let asking = Asking { container, config, policy: Policy::of(container, config) };
    let Some(chosen) = asking.chosen()? else { return Ok(None) };
    let mut asked = Asked {
        names: Vec::new(),
        optional: Vec::new(),
        driver_only: false,
        capabilities: USUAL,
        warnings: Warnings::default(),
    };
    match &chosen.ids {
        Ids::Nothing => return Ok(None),
        Ids::None => asked.driver_only = true,
        Ids::All => asked.names.push(asking.device(&chosen, "all")?),
        Ids::Listed(ids) => {
            asked.names = ids.iter().map(|id| asking.device(&chosen, id)).collect::<Result<_, _>>()?;
        }
    }
    if !asked.driver_only {
        asking.add_other_classes(&mut asked, chosen.words)?;
    }
    asked.capabilities = asking.capabilities(&mut asked.warnings)?;
    Ok(Some(asked))
}

/// A container, and what counts in it.
struct Asking<'a> {
    container: Container<'a>,
    config: &'a Config,
    policy: Policy,
}

/// Words that ask for devices, and where they stand.
struct Chosen<'a> {
    words: Words,
    /// The variable; `an annotation`, `a mount`.
    from: Cow<'a, str>,
    ids: Ids<'a>,
}

/// What words mean.
enum Ids<'a> {
    Nothing,
    /// The driver without a GPU.
    None,
    All,
    Listed(Vec<Cow<'a, str>>),
}

impl<'a> Ids<'a> {
    /// `void` anywhere means nothing at all; of `all` and `none` the first one decides.
    fn of(words: Vec<Cow<'a, str>>) -> Self {
        if words.is_empty() || words.iter().any(|word| word == "void") {
            return Self::Nothing;
        }
        match words.iter().find(|word| matches!(&***word, "all" | "none")).map(|word| &**word) {
            Some("all") => Self::All,
            Some(_) => Self::None,
            None => Self::Listed(words),
        }
    }
}

impl<'a> Asking<'a> {
    /// The first words that ask for anything.
    fn chosen(&self) -> Result<Option<Chosen<'a>>, AskError> {
        let counts = |words| self.policy.counts(words, None);
        let annotated = devices(self.annotated())?;
        if !annotated.is_empty() && counts(Words::Annotations) {
            let from = "an annotation".into();
            return Ok(Some(Chosen { words: Words::Annotations, from, ids: Ids::of(annotated) }));
        }
        let mounted = if counts(Words::Mounts) { devices(mounted(self.container))? } else { Vec::new() };
        if !mounted.is_empty() {
            return Ok(Some(Chosen { words: Words::Mounts, from: "a mount".into(), ids: Ids::of(mounted) }));
        }
        if counts(Words::DockersVariable) {
            // The last one, behind those of the image.
            let ids = self.container.variable(DEVICES).map(|text| devices(split(text))).transpose()?;
            return Ok(ids.map(|ids| chosen_by(DEVICES.into(), Words::DockersVariable, Ids::of(ids))));
        }
        if counts(Words::Variables) { self.variables() } else { Ok(None) }
    }

    fn annotated(&self) -> impl Iterator<Item = Cow<'a, str>> {
        let config = self.config;
        let asks = move |key: &str| config.annotation_prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()));
        let annotations = self.container.annotations().into_iter();
        annotations.filter(move |(key, _)| asks(key)).flat_map(|(_, value)| split(value))
    }

    /// What the variables say. Swarm's stand in the place of the usual one, but do not give what that denies: an image
    /// may have set them.
    fn variables(&self) -> Result<Option<Chosen<'a>>, AskError> {
        let variable = |name: &str| self.container.variable(name);
        let usual = variable(DEVICES).or_else(|| is_old_image(self.container).then_some("all"));
        let usual = usual.map(|text| devices(split(text))).transpose()?.map(Ids::of);
        let set = self.config.swarm_resources.iter().filter_map(|name| Some((name, variable(name)?)));
        let set: Vec<(&String, &str)> = set.collect();
        let Some((name, _)) = set.first() else {
            return Ok(usual.map(|ids| chosen_by(DEVICES.into(), Words::Variables, ids)));
        };
        let swarms = Ids::of(devices(set.iter().flat_map(|(_, text)| split(text)))?);
        let (from, ids) = match (usual, swarms) {
            (Some(Ids::Nothing), _) | (_, Ids::Nothing) => (DEVICES, Ids::Nothing),
            (Some(Ids::None), _) => (DEVICES, Ids::None),
            (Some(Ids::Listed(ids)), Ids::All) => (DEVICES, Ids::Listed(ids)),
            (_, ids) => (name.as_str(), ids),
        };
        Ok(Some(chosen_by(from.into(), Words::Variables, ids)))
    }

    /// The device that words mean, if the container may ask for it.
    fn device(&self, chosen: &Chosen<'_>, id: &str) -> Result<QualifiedName, AskError> {
        let name = name(&chosen.from, id, self.config)?;
        self.check_kind(chosen, &name)?;
        Ok(name)
    }

    /// Other classes of the vendor have words of their own, with rules that hold for their names too.
    fn check_kind(&self, chosen: &Chosen<'_>, name: &QualifiedName) -> Result<(), AskError> {
        let (kind, own) = (name.kind().to_string(), &self.config.kind);
        if kind == *own {
            return Ok(());
        }
        let from = chosen.from.clone().into_owned();
        if !self.config.other_kinds.iter().any(|other| *other == kind || other == name.kind().vendor()) {
            let who = match chosen.words {
                Words::Annotations => "annotations",
                Words::Mounts => "mounts",
                _ => "variables",
            };
            return Err(AskError::Kind { from, name: name.to_string(), who, kind: own.clone() });
        }
        match name.kind().class() {
            _ if Some(name.kind().vendor()) != own.split('/').next() => Ok(()),
            CHANNEL if !self.config.imex_channels => Err(AskError::Channels { from, name: name.to_string() }),
            class => match MIG.iter().find(|(_, known)| *known == class) {
                Some((_, class)) if !self.policy.is_privileged() => Err(AskError::Privileged(class)),
                _ => Ok(()),
            },
        }
    }

    /// Adds what comes with GPUs and is named by classes of its own: storage, network, switches, memory of other hosts,
    /// MIG.
    fn add_other_classes(&self, asked: &mut Asked, chosen_by: Words) -> Result<(), AskError> {
        let counts = |words| self.policy.counts(words, Some(chosen_by));
        let variables = counts(Words::OtherClasses);
        for (variable, class) in SWITCHES.iter().filter(|_| variables) {
            if self.container.variable(variable) == Some(SWITCHED_ON) {
                asked.optional.push(of_class(variable, class, "all", self.config)?);
            }
        }
        self.add_channels(asked, variables)?;
        for (variable, class) in MIG.iter().filter(|_| variables) {
            let ids = devices(self.container.variable(variable).into_iter().flat_map(split))?;
            if !ids.is_empty() && !self.policy.is_privileged() {
                return Err(AskError::Privileged(variable));
            }
            for id in &ids {
                asked.names.push(of_class(variable, class, id, self.config)?);
            }
        }
        Ok(())
    }

    /// Mounts `imex/<channel>`, else the variable.
    fn add_channels(&self, asked: &mut Asked, variables: bool) -> Result<(), AskError> {
        let below = |destination: &'a str| below_mount_dir(destination)?.strip_prefix(CHANNELS_BELOW).map(Cow::from);
        let count = self.policy.counts(Words::Mounts, None);
        let mounts = self.container.mounts().filter(|(source, _)| count && *source == MOUNT_SOURCE);
        let mut channels = devices(mounts.filter_map(|(_, destination)| below(destination)))?;
        let mounted = !channels.is_empty();
        if !mounted && variables {
            channels = devices(self.container.variable(IMEX_CHANNELS).into_iter().flat_map(split))?;
        }
        if !channels.is_empty() && !self.config.imex_channels {
            asked.warnings.push(format!("{IMEX_CHANNELS} is passed over (`imex-channels` in the configuration)"));
            return Ok(());
        }
        for channel in channels {
            let id = channel.strip_prefix("channel").unwrap_or(&channel);
            asked.names.push(of_class(IMEX_CHANNELS, CHANNEL, id, self.config)?);
        }
        Ok(())
    }

    /// The parts of the driver that are asked for and may be given. A word that nobody knows is told and costs nothing.
    fn capabilities(&self, warnings: &mut Warnings) -> Result<Capabilities, AskError> {
        let wanted = match self.container.variable(CAPABILITIES).map(str::trim) {
            None if is_old_image(self.container) => Capabilities::ALL,
            None | Some("") => USUAL,
            Some(text) => {
                let over = OverBudget::new("the container asks for", "driver capabilities", budget::WORDS);
                let words = budget::collect(split(text), budget::WORDS, &over)?;
                let mut unknown = |error: UnknownCapability| warnings.push(format!("{CAPABILITIES}: {error}"));
                let known = words.iter().map(|word| {
                    word.parse().unwrap_or_else(|error| {
                        unknown(error);
                        Capabilities::ALWAYS
                    })
                });
                known.fold(Capabilities::ALWAYS, Capabilities::and)
            }
        };
        Ok(wanted.intersection(self.config.driver_capabilities))
    }
}

fn chosen_by<'a>(from: Cow<'a, str>, words: Words, ids: Ids<'a>) -> Chosen<'a> {
    Chosen { words, from, ids }
}

/// No more words than a container may have.
fn devices<'a>(words: impl Iterator<Item = Cow<'a, str>>) -> Result<Vec<Cow<'a, str>>, AskError> {
    let over = OverBudget::new("the container asks for", "devices", budget::WORDS);
    Ok(budget::collect(words, budget::WORDS, &over)?)
}

fn split(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    text.split(',').map(str::trim).filter(|id| !id.is_empty()).map(Cow::from)
}

/// What stands behind a mount's directory.
fn below_mount_dir(destination: &str) -> Option<&str> {
    MOUNT_DIRS.iter().find_map(|dir| destination.strip_prefix(dir)).filter(|id| !id.is_empty())
}

/// `<id>`, `cdi/<vendor>/<class>/<id>`, `cdi/<vendor>/<class>=<id>`; `imex/…` is of another class.
fn mounted(container: Container<'_>) -> impl Iterator<Item = Cow<'_, str>> {
    let mounts = container.mounts().filter(|(source, _)| *source == MOUNT_SOURCE);
    let ids = mounts.filter_map(|(_, destination)| below_mount_dir(destination));
    ids.filter(|id| !id.starts_with(CHANNELS_BELOW)).map(|id| match id.strip_prefix("cdi/") {
        Some(rest) => match *rest.splitn(3, '/').collect::<Vec<_>>() {
            [vendor, class, device] => format!("{vendor}/{class}={device}").into(),
            _ => rest.into(),
        },
        None => id.into(),
    })
}

fn is_old_image(container: Container<'_>) -> bool {
    container.variable(OLD_IMAGE).is_some() && container.variable(REQUIRE_CUDA).is_none_or(str::is_empty)
}

/// The qualified name that words mean.
fn name(from: &str, id: &str, config: &Config) -> Result<QualifiedName, AskError> {
    let id = id.strip_prefix(PEERS_KIND).unwrap_or(id);
    // What no device is called may be of any length.
    if id.len() > MAX_NAME {
        let id = id.chars().take(MAX_NAME / 8).collect::<String>() + "…";
        return Err(AskError::TooLong { from: from.to_owned(), id });
    }
    let qualified = if id.contains('=') { id.to_owned() } else { format!("{}={id}", config.kind) };
    qualified.parse().map_err(|why| AskError::Name { from: from.to_owned(), id: id.to_owned(), why })
}

/// A device of another class of the configured vendor.
fn of_class(from: &str, class: &str, id: &str, config: &Config) -> Result<QualifiedName, AskError> {
    let vendor = config.kind.split('/').next().unwrap_or_default();
    name(from, &format!("{vendor}/{class}={id}"), config)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::super::config::Accept;
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

    /// The rules of a class hold for its devices under each name.
    #[test]
    fn other_kinds_do_not_go_round_the_rules_of_a_class() {
        let config = Config { other_kinds: vec!["nvidia.com".into()], imex_channels: false, ..Config::default() };
        let asked = |name: &str| names(&config, &with_env(&[&format!("NVIDIA_VISIBLE_DEVICES={name}")]));
        assert_eq!(asked("nvidia.com/gds=all"), "nvidia.com/gds=all");
        assert_eq!(asked("nvidia.com/mig-config=all"), "mig-config takes a privileged container");
        assert!(asked("nvidia.com/imex-channel=0").contains("allows no channels"));
        let config = Config { imex_channels: true, ..config };
        let env = with_env(&["NVIDIA_VISIBLE_DEVICES=nvidia.com/imex-channel=0"]);
        assert_eq!(names(&config, &env), "nvidia.com/imex-channel=0");
    }

    #[test]
    fn more_words_than_may_be_are_refused_and_not_looked_at() {
        let many = |word: &str| vec![word; budget::WORDS + 1].join(",");
        let refused = "the container asks for more than 4096 devices, the most for a container's start";
        let accepting = Config {
            volume_mounts: true,
            annotation_prefixes: vec!["cdi.k8s.io/".into()],
            swarm_resources: vec!["A".into()],
            ..Config::default()
        };
        for variable in ["NVIDIA_VISIBLE_DEVICES", "A", "NVIDIA_IMEX_CHANNELS", "NVIDIA_MIG_MONITOR_DEVICES"] {
            let env = with_env(&["NVIDIA_VISIBLE_DEVICES=0", &format!("{variable}={}", many("0"))]);
            assert_eq!(names(&accepting, &env), refused, "{variable}");
        }
        let all = vec!["0"; budget::WORDS].join(",");
        let env = with_env(&[&format!("NVIDIA_VISIBLE_DEVICES={all}")]);
        assert!(names(&accepting, &env).starts_with("nvidia.com/gpu=0 "));
        let annotated = json!({"annotations": {"cdi.k8s.io/a": many("nvidia.com/gpu=0")}});
        assert_eq!(names(&accepting, &annotated), refused);
        let mounts = vec![mount("/dev/null", "/run/nvidia-container-devices/0"); budget::WORDS + 1];
        assert_eq!(names(&accepting, &json!({"mounts": mounts})), refused);
        let env = with_env(&["NVIDIA_VISIBLE_DEVICES=0", &format!("NVIDIA_DRIVER_CAPABILITIES={}", many("video"))]);
        assert!(names(&accepting, &env).contains("more than 4096 driver capabilities"));
        // Each word that nobody knows is a warning, and of those the first count.
        let env = with_env(&["NVIDIA_VISIBLE_DEVICES=0", &format!("NVIDIA_DRIVER_CAPABILITIES={}", &many("x")[2..])]);
        let warnings = ask(&accepting, &env).unwrap().unwrap().warnings;
        assert_eq!(warnings.lines().last().unwrap(), "and 4080 warnings more");
    }

    #[test]
    fn swarm_variables_replace_the_usual_one() {
        let config = Config { swarm_resources: vec!["A".into(), "B".into()], ..Config::default() };
        let env = with_env(&["NVIDIA_VISIBLE_DEVICES=7", "B=1,2", "A=0"]);
        assert_eq!(names(&config, &env), "nvidia.com/gpu=0 nvidia.com/gpu=1 nvidia.com/gpu=2");
        assert_eq!(names(&config, &with_env(&["NVIDIA_VISIBLE_DEVICES=7"])), "nvidia.com/gpu=7");
        assert_eq!(names(&config, &with_env(&["NVIDIA_VISIBLE_DEVICES=7", "A=void"])), "-");
        // An image may set them: what a user denies stays denied.
        for (devices, expected) in [("void", "-"), ("", "-"), ("none", "none"), ("7", "nvidia.com/gpu=7")] {
            let env = with_env(&["A=all", &format!("NVIDIA_VISIBLE_DEVICES={devices}")]);
            assert_eq!(names(&config, &env), expected, "{devices}");
        }
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
        let error = names(&accepting, &document);
        assert!(
            error.contains("a mount asks for a.b/c=d, and mounts may ask for devices of nvidia.com/gpu"),
            "{error}"
        );
        let expected = "nvidia.com/gpu=0 nvidia.com/gpu=GPU-1 a.b/c=d a.b/c=e nvidia.com/imex-channel=3";
        let others = Config { other_kinds: vec!["a.b".into()], ..accepting };
        assert_eq!(names(&others, &document), expected);
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
        assert_eq!(names(&Config { volume_mounts: true, ..config(Accept::Always) }, &plain), "nvidia.com/gpu=0");
        // Docker's own hook is a user's word, where nothing else adds it; it goes with one variable.
        plain["hooks"] = json!({"prestart": [{"path": "/usr/bin/nvidia-container-runtime-hook"}]});
        assert_eq!(names(&config(Accept::Never), &plain), "-");
        let dockers = Config { docker_gpus: true, ..config(Accept::Never) };
        assert_eq!(names(&dockers, &plain), "nvidia.com/gpu=all");
        plain["process"]["env"] = json!(["CUDA_VERSION=8"]);
        assert_eq!(names(&dockers, &plain), "-");
    }

    /// What a user may say.
    #[derive(Clone, Copy, Debug)]
    struct User {
        devices: Option<&'static str>,
        mount: Option<&'static str>,
        annotation: Option<&'static str>,
        has_dockers_hook: bool,
    }

    fn users() -> Vec<User> {
        let mut users = Vec::new();
        for devices in [None, Some("0"), Some("void"), Some(""), Some("none")] {
            for mount in [None, Some("1"), Some("cdi/a.b/c/d"), Some("imex/3")] {
                for annotation in [None, Some("nvidia.com/gpu=2")] {
                    // Docker sets the variable with its hook.
                    let has_devices = devices.is_some_and(|devices| !devices.is_empty());
                    for has_dockers_hook in [false, true].into_iter().filter(|has| !has || has_devices) {
                        users.push(User { devices, mount, annotation, has_dockers_hook });
                    }
                }
            }
        }
        users
    }

    /// All that an image may say, one by one and all at once.
    fn images() -> Vec<Vec<&'static str>> {
        let words = [
            "NVIDIA_VISIBLE_DEVICES=all",
            "NVIDIA_VISIBLE_DEVICES=a.b/c=d",
            "CUDA_VERSION=8.0",
            "DOCKER_RESOURCE_GPU=all",
            "DOCKER_RESOURCE_GPU=nvidia.com/mig-config=all",
            "NVIDIA_IMEX_CHANNELS=all",
            "NVIDIA_GDS=enabled",
            "NVIDIA_MIG_CONFIG_DEVICES=all",
        ];
        words.iter().map(|word| vec![*word]).chain([words.to_vec()]).collect()
    }

    fn policies() -> Vec<Config> {
        let mut policies = Vec::new();
        for environment in [Accept::Always, Accept::Privileged, Accept::Never] {
            for bits in 0..64_u8 {
                let bit = |at: u8| bits & (1 << at) != 0;
                let names = |at, name: &str| if bit(at) { vec![name.to_owned()] } else { Vec::new() };
                policies.push(Config {
                    environment,
                    docker_gpus: bit(0),
                    volume_mounts: bit(1),
                    imex_channels: bit(2),
                    swarm_resources: names(3, "DOCKER_RESOURCE_GPU"),
                    annotation_prefixes: names(4, "cdi.k8s.io/"),
                    other_kinds: names(5, "nvidia.com"),
                    ..Config::default()
                });
            }
        }
        policies
    }

    /// As engines merge them: the user's variables stand behind the image's.
    fn container(user: User, image: &[&str], is_privileged: bool) -> Value {
        let devices = user.devices.map(|devices| format!("{DEVICES}={devices}"));
        let env: Vec<&str> = image.iter().copied().chain(devices.as_deref()).collect();
        let mount = |id| json!({"source": MOUNT_SOURCE, "destination": format!("{}{id}", MOUNT_DIRS[0])});
        let annotation = |devices| json!({"cdi.k8s.io/a": devices});
        let hook = user.has_dockers_hook.then(|| json!({"path": "/usr/bin/nvidia-container-runtime-hook"}));
        json!({
            "process": {"env": env, "capabilities": {"bounding": ["CAP_SYS_ADMIN"]}},
            "linux": {"resources": {"devices": [{"allow": is_privileged, "access": "rwm"}]}},
            "mounts": user.mount.map(mount).into_iter().collect::<Vec<_>>(),
            "annotations": user.annotation.map(annotation),
            "hooks": {"prestart": hook.into_iter().collect::<Vec<_>>()},
        })
    }

    /// What is given; `None` where no container starts.
    fn given(config: &Config, document: &Value) -> Option<BTreeSet<String>> {
        let asked = of_container(Container(document), config).ok()?;
        let Some(asked) = asked else { return Some(BTreeSet::new()) };
        let driver = asked.driver_only.then(|| "driver".to_owned());
        Some(asked.names.iter().chain(&asked.optional).map(ToString::to_string).chain(driver).collect())
    }

    /// Every policy, every way in which a user asks, and all that an image may say.
    #[test]
    fn what_an_image_says_never_widens_what_users_and_administrators_chose() {
        let mut starts = 0;
        for config in policies() {
            for user in users() {
                for is_privileged in [false, true] {
                    let alone = given(&config, &container(user, &[], is_privileged));
                    for image in images() {
                        let with_image = given(&config, &container(user, &image, is_privileged));
                        let context = format!("{config:?} {user:?} {image:?} {is_privileged} {alone:?} {with_image:?}");
                        narrows(&config, user, is_privileged, alone.as_ref(), with_image.as_ref(), &context);
                        starts += 1;
                    }
                }
            }
        }
        assert_eq!(starts, 192 * 64 * 2 * 9);
    }

    fn narrows(
        config: &Config,
        user: User,
        is_privileged: bool,
        alone: Option<&BTreeSet<String>>,
        with_image: Option<&BTreeSet<String>>,
        context: &str,
    ) {
        let accepts = match config.environment {
            Accept::Always => true,
            Accept::Privileged => is_privileged,
            Accept::Never => false,
        };
        let annotates = user.annotation.is_some() && !config.annotation_prefixes.is_empty();
        let mounts = user.mount.is_some_and(|id| !id.starts_with("imex/")) && config.volume_mounts;
        // Where variables do not count, or a user chose by other words, an image has no say at all.
        if !accepts || annotates || mounts {
            assert_eq!(with_image, alone, "{context}");
        }
        let Some(with_image) = with_image else { return };
        // What a user denies or names is no more for it.
        match user.devices.filter(|_| accepts && !annotates && !mounts) {
            Some("void" | "") => assert!(with_image.is_empty(), "{context}"),
            Some("none") => assert!(with_image.iter().all(|name| name == "driver"), "{context}"),
            Some("0") => {
                let gpus = with_image.iter().filter(|name| name.starts_with("nvidia.com/gpu="));
                assert!(gpus.eq(["nvidia.com/gpu=0"]) || !config.swarm_resources.is_empty(), "{context}");
                assert!(!with_image.contains("nvidia.com/gpu=all"), "{context}");
            }
            _ => {}
        }
        // Nor is there ever what the administrator gives nobody.
        let of_class = |class: &str| with_image.iter().any(|name| name.contains(class));
        assert!(config.imex_channels || !of_class("imex-channel"), "{context}");
        assert!(is_privileged || !of_class("mig-config"), "{context}");
        assert!(!of_class("a.b/c"), "{context}");
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
        assert_eq!((asked.names.len(), asked.warnings.lines().count()), (1, 1));
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
            (asked.capabilities.to_string(), asked.warnings.lines().collect::<Vec<_>>().join("; "))
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
        assert!(may_ask(r#"{"annotations":{"cdi.k8s.io\/a":"nvidia.com/gpu=0"}}"#, &config));
        assert!(may_ask(r#"{"annotations":{"cdi.k8s.io/a":"nvidia.com/gpu=0"}}"#, &config));
        assert!(may_ask(r#"{"hooks":{"prestart":[{"path":"/x/nvidia-container-runtime-hook"}]}}"#, &config));
    }
}
