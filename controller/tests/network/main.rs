//! The network comes up in namespaces that are wired like a lab, with real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fake;
mod lab;
#[allow(unreachable_pub)]
#[path = "../common/netns.rs"]
mod netns;

use std::{
    fs,
    net::{Ipv4Addr, ToSocketAddrs as _},
    thread,
    time::{Duration, Instant},
};

use gse_controller::network::{NetworkError, standing};
use lab::{Dnsmasq, server_socket, slow_switch};
use netns::Host;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// What a machine and a server have, in most tests: `m0` is wired to `s0`.
fn pair() -> (Host, Host) {
    let (machine, server) = (Host::new(), Host::new());
    machine.cable("m0", &server, "s0");
    (machine, server)
}

#[test]
fn the_link_whose_server_answers_is_used() {
    let (machine, server) = pair();
    machine.cable("m1", &server, "s1");
    // m0 has a carrier, and nobody who answers.
    server.ip("link set s0 up");
    let options = [
        "--domain=gse.example",
        "--dhcp-option=option:domain-search,gse.example,lab.example",
        "--dhcp-option=option:mtu,1400",
        "--dhcp-option=option:dns-server,10.77.1.1,10.77.1.2",
        "--dhcp-host=52:54:00:00:00:07,pc7,10.77.1.77",
    ];
    let _dnsmasq = Dnsmasq::start(&server, "s1", 1, &options);
    machine.ip("link set m1 address 52:54:00:00:00:07");

    let booted = machine.bring_up("dns = [\"10.77.1.3\"]", "").unwrap();
    let online = &booted.online;
    assert_eq!((online.interface.as_str(), online.mac.as_str()), ("m1", "52:54:00:00:00:07"));
    assert_eq!(online.address.to_string(), "10.77.1.77/24");
    assert_eq!(online.gateway, Some(Ipv4Addr::new(10, 77, 1, 1)));
    assert_eq!(online.hostname.as_deref(), Some("pc7"));
    assert_eq!(online.lease_seconds, Some(7200));
    let resolv_conf = fs::read_to_string(&booted.resolv_conf).unwrap();
    let expected = "search gse.example lab.example\nnameserver 10.77.1.1\nnameserver 10.77.1.2\n\
                    nameserver 10.77.1.3\n";
    assert_eq!(resolv_conf, expected);
    let link = machine.ip("addr show dev m1");
    assert!(link.contains("mtu 1400"), "{link}");
    assert!(link.contains("inet 10.77.1.77/24 brd 10.77.1.255 scope global m1"), "{link}");
    assert!(machine.ip("route").starts_with("default via 10.77.1.1 dev m1"));
    assert!(!machine.ip("addr show dev m0").contains("inet "));
}

#[test]
fn names_are_resolved_by_the_servers_that_were_written_down() {
    let (machine, server) = pair();
    let _dnsmasq = Dnsmasq::start(&server, "s0", 2, &[]);
    let booted = machine.bring_up("", "ip=dhcp").unwrap();
    let found: Vec<_> = machine.run(|| {
        // The resolver knows one path: in this thread's mounts it is ours.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let (ours, theirs) = (&booted.resolv_conf, "/etc/resolv.conf");
        mount(Some(ours), theirs, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        ("files.gse.example", 80).to_socket_addrs().unwrap().collect()
    });
    assert_eq!(found, ["10.77.9.9:80".parse().unwrap()]);
}

#[test]
fn a_server_that_starts_late_is_found() {
    let (machine, server) = pair();
    let socket = server_socket(&server, "s0", Ipv4Addr::new(10, 77, 3, 2));
    let booted = thread::scope(|scope| {
        let machine = scope.spawn(|| machine.bring_up("", ""));
        // Two questions are lost.
        for _ in 0..2 {
            socket.recv(&mut [0; 2048]).unwrap();
        }
        drop(socket);
        let dnsmasq = Dnsmasq::start(&server, "s0", 3, &[]);
        let booted = machine.join().unwrap();
        drop(dnsmasq);
        booted
    });
    assert_eq!(booted.unwrap().online.interface, "m0");
}

#[test]
fn a_refused_request_begins_anew() {
    let (machine, server) = pair();
    let address = Ipv4Addr::new(10, 77, 4, 1);
    let socket = server_socket(&server, "s0", address);
    let booted = thread::scope(|scope| {
        scope.spawn(|| fake::refuse_once(&socket, address));
        machine.bring_up("", "").unwrap()
    });
    assert_eq!(booted.online.address.to_string(), "10.77.4.60/24");
}

#[test]
fn replies_that_are_wrong_or_for_others_do_not_count() {
    let (machine, server) = pair();
    let address = Ipv4Addr::new(10, 77, 5, 1);
    let socket = server_socket(&server, "s0", address);
    let booted = thread::scope(|scope| {
        scope.spawn(|| fake::lie_first(&socket, address));
        machine.bring_up("", "").unwrap()
    });
    assert_eq!(booted.online.address.to_string(), "10.77.5.60/24");
    assert_eq!(booted.online.gateway, Some(address));
    assert_eq!(booted.online.hostname, None, "it had a line break in it");
}

#[test]
fn classless_routes_take_the_place_of_the_router() {
    let (machine, server) = pair();
    // A gateway outside of the network is reached through a route of its own.
    let routes =
        "--dhcp-option=121,169.254.1.1/32,0.0.0.0,10.50.0.0/16,10.77.6.7,0.0.0.0/0,169.254.1.1";
    let router = "--dhcp-option=option:router,10.77.6.200";
    let _dnsmasq = Dnsmasq::start(&server, "s0", 6, &[routes, router]);
    let booted = machine.bring_up("", "").unwrap();
    assert_eq!(booted.online.gateway, Some(Ipv4Addr::new(169, 254, 1, 1)));
    let table = machine.ip("route");
    for line in [
        "default via 169.254.1.1 dev m0",
        "10.50.0.0/16 via 10.77.6.7 dev m0",
        "169.254.1.1 dev m0",
    ] {
        assert!(table.contains(line), "{table}");
    }
    assert!(!table.contains("10.77.6.200"), "{table}");
}

#[test]
fn a_static_address_needs_no_server() {
    let (machine, server) = pair();
    machine.cable("m1", &server, "s1");
    server.ip("link set s0 up");
    server.ip("link set s1 up");
    let config = "dns = [\"10.77.7.1\"]\n[[interface]]\nmatch.name = \"m1\"\nmethod = \"static\"\n\
                  address = \"10.77.7.5/24\"\ngateway = \"10.77.7.1\"\n";
    let booted = machine.bring_up(config, "").unwrap();
    assert_eq!(booted.online.interface, "m1");
    assert_eq!(booted.online.lease_seconds, None);
    assert!(machine.ip("addr show dev m1").contains("inet 10.77.7.5/24 brd 10.77.7.255"));
    assert!(machine.ip("route").contains("default via 10.77.7.1 dev m1"));
    let written = fs::read_to_string(&booted.resolv_conf).unwrap();
    assert_eq!(written, "nameserver 10.77.7.1\n");
}

#[test]
fn the_kernel_command_line_wins_over_the_configuration() {
    let (machine, server) = pair();
    machine.cable("m1", &server, "s1");
    server.ip("link set s0 up");
    server.ip("link set s1 up");
    let config =
        "[[interface]]\nmatch.name = \"m*\"\nmethod = \"static\"\naddress = \"10.1.1.1/24\"\n";
    let line = "ip=10.77.8.5::10.77.8.1:255.255.255.0:pc8:m1:off:10.77.8.2 nameserver=10.77.8.3";
    let booted = machine.bring_up(config, line).unwrap();
    assert_eq!(booted.online.interface, "m1");
    assert_eq!(booted.online.address.to_string(), "10.77.8.5/24");
    assert_eq!(booted.online.hostname.as_deref(), Some("pc8"));
    let written = fs::read_to_string(&booted.resolv_conf).unwrap();
    assert_eq!(written, "nameserver 10.77.8.2\nnameserver 10.77.8.3\n");
    assert!(machine.ip("link show dev m0").contains("state DOWN"), "m0 is left alone");
}

#[test]
fn what_an_earlier_try_left_is_removed() {
    let (machine, server) = pair();
    machine.ip("link set m0 up");
    server.ip("link set s0 up");
    for address in ["10.99.0.1/24", "10.99.0.2/24", "10.98.0.1/24"] {
        machine.ip(&format!("addr add {address} dev m0"));
    }
    machine.ip("route add default via 10.99.0.9");
    let _dnsmasq = Dnsmasq::start(&server, "s0", 10, &[]);
    for _ in 0..2 {
        let online = machine.bring_up("", "").unwrap().online;
        let addresses = machine.ip("-4 -o addr show dev m0");
        assert_eq!(addresses.lines().count(), 1, "{addresses}");
        assert!(addresses.contains(&online.address.to_string()), "{addresses}");
        let table = machine.ip("route");
        assert_eq!(table.matches("default").count(), 1, "{table}");
        assert!(table.contains("default via 10.77.10.1 dev m0"), "{table}");
    }
}

#[test]
fn a_carrier_that_comes_late_is_waited_for() {
    let (machine, server) = pair();
    let _dnsmasq = Dnsmasq::start(&server, "s0", 11, &[]);
    server.ip("link set s0 down");
    let booted = thread::scope(|scope| {
        let mut booting = None;
        // Only when the machine has switched its card on, the cable is plugged in.
        machine.when_link(&["m0", "NO-CARRIER", "UP"], || {
            booting = Some(scope.spawn(|| machine.bring_up("", "")));
        });
        server.ip("link set s0 up");
        booting.unwrap().join().unwrap().unwrap()
    });
    assert_eq!(booted.online.interface, "m0");
}

#[test]
fn a_card_that_appears_late_is_taken_in() {
    let (machine, server) = pair();
    let socket = server_socket(&server, "s0", Ipv4Addr::new(10, 77, 12, 2));
    let booted = thread::scope(|scope| {
        let booting = scope.spawn(|| machine.bring_up("", ""));
        // The machine is asking on its first card when its second is plugged in.
        socket.recv(&mut [0; 2048]).unwrap();
        drop(socket);
        let other = Host::new();
        machine.cable("usb0", &other, "s0");
        let dnsmasq = Dnsmasq::start(&other, "s0", 12, &[]);
        let booted = booting.join().unwrap();
        drop(dnsmasq);
        booted
    });
    assert_eq!(booted.unwrap().online.interface, "usb0");
}

#[test]
fn a_switch_that_drops_the_first_packets_is_waited_for() {
    let (machine, server, switch) = (Host::new(), Host::new(), Host::new());
    machine.cable("m0", &switch, "p0");
    server.cable("s0", &switch, "p1");
    let _dnsmasq = Dnsmasq::start(&server, "s0", 13, &[]);
    slow_switch(&switch, &["p1", "p0"], 2);
    let start = Instant::now();
    let booted = machine.bring_up("", "").unwrap();
    assert_eq!(booted.online.interface, "m0");
    assert!(start.elapsed() > Duration::from_secs(2), "the switch was not slow");
}

#[test]
fn without_a_server_the_time_is_kept_and_the_error_says_what_to_check() {
    let (machine, server) = pair();
    machine.cable("m1", &server, "s1");
    machine.cable("m2", &server, "s2");
    server.ip("link set s0 up");
    let config = "dhcp_timeout = 2\n[[interface]]\nmatch.name = \"m2\"\nmethod = \"off\"\n";
    let start = Instant::now();
    let error = machine.bring_up(config, "").unwrap_err();
    let took = start.elapsed();
    assert!((2..10).contains(&took.as_secs()), "{took:?}");
    assert!(matches!(error, NetworkError::NoAnswer { .. }), "{error}");
    let text = error.to_string();
    for part in ["m0 ", "asked 2 times, no answer", "m1 ", "no carrier", "m2 ", "not to be used"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn without_a_carrier_the_error_says_to_check_the_cable() {
    let (machine, _server) = pair();
    let error = machine.bring_up("carrier_timeout = 1", "").unwrap_err();
    assert!(matches!(error, NetworkError::NoCarrier { .. }), "{error}");
    assert!(error.to_string().contains("m0 "), "{error}");
    assert!(error.to_string().contains("check the cable"), "{error}");
}

#[test]
fn without_a_card_the_error_says_to_check_the_driver() {
    let machine = Host::new();
    let error = machine.bring_up("carrier_timeout = 1", "").unwrap_err();
    assert!(matches!(error, NetworkError::NoLink { .. }), "{error}");
    assert!(error.to_string().contains("there is none"), "{error}");
    assert!(error.to_string().contains("check that its driver"), "{error}");
}

#[test]
fn a_network_that_is_turned_off_is_not_touched() {
    let (machine, server) = pair();
    server.ip("link set s0 up");
    assert!(matches!(machine.bring_up("", "ip=off"), Err(NetworkError::Off)));
    assert!(machine.ip("link show dev m0").contains("state DOWN"));
}

#[test]
fn a_network_that_stands_is_found_on_links_of_any_kind_but_not_without_a_carrier() {
    let (machine, server) = pair();
    let standing = || machine.run(standing).unwrap().map(|(name, at)| (name, at.to_string()));
    machine.ip("link set lo up");
    machine.ip("addr add 10.77.9.7/24 dev m0");
    machine.ip("link set m0 up");
    assert_eq!(standing(), None);
    machine.when_link(&["m0", "LOWER_UP"], || {
        server.ip("link set s0 up");
    });
    assert_eq!(standing(), Some(("m0".to_owned(), "10.77.9.7/24".to_owned())));
    // One of a script's making, beside a card that has no address.
    machine.ip("addr del 10.77.9.7/24 dev m0");
    assert_eq!(standing(), None);
    machine.ip("link add link m0 name lab type macvlan");
    machine.ip("addr add 10.77.7.7/16 dev lab");
    machine.when_link(&["lab", "LOWER_UP"], || {
        machine.ip("link set lab up");
    });
    assert_eq!(standing(), Some(("lab".to_owned(), "10.77.7.7/16".to_owned())));
}
