//! The guard of the startup ([`crate::watchdog`]) as a process: started with the handover, and ended where that fails.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{services::PROGRAM, supervisor::RUN_DIR};

// systemd ends what still runs in its initramfs, but for those with this sign:
// <https://systemd.io/ROOT_STORAGE_DAEMONS/>. No other init minds it.
const NAME: &str = "@gse-controller";
const WORD: &str = "guard";
/// The name, in [`RUN_DIR`], of its process id.
const FILE: &str = "guard.pid";

/// Starts it from the program's copy, because this program's own file goes with the initramfs. One of an earlier try of
/// this boot is ended: its time would be over too soon.
pub(super) fn start() -> io::Result<()> {
    let run = Path::new(RUN_DIR);
    end(run);
    let mut command = Command::new(PROGRAM);
    command.arg0(NAME).arg(WORD).current_dir(run);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut guard = command.spawn()?;
    fs::write(run.join(FILE), guard.id().to_string())?;
    wait(&mut guard)
}

/// Waits until it says that it has open what it needs: with the handover its paths lead nowhere.
fn wait(guard: &mut Child) -> io::Result<()> {
    let said = guard.stdout.take().map_or(Ok(0), |mut stdout| stdout.read(&mut [0]));
    if said? == 0 { Err(io::Error::other("the guard ended at once")) } else { Ok(()) }
}

/// Ends the one that was started, if there is one. The system could not be entered, so there is nothing to guard: it
/// would restart a machine that is in rescue, or is just being installed. `run` is [`RUN_DIR`].
pub fn end(run: &Path) {
    let file = run.join(FILE);
    let pid = fs::read_to_string(&file).ok().and_then(|text| text.parse().ok());
    if let Some(pid) = pid.and_then(Pid::from_raw)
        && is_guard(pid)
    {
        // It stops the watchdog first, and then ends.
        let _ = kill_process(pid, Signal::TERM);
    }
    let _ = fs::remove_file(file);
}

/// The number may be that of another process by now.
fn is_guard(pid: Pid) -> bool {
    let words = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let mut words = words.split(|b| *b == 0);
    words.next() == Some(NAME.as_bytes()) && words.next() == Some(WORD.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn a_guard_has_begun_when_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let say = |script| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]).current_dir(&dir).stdout(Stdio::piped()).spawn()
        };
        let mut guard = say("sleep 0.2; : >begun; echo; exec sleep 60").unwrap();
        wait(&mut guard).unwrap();
        assert!(dir.path().join("begun").exists());
        guard.kill().unwrap();
        guard.wait().unwrap();
        let mut guard = say("exit 0").unwrap();
        assert!(wait(&mut guard).unwrap_err().to_string().contains("ended at once"));
        guard.wait().unwrap();
    }

    #[test]
    fn only_a_guard_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        end(dir.path());
        fs::write(dir.path().join(WORD), "echo\nread -r line\n").unwrap();
        let named = |name: &str| {
            let mut shell = Command::new("sh");
            shell.arg0(name).arg(WORD).current_dir(&dir).stdin(Stdio::piped());
            let mut shell = shell.stdout(Stdio::piped()).spawn().unwrap();
            // Before, /proc may not have its name yet.
            wait(&mut shell).unwrap();
            shell
        };
        for (name, ended) in [(NAME, true), ("sh", false)] {
            let mut process = named(name);
            fs::write(dir.path().join(FILE), process.id().to_string()).unwrap();
            end(dir.path());
            assert!(!dir.path().join(FILE).exists());
            if !ended {
                process.kill().unwrap();
            }
            let signal = if ended { Signal::TERM } else { Signal::KILL };
            assert_eq!(process.wait().unwrap().signal(), Some(signal.as_raw()));
        }
    }
}
