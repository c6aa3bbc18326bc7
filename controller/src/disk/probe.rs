//! Which disks there are, and what is on them: sysfs, partition tables and signatures. No udev.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{
    Bytes,
    content::{self, Content, FsInfo},
    ids,
    table::{self, Flaw, Guid, Table},
};

/// The length that sysfs counts in, whatever the disk's sectors are.
const SYSFS_SECTOR: u64 = 512;

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDevice {
    /// Such as `/dev/vda`.
    pub path: PathBuf,
    /// The kernel's name, such as `vda`.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Bytes in a logical sector: what the partition table counts in.
    pub logical_sector: u64,
    /// Bytes that the disk writes at once.
    pub physical_sector: u64,
    /// Whether the medium can be taken out, as of USB sticks and card readers.
    pub removable: bool,
    /// Whether it hangs on USB, as do disks in a case of their own, which do not call themselves removable.
    pub usb: bool,
    /// Whether it refuses to be written.
    pub read_only: bool,
    /// The drive's serial number.
    pub serial: Option<String>,
    /// The drive's model.
    pub model: Option<String>,
    /// What udev calls it in `/dev/disk/by-id`.
    pub ids: Vec<String>,
    /// What it holds as a whole.
    pub holds: Holds,
    /// By number.
    pub partitions: Vec<Partition>,
}

/// What a whole disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    /// No partition table, and no signature of anything else.
    Nothing,
    /// A GUID partition table.
    Gpt(Gpt),
    /// Another partition table, as libblkid names it, such as `dos`.
    Table(String),
    /// A filesystem without a table around it.
    Filesystem(FsInfo),
    /// Something that it would be wrong to write over or to use: a sentence.
    Unclear(String),
}

/// What a planner has to know of a GUID partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    /// The first sector that a partition may have.
    pub first_lba: u64,
    /// The last sector that a partition may have.
    pub last_lba: u64,
    /// How many partitions it has room for.
    pub entries: u32,
    /// What is to be repaired.
    pub flaws: Vec<Flaw>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number in the table, from 1.
    pub number: u32,
    /// Its device node; none where the kernel does not know the partition.
    pub path: Option<PathBuf>,
    /// Offset on the disk in bytes.
    pub start: u64,
    /// In bytes.
    pub size: u64,
    /// What a GUID partition table says of it.
    pub gpt: Option<GptEntry>,
    /// What it holds.
    pub content: Content,
}

impl Partition {
    /// Whether the controller made it, by its name in the table.
    pub fn is_ours(&self) -> bool {
        self.gpt.as_ref().is_some_and(|entry| entry.name.starts_with("gse-"))
    }
}

/// What a GUID partition table says of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptEntry {
    /// Its name, at most 36 UTF-16 units.
    pub name: String,
    /// Its type.
    pub kind: Guid,
    /// Its own GUID, which is its `PARTUUID`.
    pub guid: Guid,
    /// Its flags, bit by bit.
    pub attributes: u64,
}

/// Whether loop devices count as disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loops {
    /// They are left out, as a machine's own disks are never loop devices.
    Ignore,
    /// They count, for tests and for images.
    Include,
}

/// Why the disks could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("listing the disks in {}: {source}", .path.display())]
pub struct ListError {
    path: PathBuf,
    source: io::Error,
}

impl BlockDevice {
    /// Whether it may be one that somebody brought along, rather than the machine's own.
    pub fn is_portable(&self) -> bool {
        self.removable || self.usb
    }

    /// The name of a partition's device node: `sda1`, but `nvme0n1p1`.
    pub fn partition_path(&self, number: u32) -> PathBuf {
        let p = if self.name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
        self.path.with_file_name(format!("{}{p}{number}", self.name))
    }

    /// The disk as a person tells it from others: path, model, serial, size.
    pub fn describe(&self) -> String {
        let mut text = self.path.display().to_string();
        for (what, value) in [("", &self.model), ("serial ", &self.serial)] {
            if let Some(value) = value {
                text = format!("{text}, {what}{value}");
            }
        }
        format!("{text}, {}", Bytes(self.size))
    }
}

/// The disks of the machine, in the order of their names.
///
/// Left out are ram, zram, optical and floppy drives, device-mapper and md devices, network block
/// devices, the boot areas of eMMC, and whatever has no size (a card reader without a card). `sys` is
/// where sysfs is mounted, `dev` where devtmpfs is.
///
/// # Errors
/// Only if sysfs cannot be listed: a disk that is taken out meanwhile is left out, and one that cannot
/// be read is [`Holds::Unclear`].
pub fn block_devices(sys: &Path, dev: &Path, loops: Loops) -> Result<Vec<BlockDevice>, ListError> {
    let folder = sys.join("block");
    let failed = |source| ListError { path: folder.clone(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort_unstable();
    names.retain(|name| is_disk(name, loops));
    Ok(names.iter().filter_map(|name| block_device(&folder.join(name), dev, name)).collect())
}

fn is_disk(name: &str, loops: Loops) -> bool {
    const OTHERS: [&str; 10] =
        ["ram", "zram", "sr", "fd", "dm-", "md", "nbd", "rbd", "drbd", "mtdblock"];
    let is = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
    };
    let emmc_boot = name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"));
    !OTHERS.into_iter().any(is) && !emmc_boot && (loops == Loops::Include || !is("loop"))
}

/// One disk; none if it has no size or is gone.
fn block_device(sys: &Path, dev: &Path, name: &str) -> Option<BlockDevice> {
    let size = number(&sys.join("size"))?.checked_mul(SYSFS_SECTOR).filter(|size| *size > 0)?;
    // The kernel writes `/` in names as `!`.
    let path = dev.join(name.replace('!', "/"));
    let logical_sector = number(&sys.join("queue/logical_block_size")).unwrap_or(SYSFS_SECTOR);
    let (holds, table) = holds(&path, logical_sector);
    let mut disk = BlockDevice {
        logical_sector,
        physical_sector: number(&sys.join("queue/physical_block_size")).unwrap_or(logical_sector),
        removable: number(&sys.join("removable")) == Some(1),
        usb: ids::usb_device(&sys.join("device")).is_some(),
        read_only: number(&sys.join("ro")) == Some(1),
        serial: serial(sys),
        model: model(sys),
        ids: ids::names(sys, name),
        partitions: known_partitions(sys, dev),
        name: name.to_owned(),
        path,
        size,
        holds,
    };
    if let Some(table) = table {
        disk.partitions = table_partitions(&disk, &table);
    }
    for partition in &mut disk.partitions {
        if let Some(path) = &partition.path {
            partition.content =
                content::content(path).unwrap_or_else(|e| Content::Unclear(e.to_string()));
        }
    }
    Some(disk)
}

/// What the disk holds as a whole, and its table if that is a GPT.
fn holds(path: &Path, sector: u64) -> (Holds, Option<Table>) {
    let found = File::open(path).and_then(|mut disk| table::read(&mut disk, sector));
    let content = content::content(path);
    judge(path, found, content.unwrap_or_else(|e| Content::Unclear(e.to_string())))
}

/// Two opinions: our own reading of the GPT, and libblkid's of everything else. Where they contradict
/// each other, nobody should write to the disk.
fn judge(path: &Path, found: io::Result<table::Found>, content: Content) -> (Holds, Option<Table>) {
    let unclear = |why: String| (Holds::Unclear(why), None);
    match (found, content) {
        (Err(e), _) => unclear(format!("{} cannot be read: {e}", path.display())),
        (_, Content::Unclear(why)) => unclear(why),
        // A filesystem on the whole disk leaves an older backup table at its end as it was.
        (_, Content::Filesystem(info)) => (Holds::Filesystem(info), None),
        (_, Content::Table(kind)) if !matches!(kind.as_str(), "gpt" | "PMBR") => {
            (Holds::Table(kind), None)
        }
        (Ok(table::Found::Table(table)), _) => {
            let gpt = Gpt {
                first_lba: table.header.first_usable_lba,
                last_lba: table.header.last_usable_lba,
                entries: table.header.number_of_partition_entries,
                flaws: table.flaws.clone(),
            };
            (Holds::Gpt(gpt), Some(*table))
        }
        (Ok(table::Found::Broken(why)), _) => {
            unclear(format!("{} has a damaged GUID partition table: {why}", path.display()))
        }
        (Ok(table::Found::None), Content::Blank) => (Holds::Nothing, None),
        (Ok(table::Found::None), Content::Table(_)) => unclear(format!(
            "{} says that it has a GUID partition table, but there is none where its sectors of this \
             size would have it (was it written through an adapter with another sector size?)",
            path.display()
        )),
    }
}

/// The partitions that the kernel knows.
pub(super) fn known_partitions(sys: &Path, dev: &Path) -> Vec<Partition> {
    let Ok(entries) = fs::read_dir(sys) else { return Vec::new() };
    let mut partitions: Vec<_> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let folder = entry.path();
            Some(Partition {
                number: number(&folder.join("partition"))?.try_into().ok()?,
                path: Some(dev.join(entry.file_name().to_str()?.replace('!', "/"))),
                start: number(&folder.join("start"))?.checked_mul(SYSFS_SECTOR)?,
                size: number(&folder.join("size"))?.checked_mul(SYSFS_SECTOR)?,
                gpt: None,
                content: Content::Blank,
            })
        })
        .collect();
    partitions.sort_unstable_by_key(|p| p.number);
    partitions
}

/// The partitions of the table, with the device nodes of those that the kernel has in the same place.
fn table_partitions(disk: &BlockDevice, table: &Table) -> Vec<Partition> {
    let partition = |(number, entry): (u32, &gptman::GPTPartitionEntry)| {
        let start = entry.starting_lba * table.sector;
        let size = (entry.ending_lba - entry.starting_lba + 1) * table.sector;
        let known = |p: &&Partition| p.number == number && p.start == start && p.size == size;
        let path = disk.partitions.iter().find(known).and_then(|p| p.path.clone());
        Partition {
            number,
            start,
            size,
            gpt: Some(GptEntry {
                name: entry.partition_name.as_str().to_owned(),
                kind: Guid(entry.partition_type_guid),
                guid: Guid(entry.unique_partition_guid),
                attributes: entry.attribute_bits,
            }),
            content: match path {
                Some(_) => Content::Blank,
                None => Content::Unclear(format!(
                    "partition {number} of {} is in its table, but unknown to the kernel",
                    disk.path.display()
                )),
            },
            path,
        }
    };
    table.used().map(partition).collect()
}

/// The drive's serial number. Each bus keeps it elsewhere: virtio beside the disk, NVMe and MMC with the
/// device, SCSI and SATA in page 80 of the vital product data, USB with the device that the SCSI host
/// hangs on.
pub(super) fn serial(sys: &Path) -> Option<String> {
    text(&sys.join("serial"))
        .or_else(|| text(&sys.join("device/serial")))
        .or_else(|| vpd_page(&fs::read(sys.join("device/vpd_pg80")).ok()?))
        .or_else(|| text(&ids::usb_device(&sys.join("device"))?.join("serial")))
}

/// The text in a page of SCSI vital product data: four bytes of header, the last two of which are the
/// length (SPC-4, 7.8).
fn vpd_page(page: &[u8]) -> Option<String> {
    let [_, _, high, low, data @ ..] = page else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low])).min(data.len());
    clean(&String::from_utf8_lossy(data.get(..length)?))
}

pub(super) fn model(sys: &Path) -> Option<String> {
    // MMC calls it name.
    text(&sys.join("device/model")).or_else(|| text(&sys.join("device/name")))
}

pub(super) fn text(path: &Path) -> Option<String> {
    clean(&String::from_utf8_lossy(&fs::read(path).ok()?))
}

/// Drives pad with blanks and zeros.
pub(super) fn clean(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: PathBuf, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn only_disks_are_listed() {
        for name in ["sda", "vda", "nvme0n1", "mmcblk0", "xvda", "srv", "mdx"] {
            assert!(is_disk(name, Loops::Ignore), "{name}");
        }
        for name in ["loop0", "ram0", "zram1", "sr0", "fd0", "dm-0", "md127", "mmcblk0boot0"] {
            assert!(!is_disk(name, Loops::Ignore), "{name}");
        }
        assert!(is_disk("loop0", Loops::Include));
    }

    #[test]
    fn each_bus_keeps_its_serial_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let block = dir.path().join("block");
        write(block.join("vda/serial"), "virtio-1");
        write(block.join("nvme0n1/device/serial"), "S4EW    \n");
        write(block.join("nvme0n1/device/model"), "Samsung SSD 970 \n");
        write(block.join("sda/device/vpd_pg80"), b"\x00\x80\x00\x08  WD-123\x00\x00");
        let usb = dir.path().join("devices/usb1/1-1");
        write(usb.join("idVendor"), "0781\n");
        write(usb.join("serial"), "4C530001\n");
        let lun = usb.join("1-1:1.0/host2/target2:0:0/2:0:0:0");
        fs::create_dir_all(&lun).unwrap();
        fs::create_dir_all(block.join("sdb")).unwrap();
        symlink(&lun, block.join("sdb/device")).unwrap();
        fs::create_dir_all(block.join("sdc")).unwrap();
        for (name, wanted) in [
            ("vda", Some("virtio-1")),
            ("nvme0n1", Some("S4EW")),
            ("sda", Some("WD-123")),
            ("sdb", Some("4C530001")),
            ("sdc", None),
        ] {
            assert_eq!(serial(&block.join(name)).as_deref(), wanted, "{name}");
        }
        assert_eq!(model(&block.join("nvme0n1")).as_deref(), Some("Samsung SSD 970"));
    }

    #[test]
    fn a_page_that_is_cut_gives_what_it_has() {
        assert_eq!(vpd_page(b"\x00\x80\x00\x20abc").as_deref(), Some("abc"));
        assert_eq!(vpd_page(b"\x00\x80\x00"), None);
        assert_eq!(vpd_page(b"\x00\x80\x00\x00"), None);
    }

    #[test]
    fn disks_without_a_medium_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("block/sda/size"), "0\n");
        write(dir.path().join("block/sdb/size"), "8\n");
        let disks = block_devices(dir.path(), dir.path(), Loops::Ignore).unwrap();
        assert_eq!(disks.len(), 1);
        assert_eq!(disks[0].name, "sdb");
        assert_eq!(disks[0].size, 4096);
        assert!(matches!(disks[0].holds, Holds::Unclear(_)), "{:?}", disks[0].holds);
    }
}
