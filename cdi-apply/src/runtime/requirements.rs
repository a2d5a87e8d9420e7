//! Requirements: what an image needs of the driver (`NVIDIA_REQUIRE_…`), and whether this host has it. Pure.
//!
//! ```text
//! NVIDIA_REQUIRE_CUDA=cuda>=12.4 brand=tesla,driver>=470,driver<471
//! ```
//!
//! Each variable must hold. In it, of the alternatives between blanks one must hold, and in that each term between
//! commas. Most images can be answered from the driver's version; GPUs are asked about (`arch`, `brand`) only if the
//! answer depends on it. What cannot be known keeps no container from starting.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::budget::{self, OverBudget};
use super::container::Container;

/// How the variables' names start; those of Tegra images say nothing about a driver.
const PREFIX: &str = "NVIDIA_REQUIRE_";
const JETPACK: &str = "NVIDIA_REQUIRE_JETPACK";
const DISABLE: &str = "NVIDIA_DISABLE_REQUIRE";
/// As much of a wrong term as is worth showing, in characters.
const SHOWN: usize = 64;
/// Operators, the longer before those that they start with.
const OPERATORS: [(&str, Operator); 6] = [
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("!=", Operator::Not),
    ("=", Operator::Equal),
    (">", Operator::More),
    ("<", Operator::Less),
];

/// The CUDA version that each driver branch brought (CUDA release notes, table "CUDA Driver").
const CUDA_OF_BRANCH: [(u32, Version); 28] = [
    (384, Version::of(9, 0)),
    (387, Version::of(9, 1)),
    (390, Version::of(9, 1)),
    (396, Version::of(9, 2)),
    (410, Version::of(10, 0)),
    (418, Version::of(10, 1)),
    (440, Version::of(10, 2)),
    (450, Version::of(11, 0)),
    (455, Version::of(11, 1)),
    (460, Version::of(11, 2)),
    (465, Version::of(11, 3)),
    (470, Version::of(11, 4)),
    (495, Version::of(11, 5)),
    (510, Version::of(11, 6)),
    (515, Version::of(11, 7)),
    (520, Version::of(11, 8)),
    (525, Version::of(12, 0)),
    (530, Version::of(12, 1)),
    (535, Version::of(12, 2)),
    (545, Version::of(12, 3)),
    (550, Version::of(12, 4)),
    (555, Version::of(12, 5)),
    (560, Version::of(12, 6)),
    (565, Version::of(12, 7)),
    (570, Version::of(12, 8)),
    (575, Version::of(12, 9)),
    (580, Version::of(13, 0)),
    (590, Version::of(13, 1)),
];

/// Up to four numbers; those that are not there are zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u32; 4]);

impl Version {
    /// `major.minor`
    pub const fn of(major: u32, minor: u32) -> Self {
        Self([major, minor, 0, 0])
    }

    /// The first two numbers.
    fn short(self) -> Self {
        let [major, minor, ..] = self.0;
        Self::of(major, minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, ..] = self.0;
        write!(f, "{major}.{minor}")
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
        let mut numbers = [0; 4];
        for (number, part) in numbers.iter_mut().zip(parts.by_ref()) {
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            *number = part.parse().ok().filter(|_| is_number).ok_or(())?;
        }
        if parts.next().is_some() { Err(()) } else { Ok(Self(numbers)) }
    }
}

/// What is known of the driver and the GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The driver's version.
    pub driver: Option<Version>,
    /// The CUDA version that it runs.
    pub cuda: Cuda,
    /// Each GPU that is asked for; none if they were not looked at.
    pub gpus: Vec<Gpu>,
}

/// How far the driver's CUDA version is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cuda {
    /// Not at all.
    #[default]
    Unknown,
    /// It is this one.
    Known(Version),
    /// The driver is newer than the newest branch that we know, whose CUDA version this is.
    AtLeast(Version),
}

/// What is known of a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpu {
    /// Compute capability.
    pub arch: Option<Version>,
    /// Product line, in lower-case letters.
    pub brand: Option<String>,
}

impl Cuda {
    /// By the driver's branch. Branches between two that brought a version have that of the earlier one.
    pub fn of_driver(driver: Version) -> Self {
        let [branch, ..] = driver.0;
        let at = CUDA_OF_BRANCH.iter().take_while(|(known, _)| *known <= branch).last();
        match (at, CUDA_OF_BRANCH.last()) {
            (Some((known, version)), Some((newest, _))) if known == newest && branch > *newest => {
                Self::AtLeast(*version)
            }
            (Some((_, version)), _) => Self::Known(*version),
            (None, _) => Self::Unknown,
        }
    }
}

/// One variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Where it stands.
    pub variable: String,
    /// What it says.
    pub text: String,
    /// One of these must hold; each is a list of terms that all must.
    alternatives: Vec<Vec<Term>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    property: Property,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Property {
    Cuda(Version),
    Driver(Version),
    Arch(Version),
    Brand(String),
    /// What we do not know restricts nothing.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    AtLeast,
    AtMost,
    Not,
    Equal,
    More,
    Less,
}

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// Too little is known to say.
    Unknown,
}

/// A text that is no requirement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} has the term `{term}`, which is no condition (write cuda>=12.4, or set {DISABLE}=1)")]
pub struct BadTerm {
    /// The variable.
    pub variable: String,
    /// The term.
    pub term: String,
}

/// Requirements that cannot be held against a driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequirementsError {
    /// A text that is none.
    #[error(transparent)]
    BadTerm(#[from] BadTerm),
    /// More than may be.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

/// The requirements of a container.
///
/// # Errors
/// The first term that is none; or there are more than may be.
pub fn of_container(container: Container<'_>) -> Result<Vec<Requirement>, RequirementsError> {
    let disabled = container.variable(DISABLE).map(str::to_ascii_lowercase);
    if disabled.is_some_and(|value| matches!(value.as_str(), "1" | "t" | "true")) {
        return Ok(Vec::new());
    }
    let texts = texts(container)?;
    // An image from before these variables tells the version that it was built for.
    let has_cuda = texts.get("NVIDIA_REQUIRE_CUDA").is_some_and(|text| !text.is_empty());
    let mut all = texts.iter().map(|(name, text)| Requirement::parse(name, text)).collect::<Result<Vec<_>, _>>()?;
    let built_for = container.variable("CUDA_VERSION").filter(|_| !has_cuda).and_then(|text| text.parse().ok());
    if let Some(version) = built_for.map(Version::short) {
        all.push(Requirement::parse("CUDA_VERSION", &format!("cuda>={version}"))?);
    }
    Ok(all)
}

/// The variables that require something, by name. Of one that stands twice the last counts.
fn texts(container: Container<'_>) -> Result<BTreeMap<&str, &str>, OverBudget> {
    const WHO: &str = "the container's NVIDIA_REQUIRE_… have";
    let requires = |name: &str| name.starts_with(PREFIX) && !name.starts_with(JETPACK);
    let mut texts = BTreeMap::new();
    for (name, text) in container.variables().filter(|(name, _)| requires(name)) {
        texts.insert(name, text);
        if texts.len() > budget::REQUIREMENTS {
            return Err(OverBudget::new(WHO, "variables", budget::REQUIREMENTS));
        }
    }
    if texts.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>() > budget::REQUIREMENT_BYTES {
        return Err(OverBudget::new(WHO, "bytes", budget::REQUIREMENT_BYTES));
    }
    let is_between = |c: char| c == ',' || c.is_whitespace();
    let terms = texts.values().flat_map(|text| text.split(is_between)).filter(|term| !term.is_empty());
    if terms.count() > budget::TERMS {
        return Err(OverBudget::new(WHO, "terms", budget::TERMS));
    }
    Ok(texts)
}

impl Requirement {
    /// Reads one.
    ///
    /// # Errors
    /// The first term that is none.
    pub fn parse(variable: &str, text: &str) -> Result<Self, BadTerm> {
        let term = |term: &str| {
            let shown = || term.chars().take(SHOWN).collect();
            parse_term(term).ok_or_else(|| BadTerm { variable: variable.to_owned(), term: shown() })
        };
        let terms = |alternative: &str| alternative.split(',').filter(|word| !word.is_empty()).map(term).collect();
        let alternatives = text.split_whitespace().map(terms).collect::<Result<_, _>>()?;
        Ok(Self { variable: variable.to_owned(), text: text.to_owned(), alternatives })
    }

    /// Whether it holds: for each of the GPUs, where it speaks of them.
    pub fn holds(&self, facts: &Facts) -> Truth {
        if self.alternatives.is_empty() {
            return Truth::Yes;
        }
        let unknown = [Gpu::default()];
        let gpus = if facts.gpus.is_empty() { unknown.as_slice() } else { &facts.gpus };
        all(gpus.iter().map(|gpu| {
            let holds = |terms: &Vec<Term>| all(terms.iter().map(|term| term.holds(facts, gpu)));
            any(self.alternatives.iter().map(holds))
        }))
    }
}

fn parse_term(text: &str) -> Option<Term> {
    let at = text.find(['<', '>', '=', '!'])?;
    let (property, rest) = text.split_at(at);
    let (sign, operator) = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign))?;
    let value = rest.get(sign.len()..)?;
    let property = match property {
        "cuda" => Property::Cuda(value.parse().ok()?),
        "driver" => Property::Driver(value.parse().ok()?),
        "arch" => Property::Arch(value.parse().ok()?),
        "brand" => Property::Brand(value.to_ascii_lowercase()),
        _ => Property::Other,
    };
    Some(Term { property, operator: *operator })
}

impl Term {
    fn holds(&self, facts: &Facts, gpu: &Gpu) -> Truth {
        let exactly = |known: Option<Version>, asked: Version| {
            known.map_or(Truth::Unknown, |known| truth(self.operator.holds(known.cmp(&asked))))
        };
        match &self.property {
            Property::Cuda(asked) => match facts.cuda {
                Cuda::Unknown => Truth::Unknown,
                Cuda::Known(version) => exactly(Some(version), asked.short()),
                Cuda::AtLeast(least) => self.operator.holds_from(least, asked.short()),
            },
            Property::Driver(asked) => exactly(facts.driver, *asked),
            Property::Arch(asked) => exactly(gpu.arch, asked.short()),
            Property::Brand(asked) => match &gpu.brand {
                Some(brand) => truth(self.operator.holds(brand.as_str().cmp(asked))),
                None => Truth::Unknown,
            },
            Property::Other => Truth::Yes,
        }
    }
}

impl Operator {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::AtLeast => ordering.is_ge(),
            Self::AtMost => ordering.is_le(),
            Self::Not => ordering.is_ne(),
            Self::Equal => ordering.is_eq(),
            Self::More => ordering.is_gt(),
            Self::Less => ordering.is_lt(),
        }
    }

    /// The same for a version of which the least possible value is known.
    fn holds_from(self, least: Version, asked: Version) -> Truth {
        let (low, high) = (self.holds(least.cmp(&asked)), self.holds(Ordering::Greater));
        match (low == high, least >= asked) {
            // The least and the greatest possible version give one answer, and so do all between.
            (true, true) => truth(low),
            (false, true) if least > asked => truth(low),
            _ => Truth::Unknown,
        }
    }
}

fn truth(holds: bool) -> Truth {
    if holds { Truth::Yes } else { Truth::No }
}

fn all(truths: impl Iterator<Item = Truth>) -> Truth {
    let mut result = Truth::Yes;
    for truth in truths {
        match truth {
            Truth::No => return Truth::No,
            Truth::Unknown => result = Truth::Unknown,
            Truth::Yes => {}
        }
    }
    result
}

fn any(truths: impl Iterator<Item = Truth>) -> Truth {
    let mut result = Truth::No;
    for truth in truths {
        match truth {
            Truth::Yes => return Truth::Yes,
            Truth::Unknown => result = Truth::Unknown,
            Truth::No => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts() -> Facts {
        let driver = "550.54.15".parse().unwrap();
        let gpu = |arch, brand: &str| Gpu { arch: Some(arch), brand: Some(brand.to_owned()) };
        let gpus = vec![gpu(Version::of(9, 0), "tesla"), gpu(Version::of(8, 6), "geforce")];
        Facts { driver: Some(driver), cuda: Cuda::of_driver(driver), gpus }
    }

    fn holds(text: &str, facts: &Facts) -> Truth {
        Requirement::parse("NVIDIA_REQUIRE_X", text).unwrap().holds(facts)
    }

    #[test]
    fn versions() {
        let good = [
            ("0", [0, 0, 0, 0]),
            ("7.5", [7, 5, 0, 0]),
            ("9.0.116", [9, 0, 116, 0]),
            ("v11.6", [11, 6, 0, 0]),
            ("550.54.15", [550, 54, 15, 0]),
        ];
        for (text, numbers) in good {
            assert_eq!(text.parse(), Ok(Version(numbers)), "{text}");
        }
        for text in ["", "foo", "9.", "-9", "9.4294967296", "1.2.3.4.5", "+1", "vv1"] {
            assert_eq!(text.parse::<Version>(), Err(()), "{text}");
        }
    }

    #[test]
    fn cuda_by_branch() {
        let cuda = |driver: &str| Cuda::of_driver(driver.parse().unwrap());
        assert_eq!(cuda("580.159.04"), Cuda::Known(Version::of(13, 0)));
        assert_eq!(cuda("535.183.01"), Cuda::Known(Version::of(12, 2)));
        assert_eq!(cuda("430.14"), Cuda::Known(Version::of(10, 1)));
        assert_eq!(cuda("590.44.01"), Cuda::Known(Version::of(13, 1)));
        assert_eq!(cuda("610.43.02"), Cuda::AtLeast(Version::of(13, 1)));
        assert_eq!(cuda("340.108"), Cuda::Unknown);
        assert!(CUDA_OF_BRANCH.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
    }

    #[test]
    fn alternatives_of_terms() {
        let cases = [
            ("", Truth::Yes),
            ("cuda>=12.4", Truth::Yes),
            ("cuda>=12.4.1", Truth::Yes),
            ("cuda>12.4", Truth::No),
            ("cuda!=12.4", Truth::No),
            ("cuda=12.4", Truth::Yes),
            ("cuda<=12.3", Truth::No),
            ("cuda<12.6,cuda>=12", Truth::Yes),
            ("cuda>=99 driver>=550", Truth::Yes),
            ("cuda>=99 driver>=550,driver<551", Truth::Yes),
            ("driver>=550.54.16", Truth::No),
            ("driver<550", Truth::No),
            ("arch>=8.0", Truth::Yes),
            ("arch>=9.0", Truth::No),
            ("brand=tesla brand=GeForce", Truth::Yes),
            ("brand=tesla", Truth::No),
            ("cuda>=99 brand=tesla,driver>=470 brand=geforce,driver>=470", Truth::Yes),
            ("foo=45", Truth::Yes),
            ("foo=45,cuda>=99", Truth::No),
        ];
        for (text, expected) in cases {
            assert_eq!(holds(text, &facts()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let facts = Facts { gpus: Vec::new(), ..facts() };
        assert_eq!(holds("brand=tesla", &facts), Truth::Unknown);
        assert_eq!(holds("cuda>=12.4 brand=tesla", &facts), Truth::Yes, "the answer does not depend on it");
        assert_eq!(holds("cuda>=99,brand=tesla", &facts), Truth::No);
        assert_eq!(holds("cuda>=1", &Facts::default()), Truth::Unknown);
        let newer = Facts { cuda: Cuda::AtLeast(Version::of(13, 1)), ..Facts::default() };
        let cases = [
            ("cuda>=13.1", Truth::Yes),
            ("cuda>13.0", Truth::Yes),
            ("cuda>13.1", Truth::Unknown),
            ("cuda>=13.2", Truth::Unknown),
            ("cuda<13.1", Truth::No),
            ("cuda<=13.0", Truth::No),
            ("cuda<=13.1", Truth::Unknown),
            ("cuda<14", Truth::Unknown),
            ("cuda=13.1", Truth::Unknown),
            ("cuda=13.0", Truth::No),
            ("cuda!=13.0", Truth::Yes),
            ("cuda!=13.2", Truth::Unknown),
        ];
        for (text, expected) in cases {
            assert_eq!(holds(text, &newer), expected, "{text}");
        }
    }

    #[test]
    fn requirements_of_a_container() {
        let of = |env: &[&str]| -> Result<Vec<String>, String> {
            let config = json!({"process": {"env": env}});
            let found = of_container(Container(&config)).map_err(|error| error.to_string())?;
            Ok(found.into_iter().map(|found| format!("{}: {}", found.variable, found.text)).collect())
        };
        let two = ["NVIDIA_REQUIRE_DRIVER=driver>=470", "A=b", "NVIDIA_REQUIRE_CUDA=cuda>=12"];
        let expected = ["NVIDIA_REQUIRE_CUDA: cuda>=12", "NVIDIA_REQUIRE_DRIVER: driver>=470"];
        assert_eq!(of(&two).unwrap(), expected);
        assert_eq!(of(&["NVIDIA_REQUIRE_CUDA=x=1", "NVIDIA_REQUIRE_CUDA=cuda>=12"]).unwrap(), [expected[0]]);
        for disabled in ["true", "1", "True"] {
            let disable = format!("{DISABLE}={disabled}");
            assert!(of(&["NVIDIA_REQUIRE_CUDA=cuda>=99", &disable]).unwrap().is_empty());
        }
        assert!(of(&["NVIDIA_REQUIRE_JETPACK_HOST_MOUNTS=x", "NVIDIA_DISABLE_REQUIRE=no"]).unwrap().is_empty());
        assert_eq!(of(&["CUDA_VERSION=9.0.116"]).unwrap(), ["CUDA_VERSION: cuda>=9.0"]);
        assert!(of(&["CUDA_VERSION=later"]).unwrap().is_empty());
        let error = of(&["NVIDIA_REQUIRE_CUDA=cuda>=11 notvalid"]).unwrap_err();
        assert!(error.starts_with("NVIDIA_REQUIRE_CUDA has the term `notvalid`, which is no condition"), "{error}");
        assert!(of(&["NVIDIA_REQUIRE_CUDA=cuda=foo"]).is_err());
    }

    /// Twice as much takes twice as long, and more than may be is refused.
    #[test]
    fn many_requirements_are_refused_and_one_that_stands_often_is_one() {
        let of = |env: &[String]| {
            let config = json!({"process": {"env": env}});
            of_container(Container(&config)).map(|found| found.len()).map_err(|error| error.to_string())
        };
        let many = |count| (0..count).map(|at| format!("NVIDIA_REQUIRE_X{at}=cuda>=1")).collect::<Vec<_>>();
        assert_eq!(of(&many(budget::REQUIREMENTS)), Ok(budget::REQUIREMENTS));
        let variables =
            "the container's NVIDIA_REQUIRE_… have more than 256 variables, the most for a container's start";
        assert_eq!(of(&many(100_000)), Err(variables.to_owned()));
        assert_eq!(of(&vec!["NVIDIA_REQUIRE_CUDA=cuda>=1".to_owned(); 100_000]), Ok(1));
        let terms = |count| format!("NVIDIA_REQUIRE_CUDA={}", "cuda>=1,brand=x ".repeat(count / 2));
        assert_eq!(of(&[terms(budget::TERMS)]), Ok(1));
        assert!(of(&[terms(budget::TERMS + 2)]).unwrap_err().contains("more than 8192 terms"));
        let long = format!("NVIDIA_REQUIRE_CUDA=brand={}", "x".repeat(budget::REQUIREMENT_BYTES));
        assert!(of(&[long]).unwrap_err().contains("more than 262144 bytes"));
        assert_eq!(format!("1{}", ".1".repeat(1 << 20)).parse::<Version>(), Err(()));
    }
}
