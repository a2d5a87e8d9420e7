//! The rules of the house that no compiler checks. I/O.
#![expect(clippy::disallowed_methods, reason = "reads the sources")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::build;

/// A library whose imports run one way.
struct Library {
    source: &'static str,
    /// A module uses only those before it. A folder stands for its files.
    order: &'static [&'static str],
    /// Pure modules: they must not be files that touch the host.
    pure: &'static [&'static str],
}

const LIBRARIES: [Library; 3] = [
    Library {
        source: "specs/files/src",
        order: &[
            "limited",
            "path_names",
            "accounts",
            "acl",
            "umask",
            "open",
            "trust",
            "dir",
            "lock",
            "atomic",
            "node",
            "attributes",
            "replace",
            "kept",
        ],
        pure: &["path_names", "accounts", "acl"],
    },
    Library {
        source: "cdi-gen/src",
        order: &[
            "version",
            "descriptors",
            "seccomp",
            "capability",
            "problem",
            "tree",
            "host",
            "driver_files",
            "homes",
            "facts",
            "wanted_nodes",
            "inventory",
            "plan",
            "to_spec",
            "targets",
            "filter",
            "freshness",
            "host_files",
            "difference",
            "doctor",
            "ownership",
            "transform",
            "output",
            "hook_path",
            "show",
            "capture",
        ],
        pure: &[
            "version",
            "capability",
            "problem",
            "driver_files",
            "inventory",
            "plan",
            "to_spec",
            "targets",
            "filter",
            "freshness",
            "difference",
            "doctor",
            "ownership",
            "transform",
            "show",
        ],
    },
    Library {
        source: "cdi-apply/src",
        order: &[
            "problem",
            "spec_dirs",
            "registry",
            "request",
            "resolve",
            "nodes",
            "device_numbers",
            "host_paths",
            "oci",
            "document",
            "bundle",
            "lint",
            "typed",
            "configure",
            "hook",
            "runtime",
        ],
        pure: &["problem", "registry", "request", "resolve", "nodes", "oci", "document", "lint", "typed", "configure"],
    },
];
/// Words that mark unfinished or empty work.
const UNFINISHED: [&str; 4] = ["todo!(", "unimplemented!(", "#[ignore]", "assert!(true)"];
/// Signs of code that production runs for tests only.
const TEST_ONLY: [&str; 2] = ["cfg!(test)", "CDI_TEST_"];
/// A shell script longer than this is a program in the wrong language.
const LONGEST_SCRIPT: usize = 50;

/// Checks all rules and lists every breach.
pub fn run() -> anyhow::Result<()> {
    let breaches = breaches()?;
    ensure!(breaches.is_empty(), "{} breaches:\n  {}", breaches.len(), breaches.join("\n  "));
    Ok(())
}

fn breaches() -> anyhow::Result<Vec<String>> {
    let mut breaches = Vec::new();
    for path in tracked()? {
        let Ok(text) = fs::read_to_string(build::root().join(&path)) else { continue };
        let rules = [module_doc, unfinished, test_only, script_length, imports, purity];
        breaches.extend(rules.iter().filter_map(|rule| rule(&path, &text)));
    }
    breaches.extend(map_is_true()?);
    Ok(breaches)
}

/// All files that git knows, and those that it would add.
fn tracked() -> anyhow::Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(build::root()).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    Ok(build::output(&mut git)?.lines().map(PathBuf::from).collect())
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn module_doc(path: &Path, text: &str) -> Option<String> {
    let missing = is_rust(path) && !text.starts_with("//!");
    missing.then(|| format!("{}: the first line does not say what the file knows (//!)", path.display()))
}

fn unfinished(path: &Path, text: &str) -> Option<String> {
    let found =
        UNFINISHED.iter().find(|word| text.contains(**word)).filter(|_| is_rust(path) && !path.ends_with("tidy.rs"));
    found.map(|word| format!("{}: unfinished: {word}", path.display()))
}

fn test_only(path: &Path, text: &str) -> Option<String> {
    let production =
        ["cdi-gen/src", "cdi-apply/src", "specs/src", "specs/files/src"].iter().any(|crate_| path.starts_with(crate_));
    let found = TEST_ONLY.iter().find(|word| text.contains(**word)).filter(|_| production);
    found.map(|word| format!("{}: production code for tests only: {word}", path.display()))
}

fn script_length(path: &Path, text: &str) -> Option<String> {
    let is_script = text.starts_with("#!") && !is_rust(path);
    let long = is_script && text.lines().count() > LONGEST_SCRIPT;
    long.then(|| format!("{}: a script of more than {LONGEST_SCRIPT} lines", path.display()))
}

/// The library and the module of it that a file belongs to.
fn module(path: &Path) -> Option<(&'static Library, &'static str)> {
    let library = LIBRARIES.iter().find(|library| path.starts_with(library.source))?;
    let first = path.strip_prefix(library.source).ok()?.iter().next()?.to_str()?.trim_end_matches(".rs");
    library.order.iter().find(|module| **module == first).map(|module| (library, *module))
}

/// Imports run one way along the picture.
fn imports(path: &Path, text: &str) -> Option<String> {
    let (library, own) = module(path)?;
    let place = |module: &str| library.order.iter().position(|known| *known == module);
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let mut used = code
        .split("crate::")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next());
    let wrong = used.find(|used| place(used) > place(own))?;
    Some(format!("{}: {own} must not use {wrong}, which comes after it", path.display()))
}

/// Pure modules touch nothing, so they may not be excused from the I/O guard.
fn purity(path: &Path, text: &str) -> Option<String> {
    let pure = module(path).is_some_and(|(library, module)| library.pure.contains(&module));
    let excused = pure && text.contains("clippy::disallowed_methods");
    excused.then(|| format!("{}: a pure module is excused from the I/O guard", path.display()))
}

/// The README's map names every folder of the top level.
fn map_is_true() -> anyhow::Result<Vec<String>> {
    let readme = fs::read_to_string(build::root().join("README.md")).context("cannot read README.md")?;
    let members = ["specs", "cdi-gen", "cdi-apply", "testdata", "xtask"];
    let missing = members.iter().filter(|member| !readme.contains(&format!("`{member}/`")));
    Ok(missing.map(|member| format!("README.md: the map of the code lacks `{member}/`")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        run().unwrap();
    }

    #[test]
    fn each_rule_finds_its_breach() {
        let rust = Path::new("cdi-gen/src/plan/names.rs");
        assert!(module_doc(rust, "use x;\n").is_some());
        assert!(unfinished(rust, &["to", "do!()"].concat()).is_some());
        assert!(test_only(rust, &["if cfg!", "(test) {}"].concat()).is_some());
        assert!(script_length(Path::new("a.sh"), &format!("#!/bin/sh\n{}", "true\n".repeat(60))).is_some());
        assert!(imports(rust, "use crate::to_spec::lower;").is_some());
        assert!(imports(rust, "use crate::inventory::Gpu;").is_none());
        assert!(purity(rust, "#![expect(clippy::disallowed_methods)]").is_some());
        let rust = Path::new("cdi-apply/src/oci/mounts.rs");
        assert!(imports(rust, "use crate::bundle::ConfigFile;").is_some());
        assert!(purity(rust, "#![expect(clippy::disallowed_methods)]").is_some());
    }
}
