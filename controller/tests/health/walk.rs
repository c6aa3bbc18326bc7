//! Every way from a blank machine: all servers, policies, failures, and cuts.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    ops::AddAssign,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use gse_controller::{
    decide::{self, Cause, Next, Policy, Step},
    facts::{Attempt, Checked, Cycle, Facts, Life, Offer, Role, SlotId},
};
use gse_protocol::{
    Serial,
    config::boot::{self, Answer, Mode},
};

use crate::{
    fate,
    laws::Moment,
    world::{BLANK, Held, Plate, World, bit},
};

/// Machines that are walked together.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    pub(crate) slots: u8,
    /// Releases have the serials from 1 to this.
    pub(crate) serials: u8,
    /// Whether a server may offer a release that is older than the installed one, and says so.
    pub(crate) downgrades: bool,
    /// The release that has no init.
    pub(crate) no_init: Option<u8>,
    /// Whether a disk may be damaged.
    pub(crate) faults: bool,
    /// Whether labels and refusals can fail to be written.
    pub(crate) stuck_labels: bool,
    /// How many steps may fail in a boot.
    pub(crate) failures: u8,
    /// Whether there may be an order to wipe everything.
    pub(crate) wipes: bool,
    /// Whether only those policies are walked that differ most, where the others would take too long.
    pub(crate) few_policies: bool,
}

/// How much was walked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Different states of a machine that is switched off.
    pub(crate) states: usize,
    /// Decisions that were asked for.
    pub(crate) transitions: usize,
    /// Times that power was lost.
    pub(crate) cuts: usize,
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
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) policy: Policy,
}

pub(crate) fn walk(family: &Family) -> Result<Counts> {
    let mut counts = Counts::default();
    let start = World::blank(family.slots);
    let mut seen = HashSet::from([start.key()]);
    let mut frontier = vec![start];
    while !frontier.is_empty() {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut explorer = Explorer::new(family, &seen);
            while let Some(world) = frontier.get(next.fetch_add(1, Ordering::Relaxed)) {
                explorer.explore(world)?;
            }
            Ok((explorer.found, explorer.counts))
        };
        let found: Result<Vec<(HashMap<u128, World>, Counts)>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let found = found?;
        frontier.clear();
        for (worlds, more) in found {
            counts += more;
            frontier
                .extend(worlds.into_iter().filter(|(key, _)| seen.insert(*key)).map(|(_, w)| w));
        }
    }
    counts.states = seen.len();
    Ok(counts)
}

struct Explorer<'f> {
    family: &'f Family,
    /// What other levels of the walk found.
    seen: &'f HashSet<u128>,
    found: HashMap<u128, World>,
    counts: Counts,
}

/// A boot, at some moment.
#[derive(Clone)]
struct Boot {
    /// The machine when it was switched on.
    from: World,
    world: World,
    facts: Facts,
    /// Everything is to be wiped.
    wipe: bool,
    failures: u8,
    /// What slots that were formatted had refused; a bit for each serial.
    kept: u8,
    /// What was done, for who has to understand a law that was broken.
    story: Vec<Next>,
}

impl<'f> Explorer<'f> {
    fn new(family: &'f Family, seen: &'f HashSet<u128>) -> Self {
        Self { family, seen, found: HashMap::new(), counts: Counts::default() }
    }

    fn explore(&mut self, world: &World) -> Result<()> {
        fate::check(self.family, world).with_context(|| format!("from {world}"))?;
        if self.family.faults && !world.faulty {
            self.damage(world);
        }
        let orders: &[bool] = if self.family.wipes { &[false, true] } else { &[false] };
        for &wipe in orders {
            for (offer, settings) in settings(self.family, world) {
                let boot = Boot {
                    from: *world,
                    world: *world,
                    facts: world.facts(offer, wipe),
                    wipe,
                    failures: 0,
                    kept: 0,
                    story: Vec::new(),
                };
                self.boot(boot, &settings)?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, mut world: World) {
        if !world.plates().iter().any(|plate| plate.image().is_some()) {
            // What is written nowhere, nobody can remember.
            world.failed = 0;
        }
        let world = world.canonical();
        let key = world.key();
        if !self.seen.contains(&key) {
            self.found.insert(key, world);
        }
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

    /// Goes on with a boot under all these settings, apart from where they make a difference.
    fn boot(&mut self, mut boot: Boot, settings: &[Setting]) -> Result<()> {
        loop {
            let mut ways: Vec<(Next, Vec<Setting>)> = Vec::new();
            for setting in settings {
                if let Some((Next::Do(_, Cause::Settling), _)) = ways.first() {
                    // The labels are settled whatever the policy.
                    break;
                }
                let next = decide::next(&boot.facts, &setting.policy);
                self.counts.transitions += 1;
                match ways.iter_mut().find(|(way, _)| *way == next) {
                    Some((_, settings)) => settings.push(*setting),
                    None => ways.push((next, vec![*setting])),
                }
            }
            if let [(next, _)] = ways.as_slice() {
                let next = next.clone();
                if !self.go_on(&mut boot, next, settings)? {
                    return Ok(());
                }
                continue;
            }
            for (next, settings) in ways {
                let mut boot = boot.clone();
                if self.go_on(&mut boot, next, &settings)? {
                    self.boot(boot, &settings)?;
                }
            }
            return Ok(());
        }
    }

    /// Does what was decided. Whether the boot goes on after that.
    fn go_on(&mut self, boot: &mut Boot, next: Next, settings: &[Setting]) -> Result<bool> {
        let Some(setting) = settings.first() else { return Ok(false) };
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
            Next::Do(step, cause) => moment.check_step(*step, cause),
            Next::Ask => Ok(()),
            Next::Boot(slot, why) => moment.check_boot(*slot, why),
            Next::Rescue(why) => moment.check_rescue(why),
        };
        lawful.with_context(|| {
            let Boot { from, story, world, facts, .. } = &boot;
            format!(
                "from {from}\nwith {setting:?}\noffered {:?}\nby {story:#?}\nat {world}",
                facts.offer
            )
        })?;
        match next {
            Next::Do(step, _) => self.step(boot, step, settings)?,
            Next::Ask => {
                for answer in [Answer::Install, Answer::Boot] {
                    let mut boot = boot.clone();
                    boot.facts.answer = Some(answer);
                    self.boot(boot, settings)?;
                }
                return Ok(false);
            }
            Next::Boot(slot, _) => {
                self.start(boot, slot, settings)?;
                return Ok(false);
            }
            Next::Rescue(_) => return Ok(false),
        }
        Ok(true)
    }

    /// Does a step: whole, cut off, or failing.
    fn step(&mut self, boot: &mut Boot, step: Step, settings: &[Setting]) -> Result<()> {
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
            let label = matches!(step, Step::Relabel(..) | Step::Refuse(..));
            if boot.failures < self.family.failures && (self.family.stuck_labels || !label) {
                let mut failing = Boot { world: half, failures: boot.failures + 1, ..boot.clone() };
                failing.facts.failed(step, "");
                self.deprive(&mut failing.world, step, boot, settings);
                if let Step::Refuse(..) = step {
                    // Not written anywhere: nothing can be asked of the next boot.
                    failing.failures = u8::MAX;
                }
                self.boot(failing, settings)?;
            }
        }
        let mut world = boot.world;
        self.deprive(&mut world, step, boot, settings);
        boot.world = world;
        if let (Step::Format(_), Some(_)) = (step, before.plates[n].image()) {
            boot.kept |= before.plates[n].refused;
        }
        if slots_given_up(step, boot) {
            boot.world.installed = false;
        }
        let wipe = boot.wipe || boot.from.knows_wipe();
        boot.world.apply(step, boot.facts.offer.as_ref(), boot.kept, wipe);
        if let Step::Install(_) = step {
            let moment = boot.world.plates[n].image().unwrap();
            boot.world.installed |= Some(moment.serial) != self.family.no_init;
        }
        boot.facts.apply(step);
        if boot.failures == 0 {
            let found = boot.world.facts(None, boot.wipe);
            for (believed, found) in boot.facts.slots.iter().zip(&found.slots) {
                ensure!(
                    (&believed.role, &believed.content, &believed.refused, believed.is_stale())
                        == (&found.role, &found.content, &found.refused, found.is_stale()),
                    "after {step:?}: {believed:?} is {found:?}"
                );
            }
        }
        self.cut(boot.world);
        Ok(())
    }

    /// Notes that the release of SYSFS failed: it did not complete its cycle and another system takes over,
    /// or it could never be started. No clone of it shows that it was not the release.
    fn deprive(&self, world: &mut World, step: Step, boot: &Boot, settings: &[Setting]) {
        let Step::Relabel(SlotId(n), Role::Deprived) = step else { return };
        let Some(setting) = settings.first() else { return };
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
    fn start(&mut self, boot: &Boot, slot: SlotId, settings: &[Setting]) -> Result<()> {
        let mut world = boot.world;
        world.apply(Step::Open(slot), None, 0, boot.wipe);
        // It hangs, or panics, or the power is cut before it is up.
        self.cut(world);
        if boot.failures < self.family.failures {
            for world in [boot.world, world] {
                let mut failing = Boot { world, failures: boot.failures + 1, ..boot.clone() };
                failing.facts.failed(Step::Open(slot), "");
                self.boot(failing, settings)?;
            }
        }
        let Held::Image(image) = &mut world.plates[slot.0].held else { return Ok(()) };
        let opened = image.life.unwrap();
        image.life = Some(Life { state: Cycle::Up, tries: 0, ..opened });
        // It does not shut down, or the power is cut before it has.
        self.cut(world);
        let Held::Image(image) = &mut world.plates[slot.0].held else { return Ok(()) };
        image.life = Some(CLOSED);
        image.healthy = true;
        self.keep(world);
        Ok(())
    }
}

const CLOSED: Life = Life { state: Cycle::Closed, tries: 0, unclean_shutdowns: 0 };

/// Whether the only slot gives way to a wipe: from then on there may be nothing to start.
fn slots_given_up(step: Step, boot: &Boot) -> bool {
    let wipes = matches!(boot.story.last(), Some(Next::Do(_, Cause::Wipe)));
    wipes && boot.world.slots == 1 && matches!(step, Step::Relabel(_, Role::Deprived))
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

/// Every offer, and the policies that can make a difference to it. Policies that differ in what they call
/// unhealthy come apart.
fn settings(family: &Family, world: &World) -> Vec<(Option<Offer>, Vec<Setting>)> {
    use boot::Policy::{Ask, Auto, Never};
    let counted =
        world.plates().iter().filter_map(Plate::image).any(|image| {
            image.life.is_some_and(|life| matches!(life.state, Cycle::Open | Cycle::Up))
        });
    // Only SYSFS is judged, which is either open or up.
    let allowances: &[(u32, u32)] =
        if counted && !family.few_policies { &[(1, 0), (2, 1)] } else { &[(1, 0)] };
    let offer = |serial: u8, allow_downgrade| {
        Some(Offer { serial: Serial(serial.into()), version: String::new(), allow_downgrade })
    };
    // Neither an order to wipe everything nor a label that cannot be written looks at any of these.
    let (modes, updates): (&[Mode], &[boot::Policy]) = match family.few_policies {
        true => (&[Mode::Rotate], &[Auto, Never]),
        false => (&[Mode::Rotate, Mode::InPlace], &[Auto, Ask, Never]),
    };
    let mut settings = Vec::new();
    for &(tries, unclean_shutdowns) in allowances {
        let of = |updates: &[boot::Policy], modes: &[Mode]| {
            let mut policies = Vec::new();
            for &update in updates {
                for &mode in modes {
                    for clone in [true, false] {
                        let policy = Policy { update, mode, tries, unclean_shutdowns, clone };
                        policies.push(Setting { policy });
                    }
                }
            }
            policies
        };
        // Without an offer there is no update to decide about.
        settings.push((None, of(&[Auto], &[Mode::Rotate])));
        for serial in 1..=family.serials {
            settings.push((offer(serial, false), of(updates, modes)));
            // Nothing is higher than the highest, so it is never a downgrade.
            if family.downgrades && serial < family.serials {
                settings.push((offer(serial, true), of(&[Auto], modes)));
            }
        }
    }
    settings
}
