//! State: what the runtime tells a hook on stdin, and where the container's root is. I/O.
//!
//! The state (OCI runtime spec, "State") names the bundle; its config.json says where the root is. crun says so in the
//! state itself.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bundle::CONFIG;
use crate::document::{Document, MAX_BYTES};
use crate::limited;

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
    /// The root of the host.
    #[error("the container's root is the host's")]
    Host,
}

/// The container's root, by the state on a stream.
///
/// # Errors
/// There is none, or it is the host's.
#[expect(clippy::disallowed_methods, reason = "reads the bundle")]
pub fn root(stdin: impl Read) -> Result<PathBuf, StateError> {
    let cannot = |path: &Path| {
        let path = path.display().to_string();
        move |source| StateError::Io { path, source }
    };
    let bytes = limited::read(stdin, MAX_BYTES).map_err(cannot(Path::new("the state on stdin")))?;
    let state: Value = serde_json::from_slice(&bytes).map_err(|_| StateError::Nowhere)?;
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let bundle = text(&state, "bundle").filter(|bundle| bundle.starts_with('/')).ok_or(StateError::Nowhere)?;
    let root = match text(&state, "root") {
        Some(root) => root,
        None => {
            let path = Path::new(&bundle).join(CONFIG);
            let file = File::open(&path).map_err(cannot(&path))?;
            let config = limited::read(file, MAX_BYTES).map_err(cannot(&path))?;
            let config = Document::parse(&config).map_err(|error| cannot(&path)(io::Error::other(error)))?;
            config.value.get("root").and_then(|root| text(root, "path")).ok_or(StateError::Nowhere)?
        }
    };
    let root = Path::new(&bundle).join(root);
    if root == Path::new("/") { Err(StateError::Host) } else { Ok(root) }
}
