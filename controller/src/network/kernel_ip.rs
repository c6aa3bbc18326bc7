//! `ip=` on the kernel command line, as
//! <https://docs.kernel.org/admin-guide/nfs/nfsroot.html> documents it, with dracut's
//! `ip=DEVICE:METHOD` (dracut.cmdline(7)).

use std::net::Ipv4Addr;

use gse_protocol::config::network::Cidr;

/// One `ip=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KernelIp {
    /// `None`: any link.
    pub(super) device: Option<String>,
    pub(super) method: Method,
    pub(super) hostname: Option<String>,
    pub(super) dns: Vec<Ipv4Addr>,
    pub(super) mtu: Option<u32>,
}

/// How the address is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Off,
    Dhcp,
    Static { address: Cidr, gateway: Option<Ipv4Addr> },
}

/// What is wrong with an `ip=`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadIp {
    #[error("{0:?} is no IPv4 address")]
    Address(String),
    #[error("{0:?} is no netmask such as 255.255.255.0 or 24")]
    Netmask(String),
    #[error("{0:?} is no way to get an address here: use dhcp, on, any, off or none")]
    Method(String),
    #[error("{0:?} is no name of a network link")]
    Device(String),
    #[error("IPv6 is not supported here")]
    Ipv6,
    #[error(
        "it has more fields than client:server:gateway:netmask:hostname:device:method:dns:dns:ntp"
    )]
    TooMany,
}

impl KernelIp {
    /// Reads the value of one `ip=`.
    pub(super) fn parse(value: &str) -> Result<Self, BadIp> {
        if value.contains('[') {
            return Err(BadIp::Ipv6);
        }
        let fields: Vec<&str> = value.split(':').collect();
        let bare =
            |device, method| Self { device, method, hostname: None, dns: Vec::new(), mtu: None };
        match fields.as_slice() {
            [word] if word.parse::<Ipv4Addr>().is_err() => {
                Ok(bare(None, automatic(word)?.unwrap_or(Method::Dhcp)))
            }
            // dracut: DEVICE:METHOD[:MTU[:MAC]]
            [name, word, rest @ ..] if !name.is_empty() && name.parse::<Ipv4Addr>().is_err() => {
                let method = automatic(word)?.unwrap_or(Method::Dhcp);
                let mtu = rest.first().and_then(|mtu| mtu.parse().ok());
                Ok(Self { mtu, ..bare(device(name)?, method) })
            }
            fields => Self::parse_fields(fields),
        }
    }

    fn parse_fields(fields: &[&str]) -> Result<Self, BadIp> {
        if fields.len() > 10 {
            return Err(BadIp::TooMany);
        }
        let field = |number: usize| fields.get(number).copied().unwrap_or_default();
        let client = address(field(0))?;
        address(field(1))?;
        let gateway = address(field(2))?;
        let netmask = prefix(field(3))?;
        let method = match (client, automatic(field(6))?) {
            (Some(address), None | Some(Method::Off)) => {
                let prefix = netmask.unwrap_or_else(|| classful(address));
                Method::Static { address: Cidr { address, prefix }, gateway }
            }
            (None, None) => Method::Dhcp,
            (_, Some(method)) => method,
        };
        let hostname = Some(field(4)).filter(|name| !name.is_empty()).map(str::to_owned);
        let (mut dns, mut mtu) = (Vec::new(), None);
        for text in [field(7), field(8)] {
            // The kernel has two name servers here, dracut also has an MTU.
            match text.parse() {
                Ok(number) => mtu = Some(number),
                Err(_) => dns.extend(address(text)?),
            }
        }
        Ok(Self { device: device(field(5))?, method, hostname, dns, mtu })
    }
}

/// The seventh field, which may stand alone. `None` if it is empty.
fn automatic(word: &str) -> Result<Option<Method>, BadIp> {
    match word {
        "" => Ok(None),
        "off" | "none" => Ok(Some(Method::Off)),
        // The kernel also has BOOTP and RARP; whoever asks for them has a DHCP server nowadays.
        "on" | "any" | "dhcp" | "both" | "bootp" | "rarp" | "single-dhcp" => Ok(Some(Method::Dhcp)),
        "dhcp6" | "auto6" | "either6" | "link6" => Err(BadIp::Ipv6),
        other => Err(BadIp::Method(other.to_owned())),
    }
}

fn address(text: &str) -> Result<Option<Ipv4Addr>, BadIp> {
    if text.is_empty() {
        return Ok(None);
    }
    let address: Ipv4Addr = text.parse().map_err(|_| BadIp::Address(text.to_owned()))?;
    Ok(Some(address).filter(|a| !a.is_unspecified()))
}

fn prefix(text: &str) -> Result<Option<u8>, BadIp> {
    let bad = || BadIp::Netmask(text.to_owned());
    match text.parse() {
        _ if text.is_empty() => Ok(None),
        Ok(prefix @ 1..=32) => Ok(Some(prefix)),
        Ok(_) => Err(bad()),
        Err(_) => {
            let mask = text.parse().map_err(|_| bad())?;
            prefix_of(mask).map(Some).ok_or_else(bad)
        }
    }
}

fn device(text: &str) -> Result<Option<String>, BadIp> {
    // IFNAMSIZ is 16, with the NUL.
    if text.len() > 15 || text.contains(['/', ' ']) {
        return Err(BadIp::Device(text.to_owned()));
    }
    Ok(Some(text).filter(|name| !name.is_empty()).map(str::to_owned))
}

/// How many bits a netmask has, if they are all in front and at least one.
pub(super) fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    let ones = bits.leading_ones();
    (ones > 0 && bits.count_ones() == ones).then_some(ones as u8)
}

/// The netmask of an address that was given without one, as the kernel and RFC 791 have it.
pub(super) fn classful(address: Ipv4Addr) -> u8 {
    match address.octets() {
        [0..=127, ..] => 8,
        [128..=191, ..] => 16,
        _ => 24,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fixed(cidr: &str, gateway: Option<[u8; 4]>) -> Method {
        Method::Static { address: cidr.parse().unwrap(), gateway: gateway.map(Ipv4Addr::from) }
    }

    #[test]
    fn each_documented_form_is_read() {
        let gateway = Some([10, 0, 0, 1]);
        let cases = [
            ("dhcp", None, Method::Dhcp),
            ("on", None, Method::Dhcp),
            ("any", None, Method::Dhcp),
            ("", None, Method::Dhcp),
            ("off", None, Method::Off),
            ("none", None, Method::Off),
            (":::::eth1:dhcp", Some("eth1"), Method::Dhcp),
            (":::::eth1", Some("eth1"), Method::Dhcp),
            (":::::eth1:off", Some("eth1"), Method::Off),
            ("eth0:dhcp", Some("eth0"), Method::Dhcp),
            ("enp0s31f6:on:1400:52:54:00:12:34:56", Some("enp0s31f6"), Method::Dhcp),
            ("10.0.0.5", None, fixed("10.0.0.5/8", None)),
            (
                "10.0.0.5::10.0.0.1:255.255.255.0::eth0:off",
                Some("eth0"),
                fixed("10.0.0.5/24", gateway),
            ),
            ("10.0.0.5::10.0.0.1:24::eth0:none", Some("eth0"), fixed("10.0.0.5/24", gateway)),
            ("192.168.7.9:10.0.0.9::::eth0:", Some("eth0"), fixed("192.168.7.9/24", None)),
            ("172.16.0.5:::::", None, fixed("172.16.0.5/16", None)),
            ("10.0.0.5:::255.255.240.0::eth0:dhcp", Some("eth0"), Method::Dhcp),
            ("0.0.0.0::::::dhcp", None, Method::Dhcp),
        ];
        for (text, device, method) in cases {
            let ip = KernelIp::parse(text).unwrap();
            assert_eq!((ip.device.as_deref(), ip.method), (device, method), "{text}");
        }
    }

    #[test]
    fn names_and_name_servers_are_read() {
        let ip = KernelIp::parse(
            "10.0.0.5::10.0.0.1:255.255.255.0:pc7:eth0:off:10.0.0.2:10.0.0.3:10.0.0.4",
        )
        .unwrap();
        assert_eq!(ip.hostname.as_deref(), Some("pc7"));
        assert_eq!(ip.dns, [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)]);
        assert_eq!(KernelIp::parse("eth0:dhcp:1400").unwrap().mtu, Some(1400));
        assert_eq!(KernelIp::parse("::::pc7:eth0:dhcp:1400").unwrap().mtu, Some(1400));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let text = str::to_owned;
        let cases = [
            ("dhpc", BadIp::Method(text("dhpc"))),
            ("10.0.0.300", BadIp::Method(text("10.0.0.300"))),
            ("10.0.0.5::10.0.0:24::eth0:off", BadIp::Address(text("10.0.0"))),
            ("10.0.0.5:::255.0.255.0::eth0:off", BadIp::Netmask(text("255.0.255.0"))),
            ("10.0.0.5:::33::eth0:off", BadIp::Netmask(text("33"))),
            ("10.0.0.5:::0.0.0.0::eth0:off", BadIp::Netmask(text("0.0.0.0"))),
            (":::::eth0:magic", BadIp::Method(text("magic"))),
            (":::::a-name-that-is-too-long:dhcp", BadIp::Device(text("a-name-that-is-too-long"))),
            ("[2001:db8::5]::[2001:db8::1]:64::eth0:off", BadIp::Ipv6),
            ("eth0:dhcp6", BadIp::Ipv6),
            ("::::::dhcp:1:2:3:4", BadIp::TooMany),
        ];
        for (text, expected) in cases {
            assert_eq!(KernelIp::parse(text), Err(expected), "{text}");
        }
    }
}
