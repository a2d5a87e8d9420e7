//! Driver capabilities: which part of the driver a container asks for (`NVIDIA_DRIVER_CAPABILITIES`).

use std::fmt;
use std::ops::BitOr;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A set of driver capabilities. A file of the empty set belongs to every container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Capabilities(u8);

/// The names, in the order of their bits.
const NAMES: [&str; 7] = ["compat32", "compute", "display", "graphics", "ngx", "utility", "video"];

impl Capabilities {
    /// For every container.
    pub const ALWAYS: Self = Self(0);
    /// 32-bit libraries.
    pub const COMPAT32: Self = Self(1);
    /// CUDA and OpenCL.
    pub const COMPUTE: Self = Self(1 << 1);
    /// X11 and Wayland servers.
    pub const DISPLAY: Self = Self(1 << 2);
    /// OpenGL, EGL and Vulkan.
    pub const GRAPHICS: Self = Self(1 << 3);
    /// NGX deep-learning features.
    pub const NGX: Self = Self(1 << 4);
    /// nvidia-smi and NVML.
    pub const UTILITY: Self = Self(1 << 5);
    /// Video codecs and optical flow.
    pub const VIDEO: Self = Self(1 << 6);
    /// Every capability.
    pub const ALL: Self = Self(0x7f);

    /// Both sets.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What both have.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The set with what its members need: codecs need CUDA, a display needs OpenGL.
    pub const fn with_implied(self) -> Self {
        let video = if self.0 & Self::VIDEO.0 != 0 { Self::COMPUTE } else { Self::ALWAYS };
        let display = if self.0 & Self::DISPLAY.0 != 0 { Self::GRAPHICS } else { Self::ALWAYS };
        self.and(video).and(display)
    }

    /// Whether it is the set of a 32-bit file.
    pub const fn is_compat32(self) -> bool {
        self.0 & Self::COMPAT32.0 != 0
    }

    /// Whether a container that asks for `wanted` gets a file of this set. A 32-bit file must be asked for as such.
    pub const fn serves(self, wanted: Self) -> bool {
        let (kind, bits) = (self.0 & !Self::COMPAT32.0, self.0 & Self::COMPAT32.0);
        (kind == 0 || kind & wanted.0 != 0) && bits & wanted.0 == bits
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.and(other)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> =
            NAMES.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "always".to_owned() } else { names.join(",") }.as_str())
    }
}

impl Serialize for Capabilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A word that names no capability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown driver capability `{word}`; known are all, {}", NAMES.join(", "))]
pub struct UnknownCapability {
    /// The word.
    pub word: String,
}

impl FromStr for Capabilities {
    type Err = UnknownCapability;

    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(parse_word).try_fold(Self::ALWAYS, |set, word| Ok(set | word?))
    }
}

fn parse_word(word: &str) -> Result<Capabilities, UnknownCapability> {
    if word == "all" {
        return Ok(Capabilities::ALL);
    }
    let bit = NAMES.iter().position(|name| *name == word).ok_or_else(|| UnknownCapability { word: word.to_owned() })?;
    Ok(Capabilities(1 << bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        assert_eq!("compute, utility".parse::<Capabilities>().unwrap().to_string(), "compute,utility");
        assert_eq!("all".parse::<Capabilities>(), Ok(Capabilities::ALL));
        assert_eq!("".parse::<Capabilities>().unwrap().to_string(), "always");
        assert!("gpu".parse::<Capabilities>().unwrap_err().to_string().contains("compat32, compute"));
    }

    #[test]
    fn what_a_capability_needs() {
        assert_eq!(Capabilities::VIDEO.with_implied(), Capabilities::VIDEO | Capabilities::COMPUTE);
        assert_eq!(Capabilities::DISPLAY.with_implied(), Capabilities::DISPLAY | Capabilities::GRAPHICS);
        assert_eq!(Capabilities::UTILITY.with_implied(), Capabilities::UTILITY);
    }

    #[test]
    fn what_a_container_gets() {
        let wanted = Capabilities::COMPUTE | Capabilities::UTILITY;
        assert!(Capabilities::ALWAYS.serves(wanted));
        assert!((Capabilities::COMPUTE | Capabilities::VIDEO).serves(wanted));
        assert!(!Capabilities::VIDEO.serves(wanted));
        assert!(!(Capabilities::COMPUTE | Capabilities::COMPAT32).serves(wanted));
        assert!((Capabilities::COMPUTE | Capabilities::COMPAT32).serves(wanted | Capabilities::COMPAT32));
    }
}
