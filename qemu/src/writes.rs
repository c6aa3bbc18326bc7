//! The record of a disk's writes: every write, flush and discard, in the order in which they ended.
//!
//! The format is version 1 of dm-log-writes
//! (<https://docs.kernel.org/admin-guide/device-mapper/log-writes.html>, `drivers/md/dm-log-writes.c`),
//! which QEMU's driver `blklogwrites` writes too (`block/blklogwrites.c`). All numbers are little-endian.
//! A super block takes the first sector:
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 7 | `0x6a736677736872` |
//! | 8 to 15 | version: 1 |
//! | 16 to 23 | how many entries follow |
//! | 24 to 27 | bytes in a sector of the log, in which everything else counts |
//!
//! Each entry is a sector with four numbers of eight bytes (first sector, sectors, flags, bytes of a mark's text),
//! and then the data of a write.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

const MAGIC: u64 = 0x6a_7366_7773_6872;
const VERSION: u64 = 1;
const SUPER_BYTES: usize = 28;
const ENTRY_BYTES: usize = 32;

const FLUSH: u64 = 1 << 0;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;
/// That a write is of a filesystem's metadata: the kernel notes it, and it means nothing here.
const METADATA: u64 = 1 << 4;

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Reading it failed.
    #[error("reading the write log {}: {source}", .path.display())]
    Io {
        /// The log.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// It is empty: QEMU writes the super block at the first flush.
    #[error("the write log {} has no super block: the disk was never flushed", .0.display())]
    NeverFlushed(PathBuf),
    /// It is something else.
    #[error("{} is no write log: {why}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is not as it should be.
        why: String,
    },
    /// It ends too early.
    #[error(
        "the write log {} is cut: it has {bytes} bytes, and entry {entry} of {entries} ends at byte {end}",
        .path.display()
    )]
    Cut {
        /// The log.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The entry that is not whole, from 0.
        entry: u64,
        /// How many there should be.
        entries: u64,
        /// Where it would end.
        end: u64,
    },
    /// An entry that cannot be.
    #[error("entry {entry} of the write log {} {why}", .path.display())]
    Entry {
        /// The log.
        path: PathBuf,
        /// The entry, from 0.
        entry: u64,
        /// What is wrong with it.
        why: String,
    },
}

/// What happened to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Data was written.
    Write,
    /// The disk was told that these bytes are not needed any more.
    Discard,
    /// Nothing: a flush alone.
    Flush,
    /// Somebody left a note.
    Mark(String),
}

/// One entry of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What happened.
    pub kind: Kind,
    /// The first byte on the disk.
    pub start: u64,
    /// Bytes on the disk.
    pub length: u64,
    /// Whether everything that came before is durable from here on.
    pub flush: bool,
    /// Whether this write is durable, though no flush follows (force unit access).
    pub fua: bool,
    /// Where the data is in the log.
    data: u64,
}

/// The record of one disk.
#[derive(Debug)]
pub struct WriteLog {
    path: PathBuf,
    file: File,
    sector: u64,
    entries: Vec<Entry>,
}

impl WriteLog {
    /// Reads the headers of all entries. Data stays in the file until it is asked for.
    ///
    /// QEMU counts entries when the disk is flushed, which it also does when it ends in order. What a QEMU that
    /// was killed wrote after the last flush is not part of the record.
    ///
    /// # Errors
    /// A file that is no such log, or that ends before its entries do.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let io = |source| LogError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let foreign = |why| LogError::Foreign { path: path.to_owned(), why };
        if bytes == 0 {
            return Err(LogError::NeverFlushed(path.to_owned()));
        }
        if bytes < SUPER_BYTES as u64 {
            return Err(foreign(format!("it has {bytes} bytes")));
        }
        let mut head = [0; SUPER_BYTES];
        file.read_exact_at(&mut head, 0).map_err(io)?;
        match (number(&head, 0), number(&head, 8)) {
            (0, 0) => return Err(LogError::NeverFlushed(path.to_owned())),
            (MAGIC, VERSION) => {}
            (MAGIC, other) => return Err(foreign(format!("it has version {other}"))),
            (other, _) => return Err(foreign(format!("it begins with {other:#x}"))),
        }
        let sector = number(&head, 24);
        if !sector.is_power_of_two() || !(512..1 << 24).contains(&sector) {
            return Err(foreign(format!("its sectors have {sector} bytes")));
        }
        let mut log = Self { path: path.to_owned(), file, sector, entries: Vec::new() };
        log.read_entries(number(&head, 16), bytes)?;
        Ok(log)
    }

    fn read_entries(&mut self, entries: u64, bytes: u64) -> Result<(), LogError> {
        let mut at = self.sector;
        for entry in 0..entries {
            let cut = |end| LogError::Cut { path: self.path.clone(), bytes, entry, entries, end };
            let header_end = at + self.sector;
            if header_end > bytes {
                return Err(cut(header_end));
            }
            let read = self.read_entry(entry, at)?;
            let data = if read.kind == Kind::Write { read.length } else { 0 };
            let end = header_end.checked_add(data).ok_or_else(|| cut(u64::MAX))?;
            if end > bytes {
                return Err(cut(end));
            }
            at = end;
            self.entries.push(read);
        }
        Ok(())
    }

    fn read_entry(&self, entry: u64, at: u64) -> Result<Entry, LogError> {
        let wrong = |why| LogError::Entry { path: self.path.clone(), entry, why };
        let mut header = [0; ENTRY_BYTES];
        self.read_log(&mut header, at)?;
        let [first, sectors, flags, text] = [0, 8, 16, 24].map(|at| number(&header, at));
        let unknown = flags & !(FLUSH | FUA | DISCARD | MARK | METADATA);
        if unknown != 0 {
            return Err(wrong(format!("has flags that nobody knows: {unknown:#x}")));
        }
        let bytes = |sectors: u64| {
            sectors.checked_mul(self.sector).ok_or_else(|| wrong("is beyond all disks".to_owned()))
        };
        let (start, length) = (bytes(first)?, bytes(sectors)?);
        start.checked_add(length).ok_or_else(|| wrong("is beyond all disks".to_owned()))?;
        let kind = if flags & MARK != 0 {
            let most = self.sector - ENTRY_BYTES as u64;
            let length = usize::try_from(text.min(most)).unwrap_or(0);
            let mut text = vec![0; length];
            self.read_log(&mut text, at + ENTRY_BYTES as u64)?;
            Kind::Mark(String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned())
        } else if flags & DISCARD != 0 {
            Kind::Discard
        } else if sectors > 0 {
            Kind::Write
        } else if flags & FLUSH != 0 {
            Kind::Flush
        } else {
            // What a machine that was killed was about to record.
            return Err(wrong(
                "says nothing: the machine was killed while it was written".to_owned(),
            ));
        };
        Ok(Entry {
            kind,
            start,
            length,
            flush: flags & FLUSH != 0,
            fua: flags & FUA != 0,
            data: at + self.sector,
        })
    }

    /// All entries, in their order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes in a sector of the log: the unit that the disk writes whole.
    pub fn sector(&self) -> u64 {
        self.sector
    }

    /// Reads the data of a write, from its byte `from` on.
    ///
    /// # Errors
    /// Those of reading. The caller asks for no more than there is.
    pub(crate) fn read(&self, entry: &Entry, from: u64, out: &mut [u8]) -> Result<(), LogError> {
        self.read_log(out, entry.data + from)
    }

    fn read_log(&self, out: &mut [u8], at: u64) -> Result<(), LogError> {
        let failed = |source| LogError::Io { path: self.path.clone(), source };
        self.file.read_exact_at(out, at).map_err(failed)
    }
}

/// The eight bytes at `at`; zeros where there are fewer.
fn number(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    for (to, from) in eight.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    u64::from_le_bytes(eight)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    /// A log that is made by hand.
    pub(crate) struct Made {
        sector: usize,
        entries: u64,
        bytes: Vec<u8>,
    }

    impl Made {
        pub(crate) fn new(sector: usize) -> Self {
            Self { sector, entries: 0, bytes: vec![0; sector] }
        }

        pub(crate) fn entry(mut self, first: u64, sectors: u64, flags: u64, data: &[u8]) -> Self {
            let mark = if flags & MARK != 0 { data.len() as u64 } else { 0 };
            for number in [first, sectors, flags, mark] {
                self.bytes.extend(number.to_le_bytes());
            }
            if mark > 0 {
                self.bytes.extend(data);
            }
            self.bytes.resize(self.bytes.len().next_multiple_of(self.sector), 0);
            if mark == 0 {
                self.bytes.extend(data);
            }
            self.entries += 1;
            self
        }

        /// Sectors of this byte each.
        pub(crate) fn write(self, first: u64, fill: &[u8]) -> Self {
            self.flagged(first, fill, 0)
        }

        pub(crate) fn fua(self, first: u64, fill: &[u8]) -> Self {
            self.flagged(first, fill, FUA)
        }

        fn flagged(self, first: u64, fill: &[u8], flags: u64) -> Self {
            let data: Vec<u8> = fill.iter().flat_map(|b| vec![*b; self.sector]).collect();
            self.entry(first, fill.len() as u64, flags, &data)
        }

        pub(crate) fn flush(self) -> Self {
            self.entry(0, 0, FLUSH, &[])
        }

        pub(crate) fn discard(self, first: u64, sectors: u64) -> Self {
            self.entry(first, sectors, DISCARD, &[])
        }

        pub(crate) fn bytes(mut self) -> Vec<u8> {
            let head = [MAGIC, VERSION, self.entries].map(u64::to_le_bytes).concat();
            self.bytes[..24].copy_from_slice(&head);
            self.bytes[24..28].copy_from_slice(&(self.sector as u32).to_le_bytes());
            self.bytes
        }

        pub(crate) fn log(self) -> WriteLog {
            open(&self.bytes()).unwrap()
        }
    }

    fn open(bytes: &[u8]) -> Result<WriteLog, LogError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        WriteLog::open(file.path())
    }

    #[test]
    fn a_log_is_read_with_either_size_of_sectors() {
        for sector in [512, 4096] {
            let log = Made::new(sector)
                .write(3, b"ab")
                .flush()
                .discard(8, 100)
                .entry(0, 0, MARK, b"half way")
                .fua(9, b"c")
                .log();
            let kinds: Vec<_> = log.entries().iter().map(|e| e.kind.clone()).collect();
            let mark = Kind::Mark("half way".to_owned());
            assert_eq!(kinds, [Kind::Write, Kind::Flush, Kind::Discard, mark, Kind::Write]);
            let unit = sector as u64;
            assert_eq!(log.sector(), unit);
            let [write, flush, discard, _, fua] = log.entries() else { panic!() };
            assert_eq!(
                (write.start, write.length, write.flush, write.fua),
                (3 * unit, 2 * unit, false, false)
            );
            assert!(flush.flush && fua.fua && !fua.flush);
            assert_eq!((discard.start, discard.length), (8 * unit, 100 * unit));
            let mut two = [0; 2];
            log.read(write, unit - 1, &mut two).unwrap();
            assert_eq!(&two, b"ab");
            log.read(fua, 0, &mut two).unwrap();
            assert_eq!(&two, b"cc");
        }
    }

    #[test]
    fn a_log_that_is_cut_says_where() {
        let whole = Made::new(512).write(0, b"ab").flush().bytes();
        assert_eq!(open(&whole).unwrap().entries().len(), 2);
        for length in [600, 1600, 2100, 2500] {
            let error = open(&whole[..length]).unwrap_err();
            let LogError::Cut { bytes, entry, entries, end, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!((*bytes, *entries), (length as u64, 2));
            assert_eq!(
                (*entry, *end),
                if length < 2048 {
                    (0, if length < 1024 { 1024 } else { 2048 })
                } else {
                    (1, 2560)
                }
            );
            assert!(error.to_string().contains("is cut"), "{error}");
        }
    }

    #[test]
    fn what_is_no_log_is_told_apart() {
        let good = Made::new(512).flush().bytes();
        let changed = |at: usize, bytes: &[u8]| {
            let mut changed = good.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            open(&changed).unwrap_err().to_string()
        };
        assert!(matches!(open(&[]), Err(LogError::NeverFlushed(_))));
        assert!(matches!(open(&[0; 4096]), Err(LogError::NeverFlushed(_))));
        assert!(open(b"text").unwrap_err().to_string().contains("it has 4 bytes"));
        assert!(changed(0, b"\x7fELF\0\0\0\0").contains("it begins with 0x464c457f"));
        assert!(changed(8, &[2]).contains("it has version 2"));
        assert!(changed(24, &[1, 2, 0, 0]).contains("its sectors have 513 bytes"));
        assert!(changed(24, &[0, 0, 0, 0]).contains("its sectors have 0 bytes"));
        assert!(changed(512 + 16, &[0x20]).contains("entry 0 of the write log"));
        assert!(changed(512 + 16, &[0]).contains("says nothing"));
        assert!(changed(512, &[0xff; 8]).contains("beyond all disks"));
        // A length that no file has is a cut, not an overflow.
        assert!(changed(512 + 8, &[0, 0, 0, 0, 0, 0, 0x70]).contains("is cut"));
    }
}
