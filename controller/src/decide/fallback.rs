//! Which step makes a system give way to its backup; for the record, and for the person who asks later.

use super::{Cause, Step, settle::best_backup};
use crate::facts::{Content, Facts, Role, SlotId};

/// A system that is about to give way to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivesWay {
    /// The slot that takes over.
    pub to: SlotId,
    /// The slot that has failed; none if nobody can tell any more which that was.
    pub from: Option<SlotId>,
    /// Why: a sentence.
    pub why: String,
}

/// What gives way with this step, the first of the label writes that bring the backup up. What is written down before
/// it is known after a power cut too: the steps that follow are then those of [`Cause::Settling`].
pub fn gives_way(facts: &Facts, step: Step, cause: &Cause) -> Option<GivesWay> {
    match (step, cause) {
        (Step::Relabel(from, Role::Deprived), Cause::Unhealthy(ailment)) => {
            let (to, _) = best_backup(facts)?;
            Some(GivesWay { to, from: Some(from), why: ailment.to_string() })
        }
        (Step::Relabel(to, Role::System), Cause::Settling)
            if facts.slot(to)?.role == Role::Backup && !was_deprived(facts) =>
        {
            Some(lost(facts, to))
        }
        _ => None,
    }
}

/// A system that was told to go, by a fallback that is on record or for an update in its place.
fn was_deprived(facts: &Facts) -> bool {
    facts.with_role(Role::Deprived).any(|(_, slot)| slot.system().is_some())
}

/// There is no SYSFS, though nobody took it away.
fn lost(facts: &Facts, to: SlotId) -> GivesWay {
    if let Some((from, slot)) = facts.with_role(Role::System).next() {
        let (device, content) = (&slot.device, &slot.content);
        let why = match content {
            Content::Broken(_) => format!("SYSFS on {device} holds {content}"),
            Content::Nothing | Content::System(_) => {
                format!("SYSFS on {device} holds no complete system")
            }
        };
        return GivesWay { to, from: Some(from), why };
    }
    let mut why = "there is no SYSFS on this machine any more".to_owned();
    let empty = facts.with_role(Role::Free).map(|(_, slot)| slot.device.as_str());
    for (nth, device) in empty.enumerate() {
        why.push_str(if nth == 0 { ": no system is left on " } else { ", " });
        why.push_str(device);
    }
    GivesWay { to, from: None, why }
}
