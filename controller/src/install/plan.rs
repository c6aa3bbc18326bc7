//! What is where: the parts of files in each frame, and how many threads fit into the memory. Pure.

use std::{num::NonZero, ops::Range};

use gse_protocol::{
    Index,
    index::{Content, Entry, Kind, PlacedFrame},
};

use super::InstallError;
use super::error::name;

/// A part of a file's stored bytes, as far as one frame holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The file, by its position in the index.
    pub(super) entry: usize,
    /// Where the bytes are in the unpacked frame.
    pub(super) range: Range<usize>,
    /// Where the part starts, counted in the file's stored bytes.
    pub(super) from: u64,
    /// How many stored bytes the file has.
    pub(super) stored: u64,
}

impl Part {
    /// Whether the file starts in this frame.
    pub(super) fn is_first(&self) -> bool {
        self.from == 0
    }

    /// Where the part ends, counted in the file's stored bytes.
    pub(super) fn end(&self) -> u64 {
        self.from + self.range.len() as u64
    }

    /// Whether the file ends in this frame.
    pub(super) fn is_last(&self) -> bool {
        self.end() == self.stored
    }
}

/// An index, arranged for the work.
pub(super) struct Plan<'i> {
    pub(super) index: &'i Index,
    pub(super) frames: Vec<PlacedFrame>,
    /// Directories but the root, parents before what is in them.
    pub(super) directories: Vec<u32>,
    /// Files that the tar has bytes of, in the order of the tar.
    files: Vec<u32>,
    /// Everything else but hard links: files without stored bytes, symbolic links, devices, pipes.
    pub(super) nodes: Vec<u32>,
    pub(super) hardlinks: Vec<u32>,
    /// Bytes of all files, without holes.
    pub(super) stored: u64,
}

impl<'i> Plan<'i> {
    pub(super) fn new(index: &'i Index) -> Result<Self, InstallError> {
        let mut plan = Self {
            index,
            frames: index.placed_frames().collect(),
            directories: Vec::new(),
            files: Vec::new(),
            nodes: Vec::new(),
            hardlinks: Vec::new(),
            stored: 0,
        };
        for (number, entry) in (0..).zip(&index.entries) {
            // chown takes this number for "leave it".
            if entry.uid == u32::MAX || entry.gid == u32::MAX {
                let path = name(&entry.path);
                return Err(InstallError::Owner { path, uid: entry.uid, gid: entry.gid });
            }
            match &entry.kind {
                Kind::Directory if number == 0 => {}
                Kind::Directory => plan.directories.push(number),
                Kind::Hardlink(_) => plan.hardlinks.push(number),
                Kind::File(content) if content.stored() > 0 => {
                    plan.files.push(number);
                    plan.stored = plan.stored.saturating_add(content.stored());
                }
                _ => plan.nodes.push(number),
            }
        }
        Ok(plan)
    }

    pub(super) fn entry(&self, number: usize) -> Option<&'i Entry> {
        self.index.entries.get(number)
    }

    /// The entry and its content, if it is a regular file.
    pub(super) fn file(&self, number: usize) -> Option<(&'i Entry, &'i Content)> {
        let entry = self.entry(number)?;
        match &entry.kind {
            Kind::File(content) => Some((entry, content)),
            _ => None,
        }
    }

    /// The parts of files that lie in a frame, in their order.
    pub(super) fn parts(&self, frame: &PlacedFrame) -> impl Iterator<Item = Part> + '_ {
        let start = frame.unpacked_offset;
        let end = start + u64::from(frame.frame.unpacked);
        // Files are in the order of their data and apart, as Index::check made sure.
        let first = self.files.partition_point(|n| {
            self.file(*n as usize).is_some_and(|(_, c)| c.offset + c.stored() <= start)
        });
        self.files.iter().skip(first).map_while(move |number| {
            let entry = *number as usize;
            let (_, content) = self.file(entry)?;
            let stored = content.stored();
            let from = content.offset.max(start);
            let to = (content.offset + stored).min(end);
            // Both lie in the frame, which fits into memory.
            (from < to).then(|| Part {
                entry,
                range: (from - start) as usize..(to - start) as usize,
                from: from - content.offset,
                stored,
            })
        })
    }

    /// How many threads to use. Each holds one packed and one unpacked frame.
    pub(super) fn workers(&self, limits: &Limits) -> usize {
        let largest = |of: fn(&PlacedFrame) -> u32| self.frames.iter().map(of).max().unwrap_or(0);
        let each =
            u64::from(largest(|f| f.frame.packed)) + u64::from(largest(|f| f.frame.unpacked));
        let fit = (limits.memory / each.max(1)).max(1);
        // One more than there are cores, so that one can wait for the image while the others work.
        let wanted = limits.cores.get().saturating_add(1).min(self.frames.len().max(1));
        usize::try_from(fit).unwrap_or(usize::MAX).min(wanted)
    }
}

/// What an installation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that frames in memory may take. One thread works whatever the limit.
    pub memory: u64,
    /// How many cores to keep busy.
    pub cores: NonZero<usize>,
}

impl Default for Limits {
    /// 36 MiB, which leaves room for a large index below 64 MiB in all, and the cores that there are.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        Self { memory: 36 << 20, cores }
    }
}

/// A run of a file's bytes to write: where in the stored bytes, and where in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Within the given part.
    pub(super) range: Range<usize>,
    /// In the file.
    pub(super) at: u64,
}

/// Where `length` stored bytes from `from` on go in the file: around its holes, if it has any.
pub(super) fn runs(content: &Content, from: u64, length: usize) -> impl Iterator<Item = Run> + '_ {
    let to = from + length as u64;
    let whole = content.extents.is_none().then_some(Run { range: 0..length, at: from });
    let mut before = 0;
    let pieces = content.extents.iter().flatten().filter_map(move |extent| {
        let start = before;
        before += extent.length;
        let first = start.max(from);
        let last = before.min(to);
        (first < last).then(|| Run {
            range: (first - from) as usize..(last - from) as usize,
            at: extent.offset + (first - start),
        })
    });
    whole.into_iter().chain(pieces)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use gse_protocol::{
        Serial, Sha256,
        index::{Extent, FORMAT, Frame, Time},
    };
    use proptest::prelude::*;

    use super::*;

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
        };
        index.check().unwrap();
        index
    }

    proptest! {
        #[test]
        fn each_stored_byte_is_in_exactly_one_part(
            files in prop::collection::vec((0_u64..600, 0_u64..3000), 0..30),
            frames in prop::collection::vec(1_u32..1000, 0..30),
        ) {
            let index = index(&files, &frames);
            let plan = Plan::new(&index).unwrap();
            let mut next: Vec<u64> = vec![0; index.entries.len()];
            for frame in &plan.frames {
                for part in plan.parts(frame) {
                    let (_, content) = plan.file(part.entry).unwrap();
                    prop_assert_eq!(part.from, next[part.entry]);
                    prop_assert_eq!(
                        frame.unpacked_offset + part.range.start as u64,
                        content.offset + part.from
                    );
                    prop_assert!(part.range.end <= frame.frame.unpacked as usize);
                    prop_assert_eq!(part.is_first(), part.from == 0);
                    next[part.entry] = part.end();
                    prop_assert_eq!(part.is_last(), part.end() == content.size);
                }
            }
            for (number, (_, size)) in files.iter().enumerate() {
                prop_assert_eq!(next[number + 1], *size);
            }
        }

        #[test]
        fn runs_put_each_stored_byte_where_its_extent_is(
            extents in prop::collection::vec((0_u64..50, 1_u64..50), 0..8),
            cuts in prop::collection::vec(1_usize..60, 0..8),
        ) {
            let mut at = 0;
            let extents: Vec<Extent> = extents.into_iter().map(|(hole, length)| {
                let offset = at + hole;
                at = offset + length;
                Extent { offset, length }
            }).collect();
            let wanted: Vec<u64> =
                extents.iter().flat_map(|e| e.offset..e.offset + e.length).collect();
            let content =
                Content { size: at, offset: 0, sha256: Sha256([0; 32]), extents: Some(extents) };
            let mut found = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let length = cut.min(wanted.len() - from);
                for run in runs(&content, from as u64, length) {
                    prop_assert_eq!(run.range.start, found.len() - from);
                    found.extend(run.range.clone().zip(run.at..).map(|(_, at)| at));
                    prop_assert_eq!(found.len() - from, run.range.end);
                }
                from += length;
            }
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_file_without_holes_is_one_run() {
        let content = Content { size: 9, offset: 0, sha256: Sha256([0; 32]), extents: None };
        assert_eq!(runs(&content, 4, 5).collect::<Vec<_>>(), [Run { range: 0..5, at: 4 }]);
    }

    #[test]
    fn threads_are_as_many_as_memory_holds_frames_and_at_least_one() {
        let mut index = index(&[(0, 12)], &[1; 12]);
        index.frames =
            vec![Frame { packed: 4 << 20, unpacked: 8 << 20, sha256: Sha256([0; 32]) }; 12];
        let plan = Plan::new(&index).unwrap();
        let limits = |memory, cores| Limits { memory, cores: NonZero::new(cores).unwrap() };
        for (memory, cores, wanted) in
            [(36 << 20, 4, 3), (1 << 30, 4, 5), (1 << 30, 64, 12), (0, 4, 1), (24 << 20, 1, 2)]
        {
            assert_eq!(
                plan.workers(&limits(memory, cores)),
                wanted,
                "{memory} bytes, {cores} cores"
            );
        }
    }

    #[test]
    fn an_owner_that_chown_would_leave_alone_is_refused() {
        let mut index = index(&[(0, 1)], &[]);
        index.entries[1].gid = u32::MAX;
        assert!(matches!(Plan::new(&index), Err(InstallError::Owner { .. })));
    }
}
