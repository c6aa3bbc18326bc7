//! Hardware that appears late.

use std::fs;

use gse_qemu::{Bus, Exit, Filesystem, Model, Nic, Spec, fixtures::Flavour};
use gse_tests::{
    disk,
    lab::{LONG, Watch as _, scratch},
    small::{self, banner},
};

#[test]
fn a_usb_disk_and_a_usb_network_card_may_come_late() {
    let dir = scratch();
    let lab = small::unbuilt(dir.path(), Flavour::Generic, Filesystem::Btrfs);
    // As long as it takes: that something appears ends the waiting. A disk on USB has to be named.
    let drives = fs::read_to_string(lab.config().join("controller/drives.toml")).unwrap();
    let named = drives.replace("[[disk]]", "timeout = 600\n[[disk]]\nmatch.serial = \"gse-lab\"");
    lab.write_config("controller/drives.toml", &named).unwrap();
    lab.write_config("controller/network.toml", "carrier_timeout = 600\n").unwrap();
    lab.build_controller().unwrap();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap().bus(Bus::Usb);
    let spec = Spec::new(&lab.kernel().image, lab.initramfs()).hot_plug().append("gse.debug");

    let machine = spec.start().unwrap();
    // The controller runs, and has neither.
    machine.shows(&["gse: "]);
    machine.plug_disk(&disk).unwrap();
    machine.shows(&["export config.d: "]);
    machine.plug_nic(&Nic::default().model(Model::Usb)).unwrap();
    machine.shows(&["has 10.0.2.15/24", "into /dev/sda2", "small: / is btrfs ro", &banner("1")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert_eq!(disk::slot_labels(&disk), ["SYSFS", ""]);
    machine.never_showed(&["This machine could not start"]);
    drop(machine);

    // Both are plugged in before the power is on, as they mostly are.
    let spec = lab.machine();
    let nics = vec![Nic::default().model(Model::E1000)];
    let machine = Spec { nics, ..spec }.disk(disk.clone()).start().unwrap();
    machine.console.expect(&banner("1"), LONG).unwrap();
    assert_eq!(machine.ends(), Exit::Shutdown);

    // The disk is not on USB here, so that waiting for it gives USB no time.
    let nics = vec![Nic::default().model(Model::Usb)];
    let machine = Spec { nics, ..lab.machine() }.disk(disk.bus(Bus::Virtio)).start().unwrap();
    machine.shows(&["has 10.0.2.15/24", "offers 1", &banner("1")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}
