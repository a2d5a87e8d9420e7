//! Outcome: a row for each container, and the table of all. I/O: rows pass from the inner run to the outer in a file.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::files;

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// As it is named on the command line.
    pub engine: String,
    /// What the engine says that it is.
    pub version: String,
    /// The OCI runtime.
    pub runtime: String,
    /// What was tried.
    pub case: String,
    /// What came of it.
    pub result: Result<String, String>,
    /// How long it took.
    pub milliseconds: u64,
}

impl Row {
    /// An engine that could not be tried.
    pub fn failed(engine: &str, why: &str) -> Self {
        let none = || "-".to_owned();
        let result = Err(why.to_owned());
        Self { engine: engine.to_owned(), version: none(), runtime: none(), case: none(), result, milliseconds: 0 }
    }

    fn cells(&self) -> [String; 6] {
        let result = self.result.clone().unwrap_or_else(|_| "FAILED".to_owned());
        let Self { engine, version, runtime, case, milliseconds, .. } = self.clone();
        [engine, version, runtime, case, result, milliseconds.to_string()]
    }

    fn failure(&self) -> Option<String> {
        let wrong = self.result.as_ref().err()?;
        Some(format!("  {} {} {}: {wrong}", self.engine, self.runtime, self.case))
    }

    fn to_json(&self) -> Value {
        json!({
            "engine": self.engine,
            "version": self.version,
            "runtime": self.runtime,
            "case": self.case,
            "good": self.result.clone().ok(),
            "bad": self.result.clone().err(),
            "milliseconds": self.milliseconds,
        })
    }

    fn of_json(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            engine: text("engine")?,
            version: text("version")?,
            runtime: text("runtime")?,
            case: text("case")?,
            result: text("good").ok_or_else(|| text("bad").unwrap_or_default()),
            milliseconds: value.get("milliseconds")?.as_u64()?,
        })
    }
}

/// Adds a row to a file.
pub fn append(file: &Path, row: &Row) -> anyhow::Result<()> {
    let rows = files::read(file)?;
    files::write(file, &format!("{rows}{}\n", row.to_json()))
}

/// The rows of a file.
pub fn read(file: &Path) -> anyhow::Result<Vec<Row>> {
    let text = files::read(file)?;
    text.lines()
        .map(|line| serde_json::from_str(line).ok().as_ref().and_then(Row::of_json).context("a bad row"))
        .collect()
}

/// All rows in columns.
pub fn table(rows: &[Row]) -> String {
    let head = ["engine", "version", "runtime", "case", "result", "ms"].map(str::to_owned);
    let lines: Vec<_> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..6).map(|column| width(column).unwrap_or_default()).collect();
    let line = |cells: &[String; 6]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The failures, by name.
pub fn report(rows: &[Row]) -> anyhow::Result<()> {
    let failures: Vec<_> = rows.iter().filter_map(Row::failure).collect();
    ensure!(failures.is_empty(), "{} of {} failed\n{}", failures.len(), rows.len(), failures.join("\n"));
    Ok(())
}
