//! Ownership: which spec files are ours to rewrite and to remove. Pure.
//!
//! A YAML file says so in its first line, which no engine reads. JSON has no place for remarks: there a file is ours if
//! it is, byte for byte, what we would write for what it says.

use cdi_specs::{Format, Spec};

/// The first line of our YAML files.
const MARK: &str = "# Written by cdi-gen; `cdi-gen refresh` writes it anew.\n";
/// How it starts, whatever later versions say behind it.
const MARK_START: &[u8] = b"# Written by cdi-gen";

/// The text of a file of ours.
pub fn text(spec: &Spec, format: Format) -> String {
    let text = cdi_specs::to_text(spec, format);
    match format {
        Format::Yaml => MARK.to_owned() + &text,
        Format::Json => text,
    }
}

/// Whether a file is ours.
pub fn is_ours(bytes: &[u8], format: Format) -> bool {
    match format {
        Format::Yaml => bytes.starts_with(MARK_START),
        Format::Json => {
            let spec = cdi_specs::parse(bytes, format);
            spec.is_ok_and(|spec| cdi_specs::to_text(&spec, format).as_bytes() == bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_others() {
        let others = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices: [{name: a, containerEdits: {env: [A=b]}}]\n";
        let spec = cdi_specs::parse_yaml(others).unwrap();
        assert!(!is_ours(others.as_bytes(), Format::Yaml));
        for format in [Format::Yaml, Format::Json] {
            let ours = text(&spec, format);
            assert!(is_ours(ours.as_bytes(), format));
            assert_eq!(cdi_specs::parse(ours.as_bytes(), format), Ok(spec.clone()));
        }
        let json = text(&spec, Format::Json);
        assert!(!is_ours(json.replace('\n', "").as_bytes(), Format::Json));
        assert!(!is_ours(b"{", Format::Json));
    }
}
