//! Every layout: reviewed snapshots of what is generated, and what must hold on all of them.
#![expect(clippy::disallowed_methods, reason = "looks at files of the hosts that are laid out")]

mod common;

use std::collections::BTreeSet;

use camino::Utf8Path;
use cdi_gen::facts::nvml_report::{NvmlPolicy, NvmlQuery};
use cdi_gen::facts::{self, Hints};
use cdi_gen::{EditPlan, PlanOptions, Problem, Tree, capture, filter};
use cdi_specs::{ContainerEdits, DeviceNode, HookOperation, Spec};
use common::{LaidOut, driver_root, folder, hook_free, lines, with_hooks};
use testdata::{Host, HostTree};

/// Hosts from which no spec can be made: no driver, or not all of it.
const WITHOUT_SPEC: [&str; 5] = ["missing-uvm", "no-gpu", "nouveau", "version-mismatch", "vfio-only"];

/// Every host, laid out, with the outcome of its plan.
fn for_each_host(mut check: impl FnMut(&Host, &LaidOut, Result<EditPlan, String>, Vec<Problem>)) {
    for host in testdata::hosts() {
        let laid_out = LaidOut::new(&host.tree, driver_root(&host.name));
        let (plan, problems) = laid_out.plan();
        check(&host, &laid_out, plan.map_err(|error| error.to_string()), problems);
    }
}

fn for_each_plan(mut check: impl FnMut(&Host, &LaidOut, &EditPlan)) {
    for_each_host(|host, laid_out, plan, _| {
        if let Ok(plan) = plan {
            check(host, laid_out, &plan);
        }
    });
}

fn snapshot(host: &str, name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder(host));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn snapshots() {
    for_each_host(|host, _, plan, problems| {
        let mut told = lines(&problems);
        match plan {
            Ok(plan) => {
                snapshot(&host.name, "hook-free", &cdi_specs::to_yaml(&hook_free(&plan)));
                snapshot(&host.name, "hooks", &cdi_specs::to_yaml(&with_hooks(&plan)));
            }
            Err(error) => told += &format!("no spec: {error}\n"),
        }
        snapshot(&host.name, "problems", &told);
    });
}

#[test]
fn a_spec_wherever_there_is_a_driver() {
    for_each_host(|host, _, plan, _| {
        assert_eq!(plan.is_err(), WITHOUT_SPEC.contains(&host.name.as_str()), "{}: {plan:?}", host.name);
    });
}

fn container_paths(edits: &ContainerEdits) -> Vec<String> {
    let nodes = edits.device_nodes.iter().map(|node| node.path.clone());
    let mounts = edits.mounts.iter().map(|mount| mount.container_path.clone());
    let args = edits.hooks.iter().flat_map(|hook| hook.args.clone());
    let operations = edits.hooks.iter().flat_map(|hook| cdi_specs::from_args(&hook.args).expect("our own").operations);
    let links = operations.filter_map(|operation| match operation {
        HookOperation::Symlink { target, link } => Some([target, link]),
        _ => None,
    });
    nodes.chain(mounts).chain(args).chain(links.flatten()).collect()
}

fn all_edits(spec: &Spec) -> impl Iterator<Item = &ContainerEdits> {
    spec.devices.iter().map(|device| &device.container_edits).chain([&spec.container_edits])
}

/// Names under which a container finds the host file: by mount, and by the hook's links.
fn file_names(spec: &Spec) -> BTreeSet<String> {
    let names = all_edits(spec).flat_map(container_paths);
    names.filter_map(|path| path.rsplit('/').next().map(str::to_owned)).collect()
}

#[test]
fn what_every_container_needs() {
    for_each_plan(|host, _, plan| {
        for spec in [hook_free(plan), with_hooks(plan)] {
            let names = file_names(&spec);
            for name in ["libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1", "nvidiactl", "nvidia-uvm"] {
                assert!(names.contains(name), "{}: no {name}", host.name);
            }
            let text = host.tree.to_string();
            let version = plan.driver_version.as_str();
            let has_smi = text.lines().any(|line| line.starts_with("elf64 ") && line.contains("/nvidia-smi "));
            let mounts = |path: &str| spec.container_edits.mounts.iter().any(|mount| mount.container_path == path);
            assert_eq!(mounts("/usr/bin/nvidia-smi"), has_smi, "{}: nvidia-smi", host.name);
            let files = text.lines().filter_map(|line| line.strip_prefix("file ")?.split(' ').next());
            for file in files.filter(|path| path.contains(&format!("firmware/nvidia/{version}/gsp"))) {
                let name = file.rsplit('/').next().unwrap();
                let path = format!("/lib/firmware/nvidia/{version}/{name}");
                assert!(mounts(&path), "{}: {path}", host.name);
            }
        }
    });
}

#[test]
fn no_path_shows_where_the_host_was_read() {
    for_each_plan(|host, laid_out, plan| {
        for spec in [hook_free(plan), with_hooks(plan)] {
            let text = cdi_specs::to_yaml(&spec);
            assert!(!text.contains(laid_out.root().as_str()), "{}: the root is in the spec", host.name);
            for path in all_edits(&spec).flat_map(container_paths) {
                for foreign in ["/run/nvidia/driver", "/home/kubernetes", "bottlerocket"] {
                    assert!(!path.contains(foreign), "{}: {path} is a path of the host", host.name);
                }
            }
        }
    });
}

#[test]
fn every_host_path_exists() {
    for_each_plan(|host, laid_out, plan| {
        for spec in [hook_free(plan), with_hooks(plan)] {
            for mount in &spec.container_edits.mounts {
                let path = laid_out.path(&mount.host_path);
                let kind = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {path}: {error}", host.name));
                assert!(!kind.is_symlink(), "{}: {path} is a link", host.name);
            }
        }
    });
}

#[test]
fn every_spec_is_valid_and_reads_back() {
    for_each_plan(|host, _, plan| {
        for spec in [hook_free(plan), with_hooks(plan)] {
            assert_eq!(cdi_specs::validate(&spec), [], "{}", host.name);
            assert_eq!(cdi_specs::parse_yaml(cdi_specs::to_yaml(&spec)).unwrap(), spec, "{}", host.name);
            assert_eq!(cdi_specs::parse_json(cdi_specs::to_json(&spec)).unwrap(), spec, "{}", host.name);
        }
    });
}

#[test]
fn hook_env_nonempty() {
    for_each_plan(|host, _, plan| {
        let spec = with_hooks(plan);
        let hooks: Vec<_> = all_edits(&spec).flat_map(|edits| &edits.hooks).collect();
        assert_eq!(hooks.len(), 1, "{}: one hook a container", host.name);
        for hook in hooks {
            let is_harmless = |variable: &String| variable.contains('=') && !variable.starts_with("LD_");
            assert!(!hook.env.is_empty() && hook.env.iter().all(is_harmless), "{}", host.name);
            assert!(hook.path.starts_with('/'), "{}", host.name);
            let parsed = cdi_specs::from_args(&hook.args).unwrap();
            assert!(parsed.unknown.is_empty(), "{}: {:?}", host.name, parsed.unknown);
            assert_eq!(cdi_specs::to_args(&parsed.operations), hook.args, "{}", host.name);
        }
        assert!(all_edits(&hook_free(plan)).all(|edits| edits.hooks.is_empty()), "{}", host.name);
    });
}

#[test]
fn neither_decoys_nor_libraries_of_others_are_taken() {
    let others = ["libGL.so", "libEGL.so", "libOpenCL.so", "libc.so", "libstdc++", "libGLX.so", "libnccl", "ld-linux"];
    for_each_plan(|host, _, plan| {
        let spec = with_hooks(plan);
        for mount in &spec.container_edits.mounts {
            let path = &mount.host_path;
            for decoy in ["/stubs/", "/compat/", "-workdir/", "/usr/local/nvidia/glibc/"] {
                assert!(!path.contains(decoy), "{}: {path}", host.name);
            }
            let name = path.rsplit('/').next().unwrap();
            assert!(!others.iter().any(|other| name.starts_with(other)), "{}: {path}", host.name);
        }
    });
}

/// C-16: no node can be made with what the container is given.
#[test]
fn device_perm_rw_only() {
    for_each_plan(|host, _, plan| {
        let spec = hook_free(plan);
        let nodes: Vec<&DeviceNode> = all_edits(&spec).flat_map(|edits| &edits.device_nodes).collect();
        assert!(
            !nodes.is_empty() && nodes.iter().all(|node| node.permissions.as_deref() == Some("rw")),
            "{}",
            host.name
        );
    });
}

/// C-19: nothing that is mounted gives anybody another's rights.
#[test]
fn no_setuid_mounts() {
    for_each_plan(|host, _, plan| {
        for spec in [hook_free(plan), with_hooks(plan)] {
            for mount in all_edits(&spec).flat_map(|edits| &edits.mounts) {
                for option in ["nosuid", "nodev", "rprivate"] {
                    assert!(mount.options.iter().any(|known| known == option), "{}: {mount:?}", host.name);
                }
                assert!(!mount.host_path.ends_with("nvidia-modprobe"), "{}: {mount:?}", host.name);
            }
        }
    });
}

/// A spec for all, filtered when a container starts, gives what a spec for less would.
#[test]
fn a_filtered_spec_is_as_one_that_was_made_for_less() {
    let edits = |edits: &ContainerEdits| -> BTreeSet<String> {
        let hooks = edits.hooks.iter().map(|hook| hook.args.join(" "));
        edits.mounts.iter().map(|mount| mount.container_path.clone()).chain(hooks).collect()
    };
    let wanted =
        ["compute", "utility", "compute,utility", "graphics", "video", "display", "ngx", "compute,compat32", ""];
    for_each_host(|host, laid_out, plan, _| {
        let Ok(plan) = &plan else { return };
        let is_32_bit = |path: &Utf8Path| {
            let bytes = std::fs::read(laid_out.path(path.as_str())).unwrap();
            bytes.starts_with(b"\x7fELF\x01")
        };
        for words in wanted {
            let capabilities = words.parse().unwrap();
            let options = PlanOptions { capabilities, ..PlanOptions::default() };
            let less = laid_out.plan_with(&Hints::default(), &options).0.unwrap();
            for (all, less) in [(hook_free(plan), hook_free(&less)), (with_hooks(plan), with_hooks(&less))] {
                let filtered = filter::filter(&all.container_edits, capabilities, &is_32_bit);
                let (filtered, less) = (edits(&filtered), edits(&less.container_edits));
                let missing: Vec<_> = less.difference(&filtered).collect();
                // Nobody can tell from its path whose loader a directory of a package store is.
                let superfluous = filtered.difference(&less).filter(|edit| !edit.ends_with("/lib"));
                assert_eq!((missing, superfluous.collect::<Vec<_>>()), (vec![], vec![]), "{}: {words}", host.name);
            }
        }
    });
}

#[test]
fn the_same_host_gives_the_same_bytes() {
    for_each_plan(|host, laid_out, plan| {
        let again = laid_out.plan().0.unwrap();
        assert_eq!(cdi_specs::to_yaml(&hook_free(plan)), cdi_specs::to_yaml(&hook_free(&again)), "{}", host.name);
        assert_eq!(cdi_specs::to_yaml(&with_hooks(plan)), cdi_specs::to_yaml(&with_hooks(&again)), "{}", host.name);
    });
}

/// What the NVIDIA toolkit wrote on the host of the fixture `h100-squashfs`, and on the one of `h100-capture`.
const PEER: &str = include_str!("../../testdata/specs/nvidia-ctk-1.20-h100.yaml");

/// Links of the peer's `create-symlinks` hooks: `--link TARGET::LINK`.
fn peer_links(peer: &Spec) -> impl Iterator<Item = &str> {
    let args = peer.container_edits.hooks.iter().flat_map(|hook| &hook.args);
    args.filter_map(|arg| arg.split_once("::")).map(|(_, link)| link)
}

/// All that the peer's spec gives a container stands in ours. Its differences are meant: programs are in `/usr/bin`
/// and firmware in `/lib/firmware` wherever the host keeps them, and `NVIDIA_CTK_LIBCUDA_DIR` has no reader here.
#[test]
fn the_h100_spec_holds_what_the_peers_holds() {
    let peer = cdi_specs::parse_yaml(PEER).unwrap();
    for host in ["h100-capture", "h100-squashfs"] {
        let plan = LaidOut::named(host).plan().0.unwrap();
        let (hooks, free) = (with_hooks(&plan), hook_free(&plan));
        for spec in [&hooks, &free] {
            let edits = &spec.container_edits;
            let nodes = |spec: &Spec, device: &str| {
                let nodes = spec.device(device).map(|device| &device.container_edits.device_nodes);
                // The peer lets containers make nodes, too.
                let read_write = |node: &DeviceNode| DeviceNode { permissions: Some("rw".into()), ..node.clone() };
                nodes.into_iter().flatten().map(read_write).collect::<Vec<_>>()
            };
            let paths = |edits: &ContainerEdits| {
                edits.device_nodes.iter().map(|node| (node.path.clone(), node.major, node.minor)).collect::<Vec<_>>()
            };
            assert_eq!(paths(edits), paths(&peer.container_edits), "{host}");
            for device in ["0", "all"] {
                assert_eq!(nodes(spec, device), nodes(&peer, device), "{host}");
            }
            assert!(edits.env.contains(&"NVIDIA_VISIBLE_DEVICES=void".to_owned()));
            let names = file_names(spec);
            let peers = peer.container_edits.mounts.iter().map(|mount| mount.container_path.as_str());
            for name in peers.chain(peer_links(&peer)).filter_map(|path| path.rsplit('/').next()) {
                assert!(names.contains(name), "{host}: {name}");
            }
        }
        let paths = container_paths(&hooks.container_edits);
        let peers = peer.container_edits.mounts.iter().map(|mount| mount.container_path.as_str());
        for path in
            peers.chain(peer_links(&peer)).filter(|path| !path.contains("/bin/") && !path.contains("/firmware/"))
        {
            assert!(paths.iter().any(|known| known == path), "{host}: {path}");
        }
        let args = &hooks.container_edits.hooks[0].args;
        for arg in ["--cuda-compat", "--freeze-device-nodes", "--application-profile", "/usr/local/nvidia/lib64"] {
            assert!(args.iter().any(|known| known == arg), "{host}: {arg}");
        }
    }
}

#[test]
fn a_capture_is_the_host() {
    for_each_host(|host, laid_out, plan, problems| {
        let recorded = laid_out.host(Tree::recording);
        let never = NvmlQuery { policy: NvmlPolicy::Never, ..NvmlQuery::default() };
        facts::read(&recorded, &Hints::default(), &never);
        let text = capture::text(&recorded.system, &host.summary, true);
        let tree = HostTree::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", host.name));
        let captured = LaidOut::new(&tree, driver_root(&host.name));
        let (again, told) = captured.plan();
        let yaml = |plan: &EditPlan| cdi_specs::to_yaml(&with_hooks(plan));
        assert_eq!(again.as_ref().map(yaml).ok(), plan.as_ref().map(yaml).ok(), "{}", host.name);
        assert_eq!(lines(&told), lines(&problems), "{}", host.name);
    });
}
