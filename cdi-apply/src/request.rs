//! Request: what was asked for, in words, to names and patterns. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use cdi_specs::{AnnotationError, NameError, QualifiedName};
use glob::{MatchOptions, Pattern};
use serde_json::Value;

/// A device, or all whose names fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `nvidia.com/gpu=0`.
    Name(QualifiedName),
    /// `nvidia.com/gpu=*`: a pattern of `*`, `?` and `[…]`, in which `*` does not go beyond a `/`.
    Pattern(Pattern),
}

/// Words that ask for nothing that CDI knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Neither name nor pattern.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A malformed pattern.
    #[error("`{text}` is no pattern: {reason}")]
    Pattern {
        /// The words.
        text: String,
        /// What is wrong with them.
        reason: &'static str,
    },
}

const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

impl Request {
    /// The requests in words separated by commas.
    ///
    /// # Errors
    /// The first word that is neither name nor pattern.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, RequestError> {
        text.split(',').map(str::parse).collect()
    }

    /// The kind of the devices that it may mean; `None` if that may be any.
    pub fn kind(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Name(name) => Some(name.kind().to_string().into()),
            Self::Pattern(pattern) => {
                let kind = pattern.as_str().split_once('=').map(|(kind, _)| kind);
                kind.filter(|kind| !is_pattern(kind)).map(Cow::from)
            }
        }
    }

    /// Whether a pattern fits a qualified name.
    pub(crate) fn fits(pattern: &Pattern, name: &str) -> bool {
        pattern.matches_with(name, MATCHING)
    }
}

impl From<QualifiedName> for Request {
    fn from(name: QualifiedName) -> Self {
        Self::Name(name)
    }
}

impl FromStr for Request {
    type Err = RequestError;

    fn from_str(text: &str) -> Result<Self, RequestError> {
        if !is_pattern(text) {
            return Ok(Self::Name(text.parse()?));
        }
        // Go, and with it the reference, negates a class by `^` too.
        let pattern = Pattern::new(&text.replace("[^", "[!"));
        pattern.map(Self::Pattern).map_err(|error| RequestError::Pattern { text: text.to_owned(), reason: error.msg })
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Pattern(pattern) => pattern.as_str().fmt(f),
        }
    }
}

/// No qualified name holds any of these.
fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// The devices that a container's annotations `cdi.k8s.io/…` request, in the order of their keys.
///
/// Whoever may set annotations chooses devices then: nothing here looks at them unless it is asked to.
///
/// # Errors
/// An annotation that requests something else than CDI devices.
pub fn of_annotations(config: &Value) -> Result<Vec<Request>, AnnotationError> {
    let annotations = config.get("annotations").and_then(Value::as_object);
    let texts: BTreeMap<String, String> = annotations
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    Ok(cdi_specs::parse_annotations(&texts)?.into_iter().map(Request::Name).collect())
}
