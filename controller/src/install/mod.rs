//! Phase 5: makes the tree that a signed index describes.
//!
//! The tar in the image is never parsed. The index, whose signature was checked, names every entry and
//! where its bytes are; each frame is checked against it before it is unpacked, and each file after.

mod chain;
mod error;
mod flush;
mod frames;
mod metadata;
mod nodes;
mod place;
mod plan;
mod source;

use std::{
    os::fd::BorrowedFd,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use gse_protocol::Index;
use nix::sched::{CloneFlags, unshare};
use rustix::{
    fs::{Mode, fstatvfs, syncfs},
    process::umask,
};

pub use error::{InstallError, SourceError};
use flush::Flusher;
use frames::Frames;
use metadata::Metadata;
use place::Places;
pub use plan::Limits;
use plan::Plan;
pub use source::{FileSource, FrameSource, Origin};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Entries of all kinds.
    pub entries: usize,
    /// Bytes of files that were written, without holes.
    pub bytes: u64,
    /// Threads that worked at once.
    pub threads: usize,
    /// Frames whose bytes were wrong at first, and had to be fetched from elsewhere.
    pub fetched_again: u64,
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
    let plan = Plan::new(index)?;
    check_space(&plan, root)?;
    make(&plan, image, root, progress, limits).map_err(|error| match free(root) {
        Ok(free) if error.is_full() => InstallError::Full { needed: plan.stored, free },
        _ => error,
    })
}

fn make(
    plan: &Plan<'_>,
    image: &mut dyn FrameSource,
    root: BorrowedFd<'_>,
    progress: &(dyn Fn(u64) + Sync),
    limits: &Limits,
) -> Result<Report, InstallError> {
    let metadata = Metadata::new();
    let cores = limits.cores.get();
    let mut times = Times::default();

    timed(&mut times.directories, || on_threads(1, || nodes::directories(plan, metadata, root)))?;

    let threads = plan.workers(limits);
    let frames = Frames::new(plan, image, root, progress);
    timed(&mut times.files, || {
        let flusher = Flusher::default();
        thread::scope(|scope| {
            let flushing = scope.spawn(|| flusher.work(root));
            let files = on_threads(threads, || frames.work(&flusher));
            flusher.end();
            files.and(joined(flushing))
        })
    })?;

    timed(&mut times.nodes, || {
        each(cores, &plan.nodes, || {
            let mut places = Places::new(root);
            move |number| match plan.entry(number) {
                Some(entry) => nodes::node(&mut places, metadata, entry),
                None => Ok(()),
            }
        })?;
        // These need the files that they are names of, the empty ones too.
        each(cores, &plan.hardlinks, || {
            let (mut targets, mut places) = (Places::new(root), Places::new(root));
            move |number| match plan.entry(number) {
                Some(entry) => nodes::hardlink(plan, &mut targets, &mut places, entry),
                None => Ok(()),
            }
        })
    })?;

    timed(&mut times.metadata, || {
        let finish = |number| match plan.entry(number) {
            Some(entry) => nodes::finish_directory(root, metadata, entry),
            None => Ok(()),
        };
        // Nothing is made in them any more, so their order does not matter; but the root, which keeps
        // everybody out, is the last.
        each(cores, &plan.directories, || finish)?;
        finish(0)
    })?;

    timed(&mut times.sync, || syncfs(root)).map_err(InstallError::system("sync", b""))?;
    Ok(Report {
        entries: plan.index.entries.len(),
        bytes: plan.stored,
        threads,
        fetched_again: frames.fetched_again(),
        times,
    })
}

/// Whether the files can fit at all. What the filesystem itself needs beside them is not known
/// before it is full.
fn check_space(plan: &Plan<'_>, root: BorrowedFd<'_>) -> Result<(), InstallError> {
    let room = fstatvfs(root).map_err(InstallError::system("look for free space on", b""))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    if plan.stored > free {
        return Err(InstallError::Full { needed: plan.stored, free });
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

/// Does `work` on each of some threads, all with a umask of 0; the first error is returned.
fn on_threads(
    count: usize,
    work: impl Fn() -> Result<(), InstallError> + Sync,
) -> Result<(), InstallError> {
    let work = || {
        // A umask is the process's. Apart from it, modes can be given when a file is made, which saves
        // a system call for each, and no other thread notices.
        unshare(CloneFlags::CLONE_FS).map_err(|e| {
            InstallError::system("prepare", b"")(rustix::io::Errno::from_raw_os_error(e as i32))
        })?;
        umask(Mode::empty());
        work()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        let mut result = Ok(());
        for thread in threads {
            result = result.and(joined(thread));
        }
        result
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Does some work for each of `numbers`, on some threads. `worker` is called once for each thread.
fn each<W: FnMut(usize) -> Result<(), InstallError>>(
    threads: usize,
    numbers: &[u32],
    worker: impl Fn() -> W + Sync,
) -> Result<(), InstallError> {
    /// Neighbours share a directory, so they are taken in runs.
    const RUN: usize = 64;
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    on_threads(threads.min(numbers.len().div_ceil(RUN)), || {
        let mut work = worker();
        while !failed.load(Ordering::Relaxed) {
            let start = next.fetch_add(RUN, Ordering::Relaxed);
            let Some(run) = numbers.get(start..numbers.len().min(start.saturating_add(RUN))) else {
                break;
            };
            if run.is_empty() {
                break;
            }
            for number in run {
                work(*number as usize).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
        }
        Ok(())
    })
}
