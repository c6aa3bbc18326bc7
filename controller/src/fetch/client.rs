//! HTTP, as far as a machine needs it: small files whole, large ones from any byte on.

use std::{io::Read as _, sync::Arc, time::Duration};

use ureq::{
    Agent, Body, Proxy,
    config::Config,
    http::{Response, StatusCode, Uri, header},
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
    unversioned::{
        resolver::DefaultResolver,
        transport::{ConnectProxyConnector, Connector as _, RustlsConnector, TcpConnector},
    },
};

use super::{
    FetchError, Problem,
    proxy::{ToProxy, WholeUrl},
    range::{ContentRange, Part, Stream},
    tls,
};

/// How long a server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For its name, for the connection, and for the TLS handshake.
    pub connect: Duration,
    /// Until its answer starts.
    pub answer: Duration,
    /// Between two bytes.
    pub silence: Duration,
    /// For the whole of a small file.
    pub small: Duration,
    /// In each such span of waiting for a large file …
    pub window: Duration,
    /// … this many bytes must come …
    pub window_bytes: u64,
    /// … or this many, while another server is free, and has not been too slow or broken itself.
    pub brisk_bytes: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(10),
            silence: Duration::from_secs(10),
            small: Duration::from_secs(30),
            window: Duration::from_secs(20),
            window_bytes: 64 << 10,
            // By this, the update of a whole system, 500 MB, would take almost three hours. Thirty machines that share
            // 100 Mbit/s by four connections each have twice as much.
            brisk_bytes: 1 << 20,
        }
    }
}

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// Not PEM.
    #[error("the TLS roots are not PEM ({0}): tls_roots in sources.toml names the wrong file")]
    Pem(String),
    /// PEM without a certificate.
    #[error(
        "the TLS roots have no certificate in them: tls_roots in sources.toml names the wrong file"
    )]
    Empty,
    /// A proxy that is none.
    #[error("the proxy {0:?} is no URL like http://proxy.example:3128")]
    Proxy(String),
}

/// An HTTP client. Clones share their connections.
///
/// It is two clients: one that can only speak HTTP, and one that only speaks HTTPS. So no redirect
/// leads from one to the other.
#[derive(Debug, Clone)]
pub struct Client {
    plain: Agent,
    tls: Option<Agent>,
    pub(super) patience: Patience,
}

impl Client {
    /// A client that trusts the certificates in `roots` (PEM, any number of them). Without roots it
    /// speaks HTTP alone.
    pub fn new(roots: Option<&[u8]>, patience: Patience) -> Result<Self, RootsError> {
        Self::by_proxy(roots, patience, None)
    }

    /// As [`Client::new`]; all requests go to `proxy`, a URL with `http://`, if there is one.
    pub fn by_proxy(
        roots: Option<&[u8]>,
        patience: Patience,
        proxy: Option<&str>,
    ) -> Result<Self, RootsError> {
        let proxy = proxy.map(|url| {
            let uri = url.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("http"));
            let wrong = || RootsError::Proxy(url.to_owned());
            Ok((uri.ok_or_else(wrong)?, Proxy::new(url).map_err(|_| wrong())?))
        });
        let (uri, connect) = proxy.transpose()?.unzip();
        let config = || {
            Config::builder()
                .proxy(None)
                .max_redirects(4)
                .http_status_as_error(false)
                .accept_encoding("identity")
                .user_agent(concat!("gse/", env!("CARGO_PKG_VERSION")))
                .timeout_resolve(Some(patience.connect))
                .timeout_connect(Some(patience.connect))
                .timeout_send_request(Some(patience.answer))
                .timeout_recv_response(Some(patience.answer))
                .timeout_per_read(Some(patience.silence))
                .timeout_per_write(Some(patience.silence))
        };
        let plain = config().build();
        let connector = TcpConnector::default().chain(WholeUrl(uri.is_some()));
        let plain = match uri {
            Some(uri) => Agent::with_parts(plain, connector, ToProxy(uri)),
            None => Agent::with_parts(plain, connector, DefaultResolver::default()),
        };
        let tls = match roots {
            None => None,
            Some(pem) => {
                let tls = TlsConfig::builder()
                    .root_certs(certificates(pem)?)
                    .unversioned_rustls_crypto_provider(Arc::new(tls::provider()))
                    .build();
                let connector =
                    ().chain(ConnectProxyConnector::default())
                        .chain(TcpConnector::default())
                        .chain(RustlsConnector::default());
                let config = config().proxy(connect).https_only(true).tls_config(tls).build();
                Some(Agent::with_parts(config, connector, DefaultResolver::default()))
            }
        };
        Ok(Self { plain, tls, patience })
    }

    /// The whole of a file of at most `max` bytes.
    pub fn get_small(&self, url: &str, max: u64) -> Result<Vec<u8>, FetchError> {
        self.small(url, max).map_err(|problem| problem.at(url))
    }

    /// A file from byte `from` on, up to `to` or its end, to be read as it comes. A server that does not know ranges and
    /// sends the whole file will do: the bytes before are thrown away, and those after `to` come too.
    pub fn open_range(&self, url: &str, from: u64, to: Option<u64>) -> Result<Part, FetchError> {
        self.range(url, from, to).map_err(|problem| problem.at(url))
    }

    fn agent(&self, url: &str) -> Result<&Agent, Problem> {
        if url.starts_with("https://") {
            self.tls.as_ref().ok_or(Problem::NoRoots)
        } else {
            Ok(&self.plain)
        }
    }

    fn small(&self, url: &str, max: u64) -> Result<Vec<u8>, Problem> {
        let request = self.agent(url)?.get(url).config();
        let response = request.timeout_global(Some(self.patience.small)).build().call()?;
        if response.status() != StatusCode::OK {
            return Err(refusal(&response, response.status()));
        }
        as_it_is(&response)?;
        let length = response.body().content_length();
        if length.is_some_and(|length| length > max) {
            return Err(Problem::TooLarge { max });
        }
        let mut bytes = Vec::new();
        response.into_body().into_reader().take(max.saturating_add(1)).read_to_end(&mut bytes)?;
        match length {
            _ if bytes.len() as u64 > max => Err(Problem::TooLarge { max }),
            Some(expected) if expected != bytes.len() as u64 => {
                Err(Problem::Cut { got: bytes.len() as u64, expected })
            }
            _ => Ok(bytes),
        }
    }

    fn range(&self, url: &str, from: u64, to: Option<u64>) -> Result<Part, Problem> {
        let mut request = self.agent(url)?.get(url);
        if from > 0 || to.is_some() {
            let last = to.map(|to| to.saturating_sub(1).to_string()).unwrap_or_default();
            request = request.header(header::RANGE, format!("bytes={from}-{last}"));
        }
        let response = request.call()?;
        let whole = response.status() == StatusCode::OK;
        let total = match response.status() {
            StatusCode::OK => response.body().content_length(),
            StatusCode::PARTIAL_CONTENT => Some(partial(&response, from, to)?),
            status => return Err(refusal(&response, status)),
        };
        as_it_is(&response)?;
        let skip = if whole { from } else { 0 };
        let validator = text(&response, header::ETAG).or(text(&response, header::LAST_MODIFIED));
        let validator = validator.map(str::to_owned);
        let mut stream = Stream::new(response.into_body());
        stream.skip(skip, &self.patience)?;
        Ok(Part { stream, whole, total, validator })
    }
}

/// What another status than success means. Who is asked to come back later should: RFC 9110, section 10.2.3. Where a
/// date is given instead of seconds, that is not understood.
fn refusal(response: &Response<Body>, status: StatusCode) -> Problem {
    let busy = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
    match text(response, header::RETRY_AFTER).and_then(|text| text.trim().parse().ok()) {
        Some(seconds) if busy && seconds > 0 => Problem::Busy(Duration::from_secs(seconds)),
        _ => Problem::Status(status.as_u16()),
    }
}

/// Whether the file comes as it was published: what somebody packed on the way has other lengths and ranges.
fn as_it_is(response: &Response<Body>) -> Result<(), Problem> {
    let is_identity = |coding: &&str| coding.trim().eq_ignore_ascii_case("identity");
    match text(response, header::CONTENT_ENCODING).filter(|coding| !is_identity(coding)) {
        Some(coding) => Err(Problem::Encoded(coding.chars().take(40).collect())),
        None => Ok(()),
    }
}

/// The whole file's length, if the answer starts at `from` and goes to `to`, or the end.
fn partial(response: &Response<Body>, from: u64, to: Option<u64>) -> Result<u64, Problem> {
    let header = text(response, header::CONTENT_RANGE).unwrap_or("no Content-Range");
    let wrong = || Problem::Range(header.chars().take(80).collect());
    let range: ContentRange = header.parse().map_err(|()| wrong())?;
    let length = response.body().content_length();
    let fits = range.first == from
        && range.last.checked_add(1) == Some(to.unwrap_or(u64::MAX).min(range.total))
        && length.is_none_or(|length| length == range.last + 1 - range.first);
    if fits { Ok(range.total) } else { Err(wrong()) }
}

fn text(response: &Response<Body>, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

fn certificates(pem: &[u8]) -> Result<RootCerts, RootsError> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) =
            item.map_err(|e| RootsError::Pem(e.to_string()))?
        {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(RootsError::Empty) } else { Ok(RootCerts::new_with_certs(&found)) }
}
