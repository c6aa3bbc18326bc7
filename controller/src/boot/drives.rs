//! Disks: waited for, partitioned where something is missing, and found again.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use gse_protocol::config::{
    Bundle,
    drives::{Filesystem, Role},
};

use super::{DEV, Disks, Host, Machine, SYS, online};
use crate::{
    boot_log, config,
    disk::{
        awaited,
        content::FsInfo,
        fsck::{self, FsckOutcome},
        gpt,
        mkfs::{self, Spec},
        mount::{self, Access, MountError},
        plan::{self, PartitionPlan},
        probe::{self, BlockDevice},
        slots::{self, Found, Label, Place},
        wipeable::Wipeable,
    },
    efi,
    log::reason,
    mount::{MountFlags, Mounted, SCRATCH, mount_virtual},
};

/// How long a partition may take to appear after the kernel was told of it.
const NODE_WAIT: Duration = Duration::from_secs(10);

impl Machine {
    /// Waits until the disks that the configuration names are there, with their partitions.
    pub(super) fn wait_for_disks(&self, config: &Bundle) -> Result<Disks> {
        let wanted = !self.cmdline.flag("gse.diskless");
        let limit = Duration::from_secs(u64::from(config.drives.timeout) * u64::from(wanted));
        let settled = self.hotplug.wait_until(limit, || {
            if !self.hotplug.coldplugged() {
                return None;
            }
            self.devices().ok().filter(|devices| self.all_there(config, devices))
        });
        match settled {
            Some(devices) => found(config, devices),
            // What is there is looked at all the same: phases that need a disk say what is missing.
            None => found(config, self.devices()?),
        }
    }

    /// Looks at the disks again.
    pub(super) fn probe(&self, config: &Bundle) -> Result<Disks> {
        found(config, self.devices()?)
    }

    fn all_there(&self, config: &Bundle, devices: &[BlockDevice]) -> bool {
        awaited::all_there(&config.drives, devices, self.hotplug.settled())
    }

    fn devices(&self) -> Result<Vec<BlockDevice>> {
        probe::block_devices(Path::new(SYS), Path::new(DEV), self.loops)
            .context("looking for disks")
    }

    /// Makes the partitions that are missing, and BOOTFS and USERDATAFS in those that are blank. Where that
    /// fails, a machine that has a system already boots it.
    pub(super) fn drives(&self, config: &Bundle, before: Disks) -> Result<Disks> {
        match self.make_drives(config, &before) {
            Err(e) if before.found.slots.iter().any(|slot| slot.label().is_some()) => {
                self.log.warn(reason(&e));
                Ok(before)
            }
            done => done,
        }
    }

    fn make_drives(&self, config: &Bundle, before: &Disks) -> Result<Disks> {
        // Another configuration may name other disks. Looking at them takes longer than all else here, so
        // that is done again only where something is to be waited for, or written.
        let complete = plan::plan(&config.drives, &before.devices)
            .is_ok_and(|plans| plans.iter().all(|plan| plan.steps.is_empty()));
        let disks = if complete && self.all_there(config, &before.devices) {
            found(config, before.devices.clone())?
        } else {
            self.wait_for_disks(config)?
        };
        let plans = plan::plan(&config.drives, &disks.devices)?;
        let mut changed = false;
        for plan in &plans {
            plan.warnings.iter().for_each(|warning| self.log.warn(warning));
            changed |= self.partition(plan)?;
        }
        let disks = if changed { self.probe(config)? } else { disks };
        let mut made = false;
        for place in [&disks.found.boot, &disks.found.userdata].into_iter().flatten() {
            made |= self.make_place(config, place)?;
        }
        if made { self.probe(config) } else { Ok(disks) }
    }

    fn partition(&self, plan: &PartitionPlan) -> Result<bool> {
        if plan.steps.is_empty() {
            return Ok(false);
        }
        self.log.info(format_args!("partitioning {}", plan.disk.display()));
        let mut wait = |probe: &mut dyn FnMut() -> bool| {
            self.hotplug.wait_until(NODE_WAIT, || probe().then_some(())).is_some()
        };
        gpt::apply(plan, Path::new(SYS), Path::new(DEV), &mut wait, &self.log)?;
        Ok(true)
    }

    fn make_place(&self, config: &Bundle, place: &Place) -> Result<bool> {
        let Some(wanted) =
            config.drives.partition(place.role).filter(|_| place.filesystem.is_none())
        else {
            return Ok(false);
        };
        let label = if place.role == Role::Boot { Label::BootFs } else { Label::UserDataFs };
        self.log.info(format_args!("making {label} on {}", place.device.display()));
        self.load_filesystem(wanted.filesystem);
        let spec = Spec {
            filesystem: wanted.filesystem,
            label,
            options: &wanted.mkfs_options,
            subvolumes: &wanted.subvolumes.0,
        };
        mkfs::make(Wipeable::blank(place)?, &spec, Path::new(SCRATCH), &self.tools, &self.log)?;
        Ok(true)
    }

    /// Loads the kernel's module for a filesystem: mount(2) would ask for modprobe, which is not here.
    pub(super) fn load_filesystem(&self, filesystem: Filesystem) {
        self.hotplug.drivers().load_named(&filesystem.to_string(), &self.log);
    }

    /// Mounts BOOTFS for a moment. A machine whose BOOTFS is broken boots all the same.
    pub(super) fn mount_place(&self, place: &Place, access: Access) -> Option<Mounted<'_>> {
        let filesystem = place.filesystem.as_ref().and_then(FsInfo::filesystem);
        filesystem.into_iter().for_each(|filesystem| self.load_filesystem(filesystem));
        if place.filesystem.as_ref().is_some_and(|info| info.kind == mount::VFAT) {
            // And the tables that it is mounted with by default, which the kernel would ask modprobe for.
            for module in [mount::VFAT, "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"] {
                self.hotplug.drivers().load_named(module, &self.log);
            }
        }
        let mount = || mount::mount_place(place, Path::new(SCRATCH), access, &self.log);
        match self.mount_or_mend(&place.device, filesystem, mount) {
            Ok(mounted) => Some(mounted),
            Err(e) => {
                self.log.warn(e);
                None
            }
        }
    }

    /// Mounts, and if that fails mounts again what could be mended.
    pub(super) fn mount_or_mend<T>(
        &self,
        device: &Path,
        filesystem: Option<Filesystem>,
        mount: impl Fn() -> Result<T, MountError>,
    ) -> Result<T, MountError> {
        let (error, filesystem) = match (mount(), filesystem) {
            // Beside a running system nothing is mended: somebody may have it mounted.
            (Err(error), Some(filesystem)) if self.host != Host::Running => (error, filesystem),
            (done, _) => return done,
        };
        self.log.warn(&error);
        match self.mend(device, filesystem) {
            Ok(()) => mount(),
            Err(_) => Err(error),
        }
    }

    /// Checks a filesystem that is not mounted, and mends it. The error says what is wrong with one that
    /// cannot be mended.
    pub(super) fn mend(&self, device: &Path, filesystem: Filesystem) -> Result<(), String> {
        self.load_filesystem(filesystem);
        let scratch = Path::new(SCRATCH);
        match fsck::check_and_repair(device, filesystem, scratch, &self.tools, &self.log) {
            Ok(FsckOutcome::Clean) => {}
            Ok(FsckOutcome::Repaired) => {
                self.log.warn(format_args!("{} was repaired", device.display()));
            }
            Ok(FsckOutcome::Damaged(why)) => return Err(why),
            // Without its tool a filesystem that can be mounted is still better than none.
            Err(e) => self.log.warn(e),
        }
        Ok(())
    }

    /// The health check of the users' data, as far as that can be done without a person. What is left is for the
    /// mount to say.
    pub(super) fn mend_userdata(&self, found: &Found) {
        let Some(place) = &found.userdata else { return };
        let filesystem = place.filesystem.as_ref().and_then(FsInfo::filesystem);
        let mended = filesystem.map(|filesystem| self.mend(&place.device, filesystem));
        if let Some(Err(why)) = mended {
            self.log.warn(format_args!(
                "the filesystem on {} is damaged: {why}",
                place.device.display()
            ));
        }
    }

    /// Keeps on BOOTFS what the next boot has to know: a fetched configuration, and which servers work.
    pub(super) fn keep(&self, disks: &Disks, new: &online::Found) {
        let online::Found { fetched, works, .. } = new;
        if fetched.is_none() && works.is_none() {
            return;
        }
        let Some(boot) = &disks.found.boot else { return };
        let Some(mounted) = self.mount_place(boot, Access::ReadWrite) else { return };
        let kept = fetched.as_ref().map_or(Ok(()), |fetched| config::keep(mounted.path(), fetched));
        let works = works.as_ref().map_or(Ok(()), |works| works.keep(mounted.path()));
        let works = works.context("keeping the servers that work on BOOTFS");
        for e in [kept, works].into_iter().filter_map(Result::err) {
            self.log.warn(reason(&e));
        }
    }
}

impl Machine {
    /// From here on, the log of this start can be kept.
    pub(super) fn announce_logs(&self, config: &Bundle, disks: &Disks) {
        let place = disks.found.boot.as_ref();
        let Some((boot, info)) = place.and_then(|boot| Some((boot, boot.filesystem.as_ref()?)))
        else {
            return;
        };
        if let Err(e) = boot_log::announce(&boot.device, &info.kind, config.boot.keep_logs) {
            self.log.warn(reason(&e));
        }
    }

    /// Firmware that does not let its order be changed still starts this machine.
    pub(super) fn order_boot_entries(&self, config: &Bundle) {
        let wanted = &config.boot.boot_order;
        // Machines that were started by a BIOS have no such folder.
        if wanted.is_empty() || !Path::new(efi::EFIVARS).exists() {
            return;
        }
        self.hotplug.drivers().load_named("efivarfs", &self.log);
        let none = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let done = mount_virtual("efivarfs", efi::EFIVARS, none, "")
            .map_err(Into::into)
            .and_then(|()| efi::set_boot_order(Path::new(efi::EFIVARS), wanted));
        match done {
            Ok(true) => self.log.info("the order of the firmware's boot entries was changed"),
            Ok(false) => {}
            Err(e) => self.log.warn(format_args!(
                "the order of the firmware's boot entries stays: {} (is efivarfs in the kernel, or among --drivers?)",
                reason(&e)
            )),
        }
    }
}

pub(super) fn found(config: &Bundle, devices: Vec<BlockDevice>) -> Result<Disks> {
    let configured = match plan::plan(&config.drives, &devices) {
        Ok(plans) => plans.into_iter().map(|plan| plan.disk).collect(),
        Err(_) => Vec::new(),
    };
    let found = slots::find(&devices, &configured)?;
    Ok(Disks { devices, found })
}
