//! The decisions: facts and policy in, steps out. No I/O, no clock, no chance.
//!
//! [`settle`] comes first: it gives every state that a power cut can leave its one meaning. Then
//! [`update`] says whether a release is installed, and where; and [`choose`] which slot is booted.

use gse_protocol::config::boot::{Answer, Policy};

use crate::facts::{Content, Cycle, Facts, Generation, Role, Slot, SlotId};

/// One change to the machine's disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Give the slot's filesystem the label of this role.
    Relabel(SlotId, Role),
}

/// Whether to install what the server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Boot what is there; the reason is for the person at the console.
    Keep(Keep),
    /// Ask the person, then decide again with the answer.
    Ask,
    /// Make the offered system in this slot.
    Install(SlotId),
}

/// Why nothing is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// No server offers anything.
    NoOffer,
    /// The offered release is the one that is installed.
    Current,
    /// The offered release is older than the installed one.
    Older,
    /// The policy says never.
    Policy,
    /// The person said no, or nobody answered.
    Declined,
    /// Every slot holds a system that must be kept.
    NoSlot,
}

/// Why no slot can be booted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NothingToBoot {
    /// There are no slots at all.
    #[error(
        "this machine has no partition for a system: list a SYSFS and a BACKUPFS in controller/drives.toml"
    )]
    NoSlots,
    /// No slot holds a system.
    #[error(
        "no system is installed on this machine, and no server offered one: check the cable and the server, then retry"
    )]
    Empty,
    /// What the slots hold must not be started.
    #[error(
        "no installed system can be started ({0}): connect the machine to its server, then retry"
    )]
    Broken(String),
}

/// The steps that give an interrupted change its end: afterwards there is at most one SYSFS, and it
/// holds the system that is to be booted.
pub fn settle(facts: &Facts) -> Vec<Step> {
    let bootable =
        |role| facts.with_role(role).filter_map(|(id, slot)| Some((slot.generation()?, id))).max();
    let system = bootable(Role::System);
    // Written whole, with its record, but the labels had not moved yet.
    let incoming = bootable(Role::Incoming)
        .filter(|(incoming, _)| system.is_none_or(|(installed, _)| *incoming > installed));
    let Some((_, chosen)) = incoming.or(system).or_else(|| bootable(Role::Backup)) else {
        return Vec::new();
    };
    promote(facts, chosen)
}

/// The label changes that make `chosen` SYSFS. The new one gets its label first: two SYSFS have a
/// meaning (the higher generation), none would leave it to the backup.
pub fn promote(facts: &Facts, chosen: SlotId) -> Vec<Step> {
    let mut steps = Vec::new();
    let rises = facts.slots().any(|(id, slot)| id == chosen && slot.role != Role::System);
    if rises {
        steps.push(Step::Relabel(chosen, Role::System));
    }
    let others = facts.with_role(Role::System).filter(|(id, _)| *id != chosen);
    steps.extend(others.map(|(id, slot)| match slot.content {
        Content::System { .. } => Step::Relabel(id, Role::Backup),
        Content::Nothing | Content::Broken(_) => Step::Relabel(id, Role::Deprived),
    }));
    steps
}

/// Whether the offered release is installed, and into which slot. For settled facts.
pub fn update(facts: &Facts, policy: Policy) -> Update {
    let Some(offer) = &facts.offer else {
        return Update::Keep(Keep::NoOffer);
    };
    let installed = facts.with_role(Role::System).find_map(|(_, slot)| match &slot.content {
        Content::System { serial, .. } => Some(*serial),
        Content::Nothing | Content::Broken(_) => None,
    });
    if let Some(installed) = installed {
        if offer.serial == installed {
            return Update::Keep(Keep::Current);
        }
        if offer.serial < installed && !offer.allow_downgrade {
            return Update::Keep(Keep::Older);
        }
        match (policy, facts.answer) {
            (Policy::Auto, _) | (Policy::Ask, Some(Answer::Install)) => {}
            (Policy::Never, _) => return Update::Keep(Keep::Policy),
            (Policy::Ask, Some(Answer::Boot)) => return Update::Keep(Keep::Declined),
            (Policy::Ask, None) => return Update::Ask,
        }
    }
    match target(facts) {
        Some(slot) => Update::Install(slot),
        None => Update::Keep(Keep::NoSlot),
    }
}

/// The slot that a new system goes into: never the one that holds the last healthy system.
fn target(facts: &Facts) -> Option<SlotId> {
    let keep = last_healthy(facts);
    let worth = |slot: &Slot| match (slot.role, &slot.content) {
        (Role::Free, _) => 0,
        (Role::Incoming, _) => 1,
        (Role::Deprived, _) => 2,
        (_, Content::Nothing | Content::Broken(_)) => 3,
        (Role::Backup, _) => 4,
        (Role::System, _) => 5,
    };
    facts
        .slots()
        .filter(|(id, _)| Some(*id) != keep)
        .min_by_key(|(id, slot)| (worth(slot), *id))
        .map(|(id, _)| id)
}

/// The slot that must stay whole: SYSFS once it has closed a cycle; before that, the backup; and with
/// no backup, SYSFS even so.
pub fn last_healthy(facts: &Facts) -> Option<SlotId> {
    let system = facts.with_role(Role::System).find(|(_, s)| s.generation().is_some());
    let backup = facts.with_role(Role::Backup).find(|(_, s)| s.generation().is_some());
    match (system, backup) {
        (Some((id, Slot { content: Content::System { cycle: Cycle::Closed, .. }, .. })), _) => {
            Some(id)
        }
        (_, Some((id, _))) | (Some((id, _)), None) => Some(id),
        (None, None) => None,
    }
}

/// The generation that the next promoted system gets.
pub fn next_generation(facts: &Facts) -> Generation {
    facts.slots.iter().filter_map(Slot::generation).max().unwrap_or_default().next()
}

/// The slot to boot: SYSFS, and if that cannot be started, the backup. For settled facts.
pub fn choose(facts: &Facts) -> Result<SlotId, NothingToBoot> {
    let bootable = |role| facts.with_role(role).find(|(_, slot)| slot.generation().is_some());
    if let Some((id, _)) = bootable(Role::System).or_else(|| bootable(Role::Backup)) {
        return Ok(id);
    }
    if facts.slots.is_empty() {
        return Err(NothingToBoot::NoSlots);
    }
    let broken: Vec<String> = facts
        .slots
        .iter()
        .filter_map(|slot| match &slot.content {
            Content::Broken(why) => Some(format!("{}: {why}", slot.device)),
            Content::Nothing | Content::System { .. } => None,
        })
        .collect();
    if broken.is_empty() {
        Err(NothingToBoot::Empty)
    } else {
        Err(NothingToBoot::Broken(broken.join("; ")))
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use gse_protocol::Serial;

    use super::*;
    use crate::facts::Offer;

    fn slot(role: Role, content: Content) -> Slot {
        Slot { device: "/dev/test".to_owned(), role, content }
    }

    fn system(serial: u64, generation: u64, cycle: Cycle) -> Content {
        let version = format!("v{serial}");
        Content::System {
            serial: Serial(serial),
            version,
            generation: Generation(generation),
            cycle,
        }
    }

    fn offer(serial: u64) -> Option<Offer> {
        Some(Offer {
            serial: Serial(serial),
            version: format!("v{serial}"),
            allow_downgrade: false,
        })
    }

    fn facts(slots: Vec<Slot>, offer: Option<Offer>) -> Facts {
        Facts { slots, offer, answer: None }
    }

    fn run(facts: &mut Facts, steps: &[Step]) {
        for Step::Relabel(id, role) in steps {
            facts.slots[id.0].role = *role;
        }
    }

    #[test]
    fn a_settled_machine_needs_no_step() {
        for slots in [
            vec![slot(Role::Free, Content::Nothing), slot(Role::Free, Content::Nothing)],
            vec![
                slot(Role::System, system(1, 1, Cycle::Closed)),
                slot(Role::Free, Content::Nothing),
            ],
            vec![
                slot(Role::Backup, system(1, 1, Cycle::Closed)),
                slot(Role::System, system(2, 2, Cycle::Fresh)),
            ],
            vec![
                slot(Role::Incoming, Content::Nothing),
                slot(Role::System, system(2, 2, Cycle::Open)),
            ],
        ] {
            assert_eq!(settle(&facts(slots.clone(), None)), [], "{slots:?}");
        }
    }

    #[test]
    fn a_promotion_cut_anywhere_ends_at_the_new_system() {
        let start = facts(
            vec![
                slot(Role::System, system(1, 1, Cycle::Closed)),
                slot(Role::Incoming, system(2, 2, Cycle::Fresh)),
            ],
            None,
        );
        let whole = promote(&start, SlotId(1));
        for done in 0..=whole.len() {
            let mut facts = start.clone();
            run(&mut facts, &whole[..done]);
            let rest = settle(&facts);
            run(&mut facts, &rest);
            assert_eq!(choose(&facts), Ok(SlotId(1)), "after {done} steps");
            assert_eq!(facts.slots[0].role, Role::Backup, "after {done} steps");
            assert_eq!(settle(&facts), [], "after {done} steps");
        }
    }

    #[test]
    fn without_sysfs_the_backup_is_promoted() {
        let mut facts = facts(
            vec![
                slot(Role::Backup, system(1, 1, Cycle::Closed)),
                slot(Role::Incoming, Content::Nothing),
            ],
            None,
        );
        let steps = settle(&facts);
        assert_eq!(steps, [Step::Relabel(SlotId(0), Role::System)]);
        run(&mut facts, &steps);
        assert_eq!(choose(&facts), Ok(SlotId(0)));
    }

    #[test]
    fn a_sysfs_that_cannot_be_started_gives_way_to_the_backup() {
        let mut facts = facts(
            vec![
                slot(Role::System, Content::Broken("no record".to_owned())),
                slot(Role::Backup, system(1, 1, Cycle::Closed)),
            ],
            None,
        );
        let steps = settle(&facts);
        run(&mut facts, &steps);
        assert_eq!(choose(&facts), Ok(SlotId(1)));
        assert_eq!(facts.slots[0].role, Role::Deprived);
    }

    #[test]
    fn nothing_to_boot_says_what_is_missing() {
        assert_eq!(choose(&facts(vec![], None)), Err(NothingToBoot::NoSlots));
        let empty = vec![slot(Role::Free, Content::Nothing)];
        assert_eq!(choose(&facts(empty, None)), Err(NothingToBoot::Empty));
        let broken = vec![slot(Role::System, Content::Broken("forged".to_owned()))];
        assert_eq!(
            choose(&facts(broken, None)),
            Err(NothingToBoot::Broken("/dev/test: forged".to_owned()))
        );
    }

    #[test]
    fn a_blank_machine_installs_whatever_the_policy() {
        for policy in [Policy::Ask, Policy::Auto, Policy::Never] {
            let blank =
                vec![slot(Role::Free, Content::Nothing), slot(Role::Free, Content::Nothing)];
            assert_eq!(update(&facts(blank, offer(1)), policy), Update::Install(SlotId(0)));
        }
    }

    #[test]
    fn the_policy_decides_about_an_update() {
        let slots = vec![
            slot(Role::System, system(1, 1, Cycle::Closed)),
            slot(Role::Free, Content::Nothing),
        ];
        let ask = |answer| {
            let facts = Facts { slots: slots.clone(), offer: offer(2), answer };
            update(&facts, Policy::Ask)
        };
        assert_eq!(ask(None), Update::Ask);
        assert_eq!(ask(Some(Answer::Boot)), Update::Keep(Keep::Declined));
        assert_eq!(ask(Some(Answer::Install)), Update::Install(SlotId(1)));
        let facts = facts(slots, offer(2));
        assert_eq!(update(&facts, Policy::Auto), Update::Install(SlotId(1)));
        assert_eq!(update(&facts, Policy::Never), Update::Keep(Keep::Policy));
    }

    #[test]
    fn an_older_serial_is_refused_unless_the_release_allows_it() {
        let slots = vec![
            slot(Role::System, system(5, 1, Cycle::Closed)),
            slot(Role::Free, Content::Nothing),
        ];
        let mut facts = facts(slots, offer(4));
        assert_eq!(update(&facts, Policy::Auto), Update::Keep(Keep::Older));
        facts.offer.as_mut().into_iter().for_each(|o| o.allow_downgrade = true);
        assert_eq!(update(&facts, Policy::Auto), Update::Install(SlotId(1)));
        facts.offer = offer(5);
        assert_eq!(update(&facts, Policy::Auto), Update::Keep(Keep::Current));
        facts.offer = None;
        assert_eq!(update(&facts, Policy::Auto), Update::Keep(Keep::NoOffer));
    }

    #[test]
    fn the_last_healthy_system_is_never_written_over() {
        use Role::{Backup, Deprived, Incoming, System};
        let old = || system(1, 1, Cycle::Closed);
        for (slots, into) in [
            // SYSFS is proven: the backup gives way.
            (vec![slot(System, system(2, 2, Cycle::Closed)), slot(Backup, old())], Some(1)),
            // SYSFS was never proven: the backup stays.
            (vec![slot(System, system(2, 2, Cycle::Fresh)), slot(Backup, old())], Some(0)),
            (vec![slot(System, system(2, 2, Cycle::Open)), slot(Backup, old())], Some(0)),
            // Something worthless goes first.
            (vec![slot(System, system(2, 2, Cycle::Up)), slot(Deprived, old())], Some(1)),
            (
                vec![slot(System, system(2, 2, Cycle::Up)), slot(Incoming, Content::Nothing)],
                Some(1),
            ),
            (
                vec![
                    slot(System, system(2, 2, Cycle::Closed)),
                    slot(Backup, old()),
                    slot(Deprived, old()),
                ],
                Some(2),
            ),
            // The only slot holds the only system.
            (vec![slot(System, old())], None),
        ] {
            let expected = into.map_or(Update::Keep(Keep::NoSlot), |n| Update::Install(SlotId(n)));
            assert_eq!(
                update(&facts(slots.clone(), offer(3)), Policy::Auto),
                expected,
                "{slots:?}"
            );
        }
    }

    #[test]
    fn generations_rise() {
        let slots = vec![
            slot(Role::System, system(9, 4, Cycle::Up)),
            slot(Role::Backup, system(8, 3, Cycle::Closed)),
        ];
        assert_eq!(next_generation(&facts(slots, None)), Generation(5));
        assert_eq!(next_generation(&Facts::default()), Generation(1));
    }
}
