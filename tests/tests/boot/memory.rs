//! Systems that run from memory.

use gse_qemu::{Exit, Filesystem, fixtures::Flavour};
use gse_tests::{
    disk,
    lab::{Watch as _, scratch},
    small::{self, banner},
};

#[test]
fn a_machine_runs_from_memory_where_it_has_no_disk_or_a_person_says_so() {
    let dir = scratch();
    let lab = small::unbuilt(dir.path(), Flavour::Cloud, Filesystem::Ext4);
    let policy = "[memory]\nrun = \"ask\"\nask_timeout = 3600\n";
    lab.write_config("controller/boot.toml", policy).unwrap();
    lab.write_config("controller/system/files/etc/from-config", "x\n").unwrap();
    lab.build_controller().unwrap();
    let needs = "version 1 needs ";
    let in_memory = ["gse 1 runs from memory", "small: / is tmpfs ro", "small: /etc is tmpfs rw"];

    // No disk: nobody is asked. `gse.diskless` has it not even wait for one.
    let machine = lab.machine().append("gse.diskless").start().unwrap();
    machine.shows(&["this machine has no disk", needs, "MiB to run from memory; "]);
    machine.shows(&in_memory);
    machine.shows(&[&banner("1"), "this system is up", "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    machine.never_showed(&["or install it?"]);

    // With a disk, who sits there decides, and knows the price; the disk stays as it is, or is installed.
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    let untouched = disk::digest(&disk.image);
    for (answer, after) in [("m", "gse 1 runs from memory"), ("i", "gse 1 into /dev/vda2")] {
        let machine = lab.machine().disk(disk.clone()).start().unwrap();
        machine.shows(&[needs, "run it from memory, or install it? [m/I] (3600 s) "]);
        machine.console.send_line(answer).unwrap();
        machine.shows(&[after, &banner("1"), "this system is closed"]);
        assert_eq!(machine.ends(), Exit::Shutdown);
        assert_eq!(disk::digest(&disk.image) == untouched, answer == "m");
    }

    // What does not fit is not begun.
    let small = lab.machine().append("gse.diskless").memory(320).start().unwrap();
    small.rescues(&[needs, "MiB are free: take a machine with more memory, or one with a disk"]);
    small.never_showed(&["runs from memory"]);
}
