//! Content out of the image: frames are read one after another, and checked, unpacked and written by
//! several threads at once.
//!
//! There is no queue. Whoever is free takes the next frame under a lock that makes reading sequential,
//! and does all of its work; so memory is one packed and one unpacked frame a thread, and no more is
//! read than can be written. Where many ranges are read, there are a few such connections side by side.

use std::{
    borrow::Cow,
    ops::Range,
    os::fd::{AsFd as _, BorrowedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use gse_protocol::{
    Sha256,
    index::{Content, Entry, PlacedFrame},
};
use sha2::Digest as _;

use super::{
    FrameSource, InstallError, Work,
    chain::{Chain, Link, Shared, StopOnFailure},
    error::name,
    file,
    flush::Flusher,
    metadata::Metadata,
    parts::{Part, Wanted},
    patch::Bases,
    place::Places,
    progress::Meter,
};

/// What all threads share.
pub(super) struct Frames<'a> {
    wanted: &'a Wanted<'a>,
    root: BorrowedFd<'a>,
    metadata: Metadata,
    /// Each thread stays with one of them, and each of them reads a run to its end: files that lie in several frames lie
    /// in one run, so nobody waits for what another one has not begun.
    sources: Vec<Mutex<Reader<'a>>>,
    /// What no source was given, by its place among the frames.
    runs: Mutex<std::vec::IntoIter<Range<usize>>>,
    threads: AtomicUsize,
    chain: Chain,
    stop: &'a AtomicBool,
    again: AtomicU64,
    /// What did not come out of its patch as it should.
    failed: Mutex<Vec<u32>>,
    meter: &'a Meter<'a>,
}

struct Reader<'a> {
    image: &'a mut dyn FrameSource,
    run: Range<usize>,
}

/// What one thread keeps from frame to frame, so that memory is asked for once.
struct Worker<'f, 'a> {
    shared: &'f Frames<'a>,
    source: &'f Mutex<Reader<'a>>,
    places: Places<'a>,
    packed: Vec<u8>,
    unpacked: Vec<u8>,
    zstd: zstd::bulk::Decompressor<'static>,
    /// To make files from, if the frames are those of a patch file.
    bases: Option<Bases<'a>>,
}

impl<'a> Frames<'a> {
    pub(super) fn new(
        wanted: &'a Wanted<'a>,
        sources: Vec<&'a mut dyn FrameSource>,
        work: Work<'a>,
        meter: &'a Meter<'a>,
    ) -> Self {
        let mut runs = wanted.frames_of_runs().into_iter();
        // Each has its first run before any thread starts: the first run may have been asked for already, by the first
        // source.
        let begins = |image| Mutex::new(Reader { image, run: runs.next().unwrap_or_default() });
        Self {
            wanted,
            root: work.root,
            metadata: work.metadata,
            sources: sources.into_iter().map(begins).collect(),
            runs: Mutex::new(runs),
            threads: AtomicUsize::new(0),
            chain: Chain::default(),
            stop: work.stop,
            again: AtomicU64::new(0),
            failed: Mutex::default(),
            meter,
        }
    }

    /// How many frames had to be fetched twice.
    pub(super) fn fetched_again(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }

    /// The files that were not made, because their patches or what those start from are wrong.
    pub(super) fn failed(self) -> Vec<u32> {
        self.failed.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the file came out right. If not, that is an error, unless it was made with a patch.
    fn check(
        &self,
        number: u32,
        entry: &Entry,
        content: &Content,
        found: Sha256,
    ) -> Result<bool, InstallError> {
        if found == content.sha256 {
            return Ok(true);
        }
        if self.wanted.patch.is_none() {
            let path = name(&entry.path);
            return Err(InstallError::Content { path, expected: content.sha256, found });
        }
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        Ok(false)
    }

    /// The work of one thread: frames until there are none left, or until a thread has failed.
    pub(super) fn work(&self, flusher: &Flusher) -> Result<(), InstallError> {
        let mut stop = StopOnFailure { chain: &self.chain, done: false };
        let largest = |of: fn(&PlacedFrame) -> u32| self.wanted.largest(of) as usize;
        let zstd = decompressor()?;
        let number = self.threads.fetch_add(1, Ordering::Relaxed);
        let Some(source) = self.sources.iter().cycle().nth(number) else { return Ok(()) };
        let mut worker = Worker {
            shared: self,
            source,
            places: Places::new(self.root),
            packed: Vec::with_capacity(largest(|f| f.frame.packed)),
            unpacked: Vec::with_capacity(largest(|f| f.frame.unpacked)),
            zstd,
            bases: self.wanted.patch.map(|patch| Bases::new(patch.seed)),
        };
        while let Some(unpacked) = worker.frame()? {
            flusher.wrote(unpacked);
        }
        stop.done = true;
        Ok(())
    }
}

impl Worker<'_, '_> {
    /// One frame; how many bytes were in it, or `None` if there are no more.
    fn frame(&mut self) -> Result<Option<u64>, InstallError> {
        let Some((number, frame)) = self.read()? else { return Ok(None) };
        unpack(&mut self.zstd, number, &frame, &self.packed, &mut self.unpacked)?;
        let unpacked = std::mem::take(&mut self.unpacked);
        let written = self.files(&frame, &unpacked);
        self.unpacked = unpacked;
        if !written? {
            return Ok(None);
        }
        self.shared.meter.add(frame.frame.packed.into());
        Ok(Some(frame.frame.unpacked.into()))
    }

    /// The next frame, verified, in `self.packed`. `None`: no frame is left, or the work was stopped.
    fn read(&mut self) -> Result<Option<(usize, PlacedFrame)>, InstallError> {
        let shared = self.shared;
        if shared.stop.load(Ordering::Relaxed) {
            shared.chain.stop();
        }
        let (number, frame) = {
            let mut reader = self.source.lock().unwrap_or_else(PoisonError::into_inner);
            if reader.run.is_empty() {
                let next = shared.runs.lock().unwrap_or_else(PoisonError::into_inner).next();
                reader.run = next.unwrap_or_default();
            }
            let next = reader.run.next().and_then(|next| shared.wanted.frames.get(next));
            let Some((number, frame)) = next.filter(|_| !shared.chain.is_stopped()) else {
                return Ok(None);
            };
            reader.image.read_frame(frame, &mut self.packed)?;
            (*number, *frame)
        };
        if frame.frame.is(&self.packed) {
            return Ok(Some((number, frame)));
        }
        shared.again.fetch_add(1, Ordering::Relaxed);
        let mut reader = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.image.read_again(&frame, &mut self.packed)? {
            Ok(Some((number, frame)))
        } else {
            Err(InstallError::Frame { number })
        }
    }

    /// Writes what the frame holds; false if the work was stopped.
    fn files(&mut self, frame: &PlacedFrame, unpacked: &[u8]) -> Result<bool, InstallError> {
        let wanted = self.shared.wanted;
        let parts = wanted.parts(frame);
        if let Some(bases) = &mut self.bases {
            bases.expect(parts.iter().filter_map(|part| Some((part.patch.as_ref()?, part.from))));
        }
        // First the file that goes on in the next frame: another thread may wait for it.
        for part in parts.iter().filter(|p| p.is_first() && !p.is_last()) {
            self.begin(part, unpacked)?;
        }
        for part in parts.iter().filter(|p| p.is_first() && p.is_last()) {
            self.whole(part, unpacked)?;
        }
        // Last what this thread itself may have to wait for.
        for part in parts.iter().filter(|p| !p.is_first()) {
            if !self.go_on(part, unpacked)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A file that lies in this frame.
    fn whole(&mut self, part: &Part, unpacked: &[u8]) -> Result<(), InstallError> {
        let Some((entry, content)) = self.shared.wanted.file(part.entry) else { return Ok(()) };
        let bytes = &*self.bytes(part, unpacked);
        if !self.shared.check(part.entry, entry, content, Sha256::of(bytes))? {
            return Ok(());
        }
        let fd = file::create(&mut self.places, entry)?;
        file::write(fd.as_fd(), entry, content, 0, bytes)?;
        file::finish(self.shared.metadata, fd.as_fd(), entry, content)
    }

    /// The first part of a file.
    fn begin(&mut self, part: &Part, unpacked: &[u8]) -> Result<(), InstallError> {
        let Some((entry, content)) = self.shared.wanted.file(part.entry) else { return Ok(()) };
        let bytes = &*self.bytes(part, unpacked);
        let fd = file::create(&mut self.places, entry)?;
        let file = Arc::new(Shared::new(fd, part.stored));
        let hasher = sha2::Sha256::new();
        self.part(part, bytes, Link { file, hasher }, entry, content)
    }

    /// A later part of a file; false if the work was stopped.
    fn go_on(&mut self, part: &Part, unpacked: &[u8]) -> Result<bool, InstallError> {
        let Some((entry, content)) = self.shared.wanted.file(part.entry) else { return Ok(true) };
        let bytes = &*self.bytes(part, unpacked);
        let Some(link) = self.shared.chain.take(part.entry, part.from) else { return Ok(false) };
        self.part(part, bytes, link, entry, content)?;
        Ok(true)
    }

    /// The file's bytes that a part makes.
    fn bytes<'u>(&mut self, part: &Part, unpacked: &'u [u8]) -> Cow<'u, [u8]> {
        let bytes = unpacked.get(part.range.clone()).unwrap_or_default();
        match (&mut self.bases, &part.patch) {
            (Some(bases), Some(piece)) => Cow::Owned(bases.apply(piece, bytes)),
            _ => Cow::Borrowed(bytes),
        }
    }

    fn part(
        &mut self,
        part: &Part,
        bytes: &[u8],
        link: Link,
        entry: &Entry,
        content: &Content,
    ) -> Result<(), InstallError> {
        let Link { file: shared, mut hasher } = link;
        hasher.update(bytes);
        let mut right = true;
        if part.is_last() {
            let found = Sha256(hasher.finalize().into());
            right = self.shared.check(part.entry, entry, content, found)?;
        } else {
            let link = Link { file: Arc::clone(&shared), hasher };
            self.shared.chain.give(part.entry, part.end(), link);
        }
        // Written after the digest has been passed on, so that only digests wait for each other.
        file::write(shared.fd.as_fd(), entry, content, part.from, bytes)?;
        if shared.wrote(bytes.len() as u64) {
            file::finish(self.shared.metadata, shared.fd.as_fd(), entry, content)?;
        }
        // Other threads may still write to it; then they write to nothing.
        if right { Ok(()) } else { self.places.remove(&entry.path) }
    }
}

/// Unpacks the packed bytes of a frame.
pub(super) fn unpack(
    zstd: &mut zstd::bulk::Decompressor<'static>,
    number: usize,
    frame: &PlacedFrame,
    packed: &[u8],
    unpacked: &mut Vec<u8>,
) -> Result<(), InstallError> {
    let expected = frame.frame.unpacked;
    let failed = |why: String| InstallError::Unpack { number, expected, why };
    // The buffer's capacity is what bounds the output.
    unpacked.clear();
    unpacked.reserve_exact(expected as usize);
    let length = zstd.decompress_to_buffer(packed, unpacked).map_err(|e| failed(e.to_string()))?;
    if length == expected as usize { Ok(()) } else { Err(failed(format!("{length} bytes"))) }
}

pub(super) fn decompressor() -> Result<zstd::bulk::Decompressor<'static>, InstallError> {
    zstd::bulk::Decompressor::new().map_err(|e| InstallError::Unpack {
        number: 0,
        expected: 0,
        why: e.to_string(),
    })
}
