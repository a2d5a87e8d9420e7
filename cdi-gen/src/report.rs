//! Report: what went well and what did not, on stderr; one line a problem. I/O.
#![expect(clippy::disallowed_methods, reason = "NO_COLOR is read from the environment")]

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use cdi_gen::{Problem, Severity};
use cdi_specs::{printable, printable_json};
use clap::{ArgMatches, Command};
use serde::Serialize;

use crate::EXIT_USAGE;

/// How to speak.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    /// Errors only.
    pub quiet: bool,
    /// One JSON document.
    pub json: bool,
}

/// The command line by its definition; otherwise its trouble is told, or the help that it asks for.
///
/// # Errors
/// The exit code.
pub fn arguments(mut command: Command) -> Result<ArgMatches, ExitCode> {
    let words: Vec<OsString> = std::env::args_os().collect();
    command.try_get_matches_from_mut(&words).map_err(|error| {
        // clap repeats an argument as it stands: it is asked once more, with all of them as they can be shown.
        let shown = words.iter().map(|word| printable(&word.to_string_lossy()));
        let error = command.try_get_matches_from_mut(shown).err().unwrap_or(error);
        let text = error.render().to_string();
        let lines: String = text.lines().map(|line| printable(line) + "\n").collect();
        let _ = if error.use_stderr() {
            io::stderr().write_all(lines.as_bytes())
        } else {
            io::stdout().write_all(lines.as_bytes())
        };
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE))
    })
}

/// The outcome of a command.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In one word: `written`, `unchanged`, `printed`, `removed`, `fresh`, `stale`, `missing`, `foreign`, `no-driver`,
    /// `incomplete`, `no-such-device`, `failed`.
    pub outcome: &'static str,
    /// The same for people.
    pub message: String,
    /// All problems, the worst first.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Prints the report. That stderr is closed is no reason to fail.
    pub fn print(mut self, voice: Voice) {
        self.problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        self.problems.dedup();
        let text = if voice.json { self.json() } else { self.lines(voice) };
        let _ = io::stderr().write_all(text.as_bytes());
    }

    fn json(&self) -> String {
        // A struct of texts always serialises.
        serde_json::to_string(self).map(|text| printable_json(&text) + "\n").unwrap_or_default()
    }

    fn lines(&self, voice: Voice) -> String {
        let paint = Paint::when(io::stderr().is_terminal());
        let shown = self.problems.iter().filter(|problem| !voice.quiet || problem.severity == Severity::Error);
        let mut out: String = shown.map(|problem| paint.problem(problem)).collect();
        if !voice.quiet && !self.message.is_empty() {
            out += &format!("{}\n", printable(&self.message));
        }
        out
    }
}

/// Colours, on a terminal whose user wants them (no-color.org).
#[derive(Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// Where a stream is a terminal.
    pub fn when(is_terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self(!refused && !dumb && is_terminal)
    }

    /// What goes before and behind a word of a severity.
    pub fn around(self, severity: Severity) -> (&'static str, &'static str) {
        match (self.0, severity) {
            (false, _) => ("", ""),
            (true, Severity::Error) => ("\x1b[1;31m", "\x1b[0m"),
            (true, Severity::Warning) => ("\x1b[1;33m", "\x1b[0m"),
            (true, Severity::Note) => ("\x1b[36m", "\x1b[0m"),
        }
    }

    fn problem(self, problem: &Problem) -> String {
        let (code, reset) = self.around(problem.severity);
        let (dim, dim_reset) = if self.0 { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        let word = problem.severity.to_string();
        let hint =
            problem.hint.iter().map(|hint| format!("  {dim}→ {}{dim_reset}", printable(hint))).collect::<String>();
        format!("{code}{word:7}{reset}  {}{hint}\n", printable(&problem.message))
    }
}
