//! The leniency of the Go engines, as a layer over any serde deserializer.
//!
//! A `null` section is an empty one. Field names match in any case (`additionalGIDs`). Whole numbers may be written
//! `438.0` or, as in YAML 1.1, `0666`. One thing is stricter than serde: no key may stand twice in a map.
//! On the way the layer leaves a [`Trail`], so that an error can name its field.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt::{self, Display};

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::MAX_SCALAR_BYTES;
use crate::edits::{DeviceNode, Hook, Mount, NetDevice};
use crate::shown::shortened;
use crate::spec::Device;

/// Bytes of memory that a spec may take: `{}` in a list of devices is two bytes of text, and 300 of a `Spec`. A hundred
/// times what the largest specs seen take.
pub(super) const MAX_MEMORY: usize = 32 << 20;
/// What a text costs beside its length: its `String`, alone in a list that has room for four.
const TEXT: usize = 96;
/// Characters of a key in a path.
const LONGEST_STEP: usize = 60;

/// What an item of a list costs beside what is in it. All but devices stand in many lists, each with room for four.
fn cost(name: &str) -> usize {
    match name {
        "Device" => size_of::<Device>(),
        "DeviceNode" => 4 * size_of::<DeviceNode>(),
        "Hook" => 4 * size_of::<Hook>(),
        "Mount" => 4 * size_of::<Mount>(),
        "NetDevice" => 4 * size_of::<NetDevice>(),
        // These stand where there is one of them.
        _ => 0,
    }
}

/// Steps from the field that an error was met in, innermost first. Nothing is noted while all goes well.
#[derive(Default)]
pub(super) struct Trail {
    steps: RefCell<Vec<String>>,
    /// Bytes of memory so far.
    spent: Cell<usize>,
}

impl Trail {
    /// Counts what is made of the text.
    fn spend<E: Error>(&self, bytes: usize) -> Result<(), E> {
        self.spent.set(self.spent.get().saturating_add(bytes));
        if self.spent.get() <= MAX_MEMORY {
            return Ok(());
        }
        Err(E::custom(format_args!("the spec takes more than {MAX_MEMORY} bytes of memory")))
    }

    /// The path of the field that failed, such as `devices[0].name`.
    pub(super) fn path(&self) -> String {
        let path: String = self.steps.borrow().iter().rev().map(String::as_str).collect();
        path.trim_start_matches('.').to_owned()
    }

    fn step<T, E>(&self, step: impl Display, read: Result<T, E>) -> Result<T, E> {
        read.inspect_err(|_| self.steps.borrow_mut().push(shortened(&step.to_string(), LONGEST_STEP).into_owned()))
    }
}

/// A deserializer (or the seed, visitor or accessor of one) under the layer.
pub(super) struct Lenient<'t, T> {
    inner: T,
    trail: &'t Trail,
}

impl<'t, T> Lenient<'t, T> {
    pub(super) fn new(inner: T, trail: &'t Trail) -> Self {
        Self { inner, trail }
    }
}

/// What the model wants to read.
#[derive(Clone, Copy)]
enum Shape {
    Struct(&'static [&'static str]),
    Map,
    List,
    Text,
}

impl<'de, D: Deserializer<'de>> Lenient<'_, D> {
    fn read<V: Visitor<'de>>(self, shape: Shape, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_option(OrEmpty { shape, visitor, trail: self.trail })
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Lenient<'_, D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.trail.spend(cost(name))?;
        self.read(Shape::Struct(fields), visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.read(Shape::Map, visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.read(Shape::List, visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.read(Shape::Text, visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.read(Shape::Text, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_option(Lenient::new(visitor, self.trail))
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(WholeNumber(visitor))
    }

    /// Some stand in lists.
    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.trail.spend(4 * size_of::<u32>())?;
        self.inner.deserialize_any(WholeNumber(visitor))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_bool(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor)
    }

    // The model has none of these.
    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u64 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple tuple_struct
        enum identifier ignored_any
    }
}

/// Optional values: what is there is read under the layer too.
impl<'de, V: Visitor<'de>> Visitor<'de> for Lenient<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Lenient::new(deserializer, self.trail))
    }
}

/// Values that are empty where the text says `null`.
struct OrEmpty<'t, V> {
    shape: Shape,
    visitor: V,
    trail: &'t Trail,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OrEmpty<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        match self.shape {
            Shape::Struct(_) | Shape::Map => {
                self.visitor.visit_map(MapDeserializer::new(std::iter::empty::<(&str, &str)>()))
            }
            Shape::List => self.visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<&str>())),
            Shape::Text => self.visitor.visit_str(""),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        match self.shape {
            Shape::Struct(_) | Shape::Map => deserializer.deserialize_map(self),
            Shape::List => deserializer.deserialize_seq(self),
            Shape::Text => deserializer.deserialize_str(Counted { visitor: self.visitor, trail: self.trail }),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let keys = Keys::of(self.shape);
        self.visitor.visit_map(Entries { inner: entries, keys, trail: self.trail })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_seq(Items { inner: items, index: 0, trail: self.trail })
    }
}

/// Text, as far as there may be.
struct Counted<'t, V> {
    visitor: V,
    trail: &'t Trail,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Counted<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        if text.len() > MAX_SCALAR_BYTES {
            return Err(E::custom(format_args!("a text of more than {MAX_SCALAR_BYTES} bytes")));
        }
        self.trail.spend(TEXT + text.len())?;
        self.visitor.visit_str(text)
    }
}

struct Items<'t, A> {
    inner: A,
    index: usize,
    trail: &'t Trail,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let index = self.index;
        self.index += 1;
        let seed = Lenient::new(seed, self.trail);
        self.trail.step(format_args!("[{index}]"), self.inner.next_element_seed(seed))
    }
}

struct Entries<'t, A> {
    inner: A,
    keys: Keys,
    trail: &'t Trail,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_key_seed(Key { keys: &mut self.keys, seed, trail: self.trail })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = Lenient::new(seed, self.trail);
        self.trail.step(format_args!(".{}", self.keys.current), self.inner.next_value_seed(seed))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Lenient<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Lenient::new(deserializer, self.trail))
    }
}

/// The keys of one map or struct: the fields that it may have, what was met of them, and the latest.
struct Keys {
    fields: Option<&'static [&'static str]>,
    /// A bit for each of `fields`.
    seen_fields: u64,
    seen_keys: HashSet<String>,
    current: Cow<'static, str>,
}

impl Keys {
    fn of(shape: Shape) -> Self {
        let fields = if let Shape::Struct(fields) = shape { Some(fields) } else { None };
        Self { fields, seen_fields: 0, seen_keys: HashSet::new(), current: Cow::default() }
    }

    /// Notes a key, and gives it the name that the model knows it by.
    fn note<E: Error>(&mut self, key: &str) -> Result<&str, E> {
        let is_new = match self.fields {
            Some(fields) => self.note_field(fields, key),
            None => {
                self.current = key.to_owned().into();
                self.seen_keys.insert(key.to_owned())
            }
        };
        if is_new { Ok(&self.current) } else { Err(E::custom(format_args!("duplicate key `{key}`"))) }
    }

    /// A field that is not known counts as new: serde will say what would be known.
    fn note_field(&mut self, fields: &[&'static str], key: &str) -> bool {
        let known = fields.iter().enumerate().find(|(_, field)| field.eq_ignore_ascii_case(key));
        let Some((index, field)) = known else {
            self.current = shortened(key, LONGEST_STEP).into_owned().into();
            return true;
        };
        self.current = (*field).into();
        let bit = 1_u64 << index;
        let is_new = self.seen_fields & bit == 0;
        self.seen_fields |= bit;
        is_new
    }
}

struct Key<'k, S> {
    keys: &'k mut Keys,
    seed: S,
    trail: &'k Trail,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Key<'_, S> {
    type Value = S::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<S::Value, E> {
        if self.keys.fields.is_none() {
            // It is kept three times: as the latest, as one that was seen, and in the map.
            self.trail.spend(3 * (TEXT + key.len()))?;
        }
        let key = self.keys.note(key)?;
        self.seed.deserialize(key.into_deserializer())
    }
}

/// The key under which serde_json passes a number on as text.
const JSON_NUMBER: &str = "$serde_json::private::Number";

/// Whole numbers in all the ways that Go reads them.
struct WholeNumber<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for WholeNumber<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_u64(0)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<V::Value, E> {
        self.0.visit_u64(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<V::Value, E> {
        self.0.visit_i64(number)
    }

    /// `438.0` and `4.38e2` are 438.
    fn visit_f64<E: Error>(self, number: f64) -> Result<V::Value, E> {
        match number.to_string().parse() {
            Ok(whole) => self.0.visit_i64(whole),
            Err(_) => self.0.visit_f64(number),
        }
    }

    /// `0666` is octal in YAML 1.1, and text in YAML 1.2.
    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        match text.strip_prefix('0').map(|digits| u64::from_str_radix(digits, 8)) {
            Some(Ok(number)) => self.0.visit_u64(number),
            _ => self.0.visit_str(text),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.0.visit_bool(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(items)
    }

    /// Where a program of the workspace switches on serde_json's `arbitrary_precision`, a number may come as a map
    /// from a private key to its text.
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<V::Value, A::Error> {
        match entries.next_key::<Cow<'de, str>>()?.as_deref() {
            Some(JSON_NUMBER) => self.number(&entries.next_value::<Cow<'de, str>>()?),
            _ => Err(A::Error::invalid_type(Unexpected::Map, &self.0)),
        }
    }
}

impl<'de, V: Visitor<'de>> WholeNumber<V> {
    fn number<E: Error>(self, text: &str) -> Result<V::Value, E> {
        match (text.parse(), text.parse(), text.parse()) {
            (Ok(number), _, _) => self.visit_i64(number),
            (_, Ok(number), _) => self.visit_u64(number),
            (_, _, Ok(number)) => self.visit_f64(number),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self.0)),
        }
    }
}
