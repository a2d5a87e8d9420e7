//! Limited: files of others, read no further than they may be long. I/O.

use std::io::{self, Read};

/// Room for what is usually read: that takes one call then, which matters for `/proc/devices`, made anew at each call.
const USUAL_BYTES: usize = 32 << 10;

/// All that there is to read, but no more than one byte over a limit: the caller then knows.
///
/// # Errors
/// As the reader's.
pub fn read(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    reader.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
