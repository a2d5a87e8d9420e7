//! Policy: whose words count. Pure.
//!
//! Words that ask for devices stand in several places. Some of them only a user can write, some an image too, and an
//! administrator says which of them count. One table answers for all:
//!
//! | words | written by | count |
//! |---|---|---|
//! | annotations | users; images, with podman | if the key starts as `annotation-prefixes` say |
//! | mounts | users | with `volume-mounts` |
//! | `NVIDIA_VISIBLE_DEVICES` beside docker's hook | docker, for a user | with `docker-gpus`, whatever `environment` says |
//! | `NVIDIA_VISIBLE_DEVICES`, `swarm-resources`, `CUDA_VERSION` | images, users | if `environment` accepts them |
//! | variables for other classes of devices | images, users | the same, and if no user said by other words which devices |
//!
//! What an image says thus never adds to what a user said by words that only users write. By none of them a container
//! gets devices of another kind than `kind` and `other-kinds`, channels without `imex-channels`, or settings of MIG
//! without being privileged. `NVIDIA_DRIVER_CAPABILITIES` is no device: `driver-capabilities` is the most that it can say.

use super::config::{Accept, Config};
use super::container::Container;
use super::docker_hook;

/// Words that ask for devices, by where they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// Annotations whose keys start as configured.
    Annotations,
    /// Mounts of `/dev/null`.
    Mounts,
    /// What docker sets for `--gpus`.
    DockersVariable,
    /// Variables that name GPUs.
    Variables,
    /// Variables that name devices of other classes, to come with GPUs.
    OtherClasses,
}

/// Whose variables count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variables {
    /// The container's, whoever set them.
    All,
    /// The one that docker sets.
    Dockers,
    /// Nobody's.
    None,
}

/// What counts in one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    variables: Variables,
    mounts: bool,
    is_privileged: bool,
}

impl Policy {
    /// As the administrator says of containers like this one.
    pub fn of(container: Container<'_>, config: &Config) -> Self {
        let is_privileged = container.is_privileged();
        let accepted = match config.environment {
            Accept::Always => true,
            Accept::Privileged => is_privileged,
            Accept::Never => false,
        };
        let variables = match accepted {
            true => Variables::All,
            false if config.docker_gpus && docker_hook::is_there(container) => Variables::Dockers,
            false => Variables::None,
        };
        Self { variables, mounts: config.volume_mounts, is_privileged }
    }

    /// Whether the container may use every device anyway.
    pub fn is_privileged(self) -> bool {
        self.is_privileged
    }

    /// Whether words count, where these others named the devices. Which annotations there are is said by their keys.
    pub fn counts(self, words: Words, chosen_by: Option<Words>) -> bool {
        match words {
            Words::Annotations => true,
            Words::Mounts => self.mounts,
            Words::DockersVariable => self.variables == Variables::Dockers,
            Words::Variables => self.variables == Variables::All,
            Words::OtherClasses => self.variables == Variables::All && chosen_by == Some(Words::Variables),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Words; 5] =
        [Words::Annotations, Words::Mounts, Words::DockersVariable, Words::Variables, Words::OtherClasses];

    /// Every policy, with every kind of words, after every kind of words.
    #[test]
    fn the_table_is_complete() {
        for variables in [Variables::All, Variables::Dockers, Variables::None] {
            for (mounts, is_privileged) in [(false, false), (false, true), (true, false), (true, true)] {
                let policy = Policy { variables, mounts, is_privileged };
                for chosen_by in ALL.into_iter().map(Some).chain([None]) {
                    let counts = |words| policy.counts(words, chosen_by);
                    assert!(counts(Words::Annotations));
                    assert_eq!(counts(Words::Mounts), mounts);
                    // Of variables either all count, or docker's alone, or none.
                    assert_eq!(counts(Words::Variables), variables == Variables::All);
                    assert_eq!(counts(Words::DockersVariable), variables == Variables::Dockers);
                    // An image's variables add to nothing that was not said by variables.
                    let others = variables == Variables::All && chosen_by == Some(Words::Variables);
                    assert_eq!(counts(Words::OtherClasses), others, "{policy:?} {chosen_by:?}");
                }
            }
        }
    }
}
