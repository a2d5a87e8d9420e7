//! The command line of our own hook: the generator writes it, the hook and the exporters read it back.
//!
//! ```text
//! cdi-hook create-container --symlink TARGET LINK --library-dir DIR --freeze-device-nodes …
//! ```
//!
//! One process does all operations, in their order. Each value is an argument of its own, so that any path can be said.
//! A driver has some fifty links, most of them in one directory and two to each library, so there is a form for these:
//!
//! ```text
//! --symlinks DIR TARGET:NAME:NAME TARGET:NAME …
//! ```
//!
//! The kernel and the engine handle each argument of its own, at each start of a container: 150 of them take longer than
//! some of the operations.

use serde::Serialize;
use thiserror::Error;

use crate::Hook;

/// The hook's program name, which stands first in its arguments.
pub const HOOK_NAME: &str = "cdi-hook";

/// The hook's one command: what it does before the container's root becomes its own.
const COMMAND: &str = "create-container";

/// Words before the operations: name and command.
const BEFORE_OPERATIONS: usize = 2;

const SYMLINK: &str = "--symlink";
const SYMLINKS: &str = "--symlinks";
/// Stands between a target and the names of its links, where neither has one.
const SEPARATOR: &str = ":";
const LIBRARY_DIR: &str = "--library-dir";
const CUDA_COMPAT: &str = "--cuda-compat";
const FREEZE_DEVICE_NODES: &str = "--freeze-device-nodes";
const APPLICATION_PROFILE: &str = "--application-profile";
const CHMOD: &str = "--chmod";
const HIDE_GPUS: &str = "--hide-gpus";
const REQUIRE_SEAL: &str = "--require-seal";

/// Seconds after which the engine ends a hook: beyond the time that ours gives itself.
const TIMEOUT: i64 = 20;

/// One thing that the hook does in a container that is being created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HookOperation {
    /// Creates the symbolic link `link`, which points to `target`.
    Symlink {
        /// What the link says: absolute in the container, or relative to the link's directory.
        target: String,
        /// Path of the link in the container.
        link: String,
    },
    /// Adds a directory of the container to the dynamic loader's cache. If the same hook makes links in it to a library
    /// there, the library's SONAME is the name of one of them, or its own.
    LibraryDir(String),
    /// Activates the CUDA forward compatibility libraries that the image brings, if they fit the host's driver.
    CudaCompat {
        /// Version of the host's driver, such as `580.159.04`.
        driver_version: String,
    },
    /// Makes `/proc/driver/nvidia/params` say `ModifyDeviceFiles: 0`, so that the driver makes no device nodes.
    FreezeDeviceNodes,
    /// Writes the application profile that names the GPUs which the container may see.
    ApplicationProfile,
    /// Makes `/proc/driver/nvidia/gpus` show only those GPUs of which the container has the node.
    HideGpus,
    /// Changes the permission bits of a path in the container.
    Chmod {
        /// Permission bits, such as `0o755`.
        mode: u32,
        /// Path in the container.
        path: String,
    },
}

/// Arguments of the hook, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ParsedArgs {
    /// What to do, in order.
    pub operations: Vec<HookOperation>,
    /// Whether nothing is to be done where the kernel cannot keep the hook from all else.
    pub require_seal: bool,
    /// Arguments that this version does not know: those of a newer generator. They are no error, since a hook that
    /// refuses them keeps containers from starting.
    pub unknown: Vec<String>,
}

/// Why arguments are none of the hook's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HookArgsError {
    /// The command is missing, or another.
    #[error("the hook's command is `{0}`, not `{COMMAND}`")]
    Command(String),
    /// Arguments end, or another operation starts, where a value should stand.
    #[error("{flag} lacks its {value}")]
    MissingValue {
        /// The operation.
        flag: &'static str,
        /// What should follow it.
        value: &'static str,
    },
    /// A mode that is not octal, or more than permission bits.
    #[error("{CHMOD} has `{0}` for a mode, which is not octal up to 7777")]
    Mode(String),
}

/// The arguments for `operations`, the program's name first.
///
/// No value may start with `--`, which would make it an operation; a path that does gets `./` before it.
pub fn to_args(operations: &[HookOperation]) -> Vec<String> {
    let mut args = vec![HOOK_NAME.to_owned(), COMMAND.to_owned()];
    let in_one_dir = |(one, other): (ShortLink<'_>, ShortLink<'_>)| one.dir == other.dir;
    for beside in operations.chunk_by(|one, other| ShortLink::of(one).zip(ShortLink::of(other)).is_some_and(in_one_dir))
    {
        let links: Vec<ShortLink<'_>> = beside.iter().filter_map(ShortLink::of).collect();
        if let [first, _, ..] = links.as_slice() {
            args.extend([SYMLINKS.to_owned(), value(first.dir)]);
            args.extend(links.chunk_by(|one, other| one.target == other.target).map(ShortLink::word));
        } else {
            args.extend(beside.iter().flat_map(operation_args));
        }
    }
    args
}

impl ParsedArgs {
    /// The arguments that say this, the program's name first; those that are unknown are left out.
    pub fn to_args(&self) -> Vec<String> {
        let mut args = to_args(&self.operations);
        // Behind the command, so that whoever reads the spec sees it first.
        let at = args.len().min(BEFORE_OPERATIONS);
        args.splice(at..at, self.require_seal.then(|| REQUIRE_SEAL.to_owned()));
        args
    }
}

/// A link that can be said in the form for many.
struct ShortLink<'o> {
    dir: &'o str,
    target: &'o str,
    name: &'o str,
}

impl<'o> ShortLink<'o> {
    fn of(operation: &'o HookOperation) -> Option<Self> {
        let HookOperation::Symlink { target, link } = operation else { return None };
        let (dir, name) = link.rsplit_once('/')?;
        (!target.contains(SEPARATOR) && !name.contains(SEPARATOR)).then_some(Self { dir, target, name })
    }

    /// Links to one target.
    fn word(links: &[Self]) -> String {
        let target = links.first().map(|link| value(link.target)).unwrap_or_default();
        links.iter().fold(target, |word, link| word + SEPARATOR + link.name)
    }
}

fn operation_args(operation: &HookOperation) -> Vec<String> {
    let flag = |flag: &str| flag.to_owned();
    match operation {
        HookOperation::Symlink { target, link } => vec![flag(SYMLINK), value(target), value(link)],
        HookOperation::LibraryDir(directory) => vec![flag(LIBRARY_DIR), value(directory)],
        HookOperation::CudaCompat { driver_version } => vec![flag(CUDA_COMPAT), value(driver_version)],
        HookOperation::FreezeDeviceNodes => vec![flag(FREEZE_DEVICE_NODES)],
        HookOperation::ApplicationProfile => vec![flag(APPLICATION_PROFILE)],
        HookOperation::HideGpus => vec![flag(HIDE_GPUS)],
        HookOperation::Chmod { mode, path } => vec![flag(CHMOD), format!("{mode:o}"), value(path)],
    }
}

fn value(text: &str) -> String {
    if text.starts_with("--") { format!("./{text}") } else { text.to_owned() }
}

impl Hook {
    /// The hook of a container: it runs between the container's mounts and its start, in an environment of its own.
    pub fn of_operations(path: &str, operations: &[HookOperation]) -> Self {
        Self::of_args(path, to_args(operations))
    }

    /// The same with arguments that say more than operations.
    pub fn of_args(path: &str, args: Vec<String>) -> Self {
        Self {
            hook_name: "createContainer".to_owned(),
            path: path.to_owned(),
            args,
            // A hook without an environment of its own would inherit the image's: LD_PRELOAD and all.
            env: vec!["CDI_HOOK=1".to_owned()],
            timeout: Some(TIMEOUT),
        }
    }
}

/// Reads the hook's arguments. The program's name, which stands first, may be any.
pub fn from_args(args: &[String]) -> Result<ParsedArgs, HookArgsError> {
    let mut words = Words { rest: args.get(1..).unwrap_or_default() };
    let command = words.next().unwrap_or_default();
    if command != COMMAND {
        return Err(HookArgsError::Command(command.to_owned()));
    }
    let mut parsed = ParsedArgs::default();
    while let Some(word) = words.next() {
        if word == SYMLINKS {
            parsed.operations.extend(words.symlinks()?);
            continue;
        }
        if word == REQUIRE_SEAL {
            parsed.require_seal = true;
            continue;
        }
        match words.operation(word)? {
            Some(operation) => parsed.operations.push(operation),
            None => parsed.unknown.push(word.to_owned()),
        }
    }
    Ok(parsed)
}

/// The arguments that are still to be read.
struct Words<'a> {
    rest: &'a [String],
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// The operation that `flag` starts, with its values. A word that starts none is unknown, as are those behind it.
    fn operation(&mut self, flag: &str) -> Result<Option<HookOperation>, HookArgsError> {
        Ok(Some(match flag {
            SYMLINK => {
                HookOperation::Symlink { target: self.value(SYMLINK, "target")?, link: self.value(SYMLINK, "link")? }
            }
            LIBRARY_DIR => HookOperation::LibraryDir(self.value(LIBRARY_DIR, "directory")?),
            CUDA_COMPAT => HookOperation::CudaCompat { driver_version: self.value(CUDA_COMPAT, "driver version")? },
            FREEZE_DEVICE_NODES => HookOperation::FreezeDeviceNodes,
            APPLICATION_PROFILE => HookOperation::ApplicationProfile,
            HIDE_GPUS => HookOperation::HideGpus,
            CHMOD => HookOperation::Chmod { mode: self.mode()?, path: self.value(CHMOD, "path")? },
            _ => return Ok(None),
        }))
    }

    /// Links in a directory, in as many words as there are that say a target and names.
    fn symlinks(&mut self) -> Result<Vec<HookOperation>, HookArgsError> {
        let dir = self.value(SYMLINKS, "directory")?;
        let mut links = Vec::new();
        while let Some((word, rest)) = self.rest.split_first()
            && let Some((target, names)) = word.split_once(SEPARATOR).filter(|_| !word.starts_with("--"))
        {
            self.rest = rest;
            let link = |name| HookOperation::Symlink { target: target.to_owned(), link: format!("{dir}/{name}") };
            links.extend(names.split(SEPARATOR).map(link));
        }
        if links.is_empty() { Err(HookArgsError::MissingValue { flag: SYMLINKS, value: "links" }) } else { Ok(links) }
    }

    fn value(&mut self, flag: &'static str, value: &'static str) -> Result<String, HookArgsError> {
        let word = self.next().filter(|word| !word.starts_with("--"));
        word.map(str::to_owned).ok_or(HookArgsError::MissingValue { flag, value })
    }

    fn mode(&mut self) -> Result<u32, HookArgsError> {
        let text = self.value(CHMOD, "mode")?;
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777);
        mode.ok_or(HookArgsError::Mode(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn one_of_each() {
        let operations = [
            HookOperation::Symlink { target: "libcuda.so.1".into(), link: "/usr/lib/libcuda.so".into() },
            HookOperation::LibraryDir("/usr/lib64".into()),
            HookOperation::CudaCompat { driver_version: "580.159.04".into() },
            HookOperation::FreezeDeviceNodes,
            HookOperation::ApplicationProfile,
            HookOperation::HideGpus,
            HookOperation::Chmod { mode: 0o755, path: "/dev/dri".into() },
        ];
        let expected = args(
            "cdi-hook create-container --symlink libcuda.so.1 /usr/lib/libcuda.so --library-dir /usr/lib64 \
             --cuda-compat 580.159.04 --freeze-device-nodes --application-profile --hide-gpus --chmod 755 /dev/dri",
        );
        assert_eq!(to_args(&operations), expected);
        assert_eq!(from_args(&expected), Ok(ParsedArgs { operations: operations.into(), ..ParsedArgs::default() }));
    }

    #[test]
    fn links_beside_each_other_are_said_in_short() {
        let link = |target: &str, link: &str| HookOperation::Symlink { target: target.into(), link: link.into() };
        let operations = [
            link("libcuda.so.580", "/drv/libcuda.so"),
            link("libcuda.so.580", "/drv/libcuda.so.1"),
            link("libnvcuvid.so.580", "/drv/libnvcuvid.so.1"),
            link("/drv/b", "/drv/gbm/a_gbm.so"),
            link("a:b", "/drv/c"),
            link("a", "/drv/c:d"),
            link("a", "/drv/e:f/g"),
            link("--a", "/drv/e:f/h"),
            HookOperation::HideGpus,
            link("a", "/one"),
            link("a", "/two"),
        ];
        let expected = args(
            "cdi-hook create-container --symlinks /drv libcuda.so.580:libcuda.so:libcuda.so.1 \
             libnvcuvid.so.580:libnvcuvid.so.1 --symlink /drv/b /drv/gbm/a_gbm.so --symlink a:b /drv/c \
             --symlink a /drv/c:d --symlinks /drv/e:f a:g ./--a:h --hide-gpus --symlinks  a:one:two",
        );
        assert_eq!(to_args(&operations), expected);
        let mut read = operations;
        read[7] = link("./--a", "/drv/e:f/h");
        assert_eq!(from_args(&expected), Ok(ParsedArgs { operations: read.into(), ..ParsedArgs::default() }));
    }

    #[test]
    fn a_word_without_links_is_none_of_a_directory() {
        let parsed = from_args(&args("cdi-hook create-container --symlinks /d a:b stray c:d")).unwrap();
        assert_eq!(parsed.operations, [HookOperation::Symlink { target: "a".into(), link: "/d/b".into() }]);
        assert_eq!(parsed.unknown, ["stray", "c:d"]);
    }

    #[test]
    fn a_newer_generators_operations_are_passed_over() {
        let parsed =
            from_args(&args("/opt/renamed create-container stray --new a b --freeze-device-nodes more --end")).unwrap();
        assert_eq!(parsed.operations, [HookOperation::FreezeDeviceNodes]);
        assert_eq!(parsed.unknown, ["stray", "--new", "a", "b", "more", "--end"]);
    }

    #[test]
    fn arguments_that_are_not_ours() {
        let cases = [
            ("cdi-hook", "the hook's command is ``, not `create-container`"),
            ("cdi-hook update-ldcache", "the hook's command is `update-ldcache`, not `create-container`"),
            ("cdi-hook create-container --symlink a", "--symlink lacks its link"),
            ("cdi-hook create-container --symlink a --freeze-device-nodes", "--symlink lacks its link"),
            ("cdi-hook create-container --symlinks", "--symlinks lacks its directory"),
            ("cdi-hook create-container --symlinks /a --symlink b /c", "--symlinks lacks its links"),
            ("cdi-hook create-container --library-dir", "--library-dir lacks its directory"),
            ("cdi-hook create-container --cuda-compat", "--cuda-compat lacks its driver version"),
            ("cdi-hook create-container --chmod 755", "--chmod lacks its path"),
            ("cdi-hook create-container --chmod 999 /a", "--chmod has `999` for a mode, which is not octal up to 7777"),
            (
                "cdi-hook create-container --chmod 10000 /a",
                "--chmod has `10000` for a mode, which is not octal up to 7777",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(from_args(&args(text)).unwrap_err().to_string(), expected, "{text}");
        }
        assert!(from_args(&[]).is_err());
    }

    #[test]
    fn the_seal_is_required_by_a_word_before_the_operations() {
        let parsed = ParsedArgs {
            operations: vec![HookOperation::HideGpus],
            require_seal: true,
            unknown: vec!["--new".to_owned()],
        };
        let expected = args("cdi-hook create-container --require-seal --hide-gpus");
        assert_eq!(parsed.to_args(), expected);
        assert_eq!(from_args(&expected), Ok(ParsedArgs { unknown: vec![], ..parsed }));
        // Wherever it stands, and never taken for a value.
        let parsed = from_args(&args("cdi-hook create-container --symlinks /d a:b --require-seal c:d")).unwrap();
        assert!(parsed.require_seal && parsed.unknown == ["c:d"] && parsed.operations.len() == 1);
        assert!(from_args(&args("cdi-hook create-container --library-dir --require-seal")).is_err());
    }

    #[test]
    fn a_path_never_becomes_an_operation() {
        let operation = HookOperation::Symlink { target: "--chmod".into(), link: "--a".into() };
        let read = from_args(&to_args(&[operation])).unwrap();
        assert_eq!(read.operations, [HookOperation::Symlink { target: "./--chmod".into(), link: "./--a".into() }]);
    }

    fn path() -> impl Strategy<Value = String> {
        any::<String>().prop_filter("a path that to_args changes", |path| !path.starts_with("--"))
    }

    fn operation() -> impl Strategy<Value = HookOperation> {
        prop_oneof![
            (path(), path()).prop_map(|(target, link)| HookOperation::Symlink { target, link }),
            ("[a:]{0,2}", "/?[a:/]{0,3}").prop_map(|(target, link)| HookOperation::Symlink { target, link }),
            path().prop_map(HookOperation::LibraryDir),
            path().prop_map(|driver_version| HookOperation::CudaCompat { driver_version }),
            Just(HookOperation::FreezeDeviceNodes),
            Just(HookOperation::ApplicationProfile),
            Just(HookOperation::HideGpus),
            (0..=0o7777_u32, path()).prop_map(|(mode, path)| HookOperation::Chmod { mode, path }),
        ]
    }

    proptest! {
        #[test]
        fn operations_come_back(operations in proptest::collection::vec(operation(), 0..6), require_seal: bool) {
            let said = ParsedArgs { operations, require_seal, unknown: vec![] };
            prop_assert_eq!(from_args(&said.to_args()), Ok(said));
        }

        #[test]
        fn any_arguments_are_answered(
            args in proptest::collection::vec("(--(symlinks?|chmod|require-seal|new))?|create-container|a:b|\\PC{0,4}", 0..6),
        ) {
            let _ = from_args(&args);
        }
    }
}
