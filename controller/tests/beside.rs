//! `gse-controller plan` and `fetch` beside a running system: a real server, and real filesystems on a loop device.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use common::{
    disk::run,
    pack::{self, Delta, Image, Signer},
    server::{Answer, Request, Server},
    system::install_on,
    tree,
};
use gse_controller::{
    boot::beside::Planned,
    booted::update::{self, WAITS},
    disk::{
        mount::root_below,
        probe::Loops,
        records::{CycleRecord, CycleState, Generation, Life, Records, SlotRecord},
    },
    log::Log,
    mount,
    report::{Backup, BootReport, Place},
    startup::Verdict,
};
use gse_protocol::{
    Serial, Sha256,
    config::{self, drives::Filesystem},
    release::{Kernel, WholeFile},
    sign::Kind,
};
use rustix::fs::{FlockOperation, flock};

/// With what a slot has at least, in MiB.
const KINDS: [(Filesystem, u32); 3] =
    [(Filesystem::Ext4, 48), (Filesystem::Btrfs, 128), (Filesystem::Xfs, 304)];
const EXT4: (Filesystem, u32) = KINDS[0];

/// What a third partition has, for a BOOTFS.
const BOOT_MIB: u32 = 24;

/// A running machine with two slots, and a server.
struct Machine {
    filesystem: Filesystem,
    mib: u32,
    device: PathBuf,
    folder: tempfile::TempDir,
    signer: Signer,
    server: Server,
    tree: PathBuf,
    /// What is installed.
    first: Image,
}

fn image(tree: &Path, serial: u64) -> Image {
    let mut image = pack::pack(tree, 100_000);
    image.index.serial = Serial(serial);
    image.index.version = serial.to_string();
    image
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path().join("root")).status();
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

impl Machine {
    /// Version 1 runs, and came up before; version 2 is on the server, which does as `decide` says.
    fn new(
        (filesystem, mib): (Filesystem, u32),
        decide: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        fs::File::create(&file).unwrap().set_len(u64::from(2 * mib + BOOT_MIB + 4) << 20).unwrap();
        for number in [1, 2] {
            let slot = [format!("-n{number}:0:+{mib}M"), format!("-c{number}:gse-slot-{number}")];
            run(Command::new("sgdisk").args(slot).arg(&file));
        }
        run(Command::new("sgdisk").arg(format!("-n3:0:+{BOOT_MIB}M")).arg(&file));
        let mut losetup = Command::new("losetup");
        let device = run(losetup.args(["-f", "--show", "-P"]).arg(&file));
        let device = PathBuf::from(device.trim());
        // Not every kernel reads tables by itself.
        run(Command::new("partx").arg("-u").arg(&device));
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("usr")).unwrap();
        for number in 1..40 {
            fs::write(tree.join(format!("usr/{number}")), tree::noise(number, 20_000)).unwrap();
        }
        let machine = Self {
            filesystem,
            mib,
            device,
            signer: Signer::new(),
            server: Server::new(&[], decide),
            first: image(&tree, 1),
            tree,
            folder,
        };
        machine.install_first();
        machine
            .publish(2, |tree| fs::write(tree.join("usr/new"), tree::noise(99, 50_000)).unwrap());
        machine.configure("");
        machine
    }

    fn partition(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}p{number}", self.device.display()))
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn info(&self) -> PathBuf {
        self.folder.path().join("info")
    }

    fn install_first(&self) {
        let first = self.partition(1);
        let (label, force) =
            (["-L", "SYSFS"], if self.filesystem == Filesystem::Ext4 { "-F" } else { "-f" });
        let mkfs = format!("mkfs.{}", self.filesystem);
        run(Command::new(mkfs).args(["-q", force]).args(label).arg(&first));
        fs::create_dir_all(self.root()).unwrap();
        let mount = || run(Command::new("mount").arg(&first).arg(self.root()));
        mount();
        let system = root_below(&self.root(), self.filesystem);
        if self.filesystem == Filesystem::Btrfs {
            run(Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(&system));
        }
        install_on(&self.first, &system);
        let records = Records::create(&self.root()).unwrap();
        self.first.keep(&self.signer, &records);
        records.set_slot(&SlotRecord::new(Generation(1), true, Default::default())).unwrap();
        let life = Life { state: CycleState::Up, tries: 0, unclean_shutdowns: 0 };
        records.set_cycle(&CycleRecord::new(Serial(1), life, String::new())).unwrap();
        // As it runs.
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(self.root()));
    }

    /// The tree as an image.
    fn pack(&self, serial: u64) -> Image {
        image(&self.tree, serial)
    }

    fn publish(&self, serial: u64, change: impl FnOnce(&Path)) {
        change(&self.tree);
        self.offer(&self.pack(serial), None, None);
    }

    /// Publishes a version with a kernel of so many bytes.
    fn publish_with_kernel(&self, serial: u64, size: usize) {
        let file = |path: &str, seed, size| {
            let bytes = tree::noise(seed, size);
            self.server.put(path, &bytes);
            WholeFile { path: path.to_owned(), size: size as u64, sha256: Sha256::of(&bytes) }
        };
        let initramfs = file("initramfs", serial + 2000, 3_000_000);
        let image = file("kernel", serial + 1000, size);
        self.offer(&self.pack(serial), None, Some(Kernel { image, initramfs }));
    }

    fn offer(
        &self,
        image: &Image,
        delta: Option<Delta>,
        kernel: Option<Kernel>,
    ) -> Vec<(&'static str, Vec<u8>)> {
        let files = image.publish(&self.signer, delta, kernel);
        files.iter().for_each(|(path, bytes)| self.server.put(path, bytes));
        files
    }

    /// What the controller leaves for the system that it starts.
    fn configure(&self, boot: &str) {
        let (device, filesystem) = (self.device.display(), self.filesystem);
        let mut drives = format!("[[disk]]\nmatch = {{ path = \"{device}\" }}\n");
        for label in ["SYSFS", "BACKUPFS"] {
            drives += &format!(
                "[[disk.partition]]\nlabel = \"{label}\"\nsize = \"{}M\"\nfilesystem = \"{filesystem}\"\n",
                self.mib
            );
        }
        let sources = format!(
            "servers = [\"{}\"]\nkeys = [\"{}\"]\n",
            self.server.url(),
            self.signer.public()
        );
        let left = self.info().join("config.d/controller");
        fs::create_dir_all(&left).unwrap();
        for (path, text) in
            [("../sources.toml", sources.as_str()), ("drives.toml", &drives), ("boot.toml", boot)]
        {
            fs::write(left.join(path), text).unwrap();
        }
        self.came_from(Some(Life { state: CycleState::Closed, tries: 0, unclean_shutdowns: 0 }));
        let health = serde_json::to_string(&config::Health::default()).unwrap();
        fs::write(self.info().join("health-policy.json"), health).unwrap();
        Verdict { up: true, reason: None, checks: Vec::new() }.store(&self.info()).unwrap();
    }

    fn came_from(&self, life: Option<Life>) {
        let report = BootReport {
            label: "SYSFS".to_owned(),
            device: self.partition(1).display().to_string(),
            filesystem: Some(self.filesystem),
            version: "1".to_owned(),
            serial: 1,
            life,
            config_serial: 1,
            left_alone: Vec::new(),
            backup: Some(Backup {
                device: self.partition(2).display().to_string(),
                filesystem: self.filesystem,
                version: "0".to_owned(),
                serial: 0,
                state: None,
            }),
            fallback: None,
            keys: vec![self.signer.public()],
            phases: Vec::new(),
        };
        report.store(&self.info()).unwrap();
    }

    fn ask<T>(&self, ask: impl FnOnce(&Place, Loops, Arc<Log>) -> T) -> T {
        let place = Place { info: self.info(), root: self.root() };
        ask(&place, Loops::Include, Arc::new(Log::aside()))
    }

    fn plan(&self) -> Planned {
        self.ask(update::plan).unwrap()
    }

    fn fetch(&self) -> Result<String, String> {
        let done = self.ask(update::fetch).map_err(|e| format!("{e:#}"))?;
        Ok(done.unwrap_or_else(|| WAITS.to_owned()))
    }

    fn label(&self, partition: u32) -> String {
        let mut blkid = Command::new("blkid");
        let output =
            blkid.args(["-p", "-o", "value", "-s", "LABEL"]).arg(self.partition(partition));
        String::from_utf8(output.output().unwrap().stdout).unwrap().trim().to_owned()
    }

    /// The digest of a whole partition.
    fn bytes(&self, partition: u32) -> String {
        run(Command::new("sha256sum").arg(self.partition(partition)))
    }

    /// Makes a BOOTFS that systemd-boot reads.
    fn add_boot(&self) {
        run(Command::new("mkfs.ext4").args(["-q", "-L", "BOOTFS"]).arg(self.partition(3)));
        self.inside(3, |top| fs::create_dir_all(top.join("loader/entries")).unwrap());
    }

    /// What is in the folder of kernels, and in that of the boot loader's entries.
    fn kernels(&self) -> [Vec<String>; 2] {
        self.inside(3, |top| {
            ["gse", "loader/entries"].map(|folder| {
                let listing = fs::read_dir(top.join(folder)).unwrap();
                let mut names: Vec<_> =
                    listing.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
                names.sort();
                names
            })
        })
    }

    fn second<T: Send>(&self, look: impl FnOnce(&Path) -> T + Send) -> T {
        self.inside(2, look)
    }

    /// Looks into a partition. Other tests do not see the mount, and cannot hold it.
    fn inside<T: Send>(&self, partition: u32, look: impl FnOnce(&Path) -> T + Send) -> T {
        let at = self.folder.path().join("inside");
        fs::create_dir_all(&at).unwrap();
        thread::scope(|scope| {
            let looking = scope.spawn(|| {
                mount::keep_to_this_thread().unwrap();
                run(Command::new("mount").arg(self.partition(partition)).arg(&at));
                let found = look(&at);
                run(Command::new("umount").arg(&at));
                found
            });
            looking.join().unwrap()
        })
    }

    /// Whether what was published last is in the second slot.
    fn is_in_second(&self) {
        self.second(|top| {
            let system = root_below(top, self.filesystem);
            tree::assert_same(&self.tree.join("usr"), &system.join("usr"));
        });
    }
}

fn right(_: &Request) -> Answer {
    Answer::Right
}

#[test]
fn a_plan_says_what_comes_from_where_and_changes_nothing() {
    for kind in KINDS {
        let (filesystem, machine) = (kind.0, Machine::new(kind, right));
        let before = [machine.bytes(1), machine.bytes(2)];
        let plan = machine.plan();
        assert_eq!((plan.installed.as_str(), plan.offered.as_str()), ("1", "2"));
        assert_eq!(plan.servers, [machine.server.url()]);
        assert_eq!(plan.slot, Some(machine.partition(2).display().to_string()));
        assert!(plan.wanted && !plan.waiting && plan.why.is_none());
        let costs = plan.costs.unwrap();
        assert_eq!(
            (costs.local.files, costs.local.bytes, costs.local.fetched),
            (39, 39 * 20_000, 0)
        );
        assert_eq!((costs.image.files, costs.image.bytes), (1, 50_000));
        // The file, and what shares its frames of a hundred thousand bytes.
        assert!((50_000..=210_000).contains(&costs.image.fetched), "{costs:?}");
        let json: serde_json::Value = serde_json::to_value(&plan).unwrap();
        assert_eq!(json.pointer("/costs/local/bytes").unwrap(), 39 * 20_000);
        assert_eq!(json["offered_serial"], 2);
        let text = plan.to_string();
        for line in [
            "offered    version 2 (serial 2)\n",
            "local      39 files, 0.8 MiB, ",
            "it is installed\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert_eq!(before, [machine.bytes(1), machine.bytes(2)], "{filesystem}");
        let asked = machine.server.requests();
        let image: Vec<_> = asked.iter().filter(|request| request.path == "image").collect();
        assert!(image.iter().all(|r| r.last == Some(0)), "{image:?}");
    }
}

#[test]
fn a_plan_says_why_nothing_is_to_be_done() {
    let machine = Machine::new(EXT4, right);
    machine.configure("[update]\npolicy = \"never\"\n");
    let plan = machine.plan();
    assert!(!plan.wanted && plan.costs.is_some());
    assert!(plan.why.unwrap().contains("update.policy is \"never\""));
    machine.publish(1, |_| {});
    let plan = machine.plan();
    assert_eq!((plan.wanted, plan.costs, plan.slot), (false, None, None));
    assert_eq!(plan.why.unwrap(), "version 1 is the newest");
    // Nobody's word but that of a trusted key.
    machine.server.put("latest.toml.minisig", Signer::new().sign(Kind::Release, 2, b"").as_bytes());
    let error = format!("{:#}", machine.ask(update::plan).unwrap_err());
    assert!(error.contains("no server has a release that can be used"), "{error}");
}

#[test]
fn a_release_is_fetched_beside_the_running_system_for_the_next_start() {
    for kind in KINDS {
        let machine = Machine::new(kind, right);
        let before = machine.bytes(1);
        assert_eq!(machine.fetch().unwrap(), WAITS);
        assert_eq!(machine.label(2), "INCOMING");
        machine.second(|top| {
            let records = Records::open(top).unwrap().unwrap();
            let slot = records.slot().unwrap().unwrap();
            assert!(slot.complete);
            assert_eq!(slot.generation, Generation(2));
            assert_eq!(records.cycle().unwrap().unwrap().state, CycleState::Fresh);
        });
        machine.is_in_second();
        assert_eq!(before, machine.bytes(1), "the running system was written to");
        let plan = machine.plan();
        assert!(plan.waiting && plan.costs.is_none(), "{plan:?}");

        // Once is enough, until there is a newer one.
        let asked = machine.server.requests().len();
        assert_eq!(machine.fetch().unwrap(), WAITS);
        let again = machine.server.requests().split_off(asked);
        assert!(again.iter().all(|request| request.path.starts_with("latest.toml")), "{again:?}");
        machine.publish(3, |tree| fs::write(tree.join("usr/newer"), "newer").unwrap());
        assert_eq!(machine.fetch().unwrap(), WAITS);
        machine.is_in_second();
    }
}

#[test]
fn what_a_next_start_would_not_give_up_is_not_written_over() {
    let machine = Machine::new(EXT4, right);
    // The backup has proven itself, and the running system has not yet.
    run(Command::new("dd")
        .arg(format!("if={}", machine.partition(1).display()))
        .arg(format!("of={}", machine.partition(2).display()))
        .args(["bs=1M", "status=none"]));
    run(Command::new("e2fsck").args(["-f", "-y"]).arg(machine.partition(2)));
    run(Command::new("tune2fs").args(["-L", "BACKUPFS", "-U", "random"]).arg(machine.partition(2)));
    let closed = Life { state: CycleState::Closed, tries: 0, unclean_shutdowns: 0 };
    let cycle = CycleRecord::new(Serial(1), closed, String::new());
    machine.second(|top| Records::create(top).unwrap().set_cycle(&cycle).unwrap());
    machine.came_from(Some(Life::FRESH));
    let before = [machine.bytes(1), machine.bytes(2)];
    assert!(machine.fetch().unwrap().contains("yet to shut down cleanly"));
    assert!(BootReport::load(&machine.info()).unwrap().backup.is_some());
    let other = fs::File::create(machine.info().join("update.lock")).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    assert!(machine.fetch().unwrap_err().contains("at this moment"));
    drop(other);
    machine.configure("[update]\nwindow = \"00:00-00:01\"\n");
    let closed = !config::Boot::parse("[update]\nwindow = \"00:00-00:01\"\n")
        .unwrap()
        .update
        .window
        .is_open(gse_controller::clock::now());
    if closed {
        assert!(machine.fetch().unwrap().contains("update.window is closed"));
    }
    machine.configure("");
    fs::remove_file(machine.info().join("health.json")).unwrap();
    assert!(machine.fetch().unwrap_err().contains("has not reported that it is healthy"));
    assert_eq!(before, [machine.bytes(1), machine.bytes(2)]);
    // As soon as it has, the backup is one too many.
    machine.configure("");
    assert_eq!(machine.fetch().unwrap(), WAITS);
    assert_eq!((machine.label(1).as_str(), machine.label(2).as_str()), ("SYSFS", "INCOMING"));
    assert_eq!(BootReport::load(&machine.info()).unwrap().backup, None);
}

/// Whether somebody waits for a lock on this file: proc_locks(5).
fn is_awaited(file: &fs::File) -> bool {
    let inode = format!(":{} ", file.metadata().unwrap().ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks.lines().any(|lock| lock.contains("-> FLOCK") && lock.contains(&inode))
}

#[test]
fn the_service_waits_for_a_person_who_looks_at_the_plan() {
    let machine = Machine::new(EXT4, right);
    machine.configure("[update]\nbackground = false\n");
    let person = fs::File::create(machine.info().join("update.lock")).unwrap();
    flock(&person, FlockOperation::LockExclusive).unwrap();
    let place = Place { info: machine.info(), root: machine.root() };
    let service = thread::spawn(move || update::serve(&place, &Arc::new(Log::aside())));
    while !is_awaited(&person) {
        assert!(!service.is_finished(), "{:?}", service.join());
        thread::yield_now();
    }
    drop(person);
    service.join().unwrap().unwrap();
}

#[test]
fn a_fetch_that_breaks_leaves_nothing_that_counts_and_is_done_again() {
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = Arc::clone(&broken);
    let machine = Machine::new(EXT4, move |request: &Request| {
        let content = request.path == "image" && request.last != Some(0);
        if content && breaks.load(Ordering::SeqCst) { Answer::Status(404) } else { Answer::Right }
    });
    let before = machine.bytes(1);
    let error = machine.fetch().unwrap_err();
    assert!(error.contains("no server gives more"), "{error}");
    assert_eq!(machine.label(2), "INCOMING");
    machine.second(|top| {
        let slot = Records::open(top).unwrap().and_then(|records| records.slot().unwrap());
        assert!(slot.is_none_or(|slot| !slot.complete));
    });
    broken.store(false, Ordering::SeqCst);
    assert_eq!(machine.fetch().unwrap(), WAITS);
    machine.is_in_second();
    assert_eq!(before, machine.bytes(1));
}

#[test]
fn a_server_that_is_busy_or_has_no_image_costs_no_slot() {
    for (answer, expected) in [(Answer::Busy(3000), "busy"), (Answer::Status(404), "404")] {
        let machine = Machine::new(EXT4, move |request: &Request| match &*request.path {
            "image" => answer.clone(),
            _ => Answer::Right,
        });
        machine.configure("[update]\nwhen_busy = \"boot\"\n");
        let before = machine.bytes(2);
        let error = machine.fetch().unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert_eq!(before, machine.bytes(2));
    }
    let started = std::time::Instant::now();
    let busy = Machine::new(EXT4, |request: &Request| {
        if request.path == "index" && request.number < 8 { Answer::Busy(1) } else { Answer::Right }
    });
    assert_eq!(busy.fetch().unwrap(), WAITS);
    let asked = busy.server.requests().iter().filter(|r| r.path == "index").count();
    assert!(asked > 1 && started.elapsed().as_secs() >= asked as u64 - 1);
}

/// A machine that is offered version 2 with what makes its index out of the one that it has, and the sizes of what the
/// server has.
fn with_delta(
    decide: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> (Machine, HashMap<&'static str, u64>) {
    let machine = Machine::new(EXT4, decide);
    let image = machine.pack(2);
    let files = machine.offer(&image, Some(image.since(&machine.first)), None);
    (machine, files.iter().map(|(path, bytes)| (*path, bytes.len() as u64)).collect())
}

impl Machine {
    /// Which of these files a fetch asks for, which has to come out right.
    fn asks_for(&self, paths: [&str; 2]) -> [bool; 2] {
        let begin = self.server.requests().len();
        assert_eq!(self.fetch().unwrap(), WAITS);
        self.is_in_second();
        let asked = self.server.requests().split_off(begin);
        paths.map(|path| asked.iter().any(|request| request.path == path))
    }
}

#[test]
fn an_index_is_made_out_of_the_one_that_the_machine_has() {
    let (machine, sizes) = with_delta(right);
    assert!(sizes["delta"] < sizes["index"] / 4, "{sizes:?}");
    let plan = machine.plan();
    assert_eq!(plan.index, Some(sizes["delta"]));
    assert_eq!(plan.costs.unwrap().local.files, 39);
    assert_eq!(machine.asks_for(["delta", "index"]), [true, false]);
    // The slot keeps what comes out, from which the next one is made.
    let second = machine.pack(2);
    let cbor = machine.second(|top| fs::read(top.join(".gse/index.cbor")).unwrap());
    assert!(cbor == second.index.to_cbor().unwrap());
}

#[test]
fn what_does_not_make_the_index_is_passed_over_and_the_whole_is_fetched() {
    for answer in [
        Answer::Status(404),
        Answer::Flip(100),
        Answer::CutAfter(100),
        Answer::Instead(b"not zstd".to_vec()),
        Answer::Gzip,
    ] {
        let given = answer.clone();
        let (machine, sizes) = with_delta(move |request| match &*request.path {
            "delta" => given.clone(),
            _ => Answer::Right,
        });
        assert_eq!(machine.plan().index, Some(sizes["index"]), "{answer:?}");
        assert_eq!(machine.asks_for(["delta", "index"]), [true, true], "{answer:?}");
    }
    // One that was signed, and makes another index.
    let (machine, sizes) = with_delta(right);
    let (right, mut other) = (machine.pack(2), machine.pack(2));
    other.index.name = "other".to_owned();
    machine.offer(&right, Some(other.since(&machine.first)), None);
    assert_eq!(machine.plan().index, Some(sizes["index"]));
    assert_eq!(machine.asks_for(["delta", "index"]), [true, true]);
}

#[test]
fn an_index_that_was_damaged_on_disk_makes_nothing() {
    let (machine, sizes) = with_delta(right);
    let mount = |how| run(Command::new("mount").args(["-o", how]).arg(machine.root()));
    mount("remount,rw");
    let kept = machine.root().join(".gse/index.cbor");
    let mut bytes = fs::read(&kept).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&kept, bytes).unwrap();
    mount("remount,ro");
    assert_eq!(machine.plan().index, Some(sizes["index"]));
    assert_eq!(machine.asks_for(["delta", "index"]), [false, true]);
}

#[test]
fn a_server_that_is_too_busy_for_a_part_is_not_asked_for_the_whole() {
    let (machine, _) = with_delta(|request| match &*request.path {
        "delta" => Answer::Busy(3000),
        _ => Answer::Right,
    });
    machine.configure("[update]\nwhen_busy = \"boot\"\n");
    let error = machine.fetch().unwrap_err();
    assert!(error.contains("busy"), "{error}");
    assert!(machine.server.requests().iter().all(|request| request.path != "index"));
}

#[test]
fn a_release_waits_with_the_kernel_that_it_brings_or_not_at_all() {
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = Arc::clone(&broken);
    let asked = AtomicUsize::new(0);
    let machine = Machine::new(EXT4, move |request: &Request| match &*request.path {
        "initramfs" if breaks.load(Ordering::SeqCst) => {
            match asked.fetch_add(1, Ordering::SeqCst) {
                0 => Answer::CutAfter(1_000_000),
                _ => Answer::Status(404),
            }
        }
        _ => Answer::Right,
    });
    machine.add_boot();
    machine.publish_with_kernel(2, 2_000_000);
    let before = machine.bytes(2);
    let error = machine.fetch().unwrap_err();
    assert!(error.contains("writing initramfs-2.img to BOOTFS"), "{error}");
    assert_eq!(machine.kernels(), [vec!["vmlinuz-2".to_owned()], Vec::new()]);
    assert_eq!(before, machine.bytes(2), "a slot was given up for what is not complete");
    assert!(!machine.plan().waiting);

    // What is there is not fetched again, and no boot loader knows of it.
    let asked = |from: usize| {
        let requests = machine.server.requests().split_off(from);
        ["kernel", "initramfs"].map(|path| requests.iter().any(|request| request.path == path))
    };
    broken.store(false, Ordering::SeqCst);
    let from = machine.server.requests().len();
    assert_eq!(machine.fetch().unwrap(), WAITS);
    assert_eq!(asked(from), [false, true]);
    machine.is_in_second();
    let both = ["initramfs-2.img", "vmlinuz-2"].map(str::to_owned).to_vec();
    assert_eq!(machine.kernels(), [both.clone(), Vec::new()]);
    machine.inside(3, |top| {
        let found = fs::read(top.join("gse/initramfs-2.img")).unwrap();
        assert!(found == tree::noise(2002, 3_000_000));
    });
    let from = machine.server.requests().len();
    assert_eq!(machine.fetch().unwrap(), WAITS);
    assert_eq!(asked(from), [false, false]);
    machine.inside(3, |top| fs::write(top.join("gse/vmlinuz-2"), "bad").unwrap());
    let from = machine.server.requests().len();
    assert_eq!(machine.fetch().unwrap(), WAITS);
    assert_eq!(asked(from), [true, false]);

    // Too large for BOOTFS: what waits goes on waiting.
    machine.publish_with_kernel(3, 24_000_000);
    let before = machine.bytes(2);
    let error = machine.fetch().unwrap_err();
    assert!(error.contains("make it larger"), "{error}");
    assert!(!machine.plan().waiting);
    assert_eq!((before, machine.kernels()), (machine.bytes(2), [both, Vec::new()]));
}
