//! What the program tells: answers on stdout, trouble on stderr. I/O.

use std::io::{self, Write};

use anyhow::Context;
use cdi_apply::{Problem, Unresolvable};
use serde_json::{Value, json};

/// Prints an answer.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot write to stdout")
}

/// Prints an answer as a JSON document.
pub fn print_json(answer: &Value) -> anyhow::Result<()> {
    print(&format!("{answer:#}\n"))
}

/// Tells what is wrong with files that were not needed; a JSON answer has it already.
pub fn warn(problems: &[Problem], json: bool) {
    if !json {
        problems.iter().for_each(|problem| tell(&format!("warning: {problem}")));
    }
}

/// Tells why nothing was done.
pub fn failure(error: &anyhow::Error, json: bool) {
    let problems = error.chain().find_map(|cause| cause.downcast_ref::<Unresolvable>());
    let problems = problems.map(|error| error.problems.as_slice()).unwrap_or_default();
    if json {
        tell(&format!("{:#}", json!({"error": format!("{error:#}"), "problems": problems})));
        return;
    }
    tell(&format!("error: {error:#}"));
    problems.iter().for_each(|problem| tell(&format!("  not used: {problem}")));
}

/// A closed stderr is no reason to do anything else.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
