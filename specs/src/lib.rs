//! The CDI data model: what a Container Device Interface spec may hold, how it reads, writes and is judged.
//!
//! The crate touches no file, no environment and no host, and it adds no meaning to the standard: it turns text into a
//! [`Spec`], says what is wrong with it, and turns it back into text.
//!
//! ```
//! use cdi_specs::{parse_yaml, to_json, validate, Version};
//!
//! let text = "
//! cdiVersion: 0.5.0
//! kind: vendor.com/gpu
//! devices:
//!   - name: '0'
//!     containerEdits:
//!       deviceNodes:
//!         - path: /dev/gpu0
//! ";
//! let spec = parse_yaml(text)?;
//! assert!(validate(&spec).is_empty());
//! assert_eq!(spec.required_version(), Version::V0_5_0); // the device's name starts with a digit
//! assert!(to_json(&spec).starts_with("{\n  \"cdiVersion\": \"0.5.0\""));
//! # Ok::<(), cdi_specs::ParseError>(())
//! ```

pub mod annotations;
pub mod device_list;
pub mod edits;
pub mod hook_args;
pub mod name;
pub mod schema;
pub mod shown;
pub mod spec;
pub mod text;
pub mod validate;
pub mod version;

pub use annotations::{
    ANNOTATION_PREFIX, AnnotationError, annotation_key, annotation_value, parse as parse_annotations,
    update as update_annotations,
};
pub use edits::{ContainerEdits, DeviceNode, Hook, IntelRdt, Mount, NetDevice};
pub use hook_args::{HOOK_NAME, HookArgsError, HookOperation, ParsedArgs, from_args, to_args};
pub use name::{Kind, NameError, NamePart, QualifiedName, validate_class, validate_device_name, validate_vendor};
pub use schema::JSON_SCHEMA;
pub use shown::{printable, printable_json, shell_line, shell_word, shortened};
pub use spec::{Device, Spec};
pub use text::{Format, MAX_TEXT_BYTES, ParseError, parse, parse_json, parse_yaml, to_json, to_text, to_yaml};
pub use validate::{Violation, validate};
pub use version::{RequiredFeature, Version, VersionError, required_features};
