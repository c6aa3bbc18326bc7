//! `controller/network.toml`: which links are used, and how.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::Deserialize;

use super::Error;

/// The whole file; every key has a default, which is DHCP on every link.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Seconds to wait for a network card to appear and its carrier to come up.
    pub carrier_timeout: u32,
    /// Seconds in which some link must have an address.
    pub dhcp_timeout: u32,
    /// Name servers beside those that DHCP names.
    pub dns: Vec<Ipv4Addr>,
    /// What differs by link; the first that matches counts. A link that none matches uses DHCP.
    pub interface: Vec<Interface>,
}

impl Default for Network {
    fn default() -> Self {
        Self { carrier_timeout: 15, dhcp_timeout: 45, dns: Vec::new(), interface: Vec::new() }
    }
}

/// How one link is used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Which links this is about: `*` and `?` are wild.
    #[serde(rename = "match")]
    pub matches: Match,
    /// How it gets its address.
    #[serde(default)]
    pub method: Method,
    /// With `method = "static"`: such as `10.0.0.5/24`.
    pub address: Option<Cidr>,
    /// With `method = "static"`: the default route.
    pub gateway: Option<Ipv4Addr>,
}

/// Which links; all that is given must fit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// The kernel's name, such as `eth0`.
    pub name: Option<String>,
    /// The hardware address, in lower case with colons.
    pub mac: Option<String>,
}

/// How a link gets its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// From a DHCP server.
    #[default]
    Dhcp,
    /// As configured.
    Static,
    /// The link is left alone.
    Off,
}

/// An IPv4 address with its prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Cidr {
    /// The address.
    pub address: Ipv4Addr,
    /// 0 to 32
    pub prefix: u8,
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let cidr = parts.and_then(|(address, prefix)| {
            Some(Self { address: address.parse().ok()?, prefix: prefix.parse().ok()? })
        });
        cidr.filter(|c| c.prefix <= 32)
            .ok_or_else(|| format!("{text:?} is no address like 10.0.0.5/24"))
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Network {
    /// Reads `controller/network.toml`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        const FILE: &str = "controller/network.toml";
        let mut network: Self = super::parse(FILE, text)?;
        for interface in &mut network.interface {
            // The kernel writes them so; a label on a card seldom does.
            if let Some(mac) = &mut interface.matches.mac {
                mac.make_ascii_lowercase();
            }
            if interface.matches == Match::default() {
                return Err(Error::new(
                    FILE,
                    "an [[interface]] matches nothing: give it match.name or match.mac",
                ));
            }
            if (interface.method == Method::Static) != interface.address.is_some() {
                let message =
                    "`address` goes with method = \"static\", and static needs an address";
                return Err(Error::new(FILE, message));
            }
        }
        Ok(network)
    }
}
