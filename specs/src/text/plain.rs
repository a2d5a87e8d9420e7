//! Which words mean something other than their text when YAML finds them unquoted.
//!
//! Readers follow YAML 1.1 (Go engines, partly) or 1.2, so a word counts if either says so, in any case of letters.

/// Whether unquoted `text` may be read as null, bool, number, date or merge key.
pub(super) fn has_other_meaning(text: &str) -> bool {
    is_keyword(text) || is_number(text) || is_date(text)
}

fn is_keyword(text: &str) -> bool {
    const KEYWORDS: [&str; 13] = ["", "<<", "=", "false", "n", "no", "null", "off", "on", "true", "y", "yes", "~"];
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(text))
}

fn is_number(text: &str) -> bool {
    let starts_like_one = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    if !starts_like_one {
        return false;
    }
    let digits = text.replace('_', "").to_ascii_lowercase();
    let digits = digits.strip_prefix(['+', '-']).unwrap_or(&digits);
    is_prefixed_int(digits) || is_float(digits) || is_sexagesimal(digits) || matches!(digits, ".inf" | ".nan")
}

/// `0x1f`, `0o17`, `0b11`.
fn is_prefixed_int(text: &str) -> bool {
    let prefixes = [("0x", 16), ("0o", 8), ("0b", 2)];
    prefixes.iter().any(|(prefix, radix)| text.strip_prefix(prefix).is_some_and(|digits| all_digits(digits, *radix)))
}

/// `12`, `1.5`, `.5`, `1.`, `1e3`.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_digits = !(whole.is_empty() && fraction.is_empty());
    let decimal = |digits: &str| digits.is_empty() || all_digits(digits, 10);
    has_digits && decimal(whole) && decimal(fraction) && all_digits(exponent, 10)
}

/// `1:30:00`: base 60 in YAML 1.1.
fn is_sexagesimal(text: &str) -> bool {
    let whole = text.split_once('.').map_or(text, |(whole, _fraction)| whole);
    whole.contains(':') && whole.split(':').all(|digits| all_digits(digits, 10))
}

/// `2001-01-01`, and what follows it on the same day.
fn is_date(text: &str) -> bool {
    let day = text.split(['T', 't', ' ']).next().unwrap_or_default();
    let parts: Vec<&str> = day.split('-').collect();
    matches!(parts.as_slice(), [year, month, day] if year.len() == 4 && month.len() <= 2 && day.len() <= 2)
        && parts.iter().all(|part| all_digits(part, 10))
}

fn all_digits(text: &str, radix: u32) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_digit(radix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traps_of_yaml_1_1_and_1_2() {
        let traps = [
            "",
            "~",
            "=",
            "<<",
            "y",
            "Y",
            "n",
            "N",
            "yes",
            "Yes",
            "YES",
            "no",
            "on",
            "On",
            "off",
            "OFF",
            "true",
            "True",
            "false",
            "FALSE",
            "null",
            "Null",
            "NULL",
            "0",
            "00",
            "0666",
            "7",
            "-1",
            "+1",
            "1_000",
            "+_1",
            "0x1F",
            "0X1f",
            "-0x1",
            "0o17",
            "0b11",
            "0b_1",
            "1.5",
            "1.",
            ".5",
            "-.5",
            "1e3",
            "1.5E-3",
            "1:30:00",
            "-1:30",
            "12:30.5",
            ".inf",
            "-.Inf",
            "+.INF",
            ".nan",
            ".NaN",
            "2001-01-01",
            "2001-1-1",
            "2001-12-14t21:59:43.10-05:00",
            "2001-12-14 21:59:43",
        ];
        for text in traps {
            assert!(has_other_meaning(text), "{text}");
        }
    }

    #[test]
    fn ordinary_words_of_specs() {
        let words = [
            "0.5.0",
            "580.159.04",
            "nvidia.com/gpu",
            "/dev/nvidia0",
            "all",
            "GPU-00000000-1111-2222-3333-444444444444",
            "ro",
            "rwm",
            "--link",
            "-",
            ".",
            "..",
            "+",
            "-x",
            "0x",
            "0xg",
            "0o8",
            "0b2",
            "1a",
            "1e",
            "e3",
            "0000:3b:00.0",
            "A=1",
            "none",
            "yess",
            "nope",
            "trues",
            "2001-01",
            "2001-01-01x",
            "20011-1-1",
            "1,000",
            "_1",
            "1.2.3",
            "..5",
            "inf",
            "nan",
            "infinity",
            ":1",
            "1:",
            "mixed 1",
        ];
        for text in words {
            assert!(!has_other_meaning(text), "{text}");
        }
    }
}
