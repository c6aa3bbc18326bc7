//! What was found out about this machine, as plain data: the input of [`crate::decide`].
//!
//! Most of it is on the disks, and is found there again after a power cut. The rest is of one boot: the
//! server's offer, the person's answer, what was checked, and what failed.

use gse_protocol::{Serial, config::boot::Answer};

use crate::decide::Step;
pub use crate::disk::records::{CycleState as Cycle, Generation, Life, Refused};

/// The role that a slot's filesystem label gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `SYSFS`: the system to boot.
    System,
    /// `BACKUPFS`: the system that takes over when SYSFS fails.
    Backup,
    /// `DEPRIVED`: a system that failed, or that is being overwritten.
    Deprived,
    /// `INCOMING`: being written, or written and not yet promoted.
    Incoming,
    /// No filesystem, or one without a label of ours: free.
    Free,
}

/// A complete system whose release has a valid signature.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct System {
    /// Its release's serial.
    pub serial: Serial,
    /// Its release's version.
    pub version: String,
    /// When it was promoted; a clone has that of its original.
    pub generation: Generation,
    /// Its life cycle; none where the record is missing or damaged.
    pub life: Option<Life>,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Content {
    /// No system that was ever complete.
    Nothing,
    /// A system that may be started.
    System(System),
    /// A system that must not be started, and why.
    Broken(String),
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::System(system) => write!(f, "version {}", system.version),
            Self::Broken(why) => write!(f, "a system that cannot be started ({why})"),
        }
    }
}

/// A slot, known by its place in [`Facts::slots`]. BOOTFS and USERDATAFS have no place there, so nothing
/// that is decided can mean them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub usize);

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Checked {
    /// The filesystem is clean or was mended, and the system in it has an init.
    Sound,
    /// The filesystem cannot be mended: a sentence.
    Damaged(String),
    /// The image has no init that could be started: a sentence.
    NoInit(String),
}

/// What is known of a slot in this boot only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Session {
    /// What a check found; none before.
    pub checked: Option<Checked>,
    /// It was formatted, and nothing was written into it since.
    pub blank: bool,
    /// It could not be formatted.
    pub unwritable: bool,
    /// Its system could not be started: a sentence.
    pub unstartable: Option<String>,
    /// Its record does not name the order to wipe everything that this boot's configuration has.
    pub stale: bool,
}

/// What was found in one slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Its partition, for messages.
    pub device: String,
    /// What its label says.
    pub role: Role,
    /// What its record says.
    pub content: Content,
    /// The releases that its record refuses.
    pub refused: Refused,
    /// What is known in this boot.
    pub session: Session,
}

/// A release that a server offers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Offer {
    /// Its serial.
    pub serial: Serial,
    /// Its version.
    pub version: String,
    /// A machine with a higher serial takes it all the same.
    pub allow_downgrade: bool,
}

/// What happened to the offered release in this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Attempt {
    /// It was not installed.
    #[default]
    None,
    /// It was installed.
    Done,
    /// Installing it failed.
    Failed,
}

/// Everything that decisions are made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// In the order of the partitions.
    pub slots: Vec<Slot>,
    /// What the quickest server with a valid signature offers; none without a network.
    pub offer: Option<Offer>,
    /// What the person at the console answered, once asked.
    pub answer: Option<Answer>,
    /// Whether it is a time of day at which nothing is installed.
    pub window_closed: bool,
    /// What slots that were formatted in this boot had refused.
    pub remembered: Refused,
    /// Whether the offer was installed in this boot. It is tried once.
    pub attempt: Attempt,
    /// Cloning failed in this boot.
    pub clone_failed: bool,
}

impl Facts {
    /// Each slot with its id.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.slots.iter().enumerate().map(|(n, slot)| (SlotId(n), slot))
    }

    /// One slot.
    pub fn slot(&self, id: SlotId) -> Option<&Slot> {
        self.slots.get(id.0)
    }

    /// The slots with this role.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.slots().filter(move |(_, slot)| slot.role == role)
    }

    /// Whether a SYSFS could be started.
    pub fn has_system(&self) -> bool {
        self.with_role(Role::System).any(|(_, slot)| slot.bootable().is_some())
    }

    /// The releases that any slot refuses, or did before it was formatted in this boot.
    pub fn refused(&self) -> Refused {
        let slots = self.slots.iter().flat_map(|slot| slot.refused.iter());
        slots.chain(self.remembered.iter()).collect()
    }

    /// The generation that the next installed system gets.
    pub fn next_generation(&self) -> Generation {
        let systems = self.slots.iter().filter_map(Slot::system);
        systems.map(|system| system.generation).max().unwrap_or_default().next()
    }

    /// What is true after `step` was done. A step that was cut off has its own marks on the disk.
    pub fn apply(&mut self, step: Step) {
        let refused = self.refused();
        let written = match step {
            Step::Install(_) => self.offer.as_ref().map(|offer| System {
                serial: offer.serial,
                version: offer.version.clone(),
                generation: self.next_generation(),
                life: Some(Life::FRESH),
            }),
            Step::Clone { from, .. } => self
                .slot(from)
                .and_then(Slot::system)
                .map(|system| System { life: Some(Life::CLONED), ..system.clone() }),
            _ => None,
        };
        // A copy is as old as its original.
        let stale = match step {
            Step::Clone { from, .. } => self.slot(from).is_some_and(Slot::is_stale),
            _ => false,
        };
        match step {
            Step::Install(_) => self.attempt = Attempt::Done,
            Step::Format(_) => self.remembered = refused.clone(),
            _ => {}
        }
        let Some(slot) = self.slots.get_mut(step.slot().0) else { return };
        match step {
            Step::Relabel(_, role) => slot.role = role,
            Step::Refuse(_, serial) => slot.refused.insert(serial),
            Step::Check(_) => slot.session.checked = Some(Checked::Sound),
            Step::Format(_) => {
                let session = Session { blank: true, ..Session::default() };
                let (role, content, refused) =
                    (Role::Incoming, Content::Nothing, Refused::default());
                *slot = Slot { role, content, refused, session, device: slot.device.clone() };
            }
            Step::Install(_) | Step::Clone { .. } => {
                slot.content = written.map_or(Content::Nothing, Content::System);
                slot.refused = refused;
                slot.session = Session { stale, ..Session::default() };
            }
            Step::Open(_) => {
                if let Content::System(system) = &mut slot.content {
                    system.life = Some(system.life.unwrap_or(Life::FRESH).opened());
                }
            }
        }
    }

    /// What is true for the rest of this boot after `step` failed.
    ///
    /// A label or a refusal that cannot be written counts as written: the boot goes on as if, and the
    /// next one finds the old state and tries again. The others are not tried twice.
    pub fn failed(&mut self, step: Step, reason: &str) {
        match step {
            Step::Relabel(..) | Step::Refuse(..) => return self.apply(step),
            Step::Format(_) => self.remembered = self.refused(),
            Step::Install(_) => self.attempt = Attempt::Failed,
            Step::Clone { .. } => self.clone_failed = true,
            Step::Check(_) | Step::Open(_) => {}
        }
        let Some(slot) = self.slots.get_mut(step.slot().0) else { return };
        match step {
            Step::Check(_) => slot.session.checked = Some(Checked::Damaged(reason.to_owned())),
            Step::Open(_) => slot.session.unstartable = Some(reason.to_owned()),
            Step::Format(_) | Step::Install(_) | Step::Clone { .. } => {
                slot.content = Content::Nothing;
                slot.refused = Refused::default();
                let unwritable = matches!(step, Step::Format(_));
                slot.session = Session { unwritable, ..Session::default() };
                if unwritable {
                    slot.role = Role::Free;
                }
            }
            Step::Relabel(..) | Step::Refuse(..) => {}
        }
    }

    /// The offered release cannot be had; nothing was done for it.
    pub fn give_up_offer(&mut self) {
        self.attempt = Attempt::Failed;
    }

    /// Keeps what a check found.
    pub fn checked(&mut self, id: SlotId, found: Checked) {
        if let Some(slot) = self.slots.get_mut(id.0) {
            slot.session.checked = Some(found);
        }
    }
}

impl Slot {
    /// The system in it, whose release is valid.
    pub fn system(&self) -> Option<&System> {
        match &self.content {
            Content::System(system) => Some(system),
            Content::Nothing | Content::Broken(_) => None,
        }
    }

    /// Whether it holds a system that was made before the order to wipe everything.
    pub fn is_stale(&self) -> bool {
        self.session.stale && self.system().is_some()
    }

    /// The system in it, unless a check found that it cannot be started.
    pub fn bootable(&self) -> Option<&System> {
        let sound = matches!(self.session.checked, None | Some(Checked::Sound));
        self.system().filter(|_| sound)
    }
}
