//! inject-cost: what reading specs and injecting a device cost within a process that is warm.
//!
//! `inject-cost SPEC-DIR CONFIG.JSON DEVICE` prints the median of each stage in milliseconds, and the sum of them.
#![expect(clippy::disallowed_methods, reason = "reads what it measures")]

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use cdi_apply::document::Document;
use cdi_apply::{Registry, Request, SpecDirs, device_numbers, inject, resolve};

const ROUNDS: usize = 1000;
const STAGES: [&str; 4] =
    ["read and parse the specs", "resolve, look at the nodes", "parse config.json", "inject and write"];

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [dir, config, device] = words.as_slice() else {
        anyhow::bail!("usage: inject-cost SPEC-DIR CONFIG.JSON DEVICE");
    };
    let config = std::fs::read(config).with_context(|| format!("cannot read {config}"))?;
    let asked = Request::parse_list(device)?;
    let dirs = SpecDirs::new([PathBuf::from(dir)]);
    let mut spans = [const { Vec::new() }; STAGES.len()];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let registry = Registry::new(&dirs.read());
        let read = start.elapsed();
        let edits = resolve(&registry, &asked)?.edits();
        let nodes = device_numbers::read(&edits);
        let resolved = start.elapsed();
        let mut document = Document::parse(&config)?;
        let parsed = start.elapsed();
        inject(&mut document.value, &edits, &nodes)?;
        let text = document.to_text();
        let injected = start.elapsed();
        std::hint::black_box(text);
        let ends = [read, resolved, parsed, injected];
        for (at, span) in spans.iter_mut().enumerate() {
            let before = at.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or_default();
            span.extend(ends.get(at).map(|end| end.saturating_sub(before)));
        }
    }
    let mut sum = 0.0;
    println!("{:44} {:>9}", "within a process, ms", "median");
    for (stage, mut span) in STAGES.iter().zip(spans) {
        span.sort_unstable();
        let median = span.get(ROUNDS / 2).map_or(0.0, |median| median.as_secs_f64() * 1000.0);
        println!("{stage:44} {median:>9.3}");
        sum += median;
    }
    println!("{:44} {sum:>9.3}", "  all together");
    Ok(())
}
