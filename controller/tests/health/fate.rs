//! What becomes of a machine that is left to itself: it does not stay stuck, and it does not go round in circles.

use anyhow::{Result, bail, ensure};
use gse_controller::{
    decide::{self, Next, Policy, Step},
    facts::{Checked, Cycle, Life, Offer, Role},
};
use gse_protocol::{Serial, config::Boot};

use crate::{
    walk::Family,
    world::{Held, World},
};

/// How every system behaves once it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Up, and closed at the end.
    Well,
    /// It never comes up.
    Badly,
}

/// What happened in some starts in a row.
#[derive(Debug, Default)]
struct Log {
    /// Labels that were changed, for each start.
    labels: Vec<usize>,
    /// Systems that were installed.
    installed: usize,
}

/// Checks a state that a machine can be in.
pub(crate) fn check(family: &Family, world: &World) -> Result<()> {
    let next = family.serials + 1;
    let slots = usize::from(family.slots);

    let mut mended = *world;
    let log = starts(family, &mut mended, (Some(next), false), Manner::Well, 3)?;
    let runs = mended.plates().iter().any(|plate| {
        let image = plate.image();
        plate.role == Role::System && image.is_some_and(|i| i.serial == next && i.healthy)
    });
    // The only slot is not given up while it holds anything that starts.
    ensure!(runs || slots == 1, "a new release does not get a machine well: {mended}, {log:?}");
    let backup = mended.plates().iter().any(|plate| {
        plate.role == Role::Backup && plate.image().is_some_and(|image| image.healthy)
    });
    ensure!(backup || slots == 1, "there is no backup in the end: {mended}, {log:?}");

    if family.wipes {
        // An order is obeyed, and then it is over: neither a start nor a second order of that name does anything.
        let mut new = *world;
        let log = starts(family, &mut new, (Some(next), true), Manner::Well, 3)?;
        let old = |plate: &&crate::world::Plate| plate.image().is_some() && !plate.wiped;
        let left = new.plates().iter().find(old);
        ensure!(left.is_none(), "{left:?} was not wiped: {new}, {log:?}");
        let log = starts(family, &mut new, (Some(next), true), Manner::Well, 3)?;
        ensure!(log.installed == 0, "wiped twice: {new}, {log:?}");
        // One that cannot be obeyed changes nothing for who has a system.
        let mut waiting = *world;
        let log = starts(family, &mut waiting, (None, true), Manner::Badly, 8)?;
        let last = log.labels.iter().rev().take(3).sum::<usize>();
        ensure!(last == 0, "labels go round in circles: {waiting}, {log:?}");
    }
    for offer in [None, Some(next)] {
        let mut failing = *world;
        let log = starts(family, &mut failing, (offer, false), Manner::Badly, 8)?;
        ensure!(log.installed <= 1, "what fails is installed again: {failing}, {log:?}");
        let last = log.labels.iter().rev().take(3).sum::<usize>();
        ensure!(last == 0, "labels go round in circles: {failing}, {log:?}");
        ensure!(log.labels.iter().sum::<usize>() <= 6 * slots, "too many labels: {log:?}");
    }
    Ok(())
}

/// Starts a machine some times, with the default policy.
fn starts(
    family: &Family,
    world: &mut World,
    (offer, wipe): (Option<u8>, bool),
    manner: Manner,
    count: usize,
) -> Result<Log> {
    let mut log = Log::default();
    for _ in 0..count {
        log.labels.push(0);
        start(family, world, (offer, wipe), manner, &mut log)?;
    }
    Ok(log)
}

fn start(
    family: &Family,
    world: &mut World,
    (offer, wipe): (Option<u8>, bool),
    manner: Manner,
    log: &mut Log,
) -> Result<()> {
    let policy = Policy::from(&Boot::default());
    let offer = offer.map(|serial| Offer {
        serial: Serial(serial.into()),
        version: String::new(),
        allow_downgrade: false,
    });
    let mut facts = world.facts(offer.clone(), wipe);
    let mut kept = 0;
    let wipe = wipe || world.knows_wipe();
    for _ in 0..40 {
        match decide::next(&facts, &policy) {
            Next::Do(step, _) => {
                let plate = world.plates[step.slot().0];
                match step {
                    Step::Relabel(..) => *log.labels.last_mut().unwrap() += 1,
                    Step::Install(_) => log.installed += 1,
                    Step::Format(_) => kept |= plate.refused,
                    _ => {}
                }
                world.apply(step, offer.as_ref(), kept, wipe);
                facts.apply(step);
                let no_init = plate.image().is_some_and(|i| Some(i.serial) == family.no_init);
                if matches!(step, Step::Check(_)) && plate.rotten {
                    facts.checked(step.slot(), Checked::Damaged(String::new()));
                } else if matches!(step, Step::Check(_)) && no_init {
                    facts.checked(step.slot(), Checked::NoInit(String::new()));
                }
            }
            Next::Boot(slot, _) => {
                world.apply(Step::Open(slot), None, 0, wipe);
                if let (Held::Image(image), Manner::Well) = (&mut world.plates[slot.0].held, manner)
                {
                    image.life =
                        Some(Life { state: Cycle::Closed, tries: 0, unclean_shutdowns: 0 });
                    image.healthy = true;
                }
                return Ok(());
            }
            Next::Rescue(_) => return Ok(()),
            Next::Ask => bail!("the policy is auto"),
        }
    }
    bail!("no end")
}
