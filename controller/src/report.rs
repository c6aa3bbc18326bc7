//! What the booted system tells the controller: that it is up, and that it has shut down.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use gse_protocol::{Serial, config::drives::Filesystem};
use serde::{Deserialize, Serialize};

use crate::{
    boot::kernel,
    boot_log::{self, Outcome},
    disk::{
        fallback::Fallback,
        mount::{Access, mount_top},
        records::{CycleRecord, CycleState, Life, Records},
    },
    files,
    log::{Log, PhaseTime, reason},
    mount::{self, MountFlags, Mounted, SCRATCH},
    startup::{self, Verdict, scripts::Check},
    supervisor::RUN_DIR,
};

/// What the boot was, for the booted system: `/run/gse/boot.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootReport {
    /// The slot's label: `SYSFS`, or `BACKUPFS` where SYSFS could not be started this time.
    pub label: String,
    /// The slot's partition.
    pub device: String,
    /// Its filesystem; none of a system in memory, which has no records.
    pub filesystem: Option<Filesystem>,
    /// Of the installed release.
    pub version: String,
    /// Of the installed release.
    pub serial: u64,
    /// The life cycle as it was before this startup; none where there was no record.
    pub life: Option<Life>,
    /// Of the configuration in use.
    pub config_serial: u64,
    /// What the configuration has something for, and is left alone on this machine.
    pub left_alone: Vec<String>,
    /// The system that takes over when this one fails.
    pub backup: Option<Backup>,
    /// The last time that a system of this machine gave way to another.
    pub fallback: Option<Fallback>,
    /// The keys by which releases and images are signed, as `sources.toml` has them.
    pub keys: Vec<String>,
    /// How long each phase took.
    pub phases: Vec<PhaseTime>,
}

/// BACKUPFS, as it was when the system was started: while that runs, only an update takes it away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Its partition.
    pub device: String,
    /// Its filesystem.
    pub filesystem: Filesystem,
    /// Of its release.
    pub version: String,
    /// Of its release.
    pub serial: u64,
    /// How far it came in its life cycle; none where that record is missing or damaged.
    pub state: Option<CycleState>,
}

/// The file's name in [`RUN_DIR`].
const FILE: &str = "boot.json";

/// Where the reporting program finds things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What the controller left: [`RUN_DIR`].
    pub info: PathBuf,
    /// The system.
    pub root: PathBuf,
}

impl Place {
    /// In the booted system.
    pub fn booted() -> Self {
        Self { info: RUN_DIR.into(), root: "/".into() }
    }
}

impl BootReport {
    /// Leaves it for the booted system, in `info`.
    pub fn store(&self, info: &Path) -> Result<()> {
        let path = info.join(FILE);
        let json = serde_json::to_vec_pretty(self).context("writing down how the boot went")?;
        files::replace(&path, &json, 0o644).with_context(|| format!("writing {}", path.display()))
    }

    /// What the controller left when it started this system.
    ///
    /// # Errors
    /// There is none: the controller did not start this system.
    pub fn load(info: &Path) -> Result<Self> {
        let path = info.join(FILE);
        let bytes = fs::read(&path).with_context(|| {
            format!("reading {}: was this system started by the controller?", path.display())
        })?;
        serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))
    }
}

/// The report of this boot as it lies in [`RUN_DIR`], where there is one.
pub fn text() -> Option<String> {
    fs::read_to_string(Path::new(RUN_DIR).join(FILE)).ok()
}

/// The system at `root` is about to be started: until it says otherwise, this startup has failed.
pub(crate) fn open(boot: &BootReport, root: &Path, log: &Log) -> Result<()> {
    let Some(filesystem) = boot.filesystem else { return Ok(()) };
    let life = boot.life.unwrap_or(Life::FRESH).opened();
    let cycle = CycleRecord::new(Serial(boot.serial), life, boot_id());
    with_records((Path::new(&boot.device), filesystem), root, log, |records| {
        Ok(records.set_cycle(&cycle)?)
    })
}

/// The startup is over. The system is up if all of the administrator's checks say so; what came of it is
/// left in a file too.
pub fn up(place: &Place, log: &Log) -> Result<Verdict> {
    let policy = startup::policy(&place.info)?;
    let (mut complaints, checks) = match startup::check(&policy) {
        Ok(checks) => (checks.iter().filter_map(Check::complaint).collect(), checks),
        Err(e) => (vec![reason(&e)], Vec::new()),
    };
    if complaints.is_empty()
        && policy.require_report
        && let Err(e) = record(CycleState::Up, place, log)
    {
        complaints.push(reason(&e));
    }
    if complaints.is_empty()
        && let Err(e) = kernel::confirm(&place.info, log)
    {
        // The system is up all the same. What is not confirmed gives way to the kernel before it.
        log.warn(reason(&e));
    }
    let reason = (!complaints.is_empty()).then(|| complaints.join("; "));
    if let Some(reason) = &reason {
        boot_log::keep(Outcome::Failed(reason), log);
    }
    let verdict = Verdict { up: reason.is_none(), reason, checks };
    verdict.store(&place.info)?;
    Ok(verdict)
}

/// The system has shut down.
pub fn close(place: &Place, log: &Log) -> Result<()> {
    if startup::policy(&place.info)?.require_report {
        record(CycleState::Closed, place, log)?;
    }
    Ok(())
}

/// Writes that the life cycle of this startup has come to `state`.
fn record(state: CycleState, place: &Place, log: &Log) -> Result<()> {
    let boot = BootReport::load(&place.info)?;
    let Some(filesystem) = boot.filesystem else { return Ok(()) };
    with_records((Path::new(&boot.device), filesystem), &place.root, log, |records| {
        let mut cycle = records.cycle()?.context("the record of this life cycle is missing")?;
        if cycle.boot_id != boot_id() {
            bail!("the record is of another startup than this one");
        }
        match (cycle.state, state) {
            (CycleState::Open, CycleState::Up) => {
                cycle.tries = 0;
                cycle.state = CycleState::Up;
            }
            // A system that never came up does not become healthy by shutting down.
            (CycleState::Up, CycleState::Closed) => {
                cycle.unclean_shutdowns = 0;
                cycle.state = CycleState::Closed;
            }
            (now, _) if now == state => return Ok(()),
            (now, _) => bail!("this startup is {now:?}, and cannot become {state:?}"),
        }
        Ok(records.set_cycle(&cycle)?)
    })
}

/// The records lie on a read-only root. btrfs mounts its top-level subvolume writable beside it. For ext4 and XFS
/// read-only is a property of the whole filesystem, and of each of its mounts: the filesystem is made writable for a
/// moment by way of a second mount, while the root as all others see it stays read-only. Were it writable too, a file
/// that somebody opens in this moment would keep it so.
fn with_records(
    (device, filesystem): (&Path, Filesystem),
    root: &Path,
    log: &Log,
    work: impl FnOnce(&Records) -> Result<()>,
) -> Result<()> {
    let open = |top: &Path| Records::open(top)?.context("this system has no .gse folder");
    if filesystem == Filesystem::Btrfs {
        let scratch = Path::new(SCRATCH);
        let top = mount_top(device, filesystem, scratch, Access::ReadWrite, log)?;
        let done = open(top.path()).and_then(|records| work(&records));
        top.unmount()?;
        return done;
    }
    let own = Mounted::bind(root, Path::new(SCRATCH), log)?;
    mount::remount(own.path(), MountFlags::empty())?;
    let done = open(own.path()).and_then(|records| work(&records));
    mount::remount(own.path(), MountFlags::RDONLY)?;
    own.unmount()?;
    done
}

/// The kernel's name for this run.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
