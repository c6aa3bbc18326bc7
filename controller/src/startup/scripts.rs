//! The administrator's own checks: every program of a directory, one after the other, each with a time limit.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::{fs::PermissionsExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};
use serde::{Deserialize, Serialize};

/// What a program is given. Checks must not depend on what happens to start them.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LC_ALL", "C"),
];
/// How many bytes of what it says are kept, the last.
const KEPT: usize = 64 << 10;
/// How many lines a person is shown.
const SHOWN: usize = 10;
/// How long a program that was killed may take to be gone. One that waits for a disk may never be.
const GRACE: Duration = Duration::from_secs(5);

/// One check, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The program's file name.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Milliseconds that it took.
    pub took_ms: u64,
    /// The last lines that it said.
    pub said: Vec<String>,
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// With 0.
    Passed,
    /// Otherwise: with what.
    Failed(String),
    /// Not within its time, in seconds.
    TimedOut(u64),
    /// It could not be run, and why.
    NotRun(String),
}

impl Check {
    /// Why the system is not healthy, if this says so.
    pub fn complaint(&self) -> Option<String> {
        let name = &self.name;
        match &self.outcome {
            Outcome::Passed => None,
            Outcome::Failed(status) => Some(format!("the check {name} ended with {status}")),
            Outcome::TimedOut(limit) => Some(format!("the check {name} took more than {limit} s")),
            Outcome::NotRun(why) => Some(format!("the check {name} could not be run: {why}")),
        }
    }
}

/// Runs each executable file in `dir`, in the order of their names. That there is no such directory is no
/// mistake. What they say is added to the file `log`.
///
/// # Errors
/// A directory that cannot be read.
pub fn run_all(dir: &Path, limit: Duration, log: &Path) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for path in programs(dir).with_context(|| format!("listing {}", dir.display()))? {
        let started = Instant::now();
        let (outcome, said) =
            run(&path, limit).unwrap_or_else(|e| (Outcome::NotRun(e.to_string()), Tail::default()));
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let check = Check { name, outcome, took_ms, said: said.last_lines(SHOWN) };
        // A log that cannot be written says nothing about the system's health.
        let _ = append(log, &check, &said);
        checks.push(check);
    }
    Ok(checks)
}

/// The files in `dir` that somebody may execute, and links that lead nowhere: a check that is gone has not passed.
fn programs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        match fs::metadata(&path) {
            Ok(meta) if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 => {}
            _ => found.push(path),
        }
    }
    found.sort();
    Ok(found)
}

/// Runs one program, and ends whatever it leaves behind in its process group.
fn run(path: &Path, limit: Duration) -> io::Result<(Outcome, Tail)> {
    let (mut output, theirs) = io::pipe()?;
    let mut command = Command::new(path);
    command.env_clear().envs(ENVIRONMENT).current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(theirs.try_clone()?).stderr(theirs);
    let mut child = command.spawn()?;
    // It has our end of the pipe.
    drop(command);

    let pid = Pid::from_child(&child);
    let mut said = Tail::default();
    let ended = listen(&child, &mut output, &mut said, Instant::now() + limit);
    // Before it is reaped: until then nobody else can have its number.
    let _ = kill_process_group(pid, Signal::KILL);
    let in_time = ended?;
    if !in_time && !listen(&child, &mut output, &mut said, Instant::now() + GRACE)? {
        return Ok((Outcome::NotRun("it cannot be ended".to_owned()), said));
    }
    let status = child.wait()?;
    let outcome = match (in_time, status.success()) {
        (false, _) => Outcome::TimedOut(limit.as_secs()),
        (true, true) => Outcome::Passed,
        (true, false) => Outcome::Failed(status.to_string()),
    };
    Ok((outcome, said))
}

/// Reads what a program says until it has ended, which is the answer, or until `deadline`. Its children may
/// hold its output open for longer.
fn listen(
    child: &Child,
    output: &mut io::PipeReader,
    said: &mut Tail,
    deadline: Instant,
) -> io::Result<bool> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut open = true;
    // Of what is in the pipe when it ends, and not what its children go on to say.
    let mut last_words = KEPT;
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        let source = output.as_fd();
        let mut fds = [PollFd::new(&process, PollFlags::IN), PollFd::new(&source, PollFlags::IN)];
        let watched = fds.get_mut(..if open { 2 } else { 1 }).unwrap_or_default();
        match poll(watched, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        }
        let [ended, readable] = fds.map(|fd| !fd.revents().is_empty());
        if ended && (!readable || last_words == 0) {
            return Ok(true);
        }
        if readable {
            let length = output.read(&mut buffer)?;
            said.add(buffer.get(..length).unwrap_or_default());
            open = length > 0;
            last_words = last_words.saturating_sub(if ended { length } else { 0 });
        }
        // Who never stops talking is late like everybody else.
        if left.is_zero() && !ended {
            return Ok(false);
        }
    }
}

/// The end of what a program says.
#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
    dropped: usize,
}

impl Tail {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        // Not for each byte: moving them takes time.
        if self.bytes.len() > 2 * KEPT {
            let surplus = self.bytes.len() - KEPT;
            self.bytes.drain(..surplus);
            self.dropped += surplus;
        }
    }

    fn last_lines(&self, count: usize) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.bytes);
        let lines: Vec<_> =
            text.lines().rev().filter(|l| !l.trim().is_empty()).take(count).collect();
        lines.into_iter().rev().map(|line| line.chars().take(200).collect()).collect()
    }
}

fn append(log: &Path, check: &Check, said: &Tail) -> io::Result<()> {
    let mut head = format!("{}: {:?} after {} ms\n", check.name, check.outcome, check.took_ms);
    if said.dropped > 0 {
        let _ = writeln!(head, "({} bytes before these are left out)", said.dropped);
    }
    let mut file = OpenOptions::new().append(true).create(true).open(log)?;
    file.write_all(head.as_bytes())?;
    file.write_all(&said.bytes)
}
