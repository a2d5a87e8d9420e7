//! List: the attacks, one a name. I/O.

use std::io;

use super::{
    Attack, DRIVER_DIR, LIBCUDA, LIBRARY_DIR, SECRET, cache, canary, clear, does_all, finds_or_tells, nothing,
    secret_file,
};
use crate::container::{Container, Ran, What};

/// All of them; the first is none, but what must work.
pub const ATTACKS: &[Attack] = &[
    Attack { name: "an_ordinary_container_gets_all_that_is_asked_for", lay_out: |_| Ok(()), also: does_all },
    // Reading
    attack("a_musl_path_that_leads_to_a_volume_is_not_copied", musl_paths_lead_to_a_volume),
    attack("a_musl_path_that_leads_to_the_kernels_tables_is_not_copied", musl_paths_lead_to_tables),
    attack("a_musl_path_that_leads_to_a_process_is_not_copied", musl_paths_lead_to_processes),
    attack("a_musl_path_that_leads_to_sysfs_is_not_copied", musl_paths_lead_to_sysfs),
    attack("a_musl_path_that_leads_to_the_images_own_secret_is_not_copied", musl_path_leads_to_shadow),
    attack("a_musl_path_that_leads_through_links_is_not_copied", musl_path_leads_on),
    attack("musl_loaders_that_only_a_directory_of_root_names_are_not_told", musl_loaders_in_a_kept_directory),
    attack("a_cache_that_leads_to_a_volume_is_not_copied", cache_leads_to_a_volume),
    attack("a_long_cache_that_leads_to_a_volume_is_not_copied", long_cache_leads_to_a_volume),
    attack("a_cache_that_only_root_reads_stays_so", cache_of_root),
    attack("a_long_cache_that_only_root_reads_stays_so", long_cache_of_root),
    attack("a_musl_path_that_only_root_reads_stays_so", musl_path_of_root),
    attack("a_configuration_that_leads_to_a_volume_is_not_told", configuration_leads_to_a_volume),
    attack("a_secret_soname_of_a_volume_is_not_told", secret_soname),
    attack("a_secret_soname_behind_a_link_is_not_told", secret_soname_behind_a_link),
    attack("sonames_below_a_directory_of_root_are_not_told", soname_in_a_kept_directory),
    attack("a_compat_library_that_only_root_reads_is_not_told", secret_compat),
    // Writing
    attack_or_told("etc_that_leads_to_a_volume_is_left", etc_leads_to_a_volume),
    attack_or_told("drop_ins_that_lead_to_a_volume_are_left", drop_ins_lead_to_a_volume),
    attack_or_told("a_library_directory_that_leads_to_a_volume_is_left", libraries_lead_to_a_volume),
    attack_or_told("usr_that_leads_to_a_volume_is_left", usr_leads_to_a_volume),
    attack("profiles_that_lead_to_a_volume_are_left", profiles_lead_to_a_volume),
    attack("modes_of_a_volume_are_kept", modes_lead_to_a_volume),
    attack_or_told("a_volume_over_etc_is_left", volume_over_etc),
    attack_or_told("an_empty_volume_over_etc_is_left", empty_volume_over_etc),
    attack_or_told("a_volume_over_the_drop_ins_is_left", volume_over_drop_ins),
    attack_or_told("a_volume_over_the_library_directory_is_left", volume_over_libraries),
    attack_or_told("a_volume_over_usr_is_left", volume_over_usr),
    attack_or_told("a_directory_of_the_host_over_the_library_directory_is_left", host_over_libraries),
    attack_or_told("a_foreign_overlay_over_etc_is_left", overlay_over_etc),
    attack_or_told("a_foreign_overlay_over_the_library_directory_is_left", overlay_over_libraries),
    attack_or_told("a_file_of_the_host_over_the_cache_is_left", file_over_cache),
    attack("a_file_of_the_host_over_a_musl_path_is_left", file_over_musl_path),
    attack("a_file_of_the_host_over_a_drop_in_is_left", file_over_drop_in),
    attack("a_volume_where_a_draft_would_be_is_left", volume_over_drafts),
    // Waiting
    attack("a_configuration_that_leads_to_the_kernels_messages_is_not_waited_for", configuration_leads_to_kmsg),
    attack("fifos_are_not_waited_for", fifos),
    attack("devices_are_not_set_going", devices),
    // Names
    Attack {
        name: "a_driver_library_does_not_take_the_name_of_the_images_libc",
        lay_out: foreign_sonames,
        also: foreign_sonames_are_not_taken,
    },
];

const fn attack(name: &'static str, lay_out: fn(&mut Container) -> io::Result<()>) -> Attack {
    Attack { name, lay_out, also: nothing }
}

/// One after which the libraries are found all the same, or somebody is told that they are not.
const fn attack_or_told(name: &'static str, lay_out: fn(&mut Container) -> io::Result<()>) -> Attack {
    Attack { name, lay_out, also: finds_or_tells }
}

const MUSL_NAMES: [&str; 7] = ["x86_64", "aarch64", "i386", "a", "..", "a b", "$(id)\n"];

fn musl_loader(container: &Container, machine: &str) -> io::Result<()> {
    container.write(&format!("rootfs/lib/ld-musl-{machine}.so.1"), "", 0o755)
}

fn musl_path(machine: &str) -> String {
    format!("rootfs/etc/ld-musl-{machine}.path")
}

fn musl_paths_lead_to_a_volume(container: &mut Container) -> io::Result<()> {
    container.volume("kept", "/vol")?;
    for (number, name) in MUSL_NAMES.into_iter().enumerate() {
        secret_file(container, &format!("volumes/kept/secret{number}"), 0o600)?;
        musl_loader(container, name)?;
        container.link(format!("/vol/secret{number}"), &musl_path(name))?;
    }
    Ok(())
}

fn musl_paths_lead_to_tables(container: &mut Container) -> io::Result<()> {
    musl_paths_lead_to(container, ["/proc/kallsyms", "/proc/keys", "../proc/iomem"])
}

fn musl_paths_lead_to_processes(container: &mut Container) -> io::Result<()> {
    musl_paths_lead_to(container, ["/proc/1/environ", "/proc/1/mountinfo", "/proc/self/cmdline"])
}

fn musl_paths_lead_to_sysfs(container: &mut Container) -> io::Result<()> {
    container.mount("/sys", What::Sysfs);
    musl_paths_lead_to(
        container,
        ["/sys/kernel/notes", "/sys/kernel/vmcoreinfo", "/sys/kernel/mm/transparent_hugepage/enabled"],
    )
}

fn musl_paths_lead_to(container: &Container, files: [&str; 3]) -> io::Result<()> {
    MUSL_NAMES.into_iter().zip(files).try_for_each(|(name, file)| {
        musl_loader(container, name)?;
        container.link(file, &musl_path(name))
    })
}

fn musl_path_leads_to_shadow(container: &mut Container) -> io::Result<()> {
    container.link("/etc/shadow", &musl_path("x86_64"))
}

fn musl_path_leads_on(container: &mut Container) -> io::Result<()> {
    container.volume("kept", "/var/kept")?;
    container.dir("volumes/kept/below", 0o700)?;
    secret_file(container, "volumes/kept/below/secret", 0o644)?;
    container.link("../var/kept/below", "rootfs/etc/step")?;
    container.link("/etc/step/secret", "rootfs/etc/next")?;
    container.link("next", &musl_path("x86_64"))
}

fn musl_loaders_in_a_kept_directory(container: &mut Container) -> io::Result<()> {
    clear(container, "/lib")?;
    container.volume("kept", "/vol")?;
    container.dir("volumes/kept/lib", 0o700)?;
    container.write(&format!("volumes/kept/lib/ld-musl-{SECRET}.so.1"), "", 0o644)?;
    container.link("/vol/lib", "rootfs/lib")
}

fn cache_leads_to_a_volume(container: &mut Container) -> io::Result<()> {
    container.volume("kept", "/vol")?;
    secret_file(container, "volumes/kept/ld.so.cache", 0o600)?;
    clear(container, "/etc/ld.so.cache")?;
    container.link("/vol/ld.so.cache", "rootfs/etc/ld.so.cache")
}

/// One that is copied in parts, before the libraries are there.
fn long_cache() -> Vec<u8> {
    let name = |index: usize| format!("lib{SECRET}{index}.so.1");
    cache_of((0..20_000).rev().map(name))
}

fn cache_of(names: impl Iterator<Item = String>) -> Vec<u8> {
    use crate::ld_so_cache::{self, CacheEntry, Endian, Format};
    let entry = |name: String| CacheEntry { path: format!("{LIBRARY_DIR}/{name}"), name, flags: ld_so_cache::X86_64 };
    ld_so_cache::write(&names.map(entry).collect::<Vec<_>>(), Format::New, Endian::Little)
}

fn long_cache_leads_to_a_volume(container: &mut Container) -> io::Result<()> {
    container.volume("kept", "/vol")?;
    container.write("volumes/kept/ld.so.cache", long_cache(), 0o600)?;
    clear(container, "/etc/ld.so.cache")?;
    container.link("/vol/ld.so.cache", "rootfs/etc/ld.so.cache")
}

fn cache_of_root(container: &mut Container) -> io::Result<()> {
    container.write("rootfs/etc/ld.so.cache", cache("libc.so.6"), 0o600)
}

fn long_cache_of_root(container: &mut Container) -> io::Result<()> {
    container.write(
        "rootfs/etc/ld.so.cache",
        cache_of((0..20_000).rev().map(|index| format!("libx{index}.so.1"))),
        0o640,
    )
}

fn musl_path_of_root(container: &mut Container) -> io::Result<()> {
    container.write(&musl_path("x86_64"), "/lib\n/of-root\n", 0o600)
}

fn configuration_leads_to_a_volume(container: &mut Container) -> io::Result<()> {
    container.volume("kept", "/vol")?;
    clear(container, "/etc/ld.so.conf")?;
    secret_file(container, "volumes/kept/ld.so.conf", 0o600)?;
    secret_file(container, "volumes/kept/00-cdi-hook.conf", 0o600)?;
    container.link("/vol/ld.so.conf", "rootfs/etc/ld.so.conf")?;
    container.link("/vol/00-cdi-hook.conf", "rootfs/etc/ld.so.conf.d/00-cdi-hook.conf")?;
    container.link("/vol/ld.so.conf", "rootfs/etc/ld.so.conf.d/evil.conf")
}

fn secret_soname(container: &mut Container) -> io::Result<()> {
    for name in ["libnvidia-a.so.1", "libnvidia-b.so.580.159.04"] {
        container.write(&format!("driver/dir/{name}"), canary::content(name), 0o600)?;
    }
    Ok(())
}

fn secret_soname_behind_a_link(container: &mut Container) -> io::Result<()> {
    container.volume("kept", "/vol")?;
    container.write("volumes/kept/secret", canary::content("x.so"), 0o600)?;
    container.link("/vol/secret", "driver/dir/libnvidia-a.so.1")?;
    container.link("../vol/secret", "driver/dir/libnvidia-a.so")
}

fn soname_in_a_kept_directory(container: &mut Container) -> io::Result<()> {
    container.write(&format!("driver/dir/lib{SECRET}.so.1"), canary::content("x.so"), 0o644)?;
    container.dir("driver/dir", 0o700)
}

fn secret_compat(container: &mut Container) -> io::Result<()> {
    container.volume("kept", "/usr/local/cuda/compat")?;
    container.write("volumes/kept/libcuda.so.999.1", canary::content("x.so"), 0o600)
}

/// What the hook would replace in `/etc`, as files of a volume's owner.
fn fill_etc(container: &Container, dir: &str) -> io::Result<()> {
    container.write(&format!("{dir}/ld.so.cache"), cache("libz.so.1"), 0o600)?;
    container.write(&format!("{dir}/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n", 0o600)?;
    container.write(&format!("{dir}/ld.so.conf.d/00-cdi-hook.conf"), "/old\n", 0o600)?;
    container.write(&format!("{dir}/ld-musl-x86_64.path"), "/lib\n", 0o600)?;
    container.write(&format!("{dir}/debian_version"), "12\n", 0o644)?;
    container.dir(&format!("{dir}/nvidia/nvidia-application-profiles-rc.d"), 0o755)
}

fn etc_leads_to_a_volume(container: &mut Container) -> io::Result<()> {
    clear(container, "/etc")?;
    container.volume("rw", "/vol")?;
    fill_etc(container, "volumes/rw/etc")?;
    container.link("/vol/etc", "rootfs/etc")
}

fn drop_ins_lead_to_a_volume(container: &mut Container) -> io::Result<()> {
    clear(container, "/etc/ld.so.conf.d")?;
    container.volume("rw", "/vol")?;
    container.dir("volumes/rw/conf", 0o755)?;
    container.link("../vol/conf", "rootfs/etc/ld.so.conf.d")
}

fn fill_libraries(container: &Container, dir: &str) -> io::Result<()> {
    container.write(&format!("{dir}/libcuda.so.1"), "a volume's", 0o600)?;
    container.write(&format!("{dir}/libcuda.so"), "a volume's", 0o644)?;
    container.write(&format!("{dir}/{LIBCUDA}"), "", 0o644)
}

/// Whatever is in it is the volume's, and no driver is mounted there.
fn libraries_lead_to_a_volume(container: &mut Container) -> io::Result<()> {
    without_mount(container, LIBRARY_DIR)?;
    container.volume("rw", "/vol")?;
    fill_libraries(container, "volumes/rw/lib")?;
    container.link("/vol/lib", &format!("rootfs{LIBRARY_DIR}"))
}

fn usr_leads_to_a_volume(container: &mut Container) -> io::Result<()> {
    without_mount(container, "/usr")?;
    container.volume("rw", "/vol")?;
    container.dir("volumes/rw/usr", 0o755)?;
    container.link("/vol/usr", "rootfs/usr")
}

/// Takes a directory of the image away, and mounts nothing below it.
fn without_mount(container: &mut Container, dir: &str) -> io::Result<()> {
    container.mounts().retain(|mount| !mount.at.starts_with(dir));
    clear(container, dir)
}

fn profiles_lead_to_a_volume(container: &mut Container) -> io::Result<()> {
    container.volume("rw", "/vol")?;
    container.dir("volumes/rw/nvidia/nvidia-application-profiles-rc.d", 0o755)?;
    container.write("volumes/rw/nvidia/nvidia-application-profiles-rc.d/10-container.conf", "kept", 0o600)?;
    container.link("/vol/nvidia", "rootfs/etc/nvidia")
}

fn modes_lead_to_a_volume(container: &mut Container) -> io::Result<()> {
    container.volume("kept", "/vol")?;
    container.dir("volumes/kept/dri", 0o700)?;
    secret_file(container, "volumes/kept/secret", 0o600)?;
    without_mount(container, "/dev")?;
    container.link("/vol/dri", "rootfs/dev/dri")?;
    container.link("/vol/secret", "rootfs/dev/nvidia-caps/nvidia-cap1")
}

fn volume_over_etc(container: &mut Container) -> io::Result<()> {
    container.volume("rw", "/etc")?;
    fill_etc(container, "volumes/rw")
}

fn empty_volume_over_etc(container: &mut Container) -> io::Result<()> {
    container.volume("rw", "/etc")
}

fn volume_over_drop_ins(container: &mut Container) -> io::Result<()> {
    container.volume("rw", "/etc/ld.so.conf.d")?;
    container.write("volumes/rw/00-cdi-hook.conf", "/old\n", 0o600)
}

/// The driver's libraries are mounted over it, as engines do: the user's volumes come first.
fn volume_over_libraries(container: &mut Container) -> io::Result<()> {
    fill_libraries(container, "volumes/rw")?;
    mount_first(container, |container| container.volume("rw", LIBRARY_DIR))
}

fn volume_over_usr(container: &mut Container) -> io::Result<()> {
    fill_libraries(container, "volumes/rw/lib/x86_64-linux-gnu")?;
    mount_first(container, |container| container.volume("rw", "/usr"))
}

fn host_over_libraries(container: &mut Container) -> io::Result<()> {
    fill_libraries(container, "host/lib")?;
    mount_first(container, |container| container.bind("host/lib", LIBRARY_DIR, false))
}

fn overlay_over_etc(container: &mut Container) -> io::Result<()> {
    fill_etc(container, "host/lower")?;
    let lower = container.path("host/lower");
    container.mount("/etc", What::Overlay { lower });
    Ok(())
}

fn overlay_over_libraries(container: &mut Container) -> io::Result<()> {
    fill_libraries(container, "host/lower")?;
    let lower = container.path("host/lower");
    mount_first(container, |container| {
        container.mount(LIBRARY_DIR, What::Overlay { lower });
        Ok(())
    })
}

fn mount_first(container: &mut Container, mount: impl FnOnce(&mut Container) -> io::Result<()>) -> io::Result<()> {
    let others = std::mem::take(container.mounts());
    mount(container)?;
    container.mounts().extend(others);
    Ok(())
}

fn file_over_cache(container: &mut Container) -> io::Result<()> {
    secret_file(container, "host/ld.so.cache", 0o600)?;
    container.bind("host/ld.so.cache", "/etc/ld.so.cache", false)
}

fn file_over_musl_path(container: &mut Container) -> io::Result<()> {
    secret_file(container, "host/secret", 0o600)?;
    container.write(&musl_path("x86_64"), "", 0o644)?;
    container.bind("host/secret", "/etc/ld-musl-x86_64.path", false)
}

fn file_over_drop_in(container: &mut Container) -> io::Result<()> {
    secret_file(container, "host/secret", 0o600)?;
    container.bind("host/secret", "/etc/ld.so.conf.d/00-cdi-hook.conf", false)
}

fn volume_over_drafts(container: &mut Container) -> io::Result<()> {
    for draft in ["/etc/.ld.so.cache.cdi-hook", "/etc/.ld-musl-x86_64.path.cdi-hook"] {
        container.volume("rw", draft)?;
    }
    container.write("volumes/rw/file", "kept", 0o600)
}

fn configuration_leads_to_kmsg(container: &mut Container) -> io::Result<()> {
    clear(container, "/etc/ld.so.conf")?;
    container.link("/proc/kmsg", "rootfs/etc/ld.so.conf")
}

/// Each path that the image can lay.
const LAID: [&str; 8] = [
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d/evil.conf",
    "/etc/ld.so.conf.d/00-cdi-hook.conf",
    "/etc/ld.so.cache",
    "/etc/ld-musl-x86_64.path",
    "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf",
    "/usr/local/cuda/compat/libcuda.so.999.1",
    "/usr/lib/x86_64-linux-gnu/libevil.so.1",
];

fn fifos(container: &mut Container) -> io::Result<()> {
    for path in LAID {
        clear(container, path)?;
        container.fifo(&format!("rootfs{path}"))?;
    }
    container.fifo("driver/dir/libfifo.so.1")
}

/// `/dev/zero` has no end; `/dev/tty` and a terminal's other side may block; the kernel's messages may be read once.
fn devices(container: &mut Container) -> io::Result<()> {
    let numbers = [(1, 5), (5, 0), (5, 2), (1, 11)];
    for (path, number) in LAID.into_iter().zip(numbers.into_iter().cycle()) {
        clear(container, path)?;
        let made = container.device(&format!("rootfs{path}"), number);
        // Only real root may make them; a link to one does for others.
        made.or_else(|_| container.link("/dev/zero", &format!("rootfs{path}")))?;
    }
    Ok(())
}

/// Names of the image's own libraries, which libraries of the driver claim.
const FOREIGN: [&str; 5] = ["libm.so.6", "libc.so.6", "libpthread.so.0", "libstdc++.so.6", "ld-linux-x86-64.so.2"];

fn foreign_sonames(container: &mut Container) -> io::Result<()> {
    for (number, soname) in FOREIGN.into_iter().enumerate() {
        container.library(&format!("driver/dir/libnvidia-ev{number}.so.580.159.04"), soname, 0o755)?;
    }
    Ok(())
}

fn foreign_sonames_are_not_taken(container: &Container, ran: &Ran) -> Result<(), String> {
    let bytes = ran.root.1.file(&container.root("/etc/ld.so.cache")).unwrap_or_default();
    let text = |number: usize, soname: &str| {
        let ours = [format!("{DRIVER_DIR}/{soname}"), format!("{DRIVER_DIR}/libnvidia-ev{number}.so.580.159.04")];
        ours.iter().any(|path| names_path(bytes, soname, path))
    };
    let taken: Vec<&str> =
        FOREIGN.iter().enumerate().filter(|(n, name)| text(*n, name)).map(|(_, name)| *name).collect();
    if taken.is_empty() { Ok(()) } else { Err(format!("a library of the driver is found as {}", taken.join(", "))) }
}

/// Whether a cache has an entry of this name with this path.
fn names_path(cache: &[u8], name: &str, path: &str) -> bool {
    crate::ld_so_cache::read(cache).contains(&(name.to_owned(), path.to_owned()))
}
