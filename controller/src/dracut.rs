//! The controller in an initramfs of dracut's, where each of its hooks calls this program.
//!
//! At `cmdline` the controller says whether the boot is its own; at `pre-mount` it runs phases 1 to 8, at
//! `mount` it mounts the system that they chose, and at `pre-pivot` it does phase 9. In between dracut does
//! what it does with every root. Whatever fails ends in the controller's rescue: dracut's emergency shell
//! asks nobody for a password.

use std::{
    fs,
    os::fd::AsFd,
    path::Path,
    process::{Command, ExitCode},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::{
    boot::{self, Failed, Host, Ready},
    cmdline::CmdLine,
    handover::Handover,
    log::{Log, reason},
    mount::NEW_ROOT,
    supervisor,
};

/// What dracut and systemd start where nothing else is asked for.
const USUAL_INIT: &str = "/sbin/init";
/// Where dracut looks for kernel options of the image; `real_init=` is the first that counts.
const CMDLINE_D: &str = "/etc/cmdline.d";
/// Where systemd looks for changes to the unit that enters the root.
const SWITCH_ROOT_D: &str = "/run/systemd/system/initrd-switch-root.service.d";

/// A hook at which there is something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Phases 1 to 8.
    PreMount,
    /// The root.
    Mount,
    /// Phase 9.
    PrePivot,
}

impl Stage {
    /// The stage of a hook point.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::PreMount, Self::Mount, Self::PrePivot].into_iter().find(|stage| stage.word() == word)
    }

    fn word(self) -> &'static str {
        match self {
            Self::PreMount => "pre-mount",
            Self::Mount => "mount",
            Self::PrePivot => "pre-pivot",
        }
    }
}

/// Whether the kernel command line means this boot for the controller: by `root=gse`, or by `gse` beside the
/// `root=LABEL=SYSFS` that a boot loader may have had before.
pub fn claims(cmdline: &CmdLine) -> bool {
    match cmdline.value("root") {
        Some("gse") => true,
        Some("LABEL=SYSFS") => cmdline.flag("gse"),
        _ => false,
    }
}

/// What a hook asks for.
pub fn hook(word: &str) -> ExitCode {
    let cmdline = CmdLine::read(Path::new("/"), Path::new("/proc"));
    if !claims(&cmdline) {
        return ExitCode::FAILURE;
    }
    match (word, Stage::from_word(word)) {
        ("cmdline", _) => ExitCode::SUCCESS,
        ("emergency", _) => emergency(),
        (_, Some(stage)) => supervise(stage),
        (_, None) => ExitCode::from(2),
    }
}

/// Runs the stage in a child, and rescue when it fails. Comes back when the stage is done.
fn supervise(stage: Stage) -> ExitCode {
    take_console();
    supervisor::prepare();
    let log = Log::new(false);
    let mut first = stage;
    while let Err(why) = supervisor::attempt(&["dracut-worker", first.word(), stage.word()]) {
        supervisor::rescue(&why, &log);
        first = Stage::PreMount;
    }
    ExitCode::SUCCESS
}

/// dracut gives up. There is nothing to try again: it has been at work for minutes.
fn emergency() -> ExitCode {
    take_console();
    supervisor::prepare();
    let why = "dracut could not go on; the lines above say why";
    supervisor::rescue(why, &Log::new(false));
    supervisor::reboot_now()
}

/// The stages from `first` to `last`. Where the chosen system cannot be mounted, another is chosen.
///
/// # Errors
/// Why no system could be started.
pub fn work(first: Stage, last: Stage, log: &Arc<Log>, cmdline: &CmdLine) -> Result<()> {
    let mut failed = Vec::new();
    let mut first = first;
    loop {
        if first == Stage::PreMount {
            boot::run(Host::Dracut, Arc::clone(log), cmdline.clone(), &failed, &|ready, log| {
                ready.store(log)
            })?;
        }
        let ready = Ready::load()?;
        let Err(e) = start(&ready, first, last, cmdline, log) else { return Ok(()) };
        failed.push(Failed { ready, why: reason(&e) });
        first = Stage::PreMount;
    }
}

fn start(ready: &Ready, first: Stage, last: Stage, cmdline: &CmdLine, log: &Log) -> Result<()> {
    if first <= Stage::Mount && last >= Stage::Mount {
        ready.mount()?;
    }
    if last == Stage::PrePivot {
        let handover = ready.mount_over(cmdline, log)?;
        name_init(&handover, cmdline, log)?;
    }
    Ok(())
}

/// Where the configuration names an init of its own, dracut or systemd is told. Both obey `init=` on the
/// kernel command line by themselves.
fn name_init(handover: &Handover, cmdline: &CmdLine, log: &Log) -> Result<()> {
    let init = &handover.init;
    if init == USUAL_INIT || cmdline.value("init").is_some() {
        return Ok(());
    }
    log.debug(format_args!("starting {init}"));
    let write = |directory: &str, name: &str, text: String| {
        let file = Path::new(directory).join(name);
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&file, text))
            .with_context(|| format!("writing {}", file.display()))
    };
    write(CMDLINE_D, "90-gse-init.conf", format!("real_init={init}\n"))?;
    if !Path::new("/run/systemd/system").exists() {
        return Ok(());
    }
    let unit = format!(
        "[Service]\nExecStart=\nExecStart=systemctl --no-block switch-root {NEW_ROOT} {init}\n"
    );
    write(SWITCH_ROOT_D, "gse.conf", unit)?;
    let status = Command::new("systemctl").arg("daemon-reload").status();
    let done = status.context("starting systemctl")?.success();
    anyhow::ensure!(done, "systemctl daemon-reload failed, so {init} would not be started");
    Ok(())
}

/// Waits until udevd has done what the kernel told it so far. udevadm has a time limit of its own.
pub fn wait_for_udev() {
    // Without udevadm there is no udevd to wait for.
    let _ = Command::new("udevadm").arg("settle").status();
}

/// systemd gives its services no keyboard and no screen.
fn take_console() {
    let console = fs::OpenOptions::new().read(true).write(true).open("/dev/console");
    if let Ok(console) = console {
        let console = console.as_fd();
        // What stays as it was is no worse than before.
        let _ = dup2_stdin(console);
        let _ = dup2_stdout(console);
        let _ = dup2_stderr(console);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_is_claimed_by_root_gse_and_by_its_old_name() {
        for (line, expected) in [
            ("root=gse", true),
            ("root=/dev/sda1 root=gse quiet", true),
            ("root=LABEL=SYSFS gse", true),
            ("gse root=LABEL=SYSFS ro", true),
            ("root=LABEL=SYSFS", false),
            ("root=LABEL=SYSFS gse=0", false),
            ("root=LABEL=BACKUPFS gse", false),
            ("gse gse.debug", false),
            ("root=gse root=/dev/sda1", false),
            ("", false),
        ] {
            assert_eq!(claims(&CmdLine::parse(line)), expected, "{line}");
        }
    }

    #[test]
    fn stages_come_in_the_order_of_dracuts_hooks() {
        let stages = ["pre-mount", "mount", "pre-pivot"].map(Stage::from_word);
        assert!(stages.is_sorted() && stages.iter().all(Option::is_some));
        assert_eq!(Stage::from_word("cmdline"), None);
    }
}
