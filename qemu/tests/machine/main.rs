//! The harness itself: consoles, disks, cards, and the ways in which a machine ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod guest;

use std::{
    fs,
    time::{Duration, Instant},
};

use gse_qemu::{
    Bus, Disk, Error, Exit, Model, Nic,
    fixtures::{Flavour, kernel},
};
use guest::{LONG, machine, scratch};

#[test]
fn a_machine_prints_and_takes_input_and_switches_itself_off() {
    let dir = scratch();
    let script = "echo ready; read answer; echo \"you said $answer\"; poweroff -f\n";
    let spec = machine(dir.path(), &kernel(Flavour::Cloud).unwrap(), &[], script);
    let machine = spec.start().unwrap();
    let ready = machine.console.expect("ready", LONG).unwrap();
    machine.console.send_line("hello").unwrap();
    assert!(machine.console.expect("you said hello", LONG).unwrap() >= ready);
    assert_eq!(machine.wait_exit(LONG).unwrap(), Exit::Shutdown);
    assert!(machine.console.lines().iter().any(|l| l.text.contains("Linux version")));
}

#[test]
fn an_expectation_that_is_not_met_shows_what_was_printed() {
    let dir = scratch();
    let script = "echo something else; read forever\n";
    let spec = machine(dir.path(), &kernel(Flavour::Cloud).unwrap(), &[], script);
    let machine = spec.start().unwrap();
    machine.console.expect("something", LONG).unwrap();
    let before = Instant::now();
    let error = machine.console.expect("the moon", Duration::from_millis(300)).unwrap_err();
    assert!(before.elapsed() < LONG);
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("the moon") && text.contains("something else"), "{text}");

    machine.cut_power().unwrap();
    assert_eq!(machine.wait_exit(LONG).unwrap(), Exit::PowerCut);
    let error = machine.console.expect("the moon", LONG).unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error}");
}

#[test]
fn a_reboot_ends_a_machine_unless_it_is_told_to_go_on() {
    let dir = scratch();
    let kernel = kernel(Flavour::Cloud).unwrap();
    let script = "echo here I am; read key; reboot -f\n";
    let spec = machine(dir.path(), &kernel, &[], script);

    let once = spec.start().unwrap();
    once.console.expect("here I am", LONG).unwrap();
    once.console.send_line("").unwrap();
    assert_eq!(once.wait_exit(LONG).unwrap(), Exit::Reset);

    let again = spec.reboots().start().unwrap();
    again.console.expect("here I am", LONG).unwrap();
    again.console.send_line("").unwrap();
    again.console.expect("here I am", LONG).unwrap();
    again.reset().unwrap();
    again.console.expect("here I am", LONG).unwrap();
}

#[test]
fn disks_have_the_sectors_the_serial_and_the_content_that_they_should() {
    let dir = scratch();
    let script = "for d in vda vdb nvme0n1; do\n\
        echo $d $(cat /sys/block/$d/queue/logical_block_size) $(cat /sys/block/$d/size) \
        $(cat /sys/block/$d/serial /sys/block/$d/device/serial 2>/dev/null)\n\
        done\n\
        printf hello >/dev/vda; printf no 2>&1 >/dev/vdb || echo vdb cannot be written; \
        sync; echo written; read forever\n";
    let modules = ["virtio_pci", "virtio_blk", "nvme"];
    let spec = machine(dir.path(), &kernel(Flavour::Cloud).unwrap(), &modules, script);
    let image = |name: &str| dir.path().join(name);
    let log = image("log");
    let spec = spec
        .disk(Disk::blank(image("a"), 1 << 20).unwrap().serial("first").write_log(&log))
        .disk(Disk::blank(image("b"), 1 << 20).unwrap().sector(4096).read_only())
        .disk(Disk::blank(image("c"), 1 << 20).unwrap().bus(Bus::Nvme).sector(4096).serial("N1"));
    let machine = spec.start().unwrap();
    machine.console.expect("vda 512 2048 first", LONG).unwrap();
    machine.console.expect("vdb 4096 2048", LONG).unwrap();
    machine.console.expect("nvme0n1 4096 2048 N1", LONG).unwrap();
    machine.console.expect("vdb cannot be written", LONG).unwrap();
    machine.console.expect("written", LONG).unwrap();
    machine.cut_power().unwrap();
    assert!(fs::read(image("a")).unwrap().starts_with(b"hello"));
    assert!(fs::read(image("b")).unwrap().iter().all(|b| *b == 0));
    assert!(fs::metadata(&log).unwrap().len() > 0);
}

#[test]
fn a_disk_and_a_card_can_be_plugged_in_and_pulled_out() {
    let dir = scratch();
    let script = "echo ready\n\
        while [ ! -e /dev/sda ]; do usleep 50000; done; echo the disk is there\n\
        while ! ls /sys/class/net | grep -qv lo; do usleep 50000; done; echo the card is there\n\
        while [ -e /dev/sda ]; do usleep 50000; done; echo the disk is gone\n\
        read forever\n";
    let modules = ["xhci_pci", "sd_mod", "usb_storage", "e1000"];
    let generic = kernel(Flavour::Generic).unwrap();
    let machine = machine(dir.path(), &generic, &modules, script).hot_plug().start().unwrap();
    machine.console.expect("ready", LONG).unwrap();
    let disk = Disk::blank(dir.path().join("usb"), 1 << 20).unwrap().bus(Bus::Usb);
    let plugged = machine.plug_disk(&disk).unwrap();
    machine.console.expect("the disk is there", LONG).unwrap();
    machine.plug_nic(&Nic::default().model(Model::E1000)).unwrap();
    machine.console.expect("the card is there", LONG).unwrap();
    machine.unplug(plugged, LONG).unwrap();
    machine.console.expect("the disk is gone", LONG).unwrap();
}

#[test]
fn qemu_that_does_not_start_says_why() {
    let dir = scratch();
    let spec = machine(dir.path(), &kernel(Flavour::Cloud).unwrap(), &[], "poweroff -f\n");
    let missing = dir.path().join("no such disk");
    let error = spec.disk(Disk::new(missing)).start().err().unwrap().to_string();
    assert!(error.contains("no such disk") && error.contains("No such file"), "{error}");
}

#[test]
fn more_devices_than_there_are_slots_are_refused() {
    let dir = scratch();
    let spec = machine(dir.path(), &kernel(Flavour::Cloud).unwrap(), &[], "read forever\n");
    let machine = spec.start().unwrap();
    let error = machine.plug_nic(&Nic::default()).unwrap_err().to_string();
    assert!(error.contains("hot_plug"), "{error}");
}
