//! `transform root`: a spec made under one root, rewritten for another. Pure.

use camino::{Utf8Path, Utf8PathBuf};
use cdi_specs::{ContainerEdits, Spec};

/// Which side's paths move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// Paths on the host: sources of mounts and nodes, hook programs.
    #[default]
    Host,
    /// Paths in the container: where mounts and nodes go.
    Container,
}

/// Moves every path below `from` to below `to`. Whole components only: `/a` moves `/a/b` and leaves `/ab`. The CDI
/// version is raised if the outcome needs it.
pub fn root(spec: &mut Spec, from: &Utf8Path, to: &Utf8Path, side: Side) {
    let edits = spec.devices.iter_mut().map(|device| &mut device.container_edits).chain([&mut spec.container_edits]);
    edits.for_each(|edits| transform(edits, from, to, side));
    let required = spec.required_version();
    if spec.cdi_version.parse().is_ok_and(|version: cdi_specs::Version| version < required) {
        spec.cdi_version = required.to_string();
    }
}

fn transform(edits: &mut ContainerEdits, from: &Utf8Path, to: &Utf8Path, side: Side) {
    let moved = |path: &str| moved(path, from, to);
    for node in &mut edits.device_nodes {
        match side {
            Side::Host => {
                let host_path = moved(node.host_path.as_deref().unwrap_or(&node.path));
                node.host_path = (host_path != node.path).then_some(host_path);
            }
            Side::Container => {
                // A node without a host path lies on the host where it did.
                let host_path = node.host_path.take().unwrap_or_else(|| node.path.clone());
                node.path = moved(&node.path);
                node.host_path = (host_path != node.path).then_some(host_path);
            }
        }
    }
    for mount in &mut edits.mounts {
        let path = if side == Side::Host { &mut mount.host_path } else { &mut mount.container_path };
        *path = moved(path);
    }
    // A startContainer hook is a program of the container (OCI runtime spec, POSIX-platform hooks).
    for hook in &mut edits.hooks {
        if (hook.hook_name == "startContainer") == (side == Side::Container) {
            hook.path = moved(&hook.path);
        }
        // The others' arguments name paths of the host.
        let in_container = matches!(hook.hook_name.as_str(), "createContainer" | "startContainer");
        if in_container == (side == Side::Container) {
            hook.args.iter_mut().skip(1).for_each(|arg| *arg = moved_argument(arg, from, to));
        }
    }
}

/// An argument is a path, or two as the toolkit's hooks take them: `target::link`.
fn moved_argument(argument: &str, from: &Utf8Path, to: &Utf8Path) -> String {
    match argument.split_once("::") {
        Some((target, link)) => format!("{}::{}", moved(target, from, to), moved(link, from, to)),
        None => moved(argument, from, to),
    }
}

fn moved(path: &str, from: &Utf8Path, to: &Utf8Path) -> String {
    match Utf8Path::new(path).strip_prefix(from) {
        Ok(rest) if rest.as_str().is_empty() => to.to_string(),
        Ok(rest) => Utf8PathBuf::from(to).join(rest).into_string(),
        Err(_) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_components_only() {
        let cases = [
            ("/run/nvidia/driver/lib/x", "/run/nvidia/driver", "/", "/lib/x"),
            ("/run/nvidia/driver", "/run/nvidia/driver", "/host", "/host"),
            ("/run/nvidia/driver-backup/x", "/run/nvidia/driver", "/", "/run/nvidia/driver-backup/x"),
            ("/usr/lib/x", "/run/nvidia/driver", "/", "/usr/lib/x"),
            ("/usr/lib/x", "/", "/host", "/host/usr/lib/x"),
            ("/a/b", "/a/", "/c", "/c/b"),
        ];
        for (path, from, to, expected) in cases {
            assert_eq!(moved(path, from.into(), to.into()), expected, "{path}: {from} to {to}");
        }
    }

    #[test]
    fn arguments_of_hooks_move_with_the_side_that_they_are_about() {
        let cases =
            [("/a/x", "/b/x"), ("/a/x::/a/y", "/b/x::/b/y"), ("x.so.1::/a/x.so", "x.so.1::/b/x.so"), ("--a", "--a")];
        for (argument, expected) in cases {
            assert_eq!(moved_argument(argument, "/a".into(), "/b".into()), expected);
        }
    }

    #[test]
    fn the_version_follows_the_need() {
        let text = "{\"cdiVersion\":\"0.3.0\",\"kind\":\"a.b/c\",\"devices\":[{\"name\":\"x\",\"containerEdits\":\
                    {\"deviceNodes\":[{\"path\":\"/r/dev/x\"}]}}]}";
        let mut spec = cdi_specs::parse_json(text.as_bytes()).unwrap();
        root(&mut spec, "/r".into(), "/".into(), Side::Host);
        let node = &spec.devices[0].container_edits.device_nodes[0];
        assert_eq!((node.path.as_str(), node.host_path.as_deref()), ("/r/dev/x", Some("/dev/x")));
        assert_eq!(spec.cdi_version, "0.5.0");
    }
}
