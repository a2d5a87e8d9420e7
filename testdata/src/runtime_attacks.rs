//! Documents that an image, or whoever writes a container's `config.json`, makes to cost the runtime wrapper time or memory.
//!
//! Each is answered within a second and 64 MiB, by a refusal or by a start.

/// A `config.json`, and how the wrapper answers.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeAttack {
    /// What it is made of, in a few words.
    pub name: &'static str,
    /// Makes the document.
    pub config: fn() -> Vec<u8>,
    /// What the refusal says; `None` where the container starts.
    pub refused: Option<&'static str>,
}

/// Lines of the wrapper's configuration under which all of them are tried: whatever may be asked may be. The specs define
/// `nvidia.com/gpu=0`.
pub const RUNTIME_ATTACKS_CONFIGURATION: &str = "volume-mounts = true\nannotation-prefixes = [\"cdi.k8s.io/\"]\n\
    swarm-resources = [\"DOCKER_RESOURCE_GPU\"]\nother-kinds = [\"nvidia.com\"]\ndocker-gpus = true\n";

const DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
const CAPABILITIES: &str = "NVIDIA_DRIVER_CAPABILITIES";
const REQUIRE: &str = "NVIDIA_REQUIRE_X";
const TOO_MANY_IDS: Option<&str> = Some("more than 4096 devices");
const TOO_LARGE: Option<&str> = Some("bytes of memory");

/// All that are known.
pub const RUNTIME_ATTACKS: [RuntimeAttack; 37] = [
    attack("20,000 requirements", || required(20_000), Some("more than 256 variables")),
    attack("100,000 requirements", || required(100_000), TOO_LARGE),
    attack("one requirement 60,000 times", || with_env((0..60_000).map(|_| format!("{REQUIRE}=brand=a"))), None),
    attack("a million terms", || one(REQUIRE, &"arch>1,".repeat(500_000)), Some("more than 262144 bytes")),
    attack("as many terms as may be", || one(REQUIRE, &"cuda>1 arch>1,".repeat(4000)), None),
    attack("a term of 3 MiB", || one(REQUIRE, &"x".repeat(3 << 20)), Some("more than 262144 bytes")),
    attack("a term of 200 KiB", || one(REQUIRE, &"\\u001b".repeat(200 << 10)), Some("which is no condition")),
    attack("a version of a million numbers", || one("CUDA_VERSION", &"1.".repeat(1 << 20)), None),
    attack("a million ids", || one(DEVICES, &"0,".repeat(1_000_000)), TOO_MANY_IDS),
    attack("400,000 different ids", || one(DEVICES, &numbers(400_000)), TOO_MANY_IDS),
    attack("4,000 different ids", || one(DEVICES, &numbers(4000)), Some("unresolvable CDI devices")),
    attack("4,000 ids of 1,000 bytes", || one(DEVICES, &ids(|at| format!("{at:01000}"))), Some("unresolvable")),
    attack("4,000 UUIDs", || one(DEVICES, &ids(|at| format!("GPU-00000000-{at}-4000-8000-0"))), Some("unresolvable")),
    attack("an id of 3 MiB", || one(DEVICES, &"x".repeat(3 << 20)), Some("longer than any device's name")),
    attack("a million commas", || one(DEVICES, &",".repeat(1_000_000)), None),
    attack("500,000 capabilities", || one(CAPABILITIES, &"video,".repeat(500_000)), Some("more than 4096 driver")),
    attack("4,000 unknown capabilities", || one(CAPABILITIES, &ids(|at| format!("\\u001b[{at}m"))), None),
    attack("400,000 channels", || one("NVIDIA_IMEX_CHANNELS", &numbers(400_000)), TOO_MANY_IDS),
    attack("100,000 swarm ids", || one("DOCKER_RESOURCE_GPU", &numbers(100_000)), TOO_MANY_IDS),
    attack("15,000 annotations", annotations, TOO_MANY_IDS),
    attack("8,000 mounts that ask", mounts_that_ask, TOO_MANY_IDS),
    attack("90,000 variables", || with_env((0..90_000).map(|at| format!("V{at}=x"))), None),
    attack("5,000 mounts", || with("mounts", &list(5000, |at| format!("{{\"destination\":\"/{at}\"}}"))), None),
    attack("5,000 device rules", device_rules, None),
    attack("5,000 of docker's hooks", dockers_hooks, None),
    attack("400,000 small objects", || filled("{\"\":0},", "0"), TOO_LARGE),
    attack("a million empty objects", || filled("{},", "0"), TOO_LARGE),
    attack("1,500,000 numbers", || filled("0,", "0"), TOO_LARGE),
    attack("a million texts", || filled("\"\",", "0"), TOO_LARGE),
    attack("lists in lists", || filled(&format!("{}{},", "[".repeat(100), "]".repeat(100)), "0"), TOO_LARGE),
    attack("a list too deep", || filled("[", "0"), Some("recursion limit")),
    attack("200,000 members", members, TOO_LARGE),
    attack("a number of 3 MiB", || filled("", &"1".repeat(3 << 20)), None),
    attack("a text of 3 MiB", || filled("", &text(3 << 20)), None),
    attack("a text of 15 MiB", || filled("", &text(15 << 20)), Some("more than the limit of 4194304 bytes")),
    attack("a text of 17 MiB", || filled("", &text(17 << 20)), Some("more than the limit of 16777216 bytes")),
    attack("3 MiB that are not UTF-8", not_text, Some("not JSON")),
];

const fn attack(name: &'static str, config: fn() -> Vec<u8>, refused: Option<&'static str>) -> RuntimeAttack {
    RuntimeAttack { name, config, refused }
}

/// A container that asks for a GPU, with one more member.
fn with(key: &str, value: &str) -> Vec<u8> {
    format!("{{\"process\":{{\"env\":[\"{DEVICES}=0\"]}},\"{key}\":{value}}}").into_bytes()
}

/// With these variables behind the one that asks.
fn with_env(env: impl Iterator<Item = String>) -> Vec<u8> {
    let more: String = env.map(|variable| format!(",\"{variable}\"")).collect();
    format!("{{\"process\":{{\"env\":[\"{DEVICES}=0\"{more}]}}}}").into_bytes()
}

fn one(name: &str, text: &str) -> Vec<u8> {
    with_env(std::iter::once(format!("{name}={text}")))
}

fn required(count: usize) -> Vec<u8> {
    with_env((0..count).map(|at| format!("{REQUIRE}{at}=brand=tesla")))
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(",")
}

/// None of them is a device's.
fn numbers(count: usize) -> String {
    joined((100..count + 100).map(|number| number.to_string()))
}

/// As many as may be asked for, nearly.
fn ids(id: impl Fn(usize) -> String) -> String {
    joined((1000..5000).map(id))
}

fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    format!("[{}]", joined((0..count).map(item)))
}

fn annotations() -> Vec<u8> {
    let all = joined((0..15_000).map(|at| format!("\"cdi.k8s.io/{at}\":\"nvidia.com/gpu=0\"")));
    with("annotations", &format!("{{{all}}}"))
}

fn mounts_that_ask() -> Vec<u8> {
    let dir = "/var/run/nvidia-container-devices";
    with("mounts", &list(8000, |at| format!("{{\"source\":\"/dev/null\",\"destination\":\"{dir}/{at}\"}}")))
}

fn device_rules() -> Vec<u8> {
    let rules = list(5000, |at| format!("{{\"allow\":true,\"type\":\"c\",\"major\":{at},\"access\":\"rw\"}}"));
    with("linux", &format!("{{\"resources\":{{\"devices\":{rules}}}}}"))
}

fn dockers_hooks() -> Vec<u8> {
    let hooks = list(5000, |_| "{\"path\":\"/nvidia-container-runtime-hook\"}".to_owned());
    with("hooks", &format!("{{\"prestart\":{hooks}}}"))
}

/// 3 MiB of the same item and a last one.
fn filled(item: &str, last: &str) -> Vec<u8> {
    let items = item.repeat((3_usize << 20).checked_div(item.len()).unwrap_or_default());
    with("x", &format!("[{items}{last}]"))
}

fn text(length: usize) -> String {
    format!("\"{}\"", "x".repeat(length))
}

fn members() -> Vec<u8> {
    let members = joined((0..200_000).map(|at| format!("\"{at}\":0")));
    filled("", &format!("{{{members}}}"))
}

fn not_text() -> Vec<u8> {
    let mut bytes = filled("", "\"");
    bytes.extend(b"\xffNVIDIA".repeat(450_000));
    bytes
}
