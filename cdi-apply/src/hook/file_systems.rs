//! File systems, by the numbers of linux/magic.h: whose files are made up by the kernel, and whose are as they look. Pure.

use rustix::fs::{FsWord, PROC_SUPER_MAGIC};

/// Overlay, which engines give a container as its root.
pub const OVERLAY: FsWord = 0x794c_7630;
/// tmpfs, and devtmpfs.
pub const TMPFS: FsWord = 0x0102_1994;

/// To read a file of these may do something (`/proc/kmsg` forgets what it has told), or tell what only the reader may know.
const KERNELS: [FsWord; 20] = [
    PROC_SUPER_MAGIC,
    0x0000_1cd1, // devpts
    0x0027_e0eb, // cgroup
    0x0765_5821, // resctrl
    0x1980_0202, // mqueue
    0x4249_4e4d, // binfmt_misc
    0x4341_5d53, // smackfs
    0x6165_676c, // pstore
    0x6265_6570, // configfs
    0x6265_6572, // sysfs
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x6573_5543, // fusectl
    0x6e73_6673, // nsfs
    0x7363_6673, // securityfs
    0x7472_6163, // tracefs
    0xabba_1974, // xenfs
    0xcafe_4a11, // bpf
    0xde5e_81e4, // efivarfs
    0xf97c_ff8c, // selinuxfs
];
/// Owner and mode of a file say here who may read it, to everybody alike. Not so with FUSE, NFS or 9p, where somebody
/// else decides, or may let the reader wait.
const ORDINARY: [FsWord; 10] = [
    TMPFS,
    OVERLAY,
    0x0000_ef53, // ext2, ext3, ext4
    0x2fc1_2fc1, // ZFS
    0x5846_5342, // XFS
    0x7371_7368, // squashfs
    0x9123_683e, // Btrfs
    0xca45_1a4e, // bcachefs
    0xe0f5_e1e2, // EROFS
    0xf2f5_2010, // F2FS
];

/// Whether the kernel makes the files up.
pub fn is_kernels(magic: FsWord) -> bool {
    KERNELS.contains(&magic)
}

/// Whether a file is what its mode says.
pub fn is_ordinary(magic: FsWord) -> bool {
    ORDINARY.contains(&magic)
}
