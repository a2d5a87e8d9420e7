//! Any lines as an OCI runtime's arguments: no crash; a container is made only where a subcommand that makes one stands,
//! and words in front of all others change nothing.
#![no_main]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use cdi_apply::runtime::command_line::CommandLine;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<OsString> = bytes.split(|byte| *byte == b'\n').map(|word| OsStr::from_bytes(word).into()).collect();
    let line = CommandLine::parse(&words);
    assert!(line.config.is_none() || words.iter().any(|word| word == "create" || word == "run"));
    let more: Vec<OsString> = ["--root", "create", "--debug"].map(OsString::from).into_iter().chain(words).collect();
    assert_eq!(CommandLine::parse(&more), line);
});
