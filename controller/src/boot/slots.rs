//! What the slots hold, and their labels.

use std::path::Path;

use anyhow::{Context as _, Result};
use gse_protocol::{Release, config::Bundle, sign::MAX_SIGNATURE};

use super::{Disks, Machine, SCRATCH};
use crate::{
    decide::Step,
    disk::{
        mount::{self, Access},
        records::{Published, Records},
        slots::{Label, Slot as DiskSlot},
    },
    facts::{Content, Cycle, Facts, Role, Slot, SlotId},
    log::reason,
};

/// Looks into every slot.
pub(super) fn facts(machine: &Machine, disks: &Disks, config: &Bundle) -> Facts {
    let look = |slot: &DiskSlot| Slot {
        device: slot.device.display().to_string(),
        role: slot.label().map_or(Role::Free, role),
        content: content(machine, slot, config).unwrap_or_else(|e| Content::Broken(reason(&e))),
    };
    Facts { slots: disks.found.slots.iter().map(look).collect(), ..Facts::default() }
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

fn content(machine: &Machine, slot: &DiskSlot, config: &Bundle) -> Result<Content> {
    if slot.label().is_none() {
        return Ok(Content::Nothing);
    }
    slot.filesystem().into_iter().for_each(|filesystem| machine.load_filesystem(filesystem));
    let mount = || mount::mount_slot_top(slot, Path::new(SCRATCH), Access::ReadOnly, &machine.log);
    let top = machine.mount_or_mend(&slot.device, slot.filesystem(), mount)?;
    let Some(records) = Records::open(top.path())? else { return Ok(Content::Nothing) };
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

/// Does one step, and keeps the facts true.
pub(super) fn run(machine: &Machine, disks: &Disks, facts: &mut Facts, step: Step) -> Result<()> {
    let Step::Relabel(id, to) = step;
    let (slot, label) = disk_slot(disks, id).ok().zip(label(to)).context("a slot went away")?;
    machine.log.info(format_args!("{} becomes {label}", slot.device.display()));
    mount::relabel(&mut slot.clone(), label, Path::new(SCRATCH), &machine.log)?;
    if let Some(slot) = facts.slots.get_mut(id.0) {
        slot.role = to;
    }
    Ok(())
}

/// The slot that the decision means.
pub(super) fn disk_slot(disks: &Disks, id: SlotId) -> Result<&DiskSlot> {
    disks.found.slots.get(id.0).context("a slot went away while it was needed")
}
