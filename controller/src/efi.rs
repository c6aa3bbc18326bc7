//! The order in which EFI firmware tries its boot entries.
//!
//! Variables: UEFI specification 2.10, section 3.3; their files:
//! <https://docs.kernel.org/filesystems/efivarfs.html>. `BootOrder` alone is written, and what it has stays in it: entries
//! are neither made nor deleted, and firmware that knows better puts back what it wants.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use gse_protocol::config::machines::wild;

/// Where the kernel shows the firmware's variables.
pub const EFIVARS: &str = "/sys/firmware/efi/efivars";
/// `EFI_GLOBAL_VARIABLE`
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Each file begins with the variable's attributes.
const ATTRIBUTES: usize = 4;

/// Puts the entries whose names fit the patterns first, and says whether anything was written.
///
/// # Errors
/// Those of the firmware: some lets nobody write.
pub fn set_boot_order(efivars: &Path, wanted: &[String]) -> Result<bool> {
    let path = variable(efivars, "BootOrder");
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let (attributes, numbers) =
        bytes.split_at_checked(ATTRIBUTES).context("BootOrder is cut short")?;
    let current: Vec<u16> =
        numbers.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    let name = |number: &u16| {
        // Without a name it fits nothing, and stays where it is.
        let option = fs::read(variable(efivars, &format!("Boot{number:04X}"))).unwrap_or_default();
        description(option.get(ATTRIBUTES..).unwrap_or_default())
    };
    let entries: Vec<(u16, String)> = current.iter().map(|n| (*n, name(n))).collect();
    let order = order(&entries, wanted);
    if order == current {
        return Ok(false);
    }
    let numbers = order.iter().flat_map(|number| number.to_le_bytes());
    let bytes: Vec<u8> = attributes.iter().copied().chain(numbers).collect();
    // One write is one variable; efivarfs takes nothing in parts, and has nothing to truncate.
    let file = OpenOptions::new().write(true).open(&path);
    file.and_then(|mut file| file.write_all(&bytes))
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(true)
}

fn variable(efivars: &Path, name: &str) -> PathBuf {
    efivars.join(format!("{name}-{GLOBAL}"))
}

/// The numbers of `entries`, those first whose names fit the first pattern, and so on. The rest keeps its order, as do
/// entries that fit the same one.
fn order(entries: &[(u16, String)], wanted: &[String]) -> Vec<u16> {
    let rank = |name: &str| wanted.iter().position(|p| wild(p, name)).unwrap_or(wanted.len());
    let of_rank = |n: usize| {
        entries.iter().filter(move |(_, name)| rank(name) == n).map(|(number, _)| *number)
    };
    (0..=wanted.len()).flat_map(of_rank).collect()
}

/// The name in an `EFI_LOAD_OPTION`: after four bytes of attributes and two of a length, in UTF-16, ended by a zero.
fn description(option: &[u8]) -> String {
    let units = option.get(6..).unwrap_or_default().as_chunks().0;
    let units = units.iter().map(|pair| u16::from_le_bytes(*pair)).take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// As on a machine with these entries.
    fn firmware(order: &[u16], entries: &[(u16, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (number, name) in entries {
            let units = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
            let bytes: Vec<u8> = [7, 0, 0, 0, 1, 0, 0, 0, 98, 0]
                .into_iter()
                .chain(units)
                .chain([4, 1, 42])
                .collect();
            fs::write(variable(dir.path(), &format!("Boot{number:04X}")), bytes).unwrap();
        }
        let numbers = order.iter().flat_map(|number| number.to_le_bytes());
        let bytes: Vec<u8> = [7, 0, 0, 0].into_iter().chain(numbers).collect();
        fs::write(variable(dir.path(), "BootOrder"), bytes).unwrap();
        dir
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn entries_that_fit_come_first_and_none_is_lost() {
        let entries = [
            (0, "Windows Boot Manager"),
            (0x1A, "UEFI: PXE IPv4"),
            (2, "GSE"),
            (3, "UEFI: PXE IPv6"),
        ];
        let dir = firmware(&[0, 0x1A, 2, 3, 9], &entries);
        let order = || {
            let bytes = fs::read(variable(dir.path(), "BootOrder")).unwrap();
            assert_eq!(bytes[..4], [7, 0, 0, 0]);
            bytes[4..].chunks(2).map(|pair| u16::from(pair[0])).collect::<Vec<_>>()
        };
        let wanted = words(&["GSE*", "*PXE*"]);
        assert!(set_boot_order(dir.path(), &wanted).unwrap());
        // The entry 9 is in the order, but is not there.
        assert_eq!(order(), [2, 0x1A, 3, 0, 9]);
        assert!(!set_boot_order(dir.path(), &wanted).unwrap(), "a second time");
        assert!(!set_boot_order(dir.path(), &words(&["Fedora"])).unwrap());
        assert!(set_boot_order(dir.path(), &words(&["windows*", "Windows*"])).unwrap());
        assert_eq!(order(), [0, 2, 0x1A, 3, 9]);
    }

    #[test]
    fn odd_variables_are_no_reason_to_write() {
        let dir = firmware(&[1, 2], &[]);
        fs::write(variable(dir.path(), "Boot0001"), [7, 0]).unwrap();
        fs::write(variable(dir.path(), "Boot0002"), [7, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0xd8])
            .unwrap();
        assert!(!set_boot_order(dir.path(), &words(&["GSE"])).unwrap());
        fs::write(variable(dir.path(), "BootOrder"), [7]).unwrap();
        let error = set_boot_order(dir.path(), &words(&["*"])).unwrap_err();
        assert!(error.to_string().contains("BootOrder"), "{error}");
        assert!(set_boot_order(&dir.path().join("none"), &words(&["*"])).is_err());
    }
}
