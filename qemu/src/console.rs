//! What a machine prints on its serial console, and what is typed there.

use std::{
    io::{Read, Write},
    process::{ChildStdin, ChildStdout},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::error::{Doing, Error, Result};

/// How many lines an error shows.
const TAIL: usize = 40;

/// A line, without escape sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Since power on: when its first character came.
    pub at: Duration,
    /// Without its line end.
    pub text: String,
}

/// A machine's console. Everything printed is kept.
pub struct Console {
    shared: Arc<Shared>,
    input: Mutex<ChildStdin>,
}

struct Shared {
    started: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    screen: Screen,
    /// Up to here, what was printed has been looked at by `expect`.
    seen: usize,
    closed: bool,
    mirror: Option<Box<dyn Write + Send>>,
}

impl Console {
    /// Reads `output` from now on, in a thread that ends with it.
    pub(crate) fn new(started: Instant, input: ChildStdin, mut output: ChildStdout) -> Self {
        let shared = Arc::new(Shared { started, state: Mutex::default(), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                // A pipe that cannot be read is one that nothing more will come from.
                let count = output.read(&mut buffer).unwrap_or(0);
                let chunk = buffer.get(..count).unwrap_or_default();
                theirs.take(chunk);
                if chunk.is_empty() {
                    return;
                }
            }
        });
        Self { shared, input: Mutex::new(input) }
    }

    /// Also writes all that is printed from now on to `mirror`, as it came.
    pub fn mirror(&self, mirror: impl Write + Send + 'static) {
        self.shared.lock().mirror = Some(Box::new(mirror));
    }

    /// Waits until `pattern` has been printed after what an earlier call found, and says when it was.
    pub fn expect(&self, pattern: &str, timeout: Duration) -> Result<Duration> {
        self.expect_any(&[pattern], timeout).map(|(_, at)| at)
    }

    /// Like [`Console::expect`], for the first of several patterns: its place in `patterns`, and when.
    pub fn expect_any(&self, patterns: &[&str], timeout: Duration) -> Result<(usize, Duration)> {
        let end = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            let found = patterns
                .iter()
                .enumerate()
                .filter_map(|(nth, pattern)| Some((state.screen.find(pattern, state.seen)?, nth)));
            if let Some((end, nth)) = found.min() {
                state.seen = end;
                return Ok((nth, state.screen.time_of(end.saturating_sub(1))));
            }
            let what = || format!("{:?} on the console", patterns.join("\" or \""));
            if state.closed {
                return Err(Error::Ended { what: what(), tail: state.screen.tail(TAIL) });
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let tail = state.screen.tail(TAIL);
                return Err(Error::Timeout { what: what(), after: timeout, tail });
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Types these bytes.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        input
            .write_all(bytes)
            .and_then(|()| input.flush())
            .doing(|| "typing on the machine's console".to_owned())
    }

    /// Types a line and the return key.
    pub fn send_line(&self, line: &str) -> Result<()> {
        self.send(format!("{line}\r").as_bytes())
    }

    /// The lines so far; the last may be incomplete, as a prompt is.
    pub fn lines(&self) -> Vec<Line> {
        self.shared.lock().screen.lines()
    }

    /// Everything so far, without escape sequences.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.lock().screen.text).into_owned()
    }

    /// The last lines, for an error.
    pub fn tail(&self) -> String {
        self.shared.lock().screen.tail(TAIL)
    }

    /// Waits until nothing more can come, because the machine has ended.
    pub(crate) fn wait_closed(&self, timeout: Duration) {
        let state = self.shared.lock();
        drop(self.shared.changed.wait_timeout_while(state, timeout, |s| !s.closed));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, chunk: &[u8]) {
        let mut state = self.lock();
        if chunk.is_empty() {
            state.closed = true;
        } else {
            state.screen.print(chunk, self.started.elapsed());
            if let Some(mirror) = &mut state.mirror {
                // A mirror that is gone is no reason to stop the machine.
                let _ = mirror.write_all(chunk).and_then(|()| mirror.flush());
            }
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// Printed text without escape sequences, and when each part of it came.
#[derive(Debug, Default)]
struct Screen {
    text: Vec<u8>,
    /// From this place in `text` on, it came at that time.
    times: Vec<(usize, Duration)>,
    escape: Escape,
}

/// Where in an escape sequence the text is (ECMA-48, 5.4).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    No,
    /// After ESC.
    Begun,
    /// After ESC and `[`.
    Control,
}

impl Screen {
    fn print(&mut self, chunk: &[u8], at: Duration) {
        self.times.push((self.text.len(), at));
        for byte in chunk {
            self.escape = match (self.escape, byte) {
                (_, 0x1b) => Escape::Begun,
                (Escape::Begun, b'[') => Escape::Control,
                (Escape::Control, 0x20..=0x3f) => Escape::Control,
                (Escape::Begun | Escape::Control, _) => Escape::No,
                (Escape::No, byte) => {
                    if matches!(byte, b'\n' | b'\t' | 0x20..=0x7e | 0x80..) {
                        self.text.push(*byte);
                    }
                    Escape::No
                }
            };
        }
    }

    /// The place after the first `pattern` at or after `from`.
    fn find(&self, pattern: &str, from: usize) -> Option<usize> {
        let rest = self.text.get(from..)?;
        let start = rest.windows(pattern.len().max(1)).position(|w| w == pattern.as_bytes())?;
        Some(from + start + pattern.len())
    }

    fn time_of(&self, place: usize) -> Duration {
        let after = self.times.partition_point(|(start, _)| *start <= place);
        self.times.get(after.saturating_sub(1)).map(|(_, at)| *at).unwrap_or_default()
    }

    fn lines(&self) -> Vec<Line> {
        let mut start = 0;
        let mut lines = Vec::new();
        for line in self.text.split(|b| *b == b'\n') {
            let text = String::from_utf8_lossy(line).trim_end().to_owned();
            lines.push(Line { at: self.time_of(start), text });
            start += line.len() + 1;
        }
        if lines.last().is_some_and(|l| l.text.is_empty()) {
            lines.pop();
        }
        lines
    }

    fn tail(&self, count: usize) -> String {
        let lines = self.lines();
        let tail = lines.get(lines.len().saturating_sub(count)..).unwrap_or_default();
        let shown = tail.iter().map(|l| format!("  {:8.2}  {}", l.at.as_secs_f32(), l.text));
        if tail.is_empty() {
            "  (nothing)".to_owned()
        } else {
            shown.collect::<Vec<_>>().join("\n")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn colours_and_carriage_returns_are_not_text() {
        let mut screen = Screen::default();
        screen.print(b" \x1b[32;01m*\x1b[0m Starting udev ...\r\n\x1b", seconds(1));
        screen.print(b"[39;49", seconds(2));
        screen.print(b"mlab login: ", seconds(3));
        assert_eq!(String::from_utf8_lossy(&screen.text), " * Starting udev ...\nlab login: ");
        assert_eq!(
            screen.lines(),
            [
                Line { at: seconds(1), text: " * Starting udev ...".to_owned() },
                Line { at: seconds(3), text: "lab login:".to_owned() },
            ]
        );
    }

    #[test]
    fn a_pattern_is_found_across_chunks_and_has_the_time_of_its_end() {
        let mut screen = Screen::default();
        screen.print(b"Linux ver", seconds(1));
        assert_eq!(screen.find("Linux version", 0), None);
        screen.print(b"sion 6.1\n", seconds(2));
        let end = screen.find("Linux version", 0).unwrap();
        assert_eq!(screen.time_of(end - 1), seconds(2));
        assert_eq!(screen.time_of(0), seconds(1));
        assert_eq!(screen.find("Linux version", end), None);
    }

    #[test]
    fn the_tail_is_the_last_lines_with_their_times() {
        let mut screen = Screen::default();
        assert_eq!(screen.tail(2), "  (nothing)");
        screen.print(b"one\ntwo\n", seconds(1));
        screen.print(b"three\n", seconds(2));
        assert_eq!(screen.tail(2), "      1.00  two\n      2.00  three");
    }
}
