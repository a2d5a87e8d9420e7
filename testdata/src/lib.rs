//! Fixture hosts: each is one text file, `hosts/<layout>/host.tree`, that is laid out as a real directory tree.
//!
//! The format stands in [`HostTree`]; a newcomer adds a layout by adding a folder. Beside them stand [`bundles`]: what
//! real container engines hand to their runtimes; and [`container`]: roots with volumes, procfs and the host's directories
//! below them, for attacks on what works in such a root.

pub mod attacks;
mod bundles;
pub mod container;
pub mod elf;
mod escape;
mod host_tree;
mod hosts;
mod lay_out;
pub mod ld_so_cache;
mod resolve;
mod runtime_attacks;

pub use bundles::{BUNDLES_CDI, Bundle, bundle, bundles};
pub use host_tree::{Entry, HostTree, ParseError, Trouble};
pub use hosts::{Host, host, hosts, sample};
pub use runtime_attacks::{RUNTIME_ATTACKS, RUNTIME_ATTACKS_CONFIGURATION, RuntimeAttack};
