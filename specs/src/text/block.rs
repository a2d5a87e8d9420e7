//! The YAML that CDI tools write, read without a YAML parser.
//!
//! Generators (Go's, and `emit.rs`) lay specs out alike: blocks of `key: value` and `- item`, plain scalars, quotes
//! without escapes. That much is read here, ten times faster than libyaml does, which at each container start is most of
//! what an injection costs. Whatever else a text holds, be it one flow list or a tab, makes [`read`] give up, and so
//! does any error: libyaml then reads the whole text, and its word counts. A text that is read here means the same to
//! both; the tests and the fuzz target `spec_text` hold them against each other.

use std::borrow::Cow;
use std::fmt::Display;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Deeper than any spec. More is libyaml's business.
const MAX_DEPTH: usize = 16;
/// Longer than any key of a spec; libyaml takes up to 1024 characters.
const MAX_KEY_BYTES: usize = 256;

/// Hands the document of a text to a reader, line by line; `None` if it is not one that is read here.
pub(super) fn read<T>(text: &str, read: impl FnOnce(Node<'_, '_>) -> Result<T, GiveUp>) -> Option<T> {
    let is_simple = |byte: u8| byte == b'\n' || (b' '..=b'~').contains(&byte);
    if !text.bytes().all(is_simple) {
        return None;
    }
    let mut body = text;
    while body.starts_with('#') {
        (_, body) = body.split_once('\n')?;
    }
    let mut lines = Lines::new(body.strip_prefix("---\n").unwrap_or(body))?;
    let document = lines.block(0, MAX_DEPTH).ok()?;
    let value = read(document).ok()?;
    lines.next.is_none().then_some(value)
}

/// A part of a document, where its lines begin. Text is borrowed from it, but for the quotes in single quotes.
pub(super) enum Node<'l, 't> {
    /// Unquoted: what it means is for the reader to say. Never empty, never null.
    Plain(&'t str),
    Quoted(Cow<'t, str>),
    Map(Entries<'l, 't>),
    List(Items<'l, 't>),
    EmptyMap,
    EmptyList,
}

/// A line without its indentation.
#[derive(Clone, Copy)]
struct Line<'t> {
    indent: usize,
    text: &'t str,
}

struct Lines<'t> {
    rest: std::str::Split<'t, char>,
    /// The line that comes next. What stands behind a `- ` is a line of its own.
    next: Option<Line<'t>>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Option<Self> {
        let mut lines = Self { rest: text.split('\n'), next: None };
        lines.advance();
        lines.next.filter(|line| line.indent == 0).map(|_| lines)
    }

    /// Goes to the next line that is neither empty nor a comment.
    fn advance(&mut self) {
        let line = |line: &'t str| {
            let text = line.trim_start_matches(' ');
            Line { indent: line.len() - text.len(), text }
        };
        self.next = self.rest.by_ref().map(line).find(|line| !line.text.is_empty() && !line.text.starts_with('#'));
    }

    /// The next line, if it is one of the block at `indent`. One that is indented more would continue what was read.
    fn peek(&self, indent: usize) -> Result<Option<&'t str>, GiveUp> {
        match self.next {
            Some(line) if line.indent > indent => Err(GiveUp),
            line => Ok(line.filter(|line| line.indent == indent).map(|line| line.text)),
        }
    }

    /// The map or list whose lines are indented by just so much.
    fn block(&mut self, indent: usize, depth: usize) -> Result<Node<'_, 't>, GiveUp> {
        let depth = depth.checked_sub(1).ok_or(GiveUp)?;
        let is_list = self.peek(indent)?.ok_or(GiveUp)?.starts_with("- ");
        Ok(if is_list { Node::List(Items { lines: self, indent, depth }) } else { self.map(indent, depth) })
    }

    fn map(&mut self, indent: usize, depth: usize) -> Node<'_, 't> {
        Node::Map(Entries { lines: self, indent, depth, value: "" })
    }

    /// The block that belongs to a key at `indent`: indented more, or a list that is indented as much.
    fn below(&mut self, indent: usize, depth: usize) -> Result<Node<'_, 't>, GiveUp> {
        let line = self.next.ok_or(GiveUp)?;
        let is_list = line.indent == indent && line.text.starts_with("- ");
        if is_list || line.indent > indent { self.block(line.indent, depth) } else { Err(GiveUp) }
    }
}

/// The items of a list.
pub(super) struct Items<'l, 't> {
    lines: &'l mut Lines<'t>,
    indent: usize,
    depth: usize,
}

impl<'t> SeqAccess<'t> for Items<'_, 't> {
    type Error = GiveUp;

    fn next_element_seed<S: DeserializeSeed<'t>>(&mut self, seed: S) -> Result<Option<S::Value>, GiveUp> {
        let Some(item) = self.lines.peek(self.indent)?.and_then(|line| line.strip_prefix("- ")) else {
            return Ok(None);
        };
        let text = item.trim_start_matches(' ');
        let node = if split_key(text).is_some() {
            let inner = self.indent + 2 + item.len() - text.len();
            self.lines.next = Some(Line { indent: inner, text });
            self.lines.map(inner, self.depth.checked_sub(1).ok_or(GiveUp)?)
        } else {
            self.lines.advance();
            scalar(text)?
        };
        seed.deserialize(node).map(Some)
    }
}

/// The entries of a map.
pub(super) struct Entries<'l, 't> {
    lines: &'l mut Lines<'t>,
    indent: usize,
    depth: usize,
    /// What stands behind the latest key.
    value: &'t str,
}

impl<'t> MapAccess<'t> for Entries<'_, 't> {
    type Error = GiveUp;

    fn next_key_seed<S: DeserializeSeed<'t>>(&mut self, seed: S) -> Result<Option<S::Value>, GiveUp> {
        let Some(line) = self.lines.peek(self.indent)?.filter(|line| !line.starts_with("- ")) else { return Ok(None) };
        let (key, value) = split_key(line).filter(|(key, _)| key.len() <= MAX_KEY_BYTES).ok_or(GiveUp)?;
        self.value = value;
        self.lines.advance();
        seed.deserialize(scalar(key)?).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'t>>(&mut self, seed: S) -> Result<S::Value, GiveUp> {
        let node = match self.value {
            "" => self.lines.below(self.indent, self.depth)?,
            "{}" => Node::EmptyMap,
            "[]" => Node::EmptyList,
            text => scalar(text)?,
        };
        seed.deserialize(node)
    }
}

/// Key and value of a line `key: value` or `key:`.
fn split_key(line: &str) -> Option<(&str, &str)> {
    let end = match line.chars().next()? {
        quote @ ('"' | '\'') => 2 + line.get(1..)?.find(quote)?,
        _ => line.find(':')?,
    };
    let (key, rest) = (line.get(..end)?, line.get(end..)?);
    let value = rest.strip_prefix(':')?;
    (value.is_empty() || value.starts_with(' ')).then(|| (key, value.trim_start_matches(' ')))
}

/// A scalar that ends with its line.
fn scalar<'l, 't>(text: &'t str) -> Result<Node<'l, 't>, GiveUp> {
    let inside = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    let node = if let Some(inner) = inside('"') {
        (!inner.contains(['"', '\\'])).then(|| Node::Quoted(inner.into()))
    } else if let Some(inner) = inside('\'') {
        single_quoted(inner).map(Node::Quoted)
    } else {
        is_plain(text).then_some(Node::Plain(text))
    };
    node.ok_or(GiveUp)
}

/// In single quotes a quote is written twice.
fn single_quoted(inner: &str) -> Option<Cow<'_, str>> {
    if !inner.contains('\'') {
        return Some(inner.into());
    }
    let pairs_only = !inner.replace("''", "").contains('\'');
    pairs_only.then(|| inner.replace("''", "'").into())
}

/// Whether every reader takes it for the same scalar: nothing that starts another construct, and no null.
fn is_plain(text: &str) -> bool {
    let mut bytes = text.bytes();
    let starts_well = match bytes.next() {
        Some(b'-') => bytes.next().is_some_and(|next| next != b' '),
        Some(first) => first.is_ascii_alphanumeric() || b"/_.+($".contains(&first),
        None => false,
    };
    let is_marker = text.starts_with("---") || text.starts_with("...");
    let ends_well = !text.ends_with([' ', ':']);
    let is_null = text.eq_ignore_ascii_case("null");
    let has_sign = text.as_bytes().windows(2).any(|pair| pair == b": " || pair == b" #");
    starts_well && ends_well && !is_marker && !is_null && !has_sign
}

/// Why a document is no spec, or no spec that is read here. libyaml will say it better.
#[derive(Debug)]
pub(super) struct GiveUp;

impl std::error::Error for GiveUp {}

impl Display for GiveUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not read here")
    }
}

impl serde::de::Error for GiveUp {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

impl<'de> Deserializer<'de> for Node<'_, 'de> {
    type Error = GiveUp;

    /// Numbers are asked for this way. Of plain scalars only those that are whole numbers in any YAML are read here.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GiveUp> {
        let Self::Plain(text) = self else { return Err(GiveUp) };
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_decimal =
            digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        match text.parse::<i64>() {
            Ok(number) if is_decimal && number < 0 => visitor.visit_i64(number),
            Ok(number) if is_decimal => visitor.visit_u64(number.unsigned_abs()),
            _ => Err(GiveUp),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GiveUp> {
        match self {
            Self::Plain(text) => visitor.visit_str(text),
            Self::Quoted(text) => visitor.visit_str(&text),
            _ => Err(GiveUp),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GiveUp> {
        match self {
            Self::Plain("true") => visitor.visit_bool(true),
            Self::Plain("false") => visitor.visit_bool(false),
            _ => Err(GiveUp),
        }
    }

    /// Nothing is null here.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GiveUp> {
        visitor.visit_some(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GiveUp> {
        match self {
            Self::Map(entries) => visitor.visit_map(entries),
            Self::EmptyMap => visitor.visit_map(MapDeserializer::new(std::iter::empty::<(&str, &str)>())),
            _ => Err(GiveUp),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GiveUp> {
        match self {
            Self::List(items) => visitor.visit_seq(items),
            Self::EmptyList => visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<&str>())),
            _ => Err(GiveUp),
        }
    }

    // The model asks for none of these.
    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char string bytes byte_buf unit unit_struct newtype_struct
        tuple tuple_struct struct enum identifier ignored_any
    }
}
