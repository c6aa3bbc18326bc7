//! What a slot knows of itself: the `.gse` folder at the top of its filesystem.
//!
//! Whoever was root in the booted system may have written there, so files are read by descriptor,
//! without following links, and up to a limit.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use gse_protocol::{
    Serial,
    index::MAX_UNPACKED,
    release::MAX_RELEASE,
    sign::{Keys, MAX_SIGNATURE},
};
use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::fallback::Fallback;

/// The folder's name.
pub const FOLDER: &str = ".gse";

/// The version of the formats here.
const FORMAT: u32 = 1;

/// Rises by one at each promotion of a slot to SYSFS.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after it.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Serials of releases that failed on this machine, which are not installed again. Every slot that is
/// written keeps all that are known, so that none is forgotten when a slot is overwritten.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Serial>", into = "Vec<Serial>")]
pub struct Refused(Vec<Serial>);

impl Refused {
    /// The most that are kept. The lowest is forgotten first: servers go on to higher ones.
    pub const MAX: usize = 16;

    /// Whether this serial is one of them.
    pub fn contains(&self, serial: Serial) -> bool {
        self.0.binary_search(&serial).is_ok()
    }

    /// Adds one.
    pub fn insert(&mut self, serial: Serial) {
        if let Err(place) = self.0.binary_search(&serial) {
            self.0.insert(place, serial);
            let surplus = self.0.len().saturating_sub(Self::MAX);
            self.0.drain(..surplus);
        }
    }

    /// All of them, the lowest first.
    pub fn iter(&self) -> impl Iterator<Item = Serial> {
        self.0.iter().copied()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<Serial>> for Refused {
    fn from(serials: Vec<Serial>) -> Self {
        serials.into_iter().collect()
    }
}

impl From<Refused> for Vec<Serial> {
    fn from(refused: Refused) -> Self {
        refused.0
    }
}

impl FromIterator<Serial> for Refused {
    fn from_iter<I: IntoIterator<Item = Serial>>(serials: I) -> Self {
        let mut refused = Self::default();
        serials.into_iter().for_each(|serial| refused.insert(serial));
        refused
    }
}

/// `slot.toml`: what the slot holds as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotRecord {
    /// The version of this file's format: 1.
    format: u32,
    /// How often a slot of this machine had been promoted when this one was.
    pub generation: Generation,
    /// Whether the system in it is whole. Without this, it is worth nothing.
    pub complete: bool,
    /// What must not be installed again.
    #[serde(default, skip_serializing_if = "Refused::is_empty")]
    pub refused: Refused,
    /// What the system in it was made under.
    #[serde(default)]
    pub origin: Origin,
}

/// What a system was made under, which may change while it is installed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The keys that the machine trusted, of which one signed the release. One that is revoked later does not make
    /// a system bad that was good when it was installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// The tokens of orders to wipe everything that the machine had obeyed, the last one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wipes: Vec<String>,
}

impl Origin {
    /// The most orders that are remembered.
    const MAX_WIPES: usize = 16;

    /// These keys besides those that are trusted now.
    pub fn with(&self, trusted: &Keys) -> Keys {
        let own = self.keys.iter().filter_map(|key| key.parse().ok());
        Keys(trusted.0.iter().cloned().chain(own).collect())
    }

    /// Remembers an order.
    pub fn obeyed(&mut self, token: &str) {
        self.wipes.retain(|known| known != token);
        self.wipes.push(token.to_owned());
        let surplus = self.wipes.len().saturating_sub(Self::MAX_WIPES);
        self.wipes.drain(..surplus);
    }
}

impl SlotRecord {
    /// A record of the current format.
    pub fn new(generation: Generation, complete: bool, refused: Refused) -> Self {
        Self { format: FORMAT, generation, complete, refused, origin: Origin::default() }
    }
}

/// Where a life cycle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CycleState {
    /// Installed, and never booted.
    Fresh,
    /// Made as a copy of a system that had shut down cleanly, and never booted itself.
    Cloned,
    /// The controller has handed over.
    Open,
    /// The booted system has said that it is up.
    Up,
    /// The booted system has shut down.
    Closed,
}

/// How far the system of a slot came in its life cycle, and how often it failed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Life {
    /// Where it is.
    pub state: CycleState,
    /// Startups since the system last came up.
    pub tries: u32,
    /// Shutdowns in a row that were not clean, as far as they were found out.
    pub unclean_shutdowns: u32,
}

impl Life {
    /// Of a system that was never started.
    pub const FRESH: Self = Self { state: CycleState::Fresh, tries: 0, unclean_shutdowns: 0 };
    /// Of the copy of a system whose last life cycle was healthy.
    pub const CLONED: Self = Self { state: CycleState::Cloned, tries: 0, unclean_shutdowns: 0 };

    /// Shutdowns in a row that were not clean, the last included: one that is still up was never shut down.
    pub fn unclean(self) -> u32 {
        let last = u32::from(self.state == CycleState::Up);
        self.unclean_shutdowns.saturating_add(last)
    }

    /// What is written before the system is started.
    #[must_use]
    pub fn opened(self) -> Self {
        Self {
            state: CycleState::Open,
            tries: self.tries.saturating_add(1),
            unclean_shutdowns: self.unclean(),
        }
    }
}

/// `cycle.toml`: the life cycle of the system in the slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CycleRecord {
    /// The version of this file's format: 1.
    format: u32,
    /// Where it is.
    pub state: CycleState,
    /// Startups since the system last came up.
    pub tries: u32,
    /// Shutdowns in a row that were not clean.
    pub unclean_shutdowns: u32,
    /// The release that is installed.
    pub serial: Serial,
    /// `/proc/sys/kernel/random/boot_id` of the startup that wrote this; empty where none did.
    pub boot_id: String,
}

impl CycleRecord {
    /// The record of a system that has just been installed.
    pub fn fresh(serial: Serial) -> Self {
        Self::new(serial, Life::FRESH, String::new())
    }

    /// A record of the current format.
    pub fn new(serial: Serial, life: Life, boot_id: String) -> Self {
        let Life { state, tries, unclean_shutdowns } = life;
        Self { format: FORMAT, state, tries, unclean_shutdowns, serial, boot_id }
    }

    /// What decisions are made from.
    pub fn life(&self) -> Life {
        let Self { state, tries, unclean_shutdowns, .. } = *self;
        Life { state, tries, unclean_shutdowns }
    }
}

/// A file of the folder that is kept as it was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Published {
    /// The release.
    Release,
    /// Its signature.
    ReleaseSignature,
    /// The CBOR of the image index, which the release knows by its digest.
    Index,
}

impl Published {
    /// The file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release.toml",
            Self::ReleaseSignature => "release.toml.minisig",
            Self::Index => "index.cbor",
        }
    }

    /// The most bytes that are read.
    fn limit(self) -> u64 {
        match self {
            Self::Release => MAX_RELEASE as u64,
            Self::Index => MAX_UNPACKED,
            Self::ReleaseSignature => MAX_SIGNATURE as u64,
        }
    }
}

/// Why a record cannot be had. That a record is missing is no error.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is there, and makes no sense.
    #[error("{} is damaged: {why}", .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Reading or writing.
    #[error("{doing} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The records of a slot whose top is mounted.
#[derive(Debug)]
pub struct Records {
    folder: OwnedFd,
    path: PathBuf,
}

const SLOT: &str = "slot.toml";
const CYCLE: &str = "cycle.toml";
/// The most bytes that any of the machine's own records has.
const MAX_RECORD: u64 = 64 << 10;
const FALLBACK: &str = "fallback.json";

/// The two TOML files.
trait Record: Serialize + DeserializeOwned {
    fn format(&self) -> u32;
}

impl Record for SlotRecord {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Record for CycleRecord {
    fn format(&self) -> u32 {
        self.format
    }
}

/// Reads `slot.toml`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_slot(text: &str) -> Result<SlotRecord, String> {
    parse(text)
}

/// Reads `cycle.toml`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_cycle(text: &str) -> Result<CycleRecord, String> {
    parse(text)
}

fn parse<R: Record>(text: &str) -> Result<R, String> {
    let record: R = toml::from_str(text).map_err(|e| e.message().trim().to_owned())?;
    match record.format() {
        FORMAT => Ok(record),
        other => Err(format!("it has format {other}, and this controller reads format {FORMAT}")),
    }
}

impl Records {
    /// Opens the folder below `top`; none if it is not there.
    ///
    /// # Errors
    /// `Broken` if it is something else than a folder.
    pub fn open(top: &Path) -> Result<Option<Self>, RecordError> {
        let path = top.join(FOLDER);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Ok(folder) => Ok(Some(Self { folder, path })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
                Err(RecordError::Broken { path, why: "it is no folder".to_owned() })
            }
            Err(e) => Err(RecordError::Io { doing: "opening", path, source: e.into() }),
        }
    }

    /// Opens the folder below `top`, which is made if it is missing.
    ///
    /// # Errors
    /// Those of `open`, and a filesystem that cannot be written.
    pub fn create(top: &Path) -> Result<Self, RecordError> {
        let path = top.join(FOLDER);
        let failed = |source| RecordError::Io { doing: "making", path: path.clone(), source };
        // Nobody but root has to know.
        match rustix::fs::mkdirat(CWD, &path, Mode::RWXU) {
            Ok(()) => File::open(top).and_then(|folder| folder.sync_all()).map_err(failed)?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(failed(e.into())),
        }
        Self::open(top)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    /// `slot.toml`; none if it is missing.
    ///
    /// # Errors
    /// `Broken` if it makes no sense.
    pub fn slot(&self) -> Result<Option<SlotRecord>, RecordError> {
        self.record(SLOT)
    }

    /// `cycle.toml`; none if it is missing.
    ///
    /// # Errors
    /// `Broken` if it makes no sense.
    pub fn cycle(&self) -> Result<Option<CycleRecord>, RecordError> {
        self.record(CYCLE)
    }

    /// Writes `slot.toml`. A record that says complete is written when everything else of the
    /// filesystem is on the disk, and not before.
    ///
    /// # Errors
    /// Those of writing.
    pub fn set_slot(&self, record: &SlotRecord) -> Result<(), RecordError> {
        if record.complete {
            nix::unistd::syncfs(&self.folder).map_err(|e| self.io("syncing", SLOT, e.into()))?;
        }
        self.set_record(SLOT, record)
    }

    /// Writes `cycle.toml`.
    ///
    /// # Errors
    /// Those of writing.
    pub fn set_cycle(&self, record: &CycleRecord) -> Result<(), RecordError> {
        self.set_record(CYCLE, record)
    }

    /// `fallback.json`; none if this machine never fell back, as far as this slot knows.
    ///
    /// # Errors
    /// `Broken` if it makes no sense.
    pub fn fallback(&self) -> Result<Option<Fallback>, RecordError> {
        let Some(bytes) = self.read(FALLBACK, MAX_RECORD)? else { return Ok(None) };
        let broken = |e: serde_json::Error| RecordError::Broken {
            path: self.path.join(FALLBACK),
            why: e.to_string(),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(broken)
    }

    /// Writes `fallback.json`.
    ///
    /// # Errors
    /// Those of writing.
    pub fn set_fallback(&self, record: &Fallback) -> Result<(), RecordError> {
        let json = serde_json::to_vec_pretty(record)
            .map_err(|e| self.io("writing", FALLBACK, io::Error::other(e)))?;
        self.write(FALLBACK, &json)
    }

    /// The bytes of a published file; none if it is missing.
    ///
    /// # Errors
    /// `Broken` if it is longer than any such file.
    pub fn published(&self, which: Published) -> Result<Option<Vec<u8>>, RecordError> {
        self.read(which.name(), which.limit())
    }

    /// Keeps a published file.
    ///
    /// # Errors
    /// Those of writing.
    pub fn set_published(&self, which: Published, bytes: &[u8]) -> Result<(), RecordError> {
        self.write(which.name(), bytes)
    }

    fn record<R: Record>(&self, name: &str) -> Result<Option<R>, RecordError> {
        let Some(bytes) = self.read(name, MAX_RECORD)? else { return Ok(None) };
        let broken = |why| RecordError::Broken { path: self.path.join(name), why };
        let text = String::from_utf8(bytes).map_err(|_| broken("it is no UTF-8".to_owned()))?;
        parse(&text).map(Some).map_err(broken)
    }

    fn set_record(&self, name: &str, record: &impl Record) -> Result<(), RecordError> {
        let text = toml::to_string(record)
            .map_err(|e| self.io("writing", name, io::Error::other(e.to_string())))?;
        self.write(name, text.as_bytes())
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, RecordError> {
        // NONBLOCK: a FIFO in its place must not stop the boot.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let broken = |why: &str| {
            Err(RecordError::Broken { path: self.path.join(name), why: why.to_owned() })
        };
        let file = match rustix::fs::openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP) => return broken("it is a link"),
            Err(e) => return Err(self.io("opening", name, e.into())),
        };
        let failed = |e| self.io("reading", name, e);
        if !file.metadata().map_err(failed)?.is_file() {
            return broken("it is no file");
        }
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > limit {
            return broken("it is longer than any such file");
        }
        Ok(Some(bytes))
    }

    /// The old content or the new is there, whatever happens: tmp, fsync, rename, fsync of the folder.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RecordError> {
        let new = format!("{name}.new");
        let write = || -> io::Result<()> {
            // What a power cut left there, or somebody's link.
            match rustix::fs::unlinkat(&self.folder, &new, rustix::fs::AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            let mut file = File::from(rustix::fs::openat(&self.folder, &new, flags, mode)?);
            file.write_all(bytes)?;
            file.sync_all()?;
            rustix::fs::renameat(&self.folder, &new, &self.folder, name)?;
            Ok(rustix::fs::fsync(&self.folder)?)
        };
        write().map_err(|e| self.io("writing", name, e))
    }

    fn io(&self, doing: &'static str, name: &str, source: io::Error) -> RecordError {
        RecordError::Io { doing, path: self.path.join(name), source }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_refusals_are_kept() {
        let refused: Refused = (1..=20).rev().map(Serial).chain([Serial(7)]).collect();
        let kept: Vec<u64> = refused.iter().map(|serial| serial.0).collect();
        assert_eq!(kept, (5..=20).collect::<Vec<_>>());
        assert!(refused.contains(Serial(5)) && !refused.contains(Serial(4)));
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let refused: Refused = [Serial(9), Serial(4)].into_iter().collect();
        for refused in [Refused::default(), refused] {
            let record = SlotRecord::new(Generation(3), true, refused);
            assert_eq!(parse_slot(&toml::to_string(&record).unwrap()).unwrap(), record);
        }
        let opened = Life { state: CycleState::Up, tries: 0, unclean_shutdowns: 1 }.opened();
        let record = CycleRecord::new(Serial(2), opened, "id".to_owned());
        let again = parse_cycle(&toml::to_string(&record).unwrap()).unwrap();
        assert_eq!((again.life(), again.life().unclean()), (opened, 2));
        let first = Fallback::after(None, 7, None, "\"lost\"".to_owned());
        let failed = Some(("2".to_owned(), Serial(2)));
        let second = Fallback::after(Some(&first), 6, failed, "it never came up".to_owned());
        assert_eq!((first.number, second.number), (1, 2));
        let dir = tempfile::tempdir().unwrap();
        let records = Records::create(dir.path()).unwrap();
        assert_eq!(records.fallback().unwrap(), None);
        for record in [first, second] {
            records.set_fallback(&record).unwrap();
            assert_eq!(records.fallback().unwrap(), Some(record));
        }
        records.write(FALLBACK, b"{").unwrap();
        assert!(matches!(records.fallback(), Err(RecordError::Broken { .. })));
    }
}
