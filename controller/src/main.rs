//! `/init` of a lab machine, and the program by which the booted system reports to it.

use std::{env, fs, io::Write as _, path::Path, process::ExitCode, sync::Arc};

use gse_controller::{
    boot::{self, Failed, Host},
    cmdline::CmdLine,
    disk::records::CycleState,
    dracut::{self, Stage},
    log::{self, Log},
    report, rescue, supervisor,
};

const USAGE: &str = "usage: gse-controller up|closed|dracut HOOK
  up       this system has come up (called by a service that the controller installs)
  closed   this system is about to be switched off (likewise)
  dracut   in an initramfs of dracut's: its hooks are cmdline, pre-mount, mount, pre-pivot, emergency
As PID 1 of an initramfs it boots the machine.";

fn main() -> ExitCode {
    let word = env::args().nth(1).unwrap_or_default();
    if std::process::id() == 1 {
        supervisor::run();
    }
    match word.as_str() {
        "worker" => worker(|log, cmdline| {
            let handover = boot::run(
                Host::Controller,
                Arc::clone(log),
                cmdline.clone(),
                &Failed::new(),
                &|ready, log| {
                    ready.mount()?;
                    ready.mount_over(log)
                },
            )?;
            Ok(handover.store()?)
        }),
        "dracut" => dracut::hook(&env::args().nth(2).unwrap_or_default()),
        "dracut-worker" => {
            let stage = |nth| env::args().nth(nth).as_deref().and_then(Stage::from_word);
            match stage(2).zip(stage(3)) {
                Some((first, last)) => {
                    worker(|log, cmdline| dracut::work(first, last, log, cmdline))
                }
                None => usage(),
            }
        }
        "rescue" => {
            // The exit code is the whole answer.
            std::process::exit(rescue::run().code());
        }
        "up" => tell(CycleState::Up, "up"),
        "closed" => tell(CycleState::Closed, "closed"),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{USAGE}");
    ExitCode::from(2)
}

/// The boot, or a part of it: what it finds out is left in files for the supervisor.
fn worker(work: impl FnOnce(&Arc<Log>, &CmdLine) -> anyhow::Result<()>) -> ExitCode {
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
