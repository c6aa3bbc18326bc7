//! GUID partition tables: reading both copies, and judging what to believe.
//!
//! Format: UEFI specification, chapter 5. The bytes are gptman's; what is here is the checking that
//! has to come before them: a table is somebody's data, and a hostile one may sit on any stick.

use std::{
    fmt,
    io::{self, Read, Seek, SeekFrom},
};

use gptman::{GPTHeader, GPTPartitionEntry};

/// A GUID in the byte order of the table: the first three groups are little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guid(pub [u8; 16]);

/// "Linux filesystem data". All of our partitions have it: the more telling types (root of an
/// architecture, ESP) make systemd and firmware mount them by themselves.
pub const LINUX_DATA: Guid = Guid([
    0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
]);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g, h, i, tail @ ..] = self.0;
        write!(f, "{:08X}-", u32::from_le_bytes([a, b, c, d]))?;
        write!(f, "{:04X}-{:04X}-", u16::from_le_bytes([e, g]), u16::from_le_bytes([h, i]))?;
        for (n, byte) in tail.iter().enumerate() {
            write!(f, "{}{byte:02X}", if n == 2 { "-" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Something that is wrong with a table which can be used all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// The copy at the start of the disk is damaged; the one at the end is used.
    Primary(String),
    /// The copy at the end of the disk is damaged, or differs from the one at the start.
    Backup(String),
    /// The protective MBR is missing, without which the kernel takes the disk for empty.
    ProtectiveMbr,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary(why) => {
                write!(
                    f,
                    "its first copy is damaged ({why}), so the backup at the disk's end is used"
                )
            }
            Self::Backup(why) => write!(f, "its backup at the disk's end is damaged ({why})"),
            Self::ProtectiveMbr => f.write_str("its protective MBR is missing"),
        }
    }
}

/// A table that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// In the form of the first copy, whichever was read.
    pub header: GPTHeader,
    /// All entries, used and unused; as many as the header says.
    pub entries: Vec<GPTPartitionEntry>,
    /// Bytes in a sector.
    pub sector: u64,
    /// What is to be repaired.
    pub flaws: Vec<Flaw>,
}

/// What was found in the places where a table would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing that calls itself a GPT.
    None,
    /// A table.
    Table(Box<Table>),
    /// Neither copy makes sense: why not.
    Broken(String),
}

/// The protective MBR: whether sector 0 has one.
fn is_protected(device: &mut (impl Read + Seek)) -> io::Result<bool> {
    let mut sector = [0; 512];
    device.seek(SeekFrom::Start(0))?;
    device.read_exact(&mut sector)?;
    let types = [450, 466, 482, 498].map(|at| sector.get(at).copied());
    Ok(sector.ends_with(&[0x55, 0xaa]) && types.contains(&Some(0xee)))
}

/// Reads the table of a disk that has sectors of `sector` bytes.
///
/// # Errors
/// Only those of reading: a damaged table is an answer.
pub fn read(device: &mut (impl Read + Seek), sector: u64) -> io::Result<Found> {
    let sectors = device.seek(SeekFrom::End(0))? / sector.max(1);
    // Two headers, two arrays of entries, the MBR: less than that cannot hold a table.
    if sector < 512 || sectors < 8 {
        return Ok(Found::None);
    }
    let protected = is_protected(device)?;
    let primary = read_copy(device, sector, sectors, 1)?;
    let backup_lba = primary.as_ref().map_or(sectors - 1, |(header, _)| header.backup_lba);
    let backup = read_copy(device, sector, sectors, backup_lba)?;
    let mut flaws = if protected { vec![] } else { vec![Flaw::ProtectiveMbr] };
    let (mut header, entries) = match (primary, backup) {
        (Ok(primary), Ok(backup)) => {
            if primary.1 != backup.1 || primary.0.disk_guid != backup.0.disk_guid {
                flaws.push(Flaw::Backup("it differs from the first copy".to_owned()));
            }
            primary
        }
        (Ok(primary), Err(why)) => {
            flaws.push(Flaw::Backup(why.to_string()));
            primary
        }
        (Err(why), Ok(backup)) => {
            flaws.push(Flaw::Primary(why.to_string()));
            backup
        }
        (Err(CopyError::Absent), Err(_)) if !protected => return Ok(Found::None),
        (Err(first), Err(last)) => {
            return Ok(Found::Broken(format!("its first copy: {first}; its backup: {last}")));
        }
    };
    if header.is_backup() {
        header.backup_lba = header.primary_lba;
        header.primary_lba = 1;
        header.partition_entry_lba = 2;
    }
    let table = Table { header, entries, sector, flaws };
    Ok(match table.check(sectors) {
        Ok(()) => Found::Table(Box::new(table)),
        Err(why) => Found::Broken(why.to_owned()),
    })
}

/// Why one copy cannot be used.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error("there is none")]
    Absent,
    #[error("{0}")]
    Wrong(&'static str),
    #[error("{0}")]
    Format(gptman::Error),
}

type Copy = (GPTHeader, Vec<GPTPartitionEntry>);

fn read_copy(
    device: &mut (impl Read + Seek),
    sector: u64,
    sectors: u64,
    lba: u64,
) -> io::Result<Result<Copy, CopyError>> {
    if lba >= sectors {
        return Ok(Err(CopyError::Wrong("it would lie beyond the disk's end")));
    }
    device.seek(SeekFrom::Start(lba * sector))?;
    let header = match GPTHeader::read_from(device) {
        Ok(header) => header,
        Err(gptman::Error::Io(error)) => return Err(error),
        Err(gptman::Error::InvalidSignature) => return Ok(Err(CopyError::Absent)),
        Err(error) => return Ok(Err(CopyError::Format(error))),
    };
    // gptman allocates, multiplies and asserts by these numbers, so they are checked before it does.
    if let Err(why) = check_header(&header, sector, sectors, lba) {
        return Ok(Err(CopyError::Wrong(why)));
    }
    match header.read_partitions(device, sector) {
        Ok(entries) => Ok(Ok((header, entries))),
        Err(gptman::Error::Io(error)) => Err(error),
        Err(error) => Ok(Err(CopyError::Format(error))),
    }
}

/// Sectors that the array of entries takes.
fn array_sectors(header: &GPTHeader, sector: u64) -> u64 {
    (u64::from(header.number_of_partition_entries) * u64::from(header.size_of_partition_entry))
        .div_ceil(sector)
}

fn check_header(
    header: &GPTHeader,
    sector: u64,
    sectors: u64,
    lba: u64,
) -> Result<(), &'static str> {
    if header.primary_lba != lba {
        return Err("it is a copy from another place");
    }
    if header.size_of_partition_entry != 128 {
        return Err("its entries do not have 128 bytes");
    }
    if !(1..=1024).contains(&header.number_of_partition_entries) {
        return Err("it has no sensible number of entries");
    }
    if header.first_usable_lba > header.last_usable_lba || header.last_usable_lba >= sectors {
        return Err("it was made for a larger disk");
    }
    let first = header.partition_entry_lba;
    let after = first.saturating_add(array_sectors(header, sector));
    let usable = header.first_usable_lba..=header.last_usable_lba;
    if first < 2 || after > sectors || (after > *usable.start() && first <= *usable.end()) {
        return Err("its entries lie where partitions would");
    }
    Ok(())
}

impl Table {
    /// An empty table for a disk, with the usual 128 entries.
    ///
    /// # Errors
    /// A disk too small to hold one, and those of asking for its size.
    pub fn empty(device: &mut (impl Read + Seek), sector: u64, guid: Guid) -> io::Result<Self> {
        let sectors = device.seek(SeekFrom::End(0))? / sector.max(1);
        if sector < 512 || sectors.saturating_mul(sector) < 1 << 20 {
            let message = "the disk is too small to hold a partition table";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let header = GPTHeader::new_from(device, sector, guid.0).map_err(io::Error::other)?;
        let entries = (0..header.number_of_partition_entries).map(|_| GPTPartitionEntry::empty());
        let flaws = vec![Flaw::ProtectiveMbr];
        Ok(Self { entries: entries.collect(), header, sector, flaws })
    }

    /// The partitions, each with its number, which counts from 1.
    pub fn used(&self) -> impl Iterator<Item = (u32, &GPTPartitionEntry)> {
        (1..).zip(&self.entries).filter(|(_, entry)| entry.is_used())
    }

    /// The header of the copy at the disk's end.
    pub fn backup_header(&self) -> GPTHeader {
        let mut backup = self.header.clone();
        backup.primary_lba = self.header.backup_lba;
        backup.backup_lba = self.header.primary_lba;
        backup.partition_entry_lba =
            backup.primary_lba.saturating_sub(array_sectors(&self.header, self.sector));
        backup
    }

    /// Whether both copies and all partitions have room of their own on a disk of `sectors` sectors.
    ///
    /// # Errors
    /// The reason, as a sentence.
    pub fn check(&self, sectors: u64) -> Result<(), &'static str> {
        check_header(&self.header, self.sector, sectors, 1)?;
        let backup = self.backup_header();
        if backup.primary_lba <= self.header.last_usable_lba {
            return Err("its backup lies where partitions would");
        }
        check_header(&backup, self.sector, sectors, self.header.backup_lba)?;
        if self.entries.len() != self.header.number_of_partition_entries as usize {
            return Err("it has not as many entries as it says");
        }
        let mut ranges: Vec<_> = self.used().map(|(_, e)| (e.starting_lba, e.ending_lba)).collect();
        ranges.sort_unstable();
        let mut free_from = self.header.first_usable_lba;
        for (first, last) in ranges {
            if first < free_from || last < first || last > self.header.last_usable_lba {
                return Err("its partitions overlap, or lie outside of the usable sectors");
            }
            free_from = last + 1;
        }
        Ok(())
    }
}
