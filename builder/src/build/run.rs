//! Commands: plain data, run with everything they print in the log.

use std::{
    fmt,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::log::{Log, Stream};

/// A program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cmd {
    /// Looked for in `PATH`.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Beside the environment that the runner gives.
    pub env: Vec<(String, String)>,
    /// Where it runs; where this process is, without it.
    pub folder: Option<PathBuf>,
}

impl Cmd {
    /// A program without arguments.
    pub fn new(program: impl Into<String>) -> Self {
        Self { program: program.into(), ..Self::default() }
    }

    /// With one more argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With more arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// With a path as one more argument. Paths here are this program's own or come from TOML, so they are text.
    pub fn path(self, path: impl AsRef<std::path::Path>) -> Self {
        let path = path.as_ref().to_string_lossy().into_owned();
        self.arg(path)
    }

    /// With a variable of the environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// As a shell would read it.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}={} ", quoted(value))?;
        }
        f.write_str(&quoted(&self.program))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

/// A word as a shell reads it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A command that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{command} {how}{}", said(.last))]
pub struct Failed {
    /// As a shell would read it.
    pub command: String,
    /// Its end, or why it did not start.
    pub how: String,
    /// The last that it printed, as errors or otherwise: Portage says why an ebuild fails on standard output.
    pub last: String,
}

fn said(last: &str) -> String {
    if last.is_empty() { String::new() } else { format!("; it said:\n{}", last.trim_end()) }
}

/// Bytes that are kept to be shown.
const KEPT: usize = 4096;

/// Runs commands.
#[derive(Debug)]
pub struct Runner<'a> {
    log: &'a Log,
    /// The whole environment of commands; that of this process, without it.
    environment: Option<Vec<(String, String)>>,
}

impl<'a> Runner<'a> {
    /// Commands get the environment of this process.
    pub fn new(log: &'a Log) -> Self {
        Self { log, environment: None }
    }

    /// Commands get this environment, and nothing else.
    pub fn with_environment(log: &'a Log, environment: Vec<(String, String)>) -> Self {
        Self { log, environment: Some(environment) }
    }

    /// Where what commands print goes.
    pub fn log(&self) -> &'a Log {
        self.log
    }

    /// Runs it to its end, without anything to read.
    ///
    /// # Errors
    /// If it does not start, or ends with anything but success.
    pub fn run(&self, cmd: &Cmd) -> Result<(), Failed> {
        self.log.command(cmd);
        self.watch(cmd, |stream, bytes| self.log.output(stream, bytes))
    }

    /// Runs it, and gives what it prints as output, which is shown too.
    ///
    /// # Errors
    /// If it does not start, or ends with anything but success.
    pub fn run_and_read(&self, cmd: &Cmd) -> Result<String, Failed> {
        self.log.command(cmd);
        let mut text = Vec::new();
        self.watch(cmd, |stream, bytes| {
            if stream == Stream::Out {
                text.extend_from_slice(bytes);
            }
            self.log.output(stream, bytes);
        })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs it, and gives what it prints; only the logs see it.
    ///
    /// # Errors
    /// If it does not start, or ends with anything but success.
    pub fn read(&self, cmd: &Cmd) -> Result<String, Failed> {
        self.log.command(cmd);
        let mut text = Vec::new();
        self.watch(cmd, |stream, bytes| match stream {
            Stream::Out => text.extend_from_slice(bytes),
            Stream::Err => self.log.output(stream, bytes),
        })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The command for `std`, without its input and output.
    pub fn command(&self, cmd: &Cmd) -> Command {
        let mut command = Command::new(&cmd.program);
        command.args(&cmd.args);
        if let Some(environment) = &self.environment {
            command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
        }
        command.envs(cmd.env.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &cmd.folder {
            command.current_dir(folder);
        }
        command
    }

    fn watch(&self, cmd: &Cmd, mut see: impl FnMut(Stream, &[u8])) -> Result<(), Failed> {
        let failed = |how: String, last: &[u8]| Failed {
            command: cmd.to_string(),
            how,
            last: String::from_utf8_lossy(last).into_owned(),
        };
        let mut command = self.command(cmd);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| failed(format!("does not start: {e}"), b""))?;
        let mut tail = Vec::new();
        let watched = follow(&mut child, |stream, bytes| {
            see(stream, bytes);
            tail.extend_from_slice(bytes);
            let surplus = tail.len().saturating_sub(KEPT);
            tail.drain(..surplus);
        });
        let status = watched
            .and_then(|()| child.wait())
            .map_err(|e| failed(format!("cannot be followed: {e}"), &tail))?;
        if status.success() { Ok(()) } else { Err(failed(ended(status), &tail)) }
    }
}

/// How a process ended, after its name.
pub fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with {code}"),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => "ended".to_owned(),
    }
}

/// Reads both streams until the child has ended. What the child leaves running, a daemon with the streams still open,
/// is not waited for.
fn follow(child: &mut Child, mut see: impl FnMut(Stream, &[u8])) -> io::Result<()> {
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Ok(());
    };
    let end = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    for fd in [out.as_fd(), err.as_fd()] {
        fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
    }
    let (mut out_open, mut err_open, mut ended) = (true, true, false);
    while !ended && (out_open || err_open) {
        ended = wait(&[(out.as_fd(), out_open), (err.as_fd(), err_open)], end.as_fd())?;
        out_open = out_open && drain(&mut out, |bytes| see(Stream::Out, bytes))?;
        err_open = err_open && drain(&mut err, |bytes| see(Stream::Err, bytes))?;
    }
    Ok(())
}

/// Waits until there is something to read, or `end` has come, which is the answer.
fn wait(streams: &[(BorrowedFd<'_>, bool)], end: BorrowedFd<'_>) -> io::Result<bool> {
    let open = streams.iter().filter(|(_, open)| *open);
    let mut fds: Vec<_> = std::iter::once(end)
        .chain(open.map(|(fd, _)| *fd))
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    loop {
        match poll(&mut fds, None) {
            Ok(_) => return Ok(fds.first().is_some_and(|fd| !fd.revents().is_empty())),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Reads what is there now. The answer is whether more can come.
fn drain(stream: &mut impl Read, mut see: impl FnMut(&[u8])) -> io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(read) => see(buffer.get(..read).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::build::log::Mode;

    fn with_runner<T>(work: impl FnOnce(&Runner<'_>) -> T) -> (T, String) {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), Mode::Quiet).unwrap();
        let result = work(&Runner::new(&log));
        (result, std::fs::read_to_string(folder.path().join("build.log")).unwrap())
    }

    fn shell(script: &str) -> Cmd {
        Cmd::new("sh").args(["-c", script])
    }

    #[test]
    fn commands_are_shown_as_a_shell_reads_them() {
        let cmd = Cmd::new("emerge").args(["--quiet", "=a/b-1.0", "it's", ""]).env("USE", "a b");
        assert_eq!(cmd.to_string(), r"USE='a b' emerge --quiet =a/b-1.0 'it'\''s' ''");
    }

    #[test]
    fn what_a_command_prints_is_logged_and_the_end_of_it_is_kept() {
        let script = "seq 1 2000; echo out; exit 3";
        let (result, log) = with_runner(|runner| runner.run(&shell(script)));
        let failed = result.unwrap_err();
        assert_eq!(failed.how, "ended with 3");
        assert!(failed.last.ends_with("1999\n2000\nout\n") && failed.last.len() == KEPT);
        assert!(log.starts_with("+ sh -c ") && log.contains("\n1000\n") && log.contains("\nout\n"));
    }

    #[test]
    fn a_command_that_leaves_a_daemon_is_not_waited_for() {
        let script = "sleep 1000 & echo $!";
        let (pid, _) = with_runner(|runner| runner.read(&shell(script)).unwrap());
        let (_, _) = with_runner(|runner| runner.run(&Cmd::new("kill").arg(pid.trim())).unwrap());
    }

    #[test]
    fn a_program_that_is_missing_or_killed_is_told() {
        let (result, _) = with_runner(|runner| runner.run(&Cmd::new("gse-no-such-program")));
        assert!(result.unwrap_err().how.starts_with("does not start"));
        let (result, _) = with_runner(|runner| runner.run(&shell("kill -9 $$")));
        assert_eq!(result.unwrap_err().how, "was killed by signal 9");
    }

    #[test]
    fn the_environment_is_what_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), Mode::Quiet).unwrap();
        let path = ("PATH".to_owned(), "/usr/bin:/bin".to_owned());
        let runner = Runner::with_environment(&log, vec![path]);
        let text = runner.read(&Cmd::new("env").env("A", "b")).unwrap();
        assert_eq!(text, "A=b\nPATH=/usr/bin:/bin\n");
    }
}
