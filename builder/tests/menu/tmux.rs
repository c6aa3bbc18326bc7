//! A terminal of tmux, which is read when something was drawn, and never by the clock.

use std::{fs::File, io::Read as _, os::fd::OwnedFd, path::Path, process::Command, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, mkfifoat, open},
};

/// A server of its own with one window; it ends with this.
pub(crate) struct Tmux {
    dir: tempfile::TempDir,
    /// Whatever is drawn comes here too.
    drawn: File,
}

/// Longer than anything here takes, for a test that would wait for ever.
const PATIENCE: Duration = Duration::from_secs(120);

impl Tmux {
    /// Runs a shell command in a terminal of this size.
    pub(crate) fn start(folder: &Path, command: &str, (columns, rows): (u16, u16)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("drawn");
        mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        // Both ends, so that it is never at its end.
        let drawn: OwnedFd = open(&fifo, OFlags::RDWR, Mode::empty()).unwrap();
        let tmux = Self { dir, drawn: drawn.into() };
        // It starts when everything it draws is seen.
        let held = format!("read go; {command}");
        tmux.run(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &columns.to_string(),
            "-y",
            &rows.to_string(),
            "-c",
            folder.to_str().unwrap(),
            &held,
        ]);
        tmux.run(&["pipe-pane", &format!("exec cat >'{}'", fifo.display())]);
        tmux.keys(&["Enter"]);
        tmux
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        // Nothing of the terminal in which the tests run may come through.
        command
            .env_remove("TMUX")
            .env_remove("NO_COLOR")
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "screen-256color");
        command.env("SHELL", "/bin/sh").arg("-u").arg("-S").arg(self.dir.path().join("socket"));
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types keys, by tmux's names.
    pub(crate) fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys"][..], keys].concat());
    }

    pub(crate) fn resize(&self, (columns, rows): (u16, u16)) {
        self.run(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// The screen with its escape sequences.
    pub(crate) fn coloured(&self) -> String {
        self.run(&["capture-pane", "-p", "-e"])
    }

    /// Reads the screen whenever something was drawn, until it is as it should be.
    pub(crate) fn until(&self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let screen = self.run(&["capture-pane", "-p"]);
            if wanted(&screen) {
                return screen;
            }
            let patience = Timespec { tv_sec: PATIENCE.as_secs().try_into().unwrap(), tv_nsec: 0 };
            let ready =
                poll(&mut [PollFd::new(&self.drawn, PollFlags::IN)], Some(&patience)).unwrap();
            assert!(ready > 0, "nothing is drawn any more:\n{screen}");
            let read = (&self.drawn).read(&mut [0; 65536]).unwrap();
            assert!(read > 0);
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").status();
    }
}
