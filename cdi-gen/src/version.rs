//! Driver versions: `580.159.04`, compared as numbers.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A driver version as NVIDIA writes it: two to four numbers with dots, leading zeros kept for the text.
#[derive(Clone, Debug)]
pub struct DriverVersion {
    numbers: Vec<u32>,
    text: String,
}

impl DriverVersion {
    /// The text as it stands in file names.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// As many numbers, and characters, has a version at most.
const MOST_NUMBERS: usize = 4;
const LONGEST: usize = 64;

/// A text that is not a driver version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a driver version")]
pub struct NotAVersion(String);

impl FromStr for DriverVersion {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        // The text may be a file's, and of any length.
        let numbers: Option<Vec<u32>> = text.split('.').take(MOST_NUMBERS + 1).map(number).collect();
        match numbers {
            Some(numbers) if (2..=MOST_NUMBERS).contains(&numbers.len()) && text.len() <= LONGEST => {
                Ok(Self { numbers, text: text.to_owned() })
            }
            _ => Err(NotAVersion(text.chars().take(LONGEST).collect())),
        }
    }
}

impl PartialEq for DriverVersion {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for DriverVersion {}

impl PartialOrd for DriverVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By number; the text breaks the tie between `535.01` and `535.1`, which name different files.
impl Ord for DriverVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| self.text.cmp(&other.text))
    }
}

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for DriverVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> DriverVersion {
        text.parse().unwrap()
    }

    #[test]
    fn compared_as_numbers() {
        let mut versions = ["1000.1", "575.57.08", "550.54.15", "610.43.02", "550.54.9"].map(version);
        versions.sort();
        assert_eq!(versions.map(|v| v.to_string()), ["550.54.9", "550.54.15", "575.57.08", "610.43.02", "1000.1"]);
        assert_ne!(version("535.01"), version("535.1"));
    }

    #[test]
    fn what_is_no_version() {
        for text in ["", "1", "x86_64", "1.2.3.4.5", "1..2", "+1.2", "580.159.", "4294967296.1"] {
            assert_eq!(text.parse::<DriverVersion>(), Err(NotAVersion(text.into())), "{text}");
        }
        for text in ["1.".repeat(1 << 20), format!("{}1.1", "0".repeat(1 << 20))] {
            assert_eq!(text.parse::<DriverVersion>().unwrap_err().0.len(), LONGEST);
        }
    }
}
