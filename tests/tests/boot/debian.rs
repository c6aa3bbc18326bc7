//! The whole way with a whole distribution, once for each filesystem.

use gse_qemu::{Bus, Disk, Exit, Filesystem, Lab};
use gse_tests::{
    disk,
    lab::{Watch as _, debian, scratch},
};

/// From the hardware address of a lab's card, as `machines.toml` says.
const HOSTNAME: &str = "lab-677365";

/// Boots a machine until it has a login, and looks at it as root does; then asks it to shut down.
fn boot(lab: &Lab, disk: &Disk, memory: u32, filesystem: &str) {
    let machine = lab.machine().memory(memory).disk(disk.clone()).start().unwrap();
    machine.shows(&["gse: this system is up"]);
    machine.shows(&[&format!("{HOSTNAME} login: ")]);
    machine.console.send_line("root").unwrap();
    machine.shows(&["Password: "]);
    machine.console.send_line("gse").unwrap();
    machine.shows(&["# "]);
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
    machine.ctrl_alt_del().unwrap();
    machine.shows(&["gse: this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}

/// A blank machine installs; it shuts down cleanly; and it boots again while there is no server.
fn whole_way(filesystem: Filesystem, memory: u32, disk: impl FnOnce(Disk) -> Disk) {
    let dir = scratch();
    let mut lab = debian(dir.path(), filesystem);
    let disk = disk(lab.blank_disk(&dir.path().join("disk.img")).unwrap());
    boot(&lab, &disk, memory, filesystem.name());
    assert_eq!(disk::slot_labels(&disk), ["SYSFS", ""]);
    assert_eq!(disk::labels(&disk)[&1], "BOOTFS");
    let first = disk::mount(&disk, 2).text(".gse/cycle.toml");
    assert!(first.contains("state = \"closed\"") && first.contains("tries = 0"), "{first}");

    lab.stop_server();
    boot(&lab, &disk, memory, filesystem.name());
    let second = disk::mount(&disk, 2).text(".gse/cycle.toml");
    assert!(second.contains("state = \"closed\"") && second != first, "{second}");
    // It had proven itself, so there is a copy of it now.
    assert_eq!(disk::slot_labels(&disk), ["SYSFS", "BACKUPFS"]);
    assert!(disk::mount(&disk, 3).text(".gse/cycle.toml").contains("state = \"cloned\""));
}

#[test]
fn a_blank_machine_becomes_a_lab_machine_with_btrfs() {
    whole_way(Filesystem::Btrfs, 1024, |disk| disk);
}

#[test]
fn a_blank_machine_becomes_a_lab_machine_with_ext4_and_large_sectors() {
    whole_way(Filesystem::Ext4, 1024, |disk| disk.bus(Bus::Nvme).sector(4096));
}

#[test]
fn a_blank_machine_of_half_a_gigabyte_becomes_a_lab_machine_with_xfs() {
    whole_way(Filesystem::Xfs, 512, |disk| disk);
}
