//! A JSON text as an ordered value in which each object has each of its keys once. Pure.
//!
//! serde_json's own reading keeps the last of several members of a key and drops the others.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The key under which serde_json hands out a number that is to stay as it is written.
const NUMBER: &str = "$serde_json::private::Number";

/// What a value takes beside its own text: itself, its allocation, and the list that holds it, which grows by doubling.
const PER_VALUE: usize = 2 * size_of::<Value>();
/// What a list takes with its first item: it makes room for four.
const PER_LIST: usize = 3 * size_of::<Value>();
/// What an object takes with its first members, for four of which it makes room, and what each more takes: the key, a
/// hash and two indices; it grows by doubling.
const PER_OBJECT: usize = 5 * (size_of::<Value>() + size_of::<String>() + 24);
const PER_MEMBER: usize = 2 * (size_of::<Value>() + size_of::<String>() + 24);
/// As much of a key as is worth showing, in characters.
const SHOWN: usize = 64;

/// Why a text has no value.
pub(super) enum ValueError {
    /// It is no JSON.
    NotJson(serde_json::Error),
    /// A key stands twice.
    Ambiguous(serde_json::Error),
    /// It takes more memory than it may.
    TooLarge,
}

/// Reads a text, whose values take no more than so many bytes of memory.
pub(super) fn parse(text: &str, memory: usize) -> Result<Value, ValueError> {
    // A member of that name would come out as a number.
    if text.contains(NUMBER) {
        return Err(ValueError::Ambiguous(serde_json::Error::custom(format_args!("the key `{NUMBER}` is not taken"))));
    }
    let left = Cell::new(Some(memory));
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Unique(&left).deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| match left.get() {
        None => ValueError::TooLarge,
        Some(_) if error.is_data() => ValueError::Ambiguous(error),
        Some(_) => ValueError::NotJson(error),
    })
}

/// With the bytes that are left; `None` when they are not enough.
#[derive(Clone, Copy)]
struct Unique<'b>(&'b Cell<Option<usize>>);

impl Unique<'_> {
    fn take<E: Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.0.get().and_then(|left| left.checked_sub(bytes));
        self.0.set(left);
        left.map(|_| ()).ok_or_else(|| E::custom("too large"))
    }
}

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.take::<D::Error>(PER_VALUE)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.take::<E>(value.len())?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            if list.is_empty() {
                self.take::<A::Error>(PER_LIST)?;
            }
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key == NUMBER && map.is_empty() {
                let text: String = entries.next_value()?;
                self.take::<A::Error>(text.len())?;
                let number: Number = text.parse().map_err(A::Error::custom)?;
                return Ok(number.into());
            }
            if map.contains_key(&key) {
                let key = cdi_specs::printable(&key.chars().take(SHOWN).collect::<String>());
                return Err(A::Error::custom(format_args!("the key `{key}` stands twice")));
            }
            self.take::<A::Error>(key.len() + if map.is_empty() { PER_OBJECT } else { PER_MEMBER })?;
            let value = entries.next_value_seed(self)?;
            map.insert(key, value);
        }
        Ok(map.into())
    }
}
