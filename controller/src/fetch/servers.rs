//! Which server to use: all are asked at once, and the quickest that gives the newest signed release is taken.

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

use super::{Client, FetchError, Problem};

/// How long to wait before files that do not fit together are fetched again.
const PUBLISHING: Duration = Duration::from_millis(300);
/// The least time that other servers get to answer too, once one has.
const GRACE: Duration = Duration::from_millis(100);

/// The release to go by, and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The base URL of the quickest server with this release, and then those to fall back to: who offers it too, in the
    /// order of their answers, who had not answered yet, and who offers an older one.
    pub servers: Vec<String>,
    /// The newest that was offered.
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

    /// When the first of those that are busy has time, if there are any.
    pub fn free_in(&self) -> Option<Duration> {
        let busy = |(_, why): (&str, &Refusal)| match why {
            Refusal::Fetch(FetchError { problem: Problem::Busy(wait), .. }) => Some(*wait),
            _ => None,
        };
        self.reasons().filter_map(busy).min()
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

/// Whether `this` is the later of two releases. Serials rise with each release; but one that may go back can be that of a
/// tree that was begun anew, with low serials, so there it is the time of publishing that counts.
fn is_newer(this: &Release, than: &Release) -> bool {
    if this.allow_downgrade || than.allow_downgrade {
        (this.created, this.serial) > (than.created, than.serial)
    } else {
        this.serial > than.serial
    }
}

/// Asks all servers at once, each for at most as long as the client's patience lasts. A mirror that is behind may be the
/// quickest: the newest release counts of those that come in the time that others get to answer too.
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
    let (mut good, mut behind) = (Vec::new(), Vec::new());
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
                // The others have as long again, for a newer one, and to be known as fall-backs in their order.
                let grace = start.elapsed().max(GRACE);
                match &mut best {
                    Some((best, _)) if is_newer(&offer.release, &best.release) => {
                        *best = offer;
                        behind.append(&mut good);
                        good.push(server);
                    }
                    Some((best, _)) if is_newer(&best.release, &offer.release) => {
                        behind.push(server);
                    }
                    _ => {
                        good.push(server);
                        best.get_or_insert((offer, Instant::now() + grace));
                    }
                }
            }
            Err(refusal) => refused.push((server, refusal)),
        }
    }
    match best {
        None => Err(NoServer(refused)),
        Some((Offer { release, bytes, signature }, _)) => {
            good.append(&mut waiting);
            good.append(&mut behind);
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use gse_protocol::{
        Serial,
        release::{ImageFile, IndexFile},
    };

    use super::*;

    #[test]
    fn serials_say_what_is_newer_and_times_where_a_release_may_go_back() {
        let release = |serial, created, allow_downgrade| Release {
            format: 1,
            name: "lab".into(),
            version: "1".into(),
            serial: Serial(serial),
            created,
            allow_downgrade,
            index: IndexFile::of("images/i".into(), b"packed", b"cbor"),
            image: ImageFile { path: "images/s".into(), size: 1, installed_size: 1, entries: 1 },
            kernel: None,
        };
        for (older, newer) in [
            // A clock that was wrong does not count.
            (release(2, 9, false), release(3, 8, false)),
            // A tree that was begun anew, and what is published there later.
            (release(9, 5, false), release(1, 6, true)),
            (release(1, 6, true), release(2, 7, false)),
            (release(9, 6, true), release(1, 7, true)),
            (release(1, 7, true), release(2, 7, true)),
        ] {
            assert!(is_newer(&newer, &older) && !is_newer(&older, &newer), "{older:?} {newer:?}");
            assert!(!is_newer(&newer, &newer));
        }
    }
}
