//! Plans carried out on loop devices, judged by sgdisk and sfdisk.

use std::{
    fs::OpenOptions,
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
};

use gse_controller::{
    disk::{
        content::{Content, content, filesystem},
        gpt::GptError,
        plan::Step,
        probe::Holds,
        table::Flaw,
    },
    log::Log,
    mount::{MountFlags, Mounted},
};

use crate::common::{Loop, MIB, drives_toml, sh};

const PARTITIONS: &[(&str, &str, &str)] =
    &[("BOOTFS", "32M", "ext4"), ("SYSFS", "150M", "btrfs"), ("BACKUPFS", "all", "ext4")];

fn toml(disk: &Loop, partitions: &[(&str, &str, &str)]) -> String {
    drives_toml(&format!("path = '{}'", disk.path.display()), partitions)
}

fn overwrite(disk: &Path, at: SeekFrom, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(disk).unwrap();
    file.seek(at).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_blank_disk_becomes_what_other_tools_find_right() {
    for sector in [512, 4096] {
        let disk = Loop::new(500 * MIB, sector);
        assert_eq!(disk.probe().holds, Holds::Nothing);
        assert_eq!(disk.probe().logical_sector, sector);
        let toml = toml(&disk, PARTITIONS);
        let created = disk.apply(&disk.plan(&toml)).unwrap();
        disk.verify();
        let listed = sh("sfdisk", "--dump", &disk.path);
        for name in ["gse-boot", "gse-slot-1", "gse-slot-2"] {
            assert!(listed.contains(&format!("name=\"{name}\"")), "{listed}");
        }
        assert_eq!(listed.matches("type=0FC63DAF-8483-4772-8E79-3D69D8477DE4").count(), 3);
        let probed = disk.probe();
        assert_eq!(probed.partitions.len(), 3);
        for (created, found) in created.iter().zip(&probed.partitions) {
            assert_eq!(found.path.as_ref(), Some(&created.device));
            assert_eq!(found.gpt.as_ref().unwrap().name, created.role.partition_name());
            assert_eq!(found.content, Content::Blank);
            assert_eq!(found.start % MIB, 0);
        }
        assert_eq!(probed.partitions[0].size, 32 * MIB);
        assert_eq!(disk.plan(&toml).steps, []);
    }
}

#[test]
fn partitions_are_added_beside_one_that_is_in_use() {
    for sector in [512, 4096] {
        let disk = Loop::new(500 * MIB, sector);
        let (first, _) = PARTITIONS.split_at(1);
        disk.apply(&disk.plan(&toml(&disk, first))).unwrap();
        let boot = disk.probe().partitions[0].clone();
        let path = boot.path.clone().unwrap();
        sh("mkfs.ext4", "-q", &path);
        let log = Log::console();
        let (target, none) = (disk.folder("mnt"), MountFlags::empty());
        let mounted = Mounted::new(&path, &target, "ext4", none, "", &log).unwrap();
        let created = disk.apply(&disk.plan(&toml(&disk, PARTITIONS))).unwrap();
        assert_eq!(created.len(), 2);
        assert!(created.iter().all(|new| new.device.exists()));
        mounted.unmount().unwrap();
        disk.verify();
        let now = disk.probe();
        assert_eq!((now.partitions[0].start, now.partitions[0].size), (boot.start, boot.size));
        assert_eq!(now.partitions[0].gpt, boot.gpt);
        assert!(matches!(now.partitions[0].content, Content::Filesystem(_)));
    }
}

#[test]
fn foreign_partitions_stay_byte_for_byte() {
    let disk = Loop::new(600 * MIB, 512);
    sh("sgdisk", "-n 5:100M:+50M -c 5:theirs -t 5:0700", &disk.path);
    let data = vec![0xa5; 50 << 20];
    overwrite(&disk.path, SeekFrom::Start(100 * MIB), &data);
    disk.apply(&disk.plan(&toml(&disk, PARTITIONS))).unwrap();
    disk.verify();
    let mut now = vec![0; data.len()];
    let mut file = std::fs::File::open(&disk.path).unwrap();
    file.seek(SeekFrom::Start(100 * MIB)).unwrap();
    file.read_exact(&mut now).unwrap();
    assert!(now == data);
    let theirs = disk.probe().partitions.into_iter().find(|p| p.number == 5).unwrap();
    assert_eq!(theirs.gpt.unwrap().name, "theirs");
}

#[test]
fn what_an_earlier_filesystem_left_is_not_found_in_a_new_partition() {
    let disk = Loop::new(500 * MIB, 512);
    let toml = toml(&disk, PARTITIONS);
    disk.apply(&disk.plan(&toml)).unwrap();
    for partition in disk.probe().partitions {
        sh("mkfs.ext4", "-q -L USERDATAFS", partition.path.as_deref().unwrap());
    }
    sh("sgdisk", "--zap-all", &disk.path);
    let created = disk.apply(&disk.plan(&toml)).unwrap();
    assert_eq!(created.len(), 3);
    for new in created {
        assert_eq!(filesystem(&new.device).unwrap(), None);
    }
}

#[test]
fn a_damaged_first_copy_is_repaired_from_the_backup() {
    for sector in [512, 4096] {
        let disk = Loop::new(500 * MIB, sector);
        let toml = toml(&disk, PARTITIONS);
        disk.apply(&disk.plan(&toml)).unwrap();
        let before = disk.probe().partitions;
        overwrite(&disk.path, SeekFrom::Start(sector), &[0xff; 64]);
        let Holds::Gpt(gpt) = disk.probe().holds else { panic!("no table") };
        assert!(matches!(gpt.flaws[..], [Flaw::Primary(_)]), "{:?}", gpt.flaws);
        let plan = disk.plan(&toml);
        assert!(matches!(&plan.steps[..], [Step::WriteTable { add, .. }, _] if add.is_empty()));
        disk.apply(&plan).unwrap();
        disk.verify();
        assert_eq!(disk.probe().partitions, before);
        assert_eq!(disk.plan(&toml).steps, []);
    }
}

#[test]
fn a_disk_that_changed_after_it_was_probed_is_left_alone() {
    let disk = Loop::new(500 * MIB, 512);
    let plan = disk.plan(&toml(&disk, PARTITIONS));
    sh("mkfs.ext4", "-q -F -L precious", &disk.path);
    let error = disk.apply(&plan).unwrap_err();
    assert!(matches!(error, GptError::Changed { .. }), "{error}");
    assert_eq!(filesystem(&disk.path).unwrap().unwrap().label.as_deref(), Some("precious"));
    sh("wipefs", "-q -a", &disk.path);
    sh("sgdisk", "-o", &disk.path);
    let error = disk.apply(&plan).unwrap_err();
    assert!(matches!(error, GptError::Changed { .. }), "{error}");
}

#[test]
fn other_things_on_a_disk_are_told_apart() {
    let disk = Loop::new(500 * MIB, 512);
    let kind = |wanted: &str| {
        let said = format!("{:?}", disk.probe().holds);
        assert!(said.starts_with(wanted), "{said}");
    };
    crate::common::run(
        "sh",
        ["-c", &format!("echo 'label: dos\n,100M' | sfdisk -q {}", disk.path.display())]
            .map(AsRef::as_ref),
    );
    kind("Table(\"dos\")");
    sh("wipefs", "-q -a", &disk.path);
    sh("mkfs.xfs", "-q -f -L whole", &disk.path);
    kind("Filesystem(FsInfo { kind: \"xfs\", label: Some(\"whole\")");
    sh("wipefs", "-q -a", &disk.path);
    kind("Nothing");
    // Two superblocks: swap in front, btrfs at 64 KiB.
    sh("mkfs.btrfs", "-q -f", &disk.path);
    let mut page = vec![0; 4096];
    page[1024] = 1;
    page[1028..1032].copy_from_slice(&100_u32.to_le_bytes());
    page[1036..1052].fill(7);
    page[4086..].copy_from_slice(b"SWAPSPACE2");
    overwrite(&disk.path, SeekFrom::Start(0), &page);
    kind("Unclear(");
    let error = filesystem(&disk.path).unwrap_err().to_string();
    assert!(error.contains("more than one filesystem") && error.contains("wipefs"), "{error}");
    assert!(matches!(content(&disk.path).unwrap(), Content::Unclear(_)));
}
