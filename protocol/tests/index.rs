//! The image index: what `check` promises to the installer, and that no bytes can break the reader.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{PAIR, keys, pair, sign};
use gse_protocol::{
    Index, Release, Serial, Sha256,
    index::{
        Content, Entry, Error, Extent, FORMAT, Frame, Kind, MAX_FRAME, MAX_PATH, MAX_UNPACKED,
        MAX_XATTR_NAME, MAX_XATTR_VALUE, Time, Xattr,
    },
    release::{ImageFile, IndexFile},
    sign::{self, Kind as Signed},
};
use proptest::prelude::*;

fn entry(path: impl AsRef<[u8]>, kind: Kind) -> Entry {
    Entry {
        path: path.as_ref().to_vec(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
    }
}

fn directory(path: impl AsRef<[u8]>) -> Entry {
    entry(path, Kind::Directory)
}

fn file(path: impl AsRef<[u8]>, offset: u64, size: u64) -> Entry {
    entry(path, Kind::File(content(offset, size, None)))
}

fn content(offset: u64, size: u64, extents: Option<&[(u64, u64)]>) -> Content {
    let extent = |&(offset, length): &(u64, u64)| Extent { offset, length };
    let extents = extents.map(|e| e.iter().map(extent).collect());
    Content { size, offset, sha256: Sha256::of(b""), extents }
}

fn sparse(path: &str, size: u64, extents: &[(u64, u64)]) -> Entry {
    entry(path, Kind::File(content(0, size, Some(extents))))
}

fn link(path: &str, target: &str) -> Entry {
    entry(path, Kind::Symlink(target.into()))
}

fn hard(path: &str, target: u32) -> Entry {
    entry(path, Kind::Hardlink(target))
}

fn frame(unpacked: u32) -> Frame {
    Frame { packed: unpacked.max(1), unpacked, sha256: Sha256::of(b"") }
}

/// An image of 1000 bytes of tar, with the root before these entries.
fn index(entries: impl IntoIterator<Item = Entry>) -> Index {
    Index {
        format: FORMAT,
        name: "lab".to_owned(),
        version: "1".to_owned(),
        serial: Serial(7),
        entries: [directory("")].into_iter().chain(entries).collect(),
        frames: vec![frame(600), frame(400)],
        patches: vec![],
    }
}

fn why(index: &Index) -> String {
    match index.check() {
        Ok(()) => "fine".to_owned(),
        Err(Error::Entry { why, .. }) | Err(Error::Frame { why, .. }) => why.to_owned(),
        Err(other) => other.to_string(),
    }
}

#[test]
fn trees_that_an_installer_can_make_are_accepted() {
    let long = "x".repeat(255);
    let deep = [long.as_str(); 15].join("/");
    for (what, entries) in [
        ("nothing but the root", vec![]),
        ("a file in a folder", vec![directory("a"), file("a/b", 0, 10)]),
        ("a name with dots", vec![file("..a", 0, 1), file("...", 1, 1), file(".b", 2, 1)]),
        ("a name that is no text", vec![file(b"\xff\n", 0, 1)]),
        ("the longest name", vec![file(&long, 0, 1)]),
        ("data to the last byte", vec![file("a", 0, 1000)]),
        ("data across frames", vec![file("a", 500, 200)]),
        ("an empty file beyond all data", vec![file("a", 5000, 0)]),
        ("a link out of the tree, as data", vec![link("a", "../../etc"), link("b", "/etc")]),
        ("a hard link", vec![file("a", 0, 1), hard("b", 1)]),
        ("extents side by side", vec![sparse("a", 100, &[(0, 10), (10, 5), (99, 1)])]),
        ("a file that is all hole", vec![sparse("a", 1 << 40, &[])]),
        ("a device", vec![entry("a", Kind::CharDevice(1, 3)), entry("b", Kind::BlockDevice(8, 0))]),
        ("a pipe", vec![entry("a", Kind::Fifo)]),
    ] {
        assert_eq!(why(&index(entries)), "fine", "{what}");
    }
    let mut folders: Vec<_> = Vec::new();
    folders.extend(deep.match_indices('/').map(|(end, _)| directory(&deep[..end])));
    assert_eq!(why(&index(folders)), "fine");
}

#[test]
fn trees_that_would_harm_are_refused() {
    let with = |change: fn(&mut Entry)| {
        let mut entry = file("a", 0, 1);
        change(&mut entry);
        vec![entry]
    };
    for (entries, found) in [
        (vec![directory("..")], "would leave the tree by a .. in its path"),
        (vec![directory("a"), directory("a/..")], "would leave the tree by a .. in its path"),
        (vec![directory("a"), file("a/../../b", 0, 1)], "would leave the tree by a .. in its path"),
        (vec![file("/etc/passwd", 0, 1)], "has an absolute path"),
        (vec![file("/", 0, 1)], "has an absolute path"),
        (vec![file(".", 0, 1)], "has an empty part or a . in its path"),
        (vec![directory("./a")], "has an empty part or a . in its path"),
        (vec![directory("a"), file("a//b", 0, 1)], "has an empty part or a . in its path"),
        (vec![directory("a/")], "has an empty part or a . in its path"),
        (vec![file("a\0b", 0, 1)], "has a NUL in its path"),
        (vec![directory(".gse")], "lies where a machine keeps its own records"),
        (vec![file("x".repeat(256), 0, 1)], "has a name of over 255 bytes"),
        (vec![file("x".repeat(MAX_PATH + 1), 0, 1)], "has a path of over 4095 bytes"),
        (vec![directory("")], "is not the root, or is the root but not first"),
        (vec![link("a", "/etc"), file("a/passwd", 0, 1)], "lies in something that is no directory"),
        (vec![link("a", "."), directory("a/b")], "lies in something that is no directory"),
        (vec![file("a", 0, 1), file("a/b", 1, 1)], "lies in something that is no directory"),
        (vec![file("a/b", 0, 1)], "comes before its directory"),
        (vec![file("a/b", 0, 1), directory("a")], "comes before its directory"),
        (vec![file("a", 0, 1), file("a", 1, 1)], "is there twice"),
        (vec![directory("a"), link("a", "/etc")], "is there twice"),
        (vec![link("a", "/etc"), directory("a")], "is there twice"),
        (
            vec![hard("a", 2), file("b", 0, 1)],
            "is a hard link to something that is no earlier file",
        ),
        (vec![hard("a", 1)], "is a hard link to something that is no earlier file"),
        (vec![hard("a", 0)], "is a hard link to something that is no earlier file"),
        (vec![hard("a", u32::MAX)], "is a hard link to something that is no earlier file"),
        (
            vec![link("a", "/etc/passwd"), hard("b", 1)],
            "is a hard link to something that is no earlier file",
        ),
        (
            vec![file("a", 0, 1), hard("b", 1), hard("c", 2)],
            "is a hard link to something that is no earlier file",
        ),
        (vec![link("a", "")], "is a link to nothing"),
        (vec![link("a", "b\0")], "is a link to nothing"),
        (vec![link("a", &"x".repeat(MAX_PATH + 1))], "is a link to a path of over 4095 bytes"),
        (vec![file("a", 0, 1001)], "has its data outside the image, or out of order"),
        (vec![file("a", 1000, 1)], "has its data outside the image, or out of order"),
        (vec![file("a", u64::MAX, 1)], "has its data outside the image, or out of order"),
        (vec![file("a", 1, i64::MAX as u64)], "has its data outside the image, or out of order"),
        (
            vec![file("a", 0, 10), file("b", 9, 10)],
            "has its data outside the image, or out of order",
        ),
        (
            vec![file("a", 10, 10), file("b", 0, 10)],
            "has its data outside the image, or out of order",
        ),
        (vec![file("a", 0, u64::MAX)], "is larger than a file can be"),
        (
            vec![sparse("a", 9, &[(0, 10)])],
            "has overlapping or empty extents, or one beyond its end",
        ),
        (
            vec![sparse("a", 99, &[(0, 0)])],
            "has overlapping or empty extents, or one beyond its end",
        ),
        (
            vec![sparse("a", 99, &[(0, 5), (4, 5)])],
            "has overlapping or empty extents, or one beyond its end",
        ),
        (
            vec![sparse("a", 99, &[(9, 5), (0, 5)])],
            "has overlapping or empty extents, or one beyond its end",
        ),
        (
            vec![sparse("a", 99, &[(u64::MAX, 2)])],
            "has overlapping or empty extents, or one beyond its end",
        ),
        (
            vec![sparse("a", 1 << 40, &[(0, 2000)])],
            "has its data outside the image, or out of order",
        ),
        (with(|e| e.mode = 0o10000), "has a mode of more than twelve bits"),
        (with(|e| e.mode = u32::MAX), "has a mode of more than twelve bits"),
        (
            with(|e| e.mtime.nanoseconds = 1_000_000_000),
            "has a time with more than 999999999 nanoseconds",
        ),
        (with(|e| e.xattrs = vec![xattr(0, 0)]), "has an extended attribute without a name"),
        (
            with(|e| e.xattrs = vec![Xattr { name: b"user.\0".into(), value: vec![] }]),
            "has an extended attribute without a name",
        ),
        (
            with(|e| e.xattrs = vec![xattr(MAX_XATTR_NAME + 1, 0)]),
            "has an extended attribute that is larger than one can be",
        ),
        (
            with(|e| e.xattrs = vec![xattr(1, MAX_XATTR_VALUE + 1)]),
            "has an extended attribute that is larger than one can be",
        ),
    ] {
        let index = index(entries);
        assert_eq!(why(&index), found, "{:?}", index.entries);
        // A signature does not make it better.
        assert!(Index::parse(&index.to_bytes(1).unwrap()).is_err());
    }
}

fn xattr(name: usize, value: usize) -> Xattr {
    Xattr { name: vec![b'x'; name], value: vec![0; value] }
}

#[test]
fn an_index_without_its_root_is_refused() {
    let empty = Index { entries: vec![], ..index([]) };
    assert_eq!(why(&empty), "is missing: the root");
    let no_root = Index { entries: vec![directory("a")], ..index([]) };
    assert_eq!(why(&no_root), "is not the root, or is the root but not first");
    let root_link = Index { entries: vec![link("", "/")], ..index([]) };
    assert_eq!(why(&root_link), "is the root, but no directory");
}

#[test]
fn frames_that_do_not_fit_into_memory_are_refused() {
    let largest = Frame { packed: MAX_FRAME + (MAX_FRAME >> 7), ..frame(MAX_FRAME) };
    for (frame, found) in [
        (largest, "fine"),
        (Frame { packed: largest.packed + 1, ..largest }, "is too large"),
        (Frame { unpacked: MAX_FRAME + 1, ..largest }, "is too large"),
        (Frame { unpacked: u32::MAX, packed: u32::MAX, ..largest }, "is too large"),
        (Frame { unpacked: 0, ..largest }, "is empty"),
        (Frame { packed: 0, ..largest }, "is empty"),
    ] {
        assert_eq!(why(&Index { frames: vec![frame], ..index([]) }), found, "{frame:?}");
    }
}

#[test]
fn another_format_is_refused_before_anything_else() {
    let later = Index { format: 2, entries: vec![], ..index([]) };
    assert_eq!(later.check(), Err(Error::Format(2)));
}

#[test]
fn only_the_index_that_was_signed_is_opened() {
    let index = index([file("a", 0, 1)]);
    let bytes = index.to_bytes(1).unwrap();
    let signature = sign(&PAIR, Signed::Index, 7, &bytes);
    assert_eq!(Index::open(&bytes, &signature, &keys()), Ok(index));

    let opened = |bytes: &[u8], signature: &str| Index::open(bytes, signature, &keys());
    let serial = sign(&PAIR, Signed::Index, 8, &bytes);
    let expected = Error::Serial { file: Serial(7), signed: Serial(8) };
    assert_eq!(opened(&bytes, &serial), Err(expected));
    let kind = sign(&PAIR, Signed::Image, 7, &bytes);
    assert!(matches!(opened(&bytes, &kind), Err(Error::Signature(sign::Error::WrongKind { .. }))));
    let key = sign(&pair(), Signed::Index, 7, &bytes);
    assert!(matches!(opened(&bytes, &key), Err(Error::Signature(sign::Error::UnknownKey(_)))));
    for end in 0..bytes.len() {
        assert!(matches!(
            opened(&bytes[..end], &signature),
            Err(Error::Signature(sign::Error::Forged(_)))
        ));
    }
}

#[test]
fn the_index_of_a_release_is_known_by_its_content() {
    let index = index([file("a", 0, 1)]);
    let cbor = index.to_cbor().unwrap();
    let release = |index: &Index, cbor: &[u8]| Release {
        format: 1,
        name: "lab".to_owned(),
        version: "1".to_owned(),
        serial: Serial(7),
        created: 0,
        allow_downgrade: false,
        index: IndexFile::of("index".to_owned(), b"packed", cbor),
        image: ImageFile {
            path: "image".to_owned(),
            size: index.packed_size(),
            installed_size: 1,
            entries: 2,
        },
        kernel: None,
    };
    let right = release(&index, &cbor);
    assert_eq!(right.read_index(&cbor), Ok(index.clone()));
    let why = |release: &Release, cbor: &[u8]| match release.read_index(cbor).unwrap_err() {
        Error::Other { version, why } if version == "1" => why,
        other => panic!("{other}"),
    };
    for cbor in [&cbor[1..], &[], &[cbor.as_slice(), &[0]].concat()] {
        assert_eq!(why(&right, cbor), "is not that");
    }
    let longer = Index { frames: vec![frame(600); 3], ..index };
    assert_eq!(why(&release(&longer, &cbor), &cbor), "describes another image than that");
    // What was signed by mistake is no index either.
    assert!(matches!(release(&longer, b"").read_index(b""), Err(Error::Cbor(_))));
}

fn packed(cbor: &[u8]) -> Vec<u8> {
    zstd::encode_all(cbor, 1).unwrap()
}

#[test]
fn lengths_that_are_lies_allocate_nothing() {
    // Were any of these believed, the allocation would end this process.
    let lengths: [&[u8]; 2] = [
        &[0x1b, 0x10, 0, 0, 0, 0, 0, 0, 0],
        &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ];
    // Of an array of six: format, name, version, serial, then entries and frames.
    let start = [0x86, 1, 0x61, b'n', 0x61, b'v', 7];
    for length in lengths {
        let long = |major: u8| {
            let mut head = length.to_vec();
            head[0] |= major << 5;
            head
        };
        let (bytes, text, array, map) = (long(2), long(3), long(4), long(5));
        for cbor in [
            array.clone(),
            map.clone(),
            [[0x86, 1].as_slice(), &text[..]].concat(),
            [&start[..], &array[..]].concat(),
            [&start[..], &[0x81, 0x87], &bytes[..]].concat(),
            [&start[..], &[0x80], &array[..]].concat(),
            // Beyond the fields that there are, where a reader only skips.
            [[0x88].as_slice(), &start[1..], &[0x80, 0x80], &array[..]].concat(),
            [[0x88].as_slice(), &start[1..], &[0x80, 0x80], &map[..], &map[..]].concat(),
        ] {
            assert!(matches!(Index::parse(&packed(&cbor)), Err(Error::Cbor(_))), "{cbor:x?}");
        }
    }
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let start = [0x87, 1, 0x61, b'n', 0x61, b'v', 7, 0x80, 0x80];
    for open in [0x81, 0x9f, 0xa1, 0xbf, 0xc0] {
        let cbor = [&start[..], &vec![open; 4 << 20]].concat();
        assert!(matches!(Index::parse(&packed(&cbor)), Err(Error::Cbor(_))), "{open:x}");
    }
}

#[test]
fn a_small_file_that_unpacks_to_a_large_one_is_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), MAX_UNPACKED + 1), &mut encoder)
        .unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    let error = Index::parse(&bomb).unwrap_err();
    assert_eq!(error, Error::Zstd(format!("over {MAX_UNPACKED} bytes")));
}

#[test]
fn what_follows_the_index_is_refused() {
    let index = index([]);
    let cbor = zstd::decode_all(&index.to_bytes(1).unwrap()[..]).unwrap();
    assert_eq!(Index::parse(&packed(&cbor)), Ok(index));
    assert!(matches!(Index::parse(&packed(&[&cbor[..], &[0]].concat())), Err(Error::Cbor(_))));
    let twice = [packed(&cbor), packed(&cbor)].concat();
    assert!(matches!(Index::parse(&twice), Err(Error::Cbor(_))));
    assert!(Index::parse(b"").is_err());
    assert!(matches!(Index::parse(b"not zstd"), Err(Error::Zstd(_))));
}

/// What one entry of a random tree is to be.
type Seed = (prop::sample::Index, Vec<u8>, u8, prop::sample::Index, u16, (u32, u32, u32));

fn seed() -> impl Strategy<Value = Seed> {
    let name = prop::collection::vec(any::<u8>(), 1..12);
    let numbers = (0..0o10000_u32, any::<u32>(), any::<u32>());
    (
        any::<prop::sample::Index>(),
        name,
        0..8_u8,
        any::<prop::sample::Index>(),
        any::<u16>(),
        numbers,
    )
}

prop_compose! {
    fn valid_index()(seeds in prop::collection::vec(seed(), 0..40), serial: u64, seconds: i64) -> Index {
        let mut tree = Index { serial: Serial(serial), ..index([]) };
        tree.frames = vec![frame(MAX_FRAME); 2];
        let mut end = 0;
        for (parent, name, kind, other, size, (mode, uid, gid)) in seeds {
            let folders: Vec<_> =
                tree.entries.iter().filter(|e| e.kind == Kind::Directory).collect();
            let parent = &parent.get(&folders).path;
            let name: Vec<u8> = name.into_iter().filter(|b| *b != 0 && *b != b'/').collect();
            let path = match parent.is_empty() {
                true => name.clone(),
                false => [&parent[..], b"/", &name].concat(),
            };
            let taken = tree.entries.iter().any(|e| e.path == path);
            if taken || name.is_empty() || name == b"." || name == b".." {
                continue;
            }
            let size = u64::from(size);
            let target = other.index(tree.entries.len());
            let is_file = matches!(tree.entries[target].kind, Kind::File(_));
            let kind = match kind {
                0 | 1 => Kind::Directory,
                2 => Kind::Symlink([b"../".as_slice(), &name].concat()),
                3 if is_file => Kind::Hardlink(target as u32),
                4 => Kind::CharDevice(uid, gid),
                5 => Kind::Fifo,
                6 => {
                    let extents = [(size, size + 1), (4 * size + 1, 1)];
                    let sparse = content(end, 5 * size + 2, Some(&extents));
                    end += sparse.stored();
                    Kind::File(sparse)
                }
                _ => {
                    let whole = content(end, size, None);
                    end += size;
                    Kind::File(whole)
                }
            };
            let mtime = Time { seconds, nanoseconds: gid % 1_000_000_000 };
            let xattrs = vec![Xattr { name: b"user.x".into(), value: name }];
            tree.entries.push(Entry { path, kind, mode, uid, gid, mtime, xattrs });
        }
        tree
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_valid_index_reads_back_as_it_was(index in valid_index()) {
        prop_assert_eq!(index.check(), Ok(()));
        let again = Index::parse(&index.to_bytes(3).unwrap());
        prop_assert_eq!(again.as_ref(), Ok(&index));
        let places: Vec<_> = index.placed_frames().collect();
        prop_assert_eq!(places.len(), index.frames.len());
        prop_assert_eq!(
            places.last().map(|p| p.unpacked_offset + u64::from(p.frame.unpacked)),
            Some(index.unpacked_size())
        );
        prop_assert_eq!(
            places.last().map(|p| p.packed_offset + u64::from(p.frame.packed)),
            Some(index.packed_size())
        );
    }

    #[test]
    fn flipped_bits_and_cuts_never_panic(
        index in valid_index(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 0..4),
        end in any::<prop::sample::Index>(),
    ) {
        let cbor = zstd::decode_all(&index.to_bytes(1).unwrap()[..]).unwrap();
        let mut damaged = cbor.clone();
        for (place, bit) in &flips {
            damaged[place.index(cbor.len())] ^= 1 << bit;
        }
        // What passes for an index has all that `check` promises.
        if let Ok(found) = Index::parse(&packed(&damaged)) {
            prop_assert_eq!(found.check(), Ok(()));
        }
        let cut = &cbor[..end.index(cbor.len())];
        prop_assert!(matches!(Index::parse(&packed(cut)), Err(Error::Cbor(_))));

        let mut file = index.to_bytes(1).unwrap();
        for (place, bit) in flips {
            let place = place.index(file.len());
            file[place] ^= 1 << bit;
        }
        let _ = Index::parse(&file);
        let cut = &file[..end.index(file.len())];
        prop_assert!(Index::parse(cut).is_err());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Index::parse(&bytes);
        let _ = Index::parse(&packed(&bytes));
    }
}
