//! Slots whose filesystem is lost, and what a person is told about it on the machine, days later too.

use gse_qemu::{Disk, Exit, Filesystem, Lab, fixtures::Flavour};
use gse_tests::{
    disk,
    lab::{VERSION, Watch as _, scratch},
    small,
};

/// Asks what a person would ask.
const INIT: &str = "#!/bin/sh
PATH=/bin:/run/gse/bin
gse-controller up
gse-controller status
gse-controller verify
gse-controller closed
exec poweroff -f
";

const NEVER: &str = "last fallback   never";
const BACKUP: &str = "backup          version 1 (serial 1) on ";
const NO_BACKUP: &str = "backup          none";
const WHOLE: &str = "entries, as they were signed";
const CLOSED: &str = "this system is closed";

fn boot(lab: &Lab, disk: &Disk, patterns: &[&str]) {
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(patterns);
    machine.shows(&[WHOLE, CLOSED]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}

#[test]
fn a_slot_that_is_lost_is_made_again_and_the_machine_remembers_why_it_fell_back() {
    let dir = scratch();
    let mut lab = small::unpublished(dir.path(), Flavour::Cloud, Filesystem::Ext4);
    small::publish(&lab, VERSION, |tree| small::program(&tree.join("sbin/init"), INIT));
    lab.build_controller().unwrap();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    boot(&lab, &disk, &["into /dev/vda2", "SYSFS           version 1", NEVER, NO_BACKUP]);
    lab.stop_server();
    boot(&lab, &disk, &["cloning version 1 into /dev/vda3", NEVER, BACKUP]);
    assert_eq!(disk::slot_labels(&disk), ["SYSFS", "BACKUPFS"]);

    disk::destroy(&disk, 2);
    let why = "there is no SYSFS on this machine any more: no system is left on /dev/vda2";
    let takes_over = [
        &format!("{why}; the backup takes over"),
        "/dev/vda3 becomes SYSFS",
        "starting version 1 from /dev/vda3",
        "health          healthy",
        "last fallback   ",
        why,
        NO_BACKUP,
    ];
    boot(&lab, &disk, &takes_over);
    // The copy that is made at the next start knows of it too, and so does what comes after that.
    let copied = ["cloning version 1 into /dev/vda2", "last fallback   ", why, BACKUP];
    boot(&lab, &disk, &copied);
    assert!(disk::mount(&disk, 2).text(".gse/fallback.json").contains(why));

    disk::destroy(&disk, 2);
    boot(&lab, &disk, &copied);
    assert_eq!(disk::slot_labels(&disk), ["BACKUPFS", "SYSFS"]);

    disk::destroy(&disk, 2);
    disk::destroy(&disk, 3);
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.rescues(&["no system is installed on this machine, and no server offered one"]);
    lab.start_server().unwrap();
    machine.console.send_line("r").unwrap();
    machine.shows(&["into /dev/vda2", NEVER, NO_BACKUP, WHOLE, CLOSED]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert_eq!(disk::slot_labels(&disk), ["SYSFS", ""]);
}
