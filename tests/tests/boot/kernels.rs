//! Kernels that come with a release, on a machine that firmware and a boot loader start from its own disk.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    process::Command,
};

use gse_qemu::{Disk, Exit, Filesystem, Lab, fixtures::Flavour, spec::APPEND};
use gse_tests::{
    disk::output,
    lab::{Watch as _, scratch},
    small::{self, SLOT, banner},
};

use crate::update::fetches;

const FIRMWARE: &str = "/usr/share/ovmf/OVMF.fd";
const SYSTEMD_BOOT: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
/// Where the EFI partition starts, and how large it is; in bytes.
const ESP: (u64, u64) = (1 << 20, 192 << 20);

/// mtools on the EFI partition of a disk: files in it without mounting it.
fn mtools(program: &str, image: &Path, words: &[&str]) -> String {
    let image = format!("{}@@{}", image.display(), ESP.0);
    output(Command::new(program).arg("-i").arg(image).args(words))
}

/// A disk with an EFI partition called BOOTFS, which starts the lab's kernel and controller.
fn bootable(lab: &Lab) -> Disk {
    let (dir, image) = (lab.dir(), lab.dir().join("disk.img"));
    let disk = Disk::blank(&image, 2 * SLOT + (512 << 20)).unwrap();
    let esp = dir.join("esp.img");
    File::create(&esp).unwrap().set_len(ESP.1).unwrap();
    output(Command::new("mkfs.vfat").args(["-F", "32", "-n", "BOOTFS"]).arg(&esp));
    let script = dir.join("sfdisk");
    let line = format!("start={}, size={}, type=uefi\n", ESP.0 / 512, ESP.1 / 512);
    fs::write(&script, format!("label: gpt\n{line}")).unwrap();
    output(Command::new("sfdisk").arg(&image).stdin(File::open(&script).unwrap()));
    let mut bytes = Vec::new();
    // All that mkfs wrote is at the front.
    File::open(&esp).unwrap().take(16 << 20).read_to_end(&mut bytes).unwrap();
    let mut out = File::options().write(true).open(&image).unwrap();
    out.seek(SeekFrom::Start(ESP.0)).unwrap();
    out.write_all(&bytes).unwrap();

    let tree = dir.join("esp");
    for below in ["EFI/BOOT", "loader/entries", "gse"] {
        fs::create_dir_all(tree.join(below)).unwrap();
    }
    fs::copy(SYSTEMD_BOOT, tree.join("EFI/BOOT/BOOTX64.EFI")).unwrap();
    fs::copy(&lab.kernel().image, tree.join("gse/vmlinuz")).unwrap();
    fs::copy(lab.initramfs(), tree.join("gse/initramfs.img")).unwrap();
    fs::write(tree.join("loader/loader.conf"), "timeout 0\n").unwrap();
    let entry = format!(
        "title GSE\nlinux /gse/vmlinuz\ninitrd /gse/initramfs.img\noptions {APPEND} gse.note=first\n"
    );
    fs::write(tree.join("loader/entries/gse.conf"), entry).unwrap();
    for below in ["EFI", "loader", "gse"] {
        mtools("mcopy", &image, &["-s", &tree.join(below).display().to_string(), "::/"]);
    }
    disk
}

/// The entries of the boot loader.
fn entries(disk: &Disk) -> Vec<String> {
    let list = mtools("mdir", &disk.image, &["-b", "::/loader/entries"]);
    let mut names: Vec<_> =
        list.lines().map(|line| line.rsplit('/').next().unwrap().trim().to_owned()).collect();
    names.sort();
    names
}

/// Publishes a version with a kernel.
fn publish(lab: &Lab, version: &str, initramfs: &Path) {
    let tree = lab.dir().join("trees").join(version);
    small::tree(&tree, version);
    fetches(&tree);
    lab.run(|gse| {
        gse.arg(format!("--archive={}", tree.display()))
            .arg(format!("--version={version}"))
            .arg(format!("--kernel={}", lab.kernel().image.display()))
            .arg(format!("--initramfs={}", initramfs.display()))
    })
    .unwrap();
}

#[test]
fn a_kernel_of_a_release_is_tried_and_one_that_does_not_come_up_gives_way() {
    let dir = scratch();
    let mut lab = small::unpublished(dir.path(), Flavour::Cloud, Filesystem::Ext4);
    let slot = |label: &str| {
        let mib = SLOT >> 20;
        format!(
            "[[disk.partition]]\nlabel = \"{label}\"\nsize = \"{mib}M\"\nfilesystem = \"ext4\"\n"
        )
    };
    let drives =
        format!("[[disk]]\nmatch.path = \"/dev/vda\"\n{}{}", slot("SYSFS"), slot("BACKUPFS"));
    lab.write_config("controller/drives.toml", &drives).unwrap();
    lab.write_config("controller/boot.toml", "[update]\nbackground = true\n").unwrap();
    lab.build_controller().unwrap();
    lab.publish_config().unwrap();
    publish(&lab, "1", &lab.initramfs());
    let disk = bootable(&lab);
    let start = |lab: &Lab| {
        let machine = lab.machine().firmware(FIRMWARE).reboots().disk(disk.clone());
        machine.start().unwrap()
    };

    let machine = start(&lab);
    machine.shows(&[
        "gse.note=first",
        "configuration 1 fetched",
        "putting the kernel of version 1 on BOOTFS",
        "restarting",
    ]);
    machine.shows(&["gse.note=first gse.kernel=1", &banner("1"), "this system is up"]);
    // An initramfs that holds nothing: the kernel panics, and restarts the machine, as often as it is tried. Both are
    // fetched while the first version runs.
    let broken = dir.path().join("broken.img");
    fs::write(&broken, "nothing that a kernel unpacks").unwrap();
    publish(&lab, "2", &broken);
    machine.shows(&["putting the kernel of version 2 on BOOTFS", "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert_eq!(entries(&disk), ["gse-1.conf", "gse.conf"]);
    // The configuration is kept there as on any other BOOTFS.
    assert_eq!(machine.console.text().matches("configuration 1 fetched").count(), 1);
    let server = lab.server().unwrap().url_for_machines();
    assert_eq!(mtools("mtype", &disk.image, &["::/gse/servers"]), format!("{server}\n"));

    lab.stop_server();
    let machine = start(&lab);
    machine.shows(&["gse.kernel=1", "the kernel of version 2 is tried", "restarting"]);
    machine.shows(&["gse.kernel=2", "Kernel panic"]);
    machine.shows(&["gse.kernel=1", "the kernel of version 2 did not come up on this machine"]);
    machine.shows(&[&banner("2"), "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert_eq!(machine.console.text().matches("Kernel panic").count(), 3);
    assert_eq!(entries(&disk), ["gse-1.conf", "gse-2+0-3.conf", "gse.conf"]);
}
