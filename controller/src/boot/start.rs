//! Phases 6 to 8: the chosen slot is checked and configured.

use std::path::Path;

use anyhow::{Result, bail};
use gse_protocol::config::{Bundle, system};

use super::{Machine, SYS, ready::Ready, slots::Slots};
use crate::{
    configure,
    disk::{
        fsck::{self, FsckOutcome},
        mount::{Access, OpenSlot},
        records::{CycleRecord, CycleState, FOLDER, Records},
    },
    facts::{Content, Facts, SlotId},
    handover::Handover,
    log::{Log, reason},
    mount::{self, Mounted, NEW_ROOT, READY, SCRATCH, SLOTS, STAGE},
    mounts, network,
    report::boot_id,
    switch_root::check_init,
};

/// Phases 6 to 8: makes the slot's system ready to be started.
pub(super) fn make_ready(
    machine: &Machine,
    config: &Bundle,
    slots: &mut Slots<'_>,
    facts: &Facts,
    chosen: SlotId,
) -> Result<Ready> {
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
    let userdata =
        slots.found().userdata.as_ref().and_then(|place| {
            Some((place.device.clone(), place.filesystem.as_ref()?.kind.clone()))
        });
    let configured =
        log.phase("configure", || configure(machine, config, userdata.is_some(), &slot));
    if let Err(e) = configured {
        log.warn(format_args!("the configuration was not applied: {}", reason(&e)));
    }
    open_cycle(slot.top(), serial)?;
    let root = log.phase("clean up", || read_only(slot))?;
    let handover = Handover::new(&machine.cmdline, &config.boot.init.path, &[]);
    check_init(root.path(), &handover.init)?;
    // What undoes the mount from here on is `leave_root`, not a drop.
    root.keep();
    Ok(Ready {
        device,
        filesystem,
        version,
        serial: serial.0,
        config_serial: config.serial.0,
        mounts: config.mounts.clone(),
        userdata,
        handover,
        phases: Vec::new(),
    })
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

/// Phase 7: the files of the configuration.
fn configure(
    machine: &Machine,
    config: &Bundle,
    userdata: bool,
    slot: &OpenSlot<'_>,
) -> Result<()> {
    let identity = network::identity(Path::new(SYS));
    let desired = system::files(&config.system, &config.machines, &identity);
    let points = mounts::mount_points(&config.mounts, userdata);
    let (root, gse) = (slot.root(), slot.top().join(FOLDER));
    let before = configure::load(&gse)?;
    let paths = desired.keys().chain(before.file.keys()).chain(&points);
    let current = configure::current(&root, paths)?;
    let (changes, after) = configure::plan(&desired, &points, &before, &current)?;
    if changes.is_empty() {
        machine.log.debug("the system has its configuration already");
        return Ok(());
    }
    machine.log.info(format_args!("applying the configuration ({} changes)", changes.len()));
    configure::run(&root, &gse, &changes, &before, &after, &machine.log)
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
    let root = slot.mount_root(Path::new(READY))?;
    slot.close()?;
    Ok(root)
}

/// Unmounts what an earlier try of this boot left.
pub(super) fn clean_up(log: &Log) {
    [SCRATCH, STAGE, SLOTS].into_iter().for_each(|work| detach(work, log));
    leave_root(log);
}

/// Unmounts what a failed start left over the root.
pub(super) fn leave_root(log: &Log) {
    [READY, NEW_ROOT].into_iter().for_each(|root| detach(root, log));
}

fn detach(point: &str, log: &Log) {
    if let Err(e) = mount::detach_below(Path::new(point)) {
        log.warn(e);
    }
}
