//! `controller/machines.toml`: what differs by machine or room.

use serde::Deserialize;

use super::{Error, mounts::is_below};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Machines {
    /// Of each setting the first counts that fits and has it.
    pub machine: Vec<Machine>,
}

/// Some machines, and what they get.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Which machines: all that is given must fit. `*` and `?` are wild.
    #[serde(rename = "match", default)]
    pub matches: Match,
    /// A name, in which `{mac}` stands for the last three bytes of the hardware address, `{serial}`
    /// for the machine's serial number and `{room}` for its room.
    pub hostname: Option<String>,
    /// The room, of which there may be files in `controller/system/rooms/`.
    pub room: Option<String>,
}

/// Which machines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// The hardware address of any network card, in lower case with colons.
    pub mac: Option<String>,
    /// The serial number that the firmware gives.
    pub serial: Option<String>,
    /// The name that an entry without this gave.
    pub name: Option<String>,
}

/// What identifies a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Hardware addresses in lower case with colons, in the kernel's order, so that a machine keeps its
    /// name whichever link is in use.
    pub macs: Vec<String>,
    /// The serial number that the firmware gives.
    pub serial: Option<String>,
}

impl Machines {
    /// Reads `controller/machines.toml`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        const FILE: &str = "controller/machines.toml";
        let mut machines: Self = super::parse(FILE, text)?;
        for machine in &mut machines.machine {
            // The kernel writes them so; a label on a card seldom does.
            if let Some(mac) = &mut machine.matches.mac {
                mac.make_ascii_lowercase();
            }
            if let Some(bad) = machine.hostname.as_deref().filter(|h| !is_hostname_pattern(h)) {
                let message = format!(
                    "hostname {bad:?} may only have letters, digits, - and ., beside {{mac}}, {{serial}} and {{room}}"
                );
                return Err(Error::new(FILE, message).in_line_of(text, bad));
            }
            if let Some(bad) = machine.room.as_deref().filter(|r| !is_below(r) || r.contains('/')) {
                let message = format!("room {bad:?} is no name of a folder");
                return Err(Error::new(FILE, message).in_line_of(text, bad));
            }
            if let Some((name, _)) = machine.matches.name.as_ref().zip(machine.hostname.as_ref()) {
                let message =
                    "an entry that matches by name cannot give a name: match by mac or serial";
                return Err(Error::new(FILE, message).in_line_of(text, name));
            }
        }
        Ok(machines)
    }

    /// The name that this machine gets, if any entry gives it one that makes a valid host name.
    pub fn hostname(&self, machine: &Identity) -> Option<String> {
        let pattern = self.fitting(machine, None).find_map(|entry| entry.hostname.as_ref())?;
        hostname(pattern, machine, self.room_without_name(machine))
    }

    /// The room that this machine is in, if any entry says it.
    pub fn room(&self, machine: &Identity) -> Option<String> {
        let name = self.hostname(machine);
        let mut fitting = self.fitting(machine, name.as_deref());
        fitting.find_map(|entry| entry.room.clone())
    }

    /// What `{room}` in a name stands for: entries that match by name come after the name.
    fn room_without_name<'m>(&'m self, machine: &'m Identity) -> Option<&'m str> {
        self.fitting(machine, None).find_map(|entry| entry.room.as_deref())
    }

    fn fitting<'m>(
        &'m self,
        machine: &'m Identity,
        own_name: Option<&'m str>,
    ) -> impl Iterator<Item = &'m Machine> {
        self.machine.iter().filter(move |entry| {
            let Match { mac, serial, name } = &entry.matches;
            let own = machine.serial.as_deref();
            mac.as_ref().is_none_or(|p| machine.macs.iter().any(|m| wild(p, m)))
                && serial.as_ref().is_none_or(|p| own.is_some_and(|s| wild(p, s)))
                && name.as_ref().is_none_or(|p| own_name.is_some_and(|n| wild(p, n)))
        })
    }
}

/// The host name that `pattern` makes for a machine, if that leaves a valid one: `{mac}` stands for the
/// last three bytes of the hardware address, `{serial}` for the machine's serial number, `{room}` for
/// its room.
pub fn hostname(pattern: &str, machine: &Identity, room: Option<&str>) -> Option<String> {
    let mac = machine.macs.first().map(|m| m.replace(':', "")).unwrap_or_default();
    let mac = mac.get(mac.len().saturating_sub(6)..).unwrap_or_default();
    let serial = machine.serial.as_deref().unwrap_or_default();
    let name = pattern.replace("{mac}", mac).replace("{serial}", serial);
    let name = name.replace("{room}", room.unwrap_or_default());
    let valid = |c: &char| c.is_ascii_alphanumeric() || *c == '-' || *c == '.';
    let name: String = name.chars().filter(valid).take(63).collect();
    // No part of a host name begins or ends with a hyphen, or is empty (RFC 1123, section 2.1).
    let parts = name.split('.').map(|part| part.trim_matches('-')).filter(|p| !p.is_empty());
    let name = parts.collect::<Vec<_>>().join(".");
    (!name.is_empty()).then_some(name)
}

/// A typo in `{serial}` would give the same name to every machine.
pub fn is_hostname_pattern(pattern: &str) -> bool {
    let plain = pattern.replace("{mac}", "0").replace("{serial}", "0");
    let plain = plain.replace("{room}", "0");
    !plain.is_empty() && plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}

/// Whether `text` fits `pattern`, in which `*` stands for anything and `?` for one character.
pub fn wild(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not fit: it takes one more character.
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match back {
                Some((star, taken)) => {
                    back = Some((star, taken + 1));
                    p = star + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == '*')
}
