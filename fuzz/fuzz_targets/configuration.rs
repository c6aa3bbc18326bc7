//! `config.tar`, and the TOML files in it.
#![no_main]

use gse_protocol::config::{Boot, Bundle, Drives, Machines, Mounts, Network, Sources, bundle};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    tar(data);
    // A fuzzer does not guess checksums: every block gets the one that it would need as a header.
    let mut blocks = data.to_vec();
    blocks.chunks_exact_mut(512).for_each(set_checksum);
    tar(&blocks);

    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Sources::parse(text);
        let _ = Boot::parse(text);
        let _ = Network::parse(text);
        let _ = Drives::parse(text);
        let _ = Mounts::parse(text);
        let _ = Machines::parse(text);
    }
});

fn tar(data: &[u8]) {
    if let Ok(files) = bundle::unpack(data) {
        bundle::mistakes(&files);
        for path in files.keys() {
            assert!(!path.starts_with('/'));
            assert!(path.split('/').all(|part| !["", ".", ".."].contains(&part)));
        }
    }
    let _ = Bundle::parse(data);
}

/// The `chksum` field of a tar header: bytes 148 to 155, counted as spaces.
fn set_checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
