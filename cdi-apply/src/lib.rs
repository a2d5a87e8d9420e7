//! cdi-apply: from CDI specs and device names to a patched OCI runtime spec.
//!
//! ```text
//! specs ─► resolve ─► ContainerEdits ─► oci::inject ─► config.json
//! ```
//!
//! Both steps are pure; only [`host_nodes`] looks at the host.

pub mod host_nodes;
pub mod oci;
pub mod resolve;
