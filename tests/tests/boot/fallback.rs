//! Images that fail on a machine: it goes back to what had proven itself, says why, and takes a fixed one.

use std::{fs, os::unix::fs::PermissionsExt as _};

use gse_qemu::{Disk, Exit, Lab};
use gse_tests::{
    disk,
    lab::{Watch as _, scratch},
    small::{self, banner},
};

/// Publishes a version with another `/sbin/init`.
fn publish(lab: &Lab, version: &str, init: &str) {
    small::publish(lab, version, |tree| {
        let path = tree.join("sbin/init");
        // Into the kernel's log: what a terminal still has to send is lost in a panic.
        let says = format!("echo '<4>small: starts {version}' >/dev/kmsg");
        let text = format!("#!/bin/sh\nPATH=/bin\n{says}\n{init}\n");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    });
}

/// Boots the machine, which shows these and then ends.
fn boot(lab: &Lab, disk: &Disk, patterns: &[&str], end: Exit) -> String {
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(patterns);
    assert_eq!(machine.ends(), end);
    machine.console.text()
}

#[test]
fn an_image_that_fails_gives_way_to_the_backup_until_a_fixed_one_is_there() {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |lab| {
        let health = "[health]\nstartup_limit = 4\npanic_reboot = 1\n";
        lab.write_config("controller/boot.toml", health).unwrap();
    });
    let never_up = "it was started and never came up";
    for (version, init, end, ailment) in [
        ("2", "busybox poweroff -f", Exit::Shutdown, never_up),
        ("3", "exit 1", Exit::Reset, never_up),
        ("4", "while :; do sleep 1000; done", Exit::Reset, never_up),
        (
            "5",
            "/run/gse/gse-controller up\nbusybox poweroff -f",
            Exit::Shutdown,
            "it was not shut down cleanly",
        ),
    ] {
        publish(&lab, version, init);
        boot(&lab, &disk, &["into /dev/vda3", &format!("small: starts {version}")], end);
        assert_eq!(disk::slot_labels(&disk), ["BACKUPFS", "SYSFS"]);

        let unhealthy = format!("version {version} on /dev/vda3 is unhealthy: {ailment}");
        let stays = format!("version 1 stays: version {version} failed on this machine");
        let messages = [
            unhealthy.as_str(),
            "/dev/vda3 becomes DEPRIVED",
            "/dev/vda2 becomes SYSFS",
            "cloning version 1 into /dev/vda3",
            "/dev/vda3 becomes BACKUPFS",
            &stays,
            "starting version 1 from /dev/vda2",
            &banner("1"),
            "this system is closed",
        ];
        boot(&lab, &disk, &messages, Exit::Shutdown);
        assert_eq!(disk::slot_labels(&disk), ["SYSFS", "BACKUPFS"]);
    }
    // Not at the next start either.
    let said =
        boot(&lab, &disk, &["version 5 failed on this machine", &banner("1")], Exit::Shutdown);
    assert!(!said.contains("installing"), "{said}");

    small::publish(&lab, "6", |_| {});
    boot(&lab, &disk, &["into /dev/vda3", &banner("6"), "this system is closed"], Exit::Shutdown);
    assert_eq!(disk::slot_labels(&disk), ["BACKUPFS", "SYSFS"]);
    // Who is written last remembers them all.
    let record = disk::mount(&disk, 3).text(".gse/slot.toml");
    let refused = record.lines().find(|line| line.starts_with("refused")).unwrap();
    assert_eq!(refused.split(',').count(), 4, "{record}");
}

#[test]
fn a_pulled_plug_is_forgiven_as_often_as_the_policy_says() {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |lab| {
        let health = "[health]\nunclean_shutdowns = 1\ntries = 2\n";
        lab.write_config("controller/boot.toml", health).unwrap();
    });
    publish(&lab, "2", "/run/gse/gse-controller up\nbusybox poweroff -f");
    let starts = "small: starts 2";
    boot(&lab, &disk, &["into /dev/vda3", starts], Exit::Shutdown);
    boot(&lab, &disk, &["unclean shutdowns: 1)", starts], Exit::Shutdown);
    let unhealthy =
        "version 2 on /dev/vda3 is unhealthy: it was not shut down cleanly 2 times in a row";
    boot(&lab, &disk, &[unhealthy, &banner("1")], Exit::Shutdown);
}

#[test]
fn a_system_with_nothing_to_fall_back_to_is_started_all_the_same() {
    let dir = scratch();
    let mut lab = small::unpublished(
        dir.path(),
        gse_qemu::fixtures::Flavour::Cloud,
        gse_qemu::Filesystem::Ext4,
    );
    publish(&lab, "1", "busybox poweroff -f");
    lab.build_controller().unwrap();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    boot(&lab, &disk, &["small: starts 1"], Exit::Shutdown);
    lab.stop_server();
    let resort = "never came up; it is started all the same, as there is nothing better";
    for _ in 0..2 {
        boot(&lab, &disk, &[resort, "small: starts 1"], Exit::Shutdown);
    }
    // After some of these it waits, and a key opens rescue.
    let machine = lab.machine().disk(disk).start().unwrap();
    machine.shows(&[resort, "Enter opens rescue"]);
    machine.console.send_line("").unwrap();
    machine.rescues(&["is unhealthy: it was started 3 times in a row and never came up"]);
}

#[test]
fn an_update_in_place_keeps_the_partition_and_a_copy() {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |lab| {
        lab.write_config("controller/boot.toml", "[update]\nmode = \"in-place\"\n").unwrap();
    });
    small::publish(&lab, "2", |_| {});
    let messages = [
        "cloning version 1 into /dev/vda3",
        "/dev/vda3 becomes BACKUPFS",
        "/dev/vda2 becomes DEPRIVED",
        "/dev/vda3 becomes SYSFS",
        "into /dev/vda2",
        "/dev/vda2 becomes SYSFS",
        "/dev/vda3 becomes BACKUPFS",
        &banner("2"),
        "this system is closed",
    ];
    boot(&lab, &disk, &messages, Exit::Shutdown);
    assert_eq!(disk::slot_labels(&disk), ["SYSFS", "BACKUPFS"]);
    assert_eq!(disk::mount(&disk, 2).text("version"), "2\n");
    assert_eq!(disk::mount(&disk, 3).text("version"), "1\n");
}

#[test]
fn a_system_that_cannot_be_entered_ends_in_rescue_and_nothing_restarts_the_machine_under_it() {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |lab| {
        let text = "[health]\nstartup_limit = 8\n[rescue]\nreboot_after = 16\n";
        lab.write_config("controller/boot.toml", text).unwrap();
    });
    small::publish(&lab, "2", |tree| {
        small::program(&tree.join("sbin/init"), "#!/bin/a-shell-that-is-not-there\n");
    });
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.rescues(&["the installed system could not be entered", "it reboots in 16 s"]);
    // Whoever guarded the startup has nothing to guard any more.
    assert_eq!(machine.ends(), Exit::Reset);
    machine.never_showed(&["not up after 8 s", "Kernel panic"]);
    let unhealthy = "version 2 on /dev/vda3 is unhealthy: it was started and never came up";
    boot(&lab, &disk, &[unhealthy, &banner("1"), "this system is closed"], Exit::Shutdown);
}
