//! A command that runs inside the menu: what it has printed, and how far it is.

use crate::build::hook::Hook;

/// Lines that are kept.
const KEPT: usize = 10_000;

/// What the screen shows of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The arguments of gse.
    pub arguments: Vec<String>,
    /// What is offered when it did well: the arguments of another command.
    pub then: Option<Vec<String>>,
    /// What it has printed.
    pub log: Vec<String>,
    /// What is printed of the line that is not complete yet.
    rest: String,
    /// How it ended, if it has.
    pub end: Option<End>,
    /// How many lines the end of the log is below what is shown.
    pub scrolled: usize,
    /// Whether it is a build, which has steps.
    steps: bool,
    /// The last step that began, by its place among all.
    step: Option<usize>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It did what was asked for.
    Well,
    /// With an exit code that says that something went wrong.
    Failed(i32),
    /// By a signal.
    Stopped,
}

impl Job {
    /// A command that begins.
    pub fn new(arguments: Vec<String>, then: Option<Vec<String>>) -> Self {
        let steps = arguments.iter().any(|argument| argument.starts_with("--base"));
        Self {
            arguments,
            then,
            log: Vec::new(),
            rest: String::new(),
            end: None,
            scrolled: 0,
            steps,
            step: None,
        }
    }

    /// It has printed something. Escape sequences are left out, and what a carriage return takes back.
    pub fn print(&mut self, bytes: &[u8]) {
        self.rest.push_str(&String::from_utf8_lossy(bytes));
        while let Some(at) = self.rest.find('\n') {
            let line: String = self.rest.drain(..=at).collect();
            self.line(line.trim_end_matches(['\n', '\r']));
        }
    }

    fn line(&mut self, line: &str) {
        let line = plain(line.rsplit('\r').next().unwrap_or(line));
        if self.steps {
            let begins = work().position(|hook| hook.does() == line);
            self.step = begins.or(self.step);
        }
        self.log.push(line);
        if self.log.len() > KEPT {
            self.log.remove(0);
        }
        if self.scrolled > 0 {
            self.scrolled += 1;
        }
    }

    /// It ended.
    pub fn ended(&mut self, end: End) {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.line(&rest);
        }
        self.end = Some(end);
    }

    /// What is offered now.
    pub fn offer(&self) -> Option<&Vec<String>> {
        self.then.as_ref().filter(|_| self.end == Some(End::Well))
    }

    /// Which step of how many has begun, and its name.
    pub fn progress(&self) -> Option<(usize, usize, &'static str)> {
        let at = self.step?;
        Some((at + 1, work().count(), work().nth(at)?.does()))
    }

    /// Scrolls by lines; up is negative.
    pub fn scroll(&mut self, by: isize) {
        let most = self.log.len().saturating_sub(1);
        self.scrolled = self.scrolled.saturating_add_signed(-by).min(most);
    }
}

/// Hook points that have work of their own.
fn work() -> impl Iterator<Item = Hook> {
    Hook::all().filter(|hook| hook.place().is_some())
}

/// Text without control characters: what a program prints must not move the cursor in the menu.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            // A control sequence ends with a letter or `~` (ECMA-48, 5.4).
            '\u{1b}' if rest.clone().next() == Some('[') => {
                let _ = rest.by_ref().skip(1).find(|c| ('@'..='~').contains(c));
            }
            '\t' => out.push_str("    "),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_becomes_plain_lines() {
        let mut job = Job::new(Vec::new(), None);
        job.print(b"\x1b[32mgreen\x1b[0m li");
        job.print(b"ne\n10%\r20%\r\nlast");
        assert_eq!(job.log, ["green line", "20%"]);
        job.ended(End::Well);
        assert_eq!(job.log.last().map(String::as_str), Some("last"));
        assert_eq!(job.progress(), None);
    }

    #[test]
    fn a_build_is_as_far_as_the_last_step_that_it_named() {
        let mut job = Job::new(vec!["--base=precomp".to_owned()], None);
        job.print(b"Checking this machine\nsomething\n");
        assert_eq!(
            job.progress().map(|(at, _, name)| (at, name)),
            Some((1, "Checking this machine"))
        );
        job.print(b"Updating Portage\n");
        let (at, of, name) = job.progress().unwrap_or_default();
        assert!(at > 1 && at < of && name == "Updating Portage");
    }

    #[test]
    fn a_log_that_is_scrolled_stays_where_it_is() {
        let mut job = Job::new(Vec::new(), None);
        job.print(b"1\n2\n3\n");
        job.scroll(-1);
        job.print(b"4\n");
        assert_eq!(job.scrolled, 2);
        job.scroll(9);
        assert_eq!(job.scrolled, 0);
    }
}
