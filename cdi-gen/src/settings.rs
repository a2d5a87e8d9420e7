//! Settings: `/etc/cdi-gen.env`, for all that keeps the spec of this host true. I/O.
//!
//! Lines `VARIABLE=value` with the variables of `cdi-gen generate --help`, as systemd's `EnvironmentFile` has them. Read
//! here and not by a unit, so that a package manager's trigger writes the same file as the service does. A variable of
//! the environment counts more, and a flag most; `generate` itself heeds none of it.
#![expect(clippy::disallowed_methods, reason = "reads the settings and the environment")]

use std::collections::BTreeMap;

use clap::{Arg, Command};

/// The file.
const PATH: &str = "/etc/cdi-gen.env";
/// The commands that are about the spec of this host.
const COMMANDS: [&str; 4] = ["check", "diff", "refresh", "remove"];

/// Variables, and their values.
type Settings = BTreeMap<&'static str, &'static str>;

/// The settings of this host; `None` where there are none.
pub fn read() -> Option<Settings> {
    // The command line's definition keeps them as long as the process runs.
    std::fs::read_to_string(PATH).ok().map(|text| parse(text.leak())).filter(|settings| !settings.is_empty())
}

/// Variables and their values, out of quotes if they stand in some; remarks begin with `#` or `;` (systemd.exec(5)).
fn parse(text: &'static str) -> Settings {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim_end(), unquoted(value.trim()))).collect()
}

fn unquoted(value: &str) -> &str {
    let inside = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\'')).unwrap_or(value)
}

/// The definition of the command line with these for what neither a flag nor the environment says.
pub fn with(command: Command, settings: &Settings) -> Command {
    let set = |argument: Arg| {
        let name = argument.get_env().and_then(|name| name.to_str()).filter(|name| std::env::var_os(name).is_none());
        match name.and_then(|name| settings.get(name)).filter(|value| !value.is_empty()) {
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

    fn parsed(settings: &'static str, line: &str) -> cli::Command {
        let command = with(cli::Cli::command(), &parse(settings));
        let matches = command.try_get_matches_from(line.split_whitespace()).unwrap();
        cli::Cli::from_arg_matches(&matches).unwrap().command
    }

    #[test]
    fn each_trigger_writes_where_the_service_does() {
        let settings = "# ours\nNVIDIA_CTK_CDI_OUTPUT_FILE_PATH = '/etc/cdi/nvidia.yaml'\n\
                        NVIDIA_CTK_CDI_GENERATE_DEVICE_NAME_STRATEGIES=\"uuid,index\"\n\
                        NVIDIA_CTK_CDI_GENERATE_NO_ALL_DEVICE=true\nCDI_GEN_REQUIRE_SEAL=true\n; no\nA\n";
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
}
