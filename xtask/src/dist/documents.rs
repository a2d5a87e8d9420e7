//! Documents: man pages and completions, from the definitions of the command lines. I/O.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::Shell;

/// What the programs parse, as they have it.
#[expect(dead_code, reason = "its types are what the program reads")]
#[path = "../../../cdi-apply/src/cli.rs"]
mod cdi_apply_cli;
#[path = "../../../cdi-gen/src/cli.rs"]
mod cdi_gen_cli;

/// Where packages put the completions of each shell, below the root.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "usr/share/bash-completion/completions"),
    (Shell::Fish, "usr/share/fish/vendor_completions.d"),
    (Shell::Zsh, "usr/share/zsh/vendor-completions"),
];
const MAN_PAGES: &str = "usr/share/man/man1";
/// cdi-runtime is `cdi-apply runtime` by another name.
const RUNTIME_PAGE: (&str, &str) = ("cdi-runtime.1", ".so man1/cdi-apply-runtime.1\n");

/// Writes all below a root.
pub fn write(root: &Path) -> anyhow::Result<()> {
    let pages = root.join(MAN_PAGES);
    make_dir(&pages)?;
    for command in commands() {
        clap_mangen::generate_to(command, &pages).context("cannot write man pages")?;
    }
    fs::write(pages.join(RUNTIME_PAGE.0), RUNTIME_PAGE.1).context("cannot write a man page")?;
    for (shell, dir) in COMPLETIONS {
        let dir = root.join(dir);
        make_dir(&dir)?;
        for mut command in commands() {
            let name = command.get_name().to_owned();
            clap_complete::generate_to(shell, &mut command, name, &dir).context("cannot write completions")?;
        }
    }
    // bash finds them by the program's name.
    let bash = root.join(COMPLETIONS[0].1);
    for command in commands() {
        let name = command.get_name();
        fs::rename(bash.join(format!("{name}.bash")), bash.join(name)).context("cannot rename completions")?;
    }
    Ok(())
}

fn commands() -> [Command; 2] {
    [cdi_apply_cli::Cli::command(), cdi_gen_cli::Cli::command()]
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}
