//! The grammar of CDI names: vendor, class, kind, device, qualified name.
//!
//! What is accepted is what the engines accept: CDI SPEC ("Kind") also asks for a DNS subdomain of 253 bytes at most as
//! vendor and 63 bytes at most as class, which no engine checks, and existing specs do not keep.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use thiserror::Error;

/// The part of a qualified name that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamePart {
    /// Before the `/`, such as `nvidia.com`.
    Vendor,
    /// Between `/` and `=`, such as `gpu`.
    Class,
    /// Behind the `=`, such as `GPU-5f1c…` or `0`.
    Device,
}

impl fmt::Display for NamePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vendor => "vendor",
            Self::Class => "class",
            Self::Device => "device name",
        })
    }
}

/// Why text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing stands where the part should.
    #[error("{part} is empty")]
    Empty {
        /// The part that is missing.
        part: NamePart,
    },
    /// The first character may not stand first.
    #[error("{part} `{name}` must start with a letter{}", if *.part == NamePart::Device { " or digit" } else { "" })]
    Start {
        /// The part that is wrong.
        part: NamePart,
        /// Its text.
        name: String,
    },
    /// The last character is no letter or digit.
    #[error("{part} `{name}` must end with a letter or digit")]
    End {
        /// The part that is wrong.
        part: NamePart,
        /// Its text.
        name: String,
    },
    /// A character that the part may not hold.
    #[error("{part} `{name}` must not contain {found:?}")]
    Character {
        /// The part that is wrong.
        part: NamePart,
        /// Its text.
        name: String,
        /// The first such character.
        found: char,
    },
    /// A kind without a `/`.
    #[error("kind `{0}` is not of the form vendor/class")]
    NotAKind(String),
    /// A device reference without a `=`.
    #[error("`{0}` is not of the form vendor/class=device")]
    NotQualified(String),
}

/// Checks a vendor: a letter, then letters, digits and `_-.`, with a letter or digit at the end.
pub fn validate_vendor(vendor: &str) -> Result<(), NameError> {
    validate_part(NamePart::Vendor, vendor)
}

/// Checks a class: the same rule as for a vendor.
pub fn validate_class(class: &str) -> Result<(), NameError> {
    validate_part(NamePart::Class, class)
}

/// Checks a device name: letters, digits and `_-.:`, with a letter or digit at both ends.
pub fn validate_device_name(name: &str) -> Result<(), NameError> {
    validate_part(NamePart::Device, name)
}

fn validate_part(part: NamePart, name: &str) -> Result<(), NameError> {
    let (Some(first), Some(last)) = (name.chars().next(), name.chars().next_back()) else {
        return Err(NameError::Empty { part });
    };
    let name_owned = || name.to_owned();
    let may_start = |c: char| c.is_ascii_alphabetic() || (part == NamePart::Device && c.is_ascii_digit());
    let may_stand_inside =
        |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c) || (part == NamePart::Device && c == ':');
    if !may_start(first) {
        return Err(NameError::Start { part, name: name_owned() });
    }
    if let Some(found) = name.chars().find(|c| !may_stand_inside(*c)) {
        return Err(NameError::Character { part, name: name_owned(), found });
    }
    if !last.is_ascii_alphanumeric() {
        return Err(NameError::End { part, name: name_owned() });
    }
    Ok(())
}

/// The kind of a device: `vendor/class` (CDI SPEC, "Kind").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    vendor: String,
    class: String,
}

impl Kind {
    /// A kind of two checked halves.
    pub fn new(vendor: &str, class: &str) -> Result<Self, NameError> {
        validate_vendor(vendor)?;
        validate_class(class)?;
        Ok(Self { vendor: vendor.to_owned(), class: class.to_owned() })
    }

    /// The half before the `/`.
    pub fn vendor(&self) -> &str {
        &self.vendor
    }

    /// The half behind the `/`.
    pub fn class(&self) -> &str {
        &self.class
    }
}

impl FromStr for Kind {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (vendor, class) = text.split_once('/').ok_or_else(|| NameError::NotAKind(text.to_owned()))?;
        Self::new(vendor, class)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vendor, self.class)
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The full name of a device: `vendor/class=device` (CDI SPEC, "CDI Devices").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    kind: Kind,
    device: String,
}

impl QualifiedName {
    /// A device of `kind` with a checked name.
    pub fn new(kind: Kind, device: &str) -> Result<Self, NameError> {
        validate_device_name(device)?;
        Ok(Self { kind, device: device.to_owned() })
    }

    /// The half before the `=`.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The half behind the `=`.
    pub fn device(&self) -> &str {
        &self.device
    }
}

impl FromStr for QualifiedName {
    type Err = NameError;

    /// Cuts at the first `=`, then at the first `/`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let not_qualified = || NameError::NotQualified(text.to_owned());
        let (kind, device) = text.split_once('=').ok_or_else(not_qualified)?;
        let (vendor, class) = kind.split_once('/').ok_or_else(not_qualified)?;
        Self::new(Kind::new(vendor, class)?, device)
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

impl Serialize for QualifiedName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn qualified_names_come_apart_and_together() {
        let cases = [
            ("vendor.com/class=dev", "vendor.com", "class", "dev"),
            ("a/b=c", "a", "b", "c"),
            ("aa/b=cc", "aa", "b", "cc"),
            ("a/bb=cc", "a", "bb", "cc"),
            ("nvidia.com/gpu=0", "nvidia.com", "gpu", "0"),
            ("vendor1.com/class1=dev1", "vendor1.com", "class1", "dev1"),
            ("vendor.com/class.subclass=dev", "vendor.com", "class.subclass", "dev"),
            ("other-vendor1.com/class_1=dev_1", "other-vendor1.com", "class_1", "dev_1"),
            ("yet_another-vendor2.com/c-lass_2=dev_1:2.3", "yet_another-vendor2.com", "c-lass_2", "dev_1:2.3"),
            ("v..com/GPU=GPU-5f1c:A", "v..com", "GPU", "GPU-5f1c:A"),
        ];
        for (text, vendor, class, device) in cases {
            let name: QualifiedName = text.parse().unwrap();
            assert_eq!((name.kind().vendor(), name.kind().class(), name.device()), (vendor, class, device));
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_qualified_name_says_why() {
        let cases = [
            ("", "`` is not of the form vendor/class=device"),
            ("vendor.com/class", "`vendor.com/class` is not of the form vendor/class=device"),
            ("vendor.com=device", "`vendor.com=device` is not of the form vendor/class=device"),
            ("/dev/null", "`/dev/null` is not of the form vendor/class=device"),
            ("/class=dev", "vendor is empty"),
            ("vendor.com/=dev", "class is empty"),
            ("vendor.com/class=", "device name is empty"),
            ("_invalid.com/class=dev", "vendor `_invalid.com` must start with a letter"),
            ("1vendor.com/class=dev", "vendor `1vendor.com` must start with a letter"),
            ("invalid2.com-/class=dev", "vendor `invalid2.com-` must end with a letter or digit"),
            ("vendor.com/_class=dev", "class `_class` must start with a letter"),
            ("vendor.com/1class=dev", "class `1class` must start with a letter"),
            ("vendor.com/class_=dev", "class `class_` must end with a letter or digit"),
            ("vendor.com/class=-dev", "device name `-dev` must start with a letter or digit"),
            ("vendor.com/class=dev:", "device name `dev:` must end with a letter or digit"),
            ("*.com/*dev=*gpu*", "vendor `*.com` must start with a letter"),
            ("a/b=c=d", "device name `c=d` must not contain '='"),
            ("a/b/c=d", "class `b/c` must not contain '/'"),
            ("v:endor/class=dev", "vendor `v:endor` must not contain ':'"),
            ("a/b=d\u{e9}v", "device name `d\u{e9}v` must not contain '\u{e9}'"),
        ];
        for (text, reason) in cases {
            assert_eq!(text.parse::<QualifiedName>().unwrap_err().to_string(), reason, "{text}");
        }
    }

    #[test]
    fn length_is_not_limited() {
        assert_eq!(validate_device_name(&"d".repeat(300)), Ok(()));
        assert_eq!(validate_class(&"c".repeat(64)), Ok(()));
        assert_eq!(validate_vendor(&"v".repeat(254)), Ok(()));
    }

    #[test]
    fn kinds_are_cut_at_the_first_slash() {
        assert_eq!("vendor".parse::<Kind>(), Err(NameError::NotAKind("vendor".into())));
        assert_eq!("vendor/".parse::<Kind>(), Err(NameError::Empty { part: NamePart::Class }));
        assert!("vendor.com-/class".parse::<Kind>().is_err());
        assert!("a/b/c".parse::<Kind>().is_err());
        assert_eq!("a/b".parse::<Kind>().unwrap().to_string(), "a/b");
    }

    proptest! {
        #[test]
        fn whatever_parses_displays_as_it_was(text in "[a-c/=:._-]{0,12}|\\PC{0,12}") {
            if let Ok(name) = text.parse::<QualifiedName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
