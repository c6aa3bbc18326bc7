//! The person at the console: lines and secrets read with a time limit.

use std::{
    fmt::Display,
    io::{self, Write as _},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    stdio::stdin,
    termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr},
};

/// What came from the keyboard.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// A line, without its end.
    Line(String),
    /// Nobody finished a line in time.
    Silence,
    /// There is no keyboard.
    Closed,
}

/// The longest line that is taken; the rest of a longer one is dropped.
const MAX_LINE: usize = 1024;

/// Shows a line. A console that went away is no reason to panic, which `println!` would.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Shows `prompt` and reads a line. Each key press starts the time anew: who types is there.
pub fn ask(prompt: &str, timeout: Duration) -> Input {
    let mut screen = io::stdout().lock();
    let _ = write!(screen, "{prompt}").and_then(|()| screen.flush());
    drop(screen);
    let input = read_line(timeout);
    if input != Input::Closed && !matches!(input, Input::Line(_)) {
        say("");
    }
    input
}

/// As [`ask`], and what is typed is not shown.
pub fn ask_secret(prompt: &str, timeout: Duration) -> Input {
    let before = tcgetattr(stdin()).ok();
    if let Some(mut quiet) = before.clone() {
        quiet.local_modes.remove(LocalModes::ECHO);
        let _ = tcsetattr(stdin(), OptionalActions::Now, &quiet);
    }
    let input = ask(prompt, timeout);
    if let Some(before) = before {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
    }
    say("");
    input
}

/// Drops what was typed before the question was there.
pub fn drop_typed() {
    let _ = rustix::termios::tcflush(stdin(), rustix::termios::QueueSelector::IFlush);
}

fn read_line(timeout: Duration) -> Input {
    let mut line = Vec::new();
    let mut deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(left) = Timespec::try_from(left) else { return Input::Silence };
        let keyboard = stdin();
        let mut fds = [PollFd::new(&keyboard, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return Input::Silence,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return Input::Closed,
        }
        // A byte at a time: what follows the line belongs to the next question.
        let mut byte = [0];
        match rustix::io::read(keyboard, &mut byte) {
            Ok(0) | Err(_) => return Input::Closed,
            Ok(_) => deadline = Instant::now() + timeout,
        }
        match byte {
            [b'\n' | b'\r'] => return Input::Line(String::from_utf8_lossy(&line).into_owned()),
            [c] if line.len() < MAX_LINE => line.push(c),
            _ => {}
        }
    }
}
