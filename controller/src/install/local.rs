//! Content out of a local tree: a mounted system that was made from the same image.
//!
//! Its files are only believed by their digest. Metadata, links and everything else come from the
//! index, so nothing that was done to the tree gets into the copy.

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
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

use super::{
    Damage, InstallError, file,
    flush::Flusher,
    kept,
    metadata::Metadata,
    place::Places,
    plan::{self, Plan},
    progress::Meter,
    reading,
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

/// What all threads share.
pub(super) struct Copies<'a> {
    plan: &'a Plan<'a>,
    tree: &'a LocalTree,
    kept: HashMap<u32, &'a str>,
    root: BorrowedFd<'a>,
    metadata: Metadata,
    flusher: &'a Flusher,
    meter: &'a Meter<'a>,
    damaged: Mutex<Vec<(u32, Damage)>>,
}

impl<'a> Copies<'a> {
    pub(super) fn new(
        plan: &'a Plan<'a>,
        tree: &'a LocalTree,
        root: BorrowedFd<'a>,
        metadata: Metadata,
        flusher: &'a Flusher,
        meter: &'a Meter<'a>,
    ) -> Self {
        let kept = tree.kept(plan.index);
        Self { plan, tree, kept, root, metadata, flusher, meter, damaged: Mutex::default() }
    }

    /// What one thread does with each of its files.
    pub(super) fn worker(&self) -> impl FnMut(u32) -> Result<(), InstallError> {
        let mut worker = Worker {
            shared: self,
            root: Places::new(self.tree.root.as_fd()),
            pristine: self.tree.pristine.as_ref().map(|fd| Places::new(fd.as_fd())),
            target: Target { places: Places::new(self.root), metadata: self.metadata },
            buffer: vec![0; reading::BUFFER],
        };
        move |number| worker.file(number)
    }

    /// The files that the tree does not have as they should be, in the order of the index.
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

/// What one thread keeps from file to file.
struct Worker<'c, 'a> {
    shared: &'c Copies<'a>,
    root: Places<'c>,
    pristine: Option<Places<'c>>,
    target: Target<'c>,
    buffer: Vec<u8>,
}

/// Where new files are made.
struct Target<'c> {
    places: Places<'c>,
    metadata: Metadata,
}

impl Worker<'_, '_> {
    fn file(&mut self, number: u32) -> Result<(), InstallError> {
        let shared = self.shared;
        let Some((entry, content)) = plan::file(shared.plan.index, number) else { return Ok(()) };
        match self.copy(number, entry, content) {
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

    /// Copies the file from where the image's own content should be.
    fn copy(&mut self, number: u32, entry: &Entry, content: &Content) -> Result<(), Failed> {
        let Self { shared, root, pristine, target, buffer } = self;
        let mut from = |places: &mut Places<'_>, path: &[u8]| {
            target.copy(places, path, entry, content, buffer)
        };
        if let (Some(path), Some(pristine)) = (shared.kept.get(&number), pristine) {
            match from(pristine, path.as_bytes()) {
                // The configuration may happen to say what the image says.
                Err(Failed::Source(damage)) => match from(root, &entry.path) {
                    Err(Failed::Source(_)) => Err(Failed::Source(damage)),
                    done => done,
                },
                done => done,
            }
        } else {
            from(root, &entry.path)
        }
    }
}

impl Target<'_> {
    /// Makes the file of `entry` from the one at `path` in `places`, if that has the right content.
    fn copy(
        &mut self,
        places: &mut Places<'_>,
        path: &[u8],
        entry: &Entry,
        content: &Content,
        buffer: &mut [u8],
    ) -> Result<(), Failed> {
        let source = reading::open(places, path, content)?;
        let stored = usize::try_from(content.stored()).unwrap_or(usize::MAX);
        let Some(bytes) = buffer.get_mut(..stored) else {
            return self.copy_large(source.as_fd(), entry, content, buffer);
        };
        reading::read(source.as_fd(), content, 0, bytes)?;
        if Sha256::of(bytes) != content.sha256 {
            return Err(Damage::Content.into());
        }
        let fd = file::create(&mut self.places, entry)?;
        file::write(fd.as_fd(), entry, content, 0, bytes)?;
        Ok(file::finish(self.metadata, fd.as_fd(), entry, content)?)
    }

    /// A file that does not fit into the buffer is read once, too: it is written before its digest is
    /// known, and taken away if that is wrong.
    fn copy_large(
        &mut self,
        source: BorrowedFd<'_>,
        entry: &Entry,
        content: &Content,
        buffer: &mut [u8],
    ) -> Result<(), Failed> {
        let fd = file::create(&mut self.places, entry)?;
        let copied = reading::stream(source, content, buffer, |at, bytes| {
            Ok::<_, Failed>(file::write(fd.as_fd(), entry, content, at, bytes)?)
        });
        if let Err(Failed::Source(_)) = copied {
            self.places.remove(&entry.path)?;
        }
        copied?;
        Ok(file::finish(self.metadata, fd.as_fd(), entry, content)?)
    }
}
