//! An image on several servers, as one file: what breaks goes on where it broke, on another server.

mod checked;

use std::{
    io,
    io::Read,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    Client, FetchError, Patience, Problem,
    range::{Pace, Stream},
};

/// How often to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How many times all servers are tried without any progress before it is given up.
    pub rounds: u32,
    /// How long to wait between two rounds.
    pub pause: Duration,
    /// How many bytes are progress: a server that cuts each connection after a few is not tried for ever.
    pub progress: u64,
    /// After how long on another server the first one is tried again.
    pub back: Duration,
    /// How long to go on without progress while servers are busy, and say when to come back.
    pub busy: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            rounds: 4,
            pause: Duration::from_secs(3),
            progress: 256 << 10,
            back: Duration::from_secs(60),
            busy: Duration::from_secs(600),
        }
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
#[derive(Debug, Clone)]
struct Server {
    /// With a `/` at its end.
    base: String,
    /// It has not the file, or one of another length, which cannot be the image.
    unfit: bool,
    /// It asked not to be asked before.
    busy: Option<Instant>,
    /// It broke before it was of use, or fell behind: no other server is left for it.
    weak: bool,
}

/// Is told of each [`Switch`].
type OnSwitch<'a> = dyn FnMut(&Switch<'_>) + Send + 'a;

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
    /// Of the current server, over all ranges.
    pace: Pace,
    /// Where the stream ends.
    until: u64,
    /// What will be read, in order.
    runs: Vec<Range<u64>>,
    /// When the first server was left.
    away: Option<Instant>,
    /// When a server first was busy since there was any progress.
    refused: Option<Instant>,
    retry: Retry,
    /// Failures in a row.
    failures: u32,
    /// Bytes since the last failure.
    fresh: u64,
    /// All bytes that came.
    received: u64,
    on_switch: Arc<Mutex<OnSwitch<'a>>>,
    /// Further connections, where it was split.
    others: Vec<Self>,
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
            servers: servers
                .iter()
                .map(|s| Server { base: s.clone(), unfit: false, busy: None, weak: false })
                .collect(),
            path: path.to_owned(),
            size,
            at: 0,
            current: 0,
            stream: None,
            pace: Pace::default(),
            until: size,
            runs: Vec::new(),
            away: None,
            refused: None,
            retry,
            failures: 0,
            fresh: 0,
            received: 0,
            on_switch: Arc::new(Mutex::new(on_switch)),
            others: Vec::new(),
        }
    }

    /// The same file, by a connection of its own.
    fn another(&self) -> Self {
        Self {
            client: self.client.clone(),
            servers: self.servers.clone(),
            path: self.path.clone(),
            runs: self.runs.clone(),
            on_switch: Arc::clone(&self.on_switch),
            stream: None,
            pace: Pace::default(),
            others: Vec::new(),
            received: 0,
            ..*self
        }
    }

    /// How many bytes have come over the network.
    pub fn received(&self) -> u64 {
        self.received + self.others.iter().map(Self::received).sum::<u64>()
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
                        (self.failures, self.refused) = (0, None);
                    }
                    return Ok(got);
                }
                Err(problem) => self.failed(problem)?,
            }
        }
    }

    /// Reads some bytes from the current server, more than none.
    fn attempt(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        self.finish();
        if self.away.is_some_and(|since| since.elapsed() >= self.retry.back) && self.is_free(0) {
            (self.current, self.stream, self.away, self.pace) = (0, None, None, Pace::default());
        }
        let start = Instant::now();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.open()?,
        };
        let left = usize::try_from(self.until - self.at).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        let got = stream.read_some(buffer.get_mut(..want).unwrap_or_default())?;
        if got == 0 {
            return Err(Problem::Cut { got: self.at, expected: self.size });
        }
        let Patience { window, window_bytes, brisk_bytes, .. } = self.client.patience;
        let enough = if self.has_rival() { brisk_bytes } else { window_bytes };
        self.pace.count(got as u64, start.elapsed(), window, enough)?;
        self.stream = Some(stream);
        Ok(got)
    }

    /// Ends a request of which everything has come: once its end was seen, the connection can be used again.
    fn finish(&mut self) {
        if self.at == self.until
            && let Some(mut stream) = self.stream.take()
        {
            let _ = stream.read_some(&mut [0]);
        }
    }

    /// Whether there is another server to go to that may be quicker.
    fn has_rival(&self) -> bool {
        let may_be_quicker = |(number, server): (usize, &Server)| {
            number != self.current && !server.weak && self.is_free(number)
        };
        self.servers.iter().enumerate().any(may_be_quicker)
    }

    /// Asks the current server for what comes next, as far as it will be read.
    fn open(&mut self) -> Result<Stream, Problem> {
        let server = self.servers.get_mut(self.current).ok_or(Problem::NoServer)?;
        let url = format!("{}{}", server.base, self.path);
        let run = self.runs.iter().find(|run| run.contains(&self.at));
        let until = run.map_or(self.size, |run| run.end.min(self.size));
        let to = (until < self.size).then_some(until);
        let part = self.client.open_range(&url, self.at, to).map_err(|e| e.problem);
        if let Err(Problem::Status(404 | 410) | Problem::Encoded(_)) = part {
            server.unfit = true;
        }
        let part = part?;
        if let Some(found) = part.total.filter(|total| *total != self.size) {
            server.unfit = true;
            return Err(Problem::OtherFile { found, expected: self.size });
        }
        self.until = if part.whole { self.size } else { until };
        if part.whole {
            // What was thrown away has come too.
            self.pace.came(self.at);
        }
        Ok(part.stream)
    }

    /// For how long a server is to be left in peace; none if it is of no use.
    fn free_in(&self, number: usize) -> Option<Duration> {
        let server = self.servers.get(number).filter(|s| !s.unfit)?;
        let until = server.busy.map(|until| until.saturating_duration_since(Instant::now()));
        Some(until.unwrap_or_default())
    }

    /// Whether a server may be asked.
    fn is_free(&self, number: usize) -> bool {
        self.free_in(number) == Some(Duration::ZERO)
    }

    /// Goes to the next server that is free, or to the first that comes free, unless there was no progress for too long.
    fn failed(&mut self, problem: Problem) -> Result<(), RemoteError> {
        self.stream = None;
        let useless = std::mem::take(&mut self.fresh) < self.retry.progress;
        let slow = matches!(problem, Problem::Slow { .. });
        let now = Instant::now();
        let busy = match problem {
            Problem::Busy(wait) => now.checked_add(wait),
            _ => None,
        };
        let error = problem.at(&self.url());
        let fit = self.servers.iter().filter(|s| !s.unfit).count();
        let round = u32::try_from(fit).unwrap_or(u32::MAX);
        let mut patience = self.retry.busy;
        if let Some(server) = self.servers.get_mut(self.current) {
            server.busy = busy;
            server.weak |= slow || busy.is_none() && useless;
        }
        if busy.is_some() {
            let since = *self.refused.get_or_insert(now);
            patience = patience.saturating_sub(since.elapsed());
        } else {
            self.failures += 1;
        }
        let tired = self.failures >= round.saturating_mul(self.retry.rounds) || patience.is_zero();
        let next = self.next().filter(|(wait, _)| !tired && *wait <= patience);
        let Some((mut wait, next)) = next else {
            return Err(RemoteError { at: self.at, size: self.size, last: error });
        };
        if busy.is_none() && self.failures.is_multiple_of(round) {
            wait = wait.max(self.retry.pause);
        }
        // Said before: it may be long.
        self.go_to_server(next, &error, self.at);
        if slow {
            // It would be no better in a minute, and take a while to be found out.
            self.away = None;
        }
        thread::sleep(wait);
        Ok(())
    }

    /// The server to ask next, and how long to wait for it: one that is free, and has not proven weak, if there is one.
    fn next(&self) -> Option<(Duration, usize)> {
        let weak = |number: usize| self.servers.get(number).is_some_and(|server| server.weak);
        let fit = self.others_first().filter_map(|number| Some((self.free_in(number)?, number)));
        fit.min_by_key(|(wait, number)| (*wait, weak(*number)))
    }

    /// All servers, from the one after the current one to that.
    fn others_first(&self) -> impl Iterator<Item = usize> + use<> {
        let (current, count) = (self.current, self.servers.len());
        (1..=count).map(move |step| (current + step) % count)
    }

    fn go_to_server(&mut self, number: usize, error: &FetchError, at: u64) {
        (self.stream, self.pace) = (None, Pace::default());
        self.current = number;
        self.away = (number != 0).then(Instant::now);
        let next = self.servers.get(self.current).map_or("", |s| s.base.as_str());
        let mut on_switch = self.on_switch.lock().unwrap_or_else(PoisonError::into_inner);
        on_switch(&Switch { error, next, at });
    }

    /// Makes `to` the next byte to give. What is left out within a run, or by a server without ranges, is read.
    fn go_to(&mut self, to: u64) -> Result<(), RemoteError> {
        let mut buffer = vec![0; if to > self.at { 64 << 10 } else { 0 }];
        while self.stream.is_some() && self.at < to && to < self.until {
            let want = usize::try_from(to - self.at).unwrap_or(usize::MAX).min(buffer.len());
            self.read_some(buffer.get_mut(..want).unwrap_or_default())?;
        }
        if self.at != to {
            self.finish();
            self.stream = None;
            self.at = to;
        }
        Ok(())
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
