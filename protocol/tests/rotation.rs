//! Keys that come and go: whom a machine believes after it missed some of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;

use common::{pair, public, sign};
use gse_protocol::{
    Serial,
    config::{
        Introduction, Trust,
        bundle::{File, pack},
    },
    sign::{KeyId, Keys, Kind, Signature},
};
use minisign::KeyPair;

/// A configuration with this serial that names these keys, signed by `signer`.
fn config(serial: u64, keys: &[&KeyPair], signer: &KeyPair) -> Introduction {
    let keys: Vec<String> = keys.iter().map(|pair| format!("\"{}\"", public(pair))).collect();
    let toml = format!("servers = [\"http://a\"]\nkeys = [{}]\n", keys.join(", "));
    let file = File { mode: 0o644, bytes: toml.into_bytes() };
    let files = BTreeMap::from([("sources.toml".to_owned(), file)]);
    let tar = pack(Serial(serial), 1000 + serial, &files).unwrap();
    let signature = sign(signer, Kind::Config, serial, &tar);
    Introduction { key: public(signer).id(), tar, signature }
}

/// What a machine that has configuration `serial` with these keys goes by.
fn trust(serial: u64, keys: &[&KeyPair]) -> Trust {
    let keys = Keys(keys.iter().map(|pair| public(pair)).collect());
    Trust { keys, serial: Serial(serial), created: 1000 + serial }
}

/// Whether the machine comes to trust who signed `current`; and by how many introductions.
fn follow(
    trust: &Trust,
    current: &Introduction,
    published: &[(&KeyPair, &Introduction)],
) -> Result<usize, String> {
    let signature: Signature = current.signature.parse().unwrap();
    let mut introduce = |key: KeyId| {
        let found = published.iter().find(|(pair, _)| public(pair).id() == key);
        found.map(|(_, introduction)| (*introduction).clone())
    };
    let (trust, steps) =
        trust.extended_to(&signature, &mut introduce).map_err(|e| e.to_string())?;
    signature.verify(Kind::Config, &current.tar, &trust.keys).map_err(|e| e.to_string())?;
    Ok(steps.len())
}

#[test]
fn a_machine_that_slept_through_two_rotations_follows() {
    let (a, b, c) = (pair(), pair(), pair());
    let to_b = config(2, &[&a, &b], &a);
    let to_c = config(4, &[&b, &c], &b);
    let current = config(6, &[&c], &c);
    let published = [(&b, &to_b), (&c, &to_c)];
    for (machine, expected) in [
        (trust(1, &[&a]), 2),
        (trust(2, &[&a, &b]), 1),
        (trust(3, &[&b]), 1),
        (trust(5, &[&b, &c]), 0),
        (trust(6, &[&c]), 0),
    ] {
        assert_eq!(follow(&machine, &current, &published), Ok(expected), "{machine:?}");
    }
    let stranger = trust(1, &[&pair()]);
    let error = follow(&stranger, &current, &published).unwrap_err();
    assert!(error.contains("which is not among the trusted keys"), "{error}");
}

#[test]
fn a_revoked_key_does_not_come_back_by_an_old_configuration() {
    let (old, new) = (pair(), pair());
    // The new key signed this while the old one was still trusted. It is genuine.
    let both = config(3, &[&old, &new], &new);
    let forged = config(99, &[&old], &old);
    let published = [(&old, &both)];
    for serial in [3, 4, 50] {
        assert!(follow(&trust(serial, &[&new]), &forged, &published).is_err(), "{serial}");
    }
    // Nor for a machine whose initramfs is newer than that.
    let fresh = Trust { serial: Serial(0), ..trust(4, &[&new]) };
    assert!(follow(&fresh, &forged, &published).is_err());
}

#[test]
fn an_introduction_counts_only_if_a_trusted_key_signed_it() {
    let (old, new) = (pair(), pair());
    let machine = trust(1, &[&old]);
    let current = config(9, &[&new], &new);
    // Signed by the one that is to be introduced, by a stranger, and over other bytes.
    let own = config(2, &[&old, &new], &new);
    let strange = config(2, &[&old, &new], &pair());
    let mut changed = config(2, &[&old, &new], &old);
    let middle = changed.tar.len() / 2;
    changed.tar[middle] ^= 1;
    // One that does not name the key leads nowhere.
    let unrelated = config(2, &[&old], &old);
    for introduction in [own, strange, changed, unrelated] {
        assert!(follow(&machine, &current, &[(&new, &introduction)]).is_err());
    }
    assert_eq!(follow(&machine, &current, &[(&new, &config(2, &[&old, &new], &old))]), Ok(1));
}
