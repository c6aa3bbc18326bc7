//! Installing onto real filesystems: the same tree comes out, or an error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{
    fs::{self, File},
    io::Write as _,
    num::NonZero,
    os::{fd::AsFd as _, unix::fs::symlink},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use common::{
    disk::{self, Disk},
    pack::{self, Image},
    tree,
};
use gse_controller::install::{
    FileSource, FrameSource, InstallError, Limits, Origin, Report, SourceError, install,
};
use gse_protocol::{
    Sha256,
    index::{Kind, PlacedFrame},
};

fn install_on(image: &Image, root: &Path, limits: &Limits) -> Result<Report, InstallError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&image.tar_zst).unwrap();
    let root = File::open(root).unwrap();
    install(&image.index, &mut FileSource::new(file), root.as_fd(), &|_| {}, limits)
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
            let report = install_on(&image, &disk.path(), &limits).unwrap();
            assert_eq!(report.entries, image.index.entries.len());
            tree::assert_same(&original, &disk.path());
            assert!(is_sparse(&disk.path().join("var/hole-only")), "{filesystem}");
            assert!(is_sparse(&disk.path().join("var/holes")), "{filesystem}");
        }
    }
}

fn is_sparse(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(path).unwrap();
    meta.blocks() * 512 < meta.len() / 2
}
