//! Resolve: requests to the edits of their devices (CDI SPEC, "OCI edits"). Pure.

use std::collections::HashSet;
use std::path::Path;

use cdi_specs::{ContainerEdits, QualifiedName};
use serde::Serialize;

use crate::problem::{self, Problem};
use crate::registry::{Found, Missing, Registry};
use crate::request::Request;

/// At most so many near misses are named.
const NEAR_MISSES: usize = 3;
/// What is longer, in bytes, is not compared with what there is; whoever sets an annotation may have written it.
const LONGEST_MISS: usize = 256;
/// Of more requests than that, near misses are not looked for, and their names are not told.
const MOST_MISSES: usize = 16;
/// As many pairs of characters are compared for near misses: those of a host with thousands of devices.
const MOST_PAIRS: usize = 4 << 20;

/// The edits of devices, in the order in which they apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resolved<'r> {
    /// A spec's common edits once, before its first device; then each device once.
    pub parts: Vec<Part<'r>>,
}

/// The edits that come from one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Part<'r> {
    /// The spec file.
    #[serde(serialize_with = "problem::as_text")]
    pub file: &'r Path,
    /// The device; `None` for the common edits of the spec.
    pub device: Option<String>,
    /// The edits, as they stand there.
    pub container_edits: &'r ContainerEdits,
}

impl<'r> Resolved<'r> {
    /// What to inject.
    pub fn edits(&self) -> Vec<&'r ContainerEdits> {
        self.parts.iter().map(|part| part.container_edits).collect()
    }

    /// All edits as one.
    pub fn merged(&self) -> ContainerEdits {
        let mut all = ContainerEdits::default();
        self.parts.iter().for_each(|part| all.append(part.container_edits.clone()));
        all
    }

    /// The qualified names of the devices.
    pub fn devices(&self) -> Vec<&str> {
        self.parts.iter().filter_map(|part| part.device.as_deref()).collect()
    }
}

/// Requests that lead to no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unresolvable CDI devices {}", describe(.requests))]
pub struct Unresolvable {
    /// All of them, not the first.
    pub requests: Vec<Unresolved>,
    /// What is wrong with files that might have defined them.
    pub problems: Vec<Problem>,
}

/// A request that leads to no device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The name or pattern.
    pub request: String,
    /// Why.
    pub why: Missing,
    /// Names that look like it.
    pub near: Vec<String>,
}

fn describe(requests: &[Unresolved]) -> String {
    let untold = requests.len().saturating_sub(MOST_MISSES);
    let untold = (untold > 0).then(|| format!("and {untold} more"));
    requests.iter().take(MOST_MISSES).map(describe_one).chain(untold).collect::<Vec<_>>().join(", ")
}

fn describe_one(unresolved: &Unresolved) -> String {
    let Unresolved { request, why, near } = unresolved;
    match why {
        Missing::Conflict(paths) => {
            let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            format!("{request} (defined in each of {}: remove all but one)", paths.join(", "))
        }
        Missing::Undefined if near.is_empty() => request.clone(),
        Missing::Undefined => format!("{request} (did you mean {}?)", near.join(" or ")),
    }
}

/// The edits of the requested devices, in the order asked for. A device asked for twice counts once.
///
/// # Errors
/// Names that no file defines, or several; patterns that fit nothing (the reference injects nothing then, and says so
/// to nobody).
pub fn resolve<'r>(registry: &'r Registry, requests: &[Request]) -> Result<Resolved<'r>, Unresolvable> {
    let (mut parts, mut unresolved) = (Parts::default(), Vec::new());
    for request in requests {
        match lookup(registry, request) {
            Ok(found) => found.into_iter().for_each(|(name, found)| parts.add(name, found)),
            Err(why) => unresolved.push((request, why)),
        }
    }
    if unresolved.is_empty() {
        return Ok(Resolved { parts: parts.parts });
    }
    let mut pairs = MOST_PAIRS;
    let requests = unresolved.into_iter().enumerate().map(|(index, (request, why))| {
        let request = request.to_string();
        let near = if index < MOST_MISSES { near_misses(registry, &request, &mut pairs) } else { Vec::new() };
        Unresolved { request, near, why }
    });
    Err(Unresolvable { requests: requests.collect(), problems: registry.problems().to_vec() })
}

fn lookup<'r>(registry: &'r Registry, request: &Request) -> Result<Vec<(String, Found<'r>)>, Missing> {
    let pattern = match request {
        Request::Name(name) => return Ok(vec![(name.to_string(), registry.device(name)?)]),
        Request::Pattern(pattern) => pattern,
    };
    let fitting = registry.devices().map(|(name, _)| name).filter(|name| Request::fits(pattern, name));
    let found = |name: String| Some((name.clone(), registry.device(&name.parse::<QualifiedName>().ok()?).ok()?));
    let found: Vec<_> = fitting.filter_map(found).collect();
    if found.is_empty() { Err(Missing::Undefined) } else { Ok(found) }
}

/// Parts, with the names and files that they are of.
#[derive(Default)]
struct Parts<'r> {
    parts: Vec<Part<'r>>,
    names: HashSet<String>,
    files: HashSet<&'r Path>,
}

impl<'r> Parts<'r> {
    fn add(&mut self, name: String, found: Found<'r>) {
        let file = found.file.path.as_path();
        if !self.names.insert(name.clone()) {
            return;
        }
        if self.files.insert(file) {
            let common = &found.file.spec.container_edits;
            self.parts.push(Part { file, device: None, container_edits: common });
        }
        self.parts.push(Part { file, device: Some(name), container_edits: found.edits });
    }
}

/// The names that differ least from what was asked for, if that is little; `pairs` is what may still be compared.
fn near_misses(registry: &Registry, request: &str, pairs: &mut usize) -> Vec<String> {
    let most = 1 + request.len() / 8;
    if request.len() > LONGEST_MISS {
        return Vec::new();
    }
    let names = registry.devices().filter(|(name, _)| name.len().abs_diff(request.len()) <= most);
    let names = names.map_while(|(name, _)| {
        *pairs = pairs.checked_sub(name.len() * request.len())?;
        Some((strsim::damerau_levenshtein(&name, request), name))
    });
    let mut near: Vec<(usize, String)> = names.filter(|(distance, _)| *distance <= most).collect();
    near.sort();
    near.into_iter().take(NEAR_MISSES).map(|(_, name)| name).collect()
}
