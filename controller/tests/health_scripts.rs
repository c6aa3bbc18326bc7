//! The administrator's checks are real programs, and do what real programs do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use gse_controller::startup::scripts::{Check, Outcome, run_all};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tempfile::TempDir;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

struct Checks {
    dir: TempDir,
}

impl Checks {
    fn new(programs: &[(&str, &str)]) -> Self {
        let checks = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(checks.programs()).unwrap();
        for (name, text) in programs {
            checks.add(name, &format!("#!/bin/sh\n{text}\n"));
        }
        checks
    }

    fn add(&self, name: &str, text: &str) {
        // By another process: one that this forks in another thread's test would have the file open for
        // writing for a moment, and nobody can execute it then.
        let mut install = Command::new("install");
        install.args(["-m", "755", "/dev/stdin"]).arg(self.programs().join(name));
        let mut install = install.stdin(Stdio::piped()).spawn().unwrap();
        install.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(install.wait().unwrap().success());
    }

    fn programs(&self) -> PathBuf {
        self.dir.path().join("health.d")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, limit: Duration) -> Vec<Check> {
        run_all(&self.programs(), limit, &self.file("log")).unwrap()
    }

    fn only(&self, limit: Duration) -> Check {
        let mut checks = self.run(limit);
        assert_eq!(checks.len(), 1, "{checks:?}");
        checks.remove(0)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap()
    }
}

/// Waits until a process that was killed is gone: the kernel takes a moment to do it.
fn dies(pid: &str) -> bool {
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let limit = Timespec::try_from(LONG).unwrap();
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

#[test]
fn programs_run_in_the_order_of_their_names_and_all_of_them_count() {
    let checks =
        Checks::new(&[("20-b", "echo b; exit 7"), ("10-a", "echo a"), ("30-c", "kill -9 $$")]);
    let found = checks.run(LONG);
    let names: Vec<_> = found.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["10-a", "20-b", "30-c"]);
    assert_eq!(found[0].complaint(), None);
    assert_eq!(found[1].complaint().unwrap(), "the check 20-b ended with exit status: 7");
    assert_eq!(found[2].complaint().unwrap(), "the check 30-c ended with signal: 9 (SIGKILL)");
    assert_eq!(found[1].said, ["b"]);
    let log = checks.log();
    assert!(
        log.contains("10-a: Passed") && log.contains("\na\n") && log.contains("\nb\n"),
        "{log}"
    );
}

#[test]
fn a_directory_that_is_missing_or_empty_has_no_complaints() {
    let checks = Checks::new(&[]);
    assert_eq!(checks.run(LONG), []);
    fs::remove_dir(checks.programs()).unwrap();
    assert_eq!(checks.run(LONG), []);
}

#[test]
fn a_directory_that_cannot_be_read_is_an_error() {
    let checks = Checks::new(&[]);
    fs::remove_dir(checks.programs()).unwrap();
    fs::write(checks.programs(), "").unwrap();
    let error = run_all(&checks.programs(), LONG, Path::new("/dev/null")).unwrap_err();
    assert!(format!("{error:#}").contains("health.d"), "{error:#}");
}

#[test]
fn what_is_not_executable_is_no_check() {
    let checks = Checks::new(&[("10-a", "exit 1")]);
    let path = checks.programs().join("10-a");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::create_dir(checks.programs().join("20-directory")).unwrap();
    assert_eq!(checks.run(LONG), []);
}

#[test]
fn what_cannot_be_run_has_not_passed() {
    let checks = Checks::new(&[]);
    symlink("/nonexistent/check", checks.programs().join("10-gone")).unwrap();
    checks.add("20-interpreter", "#!/nonexistent/shell\n");
    for check in checks.run(LONG) {
        let complaint = check.complaint().unwrap();
        assert!(complaint.contains("could not be run: No such file"), "{complaint}");
    }
}

#[test]
fn a_program_that_hangs_is_ended_with_its_children() {
    let checks = Checks::new(&[]);
    let pids = checks.file("pids");
    // Neither asks nicely, and the child outlives its parent's death.
    let text = format!(
        "#!/bin/sh\ntrap '' TERM INT HUP\n(trap '' TERM HUP; sleep 1000) &\necho $$ $! >{}\necho waiting\nwait",
        pids.display()
    );
    checks.add("10-hangs", &text);
    let check = checks.only(Duration::from_secs(2));
    assert_eq!(check.outcome, Outcome::TimedOut(2));
    assert_eq!(check.said, ["waiting"]);
    assert!(check.took_ms >= 2000, "{check:?}");
    for pid in fs::read_to_string(pids).unwrap().split_whitespace() {
        assert!(dies(pid), "{pid} lives");
    }
}

#[test]
fn a_child_that_is_left_behind_neither_delays_nor_survives() {
    let checks = Checks::new(&[]);
    let pid = checks.file("pid");
    // It holds the output open, and goes on talking.
    let text = "#!/bin/sh\n(while :; do echo still here; done) &\necho $! >";
    checks.add("10-leaves", &format!("{text}{}\n", pid.display()));
    let started = Instant::now();
    let check = checks.only(LONG);
    assert_eq!(check.outcome, Outcome::Passed);
    assert!(started.elapsed() < LONG / 2);
    let pid = fs::read_to_string(pid).unwrap();
    assert!(dies(&pid), "{pid} lives");
}

#[test]
fn of_megabytes_of_output_the_end_is_kept() {
    let checks = Checks::new(&[(
        "10-talks",
        "i=0; while [ $i -lt 4000 ]; do printf '%0999d\\n' $i; i=$((i+1)); done; echo the end; exit 1",
    )]);
    let check = checks.only(LONG);
    assert_eq!(check.said.last().unwrap(), "the end");
    assert_eq!(check.said.len(), 10);
    assert!(check.said.iter().all(|line| line.len() <= 200));
    let log = checks.log();
    assert!(log.contains("bytes before these are left out"), "{}", &log[..200]);
    assert!(log.len() < 200_000 && log.ends_with("the end\n"), "{}", log.len());
}

#[test]
fn who_never_stops_talking_is_late() {
    let checks = Checks::new(&[("10-yes", "while :; do echo yes; done")]);
    let check = checks.only(Duration::from_secs(1));
    assert_eq!(check.outcome, Outcome::TimedOut(1));
}

#[test]
fn a_program_gets_a_clean_environment_and_nothing_to_read() {
    assert!(std::env::vars().count() > 4, "this test has an environment of its own");
    let checks = Checks::new(&[("10-env", "cat; pwd; env | sort")]);
    let check = checks.only(LONG);
    let names: Vec<_> = check.said.iter().filter_map(|line| line.split('=').next()).collect();
    assert_eq!(names, ["/", "HOME", "LC_ALL", "PATH", "PWD"], "{check:?}");
}
