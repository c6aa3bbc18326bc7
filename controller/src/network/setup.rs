//! Which links are used, and how: the configuration, and the kernel command line, which wins.

use std::net::Ipv4Addr;

use gse_protocol::config::{
    machines::wild,
    network::{Cidr, Method as ConfiguredMethod, Network},
};

use super::{
    kernel_ip::{KernelIp, Method},
    link::Link,
    netlink::Route,
};
use crate::{cmdline::CmdLine, log::Log};

/// The network 0.0.0.0/0: all there is.
const EVERYWHERE: Cidr = Cidr { address: Ipv4Addr::UNSPECIFIED, prefix: 0 };

/// What a link gets, from a DHCP server or from an administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) address: Cidr,
    pub(super) routes: Vec<Route>,
    pub(super) dns: Vec<Ipv4Addr>,
    pub(super) search: Vec<String>,
    pub(super) hostname: Option<String>,
    /// In bytes.
    pub(super) mtu: Option<u32>,
    pub(super) lease_seconds: Option<u32>,
}

impl Settings {
    /// An address with the default route through `gateway`, and nothing else.
    pub(super) fn fixed(address: Cidr, gateway: Option<Ipv4Addr>) -> Self {
        Self {
            address,
            routes: gateway
                .map(|via| Route { to: EVERYWHERE, via: Some(via) })
                .into_iter()
                .collect(),
            dns: Vec::new(),
            search: Vec::new(),
            hostname: None,
            mtu: None,
            lease_seconds: None,
        }
    }

    /// Where packets go that no other route fits.
    pub(super) fn gateway(&self) -> Option<Ipv4Addr> {
        self.routes.iter().find(|route| route.to.prefix == 0).and_then(|route| route.via)
    }
}

/// How one link is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setup {
    Off,
    Dhcp,
    Static(Settings),
}

/// What the administrator wants of the network.
pub(super) struct Wish<'c> {
    config: &'c Network,
    kernel: Vec<KernelIp>,
    nameservers: Vec<Ipv4Addr>,
}

impl<'c> Wish<'c> {
    /// Reads `ip=` and `nameserver=`. Those that cannot be read are warned about and do not count.
    pub(super) fn new(config: &'c Network, cmdline: &CmdLine, log: &Log) -> Self {
        let mut kernel = Vec::new();
        for value in cmdline.values("ip") {
            match KernelIp::parse(value) {
                Ok(ip) => kernel.push(ip),
                Err(e) => log.warn(format_args!(
                    "ip={value} on the kernel command line is ignored, network.toml counts: {e}"
                )),
            }
        }
        let mut nameservers = Vec::new();
        for value in cmdline.values("nameserver") {
            match value.parse() {
                Ok(address) => nameservers.push(address),
                Err(_) => log.warn(format_args!(
                    "nameserver={value} on the kernel command line is ignored: it is no IPv4 address"
                )),
            }
        }
        Self { config, kernel, nameservers }
    }

    /// `ip=off`: no network at all is wanted.
    pub(super) fn is_off(&self) -> bool {
        !self.kernel.is_empty()
            && self.kernel.iter().all(|ip| ip.method == Method::Off && ip.device.is_none())
    }

    /// How this link is used.
    pub(super) fn setup(&self, link: &Link) -> Setup {
        if let Some(ip) = self.kernel_ip(link) {
            return match ip.method {
                Method::Off => Setup::Off,
                Method::Dhcp => Setup::Dhcp,
                Method::Static { address, gateway } => {
                    Setup::Static(Settings::fixed(address, gateway))
                }
            };
        }
        // The command line names the links to use: the others are not.
        if self.kernel.iter().any(|ip| ip.method != Method::Off) {
            return Setup::Off;
        }
        let mac = link.mac.to_string();
        let interface = self.config.interface.iter().find(|interface| {
            let matches = &interface.matches;
            matches.name.as_ref().is_none_or(|pattern| wild(pattern, &link.name))
                && matches.mac.as_ref().is_none_or(|p| wild(&p.to_ascii_lowercase(), &mac))
        });
        match interface.map(|i| (i.method, i.address, i.gateway)) {
            None | Some((ConfiguredMethod::Dhcp, ..)) => Setup::Dhcp,
            Some((ConfiguredMethod::Static, Some(address), gateway)) => {
                Setup::Static(Settings::fixed(address, gateway))
            }
            // The configuration's parser refuses a static method without an address.
            Some((ConfiguredMethod::Off | ConfiguredMethod::Static, ..)) => Setup::Off,
        }
    }

    /// Adds to what a link gets what the administrator says beside its address.
    pub(super) fn complete(&self, link: &Link, mut settings: Settings) -> Settings {
        let ip = self.kernel_ip(link);
        let given = ip.map(|ip| ip.dns.as_slice()).unwrap_or_default().iter();
        let mut dns: Vec<Ipv4Addr> = Vec::new();
        for server in given.chain(&self.nameservers).chain(&settings.dns).chain(&self.config.dns) {
            if !dns.contains(server) {
                dns.push(*server);
            }
        }
        settings.dns = dns;
        if let Some(ip) = ip {
            settings.mtu = ip.mtu.or(settings.mtu);
            if ip.hostname.is_some() {
                settings.hostname.clone_from(&ip.hostname);
            }
        }
        settings
    }

    fn kernel_ip(&self, link: &Link) -> Option<&KernelIp> {
        let named = self.kernel.iter().find(|ip| ip.device.as_deref() == Some(&link.name));
        named.or_else(|| self.kernel.iter().find(|ip| ip.device.is_none()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::link::Mac, *};

    fn link(name: &str, last: u8) -> Link {
        let mac = Mac([0x52, 0x54, 0, 0, 0, last]);
        Link { index: 1, name: name.to_owned(), mac, up: true, carrier: true }
    }

    fn fixed(address: &str, gateway: Option<[u8; 4]>) -> Setup {
        Setup::Static(Settings::fixed(address.parse().unwrap(), gateway.map(Ipv4Addr::from)))
    }

    #[test]
    fn the_first_match_of_the_configuration_counts_and_the_command_line_wins() {
        let config = Network::parse(
            "[[interface]]\nmatch.mac = \"52:54:00:00:00:0?\"\nmethod = \"off\"\n\
             [[interface]]\nmatch.name = \"en*\"\nmethod = \"static\"\n\
             address = \"10.0.0.5/24\"\ngateway = \"10.0.0.1\"\n",
        )
        .unwrap();
        let gateway = Some([10, 0, 0, 1]);
        let configured = [Setup::Off, Setup::Dhcp, fixed("10.0.0.5/24", gateway)];
        let cases = [
            ("", configured.clone()),
            ("ip=nonsense rd.neednet=1", configured.clone()),
            ("ip=dhcp", [Setup::Dhcp, Setup::Dhcp, Setup::Dhcp]),
            ("ip=:::::eth1:off", [Setup::Off, Setup::Off, fixed("10.0.0.5/24", gateway)]),
            ("ip=eth1:dhcp", [Setup::Off, Setup::Dhcp, Setup::Off]),
            (
                "ip=eth1:dhcp ip=10.1.0.5:::255.255.0.0::eth0:off",
                [fixed("10.1.0.5/16", None), Setup::Dhcp, Setup::Off],
            ),
        ];
        let links = [link("eth0", 7), link("eth1", 0x77), link("enp1s0", 0x78)];
        for (line, expected) in cases {
            let cmdline = CmdLine::parse(line);
            let wish = Wish::new(&config, &cmdline, &Log::console());
            let found: Vec<Setup> = links.iter().map(|l| wish.setup(l)).collect();
            assert_eq!(found, expected, "{line}");
            assert!(!wish.is_off());
        }
        assert!(Wish::new(&config, &CmdLine::parse("ip=off"), &Log::console()).is_off());
    }

    #[test]
    fn name_servers_come_from_everywhere_and_once() {
        let config = Network::parse("dns = [\"10.0.0.2\", \"9.9.9.9\"]").unwrap();
        let line = CmdLine::parse("ip=::::pc7:eth0:dhcp:8.8.8.8 nameserver=1.1.1.1 nameserver=x");
        let wish = Wish::new(&config, &line, &Log::console());
        let mut settings = Settings::fixed("10.0.0.5/24".parse().unwrap(), None);
        settings.dns = vec![Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)];
        settings.hostname = Some("from-dhcp".to_owned());
        let complete = wish.complete(&link("eth0", 7), settings);
        let dns: Vec<String> = complete.dns.iter().map(Ipv4Addr::to_string).collect();
        assert_eq!(dns, ["8.8.8.8", "1.1.1.1", "10.0.0.2", "10.0.0.3", "9.9.9.9"]);
        assert_eq!(complete.hostname.as_deref(), Some("pc7"));
    }
}
