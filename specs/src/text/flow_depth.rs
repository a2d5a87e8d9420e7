//! How deep `[` and `{` nest in YAML text, without parsing it.
//!
//! Quoted text and comments do not count, nor does a bracket inside a plain word. It is a guard against documents made
//! to be slow, not a parser: multi-line plain text can mislead it, at the cost of time and never of correctness.

use std::iter::Peekable;
use std::str::Bytes;

/// The byte offset of the first bracket that opens more than `limit` levels.
pub(super) fn exceeds(text: &str, limit: usize) -> Option<usize> {
    let mut scan = Scan { bytes: text.bytes().peekable(), offset: 0 };
    let mut depth = 0_usize;
    let mut last = b'\n';
    let mut last_mark = b'\n';
    while let Some(byte) = scan.next() {
        match byte {
            b'"' if starts_token(last_mark) => scan.skip_double_quoted(),
            b'\'' if starts_token(last_mark) => scan.skip_single_quoted(),
            b'#' if last.is_ascii_whitespace() => scan.skip_comment(),
            b'[' | b'{' if depth > 0 || starts_token(last_mark) || last == b' ' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return Some(scan.offset - 1);
        }
        last = byte;
        last_mark = if byte == b' ' || byte == b'\t' { last_mark } else { byte };
    }
    None
}

/// Whether a token starts behind this byte, blanks aside.
fn starts_token(last_mark: u8) -> bool {
    matches!(last_mark, b'\n' | b'\r' | b'[' | b'{' | b',' | b':' | b'-' | b'?')
}

struct Scan<'t> {
    bytes: Peekable<Bytes<'t>>,
    offset: usize,
}

impl Scan<'_> {
    fn next(&mut self) -> Option<u8> {
        self.offset += 1;
        self.bytes.next()
    }

    fn skip_double_quoted(&mut self) {
        while let Some(byte) = self.next() {
            match byte {
                b'"' => return,
                b'\\' => _ = self.next(),
                _ => {}
            }
        }
    }

    fn skip_single_quoted(&mut self) {
        while let Some(byte) = self.next() {
            let closes = byte == b'\'' && self.bytes.peek() != Some(&b'\'');
            if closes {
                return;
            }
            if byte == b'\'' {
                self.next();
            }
        }
    }

    /// Leaves the newline to be read: a token may start behind it.
    fn skip_comment(&mut self) {
        while self.bytes.peek().is_some_and(|byte| *byte != b'\n') {
            self.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_brackets_that_nest_count() {
        let cases = [
            ("a: [[1, 2], {b: c}]", None),
            ("a: [[[", Some(5)),
            ("{a: {a: {a: 1}}}", Some(8)),
            ("[[], [], []]", None),
            ("a: '[[['", None),
            ("a: 'it''s [[['", None),
            ("a: \"[\\\"[[\"", None),
            ("['[[[', \"[[[\"]", None),
            ("# [[[\na: b # [[[\n", None),
            ("- don't\n- [[[\n- 'x'", Some(12)),
            ("- X=[\n- X=[\n- X=[\n", None),
            ("- a#[\n- [[[", Some(10)),
            ("- !!seq [[[", Some(10)),
            ("\"\\", None),
            ("'", None),
        ];
        for (text, offset) in cases {
            assert_eq!(exceeds(text, 2), offset, "{text}");
        }
    }
}
