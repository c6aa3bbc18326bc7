//! A machine with everything that a lab mounts: a disk that comes later, its subvolumes, archives of BOOTFS, NFS.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use gse_qemu::{Bus, Disk, Exit, Filesystem, Lab, Machine, fixtures::Flavour, lab::program};
use gse_tests::{
    disk,
    lab::{VERSION, Watch as _, scratch},
    nfs::NfsServer,
    small,
};

/// Says what is mounted, and tries all of it; the archive is left on BOOTFS for the next start.
const INIT: &str = r#"#!/bin/sh
PATH=/bin
while read -r from dir type options _; do
    case $dir in
    /proc | /sys | /dev | /run*) ;;
    *) echo "saw $dir $type $options" ;;
    esac
done </proc/mounts
echo "saw passwd $(cat /etc/passwd), group $(cat /etc/group)"
echo "saw home $(cat /home/hello)"
echo "from $(cat /etc/hostname)" >/home/from-client
dd if=/dev/zero of=/tmp/full bs=64k 2>/dev/null || echo "saw that /tmp is full, and $(echo /tmp/full)"
rm /tmp/full
echo more >/var/log/more && echo "saw that /var/log has room"
echo changed >/opt/own && echo "saw /opt/own $(cat /opt/own)"
if test -d /user-data/@work; then
    dd if=/dev/urandom of=/work/full bs=64k count=800 conv=fsync 2>/dev/null || echo "saw that /work is full"
    rm /work/full
    echo kept >/work/kept
    cp /bin/busybox /scratch/busybox
    /scratch/busybox true || echo "saw that /scratch runs nothing"
fi
mkdir /tmp/boot && mount /dev/vda1 /tmp/boot && cp /srv/etc.tar.zst* /tmp/boot && umount /tmp/boot
/run/gse/gse-controller up && /run/gse/gse-controller closed
exec poweroff -f
"#;

const DRIVES: &str = r#"
[[disk]]
match.path = "/dev/vda"
[[disk.partition]]
label = "BOOTFS"
size = "256M"
filesystem = "ext4"
flags = ["no-auto"]
[[disk.partition]]
label = "SYSFS"
size = "320M"
filesystem = "ext4"
[[disk.partition]]
label = "BACKUPFS"
size = "320M"
filesystem = "ext4"

[[disk]]
match.path = "/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_gse-data"
optional = true
[[disk.partition]]
label = "USERDATAFS"
size = "all"
filesystem = "btrfs"
subvolumes = ["@work quota=20M snapshots=2"]
"#;

fn mounts(nfs: u16, silent: u16) -> String {
    format!(
        r#"
userdata_options = "compress=zstd"
nfs_timeout = 30
[[tmpfs]]
path = "/etc"
keep = true
[[tmpfs]]
path = "/var/log"
[[tmpfs]]
path = "/tmp"
size = "4M"
mode = "1777"
[[bind]]
from = "@work"
to = "/work"
options = "noatime"
[[bind]]
from = "persistent/scratch"
to = "/scratch"
options = "noexec"
[[overlay]]
lower = "/opt"
upper = "/tmp/opt/upper"
work = "/tmp/opt/work"
[[nfs]]
from = "10.0.2.2:/home"
to = "/home"
options = "noatime,port={nfs}"
[[nfs]]
from = "10.0.2.2:/never"
to = "/never"
options = "port={silent}"
"#
    )
}

/// An archive of `/etc` whose passwd is its own, signed by the lab; and the path of it.
fn archive(lab: &Lab, dir: &Path) -> PathBuf {
    fs::create_dir_all(dir.join("other/etc")).unwrap();
    fs::write(dir.join("other/etc/passwd"), "of the archive").unwrap();
    let packed = dir.join("etc.tar.zst");
    let mut tar = Command::new("tar");
    tar.args(["--zstd", "-C"]).arg(dir.join("other")).arg("-cf").arg(&packed).arg("etc");
    disk::output(&mut tar);
    let sign = format!("--sign={}", packed.display());
    lab.run(|c| c.arg(sign)).unwrap();
    packed
}

/// On a day of January 2030: later than the lab's files, which would set the clock otherwise.
fn boot(lab: &Lab, disks: &[&Disk], day: u32, words: &str) -> Machine {
    let lab_machine = lab.machine().clock(format!("2030-01-0{day}T10:00:00"));
    let spec = disks.iter().fold(lab_machine, |spec, disk| spec.disk((*disk).clone()));
    let machine = spec.append(words).start().unwrap();
    machine.shows(&["gse: this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
    machine
}

/// All of these were said, in whatever order.
#[track_caller]
fn saw(machine: &Machine, sentences: &[&str]) {
    let text = machine.console.text();
    for sentence in sentences {
        assert!(text.contains(sentence), "{sentence:?} is not in:\n{text}");
    }
}

#[test]
fn everything_that_a_lab_mounts_is_there_and_what_fails_holds_nothing_up() {
    let dir = scratch();
    let export = dir.path().join("export");
    fs::create_dir(&export).unwrap();
    fs::write(export.join("hello"), "from the server").unwrap();
    let server = NfsServer::start(dir.path(), &export);
    // It takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();

    let lab = small::unpublished(dir.path(), Flavour::Cloud, Filesystem::Ext4);
    let packed = archive(&lab, dir.path());
    small::publish(&lab, VERSION, |tree| {
        for below in ["opt", "srv", "home", "mnt"] {
            fs::create_dir(tree.join(below)).unwrap();
        }
        fs::write(tree.join("etc/passwd"), "of the image").unwrap();
        fs::write(tree.join("etc/group"), "of the image").unwrap();
        fs::write(tree.join("opt/own"), "of the image").unwrap();
        fs::copy(&packed, tree.join("srv/etc.tar.zst")).unwrap();
        fs::copy(packed.with_extension("zst.minisig"), tree.join("srv/etc.tar.zst.minisig"))
            .unwrap();
        small::program(&tree.join("sbin/init"), INIT);
    });
    lab.write_config("controller/drives.toml", DRIVES).unwrap();
    lab.write_config("controller/mounts.toml", &mounts(server.port(), silent_port)).unwrap();
    lab.write_config("controller/boot.toml", "keep_logs = 2\n").unwrap();
    lab.run(|c| {
        c.arg(format!("--build-controller={}", lab.kernel().modules.display()))
            .arg(format!("--config={}", lab.config().display()))
            .arg(format!("--output={}", lab.initramfs().display()))
            .arg("--drivers=default,nfs,overlay")
    })
    .unwrap();
    let verify = Command::new(program("gse").unwrap())
        .arg(format!("--verify={}", packed.display()))
        .arg(format!("--key={}", lab.key().display()))
        .output()
        .unwrap();
    let verified = String::from_utf8_lossy(&verify.stdout).into_owned();
    assert!(verified.contains("archive with serial"), "{verified}");

    let system = lab.blank_disk(&dir.path().join("disk.img")).unwrap();
    let always = [
        "saw / ext4 ro",
        "saw /opt overlay rw",
        "saw /home nfs4 rw,nosuid,nodev,noatime,vers=4.2",
        "saw home from the server",
        "saw that /tmp is full",
        "saw that /var/log has room",
        "saw /opt/own changed",
        "/never is not mounted from 10.0.2.2:/never: no answer within 30 s",
    ];
    // Whoever loses patience with what takes its time before the system has not seen it fail.
    let machine = lab.machine().disk(system.clone()).append("bootetc=1").start().unwrap();
    machine.shows(&["etc.tar.zst on BOOTFS is passed over"]);
    machine.cut_power().unwrap();
    let record = disk::mount(&system, 2).text(".gse/cycle.toml");
    assert!(record.contains("state = \"fresh\""), "{record}");

    let machine = boot(&lab, &[&system], 1, "bootetc=1");
    saw(&machine, &always);
    // There is no archive yet, and no disk for the users' data.
    saw(
        &machine,
        &["etc.tar.zst on BOOTFS is passed over", "saw passwd of the image, group of the image"],
    );
    machine.never_showed(&["saw /user-data", "saw /work", "saw /var tmpfs"]);
    let client = fs::read_to_string(export.join("from-client")).unwrap();
    assert_eq!(client, "from lab-677365\n");

    let image = dir.path().join("data.img");
    let data = Disk::blank(image, 300 << 20).unwrap().bus(Bus::Nvme).serial("gse-data");
    for (day, words) in [(2, ""), (3, "bootetc=1 ctvar=1")] {
        let machine = boot(&lab, &[&system, &data], day, words);
        saw(&machine, &always);
        saw(
            &machine,
            &[
                "saw /user-data btrfs rw,nosuid,nodev,relatime,compress=zstd",
                "saw /work btrfs rw,nosuid,nodev,noatime",
                "saw /scratch btrfs rw,nosuid,nodev,noexec",
                "saw that /work is full",
                "saw that /scratch runs nothing",
            ],
        );
        if day == 2 {
            saw(
                &machine,
                &["partitioning /dev/nvme0n1", "making USERDATAFS", "saw passwd of the image,"],
            );
            machine.never_showed(&["saw /var tmpfs"]);
        } else {
            saw(
                &machine,
                &["saw passwd of the archive, group \n", "saw /var tmpfs", "saw /var/log tmpfs"],
            );
            machine.never_showed(&["partitioning", "making USERDATAFS", "is passed over"]);
        }
    }

    let kept = disk::mount(&data, 1);
    assert_eq!(kept.text("@work/kept"), "kept\n");
    let snapshot = |day: u32| kept.path().join(format!("@work.2030-01-0{day}"));
    assert!(!snapshot(1).exists() && snapshot(2).is_dir() && !snapshot(2).join("kept").exists());
    assert_eq!(kept.text("@work.2030-01-03/kept"), "kept\n");
    let boot = disk::mount(&system, 1);
    let mut logs: Vec<_> = fs::read_dir(boot.path().join("gse/logs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    logs.sort();
    assert_eq!(logs, ["00000002-started.log", "00000003-started.log"]);
    let log = boot.text("gse/logs/00000003-started.log");
    assert!(log.contains("\"phases\": [") && log.contains("gse: /never is not mounted"), "{log}");
}
