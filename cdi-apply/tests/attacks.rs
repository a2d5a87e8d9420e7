//! The hook in containers that fight back: no mount below the root is read for others or changed, and nothing is waited for.
#![cfg(feature = "hook")]
#![expect(clippy::unwrap_used, reason = "tests set up files and stop at the first surprise")]

use std::path::Path;

use testdata::attacks::ATTACKS;
use testdata::container::{Openat2, as_root};

/// Runs an attack of the list against the program, by both ways of going through the root.
fn attack(name: &str) {
    if !as_root(name) {
        return;
    }
    let attack = ATTACKS.iter().find(|attack| attack.name == name).unwrap();
    for openat2 in [Openat2::Known, Openat2::Missing] {
        attack.run(Path::new(env!("CARGO_BIN_EXE_cdi-hook")), openat2).unwrap();
    }
}

macro_rules! attacks {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            attack(stringify!($name));
        })*

        #[test]
        fn each_attack_of_the_list_is_run() {
            let listed: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
            assert_eq!([$(stringify!($name)),*].as_slice(), listed);
        }
    };
}

attacks! {
    an_ordinary_container_finds_its_libraries
    a_musl_path_that_leads_to_a_volume_is_not_copied
    a_musl_path_that_leads_to_the_kernels_tables_is_not_copied
    a_musl_path_that_leads_to_a_process_is_not_copied
    a_musl_path_that_leads_to_sysfs_is_not_copied
    a_musl_path_that_leads_to_the_images_own_secret_is_not_copied
    a_musl_path_that_leads_through_links_is_not_copied
    musl_loaders_that_only_a_directory_of_root_names_are_not_told
    a_cache_that_leads_to_a_volume_is_not_copied
    a_long_cache_that_leads_to_a_volume_is_not_copied
    a_cache_that_only_root_reads_stays_so
    a_long_cache_that_only_root_reads_stays_so
    a_musl_path_that_only_root_reads_stays_so
    a_configuration_that_leads_to_a_volume_is_not_told
    a_secret_soname_of_a_volume_is_not_told
    a_secret_soname_behind_a_link_is_not_told
    sonames_below_a_directory_of_root_are_not_told
    a_compat_library_that_only_root_reads_is_not_told
    etc_that_leads_to_a_volume_is_left
    drop_ins_that_lead_to_a_volume_are_left
    a_library_directory_that_leads_to_a_volume_is_left
    usr_that_leads_to_a_volume_is_left
    profiles_that_lead_to_a_volume_are_left
    modes_of_a_volume_are_kept
    a_volume_over_etc_is_left
    an_empty_volume_over_etc_is_left
    a_volume_over_the_drop_ins_is_left
    a_volume_over_the_library_directory_is_left
    a_volume_over_usr_is_left
    a_directory_of_the_host_over_the_library_directory_is_left
    a_foreign_overlay_over_etc_is_left
    a_foreign_overlay_over_the_library_directory_is_left
    a_file_of_the_host_over_the_cache_is_left
    a_file_of_the_host_over_a_musl_path_is_left
    a_file_of_the_host_over_a_drop_in_is_left
    a_volume_where_a_draft_would_be_is_left
    a_configuration_that_leads_to_the_kernels_messages_is_not_waited_for
    fifos_are_not_waited_for
    devices_are_not_set_going
    a_driver_library_does_not_take_the_name_of_the_images_libc
}
