//! The fuzzers' seeds: each must be what its parser reads, or a fuzzer would start from nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{fs, path::PathBuf};

use gse_protocol::{
    Index, Release,
    config::{Boot, Bundle, Drives, Machines, Mounts, Network, Sources, bundle::unpack},
    sign::{Claim, PublicKey, Signature},
};

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let read = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    let seeds: Vec<_> = fs::read_dir(folder).unwrap().map(|e| read(e.unwrap())).collect();
    assert!(!seeds.is_empty());
    seeds
}

#[test]
fn each_seed_is_read_by_its_parser() {
    for (name, bytes) in seeds("index") {
        let index = Index::parse(&zstd::encode_all(&bytes[..], 1).unwrap());
        assert!(index.is_ok(), "{name}: {index:?}");
    }
    for (name, bytes) in seeds("release") {
        let release = Release::parse(str::from_utf8(&bytes).unwrap());
        assert!(release.is_ok(), "{name}: {release:?}");
    }
    for (name, bytes) in seeds("signature") {
        let text = str::from_utf8(&bytes).unwrap();
        let read = match name.as_str() {
            "claim" => text.parse::<Claim>().map(drop),
            "key.pub" => text.parse::<PublicKey>().map(drop),
            _ => text.parse::<Signature>().map(drop),
        };
        assert_eq!(read, Ok(()), "{name}");
    }
    for (name, bytes) in seeds("configuration") {
        let text = String::from_utf8_lossy(&bytes);
        let read = match name.as_str() {
            "config.tar" => Bundle::parse(&bytes).map(drop).map_err(|e| e.to_string()),
            "longname.tar" | "pax.tar" => unpack(&bytes).map(drop).map_err(|e| e.to_string()),
            "sources.toml" => Sources::parse(&text).map(drop).map_err(|e| e.to_string()),
            "boot.toml" => Boot::parse(&text).map(drop).map_err(|e| e.to_string()),
            "network.toml" => Network::parse(&text).map(drop).map_err(|e| e.to_string()),
            "drives.toml" => Drives::parse(&text).map(drop).map_err(|e| e.to_string()),
            "mounts.toml" => Mounts::parse(&text).map(drop).map_err(|e| e.to_string()),
            "machines.toml" => Machines::parse(&text).map(drop).map_err(|e| e.to_string()),
            other => panic!("{other} is no seed that this test knows"),
        };
        assert_eq!(read, Ok(()), "{name}");
    }
}
