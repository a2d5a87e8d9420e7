//! Escapes: how bytes that would break a line are written, `\n`, `\t`, `\\` and `\OOO` (octal).

/// The bytes that escaped text stands for, or `None` after a backslash that begins no escape.
pub(crate) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (byte, length) = escaped(after)?;
        bytes.push(byte);
        rest = after.get(length..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// One escape without its backslash: what it means and how long it is.
fn escaped(text: &str) -> Option<(u8, usize)> {
    match text.as_bytes().first()? {
        b'n' => Some((b'\n', 1)),
        b't' => Some((b'\t', 1)),
        b'\\' => Some((b'\\', 1)),
        _ => Some((octal(text.get(..3)?)?, 3)),
    }
}

fn octal(digits: &str) -> Option<u8> {
    let all_octal = digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    all_octal.then(|| u8::from_str_radix(digits, 8).ok()).flatten()
}

/// File content as text of one line.
pub(crate) fn content(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| if *byte == b' ' { " ".to_owned() } else { escape(*byte) }).collect()
}

/// A path, name or link target as text without whitespace and control characters.
pub(crate) fn word(text: &str) -> String {
    let is_odd = |c: char| c == '\\' || c.is_ascii_whitespace() || c.is_control();
    let one = |c: char| match is_odd(c) {
        true => c.to_string().bytes().map(|byte| format!("\\{byte:03o}")).collect(),
        false => c.to_string(),
    };
    text.chars().map(one).collect()
}

fn escape(byte: u8) -> String {
    match byte {
        b'\n' => "\\n".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'\\' => "\\\\".to_owned(),
        0x21..=0x7e => char::from(byte).to_string(),
        _ => format!("\\{byte:03o}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let bytes = b"Model: \t\t A\\B\n\x00\xff  \n";
        assert_eq!(content(bytes), "Model: \\t\\t A\\\\B\\n\\000\\377  \\n");
        assert_eq!(unescape(&content(bytes)).as_deref(), Some(&bytes[..]));
        assert_eq!(word("a b\\é"), "a\\040b\\134é");
        assert_eq!(unescape("a\\040b\\134é"), Some("a b\\é".into()));
        let odd = "/\u{c}\u{b}\u{1b}\u{7f}\u{85}é";
        assert_eq!(word(odd), "/\\014\\013\\033\\177\\302\\205é");
        assert_eq!(unescape(&word(odd)), Some(odd.into()));
    }

    #[test]
    fn no_escape() {
        for text in ["\\", "\\x", "\\04", "\\8aa", "\\777", "\\+12", "\\0é"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }
}
