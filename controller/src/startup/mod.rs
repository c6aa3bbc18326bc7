//! What a startup of the installed system is held to, and what came of it: from the handover until the
//! system has reported.

pub mod guard;
pub mod scripts;

use std::{fs, io, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use gse_protocol::config::{Health, Mounts, health::Watchdog};
use serde::{Deserialize, Serialize};

use self::scripts::Check;
use crate::{
    cmdline::CmdLine,
    files,
    log::Log,
    services::{self, Manager, PROGRAM},
    supervisor::RUN_DIR,
};

/// The name, in [`RUN_DIR`], of what the configuration says about health.
const POLICY: &str = "health-policy.json";
/// The name, in [`RUN_DIR`], of what came of the startup. There is no such file before that.
pub const VERDICT: &str = "health.json";
/// The administrator's own checks, in the booted system.
pub const SCRIPTS: &str = "/etc/gse/health.d";
/// What they said.
const SCRIPTS_LOG: &str = "/var/log/gse-health.log";
const KERNEL_PANIC: &str = "/proc/sys/kernel/panic";

/// What came of a startup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the system is up and well.
    pub up: bool,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was checked.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// Leaves it for whoever asks. The guard of the startup sees that its duty is done.
    pub fn store(&self, info: &Path) -> Result<()> {
        let path = info.join(VERDICT);
        let json = serde_json::to_vec_pretty(self).context("writing down how the startup went")?;
        files::replace(&path, &json, 0o644).with_context(|| format!("writing {}", path.display()))
    }
}

/// What is short in a [`Verdict`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Brief {
    /// Whether the system is up and well.
    pub up: bool,
    /// Why it is not.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Brief {
    /// What [`Verdict::store`] left; none while the startup is not over.
    pub fn load(info: &Path) -> Result<Option<Self>> {
        let path = info.join(VERDICT);
        let reading = || format!("reading {}", path.display());
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(reading),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(reading),
        }
    }
}

/// What a system with these mounts and these managers is held to. The services that report for it lie in an `/etc` in
/// memory; an init that has none of them may report by itself.
pub fn held_to(health: &Health, mounts: &Mounts, managers: &[Manager], log: &Log) -> Health {
    let mute = health.require_report && !mounts.has_etc() && !managers.is_empty();
    if mute {
        log.warn(
            "/etc is not in memory, so no service can report how this system is: its life cycles are not counted, and \
             no backup takes over when it fails",
        );
    }
    Health { require_report: health.require_report && !mute, ..health.clone() }
}

/// The last thing before the handover: what watches over the startup is set up.
pub fn begin(root: &Path, health: &Health, cmdline: &CmdLine, log: &Log) -> Result<()> {
    let policy = serde_json::to_vec_pretty(health).context("writing down the health policy")?;
    let path = Path::new(RUN_DIR).join(POLICY);
    fs::write(&path, policy).with_context(|| format!("writing {}", path.display()))?;
    if let Some(seconds) = panic_time(health, cmdline) {
        // A kernel without this setting is no reason not to boot.
        if let Err(e) = fs::write(KERNEL_PANIC, seconds.to_string()) {
            log.warn(format_args!("a kernel panic will not restart this machine: {e}"));
        }
    }
    let managers = Manager::of(root);
    if managers.is_empty() && health.require_report {
        log.warn(format_args!(
            "the image has no init that the controller knows (OpenRC, systemd): it is healthy only if it calls \
             `{PROGRAM} up` and `closed` itself, or if health.require_report is false"
        ));
    }
    if managers.contains(&Manager::Systemd) {
        services::prepare_shutdown()?;
    }
    if needs_guard(health) {
        // Without it, only a startup that hangs is not ended.
        if let Err(e) = guard::start() {
            log.warn(format_args!("nothing will end a startup that hangs: {e}"));
        }
    }
    Ok(())
}

/// What `/proc/sys/kernel/panic` is set to; nothing if the kernel was told.
fn panic_time(health: &Health, cmdline: &CmdLine) -> Option<u32> {
    cmdline.value("panic").is_none().then_some(health.panic_reboot)
}

/// Whether there is anything to guard. A system that need not report cannot be late.
fn needs_guard(health: &Health) -> bool {
    match health.watchdog {
        Watchdog::Always => true,
        Watchdog::Startup => health.require_report,
        Watchdog::Off => health.require_report && health.startup_limit > 0,
    }
}

/// What the configuration says about health; `info` is where the controller left it.
pub fn policy(info: &Path) -> Result<Health> {
    let path = info.join(POLICY);
    let bytes = fs::read(&path).with_context(|| {
        format!("reading {}: was this system started by the controller?", path.display())
    })?;
    serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))
}

/// Runs the administrator's checks.
pub fn check(health: &Health) -> Result<Vec<Check>> {
    let limit = Duration::from_secs(u64::from(health.script_limit));
    scripts::run_all(Path::new(SCRIPTS), limit, Path::new(SCRIPTS_LOG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_word_about_panics_counts() {
        let health = Health::default();
        assert_eq!(panic_time(&health, &CmdLine::parse("quiet")), Some(10));
        assert_eq!(panic_time(&health, &CmdLine::parse("quiet panic=-1")), None);
    }

    #[test]
    fn a_system_that_cannot_report_is_not_held_to_it() {
        let held = |require_report, etc, managers: &[Manager]| {
            let mut mounts = Mounts::default();
            mounts.tmpfs.retain(|tmpfs| etc || tmpfs.path != "/etc");
            let health = Health { require_report, startup_limit: 7, ..Health::default() };
            let held = held_to(&health, &mounts, managers, &Log::aside());
            assert_eq!(Health { require_report, ..held.clone() }, health);
            held.require_report
        };
        for manager in [Manager::OpenRc, Manager::Systemd] {
            assert!(held(true, true, &[manager]));
            assert!(!held(true, false, &[manager]));
            assert!(!held(false, true, &[manager]));
        }
        // Whoever calls the controller from an init of their own needs no service.
        assert!(held(true, false, &[]));
    }

    #[test]
    fn a_system_that_need_not_report_is_not_taken_for_hung() {
        let guarded = |require_report, watchdog, startup_limit| {
            needs_guard(&Health { require_report, watchdog, startup_limit, ..Health::default() })
        };
        assert!(guarded(true, Watchdog::Startup, 600));
        assert!(guarded(true, Watchdog::Startup, 0));
        assert!(guarded(true, Watchdog::Off, 600));
        assert!(!guarded(true, Watchdog::Off, 0));
        assert!(!guarded(false, Watchdog::Startup, 600));
        assert!(!guarded(false, Watchdog::Off, 600));
        assert!(guarded(false, Watchdog::Always, 600));
    }
}
