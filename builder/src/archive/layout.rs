//! Where everything will be: each entry's place in the tar, and where the tar is cut into frames.
//!
//! All of it is known once the tree has been listed, before a byte of data is read. So the frames can
//! be made in any order, on all cores, and the same tree always gives the same image.

use std::ops::Range;

use gse_protocol::index::{Entry, Kind};

use super::{
    error::Error,
    header::{self, TRAILER, padded},
    walk::path_of,
};

/// The most bytes of the tar in one frame, of which a machine holds one a core. Of a 1.9 GiB tar of
/// /usr at zstd's level 3, frames of 1 MiB take 33.5%, of 2 MiB 32.9%, of 4 MiB 32.5%, a single stream
/// 32.3%.
pub const FRAME: u64 = 2 << 20;

/// The places of all entries and frames.
#[derive(Debug)]
pub(super) struct Layout {
    /// Where each entry starts in the tar, and at last where the trailer does.
    pub(super) starts: Vec<u64>,
    /// In order, without gaps, from 0 to the tar's end.
    pub(super) frames: Vec<FramePlan>,
}

/// A frame to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FramePlan {
    /// The part of the tar that it holds.
    pub(super) range: Range<u64>,
    /// The entry that the first byte belongs to.
    pub(super) first: usize,
}

impl FramePlan {
    /// In bytes; at most [`FRAME`].
    pub(super) fn len(&self) -> usize {
        (self.range.end - self.range.start) as usize
    }
}

impl Layout {
    /// The length of the tar.
    pub(super) fn size(&self) -> u64 {
        self.frames.last().map_or(0, |f| f.range.end)
    }
}

/// Gives every entry its place, and every file the offset of its data.
pub(super) fn lay_out(entries: &mut [Entry]) -> Result<Layout, Error> {
    let mut starts = Vec::with_capacity(entries.len() + 1);
    let mut lengths = Vec::with_capacity(entries.len() + 1);
    let mut head = Vec::new();
    let mut position = 0;
    for number in 0..entries.len() {
        head.clear();
        write_head(&mut head, entries, number)?;
        let data = position + head.len() as u64;
        let mut end = data;
        if let Some(Kind::File(content)) = entries.get_mut(number).map(|e| &mut e.kind) {
            content.offset = data;
            end += padded(content.stored());
        }
        starts.push(position);
        lengths.push(end - position);
        position = end;
    }
    starts.push(position);
    lengths.push(TRAILER);
    Ok(Layout { starts, frames: cut(&lengths, FRAME) })
}

/// Appends what stands before the data of the entry with this number.
pub(super) fn write_head(out: &mut Vec<u8>, entries: &[Entry], number: usize) -> Result<(), Error> {
    let Some(entry) = entries.get(number) else { return Ok(()) };
    let original = match entry.kind {
        Kind::Hardlink(target) => entries.get(target as usize),
        _ => None,
    };
    header::write(out, entry, original)
        .map_err(|why| Error::Unfit { path: path_of(&entry.path), why })
}

/// Cuts entries of these lengths into frames of at most `limit` bytes. An entry that fits into a frame
/// is never cut, so a machine needs one frame for it; a larger one starts a frame of its own. This
/// costs little, as any two neighbours have more than `limit` bytes together.
fn cut(lengths: &[u64], limit: u64) -> Vec<FramePlan> {
    let mut frames = Vec::new();
    let (mut start, mut first, mut position) = (0, 0, 0);
    for (number, length) in lengths.iter().enumerate() {
        let end = position + length;
        if end - start > limit && position > start {
            frames.push(FramePlan { range: start..position, first });
            (start, first) = (position, number);
        }
        while end - start > limit {
            frames.push(FramePlan { range: start..start + limit, first });
            (start, first) = (start + limit, number);
        }
        position = end;
    }
    if position > start {
        frames.push(FramePlan { range: start..position, first });
    }
    frames
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_that_fits_a_frame_is_not_cut_and_a_larger_one_starts_its_own() {
        let frames = cut(&[4, 4, 4, 25, 3, 2], 10);
        let got: Vec<_> = frames.iter().map(|f| (f.range.start, f.range.end, f.first)).collect();
        assert_eq!(got, [(0, 8, 0), (8, 12, 2), (12, 22, 3), (22, 32, 3), (32, 42, 3)]);
    }

    proptest! {
        #[test]
        fn frames_follow_each_other_and_are_well_filled(
            lengths in prop::collection::vec(1..50_u64, 1..200),
            limit in 1..40_u64,
        ) {
            let frames = cut(&lengths, limit);
            let mut position = 0;
            for frame in &frames {
                prop_assert_eq!(frame.range.start, position);
                prop_assert!(!frame.range.is_empty() && frame.len() as u64 <= limit);
                let before: u64 = lengths[..frame.first].iter().sum();
                prop_assert!(before <= position && position < before + lengths[frame.first]);
                position = frame.range.end;
            }
            prop_assert_eq!(position, lengths.iter().sum::<u64>());
            for pair in frames.windows(2) {
                prop_assert!(pair[1].range.end - pair[0].range.start > limit);
            }
            let mut start = 0;
            for length in lengths {
                let cuts = frames.iter().filter(|f| start < f.range.start && f.range.start < start + length);
                prop_assert!(length > limit || cuts.count() == 0);
                start += length;
            }
        }
    }
}
