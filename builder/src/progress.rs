//! Progress of long work: a bar on a terminal, a line every few seconds elsewhere.

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often there is a line where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Where progress goes. Any thread may report.
pub struct Progress {
    style: Style,
    bar: Mutex<Bar>,
    /// What has been reported since the bar last heard of it.
    pending: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Bar,
    Lines,
    Silent,
}

struct Bar {
    bar: ProgressBar,
    what: String,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    /// Shows nothing.
    pub fn silent() -> Self {
        Self::new(Style::Silent)
    }

    /// A bar on standard error if that is a terminal, else lines there.
    pub fn stderr() -> Self {
        Self::new(if io::stderr().is_terminal() { Style::Bar } else { Style::Lines })
    }

    fn new(style: Style) -> Self {
        let now = Instant::now();
        let bar =
            Bar { bar: ProgressBar::hidden(), what: String::new(), started: now, last_line: now };
        Self { style, bar: Mutex::new(bar), pending: AtomicU64::new(0) }
    }

    /// Work of `total` bytes begins; `what` names it ("packing").
    pub fn begin(&self, what: &str, total: u64) {
        let mut state = self.lock();
        let target = match self.style {
            Style::Bar => ProgressDrawTarget::stderr(),
            Style::Lines | Style::Silent => ProgressDrawTarget::hidden(),
        };
        state.bar = ProgressBar::with_draw_target(Some(total), target);
        let template = "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            state.bar.set_style(style.progress_chars("=> "));
        }
        state.bar.set_message(what.to_owned());
        state.what = what.to_owned();
        state.started = Instant::now();
        state.last_line = state.started;
        self.pending.store(0, Ordering::Relaxed);
    }

    /// `bytes` more are done.
    pub fn advance(&self, bytes: u64) {
        if self.style == Style::Silent {
            return;
        }
        self.pending.fetch_add(bytes, Ordering::Relaxed);
        // Whoever holds the bar just drew it: the next report takes these bytes along.
        let Ok(mut state) = self.bar.try_lock() else { return };
        state.bar.inc(self.pending.swap(0, Ordering::Relaxed));
        if self.style == Style::Lines && state.last_line.elapsed() >= LINE_EVERY {
            state.last_line = Instant::now();
            eprintln!("{}", state.line());
        }
    }

    /// A line for the person, above the bar.
    pub fn note(&self, text: &str) {
        match self.style {
            Style::Bar => self.lock().bar.suspend(|| eprintln!("{text}")),
            Style::Lines => eprintln!("{text}"),
            Style::Silent => {}
        }
    }

    /// The work is over, well or not: the bar goes away.
    pub fn finish(&self) {
        self.lock().bar.finish_and_clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Bar> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bar {
    fn line(&self) -> String {
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let rate = done as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let left = Duration::from_secs_f64(total.saturating_sub(done) as f64 / rate.max(1.0));
        format!(
            "{}: {} of {} ({}%), {}/s, {} left",
            self.what,
            BinaryBytes(done),
            BinaryBytes(total),
            (done * 100).checked_div(total).unwrap_or(100),
            BinaryBytes(rate as u64),
            HumanDuration(left),
        )
    }
}
