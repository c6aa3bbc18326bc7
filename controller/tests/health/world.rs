//! What is on a machine's disks, as little of it as decisions can depend on, and what is true of it without
//! being written anywhere.

use std::fmt;

use gse_controller::{
    decide::{Policy, Step},
    facts::{Content, Cycle, Facts, Generation, Life, Offer, Refused, Role, Session, Slot, System},
};
use gse_protocol::Serial;

/// The most slots of a machine.
pub(crate) const SLOTS: usize = 3;

/// A system as its records describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Image {
    pub(crate) serial: u8,
    pub(crate) generation: u8,
    pub(crate) life: Option<Life>,
    /// Not written anywhere: its last life cycle was healthy, or that of the system that it is a clone of.
    pub(crate) healthy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Held {
    Nothing,
    Image(Image),
    /// Records that cannot be read, or a release that somebody forged.
    Broken,
}

/// A slot on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Plate {
    pub(crate) role: Role,
    pub(crate) held: Held,
    /// A bit for each serial.
    pub(crate) refused: u8,
    /// Not written anywhere: the filesystem cannot be mended.
    pub(crate) rotten: bool,
    /// Its record names the order to wipe everything.
    pub(crate) wiped: bool,
}

pub(crate) const BLANK: Plate =
    Plate { role: Role::Free, held: Held::Nothing, refused: 0, rotten: false, wiped: false };

/// A machine that is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) plates: [Plate; SLOTS],
    pub(crate) slots: u8,
    /// Not written anywhere: the serials that failed here; a bit for each.
    pub(crate) failed: u8,
    /// A disk was damaged; once is enough.
    pub(crate) faulty: bool,
    /// A system that can be started was once installed completely.
    pub(crate) installed: bool,
}

impl World {
    pub(crate) fn blank(slots: u8) -> Self {
        Self { plates: [BLANK; SLOTS], slots, failed: 0, faulty: false, installed: false }
    }

    pub(crate) fn plates(&self) -> &[Plate] {
        &self.plates[..usize::from(self.slots)]
    }

    /// What the controller finds, with or without an order to wipe everything.
    pub(crate) fn facts(&self, offer: Option<Offer>, wipe: bool) -> Facts {
        let slot = |plate: &Plate| Slot {
            device: String::new(),
            role: plate.role,
            content: match plate.held {
                Held::Nothing => Content::Nothing,
                Held::Broken => Content::Broken(String::new()),
                Held::Image(image) => Content::System(System {
                    serial: Serial(image.serial.into()),
                    version: String::new(),
                    generation: Generation(image.generation.into()),
                    life: image.life,
                }),
            },
            refused: match plate.held {
                Held::Image(_) => serials(plate.refused),
                Held::Nothing | Held::Broken => Refused::default(),
            },
            session: Session { stale: wipe && !plate.wiped, ..Session::default() },
        };
        let slots = self.plates().iter().map(slot).collect();
        Facts { slots, offer, ..Facts::default() }
    }

    /// Whether any record names the order to wipe everything: what is installed then names it too.
    pub(crate) fn knows_wipe(&self) -> bool {
        self.plates().iter().any(|plate| plate.wiped && plate.image().is_some())
    }

    /// Does to the disk what a step that succeeds does. Written down apart from `Facts::apply`, which is
    /// compared with it.
    /// `kept` is what slots that were formatted in this boot had refused; `wipe` is whether a new system's record names the
    /// order to wipe everything.
    pub(crate) fn apply(&mut self, step: Step, offer: Option<&Offer>, kept: u8, wipe: bool) {
        let known = self.plates().iter().fold(kept, |all, plate| match plate.held {
            Held::Image(_) => all | plate.refused,
            Held::Nothing | Held::Broken => all,
        });
        let newest = self.plates().iter().filter_map(Plate::image).map(|i| i.generation).max();
        let original = match step {
            Step::Clone { from, .. } => self.plates[from.0].image(),
            _ => None,
        };
        let wiped = match step {
            Step::Clone { from, .. } => self.plates[from.0].wiped,
            _ => wipe,
        };
        let plate = &mut self.plates[step.slot().0];
        match step {
            Step::Relabel(_, role) => plate.role = role,
            Step::Refuse(_, serial) => plate.refused |= bit(serial),
            Step::Check(_) => {}
            Step::Format(_) => *plate = Plate { role: Role::Incoming, ..BLANK },
            Step::Install(_) => {
                let serial = offer.expect("nothing is offered").serial.0 as u8;
                let generation = newest.unwrap_or(0) + 1;
                let life = Some(Life::FRESH);
                plate.held = Held::Image(Image { serial, generation, life, healthy: false });
                plate.refused = known;
                plate.wiped = wiped;
            }
            Step::Clone { .. } => {
                let original = original.expect("a clone of nothing");
                let life = Some(Life { state: Cycle::Cloned, tries: 0, unclean_shutdowns: 0 });
                plate.held = Held::Image(Image { life, ..original });
                plate.refused = known;
                plate.wiped = wiped;
            }
            Step::Open(_) => {
                let Held::Image(image) = &mut plate.held else { panic!("opened nothing") };
                image.healthy = false;
                let before = image.life.unwrap_or(Life::FRESH);
                let unclean = u32::from(before.state == Cycle::Up);
                image.life = Some(Life {
                    state: Cycle::Open,
                    tries: before.tries + 1,
                    unclean_shutdowns: before.unclean_shutdowns + unclean,
                });
            }
        }
    }

    /// The same for everything that decisions can depend on: of generations only their order counts, and
    /// of failures only so many.
    pub(crate) fn canonical(mut self) -> Self {
        let generations = |world: &Self| {
            let mut all: Vec<u8> =
                world.plates().iter().filter_map(Plate::image).map(|i| i.generation).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let order = generations(&self);
        for plate in &mut self.plates {
            match &mut plate.held {
                Held::Image(image) => {
                    let place = order.iter().position(|g| *g == image.generation).unwrap();
                    image.generation = place as u8 + 1;
                    if let Some(life) = &mut image.life {
                        life.tries = life.tries.min(2);
                        life.unclean_shutdowns = life.unclean_shutdowns.min(1);
                    }
                }
                Held::Nothing | Held::Broken => (plate.refused, plate.wiped) = (0, false),
            }
        }
        self
    }
}

impl World {
    /// All of it in one number, for a world that is canonical.
    pub(crate) fn key(&self) -> u128 {
        let mut key = 0;
        let mut add = |bits: u32, value: u128| {
            debug_assert!(value < 1 << bits, "{value} in {bits} bits");
            key = key << bits | value;
        };
        for plate in &self.plates {
            add(3, plate.role as u128);
            add(8, plate.refused.into());
            add(1, plate.rotten.into());
            add(1, plate.wiped.into());
            let Held::Image(image) = plate.held else {
                add(16, u128::from(plate.held == Held::Broken));
                continue;
            };
            add(1, 1);
            add(3, image.serial.into());
            add(3, image.generation.into());
            add(1, image.healthy.into());
            let life =
                image.life.map(|life| (1 + life.state as u128, life.tries, life.unclean_shutdowns));
            let (state, tries, unclean) = life.unwrap_or_default();
            add(4, state);
            add(2, tries.into());
            add(2, unclean.into());
        }
        add(8, self.failed.into());
        add(1, self.faulty.into());
        add(1, self.installed.into());
        key
    }
}

impl Plate {
    pub(crate) fn image(&self) -> Option<Image> {
        match self.held {
            Held::Image(image) => Some(image),
            Held::Nothing | Held::Broken => None,
        }
    }

    /// Whether its label lets it be booted some day without being written again.
    pub(crate) fn counts(&self) -> bool {
        matches!(self.role, Role::System | Role::Backup | Role::Incoming)
    }
}

impl Image {
    /// Whether its last life cycle failed, by a policy. Written down apart from the controller's rule.
    pub(crate) fn is_unhealthy(&self, policy: &Policy) -> bool {
        match self.life {
            None => true,
            Some(Life { state: Cycle::Open, tries, .. }) => tries >= policy.tries,
            Some(Life { state: Cycle::Up, unclean_shutdowns, .. }) => {
                unclean_shutdowns + 1 > policy.unclean_shutdowns
            }
            Some(Life { state: Cycle::Fresh | Cycle::Cloned | Cycle::Closed, .. }) => false,
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for plate in self.plates() {
            write!(f, "[{:?} ", plate.role)?;
            match plate.held {
                Held::Image(Image { serial, generation, life, healthy }) => {
                    write!(f, "v{serial} g{generation} ")?;
                    match life {
                        Some(life) => {
                            write!(f, "{:?} {} {}", life.state, life.tries, life.unclean_shutdowns)?
                        }
                        None => write!(f, "no record")?,
                    }
                    write!(f, "{}", if healthy { " healthy" } else { "" })?;
                }
                held => write!(f, "{held:?}")?,
            }
            let rotten = if plate.rotten { " rotten" } else { "" };
            let wiped = if plate.wiped { " wiped" } else { "" };
            write!(f, "{rotten}{wiped} refuses {:?}] ", serials(plate.refused))?;
        }
        write!(f, "failed {:?} faulty {}", serials(self.failed), self.faulty)
    }
}

pub(crate) fn bit(serial: Serial) -> u8 {
    1 << serial.0
}

fn serials(bits: u8) -> Refused {
    (0..8).filter(|n| bits & (1 << n) != 0).map(Serial).collect()
}
