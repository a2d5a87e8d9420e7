//! Writes YAML in the layout of Go's yaml.v3: what stands below a key is indented to the next multiple of 4, and the
//! keys of a list item stand two columns right of its dash.
//!
//! The input is JSON, read as a stream: a spec's field names and their order are known to its types alone.

use std::fmt::{self, Display, Write};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::plain::has_other_meaning;

/// One document, with its `---` and a newline at the end.
pub(super) fn yaml(json: &str) -> String {
    let mut text = "---".to_owned();
    let document = Value { text: &mut text, place: Place::Document };
    document.deserialize(&mut serde_json::Deserializer::from_str(json)).expect("the text comes from serde_json");
    text.push('\n');
    text
}

/// Where a value stands. Columns count from 0.
#[derive(Clone, Copy)]
enum Place {
    Document,
    /// Behind a key that starts at this column.
    Key(usize),
    /// Behind a dash at this column.
    Item(usize),
}

impl Place {
    /// The column of what stands inside the value.
    fn inner_column(self) -> usize {
        match self {
            Self::Document => 0,
            Self::Key(column) => (column / 4 + 1) * 4,
            Self::Item(column) => column + 2,
        }
    }
}

/// Writes the value that comes next in the stream, starting behind the key's colon or the item's dash.
struct Value<'t> {
    text: &'t mut String,
    place: Place,
}

impl Value<'_> {
    fn write<E>(self, value: impl Display) -> Result<(), E> {
        // Writing to a string cannot fail.
        let _ = write!(self.text, " {value}");
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if let Place::Item(column) = self.place {
            start_line(self.text, column);
            self.text.push('-');
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.write(value)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.write(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.write(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.text.push(' ');
        push_scalar(self.text, text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let place = Place::Item(self.place.inner_column());
        let mut empty = true;
        while items.next_element_seed(Value { text: self.text, place })?.is_some() {
            empty = false;
        }
        if empty { self.write("[]") } else { Ok(()) }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let column = self.place.inner_column();
        let mut behind_dash = matches!(self.place, Place::Item(_));
        let mut empty = true;
        while let Some(key) = entries.next_key::<String>()? {
            match std::mem::take(&mut behind_dash) {
                true => self.text.push(' '),
                false => start_line(self.text, column),
            }
            push_scalar(self.text, &key);
            self.text.push(':');
            entries.next_value_seed(Value { text: self.text, place: Place::Key(column) })?;
            empty = false;
        }
        if empty { self.write("{}") } else { Ok(()) }
    }
}

fn start_line(text: &mut String, column: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n(' ', column));
}

/// Writes text so that every reader gets the same text back: plain where that is safe.
fn push_scalar(out: &mut String, text: &str) {
    if is_path_or_word(text) {
        out.push_str(text);
    } else if text.contains(needs_escape) || has_other_meaning(text) {
        push_double_quoted(out, text);
    } else if has_syntax(text) {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    } else {
        out.push_str(text);
    }
}

/// Most texts of a spec, told at a glance: a path or a long word of harmless characters is neither syntax nor a number,
/// and no keyword has more than five letters.
fn is_path_or_word(text: &str) -> bool {
    let starts_well = text.starts_with('/') || (text.len() > 5 && text.starts_with(|c: char| c.is_ascii_alphabetic()));
    starts_well && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+=".contains(&byte))
}

/// Whether unquoted `text` would be read as structure.
fn has_syntax(text: &str) -> bool {
    let first_word = text.split(' ').next().unwrap_or_default();
    matches!(first_word, "-" | "?" | ":")
        || text.starts_with(|c| ",[]{}#&*!|>'\"%@` ".contains(c))
        || text.starts_with("---")
        || text.starts_with("...")
        || text.ends_with([' ', ':'])
        || text.contains(": ")
        || text.contains(" #")
}

/// Whether YAML does not let the character stand as it is, or a reader might lose it.
fn needs_escape(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn push_double_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if needs_escape(c) => _ = write!(out, "\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_quoted_only_where_they_must_be() {
        let cases = [
            ("plain", "plain"),
            ("with space", "with space"),
            ("0.5.0", "0.5.0"),
            ("--link", "--link"),
            ("-x", "-x"),
            ("?x", "?x"),
            ("a:b", "a:b"),
            ("a#b", "a#b"),
            ("it's", "it's"),
            ("a\"b", "a\"b"),
            ("a\\b", "a\\b"),
            ("A=[1, {2}]", "A=[1, {2}]"),
            ("gr\u{fc}n \u{1f600}", "gr\u{fc}n \u{1f600}"),
            ("y", "\"y\""),
            ("0", "\"0\""),
            ("", "\"\""),
            ("~", "\"~\""),
            ("-", "'-'"),
            ("- a", "'- a'"),
            ("? a", "'? a'"),
            (": a", "': a'"),
            (":", "':'"),
            ("a: b", "'a: b'"),
            ("a:", "'a:'"),
            ("a #b", "'a #b'"),
            (" a", "' a'"),
            ("a ", "'a '"),
            ("'it''s", "'''it''''s'"),
            ("\"a", "'\"a'"),
            ("*a", "'*a'"),
            ("&a", "'&a'"),
            ("!a", "'!a'"),
            ("%a", "'%a'"),
            ("@a", "'@a'"),
            ("`a", "'`a'"),
            ("|", "'|'"),
            (">", "'>'"),
            ("[a", "'[a'"),
            ("{a", "'{a'"),
            ("#a", "'#a'"),
            (",a", "',a'"),
            ("---", "'---'"),
            ("...", "'...'"),
            ("a\nb", "\"a\\nb\""),
            ("\t\r\"\\", "\"\\t\\r\\\"\\\\\""),
            ("\u{7}\u{85}\u{2028}\u{feff}\u{ffff}", "\"\\u0007\\u0085\\u2028\\uFEFF\\uFFFF\""),
        ];
        for (text, expected) in cases {
            let mut out = String::new();
            push_scalar(&mut out, text);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn every_nesting_has_a_layout() {
        let json = r#"{"a":{"b":{"c":[{"d":[1,-2],"e":{}},{},[],"f",{"g":true}]}},"h":[],"i":""}"#;
        let expected = "---
a:
    b:
        c:
            - d:
                - 1
                - -2
              e: {}
            - {}
            - []
            - f
            - g: true
h: []
i: \"\"
";
        assert_eq!(yaml(json), expected);
    }
}
