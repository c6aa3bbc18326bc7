//! Content out of the image: frames are read one after another, and checked, unpacked and written by
//! several threads at once.
//!
//! There is no queue. Whoever is free takes the next frame under a lock that makes reading sequential,
//! and does all of its work; so memory is one packed and one unpacked frame a thread, and no more is
//! read than can be written.

use std::{
    ops::Range,
    os::fd::{AsFd as _, BorrowedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use gse_protocol::{
    Sha256,
    index::{Content, Entry, PlacedFrame},
};
use sha2::Digest as _;

use super::{
    FrameSource, InstallError,
    chain::{Chain, Link, Shared, StopOnFailure},
    error::name,
    file,
    flush::Flusher,
    metadata::Metadata,
    parts::{Part, Wanted},
    place::Places,
    progress::Meter,
};

/// What all threads share.
pub(super) struct Frames<'a> {
    wanted: &'a Wanted<'a>,
    root: BorrowedFd<'a>,
    metadata: Metadata,
    source: Mutex<Reader<'a>>,
    chain: Chain,
    again: AtomicU64,
    meter: &'a Meter<'a>,
}

struct Reader<'a> {
    image: &'a mut dyn FrameSource,
    next: usize,
}

/// What one thread keeps from frame to frame, so that memory is asked for once.
struct Worker<'f, 'a> {
    shared: &'f Frames<'a>,
    places: Places<'a>,
    packed: Vec<u8>,
    unpacked: Vec<u8>,
    zstd: zstd::bulk::Decompressor<'static>,
}

impl<'a> Frames<'a> {
    pub(super) fn new(
        wanted: &'a Wanted<'a>,
        image: &'a mut dyn FrameSource,
        root: BorrowedFd<'a>,
        metadata: Metadata,
        meter: &'a Meter<'a>,
    ) -> Self {
        Self {
            wanted,
            root,
            metadata,
            source: Mutex::new(Reader { image, next: 0 }),
            chain: Chain::default(),
            again: AtomicU64::new(0),
            meter,
        }
    }

    /// How many frames had to be fetched twice.
    pub(super) fn fetched_again(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }

    /// The work of one thread: frames until there are none left, or until a thread has failed.
    pub(super) fn work(&self, flusher: &Flusher) -> Result<(), InstallError> {
        let mut stop = StopOnFailure { chain: &self.chain, done: false };
        let largest = |of: fn(&PlacedFrame) -> u32| self.wanted.largest(of) as usize;
        let zstd = zstd::bulk::Decompressor::new().map_err(|e| InstallError::Unpack {
            number: 0,
            expected: 0,
            why: e.to_string(),
        })?;
        let mut worker = Worker {
            shared: self,
            places: Places::new(self.root),
            packed: Vec::with_capacity(largest(|f| f.frame.packed)),
            unpacked: Vec::with_capacity(largest(|f| f.frame.unpacked)),
            zstd,
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
        self.unpack(number, &frame)?;
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
        let (number, frame, origin) = {
            let mut reader = shared.source.lock().unwrap_or_else(PoisonError::into_inner);
            let next = shared.wanted.frames.get(reader.next);
            let Some((number, frame)) = next.filter(|_| !shared.chain.is_stopped()) else {
                return Ok(None);
            };
            reader.next += 1;
            (*number, *frame, reader.image.read_frame(frame, None, &mut self.packed)?)
        };
        if self.is_right(&frame) {
            return Ok(Some((number, frame)));
        }
        shared.again.fetch_add(1, Ordering::Relaxed);
        let mut reader = shared.source.lock().unwrap_or_else(PoisonError::into_inner);
        reader.image.read_frame(&frame, Some(origin), &mut self.packed)?;
        drop(reader);
        if self.is_right(&frame) {
            Ok(Some((number, frame)))
        } else {
            Err(InstallError::Frame { number })
        }
    }

    fn is_right(&self, frame: &PlacedFrame) -> bool {
        self.packed.len() == frame.frame.packed as usize
            && Sha256::of(&self.packed) == frame.frame.sha256
    }

    fn unpack(&mut self, number: usize, frame: &PlacedFrame) -> Result<(), InstallError> {
        let expected = frame.frame.unpacked;
        let failed = |why: String| InstallError::Unpack { number, expected, why };
        // The buffer's capacity is what bounds the output.
        self.unpacked.clear();
        self.unpacked.reserve_exact(expected as usize);
        let length = self
            .zstd
            .decompress_to_buffer(&self.packed, &mut self.unpacked)
            .map_err(|e| failed(e.to_string()))?;
        if length == expected as usize { Ok(()) } else { Err(failed(format!("{length} bytes"))) }
    }

    /// Writes what the frame holds; false if the work was stopped.
    fn files(&mut self, frame: &PlacedFrame, unpacked: &[u8]) -> Result<bool, InstallError> {
        let wanted = self.shared.wanted;
        let bytes =
            |part: &Part| unpacked.get::<Range<usize>>(part.range.clone()).unwrap_or_default();
        // First the file that goes on in the next frame: another thread may wait for it.
        for part in wanted.parts(frame).filter(|p| p.is_first() && !p.is_last()) {
            self.begin(&part, bytes(&part))?;
        }
        for part in wanted.parts(frame).filter(|p| p.is_first() && p.is_last()) {
            self.whole(&part, bytes(&part))?;
        }
        // Last what this thread itself may have to wait for.
        for part in wanted.parts(frame).filter(|p| !p.is_first()) {
            if !self.go_on(&part, bytes(&part))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A file that lies in this frame.
    fn whole(&mut self, part: &Part, bytes: &[u8]) -> Result<(), InstallError> {
        let Some((entry, content)) = self.shared.wanted.file(part.entry) else { return Ok(()) };
        check(entry, content, Sha256::of(bytes))?;
        let fd = file::create(&mut self.places, entry)?;
        file::write(fd.as_fd(), entry, content, 0, bytes)?;
        file::finish(self.shared.metadata, fd.as_fd(), entry, content)
    }

    /// The first part of a file.
    fn begin(&mut self, part: &Part, bytes: &[u8]) -> Result<(), InstallError> {
        let Some((entry, content)) = self.shared.wanted.file(part.entry) else { return Ok(()) };
        let fd = file::create(&mut self.places, entry)?;
        let file = Arc::new(Shared::new(fd, part.stored));
        let hasher = sha2::Sha256::new();
        self.part(part, bytes, Link { file, hasher }, entry, content)
    }

    /// A later part of a file; false if the work was stopped.
    fn go_on(&self, part: &Part, bytes: &[u8]) -> Result<bool, InstallError> {
        let Some((entry, content)) = self.shared.wanted.file(part.entry) else { return Ok(true) };
        let Some(link) = self.shared.chain.take(part.entry, part.from) else { return Ok(false) };
        self.part(part, bytes, link, entry, content)?;
        Ok(true)
    }

    fn part(
        &self,
        part: &Part,
        bytes: &[u8],
        link: Link,
        entry: &Entry,
        content: &Content,
    ) -> Result<(), InstallError> {
        let Link { file: shared, mut hasher } = link;
        hasher.update(bytes);
        if part.is_last() {
            check(entry, content, Sha256(hasher.finalize().into()))?;
        } else {
            let link = Link { file: Arc::clone(&shared), hasher };
            self.shared.chain.give(part.entry, part.end(), link);
        }
        // Written after the digest has been passed on, so that only digests wait for each other.
        file::write(shared.fd.as_fd(), entry, content, part.from, bytes)?;
        if shared.wrote(bytes.len() as u64) {
            file::finish(self.shared.metadata, shared.fd.as_fd(), entry, content)?;
        }
        Ok(())
    }
}

fn check(entry: &Entry, content: &Content, found: Sha256) -> Result<(), InstallError> {
    if found == content.sha256 {
        return Ok(());
    }
    Err(InstallError::Content { path: name(&entry.path), expected: content.sha256, found })
}
