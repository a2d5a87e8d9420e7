//! What an engine does between making a bundle and starting it: `cargo run --example engine -- BUNDLE DEVICE…`.

use cdi_apply::bundle::ConfigFile;
use cdi_apply::document::Document;
use cdi_apply::{Registry, Request, SpecDirs, device_numbers, inject, resolve};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let bundle = words.next().ok_or("usage: engine BUNDLE DEVICE…")?;
    let asked = words.map(|word| word.parse()).collect::<Result<Vec<Request>, _>>()?;

    let registry = Registry::new(&SpecDirs::of_this_user().read());
    registry.problems().iter().for_each(|problem| eprintln!("warning: {problem}"));
    let edits = resolve(&registry, &asked)?.edits();
    let host = device_numbers::read(&edits);
    host.check(&edits)?;

    let config = ConfigFile::of_bundle(bundle.as_ref())?;
    let mut document = Document::parse(config.text())?;
    inject(&mut document.value, &edits, &host)?;
    config.replace(document.to_text().as_bytes())?;
    Ok(())
}
