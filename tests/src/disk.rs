//! A machine's disk, looked at from outside while the machine is off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use gse_protocol::{Sha256, digest::Hasher};
use gse_qemu::Disk;
use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};
use serde_json::Value;
use tempfile::TempDir;

/// A loop device; it goes when this is dropped.
#[derive(Debug)]
struct Loop(PathBuf);

impl Loop {
    fn new(disk: &Disk, start: u64, size: u64) -> Self {
        let mut losetup = Command::new("losetup");
        losetup.args(["--find", "--show", "--read-only"]);
        losetup.arg(format!("--sector-size={}", disk.sector));
        losetup.arg(format!("--offset={start}")).arg(format!("--sizelimit={size}"));
        Self(PathBuf::from(output(losetup.arg(&disk.image)).trim()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let status = Command::new("losetup").arg("--detach").arg(&self.0).status();
        if !status.is_ok_and(|s| s.success()) {
            eprintln!("{} could not be detached", self.0.display());
        }
    }
}

/// A partition, mounted read-only.
#[derive(Debug)]
pub struct Mounted {
    dir: TempDir,
    _device: Loop,
}

impl Mounted {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The text of one of its files.
    pub fn text(&self, path: &str) -> String {
        let path = self.path().join(path);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("reading {}: {e}", path.display()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.dir.path()).status();
        if !status.is_ok_and(|s| s.success()) {
            eprintln!("{} could not be unmounted", self.dir.path().display());
        }
    }
}

/// Where each partition is, in bytes: start and size, in the order of their numbers.
fn partitions(disk: &Disk) -> Vec<(u64, u64)> {
    let device = Loop::new(disk, 0, 0);
    let json = output(Command::new("sfdisk").arg("--json").arg(&device.0));
    let json: Value = serde_json::from_str(&json).unwrap();
    let table = &json["partitiontable"];
    assert_eq!(table["label"], "gpt");
    let sectors = |value: &Value| value.as_u64().unwrap() * u64::from(disk.sector);
    let partitions = table["partitions"].as_array().unwrap().iter();
    partitions.map(|p| (sectors(&p["start"]), sectors(&p["size"]))).collect()
}

fn partition(disk: &Disk, number: usize) -> Loop {
    let (start, size) = partitions(disk)[number - 1];
    Loop::new(disk, start, size)
}

/// The label of each filesystem, by the number of its partition, from 1.
pub fn labels(disk: &Disk) -> BTreeMap<usize, String> {
    let label = |(nth, (start, size)): (usize, (u64, u64))| {
        let device = Loop::new(disk, start, size);
        let blkid = Command::new("blkid")
            .args(["--probe", "--output", "value", "--match-tag", "LABEL"])
            .arg(&device.0)
            .output()
            .unwrap();
        let label = String::from_utf8(blkid.stdout).unwrap().trim().to_owned();
        (!label.is_empty()).then_some((nth + 1, label))
    };
    partitions(disk).into_iter().enumerate().filter_map(label).collect()
}

/// The labels of the two slots, in their order on the disk, where a lab's disk has them; empty where
/// a slot has none.
pub fn slot_labels(disk: &Disk) -> [String; 2] {
    let labels = labels(disk);
    [2, 3].map(|number| labels.get(&number).cloned().unwrap_or_default())
}

/// Overwrites the first megabyte of the partition with this number, from 1: an ext4 is lost with it.
pub fn destroy(disk: &Disk, number: usize) {
    let (start, _) = partitions(disk)[number - 1];
    let image = File::options().write(true).open(&disk.image).unwrap();
    image.write_all_at(&[0xA5; 1 << 20], start).unwrap();
}

/// Mounts the partition with this number, from 1; of btrfs the top-level subvolume.
pub fn mount(disk: &Disk, number: usize) -> Mounted {
    let device = partition(disk, number);
    let kind =
        output(Command::new("blkid").args(["-p", "-o", "value", "-s", "TYPE"]).arg(&device.0));
    let options = match kind.trim() {
        "btrfs" => "ro,subvolid=5",
        "xfs" => "ro,nouuid",
        _ => "ro",
    };
    let dir = tempfile::tempdir().unwrap();
    output(
        Command::new("mount")
            .args(["-t", kind.trim(), "-o", options])
            .arg(&device.0)
            .arg(dir.path()),
    );
    Mounted { dir, _device: device }
}

/// The digest of the partition with this number as it is, byte for byte.
pub fn partition_digest(disk: &Disk, number: usize) -> Sha256 {
    let (start, size) = partitions(disk)[number - 1];
    digest_range(&disk.image, start..start + size)
}

/// The digest of a file, byte for byte.
pub fn digest(file: &Path) -> Sha256 {
    digest_range(file, 0..u64::MAX)
}

/// Blocks of zeros do not count, whether they were written or not, so that large sparse images are quick.
fn digest_range(file: &Path, range: Range<u64>) -> Sha256 {
    const BLOCK: usize = 64 << 10;
    let file = File::open(file).unwrap();
    let range = range.start..range.end.min(file.metadata().unwrap().len());
    let mut hasher = Hasher::default();
    hasher.update(&(range.end - range.start).to_le_bytes());
    let (zeros, mut block) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut at = range.start;
    while at < range.end {
        at = match seek(&file, SeekFrom::Data(at)) {
            // Whole blocks, wherever the filesystem says that data begins.
            Ok(data) => at.max(data - (data - range.start) % BLOCK as u64),
            Err(Errno::NXIO) => break,
            Err(e) => panic!("looking for data: {e}"),
        };
        let length = BLOCK.min(usize::try_from(range.end.saturating_sub(at)).unwrap());
        file.read_exact_at(&mut block[..length], at).unwrap();
        if block[..length] != zeros[..length] {
            hasher.update(&at.to_le_bytes());
            hasher.update(&block[..length]);
        }
        at += BLOCK as u64;
    }
    hasher.finish()
}

/// Runs a command that has to succeed, and returns what it printed.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
