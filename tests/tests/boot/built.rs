//! What `gse --base` builds is what machines start: from the mirror's stage3 to a login.

use std::{fs, path::Path};

use gse_qemu::{
    Exit, Filesystem, Lab, Server,
    fixtures::{Flavour, kernel},
    lab::program,
};
use gse_tests::{
    disk,
    lab::{Watch as _, scratch},
    mirror::{self, build_toml},
};

/// Bytes of a slot: the system takes a third of it.
const SLOT: u64 = 2 << 30;

/// Builds the system of `config.d`, and publishes it as version 1.
fn build(lab: &Lab) {
    let fixture = mirror::fixture();
    let gse = program("gse").unwrap();
    let sources = Server::start(&gse, &fixture.join("mirror"), 0).unwrap();
    let write = |name: &str, text: &str| lab.write_config(&format!("system/{name}"), text).unwrap();
    write("build.toml", &build_toml(&[&sources.url()], ""));
    for key in mirror::KEYS {
        write(&format!("keys/{key}"), &fs::read_to_string(fixture.join(key)).unwrap());
    }
    write("portage/package.use/lab", "app-misc/lab-tools extra\n");
    write("packages", "app-misc/lab-tools\n");
    write("runlevels", "local add default\n");
    write("files/etc/motd", "Built from a stage3.\n");
    let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
    lab.run(|gse| {
        gse.args(["--base=precomp", "--auto=no", "--quiet", "--version=1"])
            .arg(option("config", &lab.config()))
            .arg(option("local", &lab.dir().join("local")))
    })
    .unwrap();
    fs::remove_dir_all(lab.dir().join("local")).unwrap();
}

#[test]
fn a_system_that_was_built_from_a_stage3_is_installed_and_started() {
    let dir = scratch();
    let kernel = kernel(Flavour::Cloud).unwrap();
    let lab = Lab::new(dir.path(), kernel, SLOT, Filesystem::Ext4).unwrap();
    build(&lab);
    lab.publish_config().unwrap();
    lab.build_controller().unwrap();
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();

    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&["offers 1", "into /dev/vda2", "this system is up", " login: "]);
    machine.console.send_line("root").unwrap();
    machine.shows(&["Password: "]);
    machine.console.send_line("gse").unwrap();
    machine.shows(&["Built from a stage3.", "# "]);
    // Portage's own package, its database, and OpenRC's runlevels; and `/` is as a lab's is.
    machine.console.send_line("echo \"saw $(lab-tools)\"").unwrap();
    machine.shows(&["\nsaw extra: yes"]);
    machine.console.send_line("echo \"saw $(ls -d /var/db/pkg/app-misc/*)\"").unwrap();
    machine.shows(&["\nsaw /var/db/pkg/app-misc/lab-library-1.0"]);
    machine.console.send_line("echo \"saw $(rc-status default)\" | grep local").unwrap();
    machine.shows(&[" local ", "started"]);
    machine.console.send_line("echo \"saw $(findmnt -rno FSTYPE,OPTIONS /)\"").unwrap();
    machine.shows(&["\nsaw ext4 ro,"]);
    machine.ctrl_alt_del().unwrap();
    machine.shows(&["this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert!(disk::mount(&disk, 2).text(".gse/cycle.toml").contains("state = \"closed\""));
}
