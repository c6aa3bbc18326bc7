//! Cloning between real filesystems: what comes out is what a fresh installation would be, or an error
//! that says which files are in the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{
    fs::{self, File},
    io::Write as _,
    os::{
        fd::AsFd as _,
        unix::fs::{FileExt as _, MetadataExt as _, symlink},
    },
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use common::{
    disk::{self, Disk},
    pack::{self, Image},
    system::{configure, image_file, install_on},
    tree,
};
use gse_controller::install::{
    Damage, FileSource, FrameSource, InstallError, Limits, LocalTree, Report, SourceError, clone,
};
use gse_protocol::index::PlacedFrame;
use proptest::prelude::*;

/// Clones `source`, whose records are in its `.gse`.
fn clone_to(
    image: &Image,
    source: &Path,
    fallback: Option<&mut dyn FrameSource>,
    target: &Path,
) -> Result<Report, InstallError> {
    let tree = LocalTree::open(source, &source.join(".gse")).unwrap();
    let root = File::open(target).unwrap();
    clone(&image.index, &tree, fallback, root.as_fd(), &|_, _| {}, &Limits::default())
}

/// A system with a file of each kind that is copied in its own way, and what it is an image of.
struct System {
    _folder: [tempfile::TempDir; 2],
    original: std::path::PathBuf,
    root: std::path::PathBuf,
    image: Image,
}

impl System {
    fn new() -> Self {
        let (one, original) = disk::folder();
        for folder in ["etc", "usr/lib/deep", "var"] {
            fs::create_dir_all(original.join(folder)).unwrap();
        }
        symlink("usr/lib", original.join("lib")).unwrap();
        for number in 0..40 {
            let bytes = tree::noise(number, 700 * number as usize);
            fs::write(original.join(format!("usr/lib/deep/{number}")), bytes).unwrap();
        }
        fs::write(original.join("etc/hostname"), "image\n").unwrap();
        fs::write(original.join("usr/lib/release"), "image 1\n").unwrap();
        // More than fits into a thread's buffer.
        fs::write(original.join("usr/large"), tree::noise(99, 3_000_000)).unwrap();
        let image = pack::pack(&original, 20_000);
        let (two, root) = disk::folder();
        install_on(&image, &root);
        Self { _folder: [one, two], original, root, image }
    }

    fn clone(&self, fallback: Option<&mut dyn FrameSource>) -> Result<Report, InstallError> {
        let (_target, target) = disk::folder();
        let report = clone_to(&self.image, &self.root, fallback, &target)?;
        tree::assert_same(&self.original, &target);
        Ok(report)
    }
}

#[test]
fn a_clone_of_a_configured_system_is_what_a_fresh_installation_is_on_each_filesystem() {
    let (_folder, original) = disk::folder();
    tree::make_nasty(&original);
    let image = pack::pack(&original, 100_000);
    for (from, to) in [("btrfs", "ext4"), ("ext4", "xfs"), ("xfs", "btrfs"), ("ext4", "ext4")] {
        let disk = |filesystem| Disk::new(filesystem, if filesystem == "xfs" { 320 } else { 256 });
        let (source, target, fresh) = (disk(from), disk(to), disk(to));
        install_on(&image, &source.path());
        configure(
            &source.path(),
            &[("etc/deep/link/x", "behind a link"), ("bin/su", "changed"), ("etc/new", "added")],
        );
        configure(&source.path(), &[("bin/su", "again"), ("usr/large", "short"), ("etc/more", "")]);
        disk::run(Command::new("mount").args(["-o", "remount,ro"]).arg(source.path()));
        let before = tree::describe(&source.path());

        let report = clone_to(&image, &source.path(), None, &target.path()).unwrap();
        assert_eq!((report.copied, report.damaged.files), (report.bytes, 0));
        install_on(&image, &fresh.path());
        tree::assert_same(&fresh.path(), &target.path());
        tree::assert_same(&original, &target.path());
        for sparse in ["var/hole-only", "var/holes"] {
            let meta = fs::metadata(target.path().join(sparse)).unwrap();
            assert!(meta.blocks() * 512 < meta.len() / 2, "{sparse} on {to} has no holes");
        }
        assert_eq!(tree::describe(&source.path()), before, "the source changed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_clone_of_an_installation_is_the_installation(
        files in prop::collection::vec((0_u8..4, 0_usize..60_000, 0_u64..3), 0..40),
        large in prop::option::of(1_000_000_usize..2_500_000),
        changed in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        frame in 3_000_usize..200_000,
    ) {
        let (_folder, original) = disk::folder();
        let mut paths = Vec::new();
        for (number, (directory, length, hole)) in files.into_iter().enumerate() {
            fs::create_dir_all(original.join(format!("d{directory}"))).unwrap();
            paths.push(format!("d{directory}/{number}"));
            let file = File::create(original.join(paths.last().unwrap())).unwrap();
            file.write_all_at(&tree::noise(number as u64, length), hole << 20).unwrap();
        }
        if let Some(length) = large {
            fs::write(original.join("large"), tree::noise(7, length)).unwrap();
        }
        let image = pack::pack(&original, frame);
        let (_source, source) = disk::folder();
        install_on(&image, &source);
        let fresh = tree::describe(&source);
        if !paths.is_empty() {
            let changes: Vec<_> =
                changed.iter().map(|n| (n.get(&paths).as_str(), "of the machine")).collect();
            configure(&source, &changes);
        }
        let (_target, target) = disk::folder();
        clone_to(&image, &source, None, &target).unwrap();
        prop_assert_eq!(tree::describe(&target), fresh);
    }
}

/// Counts what is read of an image.
struct Counting(FileSource, u64);

impl FrameSource for Counting {
    fn read_frame(&mut self, frame: &PlacedFrame, packed: &mut Vec<u8>) -> Result<(), SourceError> {
        self.1 += u64::from(frame.frame.packed);
        self.0.read_frame(frame, packed)
    }
}

#[test]
fn what_is_damaged_is_named_without_an_image_and_mended_with_one() {
    fn flip(path: &Path, at: u64) {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 16], at).unwrap();
    }
    type Harm = fn(&Path);
    let length = |found| Damage::Length { expected: 21_000, found };
    let cases: [(&str, Damage, Harm); 9] = [
        ("usr/lib/deep/30", Damage::Content, |path| flip(path, 20_999)),
        ("usr/large", Damage::Content, |path| flip(path, 2_999_999)),
        ("usr/lib/deep/30", Damage::Missing, |path| fs::remove_file(path).unwrap()),
        ("usr/lib/deep/30", length(20_999), |path| {
            File::options().write(true).open(path).unwrap().set_len(20_999).unwrap();
        }),
        ("usr/lib/deep/30", length(21_001), |path| {
            File::options().append(true).open(path).unwrap().write_all(b"x").unwrap();
        }),
        ("usr/lib/deep/30", Damage::Kind, |path| {
            fs::rename(path, path.with_extension("moved")).unwrap();
            symlink(path.with_extension("moved"), path).unwrap();
        }),
        // Whoever opened this for reading would wait for ever.
        ("usr/lib/deep/30", Damage::Kind, |path| {
            fs::remove_file(path).unwrap();
            disk::run(Command::new("mkfifo").arg(path));
        }),
        ("usr/lib/deep/30", Damage::Kind, |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("usr/large", Damage::Length { expected: 3_000_000, found: 0 }, |path| {
            File::create(path).unwrap();
        }),
    ];
    for (path, damage, harm) in cases {
        let system = System::new();
        harm(&system.root.join(path));
        let error = system.clone(None).unwrap_err();
        let InstallError::Damaged(damaged) = &error else { panic!("{error}") };
        assert_eq!(damaged.files, 1, "{error}");
        assert_eq!(damaged.first, [(path.to_owned(), damage)]);
        assert!(error.to_string().contains(path), "{error}");

        let mut counting = Counting(image_file(&system.image), 0);
        let report = system.clone(Some(&mut counting)).unwrap();
        assert_eq!(&report.damaged, damaged);
        let size = fs::metadata(system.original.join(path)).unwrap().len();
        assert_eq!(report.copied, report.bytes - size);
        // Noise does not compress: the file, and what shares its frames.
        assert!(counting.1 <= size + 60_000, "{} bytes were read for {size}", counting.1);
    }
}

#[test]
fn an_intact_system_is_cloned_without_a_look_at_the_image() {
    let system = System::new();
    let mut counting = Counting(image_file(&system.image), 0);
    system.clone(Some(&mut counting)).unwrap();
    assert_eq!(counting.1, 0);
}

#[test]
fn a_link_in_place_of_a_directory_is_not_followed_even_to_the_right_content() {
    let system = System::new();
    let (_outside, outside) = disk::folder();
    let deep = system.root.join("usr/lib/deep");
    for to in [outside.join("deep"), system.root.join("usr/lib/moved")] {
        disk::run(Command::new("mv").arg("-T").arg(&deep).arg(&to));
        symlink(&to, &deep).unwrap();
        let error = system.clone(None).unwrap_err();
        let InstallError::Damaged(damaged) = &error else { panic!("{error}") };
        // One of the forty is empty, and made without a look.
        assert_eq!(damaged.files, 39);
        assert_eq!(damaged.first.len(), 5);
        assert!(damaged.first.iter().all(|(_, damage)| *damage == Damage::Directory), "{error}");
        assert!(error.to_string().contains("and 34 more"), "{error}");
        system.clone(Some(&mut image_file(&system.image))).unwrap();
        fs::remove_file(&deep).unwrap();
        disk::run(Command::new("mv").arg("-T").arg(&to).arg(&deep));
    }
    system.clone(None).unwrap();
}

#[test]
fn a_bit_that_flips_on_the_disk_is_found_by_its_digest_or_by_btrfs() {
    for (filesystem, unreadable) in [("ext4", false), ("btrfs", true)] {
        let system = System::new();
        let disk = Disk::new(filesystem, 128);
        install_on(&system.image, &disk.path());
        let wanted = fs::read(system.original.join("usr/large")).unwrap();
        let wanted = &wanted[4096 * 600..4096 * 600 + 512];
        disk.offline(|image| {
            let bytes = fs::read(image).unwrap();
            let starts = (0..bytes.len()).step_by(512);
            let at = starts.into_iter().find(|at| bytes[*at..].starts_with(wanted)).unwrap() + 123;
            let file = File::options().write(true).open(image).unwrap();
            file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
        });

        let (_target, target) = disk::folder();
        let error = clone_to(&system.image, &disk.path(), None, &target).unwrap_err();
        let InstallError::Damaged(damaged) = &error else { panic!("{error}") };
        let found = match damaged.first.as_slice() {
            [(path, damage)] if path == "usr/large" => damage,
            other => panic!("{other:?}"),
        };
        assert_eq!(matches!(found, Damage::Unreadable(_)), unreadable, "{found}");
        assert_eq!(*found == Damage::Content, !unreadable, "{found}");

        let (_target, target) = disk::folder();
        let image = &mut image_file(&system.image);
        clone_to(&system.image, &disk.path(), Some(image), &target).unwrap();
        tree::assert_same(&system.original, &target);
    }
}

#[test]
fn kept_copies_stand_in_for_what_the_configuration_changed() {
    let system = System::new();
    // The second is a path through a link of the image.
    configure(&system.root, &[("etc/hostname", "lab\n"), ("lib/release", "lab\n"), ("etc/x", "")]);
    assert_eq!(fs::read_to_string(system.root.join("usr/lib/release")).unwrap(), "lab\n");
    let report = system.clone(None).unwrap();
    assert_eq!(report.copied, report.bytes);

    // A power cut between the copy and the change, and the loss of a copy that is not needed.
    fs::write(system.root.join("etc/hostname"), "image\n").unwrap();
    system.clone(None).unwrap();
    fs::remove_file(system.root.join(".gse/pristine/etc/hostname")).unwrap();
    system.clone(None).unwrap();

    fs::write(system.root.join(".gse/pristine/lib/release"), "image 2\n").unwrap();
    let error = system.clone(None).unwrap_err();
    let InstallError::Damaged(damaged) = &error else { panic!("{error}") };
    assert_eq!(damaged.first, [("usr/lib/release".to_owned(), Damage::Content)]);
    system.clone(Some(&mut image_file(&system.image))).unwrap();
}

#[test]
fn without_a_readable_record_of_the_configuration_nothing_is_cloned() {
    let system = System::new();
    configure(&system.root, &[("etc/hostname", "lab\n")]);
    fs::write(system.root.join(".gse/applied.toml"), "file = 1").unwrap();
    let error = LocalTree::open(&system.root, &system.root.join(".gse")).unwrap_err();
    assert!(format!("{error:#}").contains("applied.toml"), "{error:#}");
}

#[test]
fn a_clone_that_does_not_fit_is_refused_before_and_on_the_way() {
    let (_folder, original) = disk::folder();
    for number in 0..8000 {
        fs::write(original.join(number.to_string()), tree::noise(number, 1000)).unwrap();
    }
    let image = pack::pack(&original, 100_000);
    for (mib, untouched) in [(6, true), (24, false)] {
        let disk = Disk::new("ext4 -b 4096 -N 10000", mib);
        let error = clone_to(&image, &original, None, &disk.path()).unwrap_err();
        assert!(matches!(error, InstallError::Full { needed: 8_000_000, .. }), "{error}");
        assert_eq!(disk::is_untouched(&disk.path()), untouched, "{mib} MiB");
    }
}

#[test]
fn progress_counts_what_is_read_and_ends_at_its_sum() {
    let system = System::new();
    let stored = {
        let (most, last_total) = (AtomicU64::new(0), AtomicU64::new(0));
        progress(&system, &most, &last_total);
        assert_eq!(most.load(Ordering::Relaxed), last_total.load(Ordering::Relaxed));
        most.into_inner()
    };
    fs::remove_file(system.root.join("usr/large")).unwrap();
    let (most, last_total) = (AtomicU64::new(0), AtomicU64::new(0));
    progress(&system, &most, &last_total);
    let (most, total) = (most.into_inner(), last_total.into_inner());
    assert_eq!(most, total);
    assert!(total >= stored + 3_000_000, "{total} bytes");
}

fn progress(system: &System, most: &AtomicU64, last_total: &AtomicU64) {
    let (_target, target) = disk::folder();
    let tree = LocalTree::open(&system.root, &system.root.join(".gse")).unwrap();
    let root = File::open(&target).unwrap();
    let tell = |done: u64, total: u64| {
        assert!(done <= total, "{done} of {total}");
        most.fetch_max(done, Ordering::Relaxed);
        last_total.fetch_max(total, Ordering::Relaxed);
    };
    let mut source = image_file(&system.image);
    let limits = Limits::default();
    clone(&system.image.index, &tree, Some(&mut source), root.as_fd(), &tell, &limits).unwrap();
}
