//! Fetching from a list of mirrors: the next one when one fails, from where the last one stopped.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ureq::{
    Agent, Body,
    config::Config,
    http::{Response, StatusCode, header},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use crate::progress::Progress;

/// The certificate authorities that this machine trusts, on Gentoo and Debian.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How long a server may take for its name, the connection and the TLS handshake.
const CONNECT: Duration = Duration::from_secs(15);
/// Bytes of a file whose size nobody signed: no mirror fills the disk.
const MOST: u64 = 4 << 30;
/// How long until it answers, and between two bytes.
const SILENCE: Duration = Duration::from_secs(30);

/// Servers that have the same files below their base URLs.
#[derive(Debug)]
pub struct Mirrors {
    urls: Vec<String>,
    agent: Agent,
}

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No mirror had it, or had it whole, or had the right one.
    #[error("no mirror gave {path}:\n{}\nlook at the network and at sources.mirrors; what has been fetched is kept, and fetching goes on from there", told(.tries))]
    AllFailed {
        /// Below the base URLs.
        path: String,
        /// What each of them did.
        tries: Vec<(String, String)>,
    },
    /// Writing failed.
    #[error("{doing} {path}")]
    Io {
        /// A gerund.
        doing: &'static str,
        /// Of the file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The list of certificate authorities cannot be used.
    #[error(
        "reading {CERTIFICATES}, with which https:// mirrors are checked: {0}; install ca-certificates"
    )]
    Certificates(String),
}

fn told(tries: &[(String, String)]) -> String {
    tries.iter().map(|(url, why)| format!("  {url}: {why}")).collect::<Vec<_>>().join("\n")
}

/// A large file to fetch.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Below the base URLs.
    pub path: &'a str,
    /// Its bytes, where they are known.
    pub size: Option<u64>,
    /// Where it goes.
    pub to: &'a Path,
}

impl Mirrors {
    /// A client of these base URLs. Proxies are those of the environment (`http_proxy`, `https_proxy`, `no_proxy`).
    ///
    /// # Errors
    /// If an `https://` mirror is among them, and this machine's certificate authorities cannot be read.
    pub fn new(urls: &[String]) -> Result<Self, Error> {
        let config = Config::builder()
            .http_status_as_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("gse/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_send_request(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        let roots = if urls.iter().any(|url| url.starts_with("https://")) {
            certificates()?
        } else {
            Vec::new()
        };
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let urls = urls.iter().map(|url| format!("{}/", url.trim_end_matches('/'))).collect();
        Ok(Self { urls, agent: config.tls_config(tls).build().into() })
    }

    /// A file of at most `max` bytes, from the first mirror that has one which `check` takes.
    ///
    /// # Errors
    /// What each mirror did, if none has.
    pub fn small<T>(
        &self,
        path: &str,
        max: u64,
        mut check: impl FnMut(&[u8]) -> Result<T, String>,
    ) -> Result<T, Error> {
        let mut tries = Vec::new();
        for url in &self.urls {
            match self.get_small(&format!("{url}{path}"), max).and_then(|bytes| check(&bytes)) {
                Ok(good) => return Ok(good),
                Err(why) => tries.push((url.clone(), why)),
            }
        }
        Err(Error::AllFailed { path: path.to_owned(), tries })
    }

    /// Whether any mirror answers at all.
    ///
    /// # Errors
    /// What each mirror did, if none does.
    pub fn check_connection(&self) -> Result<(), Error> {
        let mut tries = Vec::new();
        for url in &self.urls {
            match self.agent.head(url).call() {
                Ok(_) => return Ok(()),
                Err(e) => tries.push((url.clone(), e.to_string())),
            }
        }
        Err(Error::AllFailed { path: "an answer".to_owned(), tries })
    }

    /// Fetches a file to `wanted.to` with `.part` behind its name, and gives it its name once `check` takes it.
    ///
    /// What is there of it is gone on with; what comes of that is fetched anew, from one mirror after the
    /// other, if it is not taken.
    ///
    /// # Errors
    /// What each mirror did, if there is none that has what `check` takes; the part stays where mirrors failed, and goes where
    /// they gave something wrong.
    pub fn large(
        &self,
        wanted: &Wanted<'_>,
        progress: &Progress,
        mut check: impl FnMut(&Path) -> Result<(), String>,
    ) -> Result<(), Error> {
        let part = part_of(wanted.to);
        let failed = |doing, source| Error::Io { doing, path: part.clone(), source };
        let mixed = part.exists() || self.urls.len() > 1;
        let all_failed = |tries| Error::AllFailed { path: wanted.path.to_owned(), tries };
        let mut tries = self.resume(&self.urls, wanted, &part, progress)?;
        if !tries.is_empty() {
            return Err(all_failed(tries));
        }
        let mut verdict = check(&part);
        let mut alone = if mixed { self.urls.iter() } else { [].iter() };
        while let Err(why) = verdict {
            tries.push(("what was fetched".to_owned(), why));
            fs::remove_file(&part).map_err(|e| failed("removing", e))?;
            let Some(url) = alone.next() else { return Err(all_failed(tries)) };
            let broken = self.resume(std::slice::from_ref(url), wanted, &part, progress)?;
            verdict = match broken.into_iter().next() {
                None => check(&part),
                Some((url, why)) => Err(format!("{url}: {why}")),
            };
        }
        File::open(&part).and_then(|f| f.sync_all()).map_err(|e| failed("flushing", e))?;
        fs::rename(&part, wanted.to).map_err(|e| failed("renaming", e))
    }

    /// Fetches what is missing of the part, from one mirror after the other, for as long as anything comes.
    /// The answer is what went wrong, nothing if it is whole.
    fn resume(
        &self,
        urls: &[String],
        wanted: &Wanted<'_>,
        part: &Path,
        progress: &Progress,
    ) -> Result<Vec<(String, String)>, Error> {
        loop {
            let before = length(part);
            let mut tries = Vec::new();
            for url in urls {
                match self.append(&format!("{url}{}", wanted.path), wanted.size, part, progress) {
                    Ok(()) => return Ok(Vec::new()),
                    Err(Problem::Disk(source)) => {
                        return Err(Error::Io { doing: "writing", path: part.to_owned(), source });
                    }
                    Err(Problem::Mirror(why)) => tries.push((url.clone(), why)),
                }
            }
            if length(part) <= before {
                return Ok(tries);
            }
        }
    }

    fn append(
        &self,
        url: &str,
        size: Option<u64>,
        part: &Path,
        progress: &Progress,
    ) -> Result<(), Problem> {
        let mut file =
            OpenOptions::new().create(true).append(true).open(part).map_err(Problem::Disk)?;
        let mut have = file.metadata().map_err(Problem::Disk)?.len();
        if size.is_some_and(|size| have > size) {
            file.set_len(0).map_err(Problem::Disk)?;
            have = 0;
        }
        if size == Some(have) {
            return Ok(());
        }
        let mut response = self.request(url, have)?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            // Longer than the file there is, or just as long: whether it is right, the digests tell.
            if have > 0 && total(&response) == Some(have) {
                return Ok(());
            }
            file.set_len(0).map_err(Problem::Disk)?;
            response = self.request(url, 0)?;
            have = 0;
        }
        match response.status() {
            StatusCode::PARTIAL_CONTENT if have > 0 && starts_at(&response, have) => {}
            StatusCode::OK => {
                file.set_len(0).map_err(Problem::Disk)?;
                have = 0;
            }
            status => return Err(Problem::Mirror(format!("its answer is {status}"))),
        }
        let rest = response.body().content_length();
        let expected = rest.map(|rest| have.saturating_add(rest));
        if let (Some(expected), Some(size)) = (expected, size)
            && expected != size
        {
            let why = format!("it has {expected} bytes there, and {size} are expected");
            return Err(Problem::Mirror(why));
        }
        progress.begin("fetching", expected.or(size).unwrap_or(0));
        progress.advance(have);
        let most = size.unwrap_or(MOST).saturating_sub(have);
        let copied = copy(response, &mut file, most, progress);
        progress.finish();
        let have = have + copied?;
        match expected.or(size) {
            Some(expected) if have < expected => {
                Err(Problem::Mirror(format!("it stopped after {have} of {expected} bytes")))
            }
            _ => Ok(()),
        }
    }

    fn request(&self, url: &str, from: u64) -> Result<Response<Body>, Problem> {
        let mut request = self.agent.get(url);
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        request.call().map_err(|e| Problem::Mirror(e.to_string()))
    }

    fn get_small(&self, url: &str, max: u64) -> Result<Vec<u8>, String> {
        let response = self.agent.get(url).call().map_err(|e| e.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("its answer is {}", response.status()));
        }
        let mut bytes = Vec::new();
        let mut reader = response.into_body().into_reader().take(max + 1);
        reader.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if bytes.len() as u64 > max {
            return Err(format!("it has more than {max} bytes there"));
        }
        Ok(bytes)
    }
}

/// Why a try failed.
enum Problem {
    /// Another mirror may do better.
    Mirror(String),
    /// No mirror helps.
    Disk(io::Error),
}

/// Where a file is while it is not whole.
pub(super) fn part_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

/// At most `most` bytes: a mirror that sends more than it said fills no disk.
fn copy(
    response: Response<Body>,
    file: &mut File,
    most: u64,
    progress: &Progress,
) -> Result<u64, Problem> {
    let mut reader = response.into_body().into_reader().take(most);
    let mut buffer = vec![0; 128 << 10];
    let mut copied = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(read) => {
                file.write_all(buffer.get(..read).unwrap_or_default()).map_err(Problem::Disk)?;
                copied += read as u64;
                progress.advance(read as u64);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Problem::Mirror(format!("it broke off: {e}"))),
        }
    }
}

fn content_range(response: &Response<Body>) -> Option<&str> {
    response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")
}

/// `bytes 100-199/200`: whether the answer begins there.
fn starts_at(response: &Response<Body>, from: u64) -> bool {
    let first = content_range(response).and_then(|range| range.split('-').next());
    first.and_then(|first| first.parse().ok()) == Some(from)
}

/// `bytes */200`: how long the file is.
fn total(response: &Response<Body>) -> Option<u64> {
    content_range(response)?.split_once('/')?.1.parse().ok()
}

fn certificates() -> Result<Vec<Certificate<'static>>, Error> {
    let pem = fs::read(CERTIFICATES).map_err(|e| Error::Certificates(e.to_string()))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) =
            item.map_err(|e| Error::Certificates(e.to_string()))?
        {
            found.push(certificate);
        }
    }
    Ok(found)
}
