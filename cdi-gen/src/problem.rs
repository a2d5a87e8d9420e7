//! Problem: what was wrong with one part of the host, said once, with the way out.
//!
//! Trouble with a part is data: it travels beside the result (`(T, Vec<Problem>)`) and costs that part only. An
//! `Err` is for when nothing useful can be made.

use std::fmt;

use serde::Serialize;

/// How much a problem matters to the containers that will use the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is missing.
    Note,
    /// Something is missing from the spec that the host should have.
    Warning,
    /// The spec would not work without it.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One problem line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// A stable name of the kind of problem, for machines: `missing-node`, `gpu-dead`, …
    pub code: &'static str,
    /// What is wrong, with the path or the device.
    pub message: String,
    /// The command or the step that fixes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// Something worth knowing.
    pub fn note(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, code, message: message.into(), hint: None }
    }

    /// Something is missing from the spec.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::note(code, message) }
    }

    /// The spec cannot work.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, ..Self::note(code, message) }
    }

    /// The same problem with the step that fixes it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, " ({hint})"))
    }
}

/// A few names of many, for a problem line.
pub fn some_of(names: &[impl ToString]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = names.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}
