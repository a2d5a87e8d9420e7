//! Limited: files of others, read no further than they may be long. I/O.

use std::fs::File;
use std::io::{self, Read};

/// Room for what is usually read: that takes one call then, which matters for `/proc/devices`, made anew at each call.
const USUAL_BYTES: usize = 32 << 10;

/// All that there is to read, but no more than one byte over a limit: the caller then knows.
///
/// # Errors
/// As the reader's.
pub fn read(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    read_into(Vec::with_capacity(USUAL_BYTES), reader, limit)
}

/// The same of a file that may be long: room is made once, for what it says that it has.
///
/// # Errors
/// As the file's.
pub fn read_long(file: &File, limit: usize) -> io::Result<Vec<u8>> {
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(limit);
    // One byte more, to see the end.
    read_into(Vec::with_capacity(size.min(limit).saturating_add(1)), file, limit)
}

fn read_into(mut bytes: Vec<u8>, reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    reader.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
