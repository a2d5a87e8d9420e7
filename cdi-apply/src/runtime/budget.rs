//! Budget: how much of a start a stranger's words may take. Pure.
//!
//! An image chooses the length of its variables, and a file that of its lists. What grows with them has its most here,
//! some ten times what real containers and hosts have. Over it no container starts, and one line says why: within it a
//! start takes no second and no 64 MiB.

use std::borrow::Cow;

use crate::document::Limits;

/// Of the `config.json` of a container that asks for something. The kernel takes no more than 6 MiB of variables and
/// arguments (execve(2)), and 2 MiB where nobody raised the limit of the stack.
pub const CONFIG: Limits = Limits { bytes: 4 << 20, memory: 16 << 20 };
/// Devices that a container asks for, and parts of the driver. A host has 16 GPUs of 7 instances, or 2,048 channels.
pub const WORDS: usize = 4096;
/// Variables `NVIDIA_REQUIRE_…`; images have one to three.
pub const REQUIREMENTS: usize = 256;
/// Bytes in all of these; those of a CUDA image are 2 KiB.
pub const REQUIREMENT_BYTES: usize = 256 << 10;
/// Terms in all of these; a CUDA image has a hundred.
pub const TERMS: usize = 8192;
/// Files in all spec directories.
pub const SPEC_FILES: usize = 2048;
/// Bytes in all of these; a spec has some 20 KiB.
pub const SPEC_BYTES: u64 = 8 << 20;
/// Bytes of a line in a log.
pub const LINE: usize = 4096;
/// Warnings about one container.
pub const WARNINGS: usize = 16;

/// A start that takes more than it may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{who} more than {limit} {what}, the most for a container's start")]
pub struct OverBudget {
    /// `the container asks for`, `the spec directories hold`.
    who: &'static str,
    what: &'static str,
    limit: u64,
}

impl OverBudget {
    /// Of something there is more than may be.
    pub fn new(who: &'static str, what: &'static str, limit: impl TryInto<u64>) -> Self {
        Self { who, what, limit: limit.try_into().unwrap_or(u64::MAX) }
    }
}

/// All items, if they are no more than a limit; of what there is beyond nothing is looked at.
///
/// # Errors
/// There are more.
pub fn collect<T>(items: impl Iterator<Item = T>, limit: usize, over: &OverBudget) -> Result<Vec<T>, OverBudget> {
    let found: Vec<T> = items.take(limit.saturating_add(1)).collect();
    if found.len() > limit { Err(over.clone()) } else { Ok(found) }
}

/// What is strange, and keeps no container from starting: the first of it, and how much there is beside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings {
    told: Vec<String>,
    untold: usize,
}

impl Warnings {
    /// One more.
    pub fn push(&mut self, warning: impl Into<String>) {
        if self.told.len() < WARNINGS {
            self.told.push(shortened(&warning.into()).into_owned());
        } else {
            self.untold += 1;
        }
    }

    /// Those of another.
    pub fn append(&mut self, other: Self) {
        other.told.into_iter().for_each(|warning| self.push(warning));
        self.untold += other.untold;
    }

    /// The lines to show.
    pub fn lines(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let untold = (self.untold > 0).then(|| format!("and {} warnings more", self.untold).into());
        self.told.iter().map(Cow::from).chain(untold)
    }
}

/// The beginning of a text, if it is longer than a line, and how much follows.
pub fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= LINE {
        return text.into();
    }
    let at = (0..=LINE).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    let (start, rest) = text.split_at(at);
    format!("{start}… ({} bytes more)", rest.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_collected_than_may_be() {
        let over = OverBudget::new("it has", "things", 3_usize);
        let mut taken = 0;
        let mut items = |count| collect((0..count).inspect(|_| taken += 1), 3, &over);
        assert_eq!(items(3), Ok(vec![0, 1, 2]));
        assert_eq!(items(1_000_000), Err(over.clone()));
        assert_eq!(taken, 3 + 4);
        assert_eq!(over.to_string(), "it has more than 3 things, the most for a container's start");
    }

    #[test]
    fn of_many_warnings_the_first_are_kept_and_the_others_counted() {
        let mut warnings = Warnings::default();
        (0..WARNINGS + 3).for_each(|number| warnings.push(format!("{number}{}", "é".repeat(LINE))));
        let mut more = warnings.clone();
        more.append(warnings);
        let lines: Vec<_> = more.lines().collect();
        assert_eq!((lines.len(), &*lines[WARNINGS]), (WARNINGS + 1, "and 22 warnings more"));
        assert!(lines.iter().all(|line| line.len() < LINE + 40), "{lines:?}");
        assert!(lines[0].ends_with("… (4098 bytes more)"), "{}", lines[0].len());
        assert_eq!(shortened("short"), "short");
    }
}
