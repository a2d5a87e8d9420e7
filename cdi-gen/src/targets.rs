//! Targets: which CDI versions container engines read, and a spec that says no more than that. Pure.
//!
//! An engine refuses a whole file for one field that it does not know, and many tell nobody. The table follows the CDI
//! library that each release of an engine was built with; what distributions built with a newer one reads more.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use cdi_specs::{ContainerEdits, Spec, Version};

/// Engines by name and release, the oldest first: what it reads from that release on.
pub const ENGINES: &[(&str, &[(Release, Version)])] = &[
    ("cdi-apply", &[(Release(0, 0, 0), Version::V1_1_0)]),
    (
        "containerd",
        &[
            (Release(1, 7, 0), Version::V0_5_0),
            (Release(1, 7, 14), Version::V0_6_0),
            (Release(1, 7, 16), Version::V0_7_0),
            (Release(1, 7, 21), Version::V0_8_0),
            (Release(2, 0, 0), Version::V0_8_0),
            (Release(2, 1, 0), Version::V1_0_0),
            (Release(2, 3, 0), Version::V1_1_0),
        ],
    ),
    (
        "crio",
        &[
            (Release(1, 24, 0), Version::V0_3_0),
            (Release(1, 26, 0), Version::V0_5_0),
            (Release(1, 28, 0), Version::V0_6_0),
            (Release(1, 30, 0), Version::V0_7_0),
            (Release(1, 31, 0), Version::V0_8_0),
            (Release(1, 33, 0), Version::V1_0_0),
        ],
    ),
    (
        "docker",
        &[
            (Release(25, 0, 0), Version::V0_6_0),
            (Release(26, 1, 0), Version::V0_7_0),
            (Release(27, 5, 0), Version::V0_8_0),
            (Release(28, 1, 0), Version::V1_0_0),
        ],
    ),
    ("nerdctl", &[(Release(2, 1, 0), Version::V0_8_0)]),
    (
        "podman",
        &[
            (Release(4, 1, 0), Version::V0_4_0),
            (Release(4, 3, 0), Version::V0_5_0),
            (Release(4, 9, 0), Version::V0_6_0),
            (Release(5, 1, 0), Version::V0_7_0),
            (Release(5, 2, 0), Version::V0_8_0),
            (Release(5, 5, 0), Version::V1_0_0),
        ],
    ),
    ("singularity", &[(Release(4, 0, 0), Version::V0_6_0), (Release(4, 3, 0), Version::V1_0_0)]),
];

/// A release: `4.3` and `4.3.1~ds1` are read as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32, pub u32);

impl Release {
    /// The first word of a text that starts with two numbers, as in what `ENGINE --version` prints.
    pub fn find(text: &str) -> Option<Self> {
        text.split([' ', ',', '\n'])
            .find_map(|word| word.strip_prefix('v').unwrap_or(word).parse().ok().filter(|_| word.contains('.')))
    }
}

impl FromStr for Release {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = |part: &str| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part.get(..end).and_then(|digits| digits.parse().ok())
        };
        let mut parts = text.splitn(3, '.');
        let major =
            parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit())).and_then(digits).ok_or(())?;
        let mut next = || parts.next().map_or(Some(0), digits);
        Ok(Self(major, next().ok_or(())?, next().unwrap_or(0)))
    }
}

/// An engine that is to read a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Those that are installed.
    Auto,
    /// This one.
    Engine {
        /// Its name.
        name: &'static str,
        /// Its release; the oldest that reads CDI if it is not told.
        release: Option<Release>,
    },
}

/// Words that name no engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no target; targets are auto, and {names}, with a release as in podman=4.3", names = names())]
pub struct UnknownTarget(String);

fn names() -> String {
    ENGINES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, UnknownTarget> {
        let unknown = || UnknownTarget(text.to_owned());
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let (name, release) = text.split_once('=').map_or((text, None), |(name, release)| (name, Some(release)));
        let release = release.map(|release| release.parse().map_err(|()| unknown())).transpose()?;
        let (name, _) = ENGINES.iter().find(|(known, _)| *known == name).ok_or_else(unknown)?;
        Ok(Self::Engine { name, release })
    }
}

/// The newest CDI version that an engine reads; `None` for a release from before it read any.
pub fn reads(engine: &str, release: Option<Release>) -> Option<Version> {
    let (_, releases) = ENGINES.iter().find(|(name, _)| *name == engine)?;
    match release {
        None => releases.first().map(|(_, version)| *version),
        Some(release) => releases.iter().rev().find(|(since, _)| *since <= release).map(|(_, version)| *version),
    }
}

/// The newest CDI version that any release of an engine reads.
pub fn newest(engine: &str) -> Option<Version> {
    let (_, releases) = ENGINES.iter().find(|(name, _)| *name == engine)?;
    releases.last().map(|(_, version)| *version)
}

/// A spec that an engine cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this spec takes CDI {required}, and cannot be said in {newest}")]
pub struct CannotSay {
    /// What it takes.
    pub required: Version,
    /// What there is.
    pub newest: Version,
}

/// Makes a spec say no more than a version can. Returns what was lost, in words.
///
/// # Errors
/// What is left takes a newer version all the same, as a dot in the class does.
pub fn lower(spec: &mut Spec, newest: Version) -> Result<Vec<String>, CannotSay> {
    let mut lost = Lost::default();
    if newest < Version::V0_7_0 {
        each_edits(spec, |edits| {
            if !std::mem::take(&mut edits.additional_gids).is_empty() {
                lost.say("processes that are not root cannot use group-restricted nodes (additionalGids)".to_owned());
            }
        });
    }
    if newest < Version::V0_5_0 {
        each_edits(spec, |edits| {
            let (kept, gone): (Vec<_>, Vec<_>) =
                edits.device_nodes.drain(..).partition(|node| node.host_path.is_none());
            edits.device_nodes = kept;
            gone.into_iter().for_each(|node| lost.say(format!("there is no node {}", node.path)));
        });
        rename(spec, &mut lost);
    }
    let required = spec.required_version();
    spec.cdi_version = required.to_string();
    if required > newest { Err(CannotSay { required, newest }) } else { Ok(lost.words) }
}

#[derive(Default)]
struct Lost {
    words: Vec<String>,
    known: BTreeSet<String>,
}

impl Lost {
    /// Once is enough, however many devices it concerns.
    fn say(&mut self, words: String) {
        if self.known.insert(words.clone()) {
            self.words.push(words);
        }
    }
}

fn each_edits(spec: &mut Spec, mut change: impl FnMut(&mut ContainerEdits)) {
    change(&mut spec.container_edits);
    spec.devices.iter_mut().for_each(|device| change(&mut device.container_edits));
}

/// Names must start with a letter: the device `0` becomes `gpu0`.
fn rename(spec: &mut Spec, lost: &mut Lost) {
    let taken: BTreeSet<String> = spec.devices.iter().map(|device| device.name.clone()).collect();
    spec.devices.retain_mut(|device| {
        if !device.name.starts_with(|c: char| c.is_ascii_digit()) {
            return true;
        }
        let name = format!("gpu{}", device.name);
        let is_free = !taken.contains(&name);
        if is_free {
            lost.say(format!("device {} is called {name}", device.name));
            device.name = name;
        }
        is_free
    });
    spec.devices.sort_by(|one, other| one.name.cmp(&other.name));
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(ENGINES.is_sorted_by(|a, b| a.0 < b.0));
        for (name, releases) in ENGINES {
            assert!(releases.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name}");
        }
    }

    #[test]
    fn what_engines_read() {
        let reads = |text: &str| match text.parse::<Target>().unwrap() {
            Target::Auto => unreachable!("not asked for"),
            Target::Engine { name, release } => reads(name, release).map(|version| version.to_string()),
        };
        let cases = [
            ("podman=4.2", Some("0.4.0")),
            ("podman=4.3.1+ds1", Some("0.5.0")),
            ("podman=4.9.3", Some("0.6.0")),
            ("podman=5.8", Some("1.0.0")),
            ("podman", Some("0.4.0")),
            ("podman=3.4", None),
            ("containerd=1.7.24~ds1", Some("0.8.0")),
            ("containerd=1.7.13", Some("0.5.0")),
            ("docker=29", Some("1.0.0")),
            ("crio=1.29.1", Some("0.6.0")),
            ("cdi-apply", Some("1.1.0")),
        ];
        for (text, expected) in cases {
            assert_eq!(reads(text).as_deref(), expected, "{text}");
        }
        for text in ["", "rkt", "podman=", "podman=new", "podman=4.x", "auto=1"] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains("targets are auto, and cdi-apply, containerd"), "{error}");
        }
        assert_eq!("auto".parse(), Ok(Target::Auto));
    }

    #[test]
    fn releases_in_what_engines_print() {
        let cases = [
            ("podman version 4.3.1", Release(4, 3, 1)),
            ("Docker version 26.1.5+dfsg1, build a72d7cd", Release(26, 1, 5)),
            ("containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+b4", Release(1, 7, 24)),
            ("containerd github.com/containerd/containerd/v2 v2.1.3 abc", Release(2, 1, 3)),
            ("crio version 1.30.0\nVersion: 1.30.0", Release(1, 30, 0)),
        ];
        for (text, release) in cases {
            assert_eq!(Release::find(text), Some(release), "{text}");
        }
        assert_eq!(Release::find("no release here"), None);
    }
}
