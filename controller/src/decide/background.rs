//! A release that is fetched beside the running system, for the next start.
//!
//! It is left as INCOMING, complete: what a power cut leaves of any installation before the labels have moved. So the
//! next start promotes it by the rules of [`settle`](super::settle), with or without a server, and has no rule of
//! its own for it. What is incomplete is worth nothing, and is begun anew.

use super::{
    Cause, Next, Step, place,
    update::{self, Keep},
};
use crate::facts::{Facts, Role, SlotId};

/// Why nothing is fetched now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Idle {
    /// For the reason that would keep the next start from installing it.
    Keep(Keep),
    /// It is there already, and waits for the next start.
    Waiting,
    /// SYSFS is another system than the one that runs.
    NotSystem,
    /// The only other slot holds a system that has proven itself, which the running one has yet to do.
    Unproven,
}

/// The next step until the offered release waits for the next start. `facts` say of the running system what was known of
/// it before it was started: that it is up now counts only when it has shut down.
///
/// # Errors
/// Why there is none.
pub fn next(facts: &Facts, running: SlotId) -> Result<Step, Idle> {
    let (_, system) = facts
        .with_role(Role::System)
        .find_map(|(id, slot)| Some((id, slot.system()?)).filter(|(id, _)| *id == running))
        .ok_or(Idle::NotSystem)?;
    let Some(offer) = &facts.offer else { return Err(Idle::Keep(Keep::NoOffer)) };
    let mut incoming = facts.with_role(Role::Incoming).filter_map(|(_, slot)| slot.system());
    if incoming.any(|new| new.serial == offer.serial && new.generation > system.generation) {
        return Err(Idle::Waiting);
    }
    if let Some(keep) = update::unfit(facts, offer, Some(system.serial)) {
        return Err(Idle::Keep(keep));
    }
    if facts.window_closed {
        return Err(Idle::Keep(Keep::Window));
    }
    if facts.slots.len() < 2 {
        return Err(Idle::Keep(Keep::NoSlot));
    }
    let place = place::for_background(facts, running).ok_or(Idle::Unproven)?;
    match place::write(facts, place, Cause::Update) {
        // What runs is not checked, and nothing else is kept.
        Some(Next::Do(step, _)) if step.slot() == place.target => Ok(step),
        _ => Err(Idle::Keep(Keep::NoSlot)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use gse_protocol::{
        Serial,
        config::boot::{Boot, Policy as Wish},
    };

    use super::*;
    use crate::{
        decide::{self, Policy},
        facts::{Checked, Content, Cycle, Generation, Life, Offer, Session, Slot, System},
    };

    const RUNNING: SlotId = SlotId(0);

    fn slot(role: Role, serial: u64, state: Cycle) -> Slot {
        let system = System {
            serial: Serial(serial),
            version: serial.to_string(),
            generation: Generation(serial),
            life: Some(Life { state, tries: 0, unclean_shutdowns: 0 }),
        };
        Slot { content: Content::System(system), ..blank(role) }
    }

    fn blank(role: Role) -> Slot {
        let (refused, session) = Default::default();
        Slot { device: String::new(), role, content: Content::Nothing, refused, session }
    }

    /// The first slot runs.
    fn facts(slots: &[Slot], offered: u64) -> Facts {
        let version = offered.to_string();
        let offer = Some(Offer { serial: Serial(offered), version, allow_downgrade: false });
        let mut facts = Facts { slots: slots.to_vec(), offer, ..Facts::default() };
        facts.slots[0].session.checked = Some(Checked::Sound);
        facts
    }

    #[test]
    fn an_update_waits_in_a_slot_that_the_next_start_would_write_to() {
        use Cycle::{Cloned, Closed, Fresh, Open, Up};
        use Role::{Backup, Deprived, Free, Incoming, System};
        let proven = slot(System, 2, Closed);
        let other = SlotId(1);
        let format = Ok(Step::Format(other));
        let deprive = Ok(Step::Relabel(other, Deprived));
        let keep = |keep| Err(Idle::Keep(keep));
        for (first, second, offered, expected) in [
            (&proven, blank(Free), 3, format),
            (&proven, blank(Incoming), 3, format),
            (&proven, slot(Deprived, 1, Open), 3, format),
            (&proven, slot(Backup, 1, Closed), 3, deprive),
            (&proven, slot(Backup, 2, Cloned), 3, deprive),
            (&proven, slot(Backup, 1, Closed), 2, keep(Keep::Current)),
            (&proven, slot(Backup, 1, Closed), 1, keep(Keep::Older)),
            (&proven, slot(Incoming, 3, Fresh), 3, Err(Idle::Waiting)),
            // A newer one takes the place of what waits.
            (&proven, slot(Incoming, 3, Fresh), 4, format),
            // Not before it has shut down once: until then the backup is the last that did.
            (&slot(System, 2, Fresh), slot(Backup, 1, Closed), 3, Err(Idle::Unproven)),
            (&slot(System, 2, Up), slot(Backup, 1, Closed), 3, Err(Idle::Unproven)),
            (&slot(System, 2, Fresh), slot(Deprived, 1, Closed), 3, format),
            (&slot(System, 2, Fresh), slot(Backup, 1, Open), 3, deprive),
            (&slot(Backup, 2, Closed), slot(System, 3, Closed), 4, Err(Idle::NotSystem)),
        ] {
            let facts = facts(&[first.clone(), second.clone()], offered);
            assert_eq!(next(&facts, RUNNING), expected, "{first:?} {second:?} {offered}");
        }
        assert_eq!(next(&facts(std::slice::from_ref(&proven), 3), RUNNING), keep(Keep::NoSlot));
        let two = [proven, blank(Free)];
        assert_eq!(next(&Facts { offer: None, ..facts(&two, 3) }, RUNNING), keep(Keep::NoOffer));
        assert_eq!(
            next(&Facts { window_closed: true, ..facts(&two, 3) }, RUNNING),
            keep(Keep::Window)
        );
        let mut refused = facts(&two, 3);
        refused.slots[0].refused.insert(Serial(3));
        assert_eq!(next(&refused, RUNNING), keep(Keep::Refused));
    }

    /// The slot that the next start boots, from what is on the disks, without a server.
    fn boots(mut facts: Facts, running: Cycle) -> SlotId {
        let Content::System(system) = &mut facts.slots[0].content else { panic!() };
        system.life = Some(Life { state: running, tries: 0, unclean_shutdowns: 0 });
        facts.slots.iter_mut().for_each(|slot| slot.session = Session::default());
        let wish = Policy { update: Wish::Never, ..Policy::from(&Boot::default()) };
        let mut facts = Facts { slots: facts.slots, ..Facts::default() };
        loop {
            match decide::next(&facts, &wish) {
                decide::Next::Do(step, _) => facts.apply(step),
                decide::Next::Boot(slot, _) => return slot,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn whenever_power_is_cut_the_next_start_boots_the_old_system_or_the_whole_new_one() {
        let others = [
            blank(Role::Free),
            slot(Role::Backup, 1, Cycle::Closed),
            slot(Role::Deprived, 1, Cycle::Open),
            slot(Role::Incoming, 3, Cycle::Fresh),
        ];
        for other in others {
            for shut_down in [Cycle::Up, Cycle::Closed] {
                let mut facts = facts(&[slot(Role::System, 2, Cycle::Closed), other.clone()], 4);
                let mut steps = Vec::new();
                while let Ok(step) = next(&facts, RUNNING) {
                    assert_eq!(step.slot(), SlotId(1), "the running system was touched: {step:?}");
                    // Half done, as the first write of mkfs and all but the last of the files leave it.
                    let mut half = facts.clone();
                    if !matches!(step, Step::Relabel(..)) {
                        half.slots[1] = blank(Role::Incoming);
                        assert_eq!(boots(half, shut_down), RUNNING, "{steps:?}, half of {step:?}");
                    }
                    facts.apply(step);
                    steps.push(step);
                    let whole = matches!(step, Step::Install(_));
                    let expected = if whole { SlotId(1) } else { RUNNING };
                    assert_eq!(boots(facts.clone(), shut_down), expected, "{steps:?}");
                }
                assert_eq!(steps.last(), Some(&Step::Install(SlotId(1))));
                assert_eq!(next(&facts, RUNNING), Err(Idle::Waiting));
            }
        }
    }
}
