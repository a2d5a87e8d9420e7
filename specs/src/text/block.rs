//! The YAML that CDI tools write, read without a YAML parser.
//!
//! Generators (Go's, and `emit.rs`) lay specs out alike: blocks of `key: value` and `- item`, plain scalars, quotes
//! without escapes. That much is read here, ten times faster than libyaml does, which at each container start is most of
//! what an injection costs. Whatever else a text holds, be it one flow list or a tab, makes [`parse`] give up, and so
//! does any error: libyaml then reads the whole text, and its word counts. A text that is read here means the same to
//! both; the tests and the fuzz target `spec_text` hold them against each other.

use std::borrow::Cow;
use std::fmt::Display;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

/// Deeper than any spec. More is libyaml's business.
const MAX_DEPTH: usize = 16;
/// Longer than any key of a spec; libyaml takes up to 1024 characters.
const MAX_KEY_BYTES: usize = 256;

/// A part of a document. Text is borrowed from it, but for the quotes in single quotes.
#[derive(Clone, Debug)]
pub(super) enum Node<'t> {
    /// Unquoted: what it means is for the reader to say. Never empty, never null.
    Plain(&'t str),
    Quoted(Cow<'t, str>),
    Map(Vec<(Node<'t>, Node<'t>)>),
    List(Vec<Node<'t>>),
}

/// The document of a text, if it is one that is read here.
pub(super) fn parse(text: &str) -> Option<Node<'_>> {
    let is_simple = |byte: u8| byte == b'\n' || (b' '..=b'~').contains(&byte);
    if !text.bytes().all(is_simple) {
        return None;
    }
    let mut body = text;
    while body.starts_with('#') {
        (_, body) = body.split_once('\n')?;
    }
    let mut lines = Lines::new(body.strip_prefix("---\n").unwrap_or(body))?;
    let document = lines.block(0, MAX_DEPTH)?;
    lines.next.is_none().then_some(document)
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

    /// The next line, if it is one of the block at `indent`.
    fn peek(&self, indent: usize) -> Option<&'t str> {
        self.next.filter(|line| line.indent == indent).map(|line| line.text)
    }

    /// The map or list whose lines are indented by just so much.
    fn block(&mut self, indent: usize, depth: usize) -> Option<Node<'t>> {
        let depth = depth.checked_sub(1)?;
        let node = if self.peek(indent)?.starts_with("- ") {
            self.list(indent, depth).map(Node::List)
        } else {
            self.map(indent, depth).map(Node::Map)
        };
        // A line that is indented more would continue what was read.
        node.filter(|_| self.next.is_none_or(|line| line.indent <= indent))
    }

    fn list(&mut self, indent: usize, depth: usize) -> Option<Vec<Node<'t>>> {
        let mut items = Vec::new();
        while let Some(item) = self.peek(indent).and_then(|line| line.strip_prefix("- ")) {
            let text = item.trim_start_matches(' ');
            if split_key(text).is_some() {
                let inner = indent + 2 + item.len() - text.len();
                self.next = Some(Line { indent: inner, text });
                items.push(Node::Map(self.map(inner, depth.checked_sub(1)?)?));
            } else {
                items.push(scalar(text)?);
                self.advance();
            }
            if self.next.is_some_and(|line| line.indent > indent) {
                return None;
            }
        }
        Some(items)
    }

    fn map(&mut self, indent: usize, depth: usize) -> Option<Vec<(Node<'t>, Node<'t>)>> {
        let mut entries = Vec::new();
        while let Some(line) = self.peek(indent).filter(|line| !line.starts_with("- ")) {
            let (key, value) = split_key(line)?;
            let key = scalar(key).filter(|_| key.len() <= MAX_KEY_BYTES)?;
            self.advance();
            entries.push((key, if value.is_empty() { self.below(indent, depth)? } else { inline(value)? }));
            if self.next.is_some_and(|line| line.indent > indent) {
                return None;
            }
        }
        Some(entries)
    }

    /// The block that belongs to a key at `indent`: indented more, or a list that is indented as much.
    fn below(&mut self, indent: usize, depth: usize) -> Option<Node<'t>> {
        let line = self.next?;
        if line.indent == indent && line.text.starts_with("- ") {
            return self.list(indent, depth.checked_sub(1)?).map(Node::List);
        }
        if line.indent > indent { self.block(line.indent, depth) } else { None }
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

/// A value behind its key.
fn inline(text: &str) -> Option<Node<'_>> {
    match text {
        "{}" => Some(Node::Map(Vec::new())),
        "[]" => Some(Node::List(Vec::new())),
        text => scalar(text),
    }
}

/// A scalar that ends with its line.
fn scalar(text: &str) -> Option<Node<'_>> {
    match text.as_bytes() {
        [b'"', inner @ .., b'"'] => {
            let inner = std::str::from_utf8(inner).ok()?;
            (!inner.contains(['"', '\\'])).then(|| Node::Quoted(inner.into()))
        }
        [b'\'', inner @ .., b'\''] => single_quoted(std::str::from_utf8(inner).ok()?).map(Node::Quoted),
        _ => is_plain(text).then_some(Node::Plain(text)),
    }
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

impl<'de> IntoDeserializer<'de, GiveUp> for Node<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Node<'de> {
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
            Self::Map(_) | Self::List(_) => Err(GiveUp),
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
            Self::Map(entries) => visitor.visit_map(MapDeserializer::new(entries.into_iter())),
            _ => Err(GiveUp),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, GiveUp> {
        match self {
            Self::List(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            _ => Err(GiveUp),
        }
    }

    // The model asks for none of these.
    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char string bytes byte_buf unit unit_struct newtype_struct
        tuple tuple_struct struct enum identifier ignored_any
    }
}
