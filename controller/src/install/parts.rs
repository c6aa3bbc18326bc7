//! Which frames hold the files that are taken out of the image, and what of each file is where. Pure.

use std::ops::Range;

use gse_protocol::{
    Index,
    index::{Content, Entry, PlacedFrame},
    patch::Piece,
};

use super::{
    Patch,
    patch::Placed,
    plan::{Limits, file},
};

/// What is read along between two frames, as it costs less than another request.
const GAP: u64 = 64 << 10;
/// How many requests may be on their way at once. Servers have other machines to serve too.
const CONNECTIONS: usize = 4;

/// A part of a file's stored bytes, as far as one frame holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The file, by its position in the index.
    pub(super) entry: u32,
    /// Where the bytes are in the unpacked frame.
    pub(super) range: Range<usize>,
    /// Where the part starts, counted in the file's stored bytes.
    pub(super) from: u64,
    /// How many of them it makes.
    pub(super) length: u64,
    /// How many stored bytes the file has.
    pub(super) stored: u64,
    /// How it makes them, if not as they are.
    pub(super) patch: Option<Piece>,
}

impl Part {
    /// Whether the file starts in this frame.
    pub(super) fn is_first(&self) -> bool {
        self.from == 0
    }

    /// Where the part ends, counted in the file's stored bytes.
    pub(super) fn end(&self) -> u64 {
        self.from + self.length
    }

    /// Whether the file ends in this frame.
    pub(super) fn is_last(&self) -> bool {
        self.end() == self.stored
    }
}

/// The files that are taken out of frames, and the frames that they lie in.
pub(super) struct Wanted<'i> {
    index: &'i Index,
    /// In the order of the tar.
    files: &'i [u32],
    /// Each with its number, in their order.
    pub(super) frames: Vec<(usize, PlacedFrame)>,
    /// Whose frames these are, if not the image's.
    pub(super) patch: Option<&'i Patch<'i>>,
}

impl<'i> Wanted<'i> {
    /// The whole image, which is one sequential read, also of frames with nothing but headers in them.
    /// `files` are all that have stored bytes, in the order of the index.
    pub(super) fn whole(index: &'i Index, files: &'i [u32]) -> Self {
        let frames = index.placed_frames().enumerate().collect();
        Self { index, files, frames, patch: None }
    }

    /// No more than these files need. They have stored bytes, and are in the order of the index.
    pub(super) fn only(index: &'i Index, files: &'i [u32]) -> Self {
        Self::whole(index, files).needed()
    }

    /// What these files need of a patch file.
    pub(super) fn patched(index: &'i Index, patch: &'i Patch<'i>, files: &'i [u32]) -> Self {
        let frames = patch.file.placed_frames().enumerate().collect();
        Self { index, files, frames, patch: Some(patch) }.needed()
    }

    fn needed(self) -> Self {
        let mut wanted = self;
        let mut frames = std::mem::take(&mut wanted.frames);
        frames.retain(|(_, frame)| !wanted.parts(frame).is_empty());
        Self { frames, ..wanted }
    }

    /// How many bytes are read from the image.
    pub(super) fn packed(&self) -> u64 {
        self.frames.iter().map(|(_, f)| u64::from(f.frame.packed)).sum()
    }

    /// The parts of the file that are read, in order and apart.
    pub(super) fn runs(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for (_, frame) in &self.frames {
            let range = frame.packed_range();
            match runs.last_mut() {
                Some(last) if last.end + GAP >= range.start => last.end = range.end,
                _ => runs.push(range),
            }
        }
        runs
    }

    /// How many connections to read by: each takes a run after the other. A few runs are read as quickly by one, as is a
    /// patch file, which has nothing that is left out.
    pub(super) fn connections(&self, threads: usize) -> usize {
        match self.patch {
            Some(_) => 1,
            None => CONNECTIONS.min(threads).min(self.runs().len() / 2),
        }
    }

    /// The frames of each run, by their place among those that are read.
    pub(super) fn frames_of_runs(&self) -> Vec<Range<usize>> {
        let until = |end| self.frames.partition_point(|(_, frame)| frame.packed_offset < end);
        let mut from = 0;
        let runs = self.runs().into_iter();
        runs.map(|run| std::mem::replace(&mut from, until(run.end))..until(run.end)).collect()
    }

    /// The entry and its content, if it is a regular file.
    pub(super) fn file(&self, number: u32) -> Option<(&'i Entry, &'i Content)> {
        file(self.index, number)
    }

    /// The parts of wanted files that lie in a frame, in their order.
    pub(super) fn parts(&self, frame: &PlacedFrame) -> Vec<Part> {
        match self.patch {
            Some(patch) => self.pieces(patch, frame),
            None => self.stretches(frame),
        }
    }

    fn pieces(&self, patch: &Patch<'_>, frame: &PlacedFrame) -> Vec<Part> {
        let start = frame.unpacked_offset;
        let end = start + u64::from(frame.frame.unpacked);
        let first = patch.pieces.partition_point(|placed| placed.at < start);
        let inside = patch.pieces.iter().skip(first).take_while(|placed| placed.at < end);
        let wanted = inside.filter(|placed| self.files.binary_search(&placed.piece.entry).is_ok());
        let parts = wanted.filter_map(|Placed { piece, at, from }| {
            // It lies in the frame, as Table::check made sure.
            let at = (at - start) as usize;
            Some(Part {
                entry: piece.entry,
                range: at..at + piece.takes as usize,
                from: *from,
                length: piece.makes.into(),
                stored: self.file(piece.entry)?.1.stored(),
                patch: Some(*piece),
            })
        });
        parts.collect()
    }

    fn stretches(&self, frame: &PlacedFrame) -> Vec<Part> {
        let start = frame.unpacked_offset;
        let end = start + u64::from(frame.frame.unpacked);
        // Files are in the order of their data and apart, as Index::check made sure.
        let first = self.files.partition_point(|n| {
            self.file(*n).is_some_and(|(_, c)| c.offset + c.stored() <= start)
        });
        let parts = self.files.iter().skip(first).map_while(|number| {
            let entry = *number;
            let (_, content) = self.file(entry)?;
            let stored = content.stored();
            let from = content.offset.max(start);
            let to = (content.offset + stored).min(end);
            // Both lie in the frame, which fits into memory.
            (from < to).then(|| Part {
                entry,
                range: (from - start) as usize..(to - start) as usize,
                from: from - content.offset,
                length: to - from,
                stored,
                patch: None,
            })
        });
        parts.collect()
    }

    /// The most that `of` says of any frame.
    pub(super) fn largest(&self, of: fn(&PlacedFrame) -> u32) -> u32 {
        self.frames.iter().map(|(_, frame)| of(frame)).max().unwrap_or(0)
    }

    /// How many threads to use. Each holds one packed and one unpacked frame.
    pub(super) fn workers(&self, limits: &Limits) -> usize {
        let each = u64::from(self.largest(|f| f.frame.packed))
            + u64::from(self.largest(|f| f.frame.unpacked));
        let fit = (limits.memory / each.max(1)).max(1);
        // One more than there are cores, so that one can wait for the image while the others work.
        let wanted = limits.cores.get().saturating_add(1).min(self.frames.len().max(1));
        usize::try_from(fit).unwrap_or(usize::MAX).min(wanted)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use std::num::NonZero;

    use gse_protocol::{
        Serial, Sha256,
        index::{FORMAT, Frame, Kind, Time},
    };
    use proptest::prelude::*;

    use super::{super::plan::Plan, *};

    fn entry(path: String, kind: Kind) -> Entry {
        let path = path.into_bytes();
        Entry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime: Time::default(), xattrs: vec![] }
    }

    fn file(number: usize, offset: u64, size: u64) -> Entry {
        let content = Content { size, offset, sha256: Sha256([0; 32]), extents: None };
        entry(format!("f{number}"), Kind::File(content))
    }

    fn index(files: &[(u64, u64)], frames: &[u32]) -> Index {
        let mut entries = vec![entry(String::new(), Kind::Directory)];
        let mut at = 0;
        for (number, (gap, size)) in files.iter().enumerate() {
            entries.push(file(number, at + gap, *size));
            at += gap + size;
        }
        let left = at.saturating_sub(frames.iter().map(|f| u64::from(*f)).sum());
        let frames = frames.iter().copied().chain((left > 0).then_some(left as u32));
        let frames =
            frames.map(|unpacked| Frame { packed: 1, unpacked, sha256: Sha256([0; 32]) }).collect();
        let index = Index {
            format: FORMAT,
            name: "t".into(),
            version: "1".into(),
            serial: Serial(1),
            entries,
            frames,
            patches: vec![],
        };
        index.check().unwrap();
        index
    }

    fn all_files(index: &Index) -> Vec<u32> {
        Plan::new(index, &[], None).unwrap().frames.files
    }

    proptest! {
        #[test]
        fn each_stored_byte_is_in_exactly_one_part(
            files in prop::collection::vec((0_u64..600, 0_u64..3000), 0..30),
            frames in prop::collection::vec(1_u32..1000, 0..30),
        ) {
            let index = index(&files, &frames);
            let all = all_files(&index);
            let wanted = Wanted::whole(&index, &all);
            let mut next: Vec<u64> = vec![0; index.entries.len()];
            for (_, frame) in &wanted.frames {
                for part in wanted.parts(frame) {
                    let (_, content) = wanted.file(part.entry).unwrap();
                    prop_assert_eq!(part.from, next[part.entry as usize]);
                    prop_assert_eq!(
                        frame.unpacked_offset + part.range.start as u64,
                        content.offset + part.from
                    );
                    prop_assert!(part.range.end <= frame.frame.unpacked as usize);
                    prop_assert_eq!(part.is_first(), part.from == 0);
                    next[part.entry as usize] = part.end();
                    prop_assert_eq!(part.is_last(), part.end() == content.size);
                }
            }
            for (number, (_, size)) in files.iter().enumerate() {
                prop_assert_eq!(next[number + 1], *size);
            }
        }

        #[test]
        fn the_frames_of_some_files_are_those_that_hold_a_byte_of_them(
            files in prop::collection::vec((0_u64..600, 0_u64..3000), 0..30),
            frames in prop::collection::vec(1_u32..1000, 0..30),
            taken in prop::collection::vec(any::<bool>(), 31),
        ) {
            let index = index(&files, &frames);
            let taken: Vec<u32> =
                all_files(&index).into_iter().filter(|n| taken[*n as usize]).collect();
            let wanted = Wanted::only(&index, &taken);
            let runs = wanted.frames_of_runs();
            let all: Vec<usize> = runs.iter().cloned().flatten().collect();
            prop_assert!(all.iter().copied().eq(0..wanted.frames.len()));
            for (frames, run) in runs.iter().zip(wanted.runs()) {
                prop_assert!(!frames.is_empty());
                prop_assert_eq!(wanted.frames[frames.start].1.packed_offset, run.start);
            }
            for (number, frame) in index.placed_frames().enumerate() {
                let (start, end) =
                    (frame.unpacked_offset, frame.unpacked_offset + u64::from(frame.frame.unpacked));
                let needed = taken.iter().any(|n| {
                    let (_, content) = wanted.file(*n).unwrap();
                    content.offset < end && content.offset + content.size > start
                });
                prop_assert_eq!(wanted.frames.iter().any(|(n, _)| *n == number), needed);
            }
            let bytes: u64 = wanted.frames.iter().flat_map(|(_, frame)| wanted.parts(frame))
                .map(|part| part.range.len() as u64).sum();
            let size = |n: &u32| wanted.file(*n).unwrap().1.size;
            prop_assert_eq!(bytes, taken.iter().map(size).sum::<u64>());
        }
    }

    #[test]
    fn threads_are_as_many_as_memory_holds_frames_and_at_least_one() {
        let mut index = index(&[(0, 12)], &[1; 12]);
        index.frames =
            vec![Frame { packed: 4 << 20, unpacked: 8 << 20, sha256: Sha256([0; 32]) }; 12];
        let files = all_files(&index);
        let image = Wanted::whole(&index, &files);
        let limits = |memory, cores| Limits { memory, cores: NonZero::new(cores).unwrap() };
        for (memory, cores, wanted) in
            [(36 << 20, 4, 3), (1 << 30, 4, 5), (1 << 30, 64, 12), (0, 4, 1), (24 << 20, 1, 2)]
        {
            assert_eq!(
                image.workers(&limits(memory, cores)),
                wanted,
                "{memory} bytes, {cores} cores"
            );
        }
    }
}
