//! An image on several servers, as one file: what breaks goes on where it broke, on another server.

use std::{io, io::Read, thread, time::Duration};

use gse_protocol::index::PlacedFrame;

use super::{Client, FetchError, Problem, range::Stream};
use crate::install::{FrameSource, Origin, SourceError};

/// How often to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How many times all servers are tried without any progress before it is given up.
    pub rounds: u32,
    /// How long to wait between two rounds.
    pub pause: Duration,
    /// How many bytes are progress: a server that cuts each connection after a few is not tried for ever.
    pub progress: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { rounds: 4, pause: Duration::from_secs(3), progress: 256 << 10 }
    }
}

/// The image is read from another server, or from the same one again.
#[derive(Debug)]
pub struct Switch<'s> {
    /// What was wrong.
    pub error: &'s FetchError,
    /// The base URL that is tried next.
    pub next: &'s str,
    /// How many bytes of the image have come before.
    pub at: u64,
}

/// No server gives the rest of the image.
#[derive(Debug, thiserror::Error)]
#[error(
    "stopped at byte {at} of {size}, no server gives more: {last}; \
     check the servers and their network, nothing that was installed before is lost"
)]
pub struct RemoteError {
    /// Where in the image.
    pub at: u64,
    /// The image's length.
    pub size: u64,
    /// What was wrong at last.
    pub last: FetchError,
}

/// What is known of a server.
#[derive(Debug)]
struct Server {
    /// With a `/` at its end.
    base: String,
    /// It has a file of another length, which cannot be the image.
    unfit: bool,
}

/// An image on one or more servers, read from its start to its end.
pub struct RemoteImage<'a> {
    client: Client,
    servers: Vec<Server>,
    path: String,
    size: u64,
    /// The next byte to give.
    at: u64,
    current: usize,
    stream: Option<Stream>,
    retry: Retry,
    /// Failures in a row.
    failures: u32,
    /// Bytes since the last failure.
    fresh: u64,
    /// All bytes that came.
    received: u64,
    on_switch: Box<dyn FnMut(&Switch<'_>) + Send + 'a>,
}

impl std::fmt::Debug for RemoteImage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteImage")
            .field("servers", &self.servers)
            .field("path", &self.path)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl<'a> RemoteImage<'a> {
    /// The image at `path` on `servers` (base URLs, the best first), which has `size` bytes, as the
    /// signed index says. `on_switch` is told whenever something was wrong and is tried again.
    pub fn new(
        client: Client,
        servers: &[String],
        path: &str,
        size: u64,
        retry: Retry,
        on_switch: impl FnMut(&Switch<'_>) + Send + 'a,
    ) -> Self {
        Self {
            client,
            servers: servers.iter().map(|s| Server { base: s.clone(), unfit: false }).collect(),
            path: path.to_owned(),
            size,
            at: 0,
            current: 0,
            stream: None,
            retry,
            failures: 0,
            fresh: 0,
            received: 0,
            on_switch: Box::new(on_switch),
        }
    }

    /// How many bytes have come over the network.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Reads some bytes; 0 at the image's end.
    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, RemoteError> {
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        if want == 0 {
            return Ok(0);
        }
        loop {
            match self.attempt(buffer.get_mut(..want).unwrap_or_default()) {
                Ok(got) => {
                    self.at += got as u64;
                    self.received += got as u64;
                    self.fresh += got as u64;
                    if self.fresh >= self.retry.progress {
                        self.failures = 0;
                    }
                    return Ok(got);
                }
                Err(problem) => self.failed(problem)?,
            }
        }
    }

    /// Reads some bytes from the current server, more than none.
    fn attempt(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let server = self.servers.get_mut(self.current).ok_or(Problem::NoServer)?;
                let url = format!("{}{}", server.base, self.path);
                let part = self.client.open_range(&url, self.at).map_err(|e| e.problem)?;
                if let Some(found) = part.total.filter(|total| *total != self.size) {
                    server.unfit = true;
                    return Err(Problem::OtherFile { found, expected: self.size });
                }
                none.insert(part.stream)
            }
        };
        match stream.read_some(buffer)? {
            0 => Err(Problem::Cut { got: self.at, expected: self.size }),
            got => Ok(got),
        }
    }

    /// Goes to the next server, unless there was no progress for too long.
    fn failed(&mut self, problem: Problem) -> Result<(), RemoteError> {
        self.stream = None;
        self.fresh = 0;
        self.failures += 1;
        let error = problem.at(&self.url());
        let fit = self.servers.iter().filter(|s| !s.unfit).count();
        let round = u32::try_from(fit).unwrap_or(u32::MAX);
        if fit == 0 || self.failures >= round.saturating_mul(self.retry.rounds) {
            return Err(RemoteError { at: self.at, size: self.size, last: error });
        }
        if self.failures.is_multiple_of(round) {
            thread::sleep(self.retry.pause);
        }
        self.switch(&error, self.at);
        Ok(())
    }

    /// Goes to the next server that is fit; to the same one if it is the only one.
    fn switch(&mut self, error: &FetchError, at: u64) {
        self.stream = None;
        let count = self.servers.len();
        let after = (1..=count).map(|step| (self.current + step) % count);
        let fit = |n: &usize| self.servers.get(*n).is_some_and(|s| !s.unfit);
        if let Some(next) = after.into_iter().find(fit) {
            self.current = next;
        }
        let next = self.servers.get(self.current).map_or("", |s| s.base.as_str());
        (self.on_switch)(&Switch { error, next, at });
    }

    fn url(&self) -> String {
        self.servers.get(self.current).map_or("", |s| s.base.as_str()).to_owned() + &self.path
    }
}

impl Read for RemoteImage<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer).map_err(io::Error::other)
    }
}

impl FrameSource for RemoteImage<'_> {
    fn read_frame(
        &mut self,
        frame: &PlacedFrame,
        avoid: Option<Origin>,
        packed: &mut Vec<u8>,
    ) -> Result<Origin, SourceError> {
        // Other threads may have found the same server out before: then it is not the current one.
        if avoid == Some(Origin(self.current)) {
            let error = Problem::Forged.at(&self.url());
            self.switch(&error, frame.packed_offset);
        }
        if self.at != frame.packed_offset {
            self.at = frame.packed_offset;
            self.stream = None;
        }
        packed.resize(frame.frame.packed as usize, 0);
        let mut filled = 0;
        while let Some(buffer) = packed.get_mut(filled..).filter(|b| !b.is_empty()) {
            match self.read_some(buffer).map_err(SourceError::new)? {
                0 => {
                    let size = self.size;
                    let last =
                        Problem::Cut { got: size, expected: frame_end(frame) }.at(&self.path);
                    return Err(SourceError::new(RemoteError { at: size, size, last }));
                }
                got => filled += got,
            }
        }
        Ok(Origin(self.current))
    }
}

fn frame_end(frame: &PlacedFrame) -> u64 {
    frame.packed_offset.saturating_add(frame.frame.packed.into())
}
