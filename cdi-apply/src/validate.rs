//! `validate`: the rules of the standard, and doubts about what keeps them. I/O.
#![expect(clippy::disallowed_methods, reason = "looks for the paths that specs name")]

use std::path::Path;

use cdi_apply::device_numbers;
use cdi_apply::lint::{Host, Lint, lint};
use cdi_files::trust;
use cdi_specs::{ParseError, Violation};
use serde::Serialize;
use serde_json::json;

use crate::cli::Validate;
use crate::{EXIT_INVALID, read_spec, report};

/// What is to say about a file.
#[derive(Serialize)]
struct Verdict {
    file: String,
    /// Whether it breaks no rule.
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    violations: Vec<Violation>,
    lints: Vec<Lint>,
}

/// Runs the command.
pub fn run(arguments: &Validate, json: bool) -> anyhow::Result<u8> {
    let exists = |path: &Path| path.exists();
    let host = Host {
        exists: &exists,
        real: &|path| path.canonicalize().ok(),
        who_may_change: &trust::who_may_change,
        nodes: &|edits| device_numbers::read(&[edits]),
    };
    let host = (!arguments.no_host).then_some(&host);
    let mut verdicts = Vec::new();
    for path in &arguments.files {
        let text = read_spec(path, 0)?;
        let spec = cdi_specs::parse(&text.bytes, text.format);
        verdicts.push(match spec {
            Ok(spec) => judge(path, cdi_specs::validate(&spec), lint(&spec, host)),
            Err(error) => unparsable(path, &error),
        });
    }
    if json {
        report::print_json(&json!({"files": verdicts}))?;
    } else {
        report::print_lines(verdicts.iter().flat_map(Verdict::describe))?;
    }
    Ok(if verdicts.iter().all(|verdict| verdict.valid) { 0 } else { EXIT_INVALID })
}

fn judge(path: &Path, violations: Vec<Violation>, lints: Vec<Lint>) -> Verdict {
    let valid = violations.is_empty();
    Verdict { file: path.display().to_string(), valid, error: None, violations, lints }
}

fn unparsable(path: &Path, error: &ParseError) -> Verdict {
    Verdict { valid: false, error: Some(error.to_string()), ..judge(path, Vec::new(), Vec::new()) }
}

impl Verdict {
    fn describe(&self) -> Vec<String> {
        let file = &self.file;
        let errors = self.error.iter().map(|error| format!("{file}: error: {error}"));
        let violations = self.violations.iter().map(|violation| format!("{file}: error: {violation}"));
        let lints = self.lints.iter().map(|lint| format!("{file}: warning: {lint}"));
        let verdict = format!("{file}: {}", if self.valid { "valid" } else { "not valid" });
        errors.chain(violations).chain(lints).chain([verdict]).collect()
    }
}
