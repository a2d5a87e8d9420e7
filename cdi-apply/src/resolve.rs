//! Resolve: requests to the edits of their devices (CDI SPEC, "OCI edits"). Pure.

use std::path::Path;

use cdi_specs::{ContainerEdits, QualifiedName};
use serde::Serialize;

use crate::problem::{self, Problem};
use crate::registry::{Found, Missing, Registry};
use crate::request::Request;

/// At most so many near misses are named.
const NEAR_MISSES: usize = 3;

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
    requests.iter().map(describe_one).collect::<Vec<_>>().join(", ")
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
    let (mut parts, mut unresolved) = (Vec::new(), Vec::new());
    for request in requests {
        match lookup(registry, request) {
            Ok(found) => found.into_iter().for_each(|(name, found)| add(&mut parts, name, found)),
            Err(why) => unresolved.push((request, why)),
        }
    }
    if unresolved.is_empty() {
        return Ok(Resolved { parts });
    }
    let requests = unresolved.into_iter().map(|(request, why)| Unresolved {
        request: request.to_string(),
        near: near_misses(registry, &request.to_string()),
        why,
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

fn add<'r>(parts: &mut Vec<Part<'r>>, name: String, found: Found<'r>) {
    let file = found.file.path.as_path();
    let common = &found.file.spec.container_edits;
    if parts.iter().any(|part| part.device.as_ref() == Some(&name)) {
        return;
    }
    if !parts.iter().any(|part| part.file == file) {
        parts.push(Part { file, device: None, container_edits: common });
    }
    parts.push(Part { file, device: Some(name), container_edits: found.edits });
}

/// The names that differ least from what was asked for, if that is little.
fn near_misses(registry: &Registry, request: &str) -> Vec<String> {
    let most = 1 + request.len() / 8;
    let names = registry.devices().map(|(name, _)| (strsim::damerau_levenshtein(&name, request), name));
    let mut near: Vec<(usize, String)> = names.filter(|(distance, _)| *distance <= most).collect();
    near.sort();
    near.into_iter().take(NEAR_MISSES).map(|(_, name)| name).collect()
}
