//! Host files: whether what a spec names is still there, still of its kind, and still root's alone.

use crate::facts::sockets;
use crate::freshness::{Named, Wrong};
use crate::host::Host;

/// What is wrong with a path of this host that a spec names; `None` if it may be given to containers.
pub fn look(host: &Host, named: &Named<'_>) -> Option<Wrong> {
    let system = &host.system;
    let endpoint = named.container_path.filter(|path| sockets::capability_of(path).is_some());
    match endpoint {
        Some(path) if system.locate_name(named.host_path).is_some() => {
            sockets::why_wrong(system, path, named.host_path).map(Wrong::Untrusted)
        }
        Some(_) => Some(Wrong::Missing),
        None => system.look_at(named.host_path).map_or(Some(Wrong::Missing), |who| who.map(Wrong::Untrusted)),
    }
}
