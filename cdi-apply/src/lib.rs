//! CDI devices into OCI runtime specs: the consumer's half of the Container Device Interface, for engines to embed.
//!
//! ```text
//! spec dirs ─► Registry ─► Resolved ─► ContainerEdits ─► inject ─► config.json
//!    I/O        pure         pure                          pure      bundle, I/O
//! ```
//!
//! ```
//! use cdi_apply::{Registry, Request, SpecDirs, device_numbers, inject, resolve};
//! use serde_json::json;
//!
//! # let dir = std::env::temp_dir().join("cdi-apply-doc");
//! # std::fs::create_dir_all(&dir)?;
//! # std::fs::write(dir.join("v.yaml"), "{cdiVersion: 0.3.0, kind: vendor.com/gpu, devices: [{name: a, containerEdits: {env: [A=b]}}]}")?;
//! let texts = SpecDirs::new([dir]).insecure().read(); // SpecDirs::of_this_user() for the standard's directories
//! let registry = Registry::new(&texts);
//! let edits = resolve(&registry, &Request::parse_list("vendor.com/gpu=a")?)?.edits();
//! let nodes = device_numbers::read(&edits);
//! let mut config = json!({"ociVersion": "1.0.2"});
//! inject(&mut config, &edits, &nodes)?;
//! assert_eq!(config["process"]["env"], json!(["A=b"]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing is global, nothing watches and nothing waits. A [`Registry`] is a value: engines that keep one read it anew
//! when they like, and no injection changes it.

pub mod bundle;
#[cfg(feature = "configure")]
pub mod configure;
pub mod device_numbers;
pub mod document;
#[cfg(feature = "hook")]
pub mod hook;
pub mod host_paths;
pub mod lint;
pub mod nodes;
pub mod oci;
pub mod problem;
pub mod registry;
pub mod request;
pub mod resolve;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod spec_dirs;
#[cfg(feature = "oci-spec")]
pub mod typed;

pub use host_paths::HostPathError;
pub use nodes::{HostNodes, NodeError};
pub use oci::{InjectError, inject};
pub use problem::Problem;
pub use registry::Registry;
pub use request::Request;
pub use resolve::{Resolved, Unresolvable, resolve};
pub use spec_dirs::{SpecDirs, SpecTexts};
