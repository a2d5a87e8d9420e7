//! Shown: text that strangers wrote, as people and shells may see it.
//!
//! Names of files, variables of an image and words of a configuration are not ours. A terminal obeys the control
//! characters in them, a log takes their line breaks for its own, and a shell runs what an administrator pastes.

use std::borrow::Cow;
use std::fmt::Write;

/// A text in one line: control characters, and those that change the direction of what follows, are written out.
pub fn printable(text: &str) -> String {
    let write_out = |character: char| {
        let (plain, escaped) =
            if is_obeyed(character) { (None, Some(character.escape_default())) } else { (Some(character), None) };
        plain.into_iter().chain(escaped.into_iter().flatten())
    };
    text.chars().flat_map(write_out).collect()
}

/// Whether a terminal acts on a character instead of showing it: control characters, the line and paragraph separators,
/// and the marks, embeddings, overrides and isolates of the bidirectional algorithm (UAX #9).
fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The same JSON with escapes in the place of what a terminal would obey, but for the breaks between its lines. JSON
/// lets them stand as they are, save those of ASCII.
pub fn printable_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\n' => out.push('\n'),
            character if is_obeyed(character) => _ = write!(out, "\\u{:04x}", u32::from(character)),
            character => out.push(character),
        }
    }
    out
}

/// The start of a text, as far as `most` characters go: a name may be as long as strangers like.
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()).into(),
        None => text.into(),
    }
}

/// A command line that a shell takes for these very words. Words that a terminal would obey are quoted with `$'…'`, which
/// bash, zsh, ksh and POSIX 2024 know.
pub fn shell_line<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    words.into_iter().map(shell_word).collect::<Vec<_>>().join(" ")
}

/// One word of it.
pub fn shell_word(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else if word.chars().any(is_obeyed) {
        let byte = |byte: u8| match byte {
            b'\'' | b'\\' => format!("\\{}", char::from(byte)),
            b' '..=b'~' => char::from(byte).to_string(),
            // Three digits, so that what follows is none of them.
            _ => format!("\\{byte:03o}"),
        };
        format!("$'{}'", word.bytes().map(byte).collect::<String>())
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_out() {
        assert_eq!(printable("a\u{1b}]0;x\u{7}\nerror é"), "a\\u{1b}]0;x\\u{7}\\nerror é");
        assert_eq!(printable("\u{202e}\u{2028}\u{9b}m"), "\\u{202e}\\u{2028}\\u{9b}m");
        assert_eq!(printable("Größe 漢字 👍"), "Größe 漢字 👍");
    }

    #[test]
    fn json_is_the_same_json() {
        let text = "a\u{1b}\u{7f}\u{9b}\u{202e}\n\u{85}é";
        let json = serde_json::to_string_pretty(&[text]).unwrap();
        let shown = printable_json(&json);
        assert_eq!(shown, "[\n  \"a\\u001b\\u007f\\u009b\\u202e\\n\\u0085é\"\n]");
        assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [text]);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shortened("漢字漢字", 2), "漢字…");
        assert_eq!(shortened("漢字", 2), "漢字");
    }

    #[test]
    fn a_shell_takes_a_word_for_itself() {
        let cases = [
            ("/etc/cdi/nvidia.yaml", "/etc/cdi/nvidia.yaml"),
            ("nvidia.com/gpu=0", "nvidia.com/gpu=0"),
            ("", "''"),
            ("a;touch x;.yaml", "'a;touch x;.yaml'"),
            ("it's", r"'it'\''s'"),
            ("~/x", "'~/x'"),
            ("$(id)", "'$(id)'"),
            ("a\u{1b}'\\\n1", r"$'a\033\'\\\0121'"),
        ];
        for (word, expected) in cases {
            assert_eq!(shell_word(word), expected, "{word:?}");
        }
        assert_eq!(shell_line(["mv", "a b", "c"]), "mv 'a b' c");
    }

    #[test]
    fn a_real_shell_agrees() {
        // Bytes that a word can hold: all but NUL.
        let words: Vec<String> = (1_u32..0x300).filter_map(char::from_u32).map(|c| format!("a{c}1'{c}")).collect();
        let script = words.iter().fold(String::from("printf '%s\\0'"), |line, word| line + " " + &shell_word(word));
        #[expect(clippy::disallowed_methods, reason = "asks a shell")]
        let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
        let expected: String = words.iter().map(|word| format!("{word}\0")).collect();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}
