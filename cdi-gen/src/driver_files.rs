//! THE TABLE: which file belongs to which driver capability, for driver branches 470 to 610.
//!
//! The table classifies; it does not limit. A library of the driver's own version that no row names is taken all the
//! same and reported, so that a new branch costs a superfluous mount and never a missing library.
//!
//! Capabilities follow libnvidia-container's groups where it knows the file, else the driver's own manifest
//! (`sandboxutils-filelist.json`).

use crate::capability::Capabilities;

const COMPUTE: Capabilities = Capabilities::COMPUTE;
const DISPLAY: Capabilities = Capabilities::DISPLAY;
const GRAPHICS: Capabilities = Capabilities::GRAPHICS;
const NGX: Capabilities = Capabilities::NGX;
const UTILITY: Capabilities = Capabilities::UTILITY;
const VIDEO: Capabilities = Capabilities::VIDEO;

/// How a library's file is named behind `.so`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The driver's version: `libcuda.so.580.159.04`.
    Driver,
    /// A version of its own, or none: `libnvidia-egl-gbm.so.1.1.2`, `libnvidia-api.so.1`, `nvidia_drv.so`.
    Own,
    /// The driver's version in most branches, a version of its own in others: `libnvidia-nvvm.so.4.0.0` in 470.
    Either,
}

/// Where programs look for a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the loader's directories.
    Loader,
    /// In `vdpau/` below a library directory (libvdpau's module directory).
    Vdpau,
    /// In the X server's module directories.
    Xorg,
}

/// One row: a library.
#[derive(Clone, Copy, Debug)]
pub struct Library {
    /// The file name up to `.so`.
    pub stem: &'static str,
    /// Who wants it.
    pub capability: Capabilities,
    /// How its file is named.
    pub naming: Naming,
    /// Where it is looked for.
    pub place: Place,
    /// Names that programs ask for beside the SONAME, whether or not the host has such a link.
    pub links: &'static [&'static str],
}

const fn library(stem: &'static str, capability: Capabilities, naming: Naming) -> Library {
    Library { stem, capability, naming, place: Place::Loader, links: &[] }
}

const fn linked(row: Library, links: &'static [&'static str]) -> Library {
    Library { links, ..row }
}

const fn placed(row: Library, place: Place) -> Library {
    Library { place, ..row }
}

/// Driver libraries, sorted by stem. The remark says in which branches a library exists, if not in all.
pub const LIBRARIES: &[Library] = &[
    library("libEGL_nvidia", GRAPHICS, Naming::Driver),
    library("libGLESv1_CM_nvidia", GRAPHICS, Naming::Driver),
    library("libGLESv2_nvidia", GRAPHICS, Naming::Driver),
    linked(library("libGLX_nvidia", GRAPHICS, Naming::Driver), &["libGLX_indirect.so.0"]),
    linked(library("libcuda", COMPUTE, Naming::Driver), &["libcuda.so"]),
    library("libcudadebugger", COMPUTE, Naming::Driver), // 515 on
    placed(linked(library("libglxserver_nvidia", DISPLAY, Naming::Either), &["libglxserver_nvidia.so"]), Place::Xorg),
    library("libnvcucompat", COMPUTE, Naming::Driver), // aarch64
    library("libnvcuextend", COMPUTE, Naming::Driver), // aarch64, 570 on
    library("libnvcuvid", VIDEO, Naming::Driver),
    linked(library("libnvidia-allocator", COMPUTE.and(GRAPHICS), Naming::Driver), &["gbm/nvidia-drm_gbm.so"]),
    library("libnvidia-api", UTILITY.and(GRAPHICS), Naming::Own), // 525 on, `.so.1`
    library("libnvidia-cbl", GRAPHICS, Naming::Driver),           // up to 470
    library("libnvidia-cfg", UTILITY, Naming::Driver),
    library("libnvidia-compiler", COMPUTE, Naming::Driver), // up to 525
    library("libnvidia-egl-gbm", GRAPHICS, Naming::Own),
    library("libnvidia-egl-wayland", GRAPHICS, Naming::Own),
    library("libnvidia-egl-wayland2", GRAPHICS, Naming::Own), // 590 on
    library("libnvidia-egl-xcb", GRAPHICS, Naming::Own),      // 560 on
    library("libnvidia-egl-xlib", GRAPHICS, Naming::Own),     // 560 on
    library("libnvidia-eglcore", GRAPHICS, Naming::Driver),
    library("libnvidia-encode", VIDEO, Naming::Driver),
    library("libnvidia-fbc", GRAPHICS, Naming::Driver),
    library("libnvidia-glcore", GRAPHICS, Naming::Driver),
    library("libnvidia-glsi", GRAPHICS, Naming::Driver),
    library("libnvidia-glvkspirv", GRAPHICS, Naming::Driver),
    library("libnvidia-gpucomp", COMPUTE.and(GRAPHICS), Naming::Driver), // 545 on
    library("libnvidia-gtk2", DISPLAY, Naming::Driver),
    library("libnvidia-gtk3", DISPLAY, Naming::Driver),
    library("libnvidia-ifr", GRAPHICS, Naming::Driver), // up to 470
    library("libnvidia-ml", UTILITY, Naming::Driver),
    library("libnvidia-ngx", NGX, Naming::Driver),
    library("libnvidia-nscq", UTILITY, Naming::Driver), // NVSwitch hosts, a package of its own
    library("libnvidia-nvvm", COMPUTE, Naming::Either), // 470 on; `.so.4.0.0` in 470
    library("libnvidia-nvvm70", COMPUTE, Naming::Either), // 590 on; `.so.4` or the driver's version
    library("libnvidia-opencl", COMPUTE, Naming::Driver),
    linked(library("libnvidia-opticalflow", VIDEO, Naming::Driver), &["libnvidia-opticalflow.so"]),
    library("libnvidia-pkcs11", COMPUTE, Naming::Driver), // 525 on, OpenSSL 1.1
    library("libnvidia-pkcs11-openssl3", COMPUTE, Naming::Driver), // 530 on
    library("libnvidia-present", GRAPHICS, Naming::Driver), // 580 on
    library("libnvidia-ptxjitcompiler", COMPUTE, Naming::Driver),
    library("libnvidia-rtcore", GRAPHICS, Naming::Driver),
    library("libnvidia-sandboxutils", UTILITY, Naming::Driver), // 560 on
    library("libnvidia-tileiras", COMPUTE, Naming::Driver),     // 590 on
    library("libnvidia-tls", GRAPHICS, Naming::Driver),
    library("libnvidia-vksc-core", GRAPHICS, Naming::Driver), // 535 on
    linked(library("libnvidia-vulkan-producer", GRAPHICS, Naming::Driver), &["libnvidia-vulkan-producer.so"]), // to 535
    library("libnvidia-wayland-client", DISPLAY, Naming::Driver), // 530 on
    library("libnvoptix", GRAPHICS, Naming::Driver),
    library("libnvsdm", UTILITY, Naming::Driver), // NVLink5 hosts
    placed(library("libvdpau_nvidia", VIDEO, Naming::Driver), Place::Vdpau),
    placed(library("nvidia_drv", DISPLAY, Naming::Own), Place::Xorg),
];

/// Vendor-neutral loaders, sorted. Some packages put the driver's version on them; an image brings its own, and
/// another's in its place breaks every other vendor's graphics.
pub const VENDOR_NEUTRAL: &[&str] =
    &["libEGL", "libGL", "libGLESv1_CM", "libGLESv2", "libGLX", "libGLdispatch", "libOpenCL", "libOpenGL"];

/// One row: a program or a data file, by its name.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// File name; in [`CONFIGS`] a path below a configuration base, where `*` stands for any run of characters and
    /// `{version}` for the driver's version.
    pub name: &'static str,
    /// Who wants it.
    pub capability: Capabilities,
}

const fn named(name: &'static str, capability: Capabilities) -> Named {
    Named { name, capability }
}

/// Driver programs, sorted. `nvidia-modprobe` is left out: it is setuid and makes device nodes.
pub const BINARIES: &[Named] = &[
    named("nv-fabricmanager", UTILITY),
    named("nvidia-cuda-mps-control", COMPUTE),
    named("nvidia-cuda-mps-server", COMPUTE),
    named("nvidia-debugdump", UTILITY),
    named("nvidia-imex", UTILITY),
    named("nvidia-imex-ctl", UTILITY),
    named("nvidia-persistenced", UTILITY),
    named("nvidia-smi", UTILITY),
    named("nvidia-xconfig", DISPLAY),
];

/// One row of [`CONFIGS`].
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Path below a configuration base (`/etc`, `/usr/share`, …) and capability.
    pub file: Named,
    /// The base in the container.
    pub base: &'static str,
}

const fn config(name: &'static str, capability: Capabilities, base: &'static str) -> Config {
    Config { file: named(name, capability), base }
}

/// Data files, sorted by path. A guest of the loader that reads it looks in `base` whatever the distribution.
pub const CONFIGS: &[Config] = &[
    config("OpenCL/vendors/nvidia*.icd", COMPUTE, "/etc"),
    config("X11/xorg.conf.d/10-nvidia-drm-outputclass.conf", DISPLAY, "/usr/share"),
    config("X11/xorg.conf.d/10-nvidia.conf", DISPLAY, "/usr/share"),
    config("X11/xorg.conf.d/nvidia-drm-outputclass.conf", DISPLAY, "/usr/share"),
    config("X11/xorg.conf.d/nvidia.conf", DISPLAY, "/usr/share"),
    config("egl/egl_external_platform.d/*nvidia*.json", GRAPHICS, "/usr/share"),
    config("glvnd/egl_vendor.d/10_nvidia*.json", GRAPHICS, "/usr/share"),
    config("nvidia/nvidia-application-profiles-{version}-key-documentation", GRAPHICS, "/usr/share"),
    config("nvidia/nvidia-application-profiles-{version}-rc", GRAPHICS, "/usr/share"),
    config("nvidia/nvoptix.bin", GRAPHICS, "/usr/share"),
    config("vulkan/icd.d/nvidia_icd*.json", GRAPHICS, "/etc"),
    config("vulkan/icd.d/nvidia_layers*.json", GRAPHICS, "/etc"),
    config("vulkan/implicit_layer.d/nvidia_layers*.json", GRAPHICS, "/etc"),
    config("vulkansc/icd.d/nvidia_icd*.json", GRAPHICS, "/etc"),
];

/// Firmware files of the driver, compressed or not (`gsp.bin` in 470, `gsp_ga10x.bin` and `gsp_tu10x.bin` today).
pub const FIRMWARE: &[&str] = &["gsp*.bin", "gsp*.bin.xz", "gsp*.bin.zst"];

/// NGX for Wine: DLLs in `nvidia/wine/` below a library directory.
pub const WINE_DLLS: Named = named("nvidia/wine/*.dll", NGX);

/// The row of a library, by the stem of its file name.
pub fn find(stem: &str) -> Option<&'static Library> {
    let at = LIBRARIES.binary_search_by(|row| row.stem.cmp(stem)).ok()?;
    LIBRARIES.get(at)
}

/// A library's file name, taken apart: `libcuda.so.580.159.04` is `libcuda` and `580.159.04`.
pub fn split_name(name: &str) -> Option<(&str, &str)> {
    let (stem, rest) = name.split_once(".so")?;
    let suffix = if rest.is_empty() { rest } else { rest.strip_prefix('.')? };
    (!stem.is_empty()).then_some((stem, suffix))
}

/// Whether a library is the driver's by its stem: a row names it, or NVIDIA's name is in it. The version alone makes
/// none: `libm.so.580.159.04` is another's.
pub fn is_drivers(stem: &str) -> bool {
    let lower = stem.to_ascii_lowercase();
    find(stem).is_some() || ["nv", "cuda"].iter().any(|mark| lower.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_without_doubles() {
        assert!(LIBRARIES.is_sorted_by(|a, b| a.stem < b.stem));
        assert!(VENDOR_NEUTRAL.is_sorted());
        assert!(BINARIES.is_sorted_by(|a, b| a.name < b.name));
        assert!(CONFIGS.is_sorted_by(|a, b| a.file.name < b.file.name));
    }

    #[test]
    fn every_row_has_a_capability_and_can_be_found() {
        for row in LIBRARIES {
            assert_ne!(row.capability, Capabilities::ALWAYS, "{}", row.stem);
            assert_eq!(find(row.stem).map(|found| found.stem), Some(row.stem));
        }
    }

    #[test]
    fn every_pattern_is_one() {
        let patterns = CONFIGS.iter().map(|row| row.file.name).chain(FIRMWARE.iter().copied());
        patterns.for_each(|pattern| drop(glob::Pattern::new(pattern).unwrap()));
    }

    /// The names that each branch ships beside those of every branch, from the packages of that branch.
    #[test]
    fn every_branch_is_covered() {
        let branches = [
            ("470", "libnvidia-cbl libnvidia-compiler libnvidia-ifr libnvidia-nvvm libnvidia-vulkan-producer"),
            ("525", "libcudadebugger libnvidia-api libnvidia-compiler libnvidia-nvvm libnvidia-vulkan-producer"),
            ("535", "libcudadebugger libnvidia-api libnvidia-pkcs11-openssl3 libnvidia-vulkan-producer"),
            ("550", "libnvidia-api libnvidia-gpucomp libnvidia-pkcs11-openssl3"),
            ("565", "libnvidia-egl-xcb libnvidia-egl-xlib libnvidia-sandboxutils libnvidia-vksc-core"),
            ("580", "libnvcuextend libnvidia-present libnvidia-gpucomp libnvidia-sandboxutils"),
            ("590", "libnvidia-egl-wayland2 libnvidia-nvvm70 libnvidia-tileiras"),
        ];
        for (branch, stems) in branches {
            stems.split(' ').for_each(|stem| assert!(find(stem).is_some(), "{branch}: {stem}"));
        }
    }

    #[test]
    fn names_taken_apart() {
        assert_eq!(split_name("libcuda.so.580.159.04"), Some(("libcuda", "580.159.04")));
        assert_eq!(split_name("nvidia_drv.so"), Some(("nvidia_drv", "")));
        for name in ["libcuda.software", "libcuda.a", ".so.1", "nvidia-smi"] {
            assert_eq!(split_name(name), None, "{name}");
        }
    }
}
