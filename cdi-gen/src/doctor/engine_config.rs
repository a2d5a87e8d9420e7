//! Engine configuration: whether an engine looks at CDI specs, and where, by its own files. Pure; text in.

use camino::Utf8PathBuf;
use serde::Deserialize;
use serde_json::Value;

use super::{SPEC_DIRS, Switch};
use crate::targets::Release;

/// podman reads its own list of directories from here on; in the first releases only the first of the standard's.
const PODMAN_OWN_DIRS: Release = Release(5, 5, 0);
const PODMAN_BOTH_DIRS: Release = Release(5, 6, 0);
/// docker looks at specs unasked from here on.
const DOCKER_ON: Release = Release(28, 2, 0);
/// containerd looks at specs unasked from here on, and always from the second on.
const CONTAINERD_ON: Release = Release(2, 0, 0);
const CONTAINERD_ALWAYS: Release = Release(2, 4, 0);
/// The section of containerd's plugin for Kubernetes, in the formats 3, 2 and 1.
const CRI_PLUGINS: [&str; 3] = ["io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "cri"];

/// What an engine's configuration says of CDI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CdiConfig {
    /// Whether it looks at specs.
    pub cdi: Switch,
    /// Where, the lowest priority first.
    pub dirs: Vec<Utf8PathBuf>,
}

impl CdiConfig {
    fn on(dirs: Option<Vec<Utf8PathBuf>>) -> Self {
        Self { cdi: Switch::On, dirs: dirs.unwrap_or_else(usual_dirs) }
    }

    /// That of an engine whose part for Kubernetes is off.
    pub fn of_disabled_plugin() -> Self {
        Self { cdi: Switch::Off { setting: "the plugin for Kubernetes is off".to_owned() }, dirs: usual_dirs() }
    }

    /// That of a file that cannot be understood.
    pub fn unknown(why: String) -> Self {
        Self { cdi: Switch::Unknown { why }, dirs: usual_dirs() }
    }
}

/// The directories of the standard.
pub fn usual_dirs() -> Vec<Utf8PathBuf> {
    SPEC_DIRS.map(Utf8PathBuf::from).into()
}

/// podman, by its files in the order in which they count, the last one most; each with its path.
pub fn podman(files: &[(Utf8PathBuf, String)], release: Option<Release>) -> CdiConfig {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct File {
        engine: Engine,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Engine {
        cdi_spec_dirs: Option<Vec<Utf8PathBuf>>,
    }
    let release = release.unwrap_or(Release(0, 0, 0));
    if release < PODMAN_OWN_DIRS {
        return CdiConfig::on(None);
    }
    let mut dirs = None;
    for (path, text) in files {
        match toml::from_str::<File>(text) {
            Ok(file) => dirs = file.engine.cdi_spec_dirs.or(dirs),
            Err(error) => return CdiConfig::unknown(format!("{path}: {}", one_line(error.message()))),
        }
    }
    let only_first = dirs.is_none() && release < PODMAN_BOTH_DIRS;
    if only_first { CdiConfig::on(Some(vec![SPEC_DIRS[0].into()])) } else { CdiConfig::on(dirs) }
}

/// docker, by its `daemon.json`.
pub fn docker(text: &str, release: Option<Release>) -> CdiConfig {
    let file: Value = match serde_json::from_str(text) {
        Ok(file) => file,
        Err(_) if text.trim().is_empty() => Value::Null,
        Err(error) => return CdiConfig::unknown(error.to_string()),
    };
    let said = file.pointer("/features/cdi").and_then(Value::as_bool);
    let on = said.unwrap_or_else(|| release.is_some_and(|release| release >= DOCKER_ON));
    let setting = if said.is_some() { "`features.cdi` is false" } else { "`features.cdi` is not set" };
    let dirs = file.get("cdi-spec-dirs").and_then(Value::as_array);
    let dirs = dirs.map(|dirs| dirs.iter().filter_map(Value::as_str).map(Utf8PathBuf::from).collect());
    let config = CdiConfig::on(dirs);
    if on { config } else { CdiConfig { cdi: Switch::Off { setting: setting.to_owned() }, ..config } }
}

/// containerd, by its `config.toml`; best what `containerd config dump` prints, since that has the imports in it. `None`
/// if the plugin for Kubernetes is off: nobody asks it for devices then.
pub fn containerd(text: &str, release: Option<Release>) -> Option<CdiConfig> {
    let file: toml::Table = match toml::from_str(text) {
        Ok(file) => file,
        Err(error) => return Some(CdiConfig::unknown(one_line(error.message()))),
    };
    let disabled = file.get("disabled_plugins").and_then(toml::Value::as_array).into_iter().flatten();
    if disabled.filter_map(toml::Value::as_str).any(|name| CRI_PLUGINS.contains(&name)) {
        return None;
    }
    let plugins = file.get("plugins");
    let section = CRI_PLUGINS.iter().find_map(|name| plugins?.get(name));
    let said = section.and_then(|section| section.get("enable_cdi")?.as_bool());
    let since = |since| release.is_some_and(|release| release >= since);
    let on = since(CONTAINERD_ALWAYS) || said.unwrap_or(since(CONTAINERD_ON));
    let dirs = section.and_then(|section| section.get("cdi_spec_dirs")?.as_array());
    let dirs = dirs.filter(|dirs| !dirs.is_empty());
    let dirs = dirs.map(|dirs| dirs.iter().filter_map(toml::Value::as_str).map(Utf8PathBuf::from).collect());
    let config = CdiConfig::on(dirs);
    let setting = if said.is_some() { "`enable_cdi` is false" } else { "`enable_cdi` is not set" };
    Some(if on { config } else { CdiConfig { cdi: Switch::Off { setting: setting.to_owned() }, ..config } })
}

/// CRI-O and nerdctl, which always look: their list of directories stands under these keys. The last file counts most.
pub fn listed(files: &[(Utf8PathBuf, String)], keys: &[&str]) -> CdiConfig {
    let mut dirs = None;
    for (path, text) in files {
        let file: toml::Value = match toml::from_str::<toml::Table>(text) {
            Ok(file) => file.into(),
            Err(error) => return CdiConfig::unknown(format!("{path}: {}", one_line(error.message()))),
        };
        let found = keys.iter().try_fold(&file, |value, key| value.get(key)).and_then(toml::Value::as_array);
        dirs = found.map(|dirs| dirs.iter().filter_map(toml::Value::as_str).map(Utf8PathBuf::from).collect()).or(dirs);
    }
    CdiConfig::on(dirs)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(config: &CdiConfig) -> String {
        config.dirs.iter().map(|dir| dir.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn podmans_directories() {
        let file = |text: &str| [("/etc/containers/containers.conf".into(), text.to_owned())];
        let own = "[engine]\ncdi_spec_dirs = ['/a', '/b']\n";
        let of = |text, release| dirs(&podman(&file(text), release));
        assert_eq!(of(own, Some(Release(4, 9, 3))), "/etc/cdi /var/run/cdi");
        assert_eq!(of("", Some(Release(5, 5, 1))), "/etc/cdi");
        assert_eq!(of("", Some(Release(5, 6, 0))), "/etc/cdi /var/run/cdi");
        assert_eq!(of(own, Some(Release(5, 5, 1))), "/a /b");
        let two = [file(own), file("[containers]\n")].concat();
        assert_eq!(dirs(&podman(&two, Some(Release(5, 8, 0)))), "/a /b");
        let broken = podman(&file("["), Some(Release(5, 8, 0)));
        assert!(matches!(broken.cdi, Switch::Unknown { why } if why.starts_with("/etc/containers/containers.conf: ")));
    }

    #[test]
    fn dockers_switch() {
        let off = |text, release| matches!(docker(text, release).cdi, Switch::Off { .. });
        assert!(off("", Some(Release(26, 1, 5))) && off("{}", Some(Release(28, 1, 0))));
        assert!(!off("", Some(Release(28, 2, 0))) && off(r#"{"features": {"cdi": false}}"#, Some(Release(29, 0, 0))));
        assert!(!off(r#"{"features": {"cdi": true}}"#, Some(Release(26, 1, 5))));
        assert_eq!(dirs(&docker(r#"{"cdi-spec-dirs": ["/x"]}"#, None)), "/x");
        assert!(matches!(docker("{", None).cdi, Switch::Unknown { .. }));
    }

    #[test]
    fn containerds_switch() {
        let on = |text: &str, release| containerd(text, Some(release)).map(|config| config.cdi == Switch::On);
        let v2 = "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nenable_cdi = ";
        assert_eq!(on(&format!("{v2}true"), Release(1, 7, 24)), Some(true));
        assert_eq!(on(&format!("{v2}false"), Release(2, 1, 0)), Some(false));
        assert_eq!(on(&format!("{v2}false"), Release(2, 4, 0)), Some(true));
        assert_eq!((on("", Release(1, 7, 24)), on("", Release(2, 1, 0))), (Some(false), Some(true)));
        assert_eq!(on("disabled_plugins = ['cri']", Release(1, 7, 24)), None);
        let own = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\ncdi_spec_dirs = ['/x']";
        assert_eq!(containerd(own, None).as_ref().map(dirs).as_deref(), Some("/x"));
    }

    #[test]
    fn lists_of_directories() {
        let files =
            [("/a".into(), "[crio.runtime]\ncdi_spec_dirs = ['/x']\n".to_owned()), ("/b".into(), String::new())];
        assert_eq!(dirs(&listed(&files, &["crio", "runtime", "cdi_spec_dirs"])), "/x");
        assert_eq!(dirs(&listed(&files, &["cdi_spec_dirs"])), "/etc/cdi /var/run/cdi");
    }
}
