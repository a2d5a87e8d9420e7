//! Bombs: images that are small to make and that cost whoever reads them time or memory. I/O.
//!
//! Each takes a scale: how many of its files there are is divided by that, so that a test can count what is done with
//! fewer of them, and a bench can measure all.
#![expect(clippy::disallowed_methods, reason = "lays attacks out on disk")]

use std::fs;
use std::io;
use std::path::Path;

use super::{ALL, DRIVER_DIR, LIBRARY_DIR, clear, usual_in};
use crate::container::{Container, Ended, Openat2, Program};
use crate::elf::{Class, Machine, note_sections, shared_object};
use crate::ld_so_cache::{self, CacheEntry, Endian, Format};

/// One bomb.
pub struct Bomb {
    /// What it is.
    pub name: &'static str,
    /// Lays it out in a container with a usual image.
    pub lay_out: fn(&mut Container, usize) -> io::Result<()>,
}

/// Those for the hook.
pub const BOMBS: &[Bomb] = &[
    Bomb { name: "many lines that include a directory of many files", lay_out: many_includes },
    Bomb { name: "the same, and each file is included", lay_out: many_included },
    Bomb { name: "files that include each other", lay_out: mutual_includes },
    Bomb { name: "patterns that try all ways", lay_out: patterns },
    Bomb { name: "includes through chains of links", lay_out: link_chains },
    Bomb { name: "includes of deep paths", lay_out: deep_paths },
    Bomb { name: "many names of one crafted library", lay_out: crafted_libraries },
    Bomb { name: "many names of one driver library", lay_out: driver_libraries },
    Bomb { name: "many links to one crafted library", lay_out: linked_libraries },
    Bomb { name: "a directory of many files that are none", lay_out: many_names },
    Bomb { name: "many compat libraries", lay_out: many_compat },
    Bomb { name: "notes that overlap", lay_out: overlapping_notes },
    Bomb { name: "a cache whose entries share one long string", lay_out: shared_strings },
    Bomb { name: "a cache of as many entries as it can hold", lay_out: many_entries },
    Bomb { name: "a long cache in the wrong order", lay_out: unsorted_cache },
    Bomb { name: "a long cache of both tables", lay_out: both_tables },
    Bomb { name: "a cache that has holes", lay_out: sparse_cache },
    Bomb { name: "a configuration and lists that have holes", lay_out: sparse_texts },
    Bomb { name: "a configuration of many directories", lay_out: many_dirs },
];

impl Bomb {
    /// Lays it out below a directory, at best in memory.
    ///
    /// # Errors
    /// It cannot be laid out.
    pub fn container(&self, dir: &Path, scale: usize) -> io::Result<Container> {
        let mut container = usual_in(dir)?;
        (self.lay_out)(&mut container, scale)?;
        Ok(container)
    }

    /// Runs a hook in it.
    ///
    /// # Errors
    /// The mounts are refused, or it cannot be run.
    pub fn run(container: &Container, hook: &Path, openat2: Openat2) -> io::Result<Ended> {
        container.enter(|inside| inside.run(&Program { openat2, ..Program::new(hook, &ALL) }))?
    }
}

/// Empty files, as links to one: no more than a file system lets one have.
fn many_files(container: &Container, dir: &str, count: usize, name: impl Fn(usize) -> String) -> io::Result<()> {
    links_to(container, &format!("{dir}/.first"), b"", count, |index| format!("{dir}/{}", name(index)))
}

/// A file by many names.
fn links_to(
    container: &Container,
    first: &str,
    bytes: &[u8],
    count: usize,
    name: impl Fn(usize) -> String,
) -> io::Result<()> {
    container.write(first, bytes, 0o644)?;
    let mut first = container.path(first);
    for index in 0..count {
        let to = container.path(&name(index));
        if fs::hard_link(&first, &to).is_err() {
            // So many as the file system lets a file have.
            fs::write(&to, bytes)?;
            first = to;
        }
    }
    Ok(())
}

fn configuration(container: &Container, line: impl Fn(usize) -> String, lines: usize) -> io::Result<()> {
    let text: String = (0..lines).map(|index| line(index) + "\n").collect();
    container.write("rootfs/etc/ld.so.conf", text, 0o644)
}

fn many_includes(container: &mut Container, scale: usize) -> io::Result<()> {
    many_files(container, "rootfs/d", 100_000 / scale, |index| format!("f{index}"))?;
    configuration(container, |_| "include /d/*x".to_owned(), 4000)
}

fn many_included(container: &mut Container, scale: usize) -> io::Result<()> {
    many_files(container, "rootfs/d", 100_000 / scale, |index| format!("f{index}.conf"))?;
    configuration(container, |index| format!("include /d/*{index}.conf"), 3500)
}

fn mutual_includes(container: &mut Container, scale: usize) -> io::Result<()> {
    let text = "include /etc/ld.so.conf.d/*.conf\n".repeat(64 * 1024 / 33);
    for index in 0..1000 / scale {
        container.write(&format!("rootfs/etc/ld.so.conf.d/{index}.conf"), &text, 0o644)?;
    }
    Ok(())
}

fn patterns(container: &mut Container, scale: usize) -> io::Result<()> {
    many_files(container, "rootfs/d", 10_000 / scale, |index| format!("{}{index}", "a".repeat(240)))?;
    let pattern = "*a".repeat(40);
    configuration(container, |index| format!("include /d/{pattern}*{index}b"), 600)
}

/// As many links as the kernel follows, and each leads up and down a long way.
fn link_chains(container: &mut Container, scale: usize) -> io::Result<()> {
    container.dir("rootfs/a", 0o755)?;
    let way = "/a/..".repeat(780);
    for index in 0..39 {
        container.link(format!("{way}/l{}", index + 1), &format!("rootfs/l{index}"))?;
    }
    container.link("/a", "rootfs/l39")?;
    configuration(container, |index| format!("include /l0/{index}*"), 4000 / scale)
}

fn deep_paths(container: &mut Container, scale: usize) -> io::Result<()> {
    container.dir("rootfs/a/b", 0o755)?;
    let way = "/a/b/../..".repeat(400);
    configuration(container, |index| format!("include {way}/a/{index}*"), (16 / scale).max(1))?;
    for index in 0..1000 / scale {
        let text = format!("include {way}/a/{index}*\n").repeat(16);
        container.write(&format!("rootfs/etc/ld.so.conf.d/{index}.conf"), text, 0o644)?;
    }
    Ok(())
}

/// As long a SONAME as is read.
fn crafted() -> Vec<u8> {
    shared_object(Class::Elf64, Machine::X86_64, Some(&"n".repeat(4000)), None)
}

/// Debian's directory is none that the loader knows, so all that is in it is looked at.
fn in_unknown_dir(container: &Container) -> io::Result<()> {
    clear(container, "/etc/debian_version")
}

fn crafted_libraries(container: &mut Container, scale: usize) -> io::Result<()> {
    in_unknown_dir(container)?;
    let dir = format!("rootfs{LIBRARY_DIR}");
    let name = |index| format!("{dir}/lib{index}.so");
    links_to(container, &format!("{dir}/first"), &crafted(), 60_000 / scale, name)
}

fn driver_libraries(container: &mut Container, scale: usize) -> io::Result<()> {
    in_unknown_dir(container)?;
    let dir = format!("rootfs{LIBRARY_DIR}");
    let soname = "libnvidia-".to_owned() + &"n".repeat(4000);
    let bytes = shared_object(Class::Elf64, Machine::X86_64, Some(&soname), None);
    let name = |index| format!("{dir}/libnvidia-{}{index}.so.580.159.04", "n".repeat(200));
    links_to(container, &format!("{dir}/first"), &bytes, 60_000 / scale, name)
}

fn linked_libraries(container: &mut Container, scale: usize) -> io::Result<()> {
    in_unknown_dir(container)?;
    container.write("rootfs/x/crafted", crafted(), 0o644)?;
    let way = format!("{}/x/crafted", "/x/..".repeat(700));
    (0..30_000 / scale).try_for_each(|index| container.link(&way, &format!("rootfs{LIBRARY_DIR}/lib{index}.so")))
}

fn many_names(container: &mut Container, scale: usize) -> io::Result<()> {
    in_unknown_dir(container)?;
    many_files(container, &format!("rootfs{LIBRARY_DIR}"), 200_000 / scale, |index| format!("lib{index}.so"))
}

fn many_compat(container: &mut Container, scale: usize) -> io::Result<()> {
    many_files(container, "rootfs/usr/local/cuda/compat", 200_000 / scale, |index| format!("libcuda.so.999.{index}"))
}

fn overlapping_notes(container: &mut Container, scale: usize) -> io::Result<()> {
    let sections = u16::try_from(1000 / scale).unwrap_or(u16::MAX);
    let bytes = note_sections(sections, 64 << 10, "NVIDIA Corporation");
    container.write("rootfs/usr/local/cuda/compat/libcuda.so.999.1", bytes, 0o644)
}

/// Name and path begin in one string without an end in sight.
fn shared_strings(container: &mut Container, scale: usize) -> io::Result<()> {
    let count = 300_000 / scale;
    let mut bytes = entries((0..count).map(|_| "x".to_owned()));
    let string = bytes.len();
    bytes.extend([b'x'; 4090]);
    bytes.extend(b"x\0");
    for entry in bytes.get_mut(48..48 + count * 24).unwrap_or_default().chunks_exact_mut(24) {
        let at = u32::try_from(string).unwrap_or_default().to_le_bytes();
        entry.iter_mut().skip(4).zip(at.into_iter().chain(at)).for_each(|(to, from)| *to = from);
    }
    container.write("rootfs/etc/ld.so.cache", bytes, 0o644)
}

fn entries(names: impl Iterator<Item = String>) -> Vec<u8> {
    ld_so_cache::write(&of_names(names), Format::New, Endian::Little)
}

fn of_names(names: impl Iterator<Item = String>) -> Vec<CacheEntry> {
    names.map(|name| CacheEntry { path: format!("/{name}"), name, flags: ld_so_cache::X86_64 }).collect()
}

fn many_entries(container: &mut Container, scale: usize) -> io::Result<()> {
    container.write(
        "rootfs/etc/ld.so.cache",
        entries((0..200_000 / scale).rev().map(|index| format!("{index:06}"))),
        0o644,
    )
}

fn unsorted_cache(container: &mut Container, scale: usize) -> io::Result<()> {
    let names = (0..150_000 / scale).map(|index| format!("lib{}.so", (index * 7919) % 150_001));
    container.write("rootfs/etc/ld.so.cache", entries(names), 0o644)
}

fn both_tables(container: &mut Container, scale: usize) -> io::Result<()> {
    let names = (0..100_000 / scale).rev().map(|index| format!("lib{index}.so"));
    let bytes = ld_so_cache::write(&of_names(names), Format::Both, Endian::Little);
    container.write("rootfs/etc/ld.so.cache", bytes, 0o644)
}

fn sparse(container: &Container, path: &str, head: &[u8]) -> io::Result<()> {
    container.write(path, head, 0o644)?;
    fs::OpenOptions::new().write(true).open(container.path(path))?.set_len(3 << 30)
}

fn sparse_cache(container: &mut Container, _scale: usize) -> io::Result<()> {
    sparse(container, "rootfs/etc/ld.so.cache", &entries(["libc.so.6".to_owned()].into_iter()))
}

fn sparse_texts(container: &mut Container, _scale: usize) -> io::Result<()> {
    let files = [
        "etc/ld.so.conf",
        "etc/ld.so.conf.d/a.conf",
        "etc/ld.so.conf.d/00-cdi-hook.conf",
        "etc/ld-musl-x86_64.path",
        "etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf",
        "usr/local/cuda/compat/libcuda.so.999.1",
    ];
    files
        .into_iter()
        .try_for_each(|file| sparse(container, &format!("rootfs/{file}"), b"include /etc/ld.so.conf.d/*.conf\n"))
}

/// Names that are told apart late.
fn many_dirs(container: &mut Container, scale: usize) -> io::Result<()> {
    for file in 0..1000 / scale {
        let text: String = (0..300).map(|index| format!("{DRIVER_DIR}/{}{file}{index}\n", "d".repeat(200))).collect();
        container.write(&format!("rootfs/etc/ld.so.conf.d/{file}.conf"), text, 0o644)?;
    }
    Ok(())
}
