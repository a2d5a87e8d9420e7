//! Configure: the configuration of a container engine in which CDI is on, and cdi-runtime may be registered. Pure.
//!
//! Text goes in and text comes out; comments, order and what we do not know stay as they are. Where nothing is to change
//! the text comes out as it went in.

mod containerd;
mod docker;
mod toml_text;

use std::path::Path;

use toml_text::TomlError;

use crate::document::DocumentError;

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// dockerd.
    Docker,
    /// containerd, for Kubernetes.
    Containerd,
    /// CRI-O.
    Crio,
    /// podman.
    Podman,
    /// nerdctl, with a containerd under it.
    Nerdctl,
    /// buildkitd.
    Buildkit,
}

impl Engine {
    /// The file that is ours to change. Engines that read further files get one of our own, which is theirs to merge:
    /// containerd does not merge a plugin's section but replaces it, so its one file is changed.
    pub fn usual_file(self) -> &'static Path {
        Path::new(match self {
            Self::Docker => "/etc/docker/daemon.json",
            Self::Containerd => "/etc/containerd/config.toml",
            Self::Crio => "/etc/crio/crio.conf.d/99-cdi-apply.conf",
            Self::Podman => "/etc/containers/containers.conf.d/99-cdi-apply.conf",
            Self::Nerdctl => "/etc/nerdctl/nerdctl.toml",
            Self::Buildkit => "/etc/buildkit/buildkitd.toml",
        })
    }

    /// Whether it can be told of cdi-runtime: buildkit and nerdctl leave that to what is under them.
    pub fn has_runtimes(self) -> bool {
        !matches!(self, Self::Nerdctl | Self::Buildkit)
    }
}

/// cdi-runtime as an engine is to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Its name there.
    pub name: String,
    /// The program.
    pub path: String,
    /// Whether containers run by it that name none.
    pub is_default: bool,
}

/// A configuration that cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// It is no JSON.
    #[error(transparent)]
    Json(#[from] DocumentError),
    /// It is no TOML.
    #[error(transparent)]
    Toml(#[from] TomlError),
    /// A part of it has another type than the engine gives it.
    #[error("{at} is not {expected}")]
    WrongType {
        /// Where.
        at: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A version of the format that we do not know.
    #[error("version {0} of containerd's configuration is not known here")]
    Version(i64),
}

/// The configuration with CDI on, and with the runtime if one is given. An engine without a file has an empty one.
///
/// # Errors
/// The text is none that the engine would read.
pub fn configured(engine: Engine, text: &str, runtime: Option<&Runtime>) -> Result<String, ConfigureError> {
    match engine {
        Engine::Docker => docker::configured(text, runtime),
        Engine::Containerd => containerd::configured(text, runtime),
        Engine::Crio => toml_text::changed(text, |file| match runtime {
            // CDI is always on.
            None => Ok(()),
            Some(runtime) => {
                let runtimes = ["crio", "runtime", "runtimes", runtime.name.as_str()];
                file.set(&runtimes, "runtime_path", runtime.path.as_str())?;
                file.set(&runtimes, "runtime_type", "oci")?;
                if runtime.is_default {
                    file.set(&["crio", "runtime"], "default_runtime", runtime.name.as_str())
                } else {
                    Ok(())
                }
            }
        }),
        Engine::Podman => toml_text::changed(text, |file| match runtime {
            None => Ok(()),
            Some(runtime) => {
                file.set(&["engine", "runtimes"], &runtime.name, toml_edit::Array::from_iter([runtime.path.as_str()]))?;
                if runtime.is_default { file.set(&["engine"], "runtime", runtime.name.as_str()) } else { Ok(()) }
            }
        }),
        Engine::Nerdctl => {
            // What it does without the key, said.
            toml_text::changed(text, |file| file.set_new(&[], "cdi_spec_dirs", toml_edit::Array::from_iter(SPEC_DIRS)))
        }
        Engine::Buildkit => toml_text::changed(text, |file| {
            file.set(&["cdi"], "disabled", false)?;
            file.set_new(&["cdi"], "specDirs", toml_edit::Array::from_iter(SPEC_DIRS))
        }),
    }
}

/// The directories of the standard.
const SPEC_DIRS: [&str; 2] = crate::spec_dirs::DEFAULT_DIRS;

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn runtime(is_default: bool) -> Runtime {
        Runtime { name: "nvidia".into(), path: "/usr/bin/cdi-runtime".into(), is_default }
    }

    #[test]
    fn engines_that_read_a_file_of_our_own() {
        let crio = configured(Engine::Crio, "", Some(&runtime(true))).unwrap();
        assert_eq!(
            crio,
            "[crio.runtime]\ndefault_runtime = \"nvidia\"\n\n[crio.runtime.runtimes.nvidia]\n\
             runtime_path = \"/usr/bin/cdi-runtime\"\nruntime_type = \"oci\"\n"
        );
        let podman = configured(Engine::Podman, "", Some(&runtime(false))).unwrap();
        assert_eq!(podman, "[engine.runtimes]\nnvidia = [\"/usr/bin/cdi-runtime\"]\n");
        assert_eq!(configured(Engine::Podman, "# mine\n", None).unwrap(), "# mine\n");
        let buildkit = configured(Engine::Buildkit, "# mine\n[cdi]\n  disabled = true # why\n", None).unwrap();
        assert_eq!(buildkit, "# mine\n[cdi]\n  disabled = false # why\nspecDirs = [\"/etc/cdi\", \"/var/run/cdi\"]\n");
        let nerdctl = configured(Engine::Nerdctl, "debug = false\n", None).unwrap();
        assert_eq!(nerdctl, "debug = false\ncdi_spec_dirs = [\"/etc/cdi\", \"/var/run/cdi\"]\n");
        let own = "cdi_spec_dirs = [\"/own\"]\n";
        assert_eq!(configured(Engine::Nerdctl, own, None).unwrap(), own);
    }

    #[test]
    fn twice_is_once() {
        for engine in
            [Engine::Docker, Engine::Containerd, Engine::Crio, Engine::Podman, Engine::Nerdctl, Engine::Buildkit]
        {
            let once = configured(engine, "", Some(&runtime(true))).unwrap();
            assert_eq!(configured(engine, &once, Some(&runtime(true))).unwrap(), once, "{engine:?}");
        }
    }

    #[test]
    fn what_is_no_configuration_says_so() {
        let error = |engine, text| configured(engine, text, Some(&runtime(true))).unwrap_err().to_string();
        assert_eq!(error(Engine::Docker, "[]"), "the document is not an object");
        assert!(
            error(Engine::Containerd, "a = [\n").starts_with("line 1: "),
            "{}",
            error(Engine::Containerd, "a = [\n")
        );
        assert_eq!(
            error(Engine::Containerd, "version = 9\n"),
            "version 9 of containerd's configuration is not known here"
        );
        assert_eq!(error(Engine::Crio, "crio = 3\n"), "crio is not a table");
        assert_eq!(error(Engine::Docker, "{\"features\": 3}"), "features is not an object");
    }
}
