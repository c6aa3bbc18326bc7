//! `controller/drives.toml`: the partitions that a machine has.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Error;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drives {
    /// Seconds to wait for a disk that fits: USB and RAID take their time.
    pub timeout: u32,
    /// Disks that the controller may partition.
    pub disk: Vec<Disk>,
}

impl Default for Drives {
    fn default() -> Self {
        Self { timeout: 20, disk: Vec::new() }
    }
}

/// A disk, and the partitions that it is to have.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Which disk: all that is given must fit, and exactly one disk must.
    #[serde(rename = "match", default)]
    pub matches: Match,
    /// Whether a machine without it boots all the same.
    #[serde(default)]
    pub optional: bool,
    /// Whether what is on it may be written over where it is in the way. What has a name or label of ours never is.
    #[serde(default)]
    pub take: bool,
    /// In their order on the disk.
    pub partition: Vec<Partition>,
}

/// Which disk. Nothing given: the only disk that the machine has. `*` and `?` are wild.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Such as `/dev/vda`, or `/dev/disk/by-id/ata-…` with a name as udev makes them.
    pub path: Option<String>,
    /// The drive's serial number.
    pub serial: Option<String>,
    /// The drive's model.
    pub model: Option<String>,
    /// At least this large.
    pub min_size: Option<Size>,
    /// At most this large.
    pub max_size: Option<Size>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// What it is for.
    pub label: Role,
    /// Its size, or `all` that is left.
    pub size: Extent,
    /// Its filesystem.
    pub filesystem: Filesystem,
    /// Further words for mkfs.
    #[serde(default)]
    pub mkfs_options: Vec<String>,
    /// With btrfs: subvolumes beside `@`, such as `@home`.
    #[serde(default)]
    pub subvolumes: Subvolumes,
    /// With btrfs, of USERDATAFS: subvolumes that are to be gone, with all that is in them.
    #[serde(default)]
    pub deleted_subvolumes: Vec<String>,
    /// Its flags in the partition table, instead of those that it has.
    #[serde(default)]
    pub flags: Flags,
}

/// Subvolumes of btrfs, each written as its name and what else there is to say: `@home quota=50G snapshots=7`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Subvolumes(pub Vec<Subvolume>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subvolume {
    /// Its name at the top of the filesystem.
    pub name: String,
    /// The most that its files may take.
    pub quota: Option<Size>,
    /// Of how many days on which the machine was started read-only snapshots are kept.
    pub snapshots: u32,
}

impl TryFrom<Vec<String>> for Subvolumes {
    type Error = String;

    fn try_from(all: Vec<String>) -> Result<Self, String> {
        let mut subvolumes = Vec::new();
        for text in all {
            subvolumes.push(text.parse()?);
        }
        Ok(Self(subvolumes))
    }
}

impl From<Subvolumes> for Vec<String> {
    fn from(all: Subvolumes) -> Self {
        all.0.iter().map(ToString::to_string).collect()
    }
}

impl FromStr for Subvolume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default().to_owned();
        let mut subvolume = Self { name, ..Self::default() };
        for word in words {
            let wrong = || format!("{word:?} is neither quota=50G nor snapshots=7");
            match word.split_once('=') {
                Some(("quota", size)) => subvolume.quota = Some(size.parse()?),
                Some(("snapshots", days)) => {
                    subvolume.snapshots = days.parse().map_err(|_| wrong())?;
                }
                _ => return Err(wrong()),
            }
        }
        Ok(subvolume)
    }
}

impl fmt::Display for Subvolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} snapshots={}", self.name, self.snapshots)?;
        self.quota.map_or(Ok(()), |size| write!(f, " quota={}", size.0))
    }
}

/// The attributes of a partition in a GUID partition table, bit by bit; none where they are left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Flags(pub Option<u64>);

/// UEFI specification 2.10, section 5.3.3, and for the upper ones
/// <https://uapi-group.org/specifications/specs/discoverable_partitions_specification/>.
const FLAGS: [(&str, u32); 5] =
    [("required", 0), ("no-block-io", 1), ("legacy-boot", 2), ("read-only", 60), ("no-auto", 63)];

impl TryFrom<Vec<String>> for Flags {
    type Error = String;

    fn try_from(words: Vec<String>) -> Result<Self, String> {
        let mut bits = 0;
        for word in words {
            let known = FLAGS.iter().find(|(name, _)| *name == word);
            let names = || FLAGS.map(|(name, _)| name).join(", ");
            let (_, bit) = known.ok_or_else(|| format!("{word:?} is none of {}", names()))?;
            bits |= 1 << bit;
        }
        Ok(Self(Some(bits)))
    }
}

/// What a partition is for, by the label that it starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Role {
    /// Kernels, the kept configuration, logs.
    #[serde(rename = "BOOTFS")]
    Boot,
    /// A slot, the first to be filled.
    #[serde(rename = "SYSFS")]
    System,
    /// A slot.
    #[serde(rename = "BACKUPFS")]
    Backup,
    /// The users' data: made once, never formatted again.
    #[serde(rename = "USERDATAFS")]
    UserData,
}

impl Role {
    /// Whether a system can be installed there.
    pub fn is_slot(self) -> bool {
        matches!(self, Self::System | Self::Backup)
    }

    /// The name in the partition table. Labels move between slots; this stays.
    pub fn partition_name(self) -> &'static str {
        match self {
            Self::Boot => "gse-boot",
            Self::System => "gse-slot-1",
            Self::Backup => "gse-slot-2",
            Self::UserData => "gse-userdata",
        }
    }

    /// The label in `drives.toml`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Boot => "BOOTFS",
            Self::System => "SYSFS",
            Self::Backup => "BACKUPFS",
            Self::UserData => "USERDATAFS",
        }
    }
}

/// A filesystem type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filesystem {
    /// With the root in subvolume `@`.
    Btrfs,
    /// ext4
    Ext4,
    /// XFS
    Xfs,
}

impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Btrfs => "btrfs",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        })
    }
}

/// A number of bytes, written with K, M, G or T (powers of 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = match text.strip_suffix("iB") {
            Some(digits) if digits.ends_with(['K', 'M', 'G', 'T']) => digits,
            _ => text,
        };
        let (number, shift) = match digits.chars().last() {
            Some('K') => (digits.strip_suffix('K'), 10),
            Some('M') => (digits.strip_suffix('M'), 20),
            Some('G') => (digits.strip_suffix('G'), 30),
            Some('T') => (digits.strip_suffix('T'), 40),
            _ => (Some(digits), 0),
        };
        number
            .and_then(|n| n.trim().parse::<u64>().ok())
            .and_then(|n| n.checked_mul(1 << shift))
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no size like 512M or 20G"))
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.0.to_string()
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// How much of a disk a partition takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Extent {
    /// This many bytes.
    Exactly(Size),
    /// All that is left, to be shared with none.
    All,
}

impl TryFrom<String> for Extent {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::Exactly) }
    }
}

impl Drives {
    /// Reads `controller/drives.toml`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        const FILE: &str = "controller/drives.toml";
        let drives: Self = super::parse(FILE, text)?;
        let wrong = |value: &str, message| Err(Error::new(FILE, message).in_line_of(text, value));
        let mut seen = Vec::new();
        for disk in &drives.disk {
            let path = disk.matches.path.as_deref().unwrap_or("/dev/");
            if !is_disk_path(path) {
                let message = format!(
                    "{path:?} is no path of a disk: those are like /dev/sda or /dev/disk/by-id/NAME"
                );
                return wrong(path, message);
            }
            if disk.take && disk.matches == Match::default() {
                let message =
                    "take = true needs a match: it is no word about whatever disk is there";
                return wrong("take", message.to_owned());
            }
            for partition in &disk.partition {
                let name = partition.label.label();
                if seen.contains(&partition.label) {
                    return wrong(name, format!("{name} is there twice"));
                }
                seen.push(partition.label);
                if partition.size == Extent::Exactly(Size(0)) {
                    return wrong(name, format!("{name} has size 0"));
                }
                if let Err((value, message)) = partition.check_subvolumes() {
                    return wrong(value, message);
                }
            }
            let all = disk.partition.iter().filter(|p| p.size == Extent::All).count();
            if all > 1 {
                let message = "only one partition of a disk can have size = \"all\"";
                return wrong("\"all\"", message.to_owned());
            }
        }
        Ok(drives)
    }

    /// The entry of the partition for `role`, wherever it is.
    pub fn partition(&self, role: Role) -> Option<&Partition> {
        self.disk.iter().flat_map(|d| &d.partition).find(|p| p.label == role)
    }
}

/// Names that stay, and those that a machine has without udev's rules.
fn is_disk_path(path: &str) -> bool {
    let name = path.strip_prefix("/dev/disk/by-id/").or_else(|| path.strip_prefix("/dev/"));
    name.is_some_and(|name| !name.starts_with("disk/") && !name.contains(char::is_whitespace))
}

impl Partition {
    /// # Errors
    /// A word of the entry, and what is wrong with it.
    fn check_subvolumes(&self) -> Result<(), (&str, String)> {
        let label = self.label.label();
        let names = || self.subvolumes.0.iter().map(|s| &s.name).chain(&self.deleted_subvolumes);
        if self.filesystem != Filesystem::Btrfs && names().next().is_some() {
            return Err((label, format!("{label} has subvolumes, but is not btrfs")));
        }
        let name_ok = |name: &str| {
            !name.is_empty()
                && name != "@"
                && name.len() <= 240
                && !name.starts_with('.')
                && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control())
        };
        for (nth, name) in names().enumerate() {
            if !name_ok(name) {
                return Err((name, format!("{name:?} is no name for a subvolume")));
            }
            if names().take(nth).any(|other| other == name) {
                return Err((name, format!("subvolume {name:?} is there twice")));
            }
        }
        let more = self.subvolumes.0.iter().find(|s| s.quota.is_some() || s.snapshots > 0);
        let more = more.map(|s| &s.name).or(self.deleted_subvolumes.first());
        match more {
            Some(name) if self.label != Role::UserData => Err((
                name,
                format!("{label} cannot have quotas, snapshots or deletions: only USERDATAFS can"),
            )),
            _ => Ok(()),
        }
    }
}
