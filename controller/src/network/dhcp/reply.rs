//! What a DHCP server says, checked: RFC 2131, options of RFC 2132, 3397 and 3442.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, HType, MessageType, Opcode, OptionCode, borrowed::Message};
use gse_protocol::config::network::Cidr;

use super::{
    super::{
        kernel_ip::{classful, prefix_of},
        link::Mac,
        netlink::{Route, broadcast, first},
        setup::Settings,
    },
    WANTED,
};

/// The least that a link must carry (RFC 791 says 68; nothing that is in use is below this).
const LEAST_MTU: u16 = 576;

/// The kinds of reply that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Offer,
    Ack,
    Nak,
}

/// A reply to this client, in this exchange.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) kind: Kind,
    pub(super) server: Option<Ipv4Addr>,
    /// `None` if what the server gives cannot be used.
    pub(super) settings: Option<Settings>,
}

impl Reply {
    /// Reads a message. `None` for what is malformed, or meant for somebody else.
    pub(super) fn parse(payload: &[u8], mac: Mac, transaction: u32) -> Option<Self> {
        let message = Message::new(payload).ok()?;
        let ours = message.opcode() == Opcode::BootReply
            && message.htype() == HType::Eth
            && message.xid() == transaction
            && message.hlen() == 6
            && message.chaddr() == mac.0;
        if !ours {
            return None;
        }
        let mut kind = None;
        let mut server = None;
        let mut routers = Vec::new();
        let mut classless = None;
        let mut mask = None;
        let mut domains: Vec<String> = Vec::new();
        let mut given = Settings::fixed(Cidr { address: message.yiaddr(), prefix: 32 }, None);
        // Only what was asked for is read: dhcproto asserts that some others are well-formed.
        let read = |code| code == OptionCode::MessageType || WANTED.contains(&code);
        let options = message.opts().filter(|option| read(option.code()));
        for option in options.filter_map(|option| option.into_option().ok()) {
            match option {
                DhcpOption::MessageType(MessageType::Offer) => kind = Some(Kind::Offer),
                DhcpOption::MessageType(MessageType::Ack) => kind = Some(Kind::Ack),
                DhcpOption::MessageType(MessageType::Nak) => kind = Some(Kind::Nak),
                DhcpOption::ServerIdentifier(address) => server = Some(address),
                DhcpOption::SubnetMask(address) => mask = Some(address),
                DhcpOption::Router(addresses) => routers = addresses,
                DhcpOption::ClasslessStaticRoute(routes) => {
                    classless = Some(routes.into_iter().map(|(to, via)| Route {
                        to: Cidr { address: to.network(), prefix: to.prefix_len() },
                        via: Some(via).filter(|via| !via.is_unspecified()),
                    }));
                }
                DhcpOption::DomainNameServer(addresses) => {
                    given.dns = addresses.into_iter().filter(|a| is_station(*a)).collect();
                }
                DhcpOption::Hostname(name) => given.hostname = domain(&name),
                DhcpOption::DomainName(names) => {
                    domains = names.split_whitespace().filter_map(domain).collect();
                }
                DhcpOption::DomainSearch(names) => {
                    let names = names.iter().map(|name| name.to_ascii());
                    given.search = names.filter_map(|name| domain(&name)).collect();
                }
                DhcpOption::InterfaceMtu(mtu) if mtu >= LEAST_MTU => {
                    given.mtu = Some(u32::from(mtu));
                }
                DhcpOption::AddressLeaseTime(seconds) => given.lease_seconds = Some(seconds),
                _ => {}
            }
        }
        // The search list, where there is one, has the domain in it if it is to be searched.
        if given.search.is_empty() {
            given.search = domains;
        }
        let settings = network(message.yiaddr(), mask).map(|address| {
            let usable = |via: Ipv4Addr| is_station(via) && via != address.address;
            // RFC 3442: who has the classless routes leaves the router option alone.
            let routes = match classless {
                Some(routes) => routes.filter(|route| route.via.is_none_or(usable)).collect(),
                None => {
                    let router = routers.into_iter().find(|via| usable(*via));
                    Settings::fixed(address, router).routes
                }
            };
            Settings { address, routes, ..given }
        });
        Some(Self { kind: kind?, server, settings })
    }
}

/// The offered address with its network, if a machine can have it.
fn network(address: Ipv4Addr, mask: Option<Ipv4Addr>) -> Option<Cidr> {
    let prefix = match mask {
        Some(mask) => prefix_of(mask)?,
        None => classful(address),
    };
    let cidr = Cidr { address, prefix };
    // The first and the last address of a network stand for all of it.
    let reserved = prefix < 31 && (first(cidr) == address || broadcast(cidr) == address);
    (is_station(address) && !reserved).then_some(cidr)
}

/// Whether this can be the address of one machine on a network.
fn is_station(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && !address.is_loopback() && !address.is_multicast() && first < 240
}

/// A name with nothing in it that has a meaning to the resolver's or a shell's files.
fn domain(name: &str) -> Option<String> {
    let name = name.trim_end_matches(['\0', '.']);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let fits = (1..=253).contains(&name.len()) && name.chars().all(plain);
    (fits && !name.starts_with(['-', '.'])).then(|| name.to_owned())
}
