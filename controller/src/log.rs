//! What a person sees on the console, what the kernel log keeps, and how long each phase took.

use std::{
    fmt::Display,
    fs::{File, OpenOptions},
    io::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Writes to the console (standard output) and to `/dev/kmsg` where there is one.
pub struct Log {
    /// Standard output has the answer to a question: lines go to standard error.
    aside: bool,
    kmsg: Option<Mutex<File>>,
    debug: bool,
    started: Instant,
    phases: Mutex<Vec<PhaseTime>>,
    progress: Mutex<Option<Progress>>,
}

/// How long a phase took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// The phase, as the console names it.
    pub phase: String,
    /// Milliseconds since the controller started.
    pub start_ms: u64,
    /// Milliseconds that the phase took.
    pub took_ms: u64,
}

struct Progress {
    since: Instant,
    shown: Instant,
}

impl Log {
    /// A log that writes to the console, and to `/dev/kmsg` if that can be opened.
    pub fn new(debug: bool) -> Self {
        Self::with_kmsg(debug, OpenOptions::new().write(true).open("/dev/kmsg").ok())
    }

    /// A log that writes to the console alone, for tests and for the booted system.
    pub fn console() -> Self {
        Self::with_kmsg(false, None)
    }

    /// As [`Log::console`], on standard error: for a program whose answer is on standard output.
    pub fn aside() -> Self {
        Self { aside: true, ..Self::console() }
    }

    fn with_kmsg(debug: bool, kmsg: Option<File>) -> Self {
        Self {
            aside: false,
            kmsg: kmsg.map(Mutex::new),
            debug,
            started: Instant::now(),
            phases: Mutex::default(),
            progress: Mutex::default(),
        }
    }

    /// A line for the person at the console.
    pub fn info(&self, line: impl Display) {
        self.write(6, &line, true);
    }

    /// A line about something that did not go as it should, but that the boot survives.
    pub fn warn(&self, line: impl Display) {
        self.write(4, &line, true);
    }

    /// A line for the kernel log; for the console too with `gse.debug`.
    pub fn debug(&self, line: impl Display) {
        self.write(7, &line, self.debug);
    }

    /// Does `work` and keeps how long it took under the name `phase`.
    pub fn phase<T>(&self, phase: &str, work: impl FnOnce() -> T) -> T {
        let start = self.started.elapsed();
        let out = work();
        let took = self.started.elapsed().saturating_sub(start);
        lock(&self.phases).push(PhaseTime {
            phase: phase.to_owned(),
            start_ms: millis(start),
            took_ms: millis(took),
        });
        self.debug(format_args!("{phase}: {} ms", millis(took)));
        out
    }

    /// The phases so far.
    pub fn timings(&self) -> Vec<PhaseTime> {
        lock(&self.phases).clone()
    }

    /// How far a long work is, in bytes: shown at most each second, with rate and time left.
    pub fn progress(&self, what: &str, done: u64, total: u64) {
        let mut guard = lock(&self.progress);
        let now = Instant::now();
        let state = guard.get_or_insert(Progress { since: now, shown: now });
        let finished = done >= total;
        if now.duration_since(state.shown) < Duration::from_secs(1) && !finished {
            return;
        }
        state.shown = now;
        let seconds = now.duration_since(state.since).as_secs_f64();
        let rate = if seconds > 0.0 { done as f64 / seconds } else { 0.0 };
        let left = if rate > 0.0 { total.saturating_sub(done) as f64 / rate } else { 0.0 };
        let percent = (done.min(total) * 100).checked_div(total).unwrap_or(100);
        let line = format!(
            "{what}: {percent:3} %, {} of {} MiB, {:.1} MiB/s, {left:.0} s left",
            done >> 20,
            total >> 20,
            rate / (1 << 20) as f64,
        );
        if finished {
            *guard = None;
        }
        drop(guard);
        // Not for the kernel log, which it would fill.
        self.show(&line);
    }

    fn show(&self, line: &dyn Display) {
        // Where there is no console left, nobody can be told about that either.
        let _ = match self.aside {
            true => writeln!(std::io::stderr().lock(), "gse: {line}"),
            false => writeln!(std::io::stdout().lock(), "gse: {line}"),
        };
    }

    fn write(&self, level: u8, line: &dyn Display, console: bool) {
        if console {
            self.show(line);
        }
        // The kernel shows its log on the same console, up to level 6: not what stands there already.
        let level = if console { 7 } else { level };
        if let Some(kmsg) = &self.kmsg {
            // One write is one record; the kernel cuts what is longer than a record.
            let record = format!("<{level}>gse: {line}\n");
            let _ = lock(kmsg).write_all(record.as_bytes());
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its causes, each once: many of them name their cause themselves.
pub fn reason(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow!("no space").context("writing /a: no space").context("installing");
        assert_eq!(super::reason(&error), "installing: writing /a: no space");
    }
}
