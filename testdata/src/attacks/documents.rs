//! Documents: config.json of containers whose image costs whoever reads it time or memory. Pure.
//!
//! What an image says comes into the document as variables, annotations and mount points; what only an engine or a bundle
//! writes is among them too.

use std::fmt::Display;

/// One document.
pub struct Document {
    /// What it is.
    pub name: &'static str,
    /// Its text.
    pub text: fn() -> String,
}

/// All of them.
pub const DOCUMENTS: &[Document] = &[
    Document {
        name: "100,000 requirements",
        text: || env(many(100_000, |n| format!("NVIDIA_REQUIRE_X{n}=cuda>=12.0"))),
    },
    Document {
        name: "100,000 requirements of brands",
        text: || env(many(100_000, |n| format!("NVIDIA_REQUIRE_{n}=brand=tesla{n}"))),
    },
    Document {
        name: "a requirement of 300,000 terms",
        text: || asks(["NVIDIA_REQUIRE_CUDA=".to_owned() + &"cuda>=1.0 ".repeat(300_000)]),
    },
    Document {
        name: "requirements of long numbers",
        text: || asks(many(1000, |n| format!("NVIDIA_REQUIRE_{n}=cuda>={}", "9".repeat(5000)))),
    },
    Document { name: "a million ids", text: || env([format!("NVIDIA_VISIBLE_DEVICES={}", list(1_000_000, |_| 0))]) },
    Document {
        name: "400,000 different ids",
        text: || env([format!("NVIDIA_VISIBLE_DEVICES={}", list(400_000, |n| n))]),
    },
    Document {
        name: "300,000 MIG devices",
        text: || env([format!("NVIDIA_VISIBLE_DEVICES={}", list(300_000, |n| format!("{n}:0")))]),
    },
    Document {
        name: "100,000 CDI names",
        text: || env([format!("NVIDIA_VISIBLE_DEVICES={}", list(100_000, |n| format!("nvidia.com/gpu={n}")))]),
    },
    Document {
        name: "100,000 patterns",
        text: || env([format!("NVIDIA_VISIBLE_DEVICES={}", list(100_000, |n| format!("nvidia.com/gpu=[0-9]*{n}")))]),
    },
    Document { name: "an id of 8 MiB", text: || env([format!("NVIDIA_VISIBLE_DEVICES={}", "G".repeat(8 << 20))]) },
    Document { name: "a million variables", text: || env(many(1_000_000, |n| format!("A{n}="))) },
    Document {
        name: "a million times the variable that asks",
        text: || env(many(400_000, |_| "NVIDIA_VISIBLE_DEVICES=0".to_owned())),
    },
    Document {
        name: "a million capabilities",
        text: || asks([format!("NVIDIA_DRIVER_CAPABILITIES={}", list(1_000_000, |_| "x"))]),
    },
    Document {
        name: "a million IMEX channels",
        text: || asks([format!("NVIDIA_IMEX_CHANNELS={}", list(1_000_000, |n| n))]),
    },
    Document {
        name: "a million devices of a swarm",
        text: || env([format!("DOCKER_RESOURCE_GPU={}", list(1_000_000, |n| n))]),
    },
    Document { name: "a variable of escapes", text: || env(["\\u0041".repeat(2 << 20)]) },
    Document {
        name: "100,000 mounts that ask",
        text: || mounts(100_000, |n| format!("/var/run/nvidia-container-devices/{n}")),
    },
    Document { name: "100,000 annotations that ask", text: annotations },
    Document { name: "nothing but open brackets", text: || other("[".repeat(8 << 20)) },
    Document { name: "brackets that close", text: || other("[".repeat(4 << 20) + &"]".repeat(4 << 20)) },
    Document { name: "a deep object", text: || other("{\"a\":".repeat(1 << 20) + "0" + &"}".repeat(1 << 20)) },
    Document { name: "eight million numbers", text: || other(format!("[{}]", list(8_000_000 - 1, |_| 0))) },
    Document { name: "four million empty objects", text: || other(format!("[{}]", list(4_000_000, |_| "{}"))) },
    Document { name: "two million times one key", text: || other(format!("{{{}}}", list(2_000_000, |_| "\"a\":0"))) },
    Document { name: "a million keys", text: || other(format!("{{{}}}", list(1_000_000, |n| format!("\"{n}\":0")))) },
    Document { name: "a number of 15 MiB", text: || other("1".repeat(15 << 20)) },
    Document { name: "15 MiB of blanks", text: || env([ASK.to_owned()]) + &" ".repeat(15 << 20) },
    Document { name: "more than is read", text: || env([ASK.to_owned()]) + &" ".repeat(17 << 20) },
];

const ASK: &str = "NVIDIA_VISIBLE_DEVICES=all";

fn many(count: usize, one: impl Fn(usize) -> String) -> impl IntoIterator<Item = String> {
    (0..count).map(one)
}

fn list<T: Display>(count: usize, one: impl Fn(usize) -> T) -> String {
    let mut text = String::new();
    for index in 0..count {
        if index > 0 {
            text.push(',');
        }
        text += &one(index).to_string();
    }
    text
}

/// A container that asks for GPUs, with further variables.
fn asks(variables: impl IntoIterator<Item = String>) -> String {
    env([ASK.to_owned()].into_iter().chain(variables))
}

fn env(variables: impl IntoIterator<Item = String>) -> String {
    let mut quoted = String::from("\"PATH=/bin\"");
    let mut asks = false;
    for variable in variables {
        asks |= variable.starts_with("NVIDIA_VISIBLE_DEVICES=");
        quoted += &format!(",\"{variable}\"");
    }
    if !asks {
        quoted += &format!(",\"{ASK}\"");
    }
    document(&quoted, "", "")
}

fn mounts(count: usize, at: impl Fn(usize) -> String) -> String {
    let mount = |n| format!("{{\"destination\":\"{}\",\"source\":\"/dev/null\",\"type\":\"bind\"}}", at(n));
    document(&format!("\"{ASK}\""), &format!(",\"mounts\":[{}]", list(count, mount)), "")
}

fn annotations() -> String {
    let pair = |n| format!("\"cdi.k8s.io/plugin_{n}\":\"nvidia.com/gpu={n}\"");
    document(&format!("\"{ASK}\""), &format!(",\"annotations\":{{{}}}", list(100_000, pair)), "")
}

/// A container that asks, with something that nobody knows.
fn other(value: impl Display) -> String {
    document(&format!("\"{ASK}\""), "", &format!(",\"other\":{value}"))
}

fn document(env: &str, more: &str, other: &str) -> String {
    let root = "\"root\":{\"path\":\"rootfs\"}";
    format!(
        "{{\"ociVersion\":\"1.0.2\",\"process\":{{\"args\":[\"true\"],\"cwd\":\"/\",\"env\":[{env}]}},{root},\"linux\":{{}}{more}{other}}}"
    )
}
