//! Disks that a machine must not use, or cannot.

use std::{fs, path::Path, process::Command};

use gse_qemu::{Disk, Exit, Lab};
use gse_tests::{
    disk,
    lab::{Watch as _, copy, prepend, scratch},
    small::{self, SLOT, banner},
};

/// Boots a machine with these disks, which ends in rescue with this sentence. No disk is changed.
fn rescues(lab: &Lab, disks: &[&Disk], sentence: &str) {
    let before: Vec<_> = disks.iter().map(|d| disk::digest(&d.image)).collect();
    let spec = disks.iter().fold(lab.machine(), |spec, disk| spec.disk((*disk).clone()));
    let machine = spec.start().unwrap();
    machine.rescues(&[sentence]);
    machine.console.send_line("b").unwrap();
    assert_eq!(machine.ends(), Exit::Reset);
    machine.never_showed(&["Kernel panic", "this is a bug"]);
    let after: Vec<_> = disks.iter().map(|d| disk::digest(&d.image)).collect();
    assert!(before == after, "a disk was changed, though: {sentence}");
}

/// A lab whose machines do not wait long for a disk.
fn lab(dir: &Path) -> Lab {
    let lab = small::unbuilt(dir, gse_qemu::fixtures::Flavour::Cloud, gse_qemu::Filesystem::Ext4);
    prepend(&lab, "controller/drives.toml", "timeout = 2");
    lab.write_config("controller/boot.toml", "[memory]\nrun = \"never\"\n").unwrap();
    lab.build_controller().unwrap();
    lab
}

#[test]
fn no_disk_a_small_disk_and_two_disks_are_three_sentences() {
    let dir = scratch();
    let lab = lab(dir.path());
    let disk = |name: &str, bytes| Disk::blank(dir.path().join(name), bytes).unwrap();
    rescues(&lab, &[], "this machine has no disk that the controller can see");
    rescues(&lab, &[&disk("small", 300 << 20)], "is too small: BOOTFS, SYSFS, BACKUPFS need");
    let (one, two) = (disk("one", 1 << 30), disk("two", 1 << 30).serial("other"));
    rescues(&lab, &[&one, &two], "2 disks fit");
}

#[test]
fn a_disk_with_somebody_elses_data_is_left_alone() {
    let dir = scratch();
    let lab = lab(dir.path());
    let make = |name: &str, command: &[&str], input: &str| {
        let disk = Disk::blank(dir.path().join(name), 1 << 30).unwrap();
        let text = dir.path().join("input");
        fs::write(&text, input).unwrap();
        let mut command_line = Command::new(command[0]);
        command_line.args(&command[1..]).arg(&disk.image).stdin(fs::File::open(&text).unwrap());
        disk::output(&mut command_line);
        disk
    };
    let filesystem = make("ext4", &["mkfs.ext4", "-q", "-L", "THESIS"], "");
    rescues(&lab, &[&filesystem], "The controller adds partitions to blank disks");
    let table = make("dos", &["sfdisk", "-q"], "label: dos\nsize=500M, type=7\n");
    rescues(&lab, &[&table], "The controller adds partitions to blank disks");
    // A table of the right kind, but all of the room is taken.
    let full = make("gpt", &["sfdisk", "-q"], "label: gpt\nsize=900M, name=data\n");
    rescues(&lab, &[&full], "is too small: BOOTFS, SYSFS, BACKUPFS need");
}

#[test]
fn a_disk_that_was_copied_with_dd_is_not_guessed_about() {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |_| {});
    let other = dir.path().join("other.img");
    copy(&disk.image, &other);
    let other = Disk::new(other).serial("other");
    rescues(&lab, &[&disk, &other], "is there twice, on /dev/vda1 and /dev/vdb1");
}

#[test]
fn a_system_that_does_not_fit_into_its_slot_says_what_it_needs() {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |_| {});
    small::publish(&lab, "2", |tree| {
        // Written, not a hole: it takes its room.
        let zeros = fs::File::create(tree.join("zeros")).unwrap();
        let mut source = std::io::Read::take(std::io::repeat(0), SLOT + (10 << 20));
        std::io::copy(&mut source, &mut &zeros).unwrap();
    });
    let sentences = ["the slot is full: the system needs ", " MiB for its files and "];
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&["version 2 was not installed: "]);
    machine.shows(&sentences);
    machine.shows(&[&banner("1")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert_eq!(disk::slot_labels(&disk)[0], "SYSFS");

    let blank = lab.blank_disk(&dir.path().join("blank.img")).unwrap();
    let machine = lab.machine().disk(blank.clone()).start().unwrap();
    machine.rescues(&sentences);
    // Mended by a release that fits, without a restart.
    small::publish(&lab, "3", |_| {});
    machine.console.send_line("r").unwrap();
    machine.shows(&[&banner("3")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert!(disk::slot_labels(&blank).contains(&"SYSFS".to_owned()));
}
