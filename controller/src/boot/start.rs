//! Phases 7 and 8: the chosen slot is configured, and its root mounted read-only.

use std::path::Path;

use anyhow::{Context as _, Result};
use gse_protocol::config::{Bundle, Mounts, boot::Policy, drives, system::Desired};

use super::{
    Machine, SYS,
    ready::Ready,
    slots::{Slots, label},
};
use crate::{
    configure,
    disk::{
        mount::{Access, OpenSlot},
        records::{CycleRecord, FOLDER, Records},
    },
    facts::{Facts, Role, Slot, SlotId, System},
    handover::Handover,
    log::{Log, reason},
    mount::{self, Mounted, NEW_ROOT, READY, SCRATCH, SLOTS, STAGE},
    mounts::{self, UserData, archive},
    network,
    report::{Backup, BootReport},
    switch_root::check_init,
};

/// Makes the slot, which was checked, ready to be started.
pub(super) fn make_ready(
    machine: &Machine,
    config: &Bundle,
    slots: &mut Slots<'_>,
    facts: &Facts,
    chosen: SlotId,
) -> Result<Ready> {
    let slot = facts.slot(chosen).context("there is no such slot")?;
    let role = label(slot.role).context("a free slot has no label")?;
    let System { serial, version, life, .. } = slot.system().context("the slot holds no system")?;
    let log = machine.log.as_ref();
    let mut slot = slots.take(chosen)?;
    let (device, filesystem) = (slot.device().to_owned(), slot.filesystem());
    log.info(format_args!("starting version {version} from {}", device.display()));

    slot.set_access(Access::ReadWrite)?;
    // A configuration that cannot be applied leaves the system as it was, and that one boots.
    let userdata = slots.found().userdata.as_ref().and_then(|place| {
        let kind = place.filesystem.as_ref()?.kind.clone();
        let wanted = config.drives.partition(drives::Role::UserData);
        let (subvolumes, deleted) = wanted
            .map(|wanted| (wanted.subvolumes.clone(), wanted.deleted_subvolumes.clone()))
            .unwrap_or_default();
        Some(UserData { device: place.device.clone(), kind, subvolumes, deleted })
    });
    let (over, left_alone) =
        self::configure(machine, config, &slot.root(), slot.top(), userdata.is_some());
    machine.mend_userdata(slots.found());
    let root = log.phase("clean up", || read_only(slot))?;
    let handover = handover(machine, config);
    check_init(root.path(), &handover.init)?;
    if over.tmpfs.iter().any(|tmpfs| tmpfs.archive.is_some())
        && let Some(boot) = &slots.found().boot
        && let Some(mounted) = machine.mount_place(boot, Access::ReadOnly)
    {
        archive::fetch(mounted.path(), &over, &config.sources.keys, log);
    }
    // What undoes the mount from here on is `leave_root`, not a drop.
    root.keep();
    let report = BootReport {
        label: role.to_string(),
        device: device.display().to_string(),
        filesystem: Some(filesystem),
        version: version.clone(),
        serial: serial.0,
        life: *life,
        config_serial: config.serial.0,
        left_alone,
        backup: backup(slots, facts, chosen),
        fallback: slots.fallback().cloned(),
        keys: config.sources.keys.0.iter().map(ToString::to_string).collect(),
        phases: Vec::new(),
    };
    let health = config.boot.health.clone();
    let update = &config.boot.update;
    let fetches = update.background && update.policy == Policy::Auto;
    Ok(Ready { report, mounts: over, userdata, health, handover, fetches })
}

/// The system that would take over from the chosen one.
fn backup(slots: &Slots<'_>, facts: &Facts, chosen: SlotId) -> Option<Backup> {
    let (id, slot) = facts.with_role(Role::Backup).find(|(id, _)| *id != chosen)?;
    let System { version, serial, life, .. } = slot.bootable()?;
    Some(Backup {
        device: slot.device.clone(),
        filesystem: slots.disk_slot(id).ok()?.filesystem()?,
        version: version.clone(),
        serial: serial.0,
        state: life.map(|life| life.state),
    })
}

/// Phase 7: applies the configuration to the system at `root`, whose records are at `top`. What is mounted over it,
/// and what is left as it is.
pub(super) fn configure(
    machine: &Machine,
    config: &Bundle,
    root: &Path,
    top: &Path,
    userdata: bool,
) -> (Mounts, Vec<String>) {
    let log = machine.log.as_ref();
    let identity = network::identity(Path::new(SYS));
    let desired = Desired::new(&config.system, &config.machines, &identity);
    let links = desired.as_ref().map(|desired| desired.links.clone()).unwrap_or_default();
    let over = mounts::asked(config.mounts.clone().with(&links), &machine.cmdline);
    let left_alone = log.phase("configure", || {
        let desired = desired?;
        let points = mounts::mount_points(&over, userdata);
        configure::bring(root, &top.join(FOLDER), &desired, &points, log)
    });
    let left_alone = left_alone.unwrap_or_else(|e| {
        log.warn(format_args!("the configuration was not applied: {}", reason(&e)));
        Vec::new()
    });
    let needed: &[(bool, &[&str])] = &[
        (over.overlay.is_empty(), &["overlay"]),
        (over.nfs.is_empty(), &["nfs", "nfsv4", "nfsv3"]),
    ];
    for module in needed.iter().filter(|(idle, _)| !idle).flat_map(|(_, modules)| *modules) {
        machine.hotplug.drivers().load_named(module, log);
    }
    (over, left_alone)
}

/// The init of this machine's systems.
pub(super) fn handover(machine: &Machine, config: &Bundle) -> Handover {
    Handover::new(&machine.cmdline, &config.boot.init.path, &[])
}

/// After a start that failed: nothing is mounted over the root any more, and the record is what it was. The
/// reason may be anything, such as a mount that the configuration asks for, so it does not count against
/// the system.
pub(super) fn undo(slots: &mut Slots<'_>, facts: &Facts, chosen: SlotId, log: &Log) -> Result<()> {
    leave_root(log);
    let Some(system) = facts.slot(chosen).and_then(Slot::system) else { return Ok(()) };
    let Some(life) = system.life else { return Ok(()) };
    let mut slot = slots.take(chosen)?;
    let before = CycleRecord::new(system.serial, life, String::new());
    slot.set_access(Access::ReadWrite)?;
    Records::create(slot.top())?.set_cycle(&before)?;
    Ok(slot.close()?)
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
fn leave_root(log: &Log) {
    [READY, NEW_ROOT].into_iter().for_each(|root| detach(root, log));
}

fn detach(point: &str, log: &Log) {
    if let Err(e) = mount::detach_below(Path::new(point)) {
        log.warn(e);
    }
}
