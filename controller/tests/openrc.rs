//! The services that OpenRC runs, by the shell that it runs them with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Lines},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use gse_controller::services::{self, PROGRAM};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

/// OpenRC's part of a service: what it defines before the service's own text, and what it calls then. Each look that the
/// service takes is told.
const OPENRC_RUN: &str = r#"
ebegin() { :; }
eend() { return "$1"; }
sleep() { echo waits >"$TOLD"; command sleep 0.02; }
. "$1"
start
"#;

/// In the place of the controller: tells what it is called for.
const TELLS: &str = r#"sh -c 'echo "$0" >"$TOLD"'"#;

/// A machine whose `gse-up` tells here what it does.
struct Machine {
    dir: TempDir,
    told: Lines<BufReader<File>>,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("etc/runlevels")).unwrap();
        fs::create_dir(at("svc")).unwrap();
        services::install(dir.path(), false).unwrap();
        let service = fs::read_to_string(at("etc/init.d/gse-up")).unwrap();
        assert!(service.contains(PROGRAM));
        fs::write(at("gse-up"), service.replace(PROGRAM, TELLS)).unwrap();
        mknodat(CWD, at("told"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        // Open for writing too: without a writer there would be an end.
        let told = File::options().read(true).write(true).open(at("told")).unwrap();
        Self { told: BufReader::new(told).lines(), dir }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Starts the service as the process `openrc` does; none: as a person does.
    fn start(&self, openrc: Option<&Child>) {
        let mut shell = Command::new("sh");
        shell.args(["-c", OPENRC_RUN, "openrc-run"]).arg(self.at("gse-up"));
        shell.env("RC_SVCDIR", self.at("svc")).env("TOLD", self.at("told"));
        shell.env_remove("RC_PID");
        if let Some(openrc) = openrc {
            shell.env("RC_PID", openrc.id().to_string());
        }
        assert!(shell.status().unwrap().success());
    }

    fn hears(&mut self) -> String {
        self.told.next().unwrap().unwrap()
    }

    /// What comes after it has waited.
    fn hears_at_last(&mut self) -> String {
        loop {
            let told = self.hears();
            if told != "waits" {
                return told;
            }
        }
    }
}

/// A process that ends with its standard input.
fn openrc() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

fn end(mut openrc: Child) {
    drop(openrc.stdin.take());
    openrc.wait().unwrap();
}

#[test]
fn a_system_is_up_when_the_openrc_that_started_it_has_ended() {
    let mut machine = Machine::new();
    let openrc = openrc();
    fs::create_dir(machine.at("svc/rc.starting")).unwrap();
    machine.start(Some(&openrc));
    assert_eq!(machine.hears(), "waits");
    // As another openrc does at its end.
    fs::remove_dir(machine.at("svc/rc.starting")).unwrap();
    for _ in 0..3 {
        assert_eq!(machine.hears(), "waits");
    }
    end(openrc);
    assert_eq!(machine.hears_at_last(), "up");
}

#[test]
fn a_system_is_not_up_while_openrc_says_that_it_starts() {
    let mut machine = Machine::new();
    fs::create_dir(machine.at("svc/rc.starting")).unwrap();
    machine.start(None);
    assert_eq!(machine.hears(), "waits");
    fs::remove_dir(machine.at("svc/rc.starting")).unwrap();
    assert_eq!(machine.hears_at_last(), "up");
}

#[test]
fn a_service_that_a_person_starts_later_reports_at_once() {
    let mut machine = Machine::new();
    machine.start(None);
    assert_eq!(machine.hears(), "up");
}
