//! Phases 6 to 9: the chosen slot is checked, configured, and mounted with everything over it.

use std::{
    fs,
    path::Path,
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context as _, Result, bail};
use gse_protocol::config::{Bundle, Mounts, drives::Filesystem, system::Desired};

use super::{Machine, SYS, leave_program, slots::Slots};
use crate::{
    configure,
    disk::{
        fsck::{self, FsckOutcome},
        mount::{Access, OpenSlot, ROOT_SUBVOLUME},
        records::{CycleRecord, CycleState, FOLDER, Records},
        slots::Place,
    },
    facts::{Content, Facts, SlotId},
    files,
    handover::Handover,
    log::{Log, reason},
    mount::{self, Mounted, NEW_ROOT, SCRATCH, SLOTS, STAGE},
    mounts, network,
    report::{BootReport, boot_id},
    services,
    switch_root::check_init,
};

/// Makes the slot ready, and says what to start in it. Meanwhile this program is left for the system.
pub(super) fn start(
    machine: &Machine,
    config: &Bundle,
    slots: &mut Slots<'_>,
    facts: &Facts,
    chosen: SlotId,
) -> Result<Handover> {
    thread::scope(|scope| {
        let program = thread::Builder::new().spawn_scoped(scope, leave_program);
        let handover = make_ready(machine, config, slots, facts, chosen)?;
        match program.map(ScopedJoinHandle::join) {
            Ok(Ok(left)) => left?,
            // Without the thread it is done now.
            Ok(Err(_)) | Err(_) => leave_program()?,
        }
        Ok(handover)
    })
}

fn make_ready(
    machine: &Machine,
    config: &Bundle,
    slots: &mut Slots<'_>,
    facts: &Facts,
    chosen: SlotId,
) -> Result<Handover> {
    let log = machine.log.as_ref();
    let slot = slots.take(chosen)?;
    let (device, filesystem) = (slot.device().to_owned(), slot.filesystem());
    let (serial, version) = match facts.slots.get(chosen.0).map(|slot| &slot.content) {
        Some(Content::System { serial, version, .. }) => (*serial, version.clone()),
        _ => bail!("{} holds no system", device.display()),
    };
    log.info(format_args!("starting version {version} from {}", device.display()));

    let slot = log.phase("health check", || check(machine, slots, chosen, slot))?;
    // A configuration that cannot be applied leaves the system as it was, and that one boots.
    let userdata = slots.found().userdata.as_ref();
    let identity = network::identity(Path::new(SYS));
    let desired = Desired::new(&config.system, &config.machines, &identity);
    let links = desired.as_ref().map(|desired| desired.links.clone()).unwrap_or_default();
    let over = config.mounts.clone().with(&links);
    let left_alone = log.phase("configure", || {
        let desired = desired?;
        let points = mounts::mount_points(&over, userdata.is_some());
        configure::bring(&slot.root(), &slot.top().join(FOLDER), &desired, &points, log)
    });
    let left_alone = left_alone.unwrap_or_else(|e| {
        log.warn(format_args!("the configuration was not applied: {}", reason(&e)));
        Vec::new()
    });
    open_cycle(slot.top(), serial)?;
    let root = log.phase("clean up", || read_only(slot))?;
    let handover = log.phase("mounts", || -> Result<_> {
        if !over.overlay.is_empty() {
            machine.hotplug.drivers().load_named("overlay", log);
        }
        let handover = Handover::new(&machine.cmdline, &config.boot.init.path, &[]);
        check_init(root.path(), &handover.init)?;
        // From here on there are mounts on it: what undoes them is `leave_root`, not a drop.
        let root = root.keep();
        mount_over(&over, userdata, (&device, filesystem), &root, log)?;
        Ok(handover)
    })?;
    let report = BootReport {
        device: device.display().to_string(),
        filesystem,
        version,
        serial: serial.0,
        config_serial: config.serial.0,
        left_alone,
        phases: log.timings(),
    };
    report.store()?;
    Ok(handover)
}

/// Phase 6: the filesystem is clean, or was mended. Afterwards it is mounted for writing.
fn check<'m>(
    machine: &'m Machine,
    slots: &Slots<'m>,
    id: SlotId,
    mut slot: OpenSlot<'m>,
) -> Result<OpenSlot<'m>> {
    if fsck::proven_by_mount(&mut slot, &machine.log) {
        return Ok(slot);
    }
    let (device, filesystem) = (slot.device().to_owned(), slot.filesystem());
    slot.close()?;
    let scratch = Path::new(SCRATCH);
    match fsck::check_and_repair(&device, filesystem, scratch, &machine.tools, &machine.log) {
        Ok(FsckOutcome::Clean) => {}
        Ok(FsckOutcome::Repaired) => {
            machine.log.warn(format_args!("{} was repaired", device.display()));
        }
        Ok(FsckOutcome::Damaged(why)) => {
            bail!("the filesystem on {} is damaged: {why}", device.display())
        }
        // Without its tool a filesystem that can be mounted is still better than none.
        Err(e) => machine.log.warn(e),
    }
    let mut slot = slots.mount(id)?;
    slot.set_access(Access::ReadWrite)?;
    Ok(slot)
}

/// The life cycle begins: until the system says otherwise, this startup has failed.
fn open_cycle(top: &Path, serial: gse_protocol::Serial) -> Result<()> {
    let records = Records::create(top)?;
    let mut cycle = records.cycle().ok().flatten().unwrap_or_else(|| CycleRecord::fresh(serial));
    cycle.state = CycleState::Open;
    cycle.tries = cycle.tries.saturating_add(1);
    cycle.boot_id = boot_id();
    Ok(records.set_cycle(&cycle)?)
}

/// Phase 8: the filesystem is read-only again, and of the boot's own mounts only the root is left.
fn read_only(mut slot: OpenSlot<'_>) -> Result<Mounted<'_>> {
    slot.set_access(Access::ReadOnly)?;
    let root = slot.mount_root(Path::new(NEW_ROOT))?;
    slot.close()?;
    Ok(root)
}

/// Phase 9.
fn mount_over(
    over: &Mounts,
    userdata: Option<&Place>,
    (device, filesystem): (&Path, Filesystem),
    root: &Path,
    log: &Log,
) -> Result<()> {
    let userdata = userdata
        .and_then(|place| Some((place.device.as_path(), place.filesystem.as_ref()?.kind.as_str())));
    mounts::mount_all(root, over, userdata, log)?;
    if !over.tmpfs.iter().any(|tmpfs| tmpfs.path == "/etc") {
        return Ok(());
    }
    let options = match filesystem {
        Filesystem::Btrfs => format!("ro,subvol={ROOT_SUBVOLUME}"),
        Filesystem::Ext4 | Filesystem::Xfs => "ro".to_owned(),
    };
    let line = format!("{} / {filesystem} {options} 0 0", device.display());
    let etc = root.join("etc");
    let fstab = etc.join("fstab");
    let mounted = mounts::mount_points(over, userdata.is_some());
    let text = mounts::fstab(&fs::read_to_string(&fstab).unwrap_or_default(), &line, &mounted);
    files::replace(&fstab, text.as_bytes(), 0o644).context("writing /etc/fstab")?;
    services::install(&etc)
}

/// Unmounts what an earlier try of this boot left.
pub(super) fn clean_up(log: &Log) {
    [SCRATCH, STAGE, SLOTS].into_iter().for_each(|work| detach(work, log));
    leave_root(log);
}

/// Unmounts what a failed start left over the root.
pub(super) fn leave_root(log: &Log) {
    detach(NEW_ROOT, log);
}

fn detach(point: &str, log: &Log) {
    if let Err(e) = mount::detach_below(Path::new(point)) {
        log.warn(e);
    }
}
