//! How spec text becomes a `Spec`: guards first, then one of the three parsers, under the same lenient reader.

use std::fmt::Display;

use serde::Deserialize;
use serde::de::Deserializer;

use super::budget::{self, Refusal};
use super::lenient::{Lenient, Trail};
use super::{MAX_TEXT_BYTES, ParseError, block};
use crate::shown::shortened;
use crate::spec::Spec;

/// Characters of a message: fields and values in it are as long as strangers like.
const LONGEST_MESSAGE: usize = 500;

/// The text without its byte order mark, if it is text and not too long.
pub(super) fn clean(text: &[u8]) -> Result<&str, ParseError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(anywhere(format!("{} bytes are more than the limit of {MAX_TEXT_BYTES}", text.len())));
    }
    let text = std::str::from_utf8(text).map_err(|error| at_end_of(text.get(..error.valid_up_to()), "not UTF-8"))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Reads JSON.
pub(super) fn json(text: &str) -> Result<Spec, ParseError> {
    let trail = Trail::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let spec = spec_or_nothing(&mut deserializer, &trail);
    let spec = spec.and_then(|spec| deserializer.end().map(|()| spec));
    spec.map_err(|error| json_error(&error, &trail))?.ok_or_else(no_spec)
}

/// Reads YAML: what tools write in our own way, all else with libyaml.
pub(super) fn yaml(text: &str) -> Result<Spec, ParseError> {
    block_layout(text).map_or_else(|| any_yaml(text), Ok)
}

pub(super) fn block_layout(text: &str) -> Option<Spec> {
    block::read(text, |document| spec_or_nothing(document, &Trail::default()))?
}

/// Reads YAML with libyaml: as it stands, and once more with its merge keys resolved where it seems to have some.
pub(super) fn any_yaml(text: &str) -> Result<Spec, ParseError> {
    budget::check(text).map_err(|Refusal { place: (line, column), reason }| ParseError {
        line: Some(line),
        column: Some(column),
        message: reason,
    })?;
    let plain = yaml_document(text);
    if plain.is_err() && text.contains("<<") { merged_yaml_document(text).or(plain) } else { plain }
}

fn yaml_document(text: &str) -> Result<Spec, ParseError> {
    let document = serde_yaml::Deserializer::from_str(text).next().ok_or_else(no_spec)?;
    let trail = Trail::default();
    let spec = spec_or_nothing(document, &trail);
    spec.map_err(|error| yaml_error(&error, &trail))?.ok_or_else(no_spec)
}

fn merged_yaml_document(text: &str) -> Result<Spec, ParseError> {
    let document = serde_yaml::Deserializer::from_str(text).next().ok_or_else(no_spec)?;
    let trail = Trail::default();
    let merged = serde_yaml::Value::deserialize(document).and_then(|mut value| value.apply_merge().map(|()| value));
    let spec = merged.and_then(|value| spec_or_nothing(value, &trail));
    spec.map_err(|error| yaml_error(&error, &trail))?.ok_or_else(no_spec)
}

/// A document that is empty, or says `null`, has no spec.
fn spec_or_nothing<'de, D: Deserializer<'de>>(deserializer: D, trail: &Trail) -> Result<Option<Spec>, D::Error> {
    Option::deserialize(Lenient::new(deserializer, trail))
}

fn no_spec() -> ParseError {
    anywhere("there is no CDI spec in it".to_owned())
}

fn anywhere(message: String) -> ParseError {
    ParseError { line: None, column: None, message }
}

/// An error right behind the text that was fine.
fn at_end_of(fine: Option<&[u8]>, reason: &str) -> ParseError {
    let fine = String::from_utf8_lossy(fine.unwrap_or_default());
    let (lines_before, last_line) =
        fine.rsplit_once('\n').map_or((0, &*fine), |(before, last)| (1 + before.matches('\n').count(), last));
    ParseError { line: Some(lines_before + 1), column: Some(last_line.chars().count() + 1), message: reason.to_owned() }
}

fn json_error(error: &serde_json::Error, trail: &Trail) -> ParseError {
    let location = (error.line() > 0).then(|| (error.line(), error.column()));
    in_our_words(error, location, trail)
}

fn yaml_error(error: &serde_yaml::Error, trail: &Trail) -> ParseError {
    let location = error.location().map(|location| (location.line(), location.column()));
    in_our_words(error, location, trail)
}

/// The parsers append the place to the message, and one prepends a field path: both are taken off and said once.
fn in_our_words(error: &impl Display, location: Option<(usize, usize)>, trail: &Trail) -> ParseError {
    let mut message = error.to_string();
    let field = trail.path();
    if let Some((line, column)) = location {
        message = message.replacen(&format!(" at line {line} column {column}"), "", 1);
    }
    if !field.is_empty() && !message.starts_with(&format!("{field}: ")) {
        message = format!("{field}: {message}");
    }
    let message = shortened(&message, LONGEST_MESSAGE).into_owned();
    ParseError { line: location.map(|(line, _)| line), column: location.map(|(_, column)| column), message }
}
