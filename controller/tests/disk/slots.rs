//! Finding slots among disks in memory, and what may be formatted.

use std::path::{Path, PathBuf};

use gse_controller::disk::{
    content::Content,
    probe::{BlockDevice, Holds},
    slots::{Label, Slot, SlotError, SlotState, find},
    wipeable::Wipeable,
};
use gse_protocol::config::drives::Filesystem;

use crate::common::{GIB, disk, fs_info, gpt_disk, labelled};

/// A machine's disk with these labels; an empty label is a blank partition.
fn machine(name: &str, labels: &[(&str, &str)]) -> BlockDevice {
    let names: Vec<_> =
        labels.iter().zip(1..).map(|((name, _), i)| (*name, i * 600, 500)).collect();
    let mut disk = gpt_disk(name, 20 * GIB, &names);
    for (partition, (_, label)) in disk.partitions.iter_mut().zip(labels) {
        if !label.is_empty() {
            partition.content = labelled("btrfs", label);
        }
    }
    disk
}

#[test]
fn labels_are_read_and_written_alike() {
    for label in Label::ALL {
        assert_eq!(label.to_string().parse(), Ok(label));
    }
    assert!("sysfs".parse::<Label>().is_err());
}

#[test]
fn slots_are_found_by_name_and_by_label() {
    let ours = machine(
        "sda",
        &[
            ("gse-boot", "BOOTFS"),
            ("gse-slot-1", "DEPRIVED"),
            ("gse-slot-2", ""),
            ("gse-userdata", "USERDATAFS"),
            ("by hand", "SYSFS"),
            ("theirs", "Windows"),
        ],
    );
    let found = find(&[ours], &[]).unwrap();
    let labels: Vec<_> = found.slots.iter().map(Slot::label).collect();
    assert_eq!(labels, [Some(Label::Deprived), None, Some(Label::SysFs)]);
    assert_eq!(found.slots[1].state, SlotState::Blank);
    assert_eq!(found.slots[0].filesystem(), Some(Filesystem::Btrfs));
    assert_eq!(found.boot.unwrap().device, Path::new("/dev/sda1"));
    assert_eq!(found.userdata.unwrap().device, Path::new("/dev/sda4"));
}

#[test]
fn the_same_slot_label_twice_is_data_and_not_an_error() {
    let found =
        find(&[machine("sda", &[("gse-slot-1", "SYSFS"), ("gse-slot-2", "SYSFS")])], &[]).unwrap();
    assert_eq!(found.labelled(Label::SysFs).count(), 2);
    assert_eq!(found.labelled(Label::BackupFs).count(), 0);
}

#[test]
fn a_copied_disk_is_an_error_that_names_both_slots() {
    let disk = |name, uuid: &str| {
        let mut disk = machine(name, &[("gse-slot-1", "SYSFS"), ("gse-slot-2", "BACKUPFS")]);
        for (n, partition) in disk.partitions.iter_mut().enumerate() {
            if let Content::Filesystem(info) = &mut partition.content {
                info.uuid = Some(format!("{uuid}-{n}"));
            }
        }
        disk
    };
    let error = find(&[disk("sda", "one"), disk("sdb", "one")], &[]).unwrap_err();
    assert!(matches!(error, SlotError::Copied { .. }));
    let error = error.to_string();
    assert!(error.contains("/dev/sda1 and /dev/sdb1"), "{error}");
    assert_eq!(find(&[disk("sda", "one"), disk("sdb", "two")], &[]).unwrap().slots.len(), 4);
}

#[test]
fn the_same_data_label_twice_is_an_error_that_names_both() {
    for (name, label) in [("gse-boot", "BOOTFS"), ("gse-userdata", "USERDATAFS")] {
        let disks = [machine("sda", &[(name, label)]), machine("sdb", &[("", label)])];
        let error = find(&disks, &[]).unwrap_err();
        assert!(matches!(error, SlotError::Twice { .. }));
        let error = error.to_string();
        assert!(error.contains("/dev/sda1") && error.contains("/dev/sdb1"), "{error}");
    }
}

#[test]
fn the_configured_disk_wins_over_any_other() {
    let internal = machine("sda", &[("gse-slot-1", "SYSFS"), ("gse-userdata", "USERDATAFS")]);
    let mut stick = machine("sdb", &[("", "SYSFS"), ("", "USERDATAFS")]);
    stick.removable = true;
    let both = [stick.clone(), internal];
    for configured in [vec![], vec![PathBuf::from("/dev/sda")]] {
        let found = find(&both, &configured).unwrap();
        assert_eq!(found.slots.len(), 1);
        assert_eq!(found.slots[0].device, Path::new("/dev/sda1"));
        assert_eq!(found.ignored, [Path::new("/dev/sdb1"), Path::new("/dev/sdb2")]);
    }
    let found = find(&both, &[PathBuf::from("/dev/sdb")]).unwrap();
    assert_eq!(found.slots[0].device, Path::new("/dev/sdb1"));
    // A machine that is told to keep its users' data on a stick.
    let found = find(&both, &[PathBuf::from("/dev/sda"), PathBuf::from("/dev/sdb")]).unwrap_err();
    assert!(matches!(found, SlotError::Twice { label: Label::UserDataFs, .. }), "{found}");
    // A disk on USB is as little the machine's own as a stick, whatever it says of itself.
    (stick.removable, stick.usb) = (false, true);
    let found = find(&[stick.clone(), both[1].clone()], &[]).unwrap();
    assert_eq!(found.slots[0].device, Path::new("/dev/sda1"));
    // A machine that lives on a stick.
    assert_eq!(find(&[stick], &[]).unwrap().slots.len(), 1);
}

#[test]
fn a_data_partition_that_is_unclear_is_not_taken_for_blank() {
    let mut ours = machine("sda", &[("gse-userdata", "")]);
    ours.partitions[0].content = Content::Unclear("two signatures".to_owned());
    let error = find(&[ours], &[]).unwrap_err().to_string();
    assert!(error.contains("/dev/sda1") && error.contains("two signatures"), "{error}");
}

#[test]
fn a_whole_disk_with_our_label_counts() {
    let mut data = disk("sdb", GIB);
    data.holds = Holds::Filesystem(fs_info("ext4", "USERDATAFS"));
    assert_eq!(find(&[data], &[]).unwrap().userdata.unwrap().device, Path::new("/dev/sdb"));
}

#[test]
fn only_what_nobody_needs_may_be_formatted() {
    let slots = |labels: &[(&str, &str)]| find(&[machine("sda", labels)], &[]).unwrap().slots;
    for label in ["", "DEPRIVED", "INCOMING", "something else"] {
        assert!(Wipeable::free(&slots(&[("gse-slot-1", label)])[0]).is_ok(), "{label}");
    }
    for label in ["SYSFS", "BACKUPFS"] {
        assert!(Wipeable::free(&slots(&[("gse-slot-1", label)])[0]).is_err(), "{label}");
    }
    let found =
        find(&[machine("sda", &[("gse-boot", ""), ("gse-userdata", "USERDATAFS")])], &[]).unwrap();
    assert!(Wipeable::blank(&found.boot.unwrap()).is_ok());
    let error = Wipeable::blank(&found.userdata.unwrap()).unwrap_err().to_string();
    assert!(error.contains("never formatted again"), "{error}");
}
