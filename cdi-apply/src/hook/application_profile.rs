//! Application profile: EGL shows only the GPUs that the container has. I/O.
//!
//! The driver's EGL library finds GPUs by other ways than their nodes; `EGLVisibleDGPUDevices` is a mask of the minor
//! numbers that it may show.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, RawMode};

use super::root::Root;

const PROFILE: &str = "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf";
const MODE: RawMode = 0o444;
/// Of the driver's nodes (Linux, devices.txt); another's may bear any name.
const MAJOR: u32 = 195;
/// Entries of `/dev` that are looked at, at most.
const MAX_NODES: usize = 10_000;

/// Writes the profile for the nodes `/dev/nvidiaN` of the container; without one there is nothing to write.
///
/// # Errors
/// `/dev` cannot be read, or the profile not written.
pub fn update(root: &Root) -> io::Result<()> {
    let minors = match minors(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        minors => minors?,
    };
    let mask = mask(minors);
    if mask == 0 {
        return Ok(());
    }
    let setting = format!(r#"["EGLVisibleDGPUDevices", {mask:#x}]"#);
    let profile = format!(
        "{{\"profiles\": [{{\"name\": \"container\", \"settings\": {setting}}}], \
         \"rules\": [{{\"pattern\": [], \"profile\": \"container\"}}]}}\n"
    );
    root.make_place(Path::new(PROFILE))?.write(profile.as_bytes(), MODE)
}

/// The minor numbers of the GPUs' nodes.
pub(super) fn minors(root: &Root) -> io::Result<Vec<u32>> {
    let dev = Path::new("/dev");
    let is_gpu = |name: &OsStr| {
        let number = name.as_bytes().strip_prefix(b"nvidia").unwrap_or_default();
        !number.is_empty() && number.iter().all(u8::is_ascii_digit)
    };
    let mut minors = Vec::new();
    for name in root.list(dev, MAX_NODES, is_gpu)? {
        let stat = root.place(&dev.join(name))?.stat()?;
        let is_nvidias = rustix::fs::major(stat.st_rdev) == MAJOR;
        if is_nvidias && FileType::from_raw_mode(stat.st_mode).is_char_device() {
            minors.push(rustix::fs::minor(stat.st_rdev));
        }
    }
    Ok(minors)
}

/// A bit for each minor number that the mask has room for.
fn mask(minors: impl IntoIterator<Item = u32>) -> u64 {
    minors.into_iter().filter_map(|minor| 1_u64.checked_shl(minor)).fold(0, |mask, bit| mask | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        assert_eq!(mask([]), 0);
        assert_eq!(mask([0]), 1);
        assert_eq!(mask([8]), 0x100);
        assert_eq!(mask([15, 0]), 0x8001);
        assert_eq!(mask([63, 64, 255]), 1 << 63);
    }
}
