//! Doctor: why containers get no GPU. Pure; `examine` in the program reads what it judges.
//!
//! ```text
//! host, spec files, engines ─► Checkup ─► findings ─► screen | JSON | page
//!                              data       diagnose
//! ```
//!
//! An engine says "unresolvable CDI devices" for ten causes (`cdi-gen doctor` names them). Each installed engine is
//! looked at as it would look: its own directories, what its release reads, which file wins.

pub mod diagnose;
pub mod engine_config;
pub mod graph;
pub mod page;
pub mod screen;

use std::collections::BTreeMap;
use std::fmt;

use camino::Utf8PathBuf;
use cdi_specs::{Spec, Version, printable, shell_line};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::problem::{Problem, Severity};
use crate::targets::Release;

/// The directories of the standard (CDI SPEC, "CDI specification files"), the lower priority first.
pub const SPEC_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Where `cdi-gen refresh` and services write.
pub const USUAL_SPEC: &str = "/var/run/cdi/nvidia.yaml";

/// All that is looked at.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkup {
    /// The kind of the GPUs, `nvidia.com/gpu`.
    pub kind: String,
    /// Devices that somebody asks for; all if none is named.
    pub asked: Vec<String>,
    /// The running driver, in words; `None` if none runs.
    pub driver: Option<String>,
    /// The spec that would be made now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<Spec>,
    /// What a generation would tell.
    pub problems: Vec<Problem>,
    /// Device nodes of the running driver.
    pub nodes: Vec<NodeState>,
    /// Links in `/dev/char` that are missing.
    pub missing_char_links: Vec<Utf8PathBuf>,
    /// Engines.
    pub engines: Vec<Engine>,
    /// Directories of specs.
    pub dirs: Vec<SpecDir>,
    /// Files that engines might read, the lowest priority first.
    pub files: Vec<SpecFile>,
    /// The rest of the host.
    pub system: System,
}

impl Checkup {
    /// Whether a qualified name is that of a GPU.
    fn is_of_kind(&self, name: &str) -> bool {
        name.strip_prefix(&self.kind).is_some_and(|rest| rest.starts_with('='))
    }
}

/// A node that the running driver should have.
#[derive(Clone, Debug, Serialize)]
pub struct NodeState {
    /// Where.
    pub path: Utf8PathBuf,
    /// Its right numbers.
    pub numbers: (u32, u32),
    /// How it is.
    pub state: NodeIs,
}

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeIs {
    /// As it should be.
    Good,
    /// Not there.
    Missing,
    /// A node of another device, or none at all.
    Wrong,
    /// There, and not for this user.
    Forbidden,
}

/// An engine that is installed.
#[derive(Clone, Debug, Serialize)]
pub struct Engine {
    /// Its name.
    pub name: &'static str,
    /// Its release; unknown if it does not tell.
    #[serde(serialize_with = "as_text")]
    pub release: Option<Release>,
    /// The newest CDI version that it reads; `None` if it reads no specs.
    #[serde(serialize_with = "as_text")]
    pub reads: Option<Version>,
    /// Whether it looks at specs at all.
    pub cdi: Switch,
    /// Where it looks, the lowest priority first.
    pub dirs: Vec<Utf8PathBuf>,
    /// Whether somebody is there who would ask it for a CDI device; a containerd below docker has nobody.
    pub used: bool,
}

impl Engine {
    /// Its name and release.
    pub fn title(&self) -> String {
        self.release.map_or_else(|| self.name.to_owned(), |release| format!("{} {release}", self.name))
    }
}

/// Whether an engine looks at specs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// It does.
    On,
    /// It does not.
    Off {
        /// The setting that says so.
        setting: String,
    },
    /// Its configuration cannot be read, and nobody knows.
    Unknown {
        /// Why.
        why: String,
    },
}

/// A directory of specs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecDir {
    /// Where.
    pub path: Utf8PathBuf,
    /// Why it cannot be listed.
    pub trouble: Option<String>,
    /// Whether users without root can list it.
    pub for_everybody: bool,
}

/// A file that engines might read.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecFile {
    /// Where.
    pub path: Utf8PathBuf,
    /// What it holds.
    pub text: SpecText,
    /// Whether cdi-gen wrote it.
    pub ours: bool,
    /// Whether users without root can read it.
    pub for_everybody: bool,
    /// Who but root can change it, or put another in its place.
    pub writer: Option<Writer>,
    /// Why it is no longer true.
    pub stale: Option<String>,
    /// Programs that it has run, and that are not there or cannot be run.
    pub missing_hooks: Vec<Utf8PathBuf>,
}

/// Who else than root can change what root relies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Writer {
    /// In words: `user 1000 can change /etc/cdi`.
    pub why: String,
    /// What they can change: the file, or what leads to it.
    pub path: Utf8PathBuf,
    /// What that is.
    pub kind: WriterOf,
}

/// What somebody can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriterOf {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A link.
    Link,
}

/// What a file holds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpecText {
    /// A spec.
    Spec(Box<Spec>),
    /// It cannot be read.
    Unreadable(String),
    /// It is no spec.
    Malformed(String),
    /// Its name ends in something that no engine reads.
    WrongName,
}

/// What else matters.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct System {
    /// The user who asks.
    pub user: u32,
    /// Whether systemd runs.
    pub systemd: bool,
    /// Cgroups: `v1`, `v2`, or both.
    pub cgroups: Option<&'static str>,
    /// SELinux: whether it enforces, and whether containers may use devices; `None` if it is off.
    pub selinux: Option<SeLinux>,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// The container that this system is, in words.
    pub container: Option<String>,
    /// Our hook.
    pub hook: Option<Utf8PathBuf>,
    /// Whether the loader's cache of this host knows the driver; `None` if there is no cache.
    pub in_ld_cache: Option<bool>,
    /// Whether something refreshes the spec after an update; `None` if nobody knows.
    pub refreshed: Option<bool>,
}

/// SELinux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeLinux {
    /// Whether it enforces.
    pub enforcing: bool,
    /// The boolean `container_use_devices`.
    pub containers_use_devices: Option<bool>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The kind of cause, for machines and for the README's table.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What shows it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// What mends it.
    #[serde(flatten)]
    pub repair: Option<Repair>,
}

/// What mends something: steps in words, commands, or both. Displays as a line that a shell may be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repair {
    /// What no command does, or what is to be known before.
    pub words: String,
    /// Commands, each by its words; the next is for when the one before has succeeded.
    pub commands: Vec<Vec<String>>,
}

impl Repair {
    /// One command.
    pub fn command(words: &[&str]) -> Self {
        Self::default().then(words)
    }

    /// A step in words.
    pub fn step(words: impl Into<String>) -> Self {
        Self { words: words.into(), ..Self::default() }
    }

    /// The same with one more command behind it.
    #[must_use]
    pub fn then(mut self, words: &[&str]) -> Self {
        self.commands.push(words.iter().map(|word| (*word).to_owned()).collect());
        self
    }

    /// The same with words before it.
    #[must_use]
    pub fn after(self, words: impl Into<String>) -> Self {
        Self { words: words.into(), ..self }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commands = self.commands.iter().map(|words| shell_line(words.iter().map(String::as_str)));
        let commands = commands.collect::<Vec<_>>().join(" && ");
        let colon = if self.words.is_empty() || commands.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{commands}", printable(&self.words))
    }
}

/// `fix` is the line for people and shells, `commands` the same for programs.
impl Serialize for Repair {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Repair", 2)?;
        fields.serialize_field("fix", &self.to_string())?;
        if !self.commands.is_empty() {
            fields.serialize_field("commands", &self.commands)?;
        }
        fields.end()
    }
}

impl Finding {
    fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        Self { severity, code, message: message.into(), evidence: Vec::new(), repair: None }
    }

    fn evidence(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    fn fix(self, repair: Repair) -> Self {
        Self { repair: Some(repair), ..self }
    }
}

impl From<&Problem> for Finding {
    fn from(problem: &Problem) -> Self {
        let Problem { severity, code, message, hint } = problem.clone();
        Self { severity, code, message, evidence: Vec::new(), repair: hint.map(Repair::step) }
    }
}

/// What an engine makes of the files: each device, and the file that it comes from.
pub type Devices<'c> = BTreeMap<String, &'c SpecFile>;

fn as_text<T: ToString, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(ToString::to_string).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_is_a_line_that_a_shell_takes_word_for_word() {
        let path = "/etc/cdi/a;touch x;\u{1b}[2J\n'.yaml";
        let repair = Repair::command(&["chown", "root:root", path]).then(&["chmod", "0644", path]).after("first\nread");
        let shown = r"$'/etc/cdi/a;touch x;\033[2J\012\'.yaml'";
        let line = format!("first\\nread: chown root:root {shown} && chmod 0644 {shown}");
        assert_eq!(repair.to_string(), line);
        let commands = serde_json::json!([["chown", "root:root", path], ["chmod", "0644", path]]);
        assert_eq!(serde_json::to_value(&repair).unwrap(), serde_json::json!({"fix": line, "commands": commands}));
        assert_eq!(serde_json::to_value(Repair::step("reboot")).unwrap(), serde_json::json!({"fix": "reboot"}));
    }
}
