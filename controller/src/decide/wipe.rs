//! "Wipe the whole setup and start new": every system that was made before the order goes.
//!
//! A slot's record names the orders that its machine had obeyed when it was written, so there is nothing to
//! be remembered elsewhere, and an order is obeyed once. First the offered release is installed as if it were an
//! update, beside what is there; what was made before the order goes when that stands. So whenever power
//! is cut, there is a system to start, or it is gone on with. Only where there is one slot alone, that is given up
//! first, and not before a signed index is at hand.

use gse_protocol::Serial;

use super::{Cause, Next, Step, place, update};
use crate::facts::{Attempt, Checked, Facts, Offer, Role, Slot};

/// The next step until all systems were made after the order; none if there is no order, or it has to wait.
pub(super) fn next(facts: &Facts) -> Option<Next> {
    let (_, system) = facts.with_role(Role::System).find(|(_, slot)| slot.bootable().is_some())?;
    if system.is_stale() {
        let installed = system.system()?.serial;
        facts.offer.as_ref().filter(|offer| is_fit(facts, offer, installed))?;
        return place::write(facts, place::for_wipe(facts)?, Cause::Wipe);
    }
    if system.session.checked != Some(Checked::Sound) {
        return None;
    }
    let (id, slot) = facts.slots().find(|(_, slot)| slot.is_stale())?;
    let step = match slot.role {
        Role::System | Role::Backup => Step::Relabel(id, Role::Deprived),
        Role::Deprived | Role::Incoming | Role::Free => Step::Format(id),
    };
    Some(Next::Do(step, Cause::Wipe))
}

/// Whether an order waits for a release that can be installed.
pub fn waits(facts: &Facts) -> bool {
    facts.slots.iter().any(Slot::is_stale)
}

/// The release that is installed may be so again; what else is not for this machine stays so.
fn is_fit(facts: &Facts, offer: &Offer, installed: Serial) -> bool {
    facts.attempt == Attempt::None
        && !facts.window_closed
        && !facts.refused().contains(offer.serial)
        && !update::is_older(offer, installed)
}
