//! Files in root's hands: what is trusted, and how it is opened, read, locked and replaced.
//!
//! One home for what the generator and the consumer both do to the host's files as root. Every step is a system call on
//! a handle: a path is resolved once, what was opened is looked at before it is used, and nothing is changed by its name.

pub mod accounts;
pub mod acl;
pub mod atomic;
pub mod attributes;
pub mod dir;
pub mod kept;
pub mod limited;
pub mod lock;
pub mod node;
pub mod open;
pub mod path_names;
pub mod replace;
pub mod trust;
pub mod umask;
