//! Long cache: most of a cache of thousands of libraries is copied while the links are made. I/O.
//!
//! The cache of 20,000 libraries has 1.3 MB, and to copy it takes longer than all else that the hook does. Two thirds of it
//! are strings, which are the same whatever is added. So a second thread begins with those at once, and the first thread
//! writes the rest around them when all libraries are in their places.

use std::fs::File;
use std::io::{self, BufWriter};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::fs::{FallocateFlags, RawMode};

use super::ld_cache::{self, Added, Insertion};
use super::root::{Draft, Place};

/// Bytes that are copied at once where the kernel does not.
const CHUNK: usize = 48 << 10;

/// A cache that is being copied.
pub struct Ahead {
    cache: Arc<File>,
    size: usize,
    draft: Arc<Draft>,
    /// Until it is done.
    copying: Option<JoinHandle<io::Result<()>>>,
}

impl Ahead {
    /// Begins to copy a cache beside its place.
    ///
    /// # Errors
    /// It is none that can be extended as it stands; the directory cannot be written; or there is no thread to be had.
    pub fn start(cache: File, size: usize, place: Place) -> io::Result<Self> {
        let (strings, at) = ld_cache::strings(&cache, size)?;
        let (cache, draft) = (Arc::new(cache), Arc::new(place.draft()?));
        let (from, to) = (Arc::clone(&cache), Arc::clone(&draft));
        let copying = Some(thread::Builder::new().spawn(move || copy(&from, strings, &to.file, at))?);
        Ok(Self { cache, size, draft, copying })
    }

    /// Puts entries into the cache; not done where that is not possible without more.
    ///
    /// # Errors
    /// It cannot be read, or the other one not written.
    pub fn insert(mut self, added: &Added<'_>, mode: RawMode) -> io::Result<bool> {
        let Some(insertion) = Insertion::around(&*self.cache, self.size, added)? else { return Ok(false) };
        if insertion.is_empty() {
            return Ok(true);
        }
        insertion.write_around(&mut BufWriter::new(&self.draft.file))?;
        let is_copied = self.finish()?;
        if is_copied {
            self.draft.put(mode)?;
        }
        Ok(is_copied)
    }

    /// Waits for the second thread, and tells whether it came to its end.
    fn finish(&mut self) -> io::Result<bool> {
        let Some(Ok(copied)) = self.copying.take().map(JoinHandle::join) else { return Ok(false) };
        copied.map(|()| true)
    }
}

impl Drop for Ahead {
    /// A file beside goes with its draft, when nobody writes it any more.
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// Copies bytes to another place of another file, whose cursor stays where it is.
fn copy(file: &File, range: Range<usize>, out: &File, at: usize) -> io::Result<()> {
    let (mut from, mut to, end) = (range.start as u64, at as u64, range.end as u64);
    let mut buffer = Vec::new();
    // All room at once takes less than bit by bit, for the first thread too. Not each file system can.
    let _ = rustix::fs::fallocate(out, FallocateFlags::empty(), 0, to + (end - from));
    while from < end {
        let left = usize::try_from(end - from).unwrap_or(CHUNK);
        // Without a way through our memory. Not each file system can.
        if let Ok(1..) = rustix::fs::copy_file_range(file, Some(&mut from), out, Some(&mut to), left) {
            continue;
        }
        buffer.resize(left.min(CHUNK), 0);
        file.read_exact_at(&mut buffer, from)?;
        out.write_all_at(&buffer, to)?;
        (from, to) = (from + buffer.len() as u64, to + buffer.len() as u64);
    }
    Ok(())
}
