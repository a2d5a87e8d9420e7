//! Bundle: `config.json` on disk, read and replaced. I/O.
//!
//! How it is replaced, and kept from others meanwhile, is [`cdi_files::replace`]'s business. Whoever may write the bundle's
//! directory may be anybody: nothing outside of it is touched on their word.

use std::io;
use std::path::Path;

use cdi_files::replace::{Flush, Replacing};

use crate::document::MAX_BYTES;

/// What went wrong with which file.
pub use cdi_files::replace::ReplaceError as BundleError;

/// The OCI runtime spec of a bundle.
pub const CONFIG: &str = "config.json";

/// A `config.json` that may be replaced.
#[derive(Debug)]
pub struct ConfigFile(Replacing);

impl ConfigFile {
    /// Reads that of a bundle.
    ///
    /// # Errors
    /// As [`ConfigFile::open`].
    pub fn of_bundle(bundle: &Path) -> Result<Self, BundleError> {
        Self::open(&bundle.join(CONFIG))
    }

    /// Reads a file, and keeps others who come through here from it as long as the value lives.
    ///
    /// # Errors
    /// There is none, it is a link or no regular file, it is in use. One that is longer than [`MAX_BYTES`] is read to one
    /// byte behind that, and cannot be replaced.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let file = Replacing::open(path, MAX_BYTES)?;
        let missing = || BundleError {
            operation: "read",
            path: path.to_owned(),
            source: io::Error::from(rustix::io::Errno::NOENT),
        };
        if file.old().is_some() { Ok(Self(file)) } else { Err(missing()) }
    }

    /// What it holds.
    pub fn text(&self) -> &[u8] {
        self.0.old().map(|old| old.text.as_slice()).unwrap_or_default()
    }

    /// Replaces it, unless it holds just that; says whether it did.
    ///
    /// # Errors
    /// The new file could not be written, or somebody else has changed the old one, which is untouched then.
    pub fn replace(self, text: &[u8]) -> Result<bool, BundleError> {
        self.replace_and(text, Flush::Bytes)
    }

    /// The same without waiting for the disk: for the bundle of a container that starts now, which an engine makes anew
    /// after a loss of power.
    ///
    /// # Errors
    /// As [`ConfigFile::replace`].
    pub fn replace_unsynced(self, text: &[u8]) -> Result<bool, BundleError> {
        self.replace_and(text, Flush::Nothing)
    }

    fn replace_and(self, text: &[u8], flush: Flush) -> Result<bool, BundleError> {
        if text == self.text() {
            return Ok(false);
        }
        self.0.write(text, flush)?.take_place()?;
        Ok(true)
    }
}
