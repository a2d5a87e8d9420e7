//! State: what the runtime tells a hook on stdin, and where the container's root is. I/O.
//!
//! The state (OCI runtime spec, "State") names the bundle; its config.json says where the root is. crun says so in the
//! state itself.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::bundle::CONFIG;
use crate::document::MAX_BYTES;
use cdi_files::{limited, open};

/// What we read of the state; all else is passed over unread.
#[derive(Deserialize)]
struct State {
    #[serde(default)]
    bundle: PathBuf,
    /// crun's word.
    root: Option<PathBuf>,
}

/// What we read of a config.json, which has tens of KiB with a driver in it.
#[derive(Deserialize)]
struct Config {
    root: ConfigRoot,
}

#[derive(Deserialize)]
struct ConfigRoot {
    path: PathBuf,
}

/// A state that leads to no root.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read, or the bundle's config.json cannot.
    #[error("cannot read {path}")]
    Io {
        /// What.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Neither state nor bundle says where.
    #[error("the container's state tells no bundle, and its bundle no root")]
    Nowhere,
}

/// The path of the container's root, by the state on a stream. Whether it is the host's is not to be seen from its text.
///
/// # Errors
/// There is none.
pub fn root(stdin: impl Read) -> Result<PathBuf, StateError> {
    let cannot = |path: &Path| {
        let path = path.display().to_string();
        move |source| StateError::Io { path, source }
    };
    let bytes = limited::read(stdin, MAX_BYTES).map_err(cannot(Path::new("the state on stdin")))?;
    let state: State = serde_json::from_slice(&bytes).map_err(|_| StateError::Nowhere)?;
    let bundle = Some(state.bundle).filter(|bundle| bundle.is_absolute()).ok_or(StateError::Nowhere)?;
    let root = match state.root {
        Some(root) => root,
        None => {
            let path = bundle.join(CONFIG);
            let config = open::read(&path, MAX_BYTES).map_err(cannot(&path))?;
            let config: Result<Config, _> = serde_json::from_slice(&config);
            config.map_err(|error| cannot(&path)(error.into()))?.root.path
        }
    };
    Ok(bundle.join(root))
}
