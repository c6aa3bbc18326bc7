//! `index.cbor.zst`: as it comes, as what makes it out of an older one, and as the CBOR inside, which a fuzzer would
//! hardly reach through zstd.
#![no_main]

use gse_protocol::{Index, index::unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = Index::parse(data);
    let _ = unpack(data, data);
    let packed = zstd::bulk::compress(data, 1).expect("memory takes everything");
    if let Ok(index) = Index::parse(&packed) {
        let again = index.to_bytes(1).expect("what was read can be written");
        assert_eq!(Index::parse(&again).as_ref(), Ok(&index));
        for placed in index.placed_frames() {
            assert!(placed.unpacked_offset < index.unpacked_size());
            assert!(placed.packed_offset < index.packed_size());
        }
    }
});
