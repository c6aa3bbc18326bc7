//! What tells this machine from the others.

use std::{fs, path::Path};

use gse_protocol::config::machines::Identity;
use nix::libc;

/// What firmware says where a serial number was to be filled in, in lower case.
const PLACEHOLDERS: [&str; 12] = [
    "to be filled by o.e.m.",
    "to be filled by oem",
    "default string",
    "system serial number",
    "base board serial number",
    "chassis serial number",
    "serial number",
    "not specified",
    "not applicable",
    "not available",
    "none",
    "n/a",
];

/// The hardware addresses of the network cards, in the kernel's order; and the serial number that the firmware gives. `sys` is where sysfs
/// is mounted.
pub fn identity(sys: &Path) -> Identity {
    let mut cards = cards(sys);
    cards.sort_by_key(|card| card.index);
    let mut macs: Vec<String> = Vec::new();
    for card in cards {
        if !macs.contains(&card.mac) {
            macs.push(card.mac);
        }
    }
    let firmware = ["product_serial", "board_serial"];
    let serial = firmware
        .iter()
        .find_map(|file| serial(&fs::read_to_string(sys.join("class/dmi/id").join(file)).ok()?));
    Identity { macs, serial }
}

/// Whether this machine has a network card whose driver is loaded.
pub fn has_links(sys: &Path) -> bool {
    !cards(sys).is_empty()
}

struct Card {
    index: u32,
    mac: String,
}

/// Ethernet links with a device behind them.
fn cards(sys: &Path) -> Vec<Card> {
    // Without a network stack there is no such directory.
    let Ok(entries) = fs::read_dir(sys.join("class/net")) else { return Vec::new() };
    let card = |link: fs::DirEntry| {
        let read = |file: &str| fs::read_to_string(link.path().join(file)).ok();
        let kind: u16 = read("type")?.trim().parse().ok()?;
        let index = read("ifindex")?.trim().parse().ok()?;
        let mac = read("address")?.trim().to_ascii_lowercase();
        let real = kind == libc::ARPHRD_ETHER
            && link.path().join("device").exists()
            && mac.chars().any(|c| !matches!(c, '0' | ':'));
        real.then_some(Card { index, mac })
    };
    entries.flatten().filter_map(card).collect()
}

/// A serial number that was given to this machine alone.
fn serial(text: &str) -> Option<String> {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    // 000000, ........, xxxxxx
    let repeats =
        lower.chars().all(|c| lower.starts_with(c) && matches!(c, '0' | 'f' | 'x' | '.' | '-'));
    let counted = matches!(lower.as_str(), "123456789" | "0123456789" | "1234567890");
    let given = !text.is_empty() && !repeats && !counted && !PLACEHOLDERS.contains(&lower.as_str());
    given.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_no_serial_numbers() {
        for text in [
            "",
            " \n",
            "0000000\n",
            "To be filled by O.E.M.\n",
            "Default string",
            "0123456789",
            "None",
            "........",
        ] {
            assert_eq!(serial(text), None, "{text}");
        }
        assert_eq!(serial(" PF1A2B3C \n").as_deref(), Some("PF1A2B3C"));
        assert_eq!(serial("0000001").as_deref(), Some("0000001"));
    }
}
