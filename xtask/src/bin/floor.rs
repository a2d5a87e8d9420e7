//! floor: the least system calls that the same answer needs, and nothing else.
//!
//! `floor LIST` reads a list of paths and does with each what it says: `list DIR` reads the names in a directory,
//! `link PATH` reads a link, `read PATH` reads a small file, `head PATH` reads the three pieces of an ELF file that
//! hold its SONAME, `stat PATH` looks at a node, `print FILE` writes that text to stdout. It decides nothing and checks
//! nothing: what a generator with perfect foresight would cost.
#![expect(clippy::disallowed_methods, reason = "file access is all that it does")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

fn main() {
    let list = std::env::args().nth(1).and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let mut sum = 0;
    for (word, path) in list.lines().filter_map(|line| line.split_once(' ')) {
        sum += match word {
            "list" => fs::read_dir(path).map_or(0, Iterator::count),
            "link" => fs::read_link(path).map_or(0, |target| target.as_os_str().len()),
            "read" => fs::read(path).map_or(0, |bytes| bytes.len()),
            "head" => head(path),
            "stat" => fs::symlink_metadata(path).map_or(0, |_| 1),
            "print" => fs::read(path).map_or(0, |bytes| std::io::stdout().write(&bytes).unwrap_or_default()),
            _ => 0,
        };
    }
    // The answers must not be optimised away.
    std::process::exit(i32::from(sum == usize::MAX));
}

/// Header with program headers, dynamic section, string.
fn head(path: &str) -> usize {
    let Ok(file) = File::open(path) else { return 0 };
    let mut buffer = [0; 4096];
    [0, 512, 256].iter().map(|offset| file.read_at(&mut buffer, *offset).unwrap_or_default()).sum()
}
