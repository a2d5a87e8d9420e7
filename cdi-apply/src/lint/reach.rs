//! Reach: what in a spec gives a container the host, or a stranger root's hook. Pure.
//!
//! All of it is valid, and some of it is meant. Tables say what each thing gives, and each message what to write instead.

use cdi_specs::{ContainerEdits, DeviceNode, Hook, Mount};

use super::Lints;

/// What a path is on the host as it is now, all links followed; `None` where that is unknown.
pub(super) type Real<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// All that edits give of the host.
pub(super) fn reach(at: &str, edits: &ContainerEdits, real: &Real<'_>, lints: &mut Lints) {
    for (index, variable) in edits.env.iter().enumerate() {
        let Some(name) = of_loader(variable) else { continue };
        let message = format!("{name} has each program of the container load or run what it names (leave it out)");
        lints.add(format!("{at}.env[{index}]"), message);
    }
    for (index, node) in edits.device_nodes.iter().enumerate() {
        of_node(&format!("{at}.deviceNodes[{index}]"), node, real, lints);
    }
    for (index, mount) in edits.mounts.iter().enumerate() {
        of_mount(&format!("{at}.mounts[{index}]"), mount, real, lints);
    }
    for (index, hook) in edits.hooks.iter().enumerate() {
        of_hook(&format!("{at}.hooks[{index}]"), hook, lints);
    }
    for (index, _) in edits.additional_gids.iter().enumerate().filter(|(_, gid)| **gid == 0) {
        let message = "0 is root's group: what is for it is for the container (name another group)";
        lints.add(format!("{at}.additionalGids[{index}]"), message);
    }
}

// Variables

/// Variables by which the loader, an interpreter or a shell takes code from where they say.
const LOADERS: [&str; 14] = [
    "BASH_ENV",
    "ENV",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "JAVA_TOOL_OPTIONS",
    "LOCPATH",
    "NODE_OPTIONS",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYOPT",
];

/// The variable's name, if it is one of those; all of the dynamic loader's own (ld.so(8)) begin alike.
fn of_loader(variable: &str) -> Option<&str> {
    let name = variable.split_once('=').map_or(variable, |(name, _)| name);
    (name.starts_with("LD_") || LOADERS.contains(&name)).then_some(name)
}

// Device nodes

/// Nodes of the host's memory, disks, ports and input, by their names in `/dev`: what starts so, and what it is.
const NODES: [(&str, &str); 27] = [
    ("block/", "a disk of the host"),
    ("btrfs-control", "the host's file systems"),
    ("char/1:", "the host's memory"),
    ("console", "the host's console"),
    ("cpu/", "the processors' registers"),
    ("disk/", "a disk of the host"),
    ("dm-", "a disk of the host"),
    ("hd", "a disk of the host"),
    ("input/", "the host's keyboards and screens"),
    ("kmem", "the host's memory"),
    ("kmsg", "the kernel's messages"),
    ("loop", "disks made of files"),
    ("mapper/", "a disk of the host"),
    ("md", "a disk of the host"),
    ("mem", "the host's memory"),
    ("mmcblk", "a disk of the host"),
    ("nvme", "a disk of the host"),
    ("nvram", "the firmware's settings"),
    ("port", "the host's I/O ports"),
    ("sd", "a disk of the host"),
    ("sg", "a disk of the host"),
    ("snapshot", "the host's memory"),
    ("tty", "a terminal of the host"),
    ("uhid", "a keyboard for the host"),
    ("uinput", "a keyboard for the host"),
    ("vd", "a disk of the host"),
    ("xvd", "a disk of the host"),
];
/// Memory by its number, whatever its name (Linux devices.txt): `mem`, `kmem`, `port`, `kmsg`.
const MEMORY: u32 = 1;
const MEMORY_MINORS: [i64; 4] = [1, 2, 4, 11];

fn of_node(at: &str, node: &DeviceNode, real: &Real<'_>, lints: &mut Lints) {
    let host = node.host_path.as_deref().unwrap_or(&node.path);
    written_out(&format!("{at}.path"), &node.path, lints);
    if node.host_path.is_some() {
        written_out(&format!("{at}.hostPath"), host, lints);
    }
    let named = normal(host);
    let real = real(&named).unwrap_or_else(|| named.clone());
    // A driver container has a /dev of its own.
    let names = [&named, &real].map(|path| path.rsplit_once("/dev/").map(|(_, name)| name));
    let is_known = |(start, _): &&(&str, &str)| names.iter().flatten().any(|name| is_node(name, start));
    let known = NODES.iter().find(is_known).map(|(_, what)| *what);
    let what = if node.r#type.as_deref() == Some("b") {
        Some("a disk of the host")
    } else if node.major == i64::from(MEMORY) && MEMORY_MINORS.contains(&node.minor) {
        Some("the host's memory, by its number")
    } else {
        known
    };
    if let Some(what) = what {
        lints.add_once(at.to_owned(), format!("{host} is {what}: the container gets the host by it (leave it out)"));
    } else if names.contains(&None) && host.starts_with('/') {
        lints.add_once(
            at.to_owned(),
            format!("{host} is not in /dev, where a host's own nodes are (name the node there)"),
        );
    }
}

/// Whether a node's name is that, with a number or a letter of its own behind it, or one below it.
fn is_node(name: &str, start: &str) -> bool {
    match name.strip_prefix(start) {
        Some(rest) if start.ends_with(['/', '-', ':']) => !rest.is_empty(),
        Some(rest) if matches!(start, "hd" | "sd" | "vd" | "xvd") => {
            let letters = rest.trim_end_matches(|c: char| c.is_ascii_digit());
            let most = if start == "hd" { 1 } else { 2 };
            (1..=most).contains(&letters.len()) && letters.bytes().all(|byte| byte.is_ascii_lowercase())
        }
        Some(rest) => rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit() || c == '-'),
        None => false,
    }
}

// Mounts

/// A place of the host that gives more than itself.
struct Place {
    path: &'static str,
    /// Whether what is below it counts, or the place itself alone.
    below: bool,
    /// Whether to read it is too much.
    read_only_too: bool,
    gives: &'static str,
}

const fn place(path: &'static str, below: bool, read_only_too: bool, gives: &'static str) -> Place {
    Place { path, below, read_only_too, gives }
}

/// The first that fits counts; of what lies in another the inner is named first.
const PLACES: [Place; 44] = [
    place("/", false, true, "the whole host"),
    place("/bin", true, false, "programs of the host"),
    place("/boot", true, false, "what the host starts with"),
    place("/dev", false, true, "all device nodes of the host"),
    place("/dev/shm", true, false, "memory that programs of the host share"),
    place("/etc/gshadow", true, true, "the passwords of the host"),
    place("/etc/kubernetes", true, true, "the keys of the cluster"),
    place("/etc/shadow", true, true, "the passwords of the host"),
    place("/etc/ssh", true, true, "the keys of the host"),
    place("/etc/ssl/private", true, true, "the keys of the host"),
    place("/etc", false, true, "the accounts and settings of the host"),
    place("/etc", true, false, "the settings of the host"),
    place("/home", false, true, "the files of all users of the host"),
    place("/home", true, false, "files of a user of the host"),
    place("/lib", true, false, "libraries of the host"),
    place("/lib32", true, false, "libraries of the host"),
    place("/lib64", true, false, "libraries of the host"),
    place("/opt", true, false, "programs of the host"),
    place("/proc/driver", true, false, "settings of the host's drivers"),
    place("/proc", true, true, "the processes and settings of the host"),
    place("/root", true, true, "root's files"),
    place("/run", false, true, "the control sockets of the host"),
    place("/run/containerd", false, true, "the control sockets of containerd"),
    place("/run/crio", false, true, "the control sockets of CRI-O"),
    place("/run/dbus", false, true, "the control socket of the host's services"),
    place("/run/docker", false, true, "the control sockets of docker"),
    place("/run/libvirt", false, true, "the control sockets of virtual machines"),
    place("/run/podman", false, true, "the control socket of podman"),
    place("/run/systemd", false, true, "the control sockets of systemd"),
    place("/run/systemd", true, false, "the control sockets of systemd"),
    place("/run/user", false, true, "the control sockets of all users"),
    place("/sbin", true, false, "programs of the host"),
    place("/sys/fs/bpf", true, true, "programs in the kernel of the host"),
    place("/sys/kernel/debug", true, true, "the kernel of the host"),
    place("/sys/kernel/security", true, true, "the kernel's guards"),
    place("/sys/kernel/tracing", true, true, "the kernel of the host"),
    place("/sys", true, false, "the devices and settings of the host"),
    place("/usr", true, false, "programs and libraries of the host"),
    place("/var", false, true, "the state of the host"),
    place("/var/lib", false, true, "the state of the host"),
    place("/var/lib/kubelet", true, true, "the volumes and keys of the node's containers"),
    place("/var/spool", true, false, "jobs that the host runs"),
    place("/tmp", false, false, "files that programs of the host share"),
    place("/var/tmp", false, false, "files that programs of the host share"),
];
/// Where engines keep images, volumes and what else is of other containers.
const ENGINES: [&str; 6] = ["buildkit", "containerd", "containers", "docker", "etcd", "rancher"];
/// Sockets whose other end does as root what it is told; to mount them read-only changes nothing.
const CONTROL_SOCKETS: [&str; 16] = [
    "/buildkitd.sock",
    "/containerd.sock",
    "/containerd.sock.ttrpc",
    "/cri-dockerd.sock",
    "/crio.sock",
    "/docker.sock",
    "/dockershim.sock",
    "/incus/unix.socket",
    "/kubelet.sock",
    "/libvirt-sock",
    "/libvirt-sock-admin",
    "/lxd/unix.socket",
    "/podman.sock",
    "/snapd.socket",
    "/system_bus_socket",
    "/systemd/private",
];
/// Paths of the container that are the runtime's own: what is mounted over them can take its guards away.
const GUARDED: [&str; 3] = ["/dev", "/proc", "/sys"];
/// What there is of drivers in them; and the mount that engines make themselves.
const UNGUARDED: [&str; 4] = ["/dev/shm", "/proc/driver", "/sys/class", "/sys/devices"];

fn of_mount(at: &str, mount: &Mount, real: &Real<'_>, lints: &mut Lints) {
    let has = |yes: &[&str], no: &[&str]| last_of(mount, yes, no);
    let add = |lints: &mut Lints, field: &str, message: String| lints.add_once(format!("{at}.{field}"), message);
    over_the_runtimes(&format!("{at}.containerPath"), &mount.container_path, lints);
    if has(&["shared", "rshared"], &["private", "rprivate", "slave", "rslave", "unbindable", "runbindable"]) {
        add(
            lints,
            "options",
            "mounts that the container makes there show on the host (rprivate, or rslave)".to_owned(),
        );
    }
    if has(&["suid"], &["nosuid"]) {
        add(lints, "options", "`suid` lets a file there give the rights of its owner, root's too (nosuid)".to_owned());
    }
    if has(&["dev"], &["nodev"]) {
        add(lints, "options", "`dev` lets device nodes there be opened (nodev)".to_owned());
    }
    let kind = mount.r#type.as_deref().unwrap_or_default();
    if !is_bind(mount) {
        if !matches!(kind, "tmpfs" | "mqueue" | "devpts" | "ramfs") {
            let message =
                format!("a file system of type {kind} is mounted as a whole (bind the files that are needed)");
            add(lints, "type", message);
        }
        return;
    }
    let host_path = &mount.host_path;
    written_out(&format!("{at}.hostPath"), host_path, lints);
    let read_only = has(&["ro", "rro"], &["rw"]);
    let named = normal(host_path);
    let found = what_is_given(&named, read_only).map(|what| format!("{host_path}: {what}"));
    let behind = || {
        let real = real(&named).filter(|real| *real != named)?;
        what_is_given(&real, read_only).map(|what| format!("{host_path} leads to {real}: {what}"))
    };
    if let Some(message) = found.or_else(behind) {
        add(lints, "hostPath", message);
    }
}

/// Whether files of the host are mounted, and no file system of its own.
fn is_bind(mount: &Mount) -> bool {
    let named = mount.options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind"));
    named || matches!(mount.r#type.as_deref().unwrap_or_default(), "" | "bind" | "rbind" | "none")
}

/// Of options that cancel each other the last counts.
fn last_of(mount: &Mount, yes: &[&str], no: &[&str]) -> bool {
    let last =
        mount.options.iter().rev().find(|option| yes.contains(&option.as_str()) || no.contains(&option.as_str()));
    last.is_some_and(|option| yes.contains(&option.as_str()))
}

/// What a path of the host gives, with the way out.
fn what_is_given(path: &str, read_only: bool) -> Option<String> {
    let path = path.strip_prefix("/var/run").map_or(path.to_owned(), |rest| format!("/run{rest}"));
    if CONTROL_SOCKETS.iter().any(|socket| path.ends_with(socket)) {
        return Some("who can write to that socket is root on the host, `ro` or not (leave it out)".to_owned());
    }
    let engine = path.strip_prefix("/var/lib/").and_then(|rest| rest.split('/').next());
    if engine.is_some_and(|engine| ENGINES.contains(&engine)) {
        return Some("the container gets the files of all containers (leave it out)".to_owned());
    }
    let fits = |place: &&Place| {
        let inside = path == place.path || place.below && is_below(&path, place.path);
        inside && (place.read_only_too || !read_only)
    };
    let place = PLACES.iter().find(fits)?;
    Some(match (place.read_only_too, read_only) {
        (_, true) => format!("the container sees {} (name the files that it needs)", place.gives),
        (true, false) => format!("the container can change {} (name the files that it needs, with `ro`)", place.gives),
        (false, false) => format!("the container can change {} (`ro`)", place.gives),
    })
}

/// A mount over what the runtime gives each container.
fn over_the_runtimes(at: &str, path: &str, lints: &mut Lints) {
    written_out(at, path, lints);
    let named = normal(path);
    let is_in = |place: &&str| named == **place || is_below(&named, place);
    if named == "/" {
        lints.add_once(at.to_owned(), "it covers the whole container (name a path in it)");
    } else if named == "/etc/ld.so.preload" {
        lints.add_once(at.to_owned(), "each program of the container loads what that file names (leave it out)");
    } else if GUARDED.iter().any(is_in) && !UNGUARDED.iter().any(is_in) {
        let message = format!("{path} is the runtime's, and guards the host from the container (mount elsewhere)");
        lints.add_once(at.to_owned(), message);
    }
}

fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

// Hooks

/// Directories in which others than root make files.
const OPEN_PLACES: [&str; 8] = ["/tmp", "/var/tmp", "/dev/shm", "/home", "/run/user", "/run/lock", "/mnt", "/media"];

fn of_hook(at: &str, hook: &Hook, lints: &mut Lints) {
    for (index, variable) in hook.env.iter().enumerate() {
        let place = format!("{at}.env[{index}]");
        if let Some(name) = of_loader(variable) {
            lints.add(
                place,
                format!("{name} has the hook, which is root on the host, load or run what it names (leave it out)"),
            );
        } else if let Some(dir) = variable.strip_prefix("PATH=").and_then(open_dir) {
            let message =
                format!("the hook, which is root on the host, looks for programs in `{dir}` (system directories)");
            lints.add(place, message);
        }
    }
    let path = normal(&hook.path);
    // A relative one is told as the rule that it breaks.
    if hook.path.starts_with('/') {
        written_out(&format!("{at}.path"), &hook.path, lints);
    }
    if OPEN_PLACES.iter().any(|dir| is_below(&path, dir)) {
        let message =
            format!("{} is where others than root make files, and root runs it (install it in /usr)", hook.path);
        lints.add(format!("{at}.path"), message);
    }
    if hook.args.iter().skip(1).any(|word| word == "-c") && is_shell(&path) {
        let message = "root runs a text of the spec by a shell (a program that does one thing)";
        lints.add(format!("{at}.args"), message);
    }
}

fn is_shell(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    matches!(name, "sh" | "ash" | "bash" | "busybox" | "dash" | "ksh" | "zsh" | "perl") || name.starts_with("python")
}

/// A directory of a search path that is the present one, or one of the open places.
fn open_dir(path: &str) -> Option<&str> {
    path.split(':').find(|dir| {
        let named = normal(dir);
        !dir.starts_with('/') || OPEN_PLACES.iter().any(|open| named == *open || is_below(&named, open))
    })
}

// Paths

/// Tells of a path that is not written as what it leads to. An empty one is another rule's business.
fn written_out(at: &str, path: &str, lints: &mut Lints) {
    if path.is_empty() {
        return;
    }
    if !path.starts_with('/') {
        lints.add_once(at.to_owned(), format!("{path} is relative, and nobody knows to what (write it from / on)"));
    } else if path != normal(path) {
        lints.add_once(at.to_owned(), format!("{path} is not written out (write {})", normal(path)));
    }
}

/// A path without `.`, `..` and slashes that say nothing.
fn normal(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => _ = names.pop(),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lints_of(edits: &str) -> Vec<String> {
        let spec = format!("{{cdiVersion: 1.1.0, kind: a/b, devices: [{{name: c, containerEdits: {edits}}}]}}");
        let spec = cdi_specs::parse_yaml(spec).unwrap();
        let mut lints = Lints::default();
        let real = |path: &str| match path {
            "/srv/link" => Some("/run/docker.sock".to_owned()),
            "/dev/alias" => Some("/dev/sda".to_owned()),
            _ => None,
        };
        reach("", &spec.devices[0].container_edits, &real, &mut lints);
        lints.finished().iter().map(ToString::to_string).collect()
    }

    /// A mount of `host` at `/x` with options.
    fn of_mount(host: &str, options: &str) -> Vec<String> {
        lints_of(&format!("{{mounts: [{{hostPath: {host}, containerPath: /x, options: [{options}]}}]}}"))
    }

    #[test]
    fn places_of_the_host_that_give_more_than_themselves() {
        for host in [
            "/",
            "/etc",
            "/etc/shadow",
            "/root/.ssh",
            "/dev",
            "/proc",
            "/proc/1/root",
            "/run",
            "/var/run",
            "/var/lib/docker",
        ] {
            for options in ["", "ro", "rw", "ro, rw"] {
                let told = of_mount(host, options);
                assert!(told.len() == 1 && told[0].starts_with(".mounts[0].hostPath: "), "{host} {options}: {told:?}");
            }
        }
        for host in [
            "/etc/hosts",
            "/usr/lib/libcuda.so.1",
            "/sys/class/drm",
            "/boot/vmlinuz",
            "/opt/x",
            "/home/me/x",
            "/run/systemd/notify",
        ] {
            assert_eq!(of_mount(host, "ro, nosuid, nodev, rbind, rprivate"), [""; 0], "{host}");
            for options in ["", "ro, rw", "nosuid, nodev"] {
                let told = of_mount(host, options);
                assert!(
                    told.len() == 1 && told[0].contains("the container can change") && told[0].ends_with("(`ro`)"),
                    "{host}: {told:?}"
                );
            }
        }
        for host in
            ["/run/nvidia-persistenced/socket", "/tmp/nvidia-mps", "/srv/data", "/usrx", "/run/cdi/x", "/var/lib/x"]
        {
            assert_eq!(of_mount(host, "nosuid, nodev"), [""; 0], "{host}");
        }
    }

    #[test]
    fn control_sockets_by_any_way_to_them() {
        for host in [
            "/run/docker.sock",
            "/var/run/docker.sock",
            "/run/../run//docker.sock",
            "/run/containerd/containerd.sock",
            "/run/k3s/containerd/containerd.sock",
            "/run/user/1000/podman/podman.sock",
            "/run/dbus/system_bus_socket",
            "/run/systemd/private",
            "/var/lib/lxd/unix.socket",
            "/var/lib/kubelet/device-plugins/kubelet.sock",
            "/srv/link",
        ] {
            let told = of_mount(host, "ro").concat();
            assert!(told.contains("who can write to that socket is root"), "{host}: {told}");
        }
        let told = of_mount("/srv/link", "ro").concat();
        assert!(told.contains("/srv/link leads to /run/docker.sock: "), "{told}");
    }

    #[test]
    fn options_and_types_of_mounts() {
        let cases = [
            ("ro, rshared", "rprivate"),
            ("ro, rprivate, shared", "rprivate"),
            ("ro, suid", "nosuid"),
            ("ro, nosuid, suid", "nosuid"),
            ("ro, dev", "nodev"),
        ];
        for (options, way_out) in cases {
            let told = of_mount("/srv/x", options);
            assert!(told.len() == 1 && told[0].contains(way_out), "{options}: {told:?}");
        }
        assert_eq!(of_mount("/srv/x", "ro, suid, nosuid, rshared, rslave, dev, nodev"), [""; 0]);
        for kind in ["overlay", "proc", "sysfs", "ext4", "devtmpfs", "debugfs", "nfs", "9p"] {
            let told = lints_of(&format!("{{mounts: [{{hostPath: {kind}, containerPath: /x, type: {kind}}}]}}"));
            assert!(told.len() == 1 && told[0].contains(kind), "{told:?}");
        }
        assert_eq!(lints_of("{mounts: [{hostPath: tmpfs, containerPath: /x, type: tmpfs}]}"), [""; 0]);
        // An engine takes the option for the type.
        let told = lints_of("{mounts: [{hostPath: /, containerPath: /x, type: tmpfs, options: [rbind]}]}");
        assert_eq!(told.len(), 1, "{told:?}");
    }

    #[test]
    fn mounts_over_what_guards_the_host() {
        for path in [
            "/",
            "/proc",
            "/proc/self/attr/exec",
            "/proc/sys/kernel/core_pattern",
            "/sys/fs/cgroup",
            "/dev",
            "/dev/null",
            "/dev/../proc/self",
            "/etc/ld.so.preload",
        ] {
            let told = lints_of(&format!("{{mounts: [{{hostPath: /srv/x, containerPath: {path}, options: [ro]}}]}}"));
            assert!(told.iter().any(|told| told.starts_with(".mounts[0].containerPath: ")), "{path}: {told:?}");
        }
        for path in ["/proc/driver/nvidia/params", "/sys/class/x", "/dev/shm", "/devices", "/usr/lib/x.so"] {
            let told = lints_of(&format!("{{mounts: [{{hostPath: /srv/x, containerPath: {path}, options: [ro]}}]}}"));
            assert_eq!(told, [""; 0], "{path}");
        }
    }

    #[test]
    fn nodes_of_memory_disks_and_input() {
        for node in [
            "path: /dev/mem",
            "path: /dev/x, hostPath: /dev/kmem",
            "path: /dev/nvidia0, type: c, major: 1, minor: 1",
            "path: /dev/sda",
            "path: /dev/sda1",
            "path: /dev/nvme0n1p2",
            "path: /dev/mapper/root",
            "path: /dev/dm-0",
            "path: /dev/x, type: b, major: 8, minor: 0",
            "path: /dev/cpu/0/msr",
            "path: /dev/input/event3",
            "path: /dev/uinput",
            "path: /dev/tty1",
            "path: /dev/loop-control",
            "path: /dev/disk/by-id/x",
            "path: /dev/char/1:1",
            "path: /dev/x, hostPath: /run/nvidia/driver/dev/sda",
            "path: /dev/alias",
            "path: /srv/node",
        ] {
            let told = lints_of(&format!("{{deviceNodes: [{{{node}}}]}}"));
            assert_eq!(told.len(), 1, "{node}: {told:?}");
        }
        for path in [
            "/dev/nvidia0",
            "/dev/nvidiactl",
            "/dev/dri/card0",
            "/dev/nvidia-caps/nvidia-cap1",
            "/dev/kfd",
            "/dev/fuse",
            "/dev/sev",
            "/dev/mdev",
            "/dev/infiniband/uverbs0",
            "/dev/hdmi",
        ] {
            let told = lints_of(&format!("{{deviceNodes: [{{path: {path}}}]}}"));
            assert!(told.is_empty(), "{path}: {told:?}");
        }
    }

    #[test]
    fn what_loads_code_and_hooks_that_others_may_write() {
        for name in ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "PYTHONPATH", "BASH_ENV"] {
            let told = lints_of(&format!(
                "{{env: ['{name}=/x'], hooks: [{{hookName: poststop, path: /usr/bin/x, env: ['{name}=/x']}}]}}"
            ));
            assert_eq!(told.len(), 2, "{told:?}");
            assert!(
                told[0].starts_with(&format!(".env[0]: {name} ")) && told[1].contains("root on the host"),
                "{told:?}"
            );
        }
        let hook = |rest: &str| lints_of(&format!("{{hooks: [{{hookName: createContainer, {rest}}}]}}"));
        for rest in [
            "path: /tmp/hook",
            "path: /usr/bin/../../tmp/hook",
            "path: /home/me/bin/hook",
            "path: /run/user/1000/hook",
            "path: /usr/bin//hook",
            "path: /usr/./bin/hook",
            "path: /bin/sh, args: [sh, -c, echo]",
            "path: /usr/bin/python3, args: [python3, -c, x]",
            "path: /usr/bin/hook, env: ['PATH=/usr/bin:']",
            "path: /usr/bin/hook, env: ['PATH=/tmp/x:/usr/bin']",
            "path: /usr/bin/hook, env: ['PATH=.']",
        ] {
            assert!(!hook(rest).is_empty(), "{rest}");
        }
        for rest in [
            "path: /usr/bin/cdi-hook, args: [cdi-hook, -c], env: ['PATH=/usr/sbin:/usr/bin']",
            "path: /bin/sh",
            "path: hook",
        ] {
            assert_eq!(hook(rest), [""; 0], "{rest}");
        }
        assert_eq!(lints_of("{additionalGids: [44, 0]}").len(), 1);
    }

    #[test]
    fn paths_that_are_not_written_out() {
        for path in ["srv/x", "../etc/passwd", "/srv/../etc/passwd", "/srv//x", "/srv/x/", "/srv/./x"] {
            let told = of_mount(path, "ro");
            assert!(told[0].contains("relative") || told[0].contains("not written out"), "{path}: {told:?}");
            let told = lints_of(&format!("{{mounts: [{{hostPath: /srv/x, containerPath: {path}, options: [ro]}}]}}"));
            assert!(told[0].starts_with(".mounts[0].containerPath: "), "{path}: {told:?}");
        }
        assert_eq!(normal("/a/../../b/./c//"), "/b/c");
        assert_eq!(normal("/.."), "/");
    }
}
