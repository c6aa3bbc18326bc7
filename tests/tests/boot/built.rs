//! What `gse --base` builds is what machines start: from the mirror's stage3 to a login.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gse_qemu::{
    Exit, Filesystem, Lab, Nic, Server, Spec,
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

/// Builds the system of `config.d` with the lab's kernel in it, and publishes it as version 1. The answer is where the
/// kernel and the controller are published.
fn build(lab: &Lab) -> PathBuf {
    let fixture = mirror::fixture();
    let gse = program("gse").unwrap();
    let sources = Server::start(&gse, &fixture.join("mirror"), 0).unwrap();
    let write = |name: &str, text: &str| lab.write_config(&format!("system/{name}"), text).unwrap();
    write("build.toml", &build_toml(&[&sources.url()], "[initramfs]\nby = \"controller\"\n"));
    for key in mirror::KEYS {
        write(&format!("keys/{key}"), &fs::read_to_string(fixture.join(key)).unwrap());
    }
    write("portage/package.use/lab", "app-misc/lab-tools extra\n");
    write("packages", "app-misc/lab-tools\n");
    write("runlevels", "local add default\n");
    write("files/etc/motd", "Built from a stage3.\n");
    let modules = &lab.kernel().modules;
    let release = modules.file_name().unwrap().to_string_lossy().into_owned();
    write("inject", &format!("cp {} /lib/modules/{release}\n", modules.display()));
    let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
    lab.run(|gse| {
        gse.args(["--base=precomp", "--auto=no", "--quiet", "--version=1"])
            .arg(option("config", &lab.config()))
            .arg(option("local", &lab.dir().join("local")))
            .arg(option("kernel", &lab.kernel().image))
    })
    .unwrap();
    fs::remove_dir_all(lab.dir().join("local")).unwrap();
    let text = fs::read_to_string(lab.dist().join("latest.toml")).unwrap();
    assert!(
        text.contains("images/gse-1/vmlinuz") && text.contains("images/gse-1/initramfs.img"),
        "{text}"
    );
    lab.dist().join("controller").join(release)
}

#[test]
fn a_system_that_was_built_from_a_stage3_is_installed_and_started() {
    let dir = scratch();
    let kernel = kernel(Flavour::Cloud).unwrap();
    let lab = Lab::new(dir.path(), kernel, SLOT, Filesystem::Ext4).unwrap();
    lab.publish_config().unwrap();
    let boot = build(&lab);
    let disk = lab.blank_disk(&dir.path().join("disk.img")).unwrap();

    let machine = Spec::new(boot.join("vmlinuz"), boot.join("initramfs.img"));
    let machine = machine.nic(Nic::default()).disk(disk.clone()).start().unwrap();
    machine.shows(&["offers 1", "into /dev/vda2"]);
    machine.shows_in_any_order(&["this system is up", " login: "]);
    machine.console.send_line("root").unwrap();
    machine.shows(&["Password: "]);
    machine.console.send_line("gse").unwrap();
    machine.shows(&["Built from a stage3.", "# "]);
    // The kernel's modules, as the build brought them; and what started the machine.
    machine
        .console
        .send_line("echo \"saw $(ls /boot /lib/modules/$(uname -r)/kernel | tr '\\n' ' ')\"")
        .unwrap();
    machine.shows(&["\nsaw /boot:", "initramfs-", "vmlinuz-", "drivers"]);
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
