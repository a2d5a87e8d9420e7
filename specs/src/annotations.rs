//! Requests for CDI devices in container annotations: `cdi.k8s.io/PLUGIN_DEVICE: vendor/class=name,…`.
//!
//! The channel of Kubernetes device plugins from before the CRI had a field of its own for CDI devices.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::name::{NameError, QualifiedName};

/// What the key of every annotation that requests CDI devices starts with.
pub const ANNOTATION_PREFIX: &str = "cdi.k8s.io/";

/// The longest part of a key behind the prefix, in bytes.
const MAX_KEY_NAME_BYTES: usize = 63;

/// Why annotations cannot be written or understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AnnotationError {
    /// The plugin's name or the device's id is empty.
    #[error("the plugin name and the device id of an annotation must not be empty")]
    EmptyPart,
    /// Plugin and device make a key that is longer than Kubernetes takes.
    #[error("annotation name `{0}` is longer than {MAX_KEY_NAME_BYTES} bytes")]
    TooLong(String),
    /// Plugin and device make a key that Kubernetes does not take.
    #[error("annotation name `{0}` must be letters, digits and `_-.`, with a letter or digit at both ends")]
    InvalidName(String),
    /// No device was given.
    #[error("annotation `{0}` would request no device")]
    NoDevices(String),
    /// The key is in use.
    #[error("annotation `{0}` is already set")]
    AlreadySet(String),
    /// A value that is no list of qualified names.
    #[error("annotation `{key}`: {reason}")]
    InvalidDevice {
        /// The annotation's key.
        key: String,
        /// Which name, and why.
        reason: NameError,
    },
}

/// The key under which a device plugin requests devices: `cdi.k8s.io/PLUGIN_DEVICE`, each `/` of the id made a `_`.
pub fn annotation_key(plugin: &str, device_id: &str) -> Result<String, AnnotationError> {
    if plugin.is_empty() || device_id.is_empty() {
        return Err(AnnotationError::EmptyPart);
    }
    let name = format!("{plugin}_{}", device_id.replace('/', "_"));
    let at_ends = |c: char| c.is_ascii_alphanumeric();
    let inside = |c: char| at_ends(c) || "_-.".contains(c);
    if name.len() > MAX_KEY_NAME_BYTES {
        return Err(AnnotationError::TooLong(name));
    }
    if !(name.starts_with(at_ends) && name.ends_with(at_ends) && name.chars().all(inside)) {
        return Err(AnnotationError::InvalidName(name));
    }
    Ok(format!("{ANNOTATION_PREFIX}{name}"))
}

/// The value that requests `devices`: their names, separated by commas.
pub fn annotation_value(devices: &[QualifiedName]) -> String {
    let names: Vec<String> = devices.iter().map(ToString::to_string).collect();
    names.join(",")
}

/// Adds the annotation that requests `devices`. After an error the annotations are as they were.
pub fn update(
    annotations: &mut BTreeMap<String, String>,
    plugin: &str,
    device_id: &str,
    devices: &[QualifiedName],
) -> Result<(), AnnotationError> {
    let key = annotation_key(plugin, device_id)?;
    if devices.is_empty() {
        return Err(AnnotationError::NoDevices(key));
    }
    if annotations.contains_key(&key) {
        return Err(AnnotationError::AlreadySet(key));
    }
    annotations.insert(key, annotation_value(devices));
    Ok(())
}

/// The devices that annotations request, in the order of their keys. Other keys are passed over.
///
/// One bad name fails all.
pub fn parse(annotations: &BTreeMap<String, String>) -> Result<Vec<QualifiedName>, AnnotationError> {
    let requests = annotations.iter().filter(|(key, _)| key.starts_with(ANNOTATION_PREFIX));
    requests.flat_map(|(key, value)| value.split(',').map(move |name| parse_device(key, name))).collect()
}

fn parse_device(key: &str, name: &str) -> Result<QualifiedName, AnnotationError> {
    name.parse().map_err(|reason| AnnotationError::InvalidDevice { key: key.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<QualifiedName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn keys() {
        let p57 = "p".repeat(57);
        let cases = [
            ("vendor.class", "device", Ok("cdi.k8s.io/vendor.class_device")),
            ("v-e.n_d.or.cl-as_s", "d_e-v-i-c_e", Ok("cdi.k8s.io/v-e.n_d.or.cl-as_s_d_e-v-i-c_e")),
            ("v-e.n_d.or.cl-as_s", "d-e/v/i/c-e", Ok("cdi.k8s.io/v-e.n_d.or.cl-as_s_d-e_v_i_c-e")),
            ("", "device", Err(AnnotationError::EmptyPart)),
            ("vendor.class", "", Err(AnnotationError::EmptyPart)),
            ("_vendor", "device", Err(AnnotationError::InvalidName("_vendor_device".into()))),
            ("vendor", "device_", Err(AnnotationError::InvalidName("vendor_device_".into()))),
            ("vendor", "device/", Err(AnnotationError::InvalidName("vendor_device_".into()))),
            ("ven+dor", "device", Err(AnnotationError::InvalidName("ven+dor_device".into()))),
            ("ven/dor", "device", Err(AnnotationError::InvalidName("ven/dor_device".into()))),
            (&p57, "devices", Err(AnnotationError::TooLong(format!("{p57}_devices")))),
        ];
        for (plugin, device, expected) in cases {
            assert_eq!(annotation_key(plugin, device), expected.map(str::to_owned));
        }
        assert!(annotation_key(&p57, "dev_1").is_ok(), "63 bytes are fine");
    }

    #[test]
    fn requests_come_back_in_the_order_of_their_keys() {
        let mut annotations = BTreeMap::from([("other".to_owned(), "not=/a name".to_owned())]);
        update(&mut annotations, "plugin2", "b", &names(&["vendor2.com/class=dev3"])).unwrap();
        update(&mut annotations, "plugin1", "a", &names(&["vendor1.com/class=dev1", "vendor1.com/class=dev2"]))
            .unwrap();
        assert_eq!(annotations["cdi.k8s.io/plugin1_a"], "vendor1.com/class=dev1,vendor1.com/class=dev2");
        let expected = names(&["vendor1.com/class=dev1", "vendor1.com/class=dev2", "vendor2.com/class=dev3"]);
        assert_eq!(parse(&annotations), Ok(expected));
    }

    #[test]
    fn a_failed_update_changes_nothing() {
        let device = names(&["vendor.com/class=dev"]);
        let mut annotations = BTreeMap::new();
        update(&mut annotations, "plugin", "a", &device).unwrap();
        let before = annotations.clone();
        let already_set = Err(AnnotationError::AlreadySet("cdi.k8s.io/plugin_a".into()));
        assert_eq!(update(&mut annotations, "plugin", "a", &device), already_set);
        assert_eq!(update(&mut annotations, "", "b", &device), Err(AnnotationError::EmptyPart));
        let no_devices = Err(AnnotationError::NoDevices("cdi.k8s.io/plugin_b".into()));
        assert_eq!(update(&mut annotations, "plugin", "b", &[]), no_devices);
        assert_eq!(annotations, before);
    }

    #[test]
    fn one_bad_name_fails_all() {
        for value in ["", "vendor3.com=device3", "/dev/null", "a/b=c,", "a/b=c, a/b=d", "a/b=c,x"] {
            let annotations = BTreeMap::from([
                ("cdi.k8s.io/a".to_owned(), "a/b=c".to_owned()),
                ("cdi.k8s.io/b".to_owned(), value.to_owned()),
            ]);
            let error = parse(&annotations).unwrap_err().to_string();
            assert!(error.starts_with("annotation `cdi.k8s.io/b`: "), "{value}: {error}");
        }
    }
}
