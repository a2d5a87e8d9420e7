//! Docker's hook: what `docker run --gpus` puts into a container for the NVIDIA toolkit, recognised and taken out. Pure.
//!
//! Docker up to 29.1 sets `NVIDIA_VISIBLE_DEVICES` and adds a prestart hook, which would change a container that runs
//! already. We take the hook out and apply edits in its place.

use std::path::Path;

use serde_json::Value;

use super::container::Container;

/// Names of the hook's program.
pub const NAMES: [&str; 2] = ["nvidia-container-runtime-hook", "nvidia-container-toolkit"];

/// Whether a container has the hook.
pub fn is_there(container: Container<'_>) -> bool {
    container.0.pointer("/hooks/prestart").and_then(Value::as_array).is_some_and(|hooks| hooks.iter().any(is_hook))
}

/// Takes the hook out; says whether it was there.
pub fn remove(config: &mut Value) -> bool {
    let Some(Value::Array(hooks)) = config.pointer_mut("/hooks/prestart") else { return false };
    let before = hooks.len();
    hooks.retain(|hook| !is_hook(hook));
    hooks.len() < before
}

fn is_hook(hook: &Value) -> bool {
    let program = hook.get("path").and_then(Value::as_str).map(Path::new).and_then(Path::file_name);
    program.is_some_and(|program| NAMES.iter().any(|name| program == *name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_hook_goes_and_others_stay() {
        let other = json!({"path": "/usr/bin/other", "args": ["nvidia-container-runtime-hook"]});
        let mut config = json!({"hooks": {
            "prestart": [
                {"path": "/usr/bin/nvidia-container-runtime-hook", "args": ["nvidia-container-runtime-hook", "prestart"]},
                other,
                {"path": "/opt/nvidia-container-toolkit"},
            ],
            "poststop": [{"path": "/usr/bin/nvidia-container-runtime-hook"}],
        }});
        assert!(is_there(Container(&config)) && remove(&mut config));
        let expected = json!({"hooks": {
            "prestart": [other],
            "poststop": [{"path": "/usr/bin/nvidia-container-runtime-hook"}],
        }});
        assert_eq!(config, expected);
        assert!(!is_there(Container(&config)) && !remove(&mut config));
        assert!(!remove(&mut json!({"hooks": {"prestart": null}})));
    }
}
