//! What a person asks on a machine that has come up: `gse-controller status`, `verify`, `plan` and `fetch`.
//!
//! All look at the slots as they are on the disk, past everything that is mounted over the system. Only `fetch` changes
//! anything, in a slot that is not needed.

pub mod date;
pub mod status;
pub mod update;
pub mod verify;

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use gse_protocol::config::drives::Filesystem;
use rustix::process::geteuid;

use crate::{
    disk::{
        mount::{detached_root, detached_top, root_below},
        records::{FOLDER, Records},
    },
    report::{BootReport, Place},
};

/// What the controller left for this system.
///
/// # Errors
/// The controller did not start it, or somebody else than root asks.
fn boot_report(place: &Place) -> Result<BootReport> {
    let report = BootReport::load(&place.info)?;
    if !geteuid().is_root() {
        bail!("only root can read a slot: run it as root");
    }
    Ok(report)
}

/// A slot that is looked at.
struct Slot {
    /// Holds the mount.
    _top: OwnedFd,
    path: PathBuf,
    filesystem: Filesystem,
}

impl Slot {
    /// That of the running system.
    fn running(place: &Place, report: &BootReport) -> Result<Self> {
        let filesystem =
            report.filesystem.context("this system runs from memory: there is no slot")?;
        let top = detached_root(&place.root, Path::new(&report.device), filesystem)?;
        Ok(Self::new(top, filesystem))
    }

    /// That of BACKUPFS.
    fn backup(report: &BootReport) -> Result<Self> {
        let backup = report.backup.as_ref().context(
            "this machine has no backup: it gets one at the start after the first clean shutdown",
        )?;
        let top = detached_top(Path::new(&backup.device), backup.filesystem)?;
        Ok(Self::new(top, backup.filesystem))
    }

    fn new(top: OwnedFd, filesystem: Filesystem) -> Self {
        let path = Path::new("/proc/self/fd").join(top.as_raw_fd().to_string());
        Self { _top: top, path, filesystem }
    }

    fn records(&self) -> Result<Records> {
        Records::open(&self.path)?.context("the slot has no records")
    }

    /// Where its records are.
    fn folder(&self) -> PathBuf {
        self.path.join(FOLDER)
    }

    /// Where its system is.
    fn root(&self) -> PathBuf {
        root_below(&self.path, self.filesystem)
    }
}
