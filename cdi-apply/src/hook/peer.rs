//! Peer: the argv of `nvidia-cdi-hook`, so that specs of the NVIDIA toolkit can use our hook. Pure.

use cdi_specs::{HookOperation, ParsedArgs};

/// What such arguments ask for; `None` if the command is none of that hook's. What is not known is no error: a newer
/// spec must not keep containers from starting.
pub fn from_args(args: &[String]) -> Option<ParsedArgs> {
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).filter(|word| *word != "hook").collect();
    let (command, rest) = words.split_first()?;
    let flags = flags(rest);
    let all = |name: &str| flags.iter().filter(|(flag, _)| *flag == name).map(|(_, value)| *value).collect::<Vec<_>>();
    let operations = match *command {
        "create-symlinks" => all("link").into_iter().filter_map(symlink).collect(),
        "update-ldcache" => all("folder").into_iter().map(|dir| HookOperation::LibraryDir(dir.to_owned())).collect(),
        "enable-cuda-compat" => {
            let versions = all("host-driver-version").into_iter();
            versions.map(|version| HookOperation::CudaCompat { driver_version: version.to_owned() }).collect()
        }
        "disable-device-node-modification" => vec![HookOperation::FreezeDeviceNodes],
        "update-application-profile" => vec![HookOperation::ApplicationProfile],
        "chmod" => {
            let mode = all("mode").into_iter().find_map(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(0o755);
            all("path").into_iter().map(|path| HookOperation::Chmod { mode, path: path.to_owned() }).collect()
        }
        _ => return None,
    };
    Some(ParsedArgs { operations, ..ParsedArgs::default() })
}

/// `target::link`; what has two marks is nothing that the peer would take.
fn symlink(value: &str) -> Option<HookOperation> {
    let (target, link) = value.split_once("::").filter(|(_, link)| !link.contains("::"))?;
    Some(HookOperation::Symlink { target: target.to_owned(), link: link.to_owned() })
}

/// `--flag value` and `--flag=value`, one dash or two.
fn flags<'a>(words: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let mut flags = Vec::new();
    let mut words = words.iter().copied().peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix('-').map(|flag| flag.strip_prefix('-').unwrap_or(flag)) else { continue };
        match flag.split_once('=') {
            Some(flag) => flags.push(flag),
            None => flags.extend(words.next_if(|value| !value.starts_with('-')).map(|value| (flag, value))),
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(line: &str) -> Option<Vec<HookOperation>> {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        from_args(&args).map(|parsed| parsed.operations)
    }

    #[test]
    fn each_command() {
        let link = |target: &str, link: &str| HookOperation::Symlink { target: target.into(), link: link.into() };
        let dir = |dir: &str| HookOperation::LibraryDir(dir.into());
        let cases = [
            (
                "nvidia-cdi-hook create-symlinks --link a.so.1::/usr/lib/a.so --link=b::/c,d --link bad --link a::b::c",
                vec![link("a.so.1", "/usr/lib/a.so"), link("b", "/c,d")],
            ),
            ("nvidia-ctk hook update-ldcache --ldconfig-path x --folder /a -folder /b", vec![dir("/a"), dir("/b")]),
            (
                "nvidia-cdi-hook enable-cuda-compat --host-driver-version=580.1 --host-cuda-version 13",
                vec![HookOperation::CudaCompat { driver_version: "580.1".into() }],
            ),
            ("nvidia-cdi-hook disable-device-node-modification", vec![HookOperation::FreezeDeviceNodes]),
            ("nvidia-cdi-hook update-application-profile", vec![HookOperation::ApplicationProfile]),
            (
                "nvidia-cdi-hook chmod --mode 750 --path /dev/dri",
                vec![HookOperation::Chmod { mode: 0o750, path: "/dev/dri".into() }],
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(operations(line), Some(expected), "{line}");
        }
        assert_eq!(operations("nvidia-cdi-hook something-new --x"), None);
        assert_eq!(operations("nvidia-cdi-hook"), None);
    }
}
