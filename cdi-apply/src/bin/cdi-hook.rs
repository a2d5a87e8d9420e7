//! cdi-hook, the program: runs as root in each container that is created, and must be quick and trust nothing. I/O.
//!
//! ```text
//! cdi-hook create-container --symlink TARGET LINK --library-dir DIR …    < state
//! ```
//!
//! It loads nothing, runs nothing, and reads no variable. It also takes the arguments of `nvidia-cdi-hook`.
#![expect(clippy::disallowed_methods, reason = "the process's own arguments, directory and mounts")]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use cdi_apply::hook::root::{Root, path_of};
use cdi_apply::hook::seal::{self, landlock};
use cdi_apply::hook::{self, gpu_list, peer, runc, state};
use cdi_files::limited;
use cdi_specs::{HookOperation, ParsedArgs};
use rustix::fs::Mode;

/// musl's allocator would ask the kernel for each few pages.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Hosts with thousands of containers have some MiB.
const MAX_MOUNTINFO: usize = 64 << 20;
/// What docker up to 29.1 calls a hook named nvidia-container-runtime-hook with. It looks for one before it takes
/// `--gpus`; a link of that name to this program serves, since cdi-runtime takes the hook out of the container again.
const DOCKERS: &str = "prestart";
/// The arguments make no sense, or there is no container to work on.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("{error:#}"));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn run() -> anyhow::Result<()> {
    let text = |arg: OsString| arg.into_string().unwrap_or_else(|arg| arg.to_string_lossy().into_owned());
    // What lives until the end is not given back one by one.
    let args: &[String] = std::env::args_os().map(text).collect::<Vec<_>>().leak();
    if args.get(1).is_some_and(|arg| arg == "--version") {
        println!("cdi-hook {}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    let mut gaps = seal::close_inherited();
    gaps.extend(seal::seal());
    gaps.iter().for_each(tell);
    let Some(parsed) = parse(args)? else { return Ok(()) };
    anyhow::ensure!(
        gaps.is_empty() || !parsed.require_seal,
        "nothing is done without the seal: take a kernel that has it, or a spec made without --require-seal"
    );
    parsed.unknown.iter().for_each(|word| tell(format_args!("unknown argument {word}: passed over")));
    let root = match runc::root(&parsed.operations) {
        Some(root) => root,
        None => {
            let path = state::root(io::stdin().lock())?;
            let root = Root::of_container(&path);
            root.with_context(|| format!("cannot open the container's root {}", path.display()))?
        }
    };
    // Before anything of the container is changed.
    std::env::set_current_dir("/").context("cannot go to /")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Whoever is confined cannot mount.
    let (mounting, others): (Vec<HookOperation>, Vec<_>) =
        parsed.operations.into_iter().partition(landlock::is_done_by_mounts);
    let (mounting, others): (&[HookOperation], &[HookOperation]) = (mounting.leak(), others.leak());
    let mut troubles = hook::run(&root, mounting, Vec::new);
    landlock::confine(root.dir(), others);
    troubles.extend(hook::run(&root, others, || mount_points(&root).unwrap_or_default()));
    for trouble in troubles {
        // Whoever hides GPUs does not want the container to start with all of them in sight.
        anyhow::ensure!(trouble.path != gpu_list::LIST, "{}: {}", trouble.path, trouble.error);
        tell(format_args!("{}: {}; the container starts without", trouble.path, trouble.error));
    }
    Ok(())
}

/// The mount points of the container, as paths in it.
fn mount_points(root: &Root) -> io::Result<Vec<String>> {
    let text = limited::read(File::open("/proc/self/mountinfo")?, MAX_MOUNTINFO)?;
    let real = std::fs::read_link(path_of(&root.dir()))?;
    Ok(hook::mount_points(&String::from_utf8_lossy(&text), &real.to_string_lossy()))
}

/// What is to be done; `None` if that is a command of a newer hook.
fn parse(args: &[String]) -> anyhow::Result<Option<ParsedArgs>> {
    if let Some(parsed) = peer::from_args(args) {
        return Ok(Some(parsed));
    }
    match cdi_specs::from_args(args) {
        Ok(parsed) => Ok(Some(parsed)),
        Err(cdi_specs::HookArgsError::Command(command)) if command == DOCKERS => Err(anyhow::anyhow!(
            "docker run --gpus takes cdi-runtime, which was to replace this hook: make it the default runtime, or add \
             --runtime"
        )),
        Err(cdi_specs::HookArgsError::Command(command)) if !command.is_empty() => {
            tell(format_args!("unknown command {command}: nothing done"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// A closed stderr is no reason to do anything else.
fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "cdi-hook: {line}");
}
