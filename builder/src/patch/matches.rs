//! What of an old content is in a new one, changed a little: bsdiff's question
//! (<https://www.daemonology.net/papers/bsdiff.pdf>), answered with a table of hashes instead of sorted suffixes. Pure.
//!
//! Sorting suffixes, and searching among them, took much of the time that patches took. What that finds and this does
//! not is not worth a byte in a hundred: of all places in the old content that have the same eight bytes, those nearest to
//! where the last match goes on are looked at.

use std::cmp::Reverse;

/// Bytes that are looked up together.
const WINDOW: usize = 8;
/// How many places with the same hash are looked at.
const PLACES: usize = 24;
/// A match elsewhere has to have so many more bytes than are the same where the last one goes on: its step costs as much.
const BETTER: usize = 4;
/// Where so many bytes are the same as where the last match goes on, nothing better is looked for.
const ENOUGH: usize = 32;

/// Where bytes of the new content come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copy {
    /// In the old content.
    pub(super) from: usize,
    /// So many bytes of it, with something added to each.
    pub(super) add: usize,
    /// So many new bytes after them.
    pub(super) insert: usize,
}

/// Where a match starts.
#[derive(Debug, Clone, Copy)]
struct Start {
    old: usize,
    new: usize,
}

/// How to make `new` out of `old`, in the order of `new`.
pub(super) fn matches(old: &[u8], new: &[u8]) -> Vec<Copy> {
    let pair = Pair { old, new };
    let places = Places::new(old);
    let mut copies = Vec::new();
    let mut last = Start { old: 0, new: 0 };
    let mut scan = 0;
    while let Some(rest) = new.get(scan..).filter(|rest| !rest.is_empty()) {
        // Where the last match goes on.
        let here = last.old + (scan - last.new);
        let there = old.get(here..).unwrap_or_default();
        let run = same(there, rest);
        if run >= ENOUGH {
            scan += run;
            continue;
        }
        let found = places.longest(old, rest, here).filter(|(_, length)| {
            let kept = there.iter().zip(rest).take(*length).filter(|(old, new)| old == new);
            *length > kept.count() + BETTER
        });
        let Some((place, length)) = found else {
            scan += run + 1;
            continue;
        };
        let next = Start { old: place, new: scan };
        let (forward, backward) = pair.extend(last, next);
        let insert = scan - last.new - backward - forward;
        copies.push(Copy { from: last.old, add: forward, insert });
        last = Start { old: place - backward, new: scan - backward };
        scan += length;
    }
    let forward = pair.forward(last, new.len() - last.new);
    copies.push(Copy { from: last.old, add: forward, insert: new.len() - last.new - forward });
    copies
}

/// How many bytes are the same from the start on.
fn same(one: &[u8], other: &[u8]) -> usize {
    let chunks = one.chunks_exact(WINDOW).zip(other.chunks_exact(WINDOW));
    let whole = chunks.take_while(|(one, other)| one == other).count() * WINDOW;
    let rest = one.iter().zip(other).skip(whole);
    whole + rest.take_while(|(one, other)| one == other).count()
}

/// Up to where, of at most `most` bytes, those that are the same outweigh those that are not by most.
fn best(most: usize, same: impl Fn(usize) -> bool) -> usize {
    let (mut score, mut highest, mut length) = (0_i64, 0, 0);
    for at in 0..most {
        score += if same(at) { 1 } else { -1 };
        if score > highest {
            (highest, length) = (score, at + 1);
        }
    }
    length
}

#[derive(Clone, Copy)]
struct Pair<'b> {
    old: &'b [u8],
    new: &'b [u8],
}

impl Pair<'_> {
    fn same(self, old: usize, new: usize) -> bool {
        self.old.get(old).is_some_and(|byte| self.new.get(new) == Some(byte))
    }

    /// How far a match reaches within the next bytes.
    fn forward(self, from: Start, most: usize) -> usize {
        let most = most.min(self.old.len().saturating_sub(from.old));
        best(most, |at| self.same(from.old + at, from.new + at))
    }

    /// How far a match reaches forward, and the next one back, so that most of the bytes between are the same.
    fn extend(self, last: Start, next: Start) -> (usize, usize) {
        let between = next.new - last.new;
        let forth = |at: usize| self.same(last.old + at, last.new + at);
        let back = |at: usize| self.same(next.old - at, next.new - at);
        let forward = self.forward(last, between);
        let backward = best(between.min(next.old), |at| back(at + 1));
        let Some(overlap) = (forward + backward).checked_sub(between) else {
            return (forward, backward);
        };
        // Both claim some bytes: each gets those that cost it less.
        let start = forward - overlap;
        let (mut score, mut highest, mut cut) = (0, 0, 0);
        for at in 0..overlap {
            score += i64::from(forth(start + at)) - i64::from(back(backward - at));
            if score > highest {
                (highest, cut) = (score, at + 1);
            }
        }
        (start + cut, backward - cut)
    }
}

/// All windows of a content, by their hash.
struct Places {
    /// By hash: where its places start. There is one more at the end.
    starts: Vec<u32>,
    /// Of one hash after the other, each in the order of the content.
    places: Vec<u32>,
    shift: u32,
}

impl Places {
    fn new(bytes: &[u8]) -> Self {
        let count = (bytes.len() + 1).saturating_sub(WINDOW);
        let bits = count.next_power_of_two().trailing_zeros().clamp(8, 22);
        let shift = u64::BITS - bits;
        // Counted two places on, summed, and filled one place on: what is left are the starts.
        let mut starts = vec![0_u32; (1 << bits) + 2];
        for window in bytes.windows(WINDOW) {
            if let Some(count) = starts.get_mut(hash(window, shift) + 2) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut places = vec![0_u32; count];
        for (at, window) in (0..).zip(bytes.windows(WINDOW)) {
            let Some(next) = starts.get_mut(hash(window, shift) + 1) else { continue };
            if let Some(place) = places.get_mut(*next as usize) {
                *place = at;
            }
            *next += 1;
        }
        Self { starts, places, shift }
    }

    /// The longest of the matches that are nearest to `near`, and how long it is.
    fn longest(&self, old: &[u8], new: &[u8], near: usize) -> Option<(usize, usize)> {
        let hash = hash(new.get(..WINDOW)?, self.shift);
        let range = *self.starts.get(hash)? as usize..*self.starts.get(hash + 1)? as usize;
        let places = self.places.get(range)?;
        let middle = places.partition_point(|place| (*place as usize) < near);
        let nearest = places.iter().skip(middle.saturating_sub(PLACES / 2)).take(PLACES);
        let found = nearest.map(|place| {
            let place = *place as usize;
            let length = same(old.get(place..).unwrap_or_default(), new);
            (length, Reverse(place.abs_diff(near)), place)
        });
        let (length, _, place) = found.max()?;
        (length >= WINDOW).then_some((place, length))
    }
}

fn hash(window: &[u8], shift: u32) -> usize {
    let bytes = window.first_chunk().copied().map_or(0, u64::from_le_bytes);
    (bytes.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many bytes are neither taken from the old content as they are, nor could be.
    fn cost(old: &[u8], new: &[u8]) -> usize {
        let (mut at, mut cost) = (0, 0);
        for Copy { from, add, insert } in matches(old, new) {
            let other = (0..add).filter(|i| old[from + i] != new[at + i]).count();
            cost += other + insert;
            at += add + insert;
        }
        assert_eq!(at, new.len());
        cost
    }

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect()
    }

    #[test]
    fn what_moved_or_changed_a_little_is_found() {
        let old = noise(1, 50_000);
        let (head, tail) = old.split_at(20_000);
        let mut edited = old.clone();
        edited.iter_mut().step_by(100).for_each(|byte| *byte = byte.wrapping_add(1));
        for (new, most) in [
            (old.clone(), 0),
            ([tail, head].concat(), 0),
            ([head, b"inserted", tail].concat(), 8),
            ([head, &tail[1000..]].concat(), 0),
            ([&old[..], &old[..]].concat(), 0),
            (edited, 500),
            (noise(2, 1000), 1000),
        ] {
            let cost = cost(&old, &new);
            assert!(cost <= most, "{cost} bytes of {} instead of {most}", new.len());
        }
        assert_eq!(cost(b"", b"new"), 3);
        assert_eq!(cost(b"old", b""), 0);
    }

    proptest! {
        #[test]
        fn any_copies_lie_inside_and_make_all_of_the_new_content(
            // Few different bytes, so that much is alike.
            old in prop::collection::vec(0_u8..3, 0..400),
            new in prop::collection::vec(0_u8..3, 0..400),
        ) {
            let _ = cost(&old, &new);
        }
    }
}
