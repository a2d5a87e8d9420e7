//! docker: `daemon.json`. Pure.

use serde_json::{Map, Value, json};

use super::{ConfigureError, Runtime};
use crate::document::{Document, DocumentError};

/// What docker's own documentation indents by.
const EMPTY: &str = "{\n    \"features\": {}\n}\n";

pub(super) fn configured(text: &str, runtime: Option<&Runtime>) -> Result<String, ConfigureError> {
    let text = if text.trim().is_empty() { EMPTY } else { text };
    let mut document = Document::parse(text.as_bytes()).map_err(|error| match error {
        DocumentError::NotAnObject => no_object("the document"),
        error => error.into(),
    })?;
    let before = document.value.clone();
    let Some(root) = document.value.as_object_mut() else { return Ok(text.to_owned()) };
    object(root, "features")?.insert("cdi".to_owned(), true.into());
    if let Some(runtime) = runtime {
        let runtimes = object(root, "runtimes")?;
        let entry = runtimes.entry(runtime.name.clone()).or_insert_with(|| json!({}));
        let Some(entry) = entry.as_object_mut() else { return Err(no_object(&format!("runtimes.{}", runtime.name))) };
        entry.insert("path".to_owned(), runtime.path.clone().into());
        if runtime.is_default {
            root.insert("default-runtime".to_owned(), runtime.name.clone().into());
        }
    }
    // What is laid out unevenly comes out evenly, but only where there is a reason to write it.
    Ok(if document.value == before { text.to_owned() } else { document.to_text() })
}

fn object<'v>(parent: &'v mut Map<String, Value>, key: &str) -> Result<&'v mut Map<String, Value>, ConfigureError> {
    parent.entry(key).or_insert_with(|| json!({})).as_object_mut().ok_or_else(|| no_object(key))
}

fn no_object(at: &str) -> ConfigureError {
    ConfigureError::WrongType { at: at.to_owned(), expected: "an object" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::tests::runtime;

    #[test]
    fn a_daemon_without_a_file() {
        assert_eq!(configured("", None).unwrap(), "{\n    \"features\": {\n        \"cdi\": true\n    }\n}\n");
        let expected = "{\n    \"features\": {\n        \"cdi\": true\n    },\n    \"runtimes\": {\n        \"nvidia\": {\n            \
                        \"path\": \"/usr/bin/cdi-runtime\"\n        }\n    },\n    \"default-runtime\": \"nvidia\"\n}\n";
        assert_eq!(configured(" \n", Some(&runtime(true))).unwrap(), expected);
    }

    #[test]
    fn what_is_there_stays() {
        let text = "{\n  \"log-driver\": \"journald\",\n  \"features\": {\n    \"containerd-snapshotter\": true\n  },\n  \
                    \"runtimes\": {\n    \"nvidia\": {\n      \"path\": \"nvidia-container-runtime\",\n      \"runtimeArgs\": []\n    }\n  }\n}";
        let expected = text
            .replace("true\n  }", "true,\n    \"cdi\": true\n  }")
            .replace("nvidia-container-runtime", "/usr/bin/cdi-runtime");
        assert_eq!(configured(text, Some(&runtime(false))).unwrap(), expected);
        let done = "{\"features\":  {\"cdi\":true} }";
        assert_eq!(configured(done, None).unwrap(), done);
    }
}
