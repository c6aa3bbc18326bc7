//! Where a system is written: never over the last one that has proven itself.

use gse_protocol::config::boot::Mode;

use super::{
    Cause, Next, Step,
    health::{Trust, slot_trust, trust},
};
use crate::facts::{Facts, Role, Slot, SlotId, System};

/// The partition that `drives.toml` lists first, as that of SYSFS. With `update.mode = "in-place"` new systems
/// go there. That it is a place, and not wherever SYSFS happens to be, gives the mode the same end
/// after every cut: SYSFS moves to the copy before its own slot is formatted.
const HOME: SlotId = SlotId(0);

/// Where something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The slot that is written.
    pub(super) target: SlotId,
    /// The slot that stays whole meanwhile, if any holds a system.
    pub(super) kept: Option<SlotId>,
    /// The system that is cloned there; none for the offered release.
    pub(super) clone: Option<SlotId>,
}

/// The slot that must stay whole: of SYSFS and BACKUPFS the one that came further in its life cycle.
pub(super) fn kept(facts: &Facts) -> Option<SlotId> {
    let systems = facts.slots().filter_map(|(id, slot)| {
        let system = slot.bootable()?;
        let is_system = match slot.role {
            Role::System => true,
            Role::Backup => false,
            Role::Deprived | Role::Incoming | Role::Free => return None,
        };
        Some((trust(system.life), is_system, system.generation, id))
    });
    systems.max().map(|(_, _, _, id)| id)
}

/// The slot whose content is worth least, `kept` excepted; none if there is no other.
fn expendable(facts: &Facts, kept: Option<SlotId>) -> Option<SlotId> {
    let worth = |slot: &Slot| match (slot.role, slot.bootable()) {
        _ if slot.session.blank => 0,
        (Role::Free, _) => 1,
        (Role::Incoming, _) => 2,
        (Role::Deprived, _) => 3,
        (Role::Backup | Role::System, None) => 4,
        (Role::Backup, Some(_)) => 5,
        (Role::System, Some(_)) => 6,
    };
    let others = facts.slots().filter(|(id, slot)| Some(*id) != kept && !slot.session.unwritable);
    let key = |(id, slot): &(SlotId, &Slot)| {
        let system = slot.system().map(|system| (trust(system.life), system.generation));
        (worth(slot), system, *id)
    };
    others.min_by_key(key).map(|(id, _)| id)
}

/// Where the offered release goes.
pub(super) fn for_update(facts: &Facts, mode: Mode) -> Option<Place> {
    let kept = kept(facts);
    let rotated = expendable(facts, kept).map(|target| Place { target, kept, clone: None });
    if mode == Mode::Rotate {
        return rotated;
    }
    let at_home = facts.slot(HOME).filter(|slot| !slot.session.unwritable);
    if kept != Some(HOME) {
        return at_home.map_or(rotated, |_| Some(Place { target: HOME, kept, clone: None }));
    }
    // What is there stays until a copy of it stands; and what has not proven itself is not copied.
    let Some((_, system)) = proven(facts).filter(|(id, _)| *id == HOME) else { return rotated };
    let copy = facts.with_role(Role::Backup).find(|(_, slot)| {
        slot.bootable().is_some_and(|copy| copy.serial == system.serial)
            && slot_trust(slot) >= Some(Trust::Copied)
    });
    match (copy, at_home) {
        (Some((copy, _)), Some(_)) => Some(Place { target: HOME, kept: Some(copy), clone: None }),
        (None, Some(_)) if !facts.clone_failed => {
            rotated.map(|place| Place { clone: Some(HOME), ..place })
        }
        _ => rotated,
    }
}

/// Where the offered release goes while the system in `running` runs: into another slot than that, whatever the mode.
pub(super) fn for_background(facts: &Facts, running: SlotId) -> Option<Place> {
    let kept = kept(facts);
    let target = expendable(facts, kept).filter(|target| *target != running)?;
    Some(Place { target, kept, clone: None })
}

/// Where the offered release goes when everything else is to go too: beside what is there, or in the only slot.
pub(super) fn for_wipe(facts: &Facts) -> Option<Place> {
    let kept = kept(facts);
    if facts.slots.len() == 1 {
        return kept.map(|target| Place { target, kept: None, clone: None });
    }
    expendable(facts, kept).map(|target| Place { target, kept, clone: None })
}

/// Where a clone of SYSFS goes; none while SYSFS has not proven itself, or every other slot is needed.
pub(super) fn for_backup(facts: &Facts) -> Option<Place> {
    let (id, _) = proven(facts)?;
    let target = expendable(facts, Some(id))?;
    Some(Place { target, kept: Some(id), clone: Some(id) })
}

/// SYSFS, if its last life cycle was healthy.
fn proven(facts: &Facts) -> Option<(SlotId, &System)> {
    let systems =
        facts.with_role(Role::System).filter_map(|(id, slot)| Some((id, slot.bootable()?)));
    systems.into_iter().find(|(_, system)| trust(system.life) == Trust::Proven)
}

/// The next step until the place holds what it is for.
pub(super) fn write(facts: &Facts, place: Place, cause: Cause) -> Option<Next> {
    let Place { target, kept, clone } = place;
    let slot = facts.slot(target)?;
    if let Some(kept) = kept
        && facts.slot(kept)?.session.checked.is_none()
    {
        return Some(Next::Do(Step::Check(kept), Cause::Looking));
    }
    let step = if slot.session.blank {
        match clone {
            Some(from) => Step::Clone { from, to: target },
            None => Step::Install(target),
        }
    } else if matches!(slot.role, Role::System | Role::Backup) {
        // Whatever a half-made filesystem looks like: it is none that anybody would boot.
        Step::Relabel(target, Role::Deprived)
    } else {
        Step::Format(target)
    };
    Some(Next::Do(step, cause))
}
