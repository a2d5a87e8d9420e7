//! Document: `config.json` as text. Pure.
//!
//! Keys keep their order and numbers their digits; the layout is kept too, as far as it is compact or indented evenly.
//! Two spellings come out as the usual one: escapes that need not be (`\/`), and exponents without a sign (`1e5`).

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

/// The longest document that is read, in bytes. The largest real ones have some 100 KiB.
pub const MAX_BYTES: usize = 16 << 20;

/// An OCI runtime spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What it says.
    pub value: Value,
    layout: Layout,
}

/// White space.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    /// What each level is indented by; `None` for all on one line.
    indent: Option<String>,
    ends_line: bool,
}

/// Text that is no OCI runtime spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// More than [`MAX_BYTES`].
    #[error("more than the limit of {MAX_BYTES} bytes")]
    TooLong,
    /// Not JSON; the message tells line and column.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// JSON, but no object.
    #[error("not an OCI runtime spec: the document is no object")]
    NotAnObject,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// The text is too long, is no JSON, or is no object.
    pub fn parse(text: &[u8]) -> Result<Self, DocumentError> {
        if text.len() > MAX_BYTES {
            return Err(DocumentError::TooLong);
        }
        let value: Value = serde_json::from_slice(text).map_err(|error| DocumentError::NotJson(error.to_string()))?;
        if !value.is_object() {
            return Err(DocumentError::NotAnObject);
        }
        Ok(Self { value, layout: Layout::of(text) })
    }

    /// Writes it in the layout that it was read in.
    pub fn to_text(&self) -> String {
        let mut text = match &self.layout.indent {
            Some(indent) => indented(&self.value, indent.as_bytes()),
            None => self.value.to_string(),
        };
        if self.layout.ends_line {
            text.push('\n');
        }
        text
    }
}

impl Layout {
    fn of(text: &[u8]) -> Self {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let behind_brace = text.trim_ascii_start().get(1..).unwrap_or_default();
        let behind_brace = behind_brace.strip_prefix(b"\r").unwrap_or(behind_brace);
        let indent = behind_brace.strip_prefix(b"\n").map(|line| {
            let indent = line.iter().take_while(|byte| is_blank(byte)).copied().collect();
            String::from_utf8(indent).unwrap_or_default()
        });
        Self { indent, ends_line: text.ends_with(b"\n") }
    }
}

fn indented(value: &Value, indent: &[u8]) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(indent));
    value.serialize(&mut serializer).expect("a JSON value is written to memory without fail");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_survive() {
        let texts = [
            "{}",
            "{}\n",
            r#"{"b":1,"a":[1.50,18446744073709551616,-0,1e+400],"c":{}}"#,
            "{\n  \"b\": 1,\n  \"a\": [\n    true\n  ]\n}",
            "{\n\t\"b\": 1,\n\t\"a\": {\n\t\t\"c\": []\n\t}\n}\n",
            "{\n    \"b\": null\n}\n",
        ];
        for text in texts {
            assert_eq!(Document::parse(text.as_bytes()).unwrap().to_text(), text);
        }
        let crlf = Document::parse(b"{\r\n  \"a\": 1\r\n}\r\n").unwrap();
        assert_eq!(crlf.to_text(), "{\n  \"a\": 1\n}\n");
    }

    #[test]
    fn what_is_no_document_says_so() {
        let error = |text: &[u8]| Document::parse(text).unwrap_err().to_string();
        assert_eq!(error(b""), "not JSON: EOF while parsing a value at line 1 column 0");
        assert_eq!(error(b"{\"a\":"), "not JSON: EOF while parsing a value at line 1 column 5");
        assert_eq!(error(b"{} {}"), "not JSON: trailing characters at line 1 column 4");
        assert_eq!(error(b"[]"), "not an OCI runtime spec: the document is no object");
        assert!(error(b"{\"a\": \"\xff\"}").starts_with("not JSON: invalid unicode"));
        assert!(error(&b"[".repeat(100_000)).starts_with("not JSON: recursion limit"));
        assert_eq!(error(&vec![b' '; MAX_BYTES + 1]), "more than the limit of 16777216 bytes");
    }
}
