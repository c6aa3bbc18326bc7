//! DHCP (RFC 2131): one link's exchange with the servers that answer it.
//!
//! The exchange is told the time and what was received, and says what to send: it opens no socket.
//! A lease is never renewed: the controller needs it for the seconds or minutes until the real system,
//! which asks for one of its own, has the machine.

mod packet;
mod reply;

use std::{net::Ipv4Addr, time::Duration};

use dhcproto::{
    Encodable as _,
    v4::{self, DhcpOption, DhcpOptions, EncodeResult, MessageType, Opcode, OptionCode},
};

use self::reply::{Kind, Reply};
use super::{link::Mac, setup::Settings};

/// The port on which a client hears the servers.
pub(super) const CLIENT_PORT: u16 = v4::CLIENT_PORT;

/// The first wait for an answer. RFC 2131 says four seconds, for machines whose network was there
/// before them; here each second counts, and the first packets are often lost while a switch learns.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Waits double up to this. A switch port that spanning tree opens after 30 seconds is found within
/// this time.
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// How often an offer is requested before it is given up.
const REQUESTS: u32 = 4;

/// The largest message that a server may send: an Ethernet frame's, without the headers.
const MAX_MESSAGE: u16 = 1472;

/// Ethernet, in RFC 1700's list of hardware types.
const ETHERNET: u8 = 1;

/// What a server is asked for; nothing else is read of its replies.
const WANTED: [OptionCode; 10] = [
    OptionCode::SubnetMask,
    OptionCode::ClasslessStaticRoute,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::Hostname,
    OptionCode::DomainName,
    OptionCode::InterfaceMtu,
    OptionCode::AddressLeaseTime,
    OptionCode::ServerIdentifier,
    OptionCode::DomainSearch,
];

/// What a received packet meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It was not for us, or not what we wait for.
    Nothing,
    /// A server offers an address; the request for it is due at once.
    Offer,
    /// The server took its offer back.
    Refusal,
    /// The address is ours.
    Lease(Box<Settings>),
}

/// One link's exchange. Times are since any one moment.
pub(super) struct Exchange {
    mac: Mac,
    random: Random,
    transaction: u32,
    began: Duration,
    state: State,
    /// When to send next.
    next: Duration,
    /// Messages sent in this state.
    sent: u32,
    discovers: u32,
    refusals: u32,
}

enum State {
    Selecting,
    Requesting { address: Ipv4Addr, server: Ipv4Addr },
}

impl Exchange {
    /// An exchange that begins now. `seed` is any number that other machines do not have.
    pub(super) fn new(mac: Mac, seed: u64, now: Duration) -> Self {
        let mut random = Random(seed);
        Self {
            mac,
            transaction: random.next() as u32,
            random,
            began: now,
            state: State::Selecting,
            next: now,
            sent: 0,
            discovers: 0,
            refusals: 0,
        }
    }

    /// When [`Exchange::due`] has something to send.
    pub(super) fn next(&self) -> Duration {
        self.next
    }

    /// How it has gone so far, for a person.
    pub(super) fn summary(&self) -> String {
        match (self.refusals, &self.state) {
            (0, State::Selecting) => format!("asked {} times, no answer", self.discovers),
            (0, State::Requesting { server, .. }) => {
                format!("{server} offered an address and does not confirm it")
            }
            (count, _) => format!("an offered address was refused {count} times"),
        }
    }

    /// The IPv4 packet that is to be sent to all stations now, if any is.
    pub(super) fn due(&mut self, now: Duration) -> Option<Vec<u8>> {
        if now < self.next {
            return None;
        }
        if matches!(self.state, State::Requesting { .. }) && self.sent >= REQUESTS {
            self.restart();
        }
        if matches!(self.state, State::Selecting) {
            self.discovers += 1;
        }
        self.next = now + self.wait(self.sent);
        self.sent += 1;
        // Nothing in the message can be too long for it.
        self.message(now).ok().map(packet::wrap)
    }

    /// Takes an IPv4 packet from the link.
    pub(super) fn receive(&mut self, packet: &[u8], now: Duration) -> Heard {
        let reply = packet::unwrap(packet)
            .and_then(|payload| Reply::parse(payload, self.mac, self.transaction));
        let Some(Reply { kind, server, settings }) = reply else { return Heard::Nothing };
        match (&self.state, kind, settings) {
            (State::Selecting, Kind::Offer, Some(settings)) => {
                let Some(server) = server else { return Heard::Nothing };
                self.state = State::Requesting { address: settings.address.address, server };
                (self.sent, self.next) = (0, now);
                Heard::Offer
            }
            // Another server's word about an address that is not its own does not count.
            (State::Requesting { server: chosen, .. }, _, _)
                if server.is_some_and(|s| s != *chosen) =>
            {
                Heard::Nothing
            }
            (State::Requesting { .. }, Kind::Ack, Some(settings)) => {
                Heard::Lease(Box::new(settings))
            }
            (State::Requesting { .. }, Kind::Nak, _) => {
                self.restart();
                self.next = now + self.wait(self.refusals);
                self.refusals += 1;
                Heard::Refusal
            }
            _ => Heard::Nothing,
        }
    }

    fn restart(&mut self) {
        self.state = State::Selecting;
        self.sent = 0;
        self.transaction = self.random.next() as u32;
    }

    /// Doubles with each try; a quarter more or less, so that a room of machines that was switched on at
    /// once does not speak at once.
    fn wait(&mut self, tries: u32) -> Duration {
        let wait = FIRST_WAIT.saturating_mul(1 << tries.min(8)).min(LONGEST_WAIT);
        let quarter = wait.as_millis() as u64 / 4;
        let jitter = self.random.next() % (2 * quarter + 1);
        wait - Duration::from_millis(quarter) + Duration::from_millis(jitter)
    }

    /// The fixed part is written here: dhcproto's `Message` draws a random number whenever one is made,
    /// and early in a boot the kernel lets that wait for a second or more.
    fn message(&self, now: Duration) -> EncodeResult<Vec<u8>> {
        /// Replies are to go to all stations: some relays cannot send to an address that nobody has.
        const BROADCAST: u16 = 0x8000;
        let Mac(hardware) = self.mac;
        let seconds = now.saturating_sub(self.began).as_secs();
        let mut message = vec![u8::from(Opcode::BootRequest), ETHERNET, hardware.len() as u8, 0];
        message.extend_from_slice(&self.transaction.to_be_bytes());
        message.extend_from_slice(&u16::try_from(seconds).unwrap_or(u16::MAX).to_be_bytes());
        message.extend_from_slice(&BROADCAST.to_be_bytes());
        // Addresses of the client, its own, the server's and the relay's: none yet.
        message.extend_from_slice(&[0; 16]);
        message.extend_from_slice(&hardware);
        // The rest of the hardware address, the server's name and the boot file: empty.
        message.extend_from_slice(&[0; 10 + 64 + 128]);
        message.extend_from_slice(&v4::MAGIC);
        message.append(&mut self.options().to_vec()?);
        Ok(message)
    }

    fn options(&self) -> DhcpOptions {
        let mut options = DhcpOptions::new();
        let kind = match self.state {
            State::Selecting => MessageType::Discover,
            State::Requesting { address, server } => {
                options.insert(DhcpOption::RequestedIpAddress(address));
                options.insert(DhcpOption::ServerIdentifier(server));
                MessageType::Request
            }
        };
        options.insert(DhcpOption::MessageType(kind));
        let identifier = [ETHERNET].into_iter().chain(self.mac.0).collect();
        options.insert(DhcpOption::ClientIdentifier(identifier));
        options.insert(DhcpOption::ClassIdentifier(b"gse".to_vec()));
        options.insert(DhcpOption::MaxMessageSize(MAX_MESSAGE));
        options.insert(DhcpOption::ParameterRequestList(WANTED.to_vec()));
        options
    }
}

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>): enough to be unlike the neighbours.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests;
