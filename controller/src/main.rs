//! `/init` of a lab machine, and the program by which the booted system reports to it.

use std::{env, fs, io::Write as _, process::ExitCode, sync::Arc};

use gse_controller::{
    boot,
    cmdline::CmdLine,
    disk::records::CycleState,
    log::{self, Log},
    report, rescue, supervisor, switch_root,
};

const USAGE: &str = "usage: gse-controller up|closed
  up       this system has come up (called by a service that the controller installs)
  closed   this system is about to be switched off (likewise)
As PID 1 of an initramfs it boots the machine.";

fn main() -> ExitCode {
    let word = env::args().nth(1).unwrap_or_default();
    if std::process::id() == 1 {
        supervisor::run();
    }
    match word.as_str() {
        "worker" => worker(),
        "rescue" => {
            // The exit code is the whole answer.
            std::process::exit(rescue::run().code());
        }
        switch_root::EMPTY => {
            switch_root::empty_initramfs();
            ExitCode::SUCCESS
        }
        "up" => tell(CycleState::Up, "up"),
        "closed" => tell(CycleState::Closed, "closed"),
        _ => {
            let _ = writeln!(std::io::stderr(), "{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// The boot: what it finds out is left in files for the supervisor.
fn worker() -> ExitCode {
    let cmdline = CmdLine::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    let log = Arc::new(Log::new(cmdline.flag("gse.debug")));
    let done = boot::run(Arc::clone(&log), cmdline)
        .and_then(|handover| handover.store().map_err(anyhow::Error::from));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let reason = log::reason(&e);
            log.warn(&reason);
            if let Err(e) = fs::write(supervisor::FAILURE, reason) {
                log.warn(format_args!("writing {}: {e}", supervisor::FAILURE));
            }
            ExitCode::FAILURE
        }
    }
}

/// From the booted system: one line on its console, and the record.
fn tell(state: CycleState, word: &str) -> ExitCode {
    match report::report(state, &Log::console()) {
        Ok(()) => {
            let console = fs::OpenOptions::new().write(true).open("/dev/console");
            // Where there is no console nobody misses the line.
            let _ = console.and_then(|mut console| writeln!(console, "gse: this system is {word}"));
            ExitCode::SUCCESS
        }
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "gse-controller {word}: {}", log::reason(&e));
            ExitCode::FAILURE
        }
    }
}
