//! What can be wrong with an answer, or with there being none.

use std::{io, time::Duration};

/// A request that failed: which, and why.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {problem}")]
pub struct FetchError {
    /// What was asked for.
    pub url: String,
    /// What was wrong, in a few words.
    pub problem: Problem,
}

/// What was wrong with an answer, or why there was none, in a few words.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The name has no address.
    #[error("no address for this name: check the URL and the name server")]
    NoAddress,
    /// The connection failed or broke.
    #[error("{0}")]
    Connection(io::Error),
    /// Nothing, or too little, came for too long.
    #[error("no answer in time ({0})")]
    Timeout(&'static str),
    /// It goes on sending, but so little that it is no use.
    #[error("too slow: {bytes} bytes in {} s", .waited.as_secs())]
    Slow {
        /// How many came.
        bytes: u64,
        /// While this long was waited for them.
        waited: Duration,
    },
    /// Not the status that was wanted.
    #[error("HTTP status {0}")]
    Status(u16),
    /// It has too much to do.
    #[error("busy, and asks to come back in {} s", .0.as_secs())]
    Busy(Duration),
    /// The body is larger than such a file can be.
    #[error("larger than {max} bytes")]
    TooLarge {
        /// How large it may be.
        max: u64,
    },
    /// The body ended before its end.
    #[error("cut off after {got} of {expected} bytes")]
    Cut {
        /// Bytes that came.
        got: u64,
        /// Bytes that should have come.
        expected: u64,
    },
    /// Another part of the file than was asked for.
    #[error("the server sent another range than it was asked for ({0})")]
    Range(String),
    /// Packed on the way, though that was not wanted.
    #[error(
        "it comes as {0}, and not as it was published: no server or proxy on the way may compress it"
    )]
    Encoded(String),
    /// Another file than the index describes.
    #[error("this file has {found} bytes, and the index says {expected}: it is another release's")]
    OtherFile {
        /// Its length.
        found: u64,
        /// The image's length.
        expected: u64,
    },
    /// Bytes that are not those that were signed.
    #[error("what it sent is not what was signed")]
    Forged,
    /// There is no server.
    #[error("no server is named")]
    NoServer,
    /// HTTPS, and nothing to check certificates against.
    #[error(
        "no certificates to check HTTPS with: name a PEM file as tls_roots in sources.toml, or use http"
    )]
    NoRoots,
    /// A certificate that is not trusted, or a broken handshake.
    #[error(
        "TLS: {0}; check the server's certificate, tls_roots in sources.toml and this machine's clock"
    )]
    Tls(String),
    /// A redirect from http to https, or back, or too many of them.
    #[error("redirected to where this request must not go: {0}")]
    Redirect(String),
    /// Not HTTP.
    #[error("{0}")]
    Other(String),
}

impl Problem {
    pub(super) fn at(self, url: &str) -> FetchError {
        FetchError { url: url.to_owned(), problem: self }
    }
}

impl From<ureq::Error> for Problem {
    fn from(error: ureq::Error) -> Self {
        use ureq::Timeout;
        match error {
            ureq::Error::HostNotFound => Self::NoAddress,
            ureq::Error::Io(e) => e.into(),
            ureq::Error::Timeout(t) => Self::Timeout(match t {
                Timeout::Resolve => "looking up its name",
                Timeout::Connect => "connecting",
                Timeout::PerRead => "it has gone silent",
                _ => "waiting for its answer",
            }),
            ureq::Error::StatusCode(status) => Self::Status(status),
            ureq::Error::Rustls(e) => Self::Tls(e.to_string()),
            ureq::Error::Tls(e) => Self::Tls(e.to_owned()),
            ureq::Error::TooManyRedirects => Self::Redirect("too many redirects".to_owned()),
            ureq::Error::RequireHttpsOnly(url) => Self::Redirect(url),
            ureq::Error::TlsRequired | ureq::Error::ConnectionFailed => {
                Self::Redirect("from http to https".to_owned())
            }
            e => Self::Other(e.to_string()),
        }
    }
}

impl From<io::Error> for Problem {
    /// ureq hides its own errors, and rustls those of TLS, in an [`io::Error`].
    fn from(error: io::Error) -> Self {
        match error.downcast::<ureq::Error>() {
            Ok(ureq::Error::Io(e)) => Self::Connection(e),
            Ok(e) => e.into(),
            Err(e) if e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                Self::Tls(e.to_string())
            }
            // The standard library has no kind for what getaddrinfo says, only these words.
            Err(e) if e.to_string().starts_with("failed to lookup address information") => {
                Self::NoAddress
            }
            Err(e) => Self::Connection(e),
        }
    }
}
