//! What is booted, or why nothing is.

use super::{
    Ailment, Cause, Next, Policy, Step,
    health::{self, trust},
};
use crate::facts::{Attempt, Checked, Content, Facts, Life, Role, Slot, SlotId};

/// Why a system is booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// SYSFS is healthy.
    Healthy,
    /// SYSFS failed, but no oftener than the policy allows.
    Allowed(Life),
    /// SYSFS is unhealthy, and there is nothing better.
    LastResort {
        /// What is wrong with it.
        ailment: Ailment,
        /// It failed so often that a person should get the time to read this before it does again.
        pause: bool,
    },
    /// SYSFS could not be started: a sentence. The labels stay.
    Instead(String),
}

/// How often a last resort may fail to come up until the machine waits before it is tried again.
const PATIENCE: u32 = 3;

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
    /// What the server offers failed here.
    #[error(
        "version {version} failed on this machine, and nothing else can be started{broken}: publish a release with a higher serial, then retry"
    )]
    Refused {
        /// The offered version.
        version: String,
        /// What is wrong with the slots, in parentheses; or nothing.
        broken: String,
    },
    /// The offered system could not be installed, or not be started once it was.
    #[error("the offered system could not be installed, and no other can be started{0}")]
    NotInstalled(String),
}

/// SYSFS, or what there is instead of it.
pub(super) fn next(facts: &Facts, policy: &Policy) -> Next {
    let startable = |(_, slot): &(SlotId, &Slot)| {
        slot.bootable().is_some() && slot.session.unstartable.is_none()
    };
    if let Some((id, slot)) = facts.with_role(Role::System).find(startable) {
        return Next::Boot(id, why(slot, policy));
    }
    let failed = facts.with_role(Role::System).find_map(|(_, s)| s.session.unstartable.clone());
    let backup = facts.with_role(Role::Backup).filter(startable).max_by_key(|(id, slot)| {
        slot.system().map(|system| (trust(system.life), system.generation, *id))
    });
    match backup {
        Some((id, slot)) if slot.session.checked.is_none() => {
            Next::Do(Step::Check(id), Cause::Looking)
        }
        Some((id, _)) => Next::Boot(id, Why::Instead(failed.unwrap_or_default())),
        None => Next::Rescue(nothing(facts)),
    }
}

fn why(slot: &Slot, policy: &Policy) -> Why {
    let life = slot.system().and_then(|system| system.life);
    match (health::ailment(slot, policy), life) {
        (Some(ailment), _) => {
            let pause = matches!(ailment, Ailment::NeverUp { tries } if tries >= PATIENCE);
            Why::LastResort { ailment, pause }
        }
        (None, Some(life)) if life.tries > 0 || life.unclean() > 0 => Why::Allowed(life),
        (None, _) => Why::Healthy,
    }
}

fn nothing(facts: &Facts) -> NothingToBoot {
    if facts.slots.is_empty() {
        return NothingToBoot::NoSlots;
    }
    let wrong: Vec<String> = facts.slots.iter().filter_map(wrong).collect();
    let list = wrong.join("; ");
    let broken = if wrong.is_empty() { String::new() } else { format!(" ({list})") };
    match &facts.offer {
        Some(_) if facts.attempt == Attempt::Failed => NothingToBoot::NotInstalled(broken),
        Some(offer) if facts.refused().contains(offer.serial) => {
            NothingToBoot::Refused { version: offer.version.clone(), broken }
        }
        _ if wrong.is_empty() => NothingToBoot::Empty,
        _ => NothingToBoot::Broken(list),
    }
}

/// What is wrong with a slot that should hold a system.
fn wrong(slot: &Slot) -> Option<String> {
    let why = match (&slot.content, &slot.session.checked, &slot.session.unstartable) {
        (Content::Broken(why), _, _)
        | (_, Some(Checked::Damaged(why) | Checked::NoInit(why)), _)
        | (_, _, Some(why)) => why.clone(),
        (Content::System(system), _, _) if slot.role == Role::Deprived => {
            format!("version {} failed here", system.version)
        }
        (Content::Nothing | Content::System(_), _, _) => return None,
    };
    Some(format!("{}: {why}", slot.device))
}
