//! A system of two megabytes that boots in a second: busybox and an `init` that says what it finds, reports
//! as OpenRC's services would, and switches the machine off.
//!
//! Installing and starting it is the same work for the controller as with a whole distribution, so that a test
//! can look at many machines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use gse_qemu::{
    Disk, Exit, Filesystem, Lab,
    fixtures::{Flavour, kernel},
};

use crate::lab::{VERSION, Watch as _, copy, copy_published, scratch};

/// Bytes of a slot: XFS takes nothing smaller than 300 MiB.
pub const SLOT: u64 = 320 << 20;

/// Its `/sbin/init`.
const INIT: &str = r#"#!/bin/sh
PATH=/bin
version=$(cat /version)
while read -r _ dir type options _; do
    case $dir in
    / | /etc | /tmp | /var/log) echo "small: $dir is $type ${options%%,*}" ;;
    esac
done </proc/mounts
echo "small: version $version on $(cat /etc/hostname)"
if /run/gse/gse-controller up; then
    /run/gse/gse-controller closed
fi
exec poweroff -f
"#;

/// What it prints when it starts.
pub fn banner(version: &str) -> String {
    format!("small: version {version} on ")
}

/// Makes the tree of a version in `dir`, which is made.
pub fn tree(dir: &Path, version: &str) {
    for below in ["bin", "sbin", "etc", "dev", "proc", "sys", "run", "tmp", "var/log", "root"] {
        fs::create_dir_all(dir.join(below)).unwrap();
    }
    fs::copy("/bin/busybox", dir.join("bin/busybox")).unwrap();
    for applet in ["sh", "cat", "poweroff", "sleep"] {
        symlink("busybox", dir.join("bin").join(applet)).unwrap();
    }
    program(&dir.join("sbin/init"), INIT);
    // Without it, systemd takes no tree for a system.
    fs::write(dir.join("etc/os-release"), "ID=small\n").unwrap();
    fs::write(dir.join("version"), format!("{version}\n")).unwrap();
    fs::write(dir.join("etc/from-image"), version).unwrap();
}

/// Publishes another version in a lab, after `change` to its tree.
pub fn publish(lab: &Lab, version: &str, change: impl FnOnce(&Path)) {
    let dir = lab.dir().join("trees").join(version);
    tree(&dir, version);
    change(&dir);
    lab.publish(&dir, version).unwrap();
}

/// A lab in `dir` that has published nothing, and has no controller.
pub fn unpublished(dir: &Path, flavour: Flavour, filesystem: Filesystem) -> Lab {
    Lab::new(dir, kernel(flavour).unwrap(), SLOT, filesystem).unwrap()
}

/// A lab in `dir` that has published it as [`VERSION`]; the controller is still to be built.
pub fn unbuilt(dir: &Path, flavour: Flavour, filesystem: Filesystem) -> Lab {
    let lab = unpublished(dir, flavour, filesystem);
    publish(&lab, VERSION, |_| {});
    lab
}

/// A lab in `dir` that has published it as [`VERSION`], with a controller.
pub fn lab(dir: &Path) -> Lab {
    let lab = unbuilt(dir, Flavour::Cloud, Filesystem::Ext4);
    lab.build_controller().unwrap();
    lab
}

/// A lab in `dir`, and the disk of a machine on which its [`VERSION`] was installed, and which was shut down. The
/// controller is built after `configure`, which may change the configuration.
pub fn installed(dir: &Path, configure: impl FnOnce(&Lab)) -> (Lab, Disk) {
    let template = template();
    copy_published(template, dir);
    let lab = Lab::new(dir, kernel(Flavour::Cloud).unwrap(), SLOT, Filesystem::Ext4).unwrap();
    configure(&lab);
    lab.build_controller().unwrap();
    let image = dir.join("disk.img");
    copy(&template.join("disk.img"), &image);
    (lab, Disk::new(image))
}

/// The directory of a lab whose machine was installed once for this process, with which it goes.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let dir = scratch().keep();
        let lab = lab(&dir);
        let disk = lab.blank_disk(&dir.join("disk.img")).unwrap();
        let machine = lab.machine().disk(disk).start().unwrap();
        machine.shows(&[&banner(VERSION), "this system is closed"]);
        assert_eq!(machine.ends(), Exit::Shutdown);
        dir
    })
}

/// Writes a program.
pub fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
