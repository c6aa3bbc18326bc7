//! What a startup is held to: its own report, the administrator's checks, its time, and a hardware watchdog.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use gse_qemu::{Disk, Exit, Filesystem, Lab, Spec, fixtures::Flavour};
use gse_tests::{
    disk,
    lab::{VERSION, Watch as _, scratch},
    small::{self, banner},
};

/// The record of the system in the first slot.
fn cycle(disk: &Disk) -> String {
    disk::mount(disk, 2).text(".gse/cycle.toml")
}

fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A lab whose image has another `/sbin/init`, and the disk of its machine.
fn with_init(dir: &Path, flavour: Flavour, health: &str, init: &str) -> (Lab, Disk) {
    with_files(dir, flavour, health, init, |_, _| {})
}

/// As [`with_init`], with other things in the image that come from the lab.
fn with_files(
    dir: &Path,
    flavour: Flavour,
    health: &str,
    init: &str,
    files: impl FnOnce(&Lab, &Path),
) -> (Lab, Disk) {
    let lab = small::unpublished(dir, flavour, Filesystem::Ext4);
    small::publish(&lab, VERSION, |tree| {
        files(&lab, tree);
        let text = format!("#!/bin/sh\nPATH=/bin\necho small: starts\n{init}\n");
        program(&tree.join("sbin/init"), &text);
    });
    lab.write_config("controller/boot.toml", &format!("[health]\n{health}\n")).unwrap();
    lab.build_controller().unwrap();
    let disk = lab.blank_disk(&dir.join("disk.img")).unwrap();
    (lab, disk)
}

#[test]
fn a_startup_that_hangs_is_ended_and_was_never_up() {
    let dir = scratch();
    let (lab, disk) =
        with_init(dir.path(), Flavour::Cloud, "startup_limit = 4", "while :; do sleep 1000; done");
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&["small: starts", "not up after 4 s: the machine restarts"]);
    assert_eq!(machine.ends(), Exit::Reset);
    let record = cycle(&disk);
    assert!(record.contains("state = \"open\"") && record.contains("tries = 1"), "{record}");
    let boot = disk::mount(&disk, 1);
    assert!(boot.text("gse/logs/00000001-started.log").starts_with("started\nboot id: "));
    let failed = boot.text("gse/logs/00000002-failed.log");
    assert!(failed.starts_with("failed: this system was not up after 4 s\n"), "{failed}");
    assert!(failed.contains("] gse: starting version 1 from /dev/vda2\n"), "{failed}");
}

#[test]
fn a_check_that_fails_leaves_the_life_cycle_open_and_says_why() {
    let dir = scratch();
    let lab = small::unpublished(dir.path(), Flavour::Cloud, Filesystem::Btrfs);
    small::publish(&lab, VERSION, |tree| {
        let checks = tree.join("etc/gse/health.d");
        program(&checks.join("10-fine"), "#!/bin/sh\necho all is well\n");
        program(&checks.join("20-home"), "#!/bin/sh\necho no home on $0\nexit 3\n");
        program(&checks.join("30-slow"), "#!/bin/sh\nwhile :; do :; done\n");
    });
    lab.write_config("controller/boot.toml", "[health]\nscript_limit = 2\n").unwrap();
    lab.build_controller().unwrap();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&[
        &banner(VERSION),
        "gse: this system is not healthy: the check 20-home ended with exit status: 3; the check \
         30-slow took more than 2 s",
        "gse: 20-home: no home on /etc/gse/health.d/20-home",
    ]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    machine.never_showed(&["this system is up", "this system is closed", "all is well"]);
    let record = cycle(&disk);
    assert!(record.contains("state = \"open\""), "{record}");
}

#[test]
fn a_system_that_need_not_or_cannot_report_is_never_open() {
    let init = "sleep 3\necho small: still runs\nbusybox poweroff -f\n";
    let mute = "/etc is not in memory, so no service can report";
    let cases = [("require_report = false\n", "", "starting version 1"), ("", "ctetc=0", mute)];
    for (report, words, says) in cases {
        let dir = scratch();
        let health = format!("{report}startup_limit = 1");
        let (lab, disk) = with_files(dir.path(), Flavour::Cloud, &health, init, |_, tree| {
            if !words.is_empty() {
                // By that it is one with OpenRC, whose service would report.
                fs::create_dir(tree.join("etc/runlevels")).unwrap();
            }
        });
        for _ in 0..2 {
            let machine = lab.machine().disk(disk.clone()).append(words).start().unwrap();
            machine.shows(&[says, "small: starts", "small: still runs"]);
            assert_eq!(machine.ends(), Exit::Shutdown);
            machine.never_showed(&["no init that the controller knows", "is unhealthy"]);
            assert!(cycle(&disk).contains("state = \"fresh\""), "{}", cycle(&disk));
        }
    }
}

/// A machine with a watchdog, and a kernel that has its driver.
fn watched(lab: &Lab, disk: &Disk, words: &str) -> Spec {
    lab.machine().disk(disk.clone()).watchdog().append(words)
}

#[test]
fn a_hardware_watchdog_resets_a_machine_whose_kernel_is_dead() {
    let dir = scratch();
    let (lab, disk) = with_init(
        dir.path(),
        Flavour::Generic,
        "watchdog_limit = 8",
        // The guard looks for the watchdog as soon as it runs. What a terminal still has to send is lost in a panic.
        "until busybox fgrep -q active /sys/class/watchdog/watchdog0/state; do sleep 1; done\n\
         echo '<4>small: is watched' >/dev/kmsg\necho c >/proc/sysrq-trigger\n",
    );
    // A panic alone does not restart this machine.
    let machine = watched(&lab, &disk, "panic=0").start().unwrap();
    machine.shows(&["small: starts", "small: is watched", "Kernel panic"]);
    assert_eq!(machine.ends(), Exit::Reset);
    assert!(machine.watchdog_acted());
    assert!(cycle(&disk).contains("state = \"open\""), "{}", cycle(&disk));
}

#[test]
fn a_hardware_watchdog_leaves_a_healthy_machine_alone() {
    let dir = scratch();
    let (lab, disk) = with_init(
        dir.path(),
        Flavour::Generic,
        "watchdog_limit = 5",
        "state() { busybox fgrep -q $1 /sys/class/watchdog/watchdog0/state; }\n\
         until state active; do sleep 1; done\n\
         # Each time for longer than it waits.\n\
         sleep 8\n\
         /run/gse/gse-controller up\n\
         sleep 8\n\
         state inactive && echo small: the watchdog is free\n\
         state active && echo small: the watchdog is fed\n\
         /run/gse/gse-controller closed\n\
         busybox poweroff -f\n",
    );
    // The machine has two, and which is found first is open.
    let unstoppable = "i6300esb.nowayout=1 iTCO_wdt.nowayout=1";
    for (words, after) in [("", "the watchdog is free"), (unstoppable, "the watchdog is fed")] {
        let machine = watched(&lab, &disk, words).start().unwrap();
        machine.shows(&["this system is up", after, "this system is closed"]);
        assert_eq!(machine.ends(), Exit::Shutdown);
        assert!(!machine.watchdog_acted());
        assert!(cycle(&disk).contains("state = \"closed\""), "{}", cycle(&disk));
    }
}

#[test]
fn a_software_watchdog_that_cannot_be_stopped_leaves_a_healthy_machine_alone() {
    let dir = scratch();
    let init = "busybox insmod /watchdog.ko\n\
         busybox insmod /softdog.ko nowayout=1 soft_margin=5 || busybox poweroff -f\n\
         state() { busybox fgrep -q $1 /sys/class/watchdog/watchdog0/state; }\n\
         # The guard has looked at it.\n\
         until state active; do sleep 1; done\n\
         /run/gse/gse-controller up\n\
         sleep 8\n\
         state active && echo small: the watchdog is fed\n\
         /run/gse/gse-controller closed\n\
         busybox poweroff -f\n";
    let (lab, disk) = with_files(dir.path(), Flavour::Cloud, "", init, |lab, tree| {
        for module in ["watchdog.ko", "softdog.ko"] {
            let from = lab.kernel().modules.join("kernel/drivers/watchdog").join(module);
            fs::copy(from, tree.join(module)).unwrap();
        }
    });
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&["this system is up", "the watchdog is fed", "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert!(cycle(&disk).contains("state = \"closed\""), "{}", cycle(&disk));
}
