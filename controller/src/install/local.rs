//! Content out of local trees: mounted systems that were made from an image.
//!
//! Its files are only believed by their digest. Metadata, links and everything else come from the
//! index of what is made, so nothing that was done to a tree gets into the copy.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use gse_protocol::{
    Index, Sha256,
    index::{Content, Entry},
};
use rustix::{
    fs::{CWD, Mode, OFlags, ioctl_ficlone, openat},
    io::Errno,
};

use super::{
    Damage, InstallError, Seed, file,
    flush::Flusher,
    kept,
    metadata::Metadata,
    place::Places,
    plan::{self, Plan},
    progress::Meter,
    reading::{self, Ahead},
    seeds::Place,
};
use crate::configure::{self, Applied};

/// A mounted system that files are copied from, and what it keeps of its image.
#[derive(Debug)]
pub struct LocalTree {
    pub(super) root: OwnedFd,
    /// `.gse/pristine`, if there is one.
    pub(super) pristine: Option<OwnedFd>,
    pub(super) applied: Applied,
}

impl LocalTree {
    /// The system whose root is mounted at `root`, with its records in the directory `gse`. Both are only
    /// read.
    ///
    /// # Errors
    /// There is no such directory, or the record of what the configuration has changed cannot be read.
    pub fn open(root: &Path, gse: &Path) -> anyhow::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &Path| openat(CWD, path, flags, Mode::empty());
        let pristine = gse.join(configure::PRISTINE);
        Ok(Self {
            root: open(root).with_context(|| format!("opening {}", root.display()))?,
            pristine: match open(&pristine) {
                Ok(directory) => Some(directory),
                Err(Errno::NOENT) => None,
                Err(e) => return Err(e).with_context(|| format!("opening {}", pristine.display())),
            },
            applied: configure::load(gse)?,
        })
    }

    /// Which files have a copy in `.gse/pristine`, where it is, by their position in the index.
    pub(super) fn kept(&self, index: &Index) -> HashMap<u32, &str> {
        match self.pristine {
            Some(_) => kept::copies(index, &self.applied),
            None => HashMap::new(),
        }
    }
}

/// Opens the files of a seed, for one thread.
pub(super) struct Reader<'s> {
    seed: &'s Seed<'s>,
    root: Places<'s>,
    pristine: Option<Places<'s>>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(seed: &'s Seed<'s>) -> Self {
        let LocalTree { root, pristine, .. } = seed.tree;
        let pristine = pristine.as_ref().map(|fd| Places::new(fd.as_fd()));
        Self { seed, root: Places::new(root.as_fd()), pristine }
    }

    /// Opens what the configuration has kept of the file, if it has.
    fn open_kept(&mut self, number: u32) -> Option<Result<OwnedFd, Damage>> {
        let path = self.seed.kept.get(&number)?.as_bytes();
        let (_, content) = plan::file(self.seed.index, number)?;
        Some(reading::open(self.pristine.as_mut()?, path, content))
    }

    /// Opens the file where it should be.
    fn open_placed(&mut self, number: u32) -> Result<OwnedFd, Damage> {
        let (entry, content) = plan::file(self.seed.index, number).ok_or(Damage::Missing)?;
        reading::open(&mut self.root, &entry.path, content)
    }

    /// Opens the image's own content of the file with this position in the seed's index.
    pub(super) fn open(&mut self, number: u32) -> Result<OwnedFd, Damage> {
        self.open_kept(number).unwrap_or_else(|| self.open_placed(number))
    }

    /// Says that this part of the file will be read. What is wrong with the file is found then.
    pub(super) fn expect(&mut self, ahead: &mut Ahead, number: u32, from: u64, length: u64) {
        if ahead.has_room()
            && let Ok(file) = self.open(number)
        {
            ahead.expect(file.as_fd(), from, length);
        }
    }
}

/// What all threads share.
pub(super) struct Copies<'a> {
    plan: &'a Plan<'a>,
    root: BorrowedFd<'a>,
    metadata: Metadata,
    flusher: &'a Flusher,
    meter: &'a Meter<'a>,
    damaged: Mutex<Vec<(u32, Damage)>>,
}

impl<'a> Copies<'a> {
    pub(super) fn new(
        plan: &'a Plan<'a>,
        root: BorrowedFd<'a>,
        metadata: Metadata,
        flusher: &'a Flusher,
        meter: &'a Meter<'a>,
    ) -> Self {
        Self { plan, root, metadata, flusher, meter, damaged: Mutex::default() }
    }

    /// What one thread does with each run of its files.
    pub(super) fn worker(&self) -> impl FnMut(&[u32]) -> Result<(), InstallError> {
        let mut worker = Worker {
            shared: self,
            readers: self.plan.known.seeds.iter().map(Reader::new).collect(),
            target: Target {
                places: Places::new(self.root),
                metadata: self.metadata,
                shares: true,
            },
            buffer: vec![0; reading::BUFFER],
        };
        move |run| worker.run(run)
    }

    /// The files that no tree has as they should be, in the order of the index.
    pub(super) fn damaged(self) -> Vec<(u32, Damage)> {
        let mut damaged = self.damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
        damaged.sort_unstable_by_key(|(number, _)| *number);
        damaged
    }
}

/// Why a file was not copied.
enum Failed {
    /// The tree has not the right content, and nothing was made.
    Source(Damage),
    /// The new file cannot be made.
    Target(InstallError),
}

impl From<InstallError> for Failed {
    fn from(error: InstallError) -> Self {
        Self::Target(error)
    }
}

impl From<Damage> for Failed {
    fn from(damage: Damage) -> Self {
        Self::Source(damage)
    }
}

/// A file, and the places that may have its content.
struct ToCopy<'c> {
    number: u32,
    entry: &'c Entry,
    content: &'c Content,
    places: Vec<Place>,
}

/// What one thread keeps from file to file.
struct Worker<'c, 'a> {
    shared: &'c Copies<'a>,
    readers: Vec<Reader<'c>>,
    target: Target<'c>,
    buffer: Vec<u8>,
}

/// Where new files are made.
struct Target<'c> {
    places: Places<'c>,
    metadata: Metadata,
    /// Whether files may share their blocks with those of the tree: not known to be impossible.
    shares: bool,
}

impl Worker<'_, '_> {
    fn run(&mut self, run: &[u32]) -> Result<(), InstallError> {
        let plan = self.shared.plan;
        let wanted = |number: &u32| {
            let (entry, content) = plan::file(plan.index, *number)?;
            let places = plan.known.same(entry, content);
            Some(ToCopy { number: *number, entry, content, places })
        };
        let files: Vec<ToCopy<'_>> = run.iter().filter_map(wanted).collect();
        // Where blocks are shared, it is the new file that is read.
        if !self.target.shares {
            self.expect(&files);
        }
        files.iter().try_for_each(|file| self.file(file))
    }

    fn expect(&mut self, files: &[ToCopy<'_>]) {
        let mut ahead = Ahead::default();
        for ToCopy { content, places, .. } in files {
            let Some(place) = places.first() else { continue };
            if let Some(reader) = self.readers.get_mut(place.seed) {
                reader.expect(&mut ahead, place.entry, 0, content.stored());
            }
        }
    }

    fn file(&mut self, file: &ToCopy<'_>) -> Result<(), InstallError> {
        let shared = self.shared;
        let ToCopy { number, content, .. } = *file;
        match self.copy(file) {
            Ok(()) => shared.flusher.wrote(content.stored()),
            Err(Failed::Source(damage)) => {
                shared
                    .damaged
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((number, damage));
            }
            Err(Failed::Target(error)) => return Err(error),
        }
        shared.meter.add(content.stored());
        Ok(())
    }

    /// Copies the file from the first place that has its content; the damage is that of the first of them.
    fn copy(&mut self, file: &ToCopy<'_>) -> Result<(), Failed> {
        let Self { readers, target, buffer, .. } = self;
        let ToCopy { entry, content, .. } = *file;
        let mut damage = None;
        for place in &file.places {
            let Some(reader) = readers.get_mut(place.seed) else { continue };
            // The configuration may happen to say what the image says.
            let sources = [
                |r: &mut Reader<'_>, n| r.open_kept(n),
                |r: &mut Reader<'_>, n| Some(r.open_placed(n)),
            ];
            for source in sources {
                let Some(source) = source(reader, place.entry) else { continue };
                let copied = source
                    .map_err(Failed::from)
                    .and_then(|source| target.copy(source.as_fd(), entry, content, buffer));
                match copied {
                    Err(Failed::Source(found)) => drop(damage.get_or_insert(found)),
                    done => return done,
                }
            }
        }
        Err(damage.unwrap_or(Damage::Missing).into())
    }
}

impl Target<'_> {
    /// Makes the file of `entry` from `source`, if that has the right content.
    fn copy(
        &mut self,
        source: BorrowedFd<'_>,
        entry: &Entry,
        content: &Content,
        buffer: &mut [u8],
    ) -> Result<(), Failed> {
        // What lies in a hole is in no digest, and would come along.
        let shares = self.shares && content.extents.is_none();
        let stored = usize::try_from(content.stored()).unwrap_or(usize::MAX);
        let Some(bytes) = buffer.get_mut(..stored).filter(|_| !shares) else {
            return self.copy_unseen(source, entry, content, buffer, shares);
        };
        reading::read(source, content, 0, bytes)?;
        if Sha256::of(bytes) != content.sha256 {
            return Err(Damage::Content.into());
        }
        let fd = file::create(&mut self.places, entry)?;
        file::write(fd.as_fd(), entry, content, 0, bytes)?;
        Ok(file::finish(self.metadata, fd.as_fd(), entry, content)?)
    }

    /// A file that shares its blocks or does not fit into the buffer is read once, too: it is there before its digest is
    /// known, and taken away if that is wrong.
    fn copy_unseen(
        &mut self,
        source: BorrowedFd<'_>,
        entry: &Entry,
        content: &Content,
        buffer: &mut [u8],
        shares: bool,
    ) -> Result<(), Failed> {
        let fd = file::create(&mut self.places, entry)?;
        let target = fd.as_fd();
        let copied = if shares && self.share(source, target) {
            // What the new file has by now is what counts: the other one may change at any time.
            reading::check(target, content, buffer).map_err(Failed::from)
        } else {
            reading::stream(source, content, buffer, |at, bytes| {
                Ok::<_, Failed>(file::write(target, entry, content, at, bytes)?)
            })
        };
        if let Err(Failed::Source(_)) = copied {
            self.places.remove(&entry.path)?;
        }
        copied?;
        Ok(file::finish(self.metadata, target, entry, content)?)
    }

    /// Lets the new file have the blocks of `source`, which takes no time and no room. Only filesystems that can do
    /// that do, and only within one filesystem.
    fn share(&mut self, source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> bool {
        self.shares = ioctl_ficlone(target, source).is_ok();
        self.shares
    }
}
