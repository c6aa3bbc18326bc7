//! Proxies, and whoever packs things on the way: with real sockets.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _, copy},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use crate::common::server::{self, Answer, Request, Server};
use gse_controller::fetch::{Client, Patience, Problem, RemoteImage, Retry, RootsError};
use rustls::crypto::ring;

/// Where nobody gets to without the proxy (RFC 2606).
const ORIGIN: &str = "http://gse.invalid:8080/";

fn by(proxy: &str, roots: Option<&[u8]>) -> Client {
    Client::by_proxy(roots, Patience::default(), Some(proxy)).unwrap()
}

#[test]
fn a_proxy_is_given_the_whole_url_and_may_answer_itself() {
    let file = b"the release".as_slice();
    let proxy = Server::honest(&[(&format!("{ORIGIN}a/file"), file)]);
    let client = by(&proxy.url(), None);
    let url = format!("{ORIGIN}a/file");
    for _ in 0..2 {
        assert_eq!(client.get_small(&url, 100).unwrap(), file);
    }
    let mut part = client.open_range(&url, 4, Some(9)).unwrap();
    let mut got = Vec::new();
    part.stream.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"relea");
    let asked: Vec<_> = proxy.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(asked, [url.as_str(); 3]);
    // The same server without one is nowhere.
    let direct = Client::new(None, Patience::default()).unwrap();
    assert!(direct.get_small(&url, 100).is_err());
}

/// Lets one connection through, and says where to.
fn tunnel() -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(client.try_clone().unwrap());
        let mut asked = String::new();
        lines.read_line(&mut asked).unwrap();
        let mut line = String::from("…");
        while !line.trim().is_empty() {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        let target = asked.split(' ').nth(1).unwrap().to_owned();
        let mut server = TcpStream::connect(&target).unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let (mut back, mut answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let answering = thread::spawn(move || {
            let _ = copy(&mut answers, &mut back);
            let _ = back.shutdown(Shutdown::Both);
        });
        let _ = copy(&mut lines, &mut server);
        let _ = server.shutdown(Shutdown::Both);
        answering.join().unwrap();
        asked
    });
    (url, thread)
}

#[test]
fn what_is_encrypted_goes_through_a_proxy_and_is_checked_as_ever() {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        server::serve_one(&[("file", b"secret")], rustls::StreamOwned::new(session, tcp));
    });
    let (proxy, tunnel) = tunnel();
    let client = by(&proxy, Some(certified.cert.pem().as_bytes()));
    let got = client.get_small(&format!("https://{address}/file"), 100).unwrap();
    assert_eq!(got, b"secret");
    drop(client);
    serving.join().unwrap();
    assert_eq!(tunnel.join().unwrap(), format!("CONNECT {address} HTTP/1.1\r\n"));
}

#[test]
fn a_proxy_that_is_no_url_is_refused() {
    for proxy in ["", "proxy", "https://proxy/", "socks5://proxy/", "http://"] {
        let refused = Client::by_proxy(None, Patience::default(), Some(proxy));
        assert!(matches!(refused, Err(RootsError::Proxy(_))), "{proxy:?}");
    }
}

#[test]
fn what_was_packed_on_the_way_is_passed_over() {
    let file = vec![7; 100_000];
    let packs = Server::new(&[("file", &file)], |_: &Request| Answer::Gzip);
    let client = Client::new(None, Patience::default()).unwrap();
    let error = client.get_small(&format!("{}file", packs.url()), 200_000).unwrap_err();
    assert!(matches!(&error.problem, Problem::Encoded(coding) if coding == "gzip"), "{error}");

    let honest = Server::honest(&[("file", &file)]);
    let retry = Retry { pause: Duration::ZERO, ..Retry::default() };
    let size = file.len() as u64;
    let read = |servers: &[String]| {
        let mut image = RemoteImage::new(client.clone(), servers, "file", size, retry, |_| {});
        let mut got = Vec::new();
        image.read_to_end(&mut got).map(|_| got)
    };
    assert_eq!(read(&[packs.url(), honest.url()]).unwrap(), file);
    // It is not asked again.
    assert_eq!(packs.requests().len(), 2);
    let error = read(&[packs.url()]).unwrap_err().to_string();
    assert!(error.contains("it comes as gzip"), "{error}");
}
