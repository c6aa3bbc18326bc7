//! `gse --serve`: the embedded server. Static files over HTTP or HTTPS, with ranges, and nothing else:
//! any other web server that carries the same tree does as well.

mod files;
mod http;
mod listener;
mod places;
mod tls;

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs as _, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use axum_server::{
    Handle,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use gse_protocol::{
    Release,
    config::bundle::{Bundle, MAX_BUNDLE},
    release::MAX_RELEASE,
};
use hyper_util::rt::TokioTimer;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

use listener::{Gate, Visitor};
pub use tls::Tls;

/// Where `gse --serve` listens when it is not told: every IPv4 address, and a port that needs no root.
pub const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DEFAULT_PORT);

const DEFAULT_PORT: u16 = 8080;

/// The most bytes in the head of a request, which machines send a few hundred of.
const MAX_HEAD: usize = 64 << 10;

/// What to serve, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// The folder that is served.
    pub dist: PathBuf,
    /// HTTPS rather than HTTP.
    pub tls: Option<Tls>,
    /// What a client may cost.
    pub limits: Limits,
}

/// What a client may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time, half of them for one address. Clients beyond that are asked to come back for images.
    pub connections: usize,
    /// How long a client may take to send a request's head, and be idle between two requests.
    pub head: Duration,
    /// How long a client may take none of what it asked for.
    pub stall: Duration,
    /// How long running downloads have to end when the server is stopped.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            head: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            grace: Duration::from_secs(10),
        }
    }
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text after `--serve=`.
    #[error("{0:?} is no address to serve at: it looks like 0.0.0.0:8080, :8080 or [::]:8080")]
    Address(String),
    /// The folder.
    #[error(
        "there is nothing to serve: opening {0:?}: {1}; `gse --archive` and `gse --publish-config` make that folder, `--dist` names another"
    )]
    Dist(PathBuf, io::Error),
    /// The port.
    #[error("listening on {0}: another program uses that port; --serve=ADDR:PORT takes another")]
    InUse(SocketAddr),
    /// The address or port.
    #[error("listening on {0}: {1}; --serve=ADDR:PORT names an address of this machine")]
    Listen(SocketAddr, io::Error),
    /// The certificates.
    #[error("reading the certificates for HTTPS from {0:?}: {1}")]
    Certificates(PathBuf, String),
    /// The key.
    #[error("reading the private key for HTTPS from {0:?}: {1}")]
    TlsKey(PathBuf, String),
    /// Two files that do not belong together.
    #[error(
        "the private key {key:?} does not belong to the first certificate of {certificates:?}: the server's own certificate comes first in that file"
    )]
    TlsMismatch {
        /// `--tls-cert`
        certificates: PathBuf,
        /// `--tls-key`
        key: PathBuf,
    },
    /// The rest.
    #[error("serving: {0}")]
    Serve(#[from] io::Error),
}

/// Reads what follows `--serve=`: `ADDR:PORT`, `:PORT`, `PORT` or `ADDR`.
pub fn parse_address(text: &str) -> Result<SocketAddr, Error> {
    let any = DEFAULT_ADDRESS.ip();
    let bare = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = bare.parse::<u16>() {
        return Ok(SocketAddr::new(any, port));
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, DEFAULT_PORT));
    }
    let mut found = text.to_socket_addrs().map_err(|_| Error::Address(text.to_owned()))?;
    found.next().ok_or_else(|| Error::Address(text.to_owned()))
}

/// A server that has its port, and serves once it runs.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<RustlsConfig>,
    dist: PathBuf,
    limits: Limits,
    runtime: Runtime,
}

impl Server {
    /// Takes the port. Clients may connect from now on; they are answered once the server runs.
    pub fn bind(options: &Options) -> Result<Self, Error> {
        let dist = &options.dist;
        std::fs::read_dir(dist).map_err(|e| Error::Dist(dist.clone(), e))?;
        let tls = options.tls.as_ref().map(Tls::load).transpose()?;
        let listener = TcpListener::bind(options.address).map_err(|e| match e.kind() {
            io::ErrorKind::AddrInUse => Error::InUse(options.address),
            _ => Error::Listen(options.address, e),
        })?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        Ok(Self { listener, address, tls, dist: dist.clone(), limits: options.limits, runtime })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of what it serves.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/", self.address)
    }

    /// The base URL by which other machines reach it, where it listens on all addresses.
    fn url_from_afar(&self) -> Option<String> {
        if !self.address.ip().is_unspecified() {
            return None;
        }
        // "Connecting" a datagram socket sends nothing; it asks the routing table for our address.
        // 192.0.2.1 is nobody's (RFC 5737).
        let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        probe.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
        let here = SocketAddr::new(probe.local_addr().ok()?.ip(), self.address.port());
        Some(self.url().replace(&self.address.to_string(), &here.to_string()))
    }

    /// Serves until `stop` returns; then lets running downloads end, for as long as the limits allow or
    /// until `stop` returns once more.
    pub fn run(self, mut stop: impl AsyncFnMut()) -> Result<(), Error> {
        let connections = self.limits.connections.min(descriptors() / 3).max(1);
        let served = self.runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            let gate = Gate::new(listener, connections, self.limits.stall);
            let handle = Handle::<Visitor>::new();
            let mut server = axum_server::Server::from_listener(gate).handle(handle.clone());
            server
                .http_builder()
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(self.limits.head)
                .max_buf_size(MAX_HEAD);
            let service = http::service(&self.dist);
            let serve = async {
                match self.tls {
                    None => server.http1_only().serve(service).await,
                    Some(tls) => {
                        server.acceptor(RustlsAcceptor::new(tls)).http1_only().serve(service).await
                    }
                }
            };
            let stopper = async {
                stop().await;
                handle.graceful_shutdown(Some(self.limits.grace));
                stop().await;
            };
            tokio::select! {
                served = serve => served,
                () = stopper => Ok(()),
            }
        });
        // A read from a hung disk must not keep a stopped server from ending.
        self.runtime.shutdown_background();
        Ok(served?)
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on they no longer end the process. Needs a runtime.
    fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// How many files this process may have open, once it has asked for all that it is allowed.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // Where this is refused, the lower limit holds.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(now).unwrap_or(usize::MAX)
}

/// `gse --serve`: serves until SIGINT or SIGTERM, and says on `out` what and where.
pub fn run(options: &Options, out: &mut impl Write) -> Result<(), Error> {
    let server = Server::bind(options)?;
    let mut signals = {
        let _inside = server.runtime.enter();
        Signals::catch()?
    };
    match server.url_from_afar() {
        Some(afar) => writeln!(out, "listening on {} (from other machines: {afar})", server.url())?,
        None => writeln!(out, "listening on {}", server.url())?,
    }
    writeln!(out, "serving {}: {}", options.dist.display(), contents(&options.dist))?;
    out.flush()?;
    server.run(async || signals.next().await)?;
    writeln!(out, "stopped")?;
    Ok(())
}

/// What is in `dist`, for a person: nothing here is checked, the machines do that.
fn contents(dist: &Path) -> String {
    let read = |name, most: usize| {
        let path = dist.join(name);
        let small = std::fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() <= most as u64);
        small.then(|| std::fs::read(path).ok()).flatten()
    };
    let release = read("latest.toml", MAX_RELEASE)
        .and_then(|bytes| Release::parse(&String::from_utf8(bytes).ok()?).ok())
        .map_or("no release yet".to_owned(), |r| {
            format!("release {} ({} {})", r.serial, r.name, r.version)
        });
    let config = read("config.tar", MAX_BUNDLE)
        .and_then(|bytes| Bundle::parse(&bytes).ok())
        .map_or("no configuration yet".to_owned(), |b| format!("configuration {}", b.serial));
    format!("{release}, {config}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, meant) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("8000", "0.0.0.0:8000"),
            (":0", "0.0.0.0:0"),
            ("10.0.0.1", "10.0.0.1:8080"),
            ("[::1]:81", "[::1]:81"),
            ("::1", "[::1]:8080"),
            ("[::]", "[::]:8080"),
        ] {
            assert_eq!(parse_address(text).unwrap(), meant.parse().unwrap(), "{text}");
        }
        for text in ["", "127.0.0.1:port", "1.2.3.4:70000", "99999", "http://x/"] {
            assert!(parse_address(text).is_err(), "{text}");
        }
    }
}
