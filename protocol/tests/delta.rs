//! What makes an index out of an older one: it gives exactly that, and nothing breaks it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read as _, repeat};

use gse_protocol::{
    Sha256,
    delta::make,
    index::{Error, MAX_UNPACKED, unpack},
};
use proptest::prelude::*;

/// Bytes that do not compress.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let block = |number: usize| Sha256::of(&[&[seed], &number.to_le_bytes()[..]].concat()).0;
    (0..length.div_ceil(32)).flat_map(block).take(length).collect()
}

#[test]
fn what_both_have_is_not_in_it_however_far_apart() {
    // More than the windows of zstd's levels, with something new in front: nothing is where it was.
    let older = noise(1, 9 << 20);
    let newer = [noise(2, 9000), older.clone()].concat();
    let delta = make(&newer, &older, 3).unwrap();
    assert!(delta.len() < 12_000, "{} bytes", delta.len());
    assert!(unpack(&delta, &older).unwrap() == newer);
}

#[test]
fn what_it_was_not_made_from_gives_no_index() {
    let (older, newer) = (noise(1, 50_000), [noise(1, 49_000), noise(2, 500)].concat());
    let delta = make(&newer, &older, 3).unwrap();
    for wrong in [Vec::new(), noise(1, 20_000), noise(3, 50_000)] {
        assert!(unpack(&delta, &wrong) != Ok(newer.clone()), "made from {} bytes", wrong.len());
    }
    for garbage in [b"not zstd", &delta[..delta.len() / 2]] {
        assert!(matches!(unpack(garbage, &older), Err(Error::Zstd(_))));
    }
}

#[test]
fn a_small_file_that_makes_a_large_index_is_refused() {
    let mut zeros = Vec::new();
    repeat(0).take(MAX_UNPACKED + 1).read_to_end(&mut zeros).unwrap();
    let delta = make(&zeros, &zeros[..1000], 1).unwrap();
    assert!(delta.len() < 1 << 20);
    assert!(matches!(unpack(&delta, &zeros[..1000]), Err(Error::Zstd(_))));
    zeros.pop();
    let delta = make(&zeros, &zeros[..1000], 1).unwrap();
    assert!(unpack(&delta, &zeros[..1000]).unwrap() == zeros);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_index_comes_out_of_any_other(
        older in prop::collection::vec(any::<u8>(), 0..3000),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..200_usize), 0..5),
        level in 1..=19_i32,
    ) {
        let mut newer = older.clone();
        for (place, byte, length) in edits {
            let at = place.index(newer.len() + 1);
            newer.splice(at..at, std::iter::repeat_n(byte, length));
        }
        prop_assert_eq!(unpack(&make(&newer, &older, level).unwrap(), &older), Ok(newer));
    }

    #[test]
    fn flipped_bits_and_cuts_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 0..4),
        end in any::<prop::sample::Index>(),
        garbage in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (older, newer) = (noise(1, 3000), [noise(1, 2000), noise(2, 500)].concat());
        let mut delta = make(&newer, &older, 3).unwrap();
        let cut = &delta[..end.index(delta.len())];
        prop_assert!(unpack(cut, &older) != Ok(newer));
        for (place, bit) in flips {
            let place = place.index(delta.len());
            delta[place] ^= 1 << bit;
        }
        let _ = unpack(&delta, &older);
        let _ = unpack(&garbage, &older);
    }
}
