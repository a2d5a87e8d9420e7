//! The project's own tasks: `cargo xtask demo`, `test`, `tidy`, `e2e`, `dist`, `bench`, `fuzz`, `gpu`.

mod bench;
mod browser;
mod build;
mod demo;
mod dist;
mod e2e;
mod fuzz;
mod gpu;
mod loaders;
mod shipped;
mod test;
mod tidy;
mod upgrades;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// The main job, on this host's driver, or on an embedded sample host where there is none
    Demo,
    /// Everything that must hold: format, lints, tests, documentation, tidy, licences, attacks, real engines
    Test,
    /// The rules of the house that no compiler checks
    Tidy,
    /// The page of `cdi-gen doctor` in a browser
    Page,
    /// Real container engines; all that are known if none is named
    E2e {
        /// Engines
        engines: Vec<String>,
        /// Only those that need no box and no build of their own
        #[arg(long, conflicts_with = "engines")]
        quick: bool,
        /// Runs inside the private mount namespace already
        #[arg(long, hide = true)]
        inside: bool,
    },
    /// Build the programs as they are shipped, and packages of them
    Dist {
        /// Do it twice, from two clones, and compare
        #[arg(long)]
        reproduce: bool,
    },
    /// Real package managers, with drivers that come and go; as root
    Upgrades {
        /// Only courses whose names start so
        #[arg(default_value = "")]
        name: String,
    },
    /// Write man pages and completions below a directory
    Documents {
        /// It stands for the root
        dir: PathBuf,
    },
    /// Measure whole processes
    Bench {
        /// What
        #[arg(value_enum)]
        what: Bench,
        /// Attack these static programs, and not those of this tree
        #[arg(long, value_name = "DIR")]
        programs: Option<PathBuf>,
    },
    /// Fuzz the readers of what others write; all targets if none is named
    Fuzz {
        /// Targets
        targets: Vec<String>,
        /// How long each
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        seconds: u32,
    },
    /// On a GPU host: generate, then run CUDA in containers of the given podman
    Gpu {
        /// Directory with the release programs
        #[arg(long, value_name = "DIR")]
        programs: PathBuf,
        /// A podman command that finds its own runtimes, conmon and configuration
        #[arg(long, default_value = "podman", value_name = "FILE")]
        podman: PathBuf,
        /// OCI runtimes to use
        #[arg(long = "runtime", value_name = "FILE")]
        runtimes: Vec<PathBuf>,
        /// A root file system with busybox in it
        #[arg(long, value_name = "DIR")]
        rootfs: PathBuf,
        /// Where the specs and the capture go
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Bench {
    /// `cdi-gen generate`, against the least system calls that the same answer needs
    Generate,
    /// `cdi-apply inject`, against /bin/true; as root
    Inject,
    /// `cdi-gen --version`, against /bin/true; and a container with the hook, against one without; as root
    Start,
    /// cdi-runtime, against the runtime that it becomes; as root
    Runtime,
    /// The hook and cdi-runtime with images that would have them take for ever; as root
    Attacks,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Demo => demo::run(),
        Task::Test => test::run(),
        Task::Tidy => tidy::run(),
        Task::Page => browser::run(),
        Task::Dist { reproduce: true } => dist::reproduce(),
        Task::Dist { .. } => dist::run(),
        Task::Upgrades { name } => upgrades::run(&name),
        Task::Documents { dir } => dist::documents::write(&dir),
        Task::E2e { engines, inside: true, .. } => e2e::run_inside(&engines),
        Task::E2e { quick: true, .. } => e2e::run_quick(),
        Task::E2e { engines, .. } => e2e::run(&engines),
        Task::Bench { what: Bench::Generate, .. } => bench::generate(),
        Task::Bench { what: Bench::Inject, .. } => bench::inject(),
        Task::Bench { what: Bench::Start, .. } => bench::start(),
        Task::Bench { what: Bench::Runtime, .. } => bench::runtime(),
        Task::Bench { what: Bench::Attacks, programs } => bench::attacks(programs),
        Task::Fuzz { targets, seconds } => fuzz::run(&targets, seconds),
        Task::Gpu { programs, podman, runtimes, rootfs, output } => {
            gpu::run(&gpu::Host { programs, podman, runtimes, rootfs, output })
        }
    }
}
