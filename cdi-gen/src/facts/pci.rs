//! NVIDIA display devices that the NVIDIA driver does not hold: `/sys/bus/pci`.
//!
//! Only display controllers count (PCI class 0x03xxxx: VGA 0x0300, 3D 0x0302); a GPU's audio function, its USB-C
//! port and an NVSwitch have NVIDIA's vendor id too.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use crate::tree::Tree;

/// All PCI functions.
const DEVICES: &str = "/sys/bus/pci/devices";
/// Drivers that take a GPU away from the NVIDIA driver; each directory lists the functions that it holds.
const RIVALS: [&str; 2] = ["nouveau", "vfio-pci"];

/// A GPU that containers cannot get from the NVIDIA driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForeignGpu {
    /// PCI address.
    pub bus_id: String,
    /// The kernel driver that holds it; `None` if no driver does.
    pub driver: Option<String>,
}

/// Reads which GPUs other drivers hold. Without any GPU on the NVIDIA driver (`look_at_all`) each PCI function is
/// looked at, to tell "no GPU" from "no driver".
pub fn read(system: &Tree, look_at_all: bool) -> Vec<ForeignGpu> {
    let mut found = if look_at_all { all(system) } else { held_by_rivals(system) };
    found.sort_by(|a, b| a.bus_id.cmp(&b.bus_id));
    found
}

fn held_by_rivals(system: &Tree) -> Vec<ForeignGpu> {
    let mut found = Vec::new();
    for driver in RIVALS {
        let dir = Utf8Path::new("/sys/bus/pci/drivers").join(driver);
        let held = system.list(&dir, |name| name.contains(':')).unwrap_or_default();
        let gpus = held.into_iter().filter(|entry| is_nvidia_display(system, &dir.join(&entry.name)));
        found.extend(gpus.map(|entry| ForeignGpu { bus_id: entry.name, driver: Some(driver.to_owned()) }));
    }
    found
}

fn all(system: &Tree) -> Vec<ForeignGpu> {
    let listed = system.list(DEVICES.into(), |_| true).unwrap_or_default();
    let devices = listed.into_iter().map(|entry| (Utf8Path::new(DEVICES).join(&entry.name), entry.name));
    devices
        .filter(|(path, _)| is_nvidia_display(system, path))
        .map(|(path, bus_id)| ForeignGpu { bus_id, driver: driver_of(system, &path) })
        .filter(|gpu| gpu.driver.as_deref() != Some("nvidia"))
        .collect()
}

fn is_nvidia_display(system: &Tree, device: &Utf8Path) -> bool {
    let starts = |name: &str, with: &str| system.read_text(&device.join(name)).is_ok_and(|text| text.starts_with(with));
    starts("vendor", "0x10de") && starts("class", "0x03")
}

fn driver_of(system: &Tree, device: &Utf8Path) -> Option<String> {
    let target: Utf8PathBuf = system.read_link(&device.join("driver")).ok()?;
    target.file_name().map(str::to_owned)
}
