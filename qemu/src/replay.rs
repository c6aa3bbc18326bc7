//! Disks as a power cut leaves them: what was on a disk before, and its [`WriteLog`] up to some entry.
//!
//! What was flushed is there. Of what came after the last flush a disk may have kept any part, in units of a sector:
//! each write is kept, dropped or torn at random, by a seed with which the same cut can be made again.
//!
//! Disks are in memory, as sparse as they can be: a cut copies what is on the disk, and one of a few
//! megabytes takes a few milliseconds.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, MemfdFlags, SeekFrom, fallocate, ftruncate, memfd_create, seek},
    io::Errno,
};

use crate::writes::{Entry, Kind, LogError, WriteLog};

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The record.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The disk as it was before.
    #[error("reading {}: {source}", .path.display())]
    Before {
        /// Its image.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The disk in memory.
    #[error("making a disk in memory: {0} (is there enough of it?)")]
    Memory(#[from] io::Error),
    /// A write that the disk cannot have had.
    #[error(
        "entry {entry} of the write log ends at byte {end}, and the disk has {bytes}: it is the log of another disk"
    )]
    Beyond {
        /// The entry, from 0.
        entry: usize,
        /// Where it ends.
        end: u64,
        /// Bytes of the disk.
        bytes: u64,
    },
    /// Disks only go forward.
    #[error(
        "a cut after {asked} entries was asked for, and {durable} are on the disk for good already"
    )]
    Backward {
        /// The cut's entries.
        asked: usize,
        /// Those that cannot be undone.
        durable: usize,
    },
}

/// A moment in which the power failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// How many entries of the record had happened.
    pub after: usize,
    /// What decides about the writes that were not flushed.
    pub seed: u64,
}

/// A disk in memory. It goes when this is dropped.
#[derive(Debug)]
pub struct MemoryDisk {
    file: File,
    bytes: u64,
}

/// A disk that goes forward through its record.
#[derive(Debug)]
pub struct Replay<'l> {
    log: &'l WriteLog,
    disk: MemoryDisk,
    /// Entries that are on it for good.
    durable: usize,
}

/// Bytes that are copied at once, and in which zeros are looked for: a multiple of every sector and page.
const CHUNK: usize = 64 << 10;

impl<'l> Replay<'l> {
    /// The disk as `before`, an image, has it; `log` is what happened then.
    ///
    /// # Errors
    /// Those of reading the image.
    pub fn new(log: &'l WriteLog, before: &Path) -> Result<Self, ReplayError> {
        let failed = |source| ReplayError::Before { path: before.to_owned(), source };
        let image = File::open(before).map_err(failed)?;
        let bytes = image.metadata().map_err(failed)?.len();
        let disk = MemoryDisk::new(bytes)?;
        disk.copy(&image).map_err(failed)?;
        Ok(Self { log, disk, durable: 0 })
    }

    /// The disk as the power cut leaves it. Cuts are asked for in their order.
    ///
    /// # Errors
    /// A cut before what an earlier one made durable, and those of the host.
    pub fn cut(&mut self, cut: Cut) -> Result<MemoryDisk, ReplayError> {
        let happened = self.log.entries().get(..cut.after).unwrap_or(self.log.entries());
        let flushed = happened.iter().rposition(|entry| entry.flush).map_or(0, |last| {
            // A flush that comes with a write goes before it.
            if happened.get(last).is_some_and(|e| e.kind == Kind::Flush) { last + 1 } else { last }
        });
        if flushed < self.durable {
            return Err(ReplayError::Backward { asked: cut.after, durable: self.durable });
        }
        let mut chance = Chance::new(cut.seed);
        for number in self.durable..flushed {
            self.disk.apply(self.log, number, Fate::Kept, &mut chance)?;
        }
        self.durable = flushed;
        let disk = MemoryDisk::new(self.disk.bytes)?;
        disk.copy(&self.disk.file)?;
        // How much a disk keeps has many faces: now nearly all of it, now nearly nothing.
        let kept = chance.below(9);
        for (number, entry) in happened.iter().enumerate().skip(flushed) {
            let fate = if entry.fua {
                Fate::Kept
            } else if entry.kind == Kind::Write && chance.below(6) == 0 {
                Fate::Torn
            } else if chance.below(8) < kept {
                Fate::Kept
            } else {
                Fate::Dropped
            };
            disk.apply(self.log, number, fate, &mut chance)?;
        }
        Ok(disk)
    }

    /// The disk after all of its record, with nothing lost.
    ///
    /// # Errors
    /// Those of the host.
    pub fn whole(self) -> Result<MemoryDisk, ReplayError> {
        for number in self.durable..self.log.entries().len() {
            self.disk.apply(self.log, number, Fate::Kept, &mut Chance::new(0))?;
        }
        Ok(self.disk)
    }
}

/// What becomes of a write that was not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Dropped,
    /// Each of its sectors is kept or dropped.
    Torn,
}

impl MemoryDisk {
    fn new(bytes: u64) -> io::Result<Self> {
        let file = File::from(memfd_create("gse-disk", MemfdFlags::CLOEXEC)?);
        ftruncate(&file, bytes)?;
        Ok(Self { file, bytes })
    }

    /// Where other processes find it, for as long as it exists.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// Its content.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Takes over what `from` holds. Both have the same length, and nothing was written here.
    fn copy(&self, from: &File) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < self.bytes {
            let (data, hole) = match seek(from, SeekFrom::Data(at)) {
                Ok(data) => (data, seek(from, SeekFrom::Hole(data))?),
                Err(Errno::NXIO) => break,
                Err(e) => return Err(e.into()),
            };
            at = data;
            while at < hole {
                let chunk = buffer.get_mut(..length(hole - at)).unwrap_or_default();
                from.read_exact_at(chunk, at)?;
                self.file.write_all_at(chunk, at)?;
                at += chunk.len() as u64;
            }
        }
        Ok(())
    }

    fn apply(
        &self,
        log: &WriteLog,
        number: usize,
        fate: Fate,
        chance: &mut Chance,
    ) -> Result<(), ReplayError> {
        let Some(entry) = log.entries().get(number) else { return Ok(()) };
        let end = entry.start.saturating_add(entry.length);
        if end > self.bytes && matches!(entry.kind, Kind::Write | Kind::Discard) {
            return Err(ReplayError::Beyond { entry: number, end, bytes: self.bytes });
        }
        match (&entry.kind, fate) {
            (Kind::Flush | Kind::Mark(_), _) | (_, Fate::Dropped) => {}
            (Kind::Discard, _) => self.zero(entry.start, entry.length)?,
            (Kind::Write, Fate::Kept) => self.write(log, entry, 0, entry.length)?,
            (Kind::Write, Fate::Torn) => {
                let sector = log.sector();
                for at in (0..entry.length).step_by(usize::try_from(sector).unwrap_or(CHUNK)) {
                    if chance.below(2) == 0 {
                        self.write(log, entry, at, sector)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes a part of an entry's data. Zeros become holes.
    fn write(
        &self,
        log: &WriteLog,
        entry: &Entry,
        from: u64,
        bytes: u64,
    ) -> Result<(), ReplayError> {
        let mut buffer = vec![0; length(bytes)];
        let mut done = 0;
        while done < bytes {
            let chunk = buffer.get_mut(..length(bytes - done)).unwrap_or_default();
            log.read(entry, from + done, chunk)?;
            let at = entry.start + from + done;
            if chunk.iter().all(|byte| *byte == 0) {
                self.zero(at, chunk.len() as u64)?;
            } else {
                self.file.write_all_at(chunk, at)?;
            }
            done += chunk.len() as u64;
        }
        Ok(())
    }

    fn zero(&self, at: u64, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.file, flags, at, bytes)?)
    }
}

/// So much of `bytes` as is copied at once.
fn length(bytes: u64) -> usize {
    usize::try_from(bytes).map_or(CHUNK, |bytes| bytes.min(CHUNK))
}

/// Random numbers that are the same for the same seed: SplitMix64
/// (<https://dl.acm.org/doi/10.1145/2714064.2660195>).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `most` - 1; 0 if `most` is 0.
    pub fn below(&mut self, most: u64) -> u64 {
        self.number().checked_rem(most).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use std::{collections::BTreeSet, io::Write as _};

    use super::*;
    use crate::writes::tests::Made;

    const SECTORS: u64 = 16;

    /// A disk of some sectors with `.` in each.
    fn before(sector: usize) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![b'.'; SECTORS as usize * sector]).unwrap();
        file
    }

    /// One letter for each sector; `_` is zeros. Sectors are never mixed.
    fn picture(disk: &MemoryDisk, sector: usize) -> String {
        let mut bytes = vec![0; SECTORS as usize * sector];
        disk.file().read_exact_at(&mut bytes, 0).unwrap();
        bytes
            .chunks(sector)
            .map(|s| {
                assert!(s.iter().all(|b| *b == s[0]));
                if s[0] == 0 { '_' } else { char::from(s[0]) }
            })
            .collect()
    }

    fn cut(log: &WriteLog, sector: usize, after: usize, seed: u64) -> String {
        let image = before(sector);
        let mut replay = Replay::new(log, image.path()).unwrap();
        picture(&replay.cut(Cut { after, seed }).unwrap(), sector)
    }

    #[test]
    fn what_was_flushed_is_there_and_what_was_not_may_be() {
        for sector in [512, 4096] {
            let log =
                Made::new(sector).write(0, b"aa").flush().write(4, b"bb").write(6, b"c").log();
            let mut seen = BTreeSet::new();
            for seed in 0..400 {
                assert_eq!(cut(&log, sector, 0, seed), "................");
                assert_eq!(cut(&log, sector, 2, seed), "aa..............");
                let picture = cut(&log, sector, 4, seed);
                assert!(picture.starts_with("aa..") && picture.ends_with("........."), "{picture}");
                seen.insert(picture[4..7].to_owned());
            }
            // Each of the three sectors on its own.
            let all = ["...", "..c", ".b.", ".bc", "b..", "b.c", "bb.", "bbc"];
            assert_eq!(seen, all.map(str::to_owned).into());
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_cut() {
        let log = Made::new(512).write(0, b"abcdefgh").write(3, b"xyz").discard(12, 2).log();
        let pictures: BTreeSet<_> = (0..50).map(|seed| cut(&log, 512, 3, seed)).collect();
        assert!(pictures.len() > 20, "{pictures:?}");
        for seed in 0..50 {
            assert_eq!(cut(&log, 512, 3, seed), cut(&log, 512, 3, seed));
        }
    }

    #[test]
    fn a_write_with_forced_access_is_durable_and_a_discard_may_not_happen() {
        let log = Made::new(512).fua(1, b"abc").discard(8, 2).log();
        let pictures: BTreeSet<_> = (0..100).map(|seed| cut(&log, 512, 2, seed)).collect();
        let both = [".abc............", ".abc....__......"];
        assert_eq!(pictures, both.map(str::to_owned).into());
    }

    #[test]
    fn a_flush_that_comes_with_a_write_is_for_what_was_before() {
        let log = Made::new(512).write(0, b"a").entry(1, 1, 1, &[b'b'; 512]).log();
        let pictures: BTreeSet<_> = (0..100).map(|seed| cut(&log, 512, 2, seed)).collect();
        assert_eq!(pictures, ["a...............", "ab.............."].map(str::to_owned).into());
    }

    #[test]
    fn a_disk_goes_forward_through_its_cuts() {
        let log = Made::new(512)
            .write(0, b"a")
            .flush()
            .write(0, b"b")
            .write(1, b"\0")
            .flush()
            .discard(0, 1)
            .log();
        let image = before(512);
        let mut replay = Replay::new(&log, image.path()).unwrap();
        for (after, wanted) in [(2, "a."), (5, "b_"), (5, "b_")] {
            let disk = replay.cut(Cut { after, seed: 1 }).unwrap();
            // What happens to a disk after the cut is its own affair.
            disk.file().write_all_at(b"changed", 0).unwrap();
            drop(disk);
            let disk = replay.cut(Cut { after, seed: 1 }).unwrap();
            assert_eq!(&picture(&disk, 512)[..2], wanted);
        }
        let error = replay.cut(Cut { after: 2, seed: 1 }).unwrap_err();
        assert!(matches!(error, ReplayError::Backward { asked: 2, durable: 5 }), "{error}");
        assert_eq!(&picture(&replay.whole().unwrap(), 512)[..3], "__.");
    }

    #[test]
    fn the_log_of_a_larger_disk_is_refused() {
        let log = Made::new(512).write(SECTORS, b"a").log();
        let image = before(512);
        let error = Replay::new(&log, image.path()).unwrap().whole().unwrap_err();
        assert!(error.to_string().contains("another disk"), "{error}");
    }

    #[test]
    fn a_blank_disk_takes_no_memory() {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(10 << 30).unwrap();
        let log = Made::new(512).write(1 << 20, b"a").flush().log();
        let mut replay = Replay::new(&log, image.path()).unwrap();
        let disk = replay.cut(Cut { after: 2, seed: 0 }).unwrap();
        use std::os::unix::fs::MetadataExt as _;
        assert!(disk.file().metadata().unwrap().blocks() * 512 < 1 << 20);
        assert_eq!(disk.file().metadata().unwrap().len(), 10 << 30);
    }
}
