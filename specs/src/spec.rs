//! A CDI spec: devices of one kind, and the edits that a container needs for each.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::edits::ContainerEdits;
use crate::name::{Kind, NameError};
use crate::version::{Version, VersionError};

/// One spec document (CDI SPEC, "CDI JSON Specification").
///
/// `cdi_version` and `kind` are kept as text, so that a spec with a wrong one can still be loaded and judged whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Spec {
    /// CDI version that the document is written for, such as `0.5.0`.
    pub cdi_version: String,
    /// `vendor/class` that all devices share.
    pub kind: String,
    /// Notes on the spec, which no container sees (since CDI 0.6.0).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The devices; a valid spec has one at least.
    pub devices: Vec<Device>,
    /// Edits for every container that gets any of the devices.
    #[serde(skip_serializing_if = "ContainerEdits::is_empty")]
    pub container_edits: ContainerEdits,
}

/// One device of a spec (CDI SPEC, "CDI Devices").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Device {
    /// Name, unique within the spec.
    pub name: String,
    /// Notes on the device, which no container sees (since CDI 0.6.0).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Edits for a container that gets the device; a valid device has some.
    pub container_edits: ContainerEdits,
}

impl Spec {
    /// The `kind`, parsed.
    pub fn parse_kind(&self) -> Result<Kind, NameError> {
        self.kind.parse()
    }

    /// The `cdiVersion`, parsed.
    pub fn parse_version(&self) -> Result<Version, VersionError> {
        self.cdi_version.parse()
    }

    /// The device called `name`.
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// All edits and where they stand: the spec's own, then each device's.
    pub(crate) fn all_edits(&self) -> impl Iterator<Item = (EditsPlace, &ContainerEdits)> {
        let own = (EditsPlace::Spec, &self.container_edits);
        let of_devices = self.devices.iter().enumerate();
        std::iter::once(own)
            .chain(of_devices.map(|(index, device)| (EditsPlace::Device(index), &device.container_edits)))
    }
}

/// Where edits stand in a spec. Displays as their field path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EditsPlace {
    Spec,
    Device(usize),
}

impl fmt::Display for EditsPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spec => f.write_str("containerEdits"),
            Self::Device(index) => write!(f, "devices[{index}].containerEdits"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_views_keep_the_reason_why_text_is_wrong() {
        let spec = Spec { cdi_version: "v0.6.0".into(), kind: "vendor.com/gpu".into(), ..Spec::default() };
        assert_eq!(spec.parse_version(), Ok(Version::V0_6_0));
        assert_eq!(spec.parse_kind().unwrap().to_string(), "vendor.com/gpu");
        assert!(Spec::default().parse_version().is_err());
        assert!(Spec::default().parse_kind().is_err());
    }

    #[test]
    fn the_specs_own_edits_come_before_those_of_its_devices() {
        let spec = Spec { devices: vec![Device::default(), Device::default()], ..Spec::default() };
        let places: Vec<String> = spec.all_edits().map(|(place, _)| place.to_string()).collect();
        assert_eq!(places, ["containerEdits", "devices[0].containerEdits", "devices[1].containerEdits"]);
    }

    #[test]
    fn a_device_is_found_by_its_exact_name() {
        let device = Device { name: "gpu0".into(), ..Device::default() };
        let spec = Spec { devices: vec![device.clone()], ..Spec::default() };
        assert_eq!(spec.device("gpu0"), Some(&device));
        assert_eq!(spec.device("gpu"), None);
    }
}
