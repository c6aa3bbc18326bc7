//! Filesystems on loop devices: made, mounted, relabelled, checked, with records in them.

use std::{
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::symlink,
    path::Path,
};

use gse_controller::{
    disk::{
        content::{FsInfo, filesystem},
        fsck::{FsckOutcome, check_and_repair},
        mkfs::{MkfsError, Spec, make},
        mount::{Access, OpenSlot, mount_place, mount_top, set_label},
        records::{
            CycleRecord, CycleState, Generation, Published, RecordError, Records, Refused,
            SlotRecord,
        },
        slots::{Label, Place, Slot, SlotState},
        tools::{ToolError, Tools},
        wipeable::Wipeable,
    },
    log::Log,
};
use gse_protocol::{
    Serial,
    config::drives::{Filesystem, Role, Subvolume},
};

use crate::common::{Loop, MIB, sh, tools};

const ALL: [Filesystem; 3] = [Filesystem::Btrfs, Filesystem::Ext4, Filesystem::Xfs];

fn blank_slot(disk: &Loop) -> Slot {
    Slot { device: disk.path.clone(), size: 400 * MIB, state: SlotState::Blank }
}

/// A slot as `find` would describe what is on the disk now.
fn slot(disk: &Loop) -> Slot {
    let FsInfo { kind, label, uuid } = filesystem(&disk.path).unwrap().unwrap();
    let info = FsInfo { kind, label: None, uuid: uuid.clone() };
    let label = label.map(|label| label.parse().unwrap());
    let state = SlotState::Formatted { filesystem: info.filesystem().unwrap(), label, uuid };
    Slot { device: disk.path.clone(), size: 400 * MIB, state }
}

fn named(name: &str) -> Subvolume {
    Subvolume { name: name.to_owned(), ..Subvolume::default() }
}

fn format(disk: &Loop, kind: Filesystem, label: Label) -> Slot {
    let subvolumes = if kind == Filesystem::Btrfs { vec![named("@home")] } else { vec![] };
    let spec = Spec { filesystem: kind, label, options: &[], subvolumes: &subvolumes };
    let wipeable = Wipeable::free(&blank_slot(disk)).unwrap();
    make(wipeable, &spec, &disk.folder("scratch"), &tools(), &Log::console()).unwrap();
    slot(disk)
}

fn check(disk: &Loop, kind: Filesystem) -> FsckOutcome {
    check_and_repair(&disk.path, kind, &disk.folder("scratch"), &tools(), &Log::console()).unwrap()
}

fn corrupt(path: &Path, at: u64, length: usize) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&vec![0x5a; length]).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn each_filesystem_is_made_labelled_and_clean() {
    for sector in [512, 4096] {
        for kind in ALL {
            let disk = Loop::new(400 * MIB, sector);
            let slot = format(&disk, kind, Label::Incoming);
            assert_eq!(slot.label(), Some(Label::Incoming));
            assert_eq!(slot.filesystem(), Some(kind));
            assert_eq!(check(&disk, kind), FsckOutcome::Clean);
        }
    }
}

#[test]
fn a_system_is_below_the_records_on_btrfs_and_beside_them_elsewhere() {
    let log = Log::console();
    for kind in ALL {
        let disk = Loop::new(400 * MIB, 512);
        let slot = format(&disk, kind, Label::Incoming);
        let mut open = OpenSlot::new(&slot, &disk.folder("top"), Access::ReadWrite, &log).unwrap();
        Records::create(open.top()).unwrap();
        let names = ["@", "@home", ".gse"].map(|name| open.top().join(name).is_dir());
        let btrfs = kind == Filesystem::Btrfs;
        assert_eq!(names, [btrfs, btrfs, true]);
        fs::write(open.root().join("file"), "text").unwrap();
        open.set_access(Access::ReadOnly).unwrap();
        let root = open.mount_root(&disk.folder("root")).unwrap();
        open.close().unwrap();
        assert_eq!(root.path().join(".gse").exists(), !btrfs);
        assert_eq!(fs::read_to_string(root.path().join("file")).unwrap(), "text");
        assert!(fs::write(root.path().join("file"), "").is_err());
        root.unmount().unwrap();
    }
}

#[test]
fn labels_change_while_mounted_even_read_only() {
    let log = Log::console();
    for kind in ALL {
        let disk = Loop::new(400 * MIB, 512);
        let slot = format(&disk, kind, Label::Incoming);
        let open = OpenSlot::new(&slot, &disk.folder("top"), Access::ReadWrite, &log).unwrap();
        set_label(open.top(), Label::BackupFs).unwrap();
        assert_eq!(self::slot(&disk).label(), Some(Label::BackupFs), "{kind} while mounted");
        open.close().unwrap();
        let mut open = OpenSlot::new(&slot, &disk.folder("top"), Access::ReadOnly, &log).unwrap();
        open.relabel(Label::SysFs).unwrap();
        assert_eq!(self::slot(&disk).label(), Some(Label::SysFs), "{kind} read-only before");
        let error = set_label(open.top(), Label::Deprived).unwrap_err().to_string();
        assert!(error.contains("Read-only"), "{kind}: {error}");
        open.close().unwrap();
        assert_eq!(check(&disk, kind), FsckOutcome::Clean);
    }
}

#[test]
fn records_survive_and_missing_is_not_broken() {
    let log = Log::console();
    for kind in ALL {
        let disk = Loop::new(400 * MIB, 512);
        let slot = format(&disk, kind, Label::Incoming);
        let open = OpenSlot::new(&slot, &disk.folder("top"), Access::ReadWrite, &log).unwrap();
        assert!(Records::open(open.top()).unwrap().is_none());
        let records = Records::create(open.top()).unwrap();
        assert_eq!(records.slot().unwrap(), None);
        assert_eq!(records.cycle().unwrap(), None);
        assert_eq!(records.published(Published::Index).unwrap(), None);
        let whole = SlotRecord::new(Generation(3).next(), true, Refused::default());
        let mut cycle = CycleRecord::fresh(Serial(12));
        records.set_cycle(&cycle).unwrap();
        cycle.state = CycleState::Open;
        cycle.boot_id = "4f1c".to_owned();
        records.set_cycle(&cycle).unwrap();
        records.set_published(Published::Index, &[7; 100_000]).unwrap();
        records.set_slot(&whole).unwrap();
        drop(records);
        open.close().unwrap();
        let open = OpenSlot::new(&slot, &disk.folder("top"), Access::ReadOnly, &log).unwrap();
        let records = Records::open(open.top()).unwrap().unwrap();
        assert_eq!(records.slot().unwrap(), Some(whole));
        assert_eq!(records.cycle().unwrap(), Some(cycle));
        assert_eq!(records.published(Published::Index).unwrap().unwrap(), [7; 100_000]);
        let names = fs::read_dir(open.top().join(".gse")).unwrap().count();
        assert_eq!(names, 3, "no temporary file is left");
        drop(records);
        open.close().unwrap();
    }
}

#[test]
fn records_that_make_no_sense_are_broken() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::create(dir.path()).unwrap();
    let file = dir.path().join(".gse/slot.toml");
    let put = |bytes: &[u8]| fs::write(&file, bytes).unwrap();
    let changes: [(&str, &dyn Fn()); 8] = [
        ("empty", &|| put(b"")),
        ("cut", &|| put(b"format = 1\ngenera")),
        ("a later format", &|| put(b"format = 2\ngeneration = 1\ncomplete = true\n")),
        ("an unknown key", &|| put(b"format = 1\ngeneration = 1\ncomplete = true\nx = 1\n")),
        ("no text", &|| put(&[0xff; 20])),
        ("too long", &|| put(&[b'#'; 100_000])),
        ("a link", &|| symlink("/etc/hostname", &file).unwrap()),
        ("a folder", &|| fs::create_dir(&file).unwrap()),
    ];
    for (what, change) in changes {
        let _ = fs::remove_file(&file);
        change();
        let error = records.slot().unwrap_err();
        assert!(matches!(error, RecordError::Broken { .. }), "{what}: {error}");
        assert!(error.to_string().contains("slot.toml"), "{error}");
    }
}

#[test]
fn a_fifo_or_a_link_in_place_of_a_record_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::create(dir.path()).unwrap();
    sh("mkfifo", "", &dir.path().join(".gse/cycle.toml"));
    assert!(matches!(records.cycle(), Err(RecordError::Broken { .. })));
    let outside = dir.path().join("outside");
    fs::write(&outside, "theirs").unwrap();
    symlink(&outside, dir.path().join(".gse/cycle.toml.new")).unwrap();
    records.set_cycle(&CycleRecord::fresh(Serial(1))).unwrap();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "theirs");
    assert!(records.cycle().unwrap().is_some());
    let other = tempfile::tempdir().unwrap();
    symlink(dir.path().join(".gse"), other.path().join(".gse")).unwrap();
    assert!(matches!(Records::open(other.path()), Err(RecordError::Broken { .. })));
    assert!(matches!(Records::create(other.path()), Err(RecordError::Broken { .. })));
}

#[test]
fn userdata_is_formatted_while_blank_and_never_again() {
    let disk = Loop::new(400 * MIB, 512);
    let log = Log::console();
    let mut place = Place {
        role: Role::UserData,
        device: disk.path.clone(),
        size: 400 * MIB,
        filesystem: None,
    };
    let names = [named("@home")];
    let spec = Spec {
        filesystem: Filesystem::Btrfs,
        label: Label::UserDataFs,
        options: &[],
        subvolumes: &names,
    };
    let scratch = disk.folder("scratch");
    let again = Wipeable::blank(&place).unwrap();
    let wrong = Wipeable::blank(&place).unwrap();
    let wrong_spec = Spec { label: Label::SysFs, ..spec };
    assert!(matches!(
        make(wrong, &wrong_spec, &scratch, &tools(), &log),
        Err(MkfsError::Refused(_))
    ));
    make(Wipeable::blank(&place).unwrap(), &spec, &scratch, &tools(), &log).unwrap();
    // Even a permission that was given before does not hold any more.
    let error = make(again, &spec, &scratch, &tools(), &log).unwrap_err().to_string();
    assert!(error.contains("never formatted again"), "{error}");
    // Nor as a slot, by a mistaken partition name.
    let slot = Wipeable::free(&blank_slot(&disk)).unwrap();
    let slot_spec = Spec { label: Label::Incoming, ..spec };
    assert!(matches!(make(slot, &slot_spec, &scratch, &tools(), &log), Err(MkfsError::Refused(_))));
    place.filesystem = filesystem(&disk.path).unwrap();
    let mounted = mount_place(&place, &disk.folder("data"), Access::ReadWrite, &log).unwrap();
    assert!(mounted.path().join("@home").is_dir() && !mounted.path().join("@").exists());
    mounted.unmount().unwrap();
}

#[test]
fn a_failed_mkfs_says_the_command_and_its_words() {
    let disk = Loop::new(400 * MIB, 512);
    let options = ["--no-such-option".to_owned()];
    for kind in ALL {
        let spec =
            Spec { filesystem: kind, label: Label::Incoming, options: &options, subvolumes: &[] };
        let wipeable = || Wipeable::free(&blank_slot(&disk)).unwrap();
        let scratch = disk.folder("scratch");
        let error = make(wipeable(), &spec, &scratch, &tools(), &Log::console()).unwrap_err();
        let MkfsError::Tool { source: ToolError::Failed { command, said, .. }, .. } = error else {
            panic!("{error}");
        };
        assert!(
            command.starts_with(&format!("mkfs.{kind} ")) && command.contains("--no-such-option")
        );
        assert!(!said.is_empty());
        let none = Tools::from_path("/nowhere".as_ref());
        let error = make(wipeable(), &spec, &scratch, &none, &Log::console()).unwrap_err();
        let MkfsError::Tool { source, .. } = error else { panic!("{error}") };
        let source = source.to_string();
        assert!(source.contains(&format!("mkfs.{kind} is missing")), "{source}");
        assert!(source.contains("--build-controller"), "{source}");
    }
    assert_eq!(filesystem(&disk.path).unwrap(), None);
}

#[test]
fn ext4_that_was_not_unmounted_is_clean_after_its_journal() {
    let disk = Loop::new(400 * MIB, 512);
    let log = Log::console();
    let slot = format(&disk, Filesystem::Ext4, Label::SysFs);
    let open = OpenSlot::new(&slot, &disk.folder("top"), Access::ReadWrite, &log).unwrap();
    fs::write(open.top().join("file"), "content").unwrap();
    // What a power cut leaves: the disk as it is now.
    sh("sync", "-f", open.top());
    let cut = disk.folder("cut");
    sh("cp", &format!("--sparse=always {}", disk.file.display()), &cut);
    open.close().unwrap();
    let outcome =
        check_and_repair(&cut, Filesystem::Ext4, &disk.folder("scratch"), &tools(), &log).unwrap();
    assert!(matches!(outcome, FsckOutcome::Clean | FsckOutcome::Repaired), "{outcome:?}");
    assert!(sh("dumpe2fs", "-h", &cut).contains("Filesystem state:         clean"));
}

#[test]
fn ext4_with_wrong_counts_is_repaired() {
    let disk = Loop::new(400 * MIB, 512);
    format(&disk, Filesystem::Ext4, Label::SysFs);
    run_debugfs(&disk.path, "set_super_value free_blocks_count 1");
    run_debugfs(&disk.path, "set_super_value state 2");
    assert_eq!(check(&disk, Filesystem::Ext4), FsckOutcome::Repaired);
    assert_eq!(check(&disk, Filesystem::Ext4), FsckOutcome::Clean);
}

fn run_debugfs(device: &Path, request: &str) {
    crate::common::run(
        "debugfs",
        ["-w".as_ref(), "-R".as_ref(), request.as_ref(), device.as_os_str()],
    );
}

#[test]
fn ext4_with_half_a_superblock_is_repaired_from_a_copy() {
    for blocks in ["1024", "2048", "4096"] {
        let disk = Loop::new(400 * MIB, 512);
        let spec = Spec {
            filesystem: Filesystem::Ext4,
            label: Label::SysFs,
            options: &["-b".to_owned(), blocks.to_owned()],
            subvolumes: &[],
        };
        let wipeable = Wipeable::free(&blank_slot(&disk)).unwrap();
        make(wipeable, &spec, &disk.folder("scratch"), &tools(), &Log::console()).unwrap();
        // The superblock is at byte 1024 and has 1024; its checksum is in the second sector.
        corrupt(&disk.path, 1024 + 512, 512);
        assert_eq!(check(&disk, Filesystem::Ext4), FsckOutcome::Repaired, "{blocks}");
        assert_eq!(check(&disk, Filesystem::Ext4), FsckOutcome::Clean, "{blocks}");
        assert_eq!(slot(&disk).label(), Some(Label::SysFs), "{blocks}");
    }
}

#[test]
fn btrfs_with_half_a_superblock_is_repaired_from_a_copy() {
    let disk = Loop::new(400 * MIB, 512);
    format(&disk, Filesystem::Btrfs, Label::SysFs);
    // Of 64 KiB and after: the label is in the first sector, and stays.
    corrupt(&disk.path, (64 << 10) + 1024, 512);
    assert_eq!(check(&disk, Filesystem::Btrfs), FsckOutcome::Repaired);
    assert_eq!(check(&disk, Filesystem::Btrfs), FsckOutcome::Clean);
    assert_eq!(slot(&disk).label(), Some(Label::SysFs));
}

#[test]
fn xfs_with_a_broken_superblock_is_repaired_from_another() {
    let disk = Loop::new(400 * MIB, 512);
    format(&disk, Filesystem::Xfs, Label::SysFs);
    corrupt(&disk.path, 0, 512);
    assert_eq!(check(&disk, Filesystem::Xfs), FsckOutcome::Repaired);
    assert_eq!(check(&disk, Filesystem::Xfs), FsckOutcome::Clean);
}

#[test]
fn what_cannot_be_mended_is_damaged_and_says_what() {
    for kind in ALL {
        let disk = Loop::new(400 * MIB, 512);
        format(&disk, kind, Label::SysFs);
        corrupt(&disk.path, 0, 399 << 20);
        let FsckOutcome::Damaged(why) = check(&disk, kind) else { panic!("{kind}") };
        assert!(why.contains(&disk.path.display().to_string()), "{why}");
    }
}

#[test]
fn a_mount_ends_with_its_value() {
    let disk = Loop::new(400 * MIB, 512);
    let log = Log::console();
    let slot = format(&disk, Filesystem::Ext4, Label::SysFs);
    let target = disk.folder("top");
    let is_mounted =
        || fs::read_to_string("/proc/self/mounts").unwrap().contains(target.to_str().unwrap());
    let mount =
        || mount_top(&slot.device, Filesystem::Ext4, &target, Access::ReadOnly, &log).unwrap();
    let mounted = mount();
    assert!(is_mounted());
    drop(mounted);
    assert!(!is_mounted());
    let kept = mount().keep();
    assert!(is_mounted());
    sys_mount::unmount(kept, sys_mount::UnmountFlags::empty()).unwrap();
    let blank = OpenSlot::new(&blank_slot(&disk), &target, Access::ReadOnly, &log);
    let error = blank.err().unwrap();
    assert!(error.to_string().contains("nothing yet"), "{error}");
}
