//! Reads, hashes and compresses the frames on all cores, and hands them on in order.
//!
//! A worker takes a buffer and then the next frame. So the earliest frame that is not done always has
//! a buffer, and the others can wait for it without a deadlock; the buffers bound the memory.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZero,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use gse_protocol::{
    Sha256,
    digest::Hasher,
    index::{Frame, Kind},
};

use super::{
    error::Error,
    fill::Filler,
    layout::{FramePlan, Layout},
    pool::{Buffer, Pool},
    walk::Tree,
};
use crate::progress::Progress;

/// What is made of the tree.
pub(super) struct Packed {
    /// In order.
    pub(super) frames: Vec<Frame>,
    /// The digests of the files that have data, by number among the entries.
    pub(super) digests: Vec<(usize, Sha256)>,
}

/// What is to be packed, and how.
pub(super) struct Job<'a> {
    pub(super) tree: &'a Tree,
    pub(super) layout: &'a Layout,
    /// Of zstd.
    pub(super) level: i32,
    pub(super) threads: NonZero<usize>,
    pub(super) progress: &'a Progress,
}

/// Packs all frames into buffers of the pool, and gives each to `sink`, in order.
pub(super) fn pack<'p>(
    job: &Job<'_>,
    pool: &'p Pool,
    sink: &mut dyn FnMut(Buffer<'p>) -> Result<(), Error>,
) -> Result<Packed, Error> {
    let shared = Shared { job, pool, next: AtomicUsize::new(0), batons: Batons::default() };
    let (results, arrivals) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..job.threads.get() {
            let results = results.clone();
            let shared = &shared;
            scope.spawn(move || shared.work(&results));
        }
        drop(results);
        let _stop = Stop { shared: &shared, only_in_panic: false };
        collect(job, &arrivals, sink)
    })
}

/// Puts the frames, which arrive in any order, into theirs.
fn collect<'p>(
    job: &Job<'_>,
    arrivals: &mpsc::Receiver<Result<PackedFrame<'p>, Error>>,
    sink: &mut dyn FnMut(Buffer<'p>) -> Result<(), Error>,
) -> Result<Packed, Error> {
    let count = job.layout.frames.len();
    let mut early = BTreeMap::new();
    let mut packed = Packed { frames: Vec::with_capacity(count), digests: Vec::new() };
    while packed.frames.len() < count {
        let Ok(arrival) = arrivals.recv() else {
            return Err(Error::System("a thread that packs frames ended early".to_owned()));
        };
        let arrival = arrival?;
        early.insert(arrival.number, arrival);
        while let Some(frame) = early.remove(&packed.frames.len()) {
            job.progress.advance(frame.frame.unpacked.into());
            packed.frames.push(frame.frame);
            packed.digests.extend(frame.digests);
            sink(frame.buffer)?;
        }
    }
    Ok(packed)
}

/// A frame that is done.
struct PackedFrame<'p> {
    number: usize,
    frame: Frame,
    buffer: Buffer<'p>,
    digests: Vec<(usize, Sha256)>,
}

struct Shared<'a, 'p> {
    job: &'a Job<'a>,
    pool: &'p Pool,
    /// The next frame that a worker takes.
    next: AtomicUsize,
    batons: Batons,
}

/// When this goes away, no worker waits any longer.
struct Stop<'s, 'a, 'p> {
    shared: &'s Shared<'a, 'p>,
    only_in_panic: bool,
}

impl Drop for Stop<'_, '_, '_> {
    fn drop(&mut self) {
        if !self.only_in_panic || thread::panicking() {
            self.shared.pool.close();
            self.shared.batons.close();
        }
    }
}

impl<'p> Shared<'_, 'p> {
    fn work(&self, results: &mpsc::Sender<Result<PackedFrame<'p>, Error>>) {
        let _stop = Stop { shared: self, only_in_panic: true };
        let mut worker = match Worker::new(self) {
            Ok(worker) => worker,
            Err(error) => return drop(results.send(Err(error))),
        };
        while let Some(buffer) = self.pool.take() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(plan) = self.job.layout.frames.get(number) else { return };
            let Some(result) = worker.frame(number, plan, buffer).transpose() else { return };
            let failed = result.is_err();
            if results.send(result).is_err() || failed {
                return;
            }
        }
    }
}

struct Worker<'s, 'a, 'p> {
    shared: &'s Shared<'a, 'p>,
    filler: Filler<'a>,
    compressor: zstd::bulk::Compressor<'static>,
}

impl<'s, 'a, 'p> Worker<'s, 'a, 'p> {
    fn new(shared: &'s Shared<'a, 'p>) -> Result<Self, Error> {
        let compressor = zstd::bulk::Compressor::new(shared.job.level)
            .map_err(|e| Error::System(format!("making a zstd compressor ({e})")))?;
        Ok(Self { shared, filler: Filler::new(shared.job.tree, shared.job.layout), compressor })
    }

    /// Makes a frame, or nothing if the work has been stopped.
    fn frame(
        &mut self,
        number: usize,
        plan: &FramePlan,
        mut buffer: Buffer<'p>,
    ) -> Result<Option<PackedFrame<'p>>, Error> {
        self.filler.fill(plan)?;
        // Hashing comes first: a file in several frames is hashed by one worker after the other, and
        // the next one should not have to wait for this one's compression.
        let Some(digests) = self.digests(number) else { return Ok(None) };
        self.compressor
            .compress_to_buffer(&self.filler.bytes, buffer.bytes_mut())
            .map_err(|e| Error::System(format!("compressing frame {number} ({e})")))?;
        let length = |bytes: usize| {
            let over = |_| Error::System(format!("frame {number} is over 4 GiB"));
            u32::try_from(bytes).map_err(over)
        };
        let frame = Frame {
            packed: length(buffer.len())?,
            unpacked: length(plan.len())?,
            sha256: Sha256::of(&buffer),
        };
        Ok(Some(PackedFrame { number, frame, buffer, digests }))
    }

    /// The digests of the files that end in the frame.
    fn digests(&self, number: usize) -> Option<Vec<(usize, Sha256)>> {
        let mut digests = Vec::with_capacity(self.filler.pieces.len());
        for piece in &self.filler.pieces {
            let bytes = self.filler.bytes.get(piece.range.clone()).unwrap_or_default();
            let mut hasher =
                if piece.begins { Hasher::default() } else { self.shared.batons.take(number)? };
            hasher.update(bytes);
            if piece.ends {
                digests.push((piece.entry, hasher.finish()));
            } else {
                self.shared.batons.give(number + 1, hasher);
            }
        }
        Some(digests)
    }
}

/// Carries the hasher of a file that lies in several frames from each to the next. There is at most
/// one such file at a frame's start.
#[derive(Default)]
struct Batons {
    state: Mutex<Waiting>,
    given: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// By the number of the frame that takes it.
    hashers: HashMap<usize, Hasher>,
    closed: bool,
}

impl Batons {
    fn give(&self, frame: usize, hasher: Hasher) {
        self.lock().hashers.insert(frame, hasher);
        self.given.notify_all();
    }

    /// Waits for the frame before; `None` once this is closed.
    fn take(&self, frame: usize) -> Option<Hasher> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(hasher) = state.hashers.remove(&frame) {
                return Some(hasher);
            }
            state = self.given.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.given.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills in the digests of the files.
pub(super) fn set_digests(tree: &mut Tree, digests: &[(usize, Sha256)]) {
    for (number, digest) in digests {
        if let Some(Kind::File(content)) = tree.entries.get_mut(*number).map(|e| &mut e.kind) {
            content.sha256 = *digest;
        }
    }
}
