//! What is left to do once a system was chosen and made ready: it is mounted, with everything over it.
//!
//! In the controller's own initramfs this follows at once. In an image of dracut's it follows in calls of
//! their own, from later hooks; what they need to know lies in a file in between.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context as _, Result};
use gse_protocol::config::{Health, Mounts, drives::Filesystem};
use serde::{Deserialize, Serialize};

use crate::{
    cmdline::CmdLine,
    disk::{mount::ROOT_SUBVOLUME, records::Life},
    files,
    handover::Handover,
    log::{Log, PhaseTime},
    mount::{self, NEW_ROOT, READY},
    mounts,
    report::BootReport,
    services, startup,
};

const FILE: &str = "/run/gse/ready.json";

/// A system whose root is mounted read-only at [`READY`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    pub(super) device: PathBuf,
    /// None where it is in memory.
    pub(super) filesystem: Option<Filesystem>,
    pub(super) version: String,
    pub(super) serial: u64,
    /// Its life cycle as it was before this startup.
    pub(super) life: Option<Life>,
    pub(super) config_serial: u64,
    pub(super) mounts: Mounts,
    /// The partition of USERDATAFS and its filesystem, where there is one.
    pub(super) userdata: Option<(PathBuf, String)>,
    /// What the configuration names and the machine keeps as it is.
    pub(super) left_alone: Vec<String>,
    pub(super) health: Health,
    pub(super) handover: Handover,
    /// How long the phases took that an earlier call of this program did.
    pub(super) phases: Vec<PhaseTime>,
}

impl Ready {
    /// Leaves it for a later call.
    ///
    /// # Errors
    /// Those of the file.
    pub fn store(&self, log: &Log) -> Result<()> {
        let stored = Self { phases: log.timings(), ..self.clone() };
        let json = serde_json::to_vec(&stored).context("writing down which system to start")?;
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
        self.life
    }

    /// Its partition.
    pub(super) fn device(&self) -> &Path {
        &self.device
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
            let program = thread::Builder::new().spawn_scoped(scope, leave_program);
            log.phase("mounts", || self.mount_over_root(root, log))?;
            match program.map(ScopedJoinHandle::join) {
                Ok(Ok(left)) => left,
                // Without the thread it is done now.
                Ok(Err(_)) | Err(_) => leave_program(),
            }
        })?;
        let report = BootReport {
            device: self.device.display().to_string(),
            filesystem: self.filesystem,
            version: self.version.clone(),
            serial: self.serial,
            config_serial: self.config_serial,
            left_alone: self.left_alone.clone(),
            phases: self.phases.iter().cloned().chain(log.timings()).collect(),
        };
        report.store()?;
        startup::begin(root, &self.health, cmdline, log)?;
        Ok(self.handover.clone())
    }

    fn mount_over_root(&self, root: &Path, log: &Log) -> Result<()> {
        let userdata =
            self.userdata.as_ref().map(|(device, kind)| (device.as_path(), kind.as_str()));
        mounts::mount_all(root, &self.mounts, userdata, log)?;
        if !self.mounts.tmpfs.iter().any(|tmpfs| tmpfs.path == "/etc") {
            return Ok(());
        }
        let filesystem =
            self.filesystem.map_or_else(|| "tmpfs".to_owned(), |kind| kind.to_string());
        let options = match self.filesystem {
            Some(Filesystem::Btrfs) => format!("ro,subvol={ROOT_SUBVOLUME}"),
            Some(Filesystem::Ext4 | Filesystem::Xfs) | None => "ro".to_owned(),
        };
        let line = format!("{} / {filesystem} {options} 0 0", self.device.display());
        let etc = root.join("etc");
        let fstab = etc.join("fstab");
        let mounted = mounts::mount_points(&self.mounts, userdata.is_some());
        let text = mounts::fstab(&fs::read_to_string(&fstab).unwrap_or_default(), &line, &mounted);
        files::replace(&fstab, text.as_bytes(), 0o644).context("writing /etc/fstab")?;
        services::install(root)
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

/// Leaves a copy of this program for the booted system, which reports to it.
fn leave_program() -> Result<()> {
    let target = Path::new(services::PROGRAM);
    fs::copy("/proc/self/exe", target)
        .with_context(|| format!("copying to {}", target.display()))?;
    Ok(())
}
