//! `cdi-gen list`: the devices that spec files on disk define. I/O.

use std::collections::BTreeMap;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use cdi_files::open;
use cdi_files::trust::{self, Trust};
use cdi_gen::Problem;
use cdi_specs::{Format, ParseError, Spec, printable};

use crate::generate::join;
use crate::print;
use crate::report::{Report, Voice};

/// Prints the qualified names of all devices; a later directory shadows an earlier one. Exit code 1 if a file cannot
/// be read or two files of one directory define a device.
pub fn list(dirs: &[Utf8PathBuf], voice: Voice) -> anyhow::Result<u8> {
    let mut problems = Vec::new();
    let mut devices: BTreeMap<String, Utf8PathBuf> = BTreeMap::new();
    for dir in dirs {
        devices.extend(read_dir(dir, &mut problems));
    }
    print(&devices.keys().map(|name| printable(name) + "\n").collect::<String>())?;
    let code = u8::from(!problems.is_empty());
    Report { outcome: "printed", message: String::new(), problems }.print(voice);
    Ok(code)
}

/// Devices of one directory's files; one that two files define is nobody's (CDI SPEC, "conflict").
fn read_dir(dir: &Utf8Path, problems: &mut Vec<Problem>) -> BTreeMap<String, Utf8PathBuf> {
    let mut defined: BTreeMap<String, Vec<Utf8PathBuf>> = BTreeMap::new();
    for path in spec_files(dir, problems) {
        if let Some(who) = untrusted(&path) {
            problems.push(Problem::error("untrusted", format!("{path}: left out, since {who}")));
            continue;
        }
        match read_spec(&path) {
            Ok(spec) => {
                for device in &spec.devices {
                    defined.entry(format!("{}={}", spec.kind, device.name)).or_default().push(path.clone());
                }
            }
            Err(error) => problems.push(Problem::error("bad-spec", format!("{path}: {error:#}"))),
        }
    }
    let (single, several): (Vec<_>, Vec<_>) = defined.into_iter().partition(|(_, files)| files.len() == 1);
    for (name, files) in several {
        let files: Vec<&str> = files.iter().map(|file| file.as_str()).collect();
        problems.push(Problem::error("conflict", format!("{name} is defined by {}", files.join(" and "))));
    }
    single.into_iter().filter_map(|(name, files)| Some((name, files.into_iter().next()?))).collect()
}

fn spec_files(dir: &Utf8Path, problems: &mut Vec<Problem>) -> Vec<Utf8PathBuf> {
    let entries = match dir.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                problems.push(Problem::error("unreadable", format!("cannot list {dir}: {error}")));
            }
            return Vec::new();
        }
    };
    let paths = entries.filter_map(Result::ok).map(camino::Utf8DirEntry::into_path);
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().and_then(Format::from_extension).is_some() && !path.is_dir()).collect();
    paths.sort();
    paths
}

/// The format that a path stands for; YAML where its extension says nothing.
pub fn format_of(path: &Utf8Path) -> Format {
    path.extension().and_then(Format::from_extension).unwrap_or_default()
}

/// Who but root may change what root would read.
fn untrusted(path: &Utf8Path) -> Option<String> {
    (Trust::of_this_process() == Trust::RootOnly).then(|| trust::who_may_change(path.as_std_path())).flatten()
}

/// Why a file is no spec, without a word of it: it may be another file than its name says.
pub fn no_spec(error: &ParseError) -> String {
    let place = match (error.line, error.column) {
        (Some(line), Some(column)) => format!(" (line {line}, column {column})"),
        (Some(line), None) => format!(" (line {line})"),
        (None, _) => String::new(),
    };
    format!("it is no CDI spec{place}; cdi-apply validate says more")
}

fn read_spec(path: &Utf8Path) -> anyhow::Result<Spec> {
    let spec = cdi_specs::parse(&open::read(path.as_std_path(), cdi_specs::MAX_TEXT_BYTES)?, format_of(path))?;
    let violations = cdi_specs::validate(&spec);
    anyhow::ensure!(violations.is_empty(), "{}", join(&violations));
    Ok(spec)
}
