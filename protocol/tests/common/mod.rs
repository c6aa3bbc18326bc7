//! Keys, and the small tricks that several tests share.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{io::Cursor, sync::LazyLock};

use gse_protocol::{
    Serial,
    sign::{Claim, Keys, Kind, PublicKey},
};
use minisign::KeyPair;

/// One pair for all tests of a program: making it is not what they are about.
pub(crate) static PAIR: LazyLock<KeyPair> = LazyLock::new(pair);

pub(crate) fn pair() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().unwrap()
}

pub(crate) fn public(pair: &KeyPair) -> PublicKey {
    pair.pk.to_base64().parse().unwrap()
}

pub(crate) fn keys() -> Keys {
    Keys(vec![public(&PAIR)])
}

/// A `.minisig` as gse writes it.
pub(crate) fn sign(pair: &KeyPair, kind: Kind, serial: u64, bytes: &[u8]) -> String {
    sign_with_comment(pair, &Claim { kind, serial: Serial(serial) }.to_string(), bytes)
}

pub(crate) fn sign_with_comment(pair: &KeyPair, comment: &str, bytes: &[u8]) -> String {
    minisign::sign(None, &pair.sk, Cursor::new(bytes), Some(comment), None).unwrap().to_string()
}
