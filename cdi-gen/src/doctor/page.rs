//! Page: a checkup and its findings as one HTML file that needs no other: no script, no font, no network. Pure.

use std::fmt::Write;

use cdi_specs::Spec;

use super::diagnose::devices;
use super::screen::{rows, verdict};
use super::{Checkup, Finding, SpecText, graph};

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn html(checkup: &Checkup, findings: &[Finding]) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>GPUs in containers</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>GPUs in containers</h1>\n<p>{}</p>\n",
        escape(&verdict(findings))
    );
    out += &of_findings(findings);
    out += "<h2>This host</h2>\n<table>\n";
    for (word, text) in rows(checkup) {
        let _ = writeln!(out, "<tr><th>{word}</th><td>{}</td></tr>", escape(&text));
    }
    out += "</table>\n";
    if let Some((title, spec)) = shown(checkup) {
        let _ = writeln!(out, "<h2>{}</h2>\n<div class=\"graph\">\n{}</div>", escape(&title), graph::svg(spec));
    }
    out + "</body>\n</html>\n"
}

fn of_findings(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let Finding { severity, code, message, evidence, fix } = finding;
        let _ = writeln!(out, "<section class=\"{severity}\">\n<h3>{} <code>{code}</code></h3>", escape(message));
        for line in evidence {
            let _ = writeln!(out, "<p>{}</p>", escape(line));
        }
        if let Some(fix) = fix {
            let _ = writeln!(out, "<pre>{}</pre>", escape(fix));
        }
        out += "</section>\n";
    }
    out
}

/// The spec that engines use for the GPUs, else the one that would be made.
fn shown(checkup: &Checkup) -> Option<(String, &Spec)> {
    let used = checkup.engines.iter().flat_map(|engine| devices(engine, checkup));
    let mut used = used.filter(|(name, _)| checkup.is_of_kind(name));
    let in_use = used.find_map(|(_, file)| match &file.text {
        SpecText::Spec(spec) => Some((format!("What {} gives containers", file.path), spec.as_ref())),
        _ => None,
    });
    in_use.or_else(|| Some(("What a new spec would give containers".to_owned(), checkup.made.as_ref()?)))
}

/// A text as HTML shows it; names of files are not ours.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            character if character.is_control() => out.push('\u{fffd}'),
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Severity;

    #[test]
    fn what_a_file_is_called_is_text() {
        let finding =
            Finding::new(Severity::Error, "malformed", "/etc/cdi/<script>alert(1)</script>.yaml \"&\" \u{1b}[0m");
        let page = html(&Checkup::default(), &[finding.fix("rm '<x>'")]);
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;.yaml &quot;&amp;&quot; \u{fffd}[0m"), "{page}");
        assert!(!page.contains("<script") && page.contains("rm &#39;&lt;x&gt;&#39;"));
    }
}
