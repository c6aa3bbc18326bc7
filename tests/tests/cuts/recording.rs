//! A machine that does something while every write to its disk is recorded.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use gse_qemu::{
    Bus, Disk, Exit, Filesystem, Lab,
    fixtures::{Flavour, kernel},
    replay::{MemoryDisk, Replay},
    writes::WriteLog,
};
use gse_tests::{
    cuts::Outcome,
    disk::digest,
    lab::{VERSION, Watch as _, copy, copy_published, prepend, scratch},
    small::{self, SLOT, banner},
};
use serde::{Deserialize, Serialize};

use crate::{DISKS, scenarios::Scenario};

/// The disk after what was recorded; before that, the disk that the machine has.
const AFTER: &str = "after.img";

/// What a user keeps, on USERDATAFS.
const THESIS: &str =
    "[ -e /user-data/thesis ] || { echo thesis >/user-data/thesis; busybox sync; }\n";

/// A record, in a directory: the disk before and after, the log, the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recording {
    #[serde(skip)]
    dir: PathBuf,
    /// Bytes in a sector of the disk.
    pub(crate) sector: u32,
}

/// What a system does that never says that it is up.
const FAILS: &str = "busybox poweroff -f\n";

/// Publishes a version whose user writes something.
pub(crate) fn publish(lab: &Lab, version: &str) {
    publish_with(lab, version, THESIS);
}

/// Publishes a version that never comes up.
pub(crate) fn publish_failing(lab: &Lab, version: &str) {
    publish_with(lab, version, &format!("{THESIS}{FAILS}"));
}

fn publish_with(lab: &Lab, version: &str, commands: &str) {
    small::publish(lab, version, |tree| {
        let init = tree.join("sbin/init");
        let text = fs::read_to_string(&init).unwrap();
        let text = text.replace("if /run/gse", &format!("{commands}if /run/gse"));
        assert!(text.contains(commands));
        fs::write(init, text).unwrap();
    });
}

/// Boots a machine that shows these, is healthy, and shuts down.
pub(crate) fn boots(lab: &Lab, disk: &Disk, shows: &[&str]) {
    let machine = lab.machine().disk(disk.clone()).start().unwrap();
    machine.shows(shows);
    machine.shows(&["this system is closed"]);
    assert_eq!(machine.ends(), Exit::Shutdown);
}

fn partitions(filesystem: Filesystem) -> String {
    let slot = format!("{}M", SLOT >> 20);
    let partitions = [
        ("BOOTFS", "48M", "ext4"),
        ("SYSFS", &slot, filesystem.name()),
        ("BACKUPFS", &slot, filesystem.name()),
        ("USERDATAFS", "48M", "ext4"),
    ];
    let lines = partitions.map(|(label, size, filesystem)| {
        format!("[[disk.partition]]\nlabel = \"{label}\"\nsize = \"{size}\"\nfilesystem = \"{filesystem}\"\n")
    });
    format!("[[disk]]\n{}", lines.concat())
}

/// A lab in `dir`; its controller is still to be built.
fn unbuilt(dir: &Path, filesystem: Filesystem) -> Lab {
    let lab = Lab::new(dir, kernel(Flavour::Cloud).unwrap(), SLOT, filesystem).unwrap();
    lab.write_config("controller/drives.toml", &partitions(filesystem)).unwrap();
    prepend(&lab, "controller/mounts.toml", "userdata = \"/user-data\"");
    // On a busy host a machine's clock runs ahead of its drivers.
    lab.write_config("controller/network.toml", "carrier_timeout = 600\n").unwrap();
    lab
}

/// The directory of a lab whose machine was installed and shut down, once for each filesystem.
fn installed(filesystem: Filesystem, sector: u32) -> &'static Path {
    static LABS: [OnceLock<PathBuf>; DISKS.len()] = [const { OnceLock::new() }; DISKS.len()];
    LABS[filesystem as usize].get_or_init(|| {
        let dir = scratch().keep();
        let lab = unbuilt(&dir, filesystem);
        publish(&lab, VERSION);
        lab.build_controller().unwrap();
        let recording = Recording { dir: dir.clone(), sector };
        let disk = recording.disk(lab.blank_disk(&recording.after()).unwrap().image);
        boots(&lab, &disk, &[&banner(VERSION)]);
        dir
    })
}

/// Makes a lab in `dir`, and records what the scenario says. The lab and its server are as they are at the end.
pub(crate) fn record(
    scenario: &Scenario,
    filesystem: Filesystem,
    sector: u32,
    dir: &Path,
) -> (Lab, Recording) {
    let recording = Recording { dir: dir.to_owned(), sector };
    let template = scenario.installed.then(|| installed(filesystem, sector));
    if let Some(template) = template {
        copy_published(template, dir);
    }
    let lab = unbuilt(dir, filesystem);
    match template {
        Some(template) => copy(&template.join(AFTER), &recording.after()),
        None => {
            publish(&lab, VERSION);
            lab.blank_disk(&recording.after()).unwrap();
        }
    }
    (scenario.configure)(&lab);
    lab.build_controller().unwrap();

    let disk = recording.disk(recording.after());
    (scenario.before)(&lab, &disk);
    copy(&recording.after(), &recording.before());
    (scenario.recorded)(&lab, &disk.write_log(recording.log()));
    fs::write(recording.about(), serde_json::to_string(&recording).unwrap()).unwrap();
    (lab, recording)
}

impl Recording {
    /// One that was kept.
    pub(crate) fn open(dir: &Path) -> Self {
        let about = fs::read(dir.join("about.json")).unwrap();
        Self { dir: dir.to_owned(), ..serde_json::from_slice(&about).unwrap() }
    }

    /// The disk before it.
    pub(crate) fn before(&self) -> PathBuf {
        self.dir.join("before.img")
    }

    fn after(&self) -> PathBuf {
        self.dir.join(AFTER)
    }

    /// What was written.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("writes.log")
    }

    fn about(&self) -> PathBuf {
        self.dir.join("about.json")
    }

    /// The configuration in the machine's initramfs.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join("config.d")
    }

    fn disk(&self, image: PathBuf) -> Disk {
        // Not NVMe: Linux forces single writes through its cache and waits for no flush, and QEMU's does not know that
        // flag (`nvme_do_write` in hw/nvme/ctrl.c), so the record would have the logs of filesystems lost after they were
        // written for good. On virtio a flush follows such a write.
        Disk::new(image).bus(Bus::Virtio).sector(self.sector)
    }

    /// Copies it to where it stays, for a person.
    pub(crate) fn keep(&self) -> PathBuf {
        let parent =
            std::env::var_os("GSE_TEST_DIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
        let dir = tempfile::Builder::new().prefix("gse-cut-").tempdir_in(parent).unwrap().keep();
        for from in [self.before(), self.log(), self.about(), self.config()] {
            copy(&from, &dir.join(from.file_name().unwrap()));
        }
        dir
    }

    /// The record has everything that QEMU wrote: replayed as a whole, it makes the same disk.
    pub(crate) fn is_complete(&self, log: &WriteLog) {
        let whole = Replay::new(log, &self.before()).unwrap().whole().unwrap();
        assert!(
            digest(&whole.path()) == digest(&self.after()),
            "{} lacks something",
            self.log().display()
        );
    }

    /// Boots a machine from a cut's disk in QEMU. It comes up as `outcome` says: with what it has while there is no
    /// server, or with what the server has.
    pub(crate) fn boot(&self, lab: &mut Lab, disk: &MemoryDisk, outcome: &Outcome) {
        let disk = self.disk(disk.path());
        match outcome {
            Outcome::Boots { version, .. } => {
                lab.stop_server();
                boots(lab, &disk, &[&banner(version)]);
            }
            Outcome::Installs => {
                lab.start_server().unwrap();
                boots(lab, &disk, &["into ", "small: version "]);
            }
            Outcome::Rescue(why) => panic!("a machine in rescue is not booted: {why}"),
        }
    }
}
