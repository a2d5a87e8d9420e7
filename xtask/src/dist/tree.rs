//! Tree: what a package puts where, as a directory that stands for the root. I/O.
#![expect(clippy::disallowed_methods, reason = "lays out a package")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use tempfile::TempDir;

use super::{documents, sbom};
use crate::build;

const PROGRAMS: [&str; 4] = ["cdi-apply", "cdi-gen", "cdi-hook", "cdi-runtime"];
const DOCUMENTS: &str = "usr/share/doc/cdi-tools";
/// Files of the sources, and where packages have them.
const FILES: [(&str, &str); 10] = [
    ("cdi-gen/packaging/systemd/cdi-gen-changed.service", "usr/lib/systemd/system/cdi-gen-changed.service"),
    ("cdi-gen/packaging/systemd/cdi-gen-homes.path", "usr/lib/systemd/system/cdi-gen-homes.path"),
    ("cdi-gen/packaging/systemd/cdi-gen-refresh.path", "usr/lib/systemd/system/cdi-gen-refresh.path"),
    ("cdi-gen/packaging/systemd/cdi-gen-refresh.service", "usr/lib/systemd/system/cdi-gen-refresh.service"),
    ("cdi-gen/packaging/systemd/cdi-gen-refresh.timer", "usr/lib/systemd/system/cdi-gen-refresh.timer"),
    ("cdi-gen/packaging/systemd-user/cdi-gen-refresh.service", "usr/lib/systemd/user/cdi-gen-refresh.service"),
    ("cdi-gen/packaging/udev/71-cdi-gen.rules", "usr/lib/udev/rules.d/71-cdi-gen.rules"),
    ("CHANGELOG.md", "usr/share/doc/cdi-tools/CHANGELOG.md"),
    ("LICENSE", "usr/share/doc/cdi-tools/copyright"),
    ("README.md", "usr/share/doc/cdi-tools/README.md"),
];

/// Lays it out; the programs come from a directory.
pub fn lay_out(programs: &Path) -> anyhow::Result<TempDir> {
    let root = TempDir::new().context("cannot make a temporary directory")?;
    for name in PROGRAMS {
        copy(&programs.join(name), &root.path().join("usr/bin").join(name), 0o755)?;
    }
    for (from, to) in FILES {
        copy(&build::root().join(from), &root.path().join(to), 0o644)?;
    }
    copy(&programs.join(sbom::NAME), &root.path().join(DOCUMENTS).join(sbom::NAME), 0o644)?;
    documents::write(root.path())?;
    Ok(root)
}

/// A file with a mode, and the directories above it.
pub fn copy(from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).with_context(|| format!("cannot chmod {}", to.display()))
}
