//! The planner, on disks in memory.

use std::path::Path;

use gse_controller::disk::{
    awaited::all_there,
    choose::has_disk,
    layout::Run,
    plan::{ALIGNMENT, Base, DriveError, NewPartition, PartitionPlan, Step, Warning, plan},
    probe::{BlockDevice, Gpt, Holds, Partition},
    table::Flaw,
};
use gse_protocol::config::drives::Role;
use proptest::prelude::*;

use crate::common::{GIB, MIB, disk, drives, drives_toml, fs_info, gpt_disk, gpt_entry, labelled};

const BOTH: &[(&str, &str, &str)] = &[
    ("BOOTFS", "512M", "ext4"),
    ("SYSFS", "2G", "btrfs"),
    ("BACKUPFS", "2G", "btrfs"),
    ("USERDATAFS", "all", "xfs"),
];

fn plan_one(toml: &str, disks: &[BlockDevice]) -> Result<PartitionPlan, DriveError> {
    plan(&drives(toml), disks).map(|plans| {
        let [plan] = plans.try_into().unwrap();
        plan
    })
}

fn added(plan: &PartitionPlan) -> Vec<NewPartition> {
    let steps = plan.steps.iter().filter_map(|step| match step {
        Step::WriteTable { add, .. } => Some(add.clone()),
        _ => None,
    });
    steps.flatten().collect()
}

/// The disk as it is after the plan.
fn after(mut disk: BlockDevice, plan: &PartitionPlan) -> BlockDevice {
    if disk.holds == Holds::Nothing && !plan.steps.is_empty() {
        disk.holds = gpt_disk("x", disk.size, &[]).holds;
    }
    if let Holds::Gpt(gpt) = &mut disk.holds {
        gpt.flaws.clear();
    }
    for new in added(plan) {
        disk.partitions.push(Partition {
            number: new.number,
            path: Some(disk.partition_path(new.number)),
            start: new.run.start * plan.sector,
            size: new.run.len() * plan.sector,
            gpt: Some(gpt_entry(new.role.partition_name())),
            content: gse_controller::disk::content::Content::Blank,
        });
    }
    disk
}

#[test]
fn a_blank_disk_gets_everything_in_order() {
    let plan = plan_one(&drives_toml("", BOTH), &[disk("vda", 20 * GIB)]).unwrap();
    let at = |start: u64, end: u64| Run { start: start * 2048, end: end * 2048 };
    let add = vec![
        NewPartition { role: Role::Boot, number: 1, run: at(1, 513), attributes: 0 },
        NewPartition { role: Role::System, number: 2, run: at(513, 2561), attributes: 0 },
        NewPartition { role: Role::Backup, number: 3, run: at(2561, 4609), attributes: 0 },
        NewPartition { role: Role::UserData, number: 4, run: at(4609, 20479), attributes: 0 },
    ];
    let mut steps: Vec<_> = add.iter().map(|new| Step::ClearEnds(new.run)).collect();
    steps.extend([Step::WriteTable { base: Base::Blank, add, flags: vec![] }, Step::TellKernel]);
    assert_eq!(plan.steps, steps);
    assert_eq!(plan.present, []);
}

#[test]
fn sizes_are_rounded_up_to_the_alignment() {
    let toml = drives_toml("", &[("SYSFS", "524288001", "ext4")]);
    let plan = plan_one(&toml, &[disk("vda", GIB)]).unwrap();
    assert_eq!(added(&plan)[0].run.len(), 501 * 2048);
}

#[test]
fn missing_partitions_go_into_the_free_space_of_a_gpt() {
    let theirs = gpt_disk("sda", 20 * GIB, &[("EFI", 1, 100), ("Windows", 101, 8 * 1024)]);
    let plan = plan_one(&drives_toml("", BOTH), &[theirs]).unwrap();
    let add = added(&plan);
    assert_eq!(add.iter().map(|new| new.number).collect::<Vec<_>>(), [3, 4, 5, 6]);
    assert_eq!(add[0].run.start, (101 + 8 * 1024) * 2048);
    assert!(matches!(plan.steps[4], Step::WriteTable { base: Base::Existing, .. }));
}

#[test]
fn what_is_there_is_kept_and_a_small_one_is_warned_of() {
    let ours = gpt_disk("sda", 20 * GIB, &[("gse-boot", 1, 256), ("gse-slot-1", 300, 2048)]);
    let plan = plan_one(&drives_toml("", &BOTH[..3]), &[ours]).unwrap();
    assert_eq!(plan.present.iter().map(|p| p.role).collect::<Vec<_>>(), [Role::Boot, Role::System]);
    assert!(matches!(plan.warnings[..], [Warning::Smaller { role: Role::Boot, .. }]));
    assert_eq!(added(&plan).iter().map(|n| n.role).collect::<Vec<_>>(), [Role::Backup]);
}

#[test]
fn disks_set_up_by_hand_are_known_by_their_labels() {
    let mut dos = gpt_disk(
        "sda",
        20 * GIB,
        &[("", 1, 512), ("", 513, 2048), ("", 2561, 2048), ("", 4609, 4000)],
    );
    dos.holds = Holds::Table("dos".to_owned());
    let labels =
        [("vfat", "BOOTFS"), ("ext4", "DEPRIVED"), ("btrfs", "SYSFS"), ("xfs", "USERDATAFS")];
    for (partition, (kind, label)) in dos.partitions.iter_mut().zip(labels) {
        partition.gpt = None;
        partition.content = labelled(kind, label);
    }
    let plan = plan_one(&drives_toml("", BOTH), &[dos.clone()]).unwrap();
    assert_eq!(plan.steps, []);
    let numbers: Vec<_> = plan.present.iter().map(|p| (p.role, p.number.unwrap())).collect();
    assert_eq!(
        numbers,
        [(Role::Boot, 1), (Role::System, 2), (Role::Backup, 3), (Role::UserData, 4)]
    );
    dos.partitions.pop();
    let error = plan_one(&drives_toml("", BOTH), &[dos]).unwrap_err().to_string();
    assert!(error.contains("partition table of the kind \"dos\""), "{error}");
}

#[test]
fn a_whole_disk_can_be_userdata() {
    let mut data = disk("sdb", 20 * GIB);
    data.holds = Holds::Filesystem(fs_info("xfs", "USERDATAFS"));
    let plan = plan_one(&drives_toml("", &BOTH[3..]), &[data]).unwrap();
    assert_eq!(plan.steps, []);
    assert_eq!(plan.present[0].number, None);
}

#[test]
fn a_damaged_table_is_repaired_and_said_to_be_so() {
    let mut ours = gpt_disk("sda", 20 * GIB, &[("gse-slot-1", 1, 2048)]);
    let Holds::Gpt(gpt) = &mut ours.holds else { unreachable!() };
    gpt.flaws = vec![Flaw::Primary("bad checksum".to_owned())];
    let plan = plan_one(&drives_toml("", &BOTH[1..2]), &[ours]).unwrap();
    assert_eq!(
        plan.steps,
        [Step::WriteTable { base: Base::Existing, add: vec![], flags: vec![] }, Step::TellKernel]
    );
    let said = plan.warnings[0].to_string();
    assert!(said.contains("backup at the disk's end is used"), "{said}");
}

#[test]
fn a_partition_that_the_kernel_does_not_know_is_told_to_it() {
    let mut ours = gpt_disk("sda", 20 * GIB, &[("gse-slot-1", 1, 2048)]);
    ours.partitions[0].path = None;
    let plan = plan_one(&drives_toml("", &BOTH[1..2]), &[ours]).unwrap();
    assert_eq!(plan.steps, [Step::TellKernel]);
}

/// A change to a disk.
type Change = fn(&mut BlockDevice);

#[test]
fn disks_that_cannot_be_used_are_refused_with_a_sentence() {
    let cases: &[(Change, &[&str])] = &[
        (|d| d.read_only = true, &["/dev/sda", "read-only"]),
        (
            |d| d.holds = Holds::Table("dos".to_owned()),
            &["/dev/sda", "\"dos\"", "wipefs --all /dev/sda"],
        ),
        (
            |d| d.holds = Holds::Filesystem(fs_info("ntfs", "Data")),
            &["ntfs with label \"Data\"", "wipefs --all /dev/sda", "drives.toml"],
        ),
        (
            |d| d.holds = Holds::Unclear("two signatures".to_owned()),
            &["two signatures", "left alone"],
        ),
        (
            |d| d.size = GIB,
            &[
                "too small",
                "BOOTFS, SYSFS, BACKUPFS, USERDATAFS",
                "need 4.8 GiB",
                "1022.0 MiB are free",
            ],
        ),
        (|d| d.size = 0, &["too small", "0.0 KiB are free"]),
        (
            |d| {
                // 4997 MiB are free, but no piece of them holds a slot.
                let others = [("a", 1, 1), ("b", 1500, 2500), ("c", 6000, 1), ("d", 7500, 2738)];
                *d = gpt_disk("sda", 10 * GIB, &others);
            },
            &["too small", "largest piece"],
        ),
        (
            |d| {
                *d = gpt_disk("sda", 20 * GIB, &[]);
                d.holds = Holds::Gpt(Gpt {
                    first_lba: 34,
                    last_lba: 40_000_000,
                    entries: 3,
                    flaws: vec![],
                });
            },
            &["no entry left"],
        ),
    ];
    for (change, words) in cases {
        let mut one = disk("sda", 20 * GIB);
        change(&mut one);
        let error = plan_one(&drives_toml("", BOTH), &[one]).unwrap_err().to_string();
        for word in *words {
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
    }
}

#[test]
fn a_size_that_mkfs_would_refuse_is_refused_before() {
    let toml = drives_toml("", &[("USERDATAFS", "100M", "xfs")]);
    let error = plan_one(&toml, &[disk("sda", GIB)]).unwrap_err();
    assert!(matches!(error, DriveError::TooSmall { role: Role::UserData, .. }), "{error}");
}

#[test]
fn zero_one_and_many_disks_are_three_answers() {
    let (a, mut b) = (disk("sda", 20 * GIB), disk("sdb", 40 * GIB));
    b.model = None;
    let (a, b) = (&a, &b);
    let mut stick = disk("sdc", 16 * GIB);
    stick.removable = true;
    let stick = &stick;
    let slot = gpt_disk("sdd", 20 * GIB, &[("gse-slot-1", 1, 2048)]);
    let copy = gpt_disk("sde", 20 * GIB, &[("gse-slot-1", 1, 2048)]);
    // The match, the disks, and the disk that is meant or the words of the refusal.
    type Case<'c> = (&'c str, Vec<&'c BlockDevice>, Result<&'c str, &'c [&'c str]>);
    let cases: Vec<Case<'_>> = vec![
        ("", vec![], Err(&["no disk", "driver"])),
        ("", vec![a], Ok("sda")),
        ("", vec![a, stick], Ok("sda")),
        (
            "",
            vec![stick],
            Err(&[
                "/dev/sdc",
                "removable disks have to be named",
                "match.path = \"/dev/disk/by-id/virtio-SN-sdc\" below [[disk]]",
            ]),
        ),
        ("serial = 'SN-sdc'", vec![a, stick], Ok("sdc")),
        (
            "",
            vec![a, b],
            Err(&["2 disks fit", "/dev/sda, QEMU HARDDISK, serial SN-sda, 20.0 GiB", "/dev/sdb"]),
        ),
        ("path = '/dev/sdb'", vec![a, b], Ok("sdb")),
        ("path = '/dev/disk/by-id/virtio-SN-sdb'", vec![a, b], Ok("sdb")),
        ("path = '/dev/disk/by-id/*sda'", vec![a, b], Ok("sda")),
        (
            "path = '/dev/disk/by-id/ata-*'",
            vec![a, b],
            Err(&["its path is not /dev/disk/by-id/ata-*: by id it is virtio-SN-sda"]),
        ),
        ("serial = 'SN-*b'", vec![a, b], Ok("sdb")),
        ("model = 'QEMU*'", vec![a, b], Ok("sda")),
        ("min_size = '30G'", vec![a, b], Ok("sdb")),
        ("max_size = '30G'", vec![a, b], Ok("sda")),
        (
            "min_size = '30G', max_size = '35G'",
            vec![a, b],
            Err(&[
                "no disk fits",
                "at least 30.0 GiB, at most 35.0 GiB",
                "sda, QEMU HARDDISK, serial SN-sda, 20.0 GiB (smaller than 30.0 GiB)",
                "larger than 35.0 GiB",
            ]),
        ),
        ("model = 'WD*'", vec![a, b], Err(&["its model is not WD*", "it has no model"])),
        ("", vec![a, &slot, b], Ok("sdd")),
        ("", vec![&copy, &slot], Err(&["/dev/sde1 and /dev/sdd1 are both called gse-slot-1"])),
        ("path = '/dev/sde'", vec![&copy, &slot], Ok("sde")),
    ];
    for (matches, disks, wanted) in cases {
        let disks: Vec<_> = disks.into_iter().cloned().collect();
        match (plan_one(&drives_toml(matches, &BOTH[1..2]), &disks), wanted) {
            (Ok(plan), Ok(name)) => assert!(plan.disk.ends_with(name), "{matches}: {plan:?}"),
            (Err(error), Err(words)) => {
                let error = error.to_string();
                for word in words {
                    assert!(error.contains(word), "{word:?} is not in: {error}");
                }
            }
            (plan, _) => panic!("{matches}: {plan:?}"),
        }
    }
}

#[test]
fn a_disk_on_usb_is_taken_where_it_is_named_or_ours_already() {
    let on_usb = |mut disk: BlockDevice| {
        disk.usb = true;
        disk.ids = vec![format!("usb-Case_{}", disk.name)];
        disk
    };
    let internal = disk("sda", 20 * GIB);
    let own = gpt_disk("sdb", 20 * GIB, &[("gse-slot-1", 1, 2048)]);
    let blank = on_usb(disk("sdc", 20 * GIB));
    let installed = on_usb(gpt_disk("sdd", 20 * GIB, &[("gse-slot-1", 1, 2048)]));
    let mut labelled_disk = on_usb(gpt_disk("sde", 20 * GIB, &[("theirs", 1, 2048)]));
    labelled_disk.partitions[0].content = labelled("ext4", "SYSFS");
    let mut nameless = on_usb(disk("sdf", 20 * GIB));
    nameless.ids.clear();
    for (matches, disks, wanted) in [
        ("", vec![&internal, &blank], Ok("/dev/sda")),
        ("serial = 'SN-sdc'", vec![&internal, &blank], Ok("/dev/sdc")),
        ("min_size = '10G'", vec![&blank], Ok("/dev/sdc")),
        (
            "",
            vec![&blank],
            Err("write match.path = \"/dev/disk/by-id/usb-Case_sdc\" below [[disk]]"),
        ),
        ("", vec![&nameless], Err("has to be named where nothing of ours is on it yet")),
        ("", vec![&nameless], Err("write match.serial = \"SN-sdf\" below [[disk]]")),
        // A machine that was installed there on purpose, beside a disk with nothing on it.
        ("", vec![&installed], Ok("/dev/sdd")),
        ("", vec![&internal, &installed, &blank], Ok("/dev/sdd")),
        ("", vec![&labelled_disk], Ok("/dev/sde")),
        // Another machine's disk, brought along.
        ("", vec![&own, &installed], Ok("/dev/sdb")),
    ] {
        let disks: Vec<_> = disks.into_iter().cloned().collect();
        match (plan_one(&drives_toml(matches, &BOTH[1..2]), &disks), wanted) {
            (Ok(plan), Ok(path)) => assert_eq!(plan.disk, Path::new(path), "{matches}"),
            (Err(error), Err(words)) => {
                assert!(error.to_string().contains(words), "{words:?} is not in: {error}");
            }
            (plan, _) => panic!("{matches}: {plan:?}"),
        }
    }
}

#[test]
fn what_was_brought_along_is_no_disk_of_the_machine_unless_it_is_meant() {
    let internal = disk("sda", 20 * GIB);
    let (mut stick, mut case) = (disk("sdb", 16 * GIB), disk("sdc", 16 * GIB));
    (stick.removable, case.usb) = (true, true);
    let mut installed = gpt_disk("sdd", 20 * GIB, &[("gse-slot-1", 1, 2048)]);
    installed.usb = true;
    for (matches, disks, wanted) in [
        ("", vec![], false),
        ("", vec![&stick, &case], false),
        ("", vec![&stick, &internal], true),
        ("", vec![&installed], true),
        ("serial = 'SN-sdb'", vec![&stick], true),
        ("serial = 'SN-sdb'", vec![&case], false),
        // One that does not fit may still be what somebody forgot to name.
        ("serial = 'SN-sdb'", vec![&internal], true),
    ] {
        let disks: Vec<_> = disks.into_iter().cloned().collect();
        let drives = drives(&drives_toml(matches, &BOTH[1..2]));
        assert_eq!(has_disk(&drives, &disks), wanted, "{matches} {disks:?}");
    }
    assert!(!has_disk(&drives(""), &[stick]));
}

#[test]
fn a_disk_with_nothing_of_ours_is_the_one_only_when_nothing_appears_any_more() {
    let blank = disk("sda", 20 * GIB);
    let mut foreign = disk("sdb", 20 * GIB);
    foreign.holds = Holds::Filesystem(fs_info("ntfs", "Data"));
    let own = gpt_disk("sdc", 20 * GIB, &[("gse-slot-1", 1, 2048)]);
    let mut unknown = own.clone();
    unknown.partitions[0].path = None;
    // The disks, and whether the wait is over before and after they have settled.
    for (disks, wanted) in [
        (vec![], [false, false]),
        (vec![&blank], [false, true]),
        (vec![&foreign], [false, true]),
        (vec![&blank, &foreign], [false, true]),
        // Here it is: nothing else is waited for.
        (vec![&own], [true, true]),
        (vec![&blank, &own], [true, true]),
        // Its partitions are yet to come.
        (vec![&unknown], [false, false]),
    ] {
        let disks: Vec<_> = disks.into_iter().cloned().collect();
        let drives = drives(&drives_toml("", &BOTH[1..2]));
        let there = [false, true].map(|settled| all_there(&drives, &disks, settled));
        assert_eq!(there, wanted, "{disks:?}");
    }
    // A second [[disk]] with nothing on it yet is a new one as well.
    let two = drives_toml("serial = 'SN-sdc'", &BOTH[1..2])
        + &drives_toml("serial = 'SN-sda'", &BOTH[3..]);
    let both = [own, blank];
    let there = [false, true].map(|settled| all_there(&drives(&two), &both, settled));
    assert_eq!(there, [false, true]);
    // The machine's own disk has no room for what was added to the configuration: that will not change.
    let full = gpt_disk("sda", 3 * GIB, &[("gse-slot-1", 1, 2048)]);
    assert!(all_there(&drives(&drives_toml("", &BOTH[1..3])), &[full], false));
}

#[test]
fn two_entries_cannot_mean_the_same_disk() {
    let toml = drives_toml("", &BOTH[1..2]) + &drives_toml("", &BOTH[3..]);
    let error = plan(&drives(&toml), &[disk("sda", 20 * GIB)]).unwrap_err().to_string();
    assert!(error.contains("two [[disk]] entries") && error.contains("/dev/sda"), "{error}");
}

#[test]
fn a_name_twice_on_one_disk_is_refused() {
    let twice =
        gpt_disk("nvme0n1", 20 * GIB, &[("gse-slot-1", 1, 2048), ("gse-slot-1", 3000, 2048)]);
    let error = plan_one(&drives_toml("", &BOTH[1..2]), &[twice]).unwrap_err().to_string();
    assert!(error.contains("/dev/nvme0n1p1 and /dev/nvme0n1p2"), "{error}");
}

prop_compose! {
    /// A disk with foreign partitions in arbitrary places that do not overlap.
    fn any_disk()(
        sector in prop_oneof![Just(512_u64), Just(4096)],
        physical in prop_oneof![Just(512_u64), Just(4096), Just(MIB), Just(4 * MIB)],
        size in 64 * MIB..4 * GIB,
        gpt in any::<bool>(),
        cuts in prop::collection::btree_set(0_u64..1_000_000, 0..12),
        holes in prop::collection::vec(any::<bool>(), 12),
    ) -> BlockDevice {
        let mut disk = disk("vda", size / sector * sector);
        disk.logical_sector = sector;
        disk.physical_sector = physical;
        if gpt {
            let array = 16384 / sector;
            let (first_lba, last_lba) = (2 + array, disk.size / sector - array - 2);
            disk.holds = Holds::Gpt(Gpt { first_lba, last_lba, entries: 128, flaws: vec![] });
            let at = |cut: &u64| first_lba + (last_lba - first_lba) * cut / 1_000_000;
            let cuts: Vec<u64> = cuts.iter().map(at).collect();
            for (i, pair) in cuts.windows(2).enumerate().filter(|(i, _)| holes[*i]) {
                if pair[0] < pair[1] {
                    disk.partitions.push(Partition {
                        number: i as u32 + 1,
                        path: Some(disk.partition_path(i as u32 + 1)),
                        start: pair[0] * sector,
                        size: (pair[1] - pair[0]) * sector,
                        gpt: Some(gpt_entry("theirs")),
                        content: labelled("ext4", "data"),
                    });
                }
            }
        }
        disk
    }
}

proptest! {
    #[test]
    fn plans_touch_only_free_aligned_space_and_are_done_once(
        disk in any_disk(),
        mib in prop::collection::vec(8_u64..600, 3),
        all in 0_usize..5,
    ) {
        let roles = ["BOOTFS", "SYSFS", "BACKUPFS"];
        let size = |i: usize| if i == all { "all".to_owned() } else { format!("{}K", mib[i] * 1024 + i as u64) };
        let sizes: Vec<String> = (0..3).map(size).collect();
        let partitions: Vec<_> =
            roles.iter().zip(&sizes).map(|(role, size)| (*role, size.as_str(), "ext4")).collect();
        let toml = drives_toml("", &partitions);
        let plan = match plan_one(&toml, std::slice::from_ref(&disk)) {
            Ok(plan) => plan,
            Err(DriveError::NoRoom { needed, free, largest, .. }) => {
                // Refused only where it truly does not fit into one piece.
                prop_assert!(needed.0 > largest.0 && largest.0 <= free.0);
                return Ok(());
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let result = after(disk.clone(), &plan);
        let Holds::Gpt(gpt) = &result.holds else { return Err(TestCaseError::fail("no table")) };
        let (first, last) = (gpt.first_lba, gpt.last_lba);
        let new = added(&plan);
        prop_assert_eq!(new.len(), 3);
        for (i, one) in new.iter().enumerate() {
            let bytes = [one.run.start, one.run.end].map(|lba| lba * plan.sector);
            prop_assert!(bytes.iter().all(|b| b % ALIGNMENT == 0 && b % disk.physical_sector == 0));
            let array = 16384 / disk.logical_sector;
            let (first, last) = match disk.holds {
                Holds::Nothing => (2 + array, disk.size / disk.logical_sector - array - 2),
                _ => (first, last),
            };
            prop_assert!(first <= one.run.start && one.run.end - 1 <= last);
            if i != all {
                let wanted = mib[i] * MIB + i as u64 * 1024;
                let has = one.run.len() * plan.sector;
                prop_assert!(has >= wanted && has < wanted + ALIGNMENT.max(disk.physical_sector));
            }
        }
        let mut ranges: Vec<_> = result.partitions.iter().map(|p| (p.start, p.start + p.size)).collect();
        ranges.sort_unstable();
        prop_assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{:?}", ranges);
        let mut numbers: Vec<_> = result.partitions.iter().map(|p| p.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        prop_assert_eq!(numbers.len(), result.partitions.len());
        prop_assert_eq!(plan_one(&toml, &[result]).unwrap().steps, vec![]);
    }
}
