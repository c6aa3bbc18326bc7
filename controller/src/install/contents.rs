//! The content of all files, from one source after the other.
//!
//! Each source gives the files that the plan says. What a local tree turns out not to have any more, and what
//! did not come out of its patch as it should, is the image's to give, so that comes last.

use std::thread;

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
    threads::{each, joined, on_threads},
};

/// How many neighbours a thread copies at once.
const FILES: usize = 8;

/// What is fetched from a server, or wherever an image is.
#[derive(Default)]
pub struct FrameSources<'s> {
    /// The patch file that the plan was made with.
    pub patch: Option<&'s mut dyn FrameSource>,
    /// The image.
    pub image: Option<&'s mut dyn FrameSource>,
}

/// What was done for the content.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) damaged: Damaged,
    /// Bytes out of local trees.
    pub(super) copied: u64,
    /// Bytes made with patches.
    pub(super) patched: u64,
    /// Files that were not, though they should have been.
    pub(super) unpatched: usize,
    /// Why the patch file could not be read to its end.
    pub(super) no_patches: Option<String>,
    /// Bytes read of the patch file and of the image.
    pub(super) fetched: u64,
    pub(super) threads: usize,
    pub(super) fetched_again: u64,
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
            let contents = self.from(sources, &flusher, meter);
            flusher.end();
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
        let plan = self.plan;
        let mut contents = Contents::default();
        let mut missing = self.copy(flusher, meter, &mut contents)?;
        match (plan.of_patch(), sources.patch) {
            (Some(wanted), Some(patch)) => {
                let failed = match self.unpack(&wanted, patch, flusher, meter, &mut contents) {
                    Err(why) if why.is_of_source() => {
                        contents.no_patches = Some(why.to_string());
                        self.take_away(&plan.patched.files)?
                    }
                    failed => failed?,
                };
                contents.unpatched = failed.len();
                contents.patched = plan.patched.bytes.saturating_sub(plan.stored_in(&failed));
                missing.extend(failed);
            }
            (Some(_), None) => missing.extend(&plan.patched.files),
            (None, _) => {}
        }
        missing.extend(&plan.frames.files);
        missing.sort_unstable();
        match sources.image {
            // An image without files has nothing but headers.
            _ if missing.is_empty() => {}
            None => return Err(InstallError::Damaged(contents.damaged)),
            Some(image) => {
                let wanted = plan.of_image(&missing);
                self.unpack(&wanted, image, flusher, meter, &mut contents)?;
            }
        }
        Ok(contents)
    }

    /// Takes away what was made of some files, and returns them.
    fn take_away(self, files: &[u32]) -> Result<Vec<u32>, InstallError> {
        let mut places = Places::new(self.root);
        for entry in files.iter().filter_map(|number| self.plan.entry(*number)) {
            match places.remove(&entry.path) {
                Err(InstallError::System { error: Errno::NOENT, .. }) => {}
                removed => removed?,
            }
        }
        Ok(files.to_vec())
    }

    /// Copies what the plan takes from local trees, and returns what is damaged there.
    fn copy(
        self,
        flusher: &Flusher,
        meter: &Meter<'_>,
        contents: &mut Contents,
    ) -> Result<Vec<u32>, InstallError> {
        let local = &self.plan.local;
        if local.files.is_empty() {
            return Ok(Vec::new());
        }
        let threads = self.limits.cores.get();
        meter.expect(local.bytes);
        let copies = Copies::new(self.plan, self.root, self.metadata, flusher, meter);
        each(threads, FILES, &local.files, || copies.worker())?;
        let damaged = copies.damaged();
        let numbers: Vec<u32> = damaged.iter().map(|(number, _)| *number).collect();
        contents.damaged = self.named(&damaged);
        contents.copied = local.bytes.saturating_sub(self.plan.stored_in(&numbers));
        contents.threads = threads;
        Ok(numbers)
    }

    /// Makes files out of frames, and returns those that did not come out right.
    fn unpack(
        self,
        wanted: &Wanted<'_>,
        source: &mut dyn FrameSource,
        flusher: &Flusher,
        meter: &Meter<'_>,
        contents: &mut Contents,
    ) -> Result<Vec<u32>, InstallError> {
        let threads = wanted.workers(self.limits);
        meter.expect(wanted.packed());
        source.expect(wanted.runs());
        let connections = wanted.connections(threads);
        let sources = if connections > 1 && source.can_split() {
            source.split(connections)
        } else {
            vec![&mut *source as &mut dyn FrameSource]
        };
        let frames = Frames::new(wanted, sources, self.root, self.metadata, meter);
        on_threads(threads, || frames.work(flusher))?;
        contents.threads = threads.max(contents.threads);
        contents.fetched += wanted.packed();
        contents.fetched_again += frames.fetched_again();
        Ok(frames.failed())
    }

    fn named(self, damaged: &[(u32, Damage)]) -> Damaged {
        let first = damaged
            .iter()
            .take(Damaged::NAMED)
            .filter_map(|(number, damage)| Some((name(&self.plan.entry(*number)?.path), *damage)));
        Damaged { files: damaged.len(), first: first.collect() }
    }
}
