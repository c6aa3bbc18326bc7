//! One try to get onto the network, over all links at once.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    io,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use gse_protocol::config::network::Network;
use nix::libc;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::{
    NetworkError,
    dhcp::{CLIENT_PORT, Exchange, Heard},
    kernel_error,
    link::Link,
    netlink::{LinkEvents, Netlink},
    setup::{Settings, Setup, Wish},
};
use crate::{drivers::Hotplug, log::Log, sys::net::PacketSocket};

/// The longest IPv4 packet.
const PACKET_BYTES: usize = 65536;

/// The state of a try. It ends with the first link that has settings.
pub(super) struct Attempt<'a> {
    config: &'a Network,
    wish: &'a Wish<'a>,
    hotplug: &'a Hotplug,
    log: &'a Log,
    events: LinkEvents,
    /// By the kernel's index.
    ports: BTreeMap<u32, Port>,
    start: Instant,
    /// When the first usable link had a carrier.
    carrier_since: Option<Duration>,
}

/// A link, and how far it is.
struct Port {
    link: Link,
    setup: Setup,
    dhcp: Option<(PacketSocket, Exchange)>,
    trouble: Option<String>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        config: &'a Network,
        wish: &'a Wish<'a>,
        hotplug: &'a Hotplug,
        log: &'a Log,
    ) -> Result<Self, NetworkError> {
        let events = LinkEvents::open().map_err(kernel_error("listening for network links"))?;
        Ok(Self {
            config,
            wish,
            hotplug,
            log,
            events,
            ports: BTreeMap::new(),
            start: Instant::now(),
            carrier_since: None,
        })
    }

    /// Waits for the first link that works.
    pub(super) fn run(mut self, kernel: &mut Netlink) -> Result<(Link, Settings), NetworkError> {
        loop {
            self.look(kernel)?;
            if let Some(ready) = self.static_link() {
                return Ok(ready);
            }
            let now = self.start.elapsed();
            self.talk(now);
            let deadline = self.deadline();
            if now >= deadline {
                return Err(self.failure());
            }
            let sends = self.ports.values().filter_map(|p| p.dhcp.as_ref()).map(|(_, e)| e.next());
            let until = sends.chain([deadline]).min().unwrap_or(deadline);
            self.wait(until.saturating_sub(self.start.elapsed()))?;
            if let Some(ready) = self.listen() {
                return Ok(ready);
            }
        }
    }

    /// Takes in what links there are now.
    fn look(&mut self, kernel: &mut Netlink) -> Result<(), NetworkError> {
        // First the events, then the links: a change in between is an event again.
        self.events.take();
        let links = kernel.links().map_err(kernel_error("asking the kernel for its links"))?;
        self.ports.retain(|index, _| links.iter().any(|link| link.index == *index));
        for link in links {
            match self.ports.get_mut(&link.index) {
                Some(port) => {
                    if !link.carrier && port.dhcp.take().is_some() {
                        self.log.debug(format_args!("{} lost its carrier", link.name));
                    }
                    port.link = link;
                }
                None => {
                    let port = self.adopt(kernel, link);
                    self.ports.insert(port.link.index, port);
                }
            }
        }
        let now = self.start.elapsed();
        let mut usable = self.ports.values().filter(|port| port.setup != Setup::Off);
        if self.carrier_since.is_none() && usable.any(|port| port.link.carrier) {
            self.carrier_since = Some(now);
        }
        for port in self.ports.values_mut() {
            if port.link.carrier && port.setup == Setup::Dhcp && port.dhcp.is_none() {
                match open(&port.link, self.hotplug, self.log) {
                    Ok(socket) => {
                        let seed = RandomState::new().hash_one(port.link.mac.0);
                        port.dhcp = Some((socket, Exchange::new(port.link.mac, seed, now)));
                        port.trouble = None;
                    }
                    Err(e) => port.trouble = Some(format!("cannot send packets ({e})")),
                }
            }
        }
        Ok(())
    }

    /// Switches on a link that is new, without what another try may have left on it.
    fn adopt(&self, kernel: &mut Netlink, link: Link) -> Port {
        let setup = self.wish.setup(&link);
        self.log.debug(format_args!("network link {} ({})", link.name, link.mac));
        let mut trouble = None;
        if setup != Setup::Off {
            let outcome =
                kernel.clear_addresses(link.index).and_then(|()| kernel.set_up(link.index));
            trouble = outcome.err().map(|e| format!("cannot be switched on ({e})"));
        }
        Port { link, setup, dhcp: None, trouble }
    }

    fn static_link(&self) -> Option<(Link, Settings)> {
        self.ports.values().find_map(|port| match &port.setup {
            Setup::Static(settings) if port.link.carrier => {
                Some((port.link.clone(), settings.clone()))
            }
            _ => None,
        })
    }

    /// Sends what is due.
    fn talk(&mut self, now: Duration) {
        for Port { link, dhcp, trouble, .. } in self.ports.values_mut() {
            let Some((socket, exchange)) = dhcp else { continue };
            if let Some(packet) = exchange.due(now) {
                // A full queue, or a link that goes down: the next try may do better.
                let sent = socket.broadcast(&packet);
                *trouble = sent.err().map(|e| format!("cannot send packets ({e})"));
                if let Some(trouble) = trouble {
                    self.log.debug(format_args!("{} {trouble}", link.name));
                }
            }
        }
    }

    /// Sleeps until a link changes, a packet comes, or the time is over.
    fn wait(&self, time: Duration) -> Result<(), NetworkError> {
        let sockets = self.ports.values().filter_map(|port| port.dhcp.as_ref());
        let mut fds: Vec<PollFd<'_>> = sockets
            .map(|(socket, _)| socket.as_fd())
            .chain([self.events.as_fd()])
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let time = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&time)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(kernel_error("waiting for packets")(e.into())),
        }
    }

    /// Takes the packets that have come. The first lease ends the others' exchanges.
    fn listen(&mut self) -> Option<(Link, Settings)> {
        let mut buffer = vec![0; PACKET_BYTES];
        for Port { link, dhcp, .. } in self.ports.values_mut() {
            let Some((socket, exchange)) = dhcp else { continue };
            // An error is that there is no more, or that the link went down, which is an event too.
            while let Ok(length) = socket.receive(&mut buffer) {
                let packet = buffer.get(..length).unwrap_or_default();
                match exchange.receive(packet, self.start.elapsed()) {
                    Heard::Lease(settings) => return Some((link.clone(), *settings)),
                    Heard::Offer => self.log.debug(format_args!("{}: an offer", link.name)),
                    Heard::Refusal => {
                        let name = &link.name;
                        self.log
                            .warn(format_args!("{name}: the DHCP server refused, asking again"));
                    }
                    Heard::Nothing => {}
                }
            }
        }
        None
    }

    /// Since the start. The time for DHCP counts from the first carrier.
    fn deadline(&self) -> Duration {
        let seconds = |s: u32| Duration::from_secs(u64::from(s));
        match self.carrier_since {
            Some(since) => since + seconds(self.config.dhcp_timeout),
            None => seconds(self.config.carrier_timeout),
        }
    }

    fn failure(&self) -> NetworkError {
        let mut ports: Vec<&Port> = self.ports.values().collect();
        ports.sort_by_key(|port| port.link.index);
        let links: Vec<String> = ports.iter().map(|port| port.describe()).collect();
        let links = if links.is_empty() { "there is none".to_owned() } else { links.join("; ") };
        let seconds = self.start.elapsed().as_secs();
        if ports.iter().all(|port| port.setup == Setup::Off) {
            NetworkError::NoLink { seconds, links }
        } else if self.carrier_since.is_none() {
            NetworkError::NoCarrier { seconds, links }
        } else {
            NetworkError::NoAnswer { seconds, links }
        }
    }
}

impl Port {
    fn describe(&self) -> String {
        let Link { name, mac, carrier, .. } = &self.link;
        let state = match (&self.setup, &self.trouble, &self.dhcp) {
            (Setup::Off, ..) => "not to be used".to_owned(),
            (_, Some(trouble), _) => trouble.clone(),
            (_, None, Some((_, exchange))) => exchange.summary(),
            _ if !carrier => "no carrier".to_owned(),
            _ => "has a carrier".to_owned(),
        };
        format!("{name} {mac}: {state}")
    }
}

/// Packet sockets are a module on some kernels, and there is no modprobe for the kernel to call.
fn open(link: &Link, hotplug: &Hotplug, log: &Log) -> io::Result<PacketSocket> {
    match PacketSocket::open(link.index, CLIENT_PORT) {
        Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            hotplug.drivers().load_named("net-pf-17", log);
            PacketSocket::open(link.index, CLIENT_PORT)
        }
        other => other,
    }
}
