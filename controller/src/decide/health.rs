//! Health: whether SYSFS completed its last life cycle, and what happens if not.

use gse_protocol::Serial;

use super::{Cause, Next, Policy, Step, settle::best_backup};
use crate::facts::{Checked, Cycle, Facts, Life, Role, Slot, SlotId, System};

/// Why a system is unhealthy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ailment {
    /// It was started, and did not report that it is up.
    #[error("it was started{} and never came up", in_a_row(*tries))]
    NeverUp {
        /// How often in a row.
        tries: u32,
    },
    /// It came up, and was not shut down.
    #[error("it was not shut down cleanly{}", in_a_row(*times))]
    Unclean {
        /// How often in a row.
        times: u32,
    },
    /// The record of its life cycle is missing or damaged.
    #[error("the record of its last startup is missing or damaged")]
    NoRecord,
    /// Its filesystem is damaged.
    #[error("its filesystem is damaged: {0}")]
    Damaged(String),
    /// It has no init.
    #[error("{0}")]
    NoInit(String),
}

fn in_a_row(count: u32) -> String {
    if count > 1 { format!(" {count} times in a row") } else { String::new() }
}

/// How far a system came in its life cycle, the furthest last: what counts when one of two has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Trust {
    /// It was started, and did not come up.
    Failed,
    /// It was never started.
    Untried,
    /// It came up.
    CameUp,
    /// It is a copy of a system that came up and was shut down cleanly. As good as that to fall back to; but
    /// it has to prove itself before it is copied in turn, or a machine on which everything fails
    /// would make a copy at each start.
    Copied,
    /// It came up, and was shut down cleanly.
    Proven,
}

/// How far a system came. This does not depend on the policy, which may change between two boots.
pub(super) fn trust(life: Option<Life>) -> Trust {
    match life.map(|life| life.state) {
        None | Some(Cycle::Open) => Trust::Failed,
        Some(Cycle::Fresh) => Trust::Untried,
        Some(Cycle::Up) => Trust::CameUp,
        Some(Cycle::Cloned) => Trust::Copied,
        Some(Cycle::Closed) => Trust::Proven,
    }
}

/// How far the system of a slot came; none if there is none that could be started.
pub(super) fn slot_trust(slot: &Slot) -> Option<Trust> {
    slot.bootable().map(|system| trust(system.life))
}

/// What is wrong with the system of a slot; none if it is healthy, or failed no oftener than the policy
/// allows.
pub fn ailment(slot: &Slot, policy: &Policy) -> Option<Ailment> {
    match &slot.session.checked {
        Some(Checked::Damaged(why)) => return Some(Ailment::Damaged(why.clone())),
        Some(Checked::NoInit(why)) => return Some(Ailment::NoInit(why.clone())),
        None | Some(Checked::Sound) => {}
    }
    slot.system().and_then(|system| failed_cycle(system.life, policy))
}

fn failed_cycle(life: Option<Life>, policy: &Policy) -> Option<Ailment> {
    let Some(life) = life else { return Some(Ailment::NoRecord) };
    let (tries, times) = (life.tries, life.unclean());
    match life.state {
        Cycle::Open if tries >= policy.tries => Some(Ailment::NeverUp { tries }),
        Cycle::Up if times > policy.unclean_shutdowns => Some(Ailment::Unclean { times }),
        Cycle::Fresh | Cycle::Cloned | Cycle::Closed | Cycle::Open | Cycle::Up => None,
    }
}

/// The next step until SYSFS is known to be healthy, or has given way, or nothing better is there.
pub(super) fn next(facts: &Facts, policy: &Policy) -> Option<Next> {
    let (id, slot) = facts.with_role(Role::System).find(|(_, slot)| slot.system().is_some())?;
    let system = slot.system()?;
    if slot.session.checked.is_none() {
        return Some(Next::Do(Step::Check(id), Cause::Looking));
    }
    let ailment = ailment(slot, policy)?;
    let at_fault = match &ailment {
        // A disk that loses data is not the image's fault, unless that had failed already.
        Ailment::Damaged(_) => matches!(
            failed_cycle(system.life, policy),
            Some(Ailment::NeverUp { .. } | Ailment::Unclean { .. })
        ),
        _ => true,
    };
    let successor = best_backup(facts).filter(|(_, backup)| slot_trust(backup) >= slot_trust(slot));
    let step = match successor {
        Some((backup, Slot { session, .. })) if session.checked.is_none() => Step::Check(backup),
        Some(_) => {
            let refusal = at_fault.then(|| refusal(facts, id, system)).flatten();
            refusal.unwrap_or(Step::Relabel(id, Role::Deprived))
        }
        // With nothing else it is started all the same. Without an init it cannot be, and installing the same
        // image once more would not give it one.
        None if matches!(ailment, Ailment::NoInit(_)) => refusal(facts, id, system)?,
        None => return None,
    };
    let cause =
        if matches!(step, Step::Check(_)) { Cause::Looking } else { Cause::Unhealthy(ailment) };
    Some(Next::Do(step, cause))
}

/// The next record that the failed release has yet to be written into. None if another slot shows that
/// it was not the release: a clone of it that stands.
fn refusal(facts: &Facts, failed: SlotId, system: &System) -> Option<Step> {
    let serial = system.serial;
    if facts.slots().any(|(id, slot)| id != failed && stands(slot, serial)) {
        return None;
    }
    let mut refused = facts.refused();
    refused.insert(serial);
    // In all of them, so that none is the only one to know. The slots that stay come first.
    let mut slots: Vec<_> = facts
        .slots()
        .filter(|(_, slot)| matches!(slot.role, Role::System | Role::Backup))
        .filter(|(_, slot)| !matches!(slot.session.checked, Some(Checked::Damaged(_))))
        .filter(|(_, slot)| slot.system().is_some())
        .collect();
    slots.sort_by_key(|(id, _)| (*id == failed, *id));
    let missing = slots.into_iter().flat_map(|(id, slot)| {
        refused.iter().filter(|serial| !slot.refused.contains(*serial)).map(move |s| (id, s))
    });
    missing.map(|(id, serial)| Step::Refuse(id, serial)).next()
}

fn stands(slot: &Slot, serial: Serial) -> bool {
    matches!(slot.role, Role::System | Role::Backup)
        && slot.bootable().is_some_and(|system| system.serial == serial)
        && slot_trust(slot) >= Some(Trust::Copied)
}
