//! Single-file mounts: how a driver comes into a container (proc_pid_mountinfo(5)).
//!
//! Inside a GPU container every driver file is a bind mount of its own, in directories that nothing else names.

use camino::Utf8PathBuf;
use cdi_specs::device_list::unescape;

use super::dirs::Dirs;

/// Directories that hold a mount point whose name `wanted` accepts, in mount order, each once.
pub fn parse_directories(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<Utf8PathBuf> {
    let mut found = Dirs::default();
    for mount_point in mount_points(text) {
        let path = Utf8PathBuf::from(mount_point);
        if let Some(parent) = path.file_name().filter(|name| wanted(name)).and_then(|_| path.parent()) {
            found.add(parent);
        }
    }
    found.into_vec()
}

/// The mount points of all lines.
pub fn mount_points(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directories_of_wanted_mount_points() {
        let text = "712 650 8:1 /usr/lib/libcuda.so.550.1 /opt/a\\040b/libcuda.so.550.1 ro,nosuid - ext4 /dev/sda1 rw\n\
                    713 650 8:1 /x /opt/a\\040b/libcuda.so.1 ro - ext4 /dev/sda1 rw\n\
                    714 650 0:5 / /proc rw - proc proc rw\nnot a mount line\n";
        assert_eq!(parse_directories(text, |name| name.starts_with("libcuda")), ["/opt/a b"]);
    }
}
