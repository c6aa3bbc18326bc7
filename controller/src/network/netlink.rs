//! Links, addresses and routes, by rtnetlink.

use std::{
    collections::BTreeMap,
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use gse_protocol::config::network::Cidr;
use nix::libc;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink,
    recv, recvfrom, sendto, socket_with, sockopt,
};

use super::{
    link::{self, Link},
    wire::{self, Request, attributes, messages, number32},
};

/// `struct ifinfomsg`
const LINK_FIXED: usize = 16;
/// `struct ifaddrmsg`
const ADDRESS_FIXED: usize = 8;

// From include/uapi/linux/{if_link,if_addr}.h.
const IFLA_MTU: u16 = 4;
const IFA_LOCAL: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
/// `RTNH_F_ONLINK`: the gateway is reached through the link though no address says so.
const ONLINK: u32 = 4;

const AF_INET: u8 = libc::AF_INET as u8;
/// The kernel makes its messages no larger than this (`NLMSG_GOODSIZE` and dumps).
const BUFFER: usize = 32 << 10;
/// The kernel answers before `sendto` returns; this only keeps a kernel's bug from stopping the boot.
const PATIENCE: Duration = Duration::from_secs(5);

/// A network, and through which station of the link it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) to: Cidr,
    /// `None`: its stations are on the link themselves.
    pub(super) via: Option<Ipv4Addr>,
}

/// A socket for requests to the kernel.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let socket = open(SocketFlags::CLOEXEC)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// All links of this network namespace.
    pub(super) fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        self.request(Request::dump(libc::RTM_GETLINK, &[0; LINK_FIXED]), |kind, payload| {
            if kind == libc::RTM_NEWLINK {
                links.extend(Link::parse(payload));
            }
        })?;
        Ok(links)
    }

    /// The addresses that other networks can reach, of links of any kind that have a carrier; with the
    /// links' names.
    pub(super) fn addresses_in_use(&mut self) -> io::Result<Vec<(String, Cidr)>> {
        let mut links: BTreeMap<u32, String> = BTreeMap::new();
        self.request(Request::dump(libc::RTM_GETLINK, &[0; LINK_FIXED]), |kind, payload| {
            if kind == libc::RTM_NEWLINK {
                links.extend(link::with_carrier(payload));
            }
        })?;
        let mut found = Vec::new();
        let all = Request::dump(libc::RTM_GETADDR, &address_fixed(0, 0));
        self.request(all, |kind, payload| {
            let name = number32(payload, 4).and_then(|index| links.get(&index));
            // The fourth byte of struct ifaddrmsg is the scope.
            let worldwide = payload.get(3) == Some(&libc::RT_SCOPE_UNIVERSE);
            if kind == libc::RTM_NEWADDR && worldwide {
                found.extend(name.cloned().zip(address_of(payload)));
            }
        })?;
        Ok(found)
    }

    /// Switches a link on.
    pub(super) fn set_up(&mut self, index: u32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        self.request(Request::change(libc::RTM_NEWLINK, &link_fixed(index, up, up)), |_, _| {})
    }

    /// Sets the longest packet of a link, in bytes.
    pub(super) fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        let request = Request::change(libc::RTM_NEWLINK, &link_fixed(index, 0, 0))
            .with(IFLA_MTU, &mtu.to_ne_bytes());
        self.request(request, |_, _| {})
    }

    /// Takes all IPv4 addresses from a link. With the last, the kernel drops the link's routes.
    pub(super) fn clear_addresses(&mut self, index: u32) -> io::Result<()> {
        let mut found: Vec<Cidr> = Vec::new();
        let all = Request::dump(libc::RTM_GETADDR, &address_fixed(0, 0));
        self.request(all, |kind, payload| {
            if kind == libc::RTM_NEWADDR && number32(payload, 4) == Some(index) {
                found.extend(address_of(payload));
            }
        })?;
        for address in found {
            let request = Request::change(libc::RTM_DELADDR, &address_fixed(address.prefix, index))
                .with(IFA_LOCAL, &address.address.octets());
            match self.request(request, |_, _| {}) {
                // A secondary address goes with its primary one.
                Err(e) if e.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Gives a link an address, with its network's broadcast address.
    pub(super) fn add_address(&mut self, link: &Link, address: Cidr) -> io::Result<()> {
        let octets = address.address.octets();
        let mut request =
            Request::put(libc::RTM_NEWADDR, &address_fixed(address.prefix, link.index))
                .with(IFA_LOCAL, &octets)
                .with(IFA_ADDRESS, &octets)
                .with(IFA_LABEL, format!("{}\0", link.name).as_bytes());
        // Networks of two addresses and of one have none: RFC 3021.
        if address.prefix < 31 {
            request = request.with(IFA_BROADCAST, &broadcast(address).octets());
        }
        self.request(request, |_, _| {})
    }

    /// Sets a route; one that is there already is written over.
    pub(super) fn add_route(&mut self, index: u32, address: Cidr, route: Route) -> io::Result<()> {
        let Route { to, via } = route;
        let onlink = via.is_some_and(|via| !contains(address, via));
        let scope = if via.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
        // struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, flags.
        let table = libc::RT_TABLE_MAIN;
        let (boot, unicast) = (libc::RTPROT_BOOT, libc::RTN_UNICAST);
        let mut fixed = vec![AF_INET, to.prefix, 0, 0, table, boot, scope, unicast];
        fixed.extend_from_slice(&if onlink { ONLINK } else { 0 }.to_ne_bytes());
        let mut request =
            Request::put(libc::RTM_NEWROUTE, &fixed).with(libc::RTA_OIF, &index.to_ne_bytes());
        if to.prefix > 0 {
            request = request.with(libc::RTA_DST, &first(to).octets());
        }
        if let Some(via) = via {
            request = request.with(libc::RTA_GATEWAY, &via.octets());
        }
        self.request(request, |_, _| {})
    }

    /// Sends a request and gives each message of the answer to `each`, until the kernel says that this
    /// is all.
    fn request(&mut self, request: Request, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(self.sequence);
        sendto(&self.socket, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let (length, _, from) =
                match recvfrom(&self.socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                    Err(rustix::io::Errno::INTR) => continue,
                    other => other?,
                };
            let kernel = from
                .and_then(|from| SocketAddrNetlink::try_from(from).ok())
                .is_some_and(|from| from.pid() == 0);
            if !kernel {
                continue;
            }
            for message in messages(buffer.get(..length).unwrap_or_default()) {
                if message.sequence != self.sequence {
                    continue;
                }
                match message.kind {
                    wire::DONE => return Ok(()),
                    wire::ERROR => {
                        // A negated errno, or 0.
                        return match number32(message.payload, 0).map(u32::cast_signed) {
                            Some(0) => Ok(()),
                            Some(number) => {
                                Err(io::Error::from_raw_os_error(number.saturating_neg()))
                            }
                            None => Err(io::ErrorKind::InvalidData.into()),
                        };
                    }
                    kind => each(kind, message.payload),
                }
            }
        }
    }
}

/// Says when a link appears, goes, or gets or loses its carrier. (A carrier makes no uevent.)
pub(super) struct LinkEvents(OwnedFd);

impl LinkEvents {
    pub(super) fn open() -> io::Result<Self> {
        let socket = open(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        bind(&socket, &SocketAddrNetlink::new(0, libc::RTMGRP_LINK as u32))?;
        Ok(Self(socket))
    }

    /// Takes what has come: whoever looks at the links afterwards has missed nothing.
    pub(super) fn take(&self) {
        let mut buffer = vec![0; BUFFER];
        loop {
            match recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty()) {
                // Events that were lost are events too.
                Ok(_) | Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for LinkEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open(flags: SocketFlags) -> io::Result<OwnedFd> {
    // NETLINK_ROUTE is protocol 0.
    Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?)
}

/// `struct ifinfomsg`: family, type, index, flags, and which of the flags are meant.
fn link_fixed(index: u32, flags: u32, change: u32) -> [u8; LINK_FIXED] {
    let mut fixed = [0; LINK_FIXED];
    let parts = [index, flags, change].map(u32::to_ne_bytes);
    fixed.iter_mut().skip(4).zip(parts.as_flattened()).for_each(|(to, from)| *to = *from);
    fixed
}

/// `struct ifaddrmsg`: family, prefix, flags, scope (the whole world), index.
fn address_fixed(prefix: u8, index: u32) -> [u8; ADDRESS_FIXED] {
    let [a, b, c, d] = index.to_ne_bytes();
    [AF_INET, prefix, 0, 0, a, b, c, d]
}

fn address_of(payload: &[u8]) -> Option<Cidr> {
    let prefix = *payload.get(1)?;
    let mut attributes = attributes(payload.get(ADDRESS_FIXED..)?);
    let (_, local) = attributes.find(|(kind, _)| *kind == IFA_LOCAL)?;
    Some(Cidr { address: Ipv4Addr::from(*local.first_chunk::<4>()?), prefix })
}

/// The bits of a prefix.
fn mask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0))
}

/// The first address of a network, which stands for the network itself.
pub(super) fn first(cidr: Cidr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(cidr.address) & u32::from(mask(cidr.prefix)))
}

/// The last address of a network.
pub(super) fn broadcast(cidr: Cidr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(cidr.address) | !u32::from(mask(cidr.prefix)))
}

/// Whether `address` is in the network.
fn contains(cidr: Cidr, address: Ipv4Addr) -> bool {
    first(cidr) == first(Cidr { address, prefix: cidr.prefix })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_computed() {
        for (cidr, expected_mask, last) in [
            ("10.1.2.3/24", "255.255.255.0", "10.1.2.255"),
            ("10.1.2.3/0", "0.0.0.0", "255.255.255.255"),
            ("10.1.2.3/32", "255.255.255.255", "10.1.2.3"),
            ("10.1.2.3/20", "255.255.240.0", "10.1.15.255"),
        ] {
            let cidr: Cidr = cidr.parse().unwrap();
            assert_eq!(mask(cidr.prefix).to_string(), expected_mask);
            assert_eq!(broadcast(cidr).to_string(), last);
            assert!(contains(cidr, broadcast(cidr)));
        }
        assert!(!contains("10.1.2.3/24".parse().unwrap(), Ipv4Addr::new(10, 1, 3, 3)));
    }
}
