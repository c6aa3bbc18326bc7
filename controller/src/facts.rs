//! What was found out about this machine, as plain data: the input of [`crate::decide`].

use gse_protocol::Serial;

pub use crate::disk::records::{CycleState as Cycle, Generation};

/// The role that a slot's filesystem label gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `SYSFS`: the system to boot.
    System,
    /// `BACKUPFS`: the last system that completed a healthy cycle.
    Backup,
    /// `DEPRIVED`: a system that failed.
    Deprived,
    /// `INCOMING`: being written, or written and not yet promoted.
    Incoming,
    /// No filesystem, or one without a label of ours: free.
    Free,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Content {
    /// No system that was ever complete.
    Nothing,
    /// A complete system whose release has a valid signature.
    System {
        /// Its release's serial.
        serial: Serial,
        /// Its release's version.
        version: String,
        /// When it was promoted.
        generation: Generation,
        /// Its life cycle.
        cycle: Cycle,
    },
    /// A system that must not be started, and why.
    Broken(String),
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::System { version, .. } => write!(f, "version {version}"),
            Self::Broken(why) => write!(f, "a system that cannot be started ({why})"),
        }
    }
}

/// A slot, known by its place in [`Facts::slots`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub usize);

/// What was found in one slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Its partition, for messages.
    pub device: String,
    /// What its label says.
    pub role: Role,
    /// What its record says.
    pub content: Content,
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

/// Everything that decisions are made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// In the order of the partitions.
    pub slots: Vec<Slot>,
    /// What the quickest server with a valid signature offers; none without a network.
    pub offer: Option<Offer>,
    /// What the person at the console answered, once asked.
    pub answer: Option<gse_protocol::config::boot::Answer>,
}

impl Facts {
    /// Each slot with its id.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.slots.iter().enumerate().map(|(n, slot)| (SlotId(n), slot))
    }

    /// The slots with this role.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.slots().filter(move |(_, slot)| slot.role == role)
    }
}

impl Slot {
    /// The generation of the system in it, if there is one that may be started.
    pub fn generation(&self) -> Option<Generation> {
        match &self.content {
            Content::System { generation, .. } => Some(*generation),
            Content::Nothing | Content::Broken(_) => None,
        }
    }
}
