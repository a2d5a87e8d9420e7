//! Any JSON as the config.json of a container that asks for GPUs, under each policy: no crash, no request without a
//! marker of one, nothing asked for where nothing is accepted, and docker's hook gone once it was taken out.
#![no_main]

use cdi_apply::runtime::config::{Accept, Config};
use cdi_apply::runtime::container::Container;
use cdi_apply::runtime::requirements::{self, Facts};
use cdi_apply::runtime::{docker_hook, requests};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else { return };
    let open = Config {
        volume_mounts: true,
        annotation_prefixes: vec!["cdi.k8s.io/".to_owned()],
        swarm_resources: vec!["DOCKER_RESOURCE_GPU".to_owned()],
        ..Config::default()
    };
    let closed = Config { environment: Accept::Never, ..Config::default() };
    for config in [&open, &closed] {
        let asked = requests::of_container(Container(&value), config);
        let nothing = matches!(asked, Ok(None));
        assert!(nothing || requests::may_ask(text, config), "a request that was not seen: {asked:?}");
        assert!(nothing || config.environment != Accept::Never || docker_hook::is_there(Container(&value)));
    }
    if let Ok(requirements) = requirements::of_container(Container(&value)) {
        requirements.iter().for_each(|requirement| _ = requirement.holds(&Facts::default()));
    }
    docker_hook::remove(&mut value);
    assert!(!docker_hook::is_there(Container(&value)));
});
