//! Loop devices that detach themselves, and disks that exist in memory only.

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use gse_controller::{
    disk::{
        content::{Content, FsInfo},
        gpt::{self, Created, GptError},
        plan::PartitionPlan,
        probe::{self, BlockDevice, Gpt, GptEntry, Holds, Loops, Partition},
        table::{Guid, LINUX_DATA},
        tools::Tools,
    },
    log::Log,
};
use gse_protocol::config::Drives;
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

/// A disk: a sparse file behind a loop device.
pub(crate) struct Loop {
    pub(crate) path: PathBuf,
    pub(crate) file: PathBuf,
    pub(crate) dir: TempDir,
}

impl Loop {
    pub(crate) fn new(size: u64, sector: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("disk");
        File::create(&file).unwrap().set_len(size).unwrap();
        let path = attach(&file, sector);
        Self { path, file, dir }
    }

    /// Another device for the same file, on which the kernel knows no partitions. It could be told to forget those of
    /// this one only while nobody has them open, and a process that another test is starting may, for a moment.
    pub(crate) fn reattach(&mut self, sector: u64) {
        let old = std::mem::replace(&mut self.path, attach(&self.file, sector));
        detach(&old);
    }

    /// A folder to mount on.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The disk as the controller finds it.
    pub(crate) fn probe(&self) -> BlockDevice {
        let disks = probe::block_devices(Path::new("/sys"), Path::new("/dev"), Loops::Include);
        disks.unwrap().into_iter().find(|disk| disk.path == self.path).unwrap()
    }

    /// The plan that makes this disk what `toml` says.
    pub(crate) fn plan(&self, toml: &str) -> PartitionPlan {
        let plans = gse_controller::disk::plan::plan(&drives(toml), &[self.probe()]).unwrap();
        let [plan] = plans.try_into().unwrap();
        plan
    }

    pub(crate) fn apply(&self, plan: &PartitionPlan) -> Result<Vec<Created>, GptError> {
        // A node that is not there at once on a loop device never comes.
        let mut wait = |done: &mut dyn FnMut() -> bool| done();
        gpt::apply(plan, Path::new("/sys"), Path::new("/dev"), &mut wait, &Log::console())
    }

    /// What sgdisk and sfdisk think of the table.
    pub(crate) fn verify(&self) {
        let said = run("sgdisk", ["-v".as_ref(), self.path.as_os_str()]);
        assert!(said.contains("No problems found"), "{said}");
        let said = run("sfdisk", ["--verify".as_ref(), self.path.as_os_str()]);
        assert!(said.contains("No errors detected"), "{said}");
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        detach(&self.path);
    }
}

fn detach(path: &Path) {
    let done = Command::new("losetup").arg("-d").arg(path).status();
    if !done.is_ok_and(|status| status.success()) && !std::thread::panicking() {
        panic!("{} is still attached", path.display());
    }
}

fn attach(file: &Path, sector: u64) -> PathBuf {
    let sector = sector.to_string();
    let said = run(
        "losetup",
        ["-f", "--show", "-P", "-b", &sector].map(OsStr::new).into_iter().chain([file.as_os_str()]),
    );
    PathBuf::from(said.trim())
}

/// Runs a program that has to succeed, and returns what it said.
pub(crate) fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{program}: {said}");
    said
}

/// Like `run`, with words of one line.
pub(crate) fn sh(program: &str, words: &str, device: &Path) -> String {
    run(program, words.split_whitespace().map(OsStr::new).chain([device.as_os_str()]))
}

pub(crate) fn tools() -> Tools {
    Tools::from_path(OsStr::new("/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"))
}

pub(crate) fn drives(toml: &str) -> Drives {
    Drives::parse(toml).unwrap()
}

/// `drives.toml` with one disk of the given match (may be empty) and `(label, size, filesystem)`s.
pub(crate) fn drives_toml(matches: &str, partitions: &[(&str, &str, &str)]) -> String {
    let mut toml = format!("[[disk]]\nmatch = {{ {matches} }}\n");
    for (label, size, filesystem) in partitions {
        toml += &format!(
            "[[disk.partition]]\nlabel = \"{label}\"\nsize = \"{size}\"\nfilesystem = \"{filesystem}\"\n"
        );
    }
    toml
}

/// A disk in memory, blank, with 512-byte sectors.
pub(crate) fn disk(name: &str, size: u64) -> BlockDevice {
    BlockDevice {
        path: Path::new("/dev").join(name),
        name: name.to_owned(),
        size,
        logical_sector: 512,
        physical_sector: 512,
        removable: false,
        usb: false,
        read_only: false,
        serial: Some(format!("SN-{name}")),
        model: Some("QEMU HARDDISK".to_owned()),
        ids: vec![format!("virtio-SN-{name}")],
        holds: Holds::Nothing,
        partitions: Vec::new(),
    }
}

/// The same with a GUID partition table, and partitions given by name, start and size in MiB.
pub(crate) fn gpt_disk(name: &str, size: u64, partitions: &[(&str, u64, u64)]) -> BlockDevice {
    let mut disk = disk(name, size);
    let last_lba = size / 512 - 34;
    disk.holds = Holds::Gpt(Gpt { first_lba: 34, last_lba, entries: 128, flaws: Vec::new() });
    for (number, (partition, start, length)) in (1..).zip(partitions) {
        let path = Some(disk.partition_path(number));
        disk.partitions.push(Partition {
            number,
            path,
            start: start * MIB,
            size: length * MIB,
            gpt: Some(gpt_entry(partition)),
            content: Content::Blank,
        });
    }
    disk
}

pub(crate) fn gpt_entry(name: &str) -> GptEntry {
    GptEntry { name: name.to_owned(), kind: LINUX_DATA, guid: Guid([7; 16]), attributes: 0 }
}

pub(crate) fn labelled(kind: &str, label: &str) -> Content {
    Content::Filesystem(fs_info(kind, label))
}

pub(crate) fn fs_info(kind: &str, label: &str) -> FsInfo {
    FsInfo { kind: kind.to_owned(), label: Some(label.to_owned()), uuid: None }
}
