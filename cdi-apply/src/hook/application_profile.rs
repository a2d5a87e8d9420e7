//! Application profile: EGL shows only the GPUs that the container has. I/O.
//!
//! The driver's EGL library finds GPUs by other ways than their nodes; `EGLVisibleDGPUDevices` is a mask of the minor
//! numbers that it may show.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, RawMode};

use super::budget::Cost;
use super::paths::{DEV, PROFILE};
use super::root::Root;

const MODE: RawMode = 0o444;
/// Of the driver's nodes (Linux, devices.txt); another's may bear any name.
const MAJOR: u32 = 195;

/// Writes the profile for the nodes `/dev/nvidiaN` of the container; without one there is nothing to write.
///
/// # Errors
/// `/dev` cannot be read, or the profile not written.
pub fn update(root: &Root) -> io::Result<()> {
    let mask = mask(minors(root)?);
    if mask == 0 {
        return Ok(());
    }
    let setting = format!(r#"["EGLVisibleDGPUDevices", {mask:#x}]"#);
    let profile = format!(
        "{{\"profiles\": [{{\"name\": \"container\", \"settings\": {setting}}}], \
         \"rules\": [{{\"pattern\": [], \"profile\": \"container\"}}]}}\n"
    );
    root.make_place(&PROFILE.path())?.write(profile.as_bytes(), MODE)
}

/// The minor numbers of the GPUs' nodes; none where there is no `/dev`.
pub(super) fn minors(root: &Root) -> io::Result<Vec<u32>> {
    let Some(dev) = root.find_if_there(&DEV.path())? else { return Ok(Vec::new()) };
    let is_gpu = |name: &OsStr| {
        let number = name.as_bytes().strip_prefix(b"nvidia").unwrap_or_default();
        !number.is_empty() && number.iter().all(u8::is_ascii_digit)
    };
    let mut minors = Vec::new();
    for name in root.names(&dev, is_gpu)? {
        root.budget().draw(Cost::Calls, 1)?;
        let stat = rustix::fs::statat(&dev, name, AtFlags::SYMLINK_NOFOLLOW)?;
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
