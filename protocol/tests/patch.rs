//! The tables of patch files, and the numbers in patches.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use gse_protocol::{
    Index, Serial, Sha256,
    index::{Content, Entry, FORMAT, Frame, Kind, Time},
    patch::{MAX_PIECE, PatchFile, Piece, Run, Step, Table, read_number, write_number},
};
use proptest::prelude::*;

fn entry(path: &str, kind: Kind) -> Entry {
    let path = path.as_bytes().to_vec();
    Entry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime: Time::default(), xattrs: vec![] }
}

fn frame(unpacked: u32) -> Frame {
    Frame { packed: 1, unpacked, sha256: Sha256([0; 32]) }
}

/// The root, and a file of 100 bytes.
fn index() -> Index {
    let file = Content { size: 100, offset: 0, sha256: Sha256([0; 32]), extents: None };
    Index {
        format: FORMAT,
        name: "t".into(),
        version: "1".into(),
        serial: Serial(1),
        entries: vec![entry("", Kind::Directory), entry("file", Kind::File(file))],
        frames: vec![frame(1000)],
        patches: vec![],
    }
}

fn parse(pieces: &[Piece], frames: &[u32]) -> Result<Table, String> {
    let patch = PatchFile {
        version: "0".into(),
        index: Sha256([0; 32]),
        table: 1,
        frames: [1].iter().chain(frames).map(|unpacked| frame(*unpacked)).collect(),
    };
    let bytes = minicbor::to_vec(Table { pieces: pieces.to_vec() }).unwrap();
    Table::parse(&bytes, &patch, &index(), &index()).map_err(|e| e.to_string())
}

#[test]
fn a_table_that_does_not_make_files_whole_out_of_its_frames_is_refused() {
    let piece = |entry, makes, takes, base| Piece { entry, makes, takes, base };
    let good = [piece(1, 60, 60, None), piece(1, 40, 9, Some(1))];
    assert_eq!(parse(&good, &[60, 9]).unwrap().pieces, good);
    parse(&good, &[69]).unwrap();
    for (pieces, frames, why) in [
        (vec![piece(0, 100, 100, None)], vec![100], "makes something that is no file"),
        (vec![piece(7, 100, 100, None)], vec![100], "makes something that is no file"),
        (vec![piece(1, 100, 5, Some(0))], vec![5], "is made from something that is no file"),
        (vec![piece(1, 100, 5, Some(7))], vec![5], "is made from something that is no file"),
        (vec![piece(1, 0, 5, Some(1))], vec![5], "too large, or empty"),
        (vec![piece(1, MAX_PIECE + 1, 5, Some(1))], vec![5], "too large, or empty"),
        (vec![piece(1, 100, 5, None)], vec![5], "another length than the bytes"),
        (vec![piece(1, 100, 0, Some(1))], vec![5], "does not lie in one frame"),
        (good.to_vec(), vec![50, 19], "does not lie in one frame"),
        (good.to_vec(), vec![60], "does not lie in one frame"),
        (good.to_vec(), vec![60, 9, 1], "has frames without pieces"),
        (good.to_vec(), vec![70], "has frames without pieces"),
        (good[..1].to_vec(), vec![60], "does not make a file whole"),
    ] {
        let error = parse(&pieces, &frames).unwrap_err();
        assert!(error.contains(why), "{pieces:?} {frames:?}: {error}");
    }
}

#[test]
fn an_index_lists_patches_that_have_a_name_and_a_table() {
    let patch = |version: &str, table, frames| PatchFile {
        version: version.into(),
        index: Sha256([0; 32]),
        table,
        frames: vec![frame(1); frames],
    };
    for (patch, good) in [
        (patch("1.0", 1, 2), true),
        (patch("../1", 1, 2), false),
        (patch("1", 0, 2), false),
        (patch("1", 3, 2), false),
        (patch("1", 9, 10), false),
    ] {
        let index = Index { patches: vec![patch], ..index() };
        assert_eq!(index.check().is_ok(), good, "{:?}", index.patches);
        if good {
            assert_eq!(Index::parse(&index.to_bytes(3).unwrap()).unwrap(), index);
        }
    }
}

proptest! {
    #[test]
    fn runs_are_read_as_they_were_written(keep: u32, change: u32) {
        let run = Run { keep, change };
        let mut bytes = Vec::new();
        run.write(&mut bytes);
        let mut rest = bytes.as_slice();
        prop_assert_eq!(Run::read(&mut rest), Some(run));
        prop_assert!(rest.is_empty());
        for cut in 0..bytes.len() {
            prop_assert_eq!(Run::read(&mut &bytes[..cut]), None);
        }
    }

    #[test]
    fn steps_are_read_as_they_were_written(seek: i64, copy: u32, insert: u32) {
        let step = Step { seek, copy, insert };
        let mut bytes = Vec::new();
        step.write(&mut bytes);
        let mut rest = bytes.as_slice();
        prop_assert_eq!(Step::read(&mut rest), Some(step));
        prop_assert!(rest.is_empty());
        for cut in 0..bytes.len() {
            prop_assert_eq!(Step::read(&mut &bytes[..cut]), None);
        }
    }

    #[test]
    fn numbers_are_at_most_64_bits(number: u64, noise in prop::collection::vec(any::<u8>(), 0..12)) {
        let mut bytes = Vec::new();
        write_number(&mut bytes, number);
        prop_assert_eq!(read_number(&mut bytes.as_slice()), Some(number));
        let _ = read_number(&mut noise.as_slice());
        prop_assert_eq!(read_number(&mut [0xff; 12].as_slice()), None);
    }
}
