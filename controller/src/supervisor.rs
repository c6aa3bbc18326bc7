//! PID 1: small, so that nothing in it can fail. The boot itself runs in a child; whatever happens to
//! that child, the machine ends in the real system, in rescue, or in a reboot.

use std::{
    fs,
    io::Write as _,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Command, ExitStatus},
    thread,
    time::Duration,
};

use nix::sys::reboot::{RebootMode, reboot};
use rustix::process::{Pid, WaitOptions};

use crate::{
    boot,
    handover::Handover,
    log::Log,
    mount::{self, MountFlags, NEW_ROOT},
    rescue::{self, Choice},
    startup::guard,
    switch_root,
};

/// Where the controller leaves itself and what it found, for the booted system.
pub const RUN_DIR: &str = "/run/gse";
/// Why the worker failed, in one line a cause.
pub const FAILURE: &str = "/run/gse/failure";

/// Runs the boot, and never returns: the real init takes this process over, or the machine reboots.
pub fn run() -> ! {
    prepare();
    let log = Log::new(false);
    loop {
        let why = match attempt(&["worker"]) {
            Ok(()) => match Handover::load() {
                // Comes back only when the real system could not be entered.
                Ok(handover) => switch_root::enter(&handover, &log),
                Err(e) => format!("the boot ended without saying what to start ({e})"),
            },
            Err(why) => why,
        };
        rescue(&why, &log);
        if !Path::new(boot::CONFIG_D).exists() {
            // The initramfs was given up already, so there is nothing to try again with.
            reboot_now();
        }
        if let Err(e) = mount::detach_below(Path::new(NEW_ROOT)) {
            log.warn(e);
        }
    }
}

/// Runs this program again with these words.
///
/// # Errors
/// Why it failed: what it left in [`FAILURE`], or how it ended.
pub(crate) fn attempt(words: &[&str]) -> Result<(), String> {
    let _ = fs::remove_file(FAILURE);
    match run_child(words) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failure(status)),
        Err(e) => Err(format!("the boot could not be started ({e})")),
    }
}

/// Tells the person why there is no system. Comes back when the boot is to be tried again.
pub(crate) fn rescue(why: &str, log: &Log) {
    let _ = fs::write(FAILURE, why);
    guard::end(Path::new(RUN_DIR));
    let choice = match run_child(&["rescue"]) {
        Ok(status) => status.code().and_then(Choice::from_code),
        Err(_) => None,
    };
    match choice {
        Some(Choice::Retry) => {}
        Some(Choice::PowerOff) => end(RebootMode::RB_POWER_OFF),
        Some(Choice::Reboot) => reboot_now(),
        None => {
            // Rescue itself broke: a person gets the time to read what is on the screen.
            let wait = rescue::BROKEN_DELAY;
            log.warn(format_args!("{why}; rebooting in {} s", wait.as_secs()));
            thread::sleep(wait);
            reboot_now()
        }
    }
}

/// Restarts the machine, after what was written has reached the disks.
pub(crate) fn reboot_now() -> ! {
    end(RebootMode::RB_AUTOBOOT)
}

/// The kernel's own filesystems, where they are not there yet. Where one cannot be mounted, the worker fails
/// with a message.
pub(crate) fn prepare() {
    let none = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mounts = [
        ("proc", "/proc", none, ""),
        ("sysfs", "/sys", none, ""),
        ("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755"),
        ("tmpfs", "/run", MountFlags::NOSUID | MountFlags::NODEV, "mode=0755"),
        // Of its own, because some systems forbid programs in /run, and the controller is one.
        ("tmpfs", RUN_DIR, MountFlags::NOSUID | MountFlags::NODEV, "mode=0755"),
    ];
    for (fstype, target, flags, data) in mounts {
        // /proc has to be there before mountinfo can say what is.
        let done = if fstype == "proc" && !Path::new("/proc/self").exists() {
            mount::mount(Path::new(fstype), Path::new(target), fstype, flags, data)
        } else {
            mount::mount_virtual(fstype, target, flags, data)
        };
        if let Err(e) = done {
            let _ = writeln!(std::io::stderr(), "gse: {e}");
        }
    }
    // systemd shares all mounts with whoever wants to see them, and what is shared cannot be moved.
    if let Err(e) = mount::make_private(Path::new(RUN_DIR)) {
        let _ = writeln!(std::io::stderr(), "gse: {e}");
    }
    // All that the controller says belongs into the log, however much it is in a second.
    let _ = fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
}

/// Runs this program again, and reaps whatever else ends in the meantime.
fn run_child(words: &[&str]) -> std::io::Result<ExitStatus> {
    let child = Command::new("/proc/self/exe").arg0("gse-controller").args(words).spawn()?;
    let pid = Pid::from_child(&child);
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((ended, status))) if ended == pid => {
                return Ok(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn failure(status: ExitStatus) -> String {
    let told = fs::read_to_string(FAILURE).unwrap_or_default();
    match (told.trim(), status.signal()) {
        ("", Some(signal)) => format!("the controller was ended by signal {signal}; this is a bug"),
        ("", None) => "the controller stopped without a reason; this is a bug".to_owned(),
        (told, _) => told.to_owned(),
    }
}

/// Ends the machine's life, after what was written has reached the disks.
pub(crate) fn end(mode: RebootMode) -> ! {
    rustix::fs::sync();
    loop {
        let _ = reboot(mode);
        // Only a kernel without the right to reboot gets here; PID 1 must not end.
        thread::sleep(Duration::from_secs(60));
        let _ = reboot(RebootMode::RB_AUTOBOOT);
    }
}
