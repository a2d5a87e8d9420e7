//! Which CDI version brought which feature, and the least version that a spec needs.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::edits::{ContainerEdits, IntelRdt, is_blank};
use crate::spec::Spec;

/// A released version of the CDI standard. There are no patch levels, and no other versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.1.0, known but no longer accepted.
    V0_1_0,
    /// 0.2.0, known but no longer accepted.
    V0_2_0,
    /// 0.3.0, the oldest that engines accept.
    V0_3_0,
    /// 0.4.0 brought the type of mounts.
    V0_4_0,
    /// 0.5.0 brought host paths of device nodes and device names that start with a digit.
    V0_5_0,
    /// 0.6.0 brought annotations and dots in the class.
    V0_6_0,
    /// 0.7.0 brought Intel RDT and additional group ids.
    V0_7_0,
    /// 0.8.0 brought no field.
    V0_8_0,
    /// 1.0.0 brought no field.
    V1_0_0,
    /// 1.1.0 brought network devices and further Intel RDT fields.
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 10] = [
        Self::V0_1_0,
        Self::V0_2_0,
        Self::V0_3_0,
        Self::V0_4_0,
        Self::V0_5_0,
        Self::V0_6_0,
        Self::V0_7_0,
        Self::V0_8_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// The oldest version that engines accept.
    pub const OLDEST_ACCEPTED: Self = Self::V0_3_0;

    /// The version as a spec spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_4_0 => "0.4.0",
            Self::V0_5_0 => "0.5.0",
            Self::V0_6_0 => "0.6.0",
            Self::V0_7_0 => "0.7.0",
            Self::V0_8_0 => "0.8.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

/// Text that is no CDI version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown CDI version `{0}`")]
pub struct VersionError(pub String);

impl FromStr for Version {
    type Err = VersionError;

    /// Takes the exact text, with one `v` before it or none.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let number = text.strip_prefix('v').unwrap_or(text);
        let known = Self::ALL.into_iter().find(|version| version.as_str() == number);
        known.ok_or_else(|| VersionError(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A feature that a spec uses, and the version that brought it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequiredFeature {
    /// The version that brought it.
    pub since: Version,
    /// What it is, in words.
    pub feature: &'static str,
    /// Field path of the first place that uses it, such as `devices[3].name`.
    pub at: String,
}

/// A row of the table: a feature, and how to find the first place that uses it.
struct Feature {
    since: Version,
    name: &'static str,
    first_use: fn(&Spec) -> Option<String>,
}

/// THE TABLE, sorted by version and name.
const FEATURES: &[Feature] = &[
    Feature { since: Version::V0_4_0, name: "types of mounts", first_use: |spec| in_edits(spec, mount_type) },
    Feature { since: Version::V0_5_0, name: "device names that start with a digit", first_use: digit_name },
    Feature { since: Version::V0_5_0, name: "host paths of device nodes", first_use: |s| in_edits(s, host_path) },
    Feature { since: Version::V0_6_0, name: "annotations", first_use: spec_annotations },
    Feature { since: Version::V0_6_0, name: "annotations of devices", first_use: device_annotations },
    Feature { since: Version::V0_6_0, name: "dots in the class", first_use: dotted_class },
    Feature { since: Version::V0_7_0, name: "Intel RDT", first_use: |spec| in_edits(spec, intel_rdt) },
    Feature { since: Version::V0_7_0, name: "additional group ids", first_use: |spec| in_edits(spec, additional_gids) },
    Feature { since: Version::V1_1_0, name: "Intel RDT monitoring", first_use: |spec| in_edits(spec, monitoring) },
    Feature { since: Version::V1_1_0, name: "Intel RDT schemata", first_use: |spec| in_edits(spec, schemata) },
    Feature { since: Version::V1_1_0, name: "network devices", first_use: |spec| in_edits(spec, net_devices) },
];

impl Spec {
    /// The least version that says what the spec says (CDI SPEC, "Released versions").
    pub fn required_version(&self) -> Version {
        let newest = FEATURES.iter().rev().find(|feature| (feature.first_use)(self).is_some());
        newest.map_or(Version::OLDEST_ACCEPTED, |feature| feature.since)
    }
}

/// Every feature of the spec that the oldest accepted version lacks, oldest first.
pub fn required_features(spec: &Spec) -> Vec<RequiredFeature> {
    let used = |feature: &Feature| {
        let at = (feature.first_use)(spec)?;
        Some(RequiredFeature { since: feature.since, feature: feature.name, at })
    };
    FEATURES.iter().filter_map(used).collect()
}

fn in_edits(spec: &Spec, first_use: fn(&ContainerEdits) -> Option<String>) -> Option<String> {
    spec.all_edits().find_map(|(place, edits)| Some(format!("{place}.{}", first_use(edits)?)))
}

fn mount_type(edits: &ContainerEdits) -> Option<String> {
    let index = edits.mounts.iter().position(|mount| !is_blank(&mount.r#type))?;
    Some(format!("mounts[{index}].type"))
}

fn host_path(edits: &ContainerEdits) -> Option<String> {
    let index = edits.device_nodes.iter().position(|node| !is_blank(&node.host_path))?;
    Some(format!("deviceNodes[{index}].hostPath"))
}

fn additional_gids(edits: &ContainerEdits) -> Option<String> {
    (!edits.additional_gids.is_empty()).then(|| "additionalGids".to_owned())
}

fn intel_rdt(edits: &ContainerEdits) -> Option<String> {
    edits.intel_rdt.is_some().then(|| "intelRdt".to_owned())
}

fn monitoring(edits: &ContainerEdits) -> Option<String> {
    let asked = |rdt: &IntelRdt| rdt.enable_monitoring == Some(true);
    edits.intel_rdt.as_ref().is_some_and(asked).then(|| "intelRdt.enableMonitoring".to_owned())
}

fn schemata(edits: &ContainerEdits) -> Option<String> {
    let present = |rdt: &IntelRdt| rdt.schemata.is_some();
    edits.intel_rdt.as_ref().is_some_and(present).then(|| "intelRdt.schemata".to_owned())
}

fn net_devices(edits: &ContainerEdits) -> Option<String> {
    (!edits.net_devices.is_empty()).then(|| "netDevices".to_owned())
}

fn digit_name(spec: &Spec) -> Option<String> {
    let index = spec.devices.iter().position(|device| device.name.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(format!("devices[{index}].name"))
}

fn dotted_class(spec: &Spec) -> Option<String> {
    let (_vendor, class) = spec.kind.split_once('/')?;
    class.contains('.').then(|| "kind".to_owned())
}

fn spec_annotations(spec: &Spec) -> Option<String> {
    (!spec.annotations.is_empty()).then(|| "annotations".to_owned())
}

fn device_annotations(spec: &Spec) -> Option<String> {
    let index = spec.devices.iter().position(|device| !device.annotations.is_empty())?;
    Some(format!("devices[{index}].annotations"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::parse_yaml;

    #[test]
    fn versions_are_exact_text_with_one_v_at_most() {
        for version in Version::ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
            assert_eq!(format!("v{version}").parse(), Ok(version));
        }
        for text in ["", "v", "0.5", "0.5.1", "0.9.0", "1.2.0", "vv0.5.0", "V0.5.0", " 0.5.0", "0.0.0", "not-a-version"]
        {
            assert_eq!(text.parse::<Version>(), Err(VersionError(text.into())));
        }
    }

    #[test]
    fn versions_and_the_table_are_sorted() {
        assert!(Version::ALL.is_sorted());
        assert!(FEATURES.is_sorted_by_key(|feature| (feature.since, feature.name)));
    }

    #[test]
    fn the_least_version_is_that_of_the_newest_feature() {
        let cases = [
            ("{}", "0.3.0", None),
            ("devices: [{name: device0, containerEdits: {env: [A=1]}}]", "0.3.0", None),
            ("kind: ven.dor/class", "0.3.0", None),
            ("containerEdits: {deviceNodes: [{path: /dev/a, hostPath: ''}], mounts: [{type: ''}]}", "0.3.0", None),
            ("containerEdits: {mounts: [{}, {type: tmpfs}]}", "0.4.0", Some("containerEdits.mounts[1].type")),
            ("devices: [{name: a}, {name: '0'}]", "0.5.0", Some("devices[1].name")),
            (
                "devices: [{containerEdits: {deviceNodes: [{path: /dev/a, hostPath: /dev/a}]}}]",
                "0.5.0",
                Some("devices[0].containerEdits.deviceNodes[0].hostPath"),
            ),
            ("annotations: {a: b}", "0.6.0", Some("annotations")),
            ("devices: [{}, {annotations: {a: b}}]", "0.6.0", Some("devices[1].annotations")),
            ("kind: vendor.com/class.sub", "0.6.0", Some("kind")),
            (
                "{annotations: {a: b}, containerEdits: {mounts: [{type: bind}], deviceNodes: [{hostPath: /dev/a}]}}",
                "0.6.0",
                Some("annotations"),
            ),
            ("containerEdits: {intelRdt: {}}", "0.7.0", Some("containerEdits.intelRdt")),
            (
                "devices: [{containerEdits: {intelRdt: {closID: a}}}]",
                "0.7.0",
                Some("devices[0].containerEdits.intelRdt"),
            ),
            ("containerEdits: {additionalGids: [5]}", "0.7.0", Some("containerEdits.additionalGids")),
            (
                "devices: [{containerEdits: {additionalGids: [0]}}]",
                "0.7.0",
                Some("devices[0].containerEdits.additionalGids"),
            ),
            ("containerEdits: {intelRdt: {enableMonitoring: false}}", "0.7.0", Some("containerEdits.intelRdt")),
            (
                "containerEdits: {intelRdt: {enableMonitoring: true}}",
                "1.1.0",
                Some("containerEdits.intelRdt.enableMonitoring"),
            ),
            ("containerEdits: {intelRdt: {schemata: []}}", "1.1.0", Some("containerEdits.intelRdt.schemata")),
            (
                "devices: [{containerEdits: {intelRdt: {schemata: [a]}}}]",
                "1.1.0",
                Some("devices[0].containerEdits.intelRdt.schemata"),
            ),
            ("containerEdits: {netDevices: [{name: a}]}", "1.1.0", Some("containerEdits.netDevices")),
            ("containerEdits: {netDevices: []}", "0.3.0", None),
        ];
        for (text, version, at) in cases {
            let spec = parse_yaml(text).unwrap();
            assert_eq!(spec.required_version().as_str(), version, "{text}");
            let features = required_features(&spec);
            let newest = features.last().map(|feature| (feature.since.as_str(), feature.at.as_str()));
            assert_eq!(newest.map(|(since, _)| since).unwrap_or("0.3.0"), version, "{text}");
            assert!(at.is_none_or(|at| features.iter().any(|feature| feature.at == at)), "{text}: {features:?}");
        }
    }
}
