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
    process::{Command, ExitStatus, Stdio},
};

use nix::sched::{CloneFlags, unshare};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    mount::{MountPropagationFlags, mount_change},
    process::{Signal, set_parent_process_death_signal},
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

/// Runs this program again with `more` behind its arguments, shut in, and waits for its end.
///
/// # Errors
/// If it cannot be started.
pub fn run_inside(more: &str) -> Result<ExitStatus, Error> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)
        .map_err(|e| Error::Unshare(e.into()))?;
    // What the host unmounts goes away here too; what is mounted here is never seen there.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|e| Error::Unshare(e.into()))?;
    let (reader, _lifeline): (_, PipeWriter) = pipe().map_err(Error::Start)?;
    // Questions are asked on the terminal, so standard input is free to tell whether this process still lives.
    let child = Command::new("/proc/self/exe")
        .args(env::args_os().skip(1))
        .arg(more)
        .stdin(Stdio::from(reader))
        .spawn();
    child.and_then(|mut child| child.wait()).map_err(Error::Start)
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
