//! TOML, changed where it stands. Pure.

use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

use super::ConfigureError;

/// Text that is no TOML: the line, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct TomlError {
    line: usize,
    message: String,
}

/// A file that is being changed.
pub(super) struct File(pub DocumentMut);

/// The text after a change; as it was if that changed nothing.
pub(super) fn changed(
    text: &str,
    change: impl FnOnce(&mut File) -> Result<(), ConfigureError>,
) -> Result<String, ConfigureError> {
    let parsed = text.parse::<DocumentMut>().map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        TomlError { line: before.matches('\n').count() + 1, message: error.message().replace('\n', " ") }
    })?;
    let mut file = File(parsed);
    change(&mut file)?;
    Ok(file.0.to_string())
}

impl File {
    /// The table that keys lead to, made if it is missing.
    pub(super) fn table(&mut self, keys: &[&str]) -> Result<&mut dyn TableLike, ConfigureError> {
        let mut table: &mut dyn TableLike = self.0.as_table_mut();
        for (depth, key) in keys.iter().enumerate() {
            let item = table.entry(key).or_insert_with(|| {
                let mut made = Table::new();
                // It shows only if it gets a key of its own.
                made.set_implicit(true);
                Item::Table(made)
            });
            let wrong = || ConfigureError::WrongType {
                at: keys.get(..=depth).unwrap_or_default().join("."),
                expected: "a table",
            };
            table = item.as_table_like_mut().ok_or_else(wrong)?;
        }
        Ok(table)
    }

    /// Sets a key of a table; a value that is there keeps its place and its comments.
    pub(super) fn set(&mut self, table: &[&str], key: &str, value: impl Into<Value>) -> Result<(), ConfigureError> {
        let table = self.table(table)?;
        let mut value = value.into();
        match table.get_mut(key).and_then(Item::as_value_mut) {
            Some(held) if held.to_string().trim() == value.to_string().trim() => {}
            Some(held) => {
                *value.decor_mut() = held.decor().clone();
                *held = value;
            }
            None => _ = table.insert(key, Item::Value(value)),
        }
        Ok(())
    }

    /// Sets a key that is not there.
    pub(super) fn set_new(&mut self, table: &[&str], key: &str, value: impl Into<Value>) -> Result<(), ConfigureError> {
        if self.table(table)?.contains_key(key) { Ok(()) } else { self.set(table, key, value) }
    }
}
