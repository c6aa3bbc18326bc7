//! `gse-controller plan` and `fetch` beside a running system: a real server, and real filesystems on a loop device.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;
mod index;
mod kernels;
mod updates;

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
    index::Frame,
    patch::PatchFile,
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
