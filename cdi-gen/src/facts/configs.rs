//! Data files of the driver: ICD and layer manifests, X.org snippets, profiles.

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use glob::Pattern;
use serde::Serialize;
use serde_json::Value;

use super::Hints;
use super::left_out::LeftOut;
use crate::capability::Capabilities;
use crate::driver_files::{CONFIGS, Config, WINE_DLLS};
use crate::homes;
use crate::host::Host;
use crate::tree::Located;
use crate::version::DriverVersion;

/// A data file that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigFact {
    /// The real file.
    #[serde(flatten)]
    pub located: Located,
    /// Where a container's programs look for it.
    pub container_path: Utf8PathBuf,
    /// Who wants it.
    pub capability: Capabilities,
    /// The library that a manifest names by its full path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library_path: Option<Utf8PathBuf>,
}

/// Reads the data files. Of several files for one place in the container the first counts.
pub fn read(
    host: &Host,
    hints: &Hints,
    library_dirs: &[Utf8PathBuf],
    version: Option<&DriverVersion>,
    left_out: &mut LeftOut,
) -> Vec<ConfigFact> {
    let bases = bases(hints, library_dirs);
    let mut found: Vec<ConfigFact> = Vec::new();
    let mut add = |fact: ConfigFact| {
        let is_known = found.iter().any(|known| known.container_path == fact.container_path);
        if !is_known && left_out.admits(&host.driver, &fact.located.host_path) {
            found.push(fact);
        }
    };
    for row in CONFIGS {
        bases.iter().flat_map(|base| in_base(host, row, base, version)).for_each(&mut add);
    }
    library_dirs.iter().flat_map(|dir| wine_dlls(host, dir)).for_each(&mut add);
    found
}

fn bases(hints: &Hints, library_dirs: &[Utf8PathBuf]) -> Vec<Utf8PathBuf> {
    if !hints.config_search_path.is_empty() {
        return hints.config_search_path.clone();
    }
    let own = library_dirs.iter().filter_map(|dir| homes::prefix_of(dir)).flat_map(|prefix| {
        // GKE keeps `vulkan/` in the prefix itself.
        [prefix.join("share"), prefix.join("etc"), prefix.to_owned()]
    });
    homes::DATA_DIRS.iter().map(Utf8PathBuf::from).chain(own).collect()
}

fn in_base(host: &Host, row: &Config, base: &Utf8Path, version: Option<&DriverVersion>) -> Vec<ConfigFact> {
    let relative = row.file.name.replace("{version}", version.map_or("", DriverVersion::as_str));
    let relative = Utf8Path::new(&relative);
    let below = relative.parent().unwrap_or(relative);
    let files = matching(host, &base.join(relative));
    let into = Utf8Path::new(row.base).join(below);
    files.into_iter().map(|located| fact(host, located, &into, row.file.capability)).collect()
}

fn wine_dlls(host: &Host, library_dir: &Utf8Path) -> Vec<ConfigFact> {
    let pattern = library_dir.join(WINE_DLLS.name);
    let into = homes::container_dir(pattern.parent().unwrap_or(library_dir));
    matching(host, &pattern).into_iter().map(|located| fact(host, located, &into, WINE_DLLS.capability)).collect()
}

/// Files of the driver's tree that a pattern (wildcards in the last part only) matches.
fn matching(host: &Host, pattern: &Utf8Path) -> Vec<Located> {
    let (Some(dir), Some(Ok(name))) = (pattern.parent(), pattern.file_name().map(Pattern::new)) else {
        return Vec::new();
    };
    host.driver.files(dir, |file| name.matches(file))
}

fn fact(host: &Host, located: Located, into: &Utf8Path, capability: Capabilities) -> ConfigFact {
    let name = located.path.file_name().unwrap_or_default();
    let library_path = name.ends_with(".json").then(|| host.driver.read_text(&located.path).ok()).flatten();
    let library_path = library_path.as_deref().and_then(parse_library_path);
    ConfigFact { container_path: into.join(name), capability, library_path, located }
}

/// The full `library_path` of a manifest (Vulkan loader, libglvnd and EGL external platform formats). A path with `..`
/// is no name of a library.
pub fn parse_library_path(text: &str) -> Option<Utf8PathBuf> {
    let manifest: Value = serde_json::from_str(text).ok()?;
    let path = Utf8Path::new(find_full_path(&manifest)?);
    let is_normal = path.components().all(|part| !matches!(part, Utf8Component::ParentDir | Utf8Component::CurDir));
    is_normal.then(|| path.to_owned())
}

/// The first `library_path` that is a full path, at any depth.
fn find_full_path(value: &Value) -> Option<&str> {
    match value {
        Value::Object(object) => {
            let own = object.get("library_path").and_then(Value::as_str).filter(|path| path.starts_with('/'));
            own.or_else(|| object.values().find_map(find_full_path))
        }
        Value::Array(items) => items.iter().find_map(find_full_path),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_paths_count() {
        let icd = |path: &str| format!(r#"{{"file_format_version":"1.0.1","ICD":{{"library_path":"{path}"}}}}"#);
        assert_eq!(parse_library_path(&icd("libGLX_nvidia.so.0")), None);
        assert_eq!(parse_library_path(&icd("/usr/lib64/x.so.0")), Some("/usr/lib64/x.so.0".into()));
        assert_eq!(parse_library_path(&icd("/etc/../usr/lib64/x.so.0")), None);
        let layers = r#"{"layers":[{"library_path":"x.so"},{"library_path":"/usr/lib64/x.so.0"}]}"#;
        assert_eq!(parse_library_path(layers), Some("/usr/lib64/x.so.0".into()));
        for broken in ["", "{", "[]", r#"{"ICD":3}"#] {
            assert_eq!(parse_library_path(broken), None);
        }
    }
}
