//! Reading partition tables: damaged ones, and bytes that only look like one.

use std::io::Cursor;

use gptman::{GPT, GPTPartitionEntry};
use gse_controller::disk::table::{Flaw, Found, Guid, LINUX_DATA, Table, read};
use proptest::prelude::*;

const SIZE: usize = 4 << 20;

/// A disk with one partition, written by gptman itself.
fn image(sector: u64) -> Vec<u8> {
    let mut disk = Cursor::new(vec![0; SIZE]);
    let mut gpt = GPT::new_from(&mut disk, sector, [9; 16]).unwrap();
    gpt[1] = GPTPartitionEntry {
        partition_type_guid: LINUX_DATA.0,
        unique_partition_guid: [1; 16],
        starting_lba: (1 << 20) / sector,
        ending_lba: (2 << 20) / sector - 1,
        attribute_bits: 0,
        partition_name: "theirs".into(),
    };
    gpt.write_into(&mut disk).unwrap();
    GPT::write_protective_mbr_into(&mut disk, sector).unwrap();
    disk.into_inner()
}

fn table(bytes: Vec<u8>, sector: u64) -> Table {
    match read(&mut Cursor::new(bytes), sector).unwrap() {
        Found::Table(table) => *table,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_table_has_no_flaws() {
    for sector in [512, 4096] {
        let table = table(image(sector), sector);
        assert_eq!(table.flaws, []);
        let (number, entry) = table.used().next().unwrap();
        assert_eq!((number, entry.partition_name.as_str()), (1, "theirs"));
    }
}

#[test]
fn either_copy_is_enough() {
    for sector in [512_usize, 4096] {
        let whole = image(sector as u64);
        for (at, wanted) in [
            (sector, "Primary"),
            (2 * sector, "Primary"),
            (SIZE - sector, "Backup"),
            (SIZE - sector - 16384, "Backup"),
        ] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let damaged = table(bytes, sector as u64);
            let said = format!("{:?}", damaged.flaws);
            assert!(damaged.flaws.len() == 1 && said.contains(wanted), "{at}: {said}");
            assert_eq!(damaged.entries, table(whole.clone(), sector as u64).entries);
            assert_eq!(damaged.header.primary_lba, 1);
        }
    }
}

#[test]
fn a_missing_protective_mbr_is_a_flaw() {
    let mut bytes = image(512);
    bytes[..512].fill(0);
    assert_eq!(table(bytes, 512).flaws, [Flaw::ProtectiveMbr]);
}

#[test]
fn a_backup_of_another_table_is_a_flaw() {
    let mut bytes = image(512);
    let mut other = Cursor::new(vec![0; SIZE]);
    GPT::new_from(&mut other, 512, [8; 16]).unwrap().write_into(&mut other).unwrap();
    bytes[SIZE / 2..].copy_from_slice(&other.into_inner()[SIZE / 2..]);
    let table = table(bytes, 512);
    assert!(matches!(table.flaws[..], [Flaw::Backup(_)]), "{:?}", table.flaws);
    assert_eq!(table.used().count(), 1);
}

#[test]
fn no_table_and_a_broken_one_are_different_answers() {
    assert_eq!(read(&mut Cursor::new(vec![0; SIZE]), 512).unwrap(), Found::None);
    assert_eq!(read(&mut Cursor::new(vec![0; 512]), 512).unwrap(), Found::None);
    let mut bytes = image(512);
    bytes[512] ^= 1;
    bytes[SIZE - 512] ^= 1;
    assert!(matches!(read(&mut Cursor::new(bytes), 512).unwrap(), Found::Broken(_)));
    // A table for 4096-byte sectors is none for a disk with 512.
    assert!(matches!(read(&mut Cursor::new(image(4096)), 512).unwrap(), Found::Broken(_)));
}

/// A header whose checksum is right, with one number changed.
fn with_header(change: impl Fn(&mut gptman::GPTHeader)) -> Vec<u8> {
    let mut disk = Cursor::new(image(512));
    let mut gpt = GPT::read_from(&mut disk, 512).unwrap();
    change(&mut gpt.header);
    gpt.header.update_crc32_checksum();
    let mut bytes = disk.into_inner();
    bytes[SIZE - 512..].fill(0);
    let h = &gpt.header;
    let mut raw = Vec::new();
    raw.extend(h.signature);
    raw.extend(h.revision);
    raw.extend([h.header_size, h.crc32_checksum, 0].map(u32::to_le_bytes).concat());
    raw.extend(
        [h.primary_lba, h.backup_lba, h.first_usable_lba, h.last_usable_lba]
            .map(u64::to_le_bytes)
            .concat(),
    );
    raw.extend(h.disk_guid);
    raw.extend(h.partition_entry_lba.to_le_bytes());
    raw.extend(
        [h.number_of_partition_entries, h.size_of_partition_entry, h.partition_entry_array_crc32]
            .map(u32::to_le_bytes)
            .concat(),
    );
    bytes[512..512 + 92].copy_from_slice(&raw);
    bytes
}

#[test]
fn hostile_numbers_under_a_right_checksum_are_refused() {
    assert!(matches!(read(&mut Cursor::new(with_header(|_| ())), 512).unwrap(), Found::Table(_)));
    let changes: [fn(&mut gptman::GPTHeader); 8] = [
        |h| h.number_of_partition_entries = u32::MAX,
        |h| h.number_of_partition_entries = 0,
        |h| h.size_of_partition_entry = 256,
        |h| h.partition_entry_lba = u64::MAX,
        |h| h.partition_entry_lba = 3000,
        |h| h.last_usable_lba = u64::MAX,
        |h| h.first_usable_lba = u64::MAX,
        |h| h.backup_lba = 100,
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let found = read(&mut Cursor::new(with_header(change)), 512).unwrap();
        assert!(matches!(found, Found::Broken(_)), "{i}: {found:?}");
    }
}

#[test]
fn guids_are_written_as_everybody_does() {
    assert_eq!(LINUX_DATA.to_string(), "0FC63DAF-8483-4772-8E79-3D69D8477DE4");
    assert_eq!(Guid([0; 16]).to_string(), "00000000-0000-0000-0000-000000000000");
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(
        sector in prop_oneof![Just(512_u64), Just(4096), Just(0), Just(1)],
        changes in prop::collection::vec((0_usize..40_000, any::<bool>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = image(512);
        for (at, from_end, byte) in changes {
            let at = if from_end { SIZE - 1 - at } else { at };
            bytes[at] = byte;
        }
        let _ = read(&mut Cursor::new(bytes), sector).unwrap();
    }
}
