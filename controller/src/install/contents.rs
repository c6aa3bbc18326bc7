//! The content of all files, from one source or another.
//!
//! Each source gives the files that the plan says, local trees and patches at once. What a local tree turns out not to have
//! any more, and what did not come out of its patch as it should, is the image's to give, so that comes last.

use std::{sync::atomic::Ordering, thread};

use rustix::io::Errno;

use super::{
    Damage, Damaged, FrameSource, InstallError, Work,
    error::name,
    flush::Flusher,
    frames::Frames,
    local::Copies,
    parts::Wanted,
    place::Places,
    progress::Meter,
    threads::{joined, on_threads, runs},
};

/// How many neighbours a thread copies at once: as many as the disk is asked for together.
const FILES: usize = 32;

/// What is fetched from a server, or wherever an image is.
#[derive(Default)]
pub struct FrameSources<'s> {
    /// The patch file that the plan was made with.
    pub patch: Option<&'s mut dyn FrameSource>,
    /// The image.
    pub image: Option<&'s mut dyn FrameSource>,
}

/// What was done for the content.
pub(super) struct Contents {
    pub(super) copied: Copied,
    pub(super) patched: Patched,
    /// What was fetched, of the patch file and of the image.
    pub(super) fetched: Unpacked,
}

/// What came out of local trees.
pub(super) struct Copied {
    pub(super) bytes: u64,
    /// What should have come, too.
    missing: Vec<u32>,
    pub(super) damaged: Damaged,
}

/// What was made with patches.
#[derive(Default)]
pub(super) struct Patched {
    pub(super) bytes: u64,
    /// What should have been made, too.
    pub(super) missing: Vec<u32>,
    /// Why the patch file could not be read to its end.
    pub(super) why: Option<String>,
    fetched: Unpacked,
}

/// What was read of a file of frames.
#[derive(Default)]
pub(super) struct Unpacked {
    pub(super) bytes: u64,
    /// How many threads did it.
    pub(super) threads: usize,
    /// How many frames were read twice.
    pub(super) again: u64,
    /// What did not come out right.
    failed: Vec<u32>,
}

impl Work<'_> {
    /// Makes all files that have content.
    pub(super) fn contents(
        self,
        sources: FrameSources<'_>,
        meter: &Meter<'_>,
    ) -> Result<Contents, InstallError> {
        let flusher = Flusher::default();
        thread::scope(|scope| {
            let flushing = scope.spawn(|| flusher.work(self.root));
            let writing = flusher.begin();
            let contents = self.from(sources, &flusher, meter);
            drop(writing);
            let flushed = joined(flushing);
            contents.and_then(|contents| flushed.map(|()| contents))
        })
    }

    /// Out of each source what the plan takes from it. What one turns out not to have, the image gives.
    fn from(
        self,
        sources: FrameSources<'_>,
        flusher: &Flusher,
        meter: &Meter<'_>,
    ) -> Result<Contents, InstallError> {
        let FrameSources { patch, image } = sources;
        let wanted = self.plan.of_patch();
        meter.expect(self.plan.local.bytes + wanted.as_ref().map_or(0, Wanted::packed));
        // At once: this waits for the disk, and that for the network.
        let (copied, patched) = thread::scope(|scope| {
            let copying = scope.spawn(|| self.copy(flusher, meter));
            let patched = self.patch(wanted.as_ref(), patch, flusher, meter);
            (joined(copying), patched)
        });
        let (copied, patched) = (copied?, patched?);
        if patched.why.is_some() {
            self.take_away(&patched.missing)?;
        }
        let mut missing = [&*copied.missing, &*patched.missing, &*self.plan.frames.files].concat();
        missing.sort_unstable();
        let mut fetched = match image {
            // An image without files has nothing but headers.
            _ if missing.is_empty() => Unpacked::default(),
            None => return Err(InstallError::Damaged(copied.damaged)),
            Some(image) => {
                let wanted = self.plan.of_image(&missing);
                meter.expect(wanted.packed());
                self.unpack(&wanted, image, flusher, meter)?
            }
        };
        fetched.bytes += patched.fetched.bytes;
        fetched.threads = fetched.threads.max(patched.fetched.threads);
        fetched.again += patched.fetched.again;
        Ok(Contents { copied, patched, fetched })
    }

    /// Makes the files that the plan has patches for.
    fn patch(
        self,
        wanted: Option<&Wanted<'_>>,
        source: Option<&mut dyn FrameSource>,
        flusher: &Flusher,
        meter: &Meter<'_>,
    ) -> Result<Patched, InstallError> {
        let plan = self.plan;
        let Some(wanted) = wanted else { return Ok(Patched::default()) };
        let all = || plan.patched.files.clone();
        let Some(source) = source else {
            return Ok(Patched { missing: all(), ..Patched::default() });
        };
        match self.unpack(wanted, source, flusher, meter) {
            Err(why) if why.is_of_source() => {
                let why = Some(why.to_string());
                Ok(Patched { missing: all(), why, ..Patched::default() })
            }
            unpacked => {
                let mut fetched =
                    unpacked.inspect_err(|_| self.stop.store(true, Ordering::Relaxed))?;
                let missing = std::mem::take(&mut fetched.failed);
                let bytes = plan.patched.bytes.saturating_sub(plan.stored_in(&missing));
                Ok(Patched { bytes, missing, why: None, fetched })
            }
        }
    }

    /// Takes away what was made of some files.
    fn take_away(self, files: &[u32]) -> Result<(), InstallError> {
        let mut places = Places::new(self.root);
        for entry in files.iter().filter_map(|number| self.plan.entry(*number)) {
            match places.remove(&entry.path) {
                Err(InstallError::System { error: Errno::NOENT, .. }) => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    /// Copies what the plan takes from local trees.
    fn copy(self, flusher: &Flusher, meter: &Meter<'_>) -> Result<Copied, InstallError> {
        let local = &self.plan.local;
        let copies = Copies::new(self.plan, self.root, self.metadata, flusher, meter);
        runs(self.limits.cores.get(), FILES, &local.files, self.stop, || copies.worker())?;
        let damaged = copies.damaged();
        let missing: Vec<u32> = damaged.iter().map(|(number, _)| *number).collect();
        let bytes = local.bytes.saturating_sub(self.plan.stored_in(&missing));
        Ok(Copied { bytes, missing, damaged: self.named(&damaged) })
    }

    /// Makes files out of frames.
    fn unpack(
        self,
        wanted: &Wanted<'_>,
        source: &mut dyn FrameSource,
        flusher: &Flusher,
        meter: &Meter<'_>,
    ) -> Result<Unpacked, InstallError> {
        let threads = wanted.workers(self.limits);
        source.expect(wanted.runs());
        let connections = wanted.connections(threads);
        let sources = if connections > 1 && source.can_split() {
            source.split(connections)
        } else {
            vec![&mut *source as &mut dyn FrameSource]
        };
        let frames = Frames::new(wanted, sources, self, meter);
        on_threads(threads, || frames.work(flusher))?;
        let again = frames.fetched_again();
        Ok(Unpacked { bytes: wanted.packed(), threads, again, failed: frames.failed() })
    }

    fn named(self, damaged: &[(u32, Damage)]) -> Damaged {
        let first = damaged
            .iter()
            .take(Damaged::NAMED)
            .filter_map(|(number, damage)| Some((name(&self.plan.entry(*number)?.path), *damage)));
        Damaged { files: damaged.len(), first: first.collect() }
    }
}
