//! Installing onto real filesystems: the same tree comes out, or an error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{
    fs::{self, File},
    io::Write as _,
    num::NonZero,
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt as _, symlink},
    },
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use common::{
    disk::{self, Disk},
    pack::{self, Image},
    tree,
};
use gse_controller::install::{
    FileSource, FrameSource, InstallError, Limits, Report, SourceError, install,
};
use gse_protocol::{
    Index, Sha256,
    index::{Kind, PlacedFrame},
};

fn install_with(image: &Image, root: &Path, limits: &Limits) -> Result<Report, InstallError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&image.tar_zst).unwrap();
    let root = File::open(root).unwrap();
    install(&image.index, &mut FileSource::new(file), root.as_fd(), &|_| {}, limits)
}

fn install_on(image: &Image, root: &Path) -> Result<Report, InstallError> {
    install_with(image, root, &Limits::default())
}

/// A small tree of files that share frames and files that span frames.
fn plain_tree(root: &Path) {
    fs::create_dir_all(root.join("a/b")).unwrap();
    for number in 0..40 {
        let bytes = tree::noise(number, 3000 * (number as usize % 5));
        fs::write(root.join(format!("a/b/{number}")), bytes).unwrap();
    }
    fs::write(root.join("large"), tree::noise(99, 200_000)).unwrap();
    symlink("a/b/1", root.join("link")).unwrap();
}

#[test]
fn a_nasty_tree_comes_out_the_same_on_each_filesystem_and_with_each_frame_size() {
    let (_folder, original) = disk::folder();
    tree::make_nasty(&original);
    for (filesystem, mib) in [("btrfs", 256), ("ext4", 128), ("xfs", 320)] {
        for (frame, cores) in [(4 << 20, 4), (100_000, 4), (5_000, 3), (20_000, 1)] {
            let image = pack::pack(&original, frame);
            let disk = Disk::new(filesystem, mib);
            let limits = Limits { cores: NonZero::new(cores).unwrap(), ..Limits::default() };
            let report = install_with(&image, &disk.path(), &limits).unwrap();
            assert_eq!(report.entries, image.index.entries.len());
            tree::assert_same(&original, &disk.path());
            for sparse in ["var/hole-only", "var/holes"] {
                let meta = fs::metadata(disk.path().join(sparse)).unwrap();
                assert!(
                    meta.blocks() * 512 < meta.len() / 2,
                    "{sparse} on {filesystem} has no holes"
                );
            }
        }
    }
}

#[test]
fn one_thread_with_hardly_any_memory_makes_the_same_tree() {
    let (_folder, original) = disk::folder();
    plain_tree(&original);
    let (_target, target) = disk::folder();
    let limits = Limits { memory: 0, ..Limits::default() };
    let report = install_with(&pack::pack(&original, 10_000), &target, &limits).unwrap();
    assert_eq!(report.threads, 1);
    tree::assert_same(&original, &target);
}

#[test]
fn progress_ends_at_the_length_of_the_image() {
    let (_folder, original) = disk::folder();
    plain_tree(&original);
    let image = pack::pack(&original, 10_000);
    let (_target, target) = disk::folder();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&image.tar_zst).unwrap();
    let (most, calls) = (AtomicU64::new(0), AtomicU64::new(0));
    let progress = |done| {
        most.fetch_max(done, Ordering::Relaxed);
        calls.fetch_add(1, Ordering::Relaxed);
    };
    let root = File::open(&target).unwrap();
    let limits = Limits::default();
    install(&image.index, &mut FileSource::new(file), root.as_fd(), &progress, &limits).unwrap();
    assert_eq!(most.into_inner(), image.index.packed_size());
    assert_eq!(calls.into_inner(), image.index.frames.len() as u64);
}

#[test]
fn a_flipped_bit_anywhere_in_the_image_is_refused() {
    let (_folder, original) = disk::folder();
    plain_tree(&original);
    let image = pack::pack(&original, 30_000);
    let random = tree::noise(7, 4 * 60);
    for four in random.chunks(4) {
        let at = u32::from_le_bytes(four.try_into().unwrap()) as usize;
        let mut tar_zst = image.tar_zst.clone();
        let at = at % (tar_zst.len() * 8);
        tar_zst[at / 8] ^= 1 << (at % 8);
        let broken = Image { index: image.index.clone(), tar_zst };
        let (_target, target) = disk::folder();
        let error = install_on(&broken, &target).unwrap_err();
        assert!(matches!(error, InstallError::Frame { .. }), "bit {at}: {error}");
    }
}

#[test]
fn an_image_that_was_cut_is_refused() {
    let (_folder, original) = disk::folder();
    plain_tree(&original);
    let image = pack::pack(&original, 30_000);
    for length in [0, 1, image.tar_zst.len() / 2, image.tar_zst.len() - 1] {
        let tar_zst = image.tar_zst[..length].to_vec();
        let (_target, target) = disk::folder();
        let error =
            install_on(&Image { index: image.index.clone(), tar_zst }, &target).unwrap_err();
        assert!(matches!(error, InstallError::Source(_)), "{length} bytes: {error}");
    }
}

#[test]
fn an_index_that_does_not_fit_its_image_is_refused() {
    let (_folder, original) = disk::folder();
    plain_tree(&original);
    let image = || pack::pack(&original, 30_000);
    let refused = |image: &Image| {
        image.index.check().unwrap();
        let (_target, target) = disk::folder();
        install_on(image, &target).unwrap_err()
    };

    for wanted in ["a/b/3", "large"] {
        let mut wrong = image();
        for entry in &mut wrong.index.entries {
            if let (b, Kind::File(content)) = (&entry.path, &mut entry.kind)
                && b == wanted.as_bytes()
            {
                content.sha256 = Sha256::of(b"something else");
            }
        }
        let error = refused(&wrong);
        assert!(matches!(&error, InstallError::Content { path, .. } if path == wanted), "{error}");
    }

    let mut longer = image();
    longer.index.frames.last_mut().unwrap().unpacked += 1;
    assert!(matches!(refused(&longer), InstallError::Unpack { .. }));

    let mut shorter = image();
    // The tar ends with two blocks of zeros, so no file misses this byte.
    shorter.index.frames.last_mut().unwrap().unpacked -= 1;
    assert!(matches!(refused(&shorter), InstallError::Unpack { .. }));

    let mut no_zstd = image();
    let frame = &mut no_zstd.index.frames[0];
    no_zstd.tar_zst[..frame.packed as usize].fill(b'x');
    frame.sha256 = Sha256::of(&no_zstd.tar_zst[..frame.packed as usize]);
    assert!(matches!(refused(&no_zstd), InstallError::Unpack { number: 0, .. }));
}

/// Two places: the first has wrong bytes for some frames, the second for some others.
struct TwoPlaces<'i> {
    image: &'i Image,
    wrong: [Vec<usize>; 2],
}

impl FrameSource for TwoPlaces<'_> {
    fn read_frame(&mut self, frame: &PlacedFrame, packed: &mut Vec<u8>) -> Result<(), SourceError> {
        self.read_from(0, frame, packed);
        Ok(())
    }

    fn read_again(
        &mut self,
        frame: &PlacedFrame,
        packed: &mut Vec<u8>,
    ) -> Result<bool, SourceError> {
        self.read_from(1, frame, packed);
        Ok(frame.frame.is(packed))
    }
}

impl TwoPlaces<'_> {
    fn read_from(&self, place: usize, frame: &PlacedFrame, packed: &mut Vec<u8>) {
        let number = self.image.index.placed_frames().position(|f| f == *frame).unwrap();
        let start = frame.packed_offset as usize;
        packed.clear();
        packed.extend(&self.image.tar_zst[start..start + frame.frame.packed as usize]);
        if self.wrong[place].contains(&number) {
            packed[0] ^= 1;
        }
    }
}

#[test]
fn a_wrong_frame_is_fetched_once_more_from_another_place() {
    let (_folder, original) = disk::folder();
    plain_tree(&original);
    let image = pack::pack(&original, 30_000);
    let last = image.index.frames.len() - 1;
    let try_with = |wrong: [Vec<usize>; 2]| {
        let (_target, target) = disk::folder();
        let root = File::open(&target).unwrap();
        let mut source = TwoPlaces { image: &image, wrong };
        let limits = Limits::default();
        let done = install(&image.index, &mut source, root.as_fd(), &|_| {}, &limits);
        if done.is_ok() {
            tree::assert_same(&original, &target);
        }
        done
    };
    assert_eq!(try_with([vec![], (0..=last).collect()]).unwrap().fetched_again, 0);
    assert_eq!(try_with([vec![0, 2, last], vec![1]]).unwrap().fetched_again, 3);
    assert_eq!(try_with([(0..=last).collect(), vec![]]).unwrap().fetched_again, last as u64 + 1);
    let error = try_with([vec![1, 3], vec![3]]).unwrap_err();
    assert!(matches!(error, InstallError::Frame { number: 3 }), "{error}");
}

#[test]
fn a_system_that_cannot_fit_is_refused_before_anything_is_written() {
    let (_folder, original) = disk::folder();
    fs::write(original.join("large"), tree::noise(1, 40 << 20)).unwrap();
    let image = pack::pack(&original, 4 << 20);
    let disk = Disk::new("ext4", 32);
    let error = install_on(&image, &disk.path()).unwrap_err();
    let InstallError::Full { needed, free } = error else { panic!("{error}") };
    assert_eq!(needed, 40 << 20);
    assert!(free < 32 << 20);
    assert!(disk::is_untouched(&disk.path()));
    assert!(error.to_string().contains("needs 40 MiB"), "{error}");
}

#[test]
fn a_filesystem_without_inodes_for_all_files_is_refused() {
    let (_folder, original) = disk::folder();
    for number in 0..200 {
        fs::write(original.join(number.to_string()), "x").unwrap();
    }
    let disk = Disk::new("ext4 -N 64", 16);
    let error = install_on(&pack::pack(&original, 1 << 20), &disk.path()).unwrap_err();
    assert!(matches!(error, InstallError::Inodes { needed: 200, .. }), "{error}");
    assert!(disk::is_untouched(&disk.path()));
}

#[test]
fn a_filesystem_that_fills_up_on_the_way_is_said_to_be_full() {
    let (_folder, original) = disk::folder();
    // A thousand bytes in a block of four thousand: the sum of the lengths fits, the blocks do not.
    for number in 0..8000 {
        fs::write(original.join(number.to_string()), tree::noise(number, 1000)).unwrap();
    }
    let image = pack::pack(&original, 100_000);
    let disk = Disk::new("ext4 -b 4096 -N 10000", 24);
    let error = install_on(&image, &disk.path()).unwrap_err();
    let InstallError::Full { needed, free } = error else { panic!("{error}") };
    assert_eq!(needed, 8_000_000);
    assert!(free < 1 << 20, "{free} bytes were free");
}

#[test]
fn a_link_that_lies_in_the_way_is_not_followed() {
    let (_folder, original) = disk::folder();
    fs::create_dir_all(original.join("etc/deep")).unwrap();
    fs::write(original.join("etc/deep/passwd"), "new").unwrap();
    let image = pack::pack(&original, 1000);

    let (_outside, outside) = disk::folder();
    fs::create_dir(outside.join("deep")).unwrap();
    fs::write(outside.join("deep/passwd"), "old").unwrap();
    let before = tree::describe(&outside);
    let links: [(&str, &Path); 4] = [
        ("etc", &outside),
        ("etc/deep", &outside.join("deep")),
        ("etc/deep/passwd", &outside.join("deep/passwd")),
        ("etc/deep/passwd", &outside.join("not-there")),
    ];
    for (at, to) in links {
        let (_target, target) = disk::folder();
        fs::create_dir_all(target.join(at).parent().unwrap()).unwrap();
        symlink(to, target.join(at)).unwrap();
        let error = install_on(&image, &target).unwrap_err();
        assert!(matches!(error, InstallError::System { .. }), "{at}: {error}");
        assert_eq!(tree::describe(&outside), before, "{at}");
    }
}

#[test]
fn a_subvolume_in_the_empty_root_becomes_the_directory_of_the_tree() {
    let (_folder, original) = disk::folder();
    plain_tree(&original);
    let disk = Disk::new("btrfs", 128);
    disk::run(Command::new("btrfs").args(["subvolume", "create"]).arg(disk.path().join("a")));
    disk::run(Command::new("chown").arg("12:34").arg(disk.path().join("a")));
    install_on(&pack::pack(&original, 30_000), &disk.path()).unwrap();
    tree::assert_same(&original, &disk.path());
    // Every subvolume's top is inode 256.
    assert_eq!(fs::metadata(disk.path().join("a")).unwrap().ino(), 256);
}

#[test]
fn the_largest_frames_stay_below_64_mib_of_memory() {
    const FOLDER: &str = "GSE_TEST_IMAGE";
    // This test runs itself a second time, so that only the installation is measured.
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = Path::new(&folder);
        let index = Index::parse(&fs::read(folder.join("index")).unwrap()).unwrap();
        let mut source = FileSource::new(File::open(folder.join("image")).unwrap());
        let root = File::open(folder.join("root")).unwrap();
        let limits = Limits { cores: NonZero::new(8).unwrap(), ..Limits::default() };
        install(&index, &mut source, root.as_fd(), &|_| {}, &limits).unwrap();
        print!("{}", fs::read_to_string("/proc/self/status").unwrap());
        return;
    }

    let (folder, original) = disk::folder();
    fs::write(original.join("large"), tree::noise(3, 100 << 20)).unwrap();
    let image = pack::pack(&original, gse_protocol::index::MAX_FRAME as usize);
    fs::write(folder.path().join("index"), image.index.to_bytes(3).unwrap()).unwrap();
    fs::write(folder.path().join("image"), &image.tar_zst).unwrap();
    fs::create_dir(folder.path().join("root")).unwrap();
    let out = disk::run(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "the_largest_frames_stay_below_64_mib_of_memory"])
            .env(FOLDER, folder.path()),
    );
    let peak = out.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 << 10, "{kib} KiB");
    tree::assert_same(&original.join("large"), &folder.path().join("root/large"));
}
