//! containerd: `config.toml` of versions 1, 2, 3 and 4. Pure.

use toml_edit::Item;

use super::toml_text::{self, File};
use super::{ConfigureError, Runtime};

/// Where the container runtime interface's plugin is, by version of the format; a file without one is of version 1.
const PLUGINS: [(i64, &str); 4] = [
    (1, "cri"),
    (2, "io.containerd.grpc.v1.cri"),
    (3, "io.containerd.cri.v1.runtime"),
    (4, "io.containerd.cri.v1.runtime"),
];
/// What an empty file is made of: containerd 1.5 and later read it.
const NEW_VERSION: i64 = 2;
/// From this version on CDI is on unless it is turned off.
const ON_SINCE: i64 = 3;
/// The shim of runc and of what behaves like it.
const SHIM: &str = "io.containerd.runc.v2";
/// The handler that containers run by which name none.
const USUAL: &str = "runc";

pub(super) fn configured(text: &str, runtime: Option<&Runtime>) -> Result<String, ConfigureError> {
    toml_text::changed(text, |file| {
        let version = version(file, text)?;
        let (_, plugin) =
            PLUGINS.iter().find(|(known, _)| *known == version).ok_or(ConfigureError::Version(version))?;
        let plugin = ["plugins", plugin];
        let is_off = file.0.get("plugins").and_then(|plugins| plugins.get(plugin[1])?.get("enable_cdi")).is_some();
        if version < ON_SINCE || is_off {
            file.set(&plugin, "enable_cdi", true)?;
        }
        runtime.map_or(Ok(()), |runtime| register(file, &plugin, runtime))
    })
}

fn version(file: &mut File, text: &str) -> Result<i64, ConfigureError> {
    if text.trim().is_empty() {
        file.set(&[], "version", NEW_VERSION)?;
    }
    Ok(file.0.get("version").and_then(Item::as_integer).unwrap_or(1))
}

fn register(file: &mut File, plugin: &[&str; 2], runtime: &Runtime) -> Result<(), ConfigureError> {
    let at = |keys: &[&'static str]| [plugin.as_slice(), keys].concat();
    let containerd = at(&["containerd"]);
    let runtimes = at(&["containerd", "runtimes"]);
    let default =
        file.table(&containerd)?.get("default_runtime_name").and_then(Item::as_str).unwrap_or(USUAL).to_owned();
    // Whoever names one handler names all of them.
    let of_default = [runtimes.as_slice(), &[default.as_str()]].concat();
    file.set_new(&of_default, "runtime_type", SHIM)?;
    let options: Vec<(String, Item)> = match file.table(&of_default)?.get("options").and_then(Item::as_table_like) {
        Some(options) => options.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect(),
        None => Vec::new(),
    };
    let own = [runtimes.as_slice(), &[runtime.name.as_str()]].concat();
    file.set_new(&own, "runtime_type", SHIM)?;
    let own_options = [own.as_slice(), &["options"]].concat();
    // Such as SystemdCgroup, which must be the same for all containers of a node.
    for (key, value) in options.into_iter().filter(|(key, _)| key != "BinaryName") {
        if let Ok(value) = value.into_value() {
            file.set_new(&own_options, &key, value)?;
        }
    }
    file.set(&own_options, "BinaryName", runtime.path.as_str())?;
    if runtime.is_default { file.set(&containerd, "default_runtime_name", runtime.name.as_str()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::tests::runtime;

    #[test]
    fn a_daemon_without_a_file() {
        let expected = "version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = true\n";
        assert_eq!(configured("", None).unwrap(), expected);
        let expected = "version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = true\n\n\
                        [plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"nvidia\"\n\n\
                        [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\n\
                        [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia]\nruntime_type = \"io.containerd.runc.v2\"\n\n\
                        [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia.options]\nBinaryName = \"/usr/bin/cdi-runtime\"\n";
        assert_eq!(configured("", Some(&runtime(true))).unwrap(), expected);
    }

    #[test]
    fn comments_imports_and_options_stay() {
        let text = "# ours\nversion = 3\nimports = ['/etc/containerd/conf.d/*.toml'] # more\n\n\
                    [plugins.'io.containerd.cri.v1.runtime']\n  enable_selinux = true\n\
                    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n  runtime_type = 'io.containerd.runc.v2'\n\
                    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\n  SystemdCgroup = true # kubelet\n  BinaryName = '/opt/runc'\n";
        let done = configured(text, Some(&runtime(false))).unwrap();
        assert!(done.starts_with(text.trim_end()), "{done}");
        let added = done.strip_prefix(text).unwrap();
        assert!(
            added.contains("SystemdCgroup = true") && added.contains("BinaryName = \"/usr/bin/cdi-runtime\""),
            "{added}"
        );
        assert!(!added.contains("/opt/runc") && !done.contains("enable_cdi") && !done.contains("default_runtime_name"));
        // Turned off is turned on.
        let off = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n";
        assert_eq!(configured(off, None).unwrap(), off.replace("false", "true"));
    }

    #[test]
    fn the_oldest_format() {
        let text = "oom_score = 0\n[plugins.cri]\n  sandbox_image = \"pause\"\n";
        let done = configured(text, Some(&runtime(true))).unwrap();
        assert!(
            done.starts_with("oom_score = 0\n[plugins.cri]\n  sandbox_image = \"pause\"\nenable_cdi = true\n"),
            "{done}"
        );
        assert!(done.contains("[plugins.cri.containerd.runtimes.nvidia.options]\nBinaryName"), "{done}");
    }
}
