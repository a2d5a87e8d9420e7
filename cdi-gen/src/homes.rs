//! Known homes of the driver: directories outside the loader's reach, on real systems.

use camino::{Utf8Path, Utf8PathBuf};

use crate::tree::Tree;

/// Library directories, sorted; which system has them stands beside each.
const LIBRARY_DIRS: &[&str] = &[
    "/home/kubernetes/bin/nvidia/lib64", // GKE on Container-Optimized OS
    "/opt/nvidia/current/lib64",         // Flatcar, drivers in /opt
    "/run/current-system/profile/lib",   // Guix System
    "/run/opengl-driver-32/lib",         // NixOS, 32 bit
    "/run/opengl-driver/lib",            // NixOS
    "/snap/docker/current/graphics/lib/aarch64-linux-gnu", // Docker snap
    "/snap/docker/current/graphics/lib/x86_64-linux-gnu", // Docker snap
    "/usr/glibc-compat/lib",             // glibc beside musl
    "/usr/lib/aarch64-linux-gnu/nvidia/current", // Debian
    "/usr/lib/i386-linux-gnu/nvidia/current", // Debian, 32 bit
    "/usr/lib/nvidia",                   // RPM Fusion, old
    "/usr/lib/nvidia/tesla",             // Bottlerocket
    "/usr/lib/x86_64-linux-gnu/nvidia/current", // Debian
    "/usr/lib64-nvidia",                 // Colab
    "/usr/lib64/nvidia",                 // RPM Fusion, old
    "/usr/local/nvidia/lib",             // containers of device plugins
    "/usr/local/nvidia/lib64",           // containers of device plugins, Kaggle
    "/var/lib/nvidia/lib64",             // Container-Optimized OS without GKE
];

/// Directories of programs that no library directory leads to, in order of preference.
pub const BINARY_DIRS: &[&str] = &[
    "/usr/bin",
    "/usr/sbin",
    "/bin",
    "/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/opt/bin",                        // Gentoo, Flatcar, Colab
    "/opt/bin/.nvidia",                // Colab
    "/usr/libexec/nvidia/tesla/bin",   // Bottlerocket
    "/usr/lib/nvidia/current",         // Debian
    "/run/current-system/sw/bin",      // NixOS
    "/run/current-system/profile/bin", // Guix System
];

/// Bases of data files outside `/etc` and `/usr`, in order of preference.
pub const DATA_DIRS: &[&str] = &[
    "/etc",
    "/usr/local/share",
    "/usr/share",
    "/run/opengl-driver/share",          // NixOS
    "/run/opengl-driver/etc",            // NixOS
    "/run/current-system/profile/share", // Guix System
    "/run/current-system/profile/etc",   // Guix System
];

/// What a container sees instead of a directory that only its host has: host prefix and container prefix.
const CONTAINER_PREFIXES: &[(&str, &str)] = &[
    ("/home/kubernetes/bin/nvidia", "/usr/local/nvidia"),
    ("/var/lib/nvidia", "/usr/local/nvidia"),
    ("/x86_64-bottlerocket-linux-gnu/sys-root", "/"),
    ("/aarch64-bottlerocket-linux-gnu/sys-root", "/"),
];

/// The library directories that this host has.
pub fn library_dirs(tree: &Tree) -> Vec<Utf8PathBuf> {
    LIBRARY_DIRS.iter().map(Utf8PathBuf::from).filter(|dir| tree.resolve(dir).is_ok()).collect()
}

/// Where a container sees a directory of the driver.
pub fn container_dir(dir: &Utf8Path) -> Utf8PathBuf {
    let moved = CONTAINER_PREFIXES.iter().find_map(|(host, container)| {
        let rest = dir.strip_prefix(host).ok()?;
        Some(Utf8Path::new(container).join(rest))
    });
    moved.unwrap_or_else(|| dir.to_owned())
}

/// Whether a directory belongs to a package store, whose programs and libraries find each other by full path.
pub fn is_store(path: &Utf8Path) -> bool {
    path.starts_with("/nix/store") || path.starts_with("/gnu/store")
}

/// The driver's prefix that a library directory tells, if it has one of its own: `/usr/local/nvidia` for
/// `/usr/local/nvidia/lib64`. The system's own prefixes tell nothing.
pub fn prefix_of(library_dir: &Utf8Path) -> Option<&Utf8Path> {
    let prefix = library_dir.file_name().filter(|name| name.starts_with("lib")).and_then(|_| library_dir.parent())?;
    (!matches!(prefix.as_str(), "/" | "/usr" | "/usr/local")).then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted() {
        assert!(LIBRARY_DIRS.is_sorted());
    }

    #[test]
    fn prefixes() {
        assert_eq!(prefix_of("/usr/local/nvidia/lib64".into()), Some("/usr/local/nvidia".into()));
        assert_eq!(prefix_of("/usr/lib64".into()), None);
        assert_eq!(prefix_of("/usr/lib/x86_64-linux-gnu".into()), None);
        assert_eq!(container_dir("/home/kubernetes/bin/nvidia/lib64".into()), "/usr/local/nvidia/lib64");
        assert_eq!(
            container_dir("/x86_64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla".into()),
            "/usr/lib/nvidia/tesla"
        );
        assert_eq!(container_dir("/usr/lib64".into()), "/usr/lib64");
    }
}
