//! A build runs in mount and process namespaces of its own: nothing stays mounted and nothing keeps running, however it
//! ends, `kill -9` included.
//!
//! ```text
//! gse              makes the namespaces, and waits
//! └── gse --inside its first process (pid 1 there): the build. It dies with its parent, and the kernel ends
//!     ├── …        everything else there with it, and with the last process the mounts are gone
//! ```

use std::{
    env,
    io::{self, PipeWriter, pipe, stdin},
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        signal::{self, SigSet},
        signalfd::{SfdFlags, SignalFd},
    },
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    mount::{MountPropagationFlags, mount_change},
    process::{Pid, PidfdFlags, Signal, pidfd_open, set_parent_process_death_signal},
};

/// Why a build cannot be shut in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refuses.
    #[error(
        "making mount and process namespaces for the build; only root may, and not in a container without CAP_SYS_ADMIN"
    )]
    Unshare(#[source] io::Error),
    /// The build does not start.
    #[error("starting gse again inside the namespaces")]
    Start(#[source] io::Error),
    /// The first process died before the build began.
    #[error("the gse that started this build is gone")]
    Orphaned,
}

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited(ExitStatus),
    /// Somebody asked for it, as with Ctrl-C; nothing of it runs any more.
    Interrupted(i32),
}

/// Runs this program again with `more` behind its arguments, shut in, and waits for its end.
///
/// # Errors
/// If it cannot be started.
pub fn run_inside(more: &str) -> Result<End, Error> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)
        .map_err(|e| Error::Unshare(e.into()))?;
    // What the host unmounts goes away here too; what is mounted here is never seen there.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|e| Error::Unshare(e.into()))?;
    let signals = signals().map_err(|e| Error::Start(e.into()))?;
    let (reader, _lifeline): (_, PipeWriter) = pipe().map_err(Error::Start)?;
    // Questions are asked on the terminal, so standard input is free to tell whether this process still lives.
    let child = Command::new("/proc/self/exe")
        .args(env::args_os().skip(1))
        .arg(more)
        .stdin(Stdio::from(reader))
        .spawn();
    child.and_then(|child| wait(child, &signals)).map_err(Error::Start)
}

/// What asks a build to end. Its first process would not hear of it: for that of a namespace, signals that it does not handle do
/// not exist. What is started gets signals as usual again: the standard library sees to that.
fn signals() -> nix::Result<SignalFd> {
    let mut asked = SigSet::empty();
    for signal in [signal::SIGHUP, signal::SIGINT, signal::SIGTERM] {
        asked.add(signal);
    }
    asked.thread_block()?;
    SignalFd::with_flags(&asked, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Waits for the end of the build, or ends it.
fn wait(mut child: Child, signals: &SignalFd) -> io::Result<End> {
    let end = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    loop {
        let mut fds = [PollFd::new(&end, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        if let Some(signal) = signals.read_signal()? {
            child.kill()?;
            // The kernel ends all of a process namespace before its first process counts as ended.
            child.wait()?;
            return Ok(End::Interrupted(i32::try_from(signal.ssi_signo).unwrap_or_default()));
        }
        if let Some(status) = child.try_wait()? {
            return Ok(End::Exited(status));
        }
    }
}

/// From here on this process ends when the one that called [`run_inside`] does.
///
/// # Errors
/// If that one is gone already.
pub fn die_with_parent() -> Result<(), Error> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| Error::Start(e.into()))?;
    // If it died before that call, nobody holds the other end of the pipe any more.
    let input = stdin();
    let mut lifeline = [PollFd::new(&input, PollFlags::empty())];
    match poll(&mut lifeline, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Error::Orphaned),
        Err(Errno::INTR) => die_with_parent(),
        Err(e) => Err(Error::Start(e.into())),
    }
}
