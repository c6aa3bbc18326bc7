//! Updates with patches: what the builder publishes is what a machine applies.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[allow(dead_code, unreachable_pub)]
#[path = "../../../controller/tests/common/disk.rs"]
mod disk;
mod faults;
mod lab;
mod room;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../controller/tests/common/server.rs"]
mod server;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    sync::{
        Mutex,
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

use gse::patch::{Amount, Difference};
use gse_controller::install::{FileSource, FrameSource, FrameSources, SourceError};
use gse_protocol::index::PlacedFrame;
use lab::{Lab, noise, rebuilt, upgrade};
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_patch_file_and_the_old_system_are_all_that_the_new_one_needs() {
    let (lab, machine) = upgrade();
    let summary = lab.publish("2");
    let size = summary.patches[0].size;
    // Of eight million bytes that differ.
    assert!(size < 150_000, "the patch file has {size} bytes");
    let (report, made) = machine.update(&lab, "2", false).unwrap();
    made.is(&lab.path("tree"));
    assert_eq!(report.copied, 50 * 30_000 + 100_000);
    assert_eq!((report.unpatched, report.copied + report.patched), (0, report.bytes));
    assert!(report.fetched <= size, "{report:?}");
}

/// Asked for its first frame, it says so, and waits until something was copied.
struct WithCopies {
    patches: FileSource,
    asked: Option<Sender<()>>,
    copied: Receiver<()>,
}

impl FrameSource for WithCopies {
    fn read_frame(&mut self, frame: &PlacedFrame, packed: &mut Vec<u8>) -> Result<(), SourceError> {
        if let Some(asked) = self.asked.take() {
            asked.send(()).unwrap();
            self.copied
                .recv_timeout(MINUTE)
                .expect("patches were to come before anything was copied");
        }
        self.patches.read_frame(frame, packed)
    }
}

#[test]
fn what_is_copied_and_what_is_fetched_do_not_wait_for_each_other() {
    let (lab, machine) = upgrade();
    lab.publish("2");
    let (asked, was_asked) = mpsc::channel();
    let (copies, copied) = mpsc::channel();
    let patches = machine.patches(&lab, "2");
    let mut patches = WithCopies { patches, asked: Some(asked), copied };
    let sources = FrameSources { patch: Some(&mut patches), image: None };
    let first = Mutex::new(Some((copies, was_asked)));
    // Before the first patch was read, only what was copied can be done.
    let progress = |_, _| {
        if let Some((copies, was_asked)) = first.lock().unwrap().take() {
            copies.send(()).unwrap();
            was_asked
                .recv_timeout(MINUTE)
                .expect("all was to be copied before patches are asked for");
        }
    };
    let (_, made) = machine.update_from(&lab, "2", sources, &progress).unwrap();
    made.is(&lab.path("tree"));
}

#[test]
fn the_difference_of_two_versions_is_told_in_files_and_bytes() {
    let (lab, _machine) = upgrade();
    let size = lab.publish("2").patches[0].size;
    let difference = Difference::new(&lab.index("1"), &lab.index("2"));
    let amount = |files, bytes| Amount { files, bytes };
    assert_eq!(difference.same, amount(50, 1_500_000));
    assert_eq!(difference.moved, amount(1, 100_000));
    assert_eq!(difference.changed, amount(2, 7_200_000 + 2 * 19));
    assert_eq!(difference.new, amount(4, 820_004 + 3 * 19));
    assert_eq!(difference.gone, amount(5, 920_004));
    // The table is not what a machine fetches for its files, but it is fetched.
    assert_eq!(difference.patch, Some(size));
    assert_eq!(difference.image, lab.index("2").packed_size());
}

#[test]
fn patches_are_made_from_the_last_releases_only_and_each_works() {
    let (lab, machine) = upgrade();
    lab.publish("2");
    let second = lab.machine("2");
    lab.write("usr/edited", b"the third");
    lab.publish("3");
    let index = lab.index("3");
    let versions: Vec<&str> = index.patches.iter().map(|p| p.version.as_str()).collect();
    assert_eq!(versions, ["2", "1"]);
    for machine in [&machine, &second] {
        machine.update(&lab, "3", false).unwrap().1.is(&lab.path("tree"));
    }
    lab.write("usr/edited", b"the fourth");
    lab.publish("4");
    assert!(!lab.file("4", "from-1.patch").exists());
    // Nothing changed, so there is nothing to patch.
    assert!(lab.publish("5").patches.iter().all(|patch| patch.from != "4"));
}

#[test]
fn a_base_that_was_changed_on_disk_makes_its_file_come_from_the_image() {
    let (lab, machine) = upgrade();
    lab.publish("2");
    for path in ["usr/large", "lib/libx.so.1.2"] {
        let path = machine.folder.path().join(path);
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"changed", 100_000).unwrap();
    }
    fs::remove_file(machine.folder.path().join("usr/edited")).unwrap();
    let (report, made) = machine.update(&lab, "2", true).unwrap();
    made.is(&lab.path("tree"));
    assert_eq!(report.unpatched, 3);
    // Without an image that is an error, which says what is to be done.
    let Err(error) = machine.update(&lab, "2", false) else { panic!("it was made of nothing") };
    assert!(error.to_string().contains("connect the machine to its server"), "{error}");
}

#[test]
fn a_patch_file_with_a_flipped_bit_is_not_used_and_the_image_is() {
    let (lab, machine) = upgrade();
    lab.publish("2");
    let path = lab.file("2", "from-1.patch");
    let bytes = fs::read(&path).unwrap();
    // In the last frame: what was made of the others is taken away again.
    let mut wrong = bytes.clone();
    let at = wrong.len() - 100;
    wrong[at] ^= 4;
    fs::write(&path, &wrong).unwrap();
    let (report, made) = machine.update(&lab, "2", true).unwrap();
    made.is(&lab.path("tree"));
    assert!(report.no_patches.is_some_and(|why| why.contains("not what was signed")));
    assert_eq!(report.patched, 0);
    // Cut off.
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let (report, made) = machine.update(&lab, "2", true).unwrap();
    made.is(&lab.path("tree"));
    assert!(report.no_patches.is_some());
    // In the table: there is no plan with it.
    wrong[10] ^= 4;
    fs::write(&path, wrong).unwrap();
    assert!(machine.update(&lab, "2", true).is_err());
}

#[test]
fn an_old_image_that_is_damaged_gives_no_patches_and_stops_nothing() {
    let (lab, _machine) = upgrade();
    fs::write(lab.file("1", "index.cbor.zst"), b"damaged").unwrap();
    assert!(lab.publish("2").patches.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn any_change_of_a_tree_is_made_by_its_patches(
        files in prop::collection::vec((0_usize..2_500_000, 0_u64..4), 1..5),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..5, any::<u16>()), 0..12),
    ) {
        let lab = Lab::new();
        let mut contents: Vec<Vec<u8>> =
            files.iter().map(|(length, seed)| noise(*seed, *length)).collect();
        let write = |contents: &[Vec<u8>]| {
            for (number, bytes) in contents.iter().enumerate() {
                lab.write(&format!("d{}/{number}", number % 3), bytes);
            }
        };
        write(&contents);
        // Not all of the image is new, or the patches would not pay.
        lab.write("same", &noise(77, 30_000_000));
        lab.publish("1");
        let machine = lab.machine("1");
        for (file, kind, at) in edits {
            let bytes = file.get(&contents).clone();
            let at = usize::from(at).min(bytes.len());
            let (head, tail) = bytes.split_at(at);
            let edited = match kind {
                0 => rebuilt(&bytes),
                1 => [tail, head].concat(),
                2 => [head, b"inserted", tail].concat(),
                3 => tail.to_vec(),
                _ => [bytes.as_slice(), bytes.as_slice()].concat(),
            };
            let number = file.index(contents.len());
            contents[number] = edited;
        }
        write(&contents);
        let published = lab.publish("2");
        if !published.patches.is_empty() {
            machine.update(&lab, "2", false).unwrap().1.is(&lab.path("tree"));
        }
    }
}
