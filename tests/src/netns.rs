//! A room of machines and what they are connected to, out of network namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{ffi::OsStr, fs, net::Ipv4Addr, process::Command};

use gse_qemu::process;

#[path = "../../controller/tests/common/netns.rs"]
mod host;

pub use host::Host;

impl Host {
    /// One with nothing but its own loopback.
    pub fn alone() -> Self {
        let host = Self::new();
        host.ip("link set lo up");
        host
    }

    /// A command whose process is in this namespace, and is killed when this one ends.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = process::command("nsenter");
        command.arg(self.enter()).arg("--").arg(program);
        command
    }

    /// The argument of `nsenter` that leads here.
    pub fn enter(&self) -> String {
        format!("--net={}", self.path())
    }

    /// Lets this card send at most so many megabits in a second.
    pub fn limit(&self, card: &str, megabits: u32) {
        let rate = format!("rate {megabits}mbit burst 128kb latency 100ms");
        self.output("tc", &format!("qdisc add dev {card} root tbf {rate}"));
    }

    /// How many bytes this card has sent, all headers included.
    pub fn sent(&self, card: &str) -> u64 {
        let text = self.ip(&format!("-j -s link show {card}"));
        let links: serde_json::Value = serde_json::from_str(&text).unwrap();
        links.pointer("/0/stats64/tx/bytes").and_then(serde_json::Value::as_u64).unwrap()
    }
}

/// Machines on a switch, which is a host too, where a cache can be; and a server behind its uplink.
#[derive(Debug)]
pub struct Room {
    /// It has a card `uplink`.
    pub server: Host,
    /// Where the machines are connected.
    pub switch: Host,
    /// Each can reach the switch and the server.
    pub machines: Vec<Host>,
}

impl Room {
    /// The switch's address in the room.
    pub const SWITCH: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
    /// The server's address.
    pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);

    /// A room of so many machines, at most 200.
    pub fn new(machines: usize) -> Self {
        let (server, switch) = (Host::alone(), Host::alone());
        switch.ip("link add room type bridge");
        switch.ip(&format!("addr add {}/24 dev room", Self::SWITCH));
        switch.ip("link set room up");
        server.ip(&format!("link add uplink type veth peer name wan netns {}", switch.path()));
        server.ip(&format!("addr add {}/24 dev uplink", Self::SERVER));
        server.ip("link set uplink up");
        switch.ip("addr add 10.79.0.2/24 dev wan");
        switch.ip("link set wan up");
        server.ip("route add 10.78.0.0/24 via 10.79.0.2");
        switch.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        let connect = |number| {
            let machine = Host::alone();
            let port = format!("port{number}");
            let there = machine.path();
            switch.ip(&format!("link add {port} type veth peer name card netns {there}"));
            switch.ip(&format!("link set {port} master room up"));
            machine.ip(&format!("addr add 10.78.0.{}/24 dev card", number + 10));
            machine.ip("link set card up");
            machine.ip(&format!("route add default via {}", Self::SWITCH));
            machine
        };
        let machines = (0..machines).map(connect).collect();
        Self { server, switch, machines }
    }
}
