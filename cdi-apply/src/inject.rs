//! `inject`: devices into the config.json of a container.

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cdi_apply::bundle::{CONFIG, ConfigFile};
use cdi_apply::document::Document;
use cdi_apply::{HostNodes, Problem, Request, SpecTexts, device_numbers, host_paths, request};
use cdi_specs::device_list;
use serde_json::{Value, json};

use crate::cli::Inject;
use crate::{query, read, read_specs, report, requests};

/// Runs the command.
pub fn run(arguments: &Inject, json: bool) -> anyhow::Result<u8> {
    let asked = requests(&arguments.devices)?;
    let texts = read_specs(&arguments.specs)?;
    let listed = arguments.device_nodes.as_deref().map(read_device_list).transpose()?;
    let job = Job { arguments, asked, texts, listed };
    let path = path(arguments);
    if arguments.stdout || path == Path::new("-") {
        let done = job.inject(&read(&path)?, &path)?;
        report::warn(&done.problems, json);
        report::print(&done.text)?;
        return Ok(0);
    }
    let config = ConfigFile::open(&path)?;
    let done = job.inject(config.text(), &path)?;
    let changed = config.replace(done.text.as_bytes())?;
    report::warn(&done.problems, json);
    if json {
        report::print_json(&done.answer(changed, &path))?;
    }
    Ok(0)
}

fn path(arguments: &Inject) -> PathBuf {
    let of_bundle = arguments.bundle.as_ref().map(|bundle| bundle.join(CONFIG));
    of_bundle.or_else(|| arguments.config.clone()).unwrap_or_else(|| "-".into())
}

fn read_device_list(path: &Path) -> anyhow::Result<HostNodes> {
    let cannot = || format!("cannot read the device list {}", path.display());
    let text = String::from_utf8(read(path)?).with_context(cannot)?;
    Ok(HostNodes::of_list(&device_list::parse(&text).with_context(cannot)?))
}

/// What is asked for, with all that it is answered from.
struct Job<'a> {
    arguments: &'a Inject,
    asked: Vec<Request>,
    texts: SpecTexts,
    listed: Option<HostNodes>,
}

/// A document with the devices in it.
struct Done {
    text: String,
    devices: Vec<String>,
    problems: Vec<Problem>,
}

impl Done {
    fn answer(&self, changed: bool, path: &Path) -> Value {
        json!({
            "config": path.display().to_string(),
            "changed": changed,
            "devices": self.devices,
            "problems": self.problems,
        })
    }
}

impl Job<'_> {
    fn inject(&self, text: &[u8], path: &Path) -> anyhow::Result<Done> {
        let cannot = || format!("cannot inject into {}", path.display());
        // What lives until the process ends is not taken apart before: that would cost as much as reading it.
        let mut document = ManuallyDrop::new(Document::parse(text).with_context(cannot)?);
        let mut asked = self.asked.clone();
        if self.arguments.annotations {
            asked.extend(request::of_annotations(&document.value).with_context(cannot)?);
        }
        let registry = ManuallyDrop::new(query::registry(&self.texts, &asked)?);
        let resolved = cdi_apply::resolve(&registry, &asked)?;
        let edits = resolved.edits();
        if edits.is_empty() {
            let text = String::from_utf8_lossy(text).into_owned();
            return Ok(Done { text, devices: Vec::new(), problems: registry.problems().to_vec() });
        }
        if !self.arguments.specs.insecure_spec_dirs {
            host_paths::check(&edits).with_context(cannot)?;
        }
        let nodes = self.listed.clone().unwrap_or_else(|| device_numbers::read(&edits));
        if !self.arguments.allow_stale {
            nodes.check(&edits).with_context(cannot)?;
        }
        cdi_apply::inject(&mut document.value, &edits, &nodes).with_context(cannot)?;
        let devices = resolved.devices().into_iter().map(str::to_owned).collect();
        Ok(Done { text: document.to_text(), devices, problems: registry.problems().to_vec() })
    }
}
