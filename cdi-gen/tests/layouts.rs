//! Every layout: reviewed snapshots of what is generated, and what must hold on all of them.

mod common;

use std::collections::BTreeSet;

use cdi_gen::facts::nvml_report::{NvmlPolicy, NvmlQuery};
use cdi_gen::facts::{self, Hints};
use cdi_gen::{EditPlan, Problem, Tree, capture};
use cdi_specs::{ContainerEdits, Spec};
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

fn container_paths(edits: &ContainerEdits) -> impl Iterator<Item = &str> {
    let nodes = edits.device_nodes.iter().map(|node| node.path.as_str());
    let args = edits.hooks.iter().flat_map(|hook| hook.args.iter().map(String::as_str));
    nodes.chain(edits.mounts.iter().map(|mount| mount.container_path.as_str())).chain(args)
}

fn all_edits(spec: &Spec) -> impl Iterator<Item = &ContainerEdits> {
    spec.devices.iter().map(|device| &device.container_edits).chain([&spec.container_edits])
}

/// Names under which a container finds the host file: by mount, and by the hook's links.
fn file_names(spec: &Spec) -> BTreeSet<String> {
    all_edits(spec).flat_map(container_paths).filter_map(|path| path.rsplit('/').next()).map(str::to_owned).collect()
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
fn every_hook_has_an_environment_an_absolute_path_and_parses_back() {
    for_each_plan(|host, _, plan| {
        let spec = with_hooks(plan);
        let hooks: Vec<_> = all_edits(&spec).flat_map(|edits| &edits.hooks).collect();
        assert_eq!(hooks.len(), 1, "{}: one hook a container", host.name);
        for hook in hooks {
            assert!(!hook.env.is_empty() && hook.path.starts_with('/'), "{}", host.name);
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
            assert_eq!(edits.device_nodes, peer.container_edits.device_nodes, "{host}");
            for device in ["0", "all"] {
                assert_eq!(spec.device(device), peer.device(device), "{host}");
            }
            assert!(edits.env.contains(&"NVIDIA_VISIBLE_DEVICES=void".to_owned()));
            let names = file_names(spec);
            let peers = peer.container_edits.mounts.iter().map(|mount| mount.container_path.as_str());
            for name in peers.chain(peer_links(&peer)).filter_map(|path| path.rsplit('/').next()) {
                assert!(names.contains(name), "{host}: {name}");
            }
        }
        let paths: BTreeSet<&str> = container_paths(&hooks.container_edits).collect();
        let peers = peer.container_edits.mounts.iter().map(|mount| mount.container_path.as_str());
        for path in
            peers.chain(peer_links(&peer)).filter(|path| !path.contains("/bin/") && !path.contains("/firmware/"))
        {
            assert!(paths.contains(path), "{host}: {path}");
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
