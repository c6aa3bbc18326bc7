//! Machines, cables, switches and servers out of network namespaces. Everything goes when it is dropped.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use gse_controller::{
    cmdline::CmdLine,
    drivers::{Drivers, Hotplug},
    log::Log,
    network::{NetworkError, Online, bring_up},
};
use gse_protocol::config::Network;
use nix::libc::RTMGRP_LINK;
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind,
    netlink::SocketAddrNetlink,
    recv, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};
use tempfile::TempDir;

use crate::netns::Host;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

impl Host {
    /// A cable from a card of this host to one of another, without carrier.
    pub(crate) fn cable(&self, card: &str, other: &Host, other_card: &str) {
        let there = other.path();
        self.ip(&format!("link add {card} type veth peer name {other_card} netns {there}"));
    }

    /// Does `act`, and waits until `ip link` has a line with all of `words`.
    pub(crate) fn when_link(&self, words: &[&str], act: impl FnOnce()) {
        // Listens before it acts, and looks after each event: none is missed.
        let events = self.run(|| {
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
                .unwrap()
        });
        bind(&events, &SocketAddrNetlink::new(0, RTMGRP_LINK as u32)).unwrap();
        set_socket_timeout(&events, Timeout::Recv, Some(PATIENCE)).unwrap();
        act();
        let there = || self.ip("link").lines().any(|line| words.iter().all(|w| line.contains(w)));
        while !there() {
            recv(&events, [0; 32].as_mut_slice(), RecvFlags::empty()).unwrap();
        }
    }

    /// The controller's part, on this host.
    pub(crate) fn bring_up(&self, config: &str, cmdline: &str) -> Result<Booted, NetworkError> {
        let config = Network::parse(config).unwrap();
        let directory = TempDir::new().unwrap();
        let resolv_conf = directory.path().join("etc/resolv.conf");
        let online = self.run(|| {
            let cmdline = CmdLine::parse(cmdline);
            let log = Arc::new(Log::console());
            let drivers = Arc::new(Drivers::open(directory.path(), "none", &cmdline, &log));
            let sys = directory.path().join("sys");
            let hotplug = Hotplug::start(drivers, sys, Arc::clone(&log)).unwrap();
            bring_up(&config, &cmdline, &hotplug, &log, &resolv_conf)
        })?;
        Ok(Booted { online, resolv_conf, _directory: directory })
    }
}

/// A machine whose network is up.
#[derive(Debug)]
pub(crate) struct Booted {
    pub(crate) online: Online,
    pub(crate) resolv_conf: PathBuf,
    _directory: TempDir,
}

/// A child that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A DHCP and DNS server. It knows `files.gse.example`.
pub(crate) struct Dnsmasq {
    _process: Process,
    _directory: TempDir,
}

impl Dnsmasq {
    /// Gives the card of `host` the first address of 10.77.NET.0/24 and serves the rest.
    pub(crate) fn start(host: &Host, card: &str, net: u8, options: &[&str]) -> Self {
        host.ip(&format!("addr add 10.77.{net}.1/24 dev {card}"));
        host.ip(&format!("link set {card} up"));
        let directory = TempDir::new().unwrap();
        let mut command = Command::new("dnsmasq");
        command
            .args(["--keep-in-foreground", "--no-ping"])
            .args(["--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"])
            .args(["--log-facility=-", "--pid-file=", "--bind-dynamic", "--dhcp-authoritative"])
            .arg(format!("--dhcp-leasefile={}", directory.path().join("leases").display()))
            .arg(format!("--interface={card}"))
            .arg(format!("--dhcp-range=10.77.{net}.50,10.77.{net}.90,255.255.255.0,2h"))
            .args(["--host-record=files.gse.example,10.77.9.9", "--local=/gse.example/"])
            .args(options)
            .stderr(Stdio::piped());
        let mut process = Process(host.run(|| command.spawn().unwrap()));
        // It says so when it serves; what it says afterwards is read so that it never blocks.
        let mut lines = BufReader::new(process.0.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("dnsmasq ended: {said:?}")).unwrap();
            if line.contains("DHCP, sockets bound") || line.contains("DHCP, IP range") {
                break;
            }
            said.push(line);
        }
        thread::spawn(move || lines.for_each(drop));
        Self { _process: process, _directory: directory }
    }
}

/// A switch without servers: its ports are cards of its host, and the first packets are lost while
/// spanning tree makes up its mind (twice `delay` seconds).
pub(crate) fn slow_switch(host: &Host, cards: &[&str], delay: u32) {
    let hundredths = delay * 100;
    host.ip(&format!("link add br0 type bridge stp_state 1 forward_delay {hundredths}"));
    host.ip("link set br0 up");
    for card in cards {
        host.ip(&format!("link set {card} master br0"));
        host.ip(&format!("link set {card} up"));
    }
}

/// A socket on a DHCP server's port of the card's link, for servers that dnsmasq is too good to be.
pub(crate) fn server_socket(host: &Host, card: &str, address: Ipv4Addr) -> UdpSocket {
    host.ip(&format!("addr add {address}/24 dev {card}"));
    host.ip(&format!("link set {card} up"));
    host.ip(&format!("route add 255.255.255.255/32 dev {card}"));
    let socket = host.run(|| UdpSocket::bind("0.0.0.0:67").unwrap());
    socket.set_broadcast(true).unwrap();
    // A machine that asks nobody fails the test; it does not stop it.
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}
