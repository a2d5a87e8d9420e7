//! What `validate` doubts: all by which a container gets the host, and nothing in the specs of real generators.
#![cfg(feature = "cli")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests run the program and stop at the first surprise"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use camino::Utf8PathBuf;
use cdi_apply::lint::lint;
use cdi_gen::facts::nvml_report::{NvmlPolicy, NvmlQuery};
use cdi_gen::facts::{self, Hints};
use cdi_gen::to_spec::{Hooks, LoweringOptions, lower};
use cdi_gen::{Host, PlanOptions, Tree};
use cdi_specs::{Spec, device_list};
use tempfile::TempDir;

const SPEC: &str = "\
cdiVersion: 0.7.0
kind: vendor.com/gpu
devices:
- name: a
  containerEdits:
    env: [A=b, LD_PRELOAD=/x.so]
    deviceNodes:
    - {path: /dev/gpu0}
    - {path: /dev/gpu1, hostPath: /dev/sda}
    mounts:
    - {hostPath: /, containerPath: /host}
    - {hostPath: /run/docker.sock, containerPath: /run/docker.sock, options: [ro, nosuid, nodev, rbind, rprivate]}
    - {hostPath: /srv/a, containerPath: /a, options: [ro, rshared, suid, dev]}
    - {hostPath: /srv/a, containerPath: /proc/self/attr, options: [ro]}
    - {hostPath: ../etc, containerPath: /b//c, options: [ro]}
    hooks:
    - {hookName: createContainer, path: /tmp/hook, env: [LD_AUDIT=/x.so, PATH=/usr/bin]}
- name: b
  containerEdits:
    env: [LD_LIBRARY_PATH=/x]
    mounts:
    - {hostPath: /, containerPath: /host}
containerEdits:
  additionalGids: [0]
";

fn validated(path: &Path, words: &[&str]) -> (Option<i32>, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_cdi-apply"));
    let output = program.current_dir(path.parent().unwrap()).arg("validate").args(words).arg(path.file_name().unwrap());
    let output = output.output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn each_way_to_the_host_has_a_line_with_a_way_out() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s.yaml");
    fs::write(&path, SPEC).unwrap();
    let expected = "\
s.yaml: warning: devices[0].containerEdits.env[1]: LD_PRELOAD has each program of the container load or run what it names (leave it out)
s.yaml: warning: devices[0].containerEdits.deviceNodes[1]: /dev/sda is a disk of the host: the container gets the host by it (leave it out)
s.yaml: warning: devices[0].containerEdits.mounts[0].hostPath: /: the container can change the whole host (name the files that it needs, with `ro`)
s.yaml: warning: devices[0].containerEdits.mounts[1].hostPath: /run/docker.sock: who can write to that socket is root on the host, `ro` or not (leave it out)
s.yaml: warning: devices[0].containerEdits.mounts[2].options: mounts that the container makes there show on the host (rprivate, or rslave)
s.yaml: warning: devices[0].containerEdits.mounts[2].options: `suid` lets a file there give the rights of its owner, root's too (nosuid)
s.yaml: warning: devices[0].containerEdits.mounts[2].options: `dev` lets device nodes there be opened (nodev)
s.yaml: warning: devices[0].containerEdits.mounts[3].containerPath: /proc/self/attr is the runtime's, and guards the host from the container (mount elsewhere)
s.yaml: warning: devices[0].containerEdits.mounts[4].containerPath: /b//c is not written out (write /b/c)
s.yaml: warning: devices[0].containerEdits.mounts[4].hostPath: ../etc is relative, and nobody knows to what (write it from / on)
s.yaml: warning: devices[0].containerEdits.mounts[4].hostPath: ../etc: the container sees the accounts and settings of the host (name the files that it needs)
s.yaml: warning: devices[0].containerEdits.hooks[0].env[0]: LD_AUDIT has the hook, which is root on the host, load or run what it names (leave it out)
s.yaml: warning: devices[0].containerEdits.hooks[0].path: /tmp/hook is where others than root make files, and root runs it (install it in /usr)
s.yaml: warning: devices[1].containerEdits.env[0]: LD_LIBRARY_PATH has each program of the container load or run what it names (leave it out)
s.yaml: warning: containerEdits.additionalGids[0]: 0 is root's group: what is for it is for the container (name another group)
s.yaml: valid
";
    let (code, text) = validated(&path, &["--no-host"]);
    assert_eq!((code, text.as_str()), (Some(0), expected));
}

#[test]
fn a_link_to_the_host_s_root_is_the_host_s_root() {
    let dir = TempDir::new().unwrap();
    symlink("/", dir.path().join("link")).unwrap();
    let link = dir.path().join("link");
    let spec = format!(
        "{{cdiVersion: 0.5.0, kind: a.com/b, devices: [{{name: c, containerEdits: {{mounts: [{{hostPath: {}, \
         containerPath: /x, options: [ro]}}]}}}}]}}",
        link.display()
    );
    let path = dir.path().join("s.yaml");
    fs::write(&path, spec).unwrap();
    let (code, text) = validated(&path, &[]);
    let expected = format!("hostPath: {} leads to /: the container sees the whole host", link.display());
    assert!(code == Some(0) && text.contains(&expected), "{text}");
}

/// Those of the toolkit, and those that are made for each layout, with and without the hook.
#[test]
fn the_specs_of_generators_are_not_doubted() {
    let toolkits = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/specs/nvidia-ctk-1.20-h100.yaml");
    let toolkits = cdi_specs::parse_yaml(fs::read(toolkits).unwrap()).unwrap();
    assert_eq!(lint(&toolkits, None), []);
    let mut made = 0;
    for host in testdata::hosts() {
        for spec in specs_of(&host) {
            assert_eq!(lint(&spec, None), [], "{}", host.name);
            made += 1;
        }
    }
    assert!(made > 20, "{made}");
}

fn specs_of(host: &testdata::Host) -> Vec<Spec> {
    let dir = TempDir::new().unwrap();
    let root = Utf8PathBuf::from_path_buf(dir.path().join("root")).unwrap();
    host.tree.lay_out(root.as_std_path()).unwrap();
    let nodes = device_list::parse(&host.tree.device_list()).unwrap();
    let driver_root = if host.name == "driver-container" { "/run/nvidia/driver" } else { "/" };
    let laid_out = Host::new(Tree::new(&root, Some(nodes)).unwrap(), driver_root.into(), None).unwrap();
    let never = NvmlQuery { policy: NvmlPolicy::Never, ..NvmlQuery::default() };
    let (facts, mut problems) = facts::read(&laid_out, &Hints::default(), &never);
    let Ok(plan) = cdi_gen::plan(&facts, &PlanOptions::default(), &mut problems) else { return Vec::new() };
    let hooks = Hooks::With { path: "/usr/bin/cdi-hook".into(), disabled: Default::default() };
    let with_hooks = LoweringOptions { hooks, ..LoweringOptions::default() };
    vec![lower(&plan, &LoweringOptions::default()), lower(&plan, &with_hooks)]
}
