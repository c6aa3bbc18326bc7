//! What a server offers, and why it is not installed, in words.

use gse_protocol::Release;

use crate::{
    decide::Keep,
    facts::{Facts, Offer, Role},
};

/// What decisions know of a release.
pub(super) fn offer(release: &Release) -> Offer {
    Offer {
        serial: release.serial,
        version: release.version.clone(),
        allow_downgrade: release.allow_downgrade,
    }
}

/// The offered version.
pub(super) fn offered(facts: &Facts) -> &str {
    facts.offer.as_ref().map(|offer| offer.version.as_str()).unwrap_or_default()
}

/// Why nothing is installed, for the person at the console; none if that was said already.
pub(super) fn explain(keep: Keep, facts: &Facts) -> Option<String> {
    let installed = facts.with_role(Role::System).next().map(|(_, slot)| slot.content.to_string());
    let installed = installed.unwrap_or_else(|| "nothing".to_owned());
    let offered = offered(facts);
    Some(match keep {
        Keep::NoOffer => format!("no server to compare with; installed: {installed}"),
        Keep::Current => format!("{installed} is the newest"),
        Keep::Older => format!("{installed} stays: the server's {offered} is older"),
        Keep::Refused => format!(
            "{installed} stays: version {offered} failed on this machine, and is not installed again; \
             publish a release with a higher serial"
        ),
        Keep::Policy => {
            format!("{installed} stays: update.policy is \"never\" (the server has {offered})")
        }
        Keep::Declined => format!("{installed} stays: {offered} was not wanted now"),
        Keep::NoSlot => format!(
            "{installed} stays: every slot holds a system that is needed; list a BACKUPFS in \
             controller/drives.toml to have room for {offered}"
        ),
        Keep::Window => {
            format!("{installed} stays: update.window is closed (the server has {offered})")
        }
        Keep::Tried => return None,
    })
}
