//! `latest.toml`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{PAIR, keys, pair, sign};
use gse_protocol::{
    Release, Serial, Sha256,
    release::{Error, ImageFile, IndexDelta, IndexFile, is_safe_path},
    sign::{self, Kind},
};
use proptest::prelude::*;

fn release() -> Release {
    Release {
        format: 1,
        name: "lab".to_owned(),
        version: "2026.11".to_owned(),
        serial: Serial(7),
        created: 1_700_000_000,
        allow_downgrade: false,
        index: IndexFile {
            path: "images/lab-2026.11/index.cbor.zst".to_owned(),
            size: 1000,
            sha256: Sha256::of(b""),
            content: Sha256::of(b"cbor"),
            since: vec![IndexDelta {
                content: Sha256::of(b"older"),
                path: "images/lab-2026.11/from-2026.10.index.zst".to_owned(),
                size: 100,
                sha256: Sha256::of(b"delta"),
            }],
        },
        image: ImageFile {
            path: "images/lab-2026.11/system.tar.zst".to_owned(),
            size: 100_000,
            installed_size: 300_000,
            entries: 12,
        },
        kernel: None,
    }
}

#[test]
fn only_the_release_that_was_signed_is_opened() {
    let text = release().to_toml();
    let bytes = text.as_bytes();
    let signature = sign(&PAIR, Kind::Release, 7, bytes);
    assert_eq!(Release::open(bytes, &signature, &keys()), Ok(release()));

    let open =
        |bytes: &[u8], signature: &str| Release::open(bytes, signature, &keys()).unwrap_err();
    let expected = Error::Serial { file: Serial(7), signed: Serial(8) };
    assert_eq!(open(bytes, &sign(&PAIR, Kind::Release, 8, bytes)), expected);
    let kind = sign(&PAIR, Kind::Config, 7, bytes);
    assert!(matches!(open(bytes, &kind), Error::Signature(sign::Error::WrongKind { .. })));
    let key = sign(&pair(), Kind::Release, 7, bytes);
    assert!(matches!(open(bytes, &key), Error::Signature(sign::Error::UnknownKey(_))));
    for place in 0..bytes.len() {
        let mut flipped = bytes.to_vec();
        flipped[place] ^= 1;
        assert!(matches!(open(&flipped, &signature), Error::Signature(sign::Error::Forged(_))));
        let cut = &bytes[..place];
        assert!(matches!(open(cut, &signature), Error::Signature(sign::Error::Forged(_))));
    }
    let no_text = b"name = \"\xff\"";
    let error = open(no_text, &sign(&PAIR, Kind::Release, 7, no_text)).to_string();
    assert_eq!(error, "latest.toml:1: this is not text in UTF-8");
}

#[test]
fn what_could_leave_its_folder_is_refused_by_name() {
    type Change = fn(&mut Release) -> &mut String;
    let fields: [(&str, Change); 5] = [
        ("name", |r| &mut r.name),
        ("version", |r| &mut r.version),
        ("index.path", |r| &mut r.index.path),
        ("image.path", |r| &mut r.image.path),
        ("index.since.path", |r| &mut r.index.since[0].path),
    ];
    let long = "x".repeat(256);
    let deep = "x/".repeat(8) + "x";
    for (field, get) in fields {
        for bad in [
            "",
            ".",
            "..",
            "../a",
            "a/../b",
            "/a",
            "a//b",
            "a/",
            ".hidden",
            "a/.b",
            "-rf",
            "a b",
            "a\nb",
            "a\0",
            "a\\b",
            "a?b",
            "a%2e",
            "http://x/",
            "é",
            &long,
            &deep,
        ] {
            let mut release = release();
            bad.clone_into(get(&mut release));
            let expected = Error::Unsafe { field: names(field), value: bad.to_owned() };
            assert_eq!(Release::parse(&release.to_toml()), Err(expected), "{field} {bad:?}");
        }
    }
    // A folder in a path is fine, in a name it is not.
    let mut folder = release();
    "a/b".clone_into(&mut folder.name);
    assert!(Release::parse(&folder.to_toml()).is_err());
}

fn names(field: &str) -> &'static str {
    let names = ["name", "version", "index.path", "image.path", "index.since.path"];
    names.into_iter().find(|name| *name == field).unwrap()
}

#[test]
fn mistakes_name_the_line_and_what_was_meant() {
    let text = release().to_toml();
    for (from, to, sentence) in [
        ("format = 1", "format = 2", "latest.toml has format 2"),
        ("version =", "versoin =", "latest.toml:3: unknown field `versoin`, expected one of"),
        ("version =", "versoin =", "(did you mean `version`?)"),
        ("serial = 7", "serial = -7", "latest.toml:4: "),
        ("serial = 7", "serial = 99999999999999999999", "latest.toml:4: "),
        ("serial = 7", "serial = \"7\"", "latest.toml:4: "),
        ("size = 1000\n", "size = 1e3\n", "latest.toml:10: "),
        ("serial = 7\n", "", "missing field `serial`"),
        ("sha256 = \"e3", "sha256 = \"", "a SHA-256 digest has 64 hex digits"),
        ("serial = 7\n", "serial = 7\nserial = 8\n", "latest.toml:5: "),
    ] {
        assert!(text.contains(from), "{from:?} in:\n{text}");
        let error = Release::parse(&text.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(sentence), "{to:?}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_release_reads_back_as_it_is_written(
        name in "[a-z0-9][a-zA-Z0-9._+~-]{0,40}",
        version in "[a-z0-9][a-zA-Z0-9._+~-]{0,40}",
        // As far as TOML's integers go.
        numbers in prop::collection::vec(0..=i64::MAX as u64, 6),
        allow_downgrade: bool,
        contents: [[u8; 8]; 3],
        since in 0..4_usize,
    ) {
        let mut expected = Release { name, version, allow_downgrade, ..release() };
        expected.serial = Serial(numbers[0]);
        expected.created = numbers[1];
        expected.index.size = numbers[2];
        expected.index.sha256 = Sha256::of(&contents[0]);
        expected.index.content = Sha256::of(&contents[1]);
        expected.index.since = vec![expected.index.since[0].clone(); since];
        expected.index.since.iter_mut().for_each(|delta| delta.sha256 = Sha256::of(&contents[2]));
        expected.image.size = numbers[3];
        expected.image.installed_size = numbers[4];
        expected.image.entries = numbers[5];
        prop_assert_eq!(Release::parse(&expected.to_toml()), Ok(expected));
    }

    #[test]
    fn no_text_makes_the_reader_panic(
        text in ".{0,300}",
        place in any::<prop::sample::Index>(),
        insert in "\\PC{0,3}",
    ) {
        let _ = Release::parse(&text);
        let mut damaged = release().to_toml();
        let place = place.index(damaged.len());
        damaged.insert_str(place, &insert);
        let _ = Release::parse(&damaged);
        let _ = Release::parse(&damaged[..place]);
    }

    #[test]
    fn a_safe_path_stays_where_it_is(path in "\\PC{0,40}") {
        if is_safe_path(&path, 8) {
            let joined = std::path::Path::new("/srv").join(&path);
            prop_assert!(joined.starts_with("/srv"));
            prop_assert!(!joined.components().any(|c| c == std::path::Component::ParentDir));
        }
    }
}
