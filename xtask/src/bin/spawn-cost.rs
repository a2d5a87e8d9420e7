//! spawn-cost: runs commands in turn and tells what each whole process costs.
//!
//! `spawn-cost ROUNDS [--before SCRIPT] CMD [ARG…] -- …` prints a line a command: least, median and greatest wall time in
//! microseconds, the greatest peak resident set in KiB, and what the command takes more than the one before it, in the
//! mean of all rounds, with the standard error of that; parted by tabs. What a script does before is not counted. It is
//! a small program of its own because Linux carries the caller's peak over into the child's (`getrusage(2)`).
//!
//! `spawn-cost --once CMD [ARG…]` runs a command with the same standard streams, and says last on stderr what it cost:
//! microseconds, and the peak in KiB. It ends as the command does.
#![expect(clippy::disallowed_methods, reason = "runs what it measures")]

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Rounds that are run first and not counted.
const WARM_UP: usize = 3;

/// What one run cost.
struct Cost {
    micros: u64,
    peak_kib: i64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, command @ ..] = arguments.as_slice()
        && flag == "--once"
    {
        return once(command);
    }
    let (rounds, commands) = match arguments.split_first() {
        Some((rounds, rest)) => (rounds.parse().unwrap_or(0), rest.split(|word| word == "--").collect::<Vec<_>>()),
        None => (0, Vec::new()),
    };
    if rounds == 0 || commands.iter().any(|command| command.is_empty()) {
        eprintln!("usage: spawn-cost ROUNDS [--before SCRIPT] CMD [ARG…] -- …");
        return ExitCode::from(2);
    }
    let mut costs: Vec<Vec<Cost>> = commands.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds + WARM_UP {
        let mut turns: Vec<_> = commands.iter().zip(&mut costs).collect();
        // What a run leaves behind for the next one hits all alike.
        if round % 2 == 1 {
            turns.reverse();
        }
        for (command, costs) in turns {
            match spawn(command) {
                Some(cost) if round >= WARM_UP => costs.push(cost),
                Some(_) => {}
                None => {
                    eprintln!("cannot run, or failed: {}", command.join(" "));
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    let before = std::iter::once(None).chain(costs.iter().map(Some));
    costs.iter().zip(before).for_each(|(costs, before)| print(costs, before.unwrap_or(costs)));
    ExitCode::SUCCESS
}

fn spawn(command: &[String]) -> Option<Cost> {
    let command = match command {
        [flag, script, command @ ..] if flag == "--before" => {
            Command::new("sh").args(["-c", script]).status().ok().filter(std::process::ExitStatus::success)?;
            command
        }
        command => command,
    };
    let (program, arguments) = command.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let child = command.spawn().ok()?;
    let (status, peak_kib) = wait(i32::try_from(child.id()).ok()?)?;
    (status == 0).then(|| Cost { micros: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX), peak_kib })
}

fn once(command: &[String]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else { return ExitCode::from(2) };
    let start = Instant::now();
    let child = Command::new(program).args(arguments).spawn().ok();
    let ended = child.and_then(|child| wait(i32::try_from(child.id()).ok()?));
    let Some((status, peak_kib)) = ended else { return ExitCode::from(2) };
    eprintln!("\n{}\t{peak_kib}", start.elapsed().as_micros());
    // A signal's number has no exit code of its own.
    let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Waits for a child and takes its resource usage, which std does not tell.
#[expect(unsafe_code, reason = "wait4(2) has no safe wrapper among our crates")]
fn wait(pid: i32) -> Option<(i32, i64)> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid for writes; a zeroed rusage is a valid one.
    let (waited, usage) = unsafe { (libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()), usage.assume_init()) };
    (waited == pid).then_some((status, usage.ru_maxrss))
}

fn print(costs: &[Cost], before: &[Cost]) {
    let mut micros: Vec<u64> = costs.iter().map(|cost| cost.micros).collect();
    micros.sort_unstable();
    let at = |at: usize| micros.get(at).copied().unwrap_or_default();
    let peak = costs.iter().map(|cost| cost.peak_kib).max().unwrap_or_default();
    let (added, error) = mean(costs.iter().zip(before).map(|(cost, before)| cost.micros as f64 - before.micros as f64));
    let (median, greatest) = (at(micros.len() / 2), at(micros.len().saturating_sub(1)));
    println!("{}\t{median}\t{greatest}\t{peak}\t{added:.0}\t{error:.0}", at(0));
}

/// The mean and its standard error.
fn mean(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    let deviations = values.map(|value| (value - mean).powi(2)).sum::<f64>();
    (mean, (deviations / (count - 1.0).max(1.0) / count).sqrt())
}
