//! Every way from a blank machine: all servers, policies, failures, and cuts.

use std::{collections::HashSet, fmt, ops::AddAssign, thread};

use anyhow::{Context as _, Result, ensure};
use gse_controller::{
    decide::{self, Next, Policy, Step},
    facts::{Attempt, Checked, Cycle, Facts, Life, Offer, Role, SlotId},
};
use gse_protocol::{
    Serial,
    config::boot::{self, Answer, Mode},
};

use crate::{
    laws::Moment,
    world::{BLANK, Held, Plate, World, bit},
};

/// Machines that are walked together.
#[derive(Debug, Clone)]
pub struct Family {
    pub slots: u8,
    /// Releases have the serials from 1 to this.
    pub serials: u8,
    /// The release that has no init.
    pub no_init: Option<u8>,
    /// Whether a disk may be damaged.
    pub faults: bool,
    /// How many steps may fail in a boot.
    pub failures: u8,
}

/// How much was walked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Different states of a machine that is switched off.
    pub states: usize,
    /// Decisions that were asked for.
    pub transitions: usize,
    /// Times that power was lost.
    pub cuts: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, transitions, cuts } = self;
        write!(f, "states: {states}, transitions: {transitions}, cuts: {cuts}")
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.states += other.states;
        self.transitions += other.transitions;
        self.cuts += other.cuts;
    }
}

/// What a machine meets when it is switched on.
#[derive(Debug, Clone)]
pub struct Setting {
    pub policy: Policy,
    pub offer: Option<Offer>,
    pub answer: Answer,
}

pub fn walk(family: &Family) -> Result<Counts> {
    let mut counts = Counts::default();
    let start = World::blank(family.slots);
    let mut seen = HashSet::from([start]);
    let mut frontier = vec![start];
    while !frontier.is_empty() {
        let chunk = frontier.len().div_ceil(4);
        let found: Result<Vec<(HashSet<World>, Counts)>> = thread::scope(|scope| {
            let threads: Vec<_> = frontier
                .chunks(chunk)
                .map(|worlds| {
                    scope.spawn(move || {
                        let mut explorer = Explorer::new(family);
                        for world in worlds {
                            explorer.explore(world)?;
                        }
                        Ok((explorer.found, explorer.counts))
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        frontier.clear();
        for (worlds, more) in found? {
            counts += more;
            frontier.extend(worlds.into_iter().filter(|world| seen.insert(*world)));
        }
    }
    counts.states = seen.len();
    Ok(counts)
}

struct Explorer<'f> {
    family: &'f Family,
    found: HashSet<World>,
    counts: Counts,
}

/// A boot, at some moment.
#[derive(Clone)]
struct Boot {
    world: World,
    facts: Facts,
    failures: u8,
    /// What slots that were formatted had refused; a bit for each serial.
    kept: u8,
    /// What was done, for who has to understand a law that was broken.
    story: Vec<Next>,
}

impl<'f> Explorer<'f> {
    fn new(family: &'f Family) -> Self {
        Self { family, found: HashSet::new(), counts: Counts::default() }
    }

    fn explore(&mut self, world: &World) -> Result<()> {
        if self.family.faults && !world.faulty {
            self.damage(world);
        }
        for setting in settings(self.family, world) {
            let boot = Boot {
                world: *world,
                facts: world.facts(setting.offer.clone()),
                failures: 0,
                kept: 0,
                story: Vec::new(),
            };
            self.boot(boot, world, &setting)?;
        }
        Ok(())
    }

    fn keep(&mut self, mut world: World) {
        if !world.plates().iter().any(|plate| plate.image().is_some()) {
            // What is written nowhere, nobody can remember.
            world.failed = 0;
        }
        self.found.insert(world.canonical());
    }

    /// The power goes.
    fn cut(&mut self, world: World) {
        self.counts.cuts += 1;
        self.keep(world);
    }

    /// Something on a disk is lost while the machine is off.
    fn damage(&mut self, world: &World) {
        for n in 0..usize::from(world.slots) {
            let plate = world.plates[n];
            if plate.image().is_none() {
                continue;
            }
            let no_record = match plate.held {
                Held::Image(image) => {
                    Held::Image(crate::world::Image { life: None, healthy: false, ..image })
                }
                held => held,
            };
            for damaged in [
                // The superblock, and with it the label.
                BLANK,
                Plate { rotten: true, ..plate },
                Plate { held: Held::Broken, ..plate },
                Plate { held: no_record, ..plate },
            ] {
                let mut world = World { faulty: true, ..*world };
                world.plates[n] = damaged;
                self.keep(world);
            }
        }
    }

    fn boot(&mut self, mut boot: Boot, from: &World, setting: &Setting) -> Result<()> {
        loop {
            let next = decide::next(&boot.facts, &setting.policy);
            self.counts.transitions += 1;
            boot.story.push(next.clone());
            let moment = Moment {
                family: self.family,
                policy: &setting.policy,
                world: &boot.world,
                facts: &boot.facts,
                failures: boot.failures > 0,
            };
            let lawful = match &next {
                _ if boot.story.len() > 40 => Err(anyhow::anyhow!("no end")),
                Next::Do(step, _) => moment.check_step(*step),
                Next::Ask => Ok(()),
                Next::Boot(slot, why) => moment.check_boot(*slot, why),
                Next::Rescue(why) => moment.check_rescue(why),
            };
            lawful.with_context(|| {
                format!("from {from}\nwith {setting:?}\nby {:#?}\nat {}", boot.story, boot.world)
            })?;
            match next {
                Next::Do(step, _) => self.step(&mut boot, step, from, setting)?,
                Next::Ask => boot.facts.answer = Some(setting.answer),
                Next::Boot(slot, _) => return self.start(boot, slot, from, setting),
                Next::Rescue(_) => return Ok(()),
            }
        }
    }

    /// Does a step: whole, cut off, or failing.
    fn step(&mut self, boot: &mut Boot, step: Step, from: &World, setting: &Setting) -> Result<()> {
        let SlotId(n) = step.slot();
        if let Step::Check(id) = step {
            let plate = &boot.world.plates[n];
            let no_init = plate.image().is_some_and(|i| Some(i.serial) == self.family.no_init);
            boot.facts.apply(step);
            if plate.rotten {
                boot.facts.checked(id, Checked::Damaged(String::new()));
            } else if no_init {
                boot.facts.checked(id, Checked::NoInit(String::new()));
            }
            return Ok(());
        }
        let before = boot.world;
        for half in halves(step, &before) {
            self.cut(half);
            if boot.failures < self.family.failures {
                let mut failing = Boot { world: half, failures: boot.failures + 1, ..boot.clone() };
                failing.facts.failed(step, "");
                self.deprive(&mut failing.world, step, boot, setting);
                if let Step::Refuse(..) = step {
                    // Not written anywhere: nothing can be asked of the next boot.
                    failing.failures = u8::MAX;
                }
                self.boot(failing, from, setting)?;
            }
        }
        let mut world = boot.world;
        self.deprive(&mut world, step, boot, setting);
        boot.world = world;
        if let (Step::Format(_), Some(_)) = (step, before.plates[n].image()) {
            boot.kept |= before.plates[n].refused;
        }
        boot.world.apply(step, boot.facts.offer.as_ref(), boot.kept);
        if let Step::Install(_) = step {
            let moment = boot.world.plates[n].image().unwrap();
            boot.world.installed |= Some(moment.serial) != self.family.no_init;
        }
        boot.facts.apply(step);
        if boot.failures == 0 {
            let found = boot.world.facts(None);
            for (believed, found) in boot.facts.slots.iter().zip(&found.slots) {
                ensure!(
                    (&believed.role, &believed.content, &believed.refused)
                        == (&found.role, &found.content, &found.refused),
                    "after {step:?}: {believed:?} is {found:?}"
                );
            }
        }
        self.cut(boot.world);
        Ok(())
    }

    /// Notes that the release of SYSFS failed: it did not complete its cycle and another system takes over,
    /// or it could never be started. No clone of it shows that it was not the release.
    fn deprive(&self, world: &mut World, step: Step, boot: &Boot, setting: &Setting) {
        let Step::Relabel(SlotId(n), Role::Deprived) = step else { return };
        let updated = boot.facts.attempt != Attempt::None;
        if boot.facts.slots[n].role != Role::System || updated || boot.failures == u8::MAX {
            return;
        }
        let plate = world.plates[n];
        let Some(image) = plate.image() else { return };
        let no_init = |serial| Some(serial) == self.family.no_init;
        let others = || {
            let others = world.plates().iter().enumerate().filter(|(other, _)| *other != n);
            let others = others.filter(|(_, p)| p.counts() && !p.rotten);
            others.filter_map(|(_, plate)| plate.image()).filter(|i| !no_init(i.serial))
        };
        let failed = image.is_unhealthy(&setting.policy) && others().next().is_some();
        let clone = others().any(|other| other.serial == image.serial && other.healthy);
        // A filesystem that cannot be mended hides the rest.
        let lost = image.life.is_none() && plate.rotten;
        let never = no_init(image.serial) && !plate.rotten;
        if (failed && !lost || never) && !clone {
            world.failed |= bit(Serial(image.serial.into()));
        }
    }

    /// Starts a system, which does as it likes.
    fn start(&mut self, boot: Boot, slot: SlotId, from: &World, setting: &Setting) -> Result<()> {
        let mut world = boot.world;
        world.apply(Step::Open(slot), None, 0);
        // It hangs, or panics, or the power is cut before it is up.
        self.cut(world);
        if boot.failures < self.family.failures {
            for world in [boot.world, world] {
                let mut failing = Boot { world, failures: boot.failures + 1, ..boot.clone() };
                failing.facts.failed(Step::Open(slot), "");
                self.boot(failing, from, setting)?;
            }
        }
        let Held::Image(image) = &mut world.plates[slot.0].held else { return Ok(()) };
        let opened = image.life.unwrap();
        image.life = Some(Life { state: Cycle::Up, tries: 0, ..opened });
        // It does not shut down, or the power is cut before it has.
        self.cut(world);
        let Held::Image(image) = &mut world.plates[slot.0].held else { return Ok(()) };
        image.life = Some(Life::CLOSED);
        image.healthy = true;
        self.keep(world);
        Ok(())
    }
}

/// What a step that does not get to its end may leave. Before it began is a state of its own.
fn halves(step: Step, world: &World) -> Vec<World> {
    let with = |plate: Plate| {
        let mut world = *world;
        world.plates[step.slot().0] = plate;
        world
    };
    match step {
        Step::Relabel(..) | Step::Refuse(..) => vec![*world],
        Step::Format(_) => {
            vec![*world, with(BLANK), with(Plate { role: Role::Incoming, ..BLANK })]
        }
        Step::Install(_) | Step::Clone { .. } => vec![*world],
        Step::Check(_) | Step::Open(_) => vec![],
    }
}

/// Every setting that can make a difference.
fn settings(family: &Family, world: &World) -> Vec<Setting> {
    let counted =
        world.plates().iter().filter_map(Plate::image).any(|image| {
            image.life.is_some_and(|life| matches!(life.state, Cycle::Open | Cycle::Up))
        });
    // Only SYSFS is judged, which is either open or up.
    let allowances: &[(u32, u32)] =
        if counted { &[(1, 0), (2, 1), (u32::MAX, u32::MAX)] } else { &[(1, 0)] };
    let mut settings = Vec::new();
    for &(tries, unclean_shutdowns) in allowances {
        for clone in [true, false] {
            let mut add = |update, answer, mode, offer| {
                let policy = Policy { update, mode, tries, unclean_shutdowns, clone };
                settings.push(Setting { policy, offer, answer });
            };
            add(boot::Policy::Auto, Answer::Boot, Mode::Rotate, None);
            for (serial, mode) in (1..=family.serials)
                .flat_map(|serial| [(serial, Mode::Rotate), (serial, Mode::InPlace)])
            {
                let offer = |allow_downgrade| {
                    let serial = Serial(serial.into());
                    Some(Offer { serial, version: String::new(), allow_downgrade })
                };
                add(boot::Policy::Auto, Answer::Boot, mode, offer(false));
                add(boot::Policy::Ask, Answer::Install, mode, offer(false));
                add(boot::Policy::Ask, Answer::Boot, mode, offer(false));
                add(boot::Policy::Never, Answer::Boot, mode, offer(false));
                // Nothing is higher than the highest, so it is never a downgrade.
                if serial < family.serials {
                    add(boot::Policy::Auto, Answer::Boot, mode, offer(true));
                }
            }
        }
    }
    settings
}
