//! Updates from servers that cut, lie, truncate, hang and flip bits, on disks that are damaged or too small: the right tree
//! comes out, or an error; the system that the machine has stays as it was, to the byte.

use std::{
    fs::{self, File},
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use gse_controller::{
    fetch::{Client, Patience, RemoteImage, Retry},
    install::{
        FrameSources, InstallError, Limits, LocalTree, Patch, Plan, Report, Seed, install, make,
    },
};
use gse_protocol::{Index, Sha256, patch::PatchFile};
use gse_tests::tree::{describe, differences};
use proptest::{prelude::*, test_runner::TestRunner};
use rustix::fs::{FallocateFlags, fallocate};

use crate::{
    disk::{Disk, run},
    lab::{Lab, noise, upgrade},
    server::{Answer, KINDS, Request, Server},
};

const PATCH: &str = "from-1.patch";
const IMAGE: &str = "system.tar.zst";

/// A lab that has published two versions, and a machine that has the first one in a slot: a filesystem in a file.
struct Scene {
    lab: Lab,
    old: Index,
    new: Index,
    slot: Disk,
}

impl Scene {
    fn new() -> Self {
        let (lab, machine) = upgrade();
        lab.publish("2");
        let slot = Disk::new("ext4", 24);
        let mut image = lab.source("1", IMAGE);
        let root = File::open(slot.path()).unwrap();
        install(&machine.index, &mut image, root.as_fd(), &|_| {}, &Limits::default()).unwrap();
        drop(root);
        let new = lab.index("2");
        let scene = Self { lab, old: machine.index, new, slot };
        scene.read_only();
        scene
    }

    fn read_only(&self) {
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(self.slot.path()));
    }

    /// Where the slot's filesystem is.
    fn slot_file(&self) -> PathBuf {
        self.slot.path().with_file_name("image")
    }

    /// All bytes of the slot.
    fn slot_digest(&self) -> Sha256 {
        Sha256::of(&fs::read(self.slot_file()).unwrap())
    }

    fn published(&self, name: &str) -> Vec<u8> {
        fs::read(self.lab.file("2", name)).unwrap()
    }

    /// A server that has the second version, and does with each request as `decide` says.
    fn server(&self, decide: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
        let (patch, image) = (self.published(PATCH), self.published(IMAGE));
        Server::new(&[(PATCH, &patch), (IMAGE, &image)], decide)
    }

    fn honest(&self) -> Server {
        self.server(|_| Answer::Right)
    }

    /// Updates as phase 5 does: with patches if they can be had, and else with the image. Whatever comes of it, the slot
    /// of the old system is as it was.
    fn update(&self, servers: &[&Server], target: &Path) -> Result<Report, InstallError> {
        let before = self.slot_digest();
        let done = self.update_from(servers, target);
        assert_eq!(self.slot_digest(), before, "the old system was written to");
        done
    }

    fn update_from(&self, servers: &[&Server], target: &Path) -> Result<Report, InstallError> {
        let urls: Vec<String> = servers.iter().map(|server| server.url()).collect();
        let remote =
            |name: &str, size| RemoteImage::new(client(), &urls, name, size, RETRY, |_| {});
        let tree = LocalTree::open(&self.slot.path(), &self.slot.path().join(".gse")).unwrap();
        let seeds = [Seed::new(&tree, &self.old)];
        let file = &self.new.patches[0];
        assert_eq!(PatchFile::name(&file.version), PATCH);
        let mut patches = remote(PATCH, file.size());
        let patch = Patch::open(file, &self.new, &seeds[0], &mut patches).ok();
        let plan = Plan::new(&self.new, &seeds, patch.as_ref())?;
        let mut image = remote(IMAGE, self.new.packed_size());
        let sources = FrameSources { patch: Some(&mut patches), image: Some(&mut image) };
        let root = File::open(target).unwrap();
        make(&plan, sources, root.as_fd(), &|_, _| {}, &Limits::default())
    }

    /// Updates from servers of which one is good enough.
    #[track_caller]
    fn updates(&self, servers: &[&Server]) -> Report {
        let target = tempfile::tempdir().unwrap();
        let report = self.update(servers, target.path()).unwrap_or_else(|e| panic!("{e}"));
        self.is_in(target.path());
        report
    }

    /// Updates, or says why not.
    fn updates_or_not(&self, servers: &[&Server]) {
        let target = tempfile::tempdir().unwrap();
        match self.update(servers, target.path()) {
            Ok(_) => self.is_in(target.path()),
            Err(error) => assert!(error.to_string().len() > 40, "that says little: {error}"),
        }
    }

    #[track_caller]
    fn is_in(&self, target: &Path) {
        let wanted = describe(&self.lab.path("tree")).unwrap();
        let found = describe(target).unwrap();
        assert_eq!(differences(&wanted, &found), Vec::<String>::new());
    }
}

const RETRY: Retry = Retry {
    rounds: 3,
    pause: Duration::ZERO,
    progress: 1000,
    back: Duration::from_millis(50),
    busy: Duration::from_secs(5),
};

/// Waits no longer than a test can.
fn client() -> Client {
    let short = Duration::from_secs(2);
    let patience = Patience { answer: short, silence: short, ..Patience::default() };
    Client::new(None, patience).unwrap()
}

#[test]
fn no_byte_of_a_patch_file_is_asked_for_twice() {
    let scene = Scene::new();
    let server = scene.honest();
    scene.updates(&[&server]);
    let asked = server.requests();
    let mut end = 0;
    for request in asked.iter().filter(|request| request.path == PATCH) {
        assert!(request.from.unwrap_or(0) >= end, "{asked:?}");
        end = request.last.map_or(usize::MAX, |last| last + 1);
    }
    assert!(end >= scene.published(PATCH).len());
}

#[test]
fn each_lie_of_a_server_is_found_out_and_the_next_server_serves() {
    let scene = Scene::new();
    let older = fs::read(scene.lab.file("1", IMAGE)).unwrap();
    for lie in [
        Answer::CutAfter(0),
        Answer::CutAfter(777),
        Answer::WrongRange,
        Answer::More(1),
        Answer::More(70_000),
        Answer::Fewer(1),
        Answer::Fewer(20_000),
        Answer::Overlap(1),
        Answer::Overlap(4096),
        Answer::IgnoreRange,
        Answer::Gzip,
        Answer::Instead(older),
        Answer::Instead(noise(9, 100)),
        Answer::Instead(Vec::new()),
        Answer::Status(404),
        Answer::Status(416),
        Answer::Status(500),
        Answer::Redirect("/elsewhere".into()),
    ] {
        let (answer, honest) = (lie.clone(), scene.honest());
        let liar = scene.server(move |_| answer.clone());
        let report = scene.updates(&[&liar, &honest]);
        assert_eq!(report.unpatched, 0, "{lie:?}: the patches were to be had");
        // Alone it does what it can.
        if !matches!(lie, Answer::CutAfter(777)) {
            scene.updates_or_not(&[&liar]);
        }
    }
}

#[test]
fn one_server_without_ranges_is_enough() {
    let scene = Scene::new();
    let server = scene.server(|_| Answer::IgnoreRange);
    assert_eq!(scene.updates(&[&server]).unpatched, 0);
    // Without patches too: what is needed of the image lies apart.
    let server = scene.server(|request: &Request| match request.path.as_str() {
        PATCH => Answer::Status(404),
        _ => Answer::IgnoreRange,
    });
    let report = scene.updates(&[&server]);
    assert_eq!((report.patched, report.copied), (0, 50 * 30_000 + 100_000));
}

#[test]
fn a_server_that_hangs_is_left_for_one_that_lacks_the_file_and_then_for_one_that_has_it() {
    let scene = Scene::new();
    let hanging = scene.server(|_| Answer::HangAfter(5000));
    let lacking = Server::honest(&[]);
    let report = scene.updates(&[&hanging, &lacking, &scene.honest()]);
    assert_eq!(report.unpatched, 0);
}

#[test]
fn a_bit_that_flips_on_the_way_costs_one_frame() {
    let scene = Scene::new();
    let last = scene.published(PATCH).len() - 10;
    let flipping =
        scene.server(
            move |request: &Request| {
                if request.path == PATCH { Answer::Flip(last) } else { Answer::Right }
            },
        );
    let report = scene.updates(&[&flipping, &scene.honest()]);
    assert_eq!((report.fetched_again, report.unpatched), (1, 0));
    // With no other server the files of that frame come out of the image.
    let report = scene.updates(&[&flipping]);
    assert!(report.no_patches.is_some_and(|why| why.contains("not what was signed")));
}

#[test]
fn what_the_disk_has_lost_silently_is_fetched() {
    let scene = Scene::new();
    // In a file that would be copied, and in two that patches start from.
    scene.slot.offline(|image| {
        let bytes = fs::read(image).unwrap();
        let file = File::options().write(true).open(image).unwrap();
        for (seed, length) in [(103, 30_000), (3, 400_000), (1, 7_000_000)] {
            // Files lie in blocks.
            let start = &noise(seed, length)[..64];
            let at = bytes.chunks(1024).position(|block| block.starts_with(start)).unwrap() * 1024;
            file.write_all_at(&[bytes[at + 50] ^ 0x40], at as u64 + 50).unwrap();
        }
    });
    scene.read_only();
    let report = scene.updates(&[&scene.honest()]);
    assert_eq!((report.damaged.files, report.unpatched), (1, 2));
    assert_eq!(report.damaged.first[0].0, "usr/same/3");
}

#[test]
fn a_disk_that_fills_up_half_way_is_said_to_be_full_and_a_larger_one_does() {
    let scene = Scene::new();
    for filesystem in ["ext4", "btrfs -M"] {
        let disk = Disk::new(filesystem, 128);
        let filler = disk.path().join("filler");
        let server = scene.server(move |request: &Request| {
            // The first request is for the table of the patches, before anything is written.
            if request.number == 1 {
                let file = File::create(&filler).unwrap();
                let mut full = 0;
                // As much as there is, in ever smaller pieces.
                for power in (12..27).rev() {
                    while fallocate(&file, FallocateFlags::empty(), full, 1 << power).is_ok() {
                        full += 1 << power;
                    }
                }
            }
            Answer::CutAfter(40_000)
        });
        let error = scene.update(&[&server], &disk.path()).unwrap_err();
        assert!(matches!(error, InstallError::Full { .. }), "{filesystem}: {error}");
        assert!(error.to_string().contains("make the partition larger"), "{error}");
    }
    scene.updates(&[&scene.honest()]);
}

/// Runs `check` with many values; more of them for a night.
fn for_many<S: Strategy>(values: &S, check: impl Fn(S::Value)) {
    let soak = std::env::var("GSE_SOAK").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let config = ProptestConfig { cases: 12 * soak, max_shrink_iters: 20, ..Default::default() };
    let mut runner = TestRunner::new(config);
    if let Err(failed) = runner.run(values, |value| {
        check(value);
        Ok(())
    }) {
        panic!("{failed}");
    }
}

#[test]
fn connections_that_are_cut_anywhere_on_two_servers_cost_nothing_but_requests() {
    let scene = Scene::new();
    let cuts = || prop::collection::vec(1000_usize..300_000, 1..40);
    for_many(&(cuts(), cuts()), |(one, other)| {
        let cutting = |cuts: Vec<usize>| {
            scene.server(move |request: &Request| {
                Answer::CutAfter(cuts[request.number % cuts.len()])
            })
        };
        let report = scene.updates(&[&cutting(one), &cutting(other)]);
        assert_eq!((report.unpatched, report.fetched_again), (0, 0));
    });
}

#[test]
fn whatever_servers_say_the_new_system_is_right_or_there_is_none() {
    let scene = Scene::new();
    let sizes = [PATCH, IMAGE].map(|name| scene.published(name).len());
    let honest = scene.honest();
    for_many(&prop::collection::vec((0..KINDS, any::<u32>()), 1..30), |answers| {
        let liar = scene.server(move |request: &Request| {
            let (kind, number) = answers[request.number % answers.len()];
            Answer::of(kind, number, request, sizes[usize::from(request.path == IMAGE)])
        });
        // Alone it may fail, which is said; what is made is right.
        scene.updates_or_not(&[&liar]);
        scene.updates(&[&liar, &honest]);
    });
}
