//! The slots as they are on the disks: mounted, looked into, labelled, formatted.

use std::{
    collections::BTreeMap,
    path::Path,
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context as _, Result};
use gse_protocol::{
    Release, Serial,
    config::{Bundle, drives::Role as PartitionRole},
};

use super::{Disks, Machine};
use crate::{
    clock,
    decide::GivesWay,
    disk::{
        fallback::Fallback,
        fsck,
        mkfs::{self, Spec},
        mount::{Access, MountError, OpenSlot},
        records::{Origin, Records, SlotRecord},
        slots::{Found, Label, Slot as DiskSlot, SlotState},
        wipeable::Wipeable,
    },
    facts::{Checked, Content, Facts, Role, Session, Slot, SlotId, System},
    kept::Kept,
    log::reason,
    mount::{self, SCRATCH, SLOTS},
    switch_root::check_init,
};

/// The slots, which stay mounted from the first look until one of them is the root.
pub(super) struct Slots<'m> {
    machine: &'m Machine,
    disks: Disks,
    /// By the number of the slot.
    open: BTreeMap<usize, OpenSlot<'m>>,
    /// The last one that any slot knows of.
    fallback: Option<Fallback>,
    /// What the next system is made under.
    origin: Origin,
}

impl<'m> Slots<'m> {
    /// Looks into every slot.
    ///
    /// # Errors
    /// The kernel cannot mount filesystems of that type at all, which says nothing about what is on them.
    pub(super) fn look(
        machine: &'m Machine,
        disks: Disks,
        config: &Bundle,
    ) -> Result<(Self, Facts)> {
        let keys = config.sources.keys.0.iter().map(ToString::to_string).collect();
        let origin = Origin { keys, wipes: Vec::new() };
        let mut opened = mount_all(machine, &disks.found.slots).into_iter();
        let mut slots = Self { machine, disks, open: BTreeMap::new(), fallback: None, origin };
        let token = config.boot.wipe.token.as_deref();
        let mut facts = Facts::default();
        for number in 0..slots.disks.found.slots.len() {
            let id = SlotId(number);
            let slot = slots.disk_slot(id)?;
            let (device, label) = (slot.device.display().to_string(), slot.label());
            let broken = |e| (Content::Broken(reason(&e)), None);
            let (content, record) = match opened.next().flatten() {
                None => (Content::Nothing, None),
                Some(Err(e)) if is_unknown_filesystem(&e) => {
                    return Err(e).context(
                        "this kernel cannot mount the systems that are installed: build the \
                         controller with the module of that filesystem",
                    );
                }
                Some(Err(e)) => broken(e),
                Some(Ok(open)) => {
                    let found = content(open.top(), config);
                    slots.recall(open.top());
                    slots.put_back(id, open);
                    found.unwrap_or_else(broken)
                }
            };
            let role = label.map_or(Role::Free, role);
            let (refused, wipes) =
                record.map(|record| (record.refused, record.origin.wipes)).unwrap_or_default();
            let stale = token.is_some_and(|token| !wipes.iter().any(|known| known == token));
            wipes.iter().for_each(|token| slots.origin.obeyed(token));
            let session = Session { stale, ..Session::default() };
            facts.slots.push(Slot { device, role, content, refused, session });
        }
        token.into_iter().for_each(|token| slots.origin.obeyed(token));
        Ok((slots, facts))
    }

    /// Gives a slot the label of a role. For the rest of this boot it counts as given, even after an error.
    pub(super) fn relabel(&mut self, id: SlotId, to: Role) -> Result<()> {
        let to = label(to).context("a free slot has no label")?;
        if let Some(DiskSlot { state: SlotState::Formatted { label, .. }, .. }) =
            self.disks.found.slots.get_mut(id.0)
        {
            *label = Some(to);
        }
        let mut open = self.take(id)?;
        self.machine.log.info(format_args!("{} becomes {to}", open.device().display()));
        open.relabel(to)?;
        self.put_back(id, open);
        Ok(())
    }

    /// Writes down that a release failed here.
    pub(super) fn refuse(&mut self, id: SlotId, serial: Serial) -> Result<()> {
        let mut open = self.take(id)?;
        open.set_access(Access::ReadWrite)?;
        let records = Records::open(open.top())?.context("its record is missing")?;
        let mut record = records.slot()?.context("its record is missing")?;
        record.refused.insert(serial);
        records.set_slot(&record)?;
        drop(records);
        open.set_access(Access::ReadOnly)?;
        self.put_back(id, open);
        Ok(())
    }

    /// The release of a system.
    pub(super) fn release(&mut self, id: SlotId, config: &Bundle) -> Result<Release> {
        let open = self.take(id)?;
        let records = Records::open(open.top())?.context("its record is missing")?;
        let release = Kept::open(&records, &config.sources.keys).map(|kept| kept.release);
        self.put_back(id, open);
        release
    }

    /// The last fallback of this machine.
    pub(super) fn fallback(&self) -> Option<&Fallback> {
        self.fallback.as_ref()
    }

    /// Writes down in the slot that takes over that another one gave way. For the rest of this boot it counts as
    /// written, even after an error.
    pub(super) fn note(&mut self, gives_way: &GivesWay, facts: &Facts) -> Result<()> {
        let GivesWay { to, from, why } = gives_way;
        let failed = from.and_then(|from| facts.slot(from)).and_then(Slot::system);
        let failed = failed.map(|system| (system.version.clone(), system.serial));
        let fallback = Fallback::after(self.fallback(), clock::now(), failed, why.clone());
        self.fallback = Some(fallback.clone());
        let mut open = self.take(*to)?;
        open.set_access(Access::ReadWrite)?;
        Records::create(open.top())?.set_fallback(&fallback)?;
        open.set_access(Access::ReadOnly)?;
        self.put_back(*to, open);
        Ok(())
    }

    /// Takes note of what a slot knows of fallbacks. A record that makes no sense is as good as none.
    fn recall(&mut self, top: &Path) {
        let found = Records::open(top).ok().flatten().and_then(|r| r.fallback().ok().flatten());
        if found.as_ref().map(|f| f.number) > self.fallback().map(|f| f.number) {
            self.fallback = found;
        }
    }

    /// Checks the filesystem of a slot, mends it, and looks for the init in it. Afterwards it is mounted for
    /// writing.
    pub(super) fn check(&mut self, id: SlotId, init: &str) -> Result<Checked> {
        let log = &self.machine.log;
        let mut slot = self.take(id)?;
        if !fsck::proven_by_mount(&mut slot, log) {
            let (device, filesystem) = (slot.device().to_owned(), slot.filesystem());
            slot.close()?;
            if let Err(why) = self.machine.mend(&device, filesystem) {
                return Ok(Checked::Damaged(why));
            }
            slot = self.take(id)?;
            slot.set_access(Access::ReadWrite)?;
        }
        let found = check_init(&slot.root(), init);
        self.put_back(id, slot);
        Ok(found.map_or_else(|e| Checked::NoInit(reason(&e)), |()| Checked::Sound))
    }

    /// Gives a slot a new, empty filesystem with the label INCOMING.
    pub(super) fn format(&mut self, id: SlotId, config: &Bundle) -> Result<()> {
        // What is mounted cannot be formatted.
        if let Some(open) = self.open.remove(&id.0) {
            open.close()?;
        }
        let slot = self.disk_slot(id)?;
        let role = if id.0 == 0 { PartitionRole::System } else { PartitionRole::Backup };
        let wanted = config
            .drives
            .partition(role)
            .or_else(|| config.drives.partition(PartitionRole::System))
            .context("controller/drives.toml has no SYSFS, so its filesystem is not known")?;
        self.machine.load_filesystem(wanted.filesystem);
        let spec = Spec {
            filesystem: wanted.filesystem,
            label: Label::Incoming,
            options: &wanted.mkfs_options,
            subvolumes: &wanted.subvolumes.0,
        };
        let (wipeable, device) = (Wipeable::free(slot)?, slot.device.clone());
        let Machine { tools, log, .. } = self.machine;
        mkfs::make(wipeable, &spec, Path::new(SCRATCH), tools, log)?;
        let again = self.machine.probe(config)?.found.slots;
        let made = again.into_iter().find(|found| found.device == device);
        let made = made.with_context(|| format!("{} is not there any more", device.display()))?;
        self.disks.found.slots.get_mut(id.0).into_iter().for_each(|slot| *slot = made.clone());
        Ok(())
    }

    /// A slot's mount, for whoever goes on with it. It ends if it is not put back.
    pub(super) fn take(&mut self, id: SlotId) -> Result<OpenSlot<'m>> {
        match self.open.remove(&id.0) {
            Some(open) => Ok(open),
            None => mount(self.machine, id.0, self.disk_slot(id)?),
        }
    }

    /// The mounts of all systems, but for the one in `not`, SYSFS first. One that cannot be mounted is left out.
    pub(super) fn take_systems(
        &mut self,
        facts: &Facts,
        not: Option<SlotId>,
    ) -> Vec<(SlotId, OpenSlot<'m>)> {
        let systems = [Role::System, Role::Backup, Role::Deprived]
            .into_iter()
            .flat_map(|role| facts.with_role(role))
            .filter(|(id, slot)| Some(*id) != not && slot.system().is_some());
        systems.filter_map(|(id, _)| Some((id, self.take(id).ok()?))).collect()
    }

    /// Keeps a slot's mount for the next who needs it.
    pub(super) fn put_back(&mut self, id: SlotId, open: OpenSlot<'m>) {
        self.open.insert(id.0, open);
    }

    /// What a system that is installed now is made under.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The users' data, and whatever else is no slot.
    pub(super) fn found(&self) -> &Found {
        &self.disks.found
    }

    /// The slot that a decision means.
    pub(super) fn disk_slot(&self, id: SlotId) -> Result<&DiskSlot> {
        self.disks.found.slots.get(id.0).context("a slot went away while it was needed")
    }
}

/// Whether mounting failed because the kernel does not know the filesystem.
fn is_unknown_filesystem(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(MountError::Mount(mount::MountError::Mount { source, .. }))
            if source.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
    )
}

/// Mounts all slots that have a label, at once: nothing else in the look at them takes as long.
fn mount_all<'m>(machine: &'m Machine, slots: &[DiskSlot]) -> Vec<Option<Result<OpenSlot<'m>>>> {
    thread::scope(|scope| {
        let mounting = slots.iter().enumerate().map(|(number, slot)| {
            let mount = move || slot.label().map(|_| mount(machine, number, slot));
            // Without a thread, or if that broke, it is mounted when its turn comes.
            (mount, thread::Builder::new().spawn_scoped(scope, mount))
        });
        let mounting: Vec<_> = mounting.collect();
        let done = mounting.into_iter().map(|(mount, thread)| {
            thread
                .map(ScopedJoinHandle::join)
                .ok()
                .and_then(thread::Result::ok)
                .unwrap_or_else(mount)
        });
        done.collect()
    })
}

fn mount<'m>(machine: &'m Machine, number: usize, slot: &DiskSlot) -> Result<OpenSlot<'m>> {
    slot.filesystem().into_iter().for_each(|filesystem| machine.load_filesystem(filesystem));
    let target = Path::new(SLOTS).join(number.to_string());
    let open = || OpenSlot::new(slot, &target, Access::ReadOnly, &machine.log);
    Ok(machine.mount_or_mend(&slot.device, slot.filesystem(), open)?)
}

fn role(label: Label) -> Role {
    match label {
        Label::SysFs => Role::System,
        Label::BackupFs => Role::Backup,
        Label::Deprived => Role::Deprived,
        Label::Incoming => Role::Incoming,
        Label::BootFs | Label::UserDataFs => Role::Free,
    }
}

/// The label that a role is written as; a free slot has none that would be written.
pub(super) fn label(role: Role) -> Option<Label> {
    match role {
        Role::System => Some(Label::SysFs),
        Role::Backup => Some(Label::BackupFs),
        Role::Deprived => Some(Label::Deprived),
        Role::Incoming => Some(Label::Incoming),
        Role::Free => None,
    }
}

/// What the records below `top` say, and the one that says so.
fn content(top: &Path, config: &Bundle) -> Result<(Content, Option<SlotRecord>)> {
    let nothing = || Ok((Content::Nothing, None));
    let Some(records) = Records::open(top)? else { return nothing() };
    let Some(record) = records.slot()?.filter(|record| record.complete) else { return nothing() };
    let Kept { release, .. } = Kept::open(&records, &config.sources.keys)?;
    let system = System {
        serial: release.serial,
        version: release.version,
        generation: record.generation,
        life: records.cycle().ok().flatten().map(|cycle| cycle.life()),
    };
    Ok((Content::System(system), Some(record)))
}
