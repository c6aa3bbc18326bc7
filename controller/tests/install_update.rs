//! Updates: content comes from what is on the machine already, and only the rest from the image.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{
    fs::{self, File},
    io::Write as _,
    num::NonZero,
    os::{
        fd::AsFd as _,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use common::{
    disk::{self, Disk},
    pack::{self, Image},
    server::{Answer, Request, Server},
    tree,
};
use gse_controller::{
    fetch::{Client, Patience, RemoteImage, Retry, Switch},
    install::{
        FileSource, FrameSource, FrameSources, InstallError, Limits, LocalTree, Patch, Plan,
        Report, Seed, SourceError, install, make,
    },
};
use gse_protocol::{
    Index, Sha256,
    index::{Frame, PlacedFrame},
    patch::{PatchFile, Piece, Table},
};

fn image_file(image: &Image) -> FileSource {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&image.tar_zst).unwrap();
    FileSource::new(file)
}

/// A tree with files of all sizes.
fn original(root: &Path) {
    for folder in ["usr/lib", "usr/share", "etc"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for number in 1..40 {
        let bytes = tree::noise(number, 900 * number as usize);
        fs::write(root.join(format!("usr/lib/{number}")), bytes).unwrap();
    }
    fs::write(root.join("usr/large"), tree::noise(99, 3_000_000)).unwrap();
    let sparse = File::create(root.join("usr/sparse")).unwrap();
    sparse.write_all_at(&tree::noise(98, 50_000), 1 << 20).unwrap();
    sparse.set_len(3 << 20).unwrap();
}

/// A system that is installed in a folder, and the image that it came from.
struct Installed {
    _folder: tempfile::TempDir,
    root: PathBuf,
    index: Index,
    tree: LocalTree,
}

impl Installed {
    fn new(original: &Path) -> Self {
        let image = pack::pack(original, 50_000);
        let (folder, root) = disk::folder();
        Self::at(&image, folder, root)
    }

    fn at(image: &Image, folder: tempfile::TempDir, root: PathBuf) -> Self {
        let directory = File::open(&root).unwrap();
        let limits = Limits::default();
        install(&image.index, &mut image_file(image), directory.as_fd(), &|_| {}, &limits).unwrap();
        let tree = LocalTree::open(&root, &root.join(".gse")).unwrap();
        Self { _folder: folder, root, index: image.index.clone(), tree }
    }

    fn seed(&self) -> Seed<'_> {
        Seed::new(&self.tree, &self.index)
    }
}

fn update(
    new: &Image,
    seeds: &[Seed<'_>],
    target: &Path,
    with_image: bool,
) -> Result<Report, InstallError> {
    let plan = Plan::new(&new.index, seeds, None)?;
    let costs = plan.costs();
    let root = File::open(target).unwrap();
    let mut image = image_file(new);
    let sources =
        FrameSources { patch: None, image: if with_image { Some(&mut image) } else { None } };
    let report = make(&plan, sources, root.as_fd(), &|_, _| {}, &Limits::default())?;
    assert_eq!(report.bytes, costs.local.bytes + costs.image.bytes);
    if report.damaged.files == 0 {
        assert_eq!((report.copied, report.fetched), (costs.local.bytes, costs.image.fetched));
    }
    Ok(report)
}

#[test]
fn what_was_renamed_or_moved_is_copied_and_only_what_is_new_is_fetched() {
    let (_folder, old) = disk::folder();
    original(&old);
    let installed = Installed::new(&old);
    fs::rename(old.join("usr/lib"), old.join("usr/lib64")).unwrap();
    fs::rename(old.join("usr/large"), old.join("etc/now-here")).unwrap();
    fs::rename(old.join("usr/sparse"), old.join("usr/holes")).unwrap();
    fs::copy(old.join("usr/lib64/30"), old.join("usr/share/again")).unwrap();
    fs::write(old.join("usr/share/new"), tree::noise(1000, 70_000)).unwrap();
    let new = pack::pack(&old, 50_000);

    let (_target, target) = disk::folder();
    let report = update(&new, &[installed.seed()], &target, true).unwrap();
    tree::assert_same(&old, &target);
    assert_eq!(report.bytes - report.copied, 70_000);
    // Noise does not compress: the file, and what shares its frames.
    assert!(report.fetched < 200_000, "{} bytes were fetched", report.fetched);
    let sparse = fs::metadata(target.join("usr/holes")).unwrap();
    assert!(sparse.blocks() * 512 < sparse.len() / 2, "the holes were filled");
}

/// A system that is updated over HTTP: every second file of twenty-four is another one than before.
struct Scattered {
    _folder: tempfile::TempDir,
    tree: PathBuf,
    installed: Installed,
    new: Image,
}

impl Scattered {
    fn new() -> Self {
        let (folder, tree) = disk::folder();
        let write = |number: u64, seed| {
            fs::write(tree.join(format!("{number:02}")), tree::noise(seed, 200_000)).unwrap();
        };
        (0..24).for_each(|number| write(number, number));
        let installed = Installed::new(&tree);
        (0..24).step_by(2).for_each(|number| write(number, 100 + number));
        let new = pack::pack(&tree, 50_000);
        Self { _folder: folder, tree, installed, new }
    }

    fn server(&self, decide: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
        Server::new(&[("image", &self.new.tar_zst)], decide)
    }

    /// Installs the new system, which has to come out right. Gives how many bytes were asked for, and how many came.
    fn update(&self, servers: &[&Server], switched: fn(&Switch<'_>)) -> [u64; 2] {
        let client = Client::new(None, Patience::default()).unwrap();
        let urls: Vec<_> = servers.iter().map(|server| server.url()).collect();
        let size = self.new.tar_zst.len() as u64;
        let retry = Retry { pause: Duration::ZERO, ..Retry::default() };
        let mut image = RemoteImage::new(client, &urls, "image", size, retry, switched);
        let seeds = [self.installed.seed()];
        let plan = Plan::new(&self.new.index, &seeds, None).unwrap();
        let (_target, target) = disk::folder();
        let root = File::open(&target).unwrap();
        let sources = FrameSources { patch: None, image: Some(&mut image) };
        let limits = Limits { memory: 36 << 20, cores: NonZero::new(4).unwrap() };
        let report = make(&plan, sources, root.as_fd(), &|_, _| {}, &limits).unwrap();
        tree::assert_same(&self.tree, &target);
        assert_eq!(report.fetched, plan.costs().image.fetched);
        [report.fetched, image.received()]
    }
}

fn never(switch: &Switch<'_>) {
    panic!("{}", switch.error)
}

#[test]
fn what_is_scattered_over_an_image_is_read_by_four_connections_at_once() {
    let scattered = Scattered::new();
    // The first shows that there are ranges. None of the next three is answered before all of them are asked.
    let together = Barrier::new(3);
    let server = scattered.server(move |request: &Request| {
        if (1..4).contains(&request.number) {
            together.wait();
        }
        Answer::Right
    });
    let [fetched, received] = scattered.update(&[&server], never);
    assert!(received >= fetched);
    assert_eq!(server.requests().len(), 12, "{:?}", server.requests());
}

#[test]
fn a_server_without_ranges_sends_the_image_once() {
    let scattered = Scattered::new();
    let server = scattered.server(|_| Answer::IgnoreRange);
    scattered.update(&[&server], never);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn whichever_of_four_connections_breaks_each_goes_on_where_it_was() {
    let scattered = Scattered::new();
    let breaks = scattered.server(|request: &Request| match request.number % 3 {
        0 => Answer::CutAfter(70_000),
        1 => Answer::Status(500),
        _ => Answer::Right,
    });
    let flips =
        scattered.server(|request: &Request| Answer::Flip(request.from.unwrap_or(0) + 30_000));
    let honest = scattered.server(|_| Answer::Right);
    scattered.update(&[&breaks, &flips, &honest], |_| {});
}

#[test]
fn the_same_system_again_is_made_without_an_image() {
    let (_folder, old) = disk::folder();
    original(&old);
    let installed = Installed::new(&old);
    let (_target, target) = disk::folder();
    update(&pack::pack(&old, 9_000), &[installed.seed()], &target, false).unwrap();
    tree::assert_same(&old, &target);
}

#[test]
fn a_corrupt_file_is_taken_from_another_slot_and_else_from_the_image() {
    let (_folder, old) = disk::folder();
    original(&old);
    let (one, two) = (Installed::new(&old), Installed::new(&old));
    let flip = |root: &Path, path: &str| {
        let file = File::options().write(true).open(root.join(path)).unwrap();
        file.write_all_at(b"corrupt", 100).unwrap();
    };
    let new = pack::pack(&old, 50_000);
    for path in ["usr/lib/20", "usr/large"] {
        flip(&one.root, path);
        let (_target, target) = disk::folder();
        let report = update(&new, &[one.seed(), two.seed()], &target, false).unwrap();
        assert_eq!((report.damaged.files, report.copied), (0, report.bytes));
        tree::assert_same(&old, &target);

        let (_target, target) = disk::folder();
        let error = update(&new, &[one.seed()], &target, false).unwrap_err().to_string();
        assert!(error.contains(path), "{error}");

        let (_target, target) = disk::folder();
        let report = update(&new, &[one.seed()], &target, true).unwrap();
        assert!(report.damaged.first.iter().any(|(found, _)| found == path), "{report:?}");
        tree::assert_same(&old, &target);
    }
    // In both: there is nowhere else to take it from.
    flip(&two.root, "usr/large");
    let (_target, target) = disk::folder();
    let report = update(&new, &[one.seed(), two.seed()], &target, true).unwrap();
    assert_eq!(report.damaged.files, 1);
    tree::assert_same(&old, &target);
}

#[test]
fn files_of_the_same_filesystem_share_their_blocks_and_are_checked_all_the_same() {
    for filesystem in ["btrfs", "xfs -m reflink=1"] {
        let disk = Disk::new(filesystem, 320);
        let folder = |name: &str| {
            let path = disk.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (old, installed) = (folder("original"), folder("installed"));
        original(&old);
        let image = pack::pack(&old, 50_000);
        let installed = Installed::at(&image, tempfile::tempdir().unwrap(), installed);
        rustix::fs::syncfs(File::open(disk.path()).unwrap()).unwrap();
        let free = || rustix::fs::statvfs(disk.path()).unwrap().f_bfree;
        let before = free();
        let target = folder("target");
        update(&image, &[installed.seed()], &target, false).unwrap();
        let used = (before - free()) * rustix::fs::statvfs(disk.path()).unwrap().f_frsize;
        assert!(used < 2_000_000, "{filesystem}: {used} bytes were used for a copy");
        tree::assert_same(&old, &target);

        let file = File::options().write(true).open(installed.root.join("usr/large")).unwrap();
        file.write_all_at(b"corrupt", 2_000_000).unwrap();
        let target = folder("again");
        let report = update(&image, &[installed.seed()], &target, true).unwrap();
        assert_eq!(report.damaged.files, 1);
        tree::assert_same(&old, &target);
    }
}

#[test]
fn what_lies_in_a_hole_does_not_come_along_with_shared_blocks() {
    for filesystem in ["btrfs", "xfs -m reflink=1"] {
        let disk = Disk::new(filesystem, 320);
        let [old, installed, target] = ["original", "installed", "target"].map(|name| {
            let path = disk.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        });
        original(&old);
        let image = pack::pack(&old, 50_000);
        let installed = Installed::at(&image, tempfile::tempdir().unwrap(), installed);
        let sparse = File::options().write(true).open(installed.root.join("usr/sparse")).unwrap();
        for hole in [4096, 2 << 20] {
            sparse.write_all_at(b"garbage", hole).unwrap();
        }
        let report = update(&image, &[installed.seed()], &target, false).unwrap();
        assert_eq!(report.copied, report.bytes, "{filesystem}");
        tree::assert_same(&old, &target);
    }
}

/// Sets what it has when it is gone.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_file_that_changes_while_its_blocks_are_shared_is_taken_as_it_should_be_or_not_at_all() {
    let disk = Disk::new("btrfs", 320);
    let folder = |name: &str| {
        let path = disk.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let (old, installed) = (folder("original"), folder("installed"));
    let files = [("small", 100_000), ("large", 3_000_000)];
    for (name, length) in files {
        fs::write(old.join(name), tree::noise(1, length)).unwrap();
    }
    let image = pack::pack(&old, 50_000);
    let installed = Installed::at(&image, tempfile::tempdir().unwrap(), installed);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _done = AtTheEnd(&done);
        for (name, length) in files {
            let path = installed.root.join(name);
            let right = tree::noise(1, length)[50_000];
            let file = File::options().write(true).open(path).unwrap();
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    file.write_all_at(&[!right], 50_000).unwrap();
                    file.write_all_at(&[right], 50_000).unwrap();
                }
            });
        }
        for round in 0..20 {
            let target = folder(&round.to_string());
            update(&image, &[installed.seed()], &target, true).unwrap();
            tree::assert_same(&old, &target);
        }
    });
}

/// Gives one answer after the other, whatever frame is asked for.
struct InTurn<'a>(std::slice::Iter<'a, &'a [u8]>);

impl FrameSource for InTurn<'_> {
    fn read_frame(&mut self, _: &PlacedFrame, packed: &mut Vec<u8>) -> Result<(), SourceError> {
        (*self.0.next().unwrap()).clone_into(packed);
        Ok(())
    }
}

#[test]
fn a_table_of_patches_is_read_only_if_it_is_what_was_signed() {
    let (_folder, old) = disk::folder();
    for name in ["a", "b"] {
        fs::write(old.join(name), tree::noise(1, 500)).unwrap();
    }
    let installed = Installed::new(&old);
    let [a, b] = [b"a", b"b"].map(|path| {
        installed.index.entries.iter().position(|entry| entry.path == path).unwrap() as u32
    });
    let piece = |entry| Piece { entry, makes: 500, takes: 500, base: None };
    // Either would do for the file.
    let [signed, other] = [[a, b], [b, a]].map(|order| {
        let table = Table { pieces: order.map(piece).to_vec() };
        minicbor::to_vec(table).unwrap()
    });
    let frame = |unpacked: &[u8]| {
        let packed = zstd::bulk::compress(unpacked, 3).unwrap();
        let (length, sha256) = (packed.len() as u32, Sha256::of(&packed));
        (Frame { packed: length, unpacked: unpacked.len() as u32, sha256 }, packed)
    };
    let ((table, signed), (_, other)) = (frame(&signed), frame(&other));
    let file = PatchFile {
        version: "1".to_owned(),
        index: Sha256::of(b"old"),
        table: 1,
        frames: vec![table, frame(&[0; 1000]).0],
    };
    let seed = installed.seed();
    let open = |answers: &[&[u8]]| {
        let mut source = InTurn(answers.iter());
        let opened = Patch::open(&file, &installed.index, &seed, &mut source).map(drop);
        assert_eq!(source.0.len(), 0, "there was more to ask for");
        opened
    };
    open(&[&signed]).unwrap();
    open(&[&other, &signed]).unwrap();
    let error = open(&[&other, &other]).unwrap_err();
    assert!(matches!(error, InstallError::Frame { number: 0 }), "{error}");
}
