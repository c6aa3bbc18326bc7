//! What is left to do once a system was chosen and made ready: it is mounted, with everything over it.
//!
//! In the controller's own initramfs this follows at once. In an image of dracut's it follows in calls of
//! their own, from later hooks; what they need to know lies in a file in between.

use std::{
    fs,
    path::Path,
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context as _, Result};
use gse_protocol::config::{Health, Mounts, drives::Filesystem};
use serde::{Deserialize, Serialize};

use crate::{
    boot_log::{self, Outcome},
    cmdline::CmdLine,
    disk::{mount::ROOT_SUBVOLUME, records::Life},
    files,
    handover::Handover,
    log::Log,
    mount::{self, NEW_ROOT, READY},
    mounts::{self, UserData},
    report::{self, BootReport},
    services::{self, Manager},
    startup,
    supervisor::RUN_DIR,
};

const FILE: &str = "/run/gse/ready.json";

/// A system whose root is mounted read-only at [`READY`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    /// What the booted system gets to know.
    pub(super) report: BootReport,
    pub(super) mounts: Mounts,
    pub(super) userdata: Option<UserData>,
    pub(super) health: Health,
    pub(super) handover: Handover,
    /// Whether it is to fetch updates for its next start.
    pub(super) fetches: bool,
}

impl Ready {
    /// Leaves it for a later call.
    ///
    /// # Errors
    /// Those of the file.
    pub fn store(&self, log: &Log) -> Result<()> {
        let mut stored = self.clone();
        stored.report.phases = log.timings();
        let json =
            serde_json::to_vec_pretty(&stored).context("writing down which system to start")?;
        fs::write(FILE, json).with_context(|| format!("writing {FILE}"))
    }

    /// What an earlier call left.
    ///
    /// # Errors
    /// There is none, because no system was made ready.
    pub fn load() -> Result<Self> {
        let bytes = fs::read(FILE).with_context(|| format!("reading {FILE}"))?;
        serde_json::from_slice(&bytes).with_context(|| format!("reading {FILE}"))
    }

    /// Its life cycle as it was before this startup.
    pub(super) fn life(&self) -> Option<Life> {
        self.report.life
    }

    /// Its partition.
    pub(super) fn device(&self) -> &str {
        &self.report.device
    }

    /// Mounts it where the root is entered.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn mount(&self) -> Result<()> {
        Ok(mount::move_to(Path::new(READY), Path::new(NEW_ROOT))?)
    }

    /// Phase 9: what is mounted over it; and the program and the report for the booted system.
    ///
    /// # Errors
    /// A system that would have to do without an `/etc` of its own.
    pub fn mount_over(&self, cmdline: &CmdLine, log: &Log) -> Result<Handover> {
        let root = Path::new(NEW_ROOT);
        // The program is left meanwhile.
        thread::scope(|scope| {
            let program = thread::Builder::new().spawn_scoped(scope, services::leave_program);
            log.phase("mounts", || self.mount_over_root(root, log))?;
            match program.map(ScopedJoinHandle::join) {
                Ok(Ok(left)) => left,
                // Without the thread it is done now.
                Ok(Err(_)) | Err(_) => services::leave_program(),
            }
        })?;
        // After those that an earlier call of this program took.
        let mut report = self.report.clone();
        report.phases.extend(log.timings());
        report.store(Path::new(RUN_DIR))?;
        log.phase("keep the log", || boot_log::keep(Outcome::Started, log));
        let health = startup::held_to(&self.health, &self.mounts, &Manager::of(root), log);
        if health.require_report {
            // Last: what takes its time before is nothing that the system failed at, if the power goes meanwhile.
            log.phase("open the life cycle", || report::open(&report, root, log))?;
        }
        startup::begin(root, &health, cmdline, log)?;
        Ok(self.handover.clone())
    }

    fn mount_over_root(&self, root: &Path, log: &Log) -> Result<()> {
        let mounted = mounts::mount_all(root, &self.mounts, self.userdata.as_ref(), log)?;
        if !self.mounts.has_etc() {
            return Ok(());
        }
        let filesystem = self
            .report
            .filesystem
            .map_or_else(|| "tmpfs".to_owned(), |filesystem| filesystem.to_string());
        let options = match self.report.filesystem {
            Some(Filesystem::Btrfs) => format!("ro,subvol={ROOT_SUBVOLUME}"),
            Some(Filesystem::Ext4 | Filesystem::Xfs) | None => "ro".to_owned(),
        };
        let line = format!("{} / {filesystem} {options} 0 0", self.report.device);
        let etc = root.join("etc");
        let fstab = etc.join("fstab");
        let text = mounts::fstab(&fs::read_to_string(&fstab).unwrap_or_default(), &line, &mounted);
        files::replace(&fstab, text.as_bytes(), 0o644).context("writing /etc/fstab")?;
        services::install(root, self.fetches)
    }
}

/// A system that was ready, and could not be started all the same.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The system.
    pub ready: Ready,
    /// Why: a sentence.
    pub why: String,
}
