//! What every initramfs has to get through, the controller's own as well as dracut's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use gse_qemu::{Exit, Filesystem, fixtures::Flavour};

use crate::{
    disk,
    image::Image,
    lab::{VERSION, Watch as _, scratch},
    small::{self, banner},
};

/// Boots of one machine, each with further words on its kernel command line: a blank disk gets a system, which
/// starts again, and is updated.
pub fn a_system_is_installed_started_again_and_updated(image: Image, words: [&str; 3]) {
    let dir = scratch();
    let lab = small::unbuilt(dir.path(), Flavour::Cloud, Filesystem::Ext4);
    image.build(&lab);
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    let [first, second, third] = words;

    let machine = image.machine(&lab).disk(disk.clone()).append(first).start().unwrap();
    machine.shows(&["offers 1", "into /dev/vda2", "small: / is ext4 ro", "small: /etc is tmpfs"]);
    machine.shows(&[&banner("1"), "this system is up", "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);

    let machine = image.machine(&lab).disk(disk.clone()).append(second).start().unwrap();
    machine.shows(&["1 is the newest", &banner("1"), "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);

    small::publish(&lab, "2", |_| {});
    let machine = image.machine(&lab).disk(disk.clone()).append(third).start().unwrap();
    machine.shows(&["offers 2", "into /dev/vda3", &banner("2"), "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert_eq!(disk::slot_labels(&disk), ["BACKUPFS", "SYSFS"]);
}

/// A version that never comes up gives way to the one before it.
pub fn a_system_that_does_not_come_up_gives_way(image: Image) {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |_| {});
    image.build(&lab);
    small::publish(&lab, "2", |tree| {
        let text = "#!/bin/sh\necho small: starts\nexec /bin/poweroff -f\n";
        small::program(&tree.join("sbin/init"), text);
    });
    let machine = image.machine(&lab).disk(disk.clone()).start().unwrap();
    machine.shows(&["offers 2", "small: starts"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert!(disk::mount(&disk, 3).text(".gse/cycle.toml").contains("state = \"open\""));
    let machine = image.machine(&lab).disk(disk.clone()).start().unwrap();
    machine.shows(&["is unhealthy", "/dev/vda3 becomes DEPRIVED", "/dev/vda2 becomes SYSFS"]);
    machine.shows(&[&banner("1"), "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}

/// Without a network card, and with one that nobody answers on, what is installed starts.
pub fn without_a_network_the_machine_starts_what_it_has(image: Image) {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |_| {});
    image.build(&lab);
    let mut spec = image.machine(&lab).disk(disk);
    spec.nics.clear();
    let machine = spec.start().unwrap();
    machine.shows(&["no network: ", &banner("1"), "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}

/// A blank machine without a server: nobody gets a shell, and a retry finds the server.
pub fn rescue_has_no_shell_and_a_retry_installs(image: Image) {
    let dir = scratch();
    let mut lab = small::unbuilt(dir.path(), Flavour::Cloud, Filesystem::Ext4);
    image.build(&lab);
    lab.stop_server();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    let machine = image.machine(&lab).disk(disk).start().unwrap();
    machine.rescues(&["no server offered one", "no shell: the configuration has no"]);
    machine.console.send_line("echo shell $((6 * 7))").unwrap();
    machine.shows(&["r, b or o", "rescue> "]);
    machine.never_showed(&["shell 42"]);
    lab.start_server().unwrap();
    machine.console.send_line("r").unwrap();
    machine.shows(&[&banner("1"), "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}

/// A version over which `/etc` cannot be mounted: the one before it starts, and no label moves for it.
pub fn a_system_that_cannot_be_mounted_over_is_passed_over(image: Image) {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |_| {});
    image.build(&lab);
    small::publish(&lab, "2", |tree| {
        fs::remove_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc"), "no directory").unwrap();
    });
    let machine = image.machine(&lab).disk(disk.clone()).start().unwrap();
    machine.shows(&["offers 2", "starting version 2", "starting version 1", &banner("1")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert_eq!(disk::slot_labels(&disk), ["BACKUPFS", "SYSFS"]);
    // It was never started, so it did not fail either.
    assert!(disk::mount(&disk, 3).text(".gse/cycle.toml").contains("state = \"fresh\""));
}

/// A startup that hangs is ended by a process that was started in the initramfs.
pub fn a_startup_that_hangs_is_ended(image: Image) {
    let dir = scratch();
    let lab = small::unpublished(dir.path(), Flavour::Cloud, Filesystem::Ext4);
    small::publish(&lab, VERSION, |tree| {
        let text = "#!/bin/sh\necho small: starts\nwhile :; do /bin/sleep 1000; done\n";
        small::program(&tree.join("sbin/init"), text);
    });
    // On a busy host it takes an initramfs with systemd that long to hand over.
    lab.write_config("controller/boot.toml", "[health]\nstartup_limit = 20\n").unwrap();
    image.build(&lab);
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    let machine = image.machine(&lab).disk(disk).start().unwrap();
    machine.shows(&["small: starts", "not up after 20 s: the machine restarts"]);
    assert_eq!(machine.ends(), Exit::Reset);
}
