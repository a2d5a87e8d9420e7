//! Typed: edits into a `Spec` of the crate oci-spec (feature `oci-spec`). Pure.
//!
//! For engines that hold their document in these types. Only the members that an edit changes are written back; the
//! others are not looked at. A document in text is better off with [`inject`](crate::inject()): what oci-spec does not
//! know, or refuses, was lost when the text was read into its types.

use cdi_specs::ContainerEdits;
use oci_spec::runtime::{Hooks, Linux, Mount, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::nodes::HostNodes;
use crate::oci::{self, InjectError};

/// Edits that do not fit.
#[derive(Debug, thiserror::Error)]
pub enum TypedError {
    /// As for a document in text.
    #[error(transparent)]
    Inject(#[from] InjectError),
    /// The types of oci-spec cannot say it.
    #[error("oci-spec cannot hold the result: {0}")]
    Type(#[from] serde_json::Error),
}

/// Applies the edits. On an error the spec is as it was.
///
/// # Errors
/// As [`inject`](crate::inject()); or oci-spec has no words for an edit.
pub fn inject(spec: &mut Spec, edits: &[&ContainerEdits], host: &HostNodes) -> Result<(), TypedError> {
    let before = serde_json::to_value(&*spec)?;
    let mut after = before.clone();
    oci::inject(&mut after, edits, host)?;
    let changes = Changes { before, after };
    // All of them first: nothing may fail once the spec is touched.
    let process: Option<Process> = changes.of("process")?;
    let mounts: Option<Vec<Mount>> = changes.of("mounts")?;
    let hooks: Option<Hooks> = changes.of("hooks")?;
    let linux: Option<Linux> = changes.of("linux")?;
    process.map(|process| spec.set_process(Some(process)));
    mounts.map(|mounts| spec.set_mounts(Some(mounts)));
    hooks.map(|hooks| spec.set_hooks(Some(hooks)));
    linux.map(|linux| spec.set_linux(Some(linux)));
    Ok(())
}

struct Changes {
    before: Value,
    after: Value,
}

impl Changes {
    /// A member, if it changed.
    fn of<T: DeserializeOwned>(&self, member: &str) -> serde_json::Result<Option<T>> {
        let after = self.after.get(member).filter(|after| self.before.get(member) != Some(*after));
        after.map(T::deserialize).transpose()
    }
}
