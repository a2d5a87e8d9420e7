//! Names of devices: by index, UUID, type and index, PCI address.

use std::fmt;
use std::str::FromStr;

use crate::inventory::Gpu;

/// A way to name a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `0`
    Index,
    /// `GPU-…`
    Uuid,
    /// `gpu0`
    TypeIndex,
    /// `0000:01:00.0`: the only name that survives a changed set of GPUs and is known without the driver.
    Pci,
}

/// The strategies by the names that the command line takes.
pub const STRATEGIES: [(&str, Naming); 4] =
    [("index", Naming::Index), ("pci", Naming::Pci), ("type-index", Naming::TypeIndex), ("uuid", Naming::Uuid)];

/// A word that names no strategy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown device name strategy `{0}`; known are index, pci, type-index, uuid")]
pub struct UnknownNaming(String);

impl FromStr for Naming {
    type Err = UnknownNaming;

    fn from_str(text: &str) -> Result<Self, UnknownNaming> {
        let known = STRATEGIES.iter().find(|(name, _)| *name == text);
        known.map(|(_, naming)| *naming).ok_or_else(|| UnknownNaming(text.to_owned()))
    }
}

impl Naming {
    /// The name of a GPU, if it has one of this kind.
    pub fn name(self, gpu: &Gpu) -> Option<String> {
        match self {
            Self::Index => Some(gpu.index.to_string()),
            Self::Uuid => gpu.uuid.clone(),
            Self::TypeIndex => Some(format!("gpu{}", gpu.index)),
            Self::Pci => gpu.bus_id.clone(),
        }
    }
}

/// A GPU as the caller asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceId {
    /// Every GPU.
    All,
    /// No GPU: the driver alone.
    None,
    /// By index, UUID or PCI address, whatever strategy names the devices.
    Gpu(String),
}

impl FromStr for DeviceId {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "all" => Self::All,
            "none" => Self::None,
            id => Self::Gpu(id.to_owned()),
        })
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::None => "none",
            Self::Gpu(id) => id,
        })
    }
}

impl DeviceId {
    /// Whether the id means this GPU.
    pub fn means(&self, gpu: &Gpu) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Gpu(id) => STRATEGIES.iter().any(|(_, naming)| naming.name(gpu).as_deref() == Some(id)),
        }
    }
}
