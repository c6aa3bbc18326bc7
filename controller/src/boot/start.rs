//! Phases 6 to 9: the chosen slot is checked, configured, and mounted with everything over it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use gse_protocol::config::{Bundle, drives::Filesystem, system};

use super::{Disks, Machine, SCRATCH, SYS, SYSTEM, leave_program, slots};
use crate::{
    configure,
    disk::{
        content::FsInfo,
        fsck::{self, FsckOutcome},
        mount::{self as slot_mount, Access, ROOT_SUBVOLUME},
        records::{CycleRecord, CycleState, FOLDER, Records},
        slots::Slot,
    },
    facts::{Content, Facts, SlotId},
    files,
    handover::Handover,
    log::{Log, reason},
    mount, mounts, network,
    report::{BootReport, boot_id},
    services,
    switch_root::{NEW_ROOT, check_init},
};

/// Makes the slot ready, and says what to start in it.
pub(super) fn start(
    machine: &Machine,
    config: &Bundle,
    disks: &Disks,
    facts: &Facts,
    chosen: SlotId,
) -> Result<Handover> {
    let log = machine.log.as_ref();
    let slot = slots::disk_slot(disks, chosen)?;
    let filesystem = slot.filesystem().context("the chosen slot has no filesystem")?;
    let (serial, version) = match facts.slots.get(chosen.0).map(|slot| &slot.content) {
        Some(Content::System { serial, version, .. }) => (*serial, version.clone()),
        _ => bail!("{} holds no system", slot.device.display()),
    };
    log.info(format_args!("starting version {version} from {}", slot.device.display()));

    log.phase("health check", || {
        check_userdata(machine, disks);
        check(machine, &slot.device, filesystem)
    })?;
    // A configuration that cannot be applied leaves the system as it was, and that one boots.
    let configured = log.phase("configure", || configure(machine, config, disks, slot));
    if let Err(e) = configured {
        log.warn(format_args!("the configuration was not applied: {}", reason(&e)));
    }
    log.phase("clean up", || clean_up(log));
    let handover = log.phase("mounts", || -> Result<_> {
        open_cycle(machine, slot, serial)?;
        let root = slot_mount::mount_slot_root(slot, Path::new(NEW_ROOT), Access::ReadOnly, log)?;
        let handover = Handover::new(&machine.cmdline, &config.boot.init.path, &[]);
        check_init(root.path(), &handover.init)?;
        // From here on there are mounts on it: what undoes them is `clean_up`, not a drop.
        let root = root.keep();
        mount_over(config, disks, slot, filesystem, &root, log)?;
        Ok(handover)
    })?;
    leave_program()?;
    let report = BootReport {
        device: slot.device.display().to_string(),
        filesystem,
        version,
        serial: serial.0,
        config_serial: config.serial.0,
        phases: log.timings(),
    };
    report.store()?;
    Ok(handover)
}

/// Phase 6 for the users' data, as far as that can be done without a person. What is left is for the mount to say.
pub(super) fn check_userdata(machine: &Machine, disks: &Disks) {
    let Some(place) = &disks.found.userdata else { return };
    let filesystem = place.filesystem.as_ref().and_then(FsInfo::filesystem);
    let checked = filesystem.map(|filesystem| check(machine, &place.device, filesystem));
    if let Some(Err(e)) = checked {
        machine.log.warn(reason(&e));
    }
}

/// Phase 6: the filesystem is clean, or was mended.
pub(super) fn check(machine: &Machine, device: &Path, filesystem: Filesystem) -> Result<()> {
    machine.load_filesystem(filesystem);
    let scratch = Path::new(SCRATCH);
    match fsck::check_and_repair(device, filesystem, scratch, &machine.tools, &machine.log) {
        Ok(FsckOutcome::Clean) => Ok(()),
        Ok(FsckOutcome::Repaired) => {
            machine.log.warn(format_args!("{} was repaired", device.display()));
            Ok(())
        }
        Ok(FsckOutcome::Damaged(why)) => {
            bail!("the filesystem on {} is damaged: {why}", device.display())
        }
        // Without its tool a filesystem that can be mounted is still better than none.
        Err(e) => {
            machine.log.warn(e);
            Ok(())
        }
    }
}

/// Phase 7: the files of the configuration. SYSFS is mounted writable only if one of them differs.
fn configure(machine: &Machine, config: &Bundle, disks: &Disks, slot: &Slot) -> Result<()> {
    let identity = network::identity(Path::new(SYS), None);
    let desired = system::files(&config.system, &config.machines, &identity);
    let points = mounts::mount_points(&config.mounts, disks.found.userdata.is_some());
    let plan = |root: &Path, gse: &Path| -> Result<_> {
        let before = configure::load(gse)?;
        let paths = desired.keys().chain(before.file.keys()).chain(&points);
        let current = configure::current(root, paths)?;
        let (changes, after) = configure::plan(&desired, &points, &before, &current)?;
        Ok((changes, before, after))
    };
    let (changes, before, after) =
        with_system(machine, slot, Access::ReadOnly, |root, gse| plan(root, gse))?;
    if changes.is_empty() {
        machine.log.debug("the system has its configuration already");
        return Ok(());
    }
    machine.log.info(format_args!("applying the configuration ({} changes)", changes.len()));
    with_system(machine, slot, Access::ReadWrite, |root, gse| {
        configure::run(root, gse, &changes, &before, &after, &machine.log)
    })
}

/// Mounts a slot's system and its records for a moment.
pub(super) fn with_system<T>(
    machine: &Machine,
    slot: &Slot,
    access: Access,
    work: impl FnOnce(&Path, &Path) -> Result<T>,
) -> Result<T> {
    let top = slot_mount::mount_slot_top(slot, Path::new(SCRATCH), access, &machine.log)?;
    let root = slot_mount::mount_slot_root(slot, Path::new(SYSTEM), access, &machine.log)?;
    let out = work(root.path(), &top.path().join(FOLDER));
    root.unmount()?;
    top.unmount()?;
    out
}

/// The life cycle begins: until the system says otherwise, this startup has failed.
fn open_cycle(machine: &Machine, slot: &Slot, serial: gse_protocol::Serial) -> Result<()> {
    let top =
        slot_mount::mount_slot_top(slot, Path::new(SCRATCH), Access::ReadWrite, &machine.log)?;
    let records = Records::create(top.path())?;
    let mut cycle = records.cycle().ok().flatten().unwrap_or_else(|| CycleRecord::fresh(serial));
    cycle.state = CycleState::Open;
    cycle.tries = cycle.tries.saturating_add(1);
    cycle.boot_id = boot_id();
    records.set_cycle(&cycle)?;
    drop(records);
    Ok(top.unmount()?)
}

/// Phase 9.
fn mount_over(
    config: &Bundle,
    disks: &Disks,
    slot: &Slot,
    filesystem: Filesystem,
    root: &Path,
    log: &Log,
) -> Result<()> {
    let userdata =
        disks.found.userdata.as_ref().and_then(|place| {
            Some((place.device.as_path(), place.filesystem.as_ref()?.kind.as_str()))
        });
    mounts::mount_all(root, &config.mounts, userdata, log)?;
    if !config.mounts.tmpfs.iter().any(|tmpfs| tmpfs.path == "/etc") {
        return Ok(());
    }
    let options = match filesystem {
        Filesystem::Btrfs => format!("ro,subvol={ROOT_SUBVOLUME}"),
        Filesystem::Ext4 | Filesystem::Xfs => "ro".to_owned(),
    };
    let line = format!("{} / {filesystem} {options} 0 0", slot.device.display());
    let etc = root.join("etc");
    let fstab = etc.join("fstab");
    let mounted = mounts::mount_points(&config.mounts, userdata.is_some());
    let text = mounts::fstab(&fs::read_to_string(&fstab).unwrap_or_default(), &line, &mounted);
    files::replace(&fstab, text.as_bytes(), 0o644).context("writing /etc/fstab")?;
    services::install(&etc)
}

/// Phase 8: nothing of the boot's own stays mounted, nor what a failed start left.
pub(super) fn clean_up(log: &Log) {
    for work in [SCRATCH, SYSTEM, NEW_ROOT] {
        if let Err(e) = mount::detach_below(Path::new(work)) {
            log.warn(reason(&e));
        }
    }
}
