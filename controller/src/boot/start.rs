//! Phases 7 to 9: the chosen slot is configured, and mounted with everything over it.

use std::{
    fs,
    path::Path,
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context as _, Result};
use gse_protocol::config::{Bundle, Mounts, drives::Filesystem, system::Desired};

use super::{Machine, SYS, leave_program, slots::Slots};
use crate::{
    configure,
    disk::{
        mount::{Access, OpenSlot, ROOT_SUBVOLUME},
        records::{CycleRecord, FOLDER, Records},
        slots::Place,
    },
    facts::{Facts, Life, Slot, SlotId, System},
    files,
    handover::Handover,
    log::{Log, reason},
    mount::{self, Mounted, NEW_ROOT, SCRATCH, SLOTS, STAGE},
    mounts, network,
    report::{BootReport, boot_id},
    services, startup,
    switch_root::check_init,
};

/// Makes the slot, which was checked, ready, and says what to start in it. Meanwhile this program is left
/// for the system.
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
    let system = facts.slot(chosen).and_then(Slot::system);
    let System { serial, version, life, .. } = system.context("the slot holds no system")?;
    let log = machine.log.as_ref();
    let mut slot = slots.take(chosen)?;
    let (device, filesystem) = (slot.device().to_owned(), slot.filesystem());
    log.info(format_args!("starting version {version} from {}", device.display()));

    slot.set_access(Access::ReadWrite)?;
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
    if config.boot.health.require_report {
        // Until the system says otherwise, this startup has failed.
        let life = life.unwrap_or(Life::FRESH).opened();
        Records::create(slot.top())?.set_cycle(&CycleRecord::new(*serial, life, boot_id()))?;
    }
    let root = log.phase("clean up", || read_only(slot))?;
    let handover = log.phase("mounts", || -> Result<_> {
        if !over.overlay.is_empty() {
            machine.hotplug.drivers().load_named("overlay", log);
        }
        let handover = handover(machine, config);
        check_init(root.path(), &handover.init)?;
        machine.mend_userdata(slots.found());
        // From here on there are mounts on it: what undoes them is `leave_root`, not a drop.
        let root = root.keep();
        mount_over(&over, userdata, (&device, filesystem), &root, log)?;
        Ok(handover)
    })?;
    let report = BootReport {
        device: device.display().to_string(),
        filesystem,
        version: version.clone(),
        serial: serial.0,
        config_serial: config.serial.0,
        left_alone,
        phases: log.timings(),
    };
    report.store()?;
    startup::begin(Path::new(NEW_ROOT), &config.boot.health, &machine.cmdline, log)?;
    Ok(handover)
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
    services::install(root)
}

/// Unmounts what an earlier try of this boot left.
pub(super) fn clean_up(log: &Log) {
    [SCRATCH, STAGE, SLOTS].into_iter().for_each(|work| detach(work, log));
    leave_root(log);
}

/// Unmounts what a failed start left over the root.
fn leave_root(log: &Log) {
    detach(NEW_ROOT, log);
}

fn detach(point: &str, log: &Log) {
    if let Err(e) = mount::detach_below(Path::new(point)) {
        log.warn(e);
    }
}
