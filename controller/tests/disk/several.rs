//! Machines with more than one disk, disks that come later or hold something, and flags of partitions.

use gse_controller::disk::{
    content::Content,
    plan::{Base, DriveError, PartitionPlan, Step, Warning, plan},
    probe::{BlockDevice, Holds},
    slots,
};
use gse_protocol::config::drives::Role;

use crate::common::{GIB, Loop, MIB, disk, drives, drives_toml, fs_info, gpt_disk, labelled, sh};

const SYSTEM: &[(&str, &str, &str)] =
    &[("BOOTFS", "512M", "ext4"), ("SYSFS", "2G", "btrfs"), ("BACKUPFS", "2G", "btrfs")];
const DATA: &[(&str, &str, &str)] = &[("USERDATAFS", "all", "btrfs")];

fn two_disks(more: &str) -> String {
    let data = drives_toml("path = '/dev/sdb'", DATA);
    drives_toml("path = '/dev/sda'", SYSTEM)
        + &data.replacen("[[disk]]", &format!("[[disk]]\n{more}"), 1)
}

fn plans(toml: &str, disks: &[BlockDevice]) -> Result<Vec<PartitionPlan>, DriveError> {
    plan(&drives(toml), disks)
}

fn roles(plan: &PartitionPlan) -> Vec<Role> {
    let added = plan.steps.iter().flat_map(|step| match step {
        Step::WriteTable { add, .. } => add.as_slice(),
        _ => &[],
    });
    added.map(|new| new.role).collect()
}

#[test]
fn the_users_data_can_be_on_a_disk_of_their_own() {
    let plans = plans(&two_disks(""), &[disk("sda", 20 * GIB), disk("sdb", 40 * GIB)]).unwrap();
    let planned: Vec<_> = plans.iter().map(|p| (p.disk.to_str().unwrap(), roles(p))).collect();
    let system = vec![Role::Boot, Role::System, Role::Backup];
    assert_eq!(planned, [("/dev/sda", system), ("/dev/sdb", vec![Role::UserData])]);
}

#[test]
fn a_disk_that_comes_later_is_set_up_when_it_is_there() {
    let set_up = gpt_disk(
        "sda",
        20 * GIB,
        &[("gse-boot", 1, 512), ("gse-slot-1", 513, 2048), ("gse-slot-2", 2561, 2048)],
    );
    let error = plans(&two_disks(""), std::slice::from_ref(&set_up)).unwrap_err().to_string();
    assert!(error.contains("no disk fits the [[disk]] with path /dev/sdb"), "{error}");
    let toml = two_disks("optional = true");
    let without = plans(&toml, std::slice::from_ref(&set_up)).unwrap();
    assert_eq!(without.iter().map(|p| p.steps.len()).collect::<Vec<_>>(), [0]);
    let with = plans(&toml, &[set_up, disk("sdb", 40 * GIB)]).unwrap();
    assert_eq!(with[0].steps, []);
    assert_eq!(roles(&with[1]), [Role::UserData]);
    // What is not there is one thing, what does not suit another.
    let mut theirs = disk("sdb", 40 * GIB);
    theirs.holds = Holds::Filesystem(fs_info("ntfs", "Data"));
    let both = [disk("sda", 20 * GIB), theirs];
    assert!(matches!(plans(&toml, &both), Err(DriveError::Foreign { .. })));
}

#[test]
fn the_users_data_are_not_begun_anew_on_another_disk() {
    let names = [
        ("gse-boot", 1, 512),
        ("gse-slot-1", 513, 2048),
        ("gse-slot-2", 2561, 2048),
        ("", 4609, 900),
    ];
    let mut old = gpt_disk("sda", 20 * GIB, &names);
    for (name, content) in
        [("gse-userdata", Content::Blank), ("home", labelled("xfs", "USERDATAFS"))]
    {
        old.partitions[3].gpt.as_mut().unwrap().name = name.to_owned();
        old.partitions[3].content = content;
        let error = plans(&two_disks(""), &[old.clone(), disk("sdb", 40 * GIB)]).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, DriveError::Elsewhere { role: Role::UserData, .. }), "{said}");
        assert!(said.contains("USERDATAFS is on /dev/sda4 already"), "{said}");
    }
}

#[test]
fn a_disk_is_taken_only_where_the_configuration_says_so_and_nothing_of_ours_is_on_it() {
    let take = |partitions| {
        drives_toml("path = '/dev/sda'", partitions).replacen(
            "[[disk]]",
            "[[disk]]\ntake = true",
            1,
        )
    };
    let mut dos = gpt_disk("sda", 20 * GIB, &[("", 1, 10_000)]);
    dos.holds = Holds::Table("dos".to_owned());
    dos.partitions[0].content = labelled("ntfs", "Windows");
    let mut whole = disk("sda", 20 * GIB);
    whole.holds = Holds::Filesystem(fs_info("ext4", "THESIS"));
    let full = gpt_disk("sda", 20 * GIB, &[("EFI", 1, 100), ("Windows", 101, 20_000)]);
    for theirs in [&dos, &whole, &full] {
        let refused =
            plans(&drives_toml("path = '/dev/sda'", SYSTEM), std::slice::from_ref(theirs));
        assert!(refused.is_err(), "{refused:?}");
        let plans = plans(&take(SYSTEM), std::slice::from_ref(theirs)).unwrap();
        assert_eq!(plans[0].steps[0], Step::Empty);
        let written = plans[0]
            .steps
            .iter()
            .filter(|step| matches!(step, Step::WriteTable { base: Base::Blank, .. }));
        assert_eq!(written.count(), 1);
        assert!(matches!(plans[0].warnings[..], [Warning::Taken(..)]));
        // Where there is room, nothing is given up.
        let mut roomy = theirs.clone();
        roomy.holds = full.holds.clone();
        roomy.partitions.truncate(1);
        let plans = self::plans(&take(SYSTEM), &[roomy]).unwrap();
        assert!(!plans[0].steps.contains(&Step::Empty));
    }
    let ours = |disk: &BlockDevice, change: &dyn Fn(&mut BlockDevice)| {
        let mut disk = disk.clone();
        change(&mut disk);
        let refused = plans(&take(SYSTEM), &[disk]);
        assert!(refused.is_err(), "{refused:?}");
    };
    ours(&dos, &|d| d.partitions[0].content = labelled("xfs", "USERDATAFS"));
    ours(&dos, &|d| d.partitions[0].content = Content::Unclear("unreadable".to_owned()));
    ours(&dos, &|d| d.partitions.clear());
    ours(&whole, &|d| d.holds = Holds::Filesystem(fs_info("xfs", "USERDATAFS")));
    ours(&whole, &|d| d.holds = Holds::Unclear("a damaged table".to_owned()));
    ours(&full, &|d| d.partitions[1].gpt.as_mut().unwrap().name = "gse-userdata".to_owned());
    let small = BlockDevice { size: GIB, ..whole };
    assert!(matches!(plans(&take(SYSTEM), &[small]), Err(DriveError::NoRoom { .. })));
}

#[test]
fn a_disk_with_a_table_of_others_is_taken_and_set_up() {
    for make in ["label: dos\n,300M,7\n", "label: gpt\nsize=490M, name=theirs\n"] {
        let mut disk = Loop::new(500 * MIB, 512);
        let said = format!("printf '{make}' | sfdisk -q {}", disk.path.display());
        crate::common::run("sh", ["-c", &said].map(AsRef::as_ref));
        // A kernel that knows no such tables is told.
        sh("partx", "--update", &disk.path);
        let partition = disk.probe().partitions[0].path.clone().unwrap();
        sh("mkfs.ext4", "-q -L THESIS", &partition);
        let partitions = [("BOOTFS", "32M", "ext4"), ("SYSFS", "all", "btrfs")];
        let toml =
            |disk: &Loop| drives_toml(&format!("path = '{}'", disk.path.display()), &partitions);
        let refused = plan(&drives(&toml(&disk)), &[disk.probe()]);
        assert!(refused.is_err(), "{refused:?}");
        let toml = |disk: &Loop| toml(disk).replacen("[[disk]]", "[[disk]]\ntake = true", 1);
        let mut taken = disk.plan(&toml(&disk));
        // The kernel may not forget the partitions of this device: see there.
        disk.reattach(512);
        taken.disk = disk.path.clone();
        let created = disk.apply(&taken).unwrap();
        disk.verify();
        assert_eq!(created.len(), 2);
        let now = disk.probe();
        let ours = now.partitions.iter().all(|p| p.is_ours() && p.content == Content::Blank);
        assert!(ours, "{now:?}");
        assert_eq!(disk.plan(&toml(&disk)).steps, [], "it is ours now");
    }
}

#[test]
fn flags_are_set_on_new_and_on_old_partitions_and_otherwise_left_alone() {
    let disk = Loop::new(500 * MIB, 512);
    let partitions = [("BOOTFS", "32M", "ext4"), ("SYSFS", "all", "btrfs")];
    let plain = drives_toml(&format!("path = '{}'", disk.path.display()), &partitions);
    let flags = |flags: &str| {
        plain.replacen("label = \"BOOTFS\"", &format!("label = \"BOOTFS\"\nflags = {flags}"), 1)
    };
    let attributes = || disk.probe().partitions[0].gpt.as_ref().unwrap().attributes;
    disk.apply(&disk.plan(&flags("['legacy-boot', 'no-auto']"))).unwrap();
    disk.verify();
    let dump = sh("sfdisk", "--dump", &disk.path);
    assert!(dump.contains("attrs=\"LegacyBIOSBootable GUID:63\""), "{dump}");
    assert_eq!(disk.plan(&flags("['no-auto', 'legacy-boot']")).steps, []);
    assert_eq!(disk.plan(&plain).steps, [], "without the key they stay");
    assert_eq!(attributes(), 1 << 63 | 1 << 2);
    let before = disk.probe().partitions;
    let plan = disk.plan(&flags("['required', 'read-only']"));
    assert!(
        matches!(&plan.steps[..], [Step::WriteTable { base: Base::Existing, add, .. }, Step::TellKernel] if add.is_empty())
    );
    disk.apply(&plan).unwrap();
    disk.verify();
    assert_eq!(attributes(), 1 | 1 << 60);
    let after = disk.probe().partitions;
    assert_eq!(after[1], before[1]);
    assert_eq!((after[0].start, after[0].size), (before[0].start, before[0].size));
    disk.apply(&disk.plan(&flags("[]"))).unwrap();
    assert_eq!(attributes(), 0);
}

#[test]
fn a_partition_is_added_to_a_disk_that_is_in_use() {
    let disk = Loop::new(700 * MIB, 512);
    let path = format!("path = '{}'", disk.path.display());
    let system =
        [("BOOTFS", "32M", "ext4"), ("SYSFS", "150M", "btrfs"), ("BACKUPFS", "150M", "btrfs")];
    disk.apply(&disk.plan(&drives_toml(&path, &system))).unwrap();
    let before = disk.probe().partitions;
    let more = drives_toml(&path, &[&system[..], &[("USERDATAFS", "all", "btrfs")]].concat());
    let created = disk.apply(&disk.plan(&more)).unwrap();
    disk.verify();
    assert_eq!(created.iter().map(|new| new.role).collect::<Vec<_>>(), [Role::UserData]);
    let now = disk.probe();
    assert_eq!(now.partitions[..3], before);
    let found = slots::find(std::slice::from_ref(&now), std::slice::from_ref(&disk.path)).unwrap();
    assert_eq!(found.userdata.unwrap().filesystem, None);
    assert_eq!(disk.plan(&more).steps, []);
}
