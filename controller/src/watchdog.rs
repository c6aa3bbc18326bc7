//! The guard of the installed system: a process of its own that starts with the handover and outlives the
//! initramfs. It feeds the hardware watchdog, if there is one, and ends a startup that takes too long.
//!
//! Nothing else has the watchdog open, so nobody can stop it by mistake; and where even this process gets
//! no turn any more, the watchdog is not fed.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use gse_protocol::config::{Health, health};
use nix::sys::{
    reboot::{RebootMode, reboot},
    signal::{SigSet, Signal},
    signalfd::SignalFd,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, openat},
    process::{chroot, fchdir},
    stdio::dup2_stdout,
};

use crate::{
    boot_log::{self, Outcome},
    log::Log,
    startup,
    supervisor::RUN_DIR,
    sys::watchdog::Watchdog,
};

/// How often it looks around. A watchdog is fed four times in its own time at least.
const PULSE: Duration = Duration::from_secs(2);
/// How long the disks may take to have everything before a restart.
const SYNC_LIMIT: Duration = Duration::from_secs(10);
/// Drivers number watchdogs as they find them.
const NAMES: [&str; 4] = ["watchdog0", "watchdog1", "watchdog2", "watchdog3"];
/// softdog of the kernel: a timer of the same kernel that it would watch.
const SOFTWARE: &str = "Software Watchdog";

/// What there is to do at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// The system is starting, or guarded for as long as it runs.
    Watch,
    /// The system has reported, and looks after itself from here on.
    Release,
    /// The startup hangs.
    Restart,
}

/// What there is to do `elapsed` after the handover.
pub fn duty(policy: &Health, elapsed: Duration, reported: bool) -> Duty {
    let limit = Duration::from_secs(u64::from(policy.startup_limit));
    let limited = policy.require_report && policy.startup_limit > 0;
    match (reported, policy.watchdog) {
        (true, health::Watchdog::Always) => Duty::Watch,
        (true, _) => Duty::Release,
        (false, _) if limited && elapsed >= limit => Duty::Restart,
        (false, _) => Duty::Watch,
    }
}

/// Guards the system. Started before the handover, with what it needs held open: its paths are those of the
/// initramfs, and lead nowhere later.
///
/// # Errors
/// What makes it unable to begin.
pub fn run() -> Result<()> {
    let started = Instant::now();
    let mut policy = startup::policy(Path::new(RUN_DIR))?;
    let directory = |path: &str| -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).with_context(|| format!("opening {path}"))
    };
    let (dev, run) = (directory("/dev")?, directory(RUN_DIR)?);
    let mut kmsg = File::options().write(true).open("/dev/kmsg").context("opening /dev/kmsg")?;
    let mut asked = SigSet::empty();
    asked.add(Signal::SIGTERM);
    asked.thread_block().context("blocking signals")?;
    let asked = SignalFd::new(&asked).context("listening for signals")?;
    begun().context("telling that the guard has begun")?;
    // Of its own, so that no terminal's end is its end; and memory is taken from others first.
    let _ = rustix::process::setsid();
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");

    let (mut dogs, mut found) = (Vec::new(), false);
    loop {
        if !found && policy.watchdog != health::Watchdog::Off {
            // Its driver may come with the system's own modules, long after the handover.
            found = find(&dev, policy.watchdog_limit, &mut dogs);
        }
        let reported = accessat(&run, startup::VERDICT, Access::EXISTS, AtFlags::empty()).is_ok();
        match duty(&policy, started.elapsed(), reported) {
            Duty::Watch => dogs.iter().for_each(|dog| {
                // If that fails, it will show.
                let _ = dog.feed();
            }),
            Duty::Release => {
                dogs = dogs.into_iter().filter_map(|dog| dog.stop().err()).collect();
                if dogs.is_empty() {
                    return Ok(());
                }
                // They have to be fed for as long as the system runs.
                (policy.watchdog, found) = (health::Watchdog::Always, true);
            }
            Duty::Restart => restart(&policy, &mut kmsg, &run),
        }
        if rest(&asked, &dogs)? {
            return dismissed(dogs, reported);
        }
    }
}

/// Lets the handover, which waits for a word on this pipe, go on.
fn begun() -> io::Result<()> {
    let nowhere = File::options().write(true).open("/dev/null")?;
    io::stdout().write_all(b"\n")?;
    Ok(dup2_stdout(nowhere)?)
}

/// Adds the first hardware watchdog that nobody has, started: whether there is one.
fn find(dev: &OwnedFd, limit: u32, dogs: &mut Vec<Watchdog>) -> bool {
    for name in NAMES {
        let Ok(dog) = Watchdog::start(dev, name) else { continue };
        if dog.identity().is_ok_and(|identity| identity == SOFTWARE) {
            // It runs since it was looked at: one that cannot be stopped has to be fed too.
            dogs.extend(dog.stop().err());
            continue;
        }
        // One with a time of its own keeps that.
        let _ = dog.set_timeout(limit);
        dogs.push(dog);
        return true;
    }
    false
}

/// Waits for the next look around; true if this process is asked to end.
fn rest(asked: &SignalFd, dogs: &[Watchdog]) -> Result<bool> {
    let own = dogs.iter().filter_map(|dog| dog.timeout().ok()).filter(|seconds| *seconds > 0);
    let pulse = own.fold(PULSE, |least, own| least.min(Duration::from_secs(u64::from(own)) / 4));
    let timeout = Timespec::try_from(pulse).ok();
    match poll(&mut [PollFd::new(asked, PollFlags::IN)], timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e).context("waiting"),
    }
}

/// The system is shutting down. Before it was up, its watchdogs are stopped: it may be going to a runlevel for
/// one person. Afterwards they go on, and reset a machine whose shutdown hangs.
fn dismissed(dogs: Vec<Watchdog>, reported: bool) -> Result<()> {
    if !reported {
        dogs.into_iter().for_each(|dog| drop(dog.stop()));
    }
    Ok(())
}

/// Ends a startup that hangs. Comes back if even that hangs; the watchdog, no longer fed, does it then.
fn restart(policy: &Health, kmsg: &mut File, run: &OwnedFd) {
    let why = format!("this system was not up after {} s", policy.startup_limit);
    // Level 1 is shown on the console.
    let _ = kmsg.write_all(format!("<1>gse: {why}: the machine restarts\n").as_bytes());
    // The system's own root, where paths lead somewhere: see `run`.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(run, "../..", flags, Mode::empty());
    let there = root.and_then(|root| fchdir(&root)).and_then(|()| chroot("."));
    let (done, synced) = mpsc::channel();
    let sync = move || {
        if there.is_ok() {
            boot_log::keep(Outcome::Failed(&why), &Log::console());
        }
        rustix::fs::sync();
        let _ = done.send(());
    };
    if thread::Builder::new().spawn(sync).is_ok() {
        let _ = synced.recv_timeout(SYNC_LIMIT);
    }
    let _ = reboot(RebootMode::RB_AUTOBOOT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_startup_is_watched_until_it_reports_or_is_late() {
        use health::Watchdog::{Always, Off, Startup};
        let cases = [
            // watchdog, startup_limit, require_report, seconds, reported
            (Startup, 600, true, 0, false, Duty::Watch),
            (Startup, 600, true, 599, false, Duty::Watch),
            (Startup, 600, true, 600, false, Duty::Restart),
            (Startup, 600, true, 700, true, Duty::Release),
            (Startup, 600, false, 700, false, Duty::Watch),
            (Startup, 0, true, 9999, false, Duty::Watch),
            (Off, 600, true, 600, false, Duty::Restart),
            (Off, 600, true, 10, true, Duty::Release),
            (Always, 600, true, 600, false, Duty::Restart),
            (Always, 600, true, 9999, true, Duty::Watch),
        ];
        for (watchdog, startup_limit, require_report, seconds, reported, expected) in cases {
            let policy = Health { watchdog, startup_limit, require_report, ..Health::default() };
            let found = duty(&policy, Duration::from_secs(seconds), reported);
            assert_eq!(found, expected, "{policy:?} after {seconds} s, reported: {reported}");
        }
    }
}
