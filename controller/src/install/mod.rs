//! Phase 5: makes the tree that a signed index describes.
//!
//! The tar in the image is never parsed. The index, whose signature was checked, names every entry, where
//! its bytes are and what their digest is. So it does not matter where content comes from: out of the
//! image's frames, each checked before it is unpacked, or out of the files of another slot. The plan
//! says which source each file is taken from, and every file is checked on its way.

mod chain;
mod compare;
mod contents;
mod damage;
mod error;
mod file;
mod flush;
mod frames;
mod kept;
mod local;
mod metadata;
mod nodes;
mod parts;
mod patch;
mod place;
mod plan;
mod progress;
mod reading;
mod seeds;
mod source;
mod threads;

use std::{
    os::fd::BorrowedFd,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use gse_protocol::Index;
use rustix::fs::{fstatvfs, syncfs};

pub use compare::{Compared, Difference, compare};
use contents::Contents;
pub use contents::FrameSources;
pub use damage::{Damage, Damaged};
pub use error::{InstallError, SourceError};
pub use local::LocalTree;
use metadata::Metadata;
pub use patch::Patch;
use place::Places;
pub use plan::{Amount, Costs, Limits, Mib, Plan};
use progress::Meter;
pub use seeds::Seed;
pub use source::{FileSource, FrameSource};
use threads::{each, on_threads};

/// How many neighbours a thread makes at once.
const NODES: usize = 64;

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Entries of all kinds.
    pub entries: usize,
    /// Bytes of files that were written, without holes.
    pub bytes: u64,
    /// Of these, the bytes that came out of local trees.
    pub copied: u64,
    /// Of these, the bytes that were made with patches.
    pub patched: u64,
    /// Files that should have been, and were taken from the image.
    pub unpatched: usize,
    /// Why the patch file could not be read to its end.
    pub no_patches: Option<String>,
    /// Bytes that were read of the patch file and of the image.
    pub fetched: u64,
    /// Threads that unpacked frames at once.
    pub threads: usize,
    /// Frames whose bytes were wrong at first, and had to be fetched from elsewhere.
    pub fetched_again: u64,
    /// Files of local trees that were wrong, and were fetched.
    pub damaged: Damaged,
    /// How long each part took.
    pub times: Times,
}

/// How long each part of an installation took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Making directories.
    pub directories: Duration,
    /// Reading, checking, unpacking and writing the content of files.
    pub files: Duration,
    /// Links, devices, empty files.
    pub nodes: Duration,
    /// The directories' metadata.
    pub metadata: Duration,
    /// Until all of it was on the disk.
    pub sync: Duration,
}

/// Makes the tree that `index` describes in the empty directory `root`, from `image`, and returns
/// when it is on the disk.
///
/// `progress` is told how many bytes of the image are done, of [`Index::packed_size`]. After an error
/// the tree is incomplete, and its filesystem to be discarded.
pub fn install(
    index: &Index,
    image: &mut dyn FrameSource,
    root: BorrowedFd<'_>,
    progress: &(dyn Fn(u64) + Sync),
    limits: &Limits,
) -> Result<Report, InstallError> {
    let sources = FrameSources { image: Some(image), patch: None };
    make(&Plan::new(index, &[], None)?, sources, root, &|done, _| progress(done), limits)
}

/// Makes the tree that `index` describes in the empty directory `root`, as [`install()`] does, out of the
/// files of `tree`: another filesystem that was made from the same index.
///
/// All that comes from `tree` is the content of files, and only where its digest is right. What is
/// missing, changed or unreadable there is taken from `image`; without one, all of `tree` is looked at,
/// and then it is an error that names the first few such files ([`InstallError::Damaged`]).
///
/// `progress` is told how many bytes are read and checked, and of how many: those of the files in
/// `tree`, and, as soon as it is known what is damaged, those of the frames that have it.
pub fn clone(
    index: &Index,
    tree: &LocalTree,
    image: Option<&mut dyn FrameSource>,
    root: BorrowedFd<'_>,
    progress: &(dyn Fn(u64, u64) + Sync),
    limits: &Limits,
) -> Result<Report, InstallError> {
    let seeds = [Seed::new(tree, index)];
    make(
        &Plan::new(index, &seeds, None)?,
        FrameSources { image, patch: None },
        root,
        progress,
        limits,
    )
}

/// Makes the tree of a plan in the empty directory `root`, as [`install()`] does.
///
/// What is missing, changed or unreadable in the plan's local trees, or does not come out of its patch as it should, is
/// taken from the image.
///
/// `progress` is told how many bytes are done, and of how many that are known of by then.
pub fn make(
    plan: &Plan<'_>,
    sources: FrameSources<'_>,
    root: BorrowedFd<'_>,
    progress: &(dyn Fn(u64, u64) + Sync),
    limits: &Limits,
) -> Result<Report, InstallError> {
    check_space(plan, root)?;
    let stop = &AtomicBool::new(false);
    let work = Work { plan, root, metadata: Metadata::new(), limits, stop };
    work.all(sources, &Meter::new(progress)).map_err(|error| match free(root) {
        Ok(free) if error.is_full() => InstallError::Full { needed: plan.stored(), free },
        _ => error,
    })
}

/// What all steps need.
#[derive(Clone, Copy)]
struct Work<'w> {
    plan: &'w Plan<'w>,
    root: BorrowedFd<'w>,
    metadata: Metadata,
    limits: &'w Limits,
    /// Something failed for good: what is done beside it need not go on.
    stop: &'w AtomicBool,
}

impl Work<'_> {
    /// The steps, in their order.
    fn all(self, sources: FrameSources<'_>, meter: &Meter<'_>) -> Result<Report, InstallError> {
        let mut times = Times::default();
        timed(&mut times.directories, || self.directories())?;
        let contents = timed(&mut times.files, || self.contents(sources, meter))?;
        let Contents { copied, patched, fetched } = contents;
        timed(&mut times.nodes, || self.nodes())?;
        timed(&mut times.metadata, || self.finish_directories())?;
        timed(&mut times.sync, || syncfs(self.root)).map_err(InstallError::system("sync", b""))?;
        Ok(Report {
            entries: self.plan.index.entries.len(),
            bytes: self.plan.stored(),
            copied: copied.bytes,
            patched: patched.bytes,
            unpatched: patched.missing.len(),
            no_patches: patched.why,
            fetched: fetched.bytes,
            threads: fetched.threads,
            fetched_again: fetched.again,
            damaged: copied.damaged,
            times,
        })
    }

    fn directories(self) -> Result<(), InstallError> {
        on_threads(1, || nodes::directories(self.plan, self.metadata, self.root))
    }

    fn nodes(self) -> Result<(), InstallError> {
        let Self { plan, root, metadata, limits, .. } = self;
        let cores = limits.cores.get();
        each(cores, NODES, &plan.nodes, || {
            let mut places = Places::new(root);
            move |number| match plan.entry(number) {
                Some(entry) => nodes::node(&mut places, metadata, entry),
                None => Ok(()),
            }
        })?;
        // These need the files that they are names of, the empty ones too.
        each(cores, NODES, &plan.hardlinks, || {
            let (mut targets, mut places) = (Places::new(root), Places::new(root));
            move |number| match plan.entry(number) {
                Some(entry) => nodes::hardlink(plan, &mut targets, &mut places, entry),
                None => Ok(()),
            }
        })
    }

    fn finish_directories(self) -> Result<(), InstallError> {
        let Self { plan, root, metadata, limits, .. } = self;
        let finish = |number| match plan.entry(number) {
            Some(entry) => nodes::finish_directory(root, metadata, entry),
            None => Ok(()),
        };
        // Nothing is made in them any more, so their order does not matter; but the root, which keeps
        // everybody out, is the last.
        each(limits.cores.get(), NODES, &plan.directories, || finish)?;
        finish(0)
    }
}

/// Whether the files can fit at all. What the filesystem itself needs beside them is not known
/// before it is full.
fn check_space(plan: &Plan<'_>, root: BorrowedFd<'_>) -> Result<(), InstallError> {
    let room = fstatvfs(root).map_err(InstallError::system("look for free space on", b""))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    if plan.stored() > free {
        return Err(InstallError::Full { needed: plan.stored(), free });
    }
    // The root has its inode. Filesystems that make inodes as they need them say 0 in all.
    let inodes = (plan.index.entries.len() - plan.hardlinks.len()).saturating_sub(1) as u64;
    if room.f_files > 0 && inodes > room.f_ffree {
        return Err(InstallError::Inodes { needed: inodes, free: room.f_ffree });
    }
    Ok(())
}

fn free(root: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    let room = fstatvfs(root)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

fn timed<T>(took: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let out = work();
    *took = start.elapsed();
    out
}
