//! Which server to use: all are asked at once, and the quickest that gives a signed release is taken.

use std::{
    fmt,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use gse_protocol::{
    Release,
    config::Sources,
    release::{self, MAX_RELEASE},
    sign::{Keys, MAX_SIGNATURE},
};

use super::{Client, FetchError};

/// How long to wait before files that do not fit together are fetched again.
const PUBLISHING: Duration = Duration::from_millis(300);
/// The least time that other servers get to answer too, once one has.
const GRACE: Duration = Duration::from_millis(100);

/// The release to go by, and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The quickest server's base URL, and then those to fall back to: first who answered well, in that
    /// order, then who had not answered yet.
    pub servers: Vec<String>,
    /// What the quickest server offers.
    pub release: Release,
    /// `latest.toml` as it was fetched, to be kept.
    pub bytes: Vec<u8>,
    /// `latest.toml.minisig` as it was fetched.
    pub signature: String,
}

/// No server gave a release that can be trusted: each server, and what was wrong.
#[derive(Debug)]
pub struct NoServer(Vec<(String, Refusal)>);

impl NoServer {
    /// Each server's base URL and what was wrong with its answer.
    pub fn reasons(&self) -> impl Iterator<Item = (&str, &Refusal)> {
        self.0.iter().map(|(server, refusal)| (server.as_str(), refusal))
    }
}

impl fmt::Display for NoServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no server is named in sources.toml");
        }
        f.write_str("no server has a release that can be used")?;
        self.0.iter().try_for_each(|(server, why)| write!(f, "; {server}: {why}"))
    }
}

impl std::error::Error for NoServer {}

/// Why a server is not used.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It gave no answer that could be used.
    #[error("{}", .0.problem)]
    Fetch(#[from] FetchError),
    /// What it gave is not to be trusted, or not to be read.
    #[error(transparent)]
    Release(#[from] release::Error),
}

/// What one server offers.
struct Offer {
    release: Release,
    bytes: Vec<u8>,
    signature: String,
}

/// Asks all servers at once, each for at most as long as the client's patience lasts.
pub fn choose(client: &Client, sources: &Sources) -> Result<Chosen, NoServer> {
    let mut waiting: Vec<String> = Vec::new();
    for server in &sources.servers {
        if !waiting.contains(server) {
            waiting.push(server.clone());
        }
    }
    let (sender, answers) = mpsc::channel();
    for server in &waiting {
        let (client, keys) = (client.clone(), sources.keys.clone());
        let (server, sender) = (server.clone(), sender.clone());
        // Not joined: one that hangs ends by itself, when the client's patience does.
        thread::spawn(move || {
            let offer = ask(&client, &server, &keys);
            // Nobody listens any more if another one was quick enough.
            let _ = sender.send((server, offer));
        });
    }
    drop(sender);

    let start = Instant::now();
    let mut best: Option<(Offer, Instant)> = None;
    let mut good = Vec::new();
    let mut refused = Vec::new();
    loop {
        let answer = match &best {
            None => answers.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some((_, until)) => {
                answers.recv_timeout(until.saturating_duration_since(Instant::now()))
            }
        };
        let Ok((server, offer)) = answer else { break };
        waiting.retain(|w| *w != server);
        match offer {
            Ok(offer) => {
                good.push(server);
                // The others have as long again, to be known as fall-backs in their order.
                let grace = start.elapsed().max(GRACE);
                best.get_or_insert_with(|| (offer, Instant::now() + grace));
            }
            Err(refusal) => refused.push((server, refusal)),
        }
    }
    match best {
        None => Err(NoServer(refused)),
        Some((Offer { release, bytes, signature }, _)) => {
            good.append(&mut waiting);
            Ok(Chosen { servers: good, release, bytes, signature })
        }
    }
}

fn ask(client: &Client, server: &str, keys: &Keys) -> Result<Offer, Refusal> {
    let once = || -> Result<Offer, Refusal> {
        let signature = signature_text(client, server, "latest.toml")?;
        let bytes = client.get_small(&format!("{server}latest.toml"), MAX_RELEASE as u64)?;
        let release = Release::open(&bytes, &signature, keys)?;
        Ok(Offer { release, bytes, signature })
    };
    again_if_published_meanwhile(once, |refusal| {
        use gse_protocol::sign::Error::Forged;
        use release::Error::{Serial, Signature};
        matches!(refusal, Refusal::Release(Signature(Forged(_)) | Serial { .. }))
    })
}

/// The text of a file's signature. What is not text is no signature, which is said when it is read.
pub(super) fn signature_text(
    client: &Client,
    server: &str,
    file: &str,
) -> Result<String, FetchError> {
    let bytes = client.get_small(&format!("{server}{file}.minisig"), MAX_SIGNATURE as u64)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A file and its signature are two files, and nobody can replace both at once. So when a machine
/// has fetched an old one and a new one, the signature does not fit, though nothing is wrong: such a
/// `mismatch` is looked at once more, when the server has had time to finish.
pub(super) fn again_if_published_meanwhile<T, E>(
    fetch: impl Fn() -> Result<T, E>,
    mismatch: impl FnOnce(&E) -> bool,
) -> Result<T, E> {
    match fetch() {
        Err(error) if mismatch(&error) => {
            thread::sleep(PUBLISHING);
            fetch()
        }
        done => done,
    }
}
