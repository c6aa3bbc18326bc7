//! What a machine must not take, though a server has it: it says so, and boots what it has.

use std::{fs, path::Path};

use gse_qemu::{Disk, Exit, Lab};
use gse_tests::{
    disk,
    lab::{Watch as _, copy, scratch},
    small::{self, banner},
};

const RELEASE: &str = "latest.toml";
const IMAGE: &str = "images/gse-2/system.tar.zst";
const INDEX: &str = "images/gse-2/index.cbor.zst";

/// Boots a machine that has version 1 while the server has a version 2 with something wrong, and expects the
/// sentence; version 1 boots, and its slot is the one that it was, byte for byte in what was installed.
fn refuses(lab: &Lab, disk: &Disk, sentence: &str) {
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&[sentence, &banner("1"), "this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    machine.never_showed(&["Kernel panic", "This machine could not start"]);
    let [system, other] = disk::slot_labels(disk);
    assert_eq!(system, "SYSFS", "after {sentence:?}");
    assert!(matches!(other.as_str(), "" | "INCOMING"), "{other:?} after {sentence:?}");
    assert_eq!(disk::mount(disk, 2).text("version"), "1\n");
}

/// A lab with an installed machine and a version 2, of which `damage` can be undone by copying `whole`.
fn prepared(dir: &Path) -> (Lab, Disk) {
    // Without a clone, a slot that nothing was installed into stays as it is.
    let (lab, disk) = small::installed(dir, |lab| {
        lab.write_config("controller/boot.toml", "[health]\nclone = false\n").unwrap();
    });
    // Not compressible: an image of several frames.
    small::publish(&lab, "2", |tree| {
        let noise = gse_tests::disk::output(
            std::process::Command::new("openssl").args(["rand", "-hex", "3000000"]),
        );
        fs::write(tree.join("noise"), noise).unwrap();
    });
    copy(&lab.dist(), &dir.join("whole"));
    (lab, disk)
}

fn mend(lab: &Lab) {
    fs::remove_dir_all(lab.dist()).unwrap();
    copy(&lab.dir().join("whole"), &lab.dist());
}

/// Changes the bytes of a published file.
fn damage(lab: &Lab, file: &str, how: impl FnOnce(&mut Vec<u8>)) {
    let path = lab.dist().join(file);
    let mut bytes = fs::read(&path).unwrap();
    how(&mut bytes);
    fs::write(&path, bytes).unwrap();
}

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

#[test]
fn a_damaged_image_is_not_installed() {
    let dir = scratch();
    let (lab, disk) = prepared(dir.path());
    damage(&lab, IMAGE, |bytes| flip(bytes));
    refuses(&lab, &disk, "of the image is not what was signed");
    mend(&lab);
    damage(&lab, IMAGE, |bytes| bytes.truncate(bytes.len() / 2));
    refuses(&lab, &disk, "version 2 was not installed: ");
    mend(&lab);
    // And the same machine takes it once it is whole, over what is left of the failures.
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&[&banner("2")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert_eq!(disk::slot_labels(&disk), ["BACKUPFS", "SYSFS"]);
}

#[test]
fn a_damaged_index_or_release_is_not_believed() {
    let dir = scratch();
    let (lab, disk) = prepared(dir.path());
    let untouched = disk::partition_digest(&disk, 3);
    damage(&lab, INDEX, |bytes| flip(bytes));
    refuses(&lab, &disk, "is not what the release names on any server");
    mend(&lab);
    damage(&lab, RELEASE, |bytes| flip(bytes));
    refuses(&lab, &disk, "no server has a release that can be used");
    mend(&lab);
    damage(&lab, "latest.toml.minisig", |bytes| bytes.truncate(40));
    refuses(&lab, &disk, "no server has a release that can be used");
    // Nothing was believed, so nothing was written.
    assert!(disk::partition_digest(&disk, 3) == untouched);
}

#[test]
fn what_a_stranger_signed_or_what_is_older_is_not_taken() {
    let dir = scratch();
    let (lab, disk) = prepared(dir.path());
    let (dist, stranger) = (lab.dist(), dir.path().join("stranger"));
    // Of the same name and with a higher serial, but by another key.
    let other = small::lab(&stranger);
    for version in ["2", "3", "4"] {
        if version != "2" {
            small::publish(&other, version, |_| {});
        }
    }
    other.write_config("controller/boot.toml", "[update]\npolicy = \"never\"\n").unwrap();
    other.publish_config().unwrap();
    let publish = |file: &str| {
        fs::copy(other.dist().join(file), dist.join(file)).unwrap();
        let signature = format!("{file}.minisig");
        fs::copy(other.dist().join(&signature), dist.join(&signature)).unwrap();
    };
    publish(RELEASE);
    refuses(&lab, &disk, "no server has a release that can be used");
    mend(&lab);

    // The configuration of a stranger is passed over, and the update is made all the same.
    publish("config.tar");
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&[
        "the server's configuration is not used: ",
        "config.tar.minisig",
        &banner("2"),
    ]);
    assert_eq!(machine.ends(), Exit::Shutdown);

    // Somebody plays the old release back.
    small_release_of_template(&lab);
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&["2 stays: the server's 1 is older", &banner("2")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    assert_eq!(disk::slot_labels(&disk), ["BACKUPFS", "SYSFS"]);
}

/// Puts back the release of version 1, with its true signature: each slot keeps its own.
fn small_release_of_template(lab: &Lab) {
    let disk = Disk::new(lab.dir().join("disk.img"));
    let old = disk::mount(&disk, 2);
    fs::copy(old.path().join(".gse/release.toml"), lab.dist().join(RELEASE)).unwrap();
    let signature = old.path().join(".gse/release.toml.minisig");
    fs::copy(signature, lab.dist().join("latest.toml.minisig")).unwrap();
}

#[test]
fn a_configuration_with_a_mistake_cannot_be_published() {
    let dir = scratch();
    let lab =
        small::unbuilt(dir.path(), gse_qemu::fixtures::Flavour::Cloud, gse_qemu::Filesystem::Ext4);
    lab.publish_config().unwrap();
    let published = disk::digest(&lab.dist().join("config.tar"));
    lab.write_config("controller/boot.toml", "[update]\npolicy = \"auto\"\nask_timeot = 3\n")
        .unwrap();
    lab.publish_config().unwrap_err();
    let check = std::process::Command::new(gse_qemu::lab::program("gse").unwrap())
        .arg(format!("--check-config={}", lab.config().display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(!check.status.success());
    assert!(said.contains("boot.toml:3") && said.contains("`ask_timeout`"), "{said}");
    assert!(disk::digest(&lab.dist().join("config.tar")) == published);
}

#[test]
fn an_image_without_an_init_gives_way_to_the_old_system_or_ends_in_rescue() {
    let dir = scratch();
    let (lab, disk) = small::installed(dir.path(), |_| {});
    small::publish(&lab, "2", |tree| fs::remove_file(tree.join("sbin/init")).unwrap());
    let sentence = "the image has no /sbin/init; name its init in controller/boot.toml";
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(&[sentence, "/dev/vda3 becomes DEPRIVED", "starting version 1", &banner("1")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    let machine = lab.machine().disk(disk).start().unwrap();
    machine.shows(&["version 2 failed on this machine", &banner("1")]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    machine.never_showed(&["installing"]);

    let blank = lab.blank_disk(&dir.path().join("blank.img")).unwrap();
    let machine = lab.machine().disk(blank).start().unwrap();
    machine.rescues(&[sentence]);
    machine.console.send_line("o").unwrap();
    assert_eq!(machine.ends(), Exit::Shutdown);
    machine.never_showed(&["Kernel panic"]);
}
