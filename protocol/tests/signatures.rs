//! Signatures: what minisign writes is read, and nothing else passes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{fs, io::Cursor, path::Path, process::Command};

use common::{PAIR, keys, pair, public, sign, sign_with_comment};
use gse_protocol::{
    Release, Serial,
    sign::{Claim, Error, Keys, Kind, MAX_SIGNATURE, PublicKey, Signature},
};
use proptest::prelude::*;

const FILE: &[u8] = b"what was signed";

fn verify(signature: &str, kind: Kind, bytes: &[u8], keys: &Keys) -> Result<Claim, Error> {
    let signature: Signature = signature.parse()?;
    let small = signature.verify(kind, bytes, keys);
    // However a file is read, the answer is the same; but for large files the old form is refused.
    let large = signature.verify_reader(kind, bytes, keys).unwrap();
    if !matches!(large, Err(Error::NotASignature(_))) {
        assert_eq!(small, large);
    }
    small
}

#[test]
fn a_signature_by_any_trusted_key_is_accepted() {
    let other = pair();
    let both = Keys(vec![public(&PAIR), public(&other)]);
    for signer in [&*PAIR, &other] {
        let signature = sign(signer, Kind::Config, 7, FILE);
        let claim = Claim { kind: Kind::Config, serial: Serial(7) };
        assert_eq!(verify(&signature, Kind::Config, FILE, &both), Ok(claim));
        let parsed: Signature = signature.parse().unwrap();
        assert_eq!(parsed.claim(Kind::Config, &both), Ok(claim));
    }
}

#[test]
fn each_thing_that_can_be_wrong_is_refused_and_named() {
    let signature = sign(&PAIR, Kind::Config, 7, FILE);
    let wrong = |signature: &str, kind, bytes: &[u8], keys: &Keys| {
        verify(signature, kind, bytes, keys).unwrap_err()
    };
    let id = public(&PAIR).id();
    assert_eq!(wrong(&signature, Kind::Config, b"other", &keys()), Error::Forged(id));
    assert_eq!(wrong(&signature, Kind::Config, &FILE[..8], &keys()), Error::Forged(id));
    assert_eq!(wrong(&signature, Kind::Config, b"", &keys()), Error::Forged(id));
    let serial = signature.replace("serial:7", "serial:8");
    assert_eq!(wrong(&serial, Kind::Config, FILE, &keys()), Error::Forged(id));
    let kind = signature.replace("gse config", "gse release");
    assert_eq!(wrong(&kind, Kind::Release, FILE, &keys()), Error::Forged(id));
    assert_eq!(
        wrong(&signature, Kind::Release, FILE, &keys()),
        Error::WrongKind { expected: Kind::Release, found: Kind::Config }
    );
    let stranger = Keys(vec![public(&pair())]);
    assert_eq!(wrong(&signature, Kind::Config, FILE, &stranger), Error::UnknownKey(id));
    assert_eq!(wrong(&signature, Kind::Config, FILE, &Keys::default()), Error::UnknownKey(id));
    let comment = sign_with_comment(&PAIR, "timestamp:1700000000", FILE);
    assert!(matches!(wrong(&comment, Kind::Config, FILE, &keys()), Error::Comment(_)));
}

#[test]
fn a_key_that_borrows_the_id_of_a_trusted_one_is_refused() {
    let (trusted, thief) = (public(&PAIR), pair());
    let signature = sign(&thief, Kind::Config, 7, FILE);
    // The id is in the clear: bytes 2 to 9 of the signature, as of the key.
    let lines: Vec<&str> = signature.lines().collect();
    let mut bytes = base64ct_decode(lines[1]);
    bytes[2..10].copy_from_slice(&base64ct_decode(&trusted.to_string())[2..10]);
    let forged = signature.replace(lines[1], &base64ct_encode(&bytes));
    assert_eq!(verify(&forged, Kind::Config, FILE, &keys()), Err(Error::Forged(trusted.id())));
}

fn base64ct_decode(text: &str) -> Vec<u8> {
    use base64ct::Encoding as _;
    base64ct::Base64::decode_vec(text).unwrap()
}

fn base64ct_encode(bytes: &[u8]) -> String {
    use base64ct::Encoding as _;
    base64ct::Base64::encode_string(bytes)
}

#[test]
fn no_bit_of_a_signature_can_be_flipped() {
    let signature = sign(&PAIR, Kind::Config, 7, FILE);
    // The untrusted comment is what its name says: only that it is one matters.
    let free = "untrusted comment:".len()..signature.find('\n').unwrap();
    for position in (0..signature.len()).filter(|p| !free.contains(p)) {
        for bit in 0..8 {
            let mut bytes = signature.clone().into_bytes();
            bytes[position] ^= 1 << bit;
            // What is no text is refused by whoever reads the file.
            let Ok(text) = String::from_utf8(bytes) else { continue };
            // Nothing follows the last line but its end.
            if position + 1 == signature.len() && text.trim_end() == signature.trim_end() {
                continue;
            }
            let found = verify(&text, Kind::Config, FILE, &keys());
            assert!(found.is_err(), "bit {bit} of byte {position}:\n{text}");
        }
    }
}

#[test]
fn no_bit_of_a_file_can_be_flipped() {
    let signature = sign(&PAIR, Kind::Config, 7, FILE);
    for position in 0..FILE.len() {
        for bit in 0..8 {
            let mut bytes = FILE.to_vec();
            bytes[position] ^= 1 << bit;
            assert!(verify(&signature, Kind::Config, &bytes, &keys()).is_err());
        }
    }
}

#[test]
fn a_signature_that_is_cut_anywhere_is_refused() {
    let signature = sign(&PAIR, Kind::Config, 7, FILE);
    let whole = signature.trim_end().len();
    for end in 0..whole {
        assert!(verify(&signature[..end], Kind::Config, FILE, &keys()).is_err(), "{end} bytes");
    }
    assert!(verify(&signature[..whole], Kind::Config, FILE, &keys()).is_ok());
}

#[test]
fn a_signature_over_a_digest_cannot_be_turned_into_one_over_a_file() {
    // The algorithm's letters are not signed. So the signature over a file's BLAKE2b digest is also
    // one in the old form over a file that *is* that digest: sixty-four bytes that no reader takes.
    use blake2::Digest as _;
    let signature = sign(&PAIR, Kind::Release, 7, FILE);
    let line = signature.lines().nth(1).unwrap();
    let mut bytes = base64ct_decode(line);
    bytes[..2].copy_from_slice(b"Ed");
    let old = signature.replace(line, &base64ct_encode(&bytes));
    assert!(verify(&old, Kind::Release, FILE, &keys()).is_err());
    let digest = blake2::Blake2b512::digest(FILE);
    assert!(Release::open(&digest, &old, &keys()).is_err());
}

#[test]
fn what_is_no_signature_is_refused() {
    let long = format!("untrusted comment: {}\n", "x".repeat(MAX_SIGNATURE));
    let unknown = {
        let signature = sign(&PAIR, Kind::Config, 7, FILE);
        let line = signature.lines().nth(1).unwrap();
        let mut bytes = base64ct_decode(line);
        bytes[..2].copy_from_slice(b"XX");
        signature.replace(line, &base64ct_encode(&bytes))
    };
    for (text, why) in [
        ("", "it is empty"),
        ("RWQ\n", "no untrusted comment"),
        ("untrusted comment: x\n", "no signature line"),
        ("untrusted comment: x\nRWQ=\n", "no trusted comment"),
        ("untrusted comment: x\nRWQ=\ntrusted comment: x\n", "no global signature"),
        ("untrusted comment: x\nRWQ=\ntrusted comment: x\nRWQ=\n", "bad signature line"),
        (&long, "too long"),
        (&unknown, "unknown algorithm"),
    ] {
        assert_eq!(text.parse::<Signature>(), Err(Error::NotASignature(why)), "{text:?}");
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let good = public(&PAIR).to_string();
    let secret = PAIR.sk.to_box(None).unwrap().into_string();
    let prehashed = {
        let mut bytes = base64ct_decode(&good);
        bytes[..2].copy_from_slice(b"ED");
        base64ct_encode(&bytes)
    };
    // The neutral element: for such a key, anybody can make signatures that lax verifiers accept.
    let weak = base64ct_encode(&[b"Ed".as_slice(), &[0; 8], &[1], &[0; 31]].concat());
    // Not the encoding of any point.
    let off = base64ct_encode(&[b"Ed".as_slice(), &[0; 8], &[2], &[0; 31]].concat());
    for text in ["", "RW", &good[1..], &format!("{good}AAAA"), &secret, &prehashed, &weak, &off] {
        assert_eq!(text.parse::<PublicKey>(), Err(Error::NotAKey), "{text}");
    }
}

#[test]
fn keys_are_read_as_a_line_and_as_a_file() {
    let key = public(&PAIR);
    let file = PAIR.pk.to_box().unwrap().into_string();
    for text in [key.to_string(), format!("{key}\n"), file.clone(), file.replace('\n', "\r\n")] {
        assert_eq!(text.parse(), Ok(key.clone()), "{text:?}");
    }
    assert!(file.contains(&key.id().to_string()), "{file} names {}", key.id());
}

#[test]
fn signatures_with_the_line_ends_of_other_systems_are_read() {
    let signature = sign(&PAIR, Kind::Config, 7, FILE).replace('\n', "\r\n");
    assert!(verify(&signature, Kind::Config, FILE, &keys()).is_ok());
}

#[test]
fn claims_say_kind_and_serial_and_then_anything() {
    let claim = |kind, serial| Claim { kind, serial: Serial(serial) };
    for (text, expected) in [
        ("gse release serial:0", Some(claim(Kind::Release, 0))),
        ("gse index serial:18446744073709551615", Some(claim(Kind::Index, u64::MAX))),
        ("gse config serial:7 lab of the maths department", Some(claim(Kind::Config, 7))),
        ("gse image serial:7", Some(claim(Kind::Image, 7))),
        ("", None),
        ("gse", None),
        ("gse config", None),
        ("gse config serial:", None),
        ("gse config serial:-1", None),
        ("gse config serial:7x", None),
        ("gse config serial:18446744073709551616", None),
        ("gse  config serial:7", None),
        ("gse configs serial:7", None),
        ("GSE config serial:7", None),
        (" gse config serial:7", None),
        ("timestamp:1700000000\tfile:config.tar", None),
    ] {
        assert_eq!(text.parse::<Claim>().ok(), expected, "{text:?}");
    }
}

fn minisign(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("minisign").args(arguments).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "minisign {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_real_minisign_and_this_reader_agree() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("file"), FILE).unwrap();
    minisign(here, &["-G", "-W", "-p", "key.pub", "-s", "key"]);
    let key: PublicKey = fs::read_to_string(here.join("key.pub")).unwrap().parse().unwrap();
    let theirs = Keys(vec![key]);

    // What it signs is accepted here: the form of today, and the older one.
    for form in [&[] as &[_], &["-l"]] {
        let arguments = [&["-S", "-s", "key", "-m", "file", "-t", "gse config serial:7 x"], form];
        minisign(here, &arguments.concat());
        let signature = fs::read_to_string(here.join("file.minisig")).unwrap();
        let claim = verify(&signature, Kind::Config, FILE, &theirs).unwrap();
        assert_eq!(claim, Claim { kind: Kind::Config, serial: Serial(7) });
        assert!(verify(&signature, Kind::Config, b"other", &theirs).is_err());
        let parsed: Signature = signature.parse().unwrap();
        let large = parsed.verify_reader(Kind::Config, FILE, &theirs).unwrap();
        assert_eq!(large.is_ok(), form.is_empty(), "{large:?}");
    }

    // What gse signs is accepted there, with the key as gse writes it.
    fs::write(here.join("file.minisig"), sign(&PAIR, Kind::Image, 9, FILE)).unwrap();
    let ours = public(&PAIR).to_string();
    let said = minisign(here, &["-V", "-Q", "-m", "file", "-P", &ours]);
    assert_eq!(said, "gse image serial:9\n");
}

#[test]
fn the_minisign_crate_accepts_what_this_reader_accepts() {
    let text = sign(&PAIR, Kind::Index, 3, FILE);
    let parsed = minisign::SignatureBox::from_string(&text).unwrap();
    minisign::verify(&PAIR.pk, &parsed, Cursor::new(FILE), true, false, false).unwrap();
    assert!(verify(&text, Kind::Index, FILE, &keys()).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_a_parser_panic(text in ".{0,400}") {
        let _ = text.parse::<Signature>();
        let _ = text.parse::<PublicKey>();
        let _ = text.parse::<Claim>();
    }

    #[test]
    fn a_signature_with_any_bytes_in_its_fields_verifies_nothing(
        line in prop::collection::vec(any::<u8>(), 72),
        global in prop::collection::vec(any::<u8>(), 64),
        prehashed: bool,
        comment in "gse (config|release) serial:[0-9]{1,20}",
    ) {
        let algorithm: &[u8] = if prehashed { b"ED" } else { b"Ed" };
        let mut line = [algorithm, &line].concat();
        line[2..10].copy_from_slice(&base64ct_decode(&public(&PAIR).to_string())[2..10]);
        let (line, global) = (base64ct_encode(&line), base64ct_encode(&global));
        let text = format!("untrusted comment:\n{line}\ntrusted comment: {comment}\n{global}\n");
        let signature: Signature = text.parse().unwrap();
        prop_assert!(signature.verify(Kind::Config, FILE, &keys()).is_err());
    }

    #[test]
    fn what_is_signed_is_accepted_and_what_differs_is_not(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        other in prop::collection::vec(any::<u8>(), 0..2000),
        serial: u64,
    ) {
        let signature = sign(&PAIR, Kind::Image, serial, &bytes);
        let claim = verify(&signature, Kind::Image, &bytes, &keys());
        prop_assert_eq!(claim, Ok(Claim { kind: Kind::Image, serial: Serial(serial) }));
        if other != bytes {
            prop_assert!(verify(&signature, Kind::Image, &other, &keys()).is_err());
        }
    }
}
