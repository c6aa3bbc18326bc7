//! `controller/machines.toml`: what differs by machine or room.

use serde::Deserialize;

use super::Error;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Machines {
    /// The first that matches counts.
    pub machine: Vec<Machine>,
}

/// Some machines, and what they get.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Which machines: all that is given must fit. `*` and `?` are wild.
    #[serde(rename = "match", default)]
    pub matches: Match,
    /// A name, in which `{mac}` stands for the last three bytes of the hardware address and `{serial}`
    /// for the machine's serial number.
    pub hostname: Option<String>,
}

/// Which machines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// The hardware address of any network card, in lower case with colons.
    pub mac: Option<String>,
    /// The serial number that the firmware gives.
    pub serial: Option<String>,
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
                    "hostname {bad:?} may only have letters, digits, - and ., beside {{mac}} and {{serial}}"
                );
                return Err(Error::new(FILE, message).in_line_of(text, bad));
            }
        }
        Ok(machines)
    }

    /// The entry for this machine.
    pub fn find(&self, identity: &Identity) -> Option<&Machine> {
        self.machine.iter().find(|machine| {
            let Match { mac, serial } = &machine.matches;
            let mac = mac.as_ref().is_none_or(|p| identity.macs.iter().any(|m| wild(p, m)));
            let own = identity.serial.as_deref();
            mac && serial.as_ref().is_none_or(|p| own.is_some_and(|s| wild(p, s)))
        })
    }

    /// The name that this machine gets, if any entry gives it one that makes a valid host name.
    pub fn hostname(&self, identity: &Identity) -> Option<String> {
        hostname(self.find(identity)?.hostname.as_ref()?, identity)
    }
}

/// The host name that `pattern` makes for a machine, if that leaves a valid one: `{mac}` stands for the
/// last three bytes of the hardware address, `{serial}` for the machine's serial number.
pub fn hostname(pattern: &str, machine: &Identity) -> Option<String> {
    let mac = machine.macs.first().map(|m| m.replace(':', "")).unwrap_or_default();
    let mac = mac.get(mac.len().saturating_sub(6)..).unwrap_or_default();
    let serial = machine.serial.as_deref().unwrap_or_default();
    let name = pattern.replace("{mac}", mac).replace("{serial}", serial);
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
