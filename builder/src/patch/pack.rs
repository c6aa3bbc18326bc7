//! Makes a patch file, on all cores, in two passes: all pieces, and then frames of them.
//!
//! In between, pieces lie in a temporary file. Only when they are there is it known how many fill a frame, and full
//! frames are smaller: zstd finds in the patch of one driver what it has seen in that of another.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    num::NonZero,
    os::unix::fs::FileExt as _,
    path::Path,
};

use gse_protocol::{
    Sha256,
    index::{Frame, MAX_FRAME},
    patch::{MAX_TABLE, PatchFile, Piece, Table},
};

use super::{
    delta::{Delta, deltas},
    image::{Image, ImageError, Reader},
    units::{Unit, batches, content, units},
};
use crate::{progress::Progress, workers::in_order};

/// The largest part of a base that is looked at for one unit: more of it finds next to nothing more, and sorting its
/// suffixes takes five times as much memory.
const BASE: u64 = 16 << 20;

/// Why there is no patch file.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// One of the images.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The file that is written.
    #[error("writing the patch file: {0}")]
    Write(#[from] std::io::Error),
    /// zstd.
    #[error("compressing the patch file: {0}")]
    Zstd(std::io::Error),
    /// There is more in it than it can tell.
    #[error("the images differ in too many files for a patch file")]
    TooMany,
}

/// Writes what makes `new` out of `old` to `path`; `None` if there is nothing that differs.
///
/// # Errors
/// See [`PackError`].
pub fn pack(
    old: &Image,
    new: &Image,
    path: &Path,
    level: i32,
    threads: NonZero<usize>,
    progress: &Progress,
) -> Result<Option<PatchFile>, PackError> {
    let batches = batches(&units(old, new, threads)?);
    if batches.is_empty() {
        return Ok(None);
    }
    let bodies = tempfile::tempfile_in(path.parent().unwrap_or(Path::new(".")))?;
    let table = Table { pieces: pieces(old, new, &batches, &bodies, threads, progress)? };
    let mut file = File::create_new(path)?;
    let mut patch = PatchFile {
        version: old.index.version.clone(),
        index: Sha256::of(&old.cbor),
        table: 0,
        frames: Vec::new(),
    };
    let bytes = minicbor::to_vec(&table).map_err(|_| PackError::TooMany)?;
    for part in bytes.chunks(MAX_FRAME as usize) {
        let packed = Packed::new(part, level)?;
        file.write_all(&packed.bytes)?;
        patch.frames.push(packed.frame);
        patch.table += 1;
    }
    if patch.table > MAX_TABLE {
        return Err(PackError::TooMany);
    }
    let frames = frames(&table.pieces);
    progress.begin("packing patches", frames.iter().map(|(_, length)| u64::from(*length)).sum());
    let work = |buffer: &mut Vec<u8>, (start, length): &(u64, u32)| {
        buffer.resize(*length as usize, 0);
        bodies.read_exact_at(buffer, *start)?;
        let packed = Packed::new(buffer, level);
        progress.advance(u64::from(*length));
        packed
    };
    in_order(threads, &frames, Vec::new, work, |packed| {
        file.write_all(&packed.bytes)?;
        patch.frames.push(packed.frame);
        Ok(())
    })?;
    progress.finish();
    file.sync_all()?;
    Ok(Some(patch))
}

/// Writes what all pieces take to `bodies`.
fn pieces(
    old: &Image,
    new: &Image,
    batches: &[Vec<Unit>],
    bodies: &File,
    threads: NonZero<usize>,
    progress: &Progress,
) -> Result<Vec<Piece>, PackError> {
    progress.begin("making patches", batches.iter().flatten().map(|unit| unit.length).sum());
    let (mut bodies, mut pieces) = (BufWriter::new(bodies), Vec::new());
    let worker = || Worker { old: Reader::new(old), new: Reader::new(new), progress };
    in_order(threads, batches, worker, Worker::make, |made| {
        for (piece, body) in made {
            bodies.write_all(&body)?;
            pieces.push(piece);
        }
        Ok(())
    })?;
    bodies.flush()?;
    progress.finish();
    Ok(pieces)
}

struct Worker<'w> {
    old: Reader<'w>,
    new: Reader<'w>,
    progress: &'w Progress,
}

impl Worker<'_> {
    /// The pieces of a batch, each with what it takes.
    fn make(&mut self, batch: &Vec<Unit>) -> Result<Vec<(Piece, Vec<u8>)>, PackError> {
        let mut pieces = Vec::new();
        for unit in batch {
            pieces.extend(self.deltas(unit)?.into_iter().map(|Delta { makes, patches, bytes }| {
                let base = unit.base.filter(|_| patches);
                (Piece { entry: unit.entry, makes, takes: bytes.len() as u32, base }, bytes)
            }));
            self.progress.advance(unit.length);
        }
        Ok(pieces)
    }

    fn deltas(&mut self, unit: &Unit) -> Result<Vec<Delta>, PackError> {
        let (old, new) = (&self.old.image.index, &self.new.image.index);
        let Some((_, made)) = content(new, unit.entry) else { return Ok(Vec::new()) };
        let bytes = self.new.read(made, unit.from, unit.length)?;
        let Some((_, base)) = unit.base.and_then(|base| content(old, base)) else {
            return Ok(deltas(&[], 0, &bytes));
        };
        let (from, length) = window(base.stored(), made.stored(), unit.from, unit.length);
        Ok(deltas(&self.old.read(base, from, length)?, from, &bytes))
    }
}

/// The part of a base that is compared with a part of what is made: all of it, or around the same place.
fn window(base: u64, made: u64, from: u64, length: u64) -> (u64, u64) {
    if base <= BASE {
        return (0, base);
    }
    let middle = u128::from(from + length / 2) * u128::from(base) / u128::from(made.max(1));
    let start = (middle as u64).saturating_sub(BASE / 2).min(base - BASE);
    (start, BASE)
}

/// Where each frame starts in the row of all pieces, and how many bytes it has: as many whole pieces as one can hold.
fn frames(pieces: &[Piece]) -> Vec<(u64, u32)> {
    let mut frames: Vec<(u64, u32)> = Vec::new();
    let mut end = 0;
    for piece in pieces {
        match frames.last_mut() {
            Some((_, length)) if piece.takes <= MAX_FRAME - *length => *length += piece.takes,
            _ => frames.push((end, piece.takes)),
        }
        end += u64::from(piece.takes);
    }
    frames
}

/// A frame's bytes.
struct Packed {
    frame: Frame,
    bytes: Vec<u8>,
}

impl Packed {
    fn new(unpacked: &[u8], level: i32) -> Result<Self, PackError> {
        let bytes = zstd::bulk::compress(unpacked, level).map_err(PackError::Zstd)?;
        let (packed, sha256) = (bytes.len() as u32, Sha256::of(&bytes));
        Ok(Self { frame: Frame { packed, unpacked: unpacked.len() as u32, sha256 }, bytes })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use gse_protocol::patch::MAX_PIECE;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_hold_whole_pieces_one_after_the_other_and_no_more_than_they_can(
            lengths in prop::collection::vec(1..=MAX_PIECE, 1..40),
        ) {
            let piece = |takes: &u32| Piece { entry: 0, makes: MAX_PIECE, takes: *takes, base: Some(0) };
            let pieces: Vec<Piece> = lengths.iter().map(piece).collect();
            let ends: Vec<u64> = lengths
                .iter()
                .scan(0, |end, length| { *end += u64::from(*length); Some(*end) })
                .collect();
            let mut at = 0;
            for (start, length) in frames(&pieces) {
                prop_assert_eq!(start, at);
                prop_assert!(length > 0 && length <= MAX_FRAME);
                at += u64::from(length);
                prop_assert!(ends.contains(&at));
            }
            prop_assert_eq!(at, *ends.last().unwrap());
        }
    }

    #[test]
    fn a_window_is_around_the_same_place_and_inside() {
        let large = 100 << 20;
        assert_eq!(window(1000, 2000, 500, 100), (0, 1000));
        assert_eq!(window(large, large, 0, 1 << 20), (0, BASE));
        assert_eq!(window(large, large, large - (1 << 20), 1 << 20), (large - BASE, BASE));
        let (from, length) = window(large, 2 * large, large, 0);
        assert_eq!((from + length / 2, length), (large / 2, BASE));
    }
}
