//! Updates with patches: what the builder publishes is what a machine applies.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{
    fs::{self, File},
    num::NonZero,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
};

use gse::{
    archive::{ArchiveOptions, Summary, archive},
    keys::{self, SecretKey},
    patch::{Amount, Difference},
    progress::Progress,
};
use gse_controller::install::{
    FileSource, FrameSources, InstallError, Limits, LocalTree, Patch, Plan, Report, Seed, install,
    make,
};
use gse_protocol::{Index, sign::Keys};
use gse_tests::tree::{describe, differences};
use proptest::prelude::*;

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state as u8
    };
    (0..length).map(|_| next(&mut state)).collect()
}

/// The same bytes as another compiler run would give them: moved a little, and with other addresses.
fn rebuilt(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = [b"moved by some bytes", bytes].concat();
    bytes.iter_mut().step_by(1000).for_each(|byte| *byte = byte.wrapping_add(1));
    bytes
}

/// What is published, and machines that install it.
struct Lab {
    directory: tempfile::TempDir,
    key: SecretKey,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        keys::generate(&key, None).unwrap();
        let key = SecretKey::load(&key, || unreachable!()).unwrap();
        fs::create_dir(directory.path().join("tree")).unwrap();
        Self { directory, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path("tree").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn publish(&self, version: &str) -> Summary {
        let options = ArchiveOptions {
            tree: &self.path("tree"),
            name: "lab",
            version,
            dist: &self.path("dist"),
            key: &self.key,
            older_keys: &[],
            level: 3,
            allow_downgrade: false,
            kernel: None,
            latest: true,
            created: 1_700_000_000,
            until: None,
            patches: 2,
            threads: NonZero::new(3).unwrap(),
        };
        archive(&options, &Progress::silent()).unwrap()
    }

    fn file(&self, version: &str, name: &str) -> PathBuf {
        self.path("dist/images").join(format!("lab-{version}")).join(name)
    }

    fn index(&self, version: &str) -> Index {
        let path = self.file(version, "index.cbor.zst");
        let signature = fs::read_to_string(path.with_extension("zst.minisig")).unwrap();
        let keys = Keys(vec![self.key.public().clone()]);
        Index::open(&fs::read(path).unwrap(), &signature, &keys).unwrap()
    }

    fn source(&self, version: &str, name: &str) -> FileSource {
        FileSource::new(File::open(self.file(version, name)).unwrap())
    }

    /// A machine that has a version.
    fn machine(&self, version: &str) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let index = self.index(version);
        let mut image = self.source(version, "system.tar.zst");
        let root = File::open(folder.path()).unwrap();
        install(&index, &mut image, root.as_fd(), &|_| {}, &Limits::default()).unwrap();
        Machine { folder, index }
    }
}

struct Machine {
    folder: tempfile::TempDir,
    index: Index,
}

impl Machine {
    /// Updates with the patches from its own version, and with the image if there is one.
    fn update(&self, lab: &Lab, to: &str, image: bool) -> Result<(Report, Tree), InstallError> {
        let new = lab.index(to);
        let root = self.folder.path();
        let local = LocalTree::open(root, &root.join(".gse")).unwrap();
        let seeds = [Seed::new(&local, &self.index)];
        let file = new.patches.iter().find(|patch| patch.version == self.index.version).unwrap();
        let mut patches = lab.source(to, &format!("from-{}.patch", self.index.version));
        let patch = Patch::open(file, &new, &seeds[0], &mut patches)?;
        let plan = Plan::new(&new, &seeds, Some(&patch))?;
        let target = tempfile::tempdir().unwrap();
        let mut image = image.then(|| lab.source(to, "system.tar.zst"));
        let sources = FrameSources {
            patch: Some(&mut patches),
            image: image.as_mut().map(|image| image as _),
        };
        let directory = File::open(target.path()).unwrap();
        let report = make(&plan, sources, directory.as_fd(), &|_, _| {}, &Limits::default())?;
        Ok((report, Tree(target)))
    }
}

struct Tree(tempfile::TempDir);

impl Tree {
    fn is(&self, wanted: &Path) {
        let (wanted, found) = (describe(wanted).unwrap(), describe(self.0.path()).unwrap());
        assert_eq!(differences(&wanted, &found), Vec::<String>::new());
    }
}

/// Two versions, and a machine that has the first: a new kernel, libraries, and files that stay or move.
fn upgrade() -> (Lab, Machine) {
    let lab = Lab::new();
    let large = noise(1, 7_000_000);
    lab.write("lib/modules/6.1.0-50/net/driver.ko", &noise(2, 300_000));
    lab.write("lib/libx.so.1.2", &noise(3, 400_000));
    lab.write("usr/large", &large);
    lab.write("usr/edited", &noise(4, 200_000));
    lab.write("usr/moved", &noise(5, 100_000));
    lab.write("usr/old-name", &noise(6, 120_000));
    lab.write("usr/gone", b"gone");
    for number in 0..50 {
        lab.write(&format!("usr/same/{number}"), &noise(100 + number, 30_000));
    }
    lab.publish("1");
    let machine = lab.machine("1");
    fs::remove_dir_all(lab.path("tree/lib")).unwrap();
    lab.write("lib/modules/6.1.0-56/net/driver.ko", &rebuilt(&noise(2, 300_000)));
    lab.write("lib/libx.so.1.30", &rebuilt(&noise(3, 400_000)));
    lab.write("usr/large", &rebuilt(&large));
    lab.write("usr/edited", &rebuilt(&noise(4, 200_000)));
    let tree = lab.path("tree/usr");
    fs::rename(tree.join("moved"), tree.join("elsewhere")).unwrap();
    fs::remove_file(tree.join("old-name")).unwrap();
    // Nothing but its content tells where it came from.
    lab.write("share/different", &rebuilt(&noise(6, 120_000)));
    lab.write("usr/new", b"new\n");
    fs::remove_file(tree.join("gone")).unwrap();
    (lab, machine)
}

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
