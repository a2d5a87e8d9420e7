//! Command line: what an engine tells an OCI runtime to do, as runc, crun and youki read it. Pure.
//!
//! ```text
//! runc [global option]… create [option]… ID
//! ```
//!
//! The subcommand is the first word that is neither an option nor an option's value: a container named `create` is none.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::bundle::CONFIG;

/// Subcommands that make a container from a bundle. `restore` is none: what a checkpoint says of itself must ask for
/// nothing (CVE-2026-53492).
const MAKING: [&str; 2] = ["create", "run"];
/// Global options of runc, crun, youki, runsc and kata-runtime that take the next word as their value.
const GLOBAL_VALUES: [&str; 15] = [
    "cgroup-manager",
    "config",
    "criu",
    "debug-log",
    "kata-config",
    "l",
    "log",
    "log-format",
    "log-level",
    "network",
    "platform",
    "r",
    "root",
    "rootless",
    "user-log",
];
/// The same of `create` and `run`.
const MAKING_VALUES: [&str; 8] =
    ["b", "bundle", "config", "console-socket", "f", "pid-file", "pidfd-socket", "preserve-fds"];

/// What matters of a command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The `config.json` of the container that it makes.
    pub config: Option<PathBuf>,
    /// The file in which the engine looks for the reason of a failure.
    pub log: Option<PathBuf>,
    /// Whether that file's lines are JSON.
    pub log_is_json: bool,
}

impl CommandLine {
    /// Reads the words behind the program's name.
    pub fn parse(words: &[OsString]) -> Self {
        let mut line = Self::default();
        let mut words = Words { rest: words, may_be_option: true };
        let subcommand = loop {
            match words.next(&GLOBAL_VALUES) {
                Some(Word::Option { name: "log" | "l", value }) => line.log = Some(value.into()),
                Some(Word::Option { name: "log-format", value }) => line.log_is_json = value == "json",
                Some(Word::Option { .. }) => {}
                Some(Word::Plain(word)) => break word,
                None => return line,
            }
        };
        if MAKING.iter().any(|making| subcommand == *making) {
            line.config = Some(config(words.rest));
        }
        line
    }
}

/// Relative paths mean the bundle; crun has an option for another name.
fn config(words: &[OsString]) -> PathBuf {
    let mut words = Words { rest: words, may_be_option: true };
    let (mut bundle, mut config) = (OsStr::new("."), OsStr::new(CONFIG));
    while let Some(word) = words.next(&MAKING_VALUES) {
        match word {
            Word::Option { name: "bundle" | "b", value } => bundle = value,
            Word::Option { name: "config" | "f", value } => config = value,
            Word::Option { .. } | Word::Plain(_) => {}
        }
    }
    PathBuf::from(bundle).join(config)
}

/// A word, with the next one if that is its value.
enum Word<'a> {
    Option { name: &'a str, value: &'a OsStr },
    Plain(&'a OsStr),
}

/// Words that are still to be read.
struct Words<'a> {
    rest: &'a [OsString],
    /// Whether no `--` was met.
    may_be_option: bool,
}

impl<'a> Words<'a> {
    /// The next word; options that `with_value` names take one more, unless they have theirs behind a `=`.
    fn next(&mut self, with_value: &[&str]) -> Option<Word<'a>> {
        let word = self.take()?;
        if !self.may_be_option || word.len() < 2 || !word.as_bytes().starts_with(b"-") {
            return Some(Word::Plain(word));
        }
        if word == "--" {
            self.may_be_option = false;
            return self.next(with_value);
        }
        let (name, value) = split(word);
        let value = match value {
            Some(value) => value,
            None if with_value.contains(&name) => self.take().unwrap_or_default(),
            None => OsStr::new(""),
        };
        Some(Word::Option { name, value })
    }

    fn take(&mut self) -> Option<&'a OsStr> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }
}

/// `--name`, `-name`, `--name=value`. A name that is not UTF-8 is nobody's.
fn split(word: &OsStr) -> (&str, Option<&OsStr>) {
    let bytes = word.as_bytes();
    let bytes = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-")).unwrap_or(bytes);
    let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..)),
        None => (bytes, None),
    };
    (std::str::from_utf8(name).unwrap_or_default(), value.map(OsStr::from_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> CommandLine {
        CommandLine::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_config_of_a_container_that_is_made() {
        let cases = [
            ("create --bundle /b c1", Some("/b/config.json")),
            ("run -d -b /b c1", Some("/b/config.json")),
            ("create c1", Some("./config.json")),
            ("create --bundle=/b --bundle /c c1", Some("/c/config.json")),
            ("create -bundle /b c1", Some("/b/config.json")),
            ("create c1 --bundle /b", Some("/b/config.json")),
            ("create --bundle create create", Some("create/config.json")),
            ("create -b /b -f own.json c1", Some("/b/own.json")),
            ("create -b /b --config /x/own.json c1", Some("/x/own.json")),
            ("create --pid-file --bundle c1", Some("./config.json")),
            ("create --bundle", Some("config.json")),
            ("--root create --log run create -b /b c1", Some("/b/config.json")),
            ("--systemd-cgroup --root=/r --debug run --bundle /b c1", Some("/b/config.json")),
            ("--cgroup-manager cgroupfs create -b /b c1", Some("/b/config.json")),
            ("-- create --bundle /b c1", Some("/b/config.json")),
            ("create -- --bundle /b", Some("./config.json")),
            // None of these makes a container.
            ("", None),
            ("create=x", None),
            ("--root create", None),
            ("--version", None),
            ("delete create", None),
            ("--root /r state run", None),
            ("kill --bundle /b create KILL", None),
            ("exec --process p.json create run", None),
            ("restore --bundle /b c1", None),
            ("--log create", None),
        ];
        for (line, config) in cases {
            assert_eq!(parse(line).config, config.map(PathBuf::from), "{line}");
        }
    }

    #[test]
    fn where_the_engine_looks_for_reasons() {
        let line = parse("--root /r --log /l/log.json --log-format json create -b /b c1");
        assert_eq!((line.log, line.log_is_json), (Some("/l/log.json".into()), true));
        let line = parse("-l /l state --log x");
        assert_eq!((line.log, line.log_is_json), (Some("/l".into()), false));
    }

    #[test]
    fn words_that_are_not_utf8() {
        let words = [b"create".as_slice(), b"--\xff", b"-b", b"/\xff", b"c"];
        let line = CommandLine::parse(&words.map(|word| OsStr::from_bytes(word).to_owned()));
        assert_eq!(line.config.unwrap().as_os_str().as_bytes(), b"/\xff/config.json");
    }
}
