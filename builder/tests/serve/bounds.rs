//! What a client may cost, and how those beyond the bounds are told.

use std::{fs, io::Read as _, net::TcpStream, time::Duration};

use gse::serve::Limits;

use super::{FILE, Running, dist};

fn hasty() -> Limits {
    let soon = Duration::from_millis(300);
    Limits { connections: 1, head: soon, stall: soon, ..Limits::default() }
}

#[test]
fn a_client_that_sends_its_request_too_slowly_loses_its_place() {
    let dist = dist();
    let server = Running::start(dist.path(), None, hasty());
    for start in ["", "GET /latest", "GET /latest.toml HTTP/1.1\r\nHost: x\r\nX:"] {
        let mut slow = server.raw(start);
        let mut answer = Vec::new();
        // Ends only because the server hangs up.
        slow.read_to_end(&mut answer).unwrap();
        server.wait_for_a_place();
    }
}

#[test]
fn an_idle_client_loses_its_place() {
    let dist = dist();
    let server = Running::start(dist.path(), None, hasty());
    let answer = server.answer("GET /latest.toml HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[test]
fn a_client_that_takes_nothing_of_its_download_loses_its_place() {
    let dist = dist();
    let length = 64 << 20;
    fs::File::create(dist.path().join("large")).unwrap().set_len(length).unwrap();
    let server = Running::start(dist.path(), None, hasty());
    let mut stalled = server.raw("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    // There is only one.
    server.wait_for_a_place();
    let mut taken = Vec::new();
    let _ = stalled.read_to_end(&mut taken);
    assert!((taken.len() as u64) < length);
}

const KEEP: &str = "GET /latest.toml HTTP/1.1\r\nHost: x\r\n\r\n";

/// A client that was served, and keeps its connection.
fn guest(server: &Running) -> TcpStream {
    let mut guest = server.raw(KEEP);
    guest.read_exact(&mut [0]).unwrap();
    guest
}

fn places(connections: usize) -> Limits {
    Limits { connections, ..Limits::default() }
}

#[test]
fn clients_beyond_the_bound_get_what_is_small_and_are_asked_to_come_back_for_images() {
    let dist = dist();
    let server = Running::start(dist.path(), None, places(1));
    let guest = guest(&server);
    // These end because the server closes the connection.
    let image = server.answer(&format!("GET /{FILE} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(image.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{image}");
    assert!(image.contains("\r\nretry-after: 10\r\n"), "{image}");
    assert!(image.contains("\r\nconnection: close\r\n"), "{image}");
    let small = server.answer(KEEP);
    assert!(small.starts_with("HTTP/1.1 200 OK\r\n"), "{small}");
    assert!(small.contains("\r\nconnection: close\r\n"), "{small}");
    assert!(small.ends_with("\r\n\r\nformat = 1\n"), "{small}");
    drop(guest);
    server.wait_for_a_place();
}

#[test]
fn one_address_leaves_half_of_the_places_to_the_others() {
    let dist = dist();
    let server = Running::start(dist.path(), None, places(2));
    let _guest = guest(&server);
    assert_eq!(server.status_for("127.0.0.1"), "503");
    assert_eq!(server.status_for("127.0.0.2"), "200");
}

#[test]
fn an_address_that_holds_on_to_all_that_it_can_get_keeps_nobody_waiting() {
    let dist = dist();
    let server = Running::start(dist.path(), None, places(2));
    let _guest = guest(&server);
    // Of the connections on which it would be told to come back there is one.
    let _silent = TcpStream::connect(server.address).unwrap();
    assert_eq!(server.answer(""), "");
    assert_eq!(server.status_for("127.0.0.2"), "200");
}
