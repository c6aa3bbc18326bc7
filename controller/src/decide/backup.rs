//! The clone of a SYSFS that has proven itself, where no backup has.

use super::{
    Cause, Next, Policy,
    health::{Trust, slot_trust},
    place,
};
use crate::facts::{Facts, Role};

/// The next step until there is a backup.
pub(super) fn next(facts: &Facts, policy: &Policy) -> Option<Next> {
    let good = Some(Trust::Copied);
    let has_backup = facts.with_role(Role::Backup).any(|(_, slot)| slot_trust(slot) >= good);
    if !policy.clone || facts.clone_failed || has_backup {
        return None;
    }
    place::write(facts, place::for_backup(facts)?, Cause::Backup)
}
