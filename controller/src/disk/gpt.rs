//! Does to a disk what a plan says: clears, writes the table, tells the kernel.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use gptman::{GPT, GPTPartitionEntry};
use gse_protocol::config::drives::Role;
use rustix::rand::{GetRandomFlags, getrandom};

use super::{
    content::{self, Content, ProbeError},
    layout::Run,
    plan::{ALIGNMENT, Base, NewPartition, PartitionPlan, Step},
    probe::{self, Partition},
    table::{self, Found, Guid, LINUX_DATA, Table},
};
use crate::{log::Log, sys::block};

/// Waits until a condition holds, looking again at each event of the kernel; false if it does not within
/// the time that the caller allows.
pub type Wait<'w> = dyn FnMut(&mut dyn FnMut() -> bool) -> bool + 'w;

/// A partition that was made, and holds nothing yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// What it is for.
    pub role: Role,
    /// Its device node.
    pub device: PathBuf,
}

/// Why a plan was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// The disk is not as it was when the plan was made.
    #[error("{} has changed since it was probed ({why}), so nothing is written to it", .disk.display())]
    Changed {
        /// The disk.
        disk: PathBuf,
        /// What is different.
        why: String,
    },
    /// Probing it again.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Reading or writing.
    #[error("{doing} {}: {source}", .disk.display())]
    Io {
        /// What was being done, as in `writing the partition table of`.
        doing: &'static str,
        /// The disk.
        disk: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The kernel does not show the partitions.
    #[error(
        "the kernel does not show partition {number} of {} as its table has it{}: restart the machine",
        .disk.display(), .refusal.as_ref().map(|e| format!(" ({e})")).unwrap_or_default()
    )]
    NoNode {
        /// The disk.
        disk: PathBuf,
        /// The partition.
        number: u32,
        /// What the kernel said to being told of it.
        refusal: Option<io::Error>,
    },
}

/// Carries out the plan for one disk, and returns the new partitions.
///
/// The table as a whole is made and checked in memory before anything is written. A power cut at any
/// moment leaves the table as it was or as it will be: the copy at the disk's end is on the disk
/// before the first is touched. `sys` and `dev` are where sysfs and devtmpfs are mounted.
///
/// # Errors
/// A disk that has changed since it was probed, and those of the kernel.
pub fn apply(
    plan: &PartitionPlan,
    sys: &Path,
    dev: &Path,
    wait: &mut Wait<'_>,
    log: &Log,
) -> Result<Vec<Created>, GptError> {
    if plan.steps.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |doing| move |source| GptError::Io { doing, disk: plan.disk.clone(), source };
    let mut disk =
        OpenOptions::new().read(true).write(true).open(&plan.disk).map_err(failed("opening"))?;
    if plan.steps.contains(&Step::Empty) {
        let sectors = disk.seek(SeekFrom::End(0)).map_err(failed("emptying"))? / plan.sector.max(1);
        // A cut after the first half leaves the copy at the end: the disk is somebody's still, and given up again.
        clear_ends(&mut disk, Run { start: 0, end: sectors }, plan.sector)
            .and_then(|()| disk.sync_all())
            .map_err(failed("emptying"))?;
    }
    let table = next_table(plan, &mut disk)?;
    let mut created = Vec::new();
    for step in &plan.steps {
        match step {
            // Before the new table was made.
            Step::Empty => {}
            Step::ClearEnds(run) => clear_ends(&mut disk, *run, plan.sector)
                .map_err(failed("clearing free space of"))?,
            Step::WriteTable { base, add, flags } => {
                let what = describe(*base, add, flags.is_empty());
                log.info(format_args!("{}: {what}", plan.disk.display()));
                write(&mut disk, |disk| disk.sync_all(), &table)
                    .map_err(failed("writing the partition table of"))?;
            }
            Step::TellKernel => {
                let known = tell_kernel(plan, &disk, &table, sys, dev, wait, log)?;
                created = added(plan)
                    .filter_map(|new| {
                        let node = known.iter().find(|p| p.number == new.number)?.path.clone()?;
                        Some(Created { role: new.role, device: node })
                    })
                    .collect();
            }
        }
    }
    Ok(created)
}

fn added(plan: &PartitionPlan) -> impl Iterator<Item = &NewPartition> {
    plan.steps.iter().flat_map(|step| match step {
        Step::WriteTable { add, .. } => add.as_slice(),
        Step::Empty | Step::ClearEnds(_) | Step::TellKernel => &[],
    })
}

fn describe(base: Base, add: &[NewPartition], same_flags: bool) -> String {
    let names: Vec<_> = add.iter().map(|new| new.role.partition_name()).collect();
    match (base, names.is_empty()) {
        (Base::Blank, _) => format!("a new partition table with {}", names.join(", ")),
        (Base::Existing, false) => format!("{} added to the partition table", names.join(", ")),
        (Base::Existing, true) if same_flags => "the partition table is repaired".to_owned(),
        (Base::Existing, true) => "flags of partitions are set".to_owned(),
    }
}

/// The table as it is to be, made from what is on the disk now.
fn next_table(plan: &PartitionPlan, disk: &mut File) -> Result<Table, GptError> {
    let failed = |source| GptError::Io {
        doing: "reading the partition table of",
        disk: plan.disk.clone(),
        source,
    };
    let changed = |why: &str| GptError::Changed { disk: plan.disk.clone(), why: why.to_owned() };
    let blank = plan.steps.iter().any(|s| matches!(s, Step::WriteTable { base: Base::Blank, .. }));
    let found = table::read(disk, plan.sector).map_err(failed)?;
    let mut table = match (blank, found) {
        (true, Found::None) => {
            if content::content(&plan.disk)? != Content::Blank {
                return Err(changed("it is not blank any more"));
            }
            Table::empty(disk, plan.sector, random_guid().map_err(failed)?).map_err(failed)?
        }
        (true, _) => return Err(changed("it has a partition table now")),
        (false, Found::Table(table)) => *table,
        (false, _) => return Err(changed("its partition table is gone")),
    };
    for new in added(plan) {
        let entry = GPTPartitionEntry {
            partition_type_guid: LINUX_DATA.0,
            unique_partition_guid: random_guid().map_err(failed)?.0,
            starting_lba: new.run.start,
            ending_lba: new.run.end.saturating_sub(1),
            attribute_bits: new.attributes,
            partition_name: new.role.partition_name().into(),
        };
        match table.entries.get_mut(new.number.saturating_sub(1) as usize) {
            Some(place) if place.is_unused() => *place = entry,
            _ => return Err(changed("the place in the table is taken")),
        }
    }
    for (number, bits) in plan.steps.iter().flat_map(|step| match step {
        Step::WriteTable { flags, .. } => flags.as_slice(),
        _ => &[],
    }) {
        match table.entries.get_mut(number.saturating_sub(1) as usize) {
            Some(entry) if entry.is_used() => entry.attribute_bits = *bits,
            _ => return Err(changed("a partition is gone")),
        }
    }
    let sectors = disk.seek(SeekFrom::End(0)).map_err(failed)? / plan.sector.max(1);
    table.check(sectors).map_err(changed)?;
    Ok(table)
}

/// A random GUID: RFC 9562, version 4. The table keeps the first three groups in little-endian order, so
/// the version is in the upper half of byte 7.
fn random_guid() -> io::Result<Guid> {
    let mut bytes = [0; 16];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if filled != bytes.len() {
        return Err(io::Error::other("the kernel has no random numbers yet"));
    }
    let [_, _, _, _, _, _, _, version, variant, ..] = &mut bytes;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    Ok(Guid(bytes))
}

/// Every signature that libblkid looks for is in the first or last MiB: ZFS has the farthest, 512 KiB
/// from either end.
fn clear_ends(disk: &mut File, run: Run, sector: u64) -> io::Result<()> {
    let zeros = vec![0; ALIGNMENT as usize];
    let (start, end) = (run.start.saturating_mul(sector), run.end.saturating_mul(sector));
    for at in [start, end.saturating_sub(ALIGNMENT).max(start)] {
        disk.seek(SeekFrom::Start(at))?;
        let length = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(zeros.len());
        disk.write_all(zeros.get(..length).unwrap_or_default())?;
    }
    Ok(())
}

/// Both copies and the protective MBR. The order is what makes this safe: while one copy is being
/// written, the other is whole; without the MBR, the kernel takes a new table for none.
///
/// `sync` returns when everything that was written before is on the disk.
fn write<D: Write + Seek>(
    disk: &mut D,
    mut sync: impl FnMut(&mut D) -> io::Result<()>,
    table: &Table,
) -> io::Result<()> {
    // What was cleared.
    sync(disk)?;
    for mut header in [table.backup_header(), table.header.clone()] {
        header.write_into(disk, table.sector, &table.entries).map_err(io::Error::other)?;
        sync(disk)?;
    }
    if table.flaws.contains(&table::Flaw::ProtectiveMbr) {
        GPT::write_protective_mbr_into(disk, table.sector).map_err(io::Error::other)?;
        sync(disk)?;
    }
    Ok(())
}

/// Makes the kernel know the partitions of the table, and waits for their device nodes.
///
/// Reading the table again as a whole is refused while another partition of the disk is mounted, and
/// finds nothing in a kernel without GPT support, so what is missing afterwards is added one by one.
fn tell_kernel(
    plan: &PartitionPlan,
    disk: &File,
    table: &Table,
    sys: &Path,
    dev: &Path,
    wait: &mut Wait<'_>,
    log: &Log,
) -> Result<Vec<Partition>, GptError> {
    if let Err(e) = block::reread_partitions(disk) {
        log.debug(format_args!("{}: reading the table again: {e}", plan.disk.display()));
    }
    let failed = |source| GptError::Io { doing: "finding", disk: plan.disk.clone(), source };
    let id = disk.metadata().map_err(failed)?.rdev();
    let (major, minor) = (rustix::fs::major(id), rustix::fs::minor(id));
    let folder =
        fs::canonicalize(sys.join(format!("dev/block/{major}:{minor}"))).map_err(failed)?;
    let mut refusal = None;
    for (number, entry) in table.used() {
        let (start, length) = extent(entry, plan.sector);
        if !shows(&probe::known_partitions(&folder, dev), number, start, length) {
            refusal = block::add_partition(disk, number, start, length).err().or(refusal);
        }
    }
    let mut known = Vec::new();
    let mut missing = None;
    let complete = wait(&mut || {
        known = probe::known_partitions(&folder, dev);
        missing = table.used().find_map(|(number, entry)| {
            let (start, length) = extent(entry, plan.sector);
            (!shows(&known, number, start, length)).then_some(number)
        });
        missing.is_none()
    });
    match missing {
        Some(number) if !complete => {
            Err(GptError::NoNode { disk: plan.disk.clone(), number, refusal })
        }
        _ => Ok(known),
    }
}

/// Offset and length in bytes.
fn extent(entry: &GPTPartitionEntry, sector: u64) -> (u64, u64) {
    let sectors = entry.ending_lba.saturating_sub(entry.starting_lba).saturating_add(1);
    (entry.starting_lba.saturating_mul(sector), sectors.saturating_mul(sector))
}

fn shows(known: &[Partition], number: u32, start: u64, length: u64) -> bool {
    known.iter().any(|p| {
        p.number == number
            && (p.start, p.size) == (start, length)
            && p.path.as_ref().is_some_and(|node| node.exists())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const SECTOR: usize = 512;

    /// A disk that keeps what it was at each sync.
    struct Recorder {
        disk: Cursor<Vec<u8>>,
        synced: Vec<Vec<u8>>,
    }

    impl Write for Recorder {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.disk.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Recorder {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.disk.seek(to)
        }
    }

    fn names(disk: &[u8]) -> Vec<String> {
        match table::read(&mut Cursor::new(disk), SECTOR as u64).unwrap() {
            Found::None => Vec::new(),
            Found::Table(table) => {
                table.used().map(|(_, entry)| entry.partition_name.as_str().to_owned()).collect()
            }
            Found::Broken(why) => panic!("{why}"),
        }
    }

    fn add(table: &mut Table, place: usize, name: &str) {
        table.entries[place] = GPTPartitionEntry {
            partition_type_guid: LINUX_DATA.0,
            unique_partition_guid: [place as u8 + 1; 16],
            starting_lba: 2048 * (place as u64 + 1),
            ending_lba: 2048 * (place as u64 + 2) - 1,
            attribute_bits: 0,
            partition_name: name.into(),
        };
    }

    /// Every state that a power cut can leave: of what was written since a sync, any sectors may be on
    /// the disk.
    fn states(before: &[u8], after: &[u8]) -> Vec<Vec<u8>> {
        let changed: Vec<usize> = (0..before.len() / SECTOR)
            .map(|sector| sector * SECTOR)
            .filter(|at| before[*at..at + SECTOR] != after[*at..at + SECTOR])
            .collect();
        assert!(changed.len() < 10, "too many to try them all");
        let subset = |bits: usize| {
            let mut disk = before.to_vec();
            for (_, at) in changed.iter().enumerate().filter(|(i, _)| bits & 1 << i != 0) {
                disk[*at..at + SECTOR].copy_from_slice(&after[*at..at + SECTOR]);
            }
            disk
        };
        (0..1 << changed.len()).map(subset).collect()
    }

    #[test]
    fn a_power_cut_leaves_the_old_table_or_the_new_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let blank = vec![0; 4 << 20];
        let mut table =
            Table::empty(&mut Cursor::new(&blank), SECTOR as u64, random_guid().unwrap()).unwrap();
        add(&mut table, 0, "one");
        let mut disk = blank;
        for (old, new) in [(vec![], vec!["one"]), (vec!["one"], vec!["one", "two"])] {
            let mut recorder = Recorder { disk: Cursor::new(disk), synced: Vec::new() };
            let sync = |r: &mut Recorder| {
                r.synced.push(r.disk.get_ref().clone());
                Ok(())
            };
            write(&mut recorder, sync, &table).unwrap();
            disk = recorder.disk.into_inner();
            assert_eq!(names(&disk), new);
            assert_eq!(recorder.synced.last(), Some(&disk));
            let mut seen = 0;
            for pair in recorder.synced.windows(2) {
                for state in states(&pair[0], &pair[1]) {
                    let now = names(&state);
                    assert!(now == old || now == new, "{now:?}");
                    if now.is_empty() {
                        fs::write(file.path(), &state).unwrap();
                        assert_eq!(content::content(file.path()).unwrap(), Content::Blank);
                    }
                    seen += 1;
                }
            }
            assert!(seen >= 8, "{seen}");
            let Found::Table(read) = table::read(&mut Cursor::new(&disk), 512).unwrap() else {
                panic!("no table")
            };
            assert_eq!(read.flaws, []);
            table = *read;
            add(&mut table, 1, "two");
        }
    }

    #[test]
    fn guids_are_random_and_of_version_4() {
        let [a, b] = [random_guid().unwrap(), random_guid().unwrap()];
        assert_ne!(a, b);
        let text = a.to_string();
        assert_eq!(text.as_bytes()[14], b'4', "{text}");
        assert!(b"89AB".contains(&text.as_bytes()[19]), "{text}");
    }
}
