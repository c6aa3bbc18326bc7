//! Disks, partitions, filesystems and slots.
//!
//! [`probe`] finds what is there, [`plan`] says what is missing and [`gpt`] does it; [`mkfs`] and
//! [`fsck`] make filesystems and mend them; [`slots`] finds the systems of a machine, and [`records`]
//! is what each of them knows of itself.

pub mod awaited;
pub mod choose;
pub mod content;
pub mod fallback;
pub mod fsck;
pub mod gpt;
mod ids;
pub mod layout;
pub mod mkfs;
pub mod mount;
pub mod plan;
pub mod probe;
pub mod records;
pub mod slots;
pub mod subvolumes;
pub mod table;
pub mod tools;
pub mod wipeable;

use std::fmt;

/// A number of bytes as a person reads it, such as `20.0 GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, shift) = match self.0 {
            0..0x100_000 => ("KiB", 10),
            0x100_000..0x4000_0000 => ("MiB", 20),
            0x4000_0000..0x100_0000_0000 => ("GiB", 30),
            _ => ("TiB", 40),
        };
        write!(f, "{:.1} {unit}", self.0 as f64 / (1_u64 << shift) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn sizes_are_written_for_people() {
        for (bytes, text) in
            [(512, "0.5 KiB"), (1 << 20, "1.0 MiB"), (3 << 29, "1.5 GiB"), (5 << 40, "5.0 TiB")]
        {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
