//! A distribution with systemd reports its life cycle like any other.

use gse_qemu::{Disk, Exit, Filesystem, Lab, Machine};
use gse_tests::{
    disk,
    lab::{Watch as _, scratch, systemd},
};

fn log_in(lab: &Lab, disk: &Disk) -> Machine {
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows_in_any_order(&["gse: this system is up", "lab-677365 login: "]);
    machine.console.send_line("root").unwrap();
    machine.shows(&["Password: "]);
    machine.console.send_line("gse").unwrap();
    machine.shows(&["# "]);
    machine.console.send_line("gse-controller status").unwrap();
    machine.shows(&["\nhealth          healthy", "\nconfiguration   serial", "# "]);
    machine
}

fn cycle(disk: &Disk) -> String {
    disk::mount(disk, 2).text(".gse/cycle.toml")
}

/// Starts and ends a machine in each way in which a shutdown ends.
fn shuts_down(filesystem: Filesystem) {
    let dir = scratch();
    let lab = systemd(dir.path(), filesystem);
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    let mut before = String::new();
    for (command, exit) in [("poweroff", Exit::Shutdown), ("reboot", Exit::Reset)] {
        let machine = log_in(&lab, &disk);
        machine.console.send_line(&format!("systemctl {command}")).unwrap();
        machine.shows(&["gse: this system is closed"]);
        assert_eq!(machine.ends(), exit);
        let after = cycle(&disk);
        assert!(after.contains("state = \"closed\"") && after != before, "{command}: {after}");
        before = after;
    }

    // What ends it without a shutdown is none.
    let machine = log_in(&lab, &disk);
    machine.console.send_line("sync; reboot -ff").unwrap();
    assert_eq!(machine.ends(), Exit::Reset);
    assert!(cycle(&disk).contains("state = \"up\""), "{}", cycle(&disk));
}

#[test]
fn a_system_with_systemd_is_up_and_closed_with_ext4() {
    shuts_down(Filesystem::Ext4);
}

#[test]
fn a_system_with_systemd_is_up_and_closed_with_btrfs() {
    shuts_down(Filesystem::Btrfs);
}

#[test]
fn a_service_that_hangs_keeps_a_system_with_systemd_from_being_up() {
    let dir = scratch();
    let lab = systemd(dir.path(), Filesystem::Ext4);
    // By the configuration, as an administrator would.
    let units = "controller/system/files/etc/systemd/system";
    let hangs = "[Service]\nType=oneshot\nTimeoutStartSec=infinity\n\
                 ExecStart=/bin/sh -c 'echo a service hangs >/dev/console; exec sleep infinity'\n";
    lab.write_config(&format!("{units}/hangs.service"), hangs).unwrap();
    let wants = "[Unit]\nWants=hangs.service\n";
    lab.write_config(&format!("{units}/multi-user.target.d/hangs.conf"), wants).unwrap();
    lab.write_config("controller/boot.toml", "[health]\nstartup_limit = 90\n").unwrap();
    lab.publish_config().unwrap();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&["a service hangs", "not up after 90 s: the machine restarts"]);
    assert_eq!(machine.ends(), Exit::Reset);
    machine.never_showed(&["this system is up", "this system is closed"]);
    assert!(cycle(&disk).contains("state = \"open\""), "{}", cycle(&disk));
}
