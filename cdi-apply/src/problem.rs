//! Problem: what is wrong with one file, and costs that file only. Pure.

use std::fmt;
use std::path::{Path, PathBuf};

use cdi_specs::{ParseError, Violation};
use serde::{Serialize, Serializer};

/// What is wrong with a spec file or a spec directory. Displays as `PATH:LINE:COLUMN: what`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file or directory.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// Line, from 1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column, from 1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What is wrong, after the field that it is wrong in.
    pub message: String,
}

impl Problem {
    /// A problem of a file as a whole.
    pub fn new(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, column: None, message: message.into() }
    }

    pub(crate) fn unparsable(path: &Path, error: ParseError) -> Self {
        Self { path: path.to_owned(), line: error.line, column: error.column, message: error.message }
    }

    pub(crate) fn invalid(path: &Path, violation: &Violation) -> Self {
        Self::new(path, violation.to_string())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A path as text; what is not UTF-8 in it shows as `\u{fffd}`.
pub(crate) fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}
