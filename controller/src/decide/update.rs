//! Updates: whether the release that a server offers is installed.

use std::time::Duration;

use gse_protocol::{
    Serial,
    config::boot::{self, Answer},
};

use super::{
    Cause, Next, Policy,
    place::{self, Place},
};
use crate::{
    dice,
    facts::{Attempt, Facts, Offer, Role, SlotId},
};

/// What a person who waits for a machine with `update.when_busy = "boot"` may be asked to bear.
const BEARABLE: Duration = Duration::from_secs(30);
/// What any machine waits at most. It tries again at its next start, or from rescue.
const PATIENT: Duration = Duration::from_secs(600);

/// Why nothing is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Keep {
    /// No server offers anything.
    NoOffer,
    /// The offered release is the one that is installed.
    Current,
    /// The offered release is older than the installed one.
    Older,
    /// The offered release failed on this machine.
    Refused,
    /// The policy says never.
    Policy,
    /// The person said no, or nobody answered.
    Declined,
    /// Every slot holds a system that must be kept.
    NoSlot,
    /// It was installed in this boot, or could not be.
    Tried,
    /// It is not the time of day for it.
    Window,
}

enum Verdict {
    Keep(Keep),
    Ask,
    Install(Place),
}

/// Why nothing is installed; none while the decision is open.
pub fn kept(facts: &Facts, policy: &Policy) -> Option<Keep> {
    match verdict(facts, policy) {
        Verdict::Keep(keep) => Some(keep),
        Verdict::Ask | Verdict::Install(_) => None,
    }
}

/// The slot that the offered release goes into, should it be installed; none if every slot is needed.
pub fn target(facts: &Facts, policy: &Policy) -> Option<SlotId> {
    place::for_update(facts, policy.mode).map(|place| place.target)
}

/// How long a machine waits in all for servers that are busy, and say when to come back. One that has nothing to start
/// has no choice.
pub fn patience(when_busy: boot::WhenBusy, has_system: bool) -> Duration {
    match when_busy {
        boot::WhenBusy::Boot if has_system => BEARABLE,
        boot::WhenBusy::Boot | boot::WhenBusy::Wait => PATIENT,
    }
}

/// How much of `update.spread` this machine waits; `chance` is any number. One that has nothing to start does not wait:
/// somebody sits before it.
pub fn delay(spread: u32, has_system: bool, chance: u32) -> Duration {
    dice::part(if has_system { spread } else { 0 }, chance)
}

/// The next step until the offered release is installed, if it is wanted.
pub(super) fn next(facts: &Facts, policy: &Policy) -> Option<Next> {
    match verdict(facts, policy) {
        Verdict::Keep(_) => None,
        Verdict::Ask => Some(Next::Ask),
        Verdict::Install(place) => place::write(facts, place, Cause::Update),
    }
}

fn verdict(facts: &Facts, policy: &Policy) -> Verdict {
    let Some(offer) = &facts.offer else { return Verdict::Keep(Keep::NoOffer) };
    let installed = facts.with_role(Role::System).find_map(|(_, slot)| slot.bootable());
    let serial = installed.map(|system| system.serial);
    if let Some(keep) = unfit(facts, offer, serial) {
        return Verdict::Keep(keep);
    }
    let Some(place) = place::for_update(facts, policy.mode) else {
        return Verdict::Keep(Keep::NoSlot);
    };
    match (policy.update, facts.answer) {
        // A machine that cannot start anything needs a system, whatever the policy.
        _ if serial.is_none() => Verdict::Install(place),
        (boot::Policy::Auto | boot::Policy::Ask, _) if facts.window_closed => {
            Verdict::Keep(Keep::Window)
        }
        (boot::Policy::Auto, _) | (boot::Policy::Ask, Some(Answer::Install)) => {
            Verdict::Install(place)
        }
        (boot::Policy::Never, _) => Verdict::Keep(Keep::Policy),
        (boot::Policy::Ask, Some(Answer::Boot)) => Verdict::Keep(Keep::Declined),
        (boot::Policy::Ask, None) => Verdict::Ask,
    }
}

/// Why the offer is not for this machine.
pub(super) fn unfit(facts: &Facts, offer: &Offer, installed: Option<Serial>) -> Option<Keep> {
    if installed == Some(offer.serial) {
        Some(Keep::Current)
    } else if facts.attempt != Attempt::None {
        Some(Keep::Tried)
    } else if facts.refused().contains(offer.serial) {
        Some(Keep::Refused)
    } else if installed.is_some_and(|serial| is_older(offer, serial)) {
        Some(Keep::Older)
    } else {
        None
    }
}

/// Whether this release must not take the place of the installed one.
pub(super) fn is_older(offer: &Offer, installed: Serial) -> bool {
    offer.serial < installed && !offer.allow_downgrade
}
