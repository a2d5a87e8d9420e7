//! A JSON text as an ordered value in which each object has each of its keys once. Pure.
//!
//! serde_json's own reading keeps the last of several members of a key and drops the others.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The key under which serde_json hands out a number that is to stay as it is written.
const NUMBER: &str = "$serde_json::private::Number";

/// Why a text has no value.
pub(super) enum ValueError {
    /// It is no JSON.
    NotJson(serde_json::Error),
    /// A key stands twice.
    Ambiguous(serde_json::Error),
}

/// Reads a text.
pub(super) fn parse(text: &str) -> Result<Value, ValueError> {
    // A member of that name would come out as a number.
    if text.contains(NUMBER) {
        return Err(ValueError::Ambiguous(serde_json::Error::custom(format_args!("the key `{NUMBER}` is not taken"))));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Unique.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| if error.is_data() { ValueError::Ambiguous(error) } else { ValueError::NotJson(error) })
}

#[derive(Clone, Copy)]
struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
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

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key == NUMBER && map.is_empty() {
                let number: Number = entries.next_value::<String>()?.parse().map_err(A::Error::custom)?;
                return Ok(number.into());
            }
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key `{key}` stands twice")));
            }
            let value = entries.next_value_seed(self)?;
            map.insert(key, value);
        }
        Ok(map.into())
    }
}
