//! What has to be made for a newer image, from what, and what of it at once.

use std::{collections::BTreeMap, num::NonZero};

use gse_protocol::{
    Index,
    index::{Content, Kind},
    patch::MAX_PIECE,
};

use super::{
    Change,
    base::Bases,
    compare::{compare, files},
    image::{Image, Reader},
    pack::PackError,
    sketch::{Sketch, sketch},
};
use crate::workers::in_order;

/// So many bytes are made by a worker before it takes the next ones: whole pieces, if it is a part of a file.
const BATCH: u64 = 3 * MAX_PIECE as u64;
/// Files below this are not looked for by their content.
const SKETCHED: u64 = 16 << 10;
/// Nor are those above it.
const SKETCHED_MOST: u64 = 64 << 20;

/// A part of a file, made from at most one base.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    pub(super) entry: u32,
    pub(super) base: Option<u32>,
    pub(super) from: u64,
    pub(super) length: u64,
}

/// What has to be made, and from what.
pub(super) fn units(
    old: &Image,
    new: &Image,
    threads: NonZero<usize>,
) -> Result<Vec<Unit>, PackError> {
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

pub(super) fn content(index: &Index, number: u32) -> Option<(&[u8], &Content)> {
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
    let mut sketches = Vec::with_capacity(numbers.len());
    let work = |reader: &mut Reader<'_>, number: &u32| {
        let Some((_, content)) = content(&image.index, *number) else {
            return Ok::<_, PackError>(None);
        };
        Ok(Some((*number, sketch(&reader.read(content, 0, content.stored())?))))
    };
    let each = |found| {
        sketches.extend(found);
        Ok(())
    };
    in_order(threads, numbers, || Reader::new(image), work, each)?;
    Ok(sketches)
}

/// What one worker makes at once: neighbours, and of large files some pieces.
pub(super) fn batches(units: &[Unit]) -> Vec<Vec<Unit>> {
    let parts = units.iter().flat_map(|unit| {
        (0..unit.length).step_by(BATCH as usize).map(|from| Unit {
            from: unit.from + from,
            length: (unit.length - from).min(BATCH),
            ..*unit
        })
    });
    let mut batches: Vec<Vec<Unit>> = Vec::new();
    let mut room = 0;
    for part in parts {
        match batches.last_mut() {
            Some(batch) if part.length <= room => batch.push(part),
            _ => {
                batches.push(vec![part]);
                room = BATCH;
            }
        }
        room -= part.length;
    }
    batches
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn batches_hold_each_file_whole_in_order_and_in_whole_pieces(
            lengths in prop::collection::vec(1_u64..(12 << 20), 0..20),
        ) {
            let units: Vec<Unit> = (0..)
                .zip(&lengths)
                .map(|(entry, length)| Unit { entry, base: None, from: 0, length: *length })
                .collect();
            let mut done = vec![0; lengths.len()];
            for batch in batches(&units) {
                prop_assert!(!batch.is_empty());
                prop_assert!(batch.iter().map(|unit| unit.length).sum::<u64>() <= BATCH);
                for unit in batch {
                    prop_assert_eq!(unit.from, done[unit.entry as usize]);
                    prop_assert_eq!(unit.from % u64::from(MAX_PIECE), 0);
                    prop_assert!(unit.length > 0);
                    done[unit.entry as usize] += unit.length;
                }
            }
            prop_assert_eq!(done, lengths);
        }
    }
}
