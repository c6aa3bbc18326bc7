//! `/init` of a lab machine, and the program by which the booted system reports to it.

use std::{env, fs, io::Write as _, path::Path, process::ExitCode, sync::Arc};

use anyhow::{Result, bail};
use gse_controller::{
    boot,
    cmdline::CmdLine,
    log::{self, Log},
    report::{self, Place},
    rescue, shutdown, supervisor, switch_root, watchdog,
};

const USAGE: &str = "usage: gse-controller up|closed
  up       this system has come up (called by a service that the controller installs)
  closed   this system is about to be switched off (likewise)
As PID 1 of an initramfs it boots the machine.";

fn main() -> ExitCode {
    let mut words = env::args();
    let program = words.next().unwrap_or_default();
    let word = words.next().unwrap_or_default();
    if std::process::id() == 1 {
        if shutdown::is_asked(Path::new(&program)) {
            shutdown::run(&word);
        }
        supervisor::run();
    }
    let done = match word.as_str() {
        "worker" => return worker(),
        "rescue" => {
            // The exit code is the whole answer.
            std::process::exit(rescue::run().code());
        }
        switch_root::EMPTY => {
            switch_root::empty_initramfs();
            Ok(())
        }
        "guard" => watchdog::run(),
        "up" => up(),
        "closed" => closed(),
        _ => {
            let _ = writeln!(std::io::stderr(), "{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "gse-controller {word}: {}", log::reason(&e));
            ExitCode::FAILURE
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

/// From the booted system: its startup is over. It is healthy if all checks say so.
fn up() -> Result<()> {
    let verdict = report::up(&Place::booted(), &Log::console())?;
    let Some(reason) = &verdict.reason else {
        tell("this system is up");
        return Ok(());
    };
    tell(&format!("this system is not healthy: {reason}"));
    for check in verdict.checks.iter().filter(|check| check.complaint().is_some()) {
        check.said.iter().for_each(|line| tell(&format!("{}: {line}", check.name)));
    }
    bail!("{reason}")
}

/// From the booted system: it is about to be switched off.
fn closed() -> Result<()> {
    report::close(&Place::booted(), &Log::console())?;
    tell("this system is closed");
    Ok(())
}

/// A line on the booted system's console.
fn tell(line: &str) {
    let console = fs::OpenOptions::new().write(true).open("/dev/console");
    // Where there is no console nobody misses the line.
    let _ = console.and_then(|mut console| writeln!(console, "gse: {line}"));
}
