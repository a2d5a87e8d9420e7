//! GSP firmware of the driver's own version, where the kernel looks for it (kernel `firmware_class`, `fw_path`).

use camino::{Utf8Path, Utf8PathBuf};
use glob::Pattern;

use super::left_out::LeftOut;
use crate::driver_files::FIRMWARE;
use crate::homes;
use crate::host::Host;
use crate::tree::{Located, Tree};
use crate::version::DriverVersion;

/// The path that the administrator gave to the kernel; a path of the running system, not of the driver's tree.
const FIRMWARE_CLASS_PATH: &str = "/sys/module/firmware_class/parameters/path";
/// The running kernel's release, which names directories of its own.
const OS_RELEASE: &str = "/proc/sys/kernel/osrelease";

/// Reads the firmware: that of the first directory that holds any.
pub fn read(
    host: &Host,
    library_dirs: &[Utf8PathBuf],
    version: &DriverVersion,
    left_out: &mut LeftOut,
) -> Vec<Located> {
    let below = |base: Utf8PathBuf| base.join("nvidia").join(version.as_str());
    let told = system_text(host, FIRMWARE_CLASS_PATH).map(|path| (&host.system, below(path.into())));
    let known = search_path(host, library_dirs).into_iter().map(|base| (&host.driver, below(base)));
    told.into_iter()
        .chain(known)
        .map(|(tree, dir)| in_dir(tree, &dir, left_out))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// Where the kernel looks, in its order, then the same below `/usr` and in the driver's own prefix.
fn search_path(host: &Host, library_dirs: &[Utf8PathBuf]) -> Vec<Utf8PathBuf> {
    let release = system_text(host, OS_RELEASE).unwrap_or_default();
    let kernel = |base: &str| {
        [format!("{base}/updates/{release}"), format!("{base}/updates"), format!("{base}/{release}"), base.to_owned()]
    };
    let own = library_dirs.iter().filter_map(|dir| homes::prefix_of(dir)).map(|prefix| prefix.join("firmware"));
    let standard = ["/lib/firmware", "/usr/lib/firmware"].into_iter().flat_map(kernel).map(Utf8PathBuf::from);
    standard.chain(own).collect()
}

fn system_text(host: &Host, path: &str) -> Option<String> {
    let text = host.system.read_text(path.into()).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn in_dir(tree: &Tree, dir: &Utf8Path, left_out: &mut LeftOut) -> Vec<Located> {
    let patterns: Vec<Pattern> = FIRMWARE.iter().filter_map(|pattern| Pattern::new(pattern).ok()).collect();
    let mut found = tree.files(dir, |name| patterns.iter().any(|pattern| pattern.matches(name)));
    found.retain(|file| left_out.admits(tree, &file.host_path));
    found
}
