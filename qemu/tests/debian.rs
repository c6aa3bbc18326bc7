//! The root tree that stands in for a stage3 really is one: it boots with everything read-only, by OpenRC.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::process::Command;

use common::{LONG, machine, scratch};
use gse_qemu::{
    Disk, Exit, Timeline,
    fixtures::{Flavour, kernel, tree},
};

/// What the controller will do, in five lines of shell.
const STATELESS: &str = "mount -o ro -t ext4 /dev/vda /new\n\
    for d in etc var/log; do mount -t tmpfs tmpfs /run; cp -a /new/$d/. /run/; mount -o move /run /new/$d; done\n\
    mount -t tmpfs -o mode=1777 tmpfs /new/tmp; mount -t tmpfs tmpfs /run; echo lab-1 >/new/etc/hostname\n\
    for d in dev proc sys run; do mount -o move /$d /new/$d; done\n\
    exec switch_root /new /sbin/init\n";

#[test]
fn the_debian_tree_boots_stateless_to_a_login_and_shuts_down() {
    let tree = tree().unwrap();
    for own in ["etc/hostname", "etc/machine-id", "etc/ssh"] {
        assert!(!tree.join(own).exists(), "each machine has its own {own}");
    }
    let dir = scratch();
    let image = dir.path().join("disk");
    let disk = Disk::blank(&image, 1 << 30).unwrap();
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-d"]).arg(&tree).arg(&image);
    assert!(mkfs.status().unwrap().success());
    let kernel = kernel(Flavour::Cloud).unwrap();
    let spec = machine(dir.path(), &kernel, &["virtio_pci", "virtio_blk"], STATELESS).disk(disk);

    let machine = spec.start().unwrap();
    machine.console.expect("lab-1 login:", LONG).unwrap();
    machine.console.send_line("root").unwrap();
    machine.console.expect("Password:", LONG).unwrap();
    machine.console.send_line("gse").unwrap();
    machine.console.expect("root@lab-1:~#", LONG).unwrap();
    machine.console.send_line("touch /x; touch /etc/x && echo only /etc is $((40+2))").unwrap();
    machine.console.expect("Read-only file system", LONG).unwrap();
    machine.console.expect("only /etc is 42", LONG).unwrap();
    machine.console.send_line("rc-status").unwrap();
    machine.console.expect("Runlevel: default", LONG).unwrap();
    machine.console.send_line("poweroff").unwrap();
    assert_eq!(machine.wait_exit(LONG).unwrap(), Exit::Shutdown);

    let timeline = Timeline::of(&machine.console.lines());
    let stages =
        ["kernel", "the system's own init", "default runlevel begins", "login prompt", "off"];
    let times =
        stages.map(|stage| timeline.at(stage).unwrap_or_else(|| panic!("no {stage}:\n{timeline}")));
    assert!(times.is_sorted(), "{timeline}");

    let machine = spec.start().unwrap();
    machine.console.expect("lab-1 login:", LONG).unwrap();
    machine.ctrl_alt_del().unwrap();
    assert_eq!(machine.wait_exit(LONG).unwrap(), Exit::Shutdown);
}
