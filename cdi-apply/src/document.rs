//! Document: `config.json` as text. Pure.
//!
//! Keys keep their order and numbers their digits; the layout is kept too, as far as it is compact or indented evenly,
//! and so are the escapes of Go's encoder. Two spellings come out as the usual one: escapes that need not be (`\/`), and
//! exponents without a sign (`1e5`).

mod value;

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};
use value::ValueError;

/// The longest document that is read, in bytes. The largest real ones have some 100 KiB.
pub const MAX_BYTES: usize = 16 << 20;
/// The most memory that a document takes, in bytes: some twenty times its text, if that is full of small values.
const MAX_MEMORY: usize = 256 << 20;

/// How much of a document is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of text.
    pub bytes: usize,
    /// Bytes of memory that the values take, reckoned rather too high.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: MAX_BYTES, memory: MAX_MEMORY }
    }
}

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
    /// Go writes `<`, `>`, `&` and two line separators as escapes, lest JSON be taken for HTML.
    is_html_safe: bool,
}

/// Text that is no OCI runtime spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// More text than is read.
    #[error("more than the limit of {0} bytes")]
    TooLong(usize),
    /// More values than are kept.
    #[error("its values take more than the limit of {0} bytes of memory")]
    TooLarge(usize),
    /// Not JSON; the message tells line and column.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// JSON in which a key stands twice; the message tells which, and where. Readers differ in which of the two counts,
    /// and one of them would be lost.
    #[error("ambiguous: {0}")]
    Ambiguous(String),
    /// JSON, but no object.
    #[error("not an OCI runtime spec: the document is no object")]
    NotAnObject,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// The text is too long, is no JSON, is no object, or has a key twice.
    pub fn parse(text: &[u8]) -> Result<Self, DocumentError> {
        Self::parse_within(text, Limits::default())
    }

    /// The same within other limits.
    ///
    /// # Errors
    /// As [`Document::parse`].
    pub fn parse_within(text: &[u8], limits: Limits) -> Result<Self, DocumentError> {
        if text.len() > limits.bytes {
            return Err(DocumentError::TooLong(limits.bytes));
        }
        let text = std::str::from_utf8(text).map_err(|error| DocumentError::NotJson(error.to_string()))?;
        let value = value::parse(text, limits.memory).map_err(|error| match error {
            ValueError::TooLarge => DocumentError::TooLarge(limits.memory),
            ValueError::NotJson(error) => DocumentError::NotJson(error.to_string()),
            ValueError::Ambiguous(error) => DocumentError::Ambiguous(error.to_string()),
        })?;
        if !value.is_object() {
            return Err(DocumentError::NotAnObject);
        }
        Ok(Self { value, layout: Layout::of(text) })
    }

    /// Writes it in the layout that it was read in.
    pub fn to_text(&self) -> String {
        let Layout { indent, ends_line, is_html_safe } = &self.layout;
        let indent = indent.as_deref().map(str::as_bytes);
        let mut text = match (indent, is_html_safe) {
            (Some(indent), true) => write(&self.value, HtmlSafe(PrettyFormatter::with_indent(indent))),
            (Some(indent), false) => write(&self.value, PrettyFormatter::with_indent(indent)),
            (None, true) => write(&self.value, HtmlSafe(CompactFormatter)),
            (None, false) => write(&self.value, CompactFormatter),
        };
        if *ends_line {
            text.push('\n');
        }
        text
    }
}

impl Layout {
    fn of(text: &str) -> Self {
        let behind_brace = text.trim_ascii_start().get(1..).unwrap_or_default();
        let behind_brace = behind_brace.strip_prefix('\r').unwrap_or(behind_brace);
        let indent = behind_brace.strip_prefix('\n').map(|line| {
            let text = line.trim_start_matches([' ', '\t']);
            line.strip_suffix(text).unwrap_or_default().to_owned()
        });
        Self { indent, ends_line: text.ends_with('\n'), is_html_safe: is_html_safe(text) }
    }
}

/// Characters that Go's encoder escapes and others do not.
const HTML: [(char, &str); 5] =
    [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];

/// Whether some such character is escaped, and none is not.
fn is_html_safe(text: &str) -> bool {
    let is_raw = |c: char| HTML.iter().any(|(raw, _)| *raw == c);
    let is_escape = |(at, _): (usize, &str)| {
        let here = text.get(at..).unwrap_or_default();
        HTML.iter().any(|(_, escape)| here.starts_with(escape))
    };
    text.match_indices("\\u").any(is_escape) && !text.contains(is_raw)
}

/// Writes strings as Go's encoder does, and all else as the inner formatter does.
struct HtmlSafe<F>(F);

impl<F: Formatter> Formatter for HtmlSafe<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, raw)) = rest.char_indices().find(|(_, c)| HTML.iter().any(|(raw, _)| raw == c)) {
            let (before, behind) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let escape = HTML.iter().find(|(known, _)| *known == raw).map_or("", |(_, escape)| escape);
            writer.write_all(escape.as_bytes())?;
            rest = behind.get(raw.len_utf8()..).unwrap_or_default();
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

fn write(value: &Value, formatter: impl Formatter) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, formatter);
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
            r#"{"a":"\u003cb\u003e \u0026 \u2028é"}"#,
            "{\n\t\"<\": \"a&b\"\n}",
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
        let twice = br#"{"a": {"b": 1, "c": [{}], "\u0062": 2}}"#;
        assert_eq!(error(twice), "ambiguous: the key `b` stands twice at line 1 column 34");
        assert!(error(b"{\"a\": \"\xff\"}").starts_with("not JSON: invalid utf-8"));
        assert!(error(&b"[".repeat(100_000)).starts_with("not JSON: recursion limit"));
        assert_eq!(error(&vec![b' '; MAX_BYTES + 1]), "more than the limit of 16777216 bytes");
        let long = format!("{{{0:?}: 1, {0:?}: 2}}", "\u{1b}".repeat(1000));
        assert_eq!(error(long.as_bytes()).matches("\u{1b}").count(), 0);
        assert!(error(long.as_bytes()).len() < 600);
    }

    /// What is counted is what the values take, whatever they are.
    #[test]
    fn values_take_no_more_memory_than_they_may() {
        let limits = Limits { bytes: 1 << 20, memory: 1 << 20 };
        let parse = |text: String| Document::parse_within(text.as_bytes(), limits).map(|_| ());
        for item in ["0", "[]", "{}", "\"\"", "[[]]", "[0]", "{\"\":0}", "1e5", "null", "\"a longer text\""] {
            let many = |count| format!("{{\"a\":[{item}{}]}}", format!(",{item}").repeat(count));
            assert_eq!(parse(many(800)), Ok(()), "{item}");
            assert_eq!(parse(many(7_500)), Err(DocumentError::TooLarge(limits.memory)), "{item}");
        }
        assert_eq!(parse(format!("{{\"a\": {:?}}}", "x".repeat(1 << 19))), Ok(()));
        assert_eq!(parse("x".repeat((1 << 20) + 1)), Err(DocumentError::TooLong(1 << 20)));
    }
}
