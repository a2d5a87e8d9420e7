//! Registry: which spec file defines which device. Pure.
//!
//! A bad file costs its own devices only. Of several files that define a device, the one of the highest priority
//! counts; several of that priority are a conflict, and the device cannot be had. The reference lets a conflict of a
//! lower priority take the device away from the higher one; here it does not matter.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cdi_specs::{ContainerEdits, QualifiedName, Spec};

use crate::problem::Problem;
use crate::spec_dirs::{SpecText, SpecTexts};

/// A spec file that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The higher one wins.
    pub priority: usize,
    /// What it says.
    pub spec: Spec,
}

/// All devices that some spec files define.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// By priority, then by path.
    files: Vec<SpecFile>,
    problems: Vec<Problem>,
    /// Kind, then device name.
    devices: BTreeMap<String, BTreeMap<String, Definition>>,
}

/// Where a device stands, as indices.
#[derive(Clone, Debug)]
struct Definition {
    /// Files of the same priority; more than one is a conflict.
    files: Vec<usize>,
    /// Its place in the first file's devices.
    device: usize,
}

/// A device as its file defines it.
#[derive(Clone, Copy, Debug)]
pub struct Found<'r> {
    /// The file.
    pub file: &'r SpecFile,
    /// The edits of the device alone.
    pub edits: &'r ContainerEdits,
}

/// Why a name leads to no device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No file that can be used defines it.
    Undefined,
    /// These files of the same priority do.
    Conflict(Vec<PathBuf>),
}

impl Registry {
    /// Reads all texts.
    pub fn new(texts: &SpecTexts) -> Self {
        Self::of_texts(texts, |_| true)
    }

    /// Reads only what may define a device of these kinds (`vendor/class`). What else there is stays unread, with its
    /// problems: right for looking names up, not for listing.
    pub fn of_kinds(texts: &SpecTexts, kinds: &[Cow<'_, str>]) -> Self {
        // Only an escape in quotes can say a kind in other letters than its own.
        let may_define = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes);
            text.is_ok_and(|text| kinds.iter().any(|kind| text.contains(&**kind)) || text.contains('\\'))
        };
        Self::of_texts(texts, may_define)
    }

    /// Specs that are in memory already, the lowest priority first.
    pub fn of_specs(files: impl IntoIterator<Item = SpecFile>) -> Self {
        let mut registry = Self::default();
        files.into_iter().for_each(|file| registry.add(file));
        registry.report_conflicts();
        registry
    }

    fn of_texts(texts: &SpecTexts, wanted: impl Fn(&[u8]) -> bool) -> Self {
        let mut registry = Self { problems: texts.problems.clone(), ..Self::default() };
        let mut sorted: Vec<&SpecText> = texts.files.iter().filter(|text| wanted(&text.bytes)).collect();
        sorted.sort_by_key(|text| (text.priority, &text.path));
        for text in sorted {
            match read(text) {
                Ok(spec) => registry.add(SpecFile { path: text.path.clone(), priority: text.priority, spec }),
                Err(problems) => registry.problems.extend(problems),
            }
        }
        registry.report_conflicts();
        registry
    }

    /// Files come in the order of their priority.
    fn add(&mut self, file: SpecFile) {
        let index = self.files.len();
        let of_kind = self.devices.entry(file.spec.kind.clone()).or_default();
        for (device, name) in file.spec.devices.iter().map(|device| &device.name).enumerate() {
            let known = of_kind.get_mut(name).filter(|known| {
                let other = known.files.first().and_then(|other| self.files.get(*other));
                other.is_some_and(|other| other.priority == file.priority)
            });
            match known {
                Some(conflict) => conflict.files.push(index),
                None => drop(of_kind.insert(name.clone(), Definition { files: vec![index], device })),
            }
        }
        self.files.push(file);
    }

    fn report_conflicts(&mut self) {
        let mut problems = Vec::new();
        for (kind, devices) in &self.devices {
            for (name, definition) in devices.iter().filter(|(_, definition)| definition.files.len() > 1) {
                let paths = self.paths(definition);
                for path in &paths {
                    let others = paths.iter().filter(|other| *other != path).map(|other| other.display().to_string());
                    let others = others.collect::<Vec<_>>().join(", ");
                    problems.push(Problem::new(path, format!("{kind}={name} is defined in {others} too: not used")));
                }
            }
        }
        self.problems.extend(problems);
    }

    fn paths(&self, definition: &Definition) -> Vec<PathBuf> {
        definition.files.iter().filter_map(|index| self.files.get(*index)).map(|file| file.path.clone()).collect()
    }

    /// The device of a name.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn device(&self, name: &QualifiedName) -> Result<Found<'_>, Missing> {
        let of_kind = self.devices.get(&name.kind().to_string());
        let definition = of_kind.and_then(|devices| devices.get(name.device())).ok_or(Missing::Undefined)?;
        let [index] = *definition.files.as_slice() else { return Err(Missing::Conflict(self.paths(definition))) };
        let file = self.files.get(index).ok_or(Missing::Undefined)?;
        let device = file.spec.devices.get(definition.device).ok_or(Missing::Undefined)?;
        Ok(Found { file, edits: &device.container_edits })
    }

    /// The files that can be used, by priority, then by path.
    pub fn files(&self) -> &[SpecFile] {
        &self.files
    }

    /// What is wrong with the others, and which devices are in conflict.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The qualified names of all devices that can be had, sorted, each with its file.
    pub fn devices(&self) -> impl Iterator<Item = (String, &Path)> {
        let definitions = self.devices.iter().flat_map(|(kind, devices)| devices.iter().map(move |one| (kind, one)));
        definitions.filter_map(|(kind, (name, definition))| match *definition.files.as_slice() {
            [index] => Some((format!("{kind}={name}"), self.files.get(index)?.path.as_path())),
            _ => None,
        })
    }

    /// The vendors of all files, sorted.
    pub fn vendors(&self) -> Vec<&str> {
        self.halves(|kind| kind.0)
    }

    /// The classes of all files, sorted.
    pub fn classes(&self) -> Vec<&str> {
        self.halves(|kind| kind.1)
    }

    fn halves<'r>(&'r self, half: impl Fn((&'r str, &'r str)) -> &'r str) -> Vec<&'r str> {
        let mut halves: Vec<&str> = self.devices.keys().filter_map(|kind| kind.split_once('/')).map(half).collect();
        halves.sort_unstable();
        halves.dedup();
        halves
    }
}

/// The spec of a text. Only the rules that engines enforce keep a spec from use: what they read, this reads.
fn read(text: &SpecText) -> Result<Spec, Vec<Problem>> {
    let unparsable = |error| vec![Problem::unparsable(&text.path, error)];
    let spec = cdi_specs::parse(&text.bytes, text.format).map_err(unparsable)?;
    let violations = cdi_specs::validate(&spec);
    let problems: Vec<Problem> = violations
        .iter()
        .filter(|violation| violation.enforced)
        .map(|violation| Problem::invalid(&text.path, violation))
        .collect();
    if problems.is_empty() { Ok(spec) } else { Err(problems) }
}
