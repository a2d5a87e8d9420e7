//! Volumes: containers of user 1000 without capabilities, with a volume where the hook works or where the image leads it. I/O.
#![expect(clippy::disallowed_methods, reason = "lays volumes out and looks at them")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Instant;

use anyhow::Context;
use testdata::container::{Item, Kind, Snapshot};

use super::case::elapsed;
use super::engine::{Engine, Job, Plan};
use super::files::{copy_tree, link, make_dirs, remove_tree, write};
use super::fixture::{self, Host};
use super::one_line;
use super::outcome::Row;

/// Who runs in the container, without any capability.
pub const USER: u32 = 1000;
const DEVICE: &str = "nvidia.com/hooked=all";
/// What stands in a file that this user cannot read.
const SECRET: &str = "k3pt-fr0m-the-c0ntainer";
/// What engines mount over files of `/etc`, so that they need not make them.
const ENGINES_FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

/// A volume, and what must come of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trap {
    /// The image leads a list of musl's to a file of the volume that only root may read.
    Secret,
    /// The volume is on `/etc`.
    Etc,
    /// The volume is on the directory of the image's libraries.
    Libraries,
    /// The image has a link to the volume where `/etc` would be.
    EtcLink,
}

const TRAPS: [Trap; 4] = [Trap::Secret, Trap::Etc, Trap::Libraries, Trap::EtcLink];

/// A volume of a container.
pub struct Volume {
    /// A directory of the host.
    pub from: PathBuf,
    /// Where it is in the container.
    pub at: &'static str,
    /// Whether it is read-only there.
    pub read_only: bool,
}

/// What a container has beside devices.
pub struct Extras<'t> {
    /// Its volume.
    pub volume: &'t Volume,
    /// Changes its image.
    pub change: &'t dyn Fn(&Path) -> anyhow::Result<()>,
}

/// A row for each.
pub fn rows(plan: &Plan, version: &str, runtime: &str, engine: &dyn Engine, host: &Host, work: &Path) -> Vec<Row> {
    let row = |trap: Trap| {
        let started = Instant::now();
        let result = trap.run(runtime, engine, host, work);
        Row {
            engine: plan.name.to_owned(),
            version: version.to_owned(),
            runtime: runtime.to_owned(),
            case: trap.title().to_owned(),
            result: result.map_err(|error| one_line(&format!("{error:#}"))),
            milliseconds: elapsed(started),
        }
    };
    // podman opens the image's /etc before it mounts volumes, and starts no container where that leads into one.
    let starts = |trap: &Trap| plan.name != "podman" || *trap != Trap::EtcLink;
    if plan.takes_volumes() { TRAPS.into_iter().filter(starts).map(row).collect() } else { Vec::new() }
}

impl Trap {
    fn title(self) -> &'static str {
        match self {
            Self::Secret => "a secret in a volume",
            Self::Etc => "a volume on /etc",
            Self::Libraries => "a volume on /usr/lib",
            Self::EtcLink => "/etc leads to a volume",
        }
    }

    fn at(self) -> &'static str {
        match self {
            Self::Secret | Self::EtcLink => "/vol",
            Self::Etc => "/etc",
            Self::Libraries => "/usr/lib",
        }
    }

    fn run(self, runtime: &str, engine: &dyn Engine, host: &Host, work: &Path) -> anyhow::Result<String> {
        let volume = self.volume(work)?;
        let before = Snapshot::of(&volume.from).context("cannot read the volume")?;
        let devices = [DEVICE.to_owned()];
        let command = ["sh".to_owned(), "-c".to_owned(), self.script(host)];
        let extras = Extras { volume: &volume, change: &|rootfs| self.change(rootfs) };
        let output = engine.run(runtime, &Job { devices: &devices, command: &command, extras: Some(extras) })?;
        let after = Snapshot::of(&volume.from).context("cannot read the volume")?;
        self.judge(&output).and_then(|found| unchanged(&before, &after).map(|()| found)).map_err(anyhow::Error::msg)
    }

    fn volume(self, work: &Path) -> anyhow::Result<Volume> {
        let from = work.join("volumes");
        remove_tree(&from)?;
        match self {
            Self::Secret => {
                make_dirs(&from)?;
                write(&from.join("secret"), SECRET)?;
                let mode = fs::Permissions::from_mode(0o600);
                fs::set_permissions(from.join("secret"), mode).context("cannot set permissions")?;
            }
            Self::Etc => copy_tree(&fixture::rootfs(work).join("etc"), &from)?,
            Self::EtcLink => {
                make_dirs(&from)?;
                copy_tree(&fixture::rootfs(work).join("etc"), &from.join("etc"))?;
            }
            Self::Libraries => copy_tree(&fixture::rootfs(work).join("usr/lib"), &from)?,
        }
        for dir in [&from, &from.join("etc")].into_iter().filter(|_| matches!(self, Self::Etc | Self::EtcLink)) {
            ENGINES_FILES.iter().filter(|_| dir.is_dir()).try_for_each(|file| write(&dir.join(file), ""))?;
        }
        Ok(Volume { from, at: self.at(), read_only: self == Self::Secret })
    }

    /// What the image has.
    fn change(self, rootfs: &Path) -> anyhow::Result<()> {
        make_dirs(&rootfs.join("vol"))?;
        match self {
            Self::Secret => {
                write(&rootfs.join("usr/lib/ld-musl-x86_64.so.1"), "")?;
                link("/vol/secret", &rootfs.join("etc/ld-musl-x86_64.path"))
            }
            Self::EtcLink => {
                remove_tree(&rootfs.join("etc"))?;
                link("/vol/etc", &rootfs.join("etc"))
            }
            Self::Etc | Self::Libraries => Ok(()),
        }
    }

    fn script(self, host: &Host) -> String {
        let version = &host.version;
        match self {
            Self::Secret => format!("cat /vol/secret /etc/*.path; gpu-check {version}"),
            _ => format!("gpu-check {version}"),
        }
    }

    /// The container starts. The library is found wherever the image has a place for that to be said.
    fn judge(self, output: &Output) -> Result<String, String> {
        let (printed, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if printed.contains(SECRET) || words.contains(SECRET) {
            return Err("user 1000 reads what only root may".to_owned());
        }
        let answer = printed.lines().find_map(|line| line.strip_prefix("cuda="));
        let answer = answer.ok_or_else(|| format!("does not start: {}: {printed} {words}", output.status))?;
        match answer.parse::<u32>() {
            Ok(_) => Ok("ok, libcuda found".to_owned()),
            // A whole directory elsewhere has no place for the loader to be told; what the hook says, engines show or not.
            Err(_) if self == Self::EtcLink => Ok(format!("ok, started without: {answer}")),
            Err(_) => Err(format!("no libcuda: {answer} {words}")),
        }
    }
}

/// Engines make mount points in volumes: empty files, and directories. All else would be the hook's.
fn unchanged(before: &Snapshot, after: &Snapshot) -> Result<(), String> {
    let is_point = |item: &Item| match &item.kind {
        Kind::Dir => true,
        Kind::File(bytes) => bytes.is_empty(),
        Kind::Link(_) | Kind::Special(_) => false,
    };
    let mut rest = after.clone();
    rest.items.retain(|path, item| before.items.contains_key(path) || !is_point(item));
    let changes = before.difference(&rest);
    if changes.is_empty() { Ok(()) } else { Err(format!("the volume is changed: {}", changes.join("; "))) }
}
