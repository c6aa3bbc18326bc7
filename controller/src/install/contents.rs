//! The content of all files, from one source after the other.
//!
//! Each source gives the files that the plan says. What a local tree turns out not to have any more is
//! the image's to give, so that comes last.

use std::thread;

use super::{
    Damage, Damaged, FrameSource, InstallError, LocalTree, Work,
    error::name,
    flush::Flusher,
    frames::Frames,
    local::Copies,
    parts::Wanted,
    plan::Source,
    progress::Meter,
    threads::{each, joined, on_threads},
};

/// How many neighbours a thread copies at once.
const FILES: usize = 8;

/// What there is to take content from.
pub(super) enum Sources<'t, 'i> {
    /// An image.
    Image(&'i mut dyn FrameSource),
    /// A local tree, and an image for what is damaged there.
    Tree(&'t LocalTree, Option<&'i mut dyn FrameSource>),
}

impl Sources<'_, '_> {
    /// The cheapest.
    pub(super) fn first(&self) -> Source {
        match self {
            Self::Image(_) => Source::Frames,
            Self::Tree(..) => Source::Local,
        }
    }
}

/// What was done for the content.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) damaged: Damaged,
    /// Bytes out of the local tree.
    pub(super) copied: u64,
    pub(super) threads: usize,
    pub(super) fetched_again: u64,
}

impl Work<'_> {
    /// Makes all files that have content.
    pub(super) fn contents(
        self,
        sources: Sources<'_, '_>,
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

    fn from(
        self,
        sources: Sources<'_, '_>,
        flusher: &Flusher,
        meter: &Meter<'_>,
    ) -> Result<Contents, InstallError> {
        let index = self.plan.index;
        let (tree, image) = match sources {
            Sources::Image(image) => {
                let wanted = Wanted::whole(index, &self.plan.frames.files);
                return self.unpack(&wanted, image, flusher, meter, Contents::default());
            }
            Sources::Tree(tree, image) => (tree, image),
        };
        let (contents, damaged) = self.copy(tree, flusher, meter)?;
        match image {
            _ if damaged.is_empty() => Ok(contents),
            None => Err(InstallError::Damaged(contents.damaged)),
            Some(image) => {
                let wanted = Wanted::only(index, &damaged);
                self.unpack(&wanted, image, flusher, meter, contents)
            }
        }
    }

    /// Copies what the plan takes from the local tree, and says which files are damaged there.
    fn copy(
        self,
        tree: &LocalTree,
        flusher: &Flusher,
        meter: &Meter<'_>,
    ) -> Result<(Contents, Vec<u32>), InstallError> {
        let local = &self.plan.local;
        let threads = self.limits.cores.get();
        meter.expect(local.bytes);
        let copies = Copies::new(self.plan, tree, self.root, self.metadata, flusher, meter);
        each(threads, FILES, &local.files, || copies.worker())?;
        let damaged = copies.damaged();
        let numbers: Vec<u32> = damaged.iter().map(|(number, _)| *number).collect();
        let lost = self.plan.stored_in(&numbers);
        let contents = Contents {
            damaged: self.named(&damaged),
            copied: local.bytes.saturating_sub(lost),
            threads,
            fetched_again: 0,
        };
        Ok((contents, numbers))
    }

    /// Takes files out of the image.
    fn unpack(
        self,
        wanted: &Wanted<'_>,
        image: &mut dyn FrameSource,
        flusher: &Flusher,
        meter: &Meter<'_>,
        before: Contents,
    ) -> Result<Contents, InstallError> {
        let threads = wanted.workers(self.limits);
        meter.expect(wanted.packed());
        let frames = Frames::new(wanted, image, self.root, self.metadata, meter);
        on_threads(threads, || frames.work(flusher))?;
        let fetched_again = frames.fetched_again();
        Ok(Contents { threads: threads.max(before.threads), fetched_again, ..before })
    }

    fn named(self, damaged: &[(u32, Damage)]) -> Damaged {
        let first = damaged
            .iter()
            .take(Damaged::NAMED)
            .filter_map(|(number, damage)| Some((name(&self.plan.entry(*number)?.path), *damage)));
        Damaged { files: damaged.len(), first: first.collect() }
    }
}
