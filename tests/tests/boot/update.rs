//! Updates that go well, or that nobody wants.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
    time::SystemTime,
};

use gse_qemu::{Exit, Filesystem, fixtures::Flavour};
use gse_tests::{
    disk,
    lab::{Watch as _, scratch},
    small::{self, banner},
    tree::{describe, differences},
};

#[test]
fn an_update_goes_into_the_other_slot_and_the_old_system_stays_as_it_was() {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |_| {});
    assert_eq!(disk::slot_labels(&disk), ["SYSFS", ""]);
    let before = describe(disk::mount(&disk, 2).path()).unwrap();
    small::publish(&lab, "2", |_| {});

    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    // Nearly all of it is in the other slot, and there are patches for the rest.
    machine.shows(&["offers 2", "into /dev/vda3", "on this machine", "by patches"]);
    machine.shows(&[&banner("2"), "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert_eq!(disk::slot_labels(&disk), ["BACKUPFS", "SYSFS"]);
    let after = describe(disk::mount(&disk, 2).path()).unwrap();
    assert_eq!(differences(&before, &after), Vec::<String>::new());
    let new = disk::mount(&disk, 3);
    assert_eq!(new.text("version"), "2\n");
    assert!(new.text(".gse/cycle.toml").contains("state = \"closed\""));
    assert!(new.text(".gse/slot.toml").contains("generation = 2"));
    drop(new);

    // There and back: the first goes where it was. It is the default again, as release 3.
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&["2 is the newest", &banner("2")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    lab.run(|gse| gse.arg("--default=1")).unwrap();
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&["offers 1", "into /dev/vda2", &banner("1")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert!(disk::mount(&disk, 2).text(".gse/release.toml").contains("serial = 3"));
    assert_eq!(disk::slot_labels(&disk), ["SYSFS", "BACKUPFS"]);
}

#[test]
fn who_is_asked_decides_and_nobody_is_no() {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |_| {});
    small::publish(&lab, "2", |_| {});
    // A published policy counts at once, though the initramfs has another one.
    let policy = |text: &str| {
        lab.write_config("controller/boot.toml", &format!("[update]\n{text}\n")).unwrap();
        lab.publish_config().unwrap();
    };
    let boot = || lab.machine().disk(disk.clone()).start().unwrap();

    policy("policy = \"never\"");
    let machine = boot();
    machine.shows(&["configuration 1 fetched", "update.policy is \"never\"", &banner("1")]);
    assert_eq!(machine.ends(), Exit::Shutdown);

    policy("policy = \"ask\"\nask_timeout = 3");
    let machine = boot();
    machine.shows(&["install version 2 now? [y/N] (3 s)", "2 was not wanted now", &banner("1")]);
    assert_eq!(machine.ends(), Exit::Shutdown);

    policy("policy = \"ask\"\nask_timeout = 3600\nask_default = \"install\"");
    for (answer, after) in [("n", "1"), ("y", "2")] {
        let machine = boot();
        machine.shows(&["install version 2 now? [Y/n] (3600 s) "]);
        machine.console.send_line(answer).unwrap();
        machine.shows(&[&banner(after)]);
        assert_eq!(machine.ends(), Exit::Shutdown);
    }
    assert_eq!(disk::slot_labels(&disk), ["BACKUPFS", "SYSFS"]);
}

/// Waits until the server has another version, has the service fetch it, and is switched off.
const FETCHING: &str = r#"#!/bin/sh
PATH=/bin
gse=/run/gse/gse-controller
echo "small: version $(cat /version) on $(cat /etc/hostname)"
$gse up
if [ "$(cat /version)" = 1 ]; then
    until $gse plan --json | grep '"offered": "2"'; do sleep 1; done
    $gse plan
    $gse fetch --service &
    until $gse plan --json 2>/dev/null | grep '"waiting": true'; do sleep 1; done
    kill $!
fi
$gse closed
exec poweroff -f
"#;

/// Makes that the init of a tree.
pub(crate) fn fetches(tree: &Path) {
    small::program(&tree.join("sbin/init"), FETCHING);
    for applet in ["grep", "kill"] {
        symlink("busybox", tree.join("bin").join(applet)).unwrap();
    }
}

#[test]
fn an_update_that_came_while_the_machine_ran_needs_no_server_at_the_next_start() {
    let dir = scratch();
    let mut lab = small::unpublished(dir.path(), Flavour::Cloud, Filesystem::Ext4);
    lab.write_config("controller/boot.toml", "[update]\nbackground = true\n").unwrap();
    let change = |tree: &Path| {
        fetches(tree);
        // What the index says of these is the same each time.
        fs::create_dir(tree.join("usr")).unwrap();
        for number in 0..200 {
            let file = File::create(tree.join(format!("usr/{number}"))).unwrap();
            (&file).write_all(number.to_string().as_bytes()).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
    };
    small::publish(&lab, "1", change);
    lab.build_controller().unwrap();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();

    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&[&banner("1"), "this system is up"]);
    small::publish(&lab, "2", change);
    // It is made out of the one that the machine has.
    fs::remove_file(lab.dist().join("images/gse-2/index.cbor.zst")).unwrap();
    machine.shows(&["offered    version 2", "slot       /dev/vda3", "next start it is installed"]);
    machine.shows(&["2 into /dev/vda3", "on this machine", "by patches"]);
    machine.shows(&["this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert_eq!(disk::slot_labels(&disk), ["SYSFS", "INCOMING"]);

    lab.stop_server();
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&["/dev/vda3 becomes SYSFS", &banner("2"), "this system is closed"]);
    machine.never_showed(&["installing"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert_eq!(disk::slot_labels(&disk), ["BACKUPFS", "SYSFS"]);
}
