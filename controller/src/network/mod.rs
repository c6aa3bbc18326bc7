//! Phase 2: links, addresses, name servers.
//!
//! [`bring_up`] uses the first link that works: one with a static address as soon as it has a carrier,
//! or the one whose DHCP server is the first to answer. All of it is one thread that waits for the
//! kernel's link events and for packets.

mod apply;
mod attempt;
mod dhcp;
mod identity;
mod kernel_ip;
mod link;
mod netlink;
mod setup;
mod wire;

use std::{io, net::Ipv4Addr, path::Path, path::PathBuf};

use gse_protocol::config::network::{Cidr, Network};

pub use self::identity::{has_links, identity};
use self::{attempt::Attempt, netlink::Netlink, setup::Wish};
use crate::{cmdline::CmdLine, drivers::Hotplug, log::Log};

/// The network is up: how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Online {
    /// The kernel's name of the link in use.
    pub interface: String,
    /// Its hardware address, in lower case with colons.
    pub mac: String,
    /// Its address.
    pub address: Cidr,
    /// Where packets go that are for other networks.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers, in the order in which they count.
    pub dns: Vec<Ipv4Addr>,
    /// Domains in which short names are looked up.
    pub search: Vec<String>,
    /// The name that the network, or `ip=`, gives this machine.
    pub hostname: Option<String>,
    /// Seconds for which the address is leased; `None` if it is static.
    pub lease_seconds: Option<u32>,
}

/// The network is not up: why.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// It is not wanted.
    #[error("the network is turned off by ip=off on the kernel command line")]
    Off,
    /// There is no link, or none that may be used.
    #[error(
        "no network card could be used within {seconds} s ({links}): check that its driver is in the \
         initramfs, that the firmware has it switched on, and what network.toml and ip= say"
    )]
    NoLink {
        /// How long was waited.
        seconds: u64,
        /// What there is.
        links: String,
    },
    /// Nobody is at the other end of any cable.
    #[error(
        "no network link has a carrier after {seconds} s ({links}): check the cable and the switch port"
    )]
    NoCarrier {
        /// How long was waited.
        seconds: u64,
        /// What there is.
        links: String,
    },
    /// No server gave an address.
    #[error(
        "no DHCP server gave an address within {seconds} s ({links}): check that one serves this \
         network and has addresses left, or give this machine a static address in network.toml"
    )]
    NoAnswer {
        /// How long was waited.
        seconds: u64,
        /// What there is.
        links: String,
    },
    /// The kernel refused.
    #[error("{what} ({source}): the kernel log may say why")]
    Kernel {
        /// What was being done, to what.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The name servers cannot be written down.
    #[error("writing the name servers to {path} ({source}): is the disk or the memory full?")]
    ResolvConf {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Brings the network up: waits for a link with a carrier (`config.carrier_timeout`) and for its
/// address (`config.dhcp_timeout`), sets address and routes, and writes the name servers to
/// `resolv_conf`. `ip=` and `nameserver=` of the command line win over the configuration.
///
/// May be tried again after an error: what an earlier try left on the links is removed first.
pub fn bring_up(
    config: &Network,
    cmdline: &CmdLine,
    hotplug: &Hotplug,
    log: &Log,
    resolv_conf: &Path,
) -> Result<Online, NetworkError> {
    let wish = Wish::new(config, cmdline, log);
    if wish.is_off() {
        return Err(NetworkError::Off);
    }
    let mut kernel = Netlink::open().map_err(kernel_error("asking the kernel for its links"))?;
    let (link, settings) = Attempt::new(config, &wish, hotplug, log)?.run(&mut kernel)?;
    let settings = wish.complete(&link, settings);
    apply::apply(&mut kernel, &link, &settings, log)?;
    apply::write_resolv_conf(resolv_conf, &settings)
        .map_err(|source| NetworkError::ResolvConf { path: resolv_conf.to_owned(), source })?;
    let gateway = settings.gateway();
    Ok(Online {
        interface: link.name,
        mac: link.mac.to_string(),
        address: settings.address,
        gateway,
        dns: settings.dns,
        search: settings.search,
        hostname: settings.hostname,
        lease_seconds: settings.lease_seconds,
    })
}

/// The network that somebody else has brought up, such as dracut or an administrator's script: the name of
/// a link that has a carrier and an address for other networks, and that address. `None` if there is none.
///
/// # Errors
/// The kernel's answer.
pub fn standing() -> Result<Option<(String, Cidr)>, NetworkError> {
    let asking = || kernel_error("asking the kernel for its addresses");
    let mut kernel = Netlink::open().map_err(asking())?;
    Ok(kernel.addresses_in_use().map_err(asking())?.into_iter().next())
}

fn kernel_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::Kernel { what: what.into(), source }
}
