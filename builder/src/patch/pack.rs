//! Makes a patch file, on all cores.
//!
//! What a frame holds is planned before anything is read, so each worker makes whole frames by itself: it reads,
//! compares and packs. It holds one frame and one base at a time, which bounds the memory.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    num::NonZero,
    path::Path,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use gse_protocol::{
    Index, Sha256,
    index::{Content, Frame, Kind, MAX_FRAME},
    patch::{MAX_PIECE, MAX_TABLE, PatchFile, Piece, Table},
};

use super::{
    Change,
    base::Bases,
    compare::{compare, files},
    delta::{Delta, deltas},
    image::{Image, ImageError, Reader},
    sketch::{Sketch, sketch},
};
use crate::progress::Progress;

/// How many bytes of files the pieces of one frame make: with their steps, they are at most half as many again.
const MADE: u64 = MAX_FRAME as u64 / 3 * 2;
/// The largest part of a base that is looked at for one frame: more of it finds next to nothing more, and sorting its
/// suffixes takes five times as much memory.
const BASE: u64 = 16 << 20;
/// Files below this are not looked for by their content.
const SKETCHED: u64 = 16 << 10;
/// Nor are those above it.
const SKETCHED_MOST: u64 = 64 << 20;

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
    /// A thread is gone.
    #[error("a thread that makes patches ended early")]
    Thread,
}

/// A part of a file, made from at most one base.
#[derive(Debug, Clone, Copy)]
struct Unit {
    entry: u32,
    base: Option<u32>,
    from: u64,
    length: u64,
}

/// A frame that is done.
struct Made {
    number: usize,
    pieces: Vec<Piece>,
    packed: Vec<u8>,
    unpacked: u32,
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
    let total = batches.iter().flatten().map(|unit| unit.length).sum();
    if batches.is_empty() {
        return Ok(None);
    }
    progress.begin("making patches", total);
    let mut bodies = tempfile::tempfile_in(path.parent().unwrap_or(Path::new(".")))?;
    let next = AtomicUsize::new(0);
    let work = |results: &mpsc::Sender<_>| {
        let mut worker = Worker { old: Reader::new(old), new: Reader::new(new), level, progress };
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = batches.get(number) else { return };
            let made = worker.make(number, batch);
            let failed = made.is_err();
            if results.send(made).is_err() || failed {
                return;
            }
        }
    };
    let count = batches.len();
    let written = on_all(threads, count, work, |made| collect(made, count, &mut bodies));
    progress.finish();
    let (frames, table) = written?;
    let table = minicbor::to_vec(&table).map_err(|_| PackError::TooMany)?;
    let mut file = File::create_new(path)?;
    let mut patch = PatchFile {
        version: old.index.version.clone(),
        index: Sha256::of(&old.cbor),
        table: 0,
        frames: Vec::new(),
    };
    for part in table.chunks(MAX_FRAME as usize) {
        let packed = zstd::bulk::compress(part, level).map_err(PackError::Zstd)?;
        file.write_all(&packed)?;
        patch.frames.push(frame(&packed, part.len() as u32));
        patch.table += 1;
    }
    if patch.table > MAX_TABLE {
        return Err(PackError::TooMany);
    }
    std::io::Seek::rewind(&mut bodies)?;
    std::io::copy(&mut bodies, &mut file)?;
    file.sync_all()?;
    patch.frames.extend(frames);
    Ok(Some(patch))
}

fn frame(packed: &[u8], unpacked: u32) -> Frame {
    Frame { packed: packed.len() as u32, unpacked, sha256: Sha256::of(packed) }
}

/// What has to be made, and from what.
fn units(old: &Image, new: &Image, threads: NonZero<usize>) -> Result<Vec<Unit>, PackError> {
    let comparison = compare(&old.index, &new.index);
    let wanted: Vec<u32> = comparison
        .files
        .iter()
        .filter(|(_, change)| matches!(change, Change::Changed | Change::New))
        .map(|(number, _)| *number)
        .collect();
    let by_path = Bases::new(&old.index, Vec::new());
    let mut found: BTreeMap<u32, Option<u32>> = BTreeMap::new();
    let mut unnamed = Vec::new();
    for number in wanted {
        let Some((path, content)) = content(&new.index, number) else { continue };
        let base = by_path.by_path(path, content);
        found.insert(number, base);
        if base.is_none() && is_sketched(content) {
            unnamed.push(number);
        }
    }
    if !unnamed.is_empty() {
        let gone: Vec<u32> = comparison
            .gone
            .iter()
            .copied()
            .filter(|n| content(&old.index, *n).is_some_and(|(_, c)| is_sketched(c)))
            .collect();
        let bases = Bases::new(&old.index, sketches(old, &gone, threads)?);
        for (number, sketch) in sketches(new, &unnamed, threads)? {
            found.insert(number, bases.by_content(&sketch));
        }
    }
    let units = files(&new.index).filter_map(|(entry, _, content)| {
        Some(Unit { entry, base: *found.get(&entry)?, from: 0, length: content.stored() })
    });
    Ok(units.collect())
}

fn is_sketched(content: &Content) -> bool {
    (SKETCHED..=SKETCHED_MOST).contains(&content.stored())
}

fn content(index: &Index, number: u32) -> Option<(&[u8], &Content)> {
    let entry = index.entries.get(number as usize)?;
    match &entry.kind {
        Kind::File(content) => Some((&entry.path, content)),
        _ => None,
    }
}

/// The sketches of some files of an image.
fn sketches(
    image: &Image,
    numbers: &[u32],
    threads: NonZero<usize>,
) -> Result<Vec<(u32, Sketch)>, PackError> {
    let next = AtomicUsize::new(0);
    let work = |results: &mpsc::Sender<_>| {
        let mut reader = Reader::new(image);
        while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some((_, content)) = content(&image.index, *number) else { continue };
            let sketch = reader
                .read(content, 0, content.stored())
                .map(|bytes| (*number, sketch(&bytes)))
                .map_err(PackError::from);
            if results.send(sketch).is_err() {
                return;
            }
        }
    };
    on_all(threads, numbers.len(), work, |results| results.into_iter().collect())
}

/// Runs `work` on some threads; `collect` gets what they send, and may end early.
fn on_all<T: Send, R>(
    threads: NonZero<usize>,
    most: usize,
    work: impl Fn(&mpsc::Sender<T>) + Sync,
    collect: impl FnOnce(mpsc::Receiver<T>) -> R,
) -> R {
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads.get().min(most) {
            let sender = sender.clone();
            let work = &work;
            scope.spawn(move || work(&sender));
        }
        drop(sender);
        collect(results)
    })
}

/// Writes the frames, which arrive in any order, in theirs.
fn collect(
    made: mpsc::Receiver<Result<Made, PackError>>,
    count: usize,
    to: &mut File,
) -> Result<(Vec<Frame>, Table), PackError> {
    let mut early = BTreeMap::new();
    let (mut frames, mut table) = (Vec::with_capacity(count), Table::default());
    for made in made {
        let made = made?;
        early.insert(made.number, made);
        while let Some(made) = early.remove(&frames.len()) {
            to.write_all(&made.packed)?;
            frames.push(frame(&made.packed, made.unpacked));
            table.pieces.extend(made.pieces);
        }
    }
    if frames.len() == count { Ok((frames, table)) } else { Err(PackError::Thread) }
}

/// Cuts the units into what one frame makes.
fn batches(units: &[Unit]) -> Vec<Vec<Unit>> {
    let mut batches = Vec::new();
    let (mut batch, mut room) = (Vec::new(), MADE);
    for unit in units {
        let mut unit = *unit;
        while unit.length > 0 {
            // What fits into a frame of its own is not cut, but for pieces of the largest size.
            let whole = unit.length <= room || unit.length > MADE && room >= u64::from(MAX_PIECE);
            if !whole && !batch.is_empty() {
                batches.push(std::mem::take(&mut batch));
                room = MADE;
            }
            let pieces =
                if unit.length <= room { unit.length } else { room - room % u64::from(MAX_PIECE) };
            batch.push(Unit { length: pieces, ..unit });
            room -= pieces;
            unit.from += pieces;
            unit.length -= pieces;
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

struct Worker<'w> {
    old: Reader<'w>,
    new: Reader<'w>,
    level: i32,
    progress: &'w Progress,
}

impl Worker<'_> {
    fn make(&mut self, number: usize, batch: &[Unit]) -> Result<Made, PackError> {
        let (mut pieces, mut bytes) = (Vec::new(), Vec::new());
        for unit in batch {
            for Delta { makes, patches, bytes: delta } in self.deltas(unit)? {
                let base = unit.base.filter(|_| patches);
                pieces.push(Piece { entry: unit.entry, makes, takes: delta.len() as u32, base });
                bytes.extend_from_slice(&delta);
            }
            self.progress.advance(unit.length);
        }
        let packed = zstd::bulk::compress(&bytes, self.level).map_err(PackError::Zstd)?;
        Ok(Made { number, pieces, packed, unpacked: bytes.len() as u32 })
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn batches_hold_each_file_whole_in_order_and_no_more_than_a_frame_can(
            lengths in prop::collection::vec(1_u64..(12 << 20), 0..20),
        ) {
            let units: Vec<Unit> = (0..)
                .zip(&lengths)
                .map(|(entry, length)| Unit { entry, base: None, from: 0, length: *length })
                .collect();
            let mut done = vec![0; lengths.len()];
            for batch in batches(&units) {
                prop_assert!(!batch.is_empty());
                prop_assert!(batch.iter().map(|unit| unit.length).sum::<u64>() <= MADE);
                for unit in batch {
                    prop_assert_eq!(unit.from, done[unit.entry as usize]);
                    prop_assert!(unit.length > 0);
                    done[unit.entry as usize] += unit.length;
                }
            }
            prop_assert_eq!(done, lengths);
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
