//! `config.tar`: what is packed comes back, and a tar that means harm is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;

use common::{PAIR, keys, pair, public, sign};
use gse_protocol::{
    Serial,
    config::bundle::{Bundle, BundleError, File, Files, MAX_BUNDLE, mistakes, pack, unpack},
    sign::{self, Kind},
};
use proptest::prelude::*;
use tar::{EntryType, Header};

fn file(bytes: impl AsRef<[u8]>) -> File {
    File { mode: 0o644, bytes: bytes.as_ref().to_vec() }
}

fn files() -> Files {
    let sources = format!("servers = [\"http://gse.example\"]\nkeys = [\"{}\"]\n", public(&PAIR));
    BTreeMap::from([
        ("sources.toml".to_owned(), file(sources)),
        ("controller/boot.toml".to_owned(), file("[rescue]\nreboot_after = 3\n")),
        ("controller/system/files/etc/motd".to_owned(), file("welcome\n")),
    ])
}

/// A tar of hand-made entries; names go in as they are.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, kind: u8, name: &[u8], content: &[u8]) -> Self {
        self.header(kind, name, content.len() as u64);
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn header(&mut self, kind: u8, name: &[u8], size: u64) {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::new(kind));
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_link_name("/etc/passwd").unwrap();
        header.set_cksum();
        self.0.extend(header.as_bytes());
    }

    /// Makes the checksum of the first header right again.
    fn checksum(&mut self) {
        let mut header = Header::from_byte_slice(&self.0[..512]).clone();
        header.set_cksum();
        self.0[..512].copy_from_slice(header.as_bytes());
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(b'0', name.as_bytes(), content.as_bytes())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A record of a pax header: its length, which counts itself, then key and value.
fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let length = (0..).find(|n: &usize| n.to_string().len() + rest.len() == *n).unwrap();
    format!("{length}{rest}").into_bytes()
}

#[test]
fn a_bundle_reads_back_as_it_was_packed() {
    let tar = pack(Serial(7), 1_700_000_000, &files()).unwrap();
    let bundle = Bundle::open(&tar, &sign(&PAIR, Kind::Config, 7, &tar), &keys()).unwrap();
    assert_eq!((bundle.serial, bundle.created), (Serial(7), 1_700_000_000));
    assert_eq!(bundle.sources.servers, ["http://gse.example/"]);
    assert_eq!(bundle.boot.rescue.reboot_after, 3);
    assert_eq!(bundle.system, BTreeMap::from([("files/etc/motd".to_owned(), file("welcome\n"))]));
    assert_eq!(pack(Serial(7), 1_700_000_000, &files()).unwrap(), tar);
}

#[test]
fn names_that_are_too_long_for_a_header_are_kept() {
    // The last one has its hundredth byte, where a header's name ends, right after "/..".
    for path in [
        "x".repeat(255),
        "x/".repeat(200) + "y",
        "é".repeat(120),
        "x".repeat(97) + "/..y/" + &"z".repeat(200),
    ] {
        let files = BTreeMap::from([(path, file("1"))]);
        let mut found = unpack(&pack(Serial(1), 0, &files).unwrap()).unwrap();
        found.remove("serial").unwrap();
        assert_eq!(found, files);
    }
}

#[test]
fn only_the_configuration_that_was_signed_is_opened() {
    let tar = pack(Serial(7), 0, &files()).unwrap();
    let signature = sign(&PAIR, Kind::Config, 7, &tar);
    let open = |tar: &[u8], signature: &str| Bundle::open(tar, signature, &keys()).unwrap_err();
    let serial = sign(&PAIR, Kind::Config, 8, &tar);
    let expected = BundleError::Serial { file: Serial(7), signed: Serial(8) };
    assert_eq!(open(&tar, &serial), expected);
    let kind = sign(&PAIR, Kind::Image, 7, &tar);
    assert!(matches!(open(&tar, &kind), BundleError::Signature(sign::Error::WrongKind { .. })));
    let key = sign(&pair(), Kind::Config, 7, &tar);
    assert!(matches!(open(&tar, &key), BundleError::Signature(sign::Error::UnknownKey(_))));
    for place in 0..tar.len() {
        let mut flipped = tar.clone();
        flipped[place] ^= 1;
        let error = open(&flipped, &signature);
        assert!(matches!(error, BundleError::Signature(sign::Error::Forged(_))), "byte {place}");
    }
}

#[test]
fn tars_of_other_programs_are_read() {
    let long = format!("controller/system/{}f", "x/".repeat(60));
    let path = [long.as_bytes(), b"\0"].concat();
    for (what, tar) in [
        ("plain", Tar::default().file("a", "1")),
        ("with ./ before names", Tar::default().entry(b'5', b"./", b"").file("./a", "1")),
        ("with folders", Tar::default().entry(b'5', b"b/", b"").file("a", "1")),
        ("with the oldest type", Tar::default().entry(0, b"a", b"1")),
        ("with a pax name", Tar::default().entry(b'x', b"p", &pax("path", "a")).file("z", "1")),
        ("with a pax time", Tar::default().entry(b'x', b"p", &pax("mtime", "1.5")).file("a", "1")),
    ] {
        let found = unpack(&tar.end());
        assert_eq!(found, Ok(BTreeMap::from([("a".to_owned(), file("1"))])), "{what}");
    }
    let gnu = Tar::default().entry(b'L', b"././@LongLink", &path).file("z", "1").end();
    assert_eq!(unpack(&gnu), Ok(BTreeMap::from([(long, file("1"))])));
}

#[test]
fn tars_that_mean_harm_are_refused() {
    let new = Tar::default;
    // 8 GiB of hole, by the fields for the first hole and for the real size.
    let mut sparse = new();
    sparse.header(b'S', b"a", 0);
    sparse.0[386..398].copy_from_slice(b"77777777777\0");
    sparse.0[398..410].copy_from_slice(b"00000000000\0");
    sparse.0[483..495].copy_from_slice(b"77777777777\0");
    sparse.checksum();
    let mut huge = new();
    huge.header(b'0', b"a", u64::MAX);
    let mut large = new();
    large.header(b'0', b"a", 1 << 40);
    let mut long_name = new();
    long_name.header(b'L', b"././@LongLink", 1 << 40);
    let mut long_pax = new();
    long_pax.header(b'x', b"p", 1 << 40);
    let pax_size = |size: &str| new().entry(b'x', b"p", &pax("size", size)).file("a", "1");
    let pax_path = |path: &str| new().entry(b'x', b"p", &pax("path", path)).file("a", "1");
    let gnu_path = |path: &[u8]| new().entry(b'L', b"././@LongLink", path).file("a", "1");
    let control = "has a name with a line end";
    for (what, tar, sentence) in [
        ("..", new().file("..", ""), "would leave the tree"),
        ("../a", new().file("../a", ""), "would leave the tree"),
        ("a/../../b", new().file("a/../../b", ""), "would leave the tree"),
        ("./../a", new().file("./../a", ""), "would leave the tree"),
        ("././a", new().file("././a", ""), "would leave the tree"),
        ("an absolute name", new().file("/etc/passwd", ""), "would leave the tree"),
        ("two slashes", new().file("a//b", ""), "would leave the tree"),
        ("no name", new().file("", ""), "would leave the tree"),
        ("a slash at the end", new().file("a/", ""), "would leave the tree"),
        (control, new().file("a\nb", ""), "would leave the tree"),
        ("a name that is no text", new().entry(b'0', b"\xff", b""), "is no UTF-8"),
        ("a name twice", new().file("a", "1").file("a", "2"), "is there twice"),
        ("a name twice, by ./", new().file("a", "1").file("./a", "2"), "is there twice"),
        ("a file in a file", new().file("a/b", "1").file("a", "2"), "lies in it"),
        ("a file deep in a file", new().file("a", "1").file("a/b/c", "2"), "lies in it"),
        ("a symbolic link", new().entry(b'2', b"a", b""), "is no regular file"),
        (
            "a link, then a file through it",
            new().entry(b'2', b"a", b"").file("a/b", ""),
            "is no regular file",
        ),
        ("a hard link", new().entry(b'1', b"a", b""), "is no regular file"),
        ("a device", new().entry(b'3', b"a", b""), "is no regular file"),
        ("a block device", new().entry(b'4', b"a", b""), "is no regular file"),
        ("a pipe", new().entry(b'6', b"a", b""), "is no regular file"),
        ("an unknown type", new().entry(b'Q', b"a", b""), "is no regular file"),
        ("global pax headers", new().entry(b'g', b"p", &pax("path", "../a")), "is no regular file"),
        ("a sparse file", sparse, "is no regular file"),
        ("a pax name with ..", pax_path("../a"), "would leave the tree"),
        ("an absolute pax name", pax_path("/a"), "would leave the tree"),
        ("a GNU name with ..", gnu_path(b"../../a\0"), "would leave the tree"),
        ("a pax size beyond the end", pax_size("99999999999"), "cut short"),
        ("the largest pax size", pax_size("18446744073709551615"), "overflow"),
        ("the largest size", huge, ""),
        ("a size beyond the end", large, "cut short"),
        ("a GNU name beyond the end", long_name, ""),
        ("a pax header beyond the end", long_pax, ""),
        (
            "two GNU names",
            new().entry(b'L', b"l", b"a\0").entry(b'L', b"l", b"b\0").file("c", ""),
            "two long name",
        ),
    ] {
        match unpack(&tar.end()) {
            Err(BundleError::Tar(message)) => {
                assert!(message.contains(sentence), "{what}: {message}")
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn a_bundle_of_the_wrong_size_is_refused() {
    let at_most = format!("at most {MAX_BUNDLE} are allowed");
    let large = vec![0; MAX_BUNDLE + 1];
    assert!(unpack(&large).unwrap_err().to_string().contains(&at_most));
    let files = BTreeMap::from([("a".to_owned(), file(&large))]);
    assert!(pack(Serial(1), 0, &files).unwrap_err().to_string().contains(&at_most));
}

#[test]
fn the_serial_is_two_lines_with_a_number_each() {
    let with = |stamp: &str| Tar::default().file("serial", stamp).file("sources.toml", "").end();
    for stamp in
        ["", "1", "1\n", "x\n1\n", "1\nx\n", "-1\n1\n", "1 1\n", "99999999999999999999\n1\n"]
    {
        let error = Bundle::parse(&with(stamp)).unwrap_err();
        assert!(error.to_string().contains("its serial is not two lines"), "{stamp:?}: {error}");
    }
    let error = Bundle::parse(&Tar::default().file("a", "").end()).unwrap_err();
    assert!(error.to_string().contains("it has no serial"), "{error}");
    let taken = BTreeMap::from([("serial".to_owned(), file("9\n9\n"))]);
    assert!(pack(Serial(1), 0, &taken).unwrap_err().to_string().contains("that name is taken"));
}

#[test]
fn a_bundle_needs_its_sources_and_what_they_name() {
    let mut files = files();
    assert_eq!(mistakes(&files), []);
    let sources = files.remove("sources.toml").unwrap();
    let error = Bundle::from_files(Serial(0), 0, files.clone()).unwrap_err();
    assert_eq!(error.to_string(), "sources.toml: this file is missing: it names servers and keys");
    assert_eq!(mistakes(&files), [error]);

    let named = [&sources.bytes[..], b"tls_roots = \"roots.pem\"\n"].concat();
    files.insert("sources.toml".to_owned(), file(named));
    let error = Bundle::from_files(Serial(0), 0, files.clone()).unwrap_err();
    assert!(error.to_string().contains("\"roots.pem\", which is not in config.d"), "{error}");
    files.insert("roots.pem".to_owned(), file("x"));
    assert!(Bundle::from_files(Serial(0), 0, files).is_ok());
}

/// Names that files really have, and long ones, which a tar header does not hold.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-zA-Z0-9@._+ é-]{1,60}", 1..6)
        .prop_map(|parts| parts.join("/"))
        .prop_filter("plain", |path| path.split('/').all(|p| p != "." && p != ".."))
}

fn any_files() -> impl Strategy<Value = Files> {
    let content = (0..0o10000_u32, prop::collection::vec(any::<u8>(), 0..1500));
    let content = content.prop_map(|(mode, bytes)| File { mode, bytes });
    prop::collection::btree_map(path(), content, 0..12).prop_map(|mut files| {
        // A name that is a folder of another one cannot be a file as well.
        let names: Vec<_> = files.keys().cloned().collect();
        files.retain(|name, _| {
            name != "serial" && !names.iter().any(|n| n.starts_with(&format!("{name}/")))
        });
        files
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_files_read_back_as_they_were_packed(files in any_files(), serial: u64, created: u64) {
        let tar = pack(Serial(serial), created, &files).unwrap();
        let mut found = unpack(&tar).unwrap();
        let stamp = found.remove("serial").unwrap();
        prop_assert_eq!(stamp.bytes, format!("{serial}\n{created}\n").into_bytes());
        prop_assert_eq!(found, files);
    }

    #[test]
    fn flipped_bits_and_cuts_never_panic(
        files in any_files(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..6),
        end in any::<prop::sample::Index>(),
    ) {
        let tar = pack(Serial(1), 0, &files).unwrap();
        let mut damaged = tar.clone();
        for (place, bit) in flips {
            damaged[place.index(tar.len())] ^= 1 << bit;
        }
        let _ = Bundle::parse(&damaged);
        let _ = Bundle::parse(&damaged[..end.index(tar.len())]);
    }

    #[test]
    fn no_header_makes_the_reader_panic(
        blocks in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 512)), 1..6),
    ) {
        let mut tar = Vec::new();
        for (kind, mut block) in blocks {
            // Right enough that the reader goes on: a known type, the magic, and a checksum.
            block[156] = b"0123456789LKxgS"[kind as usize % 15];
            block[257..265].copy_from_slice(b"ustar  \0");
            let mut header = Header::from_byte_slice(&block).clone();
            header.set_size(u64::from(kind) * 3);
            header.set_cksum();
            tar.extend(header.as_bytes());
        }
        let _ = Bundle::parse(&tar);
    }
}
