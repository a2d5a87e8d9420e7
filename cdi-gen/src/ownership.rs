//! Ownership: which spec files are ours to rewrite and to remove. Pure.
//!
//! A YAML file says so in its first line, which no engine reads. JSON has no place for remarks: there a file is ours if
//! it is, byte for byte, what we would write for what it says. The first line can be copied with the rest of a file, so a
//! spec must also say what each of ours says. A file with our first line that is no spec at all is ours to write anew,
//! and nobody's to remove.

use cdi_specs::{Format, HOOK_NAME, Spec};

use crate::plan::LEGACY_RUNTIME_OFF;

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

/// Whether a file is ours to write anew.
pub fn is_ours(bytes: &[u8], format: Format) -> bool {
    match cdi_specs::parse(bytes, format) {
        Ok(spec) => is_marked(bytes, format, &spec) && says_what_ours_say(&spec),
        Err(_) => format == Format::Yaml && bytes.starts_with(MARK_START),
    }
}

/// Whether a file is a spec of ours, and so ours to remove.
pub fn is_generated(bytes: &[u8], format: Format) -> bool {
    let spec = cdi_specs::parse(bytes, format);
    spec.is_ok_and(|spec| is_marked(bytes, format, &spec) && says_what_ours_say(&spec))
}

fn is_marked(bytes: &[u8], format: Format, spec: &Spec) -> bool {
    match format {
        Format::Yaml => bytes.starts_with(MARK_START),
        Format::Json => cdi_specs::to_text(spec, format).as_bytes() == bytes,
    }
}

/// All of ours turn the legacy runtime off, and run no hook but ours.
fn says_what_ours_say(spec: &Spec) -> bool {
    let edits = spec.devices.iter().map(|device| &device.container_edits).chain([&spec.container_edits]);
    let mut hooks = edits.flat_map(|edits| &edits.hooks);
    let (name, value) = LEGACY_RUNTIME_OFF;
    spec.container_edits.env.contains(&format!("{name}={value}"))
        && hooks.all(|hook| hook.args.first().is_some_and(|name| name == HOOK_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDING: &str = "devices: [{name: a, containerEdits: {env: [A=b]}}]\n";

    /// A spec of a kind; with the edit that each of ours has, or without.
    fn spec(kind: &str, edit: &str) -> String {
        format!("cdiVersion: 0.5.0\nkind: {kind}\ncontainerEdits: {{{edit}}}\n{ENDING}")
    }

    #[test]
    fn ours_and_others() {
        let others = spec("nvidia.com/gpu", "env: [NVIDIA_VISIBLE_DEVICES=void]");
        let parsed = cdi_specs::parse_yaml(&others).unwrap();
        assert!(!is_ours(others.as_bytes(), Format::Yaml));
        for format in [Format::Yaml, Format::Json] {
            let ours = text(&parsed, format);
            assert!(is_ours(ours.as_bytes(), format) && is_generated(ours.as_bytes(), format));
            assert_eq!(cdi_specs::parse(ours.as_bytes(), format), Ok(parsed.clone()));
        }
        let json = text(&parsed, Format::Json);
        assert!(!is_ours(json.replace('\n', "").as_bytes(), Format::Json));
        assert!(!is_ours(b"{", Format::Json));
    }

    #[test]
    fn a_first_line_alone_makes_no_file_ours() {
        let hook = "env: [NVIDIA_VISIBLE_DEVICES=void], hooks: [{hookName: createContainer, path: /x, args: [x]}]";
        for others in [spec("amd.com/gpu", ""), spec("nvidia.com/gpu", ""), spec("nvidia.com/gpu", hook)] {
            let marked = MARK.to_owned() + &others;
            cdi_specs::parse_yaml(&others).unwrap();
            assert!(!is_ours(marked.as_bytes(), Format::Yaml), "{marked}");
            assert!(!is_generated(marked.as_bytes(), Format::Yaml), "{marked}");
            let json = cdi_specs::to_json(&cdi_specs::parse_yaml(&others).unwrap());
            assert!(!is_ours(json.as_bytes(), Format::Json), "{json}");
        }
        // What a crash left of a file of ours, say: it is written anew, but not removed.
        let damaged = MARK.to_owned() + "cdiVer";
        assert!(is_ours(damaged.as_bytes(), Format::Yaml) && !is_generated(damaged.as_bytes(), Format::Yaml));
    }
}
