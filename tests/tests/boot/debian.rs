//! The whole way with a whole distribution, once for each filesystem.

use std::{fs, os::unix::fs::PermissionsExt as _};

use gse_qemu::{Bus, Disk, Exit, Filesystem, Lab, Machine, Timeline, fixtures::tree};
use gse_tests::{
    disk,
    lab::{Watch as _, debian, scratch},
};

/// From the hardware address of a lab's card, as `machines.toml` says.
const HOSTNAME: &str = "lab-677365";

/// Logs in as root.
fn log_in(machine: &Machine) {
    machine.shows(&[&format!("{HOSTNAME} login: ")]);
    machine.console.send_line("root").unwrap();
    machine.shows(&["Password: "]);
    machine.console.send_line("gse").unwrap();
    machine.shows(&["# "]);
}

/// Boots a machine until it has a login, and looks at it as root does, who may have more questions; then asks it to shut
/// down.
fn boot(lab: &Lab, disk: &Disk, memory: u32, filesystem: &str, questions: impl FnOnce(&Machine)) {
    let machine = lab.machine().memory(memory).disk(disk.clone()).start().unwrap();
    machine.shows(&["gse: this system is up"]);
    log_in(&machine);
    let look = "for d in / /etc /var/log /tmp; do echo \"saw $d $(findmnt -rno FSTYPE,OPTIONS $d)\"; \
                done; echo \"saw runlevel $(rc-status -r)\"";
    machine.console.send_line(look).unwrap();
    machine.shows(&[
        &format!("\nsaw / {filesystem} ro,"),
        "\nsaw /etc tmpfs rw,",
        "\nsaw /var/log tmpfs rw,",
        "\nsaw /tmp tmpfs rw,",
        "\nsaw runlevel default",
    ]);
    questions(&machine);
    machine.console.send_line("touch /x; touch /etc/x && echo saw only /etc is $((40+2))").unwrap();
    machine.shows(&["Read-only file system", "\nsaw only /etc is 42"]);
    machine.ctrl_alt_del().unwrap();
    machine.shows(&["gse: this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);

    let timeline = Timeline::of(&machine.console.lines());
    let stages =
        ["kernel", "the system's own init", "default runlevel begins", "login prompt", "off"];
    let times =
        stages.map(|stage| timeline.at(stage).unwrap_or_else(|| panic!("no {stage}:\n{timeline}")));
    assert!(times.is_sorted(), "{timeline}");
}

/// The system that runs and its backup are what was signed, but for what the configuration has changed.
fn verify(machine: &Machine) {
    for which in ["", " --backup"] {
        machine.console.send_line(&format!("gse-controller verify{which}; echo ended $?")).unwrap();
        machine.shows(&["entries, as they were signed", "\nended 0"]);
    }
}

/// It has proven itself.
fn healthy(machine: &Machine) {
    machine.console.send_line("gse-controller status --json").unwrap();
    machine.shows(&[
        "\"slot\": \"SYSFS\"",
        "\"health\": \"healthy\"",
        "\"tries_left\": 1",
        "\"last_fallback\": null",
        "\"state\": \"cloned\"",
        "# ",
    ]);
}

/// A blank machine installs; it shuts down cleanly; and it boots again while there is no server.
fn whole_way(
    filesystem: Filesystem,
    memory: u32,
    disk: impl FnOnce(Disk) -> Disk,
    questions: impl FnOnce(&Machine),
) {
    for own in ["etc/hostname", "etc/machine-id", "etc/ssh"] {
        assert!(!tree().unwrap().join(own).exists(), "each machine has its own {own}");
    }
    let dir = scratch();
    let mut lab = debian(dir.path(), filesystem);
    let disk = disk(lab.blank_disk(&dir.path().join("disk.img")).unwrap());
    boot(&lab, &disk, memory, filesystem.name(), |_| {});
    assert_eq!(disk::slot_labels(&disk), ["SYSFS", ""]);
    assert_eq!(disk::labels(&disk)[&1], "BOOTFS");
    let first = disk::mount(&disk, 2).text(".gse/cycle.toml");
    assert!(first.contains("state = \"closed\"") && first.contains("tries = 0"), "{first}");

    lab.stop_server();
    boot(&lab, &disk, memory, filesystem.name(), |machine| {
        healthy(machine);
        questions(machine);
    });
    let second = disk::mount(&disk, 2).text(".gse/cycle.toml");
    assert!(second.contains("state = \"closed\"") && second != first, "{second}");
    // It had proven itself, so there is a copy of it now.
    assert_eq!(disk::slot_labels(&disk), ["SYSFS", "BACKUPFS"]);
    assert!(disk::mount(&disk, 3).text(".gse/cycle.toml").contains("state = \"cloned\""));
}

#[test]
fn a_blank_machine_becomes_a_lab_machine_with_btrfs() {
    // Every byte is read twice for this, under emulation: on one filesystem.
    whole_way(Filesystem::Btrfs, 1024, |disk| disk, verify);
}

#[test]
fn a_blank_machine_becomes_a_lab_machine_with_ext4_and_large_sectors() {
    whole_way(Filesystem::Ext4, 1024, |disk| disk.bus(Bus::Nvme).sector(4096), |_| {});
}

#[test]
fn a_blank_machine_of_half_a_gigabyte_becomes_a_lab_machine_with_xfs() {
    whole_way(Filesystem::Xfs, 512, |disk| disk, |_| {});
}

#[test]
fn services_that_start_side_by_side_are_waited_for_and_a_reboot_is_a_clean_shutdown() {
    let dir = scratch();
    let lab = debian(dir.path(), Filesystem::Ext4);
    let files = "controller/system/files/etc";
    lab.write_config(&format!("{files}/rc.conf"), "rc_parallel=\"YES\"\n").unwrap();
    let slow = format!("{files}/local.d/slow.start");
    lab.write_config(&slow, "#!/bin/sh\nsleep 4\necho slow: has started >/dev/console\n").unwrap();
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(lab.config().join(slow), mode).unwrap();
    lab.publish_config().unwrap();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&["slow: has started", "gse: this system is up"]);
    log_in(&machine);
    machine.console.send_line("reboot").unwrap();
    machine.shows(&["gse: this system is closed"]);
    assert_eq!(machine.ends(), Exit::Reset);
    let record = disk::mount(&disk, 2).text(".gse/cycle.toml");
    assert!(record.contains("state = \"closed\""), "{record}");
}
