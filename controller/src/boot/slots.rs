//! What the slots hold, and their labels.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use gse_protocol::{Release, config::Bundle, sign::MAX_SIGNATURE};

use super::{Disks, Machine};
use crate::{
    decide::Step,
    disk::{
        mount::{Access, OpenSlot},
        records::{Published, Records},
        slots::{Found, Label, Slot as DiskSlot, SlotState},
    },
    facts::{Content, Cycle, Facts, Role, Slot, SlotId},
    log::reason,
    mount::SLOTS,
};

/// The slots, which stay mounted from the first look until one of them is the root. What formats
/// a slot needs [`Disks`], and `close` is the only way back to those: nothing that is mounted is formatted.
pub(super) struct Slots<'m> {
    machine: &'m Machine,
    disks: Disks,
    /// By the number of the slot.
    open: BTreeMap<usize, OpenSlot<'m>>,
}

impl<'m> Slots<'m> {
    /// Looks into every slot.
    pub(super) fn look(machine: &'m Machine, disks: Disks, config: &Bundle) -> (Self, Facts) {
        let mut open = BTreeMap::new();
        let look = |(number, slot): (usize, &DiskSlot)| Slot {
            device: slot.device.display().to_string(),
            role: slot.label().map_or(Role::Free, role),
            content: match slot.label() {
                None => Content::Nothing,
                Some(_) => mount(machine, number, slot)
                    .and_then(|mounted| {
                        let content = content(mounted.top(), config);
                        open.insert(number, mounted);
                        content
                    })
                    .unwrap_or_else(|e| Content::Broken(reason(&e))),
            },
        };
        let slots = disks.found.slots.iter().enumerate().map(look).collect();
        (Self { machine, disks, open }, Facts { slots, ..Facts::default() })
    }

    /// Does one step, and keeps the facts true.
    pub(super) fn run(&mut self, facts: &mut Facts, step: Step) -> Result<()> {
        let Step::Relabel(id, to) = step;
        let to_label = label(to).context("a free slot has no label")?;
        let mut open = self.take(id)?;
        self.machine.log.info(format_args!("{} becomes {to_label}", open.device().display()));
        open.relabel(to_label)?;
        self.open.insert(id.0, open);
        if let Some(DiskSlot { state: SlotState::Formatted { label, .. }, .. }) =
            self.disks.found.slots.get_mut(id.0)
        {
            *label = Some(to_label);
        }
        if let Some(slot) = facts.slots.get_mut(id.0) {
            slot.role = to;
        }
        Ok(())
    }

    /// A slot's mount, for whoever goes on with it.
    pub(super) fn take(&mut self, id: SlotId) -> Result<OpenSlot<'m>> {
        match self.open.remove(&id.0) {
            Some(open) => Ok(open),
            None => self.mount(id),
        }
    }

    /// Mounts a slot whose mount was taken and ended.
    pub(super) fn mount(&self, id: SlotId) -> Result<OpenSlot<'m>> {
        mount(self.machine, id.0, disk_slot(&self.disks, id)?)
    }

    /// The users' data, and whatever else is no slot.
    pub(super) fn found(&self) -> &Found {
        &self.disks.found
    }

    /// Unmounts them all.
    pub(super) fn close(self) -> Disks {
        self.disks
    }
}

fn mount<'m>(machine: &'m Machine, number: usize, slot: &DiskSlot) -> Result<OpenSlot<'m>> {
    slot.filesystem().into_iter().for_each(|filesystem| machine.load_filesystem(filesystem));
    let target = Path::new(SLOTS).join(number.to_string());
    Ok(OpenSlot::new(slot, &target, Access::ReadOnly, &machine.log)?)
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
fn label(role: Role) -> Option<Label> {
    match role {
        Role::System => Some(Label::SysFs),
        Role::Backup => Some(Label::BackupFs),
        Role::Deprived => Some(Label::Deprived),
        Role::Incoming => Some(Label::Incoming),
        Role::Free => None,
    }
}

fn content(top: &Path, config: &Bundle) -> Result<Content> {
    let Some(records) = Records::open(top)? else { return Ok(Content::Nothing) };
    let Some(record) = records.slot()?.filter(|record| record.complete) else {
        return Ok(Content::Nothing);
    };
    let toml = records.published(Published::Release)?.context("its release is missing")?;
    let signature =
        records.published(Published::ReleaseSignature)?.context("its release has no signature")?;
    let signature = signature.get(..signature.len().min(MAX_SIGNATURE)).unwrap_or_default();
    let release = Release::open(&toml, &String::from_utf8_lossy(signature), &config.sources.keys)
        .context("its release")?;
    // A damaged record is that of a startup that did not end well.
    let cycle = records.cycle().ok().flatten().map_or(Cycle::Open, |cycle| cycle.state);
    Ok(Content::System {
        serial: release.serial,
        version: release.version,
        generation: record.generation,
        cycle,
    })
}

/// The slot that the decision means.
pub(super) fn disk_slot(disks: &Disks, id: SlotId) -> Result<&DiskSlot> {
    disks.found.slots.get(id.0).context("a slot went away while it was needed")
}
