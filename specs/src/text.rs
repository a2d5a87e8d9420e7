//! Specs as text: the one place that knows YAML.
//!
//! Reading is strict about what a spec says, and as lenient as the Go engines about how it says it: see `text/read.rs`.
//! YAML is written by our own emitter (`text/emit.rs`). That of the serde_yaml family leaves `y`, `on` and `1_000`
//! unquoted, which engines read as `true`, `true` and `1000`: a device called `y` would come out as another one.

mod block;
mod budget;
mod emit;
mod lenient;
mod plain;
mod read;

use thiserror::Error;

use crate::spec::Spec;

/// The longest text that is read, in bytes. The largest specs seen in the field have some 100 KiB. Text of that length
/// is read or refused within 64 MiB of memory, whatever it holds.
pub const MAX_TEXT_BYTES: usize = 4 << 20;

/// The longest value in it. The kernel takes no longer path than 4 KiB and no longer variable than 128 KiB; a message
/// shows the value that is wrong.
const MAX_SCALAR_BYTES: usize = 1 << 20;

/// How a spec is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// YAML, in the layout of the Go tools.
    #[default]
    Yaml,
    /// JSON, which loads ten times faster.
    Json,
}

impl Format {
    /// The format that a file name's extension stands for. Engines read `.json` and `.yaml`, exactly so, and no others.
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension {
            "yaml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// The extension of a file in the format, without a dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Json => "json",
        }
    }
}

/// Why text is no spec. The caller knows the file's name and adds it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}{}", place(*.line, *.column))]
pub struct ParseError {
    /// Line, from 1, where it is known.
    pub line: Option<usize>,
    /// Column, from 1, where it is known.
    pub column: Option<usize>,
    /// What is wrong, after the field that it is wrong in, such as `devices[0].name: invalid type …`.
    pub message: String,
}

fn place(line: Option<usize>, column: Option<usize>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!(" at line {line} column {column}"),
        (Some(line), None) => format!(" at line {line}"),
        (None, _) => String::new(),
    }
}

/// Reads a spec as an engine would read a file of that format: JSON may turn out to be YAML.
pub fn parse(text: &[u8], format: Format) -> Result<Spec, ParseError> {
    match format {
        Format::Yaml => parse_yaml(text),
        Format::Json => parse_json(text).or_else(|error| json_as_yaml(text, error)),
    }
}

/// What starts like JSON was meant as JSON, so that is the error to show.
fn json_as_yaml(text: &[u8], json_error: ParseError) -> Result<Spec, ParseError> {
    let meant_as_json = text.trim_ascii_start().starts_with(b"{");
    parse_yaml(text).map_err(|yaml_error| if meant_as_json { json_error } else { yaml_error })
}

/// Reads a spec from YAML. Of several documents the first counts.
pub fn parse_yaml(text: impl AsRef<[u8]>) -> Result<Spec, ParseError> {
    read::yaml(read::clean(text.as_ref())?)
}

/// Reads a spec from JSON, and takes nothing but JSON.
pub fn parse_json(text: impl AsRef<[u8]>) -> Result<Spec, ParseError> {
    read::json(read::clean(text.as_ref())?)
}

/// Writes a spec as YAML, byte for byte as the Go tools lay it out.
pub fn to_yaml(spec: &Spec) -> String {
    emit::yaml(&compact_json(spec))
}

/// Writes a spec as indented JSON with a newline at the end.
pub fn to_json(spec: &Spec) -> String {
    let mut json = serde_json::to_string_pretty(spec).expect(ALWAYS_JSON);
    json.push('\n');
    json
}

/// Writes a spec in a format.
pub fn to_text(spec: &Spec, format: Format) -> String {
    match format {
        Format::Yaml => to_yaml(spec),
        Format::Json => to_json(spec),
    }
}

/// What our reader of the usual layout makes of a text, and what libyaml makes of it; `None` where ours leaves it.
#[cfg(fuzzing)]
pub fn by_both_readers(text: &[u8]) -> Option<(Spec, Result<Spec, ParseError>)> {
    let text = read::clean(text).ok()?;
    Some((read::block_layout(text)?, read::any_yaml(text)))
}

fn compact_json(spec: &Spec) -> String {
    serde_json::to_string(spec).expect(ALWAYS_JSON)
}

/// Serialising to JSON fails on keys that are no strings and in `Serialize` impls that refuse: a `Spec` has neither.
const ALWAYS_JSON: &str = "a spec holds nothing that JSON cannot";

#[cfg(test)]
mod tests;
