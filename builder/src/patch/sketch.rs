//! What a content is like, in a few numbers: the more of them two contents share, the more alike they are. Pure.
//!
//! Of all windows of the content the hashes are taken, and the lowest of those are kept (a bottom-k sketch:
//! A. Broder, "On the resemblance and containment of documents", 1997).

use std::collections::{BTreeSet, HashMap};

/// The lowest hashes, in order.
pub(super) type Sketch = Vec<u64>;

/// Bytes that are hashed together.
const WINDOW: usize = 32;
/// How many hashes are kept.
const KEPT: usize = 32;
/// How many have to be the same for a patch to be worth a try.
const ALIKE: usize = 4;

/// The sketch of a content. Its windows overlap, so it does not matter where in it something is.
pub(super) fn sketch(bytes: &[u8]) -> Sketch {
    const PRIME: u64 = 0x0100_0000_01b3;
    let leaving = (0..WINDOW).fold(1_u64, |power, _| power.wrapping_mul(PRIME));
    let mut lowest = BTreeSet::new();
    let mut rolling = 0_u64;
    for (at, byte) in bytes.iter().enumerate() {
        rolling = rolling.wrapping_mul(PRIME).wrapping_add(u64::from(*byte) + 1);
        let Some(out) = at.checked_sub(WINDOW) else { continue };
        let out = bytes.get(out).map_or(0, |byte| u64::from(*byte) + 1);
        rolling = rolling.wrapping_sub(out.wrapping_mul(leaving));
        // The rolling sum is weak in its lower bits.
        let hash = rolling.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
        if lowest.len() < KEPT || lowest.last().is_some_and(|last| hash < *last) {
            lowest.insert(hash);
            if lowest.len() > KEPT {
                lowest.pop_last();
            }
        }
    }
    lowest.into_iter().collect()
}

/// The one of `sketches` that is most like `wanted`, if one is like it at all.
pub(super) fn most_alike(sketches: &[(u32, Sketch)], wanted: &Sketch) -> Option<u32> {
    let wanted: HashMap<u64, ()> = wanted.iter().map(|hash| (*hash, ())).collect();
    let shared = |sketch: &Sketch| sketch.iter().filter(|h| wanted.contains_key(h)).count();
    let best = sketches.iter().map(|(number, sketch)| (shared(sketch), *number)).max()?;
    (best.0 >= ALIKE).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = |state: &mut u64| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            *state as u8
        };
        (0..length).map(|_| next(&mut state)).collect()
    }

    #[test]
    fn a_content_is_known_again_when_parts_of_it_moved_or_changed() {
        let (one, two) = (noise(1, 60_000), noise(2, 60_000));
        let sketches = vec![(1, sketch(&one)), (2, sketch(&two))];
        let (head, tail) = one.split_at(20_000);
        let changed = [tail, &noise(3, 5_000), head].concat();
        assert_eq!(most_alike(&sketches, &sketch(&changed)), Some(1));
        assert_eq!(most_alike(&sketches, &sketch(&two)), Some(2));
        assert_eq!(most_alike(&sketches, &sketch(&noise(4, 60_000))), None);
        assert_eq!(most_alike(&sketches, &sketch(b"short")), None);
    }
}
