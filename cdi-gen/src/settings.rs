//! Settings: `/etc/cdi-gen.env`, for all that keeps the spec of this host true. I/O.
//!
//! Lines `VARIABLE=value` with the variables of `cdi-gen generate --help`, as systemd's `EnvironmentFile` has them. Read
//! here and not by a unit, so that a package manager's trigger writes the same file as the service does. A variable of
//! the environment counts more, and a flag most; `generate` itself heeds none of it.
//!
//! A setting may keep GPUs from containers, so a file that is not understood whole is refused, and nothing is written:
//! where systemd passes a line over, or takes quotes, escapes and a line's end in ways of its own, the line is an error.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use anyhow::{Context, anyhow};
use cdi_files::open;
use cdi_files::trust::{Trust, who_may_change};
use cdi_specs::printable;
use clap::{Arg, Command};

use crate::Usage;

/// The file.
const PATH: &str = "/etc/cdi-gen.env";
/// Longer than all settings together.
const MAX_BYTES: usize = 64 << 10;
/// The commands that are about the spec of this host.
const COMMANDS: [&str; 4] = ["check", "diff", "refresh", "remove"];

/// Variables, and their values.
type Settings = BTreeMap<&'static str, &'static str>;

/// The definition of the command line with the settings of this host for what neither a flag nor the environment says;
/// and why they cannot be used, which keeps the commands that heed them from their work.
pub fn apply(command: Command) -> (Command, Option<anyhow::Error>) {
    match read(Path::new(PATH), &command) {
        Ok(Some(settings)) => (with(command, &settings), None),
        Ok(None) => (command, None),
        Err(error) => (command, Some(error)),
    }
}

/// Whether a command is one that heeds them.
pub fn are_heeded_by(command: Option<&str>) -> bool {
    command.is_some_and(|command| COMMANDS.contains(&command))
}

/// The settings; `None` where there are none.
fn read(path: &Path, command: &Command) -> anyhow::Result<Option<Settings>> {
    let bytes = match open::read(path, MAX_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.with_context(|| format!("cannot read the settings {}", path.display()))?,
    };
    if Trust::of_this_process() == Trust::RootOnly
        && let Some(why) = who_may_change(path)
    {
        return Err(anyhow!("cannot rely on the settings {}: {why} (chown root, chmod go-w)", path.display()));
    }
    // The command line's definition keeps them as long as the process runs.
    let settings = parse(bytes.leak(), &|name| is_known(command, name));
    let settings = settings.map_err(|(line, why)| Usage(format!("{}:{line}: {why}", path.display())))?;
    Ok(Some(settings))
}

/// Whether one of the commands has a flag of that variable.
fn is_known(command: &Command, name: &str) -> bool {
    let mut heeding = command.get_subcommands().filter(|command| are_heeded_by(Some(command.get_name())));
    heeding.any(|command| command.get_arguments().any(|argument| argument.get_env() == Some(OsStr::new(name))))
}

/// A line's number, from 1, and what is wrong with it.
type Slip = (usize, String);

/// Variables and their values, out of quotes if they stand in some; remarks begin with `#` or `;` (systemd.exec(5)).
fn parse(bytes: &'static [u8], is_known: &dyn Fn(&str) -> bool) -> Result<Settings, Slip> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err((1, "begins with a byte order mark, which systemd does not read: save it without".to_owned()));
    }
    let mut settings = Settings::new();
    for (line, number) in bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).zip(1..) {
        let slip = |why: String| (number, why);
        if line.ends_with(b"\\") {
            return Err(slip("ends in a backslash: lines are not continued here".to_owned()));
        }
        // A remark may be in any encoding.
        if line.is_empty() || line.starts_with(b"#") || line.starts_with(b";") {
            continue;
        }
        let (name, value) = assignment(line, is_known).map_err(slip)?;
        if settings.insert(name, value).is_some() {
            return Err(slip(format!("{name} is set twice")));
        }
    }
    Ok(settings)
}

fn assignment(line: &'static [u8], is_known: &dyn Fn(&str) -> bool) -> Result<(&'static str, &'static str), String> {
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let (name, value) = line.split_once('=').ok_or("not of the form VARIABLE=value, nor a remark (#)")?;
    let name = name.trim_end();
    if name.starts_with("export ") {
        return Err("`export` is a shell's: write VARIABLE=value".to_owned());
    }
    if !is_known(name) {
        let name = printable(name);
        return Err(format!("no variable is called `{name}` (cdi-gen refresh --help has the names)"));
    }
    let value = unquoted(value.trim_start()).map_err(|why| format!("{name}: {why}"))?;
    Ok((name, value))
}

/// A value in no quotes, or in a pair of them.
fn unquoted(value: &str) -> Result<&str, &'static str> {
    let quote = value.chars().next().filter(|first| matches!(first, '"' | '\''));
    let inner = match quote {
        Some(quote) => value.get(1..).and_then(|rest| rest.strip_suffix(quote)).ok_or("a quote is left open")?,
        None => value,
    };
    match inner {
        "" => Err("has no value: give it one, or take the line away"),
        _ if inner.contains(['"', '\'', '\\']) => Err("quotes and backslashes within a value are not read"),
        _ if inner.contains(char::is_control) => Err("there are control characters in the value"),
        _ if quote.is_none() && has_remark(inner) => Err("a remark needs a line of its own"),
        _ => Ok(inner),
    }
}

/// Whether a word of a value begins with `#`.
fn has_remark(value: &str) -> bool {
    value.split_whitespace().any(|word| word.starts_with('#'))
}

/// The definition of the command line with these for what neither a flag nor the environment says. An empty variable
/// says nothing.
fn with(command: Command, settings: &Settings) -> Command {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let set = |argument: Arg| {
        let name = argument.get_env().and_then(OsStr::to_str).filter(|name| !is_set(name));
        match name.and_then(|name| settings.get(name)) {
            Some(value) => argument.default_value(*value),
            None => argument,
        }
    };
    COMMANDS.iter().fold(command, |command, name| command.mut_subcommand(name, |sub| sub.mut_args(set)))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::cli;

    fn settings(text: &'static [u8]) -> Result<Settings, Slip> {
        parse(text, &|name| is_known(&cli::Cli::command(), name))
    }

    fn parsed(text: &'static [u8], line: &str) -> cli::Command {
        let command = with(cli::Cli::command(), &settings(text).unwrap());
        let matches = command.try_get_matches_from(line.split_whitespace()).unwrap();
        cli::Cli::from_arg_matches(&matches).unwrap().command
    }

    #[test]
    fn each_trigger_writes_where_the_service_does() {
        let settings = b"# ours\nNVIDIA_CTK_CDI_OUTPUT_FILE_PATH = '/etc/cdi/nvidia.yaml'\r\n\
                         \tNVIDIA_CTK_CDI_GENERATE_DEVICE_NAME_STRATEGIES=\"uuid,index\" \n\
                         NVIDIA_CTK_CDI_GENERATE_NO_ALL_DEVICE=true\nCDI_GEN_REQUIRE_SEAL=true\n; no\n# caf\xe9 it's\n\n";
        let cli::Command::Refresh(refresh) = parsed(settings, "cdi-gen refresh") else { panic!("not taken") };
        assert_eq!(refresh.output.as_deref(), Some("/etc/cdi/nvidia.yaml".into()));
        assert_eq!(refresh.selection.device_name_strategy.len(), 2);
        assert!(refresh.selection.no_all_device && refresh.require_seal);
        let cli::Command::Remove(remove) = parsed(settings, "cdi-gen remove") else { panic!("not taken") };
        assert_eq!(remove.output, "/etc/cdi/nvidia.yaml");
        let cli::Command::Check(check) = parsed(settings, "cdi-gen check --output /x") else { panic!("not taken") };
        assert_eq!(check.output, "/x");
        let cli::Command::Generate(generate) = parsed(settings, "cdi-gen generate") else { panic!("not taken") };
        assert_eq!(generate.output, None);
    }

    #[test]
    fn what_is_not_understood_whole_is_refused_with_its_line() {
        let ids = "NVIDIA_CTK_CDI_GENERATE_DEVICE_IDS";
        let cases: [(&[u8], usize, &str); 19] = [
            (b"\xef\xbb\xbf%=0\n", 1, "byte order mark"),
            (b"# x\nexport %=0", 2, "`export` is a shell's"),
            (b"\n\n%", 3, "not of the form"),
            (b"%: 0", 1, "not of the form"),
            (b"%S=0", 1, "no variable is called `NVIDIA_CTK_CDI_GENERATE_DEVICE_IDSS`"),
            (b"A\x1b[2J=0", 1, "no variable is called `A\\u{1b}[2J`"),
            (b"LD_LIBRARY_PATH=/x", 1, "no variable"),
            (b"=0", 1, "no variable is called ``"),
            (b"%=\xe9", 1, "not UTF-8"),
            (b"%=0 # one\n", 1, "a line of its own"),
            (b"%=\n", 1, "has no value"),
            (b"%=''", 1, "has no value"),
            (b"%='0", 1, "left open"),
            (b"%=\"0'", 1, "left open"),
            (b"%='0''1'", 1, "quotes and backslashes"),
            (b"%=0\\ 1", 1, "quotes and backslashes"),
            (b"# a remark \\\n%=0", 1, "not continued"),
            (b"%=0\n%=1", 2, "set twice"),
            (b"%=0\x001", 1, "control characters"),
        ];
        for (text, line, why) in cases {
            let text: Vec<u8> = text
                .iter()
                .flat_map(|b| if *b == b'%' { ids.as_bytes() } else { std::slice::from_ref(b) })
                .copied()
                .collect();
            let (found, words) = settings(text.leak()).unwrap_err();
            assert!(found == line && words.contains(why), "{found}: {words} (not {line}: {why})");
        }
        assert_eq!(settings(b"").unwrap(), Settings::new());
        assert_eq!(settings(b"# only\n;remarks\xff\r\n").unwrap(), Settings::new());
    }
}
