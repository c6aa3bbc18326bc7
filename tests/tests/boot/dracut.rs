//! The controller in images that real dracut makes: with its own first process, and with systemd.

use gse_qemu::Exit;
use gse_tests::{
    image::Image,
    lab::{Watch as _, scratch},
    scenario,
    small::{self, banner},
};

/// A boot loader that knew GSE before.
const OLD_NAME: &str = "root=LABEL=SYSFS gse";

#[test]
fn a_system_is_installed_started_again_and_updated() {
    scenario::a_system_is_installed_started_again_and_updated(Image::Dracut, ["", "", OLD_NAME]);
}

#[test]
fn with_systemd_a_system_is_installed_started_again_and_updated() {
    // A disk that has no such label yet, and one that has.
    let words = [OLD_NAME, "", OLD_NAME];
    scenario::a_system_is_installed_started_again_and_updated(Image::Systemd, words);
}

#[test]
fn with_dracut_ng_a_system_is_installed_started_again_and_updated() {
    scenario::a_system_is_installed_started_again_and_updated(Image::DracutNg, ["", "", OLD_NAME]);
}

#[test]
fn with_dracut_ng_and_systemd_a_system_is_installed_started_again_and_updated() {
    let words = [OLD_NAME, "", ""];
    scenario::a_system_is_installed_started_again_and_updated(Image::DracutNgSystemd, words);
}

#[test]
fn modules_copied_by_hand_use_the_network_that_dracut_has_brought_up() {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |_| {});
    Image::ByHand.build(&lab);
    small::publish(&lab, "2", |_| {});
    let machine = Image::ByHand.machine(&lab).disk(disk).append("rd.neednet=1 ip=dhcp");
    let machine = machine.start().unwrap();
    // QEMU has a DHCP server, and dracut's client has the lease from it before the controller looks.
    machine.shows(&["has 10.0.2.15/24 already", "offers 2", "into /dev/vda3", &banner("2")]);
    machine.shows(&["this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}

#[test]
fn with_systemd_root_gse_is_enough_for_a_blank_disk() {
    scenario::rescue_has_no_shell_and_a_retry_installs(Image::Systemd);
}

#[test]
fn rescue_has_no_shell_and_a_retry_installs() {
    scenario::rescue_has_no_shell_and_a_retry_installs(Image::Dracut);
}

#[test]
fn a_system_that_does_not_come_up_gives_way() {
    scenario::a_system_that_does_not_come_up_gives_way(Image::Dracut);
}

#[test]
fn a_system_that_cannot_be_mounted_over_is_passed_over() {
    scenario::a_system_that_cannot_be_mounted_over_is_passed_over(Image::Dracut);
}

#[test]
fn with_systemd_a_startup_that_hangs_is_ended() {
    scenario::a_startup_that_hangs_is_ended(Image::Systemd);
}

#[test]
fn the_own_image_gets_through_the_same() {
    scenario::a_system_is_installed_started_again_and_updated(Image::Own, ["", "", ""]);
    scenario::a_system_that_does_not_come_up_gives_way(Image::Own);
    scenario::a_system_that_cannot_be_mounted_over_is_passed_over(Image::Own);
}

#[test]
fn without_a_network_the_machine_starts_what_it_has() {
    scenario::without_a_network_the_machine_starts_what_it_has(Image::Systemd);
}

#[test]
fn hooks_run_at_their_points_and_the_network_of_a_script_is_taken_as_it_is() {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |_| {});
    Image::Dracut.build(&lab);
    let machine = Image::Dracut.machine(&lab).disk(disk).append("lab.net=1").start().unwrap();
    machine.shows(&[
        "lab: the hook before the controller",
        "has 10.0.2.99/24 already",
        "offers 1",
        "starting version 1",
        "lab: the hook after phase 8",
        "lab: the hook after phase 9",
        &banner("1"),
        "this system is closed",
    ]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}

#[test]
fn what_dracut_waits_for_in_vain_does_not_stop_the_boot() {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |_| {});
    Image::Dracut.build(&lab);
    // Six seconds instead of three minutes.
    let words = "lab.wait=1 rd.retry=6";
    let machine = Image::Dracut.machine(&lab).disk(disk).append(words).start().unwrap();
    machine.shows(&["1 is the newest", &banner("1"), "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}

#[test]
fn dracuts_emergency_shell_is_the_controllers_rescue() {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |_| {});
    for image in [Image::Dracut, Image::Systemd] {
        image.build(&lab);
        let machine = image.machine(&lab).disk(disk.clone()).append("rd.break=pre-mount");
        let machine = machine.start().unwrap();
        machine.rescues(&["dracut could not go on"]);
        machine.console.send_line("echo shell $((6 * 7))").unwrap();
        machine.shows(&["r, b or o", "rescue> "]);
        machine.never_showed(&["shell 42"]);
        machine.console.send_line("o").unwrap();
        assert_eq!(machine.ends(), Exit::Shutdown);
    }
}

#[test]
fn an_init_of_the_configuration_is_started() {
    let dir = scratch();
    for image in [Image::Dracut, Image::Systemd] {
        let dir = dir.path().join(format!("{image:?}"));
        std::fs::create_dir(&dir).unwrap();
        let (lab, disk) = small::installed(&dir, |lab| {
            lab.write_config("controller/boot.toml", "[init]\npath = \"/bin/second\"\n").unwrap();
        });
        small::publish(&lab, "2", |tree| {
            let text = "#!/bin/sh\necho small: the second init\nexec /sbin/init\n";
            small::program(&tree.join("bin/second"), text);
        });
        image.build(&lab);
        let machine = image.machine(&lab).disk(disk).start().unwrap();
        machine.shows(&["small: the second init", &banner("2"), "this system is closed"]);
        assert_eq!(machine.ends(), Exit::Shutdown);
    }
}
