//! What the program tells: answers on stdout, trouble on stderr. I/O.
//!
//! Names of files, words of the command line and what specs say are others' words: here, and nowhere else, they become
//! lines that a terminal only shows. Documents stay as they are.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use cdi_apply::{Problem, Unresolvable};
use cdi_specs::{printable, printable_json};
use clap::{CommandFactory, FromArgMatches};
use serde_json::{Value, json};

use crate::EXIT_USAGE;

/// The command line; otherwise its trouble is told, or the help that it asks for.
///
/// # Errors
/// The exit code.
pub fn arguments<T: CommandFactory + FromArgMatches>() -> Result<T, ExitCode> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let mut command = T::command();
    let parsed = command.try_get_matches_from_mut(&words).and_then(|matches| T::from_arg_matches(&matches));
    parsed.map_err(|error| {
        // clap repeats an argument as it stands: it is asked once more, with all of them as they can be shown.
        let shown = words.iter().map(|word| printable(&word.to_string_lossy()));
        let error = command.try_get_matches_from_mut(shown).err().unwrap_or(error);
        let text = error.render().to_string();
        if error.use_stderr() {
            text.lines().for_each(tell);
        } else {
            // A closed stdout is no reason to do anything else.
            let _ = print_lines(text.lines());
        }
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE))
    })
}

/// Prints an answer for people, a line for each text.
pub fn print_lines(lines: impl IntoIterator<Item = impl AsRef<str>>) -> anyhow::Result<()> {
    print(&lines.into_iter().map(|line| printable(line.as_ref()) + "\n").collect::<String>())
}

/// Prints a document as it is.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot write to stdout")
}

/// Prints an answer as a JSON document.
pub fn print_json(answer: &Value) -> anyhow::Result<()> {
    print(&printable_json(&format!("{answer:#}\n")))
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
        let answer = format!("{:#}\n", json!({"error": format!("{error:#}"), "problems": problems}));
        let _ = io::stderr().write_all(printable_json(&answer).as_bytes());
        return;
    }
    tell(&format!("error: {error:#}"));
    problems.iter().for_each(|problem| tell(&format!("  not used: {problem}")));
}

/// A closed stderr is no reason to do anything else.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{}", printable(line));
}
