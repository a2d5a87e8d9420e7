//! Resolve: device names to the edits of their specs (CDI SPEC, "OCI edits"). Pure.

use cdi_specs::{ContainerEdits, QualifiedName, Spec};

/// Names that no spec defines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unresolvable CDI devices {}; the specs define: {}", join(unresolved), join(known))]
pub struct Unresolvable {
    /// What was asked for in vain.
    pub unresolved: Vec<String>,
    /// What there is.
    pub known: Vec<String>,
}

fn join(names: &[String]) -> String {
    names.join(", ")
}

/// The edits of the devices in the order asked for; a spec's common edits come before its first device. A device asked
/// for twice counts once.
///
/// # Errors
/// Names that no spec defines, all of them.
pub fn resolve(specs: &[Spec], names: &[QualifiedName]) -> Result<ContainerEdits, Unresolvable> {
    let (mut edits, mut unresolved) = (ContainerEdits::default(), Vec::new());
    let (mut seen_specs, mut seen_names) = (Vec::new(), Vec::new());
    for name in names {
        let text = name.to_string();
        if seen_names.contains(&text) {
            continue;
        }
        match find(specs, name) {
            Some((at, spec, device_edits)) => {
                if !seen_specs.contains(&at) {
                    edits.append(spec.container_edits.clone());
                    seen_specs.push(at);
                }
                edits.append(device_edits.clone());
            }
            None => unresolved.push(text.clone()),
        }
        seen_names.push(text);
    }
    if unresolved.is_empty() { Ok(edits) } else { Err(Unresolvable { unresolved, known: known(specs) }) }
}

fn find<'a>(specs: &'a [Spec], name: &QualifiedName) -> Option<(usize, &'a Spec, &'a ContainerEdits)> {
    let kind = name.kind().to_string();
    specs.iter().enumerate().filter(|(_, spec)| spec.kind == kind).find_map(|(at, spec)| {
        let device = spec.devices.iter().find(|device| device.name == name.device())?;
        Some((at, spec, &device.container_edits))
    })
}

fn known(specs: &[Spec]) -> Vec<String> {
    let names = specs.iter().flat_map(|spec| spec.devices.iter().map(move |device| (spec, device)));
    names.map(|(spec, device)| format!("{}={}", spec.kind, device.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: &str, common: &str, devices: &[(&str, &str)]) -> Spec {
        let edits = |env: &str| ContainerEdits { env: vec![env.to_owned()], ..ContainerEdits::default() };
        let devices = devices.iter().map(|(name, env)| cdi_specs::Device {
            name: (*name).to_owned(),
            container_edits: edits(env),
            ..cdi_specs::Device::default()
        });
        Spec { kind: kind.into(), devices: devices.collect(), container_edits: edits(common), ..Spec::default() }
    }

    fn names(texts: &[&str]) -> Vec<QualifiedName> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn common_edits_once_before_the_first_device() {
        let specs = [spec("v.com/a", "O=g", &[("x", "O=x"), ("y", "O=y")]), spec("v.com/b", "P=g", &[("f", "O=f")])];
        let edits = resolve(&specs, &names(&["v.com/a=y", "v.com/b=f", "v.com/a=x", "v.com/a=y"])).unwrap();
        assert_eq!(edits.env, ["O=g", "O=y", "P=g", "O=f", "O=x"]);
    }

    #[test]
    fn all_that_is_missing_is_named() {
        let specs = [spec("v.com/a", "O=g", &[("x", "O=x")])];
        let error = resolve(&specs, &names(&["v.com/a=z", "v.com/a=x", "w.com/a=x"])).unwrap_err();
        assert_eq!(error.unresolved, ["v.com/a=z", "w.com/a=x"]);
        assert_eq!(error.known, ["v.com/a=x"]);
    }
}
