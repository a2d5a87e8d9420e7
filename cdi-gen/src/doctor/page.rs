//! Page: a checkup and its findings as one HTML file that needs no other: no script, no font, no network. Pure.

use std::fmt::Write;

use cdi_specs::{Spec, printable};

use super::diagnose::devices;
use super::screen::{rows, verdict};
use super::{Checkup, Finding, SpecText, graph};

const STYLE: &str = include_str!("page.css");

/// What a text is shown as, before it is escaped.
pub type Show<'s> = dyn FnMut(&str) -> String + 's;

/// The page. A reader is told no more of a text than `show` leaves of it.
pub fn html(checkup: &Checkup, findings: &[Finding], show: &mut Show<'_>) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>GPUs in containers</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>GPUs in containers</h1>\n<p>{}</p>\n",
        escape(&verdict(findings))
    );
    out += &of_findings(findings, show);
    out += "<h2>This host</h2>\n<table>\n";
    for (word, text) in rows(checkup) {
        let _ = writeln!(out, "<tr><th>{word}</th><td>{}</td></tr>", escape(&show(&text)));
    }
    out += "</table>\n";
    if let Some((title, spec)) = shown(checkup) {
        let _ = writeln!(out, "<h2>{}</h2>\n<div class=\"graph\">\n{}</div>", escape(&title), graph::svg(spec, show));
    }
    out + "</body>\n</html>\n"
}

fn of_findings(findings: &[Finding], show: &mut Show<'_>) -> String {
    let mut out = String::new();
    for finding in findings {
        let Finding { severity, code, message, evidence, repair } = finding;
        let message = escape(&show(message));
        let _ = writeln!(out, "<section class=\"{severity}\">\n<h3>{message} <code>{code}</code></h3>");
        for line in evidence {
            let _ = writeln!(out, "<p>{}</p>", escape(&show(line)));
        }
        if let Some(repair) = repair {
            let _ = writeln!(out, "<pre>{}</pre>", escape(&show(&repair.to_string())));
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
    for character in printable(text).chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::Repair;
    use super::*;
    use crate::problem::Severity;

    #[test]
    fn what_a_file_is_called_is_text() {
        let path = "/etc/cdi/<script>alert(1)</script>;\"&\" \u{1b}[0m\u{202e}.yaml";
        let finding = Finding::new(Severity::Error, "malformed", path).fix(Repair::command(&["rm", path]));
        let page = html(&Checkup::default(), &[finding], &mut str::to_owned);
        let shown = "&lt;script&gt;alert(1)&lt;/script&gt;;&quot;&amp;&quot; ";
        assert!(page.contains(&format!("<h3>/etc/cdi/{shown}\\u{{1b}}[0m\\u{{202e}}.yaml <code>")), "{page}");
        let word = format!("$&#39;/etc/cdi/{shown}\\033[0m\\342\\200\\256.yaml&#39;");
        assert!(page.contains(&format!("<pre>rm {word}</pre>")), "{page}");
        assert!(!page.contains("<script"));
    }
}
