//! Device list: the numbers of device nodes that a directory tree cannot hold, as text.
//!
//! It stands in for the nodes of another host: where a spec is generated for it, and where it is applied. A line a node, in the words of `host.tree`: `char PATH MAJOR MINOR MODE [UID GID]`, MODE octal, whitespace in PATH
//! as `\040`. Blank lines and `#` comments are passed over.

use std::collections::BTreeMap;

use serde::Serialize;
use thiserror::Error;

/// The numbers and the permissions of a character device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Major number: the driver.
    pub major: u32,
    /// Minor number: the device.
    pub minor: u32,
    /// Permission bits, `0o666` in most cases.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Node {
    /// Whether everybody may read and write it.
    pub fn is_for_everybody(self) -> bool {
        self.mode & 0o006 == 0o006
    }
}

/// Nodes by host path.
pub type DeviceList = BTreeMap<String, Node>;

/// A line that is not of the form above.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: expected `char PATH MAJOR MINOR MODE [UID GID]`, found `{text}`")]
pub struct DeviceListError {
    /// Counted from 1.
    pub line: usize,
    /// The line as it stands.
    pub text: String,
}

/// The nodes that the text lists.
///
/// # Errors
/// The first malformed line.
pub fn parse(text: &str) -> Result<DeviceList, DeviceListError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(at, line)| parse_line(line).ok_or_else(|| DeviceListError { line: at + 1, text: line.into() }))
        .collect()
}

fn parse_line(line: &str) -> Option<(String, Node)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (path, major, minor, mode, uid, gid) = match *fields.as_slice() {
        ["char", path, major, minor, mode] => (path, major, minor, mode, "0", "0"),
        ["char", path, major, minor, mode, uid, gid] => (path, major, minor, mode, uid, gid),
        _ => return None,
    };
    let path = path.starts_with('/').then(|| unescape(path))?;
    let node = Node {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        mode: u32::from_str_radix(mode, 8).ok()?,
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
    };
    Some((path, node))
}

/// The text with `\040` and its kind (fstab(5)) turned back into bytes.
pub fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'\\').then(|| tail.get(..3)).flatten().and_then(octal);
        out.push(code.unwrap_or(first));
        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_node() {
        let list = parse("# a comment\n\nchar /dev/nvidia0 195 0 0666\nchar /dev/a\\040b 10 125 0660 0 44\n").unwrap();
        assert_eq!(list["/dev/nvidia0"], Node { major: 195, minor: 0, mode: 0o666, uid: 0, gid: 0 });
        assert_eq!(list["/dev/a b"].gid, 44);
    }

    #[test]
    fn a_malformed_line_is_named() {
        for bad in
            ["char dev/nvidia0 195 0 0666", "char /dev/nvidia0 195 0", "file /dev/nvidia0 x y z", "char /d 1 2 0999"]
        {
            let error = parse(&format!("char /dev/x 1 2 0666\n{bad}\n")).unwrap_err();
            assert_eq!(error, DeviceListError { line: 2, text: bad.into() });
        }
    }
}
