//! Labels: what a power cut between two of them left gets its one meaning.

use super::{Cause, Next, Step, health::trust};
use crate::facts::{Facts, Role, Slot, SlotId};

/// The next step until there is at most one SYSFS, which is the one to boot, and no INCOMING that is
/// complete.
///
/// - An INCOMING that is complete and newer than SYSFS is promoted: written whole, but the labels had
///   not moved yet. One that is not newer is a clone, and becomes BACKUPFS.
/// - Of two SYSFS the newer one stays. So a new system gets its label before the old one loses it.
/// - Without a SYSFS, the best BACKUPFS is promoted. So a SYSFS that failed loses its label before the
///   backup gets it, and is not taken for the newer of two.
pub(super) fn next(facts: &Facts) -> Option<Next> {
    let newest = |role| {
        let found = facts.with_role(role).filter_map(|(id, slot)| Some((slot.system()?, id)));
        found.map(|(system, id)| (system.generation, id)).max()
    };
    let system = newest(Role::System);
    let incoming = newest(Role::Incoming)
        .filter(|(incoming, _)| system.is_none_or(|(installed, _)| *incoming > installed));
    let promoted = incoming.or(system).map(|(_, id)| id);
    let chosen = promoted.or_else(|| best_backup(facts).map(|(id, _)| id))?;

    let rises = facts.slot(chosen).is_some_and(|slot| slot.role != Role::System);
    let relabel = |id, role| Some(Next::Do(Step::Relabel(id, role), Cause::Settling));
    if rises {
        return relabel(chosen, Role::System);
    }
    if let Some((id, slot)) = facts.with_role(Role::System).find(|(id, _)| *id != chosen) {
        let role = if slot.bootable().is_some() { Role::Backup } else { Role::Deprived };
        return relabel(id, role);
    }
    let clone = facts.with_role(Role::Incoming).find(|(_, slot)| slot.system().is_some());
    clone.and_then(|(id, _)| relabel(id, Role::Backup))
}

/// The BACKUPFS that takes over from SYSFS: the one that came furthest in its life cycle, and of those
/// the newest.
pub(super) fn best_backup(facts: &Facts) -> Option<(SlotId, &Slot)> {
    let backups = facts.with_role(Role::Backup).filter_map(|(id, slot)| {
        let system = slot.bootable()?;
        Some(((trust(system.life), system.generation, id), (id, slot)))
    });
    backups.max_by_key(|(key, _)| *key).map(|(_, found)| found)
}
