//! Probes: what a library sees of the process that loaded it, and what it may do there. I/O.
#![expect(clippy::disallowed_methods, reason = "tries what it may do")]

use std::ffi::{c_int, c_ulong};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;

unsafe extern "C" {
    fn fork() -> c_int;
    fn unshare(flags: c_int) -> c_int;
    fn kill(process: c_int, signal: c_int) -> c_int;
    fn setuid(user: c_int) -> c_int;
    fn chmod(path: *const std::ffi::c_char, mode: c_ulong) -> c_int;
    fn dup(descriptor: c_int) -> c_int;
    fn close(descriptor: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
}

/// `CLONE_NEWUSER`
const NEW_USER_NAMESPACE: c_int = 0x1000_0000;

/// Something that is tried or looked at.
type Probe = (&'static str, fn() -> io::Result<String>);

const PROBES: [Probe; 21] = [
    ("user", || of_status("Uid")),
    ("group", || of_status("Gid")),
    ("groups", || of_status("Groups")),
    ("effective", || of_status("CapEff")),
    ("permitted", || of_status("CapPrm")),
    ("no new privileges", || of_status("NoNewPrivs")),
    ("filter", || of_status("Seccomp")),
    ("variables", || Ok(std::env::vars_os().count().to_string())),
    ("descriptors", descriptors),
    ("limits", limits),
    ("reads", || File::open("/proc/self/maps").map(|_| String::new())),
    ("threads", || std::thread::spawn(|| "2".to_owned()).join().map_err(|_| io::Error::other("died"))),
    ("local sockets", || UnixStream::pair().map(|_| String::new())),
    ("makes files", || File::create("/tmp/nvml-standin").map(|_| String::new())),
    ("empties files", || OpenOptions::new().write(true).truncate(true).open("/proc/self/comm").map(|_| String::new())),
    ("runs programs", || Command::new("/bin/true").status().map(|status| status.to_string())),
    ("forks", forks),
    ("connects", || UdpSocket::bind("127.0.0.1:0").map(|_| String::new()).or_else(|_| tcp())),
    // SAFETY of these: numbers only, and a static text.
    ("namespaces", || done(unsafe { unshare(NEW_USER_NAMESPACE) })),
    ("kills", || done(unsafe { kill(1, 0) })),
    ("changes", || done(unsafe { chmod(c"/proc/self/comm".as_ptr(), 0o644) }).and(done(unsafe { setuid(0) }))),
];

/// How many there are.
pub const COUNT: usize = PROBES.len();

/// The answer to one: `name: what`, or `name: no, why`.
pub fn answer(index: usize) -> String {
    let Some((name, probe)) = PROBES.get(index) else { return String::new() };
    match probe() {
        Ok(found) => format!("{name}: {found}"),
        Err(error) => format!("{name}: no, {}", error.raw_os_error().unwrap_or_default()),
    }
}

/// Makes a file, for all to see that the library was loaded.
pub fn touch(path: &str) {
    // Whoever looks for it sees that it is not there.
    let _ = fs::write(path, "loaded");
}

fn done(returned: c_int) -> io::Result<String> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(String::new()) }
}

fn tcp() -> io::Result<String> {
    TcpStream::connect("127.0.0.1:9").map(|_| String::new())
}

fn forks() -> io::Result<String> {
    // SAFETY: the child does nothing but end.
    match unsafe { fork() } {
        0 => unsafe { _exit(0) },
        child => done(child),
    }
}

fn of_status(key: &str) -> io::Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    Ok(line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Those that can be used; a list in `/proc` is root's where the user was changed.
fn descriptors() -> io::Result<String> {
    let is_open = |descriptor: &c_int| {
        // SAFETY: what was made is closed again.
        let made = unsafe { dup(*descriptor) };
        made >= 0 && unsafe { close(made) } == 0
    };
    Ok((0..64).filter(is_open).map(|descriptor| descriptor.to_string()).collect::<Vec<_>>().join(" "))
}

/// Soft limits of the size of a core, a file, and of open files.
fn limits() -> io::Result<String> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let soft =
        |name: &str| limits.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()).unwrap_or("?");
    let names = ["Max core file size", "Max file size", "Max open files"];
    Ok(names.map(soft).join(" "))
}
