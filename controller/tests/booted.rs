//! `gse-controller status` and `verify`, on real filesystems: what they say of a running system.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{
    fs,
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use common::{
    disk::{self, Disk},
    pack::{self, Image, Signer},
    system::{configure_with, install_on},
    tree,
};
use gse_controller::{
    booted::{
        status::{Health, status},
        verify::{self, Which},
    },
    disk::{
        fallback::Fallback,
        mount::root_below,
        records::{CycleRecord, CycleState, Generation, Life, Records, SlotRecord},
    },
    log::Log,
    report::{Backup, BootReport, Place},
    startup::Verdict,
};
use gse_protocol::{
    Serial,
    config::{self, drives::Filesystem},
    sign::Kind,
};
use rustix::fs::{XattrFlags, lsetxattr};

/// A machine whose system lies on a filesystem of its own.
struct Machine {
    disk: Disk,
    filesystem: Filesystem,
    info: tempfile::TempDir,
    signer: Signer,
}

const KINDS: [(Filesystem, &str, u64); 3] = [
    (Filesystem::Ext4, "ext4", 256),
    (Filesystem::Btrfs, "btrfs", 256),
    (Filesystem::Xfs, "xfs", 320),
];

impl Machine {
    fn new((filesystem, mkfs, mib): (Filesystem, &str, u64), nasty: bool) -> Self {
        let (_folder, original) = disk::folder();
        if nasty {
            tree::make_nasty(&original);
        } else {
            fs::create_dir(original.join("etc")).unwrap();
        }
        let image = pack::pack(&original, 100_000);
        let info = tempfile::tempdir().unwrap();
        let machine = Self { disk: Disk::new(mkfs, mib), filesystem, info, signer: Signer::new() };
        if filesystem == Filesystem::Btrfs {
            let subvolume = machine.root();
            disk::run(Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(subvolume));
        }
        install_on(&image, &machine.root());
        machine.keep(&image);
        machine.report(None);
        machine
    }

    fn root(&self) -> PathBuf {
        root_below(&self.disk.path(), self.filesystem)
    }

    /// The records of what is installed.
    fn keep(&self, image: &Image) {
        let records = Records::create(&self.disk.path()).unwrap();
        image.keep(&self.signer, &records);
        records.set_slot(&SlotRecord::new(Generation(1), true, Default::default())).unwrap();
        self.cycle(Life { state: CycleState::Open, tries: 1, unclean_shutdowns: 1 });
    }

    fn cycle(&self, life: Life) {
        let record = CycleRecord::new(Serial(1), life, String::new());
        Records::create(&self.disk.path()).unwrap().set_cycle(&record).unwrap();
    }

    fn device(&self) -> String {
        let mut findmnt = Command::new("findmnt");
        disk::run(findmnt.args(["-no", "SOURCE"]).arg(self.disk.path())).trim().to_owned()
    }

    /// What the controller leaves.
    fn report(&self, fallback: Option<Fallback>) {
        let backup = fallback.is_some().then(|| Backup {
            device: self.device(),
            filesystem: self.filesystem,
            version: "0.9".to_owned(),
            serial: 9,
            state: Some(CycleState::Closed),
        });
        let report = BootReport {
            label: "SYSFS".to_owned(),
            device: self.device(),
            filesystem: Some(self.filesystem),
            version: "1".to_owned(),
            serial: 1,
            life: None,
            config_serial: 5,
            left_alone: Vec::new(),
            backup,
            fallback,
            keys: vec![self.signer.public()],
            phases: Vec::new(),
        };
        let write = |name, json| fs::write(self.info.path().join(name), json).unwrap();
        write("boot.json", serde_json::to_string(&report).unwrap());
        let health = config::Health { tries: 3, unclean_shutdowns: 2, ..Default::default() };
        write("health-policy.json", serde_json::to_string(&health).unwrap());
    }

    /// btrfs mounts its `@` as the root; the others are it.
    fn place(&self) -> Place {
        Place { info: self.info.path().to_owned(), root: self.disk.path() }
    }

    /// As it runs: nothing can be written.
    fn read_only(&self, yes: bool) {
        let option = if yes { "remount,ro" } else { "remount,rw" };
        disk::run(Command::new("mount").args(["-o", option]).arg(self.disk.path()));
    }

    /// What `verify` says, a line each.
    fn verify(&self, which: Which) -> Vec<String> {
        self.read_only(true);
        let verified = verify::verify(&self.place(), which, &Log::aside()).unwrap();
        self.read_only(false);
        assert_eq!(verified.is_whole(), verified.compared.differences.is_empty());
        verified.to_string().lines().map(str::to_owned).collect()
    }
}

#[test]
fn status_says_how_the_system_is_on_each_filesystem() {
    for kind in KINDS {
        let machine = Machine::new(kind, false);
        machine.read_only(true);
        let now = status(&machine.place()).unwrap();
        assert_eq!((now.slot.as_str(), now.version.as_str(), now.serial), ("SYSFS", "1", 1));
        assert_eq!((now.health, now.cycle), (Health::Starting, Some(CycleState::Open)));
        assert_eq!((now.tries_left, now.unclean_shutdowns_left), (Some(2), Some(1)));
        assert_eq!((&now.last_fallback, &now.backup), (&None, &None));
        machine.read_only(false);

        machine.cycle(Life { state: CycleState::Up, tries: 0, unclean_shutdowns: 0 });
        let failed = Some(("2".to_owned(), Serial(2)));
        let why = "it was started and never came up".to_owned();
        machine.report(Some(Fallback::after(None, 1_795_435_200, failed, why)));
        Verdict { up: true, reason: None, checks: Vec::new() }.store(machine.info.path()).unwrap();
        let now = status(&machine.place()).unwrap();
        let device = machine.device();
        let lines = [
            format!("SYSFS           version 1 (serial 1) on {device}, {}", machine.filesystem),
            "health          healthy".to_owned(),
            "tries left      3 (and 2 unclean shutdowns)".to_owned(),
            "last fallback   2026-11-23T12:00:00Z, from version 2 (serial 2): it was started and never \
             came up"
                .to_owned(),
            format!("backup          version 0.9 (serial 9) on {device}"),
            "configuration   serial 5".to_owned(),
        ];
        assert_eq!(now.to_string().lines().collect::<Vec<_>>(), lines);
        let json: serde_json::Value = serde_json::from_str(&now.json().unwrap()).unwrap();
        for (pointer, value) in [
            ("/slot", "SYSFS"),
            ("/health", "healthy"),
            ("/cycle", "up"),
            ("/last_fallback/time", "2026-11-23T12:00:00Z"),
            ("/last_fallback/version", "2"),
            ("/backup/version", "0.9"),
            ("/backup/state", "closed"),
        ] {
            assert_eq!(json.pointer(pointer).unwrap(), value, "{pointer}");
        }
        assert_eq!(json["tries_left"], 3);

        let reason = Some("the check x failed".to_owned());
        Verdict { up: false, reason, checks: Vec::new() }.store(machine.info.path()).unwrap();
        let text = status(&machine.place()).unwrap().to_string();
        assert!(text.contains("health          unhealthy: the check x failed\n"), "{text}");
    }
}

#[test]
fn where_the_controller_started_nothing_there_is_no_status() {
    let empty = tempfile::tempdir().unwrap();
    let place = Place { info: empty.path().to_owned(), root: "/".into() };
    for error in [
        status(&place).unwrap_err(),
        verify::verify(&place, Which::Running, &Log::aside()).unwrap_err(),
    ] {
        let error = format!("{error:#}");
        assert!(error.contains("was this system started by the controller?"), "{error}");
    }
    let machine = Machine::new(KINDS[0], false);
    let error = verify::verify(&machine.place(), Which::Backup, &Log::aside()).unwrap_err();
    assert!(error.to_string().contains("this machine has no backup"), "{error}");
}

#[test]
fn an_installed_and_configured_system_is_as_it_was_signed_on_each_filesystem() {
    for kind in KINDS {
        let machine = Machine::new(kind, true);
        let gse = machine.disk.path().join(".gse");
        let changes = [
            ("etc/deep/link/x", "behind a link"),
            ("bin/su", "changed"),
            ("etc/large", "a name of a large file"),
            ("etc/new/file", "added"),
        ];
        configure_with(&machine.root(), &gse, &changes);
        // What a power cut leaves of a file that was being written.
        fs::write(machine.root().join("etc/new/file.gse-new"), "ad").unwrap();
        let said = machine.verify(Which::Running);
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(said[0].starts_with("version 1: ") && said[0].contains("as they were signed (2 "));

        // Mounted nowhere else, as a backup is.
        machine.report(Some(Fallback::after(None, 0, None, String::new())));
        assert_eq!(machine.verify(Which::Backup), said);
    }
}

#[test]
fn whatever_is_changed_in_a_system_is_found() {
    let machine = Machine::new(KINDS[0], true);
    let gse = machine.disk.path().join(".gse");
    let root = machine.root();
    configure_with(&root, &gse, &[("bin/su", "changed"), ("etc/new/file", "added")]);
    let at = |path: &str| root.join(path);
    let file = |path: &str| fs::File::options().write(true).open(at(path)).unwrap();
    // The same length, and the time put back: only the content tells.
    let kept = |path: &str, change: &dyn Fn(&fs::File)| {
        let before = fs::metadata(at(path)).unwrap().modified().unwrap();
        let file = file(path);
        change(&file);
        file.set_modified(before).unwrap();
    };
    kept("usr/large", &|file| file.write_all_at(b"x", 1_500_000).unwrap());
    kept("var/hole-only", &|file| file.write_all_at(b"x", 7 << 20).unwrap());
    kept("usr/after", &|file| file.set_len(4).unwrap());
    fs::remove_file(at("bin/ping")).unwrap();
    fs::set_permissions(at("bin/all"), fs::Permissions::from_mode(0o755)).unwrap();
    chown(at("bin/wall"), Some(3), None).unwrap();
    fs::set_permissions(at("bin/wall"), fs::Permissions::from_mode(0o2755)).unwrap();
    lsetxattr(at("home/user/notes"), "user.colour", b"red", XattrFlags::empty()).unwrap();
    lsetxattr(at("etc/empty"), "user.new", b"", XattrFlags::empty()).unwrap();
    for path in ["etc/out", "bin/su-again", "var/holes", "dev/null", "tmp"] {
        let path = at(path);
        if path.is_dir() { fs::remove_dir(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    symlink("elsewhere", at("etc/out")).unwrap();
    fs::write(at("bin/su-again"), "su").unwrap();
    fs::create_dir(at("var/holes")).unwrap();
    disk::run(Command::new("mknod").arg("-m644").arg(at("dev/null")).args(["c", "1", "5"]));
    symlink("var", at("tmp")).unwrap();
    fs::write(at("usr/share/extra\u{1b}[31m"), "").unwrap();
    fs::create_dir_all(at("var/more/and/more")).unwrap();
    // The image's own copy of what the configuration has changed.
    let pristine = gse.join("pristine/bin/su");
    fs::write(&pristine, "xx").unwrap();
    fs::set_permissions(&pristine, fs::Permissions::from_mode(0o4755)).unwrap();
    assert_eq!(fs::metadata(&pristine).unwrap().uid(), 0);

    let expected = [
        "/bin/all: mode 0755 instead of 7777",
        "/bin/ping: missing",
        "/bin/su: other content",
        "/bin/su: changed at another time",
        "/bin/su-again: mode 0644 instead of 4755",
        "/bin/su-again: changed at another time",
        "/bin/wall: owner 3:5 instead of 0:5",
        "/dev/null: device 1:5 instead of 1:3",
        "/dev/null: other extended attributes (trusted.device)",
        "/etc/empty: other extended attributes (user.new)",
        "/etc/large: other content",
        "/etc/out: a link to somewhere else",
        "/home/user/notes: other extended attributes (user.colour)",
        "/tmp: a link instead of a directory",
        "/usr/after: 4 bytes instead of 5",
        "/var/hole-only: other content",
        "/var/holes: a directory instead of a file",
        "/usr/share/extra\\u{1b}[31m: not in the image",
        "/var/more: not in the image",
    ];
    let mut said = machine.verify(Which::Running);
    let last = said.pop().unwrap();
    assert_eq!(said, expected);
    assert!(last.contains("19 differences (1 changed by the configuration"), "{last}");

    // Nobody's word but that of a trusted key.
    let index = fs::read(gse.join("index.cbor")).unwrap();
    fs::write(gse.join("index.cbor"), &index[..index.len() - 1]).unwrap();
    let refuse = |expected: &str| {
        let error = verify::verify(&machine.place(), Which::Running, &Log::aside()).unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    };
    refuse("is not that of version 1");
    let release = Path::new("release.toml.minisig");
    fs::write(gse.join(release), Signer::new().sign(Kind::Release, 1, b"")).unwrap();
    refuse("which is not among the trusted keys");
    fs::remove_file(gse.join(release)).unwrap();
    refuse("release.toml.minisig is missing");
}
