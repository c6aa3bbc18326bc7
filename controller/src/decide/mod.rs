//! The decisions: facts and policy in, the next step out. No I/O, no clock, no chance.
//!
//! [`next`] is asked again after every step, so nothing is planned that the disks do not show: what a
//! power cut leaves behind is decided about by the same rules as everything else. In their order:
//!
//! 1. [`settle`]: every state of the labels has one meaning.
//! 2. [`health`]: a SYSFS that failed its life cycle gives way to BACKUPFS.
//! 3. [`wipe`]: what was made before an order to wipe everything goes.
//! 4. [`update`]: the server's release is installed, into a slot that nobody needs ([`place`]).
//! 5. [`backup`]: a SYSFS that has proven itself is cloned where there is no backup.
//! 6. [`start`]: SYSFS is booted, or what there is instead; or nothing can be.

pub mod background;
mod backup;
mod fallback;
pub mod health;
mod place;
mod settle;
pub mod start;
#[cfg(test)]
mod tests;
pub mod update;
pub mod wipe;

use gse_protocol::{
    Serial,
    config::boot::{self, Boot, Mode},
};

pub use self::{
    fallback::{GivesWay, gives_way},
    health::Ailment,
    start::{NothingToBoot, Why},
    update::Keep,
};
use crate::facts::{Facts, Role, SlotId};

/// One change to the machine's disks, or one look at them. All of them mean slots: there is no step
/// that could write to BOOTFS or USERDATAFS, or give anything their labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Give the slot's filesystem the label of this role. Atomic.
    Relabel(SlotId, Role),
    /// Remember in the slot's record that this release failed here. Atomic.
    Refuse(SlotId, Serial),
    /// Make a new, empty filesystem with the label INCOMING.
    Format(SlotId),
    /// Make the offered system in the slot, which is blank. The record that says complete is the last
    /// write; before it, the slot is worth nothing.
    Install(SlotId),
    /// Make a copy of a system in the slot `to`, which is blank; the record comes last here too.
    Clone {
        /// The slot of the original.
        from: SlotId,
        /// The slot of the copy.
        to: SlotId,
    },
    /// Check and mend the filesystem, and look for the init.
    Check(SlotId),
    /// Begin a life cycle in the slot's record. Atomic.
    Open(SlotId),
}

impl Step {
    /// The slot that is changed or looked at.
    pub fn slot(self) -> SlotId {
        match self {
            Self::Relabel(id, _)
            | Self::Refuse(id, _)
            | Self::Format(id)
            | Self::Install(id)
            | Self::Clone { to: id, .. }
            | Self::Check(id)
            | Self::Open(id) => id,
        }
    }
}

/// What a step is for; for the person at the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A change that was begun, now or before a power cut, gets its end.
    Settling,
    /// A system has to be looked at before it counts.
    Looking,
    /// SYSFS is unhealthy.
    Unhealthy(Ailment),
    /// The offered release.
    Update,
    /// A copy of SYSFS.
    Backup,
    /// The order to wipe everything.
    Wipe,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Do this step, tell the facts how it went, and ask again.
    Do(Step, Cause),
    /// Ask the person whether to install the offered release, and then again here.
    Ask,
    /// Make this slot ready, do [`Step::Open`] as the last thing, and start its system. If that fails, tell
    /// the facts so, and ask again.
    Boot(SlotId, Why),
    /// Nothing can be started.
    Rescue(NothingToBoot),
}

/// What the configuration says about decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Whether a release that differs from the installed one is installed.
    pub update: boot::Policy,
    /// Which slot it goes into.
    pub mode: Mode,
    /// How many startups in a row a system may take to come up.
    pub tries: u32,
    /// How many shutdowns in a row may be unclean.
    pub unclean_shutdowns: u32,
    /// Whether there is to be a clone where there is no backup.
    pub clone: bool,
}

impl From<&Boot> for Policy {
    fn from(boot: &Boot) -> Self {
        let health = &boot.health;
        // Where systems do not report, nothing can be told from that they did not.
        let allowed = |count| if health.require_report { count } else { u32::MAX };
        Self {
            update: boot.update.policy,
            mode: boot.update.mode,
            tries: allowed(health.tries),
            unclean_shutdowns: allowed(health.unclean_shutdowns),
            clone: health.clone,
        }
    }
}

/// What this machine does next.
pub fn next(facts: &Facts, policy: &Policy) -> Next {
    if facts.slots.iter().any(|slot| slot.session.unstartable.is_some()) {
        // The reason may be anything, such as a mount that the configuration asks for. So no label is
        // moved and nothing is installed for it: whatever else can be started is.
        return start::next(facts, policy);
    }
    settle::next(facts)
        .or_else(|| health::next(facts, policy))
        .or_else(|| wipe::next(facts))
        .or_else(|| update::next(facts, policy))
        .or_else(|| backup::next(facts, policy))
        .unwrap_or_else(|| start::next(facts, policy))
}
