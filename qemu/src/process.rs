//! Child processes that never outlive their parent.
//!
//! A lab that is interrupted, or a test run that is killed, must leave no QEMU and no server behind.
//! Each child is started with a parent-death signal, which the kernel sends whatever happens here:
//! <https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html>. The "parent" is the thread that
//! forked, so all children are forked by one thread that lives as long as the process.

use std::{
    ffi::OsStr,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{
        Child as StdChild, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio,
    },
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::error::{Doing, Error, Result};

/// A command whose process is killed when this process ends. To be started with [`spawn`].
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A running child process; dropping it kills it.
#[derive(Debug)]
pub struct Child {
    inner: StdChild,
    pidfd: Arc<OwnedFd>,
    name: String,
}

type Request = (Command, mpsc::Sender<io::Result<StdChild>>);

/// Starts a command made by [`command`].
pub fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in requests {
                // Nobody waits for the answer any more: then nobody would wait for the child either.
                if let Err(mpsc::SendError(Ok(mut child))) = reply.send(command.spawn()) {
                    let _ = child.kill();
                }
            }
        });
        sender
    });
    let name = display(&command);
    let (reply, answer) = mpsc::channel();
    let sent = spawner.send((command, reply));
    let gone = || io::Error::other("the thread that starts programs has ended");
    let inner = sent
        .map_err(|_| gone())
        .and_then(|()| answer.recv().map_err(|_| gone())?)
        .map_err(|source| Error::Start { program: name.clone(), source })?;
    let pid = i32::try_from(inner.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Error::Impossible(format!("{name} has no process id")))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).doing(|| format!("watching {name}"))?;
    Ok(Child { inner, pidfd: Arc::new(pidfd), name })
}

impl Child {
    /// The program and its arguments.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes the pipes that were asked for.
    pub fn pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        (self.inner.stdin.take(), self.inner.stdout.take(), self.inner.stderr.take())
    }

    /// Readable once the process has ended.
    pub(crate) fn pidfd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.pidfd)
    }

    /// Waits for its end, at most this long; `None`: it still runs.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        readable(&[self.pidfd.as_fd()], timeout).doing(|| format!("waiting for {}", self.name))?;
        self.inner.try_wait().doing(|| format!("waiting for {}", self.name))
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.inner.wait().doing(|| format!("waiting for {}", self.name))
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        self.inner.kill().doing(|| format!("killing {}", self.name))?;
        self.wait().map(drop)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Err(e) = self.kill() {
            eprintln!("gse-lab: {e}");
        }
    }
}

/// Removes a directory when this process has ended, however it does: killed, interrupted, or with the
/// directory in a variable that is never dropped.
#[derive(Debug)]
pub struct Broom {
    _handle: ChildStdin,
}

impl Broom {
    /// To be kept for as long as the directory is needed.
    pub fn new(dir: &Path) -> Result<Self> {
        // It waits for the other end of its input to go away. Not made by `spawn`: it outlives this process.
        let script =
            "trap '' INT TERM HUP; read -r _; rm -rf \"$1\" || { sleep 1; rm -rf \"$1\"; }";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(dir).stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let started = |source| Error::Start { program: "sh".to_owned(), source };
        let mut child = command.spawn().map_err(started)?;
        let input = child.stdin.take().ok_or_else(|| started(io::Error::other("no pipe")))?;
        Ok(Self { _handle: input })
    }
}

/// Waits until one of these can be read, and says which can be.
pub(crate) fn readable(
    fds: &[std::os::fd::BorrowedFd<'_>],
    timeout: Duration,
) -> io::Result<Vec<bool>> {
    let end = Instant::now() + timeout;
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut polled, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
            Ok(_) => return Ok(polled.iter().map(|p| !p.revents().is_empty()).collect()),
        }
    }
}

/// Runs a command made by [`command`] to its end and returns what it printed on standard output; its
/// standard error goes where it was sent.
pub fn output(mut command: Command) -> Result<String> {
    use std::io::Read as _;
    command.stdout(Stdio::piped());
    let mut child = spawn(command)?;
    let mut text = Vec::new();
    if let (_, Some(mut stdout), _) = child.pipes() {
        stdout.read_to_end(&mut text).doing(|| format!("reading from {}", child.name))?;
    }
    let status = child.wait()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    if status.success() {
        return Ok(text);
    }
    let output = if text.is_empty() { text } else { format!("; it said:\n{}", text.trim_end()) };
    Err(Error::Command { command: child.name.clone(), status: status.to_string(), output })
}

/// The command as a person would type it.
fn display(command: &Command) -> String {
    let mut words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    if let Some(end) = words.iter().position(|w| w == "--") {
        words.drain(..=end);
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn a_child_lives_on_when_the_thread_that_asked_for_it_ends() {
        let mut child = thread::spawn(|| {
            let mut cat = command("cat");
            cat.stdin(Stdio::piped()).stdout(Stdio::null());
            spawn(cat).unwrap()
        })
        .join()
        .unwrap();
        assert!(child.wait_timeout(Duration::from_millis(50)).unwrap().is_none());
        drop(child.pipes());
        let status = child.wait_timeout(Duration::from_secs(20)).unwrap().unwrap();
        assert!(status.success(), "{status}");
    }

    #[test]
    fn a_failed_command_is_named_with_what_it_said() {
        let mut sh = command("sh");
        sh.args(["-c", "echo no such luck; exit 3"]);
        let error = output(sh).unwrap_err().to_string();
        assert!(error.starts_with("sh -c"), "{error}");
        assert!(error.contains("exit status: 3") && error.contains("no such luck"), "{error}");
    }

    #[test]
    fn a_broom_sweeps_when_its_owner_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let swept = dir.path().join("swept");
        std::fs::create_dir(&swept).unwrap();
        let broom = Broom::new(&swept).unwrap();
        assert!(swept.exists());
        drop(broom);
        let end = Instant::now() + Duration::from_secs(30);
        while swept.exists() && Instant::now() < end {
            thread::yield_now();
        }
        assert!(!swept.exists());
    }

    #[test]
    fn dropping_a_child_kills_it() {
        let mut sleep = command("sleep");
        sleep.arg("1000");
        let child = spawn(sleep).unwrap();
        let pidfd = child.pidfd();
        drop(child);
        let ended = readable(&[pidfd.as_fd()], Duration::from_secs(20)).unwrap();
        assert_eq!(ended, [true]);
    }
}
