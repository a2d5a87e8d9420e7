//! `cdi-gen doctor --report` in a real browser, headless: the page is laid out, and asks the network for nothing. I/O.
#![expect(clippy::disallowed_methods, reason = "lays out a host, and runs a browser")]

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::build;
use crate::e2e::place;

const BROWSER: (&str, &[&str]) = ("chromium", &["chromium"]);
/// What keeps the browser to the page alone.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
];
/// A host with trouble: one GPU of eight does not answer.
const HOST: &str = "hgx-one-dead";
/// What must stand in the page as the browser has it, and how often at least.
const PARTS: [(&str, usize); 5] = [
    ("<h1>GPUs in containers</h1>", 1),
    ("<section class=\"warning\">", 1),
    ("<section class=\"error\">", 1),
    ("<path d=\"M", 40),
    ("<title>/usr/", 20),
];

/// Makes a page and opens it. Gives the picture of it to a file that `CDI_PAGE_PNG` names.
pub fn run() -> anyhow::Result<()> {
    if !place::is_root()? && !place::is_installed(BROWSER.0) {
        println!("skipped: {} is not installed, and only root can install it", BROWSER.0);
        return Ok(());
    }
    place::install_programs(&[BROWSER])?;
    let work = tempfile::tempdir().context("cannot make a temporary directory")?;
    let page = make_page(work.path())?;
    let profile = format!("--user-data-dir={}", work.path().join("profile").display());
    let url = format!("file://{}", page.display());
    let mut browser = Command::new(BROWSER.0);
    browser.args(FLAGS).arg(&profile).args(["--virtual-time-budget=2000", "--dump-dom"]).arg(&url);
    let document = build::output(&mut browser)?;
    for (part, least) in PARTS {
        let count = document.matches(part).count();
        ensure!(count >= least, "the page has `{part}` {count} times, not {least}");
    }
    let picture = std::env::var_os("CDI_PAGE_PNG").map_or_else(|| work.path().join("page.png"), Into::into);
    let mut browser = Command::new(BROWSER.0);
    let shot = format!("--screenshot={}", picture.display());
    build::output(browser.args(FLAGS).arg(&profile).args(["--window-size=1300,2400", &shot]).arg(&url))?;
    let size = fs::metadata(&picture).context("the browser drew no picture")?.len();
    // An empty page of that size is a tenth of it.
    ensure!(size > 50_000, "the picture of the page has {size} bytes: nothing is drawn in it");
    println!("{} bytes of page, drawn", fs::metadata(&page).context("cannot read the page")?.len());
    Ok(())
}

fn make_page(work: &Path) -> anyhow::Result<std::path::PathBuf> {
    let cdi_gen = build::release(&["cdi-gen"])?.join("cdi-gen");
    let (root, nodes, page) = (work.join("host"), work.join("nodes"), work.join("report.html"));
    let tree = testdata::host(HOST).tree;
    tree.lay_out(&root).context("cannot lay out the host")?;
    fs::write(&nodes, tree.device_list()).context("cannot write the device list")?;
    let mut doctor = Command::new(cdi_gen);
    doctor
        .args(["doctor", "--quiet", "--nvml", "never", "--target", "podman=5.8.0,docker=26.1.5", "--report"])
        .arg(&page);
    doctor.arg("--root").arg(&root).arg("--device-nodes").arg(&nodes);
    let status = doctor.status().context("cannot run cdi-gen")?;
    ensure!(status.code() == Some(8), "the doctor found nothing on a host with trouble: {status}");
    Ok(page)
}
