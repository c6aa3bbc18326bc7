//! Gives a link its address and routes, and the resolver its servers.

use std::{fmt::Write as _, fs, io, path::Path};

use super::{NetworkError, kernel_error, link::Link, netlink::Netlink, setup::Settings};
use crate::log::Log;

/// Sets MTU, address and routes of a link that has none.
pub(super) fn apply(
    kernel: &mut Netlink,
    link: &Link,
    settings: &Settings,
    log: &Log,
) -> Result<(), NetworkError> {
    let Link { index, name, .. } = link;
    if let Some(mtu) = settings.mtu {
        // Some servers advise what the card cannot do; most networks work with its own.
        if let Err(e) = kernel.set_mtu(*index, mtu) {
            log.warn(format_args!("{name} cannot have an MTU of {mtu} ({e}), its own is kept"));
        }
    }
    let address = settings.address;
    kernel
        .add_address(link, address)
        .map_err(kernel_error(format!("giving {name} the address {address}")))?;
    for route in &settings.routes {
        if let Err(e) = kernel.add_route(*index, address, *route) {
            let to = route.to;
            let via = route.via.map(|via| format!(" through {via}")).unwrap_or_default();
            log.warn(format_args!("no route to {to}{via} ({e}): what is there cannot be reached"));
        }
    }
    Ok(())
}

/// Writes resolv.conf(5).
pub(super) fn write_resolv_conf(path: &Path, settings: &Settings) -> io::Result<()> {
    let mut text = String::new();
    // Writing to a string cannot fail.
    if !settings.search.is_empty() {
        let _ = writeln!(text, "search {}", settings.search.join(" "));
    }
    for server in &settings.dns {
        let _ = writeln!(text, "nameserver {server}");
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // Not by a rename: the file may be a mount of its own.
    fs::write(path, text)
}
