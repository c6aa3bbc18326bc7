//! `/init` of a lab machine, and the program by which the booted system reports to it.

use std::{env, fs, io::Write as _, path::Path, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, bail};
use gse_controller::{
    boot::{self, Host, Ready},
    booted::{self, update, verify::Which},
    cmdline::CmdLine,
    disk::probe::Loops,
    dracut::{self, Stage},
    log::{self, Log},
    report::{self, Place},
    rescue, shutdown, supervisor, switch_root, watchdog,
};

const USAGE: &str = "usage: gse-controller status|verify|plan|fetch|up|closed|dracut HOOK
  status [--json]    which system runs, how it is, when and why this machine last fell back, what its backup is
  verify [--backup]  compares the installed system (or the backup) with what was signed, and lists what differs;
                     ends with 0 if nothing does, 1 if something does, 2 if it could not be found out
  plan [--json]      what the update of the next start would take from where; changes nothing; ends with 0 if nothing is
                     to be fetched, 1 if something is, 2 if it could not be found out
  fetch [--service]  fetches the server's release into the slot that is free, for the next start; with --service each
                     that appears, if the configuration has update.background
  up       this system has come up (called by a service that the controller installs)
  closed   this system is about to be switched off (likewise)
  dracut   in an initramfs of dracut's: its hooks are cmdline, pre-mount, mount, pre-pivot, emergency
As PID 1 of an initramfs it boots the machine.";

fn main() -> ExitCode {
    // The kernel hands unknown words of its command line on, and those may be any bytes.
    let mut words = env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_default();
    let word = words.next().unwrap_or_default();
    if std::process::id() == 1 {
        if shutdown::is_asked(Path::new(&program)) {
            shutdown::run(&word);
        }
        supervisor::run();
    }
    let done = match word.as_str() {
        "worker" => return worker(&own_boot),
        "dracut" => return dracut::hook(&words.next().unwrap_or_default()),
        "dracut-worker" => {
            let mut stage = || Stage::from_word(&words.next()?);
            match stage().zip(stage()) {
                Some((first, last)) => {
                    return worker(&|log, cmdline| dracut::work(first, last, log, cmdline));
                }
                None => return usage(),
            }
        }
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
        "status" => match words.next().as_deref() {
            None => status(false),
            Some("--json") => status(true),
            Some(_) => return usage(),
        },
        "verify" => {
            let which = match words.next().as_deref() {
                None => Which::Running,
                Some("--backup") => Which::Backup,
                Some(_) => return usage(),
            };
            return verify(which);
        }
        "plan" => match words.next().as_deref() {
            None => return plan(false),
            Some("--json") => return plan(true),
            Some(_) => return usage(),
        },
        "fetch" => match words.next().as_deref() {
            None => fetch(),
            Some("--service") => update::serve(&Place::booted(), &Arc::new(Log::new(false))),
            Some(_) => return usage(),
        },
        _ => return usage(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            complain(&word, &e);
            ExitCode::FAILURE
        }
    }
}

fn complain(word: &str, error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "gse-controller {word}: {}", log::reason(error));
}

fn usage() -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{USAGE}");
    ExitCode::from(2)
}

/// The boot in the controller's own initramfs. The supervisor goes on with what it leaves.
fn own_boot(log: &Arc<Log>, cmdline: &CmdLine) -> Result<()> {
    let start = |ready: &Ready, log: &Log| {
        ready.mount()?;
        Ok(ready.mount_over(cmdline, log)?.store()?)
    };
    boot::run(Host::Controller, Arc::clone(log), cmdline.clone(), &[], &start)
}

/// The boot, or a part of it: why it failed is left in a file for the supervisor.
fn worker(work: &dyn Fn(&Arc<Log>, &CmdLine) -> Result<()>) -> ExitCode {
    let cmdline = CmdLine::read(Path::new("/"), Path::new("/proc"));
    let log = Arc::new(Log::new(cmdline.flag("gse.debug")));
    match work(&log, &cmdline) {
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

/// From the booted system: a person asks how it is.
fn status(json: bool) -> Result<()> {
    let status = booted::status::status(&Place::booted())?;
    let text = if json { status.json()? } else { status.to_string() };
    writeln!(std::io::stdout(), "{}", text.trim_end()).context("writing the answer")
}

/// From the booted system: a person asks whether it is what was signed.
fn verify(which: Which) -> ExitCode {
    let verified = booted::verify::verify(&Place::booted(), which, &Log::aside());
    let told = verified.and_then(|verified| {
        writeln!(std::io::stdout(), "{verified}").context("writing the answer")?;
        Ok(verified.is_whole())
    });
    answer("verify", told)
}

/// 0 for yes, 1 for no, 2 if there is no answer.
fn answer(word: &str, told: Result<bool>) -> ExitCode {
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            complain(word, &e);
            ExitCode::from(2)
        }
    }
}

/// From the booted system: a person asks what the next update costs.
fn plan(json: bool) -> ExitCode {
    let planned = update::plan(&Place::booted(), Loops::Ignore, Arc::new(Log::aside()));
    let told = planned.and_then(|planned| {
        let text = if json {
            serde_json::to_string_pretty(&planned).context("writing JSON")?
        } else {
            planned.to_string()
        };
        writeln!(std::io::stdout(), "{}", text.trim_end()).context("writing the answer")?;
        Ok(planned.costs.is_none())
    });
    answer("plan", told)
}

/// From the booted system: a person wants the next update now, as far as that goes.
fn fetch() -> Result<()> {
    let done = update::fetch(&Place::booted(), Loops::Ignore, Arc::new(Log::aside()))?;
    let done = done.as_deref().unwrap_or(update::WAITS);
    writeln!(std::io::stdout(), "{done}").context("writing the answer")
}

/// A line on the booted system's console.
fn tell(line: &str) {
    let console = fs::OpenOptions::new().write(true).open("/dev/console");
    // Where there is no console nobody misses the line.
    let _ = console.and_then(|mut console| writeln!(console, "gse: {line}"));
}
