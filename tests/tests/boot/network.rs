//! How a machine gets its address, or does without.

use gse_qemu::{Exit, Filesystem, Nic, Spec, fixtures::Flavour};
use gse_tests::{
    lab::{Watch as _, scratch},
    small::{self, banner},
};

#[test]
fn static_addresses_come_from_the_configuration_or_the_command_line() {
    let dir = scratch();
    let lab = small::unbuilt(dir.path(), Flavour::Cloud, Filesystem::Ext4);
    let network = "[[interface]]\nmatch.mac = \"52:54:00:*\"\nmethod = \"static\"\n\
                   address = \"10.0.2.77/24\"\ngateway = \"10.0.2.2\"\n";
    lab.write_config("controller/network.toml", network).unwrap();
    lab.build_controller().unwrap();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&["has 10.0.2.77/24", "offers 1", &banner("1")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    // The command line wins.
    let ip = "ip=10.0.2.78::10.0.2.2:255.255.255.0::eth0:off";
    let machine = lab.machine().disk(disk).append(ip).start().unwrap();
    machine.shows(&["has 10.0.2.78/24", "offers 1", &banner("1")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}

#[test]
fn an_installed_machine_does_not_wait_for_a_card_that_it_never_had() {
    let dir = scratch();
    // Longer than any test may take: waiting for a card, or for its cable, would fail.
    let (lab, disk) = small::installed(dir.path(), |lab| {
        lab.write_config("controller/network.toml", "carrier_timeout = 86400\n").unwrap();
    });
    let spec = Spec::new(&lab.kernel().image, lab.initramfs()).disk(disk.clone());
    let machine = spec.start().unwrap();
    machine.shows(&["no network: ", &banner("1"), "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);

    // With a card whose network has no server on it, what is installed boots too.
    let spec = Spec::new(&lab.kernel().image, lab.initramfs()).disk(disk);
    let machine = spec.nic(Nic::default().without_host()).start().unwrap();
    machine.shows(&[
        "no server has a release that can be used",
        &banner("1"),
        "this system is closed",
    ]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}
