//! Long cache: most of a cache of thousands of libraries is copied while the links are made. I/O.
//!
//! The cache of 20,000 libraries has 1.3 MB, and to copy it takes longer than all else that the hook does. Two thirds of it
//! are strings, which are the same whatever is added. So a second thread copies those first, and the first thread does the
//! rest when all libraries are in their places.

use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::fs::RawMode;

use super::ld_cache::{Added, Insertion, copy_strings};
use super::root::{Draft, Place};

/// A cache that is being copied.
pub struct Ahead {
    cache: Arc<File>,
    size: usize,
    /// Until it is done.
    copying: Option<JoinHandle<io::Result<Draft>>>,
}

impl Ahead {
    /// Begins to copy a cache beside its place.
    ///
    /// # Errors
    /// The directory cannot be written, or there is no thread to be had.
    pub fn start(cache: File, size: usize, place: Place) -> io::Result<Self> {
        let (cache, draft) = (Arc::new(cache), place.draft()?);
        let read = Arc::clone(&cache);
        let copy = move || copy_strings(&*read, size, &mut &draft.file).map(|()| draft);
        let copying = Some(thread::Builder::new().spawn(copy)?);
        Ok(Self { cache, size, copying })
    }

    /// Puts entries into the cache; not done where that is not possible without more.
    ///
    /// # Errors
    /// It cannot be read, or the other one not written.
    pub fn insert(mut self, added: &Added<'_>, mode: RawMode) -> io::Result<bool> {
        let cache = Arc::clone(&self.cache);
        let Some(insertion) = Insertion::around(&*cache, self.size, added)? else { return Ok(false) };
        let Some(draft) = self.finish()? else { return Ok(false) };
        if !insertion.is_empty() {
            insertion.write_around(&mut BufWriter::new(&draft.file))?;
            draft.put(mode)?;
        }
        Ok(true)
    }

    fn finish(&mut self) -> io::Result<Option<Draft>> {
        self.copying.take().and_then(|thread| thread.join().ok()).transpose()
    }
}

impl Drop for Ahead {
    /// A file beside goes with its draft.
    fn drop(&mut self) {
        let _ = self.finish();
    }
}
